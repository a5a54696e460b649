//! SIGTERM under load, the successor started at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::{Conduct, Origin};
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::sender::Speech;
use tokio::task::JoinSet;

use crate::ledger::{Allowed, Figures, compare};
use crate::relay::{Plan, Relay};
use crate::senders::{Load, Manner, Shared, sender};
use crate::{HOST, LOOPBACK, size, within};

/// Longer than the drains of a run.
const PUSHES: u64 = 100_000_000;

struct Bench {
    origin: Origin,
    relay: Relay,
    load: Arc<Load>,
}

impl Bench {
    async fn new(delay: Duration, drain: u64) -> Self {
        let load = Load::new(drain, PUSHES);
        let authority = Throwaway::new("Chaos APNs CA", HOST).unwrap();
        let conduct = Conduct { delay, ..Conduct::default() };
        let origin = Origin::start(LOOPBACK, &authority, conduct).await.unwrap();
        let plan = Plan { accept: Some("[tls, connect]"), drain: Some(drain), ..Plan::default() };
        let mut relay = Relay::new(&origin, &authority, None, &plan);
        relay.start().await;
        Self { origin, relay, load }
    }

    /// One SIGTERM; how long the old process took to leave.
    async fn hand_over(&mut self, seconds: u64) -> Duration {
        let begun = Instant::now();
        let before = self.relay.hand_over().await;
        let status = self.relay.ended(before, seconds).await;
        assert!(status.success(), "the drain was not complete: {status}");
        begun.elapsed()
    }

    async fn finish(&mut self, workers: JoinSet<()>) -> Figures {
        self.load.stop();
        within(60, workers.join_all()).await;
        self.relay.stop(60).await;
        let allowed = Allowed::nothing(8);
        let (figures, wrong) = compare(&self.load, &self.relay, self.origin.ledger(), &allowed);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(figures.accepted, figures.pushes, "{figures:?}");
        figures
    }
}

/// I8: no push without an outcome, whatever its sender speaks and however it reached the relay.
#[tokio::test]
async fn i8_sigterm_under_load_loses_nothing() {
    let rounds = size("PUSHRELAY_CHAOS_SIGTERMS", 5);
    let mut bench = Bench::new(Duration::from_millis(50), 4).await;
    let mut workers = JoinSet::new();
    let to = |speech, proxied| sender(bench.relay.address, &bench.relay.issuer, speech, proxied);
    for worker in 0..16_u64 {
        let speech = if worker % 4 == 0 { Speech::Http11WithoutAlpn } else { Speech::Http11 };
        let pause = (worker % 2 == 0).then(|| Duration::from_millis(worker * 3));
        let manner = Manner { pause, ..Manner::default() };
        let sender = to(speech, worker % 3 == 1);
        workers.spawn(bench.load.clone().one_by_one(sender, manner));
    }
    for (speech, proxied) in [(Speech::Http2, false), (Speech::Http2WithoutAlpn, true)] {
        let wire = Shared::new(to(speech, proxied));
        for _ in 0..12 {
            workers.spawn(bench.load.clone().shared(wire.clone(), Manner::default()));
        }
    }
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(200)).await;
        longest = longest.max(bench.hand_over(10).await);
    }
    let figures = bench.finish(workers).await;
    eprintln!("{rounds} SIGTERMs: {figures:?}, the longest drain {longest:?}");
}

/// A connection that is never quiet is handed over after a quarter of the drain time.
#[tokio::test]
async fn a_steady_sender_is_handed_over_without_loss() {
    let drain = size("PUSHRELAY_CHAOS_DRAIN", 8);
    let mut bench = Bench::new(Duration::from_millis(400), drain).await;
    let wire = Shared::new(sender(bench.relay.address, &bench.relay.issuer, Speech::Http2, false));
    let mut workers = JoinSet::new();
    workers.spawn(bench.load.clone().steady(wire.clone(), 60));
    for round in 0..2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let took = bench.hand_over(drain + 5).await;
        eprintln!("handed over in {took:?} of a drain of {drain} s");
        assert!(took >= Duration::from_secs(drain / 4), "round {round}: cut after {took:?}");
        let most = Duration::from_secs(drain / 4 + 5);
        assert!(took < most, "round {round}: handed over after {took:?}");
    }
    let figures = bench.finish(workers).await;
    let connections = wire.connections().await;
    eprintln!("a steady sender: {figures:?}, {connections} connections");
    assert!(connections <= 3, "{connections}: one per process");
}
