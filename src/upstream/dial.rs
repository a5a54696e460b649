//! placeholder

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{EgressName, Scheme};
use crate::hop::TlsFacts;
use crate::names::{Authority, Host};
use crate::pki::Identity;

/// What to dial.
#[derive(Debug, Clone)]
pub struct Target {
    /// The way out.
    pub egress: EgressName,
    /// TLS or not.
    pub scheme: Scheme,
    /// The origin.
    pub host: Host,
    /// Its port.
    pub port: u16,
    /// What ALPN offers.
    pub offer: Offer,
    /// Our client certificate.
    pub identity: Option<Arc<Identity>>,
    /// h2 or nothing.
    pub demand_h2: bool,
    /// Another relay stands there.
    pub relay_next_hop: bool,
    /// No later than this.
    pub deadline: tokio::time::Instant,
}

/// What ALPN offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offer {
    /// h2.
    H2,
    /// h2, http/1.1.
    H2AndHttp1,
    /// http/1.1.
    Http1,
    /// Nothing.
    NoAlpn,
}

/// A usable connection.
#[derive(Debug)]
pub struct Dialed<IO> {
    /// The stream.
    pub io: IO,
    /// What was learnt.
    pub facts: DialFacts,
}

/// What was learnt.
#[derive(Debug, Clone)]
pub struct DialFacts {
    /// Our end.
    pub local: SocketAddr,
    /// Their end: the proxy or the origin.
    pub peer: SocketAddr,
    /// The proxy.
    pub proxy: Option<Authority>,
    /// What ALPN chose.
    pub alpn: Option<String>,
    /// TLS with the origin.
    pub tls: Option<TlsFacts>,
    /// Altogether.
    pub took: Duration,
}
