//! What we know about each push provider: hosts, ports, paths, methods, dialect.
//!
//! Tables and pure functions only; a preset of relay.yaml expands from here.

use std::fmt;

pub mod apns;
pub mod fcm;
pub mod mattermost;

/// Which provider a route leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Provider {
    /// Apple Push Notification service.
    Apns,
    /// Firebase Cloud Messaging with its OAuth2 and topic hosts.
    Fcm,
    /// Mattermost's hosted push proxies.
    Mattermost,
    /// A route with `hosts` and `origin` of its own.
    Own,
}

/// The form of the relay's own answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// `{"reason": ...}`.
    Apns,
    /// google.rpc.Status as JSON.
    Fcm,
    /// 200 with `{"status":"FAIL","error":...}`.
    Mattermost,
    /// RFC 6749 §5.2.
    OAuth2,
    /// JSON of our own.
    Plain,
}

/// A host of a preset.
#[derive(Debug, Clone, Copy)]
pub struct PresetHost {
    /// The name.
    pub host: &'static str,
    /// Ports at the origin, in the order tried.
    pub ports: &'static [u16],
    /// `false` for cleartext HTTP (push-test on port 80 only).
    pub tls: bool,
    /// The dialect of our own answers.
    pub dialect: Dialect,
    /// Methods and path patterns (exact, or one trailing `*`).
    pub permitted: &'static [(&'static [&'static str], &'static str)],
    /// The APNs environment; `None` elsewhere.
    pub environment: Option<Environment>,
}

/// Production or sandbox of APNs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Environment {
    /// `api.push.apple.com` and its siblings.
    Production,
    /// `api.sandbox.push.apple.com`, its alias `api.development`, and siblings.
    Sandbox,
}

impl Provider {
    /// The word in relay.yaml, logs and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Apns => "apns",
            Self::Fcm => "fcm",
            Self::Mattermost => "mattermost",
            Self::Own => "own",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
