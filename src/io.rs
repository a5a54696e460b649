//! Byte streams with bytes put back in front, and with a guard against peers that stop reading.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// A stream whose first bytes were already read, to tell by them what is spoken.
#[derive(Debug)]
pub struct Prefixed<IO> {
    prefix: Bytes,
    io: IO,
}

impl<IO> Prefixed<IO> {
    /// Puts `prefix` in front of what `io` still brings.
    pub const fn new(prefix: Bytes, io: IO) -> Self {
        Self { prefix, io }
    }

    /// The stream underneath.
    pub const fn get_ref(&self) -> &IO {
        &self.io
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Prefixed<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.prefix.is_empty() {
            return Pin::new(&mut self.io).poll_read(cx, buf);
        }
        let n = self.prefix.len().min(buf.remaining());
        buf.put_slice(&self.prefix[..n]);
        self.prefix.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Prefixed<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// How long a closed connection is still read, so that the last words (an answer, GOAWAY) are not
/// destroyed by the RST that unread bytes provoke. Three round trips of a slow line.
const LINGER: Duration = Duration::from_secs(1);
/// At most so much is read and thrown away while lingering: one socket buffer.
const LINGER_OCTETS: usize = 256 * 1024;

/// A stream whose writes must make progress and whose end is gentle.
///
/// A flush that stays unfinished for longer than the limit fails with `TimedOut`, whatever else
/// the peer does meanwhile; after shutdown the peer's last bytes are read and dropped for a second.
#[derive(Debug)]
pub struct Guarded<IO> {
    io: IO,
    limit: Duration,
    blocked: Option<Pin<Box<Sleep>>>,
    closing: Closing,
}

#[derive(Debug)]
enum Closing {
    Open,
    Lingering { until: Pin<Box<Sleep>>, left: usize },
    Done,
}

impl<IO> Guarded<IO> {
    /// Guards `io`; a flush may take up to `limit`.
    pub const fn new(io: IO, limit: Duration) -> Self {
        Self { io, limit, blocked: None, closing: Closing::Open }
    }

    /// Called where the stream below could not go on: is it too long already?
    fn overdue(&mut self, cx: &mut Context<'_>) -> bool {
        let limit = self.limit;
        let timer = self.blocked.get_or_insert_with(|| Box::pin(sleep(limit)));
        timer.as_mut().poll(cx).is_ready()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guarded<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Guarded<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write(cx, buf) {
            Poll::Pending if self.overdue(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(done) => Poll::Ready(done),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.io).poll_write_vectored(cx, bufs) {
            Poll::Pending if self.overdue(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
            Poll::Ready(done) => Poll::Ready(done),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.io).poll_flush(cx) {
            Poll::Ready(done) => {
                // Only a whole flush disarms: a peer that reads a little now and then would
                // otherwise never be late.
                self.blocked = None;
                Poll::Ready(done)
            }
            Poll::Pending if self.overdue(cx) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            match &mut this.closing {
                Closing::Open => {
                    match Pin::new(&mut this.io).poll_shutdown(cx) {
                        Poll::Ready(done) => done?,
                        Poll::Pending if this.overdue(cx) => {
                            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                        }
                        Poll::Pending => return Poll::Pending,
                    }
                    let until = Box::pin(sleep(LINGER));
                    this.closing = Closing::Lingering { until, left: LINGER_OCTETS };
                }
                Closing::Lingering { until, left } => {
                    if until.as_mut().poll(cx).is_ready() {
                        this.closing = Closing::Done;
                        continue;
                    }
                    let mut space = [0; 2048];
                    let mut buffer = ReadBuf::new(&mut space);
                    let read = ready!(Pin::new(&mut this.io).poll_read(cx, &mut buffer));
                    let n = buffer.filled().len();
                    *left = left.saturating_sub(n);
                    if read.is_err() || n == 0 || *left == 0 {
                        this.closing = Closing::Done;
                    }
                }
                Closing::Done => return Poll::Ready(Ok(())),
            }
        }
    }
}
