//! What concerns the whole process: drain, leaves, limits, admin, log, audit.

use std::net::SocketAddr;
use std::time::Duration;

use super::check::Check;
use crate::config::raw::{self, Span};
use crate::config::{Admin, Audit, KeyPairFiles, Limits, Log, LogFormat};

/// Below systemd's 90 s until it kills, above the longest deadline of a preset.
const DRAIN: Duration = Duration::from_secs(60);

/// Ten thousand idle TLS connections are some 300 MiB; a push server opens a handful. Heads of
/// real senders stay under 4 KiB, bodies of own routes under 8 KiB.
const LIMITS: Limits =
    Limits { connections: 10_000, exchanges: 20_000, head: 16 << 10, body: 16 << 10 };

/// The largest body that any route may allow: it is held in memory whole.
pub(super) const LARGEST_BODY: usize = 16 << 20;

pub(super) fn drain(check: &mut Check<'_>, written: Option<Span>) -> Duration {
    check.span("drain", written, DRAIN, Duration::ZERO..=Duration::from_secs(3600))
}

pub(super) fn leaves(check: &mut Check<'_>, written: Option<&[raw::KeyPair]>) -> Vec<KeyPairFiles> {
    let written = written.unwrap_or_default().iter().enumerate();
    written.map(|(index, pair)| check.key_pair(&format!("leaves[{index}]"), pair)).collect()
}

pub(super) fn limits(check: &mut Check<'_>, written: Option<&raw::Limits>) -> Limits {
    let Some(raw) = written else { return LIMITS };
    let many = 1..=1_000_000;
    Limits {
        connections: check.number(
            "limits.connections",
            raw.connections,
            LIMITS.connections,
            many.clone(),
        ),
        exchanges: check.number("limits.exchanges", raw.exchanges, LIMITS.exchanges, many),
        head: check.size("limits.head", raw.head, LIMITS.head, 1 << 10..=256 << 10),
        body: check.size("limits.body", raw.body, LIMITS.body, 1..=LARGEST_BODY),
    }
}

pub(super) fn admin(check: &mut Check<'_>, written: Option<&raw::Admin>) -> Admin {
    let default = Admin::default_bind();
    let Some(raw) = written else {
        return Admin { bind: Some(default), networks: Vec::new(), token: None, probe: true };
    };
    let bind = match raw.bind.as_deref() {
        None => Some(default),
        Some("off") => None,
        Some(text) => text.parse::<SocketAddr>().map(Some).unwrap_or_else(|_no_address| {
            check.findings.add(
                "admin.bind",
                "this is not ADDRESS:PORT",
                "write 127.0.0.1:9380, or off",
            );
            None
        }),
    };
    let networks = check.networks("admin.networks", raw.networks.as_deref());
    let token = raw.token.as_ref().map(|token| check.secret("admin.token", token));
    if bind.is_some_and(|bind| !bind.ip().is_loopback()) {
        if networks.is_empty() {
            check.findings.missing(
                "admin.networks",
                "the admin server listens beyond this machine, but `networks` says for whom",
                "add `networks: [ADDRESS/BITS]` to admin, or bind it to 127.0.0.1",
            );
        }
        if token.is_none() {
            check.findings.missing(
                "admin.token",
                "the admin server listens beyond this machine, so it needs a token",
                "add `token: { file: PATH }` to admin, or bind it to 127.0.0.1",
            );
        }
    }
    Admin { bind, networks, token, probe: raw.probe != Some(raw::Switch::Off) }
}

pub(super) fn log(check: &mut Check<'_>, written: Option<&raw::Log>) -> Log {
    let raw = written.cloned().unwrap_or_default();
    let format = match raw.format {
        None | Some(raw::LogFormat::Text) => LogFormat::Text,
        Some(raw::LogFormat::Json) => LogFormat::Json,
        Some(raw::LogFormat::Journald) => LogFormat::Journald,
    };
    let level = match raw.level {
        Some(raw::Level::Error) => "error",
        Some(raw::Level::Warn) => "warn",
        None | Some(raw::Level::Info) => "info",
        Some(raw::Level::Debug) => "debug",
        Some(raw::Level::Trace) => "trace",
    };
    Log {
        format,
        level: level.to_owned(),
        access: raw.access != Some(raw::Switch::Off),
        sample: check.number("log.sample", raw.sample, 1, 1..=1_000_000),
    }
}

pub(super) fn audit(check: &mut Check<'_>, written: Option<&raw::Audit>) -> Audit {
    let raw = written.cloned().unwrap_or_default();
    let refuse_when_full = raw.when_full == Some(raw::WhenFull::Refuse);
    let path = raw.path.as_deref().map(|path| check.file("audit.path", path));
    if refuse_when_full && path.is_none() {
        check.findings.missing(
            "audit.when_full",
            "`when_full: refuse` without an audit log refuses nothing",
            "name the log's file in `path`",
        );
    }
    Audit { path, refuse_when_full }
}
