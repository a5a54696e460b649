//! placeholder
use crate::config::{Scheme, TlsMode};
use crate::names::HostName;

/// What a connection must know of the routes, before any request.
pub trait Hosts: Send + Sync {
    /// The rule for a host; `None` when no route names it.
    fn find(&self, host: &HostName) -> Option<HostRule>;
}

/// What a route says about a host.
#[derive(Debug, Clone)]
pub struct HostRule {
    /// End TLS here or carry it.
    pub tls: TlsMode,
    /// Ports that CONNECT may name, the origin's first.
    pub ports: Vec<u16>,
    /// An APNs host.
    pub apns: bool,
    /// What is spoken towards the origin; CONNECT to an `http` one may be plain.
    pub scheme: Scheme,
    /// Index of the route in the configuration.
    pub route_index: usize,
}
