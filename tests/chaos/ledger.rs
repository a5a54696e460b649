//! The three ledgers and their rules (I1-I7, I10, I11, I13 of the notes, in DESIGN's words).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::{Entry, Fate, Ledger};

use crate::causes::{Account, Blow, Breaks, charge};
use crate::relay::Relay;
use crate::senders::Load;

/// How one try ended for its sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum View {
    /// An answer: its status, its outcome, whether it names this push, its reason.
    Answer { status: u16, outcome: String, mine: bool, reason: Option<String> },
    /// The protocol proves that nothing was done (refused stream, above GOAWAY, never written).
    Unprocessed,
    /// The sender did not wait.
    Left,
    /// The connection ended, and the sender does not know.
    Died(String),
    /// No relay was there.
    NeverReached,
}

impl View {
    /// Told to come again later, or that the way is broken: a sender waits before its next push.
    pub(crate) fn asks_for_rest(&self) -> bool {
        matches!(self, Self::Answer { status: 502..=504, .. })
    }
}

/// A push as its sender knows it.
#[derive(Debug, Clone)]
pub(crate) struct Made {
    body_hash: String,
    refused: Option<(u16, &'static str)>,
    pub(crate) views: Vec<View>,
    /// How often its sender sent it: again only where told that it was not processed.
    pub(crate) tries: u64,
    pub(crate) began: Instant,
    pub(crate) took: Duration,
}

impl Made {
    pub(crate) fn new(body_hash: String, refused: Option<(u16, &'static str)>) -> Self {
        let (views, began) = (Vec::new(), Instant::now());
        Self { body_hash, refused, views, tries: 0, began, took: Duration::ZERO }
    }
}

/// What a run is allowed.
#[derive(Debug, Clone, Default)]
pub(crate) struct Allowed {
    /// An answer comes within this.
    pub(crate) within: Duration,
    /// The relay crashed: connections may die and lines be missing.
    pub(crate) crashed: bool,
    /// Not every accepted push has a line.
    pub(crate) sampled: bool,
    /// What broke outside the origin.
    pub(crate) blows: Vec<Blow>,
    /// How many senders there are: none has more than one push in flight.
    pub(crate) senders: u64,
}

impl Allowed {
    /// Nothing breaks, and an answer comes within so many seconds.
    pub(crate) fn nothing(within: u64) -> Self {
        Self { within: Duration::from_secs(within), ..Self::default() }
    }
}

/// Figures of a run.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) pushes: u64,
    pub(crate) accepted: u64,
    pub(crate) provider_refused: u64,
    pub(crate) not_sent: u64,
    pub(crate) unknown: u64,
    /// Of the unknown those that met no fault of their own at the origin.
    pub(crate) caught: u64,
    /// What caught them.
    pub(crate) account: Account,
    pub(crate) left: u64,
    pub(crate) died: u64,
    pub(crate) duplicates: u64,
    pub(crate) lost: u64,
}

/// Compares; every broken rule is a line.
pub(crate) fn compare(
    load: &Load,
    relay: &Relay,
    origin: &Ledger,
    allowed: &Allowed,
) -> (Figures, Vec<String>) {
    let made = load.made.lock().unwrap();
    let entries = origin.entries();
    let mut arrived: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in &entries {
        arrived.entry(entry.apns_id.as_deref().unwrap_or("")).or_default().push(entry);
    }
    let lines = relay.lines();
    let mut wrong = Vec::new();
    let mut figures = Figures { pushes: made.len() as u64, ..Figures::default() };
    for id in arrived.keys().filter(|id| !made.contains_key(**id)) {
        wrong.push(format!("I1: {id} arrived and was never sent"));
    }
    for id in lines.keys().filter(|id| !made.contains_key(*id)) {
        wrong.push(format!("I1: the relay has a line for {id}"));
    }
    let mut caught = Vec::new();
    for (id, push) in made.iter() {
        let came = arrived.get(id.as_str()).map_or(&[][..], Vec::as_slice);
        let told = lines.get(id).map_or(&[][..], Vec::as_slice);
        let before = wrong.len();
        if judge(push, came, allowed, &mut figures, &mut wrong) {
            caught.push((id.as_str(), push, came));
        }
        judge_lines(push, told, allowed, &mut wrong);
        for line in &mut wrong[before..] {
            *line = format!("{line}: {id} {push:?} came {came:?} told {told:?}");
        }
    }
    figures.caught = caught.len() as u64;
    let breaks = Breaks {
        started: origin.started(),
        origin: &origin.breaks(),
        blows: &allowed.blows,
        senders: allowed.senders,
    };
    let (account, without) = charge(&caught, breaks);
    figures.account = account;
    for id in without {
        let came = arrived.get(id.as_str());
        let push = &made[&id];
        wrong.push(format!("I11: {id} is unknown without a cause: {push:?} came {came:?}"));
    }
    for violation in origin.violations() {
        wrong.push(format!("a rule of APNs was broken: {violation:?}"));
    }
    wrong.truncate(20);
    (figures, wrong)
}

/// `true` where the push ended as unknown and met no fault of its own at the origin.
fn judge(
    push: &Made,
    came: &[&Entry],
    allowed: &Allowed,
    figures: &mut Figures,
    wrong: &mut Vec<String>,
) -> bool {
    let delivered = came.iter().filter(|entry| entry.delivered).count();
    if delivered > 1 {
        figures.duplicates += 1;
        wrong.push(format!("I2: delivered {delivered} times"));
    }
    for entry in came.iter().filter(|entry| !entry.body_hash.is_empty()) {
        if entry.body_hash != push.body_hash {
            wrong.push("I10: another body".to_owned());
        }
    }
    let answered = |status| came.iter().any(|entry| entry.fate == Fate::Answered(status));
    match push.views.last() {
        None => wrong.push("I7: no outcome".to_owned()),
        Some(View::Unprocessed | View::NeverReached) => {
            figures.lost += 1;
            wrong.push("I7: never served".to_owned());
        }
        Some(View::Left) => figures.left += 1,
        Some(View::Died(_)) => {
            figures.died += 1;
            if !allowed.crashed {
                wrong.push("I7: the connection died".to_owned());
            }
        }
        Some(View::Answer { status, outcome, mine, reason }) => {
            if !mine {
                wrong.push("I6: another push's apns-id".to_owned());
            }
            if push.took > allowed.within {
                wrong.push("I7: too late".to_owned());
            }
            match (outcome.as_str(), status, reason.as_deref()) {
                ("accepted", 200, None) => {
                    figures.accepted += 1;
                    if delivered != 1 || !answered(200) {
                        figures.lost += 1;
                        wrong.push("I3: accepted and not delivered".to_owned());
                    }
                }
                ("provider_refused", status, Some(reason)) => {
                    figures.provider_refused += 1;
                    if push.refused != Some((*status, reason)) || !answered(*status) {
                        wrong.push("I6: another push's answer".to_owned());
                    }
                }
                ("not_sent", 503, Some("ServiceUnavailable")) => {
                    figures.not_sent += 1;
                    if delivered != 0 {
                        wrong.push("I4: said to be unsent and delivered".to_owned());
                    }
                }
                ("unknown", 409, Some("RelayOutcomeUnknown")) => {
                    figures.unknown += 1;
                    return !came.iter().any(|entry| entry.spoilt);
                }
                _ => wrong.push("an answer that no rule allows".to_owned()),
            }
        }
    }
    false
}

/// I13: each exchange has one line, and the line says what the sender was told.
fn judge_lines(push: &Made, told: &[String], allowed: &Allowed, wrong: &mut Vec<String>) {
    let Some(View::Answer { outcome, .. }) = push.views.last() else {
        return;
    };
    let missing = allowed.crashed || (allowed.sampled && outcome == "accepted");
    match told {
        [] if missing => {}
        [line] if line == outcome => {}
        // Tries before the last one were proven unprocessed, and the relay knows it too.
        [before @ .., line] if line == outcome && before.iter().all(|line| line == "not_sent") => {}
        _ => wrong.push("I13: the relay's line differs".to_owned()),
    }
}

/// How one load's pushes ended, by their last views alone.
pub(crate) fn tally(load: &Load) -> Figures {
    let made = load.made.lock().unwrap();
    let mut figures = Figures { pushes: made.len() as u64, ..Figures::default() };
    for push in made.values() {
        match push.views.last() {
            Some(View::Answer { outcome, .. }) => match outcome.as_str() {
                "accepted" => figures.accepted += 1,
                "provider_refused" => figures.provider_refused += 1,
                "not_sent" => figures.not_sent += 1,
                _ => figures.unknown += 1,
            },
            Some(View::Left) => figures.left += 1,
            Some(View::Died(_)) => figures.died += 1,
            Some(View::Unprocessed | View::NeverReached) | None => figures.lost += 1,
        }
    }
    figures
}
