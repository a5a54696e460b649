//! HTTP/1.0 and HTTP/1.1 with a sender: one connection, its requests one after the other.
//!
//! Strict, bounded, timed. The codec (`head`, `body`, `reply`) is pure; here are the socket and the
//! clocks. A request is read whole before anything is done with it, an answer leaves in one write,
//! nothing is ever chunked. Knows no route and no provider: those are behind [`Handle`].

mod body;
mod head;
mod reply;
mod socket;

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;

use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use self::body::{BodyReader, Framing};
use self::head::{HeadFault, HeadReader, ParsedHead, parse_head};
use self::reply::Then;
use self::socket::Socket;
use super::lease::{Asked, GRACE, Lease};
use super::{Answer, Exchange, Handle, Head, Presence, Reply, Sender, Wire};
use crate::hop::{Hop, HopError, HopErrorKind, Stage};
use crate::relay::Permit;
use crate::relay::outcome::{Refusal, RelayError};

/// Bounds of one connection. `Default` has the times that the product ships with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Http1Limits {
    /// Largest head, octets; also the most that is read ahead while an exchange is in flight.
    pub head: usize,
    /// From the first octet of a head to its end.
    pub head_timeout: Duration,
    /// From the beginning of the connection to the end of its first head.
    pub first_head_timeout: Duration,
    /// From the end of a head to the end of its body.
    pub body_timeout: Duration,
    /// Writing one answer.
    pub write_timeout: Duration,
    /// Silence after an answer; longer than the 90 s that senders keep a connection themselves.
    pub idle_timeout: Duration,
}

impl Default for Http1Limits {
    fn default() -> Self {
        Self {
            head: 16 * 1024,
            head_timeout: Duration::from_secs(10),
            first_head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(15),
            write_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(180),
        }
    }
}

/// Serves a connection until either side ends it. Returns when it is closed.
///
/// Drop it only when its exchanges may be lost; to end it in order, ask its lease.
pub async fn serve<IO, H>(
    io: IO,
    sender: Rc<Sender>,
    handle: Rc<H>,
    limits: Http1Limits,
    lease: Lease,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
    H: Handle,
{
    let socket = Socket::new(io, lease.clone());
    let ready = Instant::now();
    let mut connection = Connection { socket, sender, handle, limits, lease, ready };
    let linger = connection.run().await == Next::Linger;
    // Boxed, as an exchange is: an idle connection shall not hold its state.
    Box::pin(connection.socket.close(linger)).await;
}

struct Connection<IO, H> {
    socket: Socket<IO>,
    sender: Rc<Sender>,
    handle: Rc<H>,
    limits: Http1Limits,
    lease: Lease,
    ready: Instant,
}

/// How a connection goes on after an exchange, or why one ended before it was whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// With the next request.
    Continue,
    /// It ends; the sender must still be able to read what was written.
    Linger,
    /// It ends; nothing was said, or nobody listens.
    Close,
}

/// An exchange counts as in flight from its head to its flushed answer, however it ends.
struct InFlight(Lease);

impl InFlight {
    fn begin(lease: &Lease) -> Self {
        lease.begin();
        Self(lease.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl<IO, H> Connection<IO, H>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    H: Handle,
{
    async fn run(&mut self) -> Next {
        loop {
            self.socket.release();
            if self.socket.buf.is_empty() && !self.quiet().await {
                return Next::Close;
            }
            // Boxed: an exchange's state is some kilobytes, an idle connection shall not hold it.
            match Box::pin(self.request()).await {
                Next::Continue => {}
                end @ (Next::Linger | Next::Close) => return end,
            }
        }
    }

    /// Waits for the first octets of a request; false: the connection ends in silence.
    async fn quiet(&mut self) -> bool {
        let mut deadline = if self.lease.served() {
            Instant::now() + self.limits.idle_timeout
        } else {
            self.ready + self.limits.first_head_timeout
        };
        let mut seen = Asked::Nothing;
        loop {
            tokio::select! {
                biased;
                read = timeout_at(deadline, self.socket.fill(self.limits.head)) => {
                    return matches!(read, Ok(Ok(1..)));
                }
                asked = self.lease.asked_more_than(seen) => {
                    if asked == Asked::EndNow {
                        return false;
                    }
                    seen = asked;
                    let quiet = match self.lease.quiet_since() {
                        Some(since) if self.lease.served() => since.elapsed(),
                        Some(_) | None => Duration::ZERO,
                    };
                    deadline = deadline.min(Instant::now() + GRACE.saturating_sub(quiet));
                }
            }
        }
    }

    /// One request, from its first octets to the flushed answer.
    async fn request(&mut self) -> Next {
        let started = Instant::now();
        let mut deadline = started + self.limits.head_timeout;
        if !self.lease.served() {
            deadline = deadline.min(self.ready + self.limits.first_head_timeout);
        }
        let bytes = match self.read_head(deadline).await {
            Ok(bytes) => bytes,
            Err(Stop::Fault(error)) => return self.refuse(None, None, error).await,
            Err(Stop::Gone | Stop::Nothing) => return Next::Close,
        };
        let in_flight = InFlight::begin(&self.lease);
        let fallback = self.sender.tls.as_ref().and_then(|tls| tls.sni.as_ref());
        let next = match parse_head(&bytes, fallback, started.into_std()) {
            Ok(parsed) => self.exchange(parsed).await,
            Err(HeadFault { refusal, head }) => {
                self.refuse(head.as_deref(), None, refusal.into()).await
            }
        };
        drop(in_flight);
        next
    }

    async fn read_head(&mut self, deadline: Instant) -> Result<Bytes, Stop> {
        let mut reader = HeadReader::default();
        loop {
            if let Some(bytes) = reader.take(&mut self.socket.buf, self.limits.head)? {
                return Ok(bytes);
            }
            let nothing = self.socket.buf.is_empty();
            match self.socket.more(deadline).await {
                // An empty line alone is no request that deserves an answer.
                Err(Stop::Fault(_)) if nothing => return Err(Stop::Nothing),
                other => other?,
            }
        }
    }

    async fn exchange(&mut self, parsed: ParsedHead) -> Next {
        let ParsedHead { head, framing, expects_continue, persistent } = parsed;
        let permit = match self.handle.permit(&head, &self.sender) {
            Ok(permit) => permit,
            Err(error) => return self.forbid(&head, framing, persistent, error).await,
        };
        let body = match self.read_body(framing, permit.body_limit, expects_continue).await {
            Ok(body) => body,
            Err(Stop::Fault(error)) => {
                return self.refuse(Some(&head), Some(&permit), error).await;
            }
            Err(Stop::Gone | Stop::Nothing) => {
                // For the log: there is nobody to answer.
                let early = Refusal::Malformed("the body ended early");
                self.handle.refuse(&self.sender, Some(&head), Some(&permit), early.into());
                return Next::Close;
            }
        };
        let (wire, to_head) = (head.wire, head.method == Method::HEAD);
        let presence = Presence::default();
        let sender = Rc::clone(&self.sender);
        let exchange = Exchange { head, permit, body, sender, presence: presence.clone() };
        match self.reply(exchange, &presence).await {
            Reply::Answer(answer) => {
                let goes_on = persistent && !presence.is_gone();
                self.answer(&answer, wire, to_head, goes_on).await
            }
            Reply::Refuse => Next::Close,
        }
    }

    async fn read_body(
        &mut self,
        framing: Framing,
        limit: usize,
        expects_continue: bool,
    ) -> Result<Bytes, Stop> {
        let deadline = Instant::now() + self.limits.body_timeout;
        let mut reader = BodyReader::new(framing, limit)?;
        // Whoever has sent some of it already does not wait for a 100 (RFC 9110 §10.1.1).
        let mut wanted = expects_continue && self.socket.buf.is_empty();
        loop {
            if let Some(body) = reader.take(&mut self.socket.buf)? {
                return Ok(body);
            }
            if std::mem::take(&mut wanted) {
                let go = b"HTTP/1.1 100 Continue\r\n\r\n";
                if !self.socket.write(go, self.limits.write_timeout).await {
                    return Err(Stop::Gone);
                }
            }
            self.socket.more(deadline).await?;
        }
    }

    /// Runs the handle to its end, whatever the sender does meanwhile.
    async fn reply(&mut self, exchange: Exchange, presence: &Presence) -> Reply {
        let handle = Rc::clone(&self.handle);
        let mut reply = pin!(handle.handle(exchange));
        tokio::select! {
            biased;
            reply = &mut reply => return reply,
            () = self.socket.left(self.limits.head) => {}
        }
        presence.leave();
        reply.await
    }

    async fn answer(&mut self, answer: &Answer, wire: Wire, to_head: bool, goes_on: bool) -> Next {
        let goes_on = goes_on && !answer.close && self.lease.asked() == Asked::Nothing;
        let then = if goes_on { Then::Continue } else { Then::Close };
        let bytes = reply::encode(answer, wire, to_head, then);
        if !self.socket.write(&bytes, self.limits.write_timeout).await {
            return Next::Close;
        }
        if goes_on { Next::Continue } else { Next::Linger }
    }

    /// A head that the rules forbid. A body that is already here is taken away, so that a sender
    /// with one wrong request keeps its connection; otherwise the connection ends.
    async fn forbid(
        &mut self,
        head: &Head,
        framing: Framing,
        persistent: bool,
        error: RelayError,
    ) -> Next {
        let body =
            BodyReader::new(framing, self.limits.head).map(|mut b| b.take(&mut self.socket.buf));
        let goes_on = persistent && matches!(body, Ok(Ok(Some(_))));
        let answer = self.handle.refuse(&self.sender, Some(head), None, error);
        self.answer(&answer, head.wire, head.method == Method::HEAD, goes_on).await
    }

    /// Something after which no further octet can be trusted to begin a request.
    async fn refuse(
        &mut self,
        head: Option<&Head>,
        permit: Option<&Permit>,
        error: RelayError,
    ) -> Next {
        let answer = self.handle.refuse(&self.sender, head, permit, error);
        let to_head = head.is_some_and(|head| head.method == Method::HEAD);
        self.answer(&answer, Wire::Http11, to_head, false).await
    }
}

/// Why a request did not become whole.
#[derive(Debug)]
enum Stop {
    /// There is something to say.
    Fault(RelayError),
    /// The sender closed or broke the connection.
    Gone,
    /// Nothing had begun.
    Nothing,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Fault(refusal.into())
    }
}

impl Stop {
    /// The drain's end came before the request was whole: proven unsent.
    fn drained() -> Self {
        let error = HopError::new(Hop::None, Stage::Queue, HopErrorKind::Draining);
        Self::Fault(RelayError::NotSent(error))
    }
}
