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
use crate::probe::verdict::Verdict;

/// Both colour schemes; every pair of colours has a contrast of 4.5 to 1 and more (WCAG 2.1
/// §1.4.3). On paper it is the light one. Narrow screens get one column.
const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--soft:#f4f4f4;--rule:#d4d4d4;\
--dim:#4d4d4d;--ok:#166b31;--ok-box:#e8f5ec;--warn:#7d4f00;--warn-box:#fff4e0;--fail:#a3211a;\
--fail-box:#fdecea;--idle:#5a5a5a;--idle-box:#f3f3f3}\
@media screen and (prefers-color-scheme:dark){:root{--ink:#ececec;--paper:#16181b;--soft:#22252a;\
--rule:#44484e;--dim:#b9bec6;--ok:#7ed99a;--ok-box:#17301f;--warn:#f0bd66;--warn-box:#3a2c10;\
--fail:#ff9d94;--fail-box:#43201d;--idle:#b0b5bc;--idle-box:#26292e}}\
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);\
max-width:64rem;margin:2rem auto;padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.2rem;\
margin-top:2.5rem;overflow-wrap:anywhere}table{border-collapse:collapse;width:100%}\
caption{text-align:left;font-weight:600;padding:.5rem 0}th,td{text-align:left;vertical-align:top;\
padding:.4rem .6rem;border-bottom:1px solid var(--rule)}th{white-space:nowrap}td:last-child{width:100%}\
td.ms{text-align:right;white-space:nowrap}.verdict{border-left:.4rem solid;padding:.1rem 1rem;\
margin:1rem 0;background:var(--soft);overflow-wrap:anywhere}.verdict.ok{border-color:var(--ok)}\
.verdict.warn{border-color:var(--warn)}.verdict.fail{border-color:var(--fail)}\
.word{font-weight:700;white-space:nowrap}.pass .word,.ok .word{color:var(--ok)}\
.warn .word{color:var(--warn)}.fail .word{color:var(--fail)}.skip{color:var(--dim)}\
dl{margin:0;display:grid;grid-template-columns:8.5rem 1fr;gap:.1rem .8rem;font-size:.875rem}\
dl.codes{grid-template-columns:max-content 1fr}dt{color:var(--dim);overflow-wrap:anywhere}\
dd{margin:0;overflow-wrap:anywhere}code{font:.95em ui-monospace,monospace}dd code{\
background:var(--soft);padding:.1rem .3rem;-webkit-box-decoration-break:clone;\
box-decoration-break:clone}.path{overflow-x:auto}svg{width:100%;min-width:44rem;height:auto;\
font-family:system-ui,sans-serif}svg text{fill:var(--ink);text-anchor:middle}\
svg .name{font-size:16px;font-weight:600}svg .detail{font-size:12px}svg .state{font-size:14px}\
svg rect{stroke-width:3}svg line{stroke-width:4}svg .ok rect{fill:var(--ok-box);stroke:var(--ok)}\
svg .ok line{stroke:var(--ok)}svg .ok .state{fill:var(--ok)}svg .warn rect{fill:var(--warn-box);\
stroke:var(--warn)}svg .warn line{stroke:var(--warn)}svg .warn .state{fill:var(--warn)}\
svg .fail rect{fill:var(--fail-box);stroke:var(--fail);stroke-width:5}\
svg .fail line{stroke:var(--fail);stroke-dasharray:7 5}svg .fail .state{fill:var(--fail);\
font-weight:700}svg .idle rect{fill:var(--idle-box);stroke:var(--idle);stroke-dasharray:6 4}\
svg .idle line{stroke:var(--idle);stroke-dasharray:2 5}svg .idle .state{fill:var(--idle)}\
@media (max-width:40rem){thead{position:absolute;clip-path:inset(50%);width:1px;height:1px;\
overflow:hidden}tr{display:block;border-bottom:1px solid var(--rule);padding:.4rem 0}\
th[scope=row],td{display:inline-block;border:0;padding:.1rem .4rem .1rem 0}\
td:last-child{display:block;width:auto}td:last-child:empty{display:none}dl,dl.codes{\
grid-template-columns:1fr}dt{margin-top:.3rem}}";
/// Evidence for programs, which the reader of the page has in other words already.
const UNSHOWN: &[&str] = &["dialer", "worked"];

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
        "<section><h2>{} {}</h2>{}<div class=\"verdict {}\"><p><span class=\"word\">{}</span>{}\
         </p><p>{}</p>",
        escape(&target.origin),
        escape(&way),
        picture(target),
        verdict.severity,
        verdict.severity.word().to_uppercase(),
        said_of(verdict),
        marked(&verdict.sentence),
    );
    if !verdict.action.is_empty() {
        let _ = write!(out, "<p><strong>What to do:</strong> {}</p>", marked(&verdict.action));
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

/// The code and the hop; a path that works has none worth naming.
fn said_of(verdict: &Verdict) -> String {
    if verdict.severity == Severity::Ok {
        return String::new();
    }
    format!(" <code>{}</code>, hop: <strong>{}</strong>", verdict.code, verdict.hop)
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
            let Some(text) = plain(value).filter(|_| !UNSHOWN.contains(&name.as_str())) else {
                continue;
            };
            let text = if name == "command" {
                format!("<code>{}</code>", escape(&text))
            } else {
                escape(&text)
            };
            let name = escape(&name.replace('_', " "));
            let _ = write!(out, "<dt>{name}</dt><dd>{text}</dd>");
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
        Value::Object(map) => {
            let one = |(name, value): (&String, &Value)| Some(format!("{name}: {}", plain(value)?));
            Some(map.iter().filter_map(one).collect::<Vec<_>>().join("; "))
        }
        Value::Bool(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Value::Number(_) => Some(value.to_string()),
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
    let (step, width, height) = (206, 176, 74);
    let total = step * stations.len() - 30;
    let mut svg = format!(
        "<div class=\"path\" tabindex=\"0\" role=\"region\" aria-label=\"The path to {}\"><svg \
         viewBox=\"0 0 {total} 110\" role=\"img\" aria-label=\"{}\">",
        escape(&format!("{} by {}", target.origin, target.egress)),
        escape(&label(target, hop)),
    );
    for (index, station) in stations.iter().enumerate() {
        let (class, word) = match broken {
            Some(broken) if index == broken && fails => ("fail", "broken here"),
            Some(broken) if index == broken => ("warn", "look here"),
            Some(_) | None if station.hops.contains(&Hop::Resolver) && !asked(target) => {
                ("idle", "not asked")
            }
            // The fault may lie before a station that answered: missing credentials, a clock.
            Some(broken) if index > broken && fails && reached(target, station) => {
                ("ok", "reached")
            }
            Some(broken) if index > broken && fails => ("idle", "not reached"),
            Some(_) | None => ("ok", "works"),
        };
        let x = index * step;
        let _ = write!(svg, "<g class=\"{class}\">");
        if index > 0 {
            let from = x - (step - width);
            let _ = write!(svg, "<line x1=\"{from}\" y1=\"55\" x2=\"{x}\" y2=\"55\"/>");
        }
        let middle = x + width / 2;
        let _ = write!(
            svg,
            "<rect x=\"{}\" y=\"18\" width=\"{}\" height=\"{height}\" rx=\"8\"/><text \
             class=\"name\" x=\"{middle}\" y=\"42\">{}</text><text class=\"detail\" \
             x=\"{middle}\" y=\"60\">{}</text><text class=\"state\" x=\"{middle}\" \
             y=\"81\">{word}</text></g>",
            x + 3,
            width - 6,
            station.name,
            escape(&short(&station.detail)),
        );
    }
    svg.push_str("</svg></div>");
    svg
}

/// Whether a rung at this station, or on the way to it, was passed.
fn reached(target: &TargetReport, station: &Station) -> bool {
    let mut passed = target.rungs.iter().filter(|rung| rung.result == Outcome::Pass);
    passed.any(|rung| station.hops.iter().any(|hop| hop.word() == rung.hop && *hop != Hop::None))
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
    out.push_str("<section><h2>What the codes mean</h2><dl class=\"codes\">");
    for code in codes {
        let means = marked(code.row().means);
        let _ = write!(out, "<dt><code>{}</code></dt><dd>{means}</dd>", code.word());
    }
    out.push_str("</dl><p>Results: PASS, WARN, FAIL, SKIP (not needed, or a step before it failed). Control \
                  steps were made only after a failure, to tell apart what looks alike.</p></section>");
}

/// Words between backticks as code.
fn marked(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 32);
    let mut rest = text;
    while let Some((before, word, after)) = rest.split_once('`').and_then(|(before, rest)| {
        let (word, after) = rest.split_once('`')?;
        Some((before, word, after))
    }) {
        let _ = write!(out, "{}<code>{}</code>", escape(before), escape(word));
        rest = after;
    }
    out.push_str(&escape(rest));
    out
}

/// For text and attribute values.
pub fn escape(text: &str) -> String {
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
        assert_eq!(marked("a `<b>` c ` d"), "a <code>&lt;b&gt;</code> c ` d");
    }
}
