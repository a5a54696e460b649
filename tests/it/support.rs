//! The test kit: four builders that put a deployment together.

mod corporate;
mod origin;
mod relay;
mod sender;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

pub(crate) use corporate::{Corporate, corporate};
pub(crate) use origin::{TestOrigin, origin};
pub(crate) use relay::{Relay, relay};
pub(crate) use sender::{SPEECHES, alert, id, raw, receipts, sender};

/// The host of nearly every push.
pub(crate) const HOST: &str = "api.push.apple.com";
/// The topic of nearly every push.
pub(crate) const TOPIC: &str = "com.example.chat";
/// A free port.
pub(crate) const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Longer than every deadline of the relay, shorter than patience.
const DEADLINE: Duration = Duration::from_secs(40);

/// Waits, but not for ever.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("the test's deadline")
}
