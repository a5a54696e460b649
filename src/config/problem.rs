//! What is wrong with a configuration, where it stands, and what would be right.
//!
//! Plain values: nothing here reads a file. A problem never quotes a secret.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Line in relay.yaml, from 1.
    pub line: u32,
    /// Column, in characters from 1.
    pub column: u32,
    /// The key, as `listeners[1].networks`; empty for the file as a whole.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.line, self.column)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// A configuration that is not valid: every problem that was found, in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// The file.
    pub file: PathBuf,
    /// Never empty.
    pub problems: Vec<Problem>,
}

impl Invalid {
    /// Sorts what was found; `None` when nothing was.
    pub fn from_problems(file: &Path, mut problems: Vec<Problem>) -> Option<Self> {
        if problems.is_empty() {
            return None;
        }
        problems.sort_by(|a, b| (a.line, a.column, &a.path).cmp(&(b.line, b.column, &b.path)));
        problems.dedup();
        Some(Self { file: file.to_owned(), problems })
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.problems.iter().enumerate() {
            if at > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{}:{problem}", self.file.display())?;
        }
        Ok(())
    }
}

impl std::error::Error for Invalid {}

/// A place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// From 1.
    pub line: u32,
    /// In characters, from 1.
    pub column: u32,
}

impl Position {
    /// The beginning of the file.
    pub const START: Self = Self { line: 1, column: 1 };
}

/// Where every key of a file stands.
///
/// Keys are the paths of the decoded values. An element that could not be read is missing from
/// its list, so the path that an operator is told may count further than the decoded one.
#[derive(Debug, Clone, Default)]
pub struct Places {
    known: BTreeMap<String, (String, Position)>,
    unread: BTreeSet<String>,
}

/// Where something stands does not change what it means.
impl PartialEq for Places {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Places {}

impl Places {
    /// Notes that the value decoded as `path` is called `shown` and stands at `position`.
    pub fn add(&mut self, path: String, shown: String, position: Position) {
        self.known.insert(path, (shown, position));
    }

    /// Notes a path whose value could not be read; the problem is already reported.
    pub fn add_unread(&mut self, path: String) {
        self.unread.insert(path);
    }

    /// True when something at, above or below this path could not be read: what looks missing
    /// there may only be unread.
    pub fn is_unread(&self, path: &str) -> bool {
        let covers = |above: &str, below: &str| {
            above.is_empty()
                || below.strip_prefix(above).is_some_and(|rest| {
                    rest.is_empty() || rest.starts_with('.') || rest.starts_with('[')
                })
        };
        self.unread.iter().any(|unread| covers(path, unread) || covers(unread, path))
    }

    /// Every path that stands in the file.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }

    /// The place of `path`, or of the nearest key above it that stands in the file.
    pub fn problem(&self, path: &str, message: String, hint: Option<String>) -> Problem {
        let (shown, position) = self.find(path);
        Problem { line: position.line, column: position.column, path: shown, message, hint }
    }

    fn find(&self, path: &str) -> (String, Position) {
        let mut above = path;
        loop {
            if let Some((shown, position)) = self.known.get(above) {
                return (format!("{shown}{}", &path[above.len()..]), *position);
            }
            match above.rfind(['.', '[']) {
                Some(cut) => above = &above[..cut],
                None if above.is_empty() => return (path.to_owned(), Position::START),
                None => above = "",
            }
        }
    }
}

/// Collects problems of one file.
#[derive(Debug)]
pub struct Findings<'a> {
    places: &'a Places,
    /// What was found so far.
    pub problems: Vec<Problem>,
}

impl<'a> Findings<'a> {
    /// Nothing found yet.
    pub const fn new(places: &'a Places) -> Self {
        Self { places, problems: Vec::new() }
    }

    /// A problem at `path`, with what would be right.
    pub fn add(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.problems.push(self.places.problem(path, message.into(), Some(hint.into())));
    }

    /// Something is missing at `path`, unless what stands there could not be read.
    pub fn missing(&mut self, path: &str, message: impl Into<String>, hint: impl Into<String>) {
        if !self.places.is_unread(path) {
            self.add(path, message, hint);
        }
    }

    /// True when what stands at `path` could not be read.
    pub fn is_unread(&self, path: &str) -> bool {
        self.places.is_unread(path)
    }
}

/// The one of `known` that `word` was probably meant to be: at most a third of its letters wrong.
pub fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let mut best: Option<(usize, &str)> = None;
    for candidate in known {
        let away = distance(word, candidate);
        let close = away <= candidate.len().max(word.len()) / 3;
        if close && best.is_none_or(|(least, _)| away < least) {
            best = Some((away, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Edit distance with neighbours swapped as one edit; words longer than 64 characters are cut.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().take(64).collect();
    let b: Vec<char> = b.chars().take(64).collect();
    let mut rows = vec![vec![0_usize; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let differs = usize::from(a[i - 1] != b[j - 1]);
                let mut least =
                    (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + differs);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    least = least.min(rows[i - 2][j - 2] + 1);
                }
                least
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_close_or_none() {
        let known = ["listeners", "routes", "egress", "admin"];
        assert_eq!(nearest("listner", known), Some("listeners"));
        assert_eq!(nearest("egerss", known), Some("egress"));
        assert_eq!(nearest("colour", known), None);
    }

    #[test]
    fn a_missing_key_is_shown_at_the_nearest_key_above() {
        let mut places = Places::default();
        let at = Position { line: 7, column: 3 };
        places.add("routes[0]".to_owned(), "routes[1]".to_owned(), at);
        let problem = places.problem("routes[0].egress", "x".to_owned(), None);
        assert_eq!((problem.line, problem.path.as_str()), (7, "routes[1].egress"));
        assert_eq!(places.problem("log", "x".to_owned(), None).line, 1);
    }

    #[test]
    fn what_is_unread_is_not_called_missing() {
        let mut places = Places::default();
        places.add_unread("listeners[0].bind".to_owned());
        assert!(places.is_unread("listeners"));
        assert!(places.is_unread("listeners[0].bind"));
        assert!(!places.is_unread("listeners[0].bi"));
    }
}
