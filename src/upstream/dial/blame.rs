//! From what happened to who is at fault: pure functions, one place.
//!
//! Says only what can be known from here; where proxy and what lies beyond cannot be told apart
//! the word is `beyond-proxy`.

use rustls::CertificateError;

use super::tcp;
use crate::hop::{
    CertificateFault, Hop, HopError, HopErrorKind, LoopCause, ProxyRefusal, Stage, clean,
};
use crate::upstream::resolve::{ResolveFault, Source};
use crate::upstream::tls::{TlsFailure, names};
use crate::upstream::tunnel::TunnelFault;

/// Longest text shown of bytes that are no TLS, characters.
const SEEN_CAP: usize = 200;

/// What is known of the way before TLS with the origin began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Way {
    /// A tunnel leads there.
    pub(super) proxied: bool,
    /// `connect_to` names where.
    pub(super) pinned: bool,
    /// Another relay stands there.
    pub(super) relay: bool,
}

impl Way {
    /// Whoever stands on the way, when it cannot be told who.
    pub(super) const fn between(self) -> Hop {
        if self.proxied { Hop::BeyondProxy } else { Hop::Network }
    }

    /// Who most likely made an answer in TLS.
    const fn far_end(self) -> Hop {
        if self.proxied { Hop::BeyondProxy } else { Hop::Origin }
    }
}

/// Name lookup.
pub(super) fn resolve(fault: ResolveFault) -> HopError {
    let kind = match &fault {
        ResolveFault::NotFound(_) => HopErrorKind::NameNotFound,
        ResolveFault::NoServer => {
            return HopError::new(
                Hop::RelayHost,
                Stage::Resolve,
                HopErrorKind::Io(std::io::ErrorKind::NotFound),
            )
            .caused_by(fault);
        }
        ResolveFault::Failed(error) => HopErrorKind::NameRefused(ResolveFault::says(error)),
        ResolveFault::Unreachable(_) => HopErrorKind::Io(std::io::ErrorKind::NetworkUnreachable),
        ResolveFault::Timeout => HopErrorKind::Timeout,
    };
    HopError::new(Hop::Resolver, Stage::Resolve, kind).caused_by(fault)
}

/// The address is ours: where that comes from. `led` is a pin or a proxy.
pub(super) fn own_address(source: &Source, led: bool) -> HopError {
    let (hop, cause) = match source {
        _ if led => (Hop::RelayHost, LoopCause::Proxy),
        Source::HostsFile => (Hop::RelayHost, LoopCause::HostsFile),
        Source::Literal => (Hop::RelayHost, LoopCause::Proxy),
        Source::Servers(servers) if servers.stub => (Hop::RelayHost, LoopCause::Stub),
        // A server elsewhere has no access to our hosts file.
        Source::Servers(_) => (Hop::Resolver, LoopCause::Zone),
    };
    HopError::new(hop, Stage::Resolve, HopErrorKind::Loop(cause))
}

/// The proxy did not answer CONNECT in HTTP.
pub(super) fn tunnel(fault: TunnelFault) -> HopError {
    let kind = match &fault {
        TunnelFault::Closed => HopErrorKind::Closed,
        TunnelFault::Endless => HopErrorKind::Protocol(fault.to_string()),
        TunnelFault::NotHttp(seen) => {
            HopErrorKind::NotTheProtocol { expected: "HTTP", seen: seen.clone() }
        }
    };
    HopError::new(Hop::Proxy, Stage::Connect, kind).caused_by(fault)
}

/// The proxy refused the tunnel, and not for want of credentials.
pub(super) fn refusal(refusal: ProxyRefusal) -> HopError {
    let squid = refusal.squid_error.as_deref();
    // Squid's ERR_CANNOT_FORWARD is its own DNS or a dead parent alike.
    let reached = squid.is_some_and(|error| !error.starts_with("ERR_CANNOT_FORWARD"));
    let hop = match refusal.status {
        300..=399 | 511 => Hop::Portal,
        502..=504 if reached => Hop::BeyondProxy,
        _ => Hop::Proxy,
    };
    HopError::new(hop, Stage::Connect, HopErrorKind::ProxyRefused(Box::new(refusal)))
}

/// Bytes where TLS, or silence, belongs.
pub(super) fn foreign_bytes(bytes: &[u8], expected: &'static str, way: Way) -> HopError {
    let page = bytes.trim_ascii_start();
    let starts =
        |with: &[u8]| page.get(..with.len()).is_some_and(|it| it.eq_ignore_ascii_case(with));
    let hop = if starts(b"HTTP/") || starts(b"<") { Hop::Portal } else { way.between() };
    let seen = clean(bytes, SEEN_CAP);
    HopError::new(hop, Stage::Tls, HopErrorKind::NotTheProtocol { expected, seen })
}

/// TLS with the origin failed.
pub(super) fn tls(failure: TlsFailure, way: Way) -> HopError {
    // Content types 20 to 24 of RFC 8446 §5.1 and RFC 6520.
    if failure.first.first().is_some_and(|byte| !(20..=24).contains(byte)) {
        return foreign_bytes(&failure.first, "TLS", way).caused_by(failure.error);
    }
    let (subject, issuer) = failure.chain.first().map_or((None, None), |leaf| names(leaf));
    let kind = tls_kind(&failure, subject.as_ref(), issuer.as_ref());
    let hop = if let HopErrorKind::Certificate { reason, .. } = &kind {
        let self_signed = failure.chain.len() == 1 && subject == issuer;
        certificate_hop(*reason, failure.inspected, self_signed, way)
    } else if matches!(&kind, HopErrorKind::Alert(alert) if alert.ends_with("(120)")) {
        // The origins that are asked for h2 speak it; who refuses it is another, and unnamed.
        way.between()
    } else if matches!(kind, HopErrorKind::Alert(_) | HopErrorKind::Protocol(_)) {
        way.far_end()
    } else {
        way.between()
    };
    HopError::new(hop, Stage::Tls, kind).caused_by(failure.error)
}

/// TLS with the proxy itself failed.
pub(super) fn proxy_tls(failure: TlsFailure) -> HopError {
    let (subject, issuer) = failure.chain.first().map_or((None, None), |leaf| names(leaf));
    let kind = if failure.first.first().is_some_and(|byte| !(20..=24).contains(byte)) {
        HopErrorKind::NotTheProtocol { expected: "TLS", seen: clean(&failure.first, SEEN_CAP) }
    } else {
        tls_kind(&failure, subject.as_ref(), issuer.as_ref())
    };
    HopError::new(Hop::Proxy, Stage::ProxyTls, kind).caused_by(failure.error)
}

fn tls_kind(
    failure: &TlsFailure,
    subject: Option<&String>,
    issuer: Option<&String>,
) -> HopErrorKind {
    let inner = failure.error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        None => tcp::kind(&failure.error),
        Some(rustls::Error::AlertReceived(alert)) => {
            HopErrorKind::Alert(format!("{alert:?} ({})", u8::from(*alert)))
        }
        Some(rustls::Error::InvalidCertificate(error)) => HopErrorKind::Certificate {
            reason: fault(error),
            issuer: issuer.cloned(),
            subject: subject.cloned(),
        },
        Some(other) => HopErrorKind::Protocol(clean(other.to_string().as_bytes(), SEEN_CAP)),
    }
}

fn certificate_hop(reason: CertificateFault, inspected: bool, alone: bool, way: Way) -> Hop {
    match reason {
        _ if way.pinned => Hop::RelayHost,
        _ if inspected => Hop::Inspector,
        // Certificates are not made for the future: our clock is behind.
        CertificateFault::NotYetValid => Hop::RelayHost,
        CertificateFault::Expired => Hop::Origin,
        // A missing intermediate looks the same, but providers do not forget theirs. A lone
        // self-signed one, or a relay's, is not what inspectors show.
        CertificateFault::UnknownIssuer if alone || way.relay => way.far_end(),
        CertificateFault::UnknownIssuer => Hop::Inspector,
        CertificateFault::OwnIssuer | CertificateFault::WrongName | CertificateFault::Other => {
            way.between()
        }
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds variants at any time")]
fn fault(error: &CertificateError) -> CertificateFault {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            CertificateFault::Expired
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            CertificateFault::NotYetValid
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            CertificateFault::WrongName
        }
        CertificateError::UnknownIssuer => CertificateFault::UnknownIssuer,
        _ => CertificateFault::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::resolve::Servers;
    use hickory_resolver::net::{DnsError, NetError};
    use hickory_resolver::proto::op::ResponseCode;

    /// C7: one hop, one exact reason.
    #[test]
    fn c7_where_our_own_address_came_from_is_told_apart() {
        let server = |stub| {
            let addresses = vec!["192.0.2.53:53".parse().unwrap()];
            Source::Servers(Servers { addresses, stub, assumed: false })
        };
        for (source, led, hop, cause) in [
            (Source::HostsFile, false, Hop::RelayHost, LoopCause::HostsFile),
            (server(true), false, Hop::RelayHost, LoopCause::Stub),
            (server(false), false, Hop::Resolver, LoopCause::Zone),
            (server(false), true, Hop::RelayHost, LoopCause::Proxy),
            (Source::Literal, true, Hop::RelayHost, LoopCause::Proxy),
        ] {
            let error = own_address(&source, led);
            assert_eq!((error.hop, error.kind), (hop, HopErrorKind::Loop(cause)), "{source:?}");
        }
    }

    #[test]
    fn failed_lookups_are_the_resolvers_or_our_configurations() {
        for (fault, hop, kind) in [
            (ResolveFault::NotFound(None), Hop::Resolver, HopErrorKind::NameNotFound),
            (ResolveFault::Timeout, Hop::Resolver, HopErrorKind::Timeout),
            (
                ResolveFault::Failed(NetError::Dns(DnsError::ResponseCode(ResponseCode::ServFail))),
                Hop::Resolver,
                HopErrorKind::NameRefused("Server Failure".to_owned()),
            ),
            (
                ResolveFault::Unreachable(NetError::NoConnections),
                Hop::Resolver,
                HopErrorKind::Io(std::io::ErrorKind::NetworkUnreachable),
            ),
            (
                ResolveFault::NoServer,
                Hop::RelayHost,
                HopErrorKind::Io(std::io::ErrorKind::NotFound),
            ),
        ] {
            let error = resolve(fault);
            assert_eq!((error.hop, error.stage, error.kind), (hop, Stage::Resolve, kind));
        }
    }
}
