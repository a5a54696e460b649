//! Firebase Cloud Messaging: hosts and paths (Google, "Configure your network for FCM").
//!
//! Tables only. Senders get their OAuth2 token from oauth2 (older key files name accounts or
//! www), send to fcm and manage topics at iid.

use super::{Dialect, PresetHost};

type Permitted = &'static [(&'static [&'static str], &'static str)];

/// The two removed legacy paths pass, so that senders see Google's own 404.
const FCM: Permitted = &[
    (&["POST"], "/v1/projects/*/messages:send"),
    (&["POST"], "/fcm/send"),
    (&["POST"], "/batch"),
    (&["POST", "GET"], "/fcm/notification"),
];

const OAUTH2: Permitted = &[(&["POST"], "/token")];

const ACCOUNTS: Permitted = &[(&["POST"], "/o/oauth2/token")];

const WWW: Permitted = &[
    (&["POST"], "/oauth2/v4/token"),
    (&["POST"], "/oauth2/v3/token"),
    (&["GET"], "/oauth2/v1/certs"),
    (&["GET"], "/oauth2/v3/certs"),
];

const IID: Permitted = &[
    (&["POST"], "/iid/v1:batchAdd"),
    (&["POST"], "/iid/v1:batchRemove"),
    (&["POST"], "/iid/v1:batchImport"),
    (&["POST", "GET"], "/iid/info/*"),
    (&["POST"], "/iid/v1/*"),
];

const fn host(host: &'static str, dialect: Dialect, permitted: Permitted) -> PresetHost {
    PresetHost { host, ports: &[443], tls: true, dialect, permitted, environment: None }
}

/// Every host of FCM.
pub const HOSTS: &[PresetHost] = &[
    host("fcm.googleapis.com", Dialect::Fcm, FCM),
    host("oauth2.googleapis.com", Dialect::OAuth2, OAUTH2),
    host("accounts.google.com", Dialect::OAuth2, ACCOUNTS),
    host("www.googleapis.com", Dialect::OAuth2, WWW),
    host("iid.googleapis.com", Dialect::Fcm, IID),
];
