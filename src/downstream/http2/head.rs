//! A request's head: what the h2 crate lets through and we do not.
//!
//! Pure. h2 refuses malformed pseudo-fields, connection fields and upper-case names; left to us are
//! the authority (B1, F3), blanks around values (B2), the head's size and `Expect`.

use std::time::Instant;

use http::request::Parts;
use http::uri::Scheme;
use http::{HeaderMap, Method, header};

use crate::downstream::{Head, Wire};
use crate::names::{Authority, Host};
use crate::relay::outcome::Refusal;

/// Why a head is not acceptable, with the head as far as it could be read: the answer may echo
/// fields of it.
pub(super) type Refused = (Refusal, Option<Box<Head>>);

/// Judges a head. `tls`: the connection is encrypted; `limit`: octets, by RFC 9113 §6.5.2's count.
pub(super) fn read(parts: Parts, tls: bool, limit: usize, at: Instant) -> Result<Head, Refused> {
    let size = size(&parts);
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    let named = name(authority, &parts.headers);
    let mut headers = parts.headers;
    headers.remove(header::HOST);
    let (host, port) = match named {
        Ok(named) => named,
        Err(_unreadable) if size > limit => return Err((Refusal::HeadTooLarge, None)),
        Err(refusal) => return Err((refusal, None)),
    };
    let path = parts.uri.path_and_query().map_or("*", http::uri::PathAndQuery::as_str);
    let target = path.to_owned();
    let head =
        Head { wire: Wire::Http2, method: parts.method, host, port, target, headers, started: at };
    match judge(&head, parts.uri.scheme(), tls, size > limit) {
        Ok(()) => Ok(head),
        Err(refusal) => Err((refusal, Some(Box::new(head)))),
    }
}

fn judge(head: &Head, scheme: Option<&Scheme>, tls: bool, large: bool) -> Result<(), Refusal> {
    if large {
        return Err(Refusal::HeadTooLarge);
    }
    if head.method == Method::CONNECT {
        return Err(Refusal::Method);
    }
    // On a plain listener a balancer may have ended TLS, so both schemes are honest there.
    if tls && scheme.is_some_and(|scheme| *scheme != Scheme::HTTPS) {
        return Err(Refusal::Malformed(":scheme is not https although the connection is TLS"));
    }
    let padded = |value: &http::HeaderValue| {
        let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
        blank(value.as_bytes().first()) || blank(value.as_bytes().last())
    };
    if head.headers.values().any(padded) {
        return Err(Refusal::Malformed("a field value begins or ends with a blank"));
    }
    let unknown =
        |value: &http::HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if head.headers.get_all(header::EXPECT).iter().any(unknown) {
        return Err(Refusal::Expectation);
    }
    Ok(())
}

/// Where the request is for: `:authority`, or Host without it (RFC 9113 §8.3.1).
fn name(authority: Option<&str>, headers: &HeaderMap) -> Result<(Host, Option<u16>), Refusal> {
    let mut hosts = headers.get_all(header::HOST).iter();
    let (host, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(Refusal::Malformed("more than one host field"));
    }
    let host = match host {
        Some(value) => {
            Some(value.to_str().map_err(|_opaque| Refusal::Malformed("the host field"))?)
        }
        None => None,
    };
    let parse = |text: &str, what| {
        Authority::parse_optional_port(text).map_err(|_bad| Refusal::Malformed(what))
    };
    match (authority, host) {
        (None, None) => Err(Refusal::Malformed("neither :authority nor a host field")),
        (None, Some(host)) => parse(host, "the host field"),
        (Some(authority), None) => parse(authority, ":authority"),
        (Some(authority), Some(host)) => {
            let named = parse(authority, ":authority")?;
            if parse(host, "the host field")? == named {
                return Ok(named);
            }
            Err(Refusal::Malformed("the host field is not :authority"))
        }
    }
}

fn size(parts: &Parts) -> usize {
    let fields: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum();
    let path = parts.uri.path_and_query().map_or(0, |path| path.as_str().len());
    let authority = parts.uri.authority().map_or(0, |authority| authority.as_str().len());
    // Four pseudo-fields: their names have 33 octets together.
    fields + path + authority + parts.method.as_str().len() + 33 + 4 * 32
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::post(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn judge(uri: &str, fields: &[(&str, &str)]) -> Result<Head, Refusal> {
        read(parts(uri, fields), true, 4096, Instant::now()).map_err(|(refusal, _)| refusal)
    }

    #[test]
    fn f3_host_without_authority_is_accepted() {
        let head = judge("/3/device/1", &[("host", "api.push.apple.com")]).unwrap();
        assert_eq!(head.host.to_string(), "api.push.apple.com");
        assert!(!head.headers.contains_key("host"));
        assert_eq!(head.target, "/3/device/1");
    }

    #[test]
    fn b1_authority_and_host_must_agree() {
        let ok = judge("https://a.example:443/x?y=1", &[("host", "A.example:443")]).unwrap();
        assert_eq!((ok.port, ok.target.as_str()), (Some(443), "/x?y=1"));
        for (uri, fields) in [
            ("https://a.example/", &[("host", "b.example")][..]),
            ("https://a.example/", &[("host", "a.example:444")]),
            ("https://a.example/", &[("host", "a.example"), ("host", "a.example")]),
            ("/", &[]),
            ("/", &[("host", "")]),
            ("/", &[("host", "a.example"), ("host", "a.example")]),
            ("/", &[("host", "user@a.example")]),
            ("https://user@a.example/", &[]),
            ("http://a.example/", &[]),
        ] {
            let refusal = judge(uri, fields).unwrap_err();
            assert!(matches!(refusal, Refusal::Malformed(_)), "{uri} {fields:?}: {refusal}");
        }
        read(parts("http://a.example/", &[]), false, 4096, Instant::now()).unwrap();
    }

    #[test]
    fn b2_blanks_around_values_are_refused() {
        for value in [" a", "a ", "\ta", " "] {
            let refusal = judge("https://a.example/", &[("apns-topic", value)]).unwrap_err();
            assert!(matches!(refusal, Refusal::Malformed(_)), "{value:?}");
        }
        judge("https://a.example/", &[("apns-topic", "a b"), ("x", "")]).unwrap();
    }

    #[test]
    fn size_and_expectations_are_judged() {
        let long = "x".repeat(4096);
        let refused = judge("https://a.example/", &[("x", &long)]).unwrap_err();
        assert_eq!(refused, Refusal::HeadTooLarge);
        let refused = judge("https://a.example/", &[("expect", "200-ok")]).unwrap_err();
        assert_eq!(refused, Refusal::Expectation);
        judge("https://a.example/", &[("expect", "100-Continue")]).unwrap();
    }
}
