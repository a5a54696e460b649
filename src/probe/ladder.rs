//! The climb: the relay's own dial, then SETTINGS, PING and a request.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use serde_json::json;
use tokio::time::Instant;

use super::Wishes;
use super::address::Class;
use super::ask::Ask;
use super::clock;
use super::findings::{Answer, Failure, Findings, Shown};
use super::ground::Ground;
use super::rung::{Outcome, Recorder, millis};
use crate::config::{Egress, EgressName, NextHop, Protocol, Route, RouteHost, Scheme};
use crate::hop::{Fact, Hop, HopError, HopErrorKind, Stage, Unobserved, clean, marks};
use crate::names::Authority;
use crate::upstream::connection::{Connection, ExchangeFailure};
use crate::upstream::dial::{Dialed, Offer, Target};
use crate::upstream::http1;

/// All rungs of the dial together: what is left of the whole is for SETTINGS, PING, request and
/// control rungs.
const DIAL: Duration = Duration::from_secs(6);
/// An unauthenticated request is answered at once or not at all.
const REQUEST: Duration = Duration::from_millis(2500);
/// Longer than a probe: PINGs are sent by hand here.
const NO_PING: Duration = Duration::from_secs(24 * 3600);
/// Longest cause kept, characters.
const CAUSE_CAP: usize = 300;

/// One origin by one way out.
#[derive(Debug, Clone)]
pub struct Aim {
    /// Where to.
    pub origin: Authority,
    /// With TLS or without.
    pub scheme: Scheme,
    /// The last rung.
    pub ask: Ask,
    /// The way out.
    pub egress: EgressName,
    /// Nothing but h2 will do.
    pub h2_only: bool,
    /// Only HTTP/1.1 is spoken.
    pub http1_only: bool,
    /// Another relay stands there.
    pub relay_next_hop: bool,
    /// The route presents a certificate of its own, and the probe does not: with it the last rung
    /// would be a push.
    pub without_identity: bool,
    /// Further ports of the host.
    pub other_ports: Vec<u16>,
}

impl Aim {
    /// A host of a route.
    pub fn of(route: &Route, host: &RouteHost, egress: EgressName) -> Self {
        let port = host.ports.first().copied().unwrap_or(443);
        Self {
            origin: Authority::new(host.origin.clone(), port),
            scheme: host.scheme,
            ask: Ask::of(route.provider, host.dialect),
            egress,
            h2_only: host.protocol == Protocol::H2 && route.next_hop == NextHop::Origin,
            http1_only: host.protocol == Protocol::Http1,
            relay_next_hop: route.next_hop != NextHop::Origin,
            without_identity: route.provider_identity.is_some(),
            other_ports: host.ports.clone(),
        }
    }

    /// For the dialer.
    pub fn target(
        &self,
        origin: &Authority,
        offer: Offer,
        demand_h2: bool,
        until: Instant,
    ) -> Target {
        Target {
            egress: self.egress.clone(),
            scheme: self.scheme,
            host: origin.host.clone(),
            port: origin.port,
            offer,
            identity: None,
            demand_h2,
            relay_next_hop: self.relay_next_hop,
            deadline: until,
        }
    }

    /// What traffic offers by ALPN.
    pub const fn offer(&self) -> Offer {
        if self.h2_only {
            Offer::H2
        } else if self.http1_only {
            Offer::Http1
        } else {
            Offer::H2AndHttp1
        }
    }
}

/// Nothing climbed yet.
pub fn blank(ground: &Ground, aim: &Aim) -> Findings {
    Findings {
        servers: ground.dialer.servers(&aim.egress).map(|servers| servers.to_string()),
        ..unclimbed(ground.egress.get(&aim.egress).map(AsRef::as_ref), aim)
    }
}

/// Nothing known but the configuration.
pub fn unclimbed(egress: Option<&Egress>, aim: &Aim) -> Findings {
    let proxy = egress.and_then(|egress| egress.proxies.first());
    let pins = egress.map(|egress| &egress.connect_to);
    Findings {
        proxy: proxy.map(|proxy| proxy.authority.clone()),
        credentials: proxy.is_some_and(|proxy| proxy.credentials.is_some()),
        pinned: pins.is_some_and(|pins| pins.contains_key(&aim.origin)),
        own: aim.ask == Ask::Own,
        h2_only: aim.h2_only,
        ..Findings::of(aim.origin.clone())
    }
}

/// Climbs once and tells the recorder.
pub async fn climb(
    ground: &Ground,
    aim: &Aim,
    wishes: Wishes,
    until: Instant,
    recorder: &Recorder,
) -> Findings {
    let mut findings = blank(ground, aim);
    let began = Instant::now();
    let target = aim.target(&aim.origin, aim.offer(), aim.h2_only, until.min(began + DIAL));
    let dialed = ground.dialer.dial(&target, recorder).await;
    learn(&mut findings, recorder);
    if ground.is_private(aim) {
        recorder.uninspected();
        findings.shown.iter_mut().for_each(|shown| shown.inspected = false);
    }
    let climbed = match dialed {
        Ok(dialed) if dialed.facts.h2 => http2(aim, wishes, dialed, recorder, &mut findings).await,
        Ok(dialed) => http1(aim, dialed, recorder, &mut findings).await,
        Err(error) => Err(error),
    };
    if climbed.is_ok() && findings.ping == Some(false) {
        without_ping(ground, aim, until, recorder, &mut findings).await;
    }
    if let Err(error) = climbed {
        at_fault(ground.egress.get(&aim.egress).map(AsRef::as_ref), &error, &mut findings);
        let failure = failure(&error, findings.proxy.as_ref());
        let took = findings_time(recorder, began);
        recorder.failed(&failure, took);
        findings.failure = Some(failure);
    }
    findings
}

/// Of several proxies, the one that the error is about.
pub fn at_fault(egress: Option<&Egress>, error: &HopError, findings: &mut Findings) {
    let mut proxies = egress.iter().flat_map(|egress| &egress.proxies);
    if let Some(proxy) = proxies.find(|proxy| Some(&proxy.authority) == error.peer.as_ref()) {
        findings.proxy = Some(proxy.authority.clone());
        findings.credentials = proxy.credentials.is_some();
    }
}

/// How long the rung that failed took: what the passed ones leave of the time.
fn findings_time(recorder: &Recorder, began: Instant) -> u64 {
    let passed: Duration = recorder.findings().iter().map(|finding| finding.took).sum();
    millis(began.elapsed().saturating_sub(passed))
}

/// What the dial's rungs taught.
fn learn(findings: &mut Findings, recorder: &Recorder) {
    let origin = findings.origin.host.name().cloned();
    let looked_up = recorder.latest(|fact| match fact {
        Fact::Addresses { name, addresses, by } => {
            Some((name.clone(), addresses.clone(), by.clone()))
        }
        Fact::Tcp { .. }
        | Fact::Tls(_)
        | Fact::Tunnel { .. }
        | Fact::Alpn(_)
        | Fact::Settings(_)
        | Fact::Ping => None,
    });
    if let Some((name, addresses, by)) = looked_up {
        findings.servers = Some(by);
        if Some(name) == origin {
            let ips: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
            let class = Class::worst(addresses.iter().map(std::net::SocketAddr::ip));
            findings.addresses = class.map(|class| (ips.join(", "), class));
        }
    }
    findings.shown =
        recorder.findings().iter().rev().find(|finding| finding.stage == Stage::Tls).and_then(
            |finding| match &finding.fact {
                Fact::Tls(facts) => {
                    Some(Shown { issuer: facts.issuer.clone(), inspected: facts.inspected })
                }
                Fact::Addresses { .. }
                | Fact::Tcp { .. }
                | Fact::Tunnel { .. }
                | Fact::Alpn(_)
                | Fact::Settings(_)
                | Fact::Ping => None,
            },
        );
    findings.alpn = recorder.latest(|fact| match fact {
        Fact::Alpn(chosen) => chosen.clone(),
        Fact::Addresses { .. }
        | Fact::Tcp { .. }
        | Fact::Tls(_)
        | Fact::Tunnel { .. }
        | Fact::Settings(_)
        | Fact::Ping => None,
    });
}

/// An error as a finding.
pub fn failure(error: &HopError, proxy: Option<&Authority>) -> Failure {
    let cause = error.source.as_deref().map(|source| {
        let text = crate::cli::send::chain(source);
        clean(text.as_bytes(), CAUSE_CAP)
    });
    Failure {
        hop: error.hop,
        stage: error.stage,
        kind: error.kind.clone(),
        cause,
        at_proxy: proxy.is_some() && error.peer.as_ref() == proxy,
    }
}

async fn http2(
    aim: &Aim,
    wishes: Wishes,
    dialed: Dialed,
    recorder: &Recorder,
    findings: &mut Findings,
) -> Result<(), HopError> {
    let parts = (dialed.io, dialed.facts);
    let connection = Connection::open(1, parts, NO_PING, recorder, Rc::new(|| {})).await?;
    let began = Instant::now();
    let alive = connection.try_path().await;
    findings.ping = Some(alive);
    let result = if alive { Outcome::Pass } else { Outcome::Warn };
    recorder.add(Stage::Ping.word(), result, Some(millis(began.elapsed())), json!({}));
    if alive {
        return requests(aim, wishes, &connection, recorder, findings).await;
    }
    if let Some(goaway) = connection.log.goaway() {
        let kind = HopErrorKind::GoAway { code: goaway.code, reason: goaway.reason };
        return Err(HopError::new(Hop::Origin, Stage::Ping, kind));
    }
    Ok(())
}

async fn requests(
    aim: &Aim,
    wishes: Wishes,
    connection: &Connection,
    recorder: &Recorder,
    findings: &mut Findings,
) -> Result<(), HopError> {
    let secure = aim.scheme == Scheme::Https;
    let began = Instant::now();
    let request = aim.ask.request(&aim.origin, secure, true);
    let asked = connection.exchange(&request, began + REQUEST).await;
    let response = match asked {
        Ok(response) => response,
        Err(ExchangeFailure { cause, .. }) => return Err(cause),
    };
    answered(aim, &response, began, recorder, findings);
    if let Some(idle) = wishes.idle {
        let began = Instant::now();
        tokio::time::sleep(idle).await;
        let lives = connection.try_path().await;
        findings.idle = Some((idle.as_secs(), lives));
        let result = if lives { Outcome::Pass } else { Outcome::Warn };
        let evidence = json!({ "seconds": idle.as_secs(), "alive": lives });
        recorder.add("control:idle", result, Some(millis(began.elapsed())), evidence);
    }
    connection.retire();
    Ok(())
}

/// PING was lost, which ended the connection: one request on a connection of its own, because a
/// box that swallows PINGs may still carry requests.
async fn without_ping(
    ground: &Ground,
    aim: &Aim,
    until: Instant,
    recorder: &Recorder,
    findings: &mut Findings,
) {
    let began = Instant::now();
    match again(ground, aim, until, true).await {
        Ok(response) => answered(aim, &response, began, recorder, findings),
        Err(error) => {
            let failure = failure(&error, None);
            let took = millis(began.elapsed());
            recorder.failed(&failure, took);
            findings.failure = Some(failure);
        }
    }
}

/// Whether a request of one packet is answered.
pub async fn small_request(ground: &Ground, aim: &Aim, until: Instant) -> bool {
    again(ground, aim, until, false).await.is_ok()
}

/// One request on a new HTTP/2 connection, unobserved.
async fn again(
    ground: &Ground,
    aim: &Aim,
    until: Instant,
    large: bool,
) -> Result<Response<Bytes>, HopError> {
    let target = aim.target(&aim.origin, aim.offer(), aim.h2_only, until);
    let dialed = ground.dialer.dial(&target, &Unobserved).await?;
    request(aim, &aim.origin, dialed, until, large).await
}

/// Whether the provider itself answers on this connection: one that only shakes hands carries no
/// push.
pub async fn serves(
    aim: &Aim,
    to: &Authority,
    dialed: Dialed,
    until: Instant,
) -> Result<(), HopError> {
    let response = request(aim, to, dialed, until, true).await?;
    if aim.ask.judge(&response).genuine {
        return Ok(());
    }
    let kind = HopErrorKind::Protocol("the answer is not the provider's".to_owned());
    Err(HopError::new(Hop::Origin, Stage::Request, kind))
}

async fn request(
    aim: &Aim,
    to: &Authority,
    dialed: Dialed,
    until: Instant,
    large: bool,
) -> Result<Response<Bytes>, HopError> {
    let parts = (dialed.io, dialed.facts);
    let connection = Connection::open(2, parts, NO_PING, &Unobserved, Rc::new(|| {})).await?;
    let request = aim.ask.request(to, aim.scheme == Scheme::Https, large);
    let deadline = until.min(Instant::now() + REQUEST);
    let asked = connection.exchange(&request, deadline).await;
    connection.retire();
    asked.map_err(|failure| failure.cause)
}

async fn http1(
    aim: &Aim,
    dialed: Dialed,
    recorder: &Recorder,
    findings: &mut Findings,
) -> Result<(), HopError> {
    let parts = (dialed.io, dialed.facts);
    let connection = http1::Connection::open(1, parts, Rc::new(|| {})).await?;
    let began = Instant::now();
    let request = aim.ask.request(&aim.origin, aim.scheme == Scheme::Https, false);
    let asked = connection.exchange(&request, began + REQUEST).await;
    let response = asked.map_err(|failure| failure.cause)?;
    answered(aim, &response, began, recorder, findings);
    Ok(())
}

fn answered(
    aim: &Aim,
    response: &Response<Bytes>,
    began: Instant,
    recorder: &Recorder,
    findings: &mut Findings,
) {
    let answer = aim.ask.judge(response);
    let date = response.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    findings.skew = date.and_then(clock::skew);
    findings.timed_by = findings.skew.is_some().then(|| aim.origin.to_string());
    let result = if answer.genuine { Outcome::Pass } else { Outcome::Fail };
    let evidence = evidence(&answer, response);
    recorder.add(Stage::Request.word(), result, Some(millis(began.elapsed())), evidence);
    findings.answer = Some(answer);
}

fn evidence(answer: &Answer, response: &Response<Bytes>) -> serde_json::Value {
    let fields = response.headers().iter();
    let fields = marks(fields.map(|(name, value)| (name.as_str(), value.as_bytes())));
    json!({
        "status": answer.status,
        "providers_own": answer.genuine,
        "content_type": answer.content_type,
        "by": answer.by,
        "body": answer.page,
        "fields": super::evidence::fields(&fields),
    })
}
