//! HTTP/2 towards senders, on the h2 crate.
//!
//! This file is the connection: its SETTINGS, its clocks and how it ends. `head` judges request
//! heads, `stream` runs one exchange in a task of its own, so that the connection never waits for
//! a handler: PINGs are answered while every upstream hangs (S2).
//! GOAWAY is sent only with nothing in flight, hand-over excepted: some senders resend what was in
//! flight when they see one, and that would be a duplicate push.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::lease::{Asked, GRACE, Lease};
use super::{Handle, Sender};
use crate::io::Guarded;

mod head;
mod stream;

#[cfg(test)]
mod tests;

/// Received data that one connection may hold: 1 MiB, below which aioapns takes its own flow
/// control error for a reason to sleep.
const CONNECTION_WINDOW: u32 = 1 << 20;
/// Received data that one stream may hold: several times the largest push.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Streams that the peer reset before we looked at them; more is a rapid reset attack
/// (CVE-2023-44487). A sender that gives up does so after seconds, not within one read.
const RESET_BEFORE_ACCEPT: usize = 50;
/// Streams of our own reset that are remembered, so that a late frame for them is no error: as
/// many as may be refused at once.
const RESETS_REMEMBERED: usize = 500;
/// Streams that we reset for the peer's errors (CVE-2025-8671); no honest sender makes any.
const RESET_BY_ERROR: usize = 100;
/// Answer octets that h2 buffers for a stream: the largest answer that upstream may give.
const SEND_BUFFER: usize = 256 * 1024;
/// Resets within [`HASTE`] of their HEADERS that a connection may show per [`RESET_WINDOW`].
const HASTY_RESETS: u32 = 200;
/// A reset this soon is no sender's timeout: the shortest known is 5 s.
const HASTE: Duration = Duration::from_secs(1);
/// See [`HASTY_RESETS`].
const RESET_WINDOW: Duration = Duration::from_secs(10);
/// How long a quiet connection may leave our graceful GOAWAY's PING unanswered.
const HANDED_OVER: Duration = Duration::from_secs(5);

/// Bounds of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Http2Limits {
    /// Request head, octets: names, values and 32 a field (RFC 9113 §6.5.2).
    pub head: usize,
    /// `SETTINGS_MAX_CONCURRENT_STREAMS`: 500 is what APNs itself allows.
    pub streams: u32,
    /// From here to the first request's head, preface and SETTINGS included.
    pub first_request: Duration,
    /// A request's body.
    pub body: Duration,
    /// Writing an answer, flow control included.
    pub write: Duration,
    /// Quiet after a first request: longer than the 90 s of the senders' own pools.
    pub idle: Duration,
}

impl Default for Http2Limits {
    fn default() -> Self {
        Self {
            head: 16 * 1024,
            streams: 500,
            first_request: Duration::from_secs(10),
            body: Duration::from_secs(15),
            write: Duration::from_secs(15),
            idle: Duration::from_secs(180),
        }
    }
}

/// Serves a connection to its end. Exchanges under way outlive it: they run to their own end,
/// knowing that the sender has gone.
pub async fn serve<IO, H>(
    io: IO,
    sender: Rc<Sender>,
    handle: Rc<H>,
    limits: Http2Limits,
    lease: Lease,
) where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handle,
{
    // Boxed, so that its state goes when it is done and the connection is not held twice.
    let session = Box::pin(open(io, sender, handle, limits, lease)).await;
    if let Some(mut session) = session {
        session.run().await;
    }
}

/// The preface and SETTINGS; `None` where they do not come.
async fn open<IO, H>(
    io: IO,
    sender: Rc<Sender>,
    handle: Rc<H>,
    limits: Http2Limits,
    lease: Lease,
) -> Option<Box<Session<IO, H>>>
where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handle,
{
    let deadline = Instant::now() + limits.first_request;
    let handshake = builder(&limits).handshake(Guarded::new(io, limits.write));
    let opened = tokio::select! {
        opened = timeout_at(deadline, handshake) => opened,
        () = lease.hurried() => return None,
    };
    let connection = match opened {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(client = %sender.client, %error, "no HTTP/2 preface");
            return None;
        }
        Err(_elapsed) => {
            tracing::info!(client = %sender.client, "no HTTP/2 preface and SETTINGS in time");
            return None;
        }
    };
    let shared = Rc::new(Shared {
        sender,
        handle,
        limits,
        lease,
        running: Cell::new(0),
        changed: Notify::new(),
        flooded: Cell::new(false),
        hasty: Cell::new((Instant::now(), 0)),
    });
    let timer = Box::pin(sleep_until(deadline));
    Some(Box::new(Session { connection, shared, timer, deadline, phase: Phase::Serving }))
}

fn builder(limits: &Http2Limits) -> h2::server::Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        // Up to twice our own limit the 431 is ours and speaks the provider's dialect.
        .max_header_list_size(u32::try_from(limits.head * 2).unwrap_or(u32::MAX))
        .max_frame_size(16_384)
        .max_concurrent_reset_streams(RESETS_REMEMBERED)
        .max_pending_accept_reset_streams(RESET_BEFORE_ACCEPT)
        .max_local_error_reset_streams(Some(RESET_BY_ERROR))
        .max_send_buffer_size(SEND_BUFFER);
    builder
}

/// What the connection and the tasks of its streams share.
struct Shared<H> {
    sender: Rc<Sender>,
    handle: Rc<H>,
    limits: Http2Limits,
    lease: Lease,
    /// Tasks of streams; those that the peer reset included.
    running: Cell<u32>,
    /// A task ended, or a flood was seen.
    changed: Notify,
    flooded: Cell<bool>,
    /// Start of the current window, and hasty resets in it.
    hasty: Cell<(Instant, u32)>,
}

impl<H> Shared<H> {
    /// Notes that the peer reset a stream which it had opened at `opened`.
    fn peer_reset(&self, opened: Instant) {
        let now = Instant::now();
        if now - opened > HASTE {
            return;
        }
        let (since, count) = match self.hasty.get() {
            (since, _) if now - since > RESET_WINDOW => (now, 1),
            (since, count) => (since, count + 1),
        };
        self.hasty.set((since, count));
        if count > HASTY_RESETS {
            self.flooded.set(true);
            self.changed.notify_one();
        }
    }
}

/// How far the end has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// GOAWAY as soon as nothing is in flight.
    EndWhenQuiet,
    /// The graceful GOAWAY is out.
    HandedOver,
    /// The last GOAWAY is out.
    Ending,
}

struct Session<IO, H> {
    connection: Connection<Guarded<IO>, Bytes>,
    shared: Rc<Shared<H>>,
    timer: Pin<Box<Sleep>>,
    /// Of the first request.
    deadline: Instant,
    phase: Phase,
}

/// What woke a connection.
#[expect(clippy::large_enum_variant, reason = "boxing would allocate for every push")]
enum Woken {
    Accepted(Request<RecvStream>, SendResponse<Bytes>),
    Asked(Asked),
    /// A stream ended.
    Changed,
    Closed,
    /// Nothing in flight, while the end is asked.
    Quiet,
    Timer,
}

impl<IO, H> Session<IO, H>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    H: Handle,
{
    async fn run(&mut self) {
        let mut seen = Asked::Nothing;
        loop {
            match self.wake(seen).await {
                Woken::Accepted(request, respond) => {
                    stream::start(&self.shared, request, respond);
                }
                Woken::Asked(asked) => {
                    seen = asked;
                    self.ask(asked);
                }
                Woken::Changed => {
                    if self.shared.flooded.get() {
                        self.end(Reason::ENHANCE_YOUR_CALM, "too many streams were reset");
                    }
                }
                Woken::Closed => return,
                Woken::Quiet => self.end(Reason::NO_ERROR, "asked to end"),
                Woken::Timer => self.late(),
            }
        }
    }

    async fn wake(&mut self, seen: Asked) -> Woken {
        let Self { connection, shared, timer, phase, .. } = self;
        let next = poll_fn(|cx| {
            let polled = pin!(connection.accept()).poll(cx);
            match polled {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    Poll::Ready(Woken::Accepted(request, respond))
                }
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(client = %shared.sender.client, %error, "HTTP/2 ended");
                    Poll::Ready(Woken::Closed)
                }
                Poll::Ready(None) => Poll::Ready(Woken::Closed),
                // Asked right after polling: what was queued is in h2's output buffer by now, so
                // a GOAWAY cannot overtake an answer.
                Poll::Pending
                    if *phase == Phase::EndWhenQuiet
                        && shared.lease.served()
                        && shared.running.get() == 0
                        && !connection.has_streams() =>
                {
                    Poll::Ready(Woken::Quiet)
                }
                Poll::Pending => Poll::Pending,
            }
        });
        let ended = *phase == Phase::Ending;
        tokio::select! {
            biased;
            asked = shared.lease.asked_more_than(seen), if !ended => Woken::Asked(asked),
            () = shared.changed.notified(), if !ended => Woken::Changed,
            () = timer.as_mut(), if !ended => Woken::Timer,
            woken = next => woken,
        }
    }

    fn ask(&mut self, asked: Asked) {
        match asked {
            Asked::Nothing => {}
            Asked::EndWhenQuiet => {
                self.phase = Phase::EndWhenQuiet;
                if !self.shared.lease.served() {
                    self.deadline = self.deadline.min(Instant::now() + GRACE);
                    self.timer.as_mut().reset(self.deadline);
                }
            }
            Asked::HandOver => {
                if self.shared.running.get() == 0 {
                    self.phase = Phase::EndWhenQuiet;
                } else {
                    self.connection.graceful_shutdown();
                    self.phase = Phase::HandedOver;
                    self.timer.as_mut().reset(Instant::now() + HANDED_OVER);
                }
            }
            Asked::EndNow => self.end(Reason::NO_ERROR, "the drain is over"),
        }
    }

    /// The timer fired: says what is late, or when to look again. It is never moved when a stream
    /// begins or ends, that would cost every push.
    fn late(&mut self) {
        let now = Instant::now();
        let lease = &self.shared.lease;
        if !lease.served() {
            return self.end(Reason::NO_ERROR, "no request came in time");
        }
        let idle =
            if self.phase == Phase::HandedOver { HANDED_OVER } else { self.shared.limits.idle };
        let since = match lease.quiet_since() {
            Some(since) if self.shared.running.get() == 0 => Instant::from_std(since),
            Some(_) | None => now,
        };
        if now >= since + idle {
            return self.end(Reason::NO_ERROR, "idle");
        }
        debug_assert!(now >= self.deadline || self.phase != Phase::Serving);
        self.timer.as_mut().reset(since + idle);
    }

    /// GOAWAY with the last stream that was taken, then close.
    fn end(&mut self, reason: Reason, why: &'static str) {
        let client = self.shared.sender.client;
        if reason == Reason::NO_ERROR {
            tracing::debug!(%client, why, "HTTP/2 connection ends");
        } else {
            tracing::info!(%client, why, ?reason, "HTTP/2 connection is cut");
        }
        self.phase = Phase::Ending;
        self.connection.abrupt_shutdown(reason);
    }
}
