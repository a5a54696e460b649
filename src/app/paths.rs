//! What the pushes themselves tell of each path: when one last got through, when and why one last
//! did not. Lives on the data plane; costs a push two moments and a second look at whose answer it
//! is, and no lock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::SystemTime;

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::Instant;

use crate::config::{Config, Route, RouteHost};
use crate::hop::{Hop, HopError, HopErrorKind, Stage};
use crate::probe::ladder::Aim;
use crate::probe::patrol::{Path, Seen};
use crate::probe::verdict;
use crate::relay::translate::back::provider_said;
use crate::upstream::{Answered, Unanswered};

/// One entry for each routed host by its egress, so it is as large as the configuration.
#[derive(Debug, Default)]
pub(super) struct Paths(RefCell<BTreeMap<Path, Health>>);

#[derive(Debug, Default)]
struct Health {
    success: Option<(Instant, SystemTime)>,
    failure: Option<(Instant, SystemTime, HopError)>,
    /// The first failure after the latest success.
    failing: Option<Instant>,
}

impl Paths {
    /// What a push came to. What somebody else answers in the provider's place is no success.
    pub(super) fn sent(
        &self,
        route: &Route,
        host: &RouteHost,
        sent: &Result<Answered, Unanswered>,
    ) {
        let path = Path::of(route, host);
        let said = match sent {
            Ok(answered) => provider_said(&answered.response, route.provider, answered.far),
            Err(unanswered) => return self.failed(path, &unanswered.cause),
        };
        match said {
            Ok(()) => self.worked(path),
            Err(error) => self.failed(path, &error),
        }
    }

    /// An answer of the origin came back; of what is carried untouched, only the way is known.
    pub(super) fn worked(&self, path: Path) {
        let mut paths = self.0.borrow_mut();
        let health = paths.entry(path).or_default();
        health.success = Some((Instant::now(), SystemTime::now()));
        health.failing = None;
    }

    /// None came. What is about us or the sender says nothing of the path.
    pub(super) fn failed(&self, path: Path, error: &HopError) {
        let ours = matches!(
            error.kind,
            HopErrorKind::BudgetExhausted
                | HopErrorKind::Draining
                | HopErrorKind::Overloaded
                | HopErrorKind::SenderGone
        );
        if ours || error.stage == Stage::Queue || error.hop == Hop::Sender {
            return;
        }
        let now = Instant::now();
        let mut paths = self.0.borrow_mut();
        let health = paths.entry(path).or_default();
        health.failure = Some((now, SystemTime::now(), error.share()));
        health.failing.get_or_insert(now);
    }

    /// Forgets what the configuration has no more.
    pub(super) fn keep(&self, config: &Config) {
        let mut kept = self.0.borrow_mut();
        let routed: std::collections::BTreeSet<_> =
            config.routes.iter().flat_map(|route| paths_of(route)).collect();
        kept.retain(|path, _| routed.contains(path));
    }

    /// Every routed path, used or not, in the order configured.
    pub(super) fn seen(&self, config: &Config) -> Vec<Seen> {
        let known = self.0.borrow();
        let mut all: Vec<Seen> = Vec::new();
        for route in &config.routes {
            for (number, path) in paths_of(route).enumerate() {
                if all.iter().any(|one| one.path == path) {
                    continue;
                }
                let health = known.get(&path);
                all.push(Seen {
                    route: route.name.clone(),
                    first: number == 0,
                    success: health.and_then(|health| health.success).map(|(at, _)| at),
                    failure: health.and_then(|health| health.failure.as_ref()).map(|it| it.0),
                    failing: health.and_then(|health| health.failing),
                    path,
                });
            }
        }
        all
    }

    /// What status shows: the paths that pushes have taken.
    pub(super) fn report(&self, config: &Config) -> Vec<Value> {
        let known = self.0.borrow();
        let mut all = Vec::new();
        for route in &config.routes {
            for host in &route.hosts {
                let path = Path::of(route, host);
                let Some(health) = known.get(&path) else { continue };
                let failure = health.failure.as_ref().map(|(_, at, error)| {
                    let aim = Aim::of(route, host, route.egress.clone());
                    let egress = config.egress.get(&route.egress);
                    let verdict = verdict::of_error(&aim, egress.map(AsRef::as_ref), error);
                    json!({
                        "at": moment(*at),
                        "hop": verdict.hop,
                        "stage": error.stage.word(),
                        "code": verdict.code,
                        "sentence": verdict.sentence,
                    })
                });
                all.push(json!({
                    "route": route.name,
                    "origin": path.origin.to_string(),
                    "egress": path.egress.to_string(),
                    "failing": health.failing.is_some(),
                    "last_success": health.success.map(|(_, at)| moment(at)),
                    "last_failure": failure,
                }));
            }
        }
        all
    }
}

fn paths_of(route: &Route) -> impl Iterator<Item = Path> + '_ {
    route.hosts.iter().map(|host| Path::of(route, host))
}

/// UTC, to the second.
fn moment(at: SystemTime) -> Option<String> {
    OffsetDateTime::from(at).replace_nanosecond(0).ok()?.format(&Rfc3339).ok()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::relay::fixture::{apns_route, config};

    fn answered(response: http::response::Builder, far: Hop) -> Result<Answered, Unanswered> {
        let response = response.body(Bytes::new()).unwrap();
        Ok(Answered { response, connection: 1, protocol: "h2", replays: 0, far })
    }

    #[test]
    fn a_block_page_in_the_providers_place_is_no_success() {
        let config = config(vec![apns_route("apns", &["api.push.apple.com"])]);
        let (route, paths) = (&config.routes[0], Paths::default());
        let genuine = http::Response::builder().status(400).header("apns-id", "x");
        let page = http::Response::builder().status(403).header("content-type", "text/html");
        for (sent, failing, code) in [
            (answered(genuine, Hop::Origin), false, None),
            (answered(page, Hop::Inspector), true, Some("block_page_in_tls")),
            (
                answered(http::Response::builder(), Hop::BeyondProxy),
                true,
                Some("answer_not_providers"),
            ),
        ] {
            paths.sent(route, &route.hosts[0], &sent);
            let report = &paths.report(&config)[0];
            assert_eq!(report["failing"], failing, "{report}");
            assert_eq!(report["last_failure"]["code"].as_str(), code, "{report}");
        }
    }
}
