//! What the middle changed: what was sent, against what the relay says that arrived.

use serde_json::Value;

use crate::hop::clean;

/// Most names of fields shown.
const NAMES_CAP: usize = 20;
/// Longest text of the relay's that is shown, characters.
const TEXT_CAP: usize = 100;

/// How the request left.
#[derive(Debug)]
pub(super) struct Sent<'a> {
    pub(super) protocol: &'a str,
    pub(super) alpn: &'a [&'a str],
    pub(super) sni: &'a str,
    /// The TLS version that was agreed on at this end.
    pub(super) tls: &'a str,
    pub(super) fields: &'a [&'a str],
}

/// One line for each thing that is not as it was; empty where nothing stands between, or nothing
/// that ends TLS.
pub(super) fn changes(sent: &Sent<'_>, seen: &Value) -> Vec<String> {
    let text = |key: &str| seen.get(key).and_then(Value::as_str).map(shown);
    let mut changes = Vec::new();
    let mut compared = |what: &str, left: &str, arrived: Option<String>| {
        let arrived = arrived.unwrap_or_else(|| "none".to_owned());
        if !same(left, &arrived) {
            changes.push(format!("{what} left as {left} and arrived as {arrived}"));
        }
    };
    compared("protocol", sent.protocol, text("protocol"));
    compared("SNI", sent.sni, text("sni"));
    compared("TLS", sent.tls, text("tls"));
    // What an older relay does not tell is not compared.
    if seen.get("alpn_offered").is_some_and(Value::is_array) {
        let arrived = texts(seen, "alpn_offered").join(", ");
        compared("ALPN offer", &sent.alpn.join(", "), Some(arrived).filter(|it| !it.is_empty()));
    }
    let via = texts(seen, "via");
    if !via.is_empty() {
        changes.push(format!("Via {} was added", via.join(", ")));
    }
    if seen.get("fields").is_some_and(Value::is_array) {
        let arrived = texts(seen, "fields");
        let missing = sent.fields.iter().filter(|name| !arrived.iter().any(|one| one == *name));
        let missing: Vec<_> = missing.map(|name| (*name).to_owned()).collect();
        let known = |name: &&String| {
            // The protocols differ in these by themselves; Via was told above.
            sent.fields.contains(&name.as_str()) || matches!(name.as_str(), "host" | "via")
        };
        let added: Vec<_> = arrived.iter().filter(|name| !known(name)).cloned().collect();
        for (names, what) in [(missing, "removed"), (added, "added")] {
            if !names.is_empty() {
                changes.push(format!("fields {what}: {}", names.join(", ")));
            }
        }
    }
    changes
}

/// `TLSv1.3`, `TLSv1_3` and `TLS 1.3` are one version, `HTTP/2` and `HTTP/2.0` one protocol.
fn same(left: &str, arrived: &str) -> bool {
    let plain = |text: &str| {
        let text = text.to_ascii_lowercase().replace('_', ".").replace([' ', 'v'], "");
        text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
    };
    plain(left) == plain(arrived)
}

fn texts(seen: &Value, key: &str) -> Vec<String> {
    let all = seen.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).take(NAMES_CAP).map(shown).collect()
}

fn shown(text: &str) -> String {
    clean(text.as_bytes(), TEXT_CAP)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn seen(sent: &Value) -> Vec<String> {
        let how = Sent {
            protocol: "HTTP/2",
            alpn: &["h2", "http/1.1"],
            sni: "api.push.apple.com",
            tls: "TLSv1.3",
            fields: &["apns-topic", "user-agent"],
        };
        changes(&how, sent)
    }

    #[test]
    fn what_an_inspecting_proxy_does_is_listed() {
        let untouched = json!({
            "protocol": "HTTP/2", "alpn_offered": ["h2", "http/1.1"], "sni": "api.push.apple.com",
            "tls": "TLSv1_3", "via": [], "fields": ["user-agent", "apns-topic", "host"],
        });
        assert_eq!(seen(&untouched), Vec::<String>::new());
        let squid = json!({
            "protocol": "HTTP/1.1", "alpn_offered": [], "sni": "api.push.apple.com",
            "tls": "TLSv1.2", "via": ["1.1 squid \u{1b}[31m"],
            "fields": ["user-agent", "via", "x-forwarded-for", "cache-control"],
        });
        assert_eq!(
            seen(&squid),
            [
                "protocol left as HTTP/2 and arrived as HTTP/1.1",
                "TLS left as TLSv1.3 and arrived as TLSv1.2",
                "ALPN offer left as h2, http/1.1 and arrived as none",
                "Via 1.1 squid .[31m was added",
                "fields removed: apns-topic",
                "fields added: x-forwarded-for, cache-control",
            ]
        );
    }
}
