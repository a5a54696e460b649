//! `pushrelay probe`: which hop breaks HTTP/2, and what to ask for.
//!
//! Climbs the ladder through the relay's own dialer with a recording observer (`ladder`), climbs
//! control rungs only after a failure (`control`), and turns what was found into one sentence by a
//! pure function (`verdict`). `codes` explains every code once; `report` writes text, JSON and
//! HTML. It sends no push: its requests carry no credential and reach no device.

pub mod address;
pub mod ask;
pub mod baseline;
pub mod clock;
pub mod codes;
pub mod command;
pub mod control;
pub mod evidence;
pub mod findings;
pub mod ground;
pub mod ladder;
pub mod patrol;
pub mod report;
pub mod rung;
pub mod through;
pub mod unit;
pub mod vendors;
pub mod verdict;

use std::time::Duration;

use tokio::time::Instant;

use self::ground::Ground;
use self::ladder::Aim;
use self::report::{Report, TargetReport};
use self::rung::Recorder;
use crate::hop::{Hop, HopErrorKind};

/// One ladder, controls included, never takes longer: the promise is 15 s a host.
pub const WHOLE: Duration = Duration::from_secs(14);

/// Of routes with `provider_identity`.
const WITHOUT: &str = "This route presents a certificate of its own to the provider; the probe \
                       speaks without it, so it proves the path and not the certificate.";

/// What to do besides climbing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wishes {
    /// Direct control rungs are allowed.
    pub allow_direct: bool,
    /// Hold a connection idle for so long and see whether it lives.
    pub idle: Option<Duration>,
}

/// Who hears of the progress.
pub struct Told<'a> {
    /// A ladder begins.
    pub begun: &'a dyn Fn(&Aim),
    /// It has ended.
    pub ended: &'a dyn Fn(&TargetReport),
}

impl std::fmt::Debug for Told<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Told").finish_non_exhaustive()
    }
}

/// Climbs to every aim, one after the other: a probe never hammers.
pub async fn probe(ground: &Ground, aims: &[Aim], wishes: Wishes, told: &Told<'_>) -> Report {
    let mut targets: Vec<TargetReport> = Vec::with_capacity(aims.len());
    let mut refused = std::collections::BTreeMap::new();
    for aim in aims {
        (told.begun)(aim);
        let target = match refused.get(&aim.egress) {
            // Trying a wrong password once more could lock the account.
            Some(failure) => skipped(aim, ground, failure),
            None => one(ground, aim, wishes).await,
        };
        if let Some(failure) = &target.findings.failure
            && matches!(failure.kind, HopErrorKind::CredentialsRefused(_))
        {
            refused.entry(aim.egress.clone()).or_insert_with(|| failure.clone());
        }
        (told.ended)(&target);
        targets.push(target);
    }
    Report::new(targets)
}

/// Climbs one ladder, its control rungs and the clock.
pub async fn one(ground: &Ground, aim: &Aim, wishes: Wishes) -> TargetReport {
    let until = Instant::now() + WHOLE;
    let recorder = Recorder::default();
    let mut findings = ladder::climb(ground, aim, wishes, until, &recorder).await;
    if findings.failure.is_some() || findings.answer.as_ref().is_some_and(|it| !it.genuine) {
        control::climb(ground, aim, wishes, until, &mut findings, &recorder).await;
    }
    clock::look(ground, aim, until, &mut findings, &recorder).await;
    finished(ground, aim, findings, recorder)
}

fn skipped(aim: &Aim, ground: &Ground, failure: &findings::Failure) -> TargetReport {
    let recorder = Recorder::default();
    let mut findings = ladder::blank(ground, aim);
    recorder.failed(failure, 0);
    findings.failure = Some(failure.clone());
    finished(ground, aim, findings, recorder)
}

fn finished(
    ground: &Ground,
    aim: &Aim,
    findings: findings::Findings,
    recorder: Recorder,
) -> TargetReport {
    let verdict = verdict::judge(&findings);
    let hop = hop_of(verdict.hop);
    let dialled = command::Dialled::new(ground, aim, &recorder);
    let rungs = recorder.finish(&findings, hop, Some(&dialled));
    TargetReport {
        origin: aim.origin.to_string(),
        egress: aim.egress.to_string(),
        proxy: findings.proxy.as_ref().map(ToString::to_string),
        rungs,
        verdict,
        notes: aim.without_identity.then(|| WITHOUT.to_owned()).into_iter().collect(),
        findings,
    }
}

/// The hop of a word of the closed set.
pub fn hop_of(word: &str) -> Hop {
    Hop::ALL.iter().copied().find(|hop| hop.word() == word).unwrap_or(Hop::None)
}
