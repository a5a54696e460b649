//! The words of each dialect. A closed set: never a reason by which senders delete a device.

use http::StatusCode;
use serde_json::json;

use crate::hop::clean;
use crate::provider::Dialect;
use crate::relay::outcome::{Refusal, RelayError};

/// Longest sentence about a cause, characters; it lands in other programs' logs.
const CAUSE_CAP: usize = 200;

/// The body of a synthetic answer: JSON, never empty.
pub fn body(error: &RelayError, dialect: Dialect, status: StatusCode, request_id: &str) -> String {
    let said = sentence(error);
    let value = match dialect {
        Dialect::Apns => json!({ "reason": apns_reason(error) }),
        Dialect::Fcm => json!({ "error": {
            "code": status.as_u16(), "status": fcm_status(error, status), "message": said,
        } }),
        Dialect::Mattermost => json!({ "status": "FAIL", "error": said }),
        Dialect::OAuth2 => json!({
            "error": oauth_error(error),
            // RFC 6749 §5.2: neither quotation marks nor backslashes in here.
            "error_description": said.replace(['"', '\\'], "'"),
        }),
        Dialect::Plain => json!({
            "outcome": error.outcome().word(), "error": said, "request_id": request_id,
        }),
    };
    value.to_string()
}

/// `relay: <hop>: <cause>`, without addresses and without control characters.
fn sentence(error: &RelayError) -> String {
    let text = match error {
        RelayError::NotSent(cause) => format!("relay: {}: {}", cause.hop, cause.kind),
        RelayError::Refused(refusal) => format!("relay: refused: {refusal}"),
        RelayError::Unknown(cause) => {
            format!("relay: {}: outcome unknown: {}", cause.hop, cause.kind)
        }
    };
    clean(text.as_bytes(), CAUSE_CAP)
}

const fn apns_reason(error: &RelayError) -> &'static str {
    match error {
        RelayError::NotSent(_) => "ServiceUnavailable",
        RelayError::Unknown(_) => "RelayOutcomeUnknown",
        RelayError::Refused(refusal) => match refusal {
            Refusal::CertificateAuthentication
            | Refusal::Identity(_)
            | Refusal::Signature(_)
            | Refusal::Topic => "Forbidden",
            Refusal::Path => "BadPath",
            Refusal::Method => "MethodNotAllowed",
            Refusal::Size => "PayloadTooLarge",
            Refusal::Coding
            | Refusal::Expectation
            | Refusal::HeadTooLarge
            | Refusal::Malformed(_)
            | Refusal::Misdirected(_)
            | Refusal::TimedOut => "RelayRefused",
        },
    }
}

/// google.rpc.Code by name. Never NOT_FOUND: SDKs read it as an unregistered device.
fn fcm_status(error: &RelayError, status: StatusCode) -> &'static str {
    match error {
        RelayError::NotSent(_) => "UNAVAILABLE",
        RelayError::Unknown(_) => "DEADLINE_EXCEEDED",
        RelayError::Refused(_) if status == StatusCode::FORBIDDEN => "PERMISSION_DENIED",
        RelayError::Refused(_) => "INVALID_ARGUMENT",
    }
}

/// RFC 6749 §4.1.2.1, §5.2: asking twice for a token harms nobody, so unknown is the same.
const fn oauth_error(error: &RelayError) -> &'static str {
    match error {
        RelayError::NotSent(_) | RelayError::Unknown(_) => "temporarily_unavailable",
        RelayError::Refused(_) => "access_denied",
    }
}
