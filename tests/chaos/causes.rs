//! I11: every unknown push has its cause, and no fault causes more than were in flight at it.
//!
//! A push that reached the origin is charged to the break of the very connection that it came on;
//! one that did not, or whose connection was broken from outside, to a break while it was on its
//! way. A break is charged with no more pushes than were in flight at its moment.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::{Break, Entry};

use crate::ledger::Made;

/// So long after it a break may still catch a push: the relay has to hear of it first.
const HEARD_WITHIN: Duration = Duration::from_millis(500);
/// A frozen connection is found out by a push that meets its deadline (3 s), then by PING.
const FOUND_OUT_WITHIN: Duration = Duration::from_secs(4);

/// A break that came from outside the origin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blow {
    pub(crate) at: Instant,
    /// Pushes that senders had in flight at that moment.
    pub(crate) in_flight: u64,
}

/// Something that broke, and what room there is for pushes that it caught.
#[derive(Debug, Clone, Copy)]
struct Cause {
    connection: Option<u64>,
    from: Instant,
    until: Instant,
    in_flight: u64,
    charged: u64,
}

/// The account of a run.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Account {
    /// Breaks.
    pub(crate) breaks: u64,
    /// Those that caught a push.
    pub(crate) catching: u64,
    /// Pushes in flight at the breaks, added up.
    pub(crate) in_flight: u64,
    /// The most that one break caught, and how many were in flight at it.
    pub(crate) worst: (u64, u64),
}

impl Account {
    /// Adds another run's.
    pub(crate) fn add(&mut self, other: Self) {
        self.breaks += other.breaks;
        self.catching += other.catching;
        self.in_flight += other.in_flight;
        self.worst = self.worst.max(other.worst);
    }
}

/// What broke during a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Breaks<'a> {
    /// When the origin's clock began.
    pub(crate) started: Instant,
    /// What the origin broke.
    pub(crate) origin: &'a [Break],
    /// What came from elsewhere.
    pub(crate) blows: &'a [Blow],
    /// How many senders there are: none has more than one push in flight.
    pub(crate) senders: u64,
}

/// Charges every push that ended as unknown without a fault of its own. Gives the ids of those
/// for which no break has room.
pub(crate) fn charge(
    unknown: &[(&str, &Made, &[&Entry])],
    breaks: Breaks<'_>,
) -> (Account, Vec<String>) {
    let mut causes = causes(breaks);
    let own: HashMap<u64, usize> =
        causes.iter().enumerate().filter_map(|(at, cause)| Some((cause.connection?, at))).collect();
    let mut without = Vec::new();
    let mut waiting: Vec<(Instant, Instant, &str)> = Vec::new();
    for (id, made, came) in unknown {
        let ended = made.began + made.took;
        let broken = came.last().and_then(|entry| own.get(&entry.connection));
        match broken {
            Some(at) if causes[*at].fits(made.began, ended) => without.extend(causes[*at].take(id)),
            Some(_) | None => waiting.push((made.began, ended, id)),
        }
    }
    // Which break caught a push of which nothing arrived is not known, only when. Each break, in
    // their order, takes those first that end soonest: the others may still fit a later one.
    waiting.sort_by_key(|(_, ended, _)| *ended);
    for cause in &mut causes {
        waiting
            .retain(|(began, ended, id)| !(cause.fits(*began, *ended) && cause.take(id).is_none()));
    }
    without.extend(waiting.into_iter().map(|(_, _, id)| id.to_owned()));
    (account(&causes), without)
}

fn causes(breaks: Breaks<'_>) -> Vec<Cause> {
    let mut causes: Vec<Cause> = Vec::new();
    for broken in breaks.origin {
        let from = breaks.started + Duration::from_millis(broken.at_ms);
        let (until, in_flight) = if broken.silent {
            // Each sender may run into it once more before the relay knows.
            (from + FOUND_OUT_WITHIN, broken.in_flight.max(breaks.senders))
        } else {
            (from + HEARD_WITHIN, broken.in_flight)
        };
        let connection = Some(broken.connection);
        causes.push(Cause { connection, from, until, in_flight, charged: 0 });
    }
    causes.extend(breaks.blows.iter().map(|blow| Cause {
        connection: None,
        from: blow.at,
        until: blow.at + HEARD_WITHIN,
        in_flight: blow.in_flight,
        charged: 0,
    }));
    causes.sort_by_key(|cause| cause.until);
    causes
}

fn account(causes: &[Cause]) -> Account {
    let worst = causes.iter().max_by_key(|cause| cause.charged);
    Account {
        breaks: causes.len() as u64,
        catching: causes.iter().filter(|cause| cause.charged > 0).count() as u64,
        in_flight: causes.iter().map(|cause| cause.in_flight).sum(),
        worst: worst.map_or((0, 0), |cause| (cause.charged, cause.in_flight)),
    }
}

impl Cause {
    /// Whether a push was on its way when this broke, or before the relay could know.
    fn fits(&self, began: Instant, ended: Instant) -> bool {
        // The origin's clock counts milliseconds.
        began <= self.until && ended + Duration::from_millis(1) >= self.from
    }

    /// Charges a push; its id comes back where there is no room.
    fn take(&mut self, id: &str) -> Option<String> {
        if self.charged == self.in_flight {
            return Some(id.to_owned());
        }
        self.charged += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(started: Instant, began: u64, took: u64) -> Made {
        let mut made = Made::new(String::new(), None);
        made.began = started + Duration::from_millis(began);
        made.took = Duration::from_millis(took);
        made
    }

    /// The rule must be able to fail.
    #[test]
    fn i11_a_break_takes_what_was_in_flight_at_it_and_no_more() {
        let started = Instant::now();
        let broken = Break { connection: 1, at_ms: 1000, in_flight: 2, silent: false };
        // In flight at the break; the last one had ended before, or begins long after.
        let rows: [(&[(u64, u64)], usize); 5] = [
            (&[(900, 200)], 0),
            (&[(900, 200), (950, 100)], 0),
            (&[(900, 200), (950, 100), (990, 400)], 1),
            (&[(900, 50)], 1),
            (&[(1600, 50)], 1),
        ];
        for (pushes, without) in rows {
            let made: Vec<Made> =
                pushes.iter().map(|(began, took)| push(started, *began, *took)).collect();
            let unknown: Vec<(&str, &Made, &[&Entry])> =
                made.iter().map(|made| ("a push", made, &[][..])).collect();
            let breaks = Breaks { started, origin: &[broken], blows: &[], senders: 48 };
            assert_eq!(charge(&unknown, breaks).1.len(), without, "{pushes:?}");
        }
    }
}
