//! From an ended exchange to its access line, audit line and figures.

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::HeaderValue;
use serde::Deserialize;

use crate::config::{Route, RouteHost};
use crate::downstream::{Head, Reply, Sender};
use crate::hop::{HopError, clean};
use crate::metrics::Ended;
use crate::provider::Dialect;
use crate::telemetry::access::AccessRecord;
use crate::telemetry::audit::Place;
use crate::telemetry::redact;

use super::Records;
use super::outcome::{Outcome, RelayError};

/// Longest field of a sender's in a line, characters.
const FIELD_CAP: usize = 120;

/// Longest chain of causes in a line, characters.
const CAUSE_CAP: usize = 400;

/// Everything that is known at the end.
pub(super) struct Ending<'a> {
    pub(super) number: u64,
    pub(super) request_id: &'a str,
    pub(super) sender: &'a Sender,
    pub(super) head: Option<&'a Head>,
    pub(super) route: Option<&'a Arc<Route>>,
    pub(super) host: Option<&'a Arc<RouteHost>>,
    /// The apns-id as it left; it may be ours.
    pub(super) sent_id: Option<&'a HeaderValue>,
    pub(super) body: &'a [u8],
    pub(super) reply: &'a Reply,
    pub(super) outcome: Outcome,
    pub(super) error: Option<&'a RelayError>,
    pub(super) replays: u8,
    pub(super) upstream: Option<Leg>,
}

/// What the way beyond the relay was like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leg {
    /// Number and protocol of the connection, where an answer came.
    pub(super) connection: Option<(u64, &'static str)>,
    /// From handing over to the end.
    pub(super) took: Duration,
}

impl Ending<'_> {
    fn cause(&self) -> Option<&HopError> {
        match self.error? {
            RelayError::NotSent(cause) | RelayError::Unknown(cause) => Some(cause),
            RelayError::Refused(_) => None,
        }
    }

    fn took(&self) -> Duration {
        self.head.map_or(Duration::ZERO, |head| head.started.elapsed())
    }
}

/// Writes an ending down, everywhere.
pub(super) fn write(to: &Records, ending: &Ending<'_>, place: Option<Place>) {
    let refusal = match ending.error {
        Some(RelayError::Refused(refusal)) => Some(refusal),
        Some(RelayError::NotSent(_) | RelayError::Unknown(_)) | None => None,
    };
    to.metrics.exchange_ended(&Ended {
        listener: &ending.sender.listener.name,
        route: ending.route.map_or("", |route| &route.name),
        wire: ending.head.map_or("", |head| head.wire.word()),
        outcome: ending.outcome,
        cause: ending.cause(),
        refusal,
        stream_refused: matches!(ending.reply, Reply::Refuse),
        replays: ending.replays,
        took: ending.took(),
        upstream: ending.upstream.map(|leg| leg.took),
    });
    let wanted = to.access.wants(ending.outcome == Outcome::Accepted, ending.number);
    if !wanted && to.audit.is_none() {
        return;
    }
    let record = record(ending);
    if let Some(audit) = &to.audit {
        audit.record(record.clone(), place);
    }
    if wanted {
        to.access.write(record);
    }
}

fn record(ending: &Ending<'_>) -> AccessRecord {
    let (sender, head) = (ending.sender, ending.head);
    let tls = sender.tls.as_ref();
    let field = |name: &str| {
        let value = head.and_then(|head| head.headers.get(name));
        value.map(|value| clean(value.as_bytes(), FIELD_CAP))
    };
    let apns = ending.host.is_some_and(|host| host.dialect == Dialect::Apns);
    let credential =
        head.filter(|_head| apns).and_then(|head| sender.bearer.credential(&head.headers));
    let (status, bytes_out) = match ending.reply {
        Reply::Answer(answer) => (answer.status.as_u16(), answer.body.len()),
        Reply::Refuse => (0, 0),
    };
    let (upstream, upstream_protocol) = ending.upstream.and_then(|leg| leg.connection).unzip();
    let micros = |took: Duration| u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    AccessRecord {
        time: SystemTime::now().checked_sub(ending.took()).unwrap_or(SystemTime::UNIX_EPOCH),
        request_id: ending.request_id.to_owned(),
        connection: sender.connection,
        listener: sender.listener.name.clone(),
        client: sender.client.to_string(),
        certificate: tls
            .and_then(|tls| tls.certificate.as_ref())
            .map(|subject| clean(subject.as_bytes(), FIELD_CAP)),
        sni: tls.and_then(|tls| tls.sni.as_ref()).map(ToString::to_string),
        alpn: tls.and_then(|tls| tls.alpn.clone()),
        wire: head.map_or("", |head| head.wire.word()),
        route: ending.route.map(|route| route.name.clone()).unwrap_or_default(),
        host: head.map(|head| head.host.to_string()).unwrap_or_default(),
        method: head.map(|head| clean(head.method.as_str().as_bytes(), 16)).unwrap_or_default(),
        path: head.map(|head| redact::path(&head.target)).unwrap_or_default(),
        team: credential.as_ref().map(|credential| credential.team.to_string()),
        key: credential.as_ref().map(|credential| credential.key.to_string()),
        topic: field("apns-topic"),
        push_type: field("apns-push-type"),
        apns_id: ending
            .sent_id
            .map(|id| clean(id.as_bytes(), FIELD_CAP))
            .or_else(|| field("apns-id")),
        ack_id: ack_id(ending),
        status,
        outcome: ending.outcome.word(),
        hop: ending.cause().map_or("", |cause| cause.hop.word()),
        stage: ending.cause().map_or("", |cause| cause.stage.word()),
        cause: ending.error.map(chain),
        replays: ending.replays,
        upstream,
        upstream_protocol,
        took_us: micros(ending.took()),
        upstream_us: ending.upstream.map_or(0, |leg| micros(leg.took)),
        bytes_in: ending.body.len(),
        bytes_out,
        user_agent: field("user-agent"),
    }
}

/// The error and what is underneath, joined once, here.
fn chain(error: &RelayError) -> String {
    let mut text = error.to_string();
    // A refusal says itself already.
    let mut source = match error {
        RelayError::NotSent(_) | RelayError::Unknown(_) => error.source(),
        RelayError::Refused(_) => None,
    };
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    clean(text.as_bytes(), CAUSE_CAP)
}

#[derive(Deserialize)]
struct Acknowledged {
    ack_id: Option<String>,
    id: Option<String>,
}

/// Of a Mattermost push its `ack_id`, of an acknowledgement its `id`: both are the same random
/// name and no content.
fn ack_id(ending: &Ending<'_>) -> Option<String> {
    if ending.host?.dialect != Dialect::Mattermost {
        return None;
    }
    let body: Acknowledged = serde_json::from_slice(ending.body).ok()?;
    let id = body.ack_id.or(body.id).filter(|id| !id.is_empty())?;
    Some(clean(id.as_bytes(), 64))
}
