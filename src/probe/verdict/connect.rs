//! TCP, TLS with the proxy, and CONNECT.

use super::{Judged, text};
use crate::hop::{Hop, HopErrorKind, ProxyRefusal, Stage};
use crate::probe::codes::Code;
use crate::probe::findings::{Failure, Findings, Tried};

pub(super) fn judge(findings: &Findings, failure: &Failure) -> Judged {
    match failure.stage {
        Stage::Tcp if failure.at_proxy || failure.hop == Hop::ToProxy => to_proxy(failure),
        Stage::Tcp => direct(failure),
        Stage::ProxyTls => proxy_tls(failure),
        Stage::Connect => connect(findings, failure),
        Stage::Queue
        | Stage::Resolve
        | Stage::Tls
        | Stage::Alpn
        | Stage::Settings
        | Stage::Ping
        | Stage::Request => unexplained(failure),
    }
}

pub(super) fn unexplained(failure: &Failure) -> Judged {
    Judged::new(Code::Unexplained).at(failure.hop).detail(text(failure))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only what connect(2) says is told apart")]
fn to_proxy(failure: &Failure) -> Judged {
    match &failure.kind {
        HopErrorKind::Refused => Judged::new(Code::ProxyRefused),
        HopErrorKind::Timeout => Judged::new(Code::ProxyFiltered),
        HopErrorKind::Unreachable => Judged::new(Code::ProxyUnreachable),
        HopErrorKind::Closed => Judged::new(Code::ProxyRefused),
        HopErrorKind::Io(_) => Judged::new(Code::OurFault).detail(text(failure)),
        _ => unexplained(failure),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "only what connect(2) says is told apart")]
fn direct(failure: &Failure) -> Judged {
    match &failure.kind {
        HopErrorKind::Refused => Judged::new(Code::DirectRefused),
        HopErrorKind::Timeout => Judged::new(Code::DirectFiltered),
        HopErrorKind::Unreachable => Judged::new(Code::DirectUnreachable),
        HopErrorKind::Closed => Judged::new(Code::DirectClosed),
        HopErrorKind::Io(_) => Judged::new(Code::OurFault).detail(text(failure)),
        _ => unexplained(failure),
    }
}

fn proxy_tls(failure: &Failure) -> Judged {
    if matches!(failure.kind, HopErrorKind::NotTheProtocol { .. }) {
        return Judged::new(Code::ProxyNotTls);
    }
    Judged::new(Code::ProxyTls).detail(text(failure))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what cannot happen at CONNECT is unexplained")]
fn connect(findings: &Findings, failure: &Failure) -> Judged {
    let speaks_tls = findings.controls.proxy_tls == Some(true);
    match &failure.kind {
        HopErrorKind::CredentialsMissing(refusal) => {
            let code = if findings.credentials { Code::AuthScheme } else { Code::AuthMissing };
            Judged::new(code).with("offered", offered(refusal))
        }
        HopErrorKind::CredentialsRefused(refusal) => Judged::new(Code::AuthRefused)
            .with("offered", offered(refusal))
            .with("status", status(refusal)),
        HopErrorKind::CredentialsLatched => Judged::new(Code::AuthRefused)
            .with("offered", "what it offered before")
            .with("status", "twice before, so not tried again"),
        HopErrorKind::CredentialsUnusable(why) => Judged::new(Code::OurFault).detail(why.clone()),
        HopErrorKind::ProxyRefused(_)
        | HopErrorKind::NotTheProtocol { .. }
        | HopErrorKind::Closed
            if speaks_tls =>
        {
            Judged::new(Code::ProxySpeaksTls)
        }
        HopErrorKind::ProxyRefused(refusal) => refused(findings, failure, refusal),
        HopErrorKind::NotTheProtocol { seen, .. } => {
            Judged::new(Code::ProxyNotHttp).detail(format!("{seen:?}"))
        }
        HopErrorKind::Protocol(what) => Judged::new(Code::ProxyNotHttp).detail(what.clone()),
        HopErrorKind::Closed => Judged::new(Code::ProxyClosed),
        HopErrorKind::Timeout => match &findings.controls.other_host {
            None => Judged::new(Code::ConnectTimeout),
            Some(other) if other.passed(Stage::Connect) => Judged::new(Code::ConnectWaits),
            Some(other) if same_silence(other) => Judged::new(Code::ProxyHung),
            // It answers for the other host, be it with a refusal.
            Some(other) if answered_connect(other) => Judged::new(Code::ConnectWaits),
            Some(_) => Judged::new(Code::ConnectTimeout),
        },
        HopErrorKind::Io(_) => Judged::new(Code::OurFault).detail(text(failure)),
        _ => unexplained(failure),
    }
}

fn same_silence(other: &Tried) -> bool {
    other.failure.as_ref().is_some_and(|failure| {
        failure.stage == Stage::Connect && failure.kind == HopErrorKind::Timeout
    })
}

fn answered_connect(other: &Tried) -> bool {
    let failure = other.failure.as_ref();
    failure.is_some_and(|failure| matches!(failure.kind, HopErrorKind::ProxyRefused(_)))
}

fn offered(refusal: &ProxyRefusal) -> String {
    if refusal.offered.is_empty() { "nothing".to_owned() } else { refusal.offered.join(", ") }
}

fn status(refusal: &ProxyRefusal) -> String {
    format!("{} {}", refusal.status, refusal.reason).trim().to_owned()
}

fn refused(findings: &Findings, failure: &Failure, refusal: &ProxyRefusal) -> Judged {
    let squid = refusal.squid_error.clone().unwrap_or_default();
    let said = if squid.is_empty() { status(refusal) } else { squid.clone() };
    let judged =
        |code: Code| Judged::new(code).with("status", status(refusal)).detail(said.clone());
    // Squid and others that say what their own connection met.
    if squid.starts_with("ERR_DNS_FAIL") {
        return judged(Code::ProxyDns);
    }
    if squid.starts_with("ERR_CONNECT_FAIL 110") {
        return judged(Code::BehindTimeout);
    }
    if squid.starts_with("ERR_CONNECT_FAIL") {
        return judged(Code::BehindRefused);
    }
    if squid.starts_with("ERR_CANNOT_FORWARD") {
        return judged(Code::CannotForward);
    }
    match refusal.status {
        407 => {
            Judged::new(if findings.credentials { Code::AuthRefused } else { Code::AuthMissing })
                .with("offered", offered(refusal))
                .with("status", status(refusal))
        }
        300..=399 | 511 => judged(Code::PortalRedirect),
        401 | 403 | 451 => policy(findings, &judged),
        429 => judged(Code::ProxyBusy),
        400 | 404 | 405 | 426 | 501 => judged(Code::NotAConnectProxy),
        504 => judged(Code::BehindTimeout),
        // The other host is refused in the same way: it is not about what lies beyond.
        502 | 503 if findings.controls.other_host.as_ref().is_some_and(gateway) => {
            judged(Code::Gateway).at(Hop::Proxy)
        }
        502 | 503 => judged(Code::Gateway).at(Hop::BeyondProxy),
        // tinyproxy says 500 for whatever its own connection met.
        500 if opened_other(findings) => judged(Code::Gateway).at(Hop::BeyondProxy),
        _ => judged(Code::ProxyBroken).at(if failure.hop == Hop::Portal {
            Hop::Proxy
        } else {
            failure.hop
        }),
    }
}

/// By port, by name, or for everybody.
fn policy(findings: &Findings, judged: &dyn Fn(Code) -> Judged) -> Judged {
    let controls = &findings.controls;
    let allowed = |tried: &Tried| tried.passed(Stage::Connect) || gateway(tried);
    if controls.other_port.as_ref().is_some_and(allowed) {
        return judged(Code::PolicyPort);
    }
    match &controls.other_host {
        Some(other) if allowed(other) => judged(Code::PolicyHost),
        Some(other) if forbidden(other) => judged(Code::PolicyAll),
        Some(_) | None => judged(Code::Policy),
    }
}

/// The same proxy opens a tunnel to another host.
fn opened_other(findings: &Findings) -> bool {
    findings.controls.other_host.as_ref().is_some_and(|other| other.passed(Stage::Connect))
}

/// It was not forbidden: the proxy tried and failed.
fn gateway(tried: &Tried) -> bool {
    refusal_of(tried).is_some_and(|refusal| matches!(refusal.status, 500..=504))
}

fn forbidden(tried: &Tried) -> bool {
    refusal_of(tried).is_some_and(|refusal| matches!(refusal.status, 401 | 403 | 451))
}

fn refusal_of(tried: &Tried) -> Option<&ProxyRefusal> {
    let kind = &tried.failure.as_ref()?.kind;
    if let HopErrorKind::ProxyRefused(refusal) = kind { Some(refusal) } else { None }
}
