//! The status for people: what is wrong first, then what there is. Whatever else the relay tells
//! stands in `--json`.

use std::fmt::Write as _;

use serde_json::Value;

use crate::admin;
use crate::hop::clean;
use crate::pki;

/// Longest text of one field, characters.
const MOST: usize = 400;

/// The status JSON in lines; `now` in seconds since 1970.
pub(super) fn render(status: &Value, now: i64) -> String {
    let mut out = String::new();
    let up = status.get("uptime_seconds").and_then(Value::as_u64).unwrap_or(0);
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "pushrelay {}, up {}, {}\n",
        text(status, "version"),
        admin::span(up),
        text(status, "configuration")
    );
    paths(&mut out, status);
    verdicts(&mut out, status);
    latches(&mut out, status);
    certificates(&mut out, status, now);
    figures(&mut out, status);
    out
}

/// What pushes tell of each path, the failing ones first.
fn paths(out: &mut String, status: &Value) {
    let mut all: Vec<&Value> = list(status, "paths").iter().collect();
    all.sort_by_key(|path| !is_failing(path));
    if all.is_empty() {
        out.push_str("paths      no push has come yet\n");
    }
    for path in all {
        let word = if is_failing(path) { "FAIL" } else { "ok  " };
        let success = path.get("last_success").and_then(Value::as_str).unwrap_or("never");
        let _ = writeln!(
            out,
            "path  {word} {} by {}, last success {}",
            text(path, "origin"),
            text(path, "egress"),
            clean(success.as_bytes(), MOST),
        );
        if let Some(failure) = path.get("last_failure").filter(|one| one.is_object()) {
            let _ = writeln!(
                out,
                "           last failure {}: {} (hop: {})",
                text(failure, "at"),
                text(failure, "code"),
                text(failure, "hop"),
            );
            if is_failing(path) {
                let _ = writeln!(out, "           {}", text(failure, "sentence"));
            }
        }
    }
}

/// What the relay's own ladders came to.
fn verdicts(out: &mut String, status: &Value) {
    for one in list(status, "probes") {
        let _ = writeln!(
            out,
            "probe {:<4} {} by {} at {}: {} (hop: {})\n           {}",
            text(one, "severity").to_uppercase(),
            text(one, "origin"),
            text(one, "egress"),
            text(one, "at"),
            text(one, "code"),
            text(one, "hop"),
            text(one, "sentence"),
        );
        let action = text(one, "action");
        if !action.is_empty() {
            let _ = writeln!(out, "           > {action}");
        }
    }
}

/// Credentials that are not tried again by themselves.
fn latches(out: &mut String, status: &Value) {
    for egress in list(status, "egress") {
        let proxies: Vec<_> = list(egress, "latched").iter().map(plain).collect();
        if !proxies.is_empty() {
            let name = text(egress, "name");
            let _ = writeln!(
                out,
                "latch FAIL {name}: {} refused these credentials twice; they are tried again when \
                 they change, or after: pushrelay status --clear-latch {name}",
                proxies.join(", "),
            );
        }
    }
}

fn certificates(out: &mut String, status: &Value, now: i64) {
    let expiries = admin::expiries(status);
    for ending in pki::endings(&expiries, now) {
        let word = if ending.alarm >= pki::Alarm::Week { "FAIL" } else { "WARN" };
        let _ = writeln!(out, "cert  {word} {}", clean(ending.text.as_bytes(), MOST));
    }
    let first = |issuer: bool| {
        let those = expiries.iter().filter(|(name, _)| (name == pki::ISSUER) == issuer);
        those.map(|(_, end)| *end).min().map(pki::day)
    };
    let leaves = expiries.iter().filter(|(name, _)| name != pki::ISSUER).count();
    let told = match (first(false), first(true)) {
        (Some(leaf), Some(issuer)) => {
            format!("{leaves} leaves until {leaf} and later, issuer until {issuer}")
        }
        (Some(leaf), None) => format!("{leaves} leaves until {leaf} and later"),
        (None, _) => "none".to_owned(),
    };
    let _ = writeln!(out, "\ncertificates  {told}");
}

fn figures(out: &mut String, status: &Value) {
    let bound: Vec<_> = list(status, "listeners")
        .iter()
        .map(|one| {
            let bind: Vec<_> = list(one, "bind").iter().map(plain).collect();
            format!("{} {}", text(one, "name"), bind.join(" "))
        })
        .collect();
    let _ = writeln!(out, "listeners     {}", bound.join(", "));
    let senders = status.get("senders").unwrap_or(&Value::Null);
    let refused = senders.get("refused").and_then(Value::as_object);
    let refused: Vec<_> = refused
        .into_iter()
        .flatten()
        .filter(|(_, count)| count.as_u64() != Some(0))
        .map(|(why, count)| format!("{} {}", clean(why.as_bytes(), 40), plain(count)))
        .collect();
    let refused = if refused.is_empty() { "none".to_owned() } else { refused.join(", ") };
    let _ = writeln!(
        out,
        "senders       {} open, {} connections so far, refused: {refused}",
        text(senders, "open"),
        text(senders, "accepted"),
    );
    let sum = |field: &str| {
        list(status, "lanes").iter().filter_map(|lane| lane.get(field)?.as_u64()).sum::<u64>()
    };
    let open: usize =
        list(status, "lanes").iter().map(|lane| list(lane, "connections").len()).sum();
    let dials = status.get("dials").unwrap_or(&Value::Null);
    let _ = writeln!(
        out,
        "pushes        {} in flight, {} waiting; {open} connections upstream; dials: {} ok, {} failed",
        text(status, "exchanges_in_flight"),
        sum("waiting"),
        text(dials, "ok"),
        text(dials, "failed"),
    );
}

fn is_failing(path: &Value) -> bool {
    path.get("failing").and_then(Value::as_bool).unwrap_or(false)
}

fn list<'v>(value: &'v Value, name: &str) -> &'v [Value] {
    value.get(name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

fn text(value: &Value, name: &str) -> String {
    value.get(name).map(plain).unwrap_or_default()
}

/// It comes over the network: no field moves the cursor.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => clean(text.as_bytes(), MOST),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            clean(value.to_string().as_bytes(), MOST)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_wrong_stands_first_and_peer_text_is_safe_for_terminals() {
        let status = json!({
            "version": "1.2.3", "uptime_seconds": 90_000, "configuration": "relay.yaml",
            "paths": [
                { "origin": "fcm.googleapis.com:443", "egress": "corporate", "failing": false,
                  "last_success": "2026-11-21T16:47:05Z", "last_failure": null },
                { "origin": "api.push.apple.com:443", "egress": "corporate", "failing": true,
                  "last_success": null,
                  "last_failure": { "at": "2026-11-21T16:47:01Z", "code": "proxy_auth_refused",
                                    "hop": "proxy", "sentence": "It says\u{1b}[31m no." } },
            ],
            "egress": [{ "name": "corporate", "latched": ["proxy:3128"] }, { "name": "direct" }],
            "certificates": [{ "name": "a.example", "not_after": 86_400 * 40 },
                             { "name": "issuer", "not_after": 86_400 * 5 }],
            "senders": { "open": 1, "accepted": 7, "refused": { "network": 2, "limit": 0 } },
            "lanes": [{ "waiting": 3, "connections": [{}, {}] }],
        });
        let told = render(&status, 0);
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines[0], "pushrelay 1.2.3, up 1 d 1 h, relay.yaml");
        assert_eq!(lines[2], "path  FAIL api.push.apple.com:443 by corporate, last success never");
        assert_eq!(lines[4], "           It says.[31m no.");
        assert!(lines[5].starts_with("path  ok   fcm.googleapis.com:443"), "{told}");
        assert!(lines[6].ends_with("after: pushrelay status --clear-latch corporate"), "{told}");
        assert!(lines[7].starts_with("cert  FAIL the issuer ends on 1970-01-06"), "{told}");
        assert!(told.contains("refused: network 2\n") && told.contains("3 waiting; 2 conn"));
        assert!(render(&json!(null), 0).contains("no push has come yet"));
    }
}
