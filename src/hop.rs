//! Who on the path is at fault, at which step, and what exactly happened.
//!
//! The words of `Hop` and `Stage` are a contract: they stand in log lines, metrics, `Proxy-Status`
//! and the probe's report. Traffic and probe share these types because they share the dialer.

use std::error::Error;
use std::fmt;

use crate::names::Authority;

mod finding;
mod marks;

pub use finding::{Fact, Finding, Observe, TlsFacts, Unobserved};
pub use marks::marks;

/// A party on the path of a push; a closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hop {
    /// Something between the proxy and the origin, or the proxy itself: it cannot be told.
    BeyondProxy,
    /// A box that ends TLS and re-signs.
    Inspector,
    /// The direct path, no proxy on it.
    Network,
    /// Nobody is at fault.
    None,
    /// The provider's own host.
    Origin,
    /// A login or block page in the way.
    Portal,
    /// The corporate proxy.
    Proxy,
    /// The machine we run on: hosts file, clock, trust, configuration.
    RelayHost,
    /// The name server.
    Resolver,
    /// The program that sends pushes to us.
    Sender,
    /// The path to the corporate proxy.
    ToProxy,
}

impl Hop {
    /// The closed set.
    pub const ALL: &[Self] = &[
        Self::BeyondProxy,
        Self::Inspector,
        Self::Network,
        Self::None,
        Self::Origin,
        Self::Portal,
        Self::Proxy,
        Self::RelayHost,
        Self::Resolver,
        Self::Sender,
        Self::ToProxy,
    ];

    /// The word in logs, metrics and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::BeyondProxy => "beyond-proxy",
            Self::Inspector => "inspector",
            Self::Network => "network",
            Self::None => "none",
            Self::Origin => "origin",
            Self::Portal => "portal",
            Self::Proxy => "proxy",
            Self::RelayHost => "relay-host",
            Self::Resolver => "resolver",
            Self::Sender => "sender",
            Self::ToProxy => "to-proxy",
        }
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A step of a dial or of an exchange, in the order in which they are climbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// Waiting in the relay for a place on a connection.
    Queue,
    /// From a name to addresses.
    Resolve,
    /// The TCP handshake, with the proxy or the origin.
    Tcp,
    /// TLS with the proxy itself.
    ProxyTls,
    /// HTTP CONNECT through the proxy, authentication included.
    Connect,
    /// TLS with the origin.
    Tls,
    /// What ALPN chose.
    Alpn,
    /// The peer's first SETTINGS frame.
    Settings,
    /// An HTTP/2 PING and its answer.
    Ping,
    /// A request and its answer.
    Request,
}

impl Stage {
    /// The rungs of a probe, in order.
    pub const LADDER: &[Self] = &[
        Self::Resolve,
        Self::Tcp,
        Self::ProxyTls,
        Self::Connect,
        Self::Tls,
        Self::Alpn,
        Self::Settings,
        Self::Ping,
        Self::Request,
    ];

    /// The word in logs, metrics and JSON.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Resolve => "resolve",
            Self::Tcp => "tcp",
            Self::ProxyTls => "proxy-tls",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Alpn => "alpn",
            Self::Settings => "settings",
            Self::Ping => "ping",
            Self::Request => "request",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What a proxy said when it did not open the tunnel; every text is capped and cleaned
/// ([`clean`]) before it gets here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyRefusal {
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// `Via`, when there was one.
    pub via: Option<String>,
    /// The schemes of every `Proxy-Authenticate` line, in the order offered.
    pub offered: Vec<String>,
    /// Squid's `X-Squid-Error`.
    pub squid_error: Option<String>,
    /// What its people can find it by ([`marks`]), its `Date` too.
    pub marks: Vec<(String, String)>,
    /// The first bytes of the page.
    pub page: String,
}

/// What went wrong. The facts that a refusal carried are fields, never parts of a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HopErrorKind {
    /// The peer's ALPN answer is not h2; nothing was sent.
    AlpnNotH2 {
        /// What it chose, `None` for no ALPN at all.
        chosen: Option<String>,
        /// The issuer of the certificate it showed.
        issuer: Option<String>,
    },
    /// The dial budget is used up; the next attempt waits.
    BudgetExhausted,
    /// The certificate did not verify.
    Certificate {
        /// Why, in the verifier's words.
        reason: CertificateFault,
        /// The issuer of the leaf it showed.
        issuer: Option<String>,
        /// The subject of the leaf it showed.
        subject: Option<String>,
    },
    /// The peer closed or reset the connection.
    Closed,
    /// Credentials failed twice and wait for a change or an operator.
    CredentialsLatched,
    /// We have no credentials of a kind that the proxy offered.
    CredentialsMissing(Box<ProxyRefusal>),
    /// The proxy refused our credentials.
    CredentialsRefused(Box<ProxyRefusal>),
    /// Nothing could be made of our credentials, and nothing was sent: why, in Kerberos' words.
    CredentialsUnusable(String),
    /// The relay is draining and takes nothing new.
    Draining,
    /// GOAWAY ended the connection under the request.
    GoAway {
        /// The error code.
        code: u32,
        /// APNs' `reason` from the debug data, cleaned.
        reason: Option<String>,
    },
    /// A TLS alert arrived; the number of RFC 8446 §6.
    Alert(String),
    /// Something else of the operating system's.
    Io(std::io::ErrorKind),
    /// The address is our own: the hosts file, a stub, a zone or a cluster rewrite points at us.
    Loop(LoopCause),
    /// The name has no address.
    NameNotFound,
    /// The name servers fail or refuse: what they say.
    NameRefused(String),
    /// What arrived is not the protocol that belongs here.
    NotTheProtocol {
        /// What was expected, for example `TLS` or `HTTP`.
        expected: &'static str,
        /// The first bytes, cleaned.
        seen: String,
    },
    /// The answer is not the provider's: a block page or a gateway's error.
    ForeignAnswer {
        /// Its status.
        status: u16,
        /// Its content type, cleaned.
        content_type: Option<String>,
        /// The post relay or gateway that signed it in `Proxy-Status`, `Via` or `Server`.
        by: Option<String>,
    },
    /// Our own queue or connection limit is full.
    Overloaded,
    /// The peer broke HTTP.
    Protocol(String),
    /// The proxy did not open the tunnel.
    ProxyRefused(Box<ProxyRefusal>),
    /// TCP was refused.
    Refused,
    /// RST_STREAM ended the request.
    Reset {
        /// The error code of RFC 9113 §7.
        code: u32,
    },
    /// The sender went away before the push was sent.
    SenderGone,
    /// A deadline passed.
    Timeout,
    /// The audit log has no room for its line, and the configuration wants each recorded.
    Unrecorded,
    /// No route to the address, or the network is down.
    Unreachable,
}

/// Why a certificate did not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateFault {
    /// It has expired, by this machine's clock.
    Expired,
    /// It is not valid yet, by this machine's clock.
    NotYetValid,
    /// It is for other names.
    WrongName,
    /// Nobody we trust signed it.
    UnknownIssuer,
    /// Our own issuer signed it: a relay stands where the origin should be.
    OwnIssuer,
    /// Any other fault of the chain.
    Other,
}

/// Why the address that we were about to dial is our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopCause {
    /// The hosts file of this machine.
    HostsFile,
    /// A local stub resolver that answers from the hosts file.
    Stub,
    /// A DNS zone that names this machine.
    Zone,
    /// A proxy or pin that leads back to this machine.
    Proxy,
    /// The certificate over there is our own.
    OwnCertificate,
}

/// An error with its place on the path. `Display` prints this level only; sources follow.
#[derive(Debug, thiserror::Error)]
#[error("{hop} at {stage}: {kind}")]
pub struct HopError {
    /// Who.
    pub hop: Hop,
    /// When.
    pub stage: Stage,
    /// What.
    pub kind: HopErrorKind,
    /// With whom we were speaking: the proxy or the origin.
    pub peer: Option<Authority>,
    /// The cause underneath.
    #[source]
    pub source: Option<Box<dyn Error + Send + Sync>>,
}

impl HopError {
    /// An error without a deeper cause.
    pub const fn new(hop: Hop, stage: Stage, kind: HopErrorKind) -> Self {
        Self { hop, stage, kind, peer: None, source: None }
    }

    /// Adds with whom we were speaking.
    #[must_use]
    pub fn with_peer(mut self, peer: Authority) -> Self {
        self.peer = Some(peer);
        self
    }

    /// Adds the cause underneath.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The same error for a second waiter; the source stays with the first.
    pub fn share(&self) -> Self {
        Self {
            hop: self.hop,
            stage: self.stage,
            kind: self.kind.clone(),
            peer: self.peer.clone(),
            source: None,
        }
    }
}

/// What a certificate or an answer does not say.
const UNKNOWN: &str = "unknown";

impl fmt::Display for HopErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlpnNotH2 { chosen, issuer } => write!(
                f,
                "the peer chose {} instead of h2 (certificate issued by {})",
                chosen.as_deref().unwrap_or("no ALPN protocol"),
                issuer.as_deref().unwrap_or(UNKNOWN)
            ),
            Self::Alert(alert) => write!(f, "TLS alert {alert}"),
            Self::BudgetExhausted => f.write_str("too many connections were opened lately"),
            Self::Certificate { reason, issuer, subject } => write!(
                f,
                "certificate {reason} (subject {}, issued by {})",
                subject.as_deref().unwrap_or(UNKNOWN),
                issuer.as_deref().unwrap_or(UNKNOWN)
            ),
            Self::Closed => f.write_str("the peer closed the connection"),
            Self::CredentialsLatched => {
                f.write_str("these credentials were refused twice; not tried again")
            }
            Self::CredentialsMissing(refusal) => write!(
                f,
                "the proxy wants authentication ({}) and no credentials for it are configured",
                refusal.offered.join(", ")
            ),
            Self::CredentialsRefused(refusal) => {
                let (status, reason) = (refusal.status, &refusal.reason);
                write!(f, "the proxy refused the credentials: {status} {reason}")?;
                let offered = refusal.offered.join(", ");
                if offered.is_empty() { Ok(()) } else { write!(f, " (offers {offered})") }
            }
            Self::CredentialsUnusable(why) | Self::NameRefused(why) => f.write_str(why),
            Self::Draining => f.write_str("the relay is shutting down"),
            Self::ForeignAnswer { status, content_type, by } => write!(
                f,
                "an answer {status} ({}) that is not the provider's, by {}",
                content_type.as_deref().unwrap_or("no content type"),
                by.as_deref().unwrap_or(UNKNOWN)
            ),
            Self::GoAway { code, reason } => {
                write!(f, "GOAWAY {code} {}", reason.as_deref().unwrap_or(""))
            }
            // Somebody named no egress or name server.
            Self::Io(std::io::ErrorKind::NotFound) => f.write_str("not configured"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::Loop(cause) => write!(f, "the address is our own: {cause}"),
            Self::NameNotFound => f.write_str("the name has no address"),
            Self::NotTheProtocol { expected, seen } => {
                write!(f, "expected {expected}, got {seen:?}")
            }
            Self::Overloaded => f.write_str("the queue is full"),
            Self::Protocol(what) => write!(f, "the peer broke the protocol: {what}"),
            Self::ProxyRefused(refusal) => {
                write!(f, "the proxy answered {} {}", refusal.status, refusal.reason)
            }
            Self::Refused => f.write_str("connection refused"),
            Self::Reset { code } => write!(f, "stream reset with code {code}"),
            Self::SenderGone => f.write_str("the sender went away"),
            Self::Timeout => f.write_str("no answer in time"),
            Self::Unrecorded => f.write_str("the audit log takes no more lines"),
            Self::Unreachable => f.write_str("unreachable"),
        }
    }
}

impl fmt::Display for CertificateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "expired by this machine's clock",
            Self::NotYetValid => "not valid yet by this machine's clock",
            Self::Other => "not acceptable",
            Self::OwnIssuer => "issued by our own issuer, so a relay stands in the origin's place",
            Self::UnknownIssuer => "issued by nobody we trust",
            Self::WrongName => "made out to other names",
        })
    }
}

impl fmt::Display for LoopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostsFile => "the hosts file of this machine points at the relay",
            Self::OwnCertificate => "the certificate over there is ours",
            Self::Proxy => "the proxy or pin leads back to the relay",
            Self::Stub => "the local stub resolver answers with the relay's address",
            Self::Zone => "the DNS zone names the relay's own address",
        })
    }
}

/// Peer text made harmless: at most `cap` characters, control characters and invalid UTF-8
/// replaced, so that neither a terminal nor a log line can be forged (escaping for HTML and JSON
/// is the writer's).
pub fn clean(text: &[u8], cap: usize) -> String {
    let text = String::from_utf8_lossy(&text[..text.len().min(cap * 4)]);
    let bidi = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().take(cap).map(|c| if c.is_control() || bidi(c) { '.' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peer_text_cannot_carry_control_characters() {
        assert_eq!(clean(b"a\x1b[31mb\r\n\xffc", 80), "a.[31mb..\u{fffd}c");
        assert_eq!(clean("é".repeat(9).as_bytes(), 3).chars().count(), 3);
    }
}
