//! The configuration as a relay.yaml with every default filled in: `check --effective`.
//!
//! Written from what the relay will really do, not from what was read. Secrets stay where they
//! are: only their places are named. Paths are absolute, so the text means the same anywhere.

use std::fmt;
use std::path::Path;

use super::raw::{self, OneOrMany, Size, Span};
use super::{
    BasicCredentials, Config, Egress, EgressProxy, KeyPairFiles, Listener, LogFormat, NextHop,
    PathPattern, Placement, Protocol, ProxyCredentials, RootSource, Route, Scheme, SecretSource,
    TlsMode, WhenUnknown, WhenUnsent,
};
use crate::provider::{Dialect, Environment, Provider};

impl Config {
    /// This configuration as YAML; reading it gives an equal one.
    ///
    /// # Errors
    /// Never in practice: the writer only fails when memory does.
    pub fn effective(&self) -> Result<String, fmt::Error> {
        let mut text = raw::write(&file(self))?;
        if self.issuer.is_none() {
            let KeyPairFiles { chain, key } = self.issuer_files();
            text.push_str(&format!(
                "# issuer: {} and {}, when they exist\n",
                chain.display(),
                key.display()
            ));
        }
        Ok(text)
    }
}

fn file(config: &Config) -> raw::File {
    raw::File {
        version: Some(1),
        placement: config.placement.map(|placement| match placement {
            Placement::Pre => raw::Placement::Pre,
            Placement::Post => raw::Placement::Post,
        }),
        drain: Some(Span(config.drain)),
        listeners: Some(config.listeners.iter().map(|one| listener(one)).collect()),
        routes: Some(config.routes.iter().map(|one| route(one)).collect()),
        egress: Some(
            config.egress.iter().map(|(name, one)| (name.to_string(), egress(one))).collect(),
        ),
        issuer: config.issuer.as_ref().map(key_pair),
        leaves: Some(config.leaves.iter().map(key_pair).collect()),
        limits: Some(raw::Limits {
            connections: Some(config.limits.connections),
            exchanges: Some(config.limits.exchanges),
            head: Some(Size(config.limits.head)),
            body: Some(Size(config.limits.body)),
        }),
        admin: Some(raw::Admin {
            bind: Some(config.admin.bind.map_or_else(|| "off".to_owned(), |bind| bind.to_string())),
            networks: Some(strings(&config.admin.networks)),
            token: config.admin.token.as_ref().map(secret),
            probe: Some(if config.admin.probe { raw::Switch::On } else { raw::Switch::Off }),
        }),
        log: Some(log(config)),
        audit: Some(raw::Audit {
            path: config.audit.path.as_deref().map(text),
            when_full: Some(match config.audit.refuse_when_full {
                true => raw::WhenFull::Refuse,
                false => raw::WhenFull::Drop,
            }),
        }),
    }
}

fn log(config: &Config) -> raw::Log {
    raw::Log {
        format: Some(match config.log.format {
            LogFormat::Text => raw::LogFormat::Text,
            LogFormat::Json => raw::LogFormat::Json,
            LogFormat::Journald => raw::LogFormat::Journald,
        }),
        level: Some(match config.log.level.as_str() {
            "error" => raw::Level::Error,
            "warn" => raw::Level::Warn,
            "debug" => raw::Level::Debug,
            "trace" => raw::Level::Trace,
            _ => raw::Level::Info,
        }),
        access: Some(if config.log.access { raw::Switch::On } else { raw::Switch::Off }),
        sample: Some(config.log.sample),
    }
}

fn strings<T: ToString>(values: &[T]) -> Vec<String> {
    values.iter().map(ToString::to_string).collect()
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

fn key_pair(pair: &KeyPairFiles) -> raw::KeyPair {
    raw::KeyPair { chain: text(&pair.chain), key: text(&pair.key) }
}

fn secret(source: &SecretSource) -> raw::SecretSource {
    match source {
        SecretSource::Credential(name) => raw::SecretSource::Credential(name.clone()),
        SecretSource::Env(name) => raw::SecretSource::Env(name.clone()),
        SecretSource::File(path) => raw::SecretSource::File(text(path)),
    }
}

/// Keys that are only ever files in relay.yaml.
fn key_file(source: &SecretSource) -> Option<String> {
    match source {
        SecretSource::File(path) => Some(text(path)),
        SecretSource::Credential(_) | SecretSource::Env(_) => None,
    }
}

fn basic(credentials: &BasicCredentials) -> raw::Basic {
    raw::Basic { username: credentials.username.clone(), password: secret(&credentials.password) }
}

fn roots(sources: &[RootSource]) -> Vec<String> {
    let words = sources.iter().map(|source| match source {
        RootSource::Bundled => "bundled".to_owned(),
        RootSource::File(path) => text(path),
        RootSource::System => "system".to_owned(),
    });
    words.collect()
}

fn listener(listener: &Listener) -> raw::Listener {
    let accept = [
        (listener.accept.tls, raw::Protocols::Tls),
        (listener.accept.connect, raw::Protocols::Connect),
        (listener.accept.plain, raw::Protocols::Plain),
    ];
    let list = |list: &[SecretSource]| list.iter().filter_map(key_file).collect::<Vec<_>>();
    // A name that stands for the first bind is no name that could be written.
    let unnamed = listener.bind.first().is_some_and(|bind| bind.to_string() == listener.name);
    raw::Listener {
        name: (!unnamed).then(|| listener.name.clone()),
        bind: Some(strings(&listener.bind)),
        accept: Some(accept.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect()),
        tunnel: listener.accept.connect.then(|| strings(&listener.tunnel)),
        max_age: listener.max_age.map(Span),
        connect_credentials: listener
            .connect_credentials
            .as_ref()
            .map(|asked| raw::ConnectCredentials { basic: basic(asked) }),
        networks: Some(strings(&listener.networks)),
        sender_certificates: listener.sender_certificates.as_ref().map(|one| {
            raw::SenderCertificates {
                roots: Some(OneOrMany::Many(roots(&one.roots))),
                require: Some(one.require),
            }
        }),
        proxy_protocol: (!listener.proxy_protocol.is_empty())
            .then(|| raw::ProxyProtocol { from: Some(strings(&listener.proxy_protocol)) }),
        signatures: (!listener.signatures.is_empty())
            .then(|| raw::Signatures { keys: Some(list(&listener.signatures)) }),
        default_host: listener.default_host.as_ref().map(ToString::to_string),
    }
}

fn route(route: &Route) -> raw::Route {
    let apns = route.hosts.iter().any(|host| host.dialect == Dialect::Apns);
    let seen = route.tls == TlsMode::Terminate;
    let mut written = raw::Route {
        egress: Some(route.egress.to_string()),
        tls: Some(if seen { raw::Tls::Terminate } else { raw::Tls::Passthrough }),
        body: seen.then_some(Size(route.body)),
        deadline: Some(Span(route.deadline)),
        provider_identity: route.provider_identity.as_ref().map(key_pair),
        next_hop: Some(match &route.next_hop {
            NextHop::Origin => raw::NextHop::Origin,
            NextHop::Relay { sign_with } => raw::NextHop::Relay(raw::RelayHop {
                sign_with: sign_with.as_ref().and_then(key_file),
            }),
        }),
        ..raw::Route::default()
    };
    if apns {
        written.topics = Some(route.topics.clone());
        written.teams = Some(route.teams.clone());
        written.keys = Some(route.keys.clone());
        written.when_unsent = seen.then_some(match route.when_unsent {
            WhenUnsent::Answer => raw::WhenUnsent::Answer,
            WhenUnsent::Auto => raw::WhenUnsent::Auto,
            WhenUnsent::Refuse => raw::WhenUnsent::Refuse,
        });
        written.when_unknown = seen.then_some(match route.when_unknown {
            WhenUnknown::Final => raw::WhenUnknown::Final,
            WhenUnknown::Retry => raw::WhenUnknown::Retry,
        });
    }
    match route.provider {
        Provider::Apns => apns_preset(route, &mut written),
        Provider::Fcm => written.provider = Some(raw::Provider::Fcm),
        Provider::Mattermost => written.provider = Some(raw::Provider::Mattermost),
        Provider::Own => own(route, &mut written),
    }
    // A name that stands for the first host is no name that needs to be written.
    if route.hosts.first().is_none_or(|host| host.host.as_str() != route.name) {
        written.name = Some(route.name.clone());
    }
    written
}

fn apns_preset(route: &Route, written: &mut raw::Route) {
    written.provider = Some(raw::Provider::Apns);
    let carries = |wanted: Environment| {
        let presets = Provider::Apns.hosts().iter().filter(|host| host.environment == Some(wanted));
        let mut presets = presets.map(|preset| preset.host);
        presets.any(|name| route.hosts.iter().any(|host| host.host.as_str() == name))
    };
    let both = [
        (Environment::Production, raw::Environment::Production),
        (Environment::Sandbox, raw::Environment::Sandbox),
    ];
    let carried = both.iter().filter(|(wanted, _)| carries(*wanted));
    written.environments = Some(carried.map(|(_, word)| *word).collect());
    // The device host of each environment stands first.
    written.ports = route.hosts.first().map(|host| host.ports.clone());
}

fn own(route: &Route, written: &mut raw::Route) {
    let Some(first) = route.hosts.first() else { return };
    let scheme = match first.scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    };
    let ports = first.ports.first().map_or_else(String::new, |port| format!(":{port}"));
    let methods = first.permitted.first().map(|one| strings(&one.methods));
    let any = |path: &PathPattern| *path == PathPattern::Prefix(String::new());
    let paths = first.permitted.iter().map(|one| &one.path).filter(|path| !any(path));
    written.hosts = Some(route.hosts.iter().map(|host| host.host.to_string()).collect());
    written.origin = Some(format!("{scheme}://{}{ports}", first.origin));
    written.methods = methods.filter(|methods| !methods.is_empty());
    written.paths =
        Some(paths.map(ToString::to_string).collect::<Vec<_>>()).filter(|all| !all.is_empty());
    written.protocol = Some(match first.protocol {
        Protocol::Auto => raw::Protocol::Auto,
        Protocol::H2 => raw::Protocol::H2,
        Protocol::Http1 => raw::Protocol::Http1,
    });
    written.dialect = Some(match first.dialect {
        Dialect::Apns => raw::Dialect::Apns,
        Dialect::Fcm | Dialect::OAuth2 => raw::Dialect::Fcm,
        Dialect::Mattermost => raw::Dialect::Mattermost,
        Dialect::Plain => raw::Dialect::Plain,
    });
}

fn egress(egress: &Egress) -> raw::Egress {
    let servers = match egress.dns.servers.as_slice() {
        [] => OneOrMany::One("system".to_owned()),
        servers => OneOrMany::Many(strings(servers)),
    };
    let pairs = egress.connect_to.iter().map(|(from, to)| (from.to_string(), to.to_string()));
    raw::Egress {
        proxies: Some(egress.proxies.iter().map(proxy).collect()),
        roots: Some(roots(&egress.roots)),
        dns: Some(raw::Dns {
            servers: Some(servers),
            hosts_file: Some(match egress.dns.hosts_file {
                true => raw::HostsFile::Use,
                false => raw::HostsFile::Never,
            }),
        }),
        connect_to: Some(pairs.collect()),
        source: egress.source.map(|source| source.to_string()),
        post_quantum: Some(egress.post_quantum),
        assume_h2: Some(egress.assume_h2),
        lane: Some(raw::Lane {
            connections: Some(egress.lane.connections),
            http1_connections: Some(egress.lane.http1_connections),
            streams: Some(egress.lane.streams),
            lanes: Some(egress.lane.lanes),
            queue: Some(egress.lane.queue),
            ping: Some(Span(egress.lane.ping)),
            dials_per_second: Some(egress.lane.dials_per_second),
        }),
    }
}

fn proxy(proxy: &EgressProxy) -> raw::Proxy {
    let scheme = if proxy.tls { "https" } else { "http" };
    raw::Proxy {
        url: format!("{scheme}://{}", proxy.authority),
        credentials: proxy.credentials.as_ref().map(|credentials| match credentials {
            ProxyCredentials::Basic(one) => raw::Credentials::Basic(basic(one)),
            ProxyCredentials::Negotiate { spn } => {
                raw::Credentials::Negotiate(raw::Negotiate { spn: spn.clone() })
            }
            ProxyCredentials::Ntlm { domain, basic } => raw::Credentials::Ntlm(raw::Ntlm {
                domain: (!domain.is_empty()).then(|| domain.clone()),
                username: basic.username.clone(),
                password: secret(&basic.password),
            }),
        }),
        roots: proxy.tls.then(|| roots(&proxy.roots)),
    }
}
