//! One self-contained page for the firewall ticket: no script, no foreign resource; the path as a
//! picture, green up to the broken hop and red at it.
//!
//! Peer text is escaped here; it was stripped of control characters before.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Report, TargetReport};
use crate::hop::{Hop, Stage};
use crate::probe::codes::{Code, Severity};
use crate::probe::rung::{Outcome, Rung};

const STYLE: &str = "\
:root{color-scheme:light}body{font:16px/1.5 system-ui,sans-serif;color:#1a1a1a;background:#fff;\
max-width:60rem;margin:2rem auto;padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.2rem;\
margin-top:2.5rem;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}\
caption{text-align:left;font-weight:600;padding:.5rem 0}th,td{text-align:left;vertical-align:top;\
padding:.35rem .6rem;border-bottom:1px solid #ddd;overflow-wrap:anywhere}td.ms{text-align:right;\
white-space:nowrap}.verdict{border-left:.4rem solid;padding:.6rem 1rem;margin:1rem 0;\
background:#f6f6f6}.ok{border-color:#1b7f3b}.warn{border-color:#9a6200}.fail{border-color:#b3261e}\
.word{font-weight:700;white-space:nowrap}.pass .word,.ok .word{color:#166b31}.warn .word{color:#7d4f00}\
.fail .word{color:#a3211a}.skip{color:#5f5f5f}dl{margin:0;display:grid;\
grid-template-columns:max-content 1fr;gap:0 .8rem;font-size:.875rem}dt{color:#4d4d4d}\
dd{margin:0;overflow-wrap:anywhere}svg{width:100%;height:auto}code{font-size:.95em}";

/// The page.
pub fn page(report: &Report) -> String {
    let mut out = String::with_capacity(16 * 1024);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width,initial-scale=1\"><meta http-equiv=\"Content-Security-Policy\" \
         content=\"default-src 'none'; style-src 'unsafe-inline'\"><title>Push egress: {}</title>\
         <style>{STYLE}</style></head><body><main><h1>Push egress: {}</h1><p>Made by pushrelay {} \
         at {} (UTC).</p>",
        report.verdict.severity,
        report.verdict.severity,
        escape(report.pushrelay),
        escape(&report.at),
    );
    for note in &report.notes {
        let _ = write!(out, "<p><strong>Note:</strong> {}</p>", escape(note));
    }
    for change in &report.changes {
        let _ = write!(out, "<p><strong>Changed:</strong> {}</p>", escape(change));
    }
    for target in &report.targets {
        section(&mut out, target);
    }
    explained(&mut out, report);
    out.push_str("</main></body></html>\n");
    out
}

fn section(out: &mut String, target: &TargetReport) {
    let verdict = &target.verdict;
    let way = target
        .proxy
        .as_ref()
        .map_or_else(|| "on the direct path".to_owned(), |proxy| format!("through {proxy}"));
    let _ = write!(
        out,
        "<section><h2>{} {}</h2>{}<div class=\"verdict {}\"><p><span class=\"word\">{}</span> \
         <code>{}</code>, hop: <strong>{}</strong></p><p>{}</p>",
        escape(&target.origin),
        escape(&way),
        picture(target),
        verdict.severity,
        verdict.severity.word().to_uppercase(),
        verdict.code,
        verdict.hop,
        escape(&verdict.sentence),
    );
    if !verdict.action.is_empty() {
        let _ = write!(out, "<p><strong>What to do:</strong> {}</p>", escape(&verdict.action));
    }
    for note in &target.notes {
        let _ = write!(out, "<p><strong>Note:</strong> {}</p>", escape(note));
    }
    out.push_str("</div><table><caption>Steps, and what was seen</caption><thead><tr>");
    out.push_str("<th scope=\"col\">Step</th><th scope=\"col\">Result</th>");
    out.push_str("<th scope=\"col\">Time</th><th scope=\"col\">Evidence</th></tr></thead><tbody>");
    for rung in &target.rungs {
        row(out, rung);
    }
    out.push_str("</tbody></table></section>");
}

fn row(out: &mut String, rung: &Rung) {
    let word = rung.result.word();
    let ms = rung.ms.map(|ms| format!("{ms} ms")).unwrap_or_default();
    let stage = rung.stage.replace("control:", "control: ");
    let _ = write!(
        out,
        "<tr class=\"{}\"><th scope=\"row\">{}</th><td class=\"word\">{word}</td>\
         <td class=\"ms\">{ms}</td><td>",
        word.to_lowercase(),
        escape(&stage),
    );
    if !rung.evidence.is_empty() {
        out.push_str("<dl>");
        for (name, value) in &rung.evidence {
            if let Some(text) = plain(value) {
                let name = escape(&name.replace('_', " "));
                let _ = write!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&text));
            }
        }
        out.push_str("</dl>");
    }
    out.push_str("</td></tr>");
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let items: Vec<_> = items.iter().filter_map(plain).collect();
            (!items.is_empty()).then(|| items.join("; "))
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => Some(value.to_string()),
    }
}

/// A station of the picture.
struct Station {
    name: &'static str,
    detail: String,
    /// Faults of these hops are at this station or on the way to it.
    hops: &'static [Hop],
}

fn stations(target: &TargetReport) -> Vec<Station> {
    let detail = |text: &str| text.to_owned();
    let inspected = target.verdict.hop == Hop::Inspector.word();
    let mut stations = vec![
        Station {
            name: "relay host",
            detail: detail("this machine"),
            hops: &[Hop::RelayHost, Hop::Sender],
        },
        Station { name: "name server", detail: String::new(), hops: &[Hop::Resolver] },
    ];
    if let Some(proxy) = &target.proxy {
        stations.push(Station {
            name: "proxy",
            detail: detail(proxy),
            hops: &[Hop::ToProxy, Hop::Proxy, Hop::Portal],
        });
        stations.push(Station {
            name: if inspected { "inspector" } else { "beyond proxy" },
            detail: String::new(),
            hops: &[Hop::BeyondProxy, Hop::Inspector],
        });
    } else {
        stations.push(Station {
            name: if inspected { "inspector" } else { "network" },
            detail: String::new(),
            hops: &[
                Hop::Network,
                Hop::Inspector,
                Hop::Portal,
                Hop::ToProxy,
                Hop::Proxy,
                Hop::BeyondProxy,
            ],
        });
    }
    stations.push(Station {
        name: "provider",
        detail: detail(&target.origin),
        hops: &[Hop::Origin],
    });
    stations
}

/// The path: each station a box with its state in words, so that colour is not needed to read it.
fn picture(target: &TargetReport) -> String {
    let stations = stations(target);
    let hop = super::super::hop_of(target.verdict.hop);
    let fails = target.verdict.severity == Severity::Fail;
    let broken = stations.iter().position(|station| station.hops.contains(&hop));
    let (step, width, height) = (190, 160, 74);
    let total = step * stations.len() - 30;
    let mut svg = format!(
        "<svg viewBox=\"0 0 {total} 110\" role=\"img\" aria-label=\"{}\">",
        escape(&label(target, hop)),
    );
    for (index, station) in stations.iter().enumerate() {
        let state = match broken {
            Some(broken) if index == broken && fails => ("#b3261e", "#fdecea", "broken here"),
            Some(broken) if index == broken => ("#9a6200", "#fff4e0", "look here"),
            Some(broken) if index > broken && fails => ("#6b6b6b", "#f3f3f3", "not reached"),
            Some(_) | None if station.hops.contains(&Hop::Resolver) && !asked(target) => {
                ("#6b6b6b", "#f3f3f3", "not asked")
            }
            Some(_) | None => ("#1b7f3b", "#e8f5ec", "works"),
        };
        let (stroke, fill, word) = state;
        let x = index * step;
        if index > 0 {
            let _ = write!(
                svg,
                "<line x1=\"{}\" y1=\"55\" x2=\"{x}\" y2=\"55\" stroke=\"{stroke}\" stroke-width=\"4\"/>",
                x - (step - width),
            );
        }
        let middle = x + width / 2;
        let _ = write!(
            svg,
            "<rect x=\"{}\" y=\"18\" width=\"{}\" height=\"{height}\" rx=\"8\" fill=\"{fill}\" \
             stroke=\"{stroke}\" stroke-width=\"3\"/><g text-anchor=\"middle\" \
             font-family=\"system-ui,sans-serif\" fill=\"#1a1a1a\"><text x=\"{middle}\" y=\"42\" \
             font-size=\"16\" font-weight=\"600\">{}</text><text x=\"{middle}\" y=\"60\" \
             font-size=\"11\">{}</text><text x=\"{middle}\" y=\"80\" font-size=\"13\" \
             fill=\"{}\">{word}</text></g>",
            x + 2,
            width - 4,
            station.name,
            escape(&short(&station.detail)),
            if stroke == "#6b6b6b" { "#4d4d4d" } else { stroke },
        );
    }
    svg.push_str("</svg>");
    svg
}

/// Whether a name server had to be asked: not for a proxy that is named by its address.
fn asked(target: &TargetReport) -> bool {
    let resolve = |rung: &&Rung| rung.stage == Stage::Resolve.word();
    target.rungs.iter().find(resolve).is_some_and(|rung| rung.result != Outcome::Skip)
}

fn label(target: &TargetReport, hop: Hop) -> String {
    match target.verdict.severity {
        Severity::Ok => format!("The path to {} works.", target.origin),
        Severity::Warn => format!("The path to {} works; look at: {hop}.", target.origin),
        Severity::Fail => format!("The path to {} is broken at: {hop}.", target.origin),
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= 26 {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(23).collect();
    short.push_str("...");
    short
}

/// What the codes of this report mean.
fn explained(out: &mut String, report: &Report) {
    let codes: std::collections::BTreeSet<_> =
        report.targets.iter().filter_map(|target| Code::find(target.verdict.code)).collect();
    if codes.is_empty() {
        return;
    }
    out.push_str("<section><h2>What the codes mean</h2><dl>");
    for code in codes {
        let means = escape(code.row().means);
        let _ = write!(out, "<dt><code>{}</code></dt><dd>{means}</dd>", code.word());
    }
    out.push_str("</dl><p>Results: PASS, WARN, FAIL, SKIP (not climbed after a failure). Control \
                  steps were made only after a failure, to tell apart what looks alike.</p></section>");
}

/// For text and attribute values.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_peer_text_is_escaped() {
        assert_eq!(escape("<script>\"a\" & 'b'"), "&lt;script&gt;&quot;a&quot; &amp; &#39;b&#39;");
    }
}
