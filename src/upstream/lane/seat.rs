//! Places: held on a connection, or waited for; never lost when their holder goes.

use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::book::UNANSWERED_PATIENCE;
use super::dialing::is_definitive;
use super::wire::Wire;
use super::{DOWN_FOR_LONG, DialOrigin, Lane, Waiter};
use crate::hop::{Hop, HopError, HopErrorKind, Stage};
use crate::upstream::Push;
use crate::upstream::connection::ExchangeFailure;

impl<D: DialOrigin> Lane<D> {
    pub(super) async fn seat(
        self: &Rc<Self>,
        push: &Push,
        deadline: Instant,
        again: bool,
    ) -> Result<Seat<D>, HopError> {
        loop {
            self.last_used.set(Instant::now());
            let wire = match self.take() {
                Some(wire) => wire,
                None => self.wait(push, deadline, again).await?,
            };
            let seat = Seat { lane: self.clone(), wire, answered: false };
            match timeout_at(deadline, seat.wire.is_fit()).await {
                Ok(true) => return Ok(seat),
                Ok(false) => {}
                Err(_late) => return Err(self.waited_in_vain()),
            }
        }
    }

    pub(super) fn take(&self) -> Option<Wire> {
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
    async fn wait(
        self: &Rc<Self>,
        push: &Push,
        deadline: Instant,
        again: bool,
    ) -> Result<Wire, HopError> {
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
        self.queue(Waiter { sender: push.sender, deadline, place }, again);
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
            None if down && self.book.borrow().dialing() > 0 => {
                let proxied = self.dialer.is_proxied(&self.target.egress);
                let (hop, stage) = self.climb.stands_at(proxied);
                HopError::new(hop, stage, HopErrorKind::Timeout)
            }
            // Nothing was dialled and nothing failed: the budget held it back.
            None if down => {
                HopError::new(Hop::RelayHost, Stage::Queue, HopErrorKind::BudgetExhausted)
            }
            Some(_) | None => HopError::new(Hop::Origin, Stage::Queue, HopErrorKind::Timeout),
        }
    }

    fn drop_departed(&self) {
        self.waiting.borrow_mut().retain(|waiter| !waiter.is_closed());
    }

    /// Queues a push; one that came back goes before those whose deadline is later, else a burst
    /// that an origin takes in small bites would tire out together.
    fn queue(&self, waiter: Waiter, again: bool) {
        let mut waiting = self.waiting.borrow_mut();
        let mut place = waiting.len();
        while again && place > 0 && waiting[place - 1].deadline > waiter.deadline {
            place -= 1;
        }
        waiting.insert(place, waiter);
    }

    /// One exchange. While it is alone on a new connection the others wait for its answer, but
    /// not behind an origin that is merely slow.
    pub(super) async fn exchange(
        self: &Rc<Self>,
        seat: &Seat<D>,
        request: &http::Request<Bytes>,
        deadline: Instant,
    ) -> Result<http::Response<Bytes>, ExchangeFailure> {
        // Pinned once for every way on, else the future of each push would hold it twice.
        let mut exchange = std::pin::pin!(seat.wire.exchange(request, deadline));
        let alone = self.book.borrow().is_on_trial(seat.wire.id());
        let connection = match &seat.wire {
            Wire::Http2(connection) if alone => connection,
            Wire::Http2(_) | Wire::Http1(_) => return exchange.await,
        };
        let open_up = async {
            sleep(UNANSWERED_PATIENCE).await;
            if connection.try_path().await {
                self.book.borrow_mut().is_slow(connection.id);
                self.pump();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            answer = &mut exchange => answer,
            () = open_up => exchange.await,
        }
    }
}

/// A place on a connection; given back when dropped.
pub(super) struct Seat<D: DialOrigin> {
    pub(super) lane: Rc<Lane<D>>,
    pub(super) wire: Wire,
    pub(super) answered: bool,
}

impl<D: DialOrigin> Drop for Seat<D> {
    fn drop(&mut self) {
        self.lane.give_back(&self.wire, self.answered);
    }
}

/// A waiting push. If it leaves at the very moment at which it gets a place, the place goes on; if
/// it was the last to want anything of the lane, whoever waits for one is told.
pub(super) struct Placed<'a, D: DialOrigin> {
    pub(super) lane: &'a Rc<Lane<D>>,
    pub(super) placed: oneshot::Receiver<Result<Wire, HopError>>,
}

impl<D: DialOrigin> Drop for Placed<'_, D> {
    fn drop(&mut self) {
        self.placed.close();
        if let Ok(Ok(wire)) = self.placed.try_recv() {
            self.lane.give_back(&wire, false);
        } else if self.lane.is_idle() {
            (self.lane.settled)();
        }
    }
}
