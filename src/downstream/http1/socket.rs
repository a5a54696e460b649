//! The socket of one HTTP/1.x connection: reading ahead within bounds, writing and closing in
//! time. Knows no HTTP.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout, timeout_at};

use super::Stop;
use crate::downstream::lease::{Asked, Lease};
use crate::relay::outcome::Refusal;

/// The most that one read brings: a TLS record's content.
const READ: usize = 16 * 1024;
/// What is still read and thrown away after the last answer, so that unread octets do not turn
/// into a reset that overtakes it: enough for the rest of a body that was refused.
const LINGER_OCTETS: usize = 64 * 1024;
/// How long that is done.
const LINGER: Duration = Duration::from_secs(2);
/// How long the goodbye (`close_notify`, FIN) may take.
const GOODBYE: Duration = Duration::from_secs(1);

thread_local! {
    // One for all connections of the thread: a waiting connection holds no read buffer.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
}

/// A byte stream and what was read of it and not yet used.
pub(super) struct Socket<IO> {
    io: IO,
    lease: Lease,
    /// Octets read and not yet used.
    pub(super) buf: BytesMut,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Socket<IO> {
    pub(super) fn new(io: IO, lease: Lease) -> Self {
        Self { io, lease, buf: BytesMut::new() }
    }

    /// Gives the memory back when nothing is pending.
    pub(super) fn release(&mut self) {
        if self.buf.is_empty() {
            self.buf = BytesMut::new();
        }
    }

    /// Reads what there is, at most `room` octets; 0 is the end.
    pub(super) async fn fill(&mut self, room: usize) -> io::Result<usize> {
        poll_fn(|cx| self.poll_fill(cx, room)).await
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut part = ReadBuf::new(&mut scratch[..room.min(READ)]);
            ready!(Pin::new(&mut self.io).poll_read(cx, &mut part))?;
            self.buf.extend_from_slice(part.filled());
            Poll::Ready(Ok(part.filled().len()))
        })
    }

    /// Reads more of a request before `deadline`.
    pub(super) async fn more(&mut self, deadline: Instant) -> Result<(), Stop> {
        let lease = self.lease.clone();
        tokio::select! {
            biased;
            read = timeout_at(deadline, self.fill(READ)) => match read {
                Ok(Ok(1..)) => Ok(()),
                Ok(Ok(0) | Err(_)) => Err(Stop::Gone),
                Err(_elapsed) => Err(Refusal::TimedOut.into()),
            },
            _now = lease.asked_more_than(Asked::HandOver) => Err(Stop::drained()),
        }
    }

    /// Returns when nobody waits for an answer any more: the sender closed or broke the
    /// connection, or the drain's deadline passed. Reads ahead up to `bound` octets; with more
    /// than that the end is not seen, which is the sender's doing.
    pub(super) async fn left(&mut self, bound: usize) {
        let lease = self.lease.clone();
        let end = async {
            while self.buf.len() < bound {
                match self.fill(bound - self.buf.len()).await {
                    Ok(1..) => {}
                    Ok(0) | Err(_) => return,
                }
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = end => {}
            _now = lease.asked_more_than(Asked::HandOver) => {}
        }
    }

    /// Writes and flushes; false when that failed, took longer than `limit`, or the drain's
    /// deadline passed while the sender did not read.
    pub(super) async fn write(&mut self, bytes: &[u8], limit: Duration) -> bool {
        let lease = self.lease.clone();
        let write = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        tokio::select! {
            biased;
            done = timeout(limit, write) => matches!(done, Ok(Ok(()))),
            _now = lease.asked_more_than(Asked::HandOver) => false,
        }
    }

    /// Ends our side; with `linger` the rest of what the sender still sends is read, bounded.
    pub(super) async fn close(mut self, linger: bool) {
        self.buf = BytesMut::new();
        if !matches!(timeout(GOODBYE, self.io.shutdown()).await, Ok(Ok(()))) || !linger {
            return;
        }
        let lease = self.lease.clone();
        let rest = async {
            let mut left = LINGER_OCTETS;
            while left > 0 {
                let Ok(read @ 1..) = self.fill(left).await else { return };
                self.buf.clear();
                left -= read;
            }
        };
        tokio::select! {
            _over = timeout(LINGER, rest) => {}
            _now = lease.asked_more_than(Asked::HandOver) => {}
        }
    }
}
