//! From a name to a usable connection: resolve, TCP, TLS to the proxy, CONNECT, TLS, ALPN.
//!
//! Traffic and probe climb the same rungs here; only the observer differs. Every rung has its own
//! deadline, every failure names hop, stage and kind, and an egress with proxies never goes
//! around them. No push is sent from here: the first byte of HTTP is the caller's.

mod blame;
mod proxy;
mod rungs;
mod stream;
mod tcp;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use self::blame::Way;
use self::proxy::Proxy;
use self::rungs::{Shown, ends};
pub use self::stream::{Stream, Transport, Witness};
use super::ourselves::Ourselves;
use super::proxy_auth::CredentialProblem;
use super::proxy_auth::latch::Latches;
use super::resolve::{Resolved, Resolver, Servers, Source};
pub use super::tls::Offer;
use super::tls::TlsClient;
use crate::config::material::{EgressMaterial, Material};
use crate::config::{Config, Egress, EgressName, Scheme};
use crate::hop::{Hop, HopError, HopErrorKind, Observe, Stage, TlsFacts};
use crate::io::Prefixed;
use crate::names::{Authority, Host};
use crate::pki::Identity;

/// How long each rung may take, and all of them: below the 7 s that an APNs push has (F4). What
/// the quick rungs leave over the slow ones may use: a proxy that takes four seconds for each
/// CONNECT is slow, and still a way out.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Name lookup: the servers in turn, then once more for slow ones.
    pub resolve: Duration,
    /// TCP to any of the addresses: a lost SYN is sent again after one second.
    pub tcp: Duration,
    /// TLS with the proxy, which is near.
    pub proxy_tls: Duration,
    /// CONNECT with all its legs: the proxy resolves and connects meanwhile.
    pub connect: Duration,
    /// The same where another proxy is left to be tried.
    pub connect_elsewhere: Duration,
    /// TLS with the origin: two round trips around the world, or three through an old box, which
    /// may make its own connection meanwhile.
    pub tls: Duration,
    /// All rungs.
    pub whole: Duration,
}

impl Patience {
    /// For pushes.
    pub const TRAFFIC: Self = Self {
        resolve: Duration::from_millis(3000),
        tcp: Duration::from_millis(1500),
        proxy_tls: Duration::from_millis(1000),
        connect: Duration::from_millis(4500),
        connect_elsewhere: Duration::from_millis(2000),
        tls: Duration::from_millis(3500),
        whole: Duration::from_millis(6400),
    };
}

/// Where to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The way out.
    pub egress: EgressName,
    /// With TLS or without.
    pub scheme: Scheme,
    /// The origin: verified, and asked for by SNI and CONNECT.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// ALPN.
    pub offer: Offer,
    /// Our client certificate.
    pub identity: Option<Arc<Identity>>,
    /// Anything but `h2` is a fault (D1), unless the egress says `assume_h2`.
    pub demand_h2: bool,
    /// Another relay stands there: its leaf may be from our own issuer.
    pub relay_next_hop: bool,
    /// No rung lasts longer.
    pub deadline: Instant,
}

/// A usable connection.
#[derive(Debug)]
pub struct Dialed {
    /// The bytes.
    pub io: Stream,
    /// What was learnt.
    pub facts: DialFacts,
}

/// A connection for the sender's own TLS, or for a tunnel.
#[derive(Debug)]
pub struct RawDialed {
    /// The bytes; what came early from beyond a proxy stands in front.
    pub io: Prefixed<Transport>,
    /// What was learnt.
    pub facts: DialFacts,
}

/// What a dial taught.
#[derive(Debug, Clone)]
pub struct DialFacts {
    /// Our end of TCP.
    pub local: SocketAddr,
    /// The other end of TCP: the proxy's or the origin's.
    pub peer: SocketAddr,
    /// The proxy, where there is one.
    pub proxy: Option<Authority>,
    /// What ALPN chose; `None` for nothing.
    pub alpn: Option<String>,
    /// Speak HTTP/2: ALPN chose it, or `assume_h2` stands in for it where h2 is demanded.
    pub h2: bool,
    /// TLS with the origin.
    pub tls: Option<TlsFacts>,
    /// From the first rung to the last.
    pub took: Duration,
}

/// Dials. Shared by traffic and probe; holds no connection.
#[derive(Debug)]
pub struct Dialer {
    ways: BTreeMap<EgressName, Out>,
    own: Arc<Ourselves>,
    latches: Arc<Latches>,
    patience: Patience,
}

/// One egress, ready.
#[derive(Debug)]
struct Out {
    egress: Arc<Egress>,
    resolver: Resolver,
    tls: TlsClient,
    proxies: Vec<Proxy>,
}

/// Why a dialer cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum DialerError {
    /// Credentials of a proxy cannot work.
    #[error("egress {egress}: the credentials of proxy {proxy} cannot work")]
    Credentials {
        /// Of this egress.
        egress: EgressName,
        /// And this proxy.
        proxy: Authority,
        /// Why.
        #[source]
        problem: CredentialProblem,
    },
    /// What the files hold is not what the configuration names.
    #[error("egress {0}: its files were not read")]
    Material(EgressName),
    /// There is nothing to verify a certificate with.
    #[error("egress {egress}: the roots cannot be used")]
    Roots {
        /// Of this egress.
        egress: EgressName,
        /// Why.
        #[source]
        source: rustls::client::VerifierBuilderError,
    },
}

/// TCP, or a tunnel, before TLS with the origin.
struct Opened {
    transport: Transport,
    early: Bytes,
    local: SocketAddr,
    peer: SocketAddr,
    proxy: Option<Authority>,
    pinned: bool,
}

/// Whether another port of the same origin may be reachable: firewalls and proxies judge ports,
/// names and credentials are the same for all of them.
pub const fn another_port_may_do(error: &HopError) -> bool {
    matches!(error.stage, Stage::Tcp | Stage::Connect)
        && !matches!(
            error.kind,
            HopErrorKind::CredentialsLatched
                | HopErrorKind::CredentialsMissing(_)
                | HopErrorKind::CredentialsRefused(_)
                | HopErrorKind::CredentialsUnusable(_)
        )
}

impl Dialer {
    /// Prepares every egress.
    pub fn new(
        config: &Config,
        material: &Material,
        own: Arc<Ourselves>,
    ) -> Result<Self, DialerError> {
        Self::prepare(config, material, own, Arc::default(), Patience::TRAFFIC)
    }

    /// With latches that another dialer has too.
    pub fn sharing(
        config: &Config,
        material: &Material,
        own: Arc<Ourselves>,
        latches: Arc<Latches>,
    ) -> Result<Self, DialerError> {
        Self::prepare(config, material, own, latches, Patience::TRAFFIC)
    }

    /// The dialer after a reload: latches stay, for the credentials that stayed.
    pub fn renewed(&self, config: &Config, material: &Material) -> Result<Self, DialerError> {
        let (own, latches) = (Arc::clone(&self.own), Arc::clone(&self.latches));
        Self::prepare(config, material, own, latches, self.patience)
    }

    /// With other limits.
    #[must_use]
    pub const fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    fn prepare(
        config: &Config,
        material: &Material,
        own: Arc<Ourselves>,
        latches: Arc<Latches>,
        patience: Patience,
    ) -> Result<Self, DialerError> {
        let mut ways = BTreeMap::new();
        for (name, egress) in &config.egress {
            let missing = || DialerError::Material(name.clone());
            let material = material.egress.get(name).ok_or_else(missing)?;
            ways.insert(name.clone(), Out::new(egress, material)?);
        }
        Ok(Self { ways, own, latches, patience })
    }

    /// Forgets refused credentials of an egress; says whether any were latched.
    pub fn clear_latch(&self, egress: &EgressName) -> bool {
        self.latches.clear(egress)
    }

    /// The proxies whose credentials are latched.
    pub fn latched(&self) -> Vec<(EgressName, Authority)> {
        self.latches.latched()
    }

    /// The name servers that an egress asks now; `None` without such an egress.
    pub fn servers(&self, egress: &EgressName) -> Option<Servers> {
        self.ways.get(egress).map(|out| out.resolver.servers())
    }

    /// Does this egress lead through proxies?
    pub fn leads_through_proxies(&self, egress: &EgressName) -> bool {
        self.ways.get(egress).is_some_and(|out| !out.proxies.is_empty())
    }

    /// Climbs to a usable connection.
    pub async fn dial(&self, target: &Target, observe: &dyn Observe) -> Result<Dialed, HopError> {
        let began = Instant::now();
        let deadline = target.deadline.min(began + self.patience.whole);
        let target = &Target { deadline, ..target.clone() };
        let out = self.out(&target.egress)?;
        let origin = Authority::new(target.host.clone(), target.port);
        let opened = self.open(out, &origin, target.deadline, observe).await?;
        let way = Way {
            proxied: opened.proxy.is_some(),
            pinned: opened.pinned,
            relay: target.relay_next_hop,
        };
        let expected = if target.scheme == Scheme::Https { "TLS" } else { "HTTP" };
        if !opened.early.is_empty() {
            // F1: whoever spoke first is not the origin, which waits for us.
            return Err(blame::foreign_bytes(&opened.early, expected, way).with_peer(origin));
        }
        let mut facts = opened.facts(began);
        let io = match target.scheme {
            Scheme::Http => Stream::Plain(opened.transport),
            Scheme::Https => {
                let secured = self.secure(out, target, opened.transport, way, observe).await;
                let (io, tls, alpn) = secured.map_err(|error| error.with_peer(origin))?;
                let assumed = target.demand_h2 && out.egress.assume_h2;
                facts.h2 = alpn.as_deref() == Some("h2") || assumed;
                facts.tls = Some(tls);
                facts.alpn = alpn;
                io
            }
        };
        facts.took = began.elapsed();
        Ok(Dialed { io, facts })
    }

    /// Climbs to TCP or an open tunnel and leaves the bytes to the caller: passthrough, `tunnel`.
    pub async fn dial_raw(
        &self,
        egress: &EgressName,
        authority: &Authority,
        deadline: Instant,
        observe: &dyn Observe,
    ) -> Result<RawDialed, HopError> {
        let began = Instant::now();
        let out = self.out(egress)?;
        let opened = self.open(out, authority, deadline, observe).await?;
        let facts = opened.facts(began);
        Ok(RawDialed { io: Prefixed::new(opened.early, opened.transport), facts })
    }

    fn out(&self, egress: &EgressName) -> Result<&Out, HopError> {
        // Names are checked with the configuration; this is for a caller with an old one.
        let gone = HopErrorKind::Io(io::ErrorKind::NotFound);
        self.ways.get(egress).ok_or_else(|| {
            HopError::new(Hop::RelayHost, Stage::Queue, gone)
                .caused_by(format!("there is no egress {egress}"))
        })
    }

    async fn open(
        &self,
        out: &Out,
        origin: &Authority,
        deadline: Instant,
        observe: &dyn Observe,
    ) -> Result<Opened, HopError> {
        // A pin stands for the origin from here on, in CONNECT too: what lies behind the proxy is
        // reached by the name that the operator pinned. SNI and verification keep the origin's.
        let pin = out.egress.connect_to.get(origin);
        let reach = pin.unwrap_or(origin);
        if !out.proxies.is_empty() {
            let mut opened = self.open_through_proxies(out, reach, deadline, observe).await?;
            opened.pinned = pin.is_some();
            return Ok(opened);
        }
        let named = |error: HopError| error.with_peer(origin.clone());
        let resolve = async {
            let resolved = match &reach.host {
                Host::Ip(ip) => Ok(Resolved { addresses: vec![*ip], source: Source::Literal }),
                Host::Name(name) => out.resolver.routed(name).await,
            };
            resolved.map_err(blame::resolve)
        };
        let shown = Shown { origin, led: pin.is_some(), pinned: pin.is_some() };
        let addresses =
            self.addresses(resolve, reach, shown, deadline, observe).await.map_err(named)?;
        let stream = self.tcp(out, &addresses, Hop::Network, deadline, observe).await;
        let stream = stream.map_err(named)?;
        let (local, peer) = ends(&stream, Hop::Network).map_err(named)?;
        let (transport, early) = (Transport::Tcp(stream), Bytes::new());
        Ok(Opened { transport, early, local, peer, proxy: None, pinned: pin.is_some() })
    }
}

impl Opened {
    fn facts(&self, began: Instant) -> DialFacts {
        DialFacts {
            local: self.local,
            peer: self.peer,
            proxy: self.proxy.clone(),
            alpn: None,
            h2: false,
            tls: None,
            took: began.elapsed(),
        }
    }
}

impl Out {
    fn new(egress: &Arc<Egress>, material: &EgressMaterial) -> Result<Self, DialerError> {
        let roots = |source| DialerError::Roots { egress: egress.name.clone(), source };
        let tls = TlsClient::new(&material.roots, egress.post_quantum).map_err(roots)?;
        if material.proxies.len() != egress.proxies.len() {
            return Err(DialerError::Material(egress.name.clone()));
        }
        let pairs = egress.proxies.iter().zip(&material.proxies);
        let proxies = pairs.map(|(proxy, material)| Proxy::new(egress, proxy, material));
        let proxies = proxies.collect::<Result<_, _>>()?;
        let resolver = Resolver::new(egress.dns.clone());
        Ok(Self { egress: Arc::clone(egress), resolver, tls, proxies })
    }
}
