//! The rungs of one ladder, recorded while they are climbed.

use std::cell::RefCell;

use serde::Serialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::clock;
use super::command::Dialled;
use super::evidence;
use super::findings::{Failure, Findings, Tried};
use crate::hop::{Fact, Finding, Hop, HopErrorKind, Observe, Stage};

/// How a rung ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Pass,
    /// Passed, with something to know.
    Warn,
    /// Here it broke.
    Fail,
    /// Not climbed, because of a failure below.
    Skip,
}

impl Outcome {
    /// As it stands in the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Fail => "FAIL",
            Self::Pass => "PASS",
            Self::Skip => "SKIP",
            Self::Warn => "WARN",
        }
    }
}

/// One rung.
#[derive(Debug, Clone, Serialize)]
pub struct Rung {
    /// The step; `control:...` for control rungs.
    pub stage: String,
    /// Where on the path.
    pub hop: &'static str,
    /// How it ended.
    pub result: Outcome,
    /// How long it took; none when it was not climbed.
    pub ms: Option<u64>,
    /// What was seen.
    pub evidence: Map<String, Value>,
}

/// Watches a dial and keeps what it learns.
#[derive(Debug, Default)]
pub struct Recorder {
    rungs: RefCell<Vec<Rung>>,
    findings: RefCell<Vec<Finding>>,
}

/// This moment in UTC, to the millisecond (RFC 3339).
pub fn now() -> String {
    let format =
        format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    // The format has no component that could fail.
    OffsetDateTime::now_utc().format(format).unwrap_or_default()
}

/// Milliseconds, rounded.
pub fn millis(took: std::time::Duration) -> u64 {
    u64::try_from((took.as_micros() + 500) / 1000).unwrap_or(u64::MAX)
}

impl Observe for Recorder {
    fn passed(&self, finding: Finding) {
        let mut evidence = evidence::of(&finding.fact);
        evidence.insert("at".into(), now().into());
        self.rungs.borrow_mut().push(Rung {
            stage: finding.stage.word().to_owned(),
            hop: Hop::None.word(),
            result: Outcome::Pass,
            ms: Some(millis(finding.took)),
            evidence,
        });
        self.findings.borrow_mut().push(finding);
    }
}

impl Recorder {
    /// What the dial taught, in order.
    pub fn findings(&self) -> Vec<Finding> {
        self.findings.borrow().clone()
    }

    /// The latest fact that `pick` takes.
    pub fn latest<T>(&self, pick: impl Fn(&Fact) -> Option<T>) -> Option<T> {
        self.findings.borrow().iter().rev().find_map(|finding| pick(&finding.fact))
    }

    /// Adds a rung that the dialer does not know.
    pub fn add(&self, stage: &str, result: Outcome, ms: Option<u64>, evidence: Value) {
        let mut evidence = match evidence {
            Value::Object(map) => map,
            other @ (Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::String(_)
            | Value::Array(_)) => Map::from_iter([("what".to_owned(), other)]),
        };
        evidence.entry("at").or_insert_with(|| now().into());
        let (stage, hop) = (stage.to_owned(), Hop::None.word());
        self.rungs.borrow_mut().push(Rung { stage, hop, result, ms, evidence });
    }

    /// The rung at which the climb ended.
    pub fn failed(&self, failure: &Failure, ms: u64) {
        let evidence = evidence::of_failure(failure);
        self.add(failure.stage.word(), Outcome::Fail, Some(ms), evidence);
    }

    /// The roots in the file are the origin's own: nobody inspects.
    pub fn uninspected(&self) {
        for rung in self.rungs.borrow_mut().iter_mut() {
            rung.evidence.entry("inspected").and_modify(|value| *value = false.into());
        }
    }

    /// A control rung.
    pub fn tried(&self, name: &str, tried: &Tried, ms: u64) {
        let mut evidence = json!({
            "with": tried.with.to_string(),
            "worked": tried.worked(),
        });
        if let Some(failure) = &tried.failure {
            evidence["failed_at"] = failure.stage.word().into();
            evidence["error"] = failure.kind.to_string().into();
        }
        if let Some(issuer) = &tried.issuer {
            evidence["issuer"] = issuer.as_str().into();
        }
        if let Some(alpn) = &tried.alpn {
            evidence["alpn"] = alpn.as_str().into();
        }
        let result = if tried.worked() { Outcome::Pass } else { Outcome::Fail };
        self.add(&format!("control:{name}"), result, Some(ms), evidence);
    }

    /// The whole ladder: rungs that were not climbed are skipped, each has its place on the path,
    /// and the failed one the verdict's hop. `dialled` adds the commands that show the same.
    pub fn finish(self, findings: &Findings, hop: Hop, dialled: Option<&Dialled>) -> Vec<Rung> {
        let mut rungs = self.rungs.into_inner();
        let proxied = findings.proxy.is_some();
        for rung in &mut rungs {
            let own = Stage::LADDER.iter().find(|stage| stage.word() == rung.stage);
            rung.hop = match (own, rung.result) {
                (Some(_), Outcome::Fail) => hop.word(),
                (Some(stage), Outcome::Pass | Outcome::Warn | Outcome::Skip) => {
                    place(*stage, proxied).word()
                }
                (None, Outcome::Warn) if rung.stage == clock::STAGE => Hop::RelayHost.word(),
                (None, _) => Hop::None.word(),
            };
            if let (Some(stage), Some(dialled)) = (own, dialled) {
                shown_by(rung, *stage, dialled, findings);
            }
        }
        let controls = rungs.iter().position(|rung| rung.stage.starts_with("control:"));
        let controls = rungs.split_off(controls.unwrap_or(rungs.len()));
        let done: Vec<String> = rungs.iter().map(|rung| rung.stage.clone()).collect();
        for stage in Stage::LADDER {
            let inapplicable = !proxied && matches!(stage, Stage::ProxyTls | Stage::Connect);
            if done.iter().any(|one| one == stage.word())
                || inapplicable
                || *stage == Stage::ProxyTls
            {
                continue;
            }
            let at = rungs.iter().position(|rung| order(&rung.stage) > order(stage.word()));
            let rung = Rung {
                stage: stage.word().to_owned(),
                hop: place(*stage, proxied).word(),
                result: Outcome::Skip,
                ms: None,
                evidence: Map::new(),
            };
            rungs.insert(at.unwrap_or(rungs.len()), rung);
        }
        rungs.extend(controls);
        rungs
    }
}

/// The command, where the rung does not only repeat the one below it.
fn shown_by(rung: &mut Rung, stage: Stage, dialled: &Dialled, findings: &Findings) {
    let repeats = matches!(stage, Stage::Alpn | Stage::Settings | Stage::Ping);
    if rung.result == Outcome::Pass && repeats {
        return;
    }
    let silent = findings.failure.as_ref().is_some_and(|it| it.kind == HopErrorKind::Timeout);
    let large = stage == Stage::Request && rung.result == Outcome::Fail && silent;
    rung.evidence.insert("command".into(), dialled.command(stage, large).into());
    if let Some(note) = dialled.note(stage) {
        rung.evidence.insert("command_needs".into(), note.into());
    }
}

fn order(stage: &str) -> usize {
    Stage::LADDER.iter().position(|one| one.word() == stage).unwrap_or(usize::MAX)
}

/// Where on the path a rung stands.
pub const fn place(stage: Stage, proxied: bool) -> Hop {
    match stage {
        Stage::Queue => Hop::RelayHost,
        Stage::Resolve => Hop::Resolver,
        Stage::Tcp if proxied => Hop::ToProxy,
        Stage::Tcp => Hop::Network,
        Stage::ProxyTls | Stage::Connect => Hop::Proxy,
        Stage::Tls | Stage::Alpn | Stage::Settings | Stage::Ping | Stage::Request => Hop::Origin,
    }
}
