//! Who may connect: source networks, PROXY headers, the connection limit.
//!
//! The judgement is pure; `proxy` reads a PROXY header, `places` holds the admitted. A refused
//! peer gets a closed connection and the operator a counter and, not too often, a log line.

use std::cell::Cell;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::config::Listener;

pub mod places;
pub mod proxy;

pub use places::{Admitted, Place, room};

/// Refusals that are logged per second; floods are counted only.
const LINES_PER_SECOND: u32 = 10;

/// Why a connection came to nothing; a closed set, exported as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// CONNECT to a target that is not allowed, or without credentials.
    Connect,
    /// First bytes that are no protocol of ours.
    FirstBytes,
    /// The TLS handshake failed.
    Handshake,
    /// Too many connections, none of them idle.
    Limit,
    /// SNI names no route.
    Name,
    /// The source address is in none of the `networks`.
    Network,
    /// A protocol that this listener does not accept.
    Protocol,
    /// A PROXY header is missing, malformed, or stands where none belongs.
    ProxyHeader,
    /// Nothing came in time.
    Timeout,
}

impl Refused {
    /// Every reason, in the order of [`DownstreamCounters::refused`].
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::FirstBytes,
        Self::Handshake,
        Self::Limit,
        Self::Name,
        Self::Network,
        Self::Protocol,
        Self::ProxyHeader,
        Self::Timeout,
    ];

    /// The word in logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::FirstBytes => "first-bytes",
            Self::Handshake => "handshake",
            Self::Limit => "limit",
            Self::Name => "name",
            Self::Network => "network",
            Self::Protocol => "protocol",
            Self::ProxyHeader => "proxy-header",
            Self::Timeout => "timeout",
        }
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What happened at the front door. Atomic, because the control plane reads it.
#[derive(Debug, Default)]
pub struct DownstreamCounters {
    accepted: AtomicU64,
    refused: [AtomicU64; Refused::ALL.len()],
    open: AtomicU64,
    http1_on_apns: AtomicU64,
    carried_up: AtomicU64,
    carried_down: AtomicU64,
    accept_failures: AtomicU64,
}

impl DownstreamCounters {
    /// Connections taken from the listening sockets.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Connections that came to nothing.
    pub fn refused(&self, reason: Refused) -> u64 {
        self.refused[reason as usize].load(Ordering::Relaxed)
    }

    /// Connections open now.
    pub fn open(&self) -> u64 {
        self.open.load(Ordering::Relaxed)
    }

    /// HTTP/1 connections on an APNs host: a middlebox took HTTP/2 away.
    pub fn http1_on_apns(&self) -> u64 {
        self.http1_on_apns.load(Ordering::Relaxed)
    }

    /// Octets carried untouched, towards the origin and back.
    pub fn carried(&self) -> (u64, u64) {
        (self.carried_up.load(Ordering::Relaxed), self.carried_down.load(Ordering::Relaxed))
    }

    /// How often accept failed, for example without file descriptors.
    pub fn accept_failures(&self) -> u64 {
        self.accept_failures.load(Ordering::Relaxed)
    }

    pub(super) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_refused(&self, reason: Refused) {
        self.refused[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_open(&self, open: usize) {
        self.open.store(open as u64, Ordering::Relaxed);
    }

    pub(super) fn count_http1_on_apns(&self) {
        self.http1_on_apns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_carried(&self, up: u64, down: u64) {
        self.carried_up.fetch_add(up, Ordering::Relaxed);
        self.carried_down.fetch_add(down, Ordering::Relaxed);
    }

    pub(super) fn count_accept_failure(&self) {
        self.accept_failures.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the TCP peer's address says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Go on.
    Admit,
    /// A PROXY header must come first; [`may_connect`] judges the address in it.
    ExpectProxyHeader,
    /// Close.
    Refuse,
}

/// Judges the TCP peer of a new connection.
pub fn judge(listener: &Listener, peer: IpAddr) -> Judgement {
    if contains(&listener.proxy_protocol, peer) {
        Judgement::ExpectProxyHeader
    } else if may_connect(listener, peer) {
        Judgement::Admit
    } else {
        Judgement::Refuse
    }
}

/// Whether `networks` has this address; without `networks` everybody may (the configuration is
/// only valid so on loopback or with sender certificates).
pub fn may_connect(listener: &Listener, client: IpAddr) -> bool {
    listener.networks.is_empty() || contains(&listener.networks, client)
}

/// IPv4 addresses inside IPv6 count as IPv4, on both sides.
fn contains(networks: &[IpNet], ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    networks.iter().any(|network| network.contains(&ip))
}

/// The same address, an IPv4-mapped one as IPv4.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Lets only so many log lines through a second.
#[derive(Debug)]
pub struct LineGate {
    since: Cell<Instant>,
    lines: Cell<u32>,
}

impl Default for LineGate {
    fn default() -> Self {
        Self { since: Cell::new(Instant::now()), lines: Cell::new(0) }
    }
}

impl LineGate {
    /// Whether this line may be written.
    pub fn pass(&self) -> bool {
        if self.since.get().elapsed() >= Duration::from_secs(1) {
            self.since.set(Instant::now());
            self.lines.set(0);
        }
        self.lines.set(self.lines.get().saturating_add(1));
        self.lines.get() <= LINES_PER_SECOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::listener::testing::listener;

    // G3: networks are judged before a byte is read.
    #[test]
    fn g3_source_networks_decide_and_mapped_addresses_count_as_ipv4() {
        let mut listener = listener();
        listener.networks = vec!["10.20.0.0/16".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        listener.proxy_protocol = vec!["10.99.0.5/32".parse().unwrap()];
        for (ip, expected) in [
            ("10.20.1.2", Judgement::Admit),
            ("::ffff:10.20.1.2", Judgement::Admit),
            ("10.21.0.1", Judgement::Refuse),
            ("::ffff:10.21.0.1", Judgement::Refuse),
            ("2001:db8::1", Judgement::Admit),
            ("2001:db9::1", Judgement::Refuse),
            ("10.99.0.5", Judgement::ExpectProxyHeader),
            ("::ffff:10.99.0.5", Judgement::ExpectProxyHeader),
            ("127.0.0.1", Judgement::Refuse),
        ] {
            assert_eq!(judge(&listener, ip.parse().unwrap()), expected, "{ip}");
        }
        listener.networks.clear();
        assert_eq!(judge(&listener, "192.0.2.1".parse().unwrap()), Judgement::Admit);
    }

    #[test]
    fn counters_stand_in_the_order_of_their_reasons() {
        for (index, reason) in Refused::ALL.into_iter().enumerate() {
            assert_eq!(reason as usize, index);
        }
    }

    #[test]
    fn a_flood_of_refusals_writes_few_lines() {
        let gate = LineGate::default();
        assert_eq!((0..1000).filter(|_| gate.pass()).count(), LINES_PER_SECOND as usize);
    }
}
