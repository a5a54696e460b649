//! A stream that is read and written as before, and watched.
//!
//! It stands above TLS and changes no byte. Two things it does of itself: what was said to be
//! unsent never leaves afterwards, and a failed write does not end the connection before what the
//! peer said last (answers, GOAWAY) is read.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

use super::{DATA, Follower, FrameLog, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, word};
use crate::hop::clean;

/// Octets of the client's connection preface (RFC 9113 §3.4), which is no frame.
const PREFACE: usize = 24;
/// After a failed write the peer's last words are read for so long at most. They lie in our own
/// socket already, and a socket that cannot be written to ends; this bounds one that does not.
const LAST_WORDS: Duration = Duration::from_secs(1);

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
        // The lane drops its handle of the connection here, inside h2's write: h2 0.4 holds no
        // lock of its streams then. One that did would wait for itself.
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
    use std::cell::Cell;

    use super::*;
    use crate::upstream::frames::{ACK, BODY_KEPT, DEBUG_KEPT, GoAway, SETTINGS_KEPT};

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
