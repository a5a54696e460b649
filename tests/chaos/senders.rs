//! Many senders: each push is sent until it has an answer or may have been processed.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::{jwt, short_hash, token_accepted, token_for};
use pushrelay::simulate::sender::{Connected, Push, Receipt, SendError, Sender, Speech};

use crate::ledger::{Made, View};
use crate::{HOST, TOPIC};

/// Pause after a push that met a broken way.
const AFTER_5XX: Duration = Duration::from_millis(100);
/// Teams from here on are made up.
const MADE_UP: u64 = 500_000;
/// How long a sender tries to reach a relay that is being replaced.
const REACH: Duration = Duration::from_secs(20);

/// The load: shared by all of its workers.
pub(crate) struct Load {
    pub(crate) seed: u64,
    pub(crate) made: Mutex<HashMap<String, Made>>,
    next: AtomicU64,
    last: AtomicU64,
    /// Pushes handed to a connection and not answered yet.
    pub(crate) in_flight: Arc<AtomicU64>,
    pub(crate) answered: AtomicU64,
    pub(crate) accepted: AtomicU64,
}

/// What a worker does besides waiting for its answers.
#[derive(Clone, Copy, Default)]
pub(crate) struct Manner {
    /// Every so many pushes it leaves after some milliseconds instead of waiting.
    pub(crate) leaves_every: Option<u64>,
    /// Every so many pushes go to a token that APNs refuses.
    pub(crate) refused_every: Option<u64>,
    /// Pause between pushes.
    pub(crate) pause: Option<Duration>,
    /// The team, by number.
    pub(crate) team: u64,
    /// Every push comes with another team that APNs does not know.
    pub(crate) makes_up: bool,
}

impl Load {
    pub(crate) fn new(seed: u64, pushes: u64) -> Arc<Self> {
        Arc::new(Self {
            seed,
            made: Mutex::default(),
            next: AtomicU64::new(1),
            last: AtomicU64::new(pushes),
            in_flight: Arc::default(),
            answered: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
        })
    }

    /// No further push begins.
    pub(crate) fn stop(&self) {
        self.last.store(0, Ordering::Relaxed);
    }

    /// Every push was begun.
    pub(crate) fn is_over(&self) -> bool {
        self.next.load(Ordering::Relaxed) > self.last.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<u64> {
        let serial = self.next.fetch_add(1, Ordering::Relaxed);
        (serial <= self.last.load(Ordering::Relaxed)).then_some(serial)
    }

    /// The apns-id of a push.
    pub(crate) fn id(&self, serial: u64) -> String {
        format!("{:08x}-0000-4000-8000-{serial:012x}", self.seed & 0xffff_ffff)
    }

    fn push(&self, serial: u64, manner: Manner) -> (Push, Made) {
        let id = self.id(serial);
        let refused = manner.refused_every.is_some_and(|every| serial.is_multiple_of(every));
        let token = if refused {
            token_for(410, "Unregistered", serial).unwrap()
        } else {
            token_accepted(serial)
        };
        let body = format!(r#"{{"aps":{{"alert":"{id}"}},"n":{serial}}}"#);
        let number = if manner.makes_up { MADE_UP + serial } else { manner.team };
        let bearer = format!("bearer {}", team(number));
        let expected = match (manner.makes_up, refused) {
            (true, _) => Some((403, "InvalidProviderToken")),
            (false, true) => Some((410, "Unregistered")),
            (false, false) => None,
        };
        let made = Made::new(short_hash(body.as_bytes()), expected);
        let push = Push::alert(&token, TOPIC)
            .apns_id(&id)
            .field("authorization", &bearer)
            .body(body.into_bytes());
        (push, made)
    }

    fn note(&self, serial: u64, view: View, tries: u64, took: Duration) {
        if matches!(&view, View::Answer { status: 200, .. }) {
            self.accepted.fetch_add(1, Ordering::Relaxed);
        }
        let mut made = self.made.lock().unwrap();
        let made = made.get_mut(&self.id(serial)).unwrap();
        made.views.push(view);
        made.tries = tries;
        made.took = took;
        self.answered.fetch_add(1, Ordering::Relaxed);
    }

    /// One sender on HTTP/1.1: a connection of its own, one push after the other.
    pub(crate) async fn one_by_one(self: Arc<Self>, sender: Sender, manner: Manner) {
        let mut open: Option<Connected> = None;
        while let Some(serial) = self.take() {
            let (push, made) = self.push(serial, manner);
            self.made.lock().unwrap().insert(self.id(serial), made);
            let (started, mut tries) = (Instant::now(), 0);
            let view = loop {
                tries += 1;
                let connected = match open.take() {
                    Some(connected) => Some(connected),
                    None => reach(&sender).await,
                };
                let Some(mut connected) = connected else {
                    break View::NeverReached;
                };
                let (view, usable) = self.attempt(&mut connected, &push, serial, manner).await;
                if usable {
                    open = Some(connected);
                }
                if view != View::Unprocessed {
                    break view;
                }
            };
            let rests = view.asks_for_rest();
            self.note(serial, view, tries, started.elapsed());
            rest(rests, manner).await;
        }
    }

    /// One of many workers on a shared HTTP/2 connection.
    pub(crate) async fn shared(self: Arc<Self>, wire: Arc<Shared>, manner: Manner) {
        while let Some(serial) = self.take() {
            let rests = self.clone().one(serial, &wire, manner).await;
            rest(rests, manner).await;
        }
    }

    /// Whether it asked for rest.
    async fn one(self: Arc<Self>, serial: u64, wire: &Shared, manner: Manner) -> bool {
        let (push, made) = self.push(serial, manner);
        self.made.lock().unwrap().insert(self.id(serial), made);
        let (started, mut tries) = (Instant::now(), 0);
        let view = loop {
            tries += 1;
            let Some((generation, mut connected)) = wire.handle().await else {
                break View::NeverReached;
            };
            let (view, usable) = self.attempt(&mut connected, &push, serial, manner).await;
            if !usable && view != View::Left {
                wire.give_up(generation).await;
            }
            if view != View::Unprocessed {
                break view;
            }
        };
        let rests = view.asks_for_rest();
        self.note(serial, view, tries, started.elapsed());
        rests
    }

    /// A steady rate on one shared connection, whatever the answers do.
    pub(crate) async fn steady(self: Arc<Self>, wire: Arc<Shared>, per_second: u32) {
        let mut tick = tokio::time::interval(Duration::from_secs(1) / per_second);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let mut pushes = tokio::task::JoinSet::new();
        while let Some(serial) = self.take() {
            tick.tick().await;
            let (load, wire) = (self.clone(), wire.clone());
            pushes.spawn(async move { load.one(serial, &wire, Manner::default()).await });
        }
        pushes.join_all().await;
    }

    async fn attempt(
        &self,
        connected: &mut Connected,
        push: &Push,
        serial: u64,
        manner: Manner,
    ) -> (View, bool) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let leaves = manner.leaves_every.is_some_and(|every| serial.is_multiple_of(every));
        let sent = if leaves {
            let patience = Duration::from_millis(serial % 7);
            tokio::time::timeout(patience, connected.send(push)).await.ok()
        } else {
            Some(connected.send(push).await)
        };
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        match sent {
            None => (View::Left, false),
            Some(Ok(receipt)) => {
                let closes = receipt.field("connection") == Some("close");
                (view(&receipt, &self.id(serial)), !closes)
            }
            Some(Err(error)) => judge(&error),
        }
    }
}

/// The name of a team, by its number.
pub(crate) fn team_name(number: u64) -> String {
    format!("TEAM{number:06}")
}

fn team(number: u64) -> String {
    jwt(&team_name(number), &format!("KEY{number:07}"))
}

/// An HTTP/2 connection that workers share and replace when it ends.
pub(crate) struct Shared {
    sender: Sender,
    open: tokio::sync::Mutex<(u64, Option<Connected>)>,
}

impl Shared {
    pub(crate) fn new(sender: Sender) -> Arc<Self> {
        Arc::new(Self { sender, open: tokio::sync::Mutex::default() })
    }

    async fn handle(&self) -> Option<(u64, Connected)> {
        let mut open = self.open.lock().await;
        if open.1.is_none() {
            open.1 = reach(&self.sender).await;
            open.0 += 1;
        }
        let handle = open.1.as_ref()?.another().expect("HTTP/2");
        Some((open.0, handle))
    }

    async fn give_up(&self, generation: u64) {
        let mut open = self.open.lock().await;
        if open.0 == generation {
            open.1 = None;
        }
    }

    /// How many connections there were.
    pub(crate) async fn connections(&self) -> u64 {
        self.open.lock().await.0
    }
}

/// Told to come again later, a sender waits, too.
async fn rest(rests: bool, manner: Manner) {
    if rests {
        tokio::time::sleep(AFTER_5XX).await;
    }
    if let Some(pause) = manner.pause {
        tokio::time::sleep(pause).await;
    }
}

/// Connects, again and again while the relay is being replaced.
async fn reach(sender: &Sender) -> Option<Connected> {
    let started = Instant::now();
    while started.elapsed() < REACH {
        match sender.connect().await {
            Ok(connected) => return Some(connected),
            Err(_refused) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
    None
}

fn view(receipt: &Receipt, id: &str) -> View {
    let told = receipt.field("proxy-status").and_then(|value| {
        let (_, rest) = value.split_once("outcome=")?;
        Some(rest.split(';').next().unwrap_or(rest).trim().to_owned())
    });
    let own = match receipt.status() {
        200 => "accepted".to_owned(),
        _ => "provider_refused".to_owned(),
    };
    View::Answer {
        status: receipt.status(),
        outcome: told.unwrap_or(own),
        mine: receipt.field("apns-id") == Some(id),
        reason: receipt.reason(),
    }
}

/// What an error proves, as Go's client judges it.
fn judge(error: &SendError) -> (View, bool) {
    let SendError::Http(error) = error else {
        return (View::Died(error.to_string()), false);
    };
    if error.is_canceled() || error.is_closed() {
        return (View::Unprocessed, false);
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(h2) = inner.downcast_ref::<h2::Error>() {
            let refused = h2.reason() == Some(h2::Reason::REFUSED_STREAM);
            if h2.is_remote() && (refused || h2.is_go_away()) {
                return (View::Unprocessed, refused && h2.is_reset());
            }
        }
        cause = inner.source();
    }
    (View::Died(format!("{error:?}")), false)
}

/// A sender towards an address with a certificate that it trusts.
pub(crate) fn sender(
    to: std::net::SocketAddr,
    authority: &pushrelay::simulate::authority::Throwaway,
    speech: Speech,
    proxied: bool,
) -> Sender {
    Sender {
        host: HOST.into(),
        port: 443,
        sni: None,
        connect: to,
        proxy: proxied.then_some(None),
        speech,
        roots: authority.roots(),
    }
}
