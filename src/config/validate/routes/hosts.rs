//! The hosts of a route: a preset expanded, or a route of one's own read.

use crate::config::raw;
use crate::config::validate::check::Check;
use crate::config::validate::{paths, urls};
use crate::config::{PathPattern, Permitted, Protocol, RouteHost, Scheme};
use crate::names::{Authority, HostName};
use crate::provider::{Dialect, Environment, PresetHost, Provider};

pub(super) fn preset_hosts(
    check: &mut Check<'_>,
    at: &str,
    provider: Provider,
    raw: &raw::Route,
) -> Vec<RouteHost> {
    let wanted = environments(check, at, raw);
    let ports = ports(check, at, raw);
    let chosen = |host: &&PresetHost| host.environment.is_none_or(|one| wanted.contains(&one));
    let mut hosts = Vec::new();
    for preset in provider.hosts().iter().filter(chosen) {
        // The table of a preset is tested to hold names only.
        let Ok(host) = preset.host.parse::<HostName>() else { continue };
        let settable = preset.ports == crate::provider::apns::PORTS;
        hosts.push(RouteHost {
            origin: host.clone().into(),
            host,
            scheme: if preset.tls { Scheme::Https } else { Scheme::Http },
            ports: if settable { ports.clone() } else { preset.ports.to_vec() },
            permitted: preset.permitted.iter().map(permitted).collect(),
            dialect: preset.dialect,
            protocol: if provider == Provider::Apns { Protocol::H2 } else { Protocol::Auto },
        });
    }
    hosts
}

fn permitted((methods, path): &(&[&str], &str)) -> Permitted {
    let methods = methods.iter().filter_map(|method| method.parse().ok()).collect();
    Permitted { methods, path: PathPattern::preset(path) }
}

fn environments(check: &mut Check<'_>, at: &str, raw: &raw::Route) -> Vec<Environment> {
    let Some(written) = &raw.environments else {
        return vec![Environment::Production, Environment::Sandbox];
    };
    if written.is_empty() {
        check.findings.missing(
            &format!("{at}.environments"),
            "no environment: the route would carry nothing",
            "write [production, sandbox], or one of them",
        );
    }
    let read = written.iter().map(|environment| match environment {
        raw::Environment::Production => Environment::Production,
        raw::Environment::Sandbox => Environment::Sandbox,
    });
    read.collect()
}

fn ports(check: &mut Check<'_>, at: &str, raw: &raw::Route) -> Vec<u16> {
    let ports = raw.ports.as_deref().unwrap_or(crate::provider::apns::PORTS);
    let at = format!("{at}.ports");
    if ports.is_empty() {
        check.findings.missing(&at, "no port: the route would lead nowhere", "write [443, 2197]");
    }
    for (index, port) in ports.iter().enumerate() {
        if *port == 0 || ports[..index].contains(port) {
            let at = format!("{at}[{index}]");
            check.findings.add(
                &at,
                "a port is from 1 to 65535 and stands once",
                "write [443, 2197]",
            );
        }
    }
    ports.to_vec()
}

pub(super) fn own_hosts(check: &mut Check<'_>, at: &str, raw: &raw::Route) -> Vec<RouteHost> {
    let names = raw.hosts.as_deref().unwrap_or_default();
    if names.is_empty() {
        check.findings.missing(
            &format!("{at}.hosts"),
            "the route has neither `provider` nor `hosts`",
            "write `provider: apns`, or `hosts: [NAME]` and `origin: https://HOST:PORT`",
        );
    }
    let origin = match &raw.origin {
        Some(url) => urls::base(check, &format!("{at}.origin"), url, None),
        None => {
            if !names.is_empty() {
                check.findings.missing(
                    &format!("{at}.origin"),
                    "`origin` is missing: a route of one's own says where it leads",
                    "add `origin: https://HOST:PORT`",
                );
            }
            None
        }
    };
    let protocol = protocol(check, at, raw, origin.as_ref().map(|(scheme, _)| *scheme));
    let permitted = paths::permitted(check, at, raw);
    let dialect = dialect(raw, &permitted);
    let mut hosts: Vec<RouteHost> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let at = format!("{at}.hosts[{index}]");
        match name.parse::<HostName>() {
            Ok(name) if hosts.iter().any(|host| host.host == name) => {
                check.findings.add(&at, "this host stands in the list twice", "keep one");
            }
            Ok(host) => {
                let Some((scheme, Authority { host: to, port })) = origin.clone() else { continue };
                hosts.push(RouteHost {
                    host,
                    scheme,
                    origin: to,
                    ports: vec![port],
                    permitted: permitted.clone(),
                    dialect,
                    protocol,
                });
            }
            Err(error) => check.findings.add(
                &at,
                error.to_string(),
                "write the name that senders use, without scheme and port",
            ),
        }
    }
    hosts
}

fn protocol(check: &mut Check<'_>, at: &str, raw: &raw::Route, scheme: Option<Scheme>) -> Protocol {
    match raw.protocol {
        Some(raw::Protocol::H2) => {
            if scheme == Some(Scheme::Http) {
                check.findings.add(
                    &format!("{at}.protocol"),
                    "HTTP/2 is negotiated inside TLS, and this origin is http://",
                    "write an https:// origin, or leave `protocol` out",
                );
            }
            Protocol::H2
        }
        Some(raw::Protocol::Http1) => Protocol::Http1,
        Some(raw::Protocol::Auto) | None => Protocol::Auto,
    }
}

/// Mattermost servers read their own dialect only, and they call these two paths.
fn dialect(raw: &raw::Route, permitted: &[Permitted]) -> Dialect {
    match raw.dialect {
        Some(raw::Dialect::Apns) => Dialect::Apns,
        Some(raw::Dialect::Fcm) => Dialect::Fcm,
        Some(raw::Dialect::Mattermost) => Dialect::Mattermost,
        Some(raw::Dialect::Plain) => Dialect::Plain,
        None => {
            let theirs = permitted.iter().any(|permitted| match &permitted.path {
                PathPattern::Exact(path) => path.ends_with("/send_push") || path.ends_with("/ack"),
                PathPattern::Prefix(_) | PathPattern::Segment(..) => false,
            });
            if theirs { Dialect::Mattermost } else { Dialect::Plain }
        }
    }
}
