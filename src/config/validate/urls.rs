//! `url:` of a proxy and `origin:` of a route: a scheme and an authority, nothing else.

use url::{Host as UrlHost, Url};

use super::check::Check;
use crate::config::Scheme;
use crate::names::{Authority, Host};

/// Reads `http://HOST:PORT` or `https://HOST:PORT`. `port` is the port where none is written
/// (`None` = the scheme's own). Problems never quote the URL: it could hold a password.
pub(super) fn base(
    check: &mut Check<'_>,
    at: &str,
    text: &str,
    port: Option<u16>,
) -> Option<(Scheme, Authority)> {
    if !text.contains("://") {
        check.findings.add(
            at,
            "the scheme is missing",
            "write http://HOST:PORT or https://HOST:PORT",
        );
        return None;
    }
    let url = match Url::parse(text) {
        Ok(url) => url,
        Err(error) => {
            check.findings.add(
                at,
                format!("this is not a URL: {error}"),
                "write http://HOST:PORT or https://HOST:PORT; an IPv6 address stands in brackets",
            );
            return None;
        }
    };
    let scheme = match url.scheme() {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        "socks" | "socks4" | "socks5" | "socks5h" => {
            check.findings.add(at, "SOCKS is not spoken", "name the HTTP proxy: http://HOST:PORT");
            return None;
        }
        _ => {
            check.findings.add(
                at,
                "the scheme must be http or https",
                "write http://HOST:PORT or https://HOST:PORT",
            );
            return None;
        }
    };
    if !url.username().is_empty() || url.password().is_some() {
        check.findings.add(
            at,
            "a user or password in the URL would reach logs and process lists",
            "write the URL without it, and: credentials: { basic: { username: NAME, password: { file: PATH } } }",
        );
        return None;
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        check.findings.add(
            at,
            "only a scheme, a host and a port belong here",
            "leave path and query out",
        );
    }
    let host = host(check, at, &url)?;
    let port = written_port(text).or(port).or_else(|| url.port_or_known_default())?;
    if port == 0 {
        check.findings.add(at, "port 0 is no port", "write the port, from 1 to 65535");
        return None;
    }
    Some((scheme, Authority { host, port }))
}

fn host(check: &mut Check<'_>, at: &str, url: &Url) -> Option<Host> {
    match url.host() {
        Some(UrlHost::Ipv4(address)) => Some(Host::Ip(address.into())),
        Some(UrlHost::Ipv6(address)) => Some(Host::Ip(address.into())),
        Some(UrlHost::Domain(name)) => match name.parse() {
            Ok(name) => Some(Host::Name(name)),
            Err(error) => {
                check.findings.add(at, error.to_string(), "write http://HOST:PORT");
                None
            }
        },
        None => {
            check.findings.add(at, "the host is missing", "write http://HOST:PORT");
            None
        }
    }
}

/// The port as written: `Url` drops one that is its scheme's default.
fn written_port(text: &str) -> Option<u16> {
    let (_, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, port) = authority.rsplit_once(':')?;
    port.parse().ok()
}
