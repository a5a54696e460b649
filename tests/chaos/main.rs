//! The ledger tests: the real binary between simulated senders, a simulated corporate proxy and a
//! simulated APNs, all of them faulty, and three ledgers compared at the end.
//!
//! Small by default; the nightly run sizes them by environment: `PUSHRELAY_CHAOS_PUSHES` (per
//! seed), `_SEEDS`, `_SEED` (the first), `_WIDTH` (times 48 senders), `_FAULTS` (per mille of the
//! pushes), `_STRIKES` (at most so many milliseconds between two), `_SAME_PROCESS` (1: no
//! succession, and memory must be flat), `_SIGTERMS`, `_DRAIN` (seconds), `_MADE_UP` (tokens),
//! `_LIMITED` (pushes). `_PEER` chooses one program by its name in the tables of `peers`.
//! Every fault is drawn from the seed. Figures are printed (`--nocapture`).

#![allow(clippy::unwrap_used, reason = "the kit is test code too; clippy sees only #[test] bodies")]
#![allow(clippy::print_stderr, reason = "figures are the point of the long runs")]

/// What may end a push as unknown.
mod causes;
/// What became of each push: the sender's view, the relay's line, the origin's entry.
mod ledger;
/// A name server that fails.
mod names;
/// The same faults and successions for strangers.
mod peers;
/// What stands between senders and origin.
mod program;
/// The real binary: started, signalled, killed, succeeded.
mod relay;
/// Many senders at once, over HTTP/1.1 and HTTP/2.
mod senders;

/// SIGTERM under load.
mod drain;
/// An origin that allows one stream for ever.
mod limit;
/// The Mattermost push proxy and a corporate proxy that dies.
mod mpns;
/// The whole fault matrix, seeded.
mod storm;
/// Teams, keys and made-up tokens.
mod teams;

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

/// The host of every push.
const HOST: &str = "api.push.apple.com";
/// The topic of every push.
const TOPIC: &str = "com.example.chat";
/// A free port.
const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A size of the run.
fn size(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// Waits, but not for ever.
async fn within<T>(seconds: u64, what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(seconds), what).await.expect("the test's deadline")
}

/// SplitMix64, as the simulated origin scatters its faults.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
