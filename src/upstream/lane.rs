//! A lane: the upstream connections of one origin, egress and (on APNs) credential, and the
//! pushes that wait for them.
//!
//! The rules are in `book`; here is what they move: dials, connections, waiting pushes. A push is
//! handed to HTTP/2 only while the peer's limit has room, so whatever still waits here is provably
//! unsent.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::budget::Budget;
use super::connection::{self, ExchangeFailure};
use super::dial::{DialFacts, Target};
use super::replay::Replays;
use super::{Answered, Delivery, Push, Unanswered};
use crate::config::{EgressName, LaneLimits, Protocol, Scheme};
use crate::hop::{Hop, HopError, HopErrorKind, Observe, Stage};
use crate::names::Host;
use crate::pki::Identity;
use crate::provider::apns;

pub mod book;
mod dialing;
mod report;
mod seat;
mod wire;

use book::Book;
use dialing::Climb;
use seat::Seat;
use wire::{Wire, log_retirement};

/// A lane that has been down for so long answers at once instead of holding every push to its
/// deadline.
pub const DOWN_FOR_LONG: Duration = Duration::from_secs(30);
/// A push that still waits so shortly before its deadline is not sent any more: hardly an answer
/// would come in time, and what is known would turn into `unknown`.
const LAST_MOMENT: Duration = Duration::from_millis(200);

/// What dials: the relay's dialer, or a test's.
pub trait DialOrigin: 'static {
    /// The stream that it brings.
    type Io: AsyncRead + AsyncWrite + Unpin + 'static;

    /// Climbs from a name to a stream, up to and with ALPN.
    fn dial_origin(
        &self,
        target: &Target,
        observe: &dyn Observe,
    ) -> impl Future<Output = Result<(Self::Io, DialFacts), HopError>>;

    /// Does this egress lead through proxies?
    fn is_proxied(&self, egress: &EgressName) -> bool;
}

/// Where a lane leads.
#[derive(Debug, Clone)]
pub struct LaneTarget {
    /// The way out.
    pub egress: EgressName,
    /// TLS or not.
    pub scheme: Scheme,
    /// The origin.
    pub host: Host,
    /// Its ports, in the order tried.
    pub ports: Vec<u16>,
    /// What is spoken.
    pub protocol: Protocol,
    /// Another relay stands there.
    pub relay_next_hop: bool,
    /// Our own client certificate.
    pub identity: Option<Arc<Identity>>,
}

/// A push that waits: whose it is, and where its place is told.
struct Waiter {
    sender: IpAddr,
    deadline: Instant,
    place: oneshot::Sender<Result<Wire, HopError>>,
}

impl Waiter {
    fn is_closed(&self) -> bool {
        self.place.is_closed()
    }
}

/// An egress, and where a dial of its failed; `None` for one that brought a connection.
pub type DialEnd = (EgressName, Option<(Hop, Stage)>);

/// Counts that outlive lanes; shared by all of them.
#[derive(Debug, Default)]
pub struct LaneCounters {
    /// The number of the next connection.
    pub next_connection: Cell<u64>,
    /// Dials that brought a connection.
    pub dials: Cell<u64>,
    /// Dials that failed.
    pub dials_failed: Cell<u64>,
    /// Pushes sent again.
    pub replays: Cell<u64>,
    /// Dials by egress and by where they failed: both sets are closed.
    pub ended: RefCell<BTreeMap<DialEnd, u64>>,
}

impl LaneCounters {
    fn bump(cell: &Cell<u64>) -> u64 {
        cell.set(cell.get() + 1);
        cell.get()
    }

    fn dial_ended(&self, egress: &EgressName, failure: Option<(Hop, Stage)>) {
        *self.ended.borrow_mut().entry((egress.clone(), failure)).or_default() += 1;
    }
}

/// A lane.
pub struct Lane<D> {
    dialer: Rc<D>,
    target: LaneTarget,
    limits: LaneLimits,
    budget: Option<Rc<Budget>>,
    /// Whose push it was opened for.
    pub opened_by: IpAddr,
    /// Senders whose dials have not proven the lane yet.
    owed: RefCell<Vec<IpAddr>>,
    counters: Rc<LaneCounters>,
    book: RefCell<Book>,
    wires: RefCell<Vec<Wire>>,
    waiting: RefCell<VecDeque<Waiter>>,
    timer_at: Cell<Option<Instant>>,
    port: Cell<usize>,
    climb: Climb,
    last_error: RefCell<Option<HopError>>,
    /// Which failed dial was last written to the log, and when.
    told: RefCell<Option<(HopError, Instant)>>,
    proven: Cell<bool>,
    last_used: Cell<Instant>,
    /// Called when it may have become idle.
    settled: Rc<dyn Fn()>,
}

impl<D: DialOrigin> Lane<D> {
    /// An empty lane; nothing is dialled before a push waits.
    pub fn new(
        dialer: Rc<D>,
        target: LaneTarget,
        limits: LaneLimits,
        (budget, opened_by): (Option<Rc<Budget>>, IpAddr),
        counters: Rc<LaneCounters>,
        settled: Rc<dyn Fn()>,
    ) -> Rc<Self> {
        Rc::new(Self {
            dialer,
            target,
            limits,
            budget,
            opened_by,
            owed: RefCell::default(),
            counters,
            book: RefCell::new(Book::new(limits)),
            wires: RefCell::default(),
            waiting: RefCell::default(),
            timer_at: Cell::new(None),
            port: Cell::new(0),
            climb: Climb::default(),
            last_error: RefCell::default(),
            told: RefCell::default(),
            proven: Cell::new(false),
            last_used: Cell::new(Instant::now()),
            settled,
        })
    }

    /// Sends a push: at most once, or again only what is proven unprocessed. Ends by the push's
    /// deadline.
    pub async fn send(self: &Rc<Self>, push: &Push) -> Result<Answered, Unanswered> {
        let deadline = push.deadline;
        let latest = deadline.checked_sub(LAST_MOMENT).unwrap_or(deadline);
        let mut replays = Replays::default();
        let mut before: Option<HopError> = None;
        loop {
            let count = replays.count();
            let unsent = |cause| Unanswered { delivery: Delivery::NotSent, cause, replays: count };
            let seat = match self.seat(push, latest, count > 0).await {
                Ok(seat) => seat,
                // What sent it back says more than that it then waited.
                Err(error) if error.kind == HopErrorKind::Timeout => {
                    return Err(unsent(before.unwrap_or(error)));
                }
                Err(error) => return Err(unsent(error)),
            };
            if push.presence.is_gone() {
                let gone = HopError::new(Hop::Sender, Stage::Queue, HopErrorKind::SenderGone);
                return Err(unsent(gone));
            }
            let failure = match self.exchange(&seat, &push.request, deadline).await {
                Ok(response) => return Ok(self.answered(seat, response, count)),
                Err(failure) => failure,
            };
            if failure.refused {
                self.book.borrow_mut().refused(seat.wire.id());
            }
            let ended = seat.wire.ended(failure.refused);
            drop(seat);
            let ExchangeFailure { delivery, cause, .. } = failure;
            let again = delivery == Delivery::NotSent && !push.presence.is_gone();
            let pause = again.then(|| replays.again(ended)).flatten();
            let Some(pause) = pause.filter(|pause| Instant::now() + *pause < deadline) else {
                return Err(Unanswered { delivery, cause, replays: count });
            };
            if ended {
                *self.last_error.borrow_mut() = Some(cause.share());
            }
            before = Some(cause);
            LaneCounters::bump(&self.counters.replays);
            sleep(pause).await;
        }
    }

    fn answered(
        &self,
        mut seat: Seat<D>,
        response: http::Response<Bytes>,
        replays: u8,
    ) -> Answered {
        seat.answered = true;
        // A credential 403 proves nothing: made-up tokens must not hold lanes.
        if response.status() != http::StatusCode::FORBIDDEN {
            self.prove();
        } else if apns::binds_the_connection(response.body()) {
            seat.wire.retire();
        }
        Answered {
            connection: seat.wire.id(),
            protocol: seat.wire.protocol(),
            far: connection::far(seat.wire.facts()),
            response,
            replays,
        }
    }

    fn prove(&self) {
        if self.proven.replace(true) {
            return;
        }
        if let Some(budget) = &self.budget {
            for sender in self.owed.take() {
                budget.proved(sender);
            }
        }
        (self.settled)();
    }

    /// Gives free places to whoever waits, and dials when the book says so.
    fn pump(self: &Rc<Self>) {
        loop {
            let next = {
                let mut waiting = self.waiting.borrow_mut();
                while waiting.front().is_some_and(Waiter::is_closed) {
                    waiting.pop_front();
                }
                if waiting.is_empty() {
                    return;
                }
                drop(waiting);
                let Some(wire) = self.take() else {
                    break;
                };
                (self.waiting.borrow_mut().pop_front(), wire)
            };
            let (Some(waiter), wire) = next else {
                return;
            };
            if let Err(Ok(wire)) = waiter.place.send(Ok(wire)) {
                self.book.borrow_mut().give_back(wire.id(), false);
            }
        }
        self.dial_if_wanted();
    }

    /// SETTINGS, GOAWAY or the end came, told from inside the connection's poll.
    fn connection_changed(self: &Rc<Self>, id: u64) {
        let wire = self.wires.borrow().iter().find(|wire| wire.id() == id).cloned();
        let Some(wire) = wire else {
            return;
        };
        if wire.is_retired() {
            if let Wire::Http2(connection) = &wire {
                log_retirement(connection);
            }
            wire.retire();
            self.forget(id);
        } else if let Wire::Http2(connection) = &wire {
            self.book.borrow_mut().limit_is(id, connection.log.max_concurrent());
        }
        self.pump();
        (self.settled)();
    }

    fn forget(&self, id: u64) {
        let wire = self.wires.borrow().iter().find(|wire| wire.id() == id).cloned();
        let worked = wire.as_ref().is_none_or(Wire::has_worked);
        let was_used = self.book.borrow_mut().retired(id, worked, Instant::now());
        if was_used && worked && wire.is_some_and(|wire| wire.was_sent_away()) {
            // The origin itself asks for another connection: that is no churn of ours.
            self.budget.iter().for_each(|budget| budget.give_back());
        }
        let still_busy = |wire: &Wire| match wire {
            Wire::Http1(_) => false,
            Wire::Http2(connection) => connection.in_flight() > 0 && !connection.is_closed(),
        };
        self.wires.borrow_mut().retain(|wire| wire.id() != id || still_busy(wire));
    }

    fn give_back(self: &Rc<Self>, wire: &Wire, answered: bool) {
        self.book.borrow_mut().give_back(wire.id(), answered);
        if wire.is_retired() {
            self.forget(wire.id());
        }
        self.pump();
        if self.is_idle() {
            (self.settled)();
        }
    }

    /// Nothing waits, nothing is in flight, nothing is dialled.
    pub fn is_idle(&self) -> bool {
        let book = self.book.borrow();
        let waits = self.waiting.borrow().iter().any(|waiter| !waiter.is_closed());
        !waits && book.open() == 0 && book.dialing() == 0
    }

    /// An answer other than a credential 403 came once.
    pub fn is_proven(&self) -> bool {
        self.proven.get()
    }

    /// When a push last asked for it.
    pub fn last_used(&self) -> Instant {
        self.last_used.get()
    }

    /// For how long no dial has succeeded; `None` while a connection stands.
    pub fn down_for(&self) -> Option<Duration> {
        self.book.borrow().down_for(Instant::now())
    }

    /// Closes idle HTTP/1.1 connections that are too old to be used.
    pub fn sweep(&self) {
        let stale: Vec<Wire> = self
            .wires
            .borrow()
            .iter()
            .filter(|wire| match wire {
                Wire::Http1(connection) => !connection.is_retired() && connection.is_stale(),
                Wire::Http2(_) => false,
            })
            .cloned()
            .collect();
        for wire in stale {
            wire.retire();
            self.forget(wire.id());
        }
    }

    /// Tells whoever still waits that nothing will be sent any more.
    pub fn give_up(&self) {
        for waiter in self.waiting.borrow_mut().drain(..) {
            let draining = HopError::new(Hop::RelayHost, Stage::Queue, HopErrorKind::Draining);
            // A sender that left needs no answer.
            let _ = waiter.place.send(Err(draining));
        }
    }

    /// Lets its connections end once their streams are done.
    pub fn close(&self) {
        let wires: Vec<Wire> = self.wires.borrow().clone();
        for wire in wires {
            wire.retire();
            self.forget(wire.id());
        }
    }
}

/// A push may take a lane up again after it was closed, and open a connection that nobody but the
/// lane knows.
impl<D> Drop for Lane<D> {
    fn drop(&mut self) {
        for wire in self.wires.get_mut() {
            wire.retire();
        }
    }
}

impl<D> std::fmt::Debug for Lane<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("target", &self.target).finish_non_exhaustive()
    }
}
