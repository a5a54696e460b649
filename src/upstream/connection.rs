//! One HTTP/2 connection to an origin: handshake, exchanges, PING, its end.
//!
//! Knows nothing of lanes: it tells them by a callback that something changed. It never opens a
//! stream on its own and never sends one twice.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout, timeout_at};

use super::Delivery;
use super::dial::DialFacts;
use super::frames::{FrameLog, Tap};
use super::replay::{self, Failure};
use crate::hop::{Fact, Finding, Hop, HopError, HopErrorKind, Observe, Stage, clean};

mod keepalive;
mod receive;

use keepalive::{PONG_WITHIN, drive};
pub use receive::ANSWER_BODY;
use receive::{ReceiveFailure, receive};

/// SETTINGS must arrive in this time: every honest server sends them first (RFC 9113 §3.4).
const SETTINGS_WITHIN: Duration = Duration::from_secs(3);
/// A connection that was quiet for so long is tried by PING before it gets a push: middleboxes
/// forget, and a push into a forgotten connection would be `unknown`.
pub const STALE_AFTER: Duration = Duration::from_secs(15);
/// Head of an answer, octets decoded: APNs' own limit is 8000.
const ANSWER_HEAD: u32 = 32 * 1024;

/// Why an exchange brought no answer.
#[derive(Debug)]
pub struct ExchangeFailure {
    /// What is known of the push.
    pub delivery: Delivery,
    /// The peer refused the stream as one too many (REFUSED_STREAM).
    pub refused: bool,
    /// Why.
    pub cause: HopError,
}

/// An open connection.
pub struct Connection {
    /// Its number, unique while the process lives.
    pub id: u64,
    /// What the dial taught.
    pub facts: DialFacts,
    /// What the tap saw.
    pub log: Rc<FrameLog>,
    /// When it became usable.
    pub since: Instant,
    send: RefCell<Option<SendRequest<Bytes>>>,
    in_flight: Cell<usize>,
    closed: Cell<bool>,
    /// The path may be dead: a push got no answer and no octet came, or a PING waits for long.
    doubted: Cell<bool>,
    /// It was dropped because a PING got no answer.
    silent: Cell<bool>,
    wishes: Wishes,
    exchanges: Cell<u64>,
    answered: Cell<bool>,
}

#[derive(Default)]
struct Wishes {
    /// An exchange began on a quiet connection: the driver must watch for silence.
    busy: Notify,
    /// Somebody wants to know whether the path is alive.
    try_path: Notify,
    tried: Notify,
    /// Drop it as it is.
    abort: Notify,
}

impl Connection {
    /// Speaks the preface on a dialled stream and waits for the peer's SETTINGS. `changed` is
    /// called from inside the connection's poll whenever SETTINGS, GOAWAY or the end arrive.
    pub async fn open<IO>(
        id: u64,
        (io, facts): (IO, DialFacts),
        ping: Duration,
        observe: &dyn Observe,
        changed: Rc<dyn Fn()>,
    ) -> Result<Rc<Self>, HopError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let begun = Instant::now();
        let hop = beyond(&facts);
        let failed = |kind| HopError::new(hop, Stage::Settings, kind);
        let log = Rc::new(FrameLog::default());
        let tap = Tap::new(io, log.clone());
        let mut builder = h2::client::Builder::new();
        // Before SETTINGS one stream at most: h2 would open any number.
        builder.initial_max_send_streams(1).enable_push(false).max_header_list_size(ANSWER_HEAD);
        let handshake = timeout_at(begun + SETTINGS_WITHIN, builder.handshake::<_, Bytes>(tap));
        let (send, mut driver) = match handshake.await {
            Err(_late) => return Err(failed(HopErrorKind::Timeout)),
            Ok(Err(error)) => return Err(failed(kind_of(&error, &log)).caused_by(error)),
            Ok(Ok(opened)) => opened,
        };
        let pings = driver.ping_pong();
        let settings = async {
            let mut driver = pin!(&mut driver);
            poll_fn(|cx| {
                let ended = driver.as_mut().poll(cx);
                if log.has_settings() {
                    return Poll::Ready(Ok(()));
                }
                ended.map(|end| match end {
                    Ok(()) => Err(failed(not_http2(&log).unwrap_or(HopErrorKind::Closed))),
                    Err(error) => Err(failed(kind_of(&error, &log)).caused_by(error)),
                })
            })
            .await
        };
        match timeout_at(begun + SETTINGS_WITHIN, settings).await {
            Err(_late) => return Err(failed(HopErrorKind::Timeout)),
            Ok(done) => done?,
        }
        observe.passed(Finding {
            stage: Stage::Settings,
            took: begun.elapsed(),
            fact: Fact::Settings(log.first_settings().unwrap_or_default()),
        });
        let connection = Rc::new(Self {
            id,
            facts,
            log: log.clone(),
            since: Instant::now(),
            send: RefCell::new(Some(send)),
            in_flight: Cell::new(0),
            closed: Cell::new(false),
            doubted: Cell::new(false),
            silent: Cell::new(false),
            wishes: Wishes::default(),
            exchanges: Cell::new(0),
            answered: Cell::new(false),
        });
        let told = changed.clone();
        log.on_change(move || told());
        tokio::task::spawn_local(drive(connection.clone(), driver, pings, ping, changed));
        Ok(connection)
    }

    /// Streams open now.
    pub fn in_flight(&self) -> usize {
        self.in_flight.get()
    }

    /// Exchanges begun since it was opened.
    pub fn exchanges(&self) -> u64 {
        self.exchanges.get()
    }

    /// Has any answer come on it?
    pub fn has_answered(&self) -> bool {
        self.answered.get()
    }

    /// No new stream may be opened: GOAWAY, or the end.
    pub fn is_retired(&self) -> bool {
        let ending = self.log.going_away() || self.log.write_failed();
        self.closed.get() || ending || self.send.borrow().is_none()
    }

    /// The transport is gone.
    pub fn is_closed(&self) -> bool {
        self.closed.get()
    }

    /// Lets it end by itself once its streams are done.
    pub fn retire(&self) {
        self.send.borrow_mut().take();
        self.wishes.busy.notify_one();
    }

    /// Drops it as it is, with whatever is in flight.
    pub fn abort(&self) {
        // The driver may come to it only after the PING that it waits for.
        self.log.cut();
        self.wishes.abort.notify_one();
    }

    /// In doubt, or quiet for so long, that it should be tried before use?
    pub fn is_stale(&self) -> bool {
        if self.doubted.get() {
            return true;
        }
        let quiet = self.log.last_read().map(|at| at.elapsed());
        self.in_flight.get() == 0 && quiet.is_some_and(|quiet| quiet > STALE_AFTER)
    }

    /// Tries the path by PING; `false` when it is dead (the connection is then aborted).
    pub async fn try_path(&self) -> bool {
        let tried = self.wishes.tried.notified();
        self.wishes.try_path.notify_one();
        let done = timeout(PONG_WITHIN * 2, tried).await;
        done.is_ok() && !self.is_retired()
    }

    /// One request and its whole answer. The caller has made sure that the peer's stream limit
    /// has room.
    pub async fn exchange(
        &self,
        request: &http::Request<Bytes>,
        deadline: Instant,
    ) -> Result<http::Response<Bytes>, ExchangeFailure> {
        let unsent = |kind| ExchangeFailure {
            delivery: Delivery::NotSent,
            refused: false,
            cause: HopError::new(beyond(&self.facts), Stage::Request, kind),
        };
        let begun = std::time::Instant::now();
        let (head, body) = split(request);
        let opened = {
            let mut send = self.send.borrow_mut();
            let Some(send) = send.as_mut() else {
                return Err(unsent(HopErrorKind::Closed));
            };
            send.send_request(head, body.is_empty())
        };
        let (response, mut stream) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                let mut failure = unsent(kind_of(&error, &self.log));
                failure.cause = failure.cause.caused_by(error);
                return Err(failure);
            }
        };
        let flight = Flight::begin(self);
        if !body.is_empty() {
            // A failure shows itself in the response future, with its reason.
            let _ = stream.send_data(body, true);
        }
        let number = response.stream_id().as_u32();
        let answered = timeout_at(deadline, receive(response)).await;
        drop(flight);
        match answered {
            Ok(Ok(answer)) => {
                self.answered.set(true);
                Ok(answer)
            }
            Ok(Err(ReceiveFailure::Stream { error, begun })) => {
                Err(self.failed(number, begun, error))
            }
            Ok(Err(ReceiveFailure::Excess(what))) => {
                stream.send_reset(Reason::CANCEL);
                let failure = self.gave_up(number, HopErrorKind::Protocol(what.to_owned()));
                self.condemn();
                Err(failure)
            }
            Err(_late) => {
                stream.send_reset(Reason::CANCEL);
                if self.log.last_read().is_none_or(|at| at < begun) {
                    self.doubted.set(true);
                }
                Err(self.gave_up(number, HopErrorKind::Timeout))
            }
        }
    }

    /// The peer floods: nothing new goes there, and nothing more is read once nobody waits.
    fn condemn(&self) {
        self.retire();
        if self.in_flight.get() == 0 {
            self.abort();
        }
    }

    fn failed(&self, stream: u32, begun: bool, error: h2::Error) -> ExchangeFailure {
        // The connection has failed, but h2 still writes what it holds of its streams: before its
        // GOAWAY, or into the half that a peer left open.
        let unwritten = stream > self.log.highest_headers_out();
        if unwritten && !error.is_remote() {
            self.abort();
        }
        let peer_reset = (error.is_reset() && error.is_remote())
            .then(|| error.reason().map_or(u32::MAX, u32::from));
        let failure = Failure {
            stream: Some(stream),
            highest_out: self.log.highest_headers_out(),
            peer_reset,
            above_goaway: error.is_go_away() && error.is_remote(),
            begun,
        };
        // We dropped it, the peer closed nothing.
        let kind =
            if self.silent.get() { HopErrorKind::Timeout } else { kind_of(&error, &self.log) };
        let cause = HopError::new(beyond(&self.facts), Stage::Request, kind).caused_by(error);
        ExchangeFailure {
            delivery: replay::delivery(failure),
            refused: !begun && failure.peer_reset == Some(u32::from(Reason::REFUSED_STREAM)),
            cause,
        }
    }

    /// We stop waiting. What h2 still holds of the push must never leave afterwards, or "not
    /// sent" would become a lie: a connection that could not even write HEADERS is dropped,
    /// unless others are in flight on it; then we say "unknown".
    fn gave_up(&self, stream: u32, kind: HopErrorKind) -> ExchangeFailure {
        let unwritten = stream > self.log.highest_headers_out();
        let alone = self.in_flight.get() == 0;
        if unwritten && alone {
            self.abort();
        }
        let delivery = if unwritten && alone { Delivery::NotSent } else { Delivery::Unknown };
        ExchangeFailure {
            delivery,
            refused: false,
            cause: HopError::new(beyond(&self.facts), Stage::Request, kind),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id)
            .field("in_flight", &self.in_flight.get())
            .field("retired", &self.is_retired())
            .finish_non_exhaustive()
    }
}

/// Counts an open stream while it lives.
struct Flight<'a>(&'a Connection);

impl<'a> Flight<'a> {
    fn begin(connection: &'a Connection) -> Self {
        let before = connection.in_flight.get();
        connection.in_flight.set(before + 1);
        connection.exchanges.set(connection.exchanges.get() + 1);
        if before == 0 {
            connection.wishes.busy.notify_one();
        }
        Self(connection)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

fn split(request: &http::Request<Bytes>) -> (http::Request<()>, Bytes) {
    let mut head = http::Request::new(());
    *head.method_mut() = request.method().clone();
    *head.uri_mut() = request.uri().clone();
    *head.version_mut() = http::Version::HTTP_2;
    *head.headers_mut() = request.headers().clone();
    (head, request.body().clone())
}

/// Who answers there: an inspector that is known by its root, else as [`beyond`] says.
pub fn far(facts: &DialFacts) -> Hop {
    let inspected = facts.tls.as_ref().is_some_and(|tls| tls.inspected);
    if inspected { Hop::Inspector } else { beyond(facts) }
}

/// Who is to be named for what goes wrong on an established connection: past a proxy it cannot be
/// told who cut it.
pub const fn beyond(facts: &DialFacts) -> Hop {
    if facts.proxy.is_some() { Hop::BeyondProxy } else { Hop::Origin }
}

fn not_http2(log: &FrameLog) -> Option<HopErrorKind> {
    log.not_http2().map(|seen| HopErrorKind::NotTheProtocol { expected: "HTTP/2", seen })
}

fn kind_of(error: &h2::Error, log: &FrameLog) -> HopErrorKind {
    if let Some(kind) = not_http2(log) {
        return kind;
    }
    let code = error.reason().map_or(0, u32::from);
    if error.is_reset() {
        return HopErrorKind::Reset { code };
    }
    if let Some(goaway) = log.goaway() {
        return HopErrorKind::GoAway { code: goaway.code, reason: goaway.reason };
    }
    if error.is_io() {
        return HopErrorKind::Closed;
    }
    HopErrorKind::Protocol(clean(error.to_string().as_bytes(), 120))
}

#[cfg(test)]
mod tests;
