//! The admitted connections: how many, who goes first under pressure, and how they are drained.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::DownstreamCounters;
use crate::config::Listener;
use crate::downstream::lease::{Asked, Lease};

/// A connection is not asked to go for another one before it was idle for so long: else two
/// hundred arriving at once would push each other out.
const EVICTABLE: Duration = Duration::from_secs(1);
/// Beyond the limit so many may stand while those that were asked to go are still closing.
const LEAVING: usize = 64;
/// Descriptors kept for everything but senders: listeners, logs, admin, upstream connections of a
/// small relay; a large one needs more, see [`room`].
const OWN_DESCRIPTORS: usize = 64;
/// After `EndNow` a connection has so long to write its last bytes.
const LAST_BYTES: Duration = Duration::from_secs(2);

/// How many senders' connections fit, when `wanted` are configured: never so many that no
/// descriptor is left to dial with. At its own limit the relay can ask idle senders to go; out of
/// descriptors it can only wait.
pub fn room(wanted: usize) -> usize {
    // Where the limit cannot be read, the configuration stands.
    let descriptors = rlimit::Resource::NOFILE.get_soft().unwrap_or(u64::MAX);
    let room = fitting(wanted, usize::try_from(descriptors).unwrap_or(usize::MAX));
    if room < wanted {
        tracing::warn!(
            configured = wanted,
            descriptors,
            connections = room,
            "fewer connections than `limits.connections` fit the limit of open files"
        );
    }
    room
}

fn fitting(wanted: usize, descriptors: usize) -> usize {
    // Of few descriptors senders get half: what the relay needs for itself is a dozen and a half.
    let others = (OWN_DESCRIPTORS + descriptors / 8 + LEAVING).min(descriptors / 2);
    wanted.min(descriptors.saturating_sub(others)).max(1)
}

/// The admitted connections. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Admitted(Rc<State>);

#[derive(Debug)]
struct State {
    /// By number, the order of arrival; with the listener as it was then.
    leases: RefCell<BTreeMap<u64, (Arc<Listener>, Lease)>>,
    next: Cell<u64>,
    limit: Cell<usize>,
    draining: Cell<Asked>,
    gone: Notify,
    counters: Arc<DownstreamCounters>,
}

/// A connection's place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    admitted: Admitted,
    number: u64,
    lease: Lease,
}

impl Place {
    /// The number of the connection, unique while the process lives.
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// Its lease.
    pub const fn lease(&self) -> &Lease {
        &self.lease
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let state = &self.admitted.0;
        state.leases.borrow_mut().remove(&self.number);
        state.counters.set_open(self.admitted.len());
        state.gone.notify_waiters();
    }
}

impl Admitted {
    /// Nobody yet; at most `limit` (`limits.connections`).
    pub fn new(limit: usize, counters: Arc<DownstreamCounters>) -> Self {
        Self(Rc::new(State {
            leases: RefCell::default(),
            next: Cell::new(1),
            limit: Cell::new(limit),
            draining: Cell::new(Asked::Nothing),
            gone: Notify::new(),
            counters,
        }))
    }

    /// Another limit, from now on.
    pub fn set_limit(&self, limit: usize) {
        self.0.limit.set(limit);
    }

    /// Connections open.
    pub fn len(&self) -> usize {
        self.0.leases.borrow().len()
    }

    /// Is nobody here?
    pub fn is_empty(&self) -> bool {
        self.0.leases.borrow().is_empty()
    }

    /// A place for a new connection. At the limit the longest-idle quiet one is asked to end;
    /// `None` when every one is busy.
    pub fn enter(&self, listener: &Arc<Listener>) -> Option<Place> {
        self.enter_at(listener, std::time::Instant::now())
    }

    fn enter_at(&self, listener: &Arc<Listener>, now: std::time::Instant) -> Option<Place> {
        let state = &self.0;
        let mut leases = state.leases.borrow_mut();
        let limit = state.limit.get();
        if leases.len() >= limit.saturating_add(LEAVING) {
            return None;
        }
        if leases.len() >= limit {
            // A walk over all of them: only under pressure, and 10,000 take microseconds.
            let idle = leases
                .values()
                .map(|(_, lease)| lease)
                .filter(|lease| lease.asked() == Asked::Nothing)
                .filter_map(|lease| Some((lease.quiet_since()?, lease)))
                .min_by_key(|(since, _)| *since);
            match idle {
                Some((since, lease)) if now.duration_since(since) >= EVICTABLE => {
                    lease.ask(Asked::EndWhenQuiet);
                }
                Some(_) | None => return None,
            }
        }
        let number = state.next.get();
        state.next.set(number + 1);
        let lease = Lease::new();
        lease.ask(state.draining.get());
        leases.insert(number, (Arc::clone(listener), lease.clone()));
        state.counters.set_open(leases.len());
        drop(leases);
        Some(Place { admitted: self.clone(), number, lease })
    }

    /// Asks everybody, and everybody who comes later.
    pub fn ask_all(&self, asked: Asked) {
        self.0.draining.set(asked.max(self.0.draining.get()));
        for (_, lease) in self.0.leases.borrow().values() {
            lease.ask(asked);
        }
    }

    /// Asks those to end when quiet that were admitted by a listener which is not `kept` as it
    /// was: a network taken out, or a signature now demanded, shall not wait for senders that keep
    /// a connection for days.
    pub fn ask_those_not(&self, kept: impl Fn(&Listener) -> bool) {
        for (listener, lease) in self.0.leases.borrow().values() {
            if !kept(listener) {
                lease.ask(Asked::EndWhenQuiet);
            }
        }
    }

    /// Drains: all are asked to end when quiet; after a quarter of the time HTTP/2 connections
    /// that are never quiet hand over; at the end of it all are cut. Returns when nobody is left,
    /// or with the number of those that could not even be cut.
    pub async fn drain(&self, total: Duration) -> usize {
        let start = Instant::now();
        for (asked, until) in [
            (Asked::EndWhenQuiet, start + total / 4),
            (Asked::HandOver, start + total),
            (Asked::EndNow, start + total + LAST_BYTES),
        ] {
            self.ask_all(asked);
            if timeout_at(until, self.empty()).await.is_ok() {
                return 0;
            }
        }
        self.len()
    }

    /// Returns when nobody is here.
    pub async fn empty(&self) {
        loop {
            let gone = self.0.gone.notified();
            if self.is_empty() {
                return;
            }
            gone.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::listener::testing;

    #[test]
    fn descriptors_are_left_to_dial_with() {
        for (wanted, descriptors, room) in [
            (10_000, 1_048_576, 10_000),
            (10_000, 4096, 3456),
            (10_000, 1024, 768),
            (10_000, 256, 128),
            (50, 256, 50),
            (10_000, 64, 32),
            (10_000, 0, 1),
        ] {
            assert_eq!(fitting(wanted, descriptors), room, "{descriptors}");
        }
    }

    #[test]
    fn who_came_by_a_listener_that_has_changed_is_asked_to_go() {
        let admitted = admitted(10);
        let before = Arc::new(testing::listener());
        let networks = vec!["10.0.0.0/8".parse().unwrap()];
        let now = Arc::new(Listener { networks, ..testing::listener() });
        let (old, new) = (admitted.enter(&before).unwrap(), admitted.enter(&now).unwrap());
        admitted.ask_those_not(|one| *one == *now);
        assert_eq!(old.lease().asked(), Asked::EndWhenQuiet);
        assert_eq!(new.lease().asked(), Asked::Nothing);
    }

    fn admitted(limit: usize) -> Admitted {
        Admitted::new(limit, Arc::default())
    }

    #[test]
    fn at_the_limit_only_the_idle_are_asked_to_go() {
        let admitted = admitted(2);
        let listener = Arc::new(testing::listener());
        let (busy, idle) = (admitted.enter(&listener).unwrap(), admitted.enter(&listener).unwrap());
        busy.lease().begin();
        assert!(admitted.enter(&listener).is_none(), "idle for less than a second");
        let later = std::time::Instant::now() + EVICTABLE;
        let third = admitted.enter_at(&listener, later).unwrap();
        assert_eq!(idle.lease().asked(), Asked::EndWhenQuiet);
        assert_eq!(busy.lease().asked(), Asked::Nothing);
        assert!(admitted.enter_at(&listener, later).is_none(), "nobody else is idle");
        drop((idle, third));
        assert_eq!(admitted.len(), 1);
        assert!(admitted.enter(&listener).is_some());
    }

    #[tokio::test]
    async fn a_drain_asks_in_three_steps_and_ends_when_all_are_gone() {
        let admitted = admitted(10);
        let listener = Arc::new(testing::listener());
        let place = admitted.enter(&listener).unwrap();
        let start = Instant::now();
        let total = Duration::from_millis(200);
        let leaving = async {
            let (mut seen, mut times) = (Asked::Nothing, Vec::new());
            for expected in [Asked::EndWhenQuiet, Asked::HandOver, Asked::EndNow] {
                seen = place.lease().asked_more_than(seen).await;
                assert_eq!(seen, expected);
                times.push(start.elapsed());
            }
            assert_eq!(admitted.enter(&listener).unwrap().lease().asked(), Asked::EndNow);
            drop(place);
            times
        };
        let both = async { tokio::join!(admitted.drain(total), leaving) };
        let (left, times) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
        assert_eq!(left, 0);
        assert!(times[1] >= total / 4 && times[2] >= total, "{times:?}");
    }
}
