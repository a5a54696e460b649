use super::*;

use std::path::PathBuf;

use crate::config::{Egress, EgressName, NextHop, PathPattern, Route, TlsMode};
use crate::provider::{Dialect, Provider};

const HEAD: &str = "version: 1\nlisteners: [{ name: a, bind: ['127.0.0.1:0'] }]\n";

fn file() -> PathBuf {
    PathBuf::from("/etc/pushrelay/relay.yaml")
}

fn valid(rest: &str) -> Config {
    Config::from_text(&format!("{HEAD}{rest}"), &file())
        .unwrap_or_else(|invalid| panic!("{rest}: {invalid}"))
}

fn invalid(text: &str) -> Vec<String> {
    let invalid = Config::from_text(text, &file()).expect_err(text);
    invalid
        .problems
        .iter()
        .map(|problem| format!("{}: {}", problem.path, problem.message))
        .collect()
}

/// Each problem alone, and said at its key.
fn refused(rest: &str, path: &str, word: &str) {
    let found = invalid(&format!("{HEAD}{rest}"));
    assert_eq!(found.len(), 1, "{rest}: {found:?}");
    assert!(found[0].starts_with(&format!("{path}: ")) && found[0].contains(word), "{found:?}");
}

fn route<'c>(config: &'c Config, name: &str) -> &'c Route {
    config.routes.iter().find(|route| route.name == name).unwrap()
}

#[test]
fn wrong_networks_are_not_missing_networks() {
    let text = "version: 1\nlisteners:\n  - { name: a, bind: ['0.0.0.0:443'], networks: [10.20.0.1-10.20.0.9] }\nroutes: [{ provider: fcm }]\n";
    assert_eq!(invalid(text), ["listeners[0].networks[0]: this is not a network"]);
}

#[test]
fn presets_expand_with_their_own_defaults() {
    let config =
        valid("routes: [{ provider: apns }, { provider: fcm }, { provider: mattermost }]\n");
    let apns = route(&config, "apns");
    assert_eq!((apns.hosts.len(), apns.body, apns.deadline.as_secs()), (7, 8 << 10, 7));
    let fcm = route(&config, "fcm");
    assert_eq!((fcm.hosts.len(), fcm.body, fcm.deadline.as_secs()), (5, 256 << 10, 7));
    let mattermost = route(&config, "mattermost");
    assert_eq!((mattermost.hosts.len(), mattermost.deadline.as_secs()), (8, 28));
    assert_eq!(config.hosts().len(), 7 + 5 + 7);
    let management = apns.hosts.iter().find(|host| host.ports == [2196]).unwrap();
    assert!(management.permitted.iter().any(|one| {
        one.path == PathPattern::Segment("/1/apps/".to_owned(), "/channels".to_owned())
            && one.methods.len() == 3
    }));
}

#[test]
fn environments_and_ports_narrow_the_apns_preset() {
    let config = valid("routes: [{ provider: apns, environments: [production], ports: [2197] }]\n");
    let hosts = &config.routes[0].hosts;
    assert_eq!(hosts.len(), 3);
    assert!(hosts.iter().all(|host| !host.host.as_str().contains("sandbox")));
    assert_eq!(hosts[0].ports, [2197]);
    assert!(hosts.iter().any(|host| host.ports == [2196]));
}

#[test]
fn own_routes_choose_mattermosts_dialect_by_path() {
    let own = |paths: &str| {
        let text = format!(
            "routes: [{{ hosts: [push.corp.example], origin: 'http://10.1.2.3:8066', {paths} }}]\n"
        );
        valid(&text).routes[0].hosts[0].dialect
    };
    assert_eq!(own("paths: [/api/v1/send_push]"), Dialect::Mattermost);
    assert_eq!(own("paths: [/api/v1/ack]"), Dialect::Mattermost);
    assert_eq!(own("paths: [/other/*]"), Dialect::Plain);
    assert_eq!(own("paths: [/api/v1/ack], dialect: apns"), Dialect::Apns);
}

#[test]
fn direct_is_predefined_and_may_be_redefined() {
    let config = valid("routes: [{ provider: fcm }]\n");
    assert_eq!(config.egress.len(), 1);
    assert_eq!(config.routes[0].egress, EgressName::direct());
    let config = valid(
        "routes: [{ provider: fcm, egress: direct }]\negress: { direct: { roots: [system] } }\n",
    );
    let direct: &Egress = &config.egress[&EgressName::direct()];
    assert_eq!(direct.roots, [crate::config::RootSource::System]);
}

#[test]
fn next_hop_relay_is_read_with_and_without_a_key() {
    let config = valid("routes: [{ provider: apns, next_hop: relay }]\n");
    assert_eq!(config.routes[0].next_hop, NextHop::Relay { sign_with: None });
}

#[test]
fn one_host_needs_one_route_unless_topics_tell_them_apart() {
    let two = |a: &str, b: &str| {
        format!(
            "routes: [{{ name: x, provider: apns, {a} }}, {{ name: y, provider: apns, {b} }}]\n"
        )
    };
    valid(&two("topics: [a]", "topics: [b]"));
    valid(&two("environments: [production]", "environments: [sandbox]"));
    refused(&two("topics: [a]", "topics: [b, a]"), "routes[1].topics", "already carried");
    refused(&two("topics: [a]", "topics: []"), "routes[1]", "already carried");
    refused(
        "routes: [{ provider: fcm }, { name: y, hosts: [fcm.googleapis.com], origin: 'https://a.example' }]\n",
        "routes[1]",
        "already carried by route `fcm`",
    );
}

#[test]
fn passthrough_refuses_what_it_cannot_see() {
    let text = "routes: [{ provider: apns, tls: passthrough }]\n";
    assert_eq!(valid(text).routes[0].tls, TlsMode::Passthrough);
    assert!(valid(text).hosts().is_empty());
    for key in [
        "topics: [a]",
        "teams: [ABCDE12345]",
        "when_unsent: answer",
        "body: 1KiB",
        "next_hop: relay",
        "provider_identity: { chain: a, key: b }",
    ] {
        let path = format!("routes[0].{}", key.split(':').next().unwrap());
        refused(
            &format!("routes: [{{ provider: apns, tls: passthrough, {key} }}]\n"),
            &path,
            "contradicts",
        );
    }
}

#[test]
fn keys_of_other_routes_are_refused() {
    for key in [
        "topics: [a]",
        "ports: [443]",
        "environments: [sandbox]",
        "when_unsent: auto",
        "paths: [/a]",
        "dialect: plain",
        "hosts: [a.example]",
        "origin: 'https://a.example'",
    ] {
        let path = format!("routes[0].{}", key.split(':').next().unwrap());
        refused(&format!("routes: [{{ provider: fcm, {key} }}]\n"), &path, "no meaning");
    }
}

#[test]
fn proxies_are_urls_without_users() {
    let proxy = |url: &str| {
        format!(
            "routes: [{{ provider: fcm, egress: a }}]\negress: {{ a: {{ proxies: [{{ url: '{url}' }}] }} }}\n"
        )
    };
    let at = "egress.a.proxies[0].url";
    refused(&proxy("proxy.example:3128"), at, "the scheme is missing");
    refused(&proxy("socks5://proxy.example:1080"), at, "SOCKS");
    refused(&proxy("ftp://proxy.example"), at, "http or https");
    refused(&proxy("http://proxy.example:3128/path"), at, "only a scheme");
    let found = invalid(&format!("{HEAD}{}", proxy("http://u:hunter2@proxy.example:3128")));
    assert!(found.len() == 1 && !found[0].contains("hunter2"), "{found:?}");
    for (url, port) in
        [("http://p.example", 3128), ("http://p.example:80", 80), ("https://[::1]:443", 443)]
    {
        let config = valid(&proxy(url));
        assert_eq!(config.egress[&EgressName("a".into())].proxies[0].authority.port, port, "{url}");
    }
}

#[test]
fn a_relay_for_anybody_is_refused() {
    let listen = |keys: &str, route: &str| {
        format!(
            "version: 1\nlisteners: [{{ bind: ['0.0.0.0:443'], {keys} }}]\nroutes: [{{ provider: apns, {route} }}]\n"
        )
    };
    let certificates = "sender_certificates: { roots: a.pem, require: true }";
    for good in ["networks: [10.0.0.0/8]", certificates] {
        Config::from_text(&listen(good, ""), &file()).unwrap();
    }
    for (keys, route) in [
        ("", ""),
        ("sender_certificates: { roots: a.pem, require: false }", ""),
        ("sender_certificates: { roots: a.pem }, accept: [tls, connect]", ""),
        (certificates, "tls: passthrough"),
    ] {
        let found = invalid(&listen(keys, route));
        assert!(found.len() == 1 && found[0].starts_with("listeners[0].networks: "), "{found:?}");
    }
}

#[test]
fn sockets_collide_across_listeners_and_admin() {
    let text = "version: 1\nlisteners:\n  - { name: a, bind: ['0.0.0.0:443', '[::]:443'], networks: [::/0] }\n  - { name: b, bind: ['10.0.0.1:443', '127.0.0.1:9380'], networks: [::/0] }\nroutes: [{ provider: fcm }]\n";
    let found = invalid(text);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(
        found[0].contains("listener `a`") && found[1].contains("the admin server"),
        "{found:?}"
    );
}

#[test]
fn problems_of_form_and_of_meaning_come_together_and_breed_no_others() {
    let text = "version: 1\nlisteners:\n  - bind: 443\nroutes:\n  - provider: apns\n    egress: corporate\n  - provider: fcm\n    egress: corprate\negress:\n  corporate: 5\n  other: {}\n";
    let found = invalid(text);
    assert_eq!(
        found,
        [
            "listeners[0].bind: a list is expected here, not a number",
            "routes[1].egress: `egress:` defines no `corprate`",
            "egress.corporate: a mapping is expected here, not a number",
        ]
    );
}

#[test]
fn not_yet_is_said_at_the_key() {
    let text = format!(
        "{HEAD}routes: [{{ provider: fcm, egress: a }}]\negress: {{ a: {{ lane: {{ lanes: 3 }} }} }}\n"
    );
    let document = raw::read(&text);
    let places = document.places;
    let mut check = Check::new(Findings::new(&places), PathBuf::new());
    not_yet(&mut check, &places, &[("egress.*.lane.lanes", "counting"), ("routes[].paths", "x")]);
    let problems = check.findings.problems;
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].path.as_str(), problems[0].line), ("egress.a.lane.lanes", 4));
}

const FULL: &str = "placement: pre
drain: 45s
routes:
  - { name: prod, provider: apns, egress: corporate, environments: [production], topics: [com.example.chat], teams: ['1234567890'], keys: ['12E4567890'], body: 6KiB, ports: [2197], when_unsent: refuse, when_unknown: retry, deadline: 6500ms, provider_identity: { chain: p.pem, key: p.key }, next_hop: { relay: { sign_with: c.key } } }
  - { name: sandbox, provider: apns, egress: direct, environments: [sandbox], tls: passthrough }
  - { provider: fcm, egress: direct }
  - { provider: mattermost, egress: direct, next_hop: relay }
  - { name: own, hosts: [push.corp.example, push2.corp.example], origin: 'http://10.1.2.3:8066', egress: direct, methods: [POST], paths: [/api/v1/send_push, /x/*] }
  - { hosts: [c.example], origin: 'https://[2001:db8::1]', egress: direct, methods: [GET], dialect: apns, protocol: h2, topics: [x] }
  - { hosts: [d.example], origin: 'https://e.example', egress: direct, paths: [/ack], protocol: http1, dialect: fcm }
egress:
  corporate:
    proxies:
      - { url: 'http://a.example', credentials: { basic: { username: u, password: { file: a.pw } } } }
      - { url: 'https://b.example:3129', credentials: { ntlm: { domain: D, username: u, password: { env: PW } } }, roots: [b.pem] }
      - { url: 'https://c.example:3129', credentials: { negotiate: { spn: HTTP@c.example } } }
      - { url: 'http://[::1]:3129', credentials: negotiate }
    roots: [bundled, system, i.pem]
    dns: { servers: [10.0.0.53, '[::1]:5353'], hosts_file: use }
    connect_to: { 'api.push.apple.com:443': '127.0.0.1:9443' }
    source: 203.0.113.5
    post_quantum: false
    assume_h2: true
    lane: { connections: 1, http1_connections: 2, streams: 3, lanes: 4, queue: 5, ping: 61s, dials_per_second: 7 }
issuer: { chain: i.pem, key: i.key }
leaves: [{ chain: l.pem, key: l.key }]
limits: { connections: 1, exchanges: 2, head: 2KiB, body: 3KiB }
admin: { bind: '0.0.0.0:1', networks: [10.0.0.0/8], token: { credential: t } }
log: { format: journald, level: trace, access: off, sample: 9 }
audit: { path: /var/log/a, when_full: refuse }
";

const FULL_LISTENERS: &str = "version: 1
listeners:
  - { name: a, bind: ['0.0.0.0:443', '[::]:443'], accept: [tls, connect, plain], tunnel: ['x.example:443'], max_age: 1h, connect_credentials: { basic: { username: u, password: { env: PW } } }, networks: [10.0.0.0/8, '::1'], sender_certificates: { roots: s.pem, require: false }, proxy_protocol: { from: [10.0.0.1] }, signatures: { keys: [c.key] }, default_host: api.push.apple.com }
  - { bind: ['127.0.0.1:8443'] }
";

#[test]
fn the_effective_file_reads_equal() {
    for text in [
        format!("{FULL_LISTENERS}{FULL}"),
        format!("{HEAD}routes: [{{ provider: apns }}]\nadmin: {{ bind: off }}\n"),
    ] {
        let config =
            Config::from_text(&text, &file()).unwrap_or_else(|invalid| panic!("{invalid}"));
        let effective = config.effective().unwrap();
        let again = Config::from_text(&effective, &file())
            .unwrap_or_else(|invalid| panic!("{invalid}\n{effective}"));
        assert_eq!(again, config, "{effective}");
        assert_eq!(again.effective().unwrap(), effective);
    }
}

#[test]
fn flows_name_proxies_origins_and_dns() {
    let config = Config::from_text(&format!("{FULL_LISTENERS}{FULL}"), &file()).unwrap();
    let table = crate::config::flows::Table(&config.flows()).to_string();
    for words in [
        ["10.0.0.0/8", "relay", "443/tcp", "senders to listener a"],
        ["relay (203.0.113.5)", "a.example", "3128/tcp", "egress corporate: CONNECT"],
        ["proxies of corporate", "api.push.apple.com", "2197/tcp", "route prod: TLS"],
        ["relay", "10.1.2.3", "8066/tcp", "route own: HTTP"],
        ["relay", "10.0.0.53", "53/udp+tcp", "names"],
        ["relay", "x.example", "443/tcp", "tunnel"],
    ] {
        assert!(
            table.lines().any(|line| words.iter().all(|word| line.contains(word))),
            "{words:?}\n{table}"
        );
    }
    assert_eq!(config.routes[0].provider, Provider::Apns);
}
