//! HTTP Message Signatures (RFC 9421, HMAC-SHA256) between a relay before and a relay behind a
//! proxy: who sent this, and did anybody change it.
//!
//! Pure but for the random nonce; time is an argument. What is signed: `@method`, `@authority`,
//! `@path` (`@query` where there is one), `content-digest`, `authorization`, every `apns-*` field
//! present, and the remaining deadline. It does not hide anything, and it does not prove that an
//! answer is genuine.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Secret;
use crate::telemetry::hex;

pub mod memory;
pub mod verify;

pub use memory::Memory;
pub use verify::{Verified, verify};

/// Carries how many milliseconds are left of the sender's deadline.
pub const DEADLINE_FIELD: &str = "pushrelay-deadline-ms";

/// How far `created` may lie from our clock, seconds; also how long a signature is remembered.
pub const WINDOW_SECONDS: i64 = 120;

/// The label of our signature among others.
const LABEL: &str = "pushrelay";

/// A key shared by two relays, and its name: the first 8 octets of SHA-256 of the key, hex.
pub struct Key {
    id: String,
    hmac: hmac::Key,
}

impl Key {
    /// Takes the key over; the secret itself is not kept.
    pub fn new(secret: &Secret) -> Self {
        let id = hex(&digest(&SHA256, secret.expose()).as_ref()[..8]);
        Self { id, hmac: hmac::Key::new(hmac::HMAC_SHA256, secret.expose()) }
    }

    /// Its name; harmless to show.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.id).finish()
    }
}

/// What of a request is signed.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// The method.
    pub method: &'a str,
    /// Host, lower case, with the port unless it is the default one.
    pub authority: &'a str,
    /// Path and query as sent.
    pub target: &'a str,
    /// The fields.
    pub headers: &'a HeaderMap,
    /// The whole body.
    pub body: &'a [u8],
}

/// The fields that sign `message`; to be added to it as they are.
///
/// `created` is in seconds since the epoch; `remaining_ms` is what is left of the deadline.
pub fn sign(
    message: &Message<'_>,
    key: &Key,
    created: i64,
    remaining_ms: u64,
) -> Vec<(HeaderName, HeaderValue)> {
    let mut nonce = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut nonce).expect("the system's random source works");
    let ascii = |text: String| HeaderValue::try_from(text).expect("base64, digits and tokens");
    let mut signed = vec![
        (HeaderName::from_static("content-digest"), ascii(content_digest(message.body))),
        (HeaderName::from_static(DEADLINE_FIELD), HeaderValue::from(remaining_ms)),
    ];
    let mut headers = message.headers.clone();
    headers.extend(signed.iter().map(|(name, value)| (name.clone(), value.clone())));
    let message = Message { headers: &headers, ..*message };
    let names: Vec<String> = demanded(&message).iter().map(|name| format!("\"{name}\"")).collect();
    let params = format!(
        "({});created={created};keyid=\"{}\";alg=\"hmac-sha256\";nonce=\"{}\"",
        names.join(" "),
        key.id,
        hex(&nonce)
    );
    let components: Vec<String> = demanded(&message);
    let base = base(&message, components.iter().map(String::as_str), &params)
        .expect("every component that is demanded is there");
    let tag = hmac::sign(&key.hmac, &base);
    signed.push((HeaderName::from_static("signature-input"), ascii(format!("{LABEL}={params}"))));
    let signature = format!("{LABEL}=:{}:", STANDARD.encode(tag.as_ref()));
    signed.push((HeaderName::from_static("signature"), ascii(signature)));
    signed
}

/// RFC 9530 §2.
fn content_digest(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(digest(&SHA256, body)))
}

/// What a signature of ours must cover, in order: a fixed part, and every field of the provider's
/// that is present, so that none can be added or taken away.
fn demanded(message: &Message<'_>) -> Vec<String> {
    let mut names = vec!["@method".to_owned(), "@authority".into(), "@path".into()];
    if message.target.contains('?') {
        names.push("@query".into());
    }
    names.push("content-digest".into());
    names.push(DEADLINE_FIELD.into());
    let fields = message.headers.keys().map(HeaderName::as_str);
    let mut present: Vec<String> = fields
        .filter(|name| *name == "authorization" || name.starts_with("apns-"))
        .map(str::to_owned)
        .collect();
    present.sort_unstable();
    names.extend(present);
    names
}

/// The signature base (RFC 9421 §2.5); `None` where a component is missing or unknown. In octets:
/// a collapse id may have some that are no ASCII, and is carried all the same.
fn base<'a>(
    message: &Message<'_>,
    components: impl Iterator<Item = &'a str>,
    params: &str,
) -> Option<Vec<u8>> {
    let mut base = Vec::with_capacity(1024);
    for name in components {
        let value = component(message, name)?;
        base.extend_from_slice(format!("\"{name}\": ").as_bytes());
        base.extend_from_slice(&value);
        base.push(b'\n');
    }
    base.extend_from_slice(format!("\"@signature-params\": {params}").as_bytes());
    Some(base)
}

fn component(message: &Message<'_>, name: &str) -> Option<Vec<u8>> {
    let (path, query) = match message.target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (message.target, None),
    };
    match name {
        "@method" => Some(message.method.into()),
        "@authority" => Some(message.authority.into()),
        "@path" => Some(path.into()),
        "@query" => query.map(|query| format!("?{query}").into()),
        derived if derived.starts_with('@') => None,
        field => {
            let values = message.headers.get_all(field).iter();
            let values: Vec<&[u8]> = values.map(|value| value.as_bytes().trim_ascii()).collect();
            (!values.is_empty()).then(|| values.join(&b", "[..]))
        }
    }
}

#[cfg(test)]
#[path = "signature/tests.rs"]
mod tests;
