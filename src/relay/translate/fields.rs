//! Which fields belong to one hop, which are added by boxes on the way, which may stand only once.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderName};
use http::{HeaderMap, header};

use crate::relay::outcome::Refusal;

/// C1: fields of one hop (RFC 9110 §7.6.1, §11.7; RFC 9113 §8.2.2), whatever `Connection` says.
pub fn is_hop_by_hop(name: &str) -> bool {
    name.starts_with("proxy-")
        || matches!(
            name,
            "connection"
                | "expect"
                | "http2-settings"
                | "keep-alive"
                | "te"
                | "trailer"
                | "transfer-encoding"
                | "upgrade"
        )
}

/// C6: what proxies add about themselves and about the network behind them.
pub fn is_of_middleboxes(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || matches!(name, "forwarded" | "max-forwards" | "via" | "x-bluecoat-via" | "x-real-ip")
}

/// Fields that have one value (RFC 9110 §5.3): two lines cannot be joined.
pub fn is_singleton(name: &str) -> bool {
    matches!(
        name,
        "content-digest" | "content-encoding" | "content-type" | "date" | "from" | "user-agent"
    )
}

/// `apns_topic` beside `apns-topic`: behind CGI-like peers both are one field, so a twin of
/// anything that means something to a hop or a rule is refused.
pub fn is_underscore_twin(name: &str) -> bool {
    if !name.contains('_') {
        return false;
    }
    let plain = name.replace('_', "-");
    is_hop_by_hop(&plain)
        || is_of_middleboxes(&plain)
        || is_singleton(&plain)
        || plain.starts_with("apns-")
        || plain.starts_with("pushrelay-")
        || matches!(
            plain.as_str(),
            "authorization"
                | "content-length"
                | "cookie"
                | "host"
                | "signature"
                | "signature-input"
        )
}

/// Every field that any `Connection` line names. `content-length` and pseudo-framing are not the
/// sender's to name away, but nor are they ours to trust: they are written anew in any case.
///
/// # Errors
/// [`Refusal::Malformed`] where `Connection` would take away what the provider needs.
pub fn nominated(headers: &HeaderMap) -> Result<Vec<HeaderName>, Refusal> {
    let mut names = Vec::new();
    for line in headers.get_all(CONNECTION) {
        let line = line.to_str().map_err(|_bad| Refusal::Malformed("Connection"))?;
        for option in line.split(',').map(str::trim).filter(|option| !option.is_empty()) {
            // "close" and "keep-alive" are no fields, but dropping such fields harms nobody.
            let name: HeaderName =
                option.parse().map_err(|_bad| Refusal::Malformed("Connection"))?;
            let needed = name == header::AUTHORIZATION
                || name == CONTENT_LENGTH
                || name == header::HOST
                || name.as_str().starts_with("apns-");
            if needed && headers.contains_key(&name) {
                return Err(Refusal::Malformed("Connection names an end-to-end field"));
            }
            names.push(name);
        }
    }
    Ok(names)
}
