//! The fault matrix of the notes (reliability §4.4), drawn from a seed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::{Chaos, Conduct, Cut, Order, Origin};
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::proxy::{self, Manner as Refusing, Proxy};
use pushrelay::simulate::sender::Speech;
use tokio::task::JoinSet;

use crate::ledger::{Allowed, Figures, compare};
use crate::relay::{Plan, Relay};
use crate::senders::{Load, Manner, Shared, sender};
use crate::{HOST, LOOPBACK, Random, size, within};

/// HTTP/1.1 senders, and workers on each of the two HTTP/2 connections.
const ONE_BY_ONE: u64 = 16;
const SHARING: u64 = 16;
/// The route's deadline in a storm: stalled pushes end soon.
const DEADLINE: Duration = Duration::from_secs(3);

struct Storm {
    seed: u64,
    load: Arc<Load>,
    origin: Origin,
    proxy: Option<Proxy>,
    relay: Relay,
    random: Random,
    in_flight: u64,
    crashed: bool,
}

impl Storm {
    async fn new(seed: u64, pushes: u64) -> Self {
        let load = Load::new(seed, pushes);
        let authority = Throwaway::new("Chaos APNs CA", HOST).unwrap();
        let conduct = Conduct {
            chaos: Some(Chaos { seed, per_mille: size("PUSHRELAY_CHAOS_FAULTS", 30) }),
            delay: Duration::from_millis(5 + seed % 3 * 10),
            in_flight: Some(load.in_flight.clone()),
            limit_falls: seed.is_multiple_of(4),
            ..Conduct::default()
        };
        let origin = Origin::start(LOOPBACK, &authority, conduct).await.unwrap();
        let proxy = if seed.is_multiple_of(2) {
            let mut conduct = proxy::Conduct::default();
            conduct.map.insert(format!("{HOST}:443"), origin.address());
            let minting = Throwaway::new("Chaos proxy CA", HOST).unwrap();
            let roots = authority.roots();
            Some(Proxy::start(LOOPBACK, minting, roots, conduct).await.unwrap())
        } else {
            None
        };
        let plan = Plan {
            accept: Some("[tls, connect]"),
            top: "drain: 4s\n".into(),
            route: format!("    deadline: {}s\n", DEADLINE.as_secs()),
            // Faults end connections all the time; the budget is tested elsewhere.
            egress: "    lane: { dials_per_second: 100 }\n".into(),
            log: None,
        };
        let mut relay = Relay::new(&origin, &authority, proxy.as_ref(), &plan);
        relay.start().await;
        let random = Random(seed);
        Self { seed, load, origin, proxy, relay, random, in_flight: 0, crashed: false }
    }

    fn senders(&self) -> JoinSet<()> {
        let mut workers = JoinSet::new();
        let to = |speech, proxied| sender(self.relay.address, &self.relay.issuer, speech, proxied);
        let manner = |worker: u64| Manner {
            leaves_every: worker.is_multiple_of(8).then_some(31),
            refused_every: Some(17),
            pause: None,
            team: worker % 2,
            ..Manner::default()
        };
        let width = size("PUSHRELAY_CHAOS_WIDTH", 1);
        for worker in 0..ONE_BY_ONE * width {
            let speech = if worker % 4 == 0 { Speech::Http11WithoutAlpn } else { Speech::Http11 };
            let sender = to(speech, worker % 2 == 1);
            workers.spawn(self.load.clone().one_by_one(sender, manner(worker)));
        }
        for proxied in [false, true] {
            let wire = Shared::new(to(Speech::Http2, proxied));
            for worker in 0..SHARING * width {
                workers.spawn(self.load.clone().shared(wire.clone(), manner(worker)));
            }
        }
        workers
    }

    /// Something outside the origin breaks what is in flight.
    fn breaks(&mut self) {
        self.in_flight += self.load.in_flight.load(Ordering::Relaxed);
    }

    async fn strike(&mut self) {
        let cut = if self.random.below(2) == 0 { Cut::Close } else { Cut::Reset };
        match self.random.below(12) {
            0 => {
                self.breaks();
                self.origin.order(Order::Cut(cut));
            }
            1 => self.origin.order(Order::GoAway(0, Some("Shutdown".into()))),
            2 => {
                let limit = u32::try_from(self.random.below(3)).unwrap();
                self.origin.order(Order::Limit(limit));
                rest(self.random.below(150)).await;
                self.origin.order(Order::Limit(1000));
            }
            3 => {
                self.origin.change(|conduct| conduct.down = true);
                self.breaks();
                self.origin.order(Order::Cut(cut));
                rest(self.random.below(200)).await;
                self.origin.change(|conduct| conduct.down = false);
            }
            4 | 5 => self.relay.signal("-HUP"),
            6 => drop(self.relay.hand_over().await),
            7 if self.seed.is_multiple_of(3) => {
                self.crashed = true;
                self.breaks();
                self.relay.crash().await;
                // Counted again: some began between the count and the signal.
                self.breaks();
            }
            _ => self.strike_proxy().await,
        }
    }

    async fn strike_proxy(&mut self) {
        let pause = self.random.below(200);
        let kind = self.random.below(9);
        self.breaks();
        let Some(proxy) = &self.proxy else { return };
        let set = |manner| proxy.change(|conduct| conduct.manner = manner);
        match kind {
            0 => set(Refusing::Refuse(502)),
            1 => set(Refusing::Challenge(vec!["Basic realm=\"chaos\"".into()])),
            2 => set(Refusing::ResetAfterConnect),
            3 => set(Refusing::Mute),
            4 => proxy.change(|conduct| conduct.down = true),
            _ => {}
        }
        proxy.cut();
        rest(pause).await;
        proxy.change(|conduct| {
            conduct.manner = Refusing::Tunnel;
            conduct.down = false;
        });
    }

    async fn run(mut self) -> (Figures, Vec<String>, u64) {
        let mut workers = self.senders();
        let memory = self.relay.memory();
        let most = size("PUSHRELAY_CHAOS_STRIKES", 60);
        let mut strikes = 0;
        loop {
            let pause = Duration::from_millis(10 + self.random.below(most));
            let pause = tokio::time::sleep(pause);
            tokio::select! {
                () = async { while workers.join_next().await.is_some() {} } => break,
                () = pause => {}
            }
            self.strike().await;
            strikes += 1;
        }
        let after = self.relay.memory();
        self.relay.stop(30).await;
        let allowed = Allowed {
            // A slow machine writes its answers late; MPNS' 8 s are above the deadline anyway.
            within: DEADLINE + Duration::from_secs(2),
            crashed: self.crashed,
            sampled: false,
            in_flight: self.in_flight,
        };
        let (figures, wrong) = compare(&self.load, &self.relay, self.origin.ledger(), allowed);
        let summary = self.origin.ledger().summary();
        eprintln!(
            "seed {}: {figures:?}, {} faults, {strikes} strikes, in flight at them {}, caught at \
             the origin {}, memory {memory} -> {after} KiB",
            self.seed, summary.faults, self.in_flight, summary.caught
        );
        (figures, wrong, after)
    }
}

async fn rest(ms: u64) {
    tokio::time::sleep(Duration::from_millis(ms)).await;
}

/// I1-I7, I9-I11, I13: nothing lost, nothing twice, and every push has exactly one outcome.
#[tokio::test]
async fn i1_to_i13_hold_in_a_storm_of_faults() {
    let pushes = size("PUSHRELAY_CHAOS_PUSHES", 500);
    let seeds = size("PUSHRELAY_CHAOS_SEEDS", 4);
    let first = size("PUSHRELAY_CHAOS_SEED", 1);
    let started = Instant::now();
    let mut total = Figures::default();
    for seed in first..first + seeds {
        let run = async { Storm::new(seed, pushes).await.run().await };
        let began = Instant::now();
        let (figures, wrong, _) = within(60 + pushes / 50, run).await;
        eprintln!("seed {seed} took {:?}", began.elapsed());
        assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
        total.pushes += figures.pushes;
        total.accepted += figures.accepted;
        total.unknown += figures.unknown;
        total.not_sent += figures.not_sent;
        total.provider_refused += figures.provider_refused;
        total.caught += figures.caught;
        total.left += figures.left;
        total.died += figures.died;
    }
    assert!(total.accepted * 4 > total.pushes, "pushes get through: {total:?}");
    eprintln!("all seeds: {total:?} in {:?}", started.elapsed());
}
