//! A tap above TLS that sees the HTTP/2 frames which the h2 crate hides.
//!
//! It parses 9-octet frame heads in both directions and the bodies of SETTINGS, GOAWAY,
//! RST_STREAM and PING only (RFC 9113 §4.1, §6). It changes no byte and judges nothing: lanes
//! read stream limits and GOAWAY from it, `replay` reads whether a stream's HEADERS ever left,
//! status and probe read all of it. One thing it does: a failed write does not end the connection
//! before what the peer said last (answers, GOAWAY) is read.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use crate::hop::clean;

/// Octets of a frame body that are kept: room for every SETTINGS we know of and for APNs' JSON
/// reason; a peer that sends more is cut, not followed.
const BODY_KEPT: usize = 1024;
/// Entries of a SETTINGS frame that are kept.
const SETTINGS_KEPT: usize = 32;
/// Characters of GOAWAY debug data that are kept.
const DEBUG_KEPT: usize = 256;

/// After a failed write the peer's last words are read for so long at most. They lie in our own
/// socket already, and a socket that cannot be written to ends; this bounds one that does not.
const LAST_WORDS: Duration = Duration::from_secs(1);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const ACK: u8 = 1;
const SETTINGS_MAX_CONCURRENT_STREAMS: u16 = 3;
const PREFACE: usize = 24;

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

/// The tap: a stream that is read and written as before, and watched.
#[derive(Debug)]
pub struct Tap<IO> {
    io: IO,
    log: Rc<FrameLog>,
    inwards: Follower,
    outwards: Follower,
    preface_left: usize,
    first_frame_seen: bool,
    broken: Option<Broken>,
}

/// The write side's end.
#[derive(Debug)]
struct Broken {
    error: Option<io::Error>,
    until: Pin<Box<Sleep>>,
}

impl<IO> Tap<IO> {
    /// Watches the client side of an HTTP/2 connection from its first octet on.
    pub fn new(io: IO, log: Rc<FrameLog>) -> Self {
        Self {
            io,
            log,
            inwards: Follower::default(),
            outwards: Follower::default(),
            preface_left: PREFACE,
            first_frame_seen: false,
            broken: None,
        }
    }

    fn fails(&mut self, error: io::Error) {
        self.broken = Some(Broken { error: Some(error), until: Box::pin(sleep(LAST_WORDS)) });
        self.log.write_failed.set(true);
        self.log.tell();
    }

    /// What h2 is told of a write that must not or cannot leave any more.
    fn held_back(&self, octets: usize) -> Option<io::Result<usize>> {
        if self.log.cut.get() {
            return Some(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.broken.is_some().then_some(Ok(octets))
    }

    /// What h2 is told of a write of `bufs`: of a failed one that it succeeded, or it would drop
    /// what lies in the socket unread. TLS may have sent a part of them before it failed, so they
    /// count as sent; what comes after them does not.
    fn written(
        &mut self,
        polled: Poll<io::Result<usize>>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let all = bufs.iter().map(|buf| buf.len()).sum();
        let done = match polled {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(done)) => done,
            Poll::Ready(Err(error)) => {
                self.fails(error);
                all
            }
        };
        let mut left = done;
        for buf in bufs {
            let n = left.min(buf.len());
            self.saw_write(&buf[..n]);
            left -= n;
            if left == 0 {
                break;
            }
        }
        Poll::Ready(Ok(done))
    }

    /// The same for flushing and closing, of which there is nothing to count.
    fn settled(&mut self, polled: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if let Poll::Ready(Err(error)) = polled {
            self.fails(error);
            return Poll::Ready(Ok(()));
        }
        polled
    }

    fn saw_read(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.log.last_read.set(Some(Instant::now()));
        if !self.first_frame_seen {
            self.first_frame_seen = true;
            if bytes.starts_with(b"HTTP/") || bytes[0] == b'<' {
                *self.log.not_http2.borrow_mut() = Some(clean(bytes, 64));
            }
        }
        let log = &self.log;
        let keeps = |kind| matches!(kind, RST_STREAM | SETTINGS | PING | GOAWAY);
        self.inwards.feed(bytes, keeps, |head, body| log.received(head, body));
    }

    fn saw_write(&mut self, mut bytes: &[u8]) {
        let skip = self.preface_left.min(bytes.len());
        self.preface_left -= skip;
        bytes = &bytes[skip..];
        let log = &self.log;
        self.outwards.feed(
            bytes,
            |_| false,
            |head, _| {
                if matches!(head.kind, HEADERS | DATA) && head.stream > log.headers_out.get() {
                    log.headers_out.set(head.stream);
                }
            },
        );
        // A HEADERS frame of which any octet left counts as sent.
        let begun = &self.outwards;
        if begun.have == 9 && begun.left > 0 && begun.head[3] == HEADERS {
            let stream = word(&begun.head, 5) & 0x7fff_ffff;
            if stream > log.headers_out.get() {
                log.headers_out.set(stream);
            }
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Tap<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        match &polled {
            Poll::Ready(Ok(())) => self.saw_read(&buf.filled()[before..]),
            Poll::Ready(Err(_)) => {}
            Poll::Pending => {
                if let Some(broken) = &mut self.broken
                    && broken.until.as_mut().poll(cx).is_ready()
                {
                    let error = broken.error.take();
                    let error = error.unwrap_or_else(|| io::ErrorKind::BrokenPipe.into());
                    return Poll::Ready(Err(error));
                }
            }
        }
        polled
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Tap<IO> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(told) = this.held_back(buf.len()) {
            return Poll::Ready(told);
        }
        let polled = Pin::new(&mut this.io).poll_write(cx, buf);
        this.written(polled, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(told) = this.held_back(bufs.iter().map(|buf| buf.len()).sum()) {
            return Poll::Ready(told);
        }
        let polled = Pin::new(&mut this.io).poll_write_vectored(cx, bufs);
        this.written(polled, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut this.io).poll_flush(cx);
        this.settled(polled)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.broken.is_some() {
            return Poll::Ready(Ok(()));
        }
        let polled = Pin::new(&mut this.io).poll_shutdown(cx);
        this.settled(polled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
        let mut out = (body.len() as u32).to_be_bytes()[1..].to_vec();
        out.extend([kind, flags]);
        out.extend(stream.to_be_bytes());
        out.extend(body);
        out
    }

    fn tap() -> (Tap<tokio::io::Empty>, Rc<FrameLog>) {
        let log = Rc::new(FrameLog::default());
        (Tap::new(tokio::io::empty(), log.clone()), log)
    }

    #[test]
    fn settings_goaway_and_resets_are_seen_however_the_bytes_are_cut() {
        let mut bytes = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 1, 0, 4, 0, 0, 255, 255]);
        bytes.extend(frame(SETTINGS, ACK, 0, &[]));
        bytes.extend(frame(DATA, 0, 1, &[7; 3000]));
        bytes.extend(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 3, 232]));
        bytes.extend(frame(RST_STREAM, 0, 5, &[0, 0, 0, 7]));
        let mut goaway = vec![0x80, 0, 0, 9, 0, 0, 0, 0];
        goaway.extend(br#"{"reason":"BadCertificateEnvironment"}"#);
        bytes.extend(frame(GOAWAY, 0, 0, &goaway));
        for size in [1, 2, 5, 9, 10, 64, bytes.len()] {
            let (mut tap, log) = tap();
            let told = Rc::new(Cell::new(0));
            let count = told.clone();
            log.on_change(move || count.set(count.get() + 1));
            for piece in bytes.chunks(size) {
                tap.saw_read(piece);
            }
            assert_eq!(log.first_settings(), Some(vec![(3, 1), (4, 65535)]), "{size}");
            assert_eq!(log.max_concurrent(), Some(1000));
            assert_eq!(log.resets(), (1, Some(7)));
            let expected = GoAway {
                last_stream: 9,
                code: 0,
                reason: Some("BadCertificateEnvironment".to_owned()),
            };
            assert_eq!(log.goaway(), Some(expected));
            assert_eq!(told.get(), 3);
        }
    }

    #[test]
    fn a_stream_counts_as_sent_from_the_first_octet_of_its_headers() {
        let (mut tap, log) = tap();
        tap.saw_write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        tap.saw_write(&frame(SETTINGS, 0, 0, &[]));
        assert_eq!(log.highest_headers_out(), 0);
        let headers = frame(HEADERS, 4, 1, &[1; 40]);
        tap.saw_write(&headers[..9]);
        assert_eq!(log.highest_headers_out(), 1);
        tap.saw_write(&headers[9..]);
        tap.saw_write(&frame(HEADERS, 4, 3, &[1; 4])[..8]);
        assert_eq!(log.highest_headers_out(), 1, "a head cut short opens no stream");
    }

    /// Takes what the test says, then fails; what it has to read stays readable.
    struct Broke {
        takes: usize,
        inbox: Vec<u8>,
        ends: bool,
    }

    impl AsyncRead for Broke {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let inbox = std::mem::take(&mut self.inbox);
            if inbox.is_empty() && !self.ends {
                return Poll::Pending;
            }
            buf.put_slice(&inbox);
            Poll::Ready(Ok(()))
        }
    }

    impl AsyncWrite for Broke {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            if self.takes == 0 {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            self.takes -= 1;
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn e1_a_failed_write_leaves_the_peers_last_words_readable() {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let goaway = frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        for ends in [true, false] {
            let log = Rc::new(FrameLog::default());
            let io = Broke { takes: 2, inbox: goaway.clone(), ends };
            let mut tap = Tap::new(io, log.clone());
            tap.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
            tap.write_all(&frame(HEADERS, 4, 1, &[1; 4])).await.unwrap();
            assert!(!log.write_failed());
            tap.write_all(&frame(HEADERS, 4, 3, &[1; 4])).await.unwrap();
            assert!(log.write_failed());
            assert_eq!(log.highest_headers_out(), 3, "TLS may have sent a part");
            tap.write_all(&frame(HEADERS, 4, 5, &[1; 4])).await.unwrap();
            tap.flush().await.unwrap();
            assert_eq!(log.highest_headers_out(), 3, "nothing leaves any more");
            let mut read = vec![0; goaway.len()];
            tap.read_exact(&mut read).await.unwrap();
            assert_eq!(log.goaway().map(|goaway| goaway.last_stream), Some(1));
            let end = tokio::time::timeout(LAST_WORDS * 2, tap.read(&mut read)).await.unwrap();
            assert_eq!(end.ok(), ends.then_some(0), "it ends, by itself or by the clock");
        }
    }

    #[test]
    fn hostile_frames_cost_a_bounded_amount() {
        let (mut tap, log) = tap();
        tap.saw_read(&frame(GOAWAY, 0, 0, &vec![b'A'; 100_000]));
        assert!(log.goaway().unwrap().reason.unwrap().len() <= DEBUG_KEPT);
        tap.saw_read(&frame(SETTINGS, 0, 0, &vec![0; 6000]));
        assert!(log.first_settings().unwrap().len() <= SETTINGS_KEPT);
        assert!(tap.inwards.body.capacity() <= 2 * BODY_KEPT);
    }

    #[test]
    fn an_http1_answer_to_the_preface_is_named() {
        let (mut tap, log) = tap();
        tap.saw_read(b"HTTP/1.1 400 Bad Request\r\n");
        assert_eq!(log.not_http2().as_deref(), Some("HTTP/1.1 400 Bad Request.."));
    }
}
