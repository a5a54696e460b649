//! The side of the providers: lanes of connections, dialled directly or through a corporate
//! proxy.
//!
//! `dial` climbs from a name to a usable connection, for traffic and probe alike; `lane` shares
//! connections among pushes; `frames` sees what the h2 crate hides; `replay` decides what may be
//! sent again. Nothing here answers a sender: the outcome goes back as a type.

pub mod budget;
pub mod connection;
pub mod dial;
pub mod frames;
pub mod http1;
pub mod lane;
pub mod lanes;
pub mod ourselves;
pub mod proxy_auth;
pub mod replay;
pub mod resolve;
pub mod tls;
pub mod tunnel;
pub mod turns;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use crate::config::{Route, RouteHost};
use crate::downstream::Presence;
use crate::hop::{Hop, HopError};

/// A translated request on its way out.
#[derive(Debug, Clone)]
pub struct Push {
    /// Its route.
    pub route: Arc<Route>,
    /// The host within the route.
    pub host: Arc<RouteHost>,
    /// Who sent it: where there is no room for all, senders take turns.
    pub sender: IpAddr,
    /// Method, absolute URI, end-to-end fields, whole body.
    pub request: http::Request<Bytes>,
    /// What the lane is keyed by on APNs; `None` elsewhere.
    pub credential: Option<Credential>,
    /// No answer after this.
    pub deadline: Instant,
    /// Whether the sender still waits.
    pub presence: Presence,
}

/// APNs binds a connection to one team and key: the claims, never verified, only told apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Credential {
    /// JWT `iss`.
    pub team: Arc<str>,
    /// JWT `kid`.
    pub key: Arc<str>,
}

/// An answer that came from upstream.
#[derive(Debug)]
pub struct Answered {
    /// Status, fields and body as received.
    pub response: http::Response<Bytes>,
    /// Number of the upstream connection.
    pub connection: u64,
    /// `h2` or `http/1.1`.
    pub protocol: &'static str,
    /// How often it was sent again before.
    pub replays: u8,
    /// Who stands at the other end, if it is not the provider that answered: an inspector whose
    /// root we know, something past the proxy, or on a direct path the origin.
    pub far: Hop,
}

/// No answer came.
#[derive(Debug)]
pub struct Unanswered {
    /// Proven unprocessed or not.
    pub delivery: Delivery,
    /// Why.
    pub cause: HopError,
    /// How often it was sent again before.
    pub replays: u8,
}

/// What is known of a push without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// No origin processed it.
    NotSent,
    /// One may have.
    Unknown,
}
