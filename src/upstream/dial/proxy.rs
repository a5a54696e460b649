//! Through the proxies of an egress: in order, with back-off, each with its own credentials.
//!
//! All legs of an authentication travel on one connection. No proxy is ever gone around.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout_at};

use super::blame;
use super::rungs::{Shown, ends};
use super::{Dialer, DialerError, Opened, Out, Patience, Transport, tcp};
use crate::config::material::ProxyMaterial;
use crate::config::{Egress, EgressProxy};
use crate::hop::{Fact, Finding, Hop, HopError, HopErrorKind, Observe, Stage};
use crate::names::{Authority, Host};
use crate::upstream::proxy_auth::latch::Attempt;
use crate::upstream::proxy_auth::{LegFault, Legs, Next, ProxyAuth};
use crate::upstream::resolve::{Resolved, Source};
use crate::upstream::tls::{Offer, TlsClient};
use crate::upstream::tunnel::{Answer, AnswerReader, Refused, request};

/// First rest of a proxy that failed; doubles.
const REST_FIRST: Duration = Duration::from_secs(1);
/// Longest rest: a proxy that came back is used again within it.
const REST_LONGEST: Duration = Duration::from_secs(30);
/// New connections that an authentication may begin again on, after a 407 that closes.
const RESTARTS: u8 = 1;
/// A proxy that checks passwords has refused a bad one by then; a longer silence is about the
/// target, and must not keep other dials from being tried.
const VERDICT_WAIT: Duration = Duration::from_secs(1);
/// One read of an answer, octets: a head or a page in one piece mostly.
const READ: usize = 4096;

/// One proxy, ready.
#[derive(Debug)]
pub(super) struct Proxy {
    authority: Authority,
    tls: Option<TlsClient>,
    auth: ProxyAuth,
    digest: [u8; 32],
    health: Mutex<Health>,
}

#[derive(Debug, Default)]
struct Health {
    failures: u32,
    rests_until: Option<Instant>,
}

/// What a conversation came to.
enum Said {
    Opened(bytes::Bytes),
    /// Begin again on a new connection.
    Restart(Box<Refused>),
}

impl Proxy {
    pub(super) fn new(
        egress: &Egress,
        proxy: &EgressProxy,
        material: &ProxyMaterial,
    ) -> Result<Self, DialerError> {
        let auth = ProxyAuth::new(proxy, material).map_err(|problem| DialerError::Credentials {
            egress: egress.name.clone(),
            proxy: proxy.authority.clone(),
            problem,
        })?;
        let tls = match (&material.roots, proxy.tls) {
            (_, false) => None,
            (None, true) => return Err(DialerError::Material(egress.name.clone())),
            (Some(roots), true) => {
                let failed = |source| DialerError::Roots { egress: egress.name.clone(), source };
                Some(TlsClient::new(roots, egress.post_quantum).map_err(failed)?)
            }
        };
        let (digest, health) = (auth.digest(), Mutex::default());
        Ok(Self { authority: proxy.authority.clone(), tls, auth, digest, health })
    }

    fn failed(&self) {
        let mut health = self.health();
        let rest = REST_FIRST.saturating_mul(1 << health.failures.min(5)).min(REST_LONGEST);
        health.failures = health.failures.saturating_add(1);
        health.rests_until = Some(Instant::now() + rest);
    }

    fn works(&self) {
        *self.health() = Health::default();
    }

    fn rests_until(&self) -> Option<Instant> {
        self.health().rests_until.filter(|until| *until > Instant::now())
    }

    fn health(&self) -> MutexGuard<'_, Health> {
        // Two plain fields: a panic between them costs a rest at most.
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dialer {
    /// Tries the proxies: those that work in the order configured, then the resting ones, the
    /// soonest first. When all fail the error is the one that got furthest.
    pub(super) async fn open_through_proxies(
        &self,
        out: &Out,
        reach: &Authority,
        deadline: Instant,
        observe: &dyn Observe,
    ) -> Result<Opened, HopError> {
        let mut order: Vec<_> = out.proxies.iter().collect();
        order.sort_by_key(|proxy| proxy.rests_until());
        let mut best: Option<HopError> = None;
        let last = order.len().saturating_sub(1);
        for (place, proxy) in order.into_iter().enumerate() {
            let Patience { connect, connect_elsewhere, .. } = self.patience;
            let patience = if place < last { connect_elsewhere } else { connect };
            let tried = self.open_through(out, proxy, reach, (deadline, patience), observe).await;
            let error = match tried {
                Ok(opened) => {
                    proxy.works();
                    return Ok(opened);
                }
                Err(error) => error.with_peer(proxy.authority.clone()),
            };
            match failover(&error) {
                Failover::Never => return Err(error),
                Failover::Rest => proxy.failed(),
                Failover::Next => {}
            }
            if out.proxies.len() > 1 {
                let (egress, proxy) = (&out.egress.name, &proxy.authority);
                tracing::warn!(%egress, %proxy, %error, "this proxy did not open a tunnel");
            }
            if best.as_ref().is_none_or(|best| error.stage > best.stage) {
                best = Some(error);
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        // The list is not empty, so at least one was tried.
        Err(best
            .unwrap_or_else(|| HopError::new(Hop::ToProxy, Stage::Tcp, HopErrorKind::Unreachable)))
    }

    async fn open_through(
        &self,
        out: &Out,
        proxy: &Proxy,
        reach: &Authority,
        (deadline, patience): (Instant, Duration),
        observe: &dyn Observe,
    ) -> Result<Opened, HopError> {
        let key = (out.egress.name.clone(), proxy.authority.clone());
        let latched =
            || HopError::new(Hop::Proxy, Stage::Connect, HopErrorKind::CredentialsLatched);
        if self.latches.is_latched(&key, proxy.digest) {
            return Err(latched());
        }
        let mut restarts = 0;
        loop {
            let (mut transport, local, peer) = self.link(out, proxy, deadline, observe).await?;
            let began = Instant::now();
            let until = deadline.min(began + patience);
            let attempt = if proxy.auth.is_some() {
                let waiting = self.latches.attempt(key.clone(), proxy.digest);
                let waited = timeout_at(until, waiting).await.map_err(|_elapsed| silent())?;
                Some(waited.map_err(|_latched| latched())?)
            } else {
                None
            };
            let talk = Talk { proxy, reach, began, until, observe };
            match talk.converse(&mut transport, attempt).await? {
                Said::Opened(early) => {
                    let proxy = Some(proxy.authority.clone());
                    return Ok(Opened { transport, early, local, peer, proxy, pinned: false });
                }
                Said::Restart(_) if restarts < RESTARTS => restarts += 1,
                Said::Restart(refused) => return Err(blame::refusal(refused.refusal)),
            }
        }
    }

    /// TCP and, where wanted, TLS to the proxy itself.
    async fn link(
        &self,
        out: &Out,
        proxy: &Proxy,
        deadline: Instant,
        observe: &dyn Observe,
    ) -> Result<(Transport, std::net::SocketAddr, std::net::SocketAddr), HopError> {
        let at = &proxy.authority;
        let resolve = async {
            let resolved = match &at.host {
                Host::Ip(ip) => Ok(Resolved { addresses: vec![*ip], source: Source::Literal }),
                Host::Name(name) => out.resolver.proxy(name).await,
            };
            resolved.map_err(blame::resolve)
        };
        let shown = Shown { origin: at, led: true, pinned: false };
        let addresses = self.addresses(resolve, at, shown, deadline, observe).await?;
        let stream = self.tcp(out, &addresses, Hop::ToProxy, deadline, observe).await?;
        let (local, peer) = ends(&stream, Hop::ToProxy)?;
        let Some(tls) = &proxy.tls else { return Ok((Transport::Tcp(stream), local, peer)) };
        let began = Instant::now();
        let until = deadline.min(began + self.patience.proxy_tls);
        let handshake = tls.handshake(stream, &at.host, Offer::Http1, None);
        let timeout = |_elapsed| HopError::new(Hop::Proxy, Stage::ProxyTls, HopErrorKind::Timeout);
        let secured = timeout_at(until, handshake).await.map_err(timeout)?;
        let (stream, facts) = secured.map_err(blame::proxy_tls)?;
        let fact = Fact::Tls(Box::new(facts));
        observe.passed(Finding { stage: Stage::ProxyTls, took: began.elapsed(), fact });
        Ok((Transport::ProxyTls(Box::new(stream)), local, peer))
    }
}

/// One connection's CONNECT with all its legs.
struct Talk<'a> {
    proxy: &'a Proxy,
    reach: &'a Authority,
    began: Instant,
    until: Instant,
    observe: &'a dyn Observe,
}

impl Talk<'_> {
    async fn converse(
        &self,
        transport: &mut Transport,
        mut attempt: Option<Attempt<'_>>,
    ) -> Result<Said, HopError> {
        let mut legs = self.proxy.auth.begin();
        let first = timeout_at(self.until, legs.first()).await.map_err(|_elapsed| silent())?;
        let mut value = match first {
            Ok(value) => value,
            Err(fault) => {
                // A KDC locks accounts as a proxy's directory does.
                if let (LegFault::Gss { refused: true, .. }, Some(attempt)) = (&fault, attempt) {
                    attempt.refused();
                }
                return Err(leg_fault(fault));
            }
        };
        let mut repeated = None;
        loop {
            let head = request(self.reach, value.as_ref().map(|value| value.expose()));
            let asked = self.ask(transport, &head, &mut attempt).await;
            let answer = match asked {
                Ok(answer) => answer,
                // It closed, although its 407 promised to go on.
                Err(error) => return repeated.map(Said::Restart).ok_or(error),
            };
            let refused = match answer {
                Answer::Opened { status, reason, via, marks, early } => {
                    if let Some(attempt) = attempt {
                        attempt.accepted();
                    }
                    let fact = Fact::Tunnel { status, reason, via, marks };
                    let took = self.began.elapsed();
                    self.observe.passed(Finding { stage: Stage::Connect, took, fact });
                    return Ok(Said::Opened(early));
                }
                Answer::Refused(refused) if refused.refusal.status == 407 => refused,
                // tinyproxy's word for a wrong password; without latching every dial tries it.
                Answer::Refused(refused) if refused.refusal.status == 401 && value.is_some() => {
                    attempt.into_iter().for_each(Attempt::refused);
                    return Err(credentials_refused(*refused));
                }
                Answer::Refused(refused) => return Err(blame::refusal(refused.refusal)),
            };
            match self.next_leg(&mut legs, &refused).await? {
                Next::Answer(next) if refused.reusable => value = Some(next),
                Next::Answer(_) | Next::Restart => return Ok(Said::Restart(refused)),
                Next::NotOffered => {
                    let kind = HopErrorKind::CredentialsMissing(Box::new(refused.refusal));
                    return Err(HopError::new(Hop::Proxy, Stage::Connect, kind));
                }
                // Two refusals latch, so at most one is spent on the chance that it did not look.
                Next::Again(same) => {
                    let left = attempt.as_mut().is_some_and(Attempt::refused_once);
                    if !(left && refused.reusable) {
                        return Err(credentials_refused(*refused));
                    }
                    value = Some(same);
                    repeated = Some(refused);
                }
                Next::Refused => {
                    attempt.into_iter().for_each(Attempt::refused);
                    return Err(credentials_refused(*refused));
                }
            }
        }
    }

    async fn next_leg(&self, legs: &mut Legs<'_>, refused: &Refused) -> Result<Next, HopError> {
        let next = timeout_at(self.until, legs.next(refused)).await;
        next.map_err(|_elapsed| silent())?.map_err(leg_fault)
    }

    /// Sends one CONNECT and reads its answer.
    async fn ask(
        &self,
        transport: &mut Transport,
        head: &[u8],
        attempt: &mut Option<Attempt<'_>>,
    ) -> Result<Answer, HopError> {
        let broken = |error: std::io::Error| {
            HopError::new(Hop::Proxy, Stage::Connect, tcp::kind(&error)).caused_by(error)
        };
        let sending = async {
            transport.write_all(head).await?;
            transport.flush().await
        };
        timeout_at(self.until, sending).await.map_err(|_elapsed| silent())?.map_err(broken)?;
        let verdict = self.until.min(Instant::now() + VERDICT_WAIT);
        let mut reader = AnswerReader::default();
        let mut buffer = [0; READ];
        loop {
            let until =
                if attempt.as_ref().is_some_and(Attempt::holds) { verdict } else { self.until };
            let read = match timeout_at(until, transport.read(&mut buffer)).await {
                Ok(read) => read,
                Err(_elapsed) if until < self.until => {
                    if let Some(attempt) = attempt {
                        attempt.release();
                    }
                    continue;
                }
                Err(_elapsed) => return reader.give_up().ok_or_else(silent),
            };
            match read {
                Ok(0) => return reader.end().map_err(blame::tunnel),
                Ok(n) => {
                    if let Some(answer) = reader.read(&buffer[..n]).map_err(blame::tunnel)? {
                        return Ok(answer);
                    }
                }
                // A proxy that refuses and resets has still said why.
                Err(error) => return reader.give_up().ok_or_else(|| broken(error)),
            }
        }
    }
}

fn credentials_refused(refused: Refused) -> HopError {
    let kind = HopErrorKind::CredentialsRefused(Box::new(refused.refusal));
    HopError::new(Hop::Proxy, Stage::Connect, kind)
}

/// No verdict on CONNECT: a hung proxy, or one that waits for the target.
fn silent() -> HopError {
    HopError::new(Hop::BeyondProxy, Stage::Connect, HopErrorKind::Timeout)
}

fn leg_fault(fault: LegFault) -> HopError {
    let (hop, kind) = match &fault {
        LegFault::Gss { .. } => {
            (Hop::RelayHost, HopErrorKind::CredentialsUnusable(fault.to_string()))
        }
        LegFault::Random => (Hop::RelayHost, HopErrorKind::Io(std::io::ErrorKind::Unsupported)),
        LegFault::Ntlm(fault) => (Hop::Proxy, HopErrorKind::Protocol(fault.to_string())),
    };
    HopError::new(hop, Stage::Connect, kind).caused_by(fault)
}

enum Failover {
    /// It is about the target: another proxy would say the same, and policy is not to be tried
    /// around.
    Never,
    /// To the next one; this one is well.
    Next,
    /// To the next one; this one rests.
    Rest,
}

fn failover(error: &HopError) -> Failover {
    // Each proxy has credentials of its own.
    let credentials = matches!(
        error.kind,
        HopErrorKind::CredentialsLatched
            | HopErrorKind::CredentialsMissing(_)
            | HopErrorKind::CredentialsRefused(_)
            | HopErrorKind::CredentialsUnusable(_)
    );
    if let HopErrorKind::ProxyRefused(refusal) = &error.kind
        && refusal.status < 500
    {
        return Failover::Never;
    }
    if credentials { Failover::Next } else { Failover::Rest }
}
