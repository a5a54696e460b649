//! What the relay goes by until the next reload: the route table, the chain's keys, the bounds.

use std::collections::HashMap;
use std::sync::Arc;

use crate::config::material::Material;
use crate::config::{Config, Route, Secret};

use super::route::RouteTable;
use super::signature::Key;

/// Made from a configuration and its material; replaced as a whole.
#[derive(Debug)]
pub struct Plan {
    /// Hosts and routes.
    pub table: RouteTable,
    /// Bound of exchanges under way.
    pub exchanges: usize,
    verify: HashMap<String, Vec<Key>>,
    sign: Vec<(Arc<Route>, Option<Key>)>,
}

impl Plan {
    /// From what was read.
    pub fn new(config: &Config, material: &Material) -> Self {
        let listeners = material.listeners.iter().map(|one| one.signature_keys.as_slice());
        let routes = material.routes.iter().map(|one| one.sign_with.as_ref());
        Self::with_keys(config, listeners, routes)
    }

    /// From keys alone: of listeners and of routes, each in the order of the configuration.
    pub fn with_keys<'a>(
        config: &Config,
        listeners: impl Iterator<Item = &'a [Secret]>,
        routes: impl Iterator<Item = Option<&'a Secret>>,
    ) -> Self {
        let names = config.listeners.iter().map(|listener| listener.name.clone());
        let verify = names.zip(listeners.map(|keys| keys.iter().map(Key::new).collect())).collect();
        let sign = config.routes.iter().map(Arc::clone).zip(routes.map(|key| key.map(Key::new)));
        Self {
            table: RouteTable::new(config),
            exchanges: config.limits.exchanges,
            verify,
            sign: sign.collect(),
        }
    }

    /// Keys of the pre relays of a listener. By name: a connection may be older than a reload.
    pub(super) fn verify_keys(&self, listener: &str) -> &[Key] {
        self.verify.get(listener).map_or(&[], Vec::as_slice)
    }

    /// The key that a route signs with. By name where a reload moved the route.
    pub(super) fn sign_key(&self, route: &Route, index: usize) -> Option<&Key> {
        let same = |one: &&(Arc<Route>, Option<Key>)| one.0.name == route.name;
        let at_index = self.sign.get(index).filter(same);
        at_index.or_else(|| self.sign.iter().find(same))?.1.as_ref()
    }
}
