//! What passes on an HTTP/2 connection and the h2 crate hides, read from its frames.
//!
//! `tap` watches the stream; here its octets become facts. It parses 9-octet frame heads in both
//! directions and the bodies of SETTINGS, GOAWAY, RST_STREAM and PING only (RFC 9113 §4.1, §6),
//! and judges nothing: lanes read stream limits and GOAWAY from it, `replay` reads whether a
//! stream's HEADERS ever left, status and probe read all of it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::time::Instant;

use crate::hop::clean;

mod tap;

pub use tap::Tap;

/// Octets of a frame body that are kept: room for every SETTINGS we know of and for APNs' JSON
/// reason; a peer that sends more is cut, not followed.
const BODY_KEPT: usize = 1024;
/// Entries of a SETTINGS frame that are kept.
const SETTINGS_KEPT: usize = 32;
/// Characters of GOAWAY debug data that are kept.
const DEBUG_KEPT: usize = 256;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;

/// A GOAWAY as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoAway {
    /// Streams above it were not processed.
    pub last_stream: u32,
    /// The error code of RFC 9113 §7.
    pub code: u32,
    /// APNs' `reason` out of the debug JSON, else the debug data; cleaned and capped.
    pub reason: Option<String>,
}

/// What was seen on one connection. Shared by the tap, which writes, and its readers.
#[derive(Default)]
pub struct FrameLog {
    settings: RefCell<Option<Vec<(u16, u32)>>>,
    max_concurrent: Cell<Option<u32>>,
    goaway: RefCell<Option<GoAway>>,
    last_reset: Cell<Option<u32>>,
    resets: Cell<u64>,
    pongs: Cell<u64>,
    headers_out: Cell<u32>,
    last_read: Cell<Option<Instant>>,
    write_failed: Cell<bool>,
    not_http2: RefCell<Option<String>>,
    cut: Cell<bool>,
    changed: RefCell<Option<Box<dyn Fn()>>>,
}

impl FrameLog {
    /// Calls `changed` at every SETTINGS and GOAWAY, from inside the connection's poll: it may
    /// wake and spawn, and must not touch the connection.
    pub fn on_change(&self, changed: impl Fn() + 'static) {
        *self.changed.borrow_mut() = Some(Box::new(changed));
    }

    /// The peer's first SETTINGS, as sent; `None` before it arrived.
    pub fn first_settings(&self) -> Option<Vec<(u16, u32)>> {
        self.settings.borrow().clone()
    }

    /// SETTINGS_MAX_CONCURRENT_STREAMS in force; `None` before SETTINGS or without a limit.
    pub fn max_concurrent(&self) -> Option<u32> {
        self.max_concurrent.get()
    }

    /// Has SETTINGS arrived?
    pub fn has_settings(&self) -> bool {
        self.settings.borrow().is_some()
    }

    /// The latest GOAWAY.
    pub fn goaway(&self) -> Option<GoAway> {
        self.goaway.borrow().clone()
    }

    /// Has GOAWAY arrived?
    pub fn going_away(&self) -> bool {
        self.goaway.borrow().is_some()
    }

    /// RST_STREAM frames received, and the code of the latest.
    pub fn resets(&self) -> (u64, Option<u32>) {
        (self.resets.get(), self.last_reset.get())
    }

    /// PING acknowledgements received.
    pub fn pongs(&self) -> u64 {
        self.pongs.get()
    }

    /// The highest stream whose HEADERS were handed to the socket's TLS: a stream above it is
    /// proven unsent. A stream at or below it may have left (we err towards "may have").
    pub fn highest_headers_out(&self) -> u32 {
        self.headers_out.get()
    }

    /// A write failed: nothing leaves any more, only what the peer said before is still read.
    pub fn write_failed(&self) -> bool {
        self.write_failed.get()
    }

    /// When the last octet arrived.
    pub fn last_read(&self) -> Option<Instant> {
        self.last_read.get()
    }

    /// First octets, cleaned, of a peer that answered the preface with something else.
    pub fn not_http2(&self) -> Option<String> {
        self.not_http2.borrow().clone()
    }

    /// From now on nothing more is written: what did not leave by then never leaves, whatever h2
    /// still holds of it.
    pub fn cut(&self) {
        self.cut.set(true);
    }

    fn tell(&self) {
        if let Some(changed) = self.changed.borrow().as_ref() {
            changed();
        }
    }

    fn received(&self, head: Head, body: &[u8]) {
        match head.kind {
            SETTINGS if head.flags & ACK == 0 => {
                let entries = body.chunks_exact(6).take(SETTINGS_KEPT).map(|entry| {
                    let id = u16::from_be_bytes([entry[0], entry[1]]);
                    (id, u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]))
                });
                let entries: Vec<_> = entries.collect();
                let limit =
                    entries.iter().rev().find(|(id, _)| *id == SETTINGS_MAX_CONCURRENT_STREAMS);
                if let Some((_, limit)) = limit {
                    self.max_concurrent.set(Some(*limit));
                }
                self.settings.borrow_mut().get_or_insert(entries);
                self.tell();
            }
            PING if head.flags & ACK != 0 => self.pongs.set(self.pongs.get() + 1),
            RST_STREAM if body.len() == 4 => {
                self.last_reset.set(Some(word(body, 0)));
                self.resets.set(self.resets.get() + 1);
            }
            GOAWAY if body.len() >= 8 => {
                *self.goaway.borrow_mut() = Some(GoAway {
                    last_stream: word(body, 0) & 0x7fff_ffff,
                    code: word(body, 4),
                    reason: debug_reason(&body[8..]),
                });
                self.tell();
            }
            _ => {}
        }
    }
}

impl fmt::Debug for FrameLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameLog")
            .field("settings", &self.settings)
            .field("goaway", &self.goaway)
            .finish_non_exhaustive()
    }
}

fn word(body: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]])
}

/// APNs sends `{"reason":"..."}`; others send text or nothing.
fn debug_reason(debug: &[u8]) -> Option<String> {
    if debug.is_empty() {
        return None;
    }
    let json: Option<serde_json::Value> = serde_json::from_slice(debug).ok();
    let reason = json.as_ref().and_then(|json| json.get("reason")).and_then(|r| r.as_str());
    Some(clean(reason.map_or(debug, str::as_bytes), DEBUG_KEPT))
}

#[derive(Debug, Clone, Copy, Default)]
struct Head {
    kind: u8,
    flags: u8,
    stream: u32,
}

/// Follows frame heads through a byte stream, however it is cut; keeps the bodies of the kinds
/// asked for.
#[derive(Debug, Default)]
struct Follower {
    head: [u8; 9],
    have: usize,
    left: usize,
    keep: bool,
    body: Vec<u8>,
}

impl Follower {
    fn feed(&mut self, mut bytes: &[u8], keeps: fn(u8) -> bool, mut seen: impl FnMut(Head, &[u8])) {
        while !bytes.is_empty() {
            if self.have < 9 {
                let n = bytes.len().min(9 - self.have);
                self.head[self.have..self.have + n].copy_from_slice(&bytes[..n]);
                self.have += n;
                bytes = &bytes[n..];
                if self.have < 9 {
                    return;
                }
                self.left =
                    u32::from_be_bytes([0, self.head[0], self.head[1], self.head[2]]) as usize;
                self.keep = keeps(self.head[3]);
                self.body.clear();
            }
            let n = bytes.len().min(self.left);
            if self.keep {
                let room = BODY_KEPT.saturating_sub(self.body.len());
                self.body.extend_from_slice(&bytes[..n.min(room)]);
            }
            self.left -= n;
            bytes = &bytes[n..];
            if self.left == 0 {
                let stream = word(&self.head, 5) & 0x7fff_ffff;
                seen(Head { kind: self.head[3], flags: self.head[4], stream }, &self.body);
                self.have = 0;
            }
        }
    }
}
