//! How a lane gets connections: when the book says so, within the budget, port by port.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::book::Dial;
use super::wire::Wire;
use super::{DOWN_FOR_LONG, DialOrigin, Lane, LaneCounters};
use crate::config::{Protocol, Scheme};
use crate::hop::{Finding, Hop, HopError, HopErrorKind, Observe, Stage, Unobserved};
use crate::upstream::dial::{Target, another_port_may_do};
use crate::upstream::tls::Offer;
use crate::upstream::{connection, http1};

/// A dial ends by this, whatever the dialer's patience is: above the longest honest one.
const DIAL_WITHIN: Duration = Duration::from_secs(10);

/// A failure that was told already is told again after so long: an outage of a night is some
/// hundred lines then, and each push has a line of its own in the access log anyway.
const TOLD_AGAIN: Duration = Duration::from_secs(60);

/// How far the dial under way has come: whoever waits in vain is told where it stands.
#[derive(Debug, Default)]
pub(super) struct Climb {
    passed: Cell<Option<Stage>>,
}

impl Climb {
    /// The rung that a dial is at, and who it waits for there.
    pub(super) fn stands_at(&self, proxied: bool) -> (Hop, Stage) {
        let beyond = |direct| if proxied { Hop::BeyondProxy } else { direct };
        match self.passed.get() {
            None | Some(Stage::Queue) => (Hop::Resolver, Stage::Resolve),
            Some(Stage::Resolve) if proxied => (Hop::ToProxy, Stage::Tcp),
            Some(Stage::Resolve) => (Hop::Network, Stage::Tcp),
            Some(Stage::Tcp) if proxied => (Hop::BeyondProxy, Stage::Connect),
            Some(Stage::ProxyTls) => (Hop::BeyondProxy, Stage::Connect),
            Some(Stage::Tcp | Stage::Connect) => (beyond(Hop::Network), Stage::Tls),
            Some(Stage::Tls | Stage::Alpn) => (beyond(Hop::Origin), Stage::Settings),
            Some(Stage::Settings | Stage::Ping | Stage::Request) => {
                (beyond(Hop::Origin), Stage::Queue)
            }
        }
    }
}

impl Observe for Climb {
    fn passed(&self, finding: Finding) {
        self.passed.set(Some(finding.stage));
    }
}

fn is_news(error: &HopError, told: Option<&(HopError, Instant)>, now: Instant) -> bool {
    told.is_none_or(|(known, at)| {
        (known.hop, known.stage, &known.kind) != (error.hop, error.stage, &error.kind)
            || now >= *at + TOLD_AGAIN
    })
}

impl<D: DialOrigin> Lane<D> {
    pub(super) fn dial_if_wanted(self: &Rc<Self>) {
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
    pub(super) fn may_dial(&self, now: Instant) -> Result<(), Instant> {
        let Some(budget) = &self.budget else {
            return Ok(());
        };
        let first = self.waiting.borrow().front().map(|waiter| waiter.sender);
        let on_trust = first.filter(|_sender| !self.proven.get());
        budget.take(now, on_trust)?;
        let mut owed = self.owed.borrow_mut();
        // Nobody owes more than the bucket holds: a lane that is down for days remembers no more.
        if owed.len() < self.limits.lanes {
            owed.extend(on_trust);
        }
        Ok(())
    }

    pub(super) fn wake_at(self: &Rc<Self>, at: Instant) {
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

    /// Writes a failed dial down: when it is news, and every [`TOLD_AGAIN`] while it is not. A lane
    /// in need dials twice a second.
    fn tell(&self, error: &HopError, now: Instant) {
        if !is_news(error, self.told.borrow().as_ref(), now) {
            return;
        }
        *self.told.borrow_mut() = Some((error.share(), now));
        tracing::warn!(
            origin = %self.target.host, egress = %self.target.egress,
            hop = error.hop.word(), stage = error.stage.word(), cause = %error.kind,
            "dial failed"
        );
    }

    pub(super) async fn dial(self: Rc<Self>) {
        let dialed = self.connect().await;
        let now = Instant::now();
        match dialed {
            Ok(wire) => {
                LaneCounters::bump(&self.counters.dials);
                self.counters.dial_ended(&self.target.egress, None);
                self.last_error.borrow_mut().take();
                self.told.borrow_mut().take();
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
                self.tell(&error, now);
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
    pub(super) async fn connect(self: &Rc<Self>) -> Result<Wire, HopError> {
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
                    // Whoever waits in vain for the next port is told of this one.
                    *self.last_error.borrow_mut() = Some(error.share());
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

    pub(super) async fn connect_port(self: &Rc<Self>, port: u16) -> Result<Wire, HopError> {
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
        self.climb.passed.set(None);
        let (io, facts) = self.dialer.dial_origin(&target, &self.climb).await?;
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
}

/// Waiting cannot mend these; every other failure may pass while a push waits.
pub(super) fn is_definitive(kind: &HopErrorKind) -> bool {
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
        | HopErrorKind::CredentialsUnusable(_)
        | HopErrorKind::Draining
        | HopErrorKind::ForeignAnswer { .. }
        | HopErrorKind::GoAway { .. }
        | HopErrorKind::Io(_)
        | HopErrorKind::NameNotFound
        | HopErrorKind::NameRefused(_)
        | HopErrorKind::Overloaded
        | HopErrorKind::Protocol(_)
        | HopErrorKind::Refused
        | HopErrorKind::Reset { .. }
        | HopErrorKind::SenderGone
        | HopErrorKind::Timeout
        | HopErrorKind::Unrecorded
        | HopErrorKind::Unreachable => false,
    }
}

/// 0.0..1.0 from the clock's nanoseconds: dials of many relays must not fall into step, and
/// nothing secret hangs on it.
pub(super) fn jitter() -> f64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    f64::from(now.map_or(0, |now| now.subsec_nanos()) % 1_000_000) / 1_000_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::Fact;

    #[test]
    fn a_failed_dial_is_told_when_it_is_news_and_once_a_minute() {
        let now = Instant::now();
        let refused = HopError::new(Hop::ToProxy, Stage::Tcp, HopErrorKind::Refused);
        let told = (refused.share(), now);
        let silent = HopError::new(Hop::ToProxy, Stage::Tcp, HopErrorKind::Timeout);
        assert!(is_news(&refused, None, now) && is_news(&silent, Some(&told), now));
        assert!(!is_news(&refused, Some(&told), now + TOLD_AGAIN / 2));
        assert!(is_news(&refused, Some(&told), now + TOLD_AGAIN));
    }

    #[test]
    fn whoever_waits_in_vain_is_told_where_the_dial_stands() {
        let climb = Climb::default();
        assert_eq!(climb.stands_at(true), (Hop::Resolver, Stage::Resolve));
        for (passed, proxied, stands) in [
            (Stage::Resolve, true, (Hop::ToProxy, Stage::Tcp)),
            (Stage::Resolve, false, (Hop::Network, Stage::Tcp)),
            (Stage::Tcp, true, (Hop::BeyondProxy, Stage::Connect)),
            (Stage::Tcp, false, (Hop::Network, Stage::Tls)),
            (Stage::ProxyTls, true, (Hop::BeyondProxy, Stage::Connect)),
            (Stage::Connect, true, (Hop::BeyondProxy, Stage::Tls)),
            (Stage::Alpn, true, (Hop::BeyondProxy, Stage::Settings)),
            (Stage::Alpn, false, (Hop::Origin, Stage::Settings)),
        ] {
            let fact = Fact::Settings(Vec::new());
            climb.passed(Finding { stage: passed, took: Duration::ZERO, fact });
            assert_eq!(climb.stands_at(proxied), stands, "{passed} {proxied}");
        }
    }
}
