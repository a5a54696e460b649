//! Climbs ladders while the relay runs, on the control plane: asks the data plane what the pushes
//! tell, climbs what [`Schedule`] says, and tells log, status and metrics what came of it. Gates
//! nothing; a relay that drains climbs no more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Loaded;
use crate::admin::Asker;
use crate::metrics::Metrics;
use crate::probe::codes::Severity;
use crate::probe::ground::Ground;
use crate::probe::ladder::Aim;
use crate::probe::patrol::{Known, Path, Schedule, Seen, Verdicts};
use crate::probe::report::TargetReport;
use crate::probe::{Wishes, rung};
use crate::upstream::ourselves::Ourselves;
use crate::upstream::proxy_auth::latch::Latches;

/// The data plane is asked this often: one small message.
const LOOK: Duration = Duration::from_secs(5);

/// Who climbs.
#[derive(Debug)]
pub struct Patrol {
    pub(super) asker: Asker,
    pub(super) loaded: watch::Receiver<Loaded>,
    pub(super) own: Arc<Ourselves>,
    pub(super) latches: Arc<Latches>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) verdicts: Arc<Verdicts>,
}

impl Patrol {
    /// Goes on until it is dropped. Wants a `LocalSet`.
    pub async fn run(self) {
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut schedule = Schedule::new(Instant::now());
        loop {
            looks.tick().await;
            let Some(seen) = self.asker.paths().await else { continue };
            for (path, known) in self.verdicts.overtaken(&seen) {
                self.recovered(&path, &known, &seen);
            }
            schedule.keep(&seen);
            if !self.loaded.borrow().config.admin.probe {
                continue;
            }
            let Some(path) = schedule.due(Instant::now(), &seen).cloned() else { continue };
            schedule.begun(Instant::now(), &path.origin);
            let well = match self.climb(&path).await {
                Some(report) => self.told(&path, report),
                None => true,
            };
            schedule.ended(Instant::now(), &path.origin, well);
        }
    }

    async fn climb(&self, path: &Path) -> Option<TargetReport> {
        let loaded = self.loaded.borrow().clone();
        let aims = loaded.config.routes.iter().flat_map(|route| {
            let same = move |host: &&Arc<_>| Path::of(route, host) == *path;
            route.hosts.iter().filter(same).map(|host| Aim::of(route, host, path.egress.clone()))
        });
        let aim = aims.into_iter().next()?;
        let ground =
            Ground::running(&loaded.config, &loaded.material, &self.own, &self.latches).ok()?;
        Some(crate::probe::one(&ground, &aim, Wishes::default()).await)
    }

    /// Says it once for each change; `true` where pushes get through.
    fn told(&self, path: &Path, report: TargetReport) -> bool {
        let verdict = report.verdict;
        let (origin, egress) = (&path.origin, &path.egress);
        let known = Known { verdict: verdict.clone(), since: Instant::now(), at: rung::now() };
        let before = self.verdicts.set(path, known);
        self.metrics.set_verdict(&origin.to_string(), &egress.0, Some(&verdict));
        let (code, hop) = (verdict.code, verdict.hop);
        if before.is_none_or(|before| (before.verdict.code, before.verdict.hop) != (code, hop)) {
            let (sentence, action) = (&verdict.sentence, &verdict.action);
            match verdict.severity {
                Severity::Ok => tracing::info!(%origin, %egress, code, sentence, "path probed"),
                Severity::Warn => {
                    tracing::warn!(%origin, %egress, code, hop, sentence, action, "path probed");
                }
                Severity::Fail => {
                    tracing::error!(%origin, %egress, code, hop, sentence, action, "path broken");
                }
            }
        }
        verdict.severity < Severity::Fail
    }

    fn recovered(&self, path: &Path, known: &Known, seen: &[Seen]) {
        let (origin, egress) = (&path.origin, &path.egress);
        self.metrics.set_verdict(&origin.to_string(), &egress.0, None);
        if seen.iter().any(|one| one.path == *path) {
            let code = known.verdict.code;
            tracing::info!(%origin, %egress, code, "pushes get through again");
        }
    }
}
