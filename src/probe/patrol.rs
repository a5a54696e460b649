//! When a running relay climbs a ladder by itself, and what it remembers of it.
//!
//! The lanes tell first: a path on which pushes get through is never probed. A ladder is climbed
//! where pushes have failed for a while, and where nobody has used a route since the start, so
//! that its first push is no surprise. One at a time, and none before [`EVERY`] has passed for
//! that origin: a probe must not look like an attack, or keep a firewall's alarm ringing.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::codes::Severity;
use super::verdict::Verdict;
use crate::config::{EgressName, Route, RouteHost};
use crate::names::Authority;

/// Between two ladders to one origin, whatever happens.
pub const EVERY: Duration = Duration::from_secs(15 * 60);
/// A path must fail for so long: restarts and single cuts heal by themselves within seconds, and
/// what the pushes tell stands in status at once. As long as a lane must be down to answer at once.
pub const FAILING_FOR: Duration = crate::upstream::lane::DOWN_FOR_LONG;
/// A failure older than this is no news: nobody has tried since.
const FRESH: Duration = EVERY;
/// A route that nobody has used since the start is looked at after this.
pub const UNUSED_AFTER: Duration = Duration::from_secs(5 * 60);
/// And again after this, where it was well.
const UNUSED_AGAIN: Duration = Duration::from_secs(6 * 3600);
/// Between any two ladders: when a proxy is down, every origin behind it fails at once.
pub const BETWEEN: Duration = Duration::from_secs(10);

/// An origin by a way out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Host and first port.
    pub origin: Authority,
    /// The way.
    pub egress: EgressName,
}

impl Path {
    /// Of a route's host.
    pub fn of(route: &Route, host: &RouteHost) -> Self {
        let port = host.ports.first().copied().unwrap_or(443);
        Self { origin: Authority::new(host.origin.clone(), port), egress: route.egress.clone() }
    }
}

/// What pushes have told of a path.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Which.
    pub path: Path,
    /// Of this route.
    pub route: String,
    /// The route's first host, which stands for it while it is unused.
    pub first: bool,
    /// When a push last got through.
    pub success: Option<Instant>,
    /// When one last did not.
    pub failure: Option<Instant>,
    /// Since when none has got through, though some tried.
    pub failing: Option<Instant>,
}

/// Decides; knows no sockets and no clock.
#[derive(Debug)]
pub struct Schedule {
    started: Instant,
    latest: Option<Instant>,
    /// By origin: when, and whether it was well.
    climbed: BTreeMap<Authority, (Instant, bool)>,
}

impl Schedule {
    /// Nothing climbed yet.
    pub const fn new(now: Instant) -> Self {
        Self { started: now, latest: None, climbed: BTreeMap::new() }
    }

    /// The path to climb now, if any: failing ones first, the longest without a ladder first.
    pub fn due<'s>(&self, now: Instant, seen: &'s [Seen]) -> Option<&'s Path> {
        if self.latest.is_some_and(|latest| now - latest < BETWEEN) {
            return None;
        }
        let climbed = |one: &Seen| self.climbed.get(&one.path.origin).copied();
        let rested = |one: &&Seen| climbed(one).is_none_or(|(at, _)| now - at >= EVERY);
        let failing = seen.iter().filter(rested).filter(|one| {
            one.failing.is_some_and(|since| now - since >= FAILING_FOR)
                && one.failure.is_some_and(|at| now - at < FRESH)
        });
        if let Some(one) = failing.min_by_key(|one| climbed(one).map(|(at, _)| at)) {
            return Some(&one.path);
        }
        if now - self.started < UNUSED_AFTER {
            return None;
        }
        let used = |route: &str| {
            let mut of_route = seen.iter().filter(|one| one.route == route);
            of_route.any(|one| one.success.is_some() || one.failure.is_some())
        };
        let mut unused = seen.iter().filter(rested).filter(|one| one.first && !used(&one.route));
        let due = unused
            .find(|one| climbed(one).is_none_or(|(at, well)| !well || now - at >= UNUSED_AGAIN));
        due.map(|one| &one.path)
    }

    /// A ladder to this origin has begun.
    pub fn begun(&mut self, now: Instant, origin: &Authority) {
        self.latest = Some(now);
        self.climbed.insert(origin.clone(), (now, true));
    }

    /// It has ended.
    pub fn ended(&mut self, now: Instant, origin: &Authority, well: bool) {
        self.latest = Some(now);
        if let Some(known) = self.climbed.get_mut(origin) {
            known.1 = well;
        }
    }

    /// Forgets the origins that are routed no more.
    pub fn keep(&mut self, seen: &[Seen]) {
        self.climbed.retain(|origin, _| seen.iter().any(|one| one.path.origin == *origin));
    }
}

/// A verdict and when it was reached.
#[derive(Debug, Clone)]
pub struct Known {
    /// The verdict.
    pub verdict: Verdict,
    /// For programs.
    pub since: Instant,
    /// For people, UTC.
    pub at: String,
}

/// The latest verdict of each path. Shared by whoever climbs and whoever shows.
#[derive(Debug, Default)]
pub struct Verdicts(Mutex<BTreeMap<Path, Known>>);

impl Verdicts {
    /// Remembers a verdict and gives back the one before.
    pub fn set(&self, path: &Path, known: Known) -> Option<Known> {
        self.lock().insert(path.clone(), known)
    }

    /// Forgets verdicts that pushes have overtaken and those of paths that are no more; gives
    /// back the bad ones among them.
    pub fn overtaken(&self, seen: &[Seen]) -> Vec<(Path, Known)> {
        let mut gone = Vec::new();
        self.lock().retain(|path, known| {
            let Some(one) = seen.iter().find(|one| one.path == *path) else {
                gone.push((path.clone(), known.clone()));
                return false;
            };
            let bad = known.verdict.severity == Severity::Fail;
            let overtaken = bad && one.success.is_some_and(|at| at > known.since);
            if overtaken {
                gone.push((path.clone(), known.clone()));
            }
            !overtaken
        });
        gone
    }

    /// What status shows.
    pub fn report(&self) -> Vec<Value> {
        let of = |(path, known): (&Path, &Known)| {
            json!({
                "origin": path.origin.to_string(),
                "egress": path.egress.to_string(),
                "at": known.at,
                "severity": known.verdict.severity.word(),
                "code": known.verdict.code,
                "hop": known.verdict.hop,
                "sentence": known.verdict.sentence,
                "action": known.verdict.action,
            })
        };
        self.lock().iter().map(of).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Path, Known>> {
        // Whole entries go in and out: a panic leaves none half.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "patrol/tests.rs"]
mod tests;
