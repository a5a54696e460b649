//! The table for a terminal: at most 80 columns, colours that `anstream` takes out where nobody
//! wants them.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use serde_json::{Map, Value};

use super::{Report, TargetReport};
use crate::probe::codes::Severity;
use crate::probe::rung::{Outcome, Rung};
use crate::probe::verdict::Verdict;

/// Widest line, columns.
const WIDTH: usize = 80;
/// Where the evidence of a rung begins, columns.
const INDENT: usize = 31;

/// The targets as they end. Where many fail for the same reason, it is told once.
#[derive(Debug, Default)]
pub struct Table {
    told: Vec<Told>,
}

/// What failed and was told at length.
#[derive(Debug)]
struct Told {
    origin: String,
    egress: String,
    sentence: String,
}

impl Table {
    /// The next target.
    pub fn target(&mut self, report: &TargetReport) -> String {
        if report.verdict.severity != Severity::Fail {
            return target(report);
        }
        let same =
            |one: &&Told| one.egress == report.egress && one.sentence == report.verdict.sentence;
        if let Some(earlier) = self.told.iter().find(same) {
            let mut out = heading(report);
            mark(&mut out, &report.verdict, &format!(", as for {}", earlier.origin));
            out.push('\n');
            return out;
        }
        self.told.push(Told {
            origin: report.origin.clone(),
            egress: report.egress.clone(),
            sentence: report.verdict.sentence.clone(),
        });
        target(report)
    }
}

fn heading(target: &TargetReport) -> String {
    // Seen from a sender the way is the relay itself.
    let relay = target.egress.strip_prefix("through ");
    let way = relay
        .or(target.proxy.as_deref())
        .map_or_else(|| "direct".to_owned(), |through| format!("through {through}"));
    let bold = Style::new().bold();
    format!("{bold}{}{bold:#}  {}\n", cut(&target.origin, 44), cut(&way, WIDTH - 48))
}

fn target(target: &TargetReport) -> String {
    let mut out = heading(target);
    for rung in &target.rungs {
        row(&mut out, rung);
    }
    verdict(&mut out, &target.verdict);
    for note in &target.notes {
        wrapped(&mut out, &format!("note: {note}"), 2);
    }
    if target.verdict.severity == Severity::Fail {
        see(&mut out, &target.rungs);
    }
    out.push('\n');
    out
}

/// The end: how many, the worst, and what changed.
pub fn summary(report: &Report) -> String {
    let mut out = String::new();
    let count = |severity| {
        report.targets.iter().filter(|target| target.verdict.severity == severity).count()
    };
    let (ok, warn, fail) = (count(Severity::Ok), count(Severity::Warn), count(Severity::Fail));
    let _ = writeln!(out, "{} probed: {ok} ok, {warn} warn, {fail} fail", report.targets.len());
    for note in &report.notes {
        wrapped(&mut out, &format!("note: {note}"), 0);
    }
    for change in &report.changes {
        wrapped(&mut out, &format!("changed: {change}"), 0);
    }
    if report.targets.len() > 1 && fail > 0 {
        wrapped(&mut out, &format!("worst: {}", report.verdict.sentence), 0);
    }
    out
}

fn row(out: &mut String, rung: &Rung) {
    let style = match rung.result {
        Outcome::Pass => AnsiColor::Green.on_default(),
        Outcome::Warn => AnsiColor::Yellow.on_default(),
        Outcome::Fail => AnsiColor::Red.on_default().bold(),
        Outcome::Skip => AnsiColor::BrightBlack.on_default(),
    };
    let ms = rung.ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
    let stage = rung
        .stage
        .strip_prefix("control:")
        .map_or_else(|| rung.stage.clone(), |name| format!("? {name}"));
    let shown = cut(&shown(rung), WIDTH - INDENT);
    let word = rung.result.word();
    let line = format!("  {style}{word}{style:#} {stage:<14} {ms:>8} {shown}");
    let _ = writeln!(out, "{}", line.trim_end());
}

/// The one fact of a rung that is read first.
fn shown(rung: &Rung) -> String {
    let evidence = &rung.evidence;
    let text = |key: &str| plain(evidence, key);
    let list = |key: &str| {
        let items = evidence.get(key).and_then(Value::as_array);
        let items = items.map(|items| items.iter().filter_map(Value::as_str).collect::<Vec<_>>());
        items.unwrap_or_default().join(", ")
    };
    if rung.result == Outcome::Skip && rung.stage != crate::probe::clock::STAGE {
        return String::new();
    }
    if evidence.get("error").is_some_and(|error| !error.is_null())
        && !rung.stage.starts_with("control:")
    {
        return text("error");
    }
    match rung.stage.as_str() {
        "resolve" => list("addresses"),
        "tcp" => format!("{} > {}", text("local"), text("peer")),
        "tls" | "proxy-tls" => {
            format!("{} {}, by {}", text("version"), text("group"), common_name(&text("issuer")))
        }
        "connect" => format!("{} {}", text("status"), text("reason")),
        "alpn" => text("chosen"),
        "settings" => evidence
            .iter()
            .filter(|(key, _)| *key != "at")
            .map(|(key, value)| format!("{}={value}", short(key)))
            .collect::<Vec<_>>()
            .join(" "),
        "request" if evidence.get("body").is_none_or(Value::is_null) => text("status"),
        "request" => format!("{} {}", text("status"), text("body")),
        "environment" => format!("{}={}", text("variable"), text("proxy")),
        "clock" if evidence.contains_key("skew_seconds") => {
            format!("{} s off, by {}", text("skew_seconds"), text("told_by"))
        }
        "clock" => text("what"),
        "control:idle" => format!("{} s idle, alive: {}", text("seconds"), text("alive")),
        "control:no-alpn" | "control:both-alpn" if rung.result == Outcome::Pass => {
            let alpn = if evidence.contains_key("alpn") { text("alpn") } else { "none".to_owned() };
            format!("TLS works, ALPN chosen: {alpn}")
        }
        stage if stage.starts_with("control:") => match evidence.get("with") {
            Some(_) if rung.result == Outcome::Pass => format!("{} works", text("with")),
            Some(_) => format!("{}: {}", text("with"), text("error")),
            None => String::new(),
        },
        _ => String::new(),
    }
}

/// SETTINGS in initials: MAX_CONCURRENT_STREAMS is MCS.
fn short(name: &str) -> String {
    name.split('_').filter_map(|word| word.chars().next()).collect()
}

fn common_name(name: &str) -> String {
    let name = name.rsplit("CN=").next().unwrap_or(name);
    name.split(',').next().unwrap_or(name).to_owned()
}

fn plain(evidence: &Map<String, Value>, key: &str) -> String {
    match evidence.get(key) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "none".to_owned(),
        Some(other) => other.to_string(),
    }
}

fn mark(out: &mut String, verdict: &Verdict, more: &str) {
    let style = match verdict.severity {
        Severity::Ok => AnsiColor::Green.on_default().bold(),
        Severity::Warn => AnsiColor::Yellow.on_default().bold(),
        Severity::Fail => AnsiColor::Red.on_default().bold(),
    };
    let word = verdict.severity.word().to_uppercase();
    // A path that works has no code and no hop worth naming.
    let said = if verdict.severity == Severity::Ok {
        String::new()
    } else {
        format!(" {} (hop: {})", verdict.code, verdict.hop)
    };
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{style}{word}{style:#}{said}{more}");
}

fn verdict(out: &mut String, verdict: &Verdict) {
    mark(out, verdict, "");
    wrapped(out, &verdict.sentence, 2);
    if !verdict.action.is_empty() {
        wrapped(out, &format!("> {}", verdict.action), 2);
    }
}

/// The command that shows the broken rung without the relay, to be copied as it stands.
fn see(out: &mut String, rungs: &[Rung]) {
    let failed = rungs.iter().find(|rung| rung.result == Outcome::Fail);
    let text = |key: &str| failed?.evidence.get(key)?.as_str();
    let Some(command) = text("command") else { return };
    let needs = text("command_needs").map(|needs| format!(" ({needs})")).unwrap_or_default();
    wrapped(out, &format!("see it without the relay{needs}:"), 2);
    let mut lines = vec![String::from("   ")];
    let mut quoted = false;
    // Only at blanks outside quotes may a backslash go on in the next line.
    for word in command.split_inclusive(|c| {
        quoted ^= c == '\'';
        c == ' ' && !quoted
    }) {
        let word = word.trim_end();
        let used = lines.last().map_or(0, |line| line.chars().count());
        // A blank and the backslash take two columns more.
        if used > 4 && used + 1 + word.chars().count() + 2 > WIDTH {
            lines.push(String::from("   "));
        }
        if let Some(line) = lines.last_mut() {
            line.push(' ');
            line.push_str(word);
        }
    }
    let _ = writeln!(out, "{}", lines.join(" \\\n"));
}

/// Breaks at blanks; a word longer than the line is cut into lines.
fn wrapped(out: &mut String, text: &str, indent: usize) {
    let room = WIDTH - indent;
    let mut line = String::new();
    let mut flush = |line: &mut String| {
        let _ = writeln!(out, "{:indent$}{line}", "");
        line.clear();
    };
    for word in text.split_whitespace() {
        let mut word: Vec<char> = word.chars().collect();
        let used = line.chars().count();
        if used > 0 && used + 1 + word.len() > room {
            flush(&mut line);
        }
        while word.len() > room {
            line.extend(word.drain(..room));
            flush(&mut line);
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.extend(word);
    }
    if !line.is_empty() {
        flush(&mut line);
    }
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(3)).collect();
    short.push_str("...");
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_broken_at_blanks_and_never_wider_than_the_terminal() {
        let mut out = String::new();
        wrapped(&mut out, &format!("{} {}", "word ".repeat(30), "x".repeat(200)), 2);
        assert!(out.lines().all(|line| line.chars().count() <= WIDTH), "{out}");
        assert_eq!(out.matches('x').count(), 200);
    }

    #[test]
    fn a_command_is_broken_so_that_a_shell_reads_it_whole() {
        let argument = "'content-type:  a b'";
        let command = format!("curl {} {argument} https://origin/", "--option ".repeat(20));
        let rung = Rung {
            stage: "tls".to_owned(),
            hop: "proxy",
            result: Outcome::Fail,
            ms: None,
            evidence: Map::from_iter([("command".to_owned(), command.as_str().into())]),
        };
        let mut out = String::new();
        see(&mut out, &[rung]);
        assert!(out.lines().all(|line| line.chars().count() <= WIDTH), "{out}");
        let (_, shown) = out.split_once(":\n").unwrap();
        let joined = shown.replace("\\\n", "");
        assert!(joined.contains(argument) && joined.trim().ends_with("https://origin/"), "{out}");
        assert_eq!(joined.matches("--option").count(), 20);
    }
}
