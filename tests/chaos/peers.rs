//! The same ledger for the relay and for strangers in its place: what they lose, and what they do
//! twice. Strangers are counted, not judged; the relay is judged elsewhere and counted here.
//!
//! Only what any of them can meet: directly to the origin (HAProxy has no CONNECT upstream), one
//! team, no crash. The same senders, seeds and faults for each.

use std::collections::HashMap;
use std::time::Duration;

use pushrelay::simulate::apns::{Conduct, Entry, Fate, Ledger, Origin};
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::sender::Speech;
use tokio::task::JoinSet;

use crate::ledger::{Made, View};
use crate::program::Program;
use crate::relay::{Plan, Relay};
use crate::senders::{Load, Manner, Shared, sender};
use crate::storm::{Faults, Storm};
use crate::{HOST, LOOPBACK, size, within};

/// What became of the pushes, as far as their senders can know.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    pushes: u64,
    /// 200, and the origin accepted it.
    accepted: u64,
    /// The origin's own refusal.
    provider_refused: u64,
    /// A failure that says that it was not sent, and it was not: 502, 503, a refused stream.
    not_sent: u64,
    /// An answer that says that nobody knows: the relay's 409, a gateway's 504.
    unknown: u64,
    /// No answer: the connection or the stream ended, or 15 s passed.
    unanswered: u64,
    /// Of these the ones that the origin accepted.
    unanswered_delivered: u64,
    /// An answer that is not true: 200 for what was not accepted, 502 or 503 for what was.
    untrue: u64,
    /// The origin accepted it twice.
    duplicates: u64,
    /// Of these the ones that a refused stream, which means "not processed", made a sender repeat;
    /// the others the program itself repeated.
    duplicates_refused: u64,
    /// The sender left before.
    left: u64,
    connections: u64,
    /// Streams above the origin's limit.
    surplus: u64,
}

impl Counts {
    /// Compares what the senders were told with what the origin did.
    fn of(load: &Load, origin: &Ledger) -> Self {
        let entries = origin.entries();
        let mut arrived: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in &entries {
            arrived.entry(entry.apns_id.as_deref().unwrap_or("")).or_default().push(entry);
        }
        let summary = origin.summary();
        let mut counts = Self {
            connections: summary.accepted,
            surplus: summary.refused_surplus,
            ..Self::default()
        };
        for (id, made) in load.made.lock().unwrap().iter() {
            counts.count(made, arrived.get(id.as_str()).map_or(&[][..], Vec::as_slice));
        }
        counts
    }

    fn count(&mut self, made: &Made, came: &[&Entry]) {
        let delivered = came.iter().filter(|entry| entry.delivered).count();
        let answered = |status| came.iter().any(|entry| entry.fate == Fate::Answered(status));
        self.pushes += 1;
        self.duplicates += u64::from(delivered > 1);
        self.duplicates_refused += u64::from(delivered > 1 && made.tries > 1);
        match made.views.last() {
            Some(View::Left) => self.left += 1,
            None | Some(View::Died(_)) => {
                self.unanswered += 1;
                self.unanswered_delivered += u64::from(delivered > 0);
            }
            Some(View::Unprocessed | View::NeverReached) if delivered == 0 => self.not_sent += 1,
            Some(View::Unprocessed | View::NeverReached) => self.untrue += 1,
            Some(View::Answer { status, outcome, .. }) => match (status, outcome.as_str()) {
                (200, _) if delivered > 0 && answered(200) => self.accepted += 1,
                (504, _) | (_, "unknown") => self.unknown += 1,
                (502 | 503, _) if delivered == 0 => self.not_sent += 1,
                (status, _) if answered(*status) => self.provider_refused += 1,
                (_, _) => self.untrue += 1,
            },
        }
    }

    fn add(&mut self, other: Self) {
        self.pushes += other.pushes;
        self.accepted += other.accepted;
        self.provider_refused += other.provider_refused;
        self.not_sent += other.not_sent;
        self.unknown += other.unknown;
        self.unanswered += other.unanswered;
        self.unanswered_delivered += other.unanswered_delivered;
        self.untrue += other.untrue;
        self.duplicates += other.duplicates;
        self.duplicates_refused += other.duplicates_refused;
        self.left += other.left;
        self.connections += other.connections;
        self.surplus += other.surplus;
    }

    /// A row of the README's table.
    fn row(&self, program: Program) -> String {
        let columns = [
            program.name().to_owned(),
            self.accepted.to_string(),
            self.provider_refused.to_string(),
            self.not_sent.to_string(),
            self.unknown.to_string(),
            self.unanswered.to_string(),
            self.untrue.to_string(),
            self.duplicates.to_string(),
            self.surplus.to_string(),
            self.connections.to_string(),
        ];
        format!("| {} |", columns.join(" | "))
    }
}

fn table(what: &str, rows: &[(Program, Counts)]) {
    eprintln!(
        "\n{what}\n\n| | accepted | refused by APNs | not sent, and said so | unknown, and said so | \
         no answer | untrue answer | delivered twice | streams above the limit | connections |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    );
    for (program, counts) in rows {
        eprintln!("{}", counts.row(*program));
    }
    for (program, counts) in rows {
        eprintln!("{}: {counts:?}", program.name());
    }
}

/// The relay alone must be without any of it.
fn flawless(counts: &Counts) {
    assert_eq!((counts.unanswered, counts.untrue, counts.duplicates), (0, 0, 0), "{counts:?}");
}

/// Which programs: all, or the one that `PUSHRELAY_CHAOS_PEER` names.
fn programs() -> Vec<Program> {
    let chosen = std::env::var("PUSHRELAY_CHAOS_PEER").ok();
    let all = Program::ALL.into_iter();
    let programs: Vec<_> =
        all.filter(|one| chosen.as_ref().is_none_or(|name| one.name() == name)).collect();
    for program in &programs {
        eprintln!("{}: {}", program.name(), program.version());
    }
    programs
}

/// The storm of faults, with what is common to all.
#[tokio::test]
#[ignore = "needs nghttpx and HAProxy; minutes"]
async fn the_same_storm_for_strangers() {
    let pushes = size("PUSHRELAY_CHAOS_PUSHES", 1000);
    let (first, seeds) = (size("PUSHRELAY_CHAOS_SEED", 1), size("PUSHRELAY_CHAOS_SEEDS", 2));
    let mut rows = Vec::new();
    for program in programs() {
        let mut total = Counts::default();
        for seed in first..first + seeds {
            let mut storm = Storm::new(program, seed, pushes, Faults::Common).await;
            within(120 + pushes / 10, storm.rage(pushes)).await;
            total.add(Counts::of(&storm.load, storm.origin.ledger()));
        }
        if program == Program::Pushrelay {
            flawless(&total);
        }
        rows.push((program, total));
    }
    table(&format!("{pushes} pushes, seeds {first} to {}", first + seeds - 1), &rows);
}

/// Successions under load: 40 senders, answers after 50 ms.
async fn successions(program: Program, rounds: u64) -> Counts {
    let (origin, mut relay) = deployment(program, Duration::from_millis(50), 4).await;
    let load = Load::new(1, u64::MAX);
    let to = |speech| sender(relay.address, &relay.issuer, speech, false);
    let mut workers = JoinSet::new();
    for worker in 0..16_u64 {
        let pause = (worker % 2 == 0).then(|| Duration::from_millis(worker * 3));
        let manner = Manner { pause, ..Manner::default() };
        workers.spawn(load.clone().one_by_one(to(Speech::Http11), manner));
    }
    for _ in 0..2 {
        let wire = Shared::new(to(Speech::Http2));
        for _ in 0..12 {
            workers.spawn(load.clone().shared(wire.clone(), Manner::default()));
        }
    }
    for _ in 0..rounds {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let before = relay.hand_over().await;
        relay.left(before, 20).await;
    }
    load.stop();
    within(60, workers.join_all()).await;
    relay.stop(60).await;
    Counts::of(&load, origin.ledger())
}

/// A sender that is never quiet, 60 pushes a second and 24 in flight, meets two successions.
async fn steady(program: Program, drain: u64) -> Counts {
    let (origin, mut relay) = deployment(program, Duration::from_millis(400), drain).await;
    let load = Load::new(2, u64::MAX);
    let wire = Shared::new(sender(relay.address, &relay.issuer, Speech::Http2, false));
    let mut workers = JoinSet::new();
    workers.spawn(load.clone().steady(wire, 60));
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        // The relay waits a quarter of its time before it hands such a sender over.
        let ends = tokio::time::Instant::now() + Duration::from_secs(drain / 4 + 2);
        let before = relay.hand_over().await;
        relay.left(before, drain + 20).await;
        tokio::time::sleep_until(ends).await;
    }
    load.stop();
    within(60, workers.join_all()).await;
    relay.stop(60).await;
    Counts::of(&load, origin.ledger())
}

async fn deployment(program: Program, delay: Duration, drain: u64) -> (Origin, Relay) {
    let authority = Throwaway::new("Chaos APNs CA", HOST).unwrap();
    let conduct = Conduct { delay, ..Conduct::default() };
    let origin = Origin::start(LOOPBACK, &authority, conduct).await.unwrap();
    let plan = Plan { program, drain: Some(drain), ..Plan::default() };
    let mut relay = Relay::new(&origin, &authority, None, &plan);
    relay.start().await;
    (origin, relay)
}

/// What each program's own way of handing over does to pushes, without any fault.
#[tokio::test]
#[ignore = "needs nghttpx and HAProxy; minutes"]
async fn the_same_successions_for_strangers() {
    let rounds = size("PUSHRELAY_CHAOS_SIGTERMS", 5);
    let drain = size("PUSHRELAY_CHAOS_DRAIN", 8);
    let (mut hurried, mut constant) = (Vec::new(), Vec::new());
    for program in programs() {
        hurried.push((program, successions(program, rounds).await));
        constant.push((program, steady(program, drain).await));
    }
    table(&format!("{rounds} successions, 40 senders"), &hurried);
    table(&format!("2 successions, a steady sender, {drain} s to drain"), &constant);
    for (program, counts) in hurried.iter().chain(&constant) {
        if *program == Program::Pushrelay {
            flawless(counts);
        }
    }
}
