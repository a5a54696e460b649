//! What we refused and a sender's client may send again by itself.
//!
//! Go replays a refused stream inside one call of the application. For the application it is one
//! push with one deadline, so the repeat inherits the first one's start: nothing is dispatched
//! after the application gave up and tries anew.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use http::header::AUTHORIZATION;

use crate::downstream::Exchange;

/// Most refused exchanges remembered. A sender has at most some hundreds in flight; one that is
/// forgotten merely gets a fresh deadline.
const CAPACITY: usize = 1024;

/// What comes later than this after the deadline is a new try, even with the same words. Go's
/// client sends a refused stream again at once and after a second more, up to a tenth of jitter:
/// at 8.0 to 8.1 s, just when the 8 s of the Mattermost push proxy end. That one must not be
/// dispatched, the new try follows it. The push proxy's new try comes a second later, at 9 s.
const GRACE: Duration = Duration::from_millis(1500);

/// Refused exchanges by what they would look like again.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    random: RandomState,
    refused: HashMap<u64, Refused>,
}

#[derive(Debug, Clone, Copy)]
struct Refused {
    started: Instant,
    forget_at: Instant,
}

impl Repeats {
    /// Same connection, method, path, credential and body.
    fn likeness(&self, exchange: &Exchange) -> u64 {
        let mut hasher = self.random.build_hasher();
        exchange.sender.connection.hash(&mut hasher);
        exchange.head.method.hash(&mut hasher);
        exchange.head.target.hash(&mut hasher);
        for token in exchange.head.headers.get_all(AUTHORIZATION) {
            token.as_bytes().hash(&mut hasher);
        }
        exchange.body.hash(&mut hasher);
        hasher.finish()
    }

    /// When the push really began: now, or when its likeness did that we refused. While nothing
    /// was refused lately, as nearly always, it costs nothing.
    pub(super) fn started(&self, exchange: &Exchange) -> Instant {
        if self.refused.is_empty() {
            return exchange.head.started;
        }
        self.started_of(self.likeness(exchange), exchange.head.started)
    }

    fn started_of(&self, likeness: u64, started: Instant) -> Instant {
        match self.refused.get(&likeness) {
            Some(refused) if started < refused.forget_at => refused.started.min(started),
            Some(_) | None => started,
        }
    }

    /// We refused it.
    pub(super) fn refused(&mut self, exchange: &Exchange, started: Instant, deadline: Duration) {
        self.remember(self.likeness(exchange), started, deadline);
    }

    fn remember(&mut self, likeness: u64, started: Instant, deadline: Duration) {
        let now = Instant::now();
        if self.refused.len() >= CAPACITY {
            self.refused.retain(|_likeness, refused| refused.forget_at > now);
        }
        if self.refused.len() < CAPACITY || self.refused.contains_key(&likeness) {
            let forget_at = started + deadline + GRACE;
            self.refused.insert(likeness, Refused { started, forget_at });
        }
    }

    /// It ended otherwise.
    pub(super) fn ended(&mut self, exchange: &Exchange) {
        if !self.refused.is_empty() {
            let likeness = self.likeness(exchange);
            self.refused.remove(&likeness);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_inherits_the_start_until_it_must_be_a_new_try() {
        let mut repeats = Repeats::default();
        let (start, deadline) = (Instant::now(), Duration::from_secs(7));
        let later = |ms| start + Duration::from_millis(ms);
        assert_eq!(repeats.started_of(1, later(10)), later(10));
        repeats.remember(1, start, deadline);
        assert_eq!(repeats.started_of(1, later(1000)), start);
        assert_eq!(repeats.started_of(2, later(1000)), later(1000));
        assert_eq!(repeats.started_of(1, later(7500)), start);
        assert_eq!(repeats.started_of(1, later(8120)), start, "Go's own, on the brink");
        assert_eq!(repeats.started_of(1, later(9000)), later(9000), "the push proxy's next try");
        repeats.refused.remove(&1);
        assert_eq!(repeats.started_of(1, later(1000)), later(1000));
    }

    #[test]
    fn the_memory_is_bounded_and_the_old_make_room() {
        let mut repeats = Repeats::default();
        let now = Instant::now();
        for likeness in 0..CAPACITY as u64 + 5 {
            repeats.remember(likeness, now, Duration::from_secs(7));
        }
        assert_eq!(repeats.refused.len(), CAPACITY);
        for refused in repeats.refused.values_mut() {
            refused.forget_at = now;
        }
        repeats.remember(9_999, now, Duration::from_secs(7));
        assert_eq!(repeats.refused.len(), 1);
    }
}
