//! What the data plane tells about itself: the status page's JSON, and the gauges.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::Loaded;
use super::paths::Paths;
use crate::config::{Egress, Route};
use crate::downstream::admit::{DownstreamCounters, Refused};
use crate::metrics::Metrics;
use crate::upstream::dial::Dialer;
use crate::upstream::lanes::Lanes;

/// What a report is made from.
pub(super) struct Facts<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) listeners: &'a [(&'a str, SocketAddr)],
    pub(super) lanes: &'a Rc<Lanes<Dialer>>,
    pub(super) counters: &'a DownstreamCounters,
    pub(super) under_way: usize,
    pub(super) uptime: Duration,
    pub(super) paths: &'a Paths,
}

/// The status. Names of the configuration and figures only: no sender, no secret.
pub(super) fn report(facts: &Facts<'_>) -> Value {
    let config = &facts.loaded.config;
    let mut bound: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (name, local) in facts.listeners {
        bound.entry(name).or_default().push(local.to_string());
    }
    let listeners: Vec<_> =
        bound.iter().map(|(name, bind)| json!({ "name": name, "bind": bind })).collect();
    let latched = facts.lanes.dialer().latched();
    let egress: Vec<_> = config
        .egress
        .values()
        .map(|egress| {
            let latched = latched.iter().filter(|(name, _)| *name == egress.name);
            egress_report(egress, latched.map(|(_, proxy)| proxy.to_string()).collect())
        })
        .collect();
    let refused: BTreeMap<_, _> =
        Refused::ALL.iter().map(|why| (why.word(), facts.counters.refused(*why))).collect();
    let lanes = facts.lanes.status();
    let counters = facts.lanes.counters();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": facts.uptime.as_secs(),
        "configuration": config.path.display().to_string(),
        "listeners": listeners,
        "routes": config.routes.iter().map(|route| route_report(route)).collect::<Vec<_>>(),
        "egress": egress,
        "lanes": lanes,
        "paths": facts.paths.report(config),
        "exchanges_in_flight": facts.under_way,
        "senders": {
            "open": facts.counters.open(),
            "accepted": facts.counters.accepted(),
            "refused": refused,
            "http1_on_apns": facts.counters.http1_on_apns(),
        },
        "dials": { "ok": counters.dials.get(), "failed": counters.dials_failed.get() },
        "replays": counters.replays.get(),
        "certificates": facts.loaded.leaves.expiries().into_iter().map(|(name, not_after)| {
            json!({ "name": name, "not_after": not_after })
        }).collect::<Vec<_>>(),
    })
}

fn route_report(route: &Route) -> Value {
    json!({
        "name": route.name,
        "provider": route.provider.word(),
        "hosts": route.hosts.iter().map(|host| host.host.to_string()).collect::<Vec<_>>(),
        "egress": route.egress.to_string(),
    })
}

fn egress_report(egress: &Egress, latched: Vec<String>) -> Value {
    let proxies: Vec<_> = egress.proxies.iter().map(|proxy| proxy.authority.to_string()).collect();
    json!({
        "name": egress.name.to_string(),
        "proxies": proxies,
        "latched": latched,
    })
}

/// Refreshes the gauges.
pub(super) fn figures(metrics: &Metrics, lanes: &Rc<Lanes<Dialer>>, counters: &DownstreamCounters) {
    metrics.set_sender_connections("all", usize::try_from(counters.open()).unwrap_or(usize::MAX));
    let mut admitted = counters.accepted();
    for reason in Refused::ALL {
        let refused = counters.refused(reason);
        admitted = admitted.saturating_sub(refused);
        metrics.set_connections_judged("all", reason.word(), refused);
    }
    metrics.set_connections_judged("all", "admitted", admitted);
    for ((egress, failure), total) in lanes.counters().ended.borrow().iter() {
        metrics.set_dials(&egress.0, *failure, *total);
    }
    for (egress, totals) in lanes.totals() {
        let name = egress.to_string();
        metrics.set_lanes(&name, totals.lanes, totals.waiting);
        metrics.set_upstream_connections(&name, "h2", totals.http2);
        metrics.set_upstream_connections(&name, "http/1.1", totals.http1);
    }
}
