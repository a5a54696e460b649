//! The page for people: the path of a push as a picture, the status below it. One file, no
//! script; drawn from the status JSON, and whatever is missing there is left out.

use std::fmt::Write;

use serde_json::Value;

use crate::hop::clean;

/// Longest text in a box, characters; the whole stands in the JSON below.
const BOX_CAP: usize = 34;

/// Most boxes drawn in a column; a picture with more explains nothing.
const ROWS: usize = 12;

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2em;color:#222}\
    svg{max-width:100%;height:auto}rect{fill:#f3f6fa;stroke:#5b7aa5}\
    rect.bad{fill:#fdeaea;stroke:#b3261e}text{font:12px system-ui,sans-serif;fill:#222}\
    text.head{font-weight:600}path{stroke:#5b7aa5;fill:none}\
    pre{background:#f6f6f6;padding:1em;overflow:auto}";

struct Cell {
    text: String,
    under: String,
    bad: bool,
}

/// The whole page.
pub(super) fn render(status: &Value) -> String {
    let mut out = String::with_capacity(16 * 1024);
    out.push_str("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">");
    out.push_str("<meta name=\"viewport\" content=\"width=device-width\">");
    // Writing to a String cannot fail, here and below.
    let _ = write!(out, "<title>pushrelay</title><style>{STYLE}</style></head><body>");
    out.push_str("<h1>pushrelay</h1>");
    out.push_str(&picture(status));
    let text = format!("{status:#}");
    let _ = write!(out, "<h2>Status</h2><pre>{}</pre></body></html>", escape(&text));
    out
}

fn picture(status: &Value) -> String {
    let columns = [
        ("Listeners", cells(status, "listeners", "name", &["bind", "connections"])),
        ("Routes", cells(status, "routes", "name", &["provider", "hosts"])),
        ("Egress", cells(status, "egress", "name", &["state", "proxies"])),
        ("Lanes", cells(status, "lanes", "origin", &["protocol", "connections", "queued"])),
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

fn cells(status: &Value, list: &str, name: &str, under: &[&str]) -> Vec<Cell> {
    let items = status.get(list).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let cell = |item: &Value| {
        let words: Vec<String> =
            under.iter().filter_map(|field| item.get(field)).map(brief).collect();
        let down = item.get("down_ms").is_some_and(Value::is_number);
        let latched = item.get("latched").and_then(Value::as_bool).unwrap_or(false);
        Cell {
            text: clean(item.get(name).map(brief).unwrap_or_default().as_bytes(), BOX_CAP),
            under: clean(words.join(" · ").as_bytes(), BOX_CAP),
            bad: down || latched,
        }
    };
    items.iter().take(ROWS).map(cell).collect()
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

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_picture_shows_the_path_and_peer_text_stays_text() {
        let status = json!({
            "listeners": [{ "name": "dmz", "bind": ["0.0.0.0:443"] }],
            "egress": [{ "name": "<script>alert(1)</script>", "latched": true }],
            "lanes": [{ "origin": "api.push.apple.com", "down_ms": 5 }, { "origin": null }],
        });
        let page = render(&status);
        assert!(page.contains("dmz") && page.contains("api.push.apple.com"));
        assert!(!page.contains("<script"), "{page}");
        assert_eq!(page.matches("rect class=\"bad\"").count(), 2);
        assert!(render(&json!(null)).contains("<svg"));
    }
}
