//! All lanes of the relay: which one a push takes, and how many there may be.
//!
//! Made-up credentials must neither open connections without bound nor starve honest ones: lanes
//! that were never proven share a small cap and are evicted first.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::budget::Budget;
use super::lane::{DialOrigin, Lane, LaneCounters, LaneTarget};
use super::turns::Turns;
use super::{Answered, Credential, Delivery, Push, Unanswered};
use crate::config::{Config, Egress, EgressName, NextHop, Protocol, Route, RouteHost, Scheme};
use crate::hop::{Hop, HopError, HopErrorKind, Stage};
use crate::names::Host;
use crate::pki::Identity;
use crate::provider::Provider;

/// Lanes that were never proven and are in use at the same moment: enough for a handful of new
/// teams at once after a restart (each is proven within a round trip), too few to be a flood.
const UNPROVEN_AT_ONCE: usize = 16;
/// Of these one sender's: made-up tokens leave room for others.
const UNPROVEN_OF_A_SENDER: usize = UNPROVEN_AT_ONCE / 2;

/// What tells lanes apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct LaneKey {
    egress: EgressName,
    scheme: Scheme,
    host: Host,
    ports: Vec<u16>,
    protocol: Protocol,
    credential: Option<Credential>,
    /// The route, where it presents a certificate of its own or leads to another relay.
    route: Option<Arc<str>>,
}

/// What a configuration gives the lanes; replaced as a whole on reload.
#[derive(Debug)]
pub struct Wiring<D> {
    /// Dials.
    pub dialer: Rc<D>,
    /// The ways out.
    pub egress: BTreeMap<EgressName, Arc<Egress>>,
    /// `provider_identity` by the route's name: an exchange may be older than a reload that moved
    /// its route.
    pub identities: BTreeMap<String, Arc<Identity>>,
}

impl<D> Wiring<D> {
    /// Takes what the lanes need out of a configuration; `identities` in the order of its routes.
    pub fn new(
        dialer: D,
        config: &Config,
        identities: impl Iterator<Item = Option<Arc<Identity>>>,
    ) -> Self {
        let routes = config.routes.iter().zip(identities);
        let identities = routes.filter_map(|(route, one)| Some((route.name.clone(), one?)));
        Self {
            dialer: Rc::new(dialer),
            egress: config.egress.clone(),
            identities: identities.collect(),
        }
    }
}

/// Figures of an egress.
#[derive(Debug, Clone, Copy, Default)]
pub struct Totals {
    /// Lanes.
    pub lanes: usize,
    /// Pushes waiting in them.
    pub waiting: usize,
    /// HTTP/2 connections.
    pub http2: usize,
    /// HTTP/1.1 connections.
    pub http1: usize,
}

/// The lanes.
pub struct Lanes<D> {
    wiring: RefCell<Rc<Wiring<D>>>,
    lanes: RefCell<HashMap<LaneKey, Rc<Lane<D>>>>,
    budgets: RefCell<HashMap<(EgressName, Host), Rc<Budget>>>,
    counters: Rc<LaneCounters>,
    turns: Rc<Turns>,
    me: Weak<Self>,
}

impl<D: DialOrigin> Lanes<D> {
    /// No lane yet.
    pub fn new(wiring: Wiring<D>) -> Rc<Self> {
        Rc::new_cyclic(|me| Self {
            wiring: RefCell::new(Rc::new(wiring)),
            lanes: RefCell::default(),
            budgets: RefCell::default(),
            counters: Rc::default(),
            turns: Rc::default(),
            me: me.clone(),
        })
    }

    /// Replaces the wiring. Lanes of before serve what they hold and take nothing new.
    pub fn rewire(&self, wiring: Wiring<D>) {
        self.budgets.borrow_mut().retain(|(egress, _), _| wiring.egress.contains_key(egress));
        *self.wiring.borrow_mut() = Rc::new(wiring);
        let before: Vec<_> = self.lanes.borrow_mut().drain().map(|(_, lane)| lane).collect();
        for lane in before {
            tokio::task::spawn_local(async move {
                // Whoever holds the lane finishes on it; its connections end with their streams.
                while !lane.is_idle() {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                lane.close();
            });
        }
    }

    /// The dialer of now, for tunnels.
    pub fn dialer(&self) -> Rc<D> {
        self.wiring.borrow().dialer.clone()
    }

    /// Counts of all lanes.
    pub fn counters(&self) -> &LaneCounters {
        &self.counters
    }

    /// Carries a push on its lane.
    pub async fn send(&self, push: &Push) -> Result<Answered, Unanswered> {
        let lane = self.lane_for(push).await.map_err(|cause| Unanswered {
            delivery: Delivery::NotSent,
            cause,
            replays: 0,
        })?;
        lane.send(push).await
    }

    /// For how long the lane of such pushes has been down.
    pub fn down_for(
        &self,
        route: &Route,
        host: &RouteHost,
        credential: Option<&Credential>,
    ) -> Option<Duration> {
        let key = key_of(route, host, credential);
        self.lanes.borrow().get(&key).and_then(|lane| lane.down_for())
    }

    async fn lane_for(&self, push: &Push) -> Result<Rc<Lane<D>>, HopError> {
        let key = key_of(&push.route, &push.host, push.credential.as_ref());
        let mut turn = false;
        loop {
            if let Some(lane) = self.lanes.borrow().get(&key) {
                return Ok(lane.clone());
            }
            if (turn || !self.turns.waits(push.sender))
                && let Some(lane) = self.open(&key, push)?
            {
                self.turns.pass(push.sender);
                return Ok(lane);
            }
            self.turn(push, turn, self.egress(&key.egress)?.lane.queue).await?;
            turn = true;
        }
    }

    /// Waits until this push may try for a lane; `again` where it just did in vain.
    async fn turn(&self, push: &Push, again: bool, most: usize) -> Result<(), HopError> {
        let overloaded = || HopError::new(Hop::RelayHost, Stage::Queue, HopErrorKind::Overloaded);
        let turned = self.turns.join(push.sender, again, most).ok_or_else(overloaded)?;
        let mut place = Place { turns: &self.turns, sender: push.sender, turned, used: false };
        tokio::select! {
            biased;
            turn = &mut place.turned => {
                place.used = true;
                turn.map_err(|_made_room| overloaded())
            }
            () = push.presence.gone() => {
                Err(HopError::new(Hop::Sender, Stage::Queue, HopErrorKind::SenderGone))
            }
            () = sleep_until(push.deadline) => Err(overloaded()),
        }
    }

    fn egress(&self, name: &EgressName) -> Result<Arc<Egress>, HopError> {
        // Validation lets no route name an egress that is not there; after a reload an old
        // exchange may.
        self.wiring
            .borrow()
            .egress
            .get(name)
            .cloned()
            .ok_or_else(|| HopError::new(Hop::RelayHost, Stage::Queue, HopErrorKind::Draining))
    }

    /// Opens a lane where the caps allow it, after evicting an idle one if need be.
    fn open(&self, key: &LaneKey, push: &Push) -> Result<Option<Rc<Lane<D>>>, HopError> {
        let egress = self.egress(&key.egress)?;
        if !self.has_room(key, push.sender, egress.lane.lanes) {
            return Ok(None);
        }
        let wiring = self.wiring.borrow().clone();
        let target = LaneTarget {
            egress: key.egress.clone(),
            scheme: key.scheme,
            host: key.host.clone(),
            ports: key.ports.clone(),
            protocol: key.protocol,
            relay_next_hop: push.route.next_hop != NextHop::Origin,
            identity: wiring.identities.get(&push.route.name).cloned(),
        };
        let budget = (push.route.provider == Provider::Apns).then(|| {
            let key = (key.egress.clone(), key.host.clone());
            let burst = f64::from(u32::try_from(egress.lane.lanes).unwrap_or(u32::MAX));
            let rate = f64::from(egress.lane.dials_per_second.max(1));
            let fresh = || Rc::new(Budget::new(rate, burst, Instant::now()));
            let mut budgets = self.budgets.borrow_mut();
            let budget = budgets.entry(key).or_insert_with(fresh);
            // After a reload the file may say otherwise; the same figures keep their tokens.
            if !budget.is_of(rate, burst) {
                *budget = fresh();
            }
            budget.clone()
        });
        let turns = self.turns.clone();
        let lane = Lane::new(
            wiring.dialer.clone(),
            target,
            egress.lane,
            (budget, push.sender),
            self.counters.clone(),
            Rc::new(move || turns.give()),
        );
        self.lanes.borrow_mut().insert(key.clone(), lane.clone());
        Ok(Some(lane))
    }

    fn has_room(&self, key: &LaneKey, sender: IpAddr, cap: usize) -> bool {
        let of_egress = |other: &LaneKey| other.egress == key.egress;
        let (mut lanes, mut unproven_busy, mut own) = (0, 0, 0);
        for (other, lane) in self.lanes.borrow().iter().filter(|(other, _)| of_egress(other)) {
            lanes += 1;
            let unproven = other.credential.is_some() && !lane.is_proven();
            if unproven && !lane.is_idle() {
                unproven_busy += 1;
                own += usize::from(lane.opened_by == sender);
            }
        }
        let full = unproven_busy >= UNPROVEN_AT_ONCE || own >= UNPROVEN_OF_A_SENDER;
        if key.credential.is_some() && full {
            return false;
        }
        lanes < cap || self.evict(&key.egress)
    }

    /// Ends one idle lane of an egress: unproven before proven, then the longest unused.
    fn evict(&self, egress: &EgressName) -> bool {
        let victim = {
            let lanes = self.lanes.borrow();
            let idle = lanes.iter().filter(|(key, lane)| key.egress == *egress && lane.is_idle());
            idle.min_by_key(|(_, lane)| (lane.is_proven(), lane.last_used()))
                .map(|(key, _)| key.clone())
        };
        let Some(lane) = victim.and_then(|key| self.lanes.borrow_mut().remove(&key)) else {
            return false;
        };
        lane.close();
        true
    }

    /// To be called about once a second: closes what has been idle too long.
    pub fn sweep(&self) {
        for lane in self.lanes.borrow().values() {
            lane.sweep();
        }
    }

    /// Tells whoever still waits that nothing will be sent any more.
    pub fn give_up(&self) {
        for lane in self.lanes.borrow().values() {
            lane.give_up();
        }
    }

    /// Ends every connection once its streams are done.
    pub fn close(&self) {
        for lane in self.lanes.borrow_mut().drain().map(|(_, lane)| lane) {
            lane.close();
        }
    }

    /// Lanes open now.
    pub fn len(&self) -> usize {
        self.lanes.borrow().len()
    }

    /// No lane is open.
    pub fn is_empty(&self) -> bool {
        self.lanes.borrow().is_empty()
    }

    /// What status shows: one entry a lane; credentials by their public ids only.
    pub fn status(&self) -> Vec<serde_json::Value> {
        let lanes = self.lanes.borrow();
        let entries = lanes.iter().map(|(key, lane)| {
            let mut status = lane.status();
            if let Some(credential) = &key.credential {
                status["team"] = serde_json::Value::from(&*credential.team);
                status["key"] = serde_json::Value::from(&*credential.key);
            }
            status
        });
        entries.collect()
    }

    /// Totals of every egress, for the gauges; an egress without lanes is there with zeros.
    pub fn totals(&self) -> BTreeMap<EgressName, Totals> {
        let wiring = self.wiring.borrow();
        let mut totals: BTreeMap<_, _> =
            wiring.egress.keys().map(|name| (name.clone(), Totals::default())).collect();
        for (key, lane) in self.lanes.borrow().iter() {
            let total = totals.entry(key.egress.clone()).or_default();
            total.lanes += 1;
            lane.add_to(total);
        }
        totals
    }

    /// A handle for tasks that must not keep the lanes alive.
    pub fn downgrade(&self) -> Weak<Self> {
        self.me.clone()
    }
}

impl<D> std::fmt::Debug for Lanes<D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes").field("open", &self.lanes.borrow().len()).finish_non_exhaustive()
    }
}

/// A push in line. If it leaves at the very moment at which its turn comes, the turn goes on.
struct Place<'a> {
    turns: &'a Turns,
    sender: IpAddr,
    turned: oneshot::Receiver<()>,
    used: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.turned.close();
        if !self.used && self.turned.try_recv().is_ok() {
            self.turns.pass(self.sender);
        }
    }
}

fn key_of(route: &Route, host: &RouteHost, credential: Option<&Credential>) -> LaneKey {
    let own_lane = route.provider_identity.is_some() || route.next_hop != NextHop::Origin;
    LaneKey {
        egress: route.egress.clone(),
        scheme: host.scheme,
        host: host.origin.clone(),
        ports: host.ports.clone(),
        protocol: host.protocol,
        credential: credential.cloned(),
        route: own_lane.then(|| route.name.as_str().into()),
    }
}

#[cfg(test)]
mod tests;
