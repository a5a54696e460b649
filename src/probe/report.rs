//! What a probe found, in the shapes that people and programs read.
//!
//! The JSON's shape is a contract: `{version, targets: [{origin, egress, rungs: [{stage, hop,
//! result, ms, evidence}], verdict}], verdict}`. Fields are added, never renamed.

pub mod html;
pub mod text;

use serde::Serialize;

use super::codes::Severity;
use super::findings::Findings;
use super::rung::{Rung, now};
use super::verdict::Verdict;
use crate::hop::Hop;

/// The shape's version.
const VERSION: u32 = 1;

/// The whole.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Of this shape.
    pub version: u32,
    /// Of the program.
    pub pushrelay: &'static str,
    /// When it was made, UTC.
    pub at: String,
    /// One for each origin and way out.
    pub targets: Vec<TargetReport>,
    /// The worst target's.
    pub verdict: Verdict,
    /// What is worth knowing of this machine and is nobody's fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What is not as it was in the baseline.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
}

/// One origin by one way out.
#[derive(Debug, Serialize)]
pub struct TargetReport {
    /// `host:port`.
    pub origin: String,
    /// The name of the egress.
    pub egress: String,
    /// Its proxy.
    pub proxy: Option<String>,
    /// In order; control rungs last.
    pub rungs: Vec<Rung>,
    /// The sentence.
    pub verdict: Verdict,
    /// What the reader has to know of how it was climbed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What the verdict was made of.
    #[serde(skip)]
    pub findings: Findings,
}

impl Report {
    /// Puts it together; the verdict is the worst, the first of equals.
    pub fn new(targets: Vec<TargetReport>) -> Self {
        let worst = targets.iter().rev().max_by_key(|target| target.verdict.severity);
        let verdict = worst.map_or_else(nothing, |target| target.verdict.clone());
        Self {
            version: VERSION,
            pushrelay: env!("CARGO_PKG_VERSION"),
            at: now(),
            targets,
            verdict,
            notes: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// 0 for ok and warn; else by who is at fault.
    pub fn exit_code(&self) -> u8 {
        exit_code(&self.verdict)
    }
}

fn nothing() -> Verdict {
    Verdict {
        severity: Severity::Ok,
        code: "ok",
        hop: Hop::None.word(),
        sentence: "There was nothing to climb to.".to_owned(),
        action: String::new(),
    }
}

/// 0 ok or warn, 10 our own side, 11 at or before the proxy, 12 an inspector or portal, 13 beyond.
pub fn exit_code(verdict: &Verdict) -> u8 {
    if verdict.severity < Severity::Fail {
        return 0;
    }
    match super::hop_of(verdict.hop) {
        Hop::None | Hop::Sender | Hop::RelayHost | Hop::Resolver => 10,
        Hop::ToProxy | Hop::Proxy => 11,
        Hop::Inspector | Hop::Portal => 12,
        Hop::BeyondProxy | Hop::Network | Hop::Origin => 13,
    }
}
