//! What we know about each push provider: hosts, ports, paths, methods, dialect.
//!
//! Tables and pure functions only; a preset of relay.yaml expands from here.

use std::fmt;
use std::time::Duration;

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
    /// Methods and path patterns: `*` at the end is any rest, elsewhere one segment; neither is
    /// empty.
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

    /// Its hosts; a route of one's own brings them itself.
    pub const fn hosts(self) -> &'static [PresetHost] {
        match self {
            Self::Apns => apns::HOSTS,
            Self::Fcm => fcm::HOSTS,
            Self::Mattermost => mattermost::HOSTS,
            Self::Own => &[],
        }
    }

    /// From the first byte of a request to its answer. Mattermost's push proxy sends again after
    /// 8 s, aioapns after 10 s: an answer after that only makes duplicates. The Mattermost server
    /// waits 30 s; a route of one's own most often serves it.
    pub const fn deadline(self) -> Duration {
        match self {
            Self::Apns | Self::Fcm => Duration::from_secs(7),
            Self::Mattermost | Self::Own => Duration::from_secs(28),
        }
    }

    /// Largest request body, octets; `None` = `limits.body`. APNs takes 5120 and answers a larger
    /// one itself in the words that senders know; FCM's batches and topic lists are long;
    /// Mattermost's payload is cut by its push proxy, not by the server.
    pub const fn body(self) -> Option<usize> {
        match self {
            Self::Apns => Some(8 << 10),
            Self::Fcm => Some(256 << 10),
            Self::Mattermost => Some(64 << 10),
            Self::Own => None,
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_of_a_preset_is_a_name_and_stands_once_for_a_scheme() {
        let mut seen = std::collections::BTreeSet::new();
        for provider in [Provider::Apns, Provider::Fcm, Provider::Mattermost] {
            for host in provider.hosts() {
                assert!(host.host.parse::<crate::names::HostName>().is_ok(), "{}", host.host);
                assert!(seen.insert((host.host, host.tls)), "{}", host.host);
                assert_eq!(host.environment.is_some(), provider == Provider::Apns);
                assert!(!host.permitted.is_empty() && !host.ports.is_empty());
            }
        }
        assert_eq!(
            seen.iter().filter(|(host, tls)| *tls && host.ends_with("mattermost.com")).count(),
            7
        );
    }

    #[test]
    fn channel_management_has_ports_of_its_own() {
        let ports = |name: &str| {
            apns::HOSTS.iter().find(|host| host.host == name).map(|host| host.ports.to_vec())
        };
        assert_eq!(ports("api-manage-broadcast.push.apple.com"), Some(vec![2196]));
        assert_eq!(ports("api-manage-broadcast.sandbox.push.apple.com"), Some(vec![2195]));
        assert_eq!(ports("api.development.push.apple.com"), Some(vec![443, 2197]));
    }
}
