//! What the simulated origin saw: one entry per request, and every violation.
//!
//! Holds no device token and no bearer token: paths are hashed, of a JWT only team and key stay.

use std::time::Instant;

use serde::Serialize;

use super::super::lock;

/// Violations beyond this are counted, not kept: one broken client would fill the memory.
const MAX_VIOLATIONS: usize = 1000;

/// What became of a request at the origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Not complete yet, or complete and not answered yet.
    Open,
    /// Answered with this status.
    Answered(u16),
    /// Reset by the script or refused, with this code.
    Reset(u32),
    /// Above a GOAWAY's last stream: never looked at.
    GoneAway,
    /// The connection was cut, or the answer held back.
    Cut,
}

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// `apns-id` as sent; `None` where none came.
    pub apns_id: Option<String>,
    /// First 16 hex digits of the SHA-256 of the path.
    pub path_hash: String,
    /// The path with everything after its last slash removed.
    pub path_shape: String,
    /// The connection's number, from 1.
    pub connection: u64,
    /// The stream on it.
    pub stream: u32,
    /// `iss` of the JWT.
    pub team: Option<String>,
    /// `kid` of the JWT.
    pub key: Option<String>,
    /// First 16 hex digits of the SHA-256 of the provider certificate.
    pub certificate: Option<String>,
    /// `apns-topic`.
    pub topic: Option<String>,
    /// Bytes of the body.
    pub body: usize,
    /// First 16 hex digits of the SHA-256 of the body; empty until it is whole.
    pub body_hash: String,
    /// Names of all fields but the pseudo ones, in the order sent.
    pub fields: Vec<String>,
    /// Milliseconds since the origin started.
    pub received_ms: u64,
    /// The same, of the answer.
    pub answered_ms: Option<u64>,
    /// A real origin would have delivered this push (whatever the sender came to know).
    pub delivered: bool,
    /// The script drew a fault for it.
    pub spoilt: bool,
    /// What became of it.
    pub fate: Fate,
}

/// A rule that a client broke.
#[derive(Debug, Clone, Serialize)]
pub struct Violation {
    /// On which connection.
    pub connection: u64,
    /// On which stream; 0 for the connection.
    pub stream: u32,
    /// Which rule.
    pub rule: String,
}

/// Totals for a quick look.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Connections that reached HTTP/2.
    pub connections: u64,
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections on which TLS or ALPN failed.
    pub handshakes_failed: u64,
    /// Requests whose HEADERS came.
    pub requests: u64,
    /// Requests that a real origin would have delivered.
    pub delivered: u64,
    /// Delivered more than once with one `apns-id`.
    pub duplicates: u64,
    /// Streams refused because they were above the limit.
    pub refused_surplus: u64,
    /// The most streams open on one connection at a moment.
    pub most_streams: u64,
    /// Broken rules, counted.
    pub violations: u64,
    /// Faults that the script played.
    pub faults: u64,
    /// Pushes in flight whenever a connection was cut, added up.
    pub caught: u64,
}

/// A moment at which the origin broke a connection: what was in flight may end as unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Break {
    /// The connection.
    pub connection: u64,
    /// Milliseconds since the origin started.
    pub at_ms: u64,
    /// Pushes in flight at that moment: those of all senders where the test told them, else the
    /// open streams.
    pub in_flight: u64,
    /// It was frozen, so that the peer has to find out.
    pub silent: bool,
}

#[derive(Debug, Default)]
struct Book {
    entries: Vec<Entry>,
    violations: Vec<Violation>,
    breaks: Vec<Break>,
    summary: Summary,
}

/// The origin's record; shared by its connections.
#[derive(Debug)]
pub struct Ledger {
    started: Instant,
    book: std::sync::Mutex<Book>,
}

impl Ledger {
    /// Empty, from now on.
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), book: std::sync::Mutex::default() }
    }

    /// A copy of every entry, in the order of arrival.
    pub fn entries(&self) -> Vec<Entry> {
        lock(&self.book).entries.clone()
    }

    /// A copy of the violations kept.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.book).violations.clone()
    }

    /// A copy of the moments at which a connection was broken.
    pub fn breaks(&self) -> Vec<Break> {
        lock(&self.book).breaks.clone()
    }

    /// When its clock began.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// The totals, duplicates counted now.
    pub fn summary(&self) -> Summary {
        let book = lock(&self.book);
        let mut summary = book.summary.clone();
        let mut seen = std::collections::HashSet::new();
        for entry in book.entries.iter().filter(|entry| entry.delivered) {
            summary.delivered += 1;
            if let Some(id) = &entry.apns_id
                && !seen.insert(id.as_str())
            {
                summary.duplicates += 1;
            }
        }
        summary
    }

    /// Everything as JSON: `summary`, `violations`, `entries`.
    pub fn to_json(&self) -> serde_json::Value {
        let summary = self.summary();
        let book = lock(&self.book);
        serde_json::json!({
            "summary": summary,
            "violations": book.violations,
            "entries": book.entries,
        })
    }

    /// Milliseconds since the start.
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Changes the totals.
    pub(crate) fn count(&self, change: impl FnOnce(&mut Summary)) {
        change(&mut lock(&self.book).summary);
    }

    /// A connection reached HTTP/2; its number.
    pub(crate) fn connected(&self) -> u64 {
        let mut book = lock(&self.book);
        book.summary.connections += 1;
        book.summary.connections
    }

    /// A connection is broken now.
    pub(crate) fn broke(&self, connection: u64, in_flight: u64, silent: bool) {
        let at_ms = self.now_ms();
        let mut book = lock(&self.book);
        book.summary.caught += in_flight;
        book.breaks.push(Break { connection, at_ms, in_flight, silent });
    }

    /// A request arrived; its number from 1, which is the place of its entry plus 1.
    pub(crate) fn open(&self, entry: Entry) -> u64 {
        let mut book = lock(&self.book);
        book.summary.requests += 1;
        book.entries.push(entry);
        book.summary.requests
    }

    /// Changes the entry with this number.
    pub(crate) fn update(&self, number: u64, change: impl FnOnce(&mut Entry)) {
        let at = usize::try_from(number).unwrap_or(usize::MAX).wrapping_sub(1);
        if let Some(entry) = lock(&self.book).entries.get_mut(at) {
            change(entry);
        }
    }

    /// A rule was broken.
    pub(crate) fn violated(&self, connection: u64, stream: u32, rule: impl Into<String>) {
        let mut book = lock(&self.book);
        book.summary.violations += 1;
        if book.violations.len() < MAX_VIOLATIONS {
            book.violations.push(Violation { connection, stream, rule: rule.into() });
        }
    }
}
