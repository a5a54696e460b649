//! What a codec and the world outside a connection tell each other: quiet or busy inwards,
//! "please end" outwards. Decides nothing by itself.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// How long a connection that shall end is still heard while it is young, or since it last
/// answered: the next push is likely on the way (with TLS 1.3 a sender counts a connection as open
/// before we do), and a client may not repeat what such a connection loses.
pub const GRACE: Duration = Duration::from_secs(1);

/// What is asked of a connection; later ones are stronger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asked {
    /// Go on.
    Nothing,
    /// Close at the first moment with nothing in flight (drain, `max_age`, eviction of an idle
    /// one): HTTP/1.1 `Connection: close` on the next answer, HTTP/2 GOAWAY when quiet.
    EndWhenQuiet,
    /// HTTP/2: graceful GOAWAY now, streams in flight are answered (a connection under steady
    /// load is never quiet). HTTP/1.1: as before.
    HandOver,
    /// The drain deadline has passed: close.
    EndNow,
}

/// A connection's place among the admitted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Lease(Rc<State>);

#[derive(Debug)]
struct State {
    asked: Cell<Asked>,
    changed: Notify,
    in_flight: Cell<u32>,
    served: Cell<bool>,
    quiet_since: Cell<Instant>,
}

impl Lease {
    /// A new connection, quiet, not yet served.
    pub fn new() -> Self {
        Self(Rc::new(State {
            asked: Cell::new(Asked::Nothing),
            changed: Notify::new(),
            in_flight: Cell::new(0),
            served: Cell::new(false),
            quiet_since: Cell::new(Instant::now()),
        }))
    }

    /// An exchange began.
    pub fn begin(&self) {
        self.0.in_flight.set(self.0.in_flight.get() + 1);
        self.0.served.set(true);
    }

    /// An exchange is answered, its answer flushed.
    pub fn end(&self) {
        self.0.in_flight.set(self.0.in_flight.get().saturating_sub(1));
        self.0.quiet_since.set(Instant::now());
    }

    /// Exchanges in flight.
    pub fn in_flight(&self) -> u32 {
        self.0.in_flight.get()
    }

    /// Whether any exchange began on it yet.
    pub fn served(&self) -> bool {
        self.0.served.get()
    }

    /// Since when nothing is in flight; `None` while something is.
    pub fn quiet_since(&self) -> Option<Instant> {
        (self.in_flight() == 0).then(|| self.0.quiet_since.get())
    }

    /// Asks; a weaker wish than the one before changes nothing.
    pub fn ask(&self, asked: Asked) {
        if asked > self.0.asked.get() {
            self.0.asked.set(asked);
            self.0.changed.notify_waiters();
        }
    }

    /// What is asked now.
    pub fn asked(&self) -> Asked {
        self.0.asked.get()
    }

    /// For what comes before the first request: returns [`GRACE`] after an end was asked, or at
    /// once at the drain's end.
    pub async fn hurried(&self) {
        self.asked_more_than(Asked::Nothing).await;
        let end = self.asked_more_than(Asked::HandOver);
        // Either way it ends now.
        let _ = tokio::time::timeout(GRACE, end).await;
    }

    /// Returns when more is asked than `seen`.
    pub async fn asked_more_than(&self, seen: Asked) -> Asked {
        loop {
            let changed = self.0.changed.notified();
            let now = self.asked();
            if now > seen {
                return now;
            }
            changed.await;
        }
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self::new()
    }
}
