//! One HTTP/1.1 connection to an origin that speaks no HTTP/2 (FCM and Mattermost behind old
//! proxies, an origin of one's own, a post relay behind an inspecting proxy).
//!
//! hyper does the codec; what is ours is the judgement of a failure: a connection that was used
//! before and closes without an answer leaves the outcome unknown (RFC 9112 §9.3.1).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{HOST, HeaderValue};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use super::Delivery;
use super::connection::{ANSWER_BODY, ExchangeFailure, beyond};
use super::dial::DialFacts;
use crate::hop::{HopError, HopErrorKind, Stage, clean};

/// An idle connection is kept no longer: servers and proxies close after 5 s and more, and a push
/// that meets their close would be `unknown`.
pub const IDLE_KEPT: Duration = Duration::from_secs(3);
/// Header fields of an answer.
const ANSWER_FIELDS: usize = 100;
/// Octets of an answer's head (hyper's least is 8192).
const ANSWER_HEAD: usize = 32 * 1024;

/// An open connection; one exchange at a time.
pub struct Connection {
    /// Its number, unique while the process lives.
    pub id: u64,
    /// What the dial taught.
    pub facts: DialFacts,
    send: RefCell<Option<SendRequest<Full<Bytes>>>>,
    idle_since: Cell<Instant>,
}

impl Connection {
    /// Takes a dialled stream over. `changed` is called when it ends.
    pub async fn open<IO>(
        id: u64,
        (io, facts): (IO, DialFacts),
        changed: Rc<dyn Fn()>,
    ) -> Result<Rc<Self>, HopError>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let hop = beyond(&facts);
        let (send, driver) = hyper::client::conn::http1::Builder::new()
            .max_headers(ANSWER_FIELDS)
            .max_buf_size(ANSWER_HEAD)
            .handshake(TokioIo::new(io))
            .await
            .map_err(|error| {
                HopError::new(hop, Stage::Request, HopErrorKind::Closed).caused_by(error)
            })?;
        tokio::task::spawn_local(async move {
            if let Err(error) = driver.await {
                tracing::debug!(connection = id, %error, "upstream connection ended");
            }
            changed();
        });
        Ok(Rc::new(Self {
            id,
            facts,
            send: RefCell::new(Some(send)),
            idle_since: Cell::new(Instant::now()),
        }))
    }

    /// Takes nothing more.
    pub fn is_retired(&self) -> bool {
        self.send.borrow().as_ref().is_none_or(SendRequest::is_closed)
    }

    /// Idle for too long to be trusted with a push?
    pub fn is_stale(&self) -> bool {
        self.idle_since.get().elapsed() > IDLE_KEPT
    }

    /// Closes it.
    pub fn retire(&self) {
        self.send.borrow_mut().take();
    }

    /// One request and its whole answer.
    pub async fn exchange(
        &self,
        request: &http::Request<Bytes>,
        deadline: Instant,
    ) -> Result<http::Response<Bytes>, ExchangeFailure> {
        let hop = beyond(&self.facts);
        let failure = |delivery, kind| ExchangeFailure {
            refused: false,
            delivery,
            cause: HopError::new(hop, Stage::Request, kind),
        };
        // Taken out for the exchange: a push that is given up takes its connection along.
        let Some(mut send) = self.send.borrow_mut().take() else {
            return Err(failure(Delivery::NotSent, HopErrorKind::Closed));
        };
        let sent = async {
            if send.ready().await.is_err() {
                return Err(failure(Delivery::NotSent, HopErrorKind::Closed));
            }
            let answer =
                send.try_send_request(origin_form(request)).await.map_err(|mut error| {
                    let unsent = error.take_message().is_some();
                    let delivery = if unsent { Delivery::NotSent } else { Delivery::Unknown };
                    let error = error.into_error();
                    let mut failed = failure(delivery, kind_of(&error));
                    failed.cause = failed.cause.caused_by(error);
                    failed
                })?;
            whole(answer).await.map_err(|kind| failure(Delivery::Unknown, kind))
        };
        match timeout_at(deadline, sent).await {
            Ok(Ok(answer)) => {
                self.idle_since.set(Instant::now());
                if !send.is_closed() {
                    *self.send.borrow_mut() = Some(send);
                }
                Ok(answer)
            }
            Ok(Err(failed)) => Err(failed),
            Err(_late) => Err(failure(Delivery::Unknown, HopErrorKind::Timeout)),
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).finish_non_exhaustive()
    }
}

fn origin_form(request: &http::Request<Bytes>) -> http::Request<Full<Bytes>> {
    let mut out = http::Request::new(Full::new(request.body().clone()));
    *out.method_mut() = request.method().clone();
    *out.headers_mut() = request.headers().clone();
    if let Some(authority) = request.uri().authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        out.headers_mut().insert(HOST, host);
    }
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    if let Ok(uri) = target.parse() {
        *out.uri_mut() = uri;
    }
    out
}

async fn whole(
    answer: http::Response<hyper::body::Incoming>,
) -> Result<http::Response<Bytes>, HopErrorKind> {
    let (head, mut body) = answer.into_parts();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| kind_of(&error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + data.len() > ANSWER_BODY {
            return Err(HopErrorKind::Protocol("an answer without end".to_owned()));
        }
        whole.extend_from_slice(&data);
    }
    Ok(http::Response::from_parts(head, whole.freeze()))
}

fn kind_of(error: &hyper::Error) -> HopErrorKind {
    if error.is_parse() {
        return HopErrorKind::NotTheProtocol {
            expected: "HTTP/1.1",
            seen: clean(error.to_string().as_bytes(), 80),
        };
    }
    HopErrorKind::Closed
}
