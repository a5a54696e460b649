//! The side of the senders: from an accepted socket to an exchange, by states that gain facts.
//!
//! `listener` accepts, `admit` judges the peer, `sniff` tells by the first bytes what is spoken,
//! `tls` ends TLS (or `passthrough` carries it), `http1` and `http2` read requests and write
//! replies, `connect` serves senders that use us as their proxy. Nothing here knows a provider:
//! rules, routing and answers are behind [`Handle`].

pub mod admit;
pub mod connect;
pub mod http1;
pub mod http2;
pub mod lease;
pub mod listener;
pub mod passthrough;
pub mod sniff;
pub mod tls;

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::Notify;

use crate::config::Listener;
use crate::names::{Host, HostName};
use crate::relay::Permit;
use crate::relay::outcome::RelayError;
use crate::relay::permit::bearer::Memo;

/// What is known of a connection once it may carry requests.
#[derive(Debug)]
pub struct Sender {
    /// Its number in the log, unique while the process lives.
    pub connection: u64,
    /// Where it arrived.
    pub listener: Arc<Listener>,
    /// The index of that listener in the configuration.
    pub listener_index: usize,
    /// Who: the TCP peer, or what its PROXY header says.
    pub client: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// TLS facts; `None` on plain connections.
    pub tls: Option<SenderTls>,
    /// The target of the CONNECT that led here.
    pub connect_target: Option<crate::names::Authority>,
    /// Its provider token, read once.
    pub bearer: Memo,
}

/// What the TLS handshake with a sender taught.
#[derive(Debug, Clone, Default)]
pub struct SenderTls {
    /// SNI, when it was sent and is a name.
    pub sni: Option<HostName>,
    /// The name whose leaf was shown.
    pub leaf: Option<HostName>,
    /// What the sender offered.
    pub alpn_offered: Vec<String>,
    /// What was chosen.
    pub alpn: Option<String>,
    /// `TLSv1.3`.
    pub version: String,
    /// Subject of the sender's certificate, verified against `sender_certificates`.
    pub certificate: Option<String>,
    /// The sender offered a certificate that is no `sender_certificates` one: APNs certificate
    /// authentication, which cannot cross termination.
    pub provider_certificate: bool,
}

/// Which HTTP a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Wire {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
    /// HTTP/2.
    Http2,
}

impl Wire {
    /// As in access lines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }
}

/// A request's head, syntactically sound; nothing is yet permitted.
#[derive(Debug, Clone)]
pub struct Head {
    /// Which HTTP.
    pub wire: Wire,
    /// The method.
    pub method: Method,
    /// `:authority`, the absolute-form's authority, or Host: one of them, already agreeing.
    pub host: Host,
    /// Its port, when one was written.
    pub port: Option<u16>,
    /// Path and query, beginning with `/` (or `*`).
    pub target: String,
    /// The fields as received, names in lower case, Host removed, `content-length` kept.
    pub headers: HeaderMap,
    /// When the first byte of the head arrived: the deadline counts from here.
    pub started: Instant,
}

/// One request, whole.
#[derive(Debug)]
pub struct Exchange {
    /// The head.
    pub head: Head,
    /// What `Handle::permit` found.
    pub permit: Permit,
    /// The body, complete.
    pub body: Bytes,
    /// The connection.
    pub sender: Rc<Sender>,
    /// Whether the sender still waits.
    pub presence: Presence,
}

/// The relay's word on an exchange.
#[derive(Debug)]
pub enum Reply {
    /// To be written as it is.
    Answer(Answer),
    /// Proven unsent, and the sender's client repeats refused streams: HTTP/2 RST_STREAM
    /// REFUSED_STREAM, HTTP/1.1 close without an answer.
    Refuse,
}

/// A complete answer; the codec adds framing only.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status, never 1xx.
    pub status: StatusCode,
    /// End-to-end fields; no `content-length`, no `connection`.
    pub headers: HeaderMap,
    /// The body; empty = none.
    pub body: Bytes,
    /// HTTP/1.1: close after it. HTTP/2: no meaning.
    pub close: bool,
}

/// What stands behind the codecs.
pub trait Handle: 'static {
    /// Routes and judges a head before its body is read. The permit holds the body's limit.
    fn permit(&self, head: &Head, sender: &Sender) -> Result<Permit, RelayError>;

    /// Carries an exchange; always ends, by the route's deadline. Runs to its end even when the
    /// sender goes away: [`Presence`] tells it.
    fn handle(&self, exchange: Exchange) -> impl Future<Output = Reply>;

    /// The answer for what never became an exchange; writes the access line. `head` and `permit`
    /// as far as known.
    fn refuse(
        &self,
        sender: &Sender,
        head: Option<&Head>,
        permit: Option<&Permit>,
        error: RelayError,
    ) -> Answer;
}

/// Whether the sender of an exchange still waits for it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Presence(Rc<PresenceState>);

#[derive(Default)]
struct PresenceState {
    gone: Cell<bool>,
    left: Notify,
}

impl Presence {
    /// Says that the sender went away: nothing unsent is sent any more.
    pub fn leave(&self) {
        self.0.gone.set(true);
        self.0.left.notify_waiters();
    }

    /// Has it gone?
    pub fn is_gone(&self) -> bool {
        self.0.gone.get()
    }

    /// Returns when it has gone.
    pub async fn gone(&self) {
        loop {
            let left = self.0.left.notified();
            if self.is_gone() {
                return;
            }
            left.await;
        }
    }
}

impl fmt::Debug for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_gone() { "Gone" } else { "Present" })
    }
}
