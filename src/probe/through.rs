//! From the sender's side: what reaches a running relay, told by its reserved path.
//!
//! Connects as a sender would: to the relay's address, by the name of a provider, with the trust of
//! this machine or of the sender's unit. Nothing leaves the relay.

mod changes;
mod way;

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use self::changes::{Sent, changes};
use self::way::Way;
use super::codes::Code;
use super::findings::Findings;
use super::report::{Report, TargetReport};
use super::rung::{Outcome, Recorder, millis};
use super::unit::{Environment, without_user};
use super::verdict::{self, Verdict};
use crate::hop::{Fact, Finding, HopError, Observe as _, Stage, Unobserved};
use crate::names::{Authority, Host, HostName};
use crate::pki::roots::Roots;
use crate::upstream::connection::Connection;
use crate::upstream::dial::{DialFacts, Offer};
use crate::upstream::http1;
use crate::upstream::tls::{TlsClient, TlsFailure, names};

/// The relay is near: everything together.
const ALL: Duration = Duration::from_secs(8);
/// Longer than the exchange.
const NO_PING: Duration = Duration::from_secs(3600);
/// Where a relay answers itself.
const RESERVED: &str = "/.pushrelay/probe";
/// Sent so that a box that takes fields out, or puts some in, shows.
const FIELDS: [(&str, &str); 3] = [
    ("user-agent", concat!("pushrelay-probe/", env!("CARGO_PKG_VERSION"))),
    ("apns-topic", "pushrelay.probe"),
    ("x-pushrelay-probe", "1"),
];

/// How a sender would go.
#[derive(Debug)]
pub struct Sender {
    /// The relay.
    pub relay: Authority,
    /// The provider's name that it asks for.
    pub host: HostName,
    /// What this machine trusts.
    pub roots: Roots,
    /// The environment that the sender runs with.
    pub environment: Environment,
    /// What of it was applied, and what could not be.
    pub notes: Vec<String>,
}

/// How it ended.
struct Ended(Code, Vec<(&'static str, String)>);

impl Ended {
    fn detail(code: Code, detail: impl Into<String>) -> Self {
        Self(code, vec![("detail", detail.into())])
    }
}

/// Climbs once.
pub async fn probe(sender: &Sender) -> Report {
    let recorder = Recorder::default();
    let origin = Authority::new(sender.host.clone(), 443);
    let mut notes: Vec<_> = sender.environment.mattermost(&sender.host).into_iter().collect();
    notes.extend(sender.notes.iter().cloned());
    let Ended(code, mut filled) = climb(sender, &recorder, &mut notes).await;
    filled.push(("control", sender.relay.to_string()));
    let findings = Findings::of(origin.clone());
    let verdict: Verdict = verdict::said(&findings, code, filled);
    let mut rungs = recorder.finish(&findings, super::hop_of(verdict.hop), None);
    // A sender's ladder has three rungs of its own and no more.
    rungs.retain(|rung| rung.result != Outcome::Skip);
    let (egress, proxy) = (format!("through {}", sender.relay), None);
    Report::new(vec![TargetReport {
        origin: origin.to_string(),
        egress,
        proxy,
        rungs,
        verdict,
        notes,
        findings,
    }])
}

async fn climb(sender: &Sender, recorder: &Recorder, notes: &mut Vec<String>) -> Ended {
    let until = Instant::now() + ALL;
    let addresses = lookup(&sender.relay).await;
    let elsewhere = redirect(sender, &addresses, recorder).await;
    if let Some((name, url)) = sender.environment.proxy_for(&sender.host) {
        return by_proxy(sender, name, url, until, recorder).await;
    }
    // By name the sender's own resolution counts, and no variable.
    if let Some(elsewhere) = elsewhere {
        let (host, relay) = (&sender.host, &sender.relay);
        notes.insert(
            0,
            format!(
                "{host} leads to {elsewhere} on this machine and not to the relay at {relay}: a \
                 sender that dials the name goes elsewhere until a hosts entry or a zone \
                 redirects it.",
            ),
        );
    }
    let began = Instant::now();
    let connecting = TcpStream::connect(addresses.as_slice());
    let tcp = match timeout_at(until, connecting).await {
        Ok(Ok(tcp)) => tcp,
        Ok(Err(error)) => return down(recorder, &error.to_string()),
        Err(_late) => return down(recorder, "no answer in time"),
    };
    let Ok(way) = Way::straight(tcp) else {
        return down(recorder, "the connection ended at once");
    };
    let fact = Fact::Tcp { local: way.ends.0, peer: way.ends.1 };
    recorder.passed(Finding { stage: Stage::Tcp, took: began.elapsed(), fact });
    secured(sender, way, until, recorder).await
}

/// The environment leads through a proxy: right where that is the relay or stands before it,
/// wrong where it leads around it. Only going there tells.
async fn by_proxy(
    sender: &Sender,
    name: &str,
    url: &str,
    until: Instant,
    recorder: &Recorder,
) -> Ended {
    let began = Instant::now();
    let shown = without_user(url);
    let target = Authority::new(sender.host.clone(), 443);
    let opening = way::proxied(url, &target, &sender.roots);
    let opened = match timeout_at(until.min(began + way::PROXY), opening).await {
        Ok(opened) => opened,
        Err(_late) => Err("no answer in time".to_owned()),
    };
    let evidence =
        |error: Option<&str>| json!({ "variable": name, "proxy": shown, "error": error });
    let took = Some(millis(began.elapsed()));
    let around =
        |why: &str| Ended::detail(Code::Bypassed, format!("{name}={shown}, and there {why}"));
    match opened {
        Ok(way) => {
            recorder.add("environment", Outcome::Pass, took, evidence(None));
            match secured(sender, way, until, recorder).await {
                Ended(Code::ThroughNotRelay, filled) => {
                    let why = filled.first().map_or("", |(_, why)| why.as_str());
                    around(&format!("no relay answers ({why})"))
                }
                Ended(Code::ThroughUntrusted, filled) => {
                    let issuer = filled.first().map_or("", |(_, issuer)| issuer.as_str());
                    around(&format!("a certificate is shown that it does not trust, by {issuer}"))
                }
                ended => ended,
            }
        }
        Err(why) => {
            recorder.add("environment", Outcome::Fail, took, evidence(Some(&why)));
            around(&format!("the way ends: {why}"))
        }
    }
}

fn down(recorder: &Recorder, what: &str) -> Ended {
    recorder.add(Stage::Tcp.word(), Outcome::Fail, None, json!({ "error": what }));
    Ended::detail(Code::ThroughDown, what)
}

async fn lookup(relay: &Authority) -> Vec<SocketAddr> {
    match &relay.host {
        Host::Ip(ip) => vec![SocketAddr::new(*ip, relay.port)],
        Host::Name(name) => match tokio::net::lookup_host((name.as_str(), relay.port)).await {
            Ok(found) => found.collect(),
            Err(_unknown) => Vec::new(),
        },
    }
}

/// Where this machine's own resolution, hosts file included, leads the provider's name; said where
/// that is not the relay.
async fn redirect(sender: &Sender, relay: &[SocketAddr], recorder: &Recorder) -> Option<String> {
    let began = Instant::now();
    let found = tokio::net::lookup_host((sender.host.as_str(), 443)).await;
    let found: Vec<_> = found.into_iter().flatten().map(|address| address.ip()).collect();
    let holds = found.iter().any(|ip| relay.iter().any(|address| address.ip() == *ip));
    let addresses: Vec<_> = found.iter().map(ToString::to_string).collect();
    let evidence = json!({
        "name": sender.host.to_string(),
        "addresses": addresses,
        "leads_to_the_relay": holds,
        "environment": sender.environment.shown(),
    });
    let result = if holds { Outcome::Pass } else { Outcome::Warn };
    recorder.add(Stage::Resolve.word(), result, Some(millis(began.elapsed())), evidence);
    let named = if addresses.is_empty() { "nowhere".to_owned() } else { addresses.join(", ") };
    (!holds).then_some(named)
}

async fn secured(sender: &Sender, way: Way, until: Instant, recorder: &Recorder) -> Ended {
    let Way { io, ends } = way;
    let began = Instant::now();
    let tls = match TlsClient::new(&sender.roots, true) {
        Ok(tls) => tls,
        Err(error) => return Ended::detail(Code::OurFault, error.to_string()),
    };
    let host = Host::Name(sender.host.clone());
    let handshake = tls.handshake(io, &host, Offer::H2AndHttp1, None);
    let (io, facts) = match timeout_at(until, handshake).await {
        Ok(Ok(done)) => done,
        Ok(Err(failure)) => return untrusted(recorder, &failure),
        Err(_late) => return down(recorder, "no answer to the TLS hello"),
    };
    let fact = Fact::Tls(Box::new(facts.clone()));
    recorder.passed(Finding { stage: Stage::Tls, took: began.elapsed(), fact });
    let alpn = io.get_ref().1.alpn_protocol().map(|name| crate::hop::clean(name, 40));
    let fact = Fact::Alpn(alpn.clone());
    recorder.passed(Finding { stage: Stage::Alpn, took: Duration::ZERO, fact });
    let h2 = alpn.as_deref() == Some("h2");
    let (local, peer) = ends;
    let took = began.elapsed();
    let version = facts.version.clone();
    let facts = DialFacts { local, peer, proxy: None, alpn, h2, tls: Some(facts), took };
    let began = Instant::now();
    let asked = asked(sender, io, facts, until).await;
    let sent = Sent {
        protocol: if h2 { "HTTP/2" } else { "HTTP/1.1" },
        alpn: &["h2", "http/1.1"],
        sni: sender.host.as_str(),
        tls: &version,
        fields: &FIELDS.map(|(name, _)| name),
    };
    told(asked, &sent, millis(began.elapsed()), recorder)
}

fn untrusted(recorder: &Recorder, failure: &TlsFailure) -> Ended {
    let error = crate::hop::clean(failure.error.to_string().as_bytes(), 200);
    let issuer = failure.chain.first().and_then(|leaf| names(leaf).1);
    let evidence = json!({ "error": error, "issuer": issuer });
    recorder.add(Stage::Tls.word(), Outcome::Fail, None, evidence);
    match issuer {
        Some(issuer) => Ended(Code::ThroughUntrusted, vec![("issuer", issuer)]),
        None => Ended::detail(Code::ThroughNotRelay, error),
    }
}

async fn asked<IO>(
    sender: &Sender,
    io: IO,
    facts: DialFacts,
    until: Instant,
) -> Result<http::Response<Bytes>, HopError>
where
    IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let mut request = Request::new(Bytes::new());
    // A host name and a literal path always make a URI.
    *request.uri_mut() = format!("https://{}{RESERVED}", sender.host).parse().unwrap_or_default();
    for (name, value) in FIELDS {
        request
            .headers_mut()
            .insert(http::HeaderName::from_static(name), http::HeaderValue::from_static(value));
    }
    let parts = (io, facts);
    let asked = if parts.1.h2 {
        let open = Connection::open(1, parts, NO_PING, &Unobserved, Rc::new(|| {})).await?;
        open.exchange(&request, until).await
    } else {
        http1::Connection::open(1, parts, Rc::new(|| {})).await?.exchange(&request, until).await
    };
    asked.map_err(|failure| failure.cause)
}

fn told(
    asked: Result<http::Response<Bytes>, HopError>,
    sent: &Sent<'_>,
    ms: u64,
    recorder: &Recorder,
) -> Ended {
    let response = match asked {
        Ok(response) => response,
        Err(error) => {
            let evidence = json!({ "error": error.kind.to_string() });
            recorder.add(Stage::Request.word(), Outcome::Fail, Some(ms), evidence);
            return Ended::detail(Code::ThroughNotRelay, error.kind.to_string());
        }
    };
    let status = response.status().as_u16();
    let seen: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    let Some(version) = seen.get("pushrelay").and_then(Value::as_str) else {
        let evidence = json!({ "status": status, "body": crate::hop::clean(response.body(), 200) });
        recorder.add(Stage::Request.word(), Outcome::Fail, Some(ms), evidence);
        return Ended::detail(Code::ThroughNotRelay, format!("it answers {status}"));
    };
    let text = |key: &str| {
        let text = seen.get(key).and_then(Value::as_str).unwrap_or("nothing");
        crate::hop::clean(text.as_bytes(), 100)
    };
    let changed = changes(sent, &seen);
    let protocol = text("protocol");
    let evidence = json!({
        "status": status,
        "relay": crate::hop::clean(version.as_bytes(), 40),
        "arrived": protocol,
        "alpn": text("alpn"),
        "sni": text("sni"),
        "tls": text("tls"),
        "changed_on_the_way": changed,
    });
    recorder.add(Stage::Request.word(), Outcome::Pass, Some(ms), evidence);
    let via = seen.get("via").and_then(Value::as_array).is_some_and(|via| !via.is_empty());
    let whole = sent.protocol == "HTTP/2" && protocol.contains('2') && !via;
    let changed = if changed.is_empty() {
        String::new()
    } else {
        format!(" (changed on the way: {})", changed.join("; "))
    };
    if whole {
        Ended::detail(Code::ThroughOk, format!("{protocol} arrives{changed}"))
    } else {
        Ended::detail(Code::ThroughHttp1, format!("{protocol}{changed}"))
    }
}
