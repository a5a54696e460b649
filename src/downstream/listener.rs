//! Listening sockets and what stands behind them.
//!
//! One socket and one accept task per bind. [`Front`] holds what every connection needs; all of it
//! is replaced on reload and only new connections use the new one. `socket` opens sockets, `walk`
//! takes a connection from its first byte to its codec.

use std::cell::RefCell;
use std::fmt;
use std::future::poll_fn;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::Handle;
use super::admit::{self, Admitted, DownstreamCounters, Judgement, LineGate, Refused};
use super::http1::Http1Limits;
use super::http2::Http2Limits;
use super::passthrough::{Carry, CarryLimits};
use super::tls::TlsPlan;
use crate::config::{Listener, Secret, TlsMode};
use crate::names::{Authority, HostName};

mod socket;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod walk;

pub use socket::{adopt, bind};

/// After a failed accept (no file descriptors, no memory) the socket rests so long: short enough
/// that service is back within a second, long enough not to spin.
const ACCEPT_REST: Duration = Duration::from_millis(200);

/// What a connection must know of the routes, before any request. Asked in TLS handshakes: must
/// not block.
pub trait Hosts: Send + Sync {
    /// The rule for a host; `None` when no route names it.
    fn find(&self, host: &HostName) -> Option<HostRule>;
}

/// What a route says about a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostRule {
    /// End TLS here or carry it.
    pub tls: TlsMode,
    /// Ports that CONNECT may name, the origin's first.
    pub ports: Vec<u16>,
    /// Those of them where the origin is plain, so that what follows CONNECT may be.
    pub cleartext: Vec<u16>,
    /// Where the host leads when it is carried untouched, in the order tried. Not empty.
    pub origins: Vec<Authority>,
    /// An APNs host.
    pub apns: bool,
    /// Index of the route in the configuration.
    pub route_index: usize,
}

/// Deadlines of a connection before its codec, and the codecs' own bounds.
#[derive(Debug, Clone, Copy)]
pub struct FrontLimits {
    /// PROXY header, first bytes, CONNECT head: each.
    pub sniff: Duration,
    /// A TLS handshake.
    pub handshake: Duration,
    /// HTTP/1.
    pub http1: Http1Limits,
    /// HTTP/2.
    pub http2: Http2Limits,
    /// Passthrough and tunnels.
    pub carry: CarryLimits,
}

impl FrontLimits {
    /// The product's own deadlines, with `limits.head` (octets).
    pub fn new(head: usize) -> Self {
        Self {
            sniff: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            http1: Http1Limits { head, ..Http1Limits::default() },
            http2: Http2Limits { head, ..Http2Limits::default() },
            carry: CarryLimits::default(),
        }
    }
}

/// A listener of the configuration with what was read and built for it.
#[derive(Debug)]
pub struct ListenerRuntime {
    /// Its configuration.
    pub config: Arc<Listener>,
    /// Its index there.
    pub index: usize,
    /// TLS; `None` when it accepts neither TLS nor CONNECT.
    pub tls: Option<TlsPlan>,
    /// The password of `connect_credentials`.
    pub connect_password: Option<Secret>,
}

/// What stands behind the front door.
pub struct Behind<H, C> {
    /// Takes exchanges.
    pub handle: Rc<H>,
    /// Takes what is carried untouched.
    pub carry: Rc<C>,
    /// The routes' hosts.
    pub hosts: Arc<dyn Hosts>,
    /// Deadlines and bounds.
    pub limits: FrontLimits,
}

/// Everything that connections share, on the data plane's thread.
pub struct Front<H, C> {
    behind: RefCell<Rc<Behind<H, C>>>,
    admitted: Admitted,
    counters: Arc<DownstreamCounters>,
    lines: LineGate,
}

impl<H, C> fmt::Debug for Front<H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Front").field("open", &self.admitted.len()).finish_non_exhaustive()
    }
}

impl<H, C> fmt::Debug for Behind<H, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Behind").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// The listener that a socket serves; replaced on reload.
#[derive(Debug)]
pub struct Slot(RefCell<Rc<ListenerRuntime>>);

impl Slot {
    /// Serves `runtime`.
    pub fn new(runtime: Rc<ListenerRuntime>) -> Rc<Self> {
        Rc::new(Self(RefCell::new(runtime)))
    }

    /// New connections get this one.
    pub fn replace(&self, runtime: Rc<ListenerRuntime>) {
        *self.0.borrow_mut() = runtime;
    }

    fn get(&self) -> Rc<ListenerRuntime> {
        Rc::clone(&self.0.borrow())
    }
}

impl<H: Handle, C: Carry> Front<H, C> {
    /// A front door for at most `connections` (`limits.connections`).
    pub fn new(
        behind: Behind<H, C>,
        connections: usize,
        counters: Arc<DownstreamCounters>,
    ) -> Rc<Self> {
        Rc::new(Self {
            behind: RefCell::new(Rc::new(behind)),
            admitted: Admitted::new(admit::room(connections), Arc::clone(&counters)),
            counters,
            lines: LineGate::default(),
        })
    }

    /// New connections get this one.
    pub fn replace(&self, behind: Behind<H, C>, connections: usize) {
        *self.behind.borrow_mut() = Rc::new(behind);
        self.admitted.set_limit(admit::room(connections));
    }

    /// The admitted connections: to drain them.
    pub const fn admitted(&self) -> &Admitted {
        &self.admitted
    }

    fn behind(&self) -> Rc<Behind<H, C>> {
        Rc::clone(&self.behind.borrow())
    }

    fn refused(&self, listener: &Listener, client: SocketAddr, reason: Refused, why: &str) {
        self.counters.count_refused(reason);
        if self.lines.pass() {
            tracing::info!(%client, listener = %listener.name, reason = reason.word(), why, "connection refused");
        }
    }

    /// Judges a new connection and starts its walk.
    fn arrived(self: &Rc<Self>, runtime: Rc<ListenerRuntime>, socket: TcpStream, peer: SocketAddr) {
        self.counters.count_accepted();
        let peer = admit::canonical(peer);
        let judgement = admit::judge(&runtime.config, peer.ip());
        if judgement == Judgement::Refuse {
            let why = if peer.ip().is_loopback() {
                "a sender on this machine; the listener's networks lack its loopback address"
            } else {
                "the address is in none of the networks"
            };
            return self.refused(&runtime.config, peer, Refused::Network, why);
        }
        let Some(place) = self.admitted.enter(&runtime.config) else {
            let why = "too many connections, none of them idle";
            return self.refused(&runtime.config, peer, Refused::Limit, why);
        };
        if let Err(error) = socket::tune(&socket) {
            tracing::debug!(%peer, %error, "socket options");
        }
        // Fails only for a socket that is already dead; its first read says so.
        let local = socket.local_addr().unwrap_or(peer);
        let walk = walk::Walk {
            front: Rc::clone(self),
            behind: self.behind(),
            runtime,
            client: peer,
            local: admit::canonical(local),
            place,
        };
        tokio::task::spawn_local(walk.run(socket, judgement));
    }
}

/// Ends accept tasks.
#[derive(Debug, Default)]
pub struct Stop {
    asked: std::cell::Cell<bool>,
    notify: Notify,
}

impl Stop {
    /// Every accept task takes what is queued and closes its socket.
    pub fn stop(&self) {
        self.asked.set(true);
        self.notify.notify_waiters();
    }

    async fn stopped(&self) {
        loop {
            let notified = self.notify.notified();
            if self.asked.get() {
                return;
            }
            notified.await;
        }
    }
}

/// Starts the accept task of a bound socket. It ends after [`Stop::stop`], with its queue taken
/// and its socket closed. Must be called inside a `LocalSet`.
pub fn accept<H: Handle, C: Carry>(
    front: &Rc<Front<H, C>>,
    slot: &Rc<Slot>,
    socket: StdListener,
    stop: &Rc<Stop>,
) -> std::io::Result<JoinHandle<()>> {
    let listener = TcpListener::from_std(socket)?;
    let (front, slot, stop) = (Rc::clone(front), Rc::clone(slot), Rc::clone(stop));
    Ok(tokio::task::spawn_local(async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = stop.stopped() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((socket, peer)) => front.arrived(slot.get(), socket, peer),
                Err(error) if is_theirs(&error) => {}
                Err(error) => {
                    front.counters.count_accept_failure();
                    if front.lines.pass() {
                        tracing::warn!(%error, "cannot accept connections; trying again");
                    }
                    tokio::time::sleep(ACCEPT_REST).await;
                }
            }
        }
        last(&front, &slot, listener).await;
    }))
}

/// The peer gave up before we took the connection: no fault of ours.
fn is_theirs(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset)
}

/// Takes what the kernel has queued, then closes the socket: a connection that is queued when the
/// socket closes would be reset.
async fn last<H: Handle, C: Carry>(front: &Rc<Front<H, C>>, slot: &Slot, listener: TcpListener) {
    let Ok(listener) = listener.into_std() else { return };
    while let Ok((socket, peer)) = listener.accept() {
        let taken = socket.set_nonblocking(true).and_then(|()| TcpStream::from_std(socket));
        if let Ok(socket) = taken {
            front.arrived(slot.get(), socket, peer);
        }
    }
    drop(listener);
    // The new tasks run before whoever waits for this one asks them to drain.
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
