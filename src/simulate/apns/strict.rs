//! What a client of APNs may not send: the rules that the simulated origin checks on each request.
//!
//! Pure: a header block in, the request and its violations out.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::hpack::Field;

/// Fields that belong to one connection and must not cross to HTTP/2 (RFC 9113 §8.2.2), and what
/// only proxies may read (RFC 9110 §11.7).
const FORBIDDEN: &[&str] = &[
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
];

/// Fields that tell the origin about the network behind a relay.
const LEAKS: &[&str] = &["forwarded", "via", "x-bluecoat-via"];

/// A request as the origin understood it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) authority: String,
    pub(crate) authorization: Option<String>,
    pub(crate) apns_id: Option<String>,
    pub(crate) apns_request_id: Option<String>,
    pub(crate) topic: Option<String>,
    pub(crate) push_type: Option<String>,
    pub(crate) content_length: Option<String>,
    pub(crate) fields: Vec<String>,
}

/// Who signed a JWT, as far as it says itself: the signature is not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Credential {
    pub(crate) team: String,
    pub(crate) key: String,
}

/// Reads a header block and lists every rule it breaks. `sni` is the name of the TLS session.
pub(crate) fn examine(fields: &[Field], sni: Option<&str>) -> (Request, Vec<String>) {
    let mut request = Request::default();
    let mut broken = Vec::new();
    let mut seen: Vec<&str> = Vec::with_capacity(fields.len());
    let mut scheme = None;
    for (name, value) in fields {
        let (Ok(name), Ok(value)) = (std::str::from_utf8(name), std::str::from_utf8(value)) else {
            broken.push("a field is not text".to_owned());
            continue;
        };
        if value.trim_matches([' ', '\t']) != value {
            broken.push(format!("blanks around the value of {name}"));
        }
        if seen.contains(&name) && name != "cookie" {
            broken.push(format!("{name} twice"));
        }
        if name.starts_with(':') && seen.last().is_some_and(|last| !last.starts_with(':')) {
            broken.push(format!("{name} after other fields"));
        }
        seen.push(name);
        let owned = || Some(value.to_owned());
        match name {
            ":method" => request.method = value.into(),
            ":path" => request.path = value.into(),
            ":authority" => request.authority = value.into(),
            ":scheme" => scheme = Some(value),
            _ => {
                broken.extend(plain_field(name, value));
                request.fields.push(name.to_owned());
                match name {
                    "authorization" => request.authorization = owned(),
                    "apns-id" => request.apns_id = owned(),
                    "apns-request-id" => request.apns_request_id = owned(),
                    "apns-topic" => request.topic = owned(),
                    "apns-push-type" => request.push_type = owned(),
                    "content-length" => request.content_length = owned(),
                    _ => {}
                }
            }
        }
    }
    broken.extend(control_fields(&request, scheme, sni));
    (request, broken)
}

fn plain_field(name: &str, value: &str) -> Option<String> {
    if name.is_empty() || name.bytes().any(|b| b.is_ascii_uppercase() || b <= b' ' || b == 0x7f) {
        return Some(format!("the field name {name:?}"));
    }
    if name.starts_with(':') {
        return Some(format!("unknown pseudo field {name}"));
    }
    if FORBIDDEN.contains(&name) {
        return Some(format!("{name} in HTTP/2"));
    }
    if LEAKS.contains(&name) || name.starts_with("x-forwarded-") {
        return Some(format!("{name} tells about the network behind"));
    }
    match (name, value) {
        ("host", _) => Some("host beside :authority".into()),
        ("te", value) if value != "trailers" => Some("te other than trailers".into()),
        ("content-encoding", _) => Some("a compressed body".into()),
        ("expect", _) => Some("expect".into()),
        ("apns-id", value) if !is_uuid(value) => Some("apns-id is no lower-case UUID".into()),
        ("apns-collapse-id", value) if value.len() > 64 => Some("apns-collapse-id too long".into()),
        _ => None,
    }
}

fn control_fields(request: &Request, scheme: Option<&str>, sni: Option<&str>) -> Vec<String> {
    let mut broken = Vec::new();
    if request.method.is_empty() || !request.path.starts_with('/') {
        broken.push("no :method or no :path".into());
    }
    if scheme != Some("https") {
        broken.push("the :scheme is not https".into());
    }
    let host = request.authority.split(':').next().unwrap_or_default();
    if host.is_empty() {
        broken.push("no :authority".into());
    } else if sni.is_some_and(|sni| !sni.eq_ignore_ascii_case(host)) {
        broken.push(format!("the :authority {} differs from the SNI", request.authority));
    }
    broken
}

/// A canonical lower-case UUID, 8-4-4-4-12.
pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Reads team and key out of `bearer JWT`; `None` where it does not look like APNs' (Apple:
/// Establishing a token-based connection to APNs).
pub(crate) fn credential(authorization: &str) -> Option<Credential> {
    let (scheme, token) = authorization.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let mut parts = token.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || signature.is_empty() {
        return None;
    }
    let json = |part: &str| -> Option<serde_json::Value> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok()
    };
    let ten = |value: &serde_json::Value| {
        value.as_str().filter(|text| text.len() == 10).map(str::to_owned)
    };
    Some(Credential { key: ten(&json(header)?["kid"])?, team: ten(&json(claims)?["iss"])? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(rows: &[(&str, &str)]) -> Vec<Field> {
        let base = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "api.push.apple.com"),
            (":path", "/3/device/ab"),
        ];
        let row = |(n, v): &(&str, &str)| (n.as_bytes().to_vec(), v.as_bytes().to_vec());
        base.iter().chain(rows).map(row).collect()
    }

    #[test]
    fn a_clean_request_breaks_nothing() {
        let rows = [("apns-topic", "com.example"), ("te", "trailers"), ("content-length", "2")];
        let (request, broken) = examine(&fields(&rows), Some("api.push.apple.com"));
        assert_eq!(broken, Vec::<String>::new());
        assert_eq!(request.topic.as_deref(), Some("com.example"));
        assert_eq!(request.fields, ["apns-topic", "te", "content-length"]);
    }

    #[test]
    fn each_rule_is_flagged() {
        let rows: [&[(&str, &str)]; 16] = [
            &[("connection", "close")],
            &[("keep-alive", "1")],
            &[("transfer-encoding", "chunked")],
            &[("upgrade", "h2c")],
            &[("proxy-authorization", "x")],
            &[("host", "api.push.apple.com")],
            &[("apns-topic", "a"), ("apns-topic", "a")],
            &[("Apns-Topic", "a")],
            &[("te", "gzip")],
            &[("via", "1.1 squid")],
            &[("x-forwarded-for", "10.0.0.1")],
            &[("apns-id", "NOT-A-UUID")],
            &[("apns-topic", " a")],
            &[("apns-topic", "a"), (":path", "/")],
            &[(":protocol", "websocket")],
            &[("expect", "100-continue")],
        ];
        for row in rows {
            assert!(!examine(&fields(row), None).1.is_empty(), "{row:?}");
        }
        let (_, broken) = examine(&fields(&[]), Some("other.example"));
        assert_eq!(broken, ["the :authority api.push.apple.com differs from the SNI"]);
    }

    #[test]
    fn a_jwt_names_team_and_key() {
        let jwt = super::super::jwt("TEAM000001", "KEY0000001");
        let credential = credential(&format!("bearer {jwt}")).unwrap();
        assert_eq!((&*credential.team, &*credential.key), ("TEAM000001", "KEY0000001"));
        for bad in ["bearer x", "basic a.b.c", "bearer a.b.c", &format!("bearer {jwt}.x")] {
            assert_eq!(super::credential(bad), None, "{bad}");
        }
    }
}
