//! The relay's own answers: what a sender is told when the provider said nothing.
//!
//! Each dialect is the provider's own, so that senders understand it, and none holds a word that
//! makes a sender delete a device. What is said depends on what is known: proven unsent may be
//! repeated, unknown may not. Pure; the codecs add framing.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderName, StatusCode};

use crate::config::{WhenUnknown, WhenUnsent};
use crate::downstream::{Answer, Reply};
use crate::hop::HopErrorKind;
use crate::provider::Dialect;
use crate::provider::apns::APNS_ID;

use super::outcome::{Refusal, RelayError};

pub mod body;
pub mod proxy_status;

/// Once a lane has been down for this long, `when_unsent: auto` answers instead of refusing:
/// refused for ever, one push holds a worker of the Mattermost push proxy for 27 s.
pub const YOUNG_OUTAGE: Duration = Duration::from_secs(30);

/// `retry-after` of a push that was not sent, seconds: longer than a reconnect takes, far shorter
/// than the two minutes beyond which Google's SDK does not repeat at all.
const RETRY_AFTER_SECONDS: u16 = 5;

/// What the answer depends on besides the error.
#[derive(Debug, Clone, Copy)]
pub struct Setting<'a> {
    /// Whose words are used.
    pub dialect: Dialect,
    /// `when_unsent:` of the route.
    pub when_unsent: WhenUnsent,
    /// `when_unknown:` of the route.
    pub when_unknown: WhenUnknown,
    /// The sender's client repeats refused streams: an APNs route, Go's client, and no relay
    /// that signs. See [`repeats_refused_streams`].
    pub repeats_refused: bool,
    /// How long the lane has been down; `None` when it is up or was never tried.
    pub down_for: Option<Duration>,
    /// The push's id, sent or made up; echoed on APNs.
    pub apns_id: Option<&'a HeaderValue>,
    /// Ours, to find the access line by.
    pub request_id: &'a str,
}

/// Does the sender's client repeat a stream that was refused? Go's does, inside one call; aioapns
/// hangs on a reset and node-apn fails, so only Go's is ever refused.
pub fn repeats_refused_streams(headers: &HeaderMap) -> bool {
    let agent = headers.get(USER_AGENT).map(HeaderValue::as_bytes);
    agent.is_some_and(|agent| agent.starts_with(b"Go-http-client/"))
}

/// What becomes of an exchange that the provider did not answer.
pub fn reply(error: &RelayError, setting: &Setting<'_>) -> Reply {
    let unsent = match error {
        RelayError::NotSent(_) => setting.repeats_refused,
        RelayError::Refused(_) | RelayError::Unknown(_) => false,
    };
    let refuse = match setting.when_unsent {
        WhenUnsent::Answer => false,
        WhenUnsent::Auto => setting.down_for.is_none_or(|down| down < YOUNG_OUTAGE),
        WhenUnsent::Refuse => true,
    };
    if unsent && refuse {
        return Reply::Refuse;
    }
    Reply::Answer(synthetic(error, setting))
}

/// The answer that says what is known.
pub fn synthetic(error: &RelayError, setting: &Setting<'_>) -> Answer {
    let status = status(error, setting);
    let mut headers = HeaderMap::with_capacity(4);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let value = proxy_status::ours(error, setting.request_id);
    headers.insert(HeaderName::from_static("proxy-status"), value);
    if matches!(error, RelayError::NotSent(_)) {
        headers.insert(RETRY_AFTER, HeaderValue::from(RETRY_AFTER_SECONDS));
    }
    if setting.dialect == Dialect::Apns {
        // aioapns completes a push only by an answer with an id.
        let id = setting.apns_id.cloned().unwrap_or_else(super::translate::fresh_apns_id);
        headers.insert(&APNS_ID, id);
    }
    let body = Bytes::from(body::body(error, setting.dialect, status, setting.request_id));
    Answer { status, headers, body, close: ends_connection(error) }
}

fn status(error: &RelayError, setting: &Setting<'_>) -> StatusCode {
    match (error, setting.dialect) {
        (RelayError::NotSent(_) | RelayError::Unknown(_), Dialect::Mattermost) => StatusCode::OK,
        (
            RelayError::NotSent(_),
            Dialect::Apns | Dialect::Fcm | Dialect::OAuth2 | Dialect::Plain,
        )
        | (RelayError::Unknown(_), Dialect::OAuth2) => StatusCode::SERVICE_UNAVAILABLE,
        (RelayError::Unknown(_), Dialect::Fcm | Dialect::Plain) => StatusCode::GATEWAY_TIMEOUT,
        (RelayError::Unknown(_), Dialect::Apns) => match setting.when_unknown {
            WhenUnknown::Final => StatusCode::CONFLICT,
            WhenUnknown::Retry => StatusCode::GATEWAY_TIMEOUT,
        },
        (RelayError::Refused(refusal), Dialect::OAuth2) => match refusal_status(refusal) {
            StatusCode::FORBIDDEN => StatusCode::FORBIDDEN,
            _everything_else => StatusCode::BAD_REQUEST,
        },
        (
            RelayError::Refused(refusal),
            Dialect::Apns | Dialect::Fcm | Dialect::Mattermost | Dialect::Plain,
        ) => refusal_status(refusal),
    }
}

/// The status of each rule (RFC 9110 §15).
pub const fn refusal_status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::CertificateAuthentication
        | Refusal::Identity(_)
        | Refusal::Signature(_)
        | Refusal::Topic => StatusCode::FORBIDDEN,
        Refusal::Coding => StatusCode::NOT_IMPLEMENTED,
        Refusal::Expectation => StatusCode::EXPECTATION_FAILED,
        Refusal::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        Refusal::Malformed(_) => StatusCode::BAD_REQUEST,
        Refusal::Method => StatusCode::METHOD_NOT_ALLOWED,
        Refusal::Misdirected(_) => StatusCode::MISDIRECTED_REQUEST,
        Refusal::Path => StatusCode::NOT_FOUND,
        Refusal::Size => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::TimedOut => StatusCode::REQUEST_TIMEOUT,
    }
}

/// After these nobody knows where the next request would begin, or it is not worth waiting for.
const fn ends_connection(error: &RelayError) -> bool {
    match error {
        RelayError::NotSent(cause) => matches!(cause.kind, HopErrorKind::Draining),
        RelayError::Unknown(_) => false,
        RelayError::Refused(refusal) => match refusal {
            Refusal::Coding
            | Refusal::Expectation
            | Refusal::HeadTooLarge
            | Refusal::Malformed(_)
            | Refusal::Size
            | Refusal::TimedOut => true,
            Refusal::CertificateAuthentication
            | Refusal::Identity(_)
            | Refusal::Method
            | Refusal::Misdirected(_)
            | Refusal::Path
            | Refusal::Signature(_)
            | Refusal::Topic => false,
        },
    }
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
