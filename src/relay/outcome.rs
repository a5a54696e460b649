//! How an exchange can end, and why; the types that every answer and every log line is made from.

use std::fmt;

use crate::hop::HopError;

/// The outcome of an exchange, in words; a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Outcome {
    /// The provider's 2xx.
    Accepted,
    /// Proven unprocessed.
    NotSent,
    /// Another answer of the provider's, passed on.
    ProviderRefused,
    /// By our rules.
    RelayRefused,
    /// May have been processed.
    Unknown,
}

impl Outcome {
    /// The word in logs, metrics and `Proxy-Status`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::NotSent => "not_sent",
            Self::ProviderRefused => "provider_refused",
            Self::RelayRefused => "relay_refused",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Why the relay answers by itself.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// Proven unprocessed, and given up.
    #[error("not sent")]
    NotSent(#[source] HopError),
    /// Our rules say no.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// It left, and no answer of the provider's came back.
    #[error("outcome unknown")]
    Unknown(#[source] HopError),
}

impl RelayError {
    /// The outcome that this error means.
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::NotSent(_) => Outcome::NotSent,
            Self::Refused(_) => Outcome::RelayRefused,
            Self::Unknown(_) => Outcome::Unknown,
        }
    }
}

/// A rule of ours that was broken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A coding that we do not decode (501).
    #[error("the transfer coding is not supported")]
    Coding,
    /// A sender that authenticates by APNs certificate on a terminated route (403).
    #[error(
        "the sender authenticates with a certificate, which cannot cross TLS termination: \
         configure provider_identity or tls: passthrough"
    )]
    CertificateAuthentication,
    /// `Expect` with anything but 100-continue (417).
    #[error("the expectation cannot be met")]
    Expectation,
    /// The head is too large (431).
    #[error("the request head is too large")]
    HeadTooLarge,
    /// Key or team is not in the route's allowlist (403).
    #[error("the {0} is not allowed on this route")]
    Identity(&'static str),
    /// Not HTTP as it should be (400).
    #[error("malformed request: {0}")]
    Malformed(&'static str),
    /// The method is not permitted (405).
    #[error("the method is not permitted here")]
    Method,
    /// No route names this host, or SNI leads elsewhere (421).
    #[error("{0}")]
    Misdirected(&'static str),
    /// The path is not permitted (404).
    #[error("the path is not permitted here")]
    Path,
    /// A chain signature is missing, wrong, old or repeated (403).
    #[error("the chain signature is not acceptable: {0}")]
    Signature(&'static str),
    /// The body is too large (413).
    #[error("the body is larger than the route permits")]
    Size,
    /// The sender took too long (408).
    #[error("the request did not arrive in time")]
    TimedOut,
    /// The topic is not in the route's allowlist (403).
    #[error("the topic is not allowed on this route")]
    Topic,
}
