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

/// One target.
pub fn target(target: &TargetReport) -> String {
    let mut out = String::new();
    let way = target
        .proxy
        .as_ref()
        .map_or_else(|| "direct".to_owned(), |proxy| format!("through {proxy}"));
    let bold = Style::new().bold();
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{bold}{}{bold:#}  {}", cut(&target.origin, 44), cut(&way, WIDTH - 48));
    for rung in &target.rungs {
        row(&mut out, rung);
    }
    verdict(&mut out, &target.verdict);
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
    if rung.result == Outcome::Skip {
        return String::new();
    }
    if evidence.contains_key("error") && !rung.stage.starts_with("control:") {
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
        "request" => format!("{} {}", text("status"), text("body")),
        "control:idle" => format!("{} s idle, alive: {}", text("seconds"), text("alive")),
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

fn verdict(out: &mut String, verdict: &Verdict) {
    let style = match verdict.severity {
        Severity::Ok => AnsiColor::Green.on_default().bold(),
        Severity::Warn => AnsiColor::Yellow.on_default().bold(),
        Severity::Fail => AnsiColor::Red.on_default().bold(),
    };
    let word = verdict.severity.word().to_uppercase();
    let _ = writeln!(out, "{style}{word}{style:#} {} (hop: {})", verdict.code, verdict.hop);
    wrapped(out, &verdict.sentence, 2);
    if !verdict.action.is_empty() {
        wrapped(out, &format!("> {}", verdict.action), 2);
    }
    out.push('\n');
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
}
