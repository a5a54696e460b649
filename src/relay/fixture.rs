//! Configurations, heads and senders for the tests of this module's parts.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, Method};

use crate::config::{
    Accept, Admin, Audit, Config, EgressName, Limits, Listener, Log, LogFormat, NextHop,
    PathPattern, Permitted, Protocol, Route, RouteHost, Scheme, TlsMode, WhenUnknown, WhenUnsent,
};
use crate::downstream::{Head, Sender, SenderTls, Wire};
use crate::names::Authority;
use crate::provider::{Dialect, Provider};

pub(crate) fn config(routes: Vec<Route>) -> Config {
    Config {
        places: Arc::default(),
        path: PathBuf::from("relay.yaml"),
        placement: None,
        drain: Duration::from_secs(60),
        listeners: vec![listener()],
        routes: routes.into_iter().map(Arc::new).collect(),
        egress: BTreeMap::new(),
        issuer: None,
        leaves: Vec::new(),
        limits: Limits { connections: 100, exchanges: 100, head: 16384, body: 16384 },
        admin: Admin { bind: None, networks: Vec::new(), token: None, probe: true },
        log: Log { format: LogFormat::Text, level: "info".into(), access: true, sample: 1 },
        audit: Audit { path: None, refuse_when_full: false },
    }
}

pub(crate) fn listener() -> Arc<Listener> {
    Arc::new(Listener {
        name: "dmz".into(),
        bind: Vec::new(),
        accept: Accept { tls: true, connect: true, plain: false },
        tunnel: Vec::new(),
        max_age: None,
        connect_credentials: None,
        networks: Vec::new(),
        sender_certificates: None,
        proxy_protocol: Vec::new(),
        signatures: Vec::new(),
        default_host: None,
    })
}

fn rule(methods: &[Method], path: PathPattern) -> Permitted {
    Permitted { methods: methods.to_vec(), path }
}

pub(crate) fn apns_route(name: &str, hosts: &[&str]) -> Route {
    let manage = [Method::POST, Method::GET, Method::DELETE];
    let permitted = vec![
        rule(&[Method::POST], PathPattern::Prefix("/3/device/".into())),
        rule(&[Method::POST], PathPattern::Prefix("/4/broadcasts/apps/".into())),
        rule(&manage, PathPattern::Segment("/1/apps/".into(), "/channels".into())),
        rule(&manage, PathPattern::Segment("/1/apps/".into(), "/all-channels".into())),
    ];
    let host = |host: &&str| {
        Arc::new(RouteHost {
            host: host.parse().unwrap(),
            scheme: Scheme::Https,
            origin: host.parse().unwrap(),
            ports: vec![443, 2197],
            permitted: permitted.clone(),
            dialect: Dialect::Apns,
            protocol: Protocol::H2,
        })
    };
    Route { hosts: hosts.iter().map(host).collect(), ..bare(name, Provider::Apns) }
}

pub(crate) fn own_route(name: &str, host: &str, origin: &str) -> Route {
    let (scheme, authority) = origin.split_once("://").unwrap();
    let authority: Authority = authority.parse().unwrap();
    let host = RouteHost {
        host: host.parse().unwrap(),
        scheme: if scheme == "https" { Scheme::Https } else { Scheme::Http },
        origin: authority.host,
        ports: vec![authority.port],
        permitted: vec![
            rule(&[Method::POST], PathPattern::Exact("/api/v1/send_push".into())),
            rule(&[Method::POST], PathPattern::Exact("/api/v1/ack".into())),
        ],
        dialect: Dialect::Mattermost,
        protocol: Protocol::Auto,
    };
    Route { hosts: vec![Arc::new(host)], ..bare(name, Provider::Own) }
}

fn bare(name: &str, provider: Provider) -> Route {
    Route {
        name: name.into(),
        provider,
        hosts: Vec::new(),
        egress: EgressName("direct".into()),
        topics: Vec::new(),
        teams: Vec::new(),
        keys: Vec::new(),
        body: 8192,
        tls: TlsMode::Terminate,
        when_unsent: WhenUnsent::Auto,
        when_unknown: WhenUnknown::Final,
        deadline: Duration::from_secs(7),
        provider_identity: None,
        next_hop: NextHop::Origin,
    }
}

pub(crate) fn head(method: &str, host: &str, target: &str) -> Head {
    Head {
        wire: Wire::Http2,
        method: method.parse().unwrap(),
        host: host.parse().unwrap(),
        port: None,
        target: target.into(),
        headers: HeaderMap::new(),
        started: Instant::now(),
    }
}

pub(crate) fn sender() -> Sender {
    Sender {
        connection: 1,
        listener: listener(),
        listener_index: 0,
        client: "10.20.0.9:50000".parse().unwrap(),
        local: "10.20.0.1:8443".parse().unwrap(),
        tls: Some(SenderTls::default()),
        connect_target: None,
        bearer: crate::relay::permit::bearer::Memo::default(),
    }
}

pub(crate) fn sender_with_sni(sni: Option<&str>) -> Sender {
    let sni = sni.map(|sni| sni.parse().unwrap());
    Sender { tls: Some(SenderTls { sni, ..SenderTls::default() }), ..sender() }
}

/// A provider token whose signature is nonsense.
pub(crate) fn bearer(team: &str, key: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"ES256","kid":"{key}"}}"#));
    let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"iss":"{team}","iat":1760000000}}"#));
    format!("bearer {header}.{claims}.c2lnbmF0dXJl")
}
