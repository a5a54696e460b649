//! Who may see the admin pages. Loopback may; others by network and token. A foreign Host, which
//! a rebinding web page would bring, never.

use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::config::{Admin, Secret};
use crate::names::{Authority, Host};

/// May this request be answered? `Err` is the status and one line for the reader.
///
/// `/livez` and `/readyz` need no token from `networks`: balancers and kubelets carry none, and
/// they learn one word.
pub(super) fn check(
    admin: &Admin,
    token: Option<&Secret>,
    peer: SocketAddr,
    method: &Method,
    path: &str,
    headers: &HeaderMap,
) -> Result<(), (StatusCode, &'static str)> {
    if !host_is_ours(headers) {
        return Err((StatusCode::MISDIRECTED_REQUEST, "the Host is not one of this server's"));
    }
    // A page of another site can make a browser POST here, but not without saying where from.
    if *method == Method::POST && headers.contains_key(ORIGIN) {
        return Err((StatusCode::FORBIDDEN, "not from a web page"));
    }
    let address = peer.ip().to_canonical();
    if address.is_loopback() {
        return Ok(());
    }
    if !admin.networks.iter().any(|network| network.contains(&address)) {
        return Err((StatusCode::FORBIDDEN, "this address is not in admin.networks"));
    }
    if matches!(path, "/livez" | "/readyz") {
        return Ok(());
    }
    match token {
        None => Err((StatusCode::FORBIDDEN, "admin.token is not configured")),
        Some(token) if bears(headers, token) => Ok(()),
        Some(_) => Err((StatusCode::UNAUTHORIZED, "the bearer token is missing or wrong")),
    }
}

/// An address, `localhost`, or nothing at all (HTTP/1.0); a name could be anybody's.
fn host_is_ours(headers: &HeaderMap) -> bool {
    let mut hosts = headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let Some(text) = first.map(HeaderValue::to_str) else {
        return true;
    };
    let host = text.ok().and_then(|text| Authority::parse_optional_port(text).ok());
    second.is_none()
        && host.is_some_and(|(host, _port)| match host {
            Host::Ip(IpAddr::V4(_) | IpAddr::V6(_)) => true,
            Host::Name(name) => name.as_str() == "localhost",
        })
}

fn bears(headers: &HeaderMap, token: &Secret) -> bool {
    let value = headers.get(AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
    let Some((scheme, sent)) = value.split_at_checked(7) else {
        return false;
    };
    // Compared in constant time; only the length may show.
    scheme.eq_ignore_ascii_case(b"bearer ")
        && !token.expose().is_empty()
        && aws_lc_rs::constant_time::verify_slices_are_equal(sent, token.expose()).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_then_networks_then_token_and_never_a_foreign_host() {
        let admin = Admin {
            bind: None,
            networks: vec!["10.0.0.0/8".parse().unwrap()],
            token: None,
            probe: true,
        };
        let token = Secret::new(b"right".to_vec());
        for (peer, host, path, bearer, with_token, expected) in [
            ("127.0.0.1:1", "127.0.0.1:9380", "/status", "", true, 200),
            ("[::ffff:127.0.0.1]:1", "localhost", "/status", "", true, 200),
            ("127.0.0.1:1", "evil.example", "/status", "", true, 421),
            ("127.0.0.1:1", "localhost.evil.example", "/status", "", true, 421),
            ("10.1.1.1:1", "10.0.0.1", "/status", "", true, 401),
            ("10.1.1.1:1", "10.0.0.1", "/status", "Bearer wrong", true, 401),
            ("10.1.1.1:1", "10.0.0.1", "/status", "Bearer right", true, 200),
            ("10.1.1.1:1", "10.0.0.1", "/status", "Bearer right", false, 403),
            ("10.1.1.1:1", "10.0.0.1", "/readyz", "", false, 200),
            ("192.0.2.1:1", "10.0.0.1", "/readyz", "Bearer right", true, 403),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("host", host.parse().unwrap());
            headers.insert("authorization", bearer.parse().unwrap());
            let token = with_token.then_some(&token);
            let peer = peer.parse().unwrap();
            let got = check(&admin, token, peer, &Method::GET, path, &headers);
            let got = got.err().map_or(200, |(status, _why)| status.as_u16());
            assert_eq!(got, expected, "{peer} {host} {path} {bearer}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("host", "127.0.0.1".parse().unwrap());
        headers.insert("origin", "http://evil.example".parse().unwrap());
        let peer = "127.0.0.1:1".parse().unwrap();
        assert!(check(&admin, None, peer, &Method::POST, "/latch/clear", &headers).is_err());
    }
}
