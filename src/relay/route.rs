//! Which route a request belongs to: by host and port, by topic where several APNs routes share a
//! host, and in agreement with SNI and the CONNECT target that the connection was opened for.
//!
//! A table made once from a configuration; nothing here judges methods, paths or senders. First
//! step of the walk behind a codec, before `permit`.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::{Config, Route, RouteHost, Scheme, TlsMode};
use crate::downstream::{Head, Sender};
use crate::names::{Authority, Host, HostName};
use crate::provider::Provider;

use super::outcome::Refusal;
use super::permit::topic;

/// Hosts and what they lead to.
#[derive(Debug, Default)]
pub struct RouteTable {
    hosts: HashMap<HostName, Vec<Found>>,
}

/// A route, its index in the configuration, and one host of it.
#[derive(Debug, Clone)]
pub struct Found {
    /// The route.
    pub route: Arc<Route>,
    /// Its index in `Config::routes`.
    pub index: usize,
    /// The host within it.
    pub host: Arc<RouteHost>,
}

/// What the front needs to know of a host before there is a request: whether to end TLS, and
/// which CONNECT ports belong to it.
#[derive(Debug, Clone)]
pub struct HostRule {
    /// End TLS here or carry it.
    pub tls: TlsMode,
    /// The ports that a CONNECT target may name: the origin's, in the order of the file, and for
    /// a name of our own the two that senders know.
    pub ports: Vec<u16>,
    /// Those of `ports` behind which the origin is plain, so that a sender may be.
    pub cleartext: Vec<u16>,
    /// Where the name leads, in the order tried.
    pub origins: Vec<Authority>,
    /// APNs, so that HTTP/2 is offered and certificate authentication is watched for.
    pub apns: bool,
    /// The first route of the host, for passthrough and for names in logs.
    pub first: Found,
}

/// What senders of a name of our own know as its port: of https and of http.
const KNOWN_PORTS: &[u16] = &[443, 80];
const SNI_ELSEWHERE: &str = "SNI and the request's host lead to different routes";
const CONNECT_ELSEWHERE: &str =
    "the CONNECT target and the request's host lead to different routes";

impl RouteTable {
    /// Indexes every host of every route, in the order of the file.
    pub fn new(config: &Config) -> Self {
        let mut hosts: HashMap<HostName, Vec<Found>> = HashMap::new();
        for (index, route) in config.routes.iter().enumerate() {
            for host in &route.hosts {
                let found = Found { route: Arc::clone(route), index, host: Arc::clone(host) };
                hosts.entry(host.host.clone()).or_default().push(found);
            }
        }
        Self { hosts }
    }

    /// What the front needs to know of `name`; `None` where no route names it.
    pub fn host_rule(&self, name: &HostName) -> Option<HostRule> {
        let all = self.hosts.get(name)?;
        let first = all.first()?.clone();
        let (mut ports, mut cleartext) = (Vec::new(), Vec::new());
        let mut origins: Vec<Authority> = Vec::new();
        for one in all {
            let own = if one.route.provider == Provider::Own { KNOWN_PORTS } else { &[] };
            for port in one.host.ports.iter().chain(own) {
                add(&mut ports, *port);
                if one.host.scheme == Scheme::Http {
                    add(&mut cleartext, *port);
                }
            }
            for port in &one.host.ports {
                add(&mut origins, Authority::new(one.host.origin.clone(), *port));
            }
        }
        // One passthrough route makes the host one: the validation lets them not be mixed, and
        // where it once would, carrying TLS untouched is the side that sees less.
        let passthrough = all.iter().any(|one| one.route.tls == TlsMode::Passthrough);
        Some(HostRule {
            tls: if passthrough { TlsMode::Passthrough } else { TlsMode::Terminate },
            ports,
            cleartext,
            origins,
            apns: first.route.provider == Provider::Apns,
            first,
        })
    }

    /// Every name that a route has, for leaves and checks.
    pub fn names(&self) -> impl Iterator<Item = &HostName> {
        self.hosts.keys()
    }

    /// Any route of a host, to choose a dialect by when a request was refused before it was
    /// routed: the named host first, then what the connection was opened for.
    pub fn nearest(&self, head: Option<&Head>, sender: &Sender) -> Option<&Found> {
        let named = head.and_then(|head| head.host.name());
        let tls = sender.tls.as_ref();
        let sni = tls.and_then(|tls| tls.sni.as_ref().or(tls.leaf.as_ref()));
        let target = sender.connect_target.as_ref().and_then(|target| target.host.name());
        [named, sni, target].into_iter().flatten().find_map(|name| self.hosts.get(name)?.first())
    }

    /// The route of a request (RFC 9110 §7.4, §15.5.20).
    ///
    /// # Errors
    /// [`Refusal::Misdirected`] where host, port, SNI and CONNECT target do not agree on a routed
    /// host; [`Refusal::Topic`] where several routes share the host and none has the topic.
    pub fn find(&self, head: &Head, sender: &Sender) -> Result<&Found, Refusal> {
        let Host::Name(name) = &head.host else {
            return Err(Refusal::Misdirected("no route has an address as its host"));
        };
        let Some(all) = self.hosts.get(name) else {
            return Err(Refusal::Misdirected("no route names this host"));
        };
        let found = match all.as_slice() {
            [only] => only,
            several => choose(several, head, sender)?,
        };
        if found.route.tls == TlsMode::Passthrough {
            return Err(Refusal::Misdirected("this route carries TLS and reads no requests"));
        }
        if head.port.is_some_and(|port| !port_belongs(found, port, sender)) {
            return Err(Refusal::Misdirected("the port is not one of the route's"));
        }
        self.agree(found, sender)?;
        Ok(found)
    }

    fn agree(&self, found: &Found, sender: &Sender) -> Result<(), Refusal> {
        let sni = sender.tls.as_ref().and_then(|tls| tls.sni.as_ref());
        // An SNI that no route names was let in by `default_host`; then the authority alone routes.
        if let Some(led_to) = sni.and_then(|sni| self.hosts.get(sni))
            && !led_to.iter().any(|one| one.index == found.index)
        {
            return Err(Refusal::Misdirected(SNI_ELSEWHERE));
        }
        let Some(target) = &sender.connect_target else {
            return Ok(());
        };
        let led_to = target.host.name().and_then(|name| self.hosts.get(name));
        if led_to.is_some_and(|all| all.iter().any(|one| one.index == found.index)) {
            return Ok(());
        }
        Err(Refusal::Misdirected(CONNECT_ELSEWHERE))
    }
}

/// Among routes that share a host those that list the topic, else those open to all. One name may
/// still be two origins, TLS and plain: the port that the sender means tells them apart, and where
/// it tells nothing the first of the file is taken.
fn choose<'a>(several: &'a [Found], head: &Head, sender: &Sender) -> Result<&'a Found, Refusal> {
    let wanted = topic::named(head);
    let lists = |one: &&Found| {
        wanted.first().is_some_and(|wanted| one.route.topics.iter().any(|topic| topic == wanted))
    };
    let mut candidates: Vec<_> = several.iter().filter(lists).collect();
    if candidates.is_empty() {
        candidates = several.iter().filter(|one| one.route.topics.is_empty()).collect();
    }
    let target = sender.connect_target.as_ref().map(|target| target.port);
    let known = if sender.tls.is_some() { 443 } else { 80 };
    let meant = head.port.or(target).unwrap_or(known);
    let its = candidates.iter().find(|one| one.host.ports.contains(&meant));
    its.or_else(|| candidates.first()).copied().ok_or(Refusal::Topic)
}

fn add<T: PartialEq>(list: &mut Vec<T>, one: T) {
    if !list.contains(&one) {
        list.push(one);
    }
}

/// The origin's own ports, and the one that the sender dialled: a relay that listens elsewhere is
/// asked for `host:8443`, and the host alone decides the route. A name of our own is ours with any
/// port: a balancer or a container in front may publish another one than we listen on.
fn port_belongs(found: &Found, port: u16, sender: &Sender) -> bool {
    let own = found.route.provider == Provider::Own;
    found.host.ports.contains(&port)
        || match &sender.connect_target {
            None => own || port == sender.local.port(),
            Some(target) => own && [target.port, sender.local.port(), 443, 80].contains(&port),
        }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::fixture::{apns_route, config, head, own_route, sender, sender_with_sni};

    fn table() -> RouteTable {
        RouteTable::new(&config(vec![
            apns_route("apns", &["api.push.apple.com", "api.sandbox.push.apple.com"]),
            own_route("own", "push.corp.example", "http://10.1.2.3:8066"),
        ]))
    }

    #[test]
    fn b3_hosts_and_ports_of_a_route_are_found_and_others_are_misdirected() {
        let table = table();
        for (host, port, found) in [
            ("api.push.apple.com", None, Some(0)),
            ("API.push.apple.com", Some(443), Some(0)),
            ("api.push.apple.com", Some(2197), Some(0)),
            ("api.push.apple.com", Some(8443), Some(0)),
            ("api.push.apple.com", Some(99), None),
            ("push.corp.example", None, Some(1)),
            ("push.corp.example", Some(8066), Some(1)),
            ("push.corp.example", Some(8443), Some(1)),
            ("push.corp.example", Some(9443), Some(1)),
            ("stranger.example", None, None),
            ("192.0.2.1", None, None),
        ] {
            let mut head = head("POST", host, "/3/device/ab");
            head.port = port;
            let got = table.find(&head, &sender());
            assert_eq!(got.as_ref().ok().map(|found| found.index), found, "{host} {port:?}");
            if let Err(refusal) = got {
                assert!(matches!(refusal, Refusal::Misdirected(_)), "{host}");
            }
        }
    }

    #[test]
    fn b3_a_routed_sni_must_lead_to_the_same_route() {
        let table = table();
        let apns = head("POST", "api.push.apple.com", "/3/device/ab");
        for (sni, ok) in [
            (None, true),
            (Some("api.push.apple.com"), true),
            (Some("api.sandbox.push.apple.com"), true),
            (Some("push.corp.example"), false),
            (Some("unrouted.example"), true),
        ] {
            assert_eq!(table.find(&apns, &sender_with_sni(sni)).is_ok(), ok, "{sni:?}");
        }
    }

    #[test]
    fn a_connect_target_must_lead_to_the_same_route() {
        let table = table();
        let apns = head("POST", "api.push.apple.com", "/3/device/ab");
        for (target, ok) in [
            ("api.push.apple.com:443", true),
            ("api.sandbox.push.apple.com:443", true),
            ("push.corp.example:443", false),
            ("stranger.example:443", false),
            ("192.0.2.1:443", false),
        ] {
            let mut from = sender_with_sni(None);
            from.connect_target = Some(target.parse().unwrap());
            assert_eq!(table.find(&apns, &from).is_ok(), ok, "{target}");
        }
    }

    #[test]
    fn several_routes_on_one_host_are_told_apart_by_topic() {
        let mut one = apns_route("one", &["api.push.apple.com"]);
        one.topics = vec!["com.example.one".into()];
        let mut two = apns_route("two", &["api.push.apple.com"]);
        two.topics = vec!["com.example.two".into(), "com.example.two.voip".into()];
        let table = RouteTable::new(&config(vec![one.clone(), two]));
        let with = |topic: Option<&str>| {
            let mut head = head("POST", "api.push.apple.com", "/3/device/ab");
            if let Some(topic) = topic {
                head.headers.insert("apns-topic", topic.parse().unwrap());
            }
            table.find(&head, &sender()).map(|found| found.index)
        };
        assert_eq!(with(Some("com.example.one")), Ok(0));
        assert_eq!(with(Some("com.example.two.voip")), Ok(1));
        assert_eq!(with(Some("com.example.three")), Err(Refusal::Topic));
        assert_eq!(with(None), Err(Refusal::Topic));

        let open = RouteTable::new(&config(vec![one, apns_route("o", &["api.push.apple.com"])]));
        let bare = head("POST", "api.push.apple.com", "/3/device/ab");
        assert_eq!(open.find(&bare, &sender()).map(|found| found.index), Ok(1));
        let sibling = head("POST", "api.push.apple.com", "/4/broadcasts/apps/com.example.one");
        assert_eq!(open.find(&sibling, &sender()).map(|found| found.index), Ok(0));
    }

    #[test]
    fn one_name_with_tls_and_plain_is_told_apart_by_the_port_that_is_meant() {
        let mut route = own_route("mm", "push-test.example", "https://push-test.example:443");
        route.provider = Provider::Mattermost;
        let plain = own_route("mm", "push-test.example", "http://push-test.example:80");
        route.hosts.extend(plain.hosts);
        let table = RouteTable::new(&config(vec![route]));
        let tls = sender_with_sni(Some("push-test.example"));
        let clear = Sender { tls: None, ..sender() };
        for (from, port, target, scheme) in [
            (&tls, None, None, Scheme::Https),
            (&tls, Some(443), None, Scheme::Https),
            (&clear, None, None, Scheme::Http),
            (&clear, Some(443), None, Scheme::Https),
            (&clear, None, Some("push-test.example:443"), Scheme::Https),
            (&clear, None, Some("push-test.example:80"), Scheme::Http),
        ] {
            let mut head = head("POST", "push-test.example", "/api/v1/send_push");
            head.port = port;
            let from = Sender {
                tls: from.tls.clone(),
                connect_target: target.map(|target| target.parse().unwrap()),
                ..sender()
            };
            let found = table.find(&head, &from).unwrap();
            assert_eq!(found.host.scheme, scheme, "{port:?} {target:?}");
        }
        let rule = table.host_rule(&"push-test.example".parse().unwrap()).unwrap();
        assert_eq!((rule.ports, rule.cleartext), (vec![443, 80], vec![80]));
    }

    #[test]
    fn a_name_of_our_own_leads_to_its_origin_and_is_known_by_the_usual_ports() {
        let table = table();
        let rule = table.host_rule(&"push.corp.example".parse().unwrap()).unwrap();
        assert_eq!(rule.origins, ["10.1.2.3:8066".parse().unwrap()]);
        assert_eq!(rule.ports, [8066, 443, 80]);
        assert_eq!(rule.cleartext, rule.ports);
    }

    #[test]
    fn a_passthrough_route_reads_no_requests() {
        let mut route = apns_route("apns", &["api.push.apple.com"]);
        route.tls = TlsMode::Passthrough;
        let table = RouteTable::new(&config(vec![route]));
        let rule = table.host_rule(&"api.push.apple.com".parse().unwrap()).unwrap();
        assert_eq!((rule.tls, rule.apns), (TlsMode::Passthrough, true));
        assert_eq!(rule.ports, [443, 2197]);
        let request = head("POST", "api.push.apple.com", "/3/device/ab");
        assert!(matches!(table.find(&request, &sender()), Err(Refusal::Misdirected(_))));
    }
}
