//! Mattermost's hosted push proxies: hosts and paths.
//!
//! Tables only. push-test answers in cleartext on port 80 too; that entry stands last, so that
//! whoever looks a host up finds TLS first.

use super::{Dialect, PresetHost};

const PERMITTED: &[(&[&str], &str)] =
    &[(&["POST"], "/api/v1/send_push"), (&["POST"], "/api/v1/ack"), (&["GET"], "/version")];

const fn host(host: &'static str, ports: &'static [u16], tls: bool) -> PresetHost {
    let dialect = Dialect::Mattermost;
    PresetHost { host, ports, tls, dialect, permitted: PERMITTED, environment: None }
}

/// Every hosted push proxy; `push` and `hpns-de` are the older names.
pub const HOSTS: &[PresetHost] = &[
    host("us.push.mattermost.com", &[443], true),
    host("eu.push.mattermost.com", &[443], true),
    host("ap.push.mattermost.com", &[443], true),
    host("global.push.mattermost.com", &[443], true),
    host("push.mattermost.com", &[443], true),
    host("hpns-de.mattermost.com", &[443], true),
    host("push-test.mattermost.com", &[443], true),
    host("push-test.mattermost.com", &[80], false),
];
