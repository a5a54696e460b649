//! The audit log: every exchange as one JSON line, appended to a file of its own.
//!
//! Unlike the access log it can be made to bind: with `when_full: refuse` an exchange that could
//! not be recorded is refused before anything is dialled.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use super::{AccessRecord, Dropped, Entry, flush};

/// Exchanges that have a place: recorded but not yet written, or under way and promised one.
/// More than `limits.exchanges` by default, so that a short stall of the disk refuses nobody.
const PLACES: usize = 65_536;

/// How long to wait before a line is tried again that the disk did not take.
const AGAIN: Duration = Duration::from_secs(1);

/// The open audit log. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Audit {
    to: SyncSender<Entry<(AccessRecord, Place)>>,
    state: Arc<State>,
    refuse: bool,
    dropped: Dropped,
}

#[derive(Debug)]
struct State {
    taken: AtomicUsize,
    failing: AtomicBool,
}

/// A promise that one record will be taken. Given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<State>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Audit {
    /// Opens `path` for appending (0640 where it is new) and starts the thread that writes.
    ///
    /// # Errors
    /// The operating system's: the file cannot be opened, or no thread be started.
    pub fn open(path: &Path, refuse_when_full: bool, dropped: Dropped) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o640).open(path)?;
        let (to, from) = sync_channel(PLACES);
        let state = Arc::new(State { taken: AtomicUsize::new(0), failing: AtomicBool::new(false) });
        let shared = Arc::clone(&state);
        thread::Builder::new().name("audit".into()).spawn(move || write(file, &from, &shared))?;
        Ok(Self { to, state, refuse: refuse_when_full, dropped })
    }

    /// Promises room for one record. `None` = none can be taken.
    pub fn reserve(&self) -> Option<Place> {
        let free = self.state.taken.fetch_add(1, Ordering::Relaxed) < PLACES;
        // Made at once, so that its drop undoes the addition in any case.
        let place = Place(Arc::clone(&self.state));
        (free && !self.state.failing.load(Ordering::Relaxed)).then_some(place)
    }

    /// Must an exchange be refused that has no place?
    pub const fn binds(&self) -> bool {
        self.refuse
    }

    /// Waits until every record so far is in the file, at most `patience`; are they?
    pub fn flush(&self, patience: Duration) -> bool {
        flush(&self.to, patience)
    }

    /// Hands a record over; without a place it is dropped and counted.
    pub fn record(&self, record: AccessRecord, place: Option<Place>) {
        let Some(place) = place else {
            self.dropped.count();
            return;
        };
        if self.to.try_send(Entry::Item((record, place))).is_err() {
            self.dropped.count();
        }
    }
}

fn write(mut file: File, from: &Receiver<Entry<(AccessRecord, Place)>>, state: &State) {
    while let Ok(entry) = from.recv() {
        let (record, place) = match entry {
            Entry::Item(item) => item,
            Entry::Flush(done) => {
                // Who asked may have stopped waiting.
                let _ = done.try_send(());
                continue;
            }
        };
        let Ok(mut line) = serde_json::to_vec(&record) else {
            continue;
        };
        line.push(b'\n');
        let mut rest = line.as_slice();
        while !rest.is_empty() {
            match file.write(rest) {
                Ok(n) if n > 0 => {
                    state.failing.store(false, Ordering::Relaxed);
                    rest = &rest[n..];
                }
                Ok(_nothing) => fail(state, None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => fail(state, Some(error.kind())),
            }
        }
        drop(place);
    }
}

fn fail(state: &State, kind: Option<io::ErrorKind>) {
    if !state.failing.swap(true, Ordering::Relaxed) {
        tracing::error!(kind = ?kind, "the audit log cannot be written");
    }
    thread::sleep(AGAIN);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::access::sample_record;
    use std::time::Instant;

    #[test]
    fn records_are_appended_as_json_lines() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.jsonl");
        std::fs::write(&path, "{\"old\":1}\n").unwrap();
        let audit = Audit::open(&path, true, Dropped::default()).unwrap();
        for _ in 0..3 {
            audit.record(sample_record(), audit.reserve());
        }
        assert!(audit.flush(Duration::from_secs(10)));
        assert_eq!(audit.state.taken.load(Ordering::Relaxed), 0);
        let text = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((lines.len(), &lines[3]["request_id"]), (4, &"r-1".into()));
    }

    #[test]
    fn a_full_log_has_no_place_and_counts_what_it_drops() {
        // Always full: every write fails with ENOSPC.
        let dropped = Dropped::default();
        let audit = Audit::open(Path::new("/dev/full"), true, dropped.clone()).unwrap();
        let places: Vec<Place> = std::iter::from_fn(|| audit.reserve()).take(PLACES).collect();
        assert!(places.len() == PLACES && audit.reserve().is_none());
        audit.record(sample_record(), None);
        assert_eq!(dropped.total(), 1);
        drop(places);
        audit.record(sample_record(), audit.reserve());
        let deadline = Instant::now() + Duration::from_secs(10);
        while audit.reserve().is_some() {
            assert!(Instant::now() < deadline, "a failing disk leaves no place");
            thread::yield_now();
        }
    }
}
