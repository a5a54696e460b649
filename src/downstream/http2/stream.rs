//! One HTTP/2 exchange: head, permit, body, handler, answer; a task of its own.
//!
//! Frames are part of the contract with push libraries: HEADERS with END_STREAM, or HEADERS and
//! one DATA with END_STREAM; never trailers or an empty DATA, and no 1xx but the 100 that a sender
//! asked for (R1).

use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Shared, head};
use crate::downstream::lease::Asked;
use crate::downstream::{Answer, Exchange, Handle, Head, Presence, Reply};
use crate::hop::{Hop, HopError, HopErrorKind, Stage};
use crate::relay::Permit;
use crate::relay::outcome::{Refusal, RelayError};

/// Of a body that was refused, so much is still read, so that the sender sees the answer and not a
/// reset: more than any push, less than an upload.
const REFUSED_BODY: usize = 256 * 1024;

/// Counts a task of a connection while it lives.
struct Running<H>(Rc<Shared<H>>);

impl<H> Drop for Running<H> {
    fn drop(&mut self) {
        self.0.running.set(self.0.running.get() - 1);
        self.0.changed.notify_one();
    }
}

/// Counts an exchange of the lease while it lives.
struct InFlight<H>(Rc<Shared<H>>);

impl<H> Drop for InFlight<H> {
    fn drop(&mut self) {
        self.0.lease.end();
    }
}

/// Starts the task of a stream.
pub(super) fn start<H: Handle>(
    shared: &Rc<Shared<H>>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let running = shared.running.get() + 1;
    shared.running.set(running);
    shared.lease.begin();
    let guard = (InFlight(Rc::clone(shared)), Running(Rc::clone(shared)));
    // Streams that the sender reset do not count for h2 but still run here: without this bound,
    // opening and resetting would pile up exchanges.
    let crowded = running > shared.limits.streams.saturating_mul(2);
    let shared = Rc::clone(shared);
    // Boxed: spawning moves a future several times, and this one has some kilobytes.
    tokio::task::spawn_local(Box::pin(async move {
        let _guard = guard;
        Stream { shared, respond, opened: Instant::now() }.run(request, crowded).await;
    }));
}

struct Stream<H> {
    shared: Rc<Shared<H>>,
    respond: SendResponse<Bytes>,
    opened: Instant,
}

/// Why a body did not arrive.
enum BodyFault {
    Refused(Refusal),
    /// The sender reset the stream, went away, or broke HTTP/2 (h2 has answered that).
    Gone,
}

impl<H: Handle> Stream<H> {
    async fn run(mut self, request: Request<RecvStream>, crowded: bool) {
        let (parts, mut body) = request.into_parts();
        let limits = self.shared.limits;
        let tls = self.shared.sender.tls.is_some();
        let head = match head::read(parts, tls, limits.head, self.opened.into_std()) {
            Ok(head) => head,
            Err((refusal, head)) => {
                return self.refuse(head.as_deref(), None, refusal.into(), body).await;
            }
        };
        if crowded {
            let full = HopError::new(Hop::Sender, Stage::Queue, HopErrorKind::Overloaded);
            return self.refuse(Some(&head), None, RelayError::NotSent(full), body).await;
        }
        let permit = match self.shared.handle.permit(&head, &self.shared.sender) {
            Ok(permit) => permit,
            Err(error) => return self.refuse(Some(&head), None, error, body).await,
        };
        if head.headers.contains_key(header::EXPECT) && !body.is_end_stream() {
            self.invite();
        }
        let whole = match self.body(&mut body, &head, permit.body_limit).await {
            Ok(whole) => whole,
            Err(BodyFault::Refused(refusal)) => {
                return self.refuse(Some(&head), Some(&permit), refusal.into(), body).await;
            }
            Err(BodyFault::Gone) => return self.shared.peer_reset(self.opened),
        };
        drop(body);
        self.exchange(head, permit, whole).await;
    }

    /// The 100 that was asked for (RFC 9110 §10.1.1 demands it of every version): Java's client
    /// sends no body before it.
    fn invite(&mut self) {
        let mut interim = Response::new(());
        *interim.status_mut() = StatusCode::CONTINUE;
        // Fails only on a stream that is gone, which reading the body tells.
        let _ = self.respond.send_informational(interim);
    }

    /// The body, whole, or why not.
    async fn body(
        &self,
        body: &mut RecvStream,
        head: &Head,
        limit: usize,
    ) -> Result<Bytes, BodyFault> {
        let announced = head
            .headers
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|announced| announced > limit) {
            return Err(BodyFault::Refused(Refusal::Size));
        }
        let deadline = self.opened + self.shared.limits.body;
        let mut whole = BytesMut::new();
        loop {
            let data = match timeout_at(deadline, body.data()).await {
                Ok(data) => data,
                Err(_elapsed) => return Err(BodyFault::Refused(Refusal::TimedOut)),
            };
            match data {
                None => return Ok(whole.freeze()),
                Some(Err(_broken)) => return Err(BodyFault::Gone),
                Some(Ok(data)) => {
                    if whole.len() + data.len() > limit {
                        return Err(BodyFault::Refused(Refusal::Size));
                    }
                    // Fails only on a stream that is gone, which the next read tells.
                    let _ = body.flow_control().release_capacity(data.len());
                    whole.extend_from_slice(&data);
                }
            }
        }
    }

    async fn exchange(mut self, head: Head, permit: Permit, body: Bytes) {
        let presence = Presence::default();
        let bodiless = head.method == Method::HEAD;
        let exchange = Exchange {
            head,
            permit,
            body,
            sender: Rc::clone(&self.shared.sender),
            presence: presence.clone(),
        };
        let handle = Rc::clone(&self.shared.handle);
        let mut work = pin!(handle.handle(exchange));
        let reply = tokio::select! {
            biased;
            reply = &mut work => reply,
            _ = poll_fn(|cx| self.respond.poll_reset(cx)) => {
                presence.leave();
                self.shared.peer_reset(self.opened);
                work.await;
                return;
            }
        };
        match reply {
            Reply::Answer(answer) => self.answer(answer, bodiless).await,
            Reply::Refuse => self.respond.send_reset(Reason::REFUSED_STREAM),
        }
    }

    async fn refuse(
        &mut self,
        head: Option<&Head>,
        permit: Option<&Permit>,
        error: RelayError,
        body: RecvStream,
    ) {
        // Whoever lets a body hang is broken or hostile; the next connection may do better.
        if matches!(&error, RelayError::Refused(Refusal::TimedOut)) {
            self.shared.lease.ask(Asked::EndWhenQuiet);
        }
        let bodiless = head.is_some_and(|head| head.method == Method::HEAD);
        let answer = self.shared.handle.refuse(&self.shared.sender, head, permit, error);
        self.answer(answer, bodiless).await;
        discard(body, self.opened + self.shared.limits.body).await;
    }

    async fn answer(&mut self, answer: Answer, bodiless: bool) {
        let limit = self.shared.limits.write;
        match timeout(limit, write(&mut self.respond, answer, bodiless)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(client = %self.shared.sender.client, %error, "answer not written");
            }
            Err(_elapsed) => {
                tracing::info!(
                    client = %self.shared.sender.client,
                    "the sender opened no window for its answer; the stream is reset"
                );
                self.respond.send_reset(Reason::CANCEL);
                self.shared.lease.ask(Asked::EndWhenQuiet);
            }
        }
    }
}

/// Queues an answer. Everything that fits the sender's window is queued before the connection's
/// task runs again, so that HEADERS and DATA leave in one TLS record.
async fn write(
    respond: &mut SendResponse<Bytes>,
    answer: Answer,
    bodiless: bool,
) -> Result<(), h2::Error> {
    let mut response = Response::new(());
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    if answer.body.is_empty() {
        respond.send_response(response, true)?;
        return Ok(());
    }
    let length = HeaderValue::from(answer.body.len());
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    let mut stream = respond.send_response(response, bodiless)?;
    if bodiless {
        return Ok(());
    }
    send(&mut stream, answer.body).await
}

async fn send(stream: &mut SendStream<Bytes>, mut body: Bytes) -> Result<(), h2::Error> {
    stream.reserve_capacity(body.len());
    while stream.capacity() < body.len() {
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            // The stream is no longer ours to write.
            None => return Ok(()),
            Some(Err(error)) => return Err(error),
            // Never an empty DATA frame.
            Some(Ok(0)) => {}
            Some(Ok(capacity)) if capacity < body.len() => {
                // A window smaller than the answer: pieces are the only way on.
                stream.send_data(body.split_to(capacity), false)?;
                stream.reserve_capacity(body.len());
            }
            Some(Ok(_enough)) => {}
        }
    }
    stream.send_data(body, true)
}

/// Reads on and throws away.
async fn discard(mut body: RecvStream, deadline: Instant) {
    let mut left = REFUSED_BODY;
    while let Ok(Some(Ok(data))) = timeout_at(deadline, body.data()).await {
        if data.len() > left {
            return;
        }
        left -= data.len();
        // Fails only on a stream that is gone, which the next read tells.
        let _ = body.flow_control().release_capacity(data.len());
    }
}
