//! The fault matrix of the notes (reliability §4.4), drawn from a seed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::{Chaos, Conduct, Cut, Order, Origin};
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::proxy::{self, Manner as Refusing, Proxy};
use pushrelay::simulate::sender::{Sender, Speech};
use tokio::task::JoinSet;

use crate::causes::Blow;
use crate::ledger::{Allowed, Figures, compare};
use crate::names::{Answering, Names};
use crate::program::Program;
use crate::relay::{Plan, Relay, own_ip};
use crate::senders::{Load, Manner, Shared, sender};
use crate::{HOST, LOOPBACK, Random, size, within};

/// HTTP/1.1 senders, and workers on each of the two HTTP/2 connections.
const ONE_BY_ONE: u64 = 16;
const SHARING: u64 = 16;
/// The route's deadline in a storm, seconds: stalled pushes end soon.
const DEADLINE: u64 = 3;
/// APNs' other port: a test may listen there without root.
const PORT: u16 = 2197;
/// After a fault outside the relay has gone the first push gets through within this. A debug build
/// beside other tests gets more time.
const RECOVERY: Duration = Duration::from_secs(if cfg!(debug_assertions) { 3 } else { 1 });
/// So long senders may wait for a frozen connection: 3 s for the deadline, 2 s for a PING.
const FROZEN: Duration = Duration::from_secs(6);
/// What the relay may still grow by in the second half of a long run, KiB.
const GROWTH: u64 = 2048;

/// Which faults there are besides the origin's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    /// All of them.
    All,
    /// Those after which the process is the same one, so that its memory can be watched.
    SameProcess,
    /// Those that any program without egress proxy can meet: directly, one team, no crash.
    Common,
}

pub(crate) struct Storm {
    seed: u64,
    faults: Faults,
    pub(crate) load: Arc<Load>,
    pub(crate) origin: Origin,
    names: Option<Names>,
    proxy: Option<Proxy>,
    pub(crate) relay: Relay,
    random: Random,
    blows: Vec<Blow>,
    crashed: bool,
    /// How long the first push took after the names were back.
    recoveries: Vec<Duration>,
    /// Resident memory, KiB, each time that another twentieth was answered.
    memory: Vec<u64>,
}

impl Storm {
    pub(crate) async fn new(program: Program, seed: u64, pushes: u64, faults: Faults) -> Self {
        let load = Load::new(seed, pushes);
        let authority = Throwaway::new("Chaos APNs CA", HOST).unwrap();
        let conduct = Conduct {
            chaos: Some(Chaos { seed, per_mille: size("PUSHRELAY_CHAOS_FAULTS", 30) }),
            delay: Duration::from_millis(5 + seed % 3 * 10),
            in_flight: Some(load.in_flight.clone()),
            limit_falls: seed.is_multiple_of(4),
            ..Conduct::default()
        };
        let proxied = seed.is_multiple_of(2) && faults != Faults::Common;
        let named = !proxied && faults != Faults::Common;
        let at = if named { (own_ip(), PORT).into() } else { LOOPBACK };
        let origin = Origin::start(at, &authority, conduct).await.unwrap();
        let proxy = if proxied {
            let mut conduct = proxy::Conduct::default();
            conduct.map.insert(format!("{HOST}:443"), origin.address());
            let minting = Throwaway::new("Chaos proxy CA", HOST).unwrap();
            let roots = authority.roots();
            Some(Proxy::start(LOOPBACK, minting, roots, conduct).await.unwrap())
        } else {
            None
        };
        let names = match origin.address().ip() {
            std::net::IpAddr::V4(ip) if named => Some(Names::start(ip).await),
            std::net::IpAddr::V4(_) | std::net::IpAddr::V6(_) => None,
        };
        let route = if named { format!("    ports: [{PORT}]\n") } else { String::new() };
        let plan = Plan {
            program,
            accept: Some("[tls, connect]"),
            drain: Some(4),
            deadline: Some(DEADLINE),
            route,
            // Faults end connections all the time; the budget is tested elsewhere.
            egress: "    lane: { dials_per_second: 100 }\n".into(),
            names: names.as_ref().map(|names| names.address),
        };
        let mut relay = Relay::new(&origin, &authority, proxy.as_ref(), &plan);
        relay.start().await;
        Self {
            seed,
            faults,
            load,
            origin,
            names,
            proxy,
            relay,
            random: Random(seed),
            blows: Vec::new(),
            crashed: false,
            recoveries: Vec::new(),
            memory: Vec::new(),
        }
    }

    fn senders(&self) -> JoinSet<()> {
        let mut workers = JoinSet::new();
        let common = self.faults == Faults::Common;
        let to = |speech, proxied: bool| {
            let to = self.relay.address;
            let port = if self.names.is_some() { PORT } else { 443 };
            Sender { port, ..sender(to, &self.relay.issuer, speech, proxied && !common) }
        };
        let manner = |worker: u64| Manner {
            leaves_every: worker.is_multiple_of(8).then_some(31),
            refused_every: Some(17),
            pause: None,
            team: if common { 0 } else { worker % 2 },
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
    fn strikes(&mut self) {
        let in_flight = self.load.in_flight.load(Ordering::Relaxed);
        self.blows.push(Blow { at: Instant::now(), in_flight });
    }

    async fn strike(&mut self) {
        let cut = if self.random.below(2) == 0 { Cut::Close } else { Cut::Reset };
        match self.random.below(if self.faults == Faults::Common { 7 } else { 12 }) {
            0 => self.origin.order(Order::Cut(cut)),
            1 => self.origin.order(Order::GoAway(0, Some("Shutdown".into()))),
            2 => {
                let limit = u32::try_from(self.random.below(3)).unwrap();
                self.origin.order(Order::Limit(limit));
                rest(self.random.below(150)).await;
                self.origin.order(Order::Limit(1000));
            }
            3 => {
                self.origin.change(|conduct| conduct.down = true);
                self.origin.order(Order::Cut(cut));
                rest(self.random.below(200)).await;
                self.origin.change(|conduct| conduct.down = false);
            }
            4 => self.relay.reload().await,
            5 if self.faults == Faults::Common => self.relay.reload().await,
            5 => self.relay.reload_broken().await,
            6 if self.faults != Faults::SameProcess => drop(self.relay.hand_over().await),
            7 if self.seed.is_multiple_of(3) && self.faults == Faults::All => {
                self.crashed = true;
                self.relay.crash().await;
            }
            _ if self.proxy.is_some() => self.strike_proxy().await,
            _ => self.strike_names(cut).await,
        }
    }

    /// The name has no answer while every connection must be dialled anew.
    async fn strike_names(&mut self, cut: Cut) {
        let outages = [Answering::Failure, Answering::NoSuchName, Answering::Silence];
        let outage = outages[usize::try_from(self.random.below(3)).unwrap()];
        let lasts = 50 + self.random.below(500);
        let Some(names) = &self.names else { return };
        names.answer(outage);
        self.origin.order(Order::Cut(cut));
        rest(lasts).await;
        names.answer(Answering::Well);
        let (back, before) = (Instant::now(), self.load.accepted.load(Ordering::Relaxed));
        while self.load.accepted.load(Ordering::Relaxed) == before {
            if self.load.is_over() || back.elapsed() > RECOVERY * 3 {
                break;
            }
            rest(2).await;
        }
        // Whoever waits for a frozen connection has nothing to send.
        let frozen = || {
            let since = |ms| back.duration_since(self.origin.ledger().started()) < FROZEN + ms;
            let mut breaks = self.origin.ledger().breaks().into_iter();
            breaks.any(|broken| broken.silent && since(Duration::from_millis(broken.at_ms)))
        };
        let took = back.elapsed();
        if !self.load.is_over() && (took <= RECOVERY || !frozen()) {
            self.recoveries.push(took);
        }
    }

    async fn strike_proxy(&mut self) {
        let pause = self.random.below(200);
        let kind = self.random.below(9);
        self.strikes();
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

    /// Sends everything while faults strike. Returns how many did.
    pub(crate) async fn rage(&mut self, pushes: u64) -> u64 {
        let mut workers = self.senders();
        let most = size("PUSHRELAY_CHAOS_STRIKES", 60);
        let mut strikes = 0;
        loop {
            if self.load.answered.load(Ordering::Relaxed) >= self.memory.len() as u64 * pushes / 20
            {
                self.memory.push(self.relay.memory());
            }
            let pause = Duration::from_millis(10 + self.random.below(most));
            let pause = tokio::time::sleep(pause);
            tokio::select! {
                () = async { while workers.join_next().await.is_some() {} } => break,
                () = pause => {}
            }
            self.strike().await;
            strikes += 1;
        }
        self.memory.push(self.relay.memory());
        self.relay.stop(30).await;
        strikes
    }

    async fn run(mut self, pushes: u64) -> (Figures, Vec<String>) {
        let strikes = self.rage(pushes).await;
        let allowed = Allowed {
            // A slow machine writes its answers late; MPNS' 8 s are above the deadline anyway.
            within: Duration::from_secs(DEADLINE + 2),
            crashed: self.crashed,
            sampled: false,
            blows: std::mem::take(&mut self.blows),
            senders: (ONE_BY_ONE + 2 * SHARING) * size("PUSHRELAY_CHAOS_WIDTH", 1),
        };
        let (figures, mut wrong) = compare(&self.load, &self.relay, self.origin.ledger(), &allowed);
        eprintln!(
            "seed {}: {figures:?}, {} faults, {strikes} strikes, memory {:?} KiB, names back after \
             {:?}",
            self.seed,
            self.origin.ledger().summary().faults,
            self.memory,
            self.recoveries,
        );
        let late = self.recoveries.iter().filter(|took| **took > RECOVERY);
        wrong
            .extend(late.map(|took| format!("the first push after the names were back: {took:?}")));
        wrong.extend(self.growth());
        (figures, wrong)
    }

    /// Flat memory: what the second half of a long run added.
    fn growth(&self) -> Option<String> {
        if self.faults != Faults::SameProcess {
            return None;
        }
        let (first, second) = self.memory.split_at(self.memory.len() / 2);
        let most = |half: &[u64]| half.iter().copied().max().unwrap_or(0);
        let grown = most(second).saturating_sub(most(first));
        (grown > GROWTH).then(|| format!("memory grew by {grown} KiB: {:?}", self.memory))
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
    let same = size("PUSHRELAY_CHAOS_SAME_PROCESS", 0) == 1;
    let faults = if same { Faults::SameProcess } else { Faults::All };
    for seed in first..first + seeds {
        let storm = Storm::new(Program::Pushrelay, seed, pushes, faults);
        let run = async { storm.await.run(pushes).await };
        let began = Instant::now();
        let (figures, wrong) = within(60 + pushes / 50, run).await;
        eprintln!("seed {seed} took {:?}", began.elapsed());
        assert!(wrong.is_empty(), "seed {seed}:\n{}", wrong.join("\n"));
        total.pushes += figures.pushes;
        total.accepted += figures.accepted;
        total.unknown += figures.unknown;
        total.not_sent += figures.not_sent;
        total.provider_refused += figures.provider_refused;
        total.caught += figures.caught;
        total.account.add(figures.account);
        total.left += figures.left;
        total.died += figures.died;
    }
    assert!(total.accepted * 4 > total.pushes, "pushes get through: {total:?}");
    eprintln!("all seeds: {total:?} in {:?}", started.elapsed());
}
