//! One connection of the simulated origin: preface, SETTINGS, frames in, frames out, timers.
//!
//! What a request is answered with is decided in `exchange`.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::server::TlsStream;

use super::exchange::Stream;
use super::fault::Cut;
use super::frames::{self, Frame};
use super::hpack::Decoder;
use super::strict::Credential;
use super::{Alpn, Order, Shared};

/// A peer that takes nothing for so long is given up.
const WRITE: Duration = Duration::from_secs(30);
/// The preface must have come by then.
const PREFACE: Duration = Duration::from_secs(10);
/// The list size that APNs advertises (pushy#878).
const HEADER_LIST: u32 = 8000;
/// A header block above this is an attack on the simulator, not a push.
const MAX_BLOCK: usize = 64 * 1024;
/// The window of RFC 9113 §6.9.2.
const WINDOW: i64 = 65_535;

/// What is due later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// The answer of a stream.
    Answer(u32),
    /// One more byte of a stream's answer.
    Byte(u32),
    /// The stream limit goes to this value.
    Limit(u32),
    /// GOAWAY that names the newest stream.
    GoAway,
}

/// The connection.
#[derive(Debug)]
pub(super) struct Connection {
    io: TlsStream<TcpStream>,
    pub(super) shared: Arc<Shared>,
    pub(super) number: u64,
    pub(super) sni: Option<String>,
    /// First 16 hex digits of the SHA-256 of the provider certificate, if the client showed one.
    pub(super) certificate: Option<String>,
    inbox: BytesMut,
    pub(super) out: Vec<u8>,
    pub(super) decoder: Decoder,
    pub(super) streams: BTreeMap<u32, Stream>,
    pub(super) highest: u32,
    /// The limit last advertised.
    pub(super) limit: u32,
    /// The limit last acknowledged: before, a client knows of none (RFC 9113 §6.5.2).
    acknowledged: u32,
    unacknowledged: VecDeque<u32>,
    pub(super) warm: bool,
    pub(super) bound: Option<Credential>,
    pub(super) window: i64,
    pub(super) peer_initial_window: i64,
    timers: BinaryHeap<Reverse<(Instant, Due)>>,
    pub(super) goaway_last: Option<u32>,
    /// A header block that CONTINUATION goes on with: stream, END_STREAM, bytes.
    block: Option<(u32, bool, Vec<u8>)>,
    pub(super) ending: Option<Cut>,
    /// Takes and gives nothing any more.
    pub(super) frozen: bool,
}

/// Serves until either side ends it.
pub(super) async fn serve(mut io: TlsStream<TcpStream>, shared: Arc<Shared>) {
    let (_, session) = io.get_ref();
    let sni = session.server_name().map(str::to_owned);
    let offered = session.alpn_protocol().map(<[u8]>::to_vec);
    let number = shared.ledger.connected();
    let mut inbox = BytesMut::with_capacity(16 * 1024);
    let preface = timeout(PREFACE, read_preface(&mut io, &mut inbox)).await;
    if !matches!(preface, Ok(true)) {
        if inbox.is_empty() {
            shared.ledger.count(|summary| summary.handshakes_failed += 1);
        } else {
            shared.ledger.violated(number, 0, "what came is not HTTP/2");
        }
        return;
    }
    if offered.as_deref() != Some(b"h2") {
        let rule = match shared.read(|conduct| conduct.alpn) {
            Alpn::H2 => "no ALPN offered",
            Alpn::Http11 | Alpn::Stripped => "a blind preface: ALPN did not choose h2",
        };
        shared.ledger.violated(number, 0, rule);
    }
    let mut connection = Connection::new(io, shared, number, sni, inbox);
    connection.run().await;
    connection.abandon();
    connection.close().await;
}

async fn read_preface(io: &mut TlsStream<TcpStream>, inbox: &mut BytesMut) -> bool {
    while inbox.len() < frames::PREFACE.len() {
        let fits = frames::PREFACE.starts_with(inbox);
        if !fits || !matches!(io.read_buf(inbox).await, Ok(n) if n > 0) {
            return false;
        }
    }
    inbox.split_to(frames::PREFACE.len()) == frames::PREFACE
}

impl Connection {
    fn new(
        io: TlsStream<TcpStream>,
        shared: Arc<Shared>,
        number: u64,
        sni: Option<String>,
        inbox: BytesMut,
    ) -> Self {
        let shown = io.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.map(|leaf| super::exchange::short_hash(leaf));
        // Certificates have no cold start: the one-stream rule is about tokens.
        let limit =
            shared.read(|c| if certificate.is_some() { c.warm_limit } else { c.cold_limit });
        Self {
            io,
            shared,
            number,
            sni,
            certificate,
            inbox,
            out: Vec::with_capacity(4096),
            decoder: Decoder::new(),
            streams: BTreeMap::new(),
            highest: 0,
            limit,
            acknowledged: u32::MAX,
            unacknowledged: VecDeque::new(),
            warm: false,
            bound: None,
            window: WINDOW,
            peer_initial_window: WINDOW,
            timers: BinaryHeap::new(),
            goaway_last: None,
            block: None,
            ending: None,
            frozen: false,
        }
    }

    async fn run(&mut self) {
        let mut orders = self.shared.orders.subscribe();
        let (settings, window) = self.shared.read(|c| (c.settings, c.initial_window));
        if settings {
            let first = [
                (frames::MAX_CONCURRENT_STREAMS, self.limit),
                (frames::INITIAL_WINDOW_SIZE, window),
                (frames::MAX_HEADER_LIST_SIZE, HEADER_LIST),
            ];
            frames::put_settings(&mut self.out, &first);
            self.unacknowledged.push_back(self.limit);
        }
        self.read_frames();
        loop {
            if self.frozen {
                self.broken(self.streams.len(), true);
                return std::future::pending().await;
            }
            if !self.flush().await || self.ending.is_some() {
                return;
            }
            let due = self.timers.peek().map(|Reverse((at, _))| *at);
            tokio::select! {
                read = self.io.read_buf(&mut self.inbox) => match read {
                    Ok(n) if n > 0 => self.read_frames(),
                    Ok(_) | Err(_) => return,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.play_due();
                }
                // A connection that lags behind the orders misses some; tests give few.
                Ok(order) = orders.recv() => self.obey(order),
            }
        }
    }

    async fn flush(&mut self) -> bool {
        if self.out.is_empty() {
            return true;
        }
        let write = async {
            self.io.write_all(&self.out).await?;
            self.io.flush().await
        };
        let written = matches!(timeout(WRITE, write).await, Ok(Ok(())));
        self.out.clear();
        written
    }

    async fn close(mut self) {
        match self.ending {
            Some(Cut::Reset) => {
                let socket = socket2::SockRef::from(self.io.get_ref().0);
                // Without linger the close is a FIN: a milder cut than the script's.
                let _ = socket.set_linger(Some(Duration::ZERO));
            }
            Some(Cut::Close) | None => {
                // The peer may be gone already.
                let _ = timeout(Duration::from_secs(1), self.io.shutdown()).await;
            }
        }
    }

    /// Marks what can no longer be answered.
    fn abandon(&mut self) {
        let numbers: Vec<u64> = self.streams.values().map(|stream| stream.number).collect();
        self.streams.clear();
        if self.ending.is_some() {
            self.broken(numbers.len(), false);
        }
        for number in numbers {
            self.shared.ledger.update(number, |entry| {
                if entry.fate == super::Fate::Open {
                    entry.fate = super::Fate::Cut;
                }
            });
        }
    }

    /// Notes that it is broken by the script, with so many streams open.
    fn broken(&self, open: usize, silent: bool) {
        self.shared.ledger.broke(self.number, self.shared.caught(open), silent);
    }

    /// Plays `what` after `delay`.
    pub(super) fn later(&mut self, delay: Duration, what: Due) {
        self.timers.push(Reverse((Instant::now() + delay, what)));
    }

    fn play_due(&mut self) {
        let now = Instant::now();
        while let Some(Reverse((at, _))) = self.timers.peek()
            && *at <= now
        {
            let Some(Reverse((_, due))) = self.timers.pop() else { break };
            match due {
                Due::Answer(stream) => self.answer(stream),
                Due::Byte(stream) => self.one_byte(stream),
                Due::Limit(limit) => self.set_limit(limit),
                Due::GoAway => self.go_away(self.highest, 0, None),
            }
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Cut(cut) => self.ending = Some(cut),
            Order::GoAway(code, reason) => self.go_away(self.highest, code, reason.as_deref()),
            Order::Limit(limit) => self.set_limit(limit),
        }
    }

    /// Advertises a new stream limit.
    pub(super) fn set_limit(&mut self, limit: u32) {
        if self.limit != limit {
            self.limit = limit;
            self.unacknowledged.push_back(limit);
            frames::put_settings(&mut self.out, &[(frames::MAX_CONCURRENT_STREAMS, limit)]);
        }
    }

    /// The limit that the client must keep: the largest of those it may still go by.
    pub(super) fn binding_limit(&self) -> u32 {
        self.unacknowledged.iter().copied().fold(self.acknowledged, u32::max)
    }

    /// Records a broken rule.
    pub(super) fn violated(&self, stream: u32, rule: impl Into<String>) {
        self.shared.ledger.violated(self.number, stream, rule);
    }

    fn read_frames(&mut self) {
        while self.ending.is_none() {
            match frames::take(&mut self.inbox) {
                Ok(Some(frame)) => self.frame(&frame),
                Ok(None) => return,
                Err(too_large) => self.fail(too_large.to_string()),
            }
        }
    }

    /// The client broke HTTP/2 so that nothing more can be read.
    pub(super) fn fail(&mut self, rule: String) {
        frames::put_goaway(&mut self.out, self.highest, frames::PROTOCOL_ERROR, b"");
        self.violated(0, rule);
        self.ending = Some(Cut::Close);
    }

    fn frame(&mut self, frame: &Frame) {
        if self.block.is_some() && frame.kind != frames::CONTINUATION {
            return self.fail("a frame inside a header block".into());
        }
        match frame.kind {
            frames::DATA => self.data(frame),
            frames::HEADERS => match frame.content() {
                Some(block) => {
                    let end = frame.has(frames::END_STREAM);
                    self.header_block(frame, end, block.to_vec());
                }
                None => self.fail("padding beyond HEADERS".into()),
            },
            frames::CONTINUATION => match self.block.take() {
                Some((stream, end, mut block)) if stream == frame.stream => {
                    block.extend_from_slice(&frame.payload);
                    self.header_block(frame, end, block);
                }
                _ => self.fail("CONTINUATION out of place".into()),
            },
            frames::PRIORITY => self.violated(frame.stream, "PRIORITY"),
            frames::RST_STREAM => self.cancelled(frame),
            frames::SETTINGS => self.settings(frame),
            frames::PUSH_PROMISE => self.fail("PUSH_PROMISE by a client".into()),
            frames::PING if !frame.has(frames::ACK) && self.shared.read(|c| c.pings) => {
                frames::put(&mut self.out, frames::PING, frames::ACK, 0, &frame.payload);
            }
            frames::WINDOW_UPDATE => self.window_update(frame),
            // GOAWAY by the client needs no answer; unknown frames are ignored (RFC 9113 §4.1).
            _ => {}
        }
    }

    fn header_block(&mut self, frame: &Frame, end: bool, block: Vec<u8>) {
        if block.len() > MAX_BLOCK {
            return self.fail("a header block above 64 KiB".into());
        }
        if !frame.has(frames::END_HEADERS) {
            self.block = Some((frame.stream, end, block));
            return;
        }
        match self.decoder.decode(&block) {
            Ok(fields) => self.headers(frame.stream, end, &fields),
            Err(error) => self.fail(error.to_string()),
        }
    }

    fn settings(&mut self, frame: &Frame) {
        if frame.has(frames::ACK) {
            if let Some(limit) = self.unacknowledged.pop_front() {
                self.acknowledged = limit;
            }
            return;
        }
        for (name, value) in frame.settings() {
            if name == frames::INITIAL_WINDOW_SIZE {
                let change = i64::from(value) - self.peer_initial_window;
                self.peer_initial_window = i64::from(value);
                for stream in self.streams.values_mut() {
                    stream.window += change;
                }
            }
        }
        frames::put(&mut self.out, frames::SETTINGS, frames::ACK, 0, b"");
        self.pump();
    }

    fn window_update(&mut self, frame: &Frame) {
        let Some(more) = frame.word() else {
            return self.fail("a short WINDOW_UPDATE".into());
        };
        if frame.stream == 0 {
            self.window += i64::from(more);
        } else if let Some(stream) = self.streams.get_mut(&frame.stream) {
            stream.window += i64::from(more);
        }
        self.pump();
    }
}
