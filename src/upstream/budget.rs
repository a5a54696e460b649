//! How many connections may be opened towards one origin: a token bucket.
//!
//! Apple treats churn as an attack; the bucket bounds it whatever senders and faults do. Dials for
//! credentials that were never proven are made on trust, and no sender has more of it than half of
//! the bucket: made-up tokens leave the other half to others.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::time::Instant;

/// What dials on trust leave in the bucket, as a part of it: a proven lane whose connection ended
/// finds a token.
const RESERVE: f64 = 0.125;
/// How much of the bucket one sender gets on trust.
const TRUST: f64 = 0.5;

/// A token bucket; a token is one dial.
#[derive(Debug)]
pub struct Budget {
    per_second: f64,
    burst: f64,
    tokens: Cell<f64>,
    filled: Cell<Instant>,
    /// Dials of a sender that proved nothing yet; forgotten at half the bucket's rate. One entry
    /// takes a token, so there are never many.
    owed: RefCell<HashMap<IpAddr, f64>>,
}

impl Budget {
    /// `per_second` tokens a second, at most `burst` of them; full at first, because all teams
    /// dial at once after a restart.
    pub fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        Self {
            per_second,
            burst,
            tokens: Cell::new(burst),
            filled: Cell::new(now),
            owed: RefCell::default(),
        }
    }

    /// Has it these figures?
    pub fn is_of(&self, per_second: f64, burst: f64) -> bool {
        (self.per_second, self.burst) == (per_second, burst)
    }

    /// Takes a token, `on_trust` for a sender or for a proven lane, or says when to ask again.
    pub fn take(&self, now: Instant, on_trust: Option<IpAddr>) -> Result<(), Instant> {
        self.fill(now);
        let keep = if on_trust.is_some() { (self.burst * RESERVE).floor() } else { 0.0 };
        let missing = 1.0 + keep - self.tokens.get();
        if missing > 0.0 {
            return Err(later(now, missing / self.per_second));
        }
        if let Some(sender) = on_trust {
            let mut owed = self.owed.borrow_mut();
            let debt = owed.get(&sender).copied().unwrap_or(0.0);
            let above = debt + 1.0 - (self.burst * TRUST).max(1.0);
            if above > 0.0 {
                return Err(later(now, above / (self.per_second * TRUST)));
            }
            owed.insert(sender, debt + 1.0);
        }
        self.tokens.set(self.tokens.get() - 1.0);
        Ok(())
    }

    /// A dial that was made for this sender proved good.
    pub fn proved(&self, sender: IpAddr) {
        if let Some(debt) = self.owed.borrow_mut().get_mut(&sender) {
            *debt = (*debt - 1.0).max(0.0);
        }
    }

    /// A dial that is not to be counted after all.
    pub fn give_back(&self) {
        self.tokens.set((self.tokens.get() + 1.0).min(self.burst));
    }

    fn fill(&self, now: Instant) {
        let gained = (now - self.filled.get()).as_secs_f64() * self.per_second;
        self.filled.set(now);
        self.tokens.set((self.tokens.get() + gained).min(self.burst));
        self.owed.borrow_mut().retain(|_sender, debt| {
            *debt -= gained * TRUST;
            *debt > 0.0
        });
    }
}

fn later(now: Instant, seconds: f64) -> Instant {
    // A millisecond more, so that rounding does not ask twice.
    now + Duration::from_secs_f64(seconds.min(3600.0)) + Duration::from_millis(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(budget: &Budget, now: Instant, sender: Option<IpAddr>) -> usize {
        (0..1000).take_while(|_| budget.take(now, sender).is_ok()).count()
    }

    #[test]
    fn the_burst_is_spent_once_and_then_one_a_second() {
        let mut now = Instant::now();
        let budget = Budget::new(1.0, 3.0, now);
        assert_eq!(takes(&budget, now, None), 3);
        let next = budget.take(now, None).unwrap_err();
        assert!(next - now <= Duration::from_millis(1001));
        assert_eq!(takes(&budget, next, None), 1);
        now += Duration::from_secs(100);
        assert_eq!(takes(&budget, now, None), 3);
    }

    #[test]
    fn made_up_credentials_of_one_sender_leave_half_to_others() {
        let mut now = Instant::now();
        let budget = Budget::new(1.0, 64.0, now);
        let (liar, honest) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!(takes(&budget, now, Some(liar)), 32);
        assert_eq!(takes(&budget, now, Some(honest)), 24, "but the reserve");
        assert_eq!(takes(&budget, now, None), 8, "for proven lanes");
        now += Duration::from_secs(20);
        assert_eq!(takes(&budget, now, Some(liar)), 10, "half of what comes");
    }

    #[test]
    fn fifty_honest_teams_of_one_sender_dial_at_once() {
        let now = Instant::now();
        let budget = Budget::new(1.0, 64.0, now);
        let sender = IpAddr::from([10, 0, 0, 2]);
        for _ in 0..50 {
            budget.take(now, Some(sender)).unwrap();
            budget.proved(sender);
        }
    }
}
