//! The page for people: the path of a push as a picture, the status below it. One file, no
//! script; drawn from the status JSON, and whatever is missing there is left out.

use std::fmt::Write;
use std::time::SystemTime;

use serde_json::Value;

use crate::hop::clean;
use crate::pki;
use crate::probe::report::html::escape;

/// Longest text in a box, characters; the whole stands in the JSON below.
const BOX_CAP: usize = 32;

/// Most boxes drawn in a column; a picture with more explains nothing.
const ROWS: usize = 12;

/// Both colour schemes; every pair has a contrast of 4.5 to 1 and more (WCAG 2.1 §1.4.3).
const STYLE: &str = ":root{color-scheme:light dark;--ink:#1a1a1a;--paper:#fff;--box:#f3f6fa;\
    --line:#4a6a94;--soft:#f4f4f4;--rule:#cfcfcf;--bad:#a3211a;--bad-box:#fdecea;--good:#166b31;\
    --warn:#7d4f00}@media (prefers-color-scheme:dark){:root{--ink:#ececec;--paper:#16181b;\
    --box:#202a36;--line:#8fb3e0;--soft:#22252a;--rule:#44484e;--bad:#ff9d94;--bad-box:#43201d;\
    --good:#7ed99a;--warn:#f0bd66}}\
    body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;padding:0 1rem;max-width:72rem;\
    color:var(--ink);background:var(--paper)}h1{font-size:1.5rem}h2{font-size:1.2rem;\
    margin-top:2rem}svg{max-width:100%;height:auto}rect{fill:var(--box);stroke:var(--line)}\
    rect.bad{fill:var(--bad-box);stroke:var(--bad);stroke-width:2}\
    text{font:13px system-ui,sans-serif;fill:var(--ink)}text.head{font-weight:600}\
    path{stroke:var(--line);fill:none;stroke-width:1.5}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;\
    padding:.4rem .6rem;border-bottom:1px solid var(--rule);white-space:nowrap}\
    td:last-child{white-space:normal;overflow-wrap:anywhere;min-width:20rem;width:100%}\
    .fail{color:var(--bad);font-weight:700}.warn{color:var(--warn);font-weight:700}\
    .ok{color:var(--good);font-weight:700}pre{background:var(--soft);padding:1rem;overflow:auto;\
    font-size:.875rem}.scroll{overflow-x:auto}";

struct Cell {
    text: String,
    under: String,
    bad: bool,
}

/// The whole page.
pub(super) fn render(status: &Value) -> String {
    let mut out = String::with_capacity(16 * 1024);
    out.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    // Writing to a String cannot fail, here and below.
    let _ = write!(out, "<title>pushrelay</title><style>{STYLE}</style></head><body><main>");
    let field = |name: &str| escape(&status.get(name).map(brief).unwrap_or_default());
    let _ = write!(
        out,
        "<h1>pushrelay {}</h1><p>{}, up {}</p>",
        field("version"),
        field("configuration"),
        super::span(status.get("uptime_seconds").and_then(Value::as_u64).unwrap_or(0)),
    );
    out.push_str(&picture(status));
    probes(&mut out, status);
    paths(&mut out, status);
    certificates(&mut out, status, pki::unix(SystemTime::now()));
    let text = format!("{status:#}");
    let _ = write!(
        out,
        "<h2 id=\"all\">Status</h2><pre tabindex=\"0\" role=\"region\" aria-labelledby=\"all\">{}\
         </pre></main></body></html>",
        escape(&text)
    );
    out
}

/// What the relay's own ladders came to.
fn probes(out: &mut String, status: &Value) {
    let found = list(status, "probes");
    if found.is_empty() {
        return;
    }
    out.push_str("<h2>Verdicts</h2>");
    for one in found {
        let text = |field: &str| escape(&one.get(field).map(brief).unwrap_or_default());
        let severity = text("severity");
        let class =
            if matches!(severity.as_str(), "ok" | "warn" | "fail") { &severity } else { "" };
        let _ = write!(
            out,
            "<p><strong>{}</strong> by {}: <span class=\"{class}\">{}</span> <code>{}</code>, hop: \
             <strong>{}</strong>, {}<br>{}</p>",
            text("origin"),
            text("egress"),
            severity.to_uppercase(),
            text("code"),
            text("hop"),
            text("at"),
            text("sentence"),
        );
        if !text("action").is_empty() {
            let _ = write!(out, "<p><strong>What to do:</strong> {}</p>", text("action"));
        }
    }
}

/// What pushes tell of each path.
fn paths(out: &mut String, status: &Value) {
    let found = list(status, "paths");
    if found.is_empty() {
        out.push_str("<p>No push has come yet.</p>");
        return;
    }
    out.push_str(
        "<h2 id=\"paths\">Paths that pushes have taken</h2><div class=\"scroll\" tabindex=\"0\" ",
    );
    out.push_str("role=\"region\" aria-labelledby=\"paths\"><table><thead><tr>");
    for head in ["Origin", "Egress", "State", "Last success", "Last failure"] {
        let _ = write!(out, "<th scope=\"col\">{head}</th>");
    }
    out.push_str("</tr></thead><tbody>");
    for one in found {
        let text = |field: &str| escape(&one.get(field).map(brief).unwrap_or_default());
        let failing = one.get("failing").and_then(Value::as_bool).unwrap_or(false);
        let (class, state) = if failing { ("fail", "failing") } else { ("ok", "works") };
        let failure = |field: &str| {
            let failure = one.get("last_failure").and_then(|failure| failure.get(field));
            escape(&failure.map(brief).unwrap_or_default())
        };
        let last = match failure("code") {
            code if code.is_empty() => "none".to_owned(),
            code => format!(
                "{} <code>{code}</code>, hop: {}<br>{}",
                failure("at"),
                failure("hop"),
                failure("sentence")
            ),
        };
        let _ = write!(
            out,
            "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"{class}\">{state}</td>\
             <td>{}</td><td>{last}</td></tr>",
            text("origin"),
            text("egress"),
            text("last_success"),
        );
    }
    out.push_str("</tbody></table></div>");
}

/// What somebody has to renew.
fn certificates(out: &mut String, status: &Value, now: i64) {
    let endings = pki::endings(&super::expiries(status), now);
    if endings.is_empty() {
        return;
    }
    out.push_str("<h2>Certificates</h2>");
    for ending in endings {
        let class = if ending.alarm >= pki::Alarm::Week { "fail" } else { "warn" };
        let text = coded(&escape(&ending.text));
        let word = class.to_uppercase();
        let _ = write!(out, "<p><span class=\"{class}\">{word}</span> {text}</p>");
    }
}

/// What stands between backticks is a command.
fn coded(escaped: &str) -> String {
    let parts = escaped.split('`').enumerate();
    parts
        .map(
            |(at, part)| if at % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() },
        )
        .collect()
}

fn list<'s>(status: &'s Value, name: &str) -> &'s [Value] {
    status.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn picture(status: &Value) -> String {
    let columns = [
        ("Listeners", cells(status, "listeners", "name", &["bind"])),
        ("Routes", cells(status, "routes", "name", &["provider", "hosts"])),
        ("Egress", cells(status, "egress", "name", &["proxies"])),
        ("Lanes", cells(status, "lanes", "origin", &["connections", "in_flight", "waiting"])),
    ];
    let rows = columns.iter().map(|(_head, cells)| cells.len()).max().unwrap_or(0).max(1);
    let height = 40 + rows * 56;
    let mut out = format!(
        "<svg role=\"img\" aria-label=\"The path of a push, from left to right\" \
         viewBox=\"0 0 1120 {height}\" width=\"1120\" xmlns=\"http://www.w3.org/2000/svg\">"
    );
    for (at, (head, cells)) in columns.iter().enumerate() {
        let x = 10 + at * 280;
        let _ = write!(out, "<text class=\"head\" x=\"{x}\" y=\"20\">{head}</text>");
        if at > 0 {
            let from = x - 38;
            let _ = write!(out, "<path d=\"M{from} 56h30m-8 -5l8 5l-8 5\"/>");
        }
        for (row, cell) in cells.iter().enumerate() {
            let (y, class) = (34 + row * 56, if cell.bad { "bad" } else { "good" });
            let (first, second) = (y + 19, y + 36);
            let _ = write!(
                out,
                "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"236\" height=\"46\" rx=\"5\"/>\
                 <text x=\"{tx}\" y=\"{first}\">{}</text><text x=\"{tx}\" y=\"{second}\">{}</text>",
                escape(&cell.text),
                escape(&cell.under),
                tx = x + 8,
            );
        }
    }
    out.push_str("</svg>");
    out
}

fn cells(status: &Value, name: &str, title: &str, under: &[&str]) -> Vec<Cell> {
    let cell = |item: &Value| {
        let word = |field: &&str| {
            let value = item.get(field)?;
            let of_things = value.as_array().filter(|_| **field == *"connections");
            match (of_things, value) {
                (Some(all), _) => Some(format!("{} open", all.len())),
                (None, Value::Number(_)) => Some(format!("{value} {}", field.replace('_', " "))),
                (None, _) => Some(brief(value)).filter(|text| !text.is_empty()),
            }
        };
        let words: Vec<String> = under.iter().filter_map(word).collect();
        let words = if words.is_empty() && name == "egress" {
            "direct".to_owned()
        } else {
            words.join(", ")
        };
        let down = item.get("down_seconds").is_some_and(Value::is_number);
        let latched =
            item.get("latched").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
        // The hop at fault is what stands in red, not only the lane behind it.
        let at_proxy = name == "egress"
            && list(status, "paths").iter().any(|path| {
                let hop = path.get("last_failure").and_then(|failure| failure.get("hop"));
                path.get("egress") == item.get("name")
                    && path.get("failing") == Some(&Value::Bool(true))
                    && matches!(hop.and_then(Value::as_str), Some("to-proxy" | "proxy"))
            });
        Cell {
            text: short(&item.get(title).map(brief).unwrap_or_default()),
            under: short(&words),
            bad: down || latched || at_proxy,
        }
    };
    // What no route uses is on nobody's path; `direct` is always there.
    let used = |item: &Value| {
        let routes = list(status, "routes");
        name != "egress" || routes.iter().any(|route| route.get("egress") == item.get("name"))
    };
    let items: Vec<&Value> = list(status, name).iter().filter(|item| used(item)).collect();
    let mut cells: Vec<_> = items.iter().take(ROWS).map(|item| cell(item)).collect();
    if items.len() > ROWS {
        let text = format!("and {} more, see below", items.len() - ROWS);
        cells.push(Cell { text, under: String::new(), bad: false });
    }
    cells
}

/// What fits a box.
fn short(text: &str) -> String {
    let text = clean(text.as_bytes(), 4 * BOX_CAP);
    if text.chars().count() <= BOX_CAP {
        return text;
    }
    let mut short: String = text.chars().take(BOX_CAP - 3).collect();
    short.push_str("...");
    short
}

/// A value in a few words: lists as their members.
fn brief(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => items.iter().map(brief).collect::<Vec<_>>().join(", "),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_picture_shows_the_path_and_peer_text_stays_text() {
        let status = json!({
            "listeners": [{ "name": "dmz", "bind": ["0.0.0.0:443"] }],
            "routes": [{ "name": "apns", "egress": "<script>alert(1)</script>" }],
            "certificates": [{ "name": "<script>", "not_after": 5 }],
            "egress": [{ "name": "<script>alert(1)</script>", "latched": ["proxy:3128"] }],
            "probes": [{ "severity": "\"><script>", "sentence": "<script>" }],
            "paths": [{ "origin": "<script>", "failing": true, "last_failure": { "code": "<script>" } }],
            "lanes": [{ "origin": "api.push.apple.com", "down_seconds": 5 }, { "origin": null }],
        });
        let page = render(&status);
        assert!(page.contains("dmz") && page.contains("api.push.apple.com"));
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("rect class=\"bad\"").count(), 2);
        assert!(page.contains("class=\"fail\">FAIL</span> the leaf for &lt;script&gt; ended on"));
        let broken = json!({
            "routes": [{ "name": "apns", "egress": "corporate" }],
            "egress": [{ "name": "corporate" }],
            "paths": [{ "egress": "corporate", "failing": true, "last_failure": { "hop": "proxy" } }],
        });
        assert_eq!(render(&broken).matches("rect class=\"bad\"").count(), 1);
        let unused = json!({ "egress": [{ "name": "direct" }], "paths": [] });
        let page = render(&unused);
        assert!(!page.contains(">direct<") && page.contains("No push has come yet."), "{page}");
        assert!(render(&json!(null)).contains("<svg"));
    }
}
