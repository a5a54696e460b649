//! The request, its answer, and what a healthy path still has to tell.

use super::{Judged, SKEW_TOLERATED, between, is_inspected, text};
use crate::hop::{Hop, HopErrorKind};
use crate::probe::codes::Code;
use crate::probe::findings::{Answer, Failure, Findings};

const fn far_end(findings: &Findings) -> Hop {
    if findings.proxy.is_some() { Hop::BeyondProxy } else { Hop::Origin }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "what cannot happen to a request is unexplained"
)]
pub(super) fn unanswered(findings: &Findings, failure: &Failure) -> Judged {
    let hop = far_end(findings);
    match &failure.kind {
        HopErrorKind::Timeout if findings.controls.large_request == Some(false) => {
            Judged::new(Code::LargeRequest).at(between(findings))
        }
        HopErrorKind::Timeout => Judged::new(Code::RequestSilent).at(hop),
        HopErrorKind::Reset { .. } => {
            Judged::new(Code::StreamRefused).at(hop).detail(text(failure))
        }
        HopErrorKind::GoAway { .. } => Judged::new(Code::GoAway).at(hop).detail(text(failure)),
        HopErrorKind::Protocol(_) if findings.alpn.as_deref() == Some("h2") => {
            Judged::new(Code::H2Broken).at(hop).detail(text(failure))
        }
        HopErrorKind::Closed | HopErrorKind::Protocol(_) | HopErrorKind::NotTheProtocol { .. } => {
            Judged::new(Code::RequestCut).at(hop).detail(text(failure))
        }
        HopErrorKind::ForeignAnswer { status, content_type, by } => {
            let (content_type, by) = (content_type.clone(), by.clone());
            let page = String::new();
            let answer = Answer { status: *status, genuine: false, content_type, by, page };
            foreign(&answer, failure.hop == Hop::Inspector, hop)
        }
        _ => super::connect::unexplained(failure),
    }
}

/// Every rung was climbed. The worst news first.
pub(super) fn answered(findings: &Findings) -> Judged {
    if let Some(answer) = &findings.answer {
        if !answer.genuine {
            return foreign(answer, is_inspected(findings), far_end(findings));
        }
        if answer.status >= 500 || answer.status == 429 {
            return Judged::new(Code::OriginUnwell).with("status", answer.status.to_string());
        }
    }
    if findings.controls.large_request == Some(false) {
        return Judged::new(Code::LargeRequest).at(between(findings));
    }
    if is_inspected(findings) {
        return Judged::new(Code::Inspected);
    }
    if findings.ping == Some(false) {
        return Judged::new(Code::PingLost).at(far_end(findings));
    }
    if let Some((seconds, false)) = findings.idle {
        return Judged::new(Code::IdleCut)
            .at(between(findings))
            .with("seconds", seconds.to_string());
    }
    if let Some(skew) = findings.skew.filter(|skew| skew.abs() > SKEW_TOLERATED) {
        return Judged::new(Code::ClockOff).with("seconds", skew.abs().to_string());
    }
    if !findings.h2_only && findings.alpn.as_deref() != Some("h2") {
        return Judged::new(Code::Http1Only);
    }
    let detail = findings.answer.as_ref().map_or_else(
        || "and nothing was asked".to_owned(),
        |answer| format!("and it answered {} itself", answer.status),
    );
    Judged::new(Code::Healthy).detail(detail)
}

fn foreign(answer: &Answer, inspected: bool, far_end: Hop) -> Judged {
    let by = answer.by.as_deref().map(|by| format!(", by {by}")).unwrap_or_default();
    let kind = answer.content_type.clone().unwrap_or_else(|| "no content type".to_owned());
    let (code, hop) = if answer.is_page() {
        (Code::BlockPageInside, if inspected { Hop::Inspector } else { Hop::Portal })
    } else {
        (Code::ForeignAnswer, if inspected { Hop::Inspector } else { far_end })
    };
    Judged::new(code)
        .at(hop)
        .with("status", answer.status.to_string())
        .detail(format!("{kind}{by}"))
}
