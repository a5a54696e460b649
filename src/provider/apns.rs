//! APNs: hosts, ports and paths (Apple, "Sending notification requests to APNs" and "Sending
//! channel management requests to APNs").
//!
//! Tables and one rule on answers. Production and sandbox each have a device host, a broadcast host
//! and a channel management host with a port of its own; `api.development` is an older name of the
//! sandbox that senders still use.

use http::HeaderName;

use super::{Dialect, Environment, PresetHost};

/// 2197 lets a firewall pass APNs and no other HTTPS.
pub const PORTS: &[u16] = &[443, 2197];
/// Channel management in production.
pub const MANAGEMENT_PORT: u16 = 2196;
/// Channel management in the sandbox.
pub const SANDBOX_MANAGEMENT_PORT: u16 = 2195;

/// The name of a push; every answer to one carries it.
pub static APNS_ID: HeaderName = HeaderName::from_static("apns-id");
/// The name of an answer of the channel management.
pub static APNS_REQUEST_ID: HeaderName = HeaderName::from_static("apns-request-id");

const BROADCAST: (&[&str], &str) = (&["POST"], "/4/broadcasts/apps/*");

/// Apple's prose names the device host for broadcasts too, its examples the broadcast host.
const DEVICE: &[(&[&str], &str)] = &[(&["POST"], "/3/device/*"), BROADCAST];

const MANAGEMENT: &[(&[&str], &str)] =
    &[(&["POST", "GET", "DELETE"], "/1/apps/*/channels"), (&["GET"], "/1/apps/*/all-channels")];

const fn host(
    host: &'static str,
    ports: &'static [u16],
    permitted: &'static [(&'static [&'static str], &'static str)],
    environment: Environment,
) -> PresetHost {
    let dialect = Dialect::Apns;
    PresetHost { host, ports, tls: true, dialect, permitted, environment: Some(environment) }
}

/// Every host of APNs.
pub const HOSTS: &[PresetHost] = &[
    host("api.push.apple.com", PORTS, DEVICE, Environment::Production),
    host("api-broadcast.push.apple.com", PORTS, &[BROADCAST], Environment::Production),
    host(
        "api-manage-broadcast.push.apple.com",
        &[MANAGEMENT_PORT],
        MANAGEMENT,
        Environment::Production,
    ),
    host("api.sandbox.push.apple.com", PORTS, DEVICE, Environment::Sandbox),
    host("api.development.push.apple.com", PORTS, DEVICE, Environment::Sandbox),
    host("api-broadcast.sandbox.push.apple.com", PORTS, &[BROADCAST], Environment::Sandbox),
    host(
        "api-manage-broadcast.sandbox.push.apple.com",
        &[SANDBOX_MANAGEMENT_PORT],
        MANAGEMENT,
        Environment::Sandbox,
    ),
];

/// Reasons that say that the connection is bound to another key or environment (Apple,
/// "Establishing a token-based connection to APNs"): the push is answered, the connection is of
/// no more use to that credential.
pub fn binds_the_connection(body: &[u8]) -> bool {
    ["UnrelatedKeyIdInToken", "BadEnvironmentKeyIdInToken", "BadEnvironmentKeyInToken"]
        .iter()
        .any(|reason| body.windows(reason.len()).any(|window| window == reason.as_bytes()))
}
