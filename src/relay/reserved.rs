//! `/.pushrelay/probe`: what the relay saw of the request, for whoever probes through it.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, VIA};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::json;

use crate::downstream::{Answer, Head, Sender};
use crate::hop::clean;

/// Longest `Via` told back, characters.
const VIA_CAP: usize = 500;

/// Names of fields told back; more would make the answer larger than the question.
const FIELDS_CAP: usize = 40;

/// Protocol, ALPN, SNI, TLS version, Via and the names of fields as they arrived here. Nothing about
/// the inside.
pub(super) fn answer(head: &Head, sender: &Sender, request_id: &str) -> Answer {
    let tls = sender.tls.as_ref();
    let via: Vec<String> =
        head.headers.get_all(VIA).iter().map(|via| clean(via.as_bytes(), VIA_CAP)).collect();
    let seen = json!({
        "pushrelay": env!("CARGO_PKG_VERSION"),
        "protocol": head.wire.word(),
        "alpn": tls.and_then(|tls| tls.alpn.as_deref()),
        "alpn_offered": tls.map(|tls| &tls.alpn_offered),
        "sni": tls.and_then(|tls| tls.sni.as_ref()).map(ToString::to_string),
        "tls": tls.map(|tls| &tls.version),
        "connect": sender.connect_target.as_ref().map(ToString::to_string),
        "via": via,
        "fields": head.headers.keys().take(FIELDS_CAP).map(http::HeaderName::as_str).collect::<Vec<_>>(),
        "request_id": request_id,
    });
    let mut headers = HeaderMap::with_capacity(2);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Answer { status: StatusCode::OK, headers, body: Bytes::from(seen.to_string()), close: false }
}
