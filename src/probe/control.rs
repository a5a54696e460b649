//! Control rungs: climbed only after a failure, to tell apart what looks alike from here.
//!
//! Each is one connection more at most, all at once, within one bound. None is climbed where it
//! could lock an account.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::Wishes;
use super::findings::{Controls, Findings, Tried};
use super::ground::Ground;
use super::ladder::{self, Aim, failure};
use super::rung::{Outcome, Recorder, millis};
use crate::hop::{Fact, HopErrorKind, Stage, clean};
use crate::names::{Authority, Host};
use crate::upstream::dial::{Dialer, Offer};

/// All control rungs together.
const ALL: Duration = Duration::from_secs(5);

/// Whoever speaks TLS answers a hello at once; a proxy in clear text often waits for more.
const TLS_ANSWER: Duration = Duration::from_millis(1500);
/// Longest alert kept, characters.
const ALERT_CAP: usize = 120;

/// Which rungs a failure asks for.
#[derive(Debug, Clone, Copy, Default)]
struct Wanted {
    other_host: bool,
    other_port: bool,
    no_alpn: bool,
    both_alpn: bool,
    small_hello: bool,
    bare_settings: bool,
    proxy_tls: bool,
    direct: bool,
}

fn wanted(findings: &Findings, wishes: Wishes) -> Wanted {
    let proxied = findings.proxy.is_some();
    let direct = wishes.allow_direct && proxied;
    let Some(failure) = &findings.failure else {
        return Wanted { other_port: true, direct, ..Wanted::default() };
    };
    let mut wanted = Wanted { direct, ..Wanted::default() };
    match (failure.stage, &failure.kind) {
        (
            _,
            HopErrorKind::CredentialsMissing(_)
            | HopErrorKind::CredentialsRefused(_)
            | HopErrorKind::CredentialsLatched
            | HopErrorKind::CredentialsUnusable(_)
            | HopErrorKind::Loop(_),
        ) => {}
        (Stage::Connect, kind) => {
            wanted.other_host = true;
            wanted.other_port = true;
            // Servers with TLS say 400 to clear text; any other status comes from an HTTP proxy.
            let at_clear_text =
                matches!(kind, HopErrorKind::ProxyRefused(refusal) if refusal.status == 400);
            wanted.proxy_tls = at_clear_text
                || matches!(kind, HopErrorKind::NotTheProtocol { .. } | HopErrorKind::Closed);
        }
        (Stage::Tcp, _) if !failure.at_proxy => {
            wanted.other_port = true;
            wanted.other_host = true;
        }
        (Stage::Tls, kind) => {
            wanted.other_host = true;
            wanted.other_port = true;
            wanted.small_hello = matches!(kind, HopErrorKind::Closed | HopErrorKind::Timeout);
            let refused = matches!(kind, HopErrorKind::Alert(alert) if alert.ends_with("(120)"));
            wanted.no_alpn = refused;
            wanted.both_alpn = refused;
        }
        (Stage::Alpn, _) => {
            wanted.other_port = true;
            wanted.both_alpn = true;
        }
        (Stage::Settings, _) => {
            wanted.other_port = true;
            wanted.bare_settings = true;
        }
        (Stage::Ping | Stage::Request, _) => wanted.other_port = true,
        _ => {}
    }
    wanted
}

/// Climbs what the failure asks for.
pub async fn climb(
    ground: &Ground,
    aim: &Aim,
    wishes: Wishes,
    until: Instant,
    findings: &mut Findings,
    recorder: &Recorder,
) {
    let wanted = wanted(findings, wishes);
    let until = until.min(Instant::now() + ALL);
    let climber = Climber { ground, aim, until, recorder };
    let origin = &aim.origin;
    let other = ground.references.iter().find(|it| it.host != origin.host);
    let other_host = other.filter(|_| wanted.other_host);
    let port = other_port(aim).filter(|_| wanted.other_port);
    let port = port.map(|port| Authority::new(origin.host.clone(), port));
    let same = |want: bool| want.then_some(origin);
    let usual = aim.offer();
    let small = same(wanted.small_hello);
    let (other_host, other_port, no_alpn, both_alpn, small_hello, direct, bare, proxy_tls) = tokio::join!(
        climber.try_dial("other-host", &ground.dialer, other_host, Offer::H2AndHttp1, false),
        climber.try_dial("other-port", &ground.dialer, port.as_ref(), usual, aim.h2_only),
        climber.try_dial("no-alpn", &ground.dialer, same(wanted.no_alpn), Offer::NoAlpn, false),
        climber.try_dial(
            "both-alpn",
            &ground.dialer,
            same(wanted.both_alpn),
            Offer::H2AndHttp1,
            false
        ),
        climber.try_dial("small-hello", &ground.small, small, usual, false),
        climber.direct(wanted.direct),
        climber.bare_settings(wanted.bare_settings),
        climber.proxy_tls(wanted.proxy_tls),
    );
    let large_request = match &findings.failure {
        Some(failure)
            if failure.stage == Stage::Request && failure.kind == HopErrorKind::Timeout =>
        {
            climber.small_request().await
        }
        Some(_) | None => None,
    };
    findings.controls = Controls {
        other_host,
        other_port,
        no_alpn,
        both_alpn,
        small_hello,
        bare_settings: bare.as_ref().map(|(answered, _)| *answered),
        late_alert: bare.and_then(|(_, alert)| alert),
        proxy_tls,
        large_request,
        direct,
    };
}

/// The issuer that a failed verification saw.
fn certificate_issuer(kind: &HopErrorKind) -> Option<String> {
    if let HopErrorKind::Certificate { issuer, .. } = kind { issuer.clone() } else { None }
}

/// Where else the same host listens, or, to tell a rule by port from others, 443.
fn other_port(aim: &Aim) -> Option<u16> {
    let port = aim.origin.port;
    aim.other_ports
        .iter()
        .copied()
        .find(|other| *other != port)
        .or_else(|| (port != 443).then_some(443))
}

struct Climber<'a> {
    ground: &'a Ground,
    aim: &'a Aim,
    until: Instant,
    recorder: &'a Recorder,
}

impl Climber<'_> {
    async fn try_dial(
        &self,
        name: &str,
        dialer: &Dialer,
        to: Option<&Authority>,
        offer: Offer,
        demand_h2: bool,
    ) -> Option<Tried> {
        let to = to?;
        let began = Instant::now();
        let watched = Recorder::default();
        let target = self.aim.target(to, offer, demand_h2, self.until);
        let dialed = match dialer.dial(&target, &watched).await {
            // Another port is an answer to the fault only if it carries a whole push.
            Ok(dialed) if name == "other-port" && dialed.facts.h2 => {
                let alpn = dialed.facts.alpn.clone();
                ladder::serves(self.aim, to, dialed, self.until).await.map(|()| alpn)
            }
            Ok(dialed) => Ok(dialed.facts.alpn),
            Err(error) => Err(error),
        };
        let shown = watched.latest(|fact| match fact {
            Fact::Tls(facts) => Some((facts.issuer.clone(), facts.inspected)),
            Fact::Addresses { .. }
            | Fact::Tcp { .. }
            | Fact::Tunnel { .. }
            | Fact::Alpn(_)
            | Fact::Settings(_)
            | Fact::Ping => None,
        });
        let proxy = self.ground.proxy(&self.aim.egress).map(|proxy| &proxy.authority);
        let tried = match dialed {
            Ok(alpn) => Tried {
                with: to.clone(),
                failure: None,
                issuer: shown.as_ref().and_then(|(issuer, _)| issuer.clone()),
                inspected: shown.is_some_and(|(_, inspected)| inspected),
                alpn,
            },
            Err(error) => {
                let at_failure = certificate_issuer(&error.kind);
                let issuer = at_failure.or_else(|| shown.as_ref().and_then(|it| it.0.clone()));
                let inspected = shown.is_some_and(|(_, inspected)| inspected);
                let failure = Some(failure(&error, proxy));
                Tried { with: to.clone(), failure, issuer, inspected, alpn: None }
            }
        };
        self.recorder.tried(name, &tried, millis(began.elapsed()));
        Some(tried)
    }

    /// The same host without the proxy.
    async fn direct(&self, wanted: bool) -> Option<Tried> {
        let dialer = self.ground.direct.as_ref().filter(|_| wanted)?;
        let (aim, to) = (self.aim, Some(&self.aim.origin));
        self.try_dial("direct", dialer, to, aim.offer(), aim.h2_only).await
    }

    /// The preface with an empty SETTINGS frame; do the peer's SETTINGS come, or an alert?
    async fn bare_settings(&self, wanted: bool) -> Option<(bool, Option<String>)> {
        if !wanted {
            return None;
        }
        let began = Instant::now();
        let target = self.aim.target(&self.aim.origin, self.aim.offer(), true, self.until);
        let mut io = self.ground.dialer.dial(&target, &crate::hop::Unobserved).await.ok()?.io;
        let exchanged = async {
            let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            let sent = io.write_all(preface).await.and(io.flush().await);
            // A peer that closed may have said why, so what came is read even then.
            let mut head = [0; 9];
            let read = io.read_exact(&mut head).await;
            // Type 4 is SETTINGS, flag 1 its acknowledgement (RFC 9113 §6.5): only the peer's own
            // counts.
            let answered = read.is_ok() && head[3] == 4 && head[4] & 1 == 0;
            let said = [sent.err(), read.err()].into_iter().flatten();
            let mut said = said.map(|error| clean(error.to_string().as_bytes(), ALERT_CAP));
            (answered, said.find(|error| error.contains("fatal alert")))
        };
        let (answered, alert) = timeout_at(self.until, exchanged).await.unwrap_or_default();
        self.say("bare-settings", answered, began);
        Some((answered, alert))
    }

    /// Does the proxy complete, or at least speak, TLS where clear text is configured?
    async fn proxy_tls(&self, wanted: bool) -> Option<bool> {
        let proxy = self.ground.proxy(&self.aim.egress)?;
        if !wanted || proxy.tls {
            return None;
        }
        let began = Instant::now();
        let until = self.until.min(began + TLS_ANSWER);
        let speaks = timeout_at(until, speaks_tls(&proxy.authority)).await;
        let speaks = speaks.ok().flatten().unwrap_or(false);
        self.say("proxy-tls", speaks, began);
        Some(speaks)
    }

    /// The large request got no answer; does a small one?
    async fn small_request(&self) -> Option<bool> {
        let began = Instant::now();
        let passes = ladder::small_request(self.ground, self.aim, self.until).await;
        self.say("small-request", passes, began);
        // A small one that passes proves that the large one was too large.
        passes.then_some(false)
    }

    fn say(&self, name: &str, worked: bool, began: Instant) {
        let result = if worked { Outcome::Pass } else { Outcome::Fail };
        let evidence = serde_json::json!({ "worked": worked });
        self.recorder.add(
            &format!("control:{name}"),
            result,
            Some(millis(began.elapsed())),
            evidence,
        );
    }
}

/// A connection to the proxy itself, outside the dialer.
pub(super) async fn connected(proxy: &Authority) -> Option<TcpStream> {
    let connecting = match &proxy.host {
        Host::Ip(ip) => TcpStream::connect((*ip, proxy.port)).await,
        Host::Name(name) => TcpStream::connect((name.as_str(), proxy.port)).await,
    };
    connecting.ok()
}

/// Sends a ClientHello and looks at the first byte that comes back: 22 is a handshake record, 21
/// an alert (RFC 8446 §5.1).
async fn speaks_tls(proxy: &Authority) -> Option<bool> {
    let mut tcp = connected(proxy).await?;
    let roots = rustls::RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .ok()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = rustls::pki_types::ServerName::try_from(proxy.host.to_string()).ok()?;
    let mut session = rustls::ClientConnection::new(std::sync::Arc::new(config), name).ok()?;
    let mut hello = Vec::new();
    session.write_tls(&mut hello).ok()?;
    tcp.write_all(&hello).await.ok()?;
    Some(matches!(tcp.read_u8().await.ok()?, 21 | 22))
}
