//! The integration suite: one binary, each test a deployment written down.
//!
//! Port 0, loopback, throw-away certificates, a deadline on every wait, no sleeps.

#![allow(clippy::unwrap_used, reason = "the kit is test code too; clippy sees only #[test] bodies")]
#![allow(clippy::print_stderr, reason = "a failed test shows the relay's log")]

mod support;
mod ways;

/// APNs answers reach HTTP/1 senders exactly as the origin gave them, and pushes arrive clean.
mod exact;
/// GOAWAY, REFUSED_STREAM and cut connections: replayed, replaced, or said to be unknown.
mod faults;
/// The relay shows a provider certificate of its own.
mod identity;
/// Bursts on a cold relay: the peer's stream limit is kept and nothing is lost.
mod limits;
/// The DMZ: what an inspecting proxy makes of a push still reaches APNs.
mod post;
/// Inside: out through a CONNECT proxy.
mod pre;
/// Which hop is at fault, for every fault that can be made here.
mod probe;
/// What the relay refuses, without dialling anybody.
mod refusals;
/// What is served, compared with the file.
mod served;

/// The simulated peers themselves, without a relay between.
mod simulated;
