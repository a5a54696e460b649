//! Every code of the probe, explained once: sentence, action, meaning.
//!
//! `--explain`, README and the reports read this table, so that they never disagree. The words
//! are a contract: codes are added, never renamed. `{slots}` are filled by `verdict`.

use std::fmt;

use super::verdict;
use crate::hop::Hop;

mod table;

pub use table::Code;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Pushes get through.
    Ok,
    /// They get through, and somebody should know something.
    Warn,
    /// They do not.
    Fail,
}

impl Severity {
    /// The word in the report.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// The stable word.
    pub word: &'static str,
    /// How bad.
    pub severity: Severity,
    /// Who can be named with it; the first where nothing speaks for another.
    pub hops: &'static [Hop],
    /// The sentence, with slots.
    pub sentence: &'static str,
    /// What to do or to ask for, with slots; empty when nothing is to be done.
    pub action: &'static str,
    /// What it means and what cannot be known from here.
    pub means: &'static str,
}

impl Code {
    /// The code of a word.
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.word() == word)
    }

    /// The stable word.
    pub const fn word(self) -> &'static str {
        self.row().word
    }

    /// What `--explain` prints.
    pub fn explained(self) -> String {
        let row = self.row();
        let hops: Vec<_> = row.hops.iter().map(|hop| hop.word()).collect();
        let mut text =
            format!("{} ({}, {})\n\n{}\n", row.word, row.severity, hops.join(" or "), row.means);
        if !row.action.is_empty() {
            let action = verdict::fill(row.action, |slot| stand_in(slot).to_owned());
            text.push_str(&format!("\nWhat to do: {action}\n"));
        }
        text
    }
}

/// What stands in an action while there is no path to take the names from.
fn stand_in(slot: &str) -> &'static str {
    match slot {
        "host" => "HOST",
        "port" => "PORT",
        "origin" => "HOST:PORT",
        "other_port" => "the other port",
        "proxy" => "the proxy",
        "servers" => "of this machine",
        "issuer" => "the issuer",
        "vendor" => "the people of the box that ends TLS",
        "seconds" => "180",
        "check" => "Check this machine's clock first. ",
        // A vendor's own setting is known by its certificate only.
        _ => "",
    }
}

/// The table as it stands in README, Markdown.
pub fn markdown() -> String {
    let mut text = String::from("| code | severity | hop | what it means |\n|---|---|---|---|\n");
    for code in Code::ALL {
        let row = code.row();
        let hops: Vec<_> = row.hops.iter().map(|hop| format!("`{hop}`")).collect();
        let (severity, means) = (row.severity, row.means);
        text.push_str(&format!(
            "| `{}` | {severity} | {} | {means} |\n",
            row.word,
            hops.join(", ")
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::verdict::SLOTS;

    #[test]
    fn words_are_unique_and_every_row_is_complete() {
        let mut seen = std::collections::BTreeSet::new();
        for code in Code::ALL {
            let row = code.row();
            assert!(seen.insert(row.word), "{}", row.word);
            assert!(
                row.word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_' || b.is_ascii_digit())
            );
            assert!(!row.hops.is_empty() && row.means.ends_with('.'), "{}", row.word);
            assert!(row.sentence.ends_with(['.', '}']) && !row.means.contains('|'), "{}", row.word);
            assert_eq!(row.action.is_empty(), row.severity == Severity::Ok, "{}", row.word);
            assert_eq!(Code::find(row.word), Some(*code));
        }
        assert!(Code::find("nothing").is_none());
    }

    #[test]
    fn every_slot_is_one_that_can_be_filled() {
        for code in Code::ALL {
            let row = code.row();
            for text in [row.sentence, row.action] {
                for part in text.split('{').skip(1) {
                    let slot = part.split('}').next().unwrap();
                    assert!(SLOTS.contains(&slot), "{}: {slot}", row.word);
                }
            }
        }
    }

    #[test]
    fn an_explanation_has_no_slots_and_no_holes() {
        for code in Code::ALL {
            let text = code.explained();
            assert!(!text.contains(['{', '}']), "{text}");
            assert!(!text.contains("  ") && !text.contains(" ,") && !text.contains(" ."), "{text}");
        }
    }

    #[test]
    fn readme_has_the_table() {
        let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md"));
        assert!(readme.unwrap().contains(&markdown()), "README's table is not:\n{}", markdown());
    }
}
