//! An origin that allows one stream for ever, and many senders.

use std::time::{Duration, Instant};

use pushrelay::simulate::apns::{Conduct, Origin, token_accepted};
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::sender::{Push, Speech};
use tokio::task::JoinSet;

use crate::ledger::{Allowed, compare};
use crate::relay::{Plan, Relay};
use crate::senders::{Load, Manner, sender};
use crate::{HOST, LOOPBACK, TOPIC, size, within};

/// A lane's connections, as shipped.
const CONNECTIONS: u64 = 2;
const SENDERS: u64 = 200;

async fn origin(authority: &std::sync::Arc<Throwaway>) -> Origin {
    let delay = Duration::from_millis(20);
    let conduct = Conduct { warm_limit: 1, delay, ..Conduct::default() };
    Origin::start(LOOPBACK, authority, conduct).await.unwrap()
}

/// As many connections as the relay has, each driven as fast as its limit allows.
async fn driven_directly(authority: &std::sync::Arc<Throwaway>, pushes: u64) -> Duration {
    let origin = origin(authority).await;
    let mut workers = JoinSet::new();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        let sender = sender(origin.address(), authority, Speech::Http2, false);
        open.push(sender.connect().await.unwrap());
    }
    let begun = Instant::now();
    for mut connected in open {
        workers.spawn(async move {
            for serial in 0..pushes / CONNECTIONS {
                let push = Push::alert(&token_accepted(serial), TOPIC);
                assert_eq!(connected.send(&push).await.unwrap().status(), 200);
            }
        });
    }
    within(120 + pushes / 20, workers.join_all()).await;
    begun.elapsed()
}

/// D4, DESIGN §7: nothing lost, no further connection, and no time wasted.
#[tokio::test]
async fn d4_one_stream_for_ever_and_two_hundred_senders() {
    let pushes = size("PUSHRELAY_CHAOS_LIMITED", 400);
    let authority = Throwaway::new("Chaos APNs CA", HOST).unwrap();
    let directly = driven_directly(&authority, pushes).await;
    let origin = origin(&authority).await;
    let mut relay = Relay::new(&origin, &authority, None, &Plan::default());
    relay.start().await;
    let load = Load::new(1, pushes);
    let mut workers = JoinSet::new();
    let begun = Instant::now();
    for worker in 0..SENDERS {
        let speech = if worker % 2 == 0 { Speech::Http11 } else { Speech::Http2 };
        let sender = sender(relay.address, &relay.issuer, speech, false);
        let load = load.clone();
        if speech.multiplexes() {
            let wire = crate::senders::Shared::new(sender);
            workers.spawn(load.shared(wire, Manner::default()));
        } else {
            workers.spawn(load.one_by_one(sender, Manner::default()));
        }
    }
    within(120 + pushes / 20, workers.join_all()).await;
    let took = begun.elapsed();
    relay.stop(30).await;
    let allowed = Allowed::nothing(8);
    let (figures, wrong) = compare(&load, &relay, origin.ledger(), &allowed);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(figures.accepted, pushes);
    let summary = origin.ledger().summary();
    assert!(summary.accepted <= CONNECTIONS, "{} connections", summary.accepted);
    assert_eq!((summary.refused_surplus, summary.most_streams), (0, 1));
    let ratio = directly.as_secs_f64() / took.as_secs_f64();
    eprintln!("limit 1: {pushes} pushes in {took:?}, directly in {directly:?}: {ratio:.3}");
    // Handshakes of 200 senders are in it; a debug build is slow at them.
    let least = if cfg!(debug_assertions) || pushes < 2000 { 0.5 } else { 0.9 };
    assert!(ratio >= least, "throughput {ratio:.3} of the same connections driven directly");
}
