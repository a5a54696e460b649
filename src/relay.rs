//! One exchange: route, permit, translate, send, translate back, answer.
//!
//! The rules are pure functions in the modules below; [`Relay`](self) only strings them together
//! and writes down the outcome.

use std::sync::Arc;

use crate::config::{Route, RouteHost};

pub mod answer;
#[cfg(test)]
pub(crate) mod fixture;
pub mod outcome;
pub mod permit;
pub mod route;
pub mod signature;
pub mod translate;

/// A head that may pass: where it goes and how large its body may be.
#[derive(Debug, Clone)]
pub struct Permit {
    /// The route.
    pub route: Arc<Route>,
    /// Its index in the configuration.
    pub route_index: usize,
    /// The host of the route.
    pub host: Arc<RouteHost>,
    /// Largest body, octets.
    pub body_limit: usize,
    /// The answer is the relay's own (`/.pushrelay/probe`); nothing is dialled.
    pub reserved: bool,
}
