//! The latch that keeps the relay from locking an account: two refusals in a row, and the
//! credentials rest until they change or an operator clears them.
//!
//! Also limits how many unproven attempts are under way: while credentials have not just worked,
//! one dial tries them and the others wait for its answer. Without this, fifty lanes that dial at
//! once after a password change would spend fifty attempts.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::EgressName;
use crate::names::Authority;

/// Refusals in a row that latch. Directories lock accounts after three to ten.
const REFUSALS: u8 = 2;
/// For so long after a success further dials go ahead side by side; passwords change rarely
/// within it, and bursts of dials are shorter.
const PROOF_HOLDS: Duration = Duration::from_secs(10);

/// The latches of all proxies. Shared by a dialer and its successors after a reload.
#[derive(Debug, Default)]
pub struct Latches(Mutex<BTreeMap<Key, Entry>>);

/// An egress and one of its proxies.
pub type Key = (EgressName, Authority);

#[derive(Debug)]
struct Entry {
    digest: [u8; 32],
    refusals: u8,
    proven: Option<Instant>,
    /// It last took credentials that it had refused a moment before on the same connection: its
    /// first refusal says nothing, and dials side by side must not latch by it.
    refuses_first: bool,
    gate: Arc<Semaphore>,
}

/// Credentials are latched: nothing may be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Latched;

/// Leave for one attempt. Dropped without a verdict it counts as nothing.
#[derive(Debug)]
pub struct Attempt<'a> {
    latches: &'a Latches,
    key: Key,
    digest: [u8; 32],
    gate: Option<OwnedSemaphorePermit>,
    asks_again: bool,
}

impl Latches {
    /// Waits for leave to try the credentials with this digest. The bound of the wait is the
    /// caller's deadline.
    pub async fn attempt(&self, key: Key, digest: [u8; 32]) -> Result<Attempt<'_>, Latched> {
        let mut gate = None;
        loop {
            let waiting = {
                let mut entries = self.lock();
                let entry = entries.entry(key.clone()).or_insert_with(|| Entry::new(digest));
                if entry.digest != digest {
                    *entry = Entry::new(digest);
                    gate = None;
                }
                if entry.refusals >= REFUSALS {
                    return Err(Latched);
                }
                let fresh = entry.proven.is_some_and(|at| at.elapsed() < PROOF_HOLDS);
                if fresh || gate.is_some() { None } else { Some(Arc::clone(&entry.gate)) }
            };
            match waiting {
                None => return Ok(Attempt { latches: self, key, digest, gate, asks_again: false }),
                // The gate is never closed; were it, going on is right.
                Some(waiting) => match waiting.acquire_owned().await {
                    Ok(permit) => gate = Some(permit),
                    Err(_closed) => {
                        return Ok(Attempt { latches: self, key, digest, gate, asks_again: false });
                    }
                },
            }
        }
    }

    /// Whether these credentials are latched; nothing need be dialled then.
    pub fn is_latched(&self, key: &Key, digest: [u8; 32]) -> bool {
        let entries = self.lock();
        entries.get(key).is_some_and(|one| one.digest == digest && one.refusals >= REFUSALS)
    }

    /// Forgets the refusals of every proxy of an egress; says whether any was latched.
    pub fn clear(&self, egress: &EgressName) -> bool {
        let mut entries = self.lock();
        let mut latched = false;
        for (_, entry) in entries.iter_mut().filter(|((name, _), _)| name == egress) {
            latched |= entry.refusals >= REFUSALS;
            entry.refusals = 0;
        }
        latched
    }

    /// The proxies whose credentials are latched.
    pub fn latched(&self) -> Vec<(EgressName, Authority)> {
        let entries = self.lock();
        let latched = entries.iter().filter(|(_, entry)| entry.refusals >= REFUSALS);
        latched.map(|(key, _)| key.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Entry>> {
        // Every change is a single assignment, so a panic elsewhere leaves no half state.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn new(digest: [u8; 32]) -> Self {
        Self {
            digest,
            refusals: 0,
            proven: None,
            refuses_first: false,
            gate: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Attempt<'_> {
    /// The proxy took the credentials, whatever it said of the target.
    pub fn accepted(self) {
        self.record(|entry| {
            entry.refusals = 0;
            entry.proven = Some(Instant::now());
            entry.refuses_first = self.asks_again;
        });
    }

    /// The proxy refused the credentials.
    pub fn refused(self) {
        self.record(|entry| {
            entry.refusals = entry.refusals.saturating_add(1);
            entry.proven = None;
            entry.refuses_first = false;
        });
    }

    /// The proxy refused the credentials and is asked once more within this attempt; `false` when
    /// that was one refusal too many.
    pub fn refused_once(&mut self) -> bool {
        self.asks_again = true;
        let mut left = true;
        self.record(|entry| {
            if !entry.refuses_first {
                entry.refusals = entry.refusals.saturating_add(1);
                entry.proven = None;
            }
            left = entry.refusals < REFUSALS;
        });
        left
    }

    /// Whether others wait for its verdict.
    pub const fn holds(&self) -> bool {
        self.gate.is_some()
    }

    /// Lets the next one in although no verdict has come: a proxy that checks passwords answers
    /// bad ones at once, a long silence is about the target.
    pub fn release(&mut self) {
        self.gate = None;
    }

    fn record(&self, change: impl FnOnce(&mut Entry)) {
        let mut entries = self.latches.lock();
        let mine = entries.get_mut(&self.key).filter(|entry| entry.digest == self.digest);
        if let Some(entry) = mine {
            change(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        (EgressName("corporate".into()), "proxy.example:3128".parse().unwrap())
    }

    #[tokio::test]
    async fn f2_two_refusals_latch_until_the_credential_changes_or_is_cleared() {
        let latches = Latches::default();
        for _ in 0..2 {
            latches.attempt(key(), [1; 32]).await.unwrap().refused();
        }
        assert!(latches.attempt(key(), [1; 32]).await.is_err());
        assert_eq!(latches.latched().len(), 1);
        assert!(latches.clear(&key().0));
        latches.attempt(key(), [1; 32]).await.unwrap().refused();
        latches.attempt(key(), [1; 32]).await.unwrap().refused();
        assert!(latches.attempt(key(), [1; 32]).await.is_err());
        assert!(latches.attempt(key(), [2; 32]).await.is_ok());
    }

    #[tokio::test]
    async fn f2_a_success_forgets_an_earlier_refusal() {
        let latches = Latches::default();
        latches.attempt(key(), [1; 32]).await.unwrap().refused();
        latches.attempt(key(), [1; 32]).await.unwrap().accepted();
        latches.attempt(key(), [1; 32]).await.unwrap().refused();
        assert!(latches.attempt(key(), [1; 32]).await.is_ok());
    }

    #[tokio::test]
    async fn f2_a_burst_of_dials_spends_two_attempts_at_most() {
        let latches = Latches::default();
        let tried = std::cell::Cell::new(0);
        let dial = || async {
            if let Ok(attempt) = latches.attempt(key(), [1; 32]).await {
                tried.set(tried.get() + 1);
                tokio::task::yield_now().await;
                attempt.refused();
            }
        };
        tokio::join!(dial(), dial(), dial(), dial(), dial());
        assert_eq!(tried.get(), 2);
    }

    /// Some proxies refuse the first CONNECT of every connection, whatever it carries.
    #[tokio::test]
    async fn f2_a_proxy_that_refuses_everything_once_latches_no_burst_of_good_credentials() {
        let latches = Latches::default();
        let mut first = latches.attempt(key(), [1; 32]).await.unwrap();
        assert!(first.refused_once());
        first.accepted();
        let burst = [(); 3].map(|()| latches.attempt(key(), [1; 32]));
        let mut side_by_side = Vec::new();
        for attempt in burst {
            side_by_side.push(attempt.await.unwrap());
        }
        assert!(side_by_side.iter_mut().all(Attempt::refused_once));
        assert!(!latches.is_latched(&key(), [1; 32]));
        side_by_side.into_iter().for_each(Attempt::accepted);
        // A password that has changed there is asked once more than elsewhere.
        let mut wrong = latches.attempt(key(), [1; 32]).await.unwrap();
        assert!(wrong.refused_once());
        wrong.refused();
        assert!(!latches.attempt(key(), [1; 32]).await.unwrap().refused_once());
        assert!(latches.attempt(key(), [1; 32]).await.is_err());
    }

    #[tokio::test]
    async fn proven_credentials_let_dials_go_side_by_side() {
        let latches = Latches::default();
        latches.attempt(key(), [1; 32]).await.unwrap().accepted();
        let one = latches.attempt(key(), [1; 32]).await.unwrap();
        let two = tokio::time::timeout(PROOF_HOLDS, latches.attempt(key(), [1; 32])).await;
        assert!(two.is_ok());
        drop(one);
    }
}
