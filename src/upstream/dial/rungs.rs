//! The rungs that every dial climbs, with a proxy or without: addresses, TCP, TLS with the origin.
//!
//! Each has its own deadline, tells the observer what it passed, and blames in its own words.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::blame::{self, Way};
use super::{Dialer, Out, Stream, Target, Transport, tcp};
use crate::hop::{
    CertificateFault, Fact, Finding, Hop, HopError, HopErrorKind, LoopCause, Observe, Stage,
    TlsFacts, clean,
};
use crate::names::Authority;
use crate::upstream::ourselves::Kinship;
use crate::upstream::resolve::Resolved;
use crate::upstream::tls::names;

impl Dialer {
    /// Awaits a lookup, shows what it found, and refuses our own addresses (C7).
    pub(super) async fn addresses(
        &self,
        lookup: impl Future<Output = Result<Resolved, HopError>>,
        reach: &Authority,
        shown: Shown<'_>,
        deadline: Instant,
        observe: &dyn Observe,
    ) -> Result<Vec<SocketAddr>, HopError> {
        let began = Instant::now();
        let until = deadline.min(began + self.patience.resolve);
        let timeout =
            |_elapsed| HopError::new(Hop::Resolver, Stage::Resolve, HopErrorKind::Timeout);
        let resolved = timeout_at(until, lookup).await.map_err(timeout)??;
        let at = |ip: &std::net::IpAddr| SocketAddr::new(*ip, reach.port);
        let mut addresses: Vec<_> = resolved.addresses.iter().map(at).collect();
        if let Some(name) = reach.host.name().or_else(|| shown.origin.host.name()) {
            let pin = if shown.pinned { "connect_to, " } else { "" };
            let by = format!("{pin}{}", resolved.source);
            let fact = Fact::Addresses { name: name.clone(), addresses: addresses.clone(), by };
            observe.passed(Finding { stage: Stage::Resolve, took: began.elapsed(), fact });
        }
        if addresses.iter().any(|address| self.own.listens_at(*address)) {
            return Err(blame::own_address(&resolved.source, shown.led));
        }
        // A sinkhole's 0.0.0.0 would be dialled as loopback.
        addresses.retain(|address| !address.ip().to_canonical().is_unspecified());
        if addresses.is_empty() {
            return Err(HopError::new(Hop::Resolver, Stage::Resolve, HopErrorKind::Unreachable));
        }
        Ok(addresses)
    }

    pub(super) async fn tcp(
        &self,
        out: &Out,
        addresses: &[SocketAddr],
        hop: Hop,
        deadline: Instant,
        observe: &dyn Observe,
    ) -> Result<TcpStream, HopError> {
        let began = Instant::now();
        let until = deadline.min(began + self.patience.tcp);
        match tcp::connect(addresses, out.egress.source, until).await {
            Ok(stream) => {
                let (local, peer) = ends(&stream, hop)?;
                let fact = Fact::Tcp { local, peer };
                observe.passed(Finding { stage: Stage::Tcp, took: began.elapsed(), fact });
                Ok(stream)
            }
            Err(none) => {
                let error = HopError::new(hop, Stage::Tcp, none.kind);
                Err(match none.source {
                    Some(source) => error.caused_by(source),
                    None => error,
                })
            }
        }
    }

    pub(super) async fn secure(
        &self,
        out: &Out,
        target: &Target,
        transport: Transport,
        way: Way,
        observe: &dyn Observe,
    ) -> Result<(Stream, TlsFacts, Option<String>), HopError> {
        let began = Instant::now();
        let until = target.deadline.min(began + self.patience.tls);
        let identity = target.identity.as_ref();
        let handshake = out.tls.handshake(transport, &target.host, target.offer, identity);
        let timeout = |_elapsed| HopError::new(way.between(), Stage::Tls, HopErrorKind::Timeout);
        let (stream, tls) = match timeout_at(until, handshake).await.map_err(timeout)? {
            Ok(done) => done,
            Err(failure) => {
                self.stranger(failure.chain.first().map(AsRef::as_ref), way)?;
                return Err(blame::tls(failure, way));
            }
        };
        let took = began.elapsed();
        let fact = Fact::Tls(Box::new(tls.clone()));
        observe.passed(Finding { stage: Stage::Tls, took, fact });
        self.stranger(tls.chain.first().map(Vec::as_slice), way)?;
        let alpn = stream.get_ref().1.alpn_protocol().map(|name| clean(name, 40));
        let assumed = out.egress.assume_h2;
        if target.demand_h2 && !assumed && alpn.as_deref() != Some("h2") {
            let hop = if tls.inspected { Hop::Inspector } else { way.between() };
            let kind = HopErrorKind::AlpnNotH2 { chosen: alpn, issuer: tls.issuer };
            return Err(HopError::new(hop, Stage::Alpn, kind));
        }
        let fact = Fact::Alpn(alpn.clone());
        observe.passed(Finding { stage: Stage::Alpn, took: Duration::ZERO, fact });
        Ok((Stream::Tls(Box::new(stream)), tls, alpn))
    }

    /// Refuses a peer that is ourselves, or a relay where the origin should be.
    fn stranger(&self, leaf: Option<&[u8]>, way: Way) -> Result<(), HopError> {
        let Some(leaf) = leaf else { return Ok(()) };
        // A pin is ours, a hosts file would have been noticed: else the proxy brought us here, or
        // a box on the direct path rewrites addresses.
        let hop = if way.pinned { Hop::RelayHost } else { way.between() };
        let kind = match self.own.kinship(leaf) {
            Kinship::Ourselves => HopErrorKind::Loop(LoopCause::OwnCertificate),
            Kinship::Relay if !way.relay => {
                let (subject, issuer) = names(leaf);
                HopErrorKind::Certificate { reason: CertificateFault::OwnIssuer, issuer, subject }
            }
            Kinship::Relay | Kinship::Stranger => return Ok(()),
        };
        Err(HopError::new(hop, Stage::Tls, kind))
    }
}

/// How a lookup is shown.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub(super) origin: &'a Authority,
    /// A pin or a proxy: somebody configured this address.
    pub(super) led: bool,
    pub(super) pinned: bool,
}

/// Both addresses of a connection.
pub(super) fn ends(stream: &TcpStream, hop: Hop) -> Result<(SocketAddr, SocketAddr), HopError> {
    let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    ends.map_err(|error| HopError::new(hop, Stage::Tcp, tcp::kind(&error)).caused_by(error))
}
