//! From a sender's request to the request that leaves, and from what came back to what the sender
//! gets. Bodies and end-to-end fields pass byte for byte; what belongs to one hop stays there.
//!
//! Pure, apart from the random number behind a made-up apns-id. `permit` has judged the head.

use bytes::Bytes;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, COOKIE, HOST, HeaderName,
    HeaderValue, VIA,
};
use http::{HeaderMap, Method, Request, Uri};

use crate::config::{NextHop, Scheme};
use crate::downstream::{Head, Wire};
use crate::names::Authority;
use crate::provider::Provider;
use crate::provider::apns::APNS_ID;

use super::Permit;
use super::outcome::Refusal;

pub mod back;
pub mod fields;

/// Largest header list sent to APNs, octets as RFC 9113 §6.5.2 counts them: what APNs announces
/// as its MAX_HEADER_LIST_SIZE.
const APNS_HEADER_LIST: usize = 8000;

/// D8: never in HPACK's tables, they change with every push or are a secret, which also stays out
/// of Debug.
const UNINDEXED: [&str; 4] = ["apns-id", "apns-expiration", "apns-collapse-id", "authorization"];

/// What a chain signature adds; never sent beyond the relay that checks it.
const CHAIN_FIELDS: [&str; 3] = ["signature", "signature-input", super::signature::DEADLINE_FIELD];

/// Who put the fields of a request together on the way to us.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// The request carried a chain signature that verified, so its `content-digest` is the
    /// chain's and not the sender's.
    pub signed: bool,
    /// How this relay names itself in `Via` towards another relay.
    pub pseudonym: &'a str,
}

/// Makes the request that leaves.
///
/// # Errors
/// [`Refusal::Malformed`] for what no strict peer would take (C3, B2), and
/// [`Refusal::HeadTooLarge`] beyond what APNs accepts (D8).
pub fn request(
    head: &Head,
    permit: &Permit,
    chain: Chain<'_>,
    body: Bytes,
) -> Result<Request<Bytes>, Refusal> {
    let apns = permit.route.provider == Provider::Apns;
    let mut headers = end_to_end(&head.headers, apns, chain.signed)?;
    if apns && head.target.starts_with("/3/device/") && !headers.contains_key(&APNS_ID) {
        let mut made = fresh_apns_id();
        made.set_sensitive(true);
        headers.insert(&APNS_ID, made);
    }
    if permit.route.next_hop != NextHop::Origin {
        headers.insert(VIA, via(head.wire, chain.pseudonym)?);
    }
    let framed = [Method::POST, Method::PUT, Method::PATCH].contains(&head.method);
    if framed || !body.is_empty() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
    let uri = absolute(head, permit)?;
    if apns && list_size(&headers, &uri, &head.method) > APNS_HEADER_LIST {
        return Err(Refusal::HeadTooLarge);
    }
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    Ok(request)
}

const fn default_port(scheme: Scheme) -> u16 {
    match scheme {
        Scheme::Http => 80,
        Scheme::Https => 443,
    }
}

/// C2: always absolute, always the route's own authority. Which of several ports carries the push
/// is the lane's matter, whatever the sender named: one is written only where the default port is
/// none of them.
fn absolute(head: &Head, permit: &Permit) -> Result<Uri, Refusal> {
    let host = &permit.host;
    let default = host.ports.contains(&default_port(host.scheme));
    let authority = match host.ports.first().filter(|_any| !default) {
        Some(port) => Authority::new(host.origin.clone(), *port).to_string(),
        None => host.origin.to_string(),
    };
    let scheme = match host.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    Uri::builder()
        .scheme(scheme)
        .authority(authority)
        .path_and_query(head.target.as_str())
        .build()
        .map_err(|_not_a_uri| Refusal::Malformed("the request target is no URI"))
}

fn end_to_end(sent: &HeaderMap, apns: bool, signed: bool) -> Result<HeaderMap, Refusal> {
    let nominated = fields::nominated(sent)?;
    let mut headers = HeaderMap::with_capacity(sent.keys_len() + 2);
    // The map yields the values of a name one after the other; asking for each name's would cost
    // every push a search for each of its fields.
    let mut lines = sent.iter().peekable();
    while let Some((name, first)) = lines.next() {
        let mut rest = Vec::new();
        while let Some((_same, value)) = lines.next_if(|(next, _)| *next == name) {
            rest.push(value);
        }
        if fields::is_underscore_twin(name.as_str()) {
            return Err(Refusal::Malformed("a field name with an underscore in a known name"));
        }
        // Framing is ours to write; all others nominated are the sender's to lose.
        if fields::is_hop_by_hop(name.as_str()) || nominated.contains(name) {
            continue;
        }
        if fields::is_of_middleboxes(name.as_str()) || CHAIN_FIELDS.contains(&name.as_str()) {
            continue;
        }
        let dropped = *name == HOST
            || *name == CONTENT_LENGTH
            || (signed && name.as_str() == "content-digest")
            || (apns && (*name == CACHE_CONTROL || *name == ACCEPT_ENCODING));
        if !dropped {
            let mut value = one_value(name, first, &rest)?;
            // What the sender kept out of the tables stays out (RFC 7541 §7.1.3).
            if apns && UNINDEXED.contains(&name.as_str()) {
                value.set_sensitive(true);
            }
            headers.insert(name.clone(), value);
        }
    }
    Ok(headers)
}

/// C3: one line per name leaves. B2: no blanks around a value.
fn one_value(
    name: &HeaderName,
    first: &HeaderValue,
    rest: &[&HeaderValue],
) -> Result<HeaderValue, Refusal> {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let padded = |value: &HeaderValue| {
        let bytes = value.as_bytes();
        blank(bytes.first()) || blank(bytes.last())
    };
    if padded(first) || rest.iter().any(|value| padded(value)) {
        return Err(Refusal::Malformed("a field value with blanks around it"));
    }
    if rest.is_empty() {
        return Ok(first.clone());
    }
    if *name == AUTHORIZATION || name.as_str().starts_with("apns-") {
        return Err(Refusal::Malformed("a field that may stand once stands twice"));
    }
    if fields::is_singleton(name.as_str()) {
        if rest.iter().any(|other| **other != first) {
            return Err(Refusal::Malformed("two different values of a field that has one"));
        }
        return Ok(first.clone());
    }
    // RFC 9110 §5.3; cookie crumbs are joined by RFC 9113 §8.2.3.
    let separator: &[u8] = if *name == COOKIE { b"; " } else { b", " };
    let mut joined = first.as_bytes().to_vec();
    for value in rest {
        joined.extend_from_slice(separator);
        joined.extend_from_slice(value.as_bytes());
    }
    HeaderValue::from_bytes(&joined).map_err(|_bad| Refusal::Malformed("a field value"))
}

/// A lower-case UUID of version 4 (RFC 9562 §5.4).
pub fn fresh_apns_id() -> HeaderValue {
    let mut bytes = [0_u8; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source works");
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = crate::telemetry::hex(&bytes);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]];
    HeaderValue::from_str(&parts.join("-")).expect("hex and dashes are a field value")
}

fn via(wire: Wire, pseudonym: &str) -> Result<HeaderValue, Refusal> {
    let version = match wire {
        Wire::Http10 => "1.0",
        Wire::Http11 => "1.1",
        Wire::Http2 => "2.0",
    };
    HeaderValue::from_str(&format!("{version} {pseudonym}"))
        .map_err(|_bad| Refusal::Malformed("Via"))
}

/// Did this very relay send the request on before?
pub fn came_from_us(headers: &HeaderMap, pseudonym: &str) -> bool {
    headers
        .get_all(VIA)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|one| one.split_whitespace().nth(1) == Some(pseudonym)))
}

fn list_size(headers: &HeaderMap, uri: &Uri, method: &Method) -> usize {
    let field = |name: usize, value: usize| name + value + 32;
    let pseudo = field(7, method.as_str().len())
        + field(7, 5)
        + field(10, uri.authority().map_or(0, |authority| authority.as_str().len()))
        + field(5, uri.path_and_query().map_or(1, |path| path.as_str().len()));
    headers.iter().map(|(name, value)| field(name.as_str().len(), value.len())).sum::<usize>()
        + pseudo
}

#[cfg(test)]
#[path = "translate/tests.rs"]
mod tests;
