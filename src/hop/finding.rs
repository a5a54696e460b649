//! What a passed rung of a dial taught, and who watches.

use std::net::SocketAddr;
use std::time::Duration;

use super::Stage;
use crate::names::HostName;

/// One passed rung of a dial.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The step that is done.
    pub stage: Stage,
    /// How long it took.
    pub took: Duration,
    /// What was learnt.
    pub fact: Fact,
}

/// What a passed rung taught.
#[derive(Debug, Clone)]
pub enum Fact {
    /// The addresses of a name, in the order in which they are tried.
    Addresses {
        /// The name that was looked up.
        name: HostName,
        /// What came back.
        addresses: Vec<SocketAddr>,
        /// The servers that were asked, or `connect_to`.
        by: String,
    },
    /// A TCP connection.
    Tcp {
        /// Our end.
        local: SocketAddr,
        /// Their end.
        peer: SocketAddr,
    },
    /// TLS, with the proxy or the origin.
    Tls(Box<TlsFacts>),
    /// The proxy's answer to CONNECT.
    Tunnel {
        /// Its status.
        status: u16,
        /// Its reason phrase, cleaned.
        reason: String,
        /// Its `Via`, cleaned.
        via: Option<String>,
        /// What its people can find it by ([`super::marks`]), its `Date` too.
        marks: Vec<(String, String)>,
    },
    /// What ALPN chose; `None` for no ALPN.
    Alpn(Option<String>),
    /// The peer's first SETTINGS, identifier and value in the order sent.
    Settings(Vec<(u16, u32)>),
    /// A PING came back.
    Ping,
}

/// What a TLS handshake taught.
#[derive(Debug, Clone, Default)]
pub struct TlsFacts {
    /// `TLSv1.3`.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// The key exchange group.
    pub group: String,
    /// Subjects of the chain as sent, leaf first, cleaned.
    pub subjects: Vec<String>,
    /// Issuer of the leaf, cleaned.
    pub issuer: Option<String>,
    /// SHA-256 of the leaf, hex.
    pub fingerprint: String,
    /// End of the leaf's validity, seconds since the epoch.
    pub not_after: i64,
    /// The chain ends at a root of a file of ours, not of the bundled or system store: somebody
    /// inspects.
    pub inspected: bool,
    /// The session was resumed, so the certificate is the remembered one.
    pub resumed: bool,
    /// The chain in DER, leaf first.
    pub chain: Vec<Vec<u8>>,
}

/// Watches a dial. Traffic counts, the probe records.
pub trait Observe {
    /// A rung was passed.
    fn passed(&self, finding: Finding);
}

/// Watches nothing.
#[derive(Debug, Clone, Copy)]
pub struct Unobserved;

impl Observe for Unobserved {
    fn passed(&self, _finding: Finding) {}
}
