//! A simulated APNs: HTTP/2 only, strict about what it is sent, and faulty where a script says so.
//!
//! It frames HTTP/2 itself, because a library hides what must be judged (field order, duplicates,
//! stream limits at every moment) and forbids what must be played (floods, half answers, limits
//! that change). One task per connection; the record is in [`Ledger`].

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::authority::Throwaway;
use super::{SimulateError, bind, lock};

mod answers;
mod connection;
mod exchange;
mod fault;
mod frames;
mod hpack;
mod ledger;
mod spoil;
mod strict;

pub use answers::{REASONS, token_accepted, token_for};
pub use exchange::{path_hash, short_hash};
pub use fault::{Chaos, Cut, Fault, FaultError, Last, Planned, When};
pub use ledger::{Break, Entry, Fate, Ledger, Summary, Violation};

/// A TLS handshake that takes longer has failed: the clients are on this machine.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Orders for running connections that one may lag behind; tests give a few.
const ORDERS: usize = 64;

/// What the origin answers to ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alpn {
    /// h2, as APNs does.
    H2,
    /// http/1.1, as an inspecting box does.
    Http11,
    /// Nothing at all, as a box does that strips ALPN.
    Stripped,
}

/// What happens to a stream above the advertised limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surplus {
    /// RST_STREAM REFUSED_STREAM (RFC 9113 §5.1.2).
    Refuse,
    /// It is served; only the violation is kept.
    Serve,
}

/// How the origin behaves; may change while it runs (ALPN, SETTINGS and windows then count for new
/// connections).
#[derive(Debug, Clone)]
pub struct Conduct {
    /// What it answers to ALPN.
    pub alpn: Alpn,
    /// MAX_CONCURRENT_STREAMS until a request with a provider token came.
    pub cold_limit: u32,
    /// MAX_CONCURRENT_STREAMS from then on.
    pub warm_limit: u32,
    /// Back to `cold_limit` after a refused push, up again after an accepted one.
    pub limit_falls: bool,
    /// What happens to streams above the limit.
    pub surplus: Surplus,
    /// `false`: never sends SETTINGS.
    pub settings: bool,
    /// SETTINGS_INITIAL_WINDOW_SIZE in bytes; 0 keeps every body from being sent.
    pub initial_window: u32,
    /// Whether PING is answered.
    pub pings: bool,
    /// Each answer comes this much later.
    pub delay: Duration,
    /// Faults by request number.
    pub faults: Vec<Planned>,
    /// Random faults where no planned one is due.
    pub chaos: Option<Chaos>,
    /// `true`: connections are accepted and cut at once.
    pub down: bool,
    /// The teams whose tokens are good; empty is any.
    pub teams: Vec<String>,
    /// How many pushes their senders have in flight, where the test knows: a cut catches those
    /// too that have not arrived yet, or whose answer is on its way.
    pub in_flight: Option<Arc<AtomicU64>>,
}

impl Default for Conduct {
    /// APNs on a good day: one stream, then 1000 (pushy#878).
    fn default() -> Self {
        Self {
            alpn: Alpn::H2,
            cold_limit: 1,
            warm_limit: 1000,
            limit_falls: false,
            surplus: Surplus::Refuse,
            settings: true,
            initial_window: 65_535,
            pings: true,
            delay: Duration::ZERO,
            faults: Vec::new(),
            chaos: None,
            down: false,
            teams: Vec::new(),
            in_flight: None,
        }
    }
}

/// An order to every open connection.
#[derive(Debug, Clone)]
pub enum Order {
    /// Cut it.
    Cut(Cut),
    /// GOAWAY naming the newest stream, with this code and reason; the connection stays.
    GoAway(u32, Option<String>),
    /// A new MAX_CONCURRENT_STREAMS.
    Limit(u32),
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) conduct: Mutex<Conduct>,
    pub(crate) ledger: Ledger,
    pub(crate) orders: broadcast::Sender<Order>,
}

impl Shared {
    /// How many pushes a cut catches, with `open` streams here.
    pub(crate) fn caught(&self, open: usize) -> u64 {
        let told = self.read(|c| c.in_flight.as_ref().map(|count| count.load(Ordering::Relaxed)));
        told.unwrap_or(0).max(open as u64)
    }

    /// A copy of how to behave now.
    pub(crate) fn read<T>(&self, what: impl FnOnce(&Conduct) -> T) -> T {
        what(&lock(&self.conduct))
    }
}

/// A running origin. Dropping it cuts its connections and frees the port.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Origin {
    /// Starts with leaves of `authority`. Fails where the address cannot be bound.
    pub async fn start(
        address: SocketAddr,
        authority: &Arc<Throwaway>,
        conduct: Conduct,
    ) -> Result<Self, SimulateError> {
        Self::start_with(address, authority.server_config(&[]), conduct).await
    }

    /// Starts with TLS parameters that were brought; ALPN is set by the conduct.
    pub async fn start_with(
        address: SocketAddr,
        tls: ServerConfig,
        conduct: Conduct,
    ) -> Result<Self, SimulateError> {
        let (listener, address) = bind(address).await?;
        let (orders, _) = broadcast::channel(ORDERS);
        let shared =
            Arc::new(Shared { conduct: Mutex::new(conduct), ledger: Ledger::new(), orders });
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it saw.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// Changes how it behaves from now on.
    pub fn change(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut lock(&self.shared.conduct));
    }

    /// Gives an order to every open connection.
    pub fn order(&self, order: Order) {
        // Without connections nobody listens, which is fine.
        let _ = self.shared.orders.send(order);
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, tls: ServerConfig, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((tcp, _peer)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        shared.ledger.count(|summary| summary.accepted += 1);
        let (alpn, down) = shared.read(|conduct| (conduct.alpn, conduct.down));
        if down {
            continue;
        }
        let mut tls = tls.clone();
        tls.alpn_protocols = match alpn {
            Alpn::H2 => vec![b"h2".to_vec()],
            Alpn::Http11 => vec![b"http/1.1".to_vec()],
            Alpn::Stripped => Vec::new(),
        };
        connections.spawn(secure(tcp, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&shared)));
    }
}

async fn secure(tcp: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    // A socket that cannot be told not to wait still works.
    let _ = tcp.set_nodelay(true);
    match tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await {
        Ok(Ok(io)) => connection::serve(io, shared).await,
        Ok(Err(_)) | Err(_) => shared.ledger.count(|summary| summary.handshakes_failed += 1),
    }
}

/// A provider token as APNs senders make it, for a team and a key of 10 characters each. The
/// signature is made up: neither the relay nor this origin checks it.
pub fn jwt(team: &str, key: &str) -> String {
    use base64::Engine as _;
    let encode = |json: serde_json::Value| {
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string())
    };
    let header = encode(serde_json::json!({ "alg": "ES256", "kid": key }));
    let claims = encode(serde_json::json!({ "iss": team, "iat": 1_700_000_000 }));
    format!("{header}.{claims}.c2ltdWxhdGVk")
}
