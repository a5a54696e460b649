//! `listeners:`: where senders arrive, and that strangers cannot.

use std::net::SocketAddr;
use std::time::Duration;

use super::check::Check;
use crate::config::problem::nearest;
use crate::config::{Accept, Listener, Route, SecretSource, SenderCertificates, TlsMode, raw};
use crate::names::{Authority, HostName};

pub(super) fn all(
    check: &mut Check<'_>,
    written: Option<&[raw::Listener]>,
    routes: &[Route],
    admin: Option<SocketAddr>,
) -> Vec<Listener> {
    let written = written.unwrap_or_default();
    if written.is_empty() {
        check.findings.missing(
            "listeners",
            "there is no listener: nobody could connect",
            "add `listeners: [{ bind: [\"127.0.0.1:443\"] }]`",
        );
    }
    let mut listeners: Vec<Listener> = Vec::new();
    let mut taken: Vec<(SocketAddr, String)> = Vec::new();
    if let Some(admin) = admin {
        taken.push((admin, "the admin server".to_owned()));
    }
    for (index, raw) in written.iter().enumerate() {
        let at = format!("listeners[{index}]");
        let listener = one(check, &at, raw, routes, &mut taken);
        if listeners.iter().any(|other| other.name == listener.name) {
            check.findings.add(
                &format!("{at}.name"),
                format!("two listeners are called `{}`", listener.name),
                "give each a `name:` of its own",
            );
        }
        listeners.push(listener);
    }
    listeners
}

fn one(
    check: &mut Check<'_>,
    at: &str,
    raw: &raw::Listener,
    routes: &[Route],
    taken: &mut Vec<(SocketAddr, String)>,
) -> Listener {
    let key = |key: &str| format!("{at}.{key}");
    if let Some(name) = &raw.name {
        check.name(&key("name"), name);
    }
    let first = raw.bind.as_deref().and_then(<[String]>::first);
    let name = raw.name.as_ref().or(first).cloned().unwrap_or_else(|| at.to_owned());
    let bind = binds(check, at, &name, raw.bind.as_deref(), taken);
    let (day, month) = (Duration::from_secs(86_400), Duration::from_secs(30 * 86_400));
    let listener = Listener {
        bind,
        accept: accept(check, at, raw.accept.as_deref()),
        tunnel: tunnel(check, at, raw.tunnel.as_deref(), routes),
        max_age: raw
            .max_age
            .map(|age| check.span(&key("max_age"), Some(age), day, Duration::from_secs(1)..=month)),
        connect_credentials: raw.connect_credentials.as_ref().map(|asked| {
            let at = key("connect_credentials.basic");
            check.basic(&at, &asked.basic.username, &asked.basic.password)
        }),
        networks: check.networks(&key("networks"), raw.networks.as_deref()),
        sender_certificates: certificates(check, at, raw.sender_certificates.as_ref()),
        proxy_protocol: proxy_protocol(check, at, raw.proxy_protocol.as_ref()),
        signatures: signatures(check, at, raw.signatures.as_ref()),
        default_host: default_host(check, at, raw.default_host.as_deref(), routes),
        name,
    };
    contradictions(check, at, &listener);
    networks_required(check, at, &listener, routes);
    listener
}

fn binds(
    check: &mut Check<'_>,
    at: &str,
    name: &str,
    written: Option<&[String]>,
    taken: &mut Vec<(SocketAddr, String)>,
) -> Vec<SocketAddr> {
    let written = written.unwrap_or_default();
    if written.is_empty() {
        check.findings.missing(
            &format!("{at}.bind"),
            "`bind` is missing: the listener has no socket",
            "add `bind: [\"0.0.0.0:443\"]`",
        );
    }
    let mut binds = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let at = format!("{at}.bind[{index}]");
        let Ok(address) = text.parse::<SocketAddr>() else {
            check.findings.add(
                &at,
                "this is not ADDRESS:PORT",
                "write 0.0.0.0:443 for every IPv4 address, [::]:443 for every IPv6 address",
            );
            continue;
        };
        if let Some((_, owner)) = taken.iter().find(|(other, _)| collide(*other, address)) {
            check.findings.add(
                &at,
                format!("{address} is already taken by {owner}"),
                "give each socket an address or a port of its own",
            );
        }
        taken.push((address, format!("listener `{name}`")));
        binds.push(address);
    }
    binds
}

/// Two sockets of one family and port collide when either takes every address; port 0 never does.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let wild = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port()
        && a.port() != 0
        && a.is_ipv4() == b.is_ipv4()
        && (wild || a.ip() == b.ip())
}

fn accept(check: &mut Check<'_>, at: &str, written: Option<&[raw::Protocols]>) -> Accept {
    let Some(written) = written else {
        return Accept { tls: true, connect: false, plain: false };
    };
    if written.is_empty() {
        check.findings.missing(
            &format!("{at}.accept"),
            "nothing is accepted: nobody could connect",
            "write [tls], [connect], [plain] or several of them",
        );
    }
    let has = |one| written.contains(&one);
    Accept {
        tls: has(raw::Protocols::Tls),
        connect: has(raw::Protocols::Connect),
        plain: has(raw::Protocols::Plain),
    }
}

fn tunnel(
    check: &mut Check<'_>,
    at: &str,
    written: Option<&[String]>,
    routes: &[Route],
) -> Vec<Authority> {
    let mut targets: Vec<Authority> = Vec::new();
    for (index, text) in written.unwrap_or_default().iter().enumerate() {
        let at = format!("{at}.tunnel[{index}]");
        match text.parse::<Authority>() {
            Ok(target) => {
                let hosts = routes.iter().flat_map(|route| &route.hosts);
                if hosts.into_iter().any(|host| Some(&host.host) == target.host.name()) {
                    check.findings.add(
                        &at,
                        "a route carries this host already",
                        "leave it out; `tls: passthrough` on the route carries it untouched",
                    );
                }
                targets.push(target);
            }
            Err(error) => check.findings.add(&at, error.to_string(), "write HOST:PORT"),
        }
    }
    targets
}

fn certificates(
    check: &mut Check<'_>,
    at: &str,
    written: Option<&raw::SenderCertificates>,
) -> Option<SenderCertificates> {
    let written = written?;
    let at = format!("{at}.sender_certificates");
    let roots = match &written.roots {
        Some(raw::OneOrMany::One(one)) => {
            let one = std::slice::from_ref(one);
            check.roots(&format!("{at}.roots"), one)
        }
        Some(raw::OneOrMany::Many(many)) => check.roots(&format!("{at}.roots"), many),
        None => {
            check.findings.missing(
                &format!("{at}.roots"),
                "`roots` is missing: nobody could say whose certificates are good",
                "add `roots: certs/senders.pem`",
            );
            Vec::new()
        }
    };
    Some(SenderCertificates { roots, require: written.require.unwrap_or(true) })
}

fn proxy_protocol(
    check: &mut Check<'_>,
    at: &str,
    written: Option<&raw::ProxyProtocol>,
) -> Vec<ipnet::IpNet> {
    let Some(written) = written else { return Vec::new() };
    let at = format!("{at}.proxy_protocol.from");
    let from = check.networks(&at, written.from.as_deref());
    if from.is_empty() {
        check.findings.missing(
            &at,
            "`from` is missing: nobody would be believed",
            "add the balancers' networks: from: [10.20.0.5/32]",
        );
    }
    from
}

fn signatures(
    check: &mut Check<'_>,
    at: &str,
    written: Option<&raw::Signatures>,
) -> Vec<SecretSource> {
    let Some(written) = written else { return Vec::new() };
    let at = format!("{at}.signatures.keys");
    let keys = written.keys.as_deref().unwrap_or_default();
    if keys.is_empty() {
        check.findings.missing(
            &at,
            "`keys` is missing: no signature could be good",
            "add `keys: [certs/chain.key]`",
        );
    }
    let keys = keys.iter().enumerate();
    keys.map(|(index, key)| SecretSource::File(check.file(&format!("{at}[{index}]"), key)))
        .collect()
}

fn default_host(
    check: &mut Check<'_>,
    at: &str,
    written: Option<&str>,
    routes: &[Route],
) -> Option<HostName> {
    let at = format!("{at}.default_host");
    let host = match written?.parse::<HostName>() {
        Ok(host) => host,
        Err(error) => {
            check.findings.add(&at, error.to_string(), "write a host of one of the routes");
            return None;
        }
    };
    let ended = routes.iter().filter(|route| route.tls == TlsMode::Terminate);
    let known: Vec<&str> =
        ended.flat_map(|route| &route.hosts).map(|host| host.host.as_str()).collect();
    if !known.contains(&host.as_str()) && !check.findings.is_unread("routes") {
        let hint = match nearest(host.as_str(), known.iter().copied()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => "write a host of a route whose TLS ends here".to_owned(),
        };
        check.findings.add(&at, format!("no route carries `{host}`, so it has no leaf"), hint);
    }
    Some(host)
}

/// Keys that need another one to mean anything.
fn contradictions(check: &mut Check<'_>, at: &str, listener: &Listener) {
    let Accept { tls, connect, plain } = listener.accept;
    let nothing = !tls && !connect && !plain;
    let needs = [
        ("connect_credentials", listener.connect_credentials.is_some(), connect, "connect"),
        ("tunnel", !listener.tunnel.is_empty(), connect, "connect"),
        ("sender_certificates", listener.sender_certificates.is_some(), tls || connect, "tls"),
        ("default_host", listener.default_host.is_some(), tls || connect, "tls"),
    ];
    for (key, written, met, word) in needs {
        if written && !met && !nothing {
            check.findings.add(
                &format!("{at}.{key}"),
                format!("`{key}` has no meaning where `accept` lacks `{word}`"),
                format!("add `{word}` to `accept`, or leave the key out"),
            );
        }
    }
}

/// A relay that anybody may use is an open proxy. Certificates replace `networks` only where
/// nothing passes without one: CONNECT, cleartext and passthrough do.
fn networks_required(check: &mut Check<'_>, at: &str, listener: &Listener, routes: &[Route]) {
    let local =
        !listener.bind.is_empty() && listener.bind.iter().all(|bind| bind.ip().is_loopback());
    let required = listener.sender_certificates.as_ref().is_some_and(|one| one.require);
    let only_tls = !listener.accept.connect && !listener.accept.plain;
    let untouched = routes.iter().any(|route| route.tls == TlsMode::Passthrough);
    if !listener.networks.is_empty() || local || listener.bind.is_empty() {
        return;
    }
    if required && only_tls && !untouched {
        return;
    }
    // Somebody wrote networks, and what is wrong with them is told already.
    let written = format!("{at}.networks[");
    if check.findings.problems.iter().any(|problem| problem.path.starts_with(&written)) {
        return;
    }
    let message = if required {
        "`networks` is missing: CONNECT, plain and passthrough show no certificate"
    } else {
        "`networks` is missing: anybody could use this listener"
    };
    check.findings.missing(
        &format!("{at}.networks"),
        message,
        "add who may connect, such as `networks: [10.20.0.0/16]`, or bind to 127.0.0.1",
    );
}
