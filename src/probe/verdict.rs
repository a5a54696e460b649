//! From findings to one sentence and one action: a pure function.
//!
//! Says only what the findings prove. Where proxy and what lies beyond it cannot be told apart the
//! sentence says so; control rungs narrow it down. Peer text in slots was cleaned before.

mod connect;
mod origin;
mod tls;

use serde::Serialize;

use super::address::Class;
use super::clock::TOLERATED as SKEW_TOLERATED;
use super::codes::{Code, Severity};
use super::findings::{Failure, Findings};
use super::ladder::{self, Aim};
use super::vendors;
use crate::config::Egress;
use crate::hop::{Hop, HopError, HopErrorKind, LoopCause, Stage};

/// What sentences and actions may contain in braces.
pub const SLOTS: &[&str] = &[
    "addresses",
    "cause",
    "check",
    "clock",
    "control",
    "detail",
    "host",
    "issuer",
    "knob",
    "off",
    "offered",
    "origin",
    "other_port",
    "port",
    "proxy",
    "refuser",
    "seconds",
    "servers",
    "service",
    "speaks",
    "status",
    "timed_by",
    "vendor",
    "way",
];

/// The verdict of one target, and of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How bad.
    pub severity: Severity,
    /// The stable code.
    pub code: &'static str,
    /// Who is at fault.
    pub hop: &'static str,
    /// Who, what, since which hop.
    pub sentence: String,
    /// What to do or to ask for.
    pub action: String,
}

/// A code, the hop that it is said of, and what fills the slots that the findings do not.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    code: Code,
    hop: Hop,
    filled: Vec<(&'static str, String)>,
}

impl Judged {
    /// Said of the code's usual hop.
    fn new(code: Code) -> Self {
        // Every row names at least one hop (a test shows it).
        Self {
            code,
            hop: code.row().hops.first().copied().unwrap_or(Hop::None),
            filled: Vec::new(),
        }
    }

    fn at(mut self, hop: Hop) -> Self {
        self.hop = hop;
        self
    }

    fn with(mut self, slot: &'static str, text: impl Into<String>) -> Self {
        self.filled.push((slot, text.into()));
        self
    }

    fn detail(self, text: impl Into<String>) -> Self {
        self.with("detail", text)
    }
}

/// Judges one target.
pub fn judge(findings: &Findings) -> Verdict {
    let judged = match address(findings) {
        Some(judged) => judged,
        None => match &findings.failure {
            Some(failure) => failed(findings, failure),
            None => origin::answered(findings),
        },
    };
    let judged = other_port(findings, judged);
    rendered(findings, &judged)
}

/// Judges the failure of a push, of which only the error is known: no ladder, no control rungs.
pub fn of_error(aim: &Aim, egress: Option<&Egress>, error: &HopError) -> Verdict {
    let mut findings = ladder::unclimbed(egress, aim);
    ladder::at_fault(egress, error, &mut findings);
    findings.failure = Some(ladder::failure(error, findings.proxy.as_ref()));
    judge(&findings)
}

/// A verdict of another ladder than the dialer's: the code and what fills its slots.
pub fn said(findings: &Findings, code: Code, filled: Vec<(&'static str, String)>) -> Verdict {
    let mut judged = Judged::new(code);
    judged.filled = filled;
    rendered(findings, &judged)
}

/// Where no provider can be, TCP proves nothing.
fn address(findings: &Findings) -> Option<Judged> {
    let (_, class) = findings.addresses.as_ref()?;
    if findings.proxy.is_some() || findings.pinned || findings.failure.is_none() {
        return None;
    }
    if matches!(findings.failure.as_ref()?.kind, HopErrorKind::Loop(_)) {
        return None;
    }
    match class {
        Class::Public => None,
        Class::Private | Class::Loopback if findings.own => None,
        Class::Private => Some(Judged::new(Code::AddressPrivate)),
        Class::Loopback | Class::Sinkhole => Some(Judged::new(Code::AddressSinkhole)),
    }
}

fn failed(findings: &Findings, failure: &Failure) -> Judged {
    if let HopErrorKind::Loop(cause) = &failure.kind {
        return looped(failure, *cause);
    }
    match failure.stage {
        Stage::Queue => Judged::new(Code::OurFault).detail(text(failure)),
        Stage::Resolve => resolve(findings, failure),
        Stage::Tcp | Stage::ProxyTls | Stage::Connect => connect::judge(findings, failure),
        Stage::Tls => tls::handshake(findings, failure),
        Stage::Alpn => tls::alpn(findings, failure),
        Stage::Settings => tls::settings(findings, failure),
        Stage::Ping | Stage::Request => origin::unanswered(findings, failure),
    }
}

fn looped(failure: &Failure, cause: LoopCause) -> Judged {
    match cause {
        LoopCause::HostsFile => Judged::new(Code::LoopHostsFile),
        LoopCause::Stub => Judged::new(Code::LoopStub),
        LoopCause::Zone => Judged::new(Code::LoopZone),
        LoopCause::Proxy => Judged::new(Code::LoopProxy),
        LoopCause::OwnCertificate => Judged::new(Code::LoopCertificate).at(failure.hop),
    }
}

fn resolve(findings: &Findings, failure: &Failure) -> Judged {
    if failure.at_proxy && matches!(failure.kind, HopErrorKind::NameNotFound) {
        return Judged::new(Code::ProxyNameNotFound);
    }
    // It is the proxy's name that was asked for.
    let asked = |judged: Judged| match &findings.proxy {
        Some(proxy) if failure.at_proxy => judged.with("host", proxy.host.to_string()),
        Some(_) | None => judged,
    };
    if failure.hop == Hop::RelayHost {
        return asked(Judged::new(Code::NoResolver));
    }
    if failure.kind == HopErrorKind::NameNotFound {
        return asked(Judged::new(Code::NameNotFound));
    }
    let unreachable = HopErrorKind::Io(std::io::ErrorKind::NetworkUnreachable);
    if failure.kind == HopErrorKind::Timeout || failure.kind == unreachable {
        return asked(Judged::new(Code::ResolverSilent));
    }
    if failure.kind == HopErrorKind::Unreachable {
        return asked(Judged::new(Code::AddressSinkhole));
    }
    let says = if let HopErrorKind::NameRefused(says) = &failure.kind {
        says.clone()
    } else {
        text(failure)
    };
    asked(Judged::new(Code::ResolverFailed).detail(says))
}

/// Another port of the same host works: the relay copes, and that is the news.
fn other_port(findings: &Findings, judged: Judged) -> Judged {
    let failed = judged.code.row().severity == Severity::Fail;
    let Some(other) = findings.controls.other_port.as_ref().filter(|other| other.worked()) else {
        return judged;
    };
    if !failed || !findings.h2_only || other.with.host != findings.origin.host {
        return judged;
    }
    let cause = rendered(findings, &judged).sentence;
    Judged::new(Code::OtherPort)
        .at(judged.hop)
        .with("other_port", other.with.port.to_string())
        .with("cause", cause)
}

/// The failure in words: the kind, and the cause when it adds something.
fn text(failure: &Failure) -> String {
    let kind = failure.kind.to_string();
    match &failure.cause {
        Some(cause) if !kind.contains(cause.as_str()) => format!("{kind}: {cause}"),
        Some(_) | None => kind,
    }
}

/// Who may stand between, when the dialer's word is not enough.
const fn between(findings: &Findings) -> Hop {
    if findings.proxy.is_some() { Hop::BeyondProxy } else { Hop::Network }
}

/// The certificate is an inspector's, as far as its root or its name tells.
fn is_inspected(findings: &Findings) -> bool {
    let shown = findings.shown.as_ref();
    shown.is_some_and(|shown| {
        shown.inspected
            || shown.issuer.as_deref().is_some_and(|it| vendors::by_issuer(it).is_some())
    })
}

fn issuer(findings: &Findings) -> Option<String> {
    let from_controls = || {
        let tried = [&findings.controls.no_alpn, &findings.controls.both_alpn];
        tried.into_iter().flatten().find_map(|tried| tried.issuer.clone())
    };
    let from_failure = || {
        let kind = &findings.failure.as_ref()?.kind;
        if let HopErrorKind::Certificate { issuer, .. } | HopErrorKind::AlpnNotH2 { issuer, .. } =
            kind
        {
            return issuer.clone();
        }
        None
    };
    let from_shown = || findings.shown.as_ref().and_then(|shown| shown.issuer.clone());
    from_failure().or_else(from_shown).or_else(from_controls)
}

/// Somebody else's clock says the same as ours.
fn is_right(findings: &Findings) -> bool {
    findings.skew.is_some_and(|skew| skew.abs() <= SKEW_TOLERATED)
}

fn rendered(findings: &Findings, judged: &Judged) -> Verdict {
    let row = judged.code.row();
    let fill = |template: &str| fill(template, |slot| value(findings, judged, slot));
    let mut sentence = fill(row.sentence);
    if row.sentence.starts_with("{vendor}") {
        // "the inspecting box" begins it; a vendor's name has its own letters.
        sentence = sentence.replacen("the ", "The ", usize::from(sentence.starts_with("the ")));
    }
    if row.severity == Severity::Fail
        && let Some(direct) = &findings.controls.direct
    {
        sentence.push_str(if direct.worked() {
            " Directly, without the proxy, the same host answers."
        } else {
            " Directly, without the proxy, it fails as well."
        });
    }
    Verdict {
        severity: row.severity,
        code: row.word,
        hop: judged.hop.word(),
        sentence,
        action: fill(row.action),
    }
}

/// Replaces each `{slot}`; an empty one leaves no hole.
pub(super) fn fill(template: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((slot, behind)) = after.split_once('}') else { break };
        out.push_str(&value(slot));
        rest = behind;
    }
    out.push_str(rest);
    out.replace("  ", " ").trim().to_owned()
}

fn value(findings: &Findings, judged: &Judged, slot: &str) -> String {
    if let Some((_, text)) = judged.filled.iter().find(|(name, _)| *name == slot) {
        return text.clone();
    }
    let vendor = issuer(findings).as_deref().and_then(vendors::by_issuer);
    let controls = &findings.controls;
    match slot {
        "host" => findings.origin.host.to_string(),
        "origin" => findings.origin.to_string(),
        "port" => findings.origin.port.to_string(),
        "proxy" => {
            findings.proxy.as_ref().map_or_else(|| "the proxy".to_owned(), ToString::to_string)
        }
        "way" => findings
            .proxy
            .as_ref()
            .map_or_else(|| "on the direct path".to_owned(), |proxy| format!("through {proxy}")),
        "servers" => findings.servers.clone().unwrap_or_else(|| "of this machine".to_owned()),
        "addresses" => {
            findings.addresses.as_ref().map_or_else(|| "no address".to_owned(), |it| it.0.clone())
        }
        "issuer" => issuer(findings).unwrap_or_else(|| "an issuer without a name".to_owned()),
        "vendor" => match vendor {
            Some(vendor) => format!("{} (by the issuer's name)", vendor.name),
            None if is_inspected(findings) => "the inspecting box".to_owned(),
            None => "the people of the box that ends TLS".to_owned(),
        },
        "knob" => vendor.map(|vendor| vendor.knob.to_owned()).unwrap_or_default(),
        "control" => controls
            .other_host
            .as_ref()
            .map_or_else(|| "another host".to_owned(), |tried| tried.with.to_string()),
        "seconds" => findings
            .idle
            .filter(|(_, lives)| !lives)
            .map(|(seconds, _)| seconds.to_string())
            .or_else(|| findings.skew.map(|skew| skew.abs().to_string()))
            .unwrap_or_default(),
        // A provider's ports are open and its machines on; those of a service of one's own may not
        // be.
        "refuser" if findings.own => ": nobody listens there, or a firewall resets".to_owned(),
        "refuser" => ", and the provider does not refuse: a firewall resets".to_owned(),
        "off" if findings.own => ", or the machine is off".to_owned(),
        "service" if findings.own => "See whether the service runs there. ".to_owned(),
        "timed_by" => findings.timed_by.clone().unwrap_or_else(|| "what the peers say".to_owned()),
        "clock" => match (&findings.timed_by, is_right(findings)) {
            (Some(by), true) => format!("; by the clock of {by} too"),
            (Some(_) | None, _) => String::new(),
        },
        "check" if is_right(findings) => String::new(),
        "check" => "Check this machine's clock first. ".to_owned(),
        "detail" => findings.failure.as_ref().map(text).unwrap_or_default(),
        // Filled by whoever chose the code; a test renders every code.
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
