//! Bytes carried untouched: a sender's own TLS to a routed host, or a tunnel.
//!
//! Nothing is read but counted. Before a byte goes up the ClientHello was judged ([`judge`]):
//! without that a route for one host would be a hole to all of them.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};
use tokio::time::{Instant, sleep, sleep_until};

use super::lease::{Asked, Lease};
use super::listener::HostRule;
use super::tls::Offer;
use crate::hop::HopError;
use crate::names::{Authority, HostName};

/// Octets on their way, each way: one TLS record.
const BUFFER: usize = 16 * 1024;

/// Opens the way out for bytes that are carried untouched: the integrator's dialer.
pub trait Carry: 'static {
    /// A connection to the target, proxies passed, no TLS of ours on it.
    type Io: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Dials a target of the `tunnel` list, or with a `rule` where its host leads. Always ends.
    fn dial_raw(
        &self,
        target: &Authority,
        rule: Option<&HostRule>,
    ) -> impl Future<Output = Result<Self::Io, HopError>>;
}

/// The origins of a host, the one with the sender's port first: the others stand in for it.
pub fn in_order(rule: &HostRule, port: u16) -> Vec<Authority> {
    let mut origins = rule.origins.clone();
    origins.sort_by_key(|origin| origin.port != port);
    origins
}

/// Bounds of a carried connection.
#[derive(Debug, Clone, Copy)]
pub struct CarryLimits {
    /// Silence both ways: longer than APNs' own idle close and every sender's PING.
    pub idle: Duration,
    /// Altogether; a push connection that lives a day loses nothing by a new one.
    pub total: Duration,
}

impl Default for CarryLimits {
    fn default() -> Self {
        Self { idle: Duration::from_secs(15 * 60), total: Duration::from_secs(24 * 3600) }
    }
}

/// A ClientHello that may not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HelloRefusal {
    /// Nothing says where it is for.
    #[error("passthrough needs SNI, and there is none")]
    NoName,
    /// What is visible may not be where it is for.
    #[error("passthrough refuses Encrypted Client Hello: the name cannot be checked")]
    Encrypted,
    /// It is for another host.
    #[error("the server name is not the CONNECT target's")]
    Elsewhere,
}

/// Judges a ClientHello for `host`.
pub fn judge(offer: &Offer, host: &HostName) -> Result<(), HelloRefusal> {
    if offer.ech {
        return Err(HelloRefusal::Encrypted);
    }
    match &offer.sni {
        None => Err(HelloRefusal::NoName),
        Some(sni) if sni == host => Ok(()),
        Some(_) => Err(HelloRefusal::Elsewhere),
    }
}

/// What was carried, for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carried {
    /// Towards the origin, octets.
    pub up: u64,
    /// Towards the sender, octets.
    pub down: u64,
    /// Why it ended.
    pub end: End,
}

/// Why a carried connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Both sides were done.
    Closed,
    /// One side broke off.
    Broken(io::ErrorKind),
    /// [`CarryLimits::idle`].
    Idle,
    /// [`CarryLimits::total`].
    TooOld,
    /// The drain deadline.
    Drained,
}

/// Copies both ways until the end. `first` goes up before anything else.
pub async fn carry<D, U>(
    sender: D,
    mut origin: U,
    first: &[u8],
    limits: CarryLimits,
    lease: &Lease,
) -> Carried
where
    D: AsyncRead + AsyncWrite + Unpin,
    U: AsyncRead + AsyncWrite + Unpin,
{
    let meter = Rc::new(Meter {
        up: Cell::new(first.len() as u64),
        down: Cell::new(0),
        moved: Cell::new(Instant::now()),
    });
    let mut sender = Metered { io: sender, meter: Rc::clone(&meter) };
    let copy = async {
        origin.write_all(first).await?;
        origin.flush().await?;
        copy_bidirectional_with_sizes(&mut sender, &mut origin, BUFFER, BUFFER).await
    };
    let end = tokio::select! {
        copied = copy => match copied {
            Ok(_octets) => End::Closed,
            Err(error) => End::Broken(error.kind()),
        },
        () = silence(&meter, limits.idle) => End::Idle,
        () = sleep(limits.total) => End::TooOld,
        // It is never quiet: the drain leaves it alone until its end.
        _ = lease.asked_more_than(Asked::HandOver) => End::Drained,
    };
    Carried { up: meter.up.get(), down: meter.down.get(), end }
}

async fn silence(meter: &Meter, idle: Duration) {
    loop {
        let late = meter.moved.get() + idle;
        if Instant::now() >= late {
            return;
        }
        sleep_until(late).await;
    }
}

/// Writes the line of a carried connection.
pub fn log(
    kind: &'static str,
    client: SocketAddr,
    listener: &str,
    target: &Authority,
    carried: &Carried,
    took: Duration,
) {
    tracing::info!(
        target: "access",
        kind,
        %client,
        listener,
        %target,
        up = carried.up,
        down = carried.down,
        seconds = took.as_secs_f64(),
        end = ?carried.end,
        "carried"
    );
}

struct Meter {
    up: Cell<u64>,
    down: Cell<u64>,
    moved: Cell<Instant>,
}

/// The sender's side, counted.
struct Metered<IO> {
    io: IO,
    meter: Rc<Meter>,
}

impl<IO: AsyncRead + Unpin> AsyncRead for Metered<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        let n = buf.filled().len() - before;
        if n > 0 {
            self.meter.up.set(self.meter.up.get() + n as u64);
            self.meter.moved.set(Instant::now());
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Metered<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(n)) = polled {
            self.meter.down.set(self.meter.down.get() + n as u64);
            self.meter.moved.set(Instant::now());
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, duplex};
    use tokio::time::timeout;

    use super::*;
    use crate::config::{Scheme, TlsMode};
    use crate::downstream::listener::testing::rule;

    const SOON: Duration = Duration::from_secs(5);

    #[test]
    fn only_a_visible_matching_name_passes() {
        let host: HostName = "api.push.apple.com".parse().unwrap();
        let offer = |sni: Option<&str>, ech| Offer {
            sni: sni.map(|sni| sni.parse().unwrap()),
            ech,
            ..Offer::default()
        };
        for (offer, expected) in [
            (offer(Some("api.push.apple.com"), false), Ok(())),
            (offer(Some("api.push.apple.com"), true), Err(HelloRefusal::Encrypted)),
            (offer(None, false), Err(HelloRefusal::NoName)),
            (offer(Some("evil.example"), false), Err(HelloRefusal::Elsewhere)),
        ] {
            assert_eq!(judge(&offer, &host), expected);
        }
    }

    #[test]
    fn the_senders_port_comes_first_and_the_others_stand_in_for_it() {
        let rule = rule(TlsMode::Passthrough, Scheme::Https);
        for (port, expected) in [(443, [443, 2197]), (2197, [2197, 443]), (8443, [443, 2197])] {
            let ports: Vec<u16> = in_order(&rule, port).iter().map(|one| one.port).collect();
            assert_eq!(ports, expected);
        }
    }

    #[tokio::test]
    async fn a_half_closed_side_still_gets_its_answer() {
        let ((mut sender, near), (far, mut origin)) = (duplex(8), duplex(8));
        let lease = Lease::new();
        let work = carry(near, far, b"first", CarryLimits::default(), &lease);
        let peers = async {
            sender.write_all(b" second").await.unwrap();
            sender.shutdown().await.unwrap();
            let mut seen = Vec::new();
            origin.read_to_end(&mut seen).await.unwrap();
            assert_eq!(seen, b"first second");
            origin.write_all(b"an answer longer than the buffer").await.unwrap();
            drop(origin);
            seen.clear();
            sender.read_to_end(&mut seen).await.unwrap();
            assert_eq!(seen, b"an answer longer than the buffer");
        };
        let (carried, ()) = timeout(SOON, async { tokio::join!(work, peers) }).await.unwrap();
        assert_eq!(carried, Carried { up: 12, down: 32, end: End::Closed });
    }

    #[tokio::test]
    async fn silence_age_and_drain_end_it() {
        let short = Duration::from_millis(20);
        let long = CarryLimits::default();
        for (limits, asked, expected) in [
            (CarryLimits { idle: short, ..long }, Asked::HandOver, End::Idle),
            (CarryLimits { total: short, ..long }, Asked::Nothing, End::TooOld),
            (long, Asked::EndNow, End::Drained),
        ] {
            let ((_sender, near), (far, _origin)) = (duplex(8), duplex(8));
            let lease = Lease::new();
            lease.ask(asked);
            let carried = timeout(SOON, carry(near, far, b"", limits, &lease)).await.unwrap();
            assert_eq!(carried.end, expected);
        }
    }
}
