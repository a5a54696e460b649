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
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::budget::Budget;
use super::connection::ExchangeFailure;
use super::dial::{DialFacts, Target, another_port_may_do};
use super::lanes::Totals;
use super::replay::MAX_REPLAYS;
use super::tls::Offer;
use super::{Answered, Delivery, Push, Unanswered, connection, http1};
use crate::config::{EgressName, LaneLimits, Protocol, Scheme};
use crate::hop::{Hop, HopError, HopErrorKind, Observe, Stage, Unobserved};
use crate::names::Host;
use crate::pki::Identity;

pub mod book;

use book::{Book, Dial};

/// A lane that has been down for so long answers at once instead of holding every push to its
/// deadline.
pub const DOWN_FOR_LONG: Duration = Duration::from_secs(30);
/// A dial ends by this, whatever the stages allow: above the longest honest sum of them.
const DIAL_WITHIN: Duration = Duration::from_secs(10);
/// Pause before a push that was refused twice is sent once more: the first replay takes its turn
/// at once, the last one outlives a short spell of refusals.
const REPLAY_PAUSE: Duration = Duration::from_millis(300);

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

#[derive(Debug, Clone)]
enum Wire {
    Http1(Rc<http1::Connection>),
    Http2(Rc<connection::Connection>),
}

impl Wire {
    fn id(&self) -> u64 {
        match self {
            Self::Http1(connection) => connection.id,
            Self::Http2(connection) => connection.id,
        }
    }

    fn facts(&self) -> &DialFacts {
        match self {
            Self::Http1(connection) => &connection.facts,
            Self::Http2(connection) => &connection.facts,
        }
    }

    fn is_retired(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.is_retired(),
            Self::Http2(connection) => connection.is_retired(),
        }
    }

    fn retire(&self) {
        match self {
            Self::Http1(connection) => connection.retire(),
            Self::Http2(connection) => connection.retire(),
        }
    }

    /// Fit to carry a push now? Tries the path of one that was quiet for long.
    async fn is_fit(&self) -> bool {
        match self {
            Self::Http1(connection) if connection.is_stale() => {
                connection.retire();
                false
            }
            Self::Http2(connection) if connection.is_stale() => connection.try_path().await,
            Self::Http1(_) | Self::Http2(_) => !self.is_retired(),
        }
    }

    async fn exchange(
        &self,
        request: &http::Request<Bytes>,
        deadline: Instant,
    ) -> Result<http::Response<Bytes>, ExchangeFailure> {
        match self {
            Self::Http1(connection) => connection.exchange(request, deadline).await,
            Self::Http2(connection) => connection.exchange(request, deadline).await,
        }
    }

    const fn protocol(&self) -> &'static str {
        match self {
            Self::Http1(_) => "http/1.1",
            Self::Http2(_) => "h2",
        }
    }
}

/// A push that waits: whose it is, and where its place is told.
struct Waiter {
    sender: IpAddr,
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
    last_error: RefCell<Option<HopError>>,
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
            last_error: RefCell::default(),
            proven: Cell::new(false),
            last_used: Cell::new(Instant::now()),
            settled,
        })
    }

    /// Sends a push: at most once, or again only what is proven unprocessed. Ends by the push's
    /// deadline.
    pub async fn send(self: &Rc<Self>, push: &Push) -> Result<Answered, Unanswered> {
        let deadline = push.deadline;
        let mut replays = 0;
        loop {
            let unsent = |cause| Unanswered { delivery: Delivery::NotSent, cause, replays };
            let seat = self.seat(push, deadline).await.map_err(unsent)?;
            if push.presence.is_gone() {
                let gone = HopError::new(Hop::Sender, Stage::Queue, HopErrorKind::SenderGone);
                return Err(unsent(gone));
            }
            match seat.wire.exchange(&push.request, deadline).await {
                Ok(response) => return Ok(self.answered(seat, response, replays)),
                Err(failure) => {
                    if failure.refused {
                        self.book.borrow_mut().refused(seat.wire.id());
                    }
                    drop(seat);
                    let again = failure.delivery == Delivery::NotSent
                        && replays < MAX_REPLAYS
                        && !push.presence.is_gone();
                    let pause = REPLAY_PAUSE * u32::from(replays);
                    if !again || Instant::now() + pause >= deadline {
                        let ExchangeFailure { delivery, cause, .. } = failure;
                        return Err(Unanswered { delivery, cause, replays });
                    }
                    replays += 1;
                    LaneCounters::bump(&self.counters.replays);
                    sleep(pause).await;
                }
            }
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
        } else if binds_the_connection(response.body()) {
            seat.wire.retire();
        }
        Answered {
            connection: seat.wire.id(),
            protocol: seat.wire.protocol(),
            inspected: seat.wire.facts().tls.as_ref().is_some_and(|tls| tls.inspected),
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

    async fn seat(self: &Rc<Self>, push: &Push, deadline: Instant) -> Result<Seat<D>, HopError> {
        loop {
            self.last_used.set(Instant::now());
            let wire = match self.take() {
                Some(wire) => wire,
                None => self.wait(push, deadline).await?,
            };
            let seat = Seat { lane: self.clone(), wire, answered: false };
            match timeout_at(deadline, seat.wire.is_fit()).await {
                Ok(true) => return Ok(seat),
                Ok(false) => {}
                Err(_late) => return Err(self.waited_in_vain()),
            }
        }
    }

    fn take(&self) -> Option<Wire> {
        loop {
            let id = self.book.borrow_mut().take()?;
            let wire = self.wires.borrow().iter().find(|wire| wire.id() == id).cloned();
            match wire {
                Some(wire) if !wire.is_retired() => return Some(wire),
                Some(_) | None => self.forget(id),
            }
        }
    }

    /// Waits in the lane's own queue: for a place, for the dial's last word, for the deadline.
    async fn wait(self: &Rc<Self>, push: &Push, deadline: Instant) -> Result<Wire, HopError> {
        if let Some(error) = self.known_failure() {
            return Err(error);
        }
        if self.waiting.borrow().len() >= self.limits.queue {
            self.drop_departed();
            if self.waiting.borrow().len() >= self.limits.queue {
                return Err(HopError::new(Hop::RelayHost, Stage::Queue, HopErrorKind::Overloaded));
            }
        }
        let (place, placed) = oneshot::channel();
        self.waiting.borrow_mut().push_back(Waiter { sender: push.sender, place });
        self.pump();
        let mut placed = Placed { lane: self, placed };
        tokio::select! {
            biased;
            got = &mut placed.placed => match got {
                Ok(got) => got,
                Err(_dropped) => {
                    Err(HopError::new(Hop::RelayHost, Stage::Queue, HopErrorKind::Draining))
                }
            },
            () = push.presence.gone() => {
                Err(HopError::new(Hop::Sender, Stage::Queue, HopErrorKind::SenderGone))
            }
            () = sleep_until(deadline) => Err(self.waited_in_vain()),
        }
    }

    /// The error that a push would only wait for.
    fn known_failure(&self) -> Option<HopError> {
        let now = Instant::now();
        let book = self.book.borrow();
        if book.connections() > 0 || !book.is_backing_off(now) {
            return None;
        }
        let down_for_long = book.down_for(now).is_some_and(|down| down >= DOWN_FOR_LONG);
        let error = self.last_error.borrow();
        let error = error.as_ref()?;
        (down_for_long || is_definitive(&error.kind)).then(|| error.share())
    }

    fn waited_in_vain(&self) -> HopError {
        let down = self.book.borrow().connections() == 0;
        match self.last_error.borrow().as_ref() {
            Some(error) if down => error.share(),
            Some(_) | None => HopError::new(Hop::Origin, Stage::Queue, HopErrorKind::Timeout),
        }
    }

    fn drop_departed(&self) {
        self.waiting.borrow_mut().retain(|waiter| !waiter.is_closed());
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

    fn dial_if_wanted(self: &Rc<Self>) {
        loop {
            let now = Instant::now();
            let waiting = self.waiting.borrow().len();
            let dial = self.book.borrow().wants_dial(now, waiting);
            match dial {
                Dial::No => return,
                Dial::At(at) => return self.wake_at(at),
                Dial::Now => {}
            }
            if let Err(at) = self.may_dial(now) {
                return self.wake_at(at);
            }
            self.book.borrow_mut().dial_begins();
            let lane = self.clone();
            tokio::task::spawn_local(async move { lane.dial().await });
        }
    }

    /// Takes a dial from the budget, for the sender at the head of the queue while nothing is
    /// proven.
    fn may_dial(&self, now: Instant) -> Result<(), Instant> {
        let Some(budget) = &self.budget else {
            return Ok(());
        };
        let first = self.waiting.borrow().front().map(|waiter| waiter.sender);
        let on_trust = first.filter(|_sender| !self.proven.get());
        budget.take(now, on_trust)?;
        self.owed.borrow_mut().extend(on_trust);
        Ok(())
    }

    fn wake_at(self: &Rc<Self>, at: Instant) {
        if self.timer_at.get().is_some_and(|earlier| earlier <= at) {
            return;
        }
        self.timer_at.set(Some(at));
        let lane = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            sleep_until(at).await;
            if let Some(lane) = lane.upgrade()
                && lane.timer_at.get() == Some(at)
            {
                lane.timer_at.set(None);
                lane.pump();
            }
        });
    }

    async fn dial(self: Rc<Self>) {
        let dialed = self.connect().await;
        let now = Instant::now();
        match dialed {
            Ok(wire) => {
                LaneCounters::bump(&self.counters.dials);
                self.counters.dial_ended(&self.target.egress, None);
                self.last_error.borrow_mut().take();
                let (limit, http1) = match &wire {
                    Wire::Http1(_) => (None, true),
                    Wire::Http2(connection) => (connection.log.max_concurrent(), false),
                };
                self.book.borrow_mut().dial_succeeded(wire.id(), limit, http1, now);
                self.wires.borrow_mut().push(wire);
            }
            Err(error) => {
                LaneCounters::bump(&self.counters.dials_failed);
                self.counters.dial_ended(&self.target.egress, Some((error.hop, error.stage)));
                let down = self.book.borrow_mut().dial_failed(now, jitter());
                let lost = self.book.borrow().connections() == 0
                    && (down >= DOWN_FOR_LONG || is_definitive(&error.kind));
                tracing::warn!(
                    origin = %self.target.host, egress = %self.target.egress,
                    hop = error.hop.word(), stage = error.stage.word(), cause = %error.kind,
                    "dial failed"
                );
                if lost {
                    for waiter in self.waiting.borrow_mut().drain(..) {
                        // A sender that left needs no answer.
                        let _ = waiter.place.send(Err(error.share()));
                    }
                }
                *self.last_error.borrow_mut() = Some(error);
            }
        }
        self.pump();
        (self.settled)();
    }

    /// Tries the ports in order, beginning with the one that worked last.
    async fn connect(self: &Rc<Self>) -> Result<Wire, HopError> {
        let ports = &self.target.ports;
        let first = self.port.get();
        let mut failed: Option<HopError> = None;
        for offset in 0..ports.len() {
            let index = (first + offset) % ports.len();
            match self.connect_port(ports[index]).await {
                Ok(wire) => {
                    self.port.set(index);
                    return Ok(wire);
                }
                Err(error) => {
                    let elsewhere = another_port_may_do(&error);
                    let first_error = failed.get_or_insert(error);
                    if !elsewhere {
                        return Err(first_error.share());
                    }
                }
            }
        }
        Err(failed.unwrap_or_else(|| {
            HopError::new(Hop::RelayHost, Stage::Resolve, HopErrorKind::NameNotFound)
        }))
    }

    async fn connect_port(self: &Rc<Self>, port: u16) -> Result<Wire, HopError> {
        let offer = match self.target.protocol {
            Protocol::H2 => Offer::H2,
            Protocol::Auto => Offer::H2AndHttp1,
            Protocol::Http1 => Offer::Http1,
        };
        let demand_h2 = self.target.protocol == Protocol::H2 && !self.target.relay_next_hop;
        let target = Target {
            egress: self.target.egress.clone(),
            scheme: self.target.scheme,
            host: self.target.host.clone(),
            port,
            // Behind an inspecting HTTP/1.1 proxy the next relay is reached by what there is.
            offer: if self.target.relay_next_hop { Offer::H2AndHttp1 } else { offer },
            identity: self.target.identity.clone(),
            demand_h2,
            relay_next_hop: self.target.relay_next_hop,
            deadline: Instant::now() + DIAL_WITHIN,
        };
        let (io, facts) = self.dialer.dial_origin(&target, &Unobserved).await?;
        let id = LaneCounters::bump(&self.counters.next_connection);
        let lane = Rc::downgrade(self);
        let changed = Rc::new(move || {
            if let Some(lane) = lane.upgrade() {
                lane.connection_changed(id);
            }
        });
        let cleartext_h2 = target.scheme == Scheme::Http && self.target.protocol == Protocol::H2;
        if facts.h2 || cleartext_h2 {
            let ping = self.limits.ping;
            let open = connection::Connection::open(id, (io, facts), ping, &Unobserved, changed);
            return Ok(Wire::Http2(open.await?));
        }
        Ok(Wire::Http1(http1::Connection::open(id, (io, facts), changed).await?))
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
        self.book.borrow_mut().retired(id);
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

    /// Adds its figures to its egress' totals.
    pub fn add_to(&self, totals: &mut Totals) {
        totals.waiting += self.waiting.borrow().len();
        for wire in self.wires.borrow().iter() {
            match wire {
                Wire::Http1(_) => totals.http1 += 1,
                Wire::Http2(_) => totals.http2 += 1,
            }
        }
    }

    /// What status shows.
    pub fn status(&self) -> serde_json::Value {
        let wires = self.wires.borrow();
        let connections: Vec<_> = wires.iter().map(status_of).collect();
        let error = self.last_error.borrow();
        serde_json::json!({
            "origin": self.target.host.to_string(),
            "port": self.target.ports.get(self.port.get()),
            "egress": self.target.egress.to_string(),
            "proven": self.proven.get(),
            "waiting": self.waiting.borrow().len(),
            "in_flight": self.book.borrow().open(),
            "dialing": self.book.borrow().dialing(),
            "down_seconds": self.down_for().map(|down| down.as_secs()),
            "last_error": error.as_ref().map(|error| serde_json::json!({
                "hop": error.hop.word(),
                "stage": error.stage.word(),
                "cause": error.kind.to_string(),
            })),
            "connections": connections,
        })
    }
}

impl<D> std::fmt::Debug for Lane<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("target", &self.target).finish_non_exhaustive()
    }
}

/// A place on a connection; given back when dropped.
struct Seat<D: DialOrigin> {
    lane: Rc<Lane<D>>,
    wire: Wire,
    answered: bool,
}

impl<D: DialOrigin> Drop for Seat<D> {
    fn drop(&mut self) {
        self.lane.give_back(&self.wire, self.answered);
    }
}

/// A waiting push. If it leaves at the very moment at which it gets a place, the place goes on.
struct Placed<'a, D: DialOrigin> {
    lane: &'a Rc<Lane<D>>,
    placed: oneshot::Receiver<Result<Wire, HopError>>,
}

impl<D: DialOrigin> Drop for Placed<'_, D> {
    fn drop(&mut self) {
        self.placed.close();
        if let Ok(Ok(wire)) = self.placed.try_recv() {
            self.lane.give_back(&wire, false);
        }
    }
}

/// Waiting cannot mend these; every other failure may pass while a push waits.
fn is_definitive(kind: &HopErrorKind) -> bool {
    match kind {
        HopErrorKind::AlpnNotH2 { .. }
        | HopErrorKind::Certificate { .. }
        | HopErrorKind::CredentialsLatched
        | HopErrorKind::CredentialsMissing(_)
        | HopErrorKind::CredentialsRefused(_)
        | HopErrorKind::Loop(_)
        | HopErrorKind::NotTheProtocol { .. } => true,
        HopErrorKind::ProxyRefused(refusal) => refusal.status < 500,
        HopErrorKind::Alert(_)
        | HopErrorKind::BudgetExhausted
        | HopErrorKind::Closed
        | HopErrorKind::Draining
        | HopErrorKind::ForeignAnswer { .. }
        | HopErrorKind::GoAway { .. }
        | HopErrorKind::Io(_)
        | HopErrorKind::NameNotFound
        | HopErrorKind::Overloaded
        | HopErrorKind::Protocol(_)
        | HopErrorKind::Refused
        | HopErrorKind::Reset { .. }
        | HopErrorKind::SenderGone
        | HopErrorKind::Timeout
        | HopErrorKind::Unreachable => false,
    }
}

/// APNs' reasons that say that this connection is bound to another key or environment: the push
/// is answered, the connection is of no more use to this lane.
fn binds_the_connection(body: &[u8]) -> bool {
    ["UnrelatedKeyIdInToken", "BadEnvironmentKeyIdInToken", "BadEnvironmentKeyInToken"]
        .iter()
        .any(|reason| body.windows(reason.len()).any(|window| window == reason.as_bytes()))
}

/// 0.0..1.0 from the clock's nanoseconds: dials of many relays must not fall into step, and
/// nothing secret hangs on it.
fn jitter() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    f64::from(now.map_or(0, |now| now.subsec_nanos()) % 1_000_000) / 1_000_000.0
}

fn log_retirement(connection: &connection::Connection) {
    let goaway = connection.log.goaway();
    tracing::info!(
        connection = connection.id,
        exchanges = connection.exchanges(),
        goaway_code = goaway.as_ref().map(|goaway| goaway.code),
        goaway_last_stream = goaway.as_ref().map(|goaway| goaway.last_stream),
        reason = goaway.and_then(|goaway| goaway.reason),
        "upstream connection retired"
    );
}

fn status_of(wire: &Wire) -> serde_json::Value {
    let facts = wire.facts();
    let mut status = serde_json::json!({
        "id": wire.id(),
        "protocol": wire.protocol(),
        "proxy": facts.proxy.as_ref().map(ToString::to_string),
        "peer": facts.peer.to_string(),
        "alpn": facts.alpn,
        "issuer": facts.tls.as_ref().and_then(|tls| tls.issuer.clone()),
        "inspected": facts.tls.as_ref().is_some_and(|tls| tls.inspected),
    });
    if let Wire::Http2(connection) = wire {
        let (resets, last_reset) = connection.log.resets();
        status["age_seconds"] = connection.since.elapsed().as_secs().into();
        status["in_flight"] = connection.in_flight().into();
        status["exchanges"] = connection.exchanges().into();
        status["max_concurrent_streams"] = connection.log.max_concurrent().into();
        status["resets"] = resets.into();
        status["last_reset_code"] = last_reset.into();
        status["goaway"] = connection.log.goaway().map_or(serde_json::Value::Null, |goaway| {
            serde_json::json!({
                "last_stream": goaway.last_stream,
                "code": goaway.code,
                "reason": goaway.reason,
            })
        });
    }
    status
}
