//! `Proxy-Status` (RFC 9209): written on every answer of our own, read from a relay beyond.

use http::{HeaderMap, HeaderValue};

use crate::hop::{Hop, HopError, HopErrorKind, Stage, clean};
use crate::relay::outcome::{Outcome, Refusal, RelayError};

/// How we call ourselves in it: the product, never a host name.
const NAME: &str = "pushrelay";

/// Longest `details`, characters.
const DETAILS_CAP: usize = 200;

/// Most members and parameters looked at in a relay's line; ours has one member of four.
const MEMBERS_CAP: usize = 32;

/// What a relay beyond reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    /// Its outcome.
    pub outcome: Outcome,
    /// The hop in its details.
    pub hop: Option<Hop>,
    /// The stage in its details.
    pub stage: Option<Stage>,
    /// Its details, cleaned and capped.
    pub details: Option<String>,
}

/// Our member: `pushrelay; error=...; details="hop stage cause"; outcome=...; request-id="..."`.
pub fn ours(error: &RelayError, request_id: &str) -> HeaderValue {
    let value = format!("{}; request-id={}", explained(error), string(request_id));
    HeaderValue::from_str(&value).expect("a token and sf-strings are visible ASCII")
}

/// The same for a tunnel that could not be opened: nothing was sent, and no request has an id.
pub fn tunnel(error: &HopError) -> HeaderValue {
    HeaderValue::from_str(&explained(&RelayError::NotSent(error.share())))
        .expect("a token and sf-strings are visible ASCII")
}

fn explained(error: &RelayError) -> String {
    let details = match error {
        RelayError::NotSent(cause) | RelayError::Unknown(cause) => {
            format!("{} {} {}", cause.hop, cause.stage, cause.kind)
        }
        RelayError::Refused(refusal) => format!("sender request {refusal}"),
    };
    format!(
        "{NAME}; error={}; details={}; outcome={}",
        error_type(error),
        string(&details),
        error.outcome(),
    )
}

/// The member that a signed chain carries on a genuine answer, too.
pub fn passed(outcome: Outcome, request_id: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("{NAME}; outcome={outcome}; request-id={}", string(request_id)))
        .expect("a token and sf-strings are visible ASCII")
}

/// An sf-string (RFC 8941 §3.3.3): visible ASCII and blanks, quotes and backslashes escaped.
fn string(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars().take(DETAILS_CAP) {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            _other => out.push('?'),
        }
    }
    out.push('"');
    out
}

/// What the relay nearest to us reported: the last member of ours (RFC 9209 §2: the first is
/// nearest to the origin).
pub fn reported(headers: &HeaderMap) -> Option<Reported> {
    let lines = headers.get_all("proxy-status").iter().filter_map(|line| line.to_str().ok());
    let members: Vec<&str> = lines.flat_map(|line| split(line, b',')).take(MEMBERS_CAP).collect();
    members.into_iter().rev().find_map(member)
}

fn member(member: &str) -> Option<Reported> {
    let mut parts = split(member, b';').into_iter();
    if parts.next()?.trim() != NAME {
        return None;
    }
    let (mut outcome, mut details) = (None, None);
    for part in parts.take(MEMBERS_CAP) {
        let Some((key, value)) = part.split_once('=') else {
            continue;
        };
        match key.trim() {
            "outcome" => outcome = outcome_of(value.trim()),
            "details" => details = Some(unquote(value.trim())),
            _unknown => {}
        }
    }
    let mut words = details.as_deref().unwrap_or_default().split(' ');
    let (hop, stage) = (words.next().and_then(hop_of), words.next().and_then(stage_of));
    Some(Reported { outcome: outcome?, hop, stage, details })
}

fn split(text: &str, separator: u8) -> Vec<&str> {
    let (mut parts, mut from, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _any if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            other if other == separator && !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _other => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn unquote(text: &str) -> String {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let plain = inner.replace("\\\"", "\"").replace("\\\\", "\\");
    clean(plain.as_bytes(), DETAILS_CAP)
}

fn outcome_of(word: &str) -> Option<Outcome> {
    use Outcome::{Accepted, NotSent, ProviderRefused, RelayRefused, Unknown};
    let all = [Accepted, NotSent, ProviderRefused, RelayRefused, Unknown];
    all.into_iter().find(|outcome| outcome.word() == word)
}

fn hop_of(word: &str) -> Option<Hop> {
    Hop::ALL.iter().copied().find(|hop| hop.word() == word)
}

fn stage_of(word: &str) -> Option<Stage> {
    // Pushes wait before the ladder's first rung.
    let all = std::iter::once(&Stage::Queue).chain(Stage::LADDER);
    all.copied().find(|stage| stage.word() == word)
}

/// The error types of RFC 9209 §2.3.
pub fn error_type(error: &RelayError) -> &'static str {
    match error {
        RelayError::NotSent(cause) | RelayError::Unknown(cause) => cause_type(cause),
        RelayError::Refused(refusal) => match refusal {
            Refusal::CertificateAuthentication
            | Refusal::Identity(_)
            | Refusal::Method
            | Refusal::Path
            | Refusal::Signature(_)
            | Refusal::Size
            | Refusal::Topic => "http_request_denied",
            Refusal::Coding
            | Refusal::Expectation
            | Refusal::HeadTooLarge
            | Refusal::Malformed(_)
            | Refusal::Misdirected(_)
            | Refusal::TimedOut => "http_request_error",
        },
    }
}

fn cause_type(cause: &HopError) -> &'static str {
    match &cause.kind {
        HopErrorKind::AlpnNotH2 { .. } => "tls_protocol_error",
        HopErrorKind::Alert(_) => "tls_alert_received",
        HopErrorKind::BudgetExhausted | HopErrorKind::Overloaded => "connection_limit_reached",
        HopErrorKind::Certificate { .. } => "tls_certificate_error",
        HopErrorKind::Closed | HopErrorKind::GoAway { .. } | HopErrorKind::Reset { .. } => {
            "connection_terminated"
        }
        HopErrorKind::CredentialsLatched
        | HopErrorKind::CredentialsMissing(_)
        | HopErrorKind::CredentialsRefused(_)
        | HopErrorKind::CredentialsUnusable(_) => "proxy_configuration_error",
        HopErrorKind::Draining | HopErrorKind::SenderGone | HopErrorKind::Unrecorded => {
            "proxy_internal_response"
        }
        HopErrorKind::ForeignAnswer { .. } | HopErrorKind::Protocol(_) => "http_protocol_error",
        HopErrorKind::Io(_) | HopErrorKind::ProxyRefused(_) => "destination_unavailable",
        HopErrorKind::Loop(_) => "proxy_loop_detected",
        HopErrorKind::NameNotFound | HopErrorKind::NameRefused(_) => "dns_error",
        HopErrorKind::NotTheProtocol { expected, .. } => match *expected {
            "TLS" => "tls_protocol_error",
            _http => "http_protocol_error",
        },
        HopErrorKind::Refused => "connection_refused",
        HopErrorKind::Timeout => timeout_type(cause.stage),
        HopErrorKind::Unreachable => "destination_ip_unroutable",
    }
}

const fn timeout_type(stage: Stage) -> &'static str {
    match stage {
        Stage::Resolve => "dns_timeout",
        Stage::Queue
        | Stage::Tcp
        | Stage::ProxyTls
        | Stage::Connect
        | Stage::Tls
        | Stage::Alpn
        | Stage::Settings => "connection_timeout",
        Stage::Ping => "connection_read_timeout",
        Stage::Request => "http_response_timeout",
    }
}
