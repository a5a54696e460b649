//! How many connections may be opened towards one origin: a token bucket.
//!
//! Apple treats churn as an attack; the bucket bounds it whatever senders and faults do.

use std::cell::Cell;

use tokio::time::Instant;

/// A token bucket; a token is one dial.
#[derive(Debug)]
pub struct Budget {
    per_second: f64,
    burst: f64,
    tokens: Cell<f64>,
    filled: Cell<Instant>,
}

impl Budget {
    /// `per_second` tokens a second, at most `burst` of them; full at first, because all teams
    /// dial at once after a restart.
    pub const fn new(per_second: f64, burst: f64, now: Instant) -> Self {
        Self { per_second, burst, tokens: Cell::new(burst), filled: Cell::new(now) }
    }

    /// Takes a token, or says when there will be one.
    pub fn take(&self, now: Instant) -> Result<(), Instant> {
        let gained = (now - self.filled.get()).as_secs_f64() * self.per_second;
        self.filled.set(now);
        let tokens = (self.tokens.get() + gained).min(self.burst);
        if tokens >= 1.0 {
            self.tokens.set(tokens - 1.0);
            return Ok(());
        }
        self.tokens.set(tokens);
        let missing = (1.0 - tokens) / self.per_second;
        Err(now + std::time::Duration::from_secs_f64(missing.min(3600.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_burst_is_spent_once_and_then_one_a_second() {
        let mut now = Instant::now();
        let budget = Budget::new(1.0, 3.0, now);
        for _ in 0..3 {
            assert!(budget.take(now).is_ok());
        }
        let next = budget.take(now).unwrap_err();
        assert!(next - now <= Duration::from_millis(1001));
        now = next + Duration::from_millis(1);
        assert!(budget.take(now).is_ok());
        assert!(budget.take(now).is_err());
        now += Duration::from_secs(100);
        assert_eq!((0..10).filter(|_| budget.take(now).is_ok()).count(), 3);
    }
}
