//! The way out for what is carried untouched: passthrough routes and the `tunnel` list.
//!
//! Chooses egress and port and dials; reads nothing of what is carried.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

use super::loaded::Loaded;
use super::paths::Paths;
use crate::config::EgressName;
use crate::downstream::listener::HostRule;
use crate::downstream::passthrough::{Carry, in_order};
use crate::hop::{Hop, HopError, HopErrorKind, Stage, Unobserved};
use crate::io::Prefixed;
use crate::names::Authority;
use crate::probe::patrol::Path;
use crate::upstream::dial::{Dialer, Transport, another_port_may_do};
use crate::upstream::lanes::Lanes;

/// A tunnel's dial ends by this: the longest that a CONNECT sender is kept without a word.
const CARRY_WITHIN: Duration = Duration::from_secs(10);

/// Tunnels through the egresses of one configuration.
#[derive(Debug)]
pub(super) struct Tunnels {
    lanes: Rc<Lanes<Dialer>>,
    loaded: Loaded,
    paths: Rc<Paths>,
    /// What stood in for an origin that could not be reached. As many entries as routed ports.
    stand_ins: RefCell<HashMap<Authority, Authority>>,
}

impl Tunnels {
    /// Nothing remembered: a reload may have changed the egress.
    pub(super) fn new(lanes: Rc<Lanes<Dialer>>, loaded: Loaded, paths: Rc<Paths>) -> Self {
        Self { lanes, loaded, paths, stand_ins: RefCell::default() }
    }

    /// A target of `tunnel` belongs to no route. It leaves as the first route does: a configured
    /// egress is never bypassed.
    fn egress(&self, rule: Option<&HostRule>) -> Option<EgressName> {
        let routes = &self.loaded.config.routes;
        let route = rule.map_or_else(|| routes.first(), |rule| routes.get(rule.route_index));
        route.map(|route| route.egress.clone())
    }

    /// What is dialled for a target, best first.
    fn candidates(&self, target: &Authority, rule: Option<&HostRule>) -> Vec<Authority> {
        let Some(rule) = rule else { return vec![target.clone()] };
        let mut origins = in_order(rule, target.port);
        let stand_ins = self.stand_ins.borrow();
        if let Some(worked) = origins.first().and_then(|first| stand_ins.get(first)) {
            origins.sort_by_key(|origin| origin != worked);
        }
        origins
    }

    fn remember(&self, target: &Authority, rule: Option<&HostRule>, worked: &Authority) {
        let Some(first) = rule.and_then(|rule| in_order(rule, target.port).into_iter().next())
        else {
            return;
        };
        let mut stand_ins = self.stand_ins.borrow_mut();
        if first == *worked {
            stand_ins.remove(&first);
        } else {
            stand_ins.insert(first, worked.clone());
        }
    }
}

impl Carry for Tunnels {
    type Io = Prefixed<Transport>;

    async fn dial_raw(
        &self,
        target: &Authority,
        rule: Option<&HostRule>,
    ) -> Result<Prefixed<Transport>, HopError> {
        let unconfigured =
            || HopError::new(Hop::RelayHost, Stage::Queue, HopErrorKind::NameNotFound);
        let egress = self.egress(rule).ok_or_else(unconfigured)?;
        // A target of `tunnel` is no routed path.
        let routed = rule.and_then(|rule| rule.origins.first()).cloned();
        let path = routed.map(|origin| Path { origin, egress: egress.clone() });
        let deadline = Instant::now() + CARRY_WITHIN;
        let dialer = self.lanes.dialer();
        let mut failed: Option<HopError> = None;
        for origin in self.candidates(target, rule) {
            match dialer.dial_raw(&egress, &origin, deadline, &Unobserved).await {
                Ok(dialed) => {
                    self.remember(target, rule, &origin);
                    if let Some(path) = path {
                        self.paths.worked(path);
                    }
                    return Ok(dialed.io);
                }
                Err(error) => {
                    let elsewhere = another_port_may_do(&error);
                    failed.get_or_insert(error);
                    if !elsewhere {
                        break;
                    }
                }
            }
        }
        if let (Some(path), Some(error)) = (path, &failed) {
            self.paths.failed(path, error);
        }
        Err(failed.unwrap_or_else(unconfigured))
    }
}
