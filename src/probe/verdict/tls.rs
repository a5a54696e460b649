//! TLS with the origin, what ALPN chose, and the first SETTINGS.

use super::{Judged, between, is_inspected, issuer, text};
use crate::hop::{CertificateFault, Hop, HopErrorKind, Stage};
use crate::probe::codes::Code;
use crate::probe::findings::{Failure, Findings, Tried};
use crate::probe::vendors;

/// A clock that is off by more explains an expired certificate, seconds.
const CLOCK_EXPLAINS: i64 = 3600;

#[expect(clippy::wildcard_enum_match_arm, reason = "what cannot happen in TLS is unexplained")]
pub(super) fn handshake(findings: &Findings, failure: &Failure) -> Judged {
    let proxied = findings.proxy.is_some();
    let small_passes = findings.controls.small_hello.as_ref().is_some_and(|t| t.passed(Stage::Tls));
    match &failure.kind {
        HopErrorKind::NotTheProtocol { seen, .. } => {
            let code =
                if failure.hop == Hop::Portal { Code::PortalPage } else { Code::ForeignBytes };
            Judged::new(code).at(failure.hop).detail(format!("{}.", short(seen)))
        }
        HopErrorKind::Closed | HopErrorKind::Timeout if small_passes => {
            Judged::new(Code::HelloTooLarge).at(between(findings))
        }
        HopErrorKind::Closed if proxied && for_this_host(findings) => {
            Judged::new(Code::TunnelResetHost)
        }
        HopErrorKind::Closed if proxied => Judged::new(Code::TunnelReset),
        HopErrorKind::Closed => Judged::new(Code::NetworkReset),
        HopErrorKind::Timeout if proxied && for_this_host(findings) => {
            Judged::new(Code::TunnelSilentHost)
        }
        HopErrorKind::Timeout if proxied => Judged::new(Code::TunnelSilent),
        HopErrorKind::Timeout => Judged::new(Code::NetworkSilent),
        HopErrorKind::Alert(alert) if alert.ends_with("(120)") => refused_alpn(findings),
        HopErrorKind::Alert(alert) if alert.ends_with("(70)") => {
            Judged::new(Code::TlsVersion).at(far_end(findings)).detail(alert.clone())
        }
        HopErrorKind::Alert(alert) => {
            Judged::new(Code::TlsAlert).at(far_end(findings)).detail(alert.clone())
        }
        HopErrorKind::Protocol(what) if what.contains("incompatible") => {
            Judged::new(Code::TlsVersion).at(far_end(findings)).detail(what.clone())
        }
        HopErrorKind::Protocol(what) => {
            Judged::new(Code::TlsBroken).at(far_end(findings)).detail(what.clone())
        }
        HopErrorKind::Certificate { reason, .. } => certificate(findings, failure, *reason),
        _ => super::connect::unexplained(failure),
    }
}

/// The first line of peer text is enough for a sentence.
fn short(seen: &str) -> String {
    let cut: String = seen.chars().take(60).collect();
    format!("{cut:?}")
}

/// Another host gets through TLS by the same way.
fn for_this_host(findings: &Findings) -> bool {
    findings.controls.other_host.as_ref().is_some_and(|other| other.passed(Stage::Tls))
}

/// Whoever ends TLS: past a proxy it cannot be told whether that is the origin.
const fn far_end(findings: &Findings) -> Hop {
    if findings.proxy.is_some() { Hop::BeyondProxy } else { Hop::Origin }
}

fn certificate(findings: &Findings, failure: &Failure, reason: CertificateFault) -> Judged {
    let explained = findings.skew.is_some_and(|skew| skew.abs() > CLOCK_EXPLAINS);
    let detail = text(failure);
    let issuer = issuer(findings);
    let vendor = issuer.as_deref().and_then(vendors::by_issuer);
    // Another host's certificate is valid by our clock.
    let right = super::is_right(findings) || for_this_host(findings);
    let judged = |code: Code| Judged::new(code).at(failure.hop).detail(detail.clone());
    match reason {
        CertificateFault::Expired | CertificateFault::NotYetValid if explained => {
            Judged::new(Code::ClockWrong)
        }
        CertificateFault::Expired if failure.hop == Hop::Inspector => judged(Code::CertExpired),
        CertificateFault::Expired if !right && other_expired(findings) => {
            judged(Code::CertExpired).at(Hop::RelayHost)
        }
        CertificateFault::Expired => judged(Code::CertExpired).at(far_end(findings)),
        // Somebody else's clock says the same as ours.
        CertificateFault::NotYetValid if right && failure.hop == Hop::RelayHost => {
            judged(Code::ClockBehind).at(far_end(findings))
        }
        CertificateFault::NotYetValid => judged(Code::ClockBehind),
        CertificateFault::WrongName => judged(Code::CertName),
        CertificateFault::OwnIssuer => judged(Code::RelayInPlace),
        CertificateFault::UnknownIssuer if vendor.is_some() => {
            judged(Code::InspectorKnown).at(Hop::Inspector)
        }
        CertificateFault::UnknownIssuer if is_self_signed(failure) => judged(Code::SelfSigned),
        CertificateFault::UnknownIssuer => {
            judged(Code::InspectorUnknown).with("speaks", speaks(findings, issuer.as_deref()))
        }
        // What `openssl req -x509` makes is a root, too, and no server's.
        CertificateFault::Other if is_self_signed(failure) => judged(Code::SelfSigned),
        CertificateFault::Other => judged(Code::CertOther),
    }
}

/// What another host's certificate says of an unknown issuer.
fn speaks(findings: &Findings, issuer: Option<&str>) -> String {
    let Some(other) = &findings.controls.other_host else { return String::new() };
    if other.passed(Stage::Tls) && !other.inspected {
        format!(" For a server speaks that {} shows a certificate that is trusted.", other.with)
    } else if issuer.is_some() && other.issuer.as_deref() == issuer {
        format!(" For a box speaks that {} shows one of the same issuer.", other.with)
    } else {
        String::new()
    }
}

/// Two hosts do not forget to renew on one day: it is the clock.
fn other_expired(findings: &Findings) -> bool {
    let failure = findings.controls.other_host.as_ref().and_then(|other| other.failure.as_ref());
    failure.is_some_and(|failure| {
        let expired = CertificateFault::Expired;
        matches!(failure.kind, HopErrorKind::Certificate { reason, .. } if reason == expired)
    })
}

fn is_self_signed(failure: &Failure) -> bool {
    if let HopErrorKind::Certificate { issuer, subject, .. } = &failure.kind {
        return issuer.is_some() && issuer == subject;
    }
    false
}

/// Who is at fault when h2 is not agreed on: an inspector where its certificate says so; else,
/// with a certificate that the public trusts, whoever holds it, which nobody between can be.
fn alpn_hop(findings: &Findings, failure: &Failure) -> Hop {
    if is_inspected(findings) || tried_inspected(findings) {
        return Hop::Inspector;
    }
    failure.hop
}

fn tried_inspected(findings: &Findings) -> bool {
    let named = |tried: &Tried| {
        let unknown = tried.failure.as_ref().is_some_and(|failure| {
            matches!(
                failure.kind,
                HopErrorKind::Certificate { reason: CertificateFault::UnknownIssuer, .. }
            )
        });
        let vendor = tried.issuer.as_deref().is_some_and(|it| vendors::by_issuer(it).is_some());
        tried.inspected || unknown || vendor
    };
    let controls = &findings.controls;
    [&controls.no_alpn, &controls.both_alpn].into_iter().flatten().any(named)
}

fn refused_alpn(findings: &Findings) -> Judged {
    let hop = if tried_inspected(findings) { Hop::Inspector } else { between(findings) };
    let both = findings.controls.both_alpn.as_ref();
    match both.and_then(|tried| tried.alpn.clone()) {
        Some(alpn) if alpn != "h2" => Judged::new(Code::AlpnHttp1).at(hop).detail(alpn),
        Some(_) | None => Judged::new(Code::AlpnRefused).at(hop),
    }
}

pub(super) fn alpn(findings: &Findings, failure: &Failure) -> Judged {
    let hop = alpn_hop(findings, failure);
    let HopErrorKind::AlpnNotH2 { chosen, .. } = &failure.kind else {
        return super::connect::unexplained(failure);
    };
    // HAProxy picks none from h2 alone and http/1.1 from both.
    let from_both = || findings.controls.both_alpn.as_ref().and_then(|tried| tried.alpn.clone());
    match chosen.clone().or_else(from_both) {
        Some(alpn) if alpn != "h2" => Judged::new(Code::AlpnHttp1).at(hop).detail(alpn),
        Some(_) | None => Judged::new(Code::AlpnStripped).at(hop),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "what cannot happen at SETTINGS is unexplained")]
pub(super) fn settings(findings: &Findings, failure: &Failure) -> Judged {
    let hop = if is_inspected(findings) { Hop::Inspector } else { far_end(findings) };
    if findings.controls.bare_settings == Some(true) {
        return Judged::new(Code::SettingsValue).at(hop);
    }
    match &failure.kind {
        HopErrorKind::Timeout => Judged::new(Code::H2Swallowed).at(hop),
        HopErrorKind::NotTheProtocol { seen, .. } => {
            Judged::new(Code::H2Http1).at(hop).detail(format!("{}.", short(seen)))
        }
        HopErrorKind::GoAway { .. } => {
            Judged::new(Code::GoAway).at(far_end(findings)).detail(text(failure))
        }
        HopErrorKind::Protocol(_) => Judged::new(Code::H2Broken).at(hop).detail(text(failure)),
        HopErrorKind::Closed | HopErrorKind::Reset { .. } => match late_alert(findings, failure) {
            Some(alert) => Judged::new(Code::TlsAlert).at(far_end(findings)).detail(alert),
            None => Judged::new(Code::H2Closed).at(hop).detail(text(failure)),
        },
        _ => super::connect::unexplained(failure),
    }
}

/// In TLS 1.3 the server judges the client's certificate after the handshake (RFC 8446 §4.4.2.4),
/// so its alert comes where SETTINGS should.
fn late_alert(findings: &Findings, failure: &Failure) -> Option<String> {
    let first = failure.cause.clone().filter(|cause| cause.contains("fatal alert"));
    first.or_else(|| findings.controls.late_alert.clone())
}
