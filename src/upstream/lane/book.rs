//! The books of a lane, without any I/O: who may send on which connection, and when to dial.
//!
//! Time is handed in, connections are numbers. The lane does what the book says and reports what
//! came of it.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::LaneLimits;

/// First pause after a failed dial.
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
/// Longest pause while a push waits: a proxy that is back is found within this time.
const BACKOFF_MOST: Duration = Duration::from_millis(500);
/// A further connection is not dialled, and a new one not filled, before the first push on it has
/// been answered; but an answer that takes so long must not hold everybody up.
pub(super) const UNANSWERED_PATIENCE: Duration = Duration::from_secs(1);
/// A bound learned from refused streams grows by an eighth (one at least) after so many answers:
/// an origin that takes fewer than it announced is rarely asked for more, and one whose refusals
/// were a spell is at its full width again within a few thousand answers.
const WIDEN_AFTER: u32 = 64;
/// HTTP/1.1 connections dialled at the same moment: a burst of senders is served without a wave of
/// handshakes towards the proxy.
const HTTP1_DIALS: usize = 8;

/// A connection as the book knows it.
#[derive(Debug, Clone)]
struct Seat {
    id: u64,
    open: usize,
    peer_limit: usize,
    /// What refused streams taught, below what the peer announced.
    learned: usize,
    /// Answers since it was learned or widened.
    answers: u32,
    answered: bool,
    /// No answer yet, but the peer is alive: it is slow.
    slow: bool,
    http1: bool,
    since: Instant,
}

impl Seat {
    /// Neither an answer came nor a sign that the peer is merely slow.
    const fn is_on_trial(&self) -> bool {
        !self.answered && !self.slow
    }

    fn allowed(&self, cap: usize) -> usize {
        if self.http1 {
            return 1;
        }
        // A new connection sends one push alone until it is answered: APNs allows one stream
        // before a valid token was seen.
        let most = if self.is_on_trial() { 1 } else { cap };
        self.peer_limit.min(most).min(self.learned)
    }

    fn widen(&mut self) {
        if self.learned == usize::MAX {
            return;
        }
        self.answers += 1;
        if self.answers >= WIDEN_AFTER {
            self.answers = 0;
            self.learned = self.learned.saturating_add((self.learned / 8).max(1));
        }
    }
}

/// Whether to dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// No.
    No,
    /// At once.
    Now,
    /// Not before this.
    At(Instant),
}

/// The books of one lane.
#[derive(Debug)]
pub struct Book {
    limits: LaneLimits,
    seats: Vec<Seat>,
    dialing: usize,
    http1: bool,
    backoff: Duration,
    not_before: Option<Instant>,
    down_since: Option<Instant>,
}

impl Book {
    /// An empty lane.
    pub const fn new(limits: LaneLimits) -> Self {
        Self {
            limits,
            seats: Vec::new(),
            dialing: 0,
            http1: false,
            backoff: Duration::ZERO,
            not_before: None,
            down_since: None,
        }
    }

    /// Takes a place on a connection, the busiest that has room: quiet ones stay quiet, and for
    /// HTTP/1.1 the one used last is the one that is most surely alive.
    pub fn take(&mut self) -> Option<u64> {
        let cap = self.limits.streams;
        let free = |seat: &&mut Seat| seat.open < seat.allowed(cap);
        let seat = self.seats.iter_mut().rev().filter(free).max_by_key(|seat| seat.open)?;
        seat.open += 1;
        Some(seat.id)
    }

    /// Gives a place back. `answered`: the origin gave an answer of any kind.
    pub fn give_back(&mut self, id: u64, answered: bool) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.id == id) {
            seat.open = seat.open.saturating_sub(1);
            seat.answered |= answered;
            if answered {
                seat.widen();
                self.backoff = Duration::ZERO;
            }
        }
    }

    /// The peer refused a stream while others were open: so many are too many, whatever it
    /// announced. Called before the place is given back.
    pub fn refused(&mut self, id: u64) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.id == id) {
            seat.learned = seat.open.saturating_sub(1).clamp(1, seat.learned);
            seat.answers = 0;
        }
    }

    /// Whether to dial now, when `waiting` pushes have no place.
    pub fn wants_dial(&self, now: Instant, waiting: usize) -> Dial {
        if waiting == 0 {
            return Dial::No;
        }
        let (most, at_once) = if self.http1 {
            (self.limits.http1_connections, HTTP1_DIALS.min(waiting))
        } else {
            (self.limits.connections, 1)
        };
        if self.dialing >= at_once || self.seats.len() + self.dialing >= most {
            return Dial::No;
        }
        let mut earliest = self.not_before.filter(|at| *at > now);
        for seat in self.seats.iter().filter(|seat| !seat.http1 && seat.is_on_trial()) {
            let patience = seat.since + UNANSWERED_PATIENCE;
            if patience > now {
                earliest = Some(earliest.map_or(patience, |at| at.max(patience)));
            }
        }
        earliest.map_or(Dial::Now, Dial::At)
    }

    /// A dial begins.
    pub const fn dial_begins(&mut self) {
        self.dialing += 1;
    }

    /// A dial brought a connection. `http1`: it speaks HTTP/1.1.
    pub fn dial_succeeded(&mut self, id: u64, peer_limit: Option<u32>, http1: bool, now: Instant) {
        self.dialing = self.dialing.saturating_sub(1);
        // The back-off ends with an answer: a connection may end before it gave one.
        self.not_before = None;
        self.down_since = None;
        self.http1 = http1;
        let peer_limit = limit(peer_limit);
        self.seats.push(Seat {
            id,
            open: 0,
            peer_limit,
            learned: usize::MAX,
            answers: 0,
            answered: false,
            slow: false,
            http1,
            since: now,
        });
    }

    /// A dial failed; returns for how long the lane has been down. `jitter` is 0.0..1.0.
    pub fn dial_failed(&mut self, now: Instant, jitter: f64) -> Duration {
        self.dialing = self.dialing.saturating_sub(1);
        self.back_off(now, jitter);
        now - *self.down_since.get_or_insert(now)
    }

    fn back_off(&mut self, now: Instant, jitter: f64) {
        self.backoff = (self.backoff * 2).clamp(BACKOFF_FIRST, BACKOFF_MOST);
        // Up to a quarter less, never more: many lanes do not dial in step, and the bound holds.
        self.not_before = Some(now + self.backoff.mul_f64(1.0 - 0.25 * jitter));
    }

    /// The peer's limit is now this.
    pub fn limit_is(&mut self, id: u64, peer_limit: Option<u32>) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.id == id) {
            seat.peer_limit = limit(peer_limit);
        }
    }

    /// The connection takes nothing new; one on which nothing `worked` counts as a failed dial.
    /// Returns whether it took pushes until now.
    pub fn retired(&mut self, id: u64, worked: bool, now: Instant) -> bool {
        let Some(index) = self.seats.iter().position(|seat| seat.id == id) else {
            return false;
        };
        let seat = self.seats.remove(index);
        if !(worked || seat.answered) {
            self.back_off(now, 0.0);
        }
        true
    }

    /// The peer answers PING, but not the push: it is slow, and its own limit counts.
    pub fn is_slow(&mut self, id: u64) {
        if let Some(seat) = self.seats.iter_mut().find(|seat| seat.id == id) {
            seat.slow = true;
        }
    }

    /// Does the first push on this connection still wait for its answer alone?
    pub fn is_on_trial(&self, id: u64) -> bool {
        self.seats.iter().any(|seat| seat.id == id && seat.is_on_trial())
    }

    /// Since when no dial has succeeded; `None` while a connection stands or nothing was tried.
    pub fn down_for(&self, now: Instant) -> Option<Duration> {
        if self.seats.is_empty() { self.down_since.map(|since| now - since) } else { None }
    }

    /// In the pause after a failed dial?
    pub fn is_backing_off(&self, now: Instant) -> bool {
        self.dialing == 0 && self.not_before.is_some_and(|at| at > now)
    }

    /// Connections that take pushes.
    pub const fn connections(&self) -> usize {
        self.seats.len()
    }

    /// Dials under way.
    pub const fn dialing(&self) -> usize {
        self.dialing
    }

    /// Pushes on connections.
    pub fn open(&self) -> usize {
        self.seats.iter().map(|seat| seat.open).sum()
    }
}

fn limit(peer: Option<u32>) -> usize {
    peer.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: LaneLimits = LaneLimits {
        connections: 2,
        http1_connections: 100,
        streams: 500,
        lanes: 64,
        queue: 1000,
        ping: Duration::from_secs(60),
        dials_per_second: 1,
    };

    fn takes(book: &mut Book) -> usize {
        std::iter::from_fn(|| book.take()).count()
    }

    #[test]
    fn d3_a_new_connection_sends_one_push_alone_until_it_is_answered() {
        let mut book = Book::new(LIMITS);
        let now = Instant::now();
        book.dial_begins();
        book.dial_succeeded(1, Some(1000), false, now);
        assert_eq!(takes(&mut book), 1);
        book.give_back(1, false);
        assert_eq!(takes(&mut book), 1, "no answer, no more");
        book.give_back(1, true);
        assert_eq!(takes(&mut book), 500, "our own cap is below the peer's");
    }

    #[test]
    fn d4_the_limit_holds_when_it_drops_to_one_and_to_zero() {
        let mut book = Book::new(LIMITS);
        book.dial_succeeded(1, Some(10), false, Instant::now());
        book.take();
        book.give_back(1, true);
        assert_eq!(takes(&mut book), 10);
        book.limit_is(1, Some(1));
        for _ in 0..9 {
            book.give_back(1, true);
            assert_eq!(book.take(), None);
        }
        book.give_back(1, true);
        assert_eq!(takes(&mut book), 1);
        book.limit_is(1, Some(0));
        book.give_back(1, true);
        assert_eq!(book.take(), None);
        book.limit_is(1, Some(3));
        assert_eq!(takes(&mut book), 3);
    }

    #[test]
    fn refused_streams_teach_a_bound_that_widens_slowly() {
        let mut book = Book::new(LIMITS);
        book.dial_succeeded(1, Some(1000), false, Instant::now());
        book.take();
        book.give_back(1, true);
        assert_eq!(takes(&mut book), 500);
        for _ in 0..497 {
            book.refused(1);
            book.give_back(1, false);
            assert_eq!(book.take(), None, "a refused one waits, it does not hurry back");
        }
        for _ in 0..WIDEN_AFTER {
            book.give_back(1, true);
            assert_eq!(book.take(), Some(1));
        }
        assert_eq!(takes(&mut book), 1, "four where three were taken before");
        book.refused(1);
        book.give_back(1, false);
        for _ in 0..3 {
            book.give_back(1, true);
        }
        assert_eq!(takes(&mut book), 3);
        book.refused(1);
        book.refused(1);
        for _ in 0..3 {
            book.give_back(1, false);
            book.refused(1);
        }
        assert_eq!(takes(&mut book), 1, "never below one");
    }

    #[test]
    fn a_burst_on_a_cold_lane_dials_once_and_the_cap_holds() {
        let mut book = Book::new(LIMITS);
        let now = Instant::now();
        assert_eq!(book.wants_dial(now, 200), Dial::Now);
        book.dial_begins();
        assert_eq!(book.wants_dial(now, 200), Dial::No);
        book.dial_succeeded(1, Some(1), false, now);
        book.take();
        assert_eq!(book.wants_dial(now, 199), Dial::At(now + UNANSWERED_PATIENCE));
        book.give_back(1, true);
        book.take();
        assert_eq!(book.wants_dial(now, 198), Dial::Now, "answered and still full");
        book.dial_begins();
        book.dial_succeeded(2, Some(1), false, now);
        assert_eq!(book.wants_dial(now + Duration::from_secs(9), 198), Dial::No);
    }

    #[test]
    fn d5_a_retired_connection_is_replaced() {
        let mut book = Book::new(LIMITS);
        let now = Instant::now();
        book.dial_succeeded(1, None, false, now);
        assert!(book.retired(1, true, now));
        assert!(!book.retired(1, true, now), "once");
        assert_eq!(book.take(), None);
        assert_eq!(book.wants_dial(now, 1), Dial::Now);
        book.give_back(1, true);
    }

    #[test]
    fn a_connection_on_which_nothing_worked_counts_as_a_failed_dial() {
        let mut book = Book::new(LIMITS);
        let mut now = Instant::now();
        for pause in [100, 200, 400, 500, 500] {
            book.dial_begins();
            book.dial_succeeded(1, Some(1000), false, now);
            assert!(book.retired(1, false, now));
            assert_eq!(book.wants_dial(now, 1), Dial::At(now + Duration::from_millis(pause)));
            now += Duration::from_millis(pause);
        }
        book.dial_succeeded(2, Some(1000), false, now);
        book.take();
        book.give_back(2, true);
        assert!(book.retired(2, false, now));
        assert_eq!(book.wants_dial(now, 1), Dial::Now, "it has answered");
    }

    #[test]
    fn a_slow_origin_gets_what_its_own_limit_allows() {
        let mut book = Book::new(LIMITS);
        let now = Instant::now();
        book.dial_succeeded(1, Some(10), false, now);
        assert_eq!(takes(&mut book), 1);
        book.is_slow(1);
        assert_eq!(takes(&mut book), 9);
    }

    #[test]
    fn back_off_grows_to_half_a_second_and_ends_with_a_success() {
        let mut book = Book::new(LIMITS);
        let mut now = Instant::now();
        let begun = now;
        for pause in [100, 200, 400, 500, 500] {
            book.dial_begins();
            assert_eq!(book.dial_failed(now, 0.0), now - begun);
            let at = now + Duration::from_millis(pause);
            assert_eq!(book.wants_dial(now, 1), Dial::At(at));
            assert!(book.is_backing_off(now));
            now = at;
            assert_eq!(book.wants_dial(now, 1), Dial::Now);
        }
        assert_eq!(book.down_for(now), Some(now - begun));
        book.dial_begins();
        book.dial_succeeded(1, None, false, now);
        assert_eq!(book.down_for(now), None);
    }

    #[test]
    fn http1_connections_carry_one_at_a_time_and_have_a_cap_of_their_own() {
        let mut book = Book::new(LIMITS);
        let now = Instant::now();
        book.dial_begins();
        book.dial_succeeded(1, None, true, now);
        assert_eq!(takes(&mut book), 1);
        let mut dials = 0;
        while book.wants_dial(now, 50) == Dial::Now {
            book.dial_begins();
            dials += 1;
        }
        assert_eq!(dials, HTTP1_DIALS);
        for id in 2..200 {
            book.dial_succeeded(id, None, true, now);
        }
        assert_eq!(book.wants_dial(now, 50), Dial::No);
    }
}
