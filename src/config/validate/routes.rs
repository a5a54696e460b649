//! `routes:`: presets expanded, routes of one's own read, contradictions found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::check::Check;
use super::{overlap, paths, process, urls};
use crate::config::problem::nearest;
use crate::config::raw;
use crate::config::{
    EgressName, Limits, NextHop, PathPattern, Permitted, Protocol, Route, RouteHost, Scheme,
    SecretSource, TlsMode, WhenUnknown, WhenUnsent,
};
use crate::names::{Authority, HostName};
use crate::provider::{Dialect, Environment, PresetHost, Provider};

/// The names of the ways out, and whether the file defines any.
#[derive(Debug)]
pub(super) struct WaysOut {
    names: BTreeSet<String>,
    defined: bool,
}

impl WaysOut {
    pub(super) fn new(written: Option<&BTreeMap<String, raw::Egress>>) -> Self {
        let mut names: BTreeSet<String> =
            written.into_iter().flat_map(BTreeMap::keys).cloned().collect();
        let defined = !names.is_empty();
        names.insert(EgressName::DIRECT.to_owned());
        Self { names, defined }
    }
}

pub(super) fn all(
    check: &mut Check<'_>,
    written: Option<&[raw::Route]>,
    ways_out: &WaysOut,
    limits: &Limits,
) -> Vec<Route> {
    let written = written.unwrap_or_default();
    if written.is_empty() {
        check.findings.missing(
            "routes",
            "there is no route: nothing would be carried",
            "add `routes: [{ provider: apns }]`",
        );
    }
    let mut routes: Vec<Route> = Vec::new();
    for (index, raw) in written.iter().enumerate() {
        let at = format!("routes[{index}]");
        let route = one(check, &at, raw, ways_out, limits);
        if routes.iter().any(|other| other.name == route.name) {
            check.findings.add(
                &format!("{at}.name"),
                format!("two routes are called `{}`", route.name),
                "give each a `name:` of its own",
            );
        }
        routes.push(route);
    }
    overlap::find(check, &routes);
    routes
}

fn one(
    check: &mut Check<'_>,
    at: &str,
    raw: &raw::Route,
    ways_out: &WaysOut,
    limits: &Limits,
) -> Route {
    let provider = match raw.provider {
        Some(raw::Provider::Apns) => Provider::Apns,
        Some(raw::Provider::Fcm) => Provider::Fcm,
        Some(raw::Provider::Mattermost) => Provider::Mattermost,
        None => Provider::Own,
    };
    // Nothing can be said about a route whose provider could not be read.
    let unread = check.findings.is_unread(&format!("{at}.provider"));
    let hosts = match provider {
        Provider::Own if unread => Vec::new(),
        Provider::Own => own_hosts(check, at, raw),
        Provider::Apns | Provider::Fcm | Provider::Mattermost => {
            preset_hosts(check, at, provider, raw)
        }
    };
    if !unread {
        only_where_meant(check, at, provider, raw);
    }
    let tls = match raw.tls {
        Some(raw::Tls::Passthrough) => TlsMode::Passthrough,
        Some(raw::Tls::Terminate) | None => TlsMode::Terminate,
    };
    if tls == TlsMode::Passthrough {
        nothing_to_see(check, at, raw, &hosts);
    }
    let key = |key: &str| format!("{at}.{key}");
    let limit = provider.body().unwrap_or(limits.body);
    let longest = Duration::from_secs(600);
    Route {
        name: name(check, at, provider, raw),
        provider,
        hosts: hosts.into_iter().map(Arc::new).collect(),
        egress: egress(check, at, raw.egress.as_deref(), ways_out),
        topics: words(check, &key("topics"), raw.topics.as_deref(), None),
        teams: words(check, &key("teams"), raw.teams.as_deref(), Some(10)),
        keys: words(check, &key("keys"), raw.keys.as_deref(), Some(10)),
        body: check.size(&key("body"), raw.body, limit, 1..=process::LARGEST_BODY),
        tls,
        when_unsent: when_unsent(provider, raw),
        when_unknown: match raw.when_unknown {
            Some(raw::WhenUnknown::Retry) => WhenUnknown::Retry,
            Some(raw::WhenUnknown::Final) | None => WhenUnknown::Final,
        },
        deadline: check.span(
            &key("deadline"),
            raw.deadline,
            provider.deadline(),
            Duration::from_millis(100)..=longest,
        ),
        provider_identity: raw
            .provider_identity
            .as_ref()
            .map(|pair| check.key_pair(&key("provider_identity"), pair)),
        next_hop: next_hop(check, at, raw.next_hop.as_ref()),
    }
}

fn name(check: &mut Check<'_>, at: &str, provider: Provider, raw: &raw::Route) -> String {
    match (&raw.name, provider) {
        (Some(name), _) => {
            check.name(&format!("{at}.name"), name);
            name.clone()
        }
        (None, Provider::Own) => raw
            .hosts
            .as_deref()
            .and_then(<[String]>::first)
            .cloned()
            .unwrap_or_else(|| at.to_owned()),
        (None, Provider::Apns | Provider::Fcm | Provider::Mattermost) => provider.word().to_owned(),
    }
}

fn egress(
    check: &mut Check<'_>,
    at: &str,
    written: Option<&str>,
    ways_out: &WaysOut,
) -> EgressName {
    let at = format!("{at}.egress");
    let known = ways_out.names.iter().map(String::as_str);
    let list = || known.clone().collect::<Vec<_>>().join(", ");
    match written {
        None if ways_out.defined => {
            check.findings.missing(
                &at,
                "`egress` is missing: once `egress:` defines a way out, every route names its own",
                format!("add `egress:` with one of: {}", list()),
            );
            EgressName::direct()
        }
        None => EgressName::direct(),
        Some(name) => {
            let unread = check.findings.is_unread(&raw::join("egress", name))
                || check.findings.is_unread("egress") && !ways_out.defined;
            if !ways_out.names.contains(name) && !unread {
                let hint = match nearest(name, known.clone()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("defined: {}", list()),
                };
                let name = crate::hop::clean(name.as_bytes(), 60);
                check.findings.add(&at, format!("`egress:` defines no `{name}`"), hint);
            }
            EgressName(name.into())
        }
    }
}

const fn when_unsent(provider: Provider, raw: &raw::Route) -> WhenUnsent {
    match (raw.when_unsent, provider) {
        (Some(raw::WhenUnsent::Auto), _) | (None, Provider::Apns) => WhenUnsent::Auto,
        (Some(raw::WhenUnsent::Refuse), _) => WhenUnsent::Refuse,
        (Some(raw::WhenUnsent::Answer), _)
        | (None, Provider::Fcm | Provider::Mattermost | Provider::Own) => WhenUnsent::Answer,
    }
}

fn next_hop(check: &mut Check<'_>, at: &str, written: Option<&raw::NextHop>) -> NextHop {
    match written {
        None | Some(raw::NextHop::Origin) => NextHop::Origin,
        Some(raw::NextHop::Relay(relay)) => {
            let at = format!("{at}.next_hop.relay.sign_with");
            let file = relay.sign_with.as_deref().map(|file| check.file(&at, file));
            NextHop::Relay { sign_with: file.map(SecretSource::File) }
        }
    }
}

/// Topics, teams, key ids: not empty, each once; ids of Apple have 10 characters.
fn words(
    check: &mut Check<'_>,
    at: &str,
    written: Option<&[String]>,
    length: Option<usize>,
) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (index, word) in written.unwrap_or_default().iter().enumerate() {
        let at = format!("{at}[{index}]");
        let id = word.len() == length.unwrap_or(word.len())
            && word.bytes().all(|b| b.is_ascii_graphic());
        if word.is_empty() || !id {
            let hint = match length {
                Some(length) => format!("Apple's ids have {length} characters, such as ABCDE12345"),
                None => "write it as the sender does, such as com.example.chat".to_owned(),
            };
            check.findings.add(&at, "this cannot be right", hint);
        } else if words.contains(word) {
            check.findings.add(&at, "this stands in the list twice", "keep one");
        } else {
            words.push(word.clone());
        }
    }
    words
}

/// Keys that mean something on other routes only.
fn only_where_meant(check: &mut Check<'_>, at: &str, provider: Provider, raw: &raw::Route) {
    let own_apns = provider == Provider::Own && raw.dialect == Some(raw::Dialect::Apns);
    let apns = provider == Provider::Apns;
    let preset = provider != Provider::Own;
    let wrong = [
        ("environments", raw.environments.is_some() && !apns, "APNs routes"),
        (
            "ports",
            raw.ports.is_some() && !apns,
            "APNs routes; an own route has its port in `origin`",
        ),
        ("topics", raw.topics.is_some() && !apns && !own_apns, "APNs routes"),
        ("teams", raw.teams.is_some() && !apns && !own_apns, "APNs routes"),
        ("keys", raw.keys.is_some() && !apns && !own_apns, "APNs routes"),
        ("provider_identity", raw.provider_identity.is_some() && !apns && !own_apns, "APNs routes"),
        ("when_unsent", raw.when_unsent.is_some() && !apns && !own_apns, "APNs routes"),
        ("when_unknown", raw.when_unknown.is_some() && !apns && !own_apns, "APNs routes"),
        ("hosts", raw.hosts.is_some() && preset, "routes without `provider`"),
        (
            "origin",
            raw.origin.is_some() && preset,
            "routes without `provider`; `connect_to` of the egress dials elsewhere",
        ),
        ("protocol", raw.protocol.is_some() && preset, "routes without `provider`"),
        ("dialect", raw.dialect.is_some() && preset, "routes without `provider`"),
        ("methods", raw.methods.is_some() && preset, "routes without `provider`"),
        ("paths", raw.paths.is_some() && preset, "routes without `provider`"),
    ];
    for (key, wrong, where_meant) in wrong {
        if wrong {
            check.findings.add(
                &format!("{at}.{key}"),
                format!("`{key}` has no meaning on this route"),
                format!("leave it out; it belongs to {where_meant}"),
            );
        }
    }
}

/// What a relay cannot do to TLS that it does not end.
fn nothing_to_see(check: &mut Check<'_>, at: &str, raw: &raw::Route, hosts: &[RouteHost]) {
    let some = |list: &Option<Vec<String>>| list.as_ref().is_some_and(|list| !list.is_empty());
    let blind = [
        (
            "provider_identity",
            raw.provider_identity.is_some(),
            "the sender shows its own certificate",
        ),
        ("topics", some(&raw.topics), "topics are inside the TLS"),
        ("teams", some(&raw.teams), "tokens are inside the TLS"),
        ("keys", some(&raw.keys), "tokens are inside the TLS"),
        ("methods", some(&raw.methods), "methods are inside the TLS"),
        ("paths", some(&raw.paths), "paths are inside the TLS"),
        ("body", raw.body.is_some(), "bodies are inside the TLS"),
        ("when_unsent", raw.when_unsent.is_some(), "the relay answers nothing inside the TLS"),
        ("when_unknown", raw.when_unknown.is_some(), "the relay answers nothing inside the TLS"),
        (
            "next_hop",
            matches!(raw.next_hop, Some(raw::NextHop::Relay(_))),
            "nothing can be signed inside the TLS",
        ),
    ];
    for (key, written, why) in blind {
        if written {
            check.findings.add(
                &format!("{at}.{key}"),
                format!("`{key}` contradicts `tls: passthrough`: {why}"),
                "leave it out, or write `tls: terminate`",
            );
        }
    }
    if raw.provider.is_none() && hosts.iter().any(|host| host.scheme == Scheme::Http) {
        check.findings.add(
            &format!("{at}.tls"),
            "an http:// origin has no TLS to carry",
            "write `tls: terminate`, or an https:// origin",
        );
    }
}

fn preset_hosts(
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

fn own_hosts(check: &mut Check<'_>, at: &str, raw: &raw::Route) -> Vec<RouteHost> {
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
