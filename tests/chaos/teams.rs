//! Teams and keys: never on one connection, and made-up ones starve nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::{Conduct, Origin};
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::sender::Speech;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinSet;

use crate::ledger::{Allowed, Figures, compare};
use crate::relay::{Plan, Relay};
use crate::senders::{Load, Manner, Shared, sender, team_name};
use crate::{HOST, LOOPBACK, size, within};

async fn deployment(change: impl FnOnce(&mut Conduct)) -> (Origin, Relay) {
    let authority = Throwaway::new("Chaos APNs CA", HOST).unwrap();
    let mut conduct = Conduct::default();
    change(&mut conduct);
    let origin = Origin::start(LOOPBACK, &authority, conduct).await.unwrap();
    let plan = Plan { deadline: Some(4), ..Plan::default() };
    let mut relay = Relay::new(&origin, &authority, None, &plan);
    relay.start().await;
    (origin, relay)
}

/// Carries connections on from an address of this machine that is nobody else's.
async fn from_another_address(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind(LOOPBACK).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut inwards, _peer)) = listener.accept().await {
            tokio::spawn(async move {
                let socket = TcpSocket::new_v4().unwrap();
                socket.bind("127.9.9.9:0".parse().unwrap()).unwrap();
                let Ok(mut outwards) = socket.connect(to).await else { return };
                // Ends with whoever ends first.
                let _ = tokio::io::copy_bidirectional(&mut inwards, &mut outwards).await;
            });
        }
    });
    address
}

fn check(load: &Load, relay: &Relay, origin: &Origin) -> Figures {
    let (figures, wrong) = compare(load, relay, origin.ledger(), &Allowed::nothing(8));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    figures
}

/// D2: the simulated APNs counts two teams on one connection as a violation.
#[tokio::test]
async fn d2_fifty_teams_dial_at_once_after_a_restart_and_share_nothing() {
    let (origin, mut relay) = deployment(|_| {}).await;
    let load = Load::new(50, 1000);
    let mut workers = JoinSet::new();
    for team in 0..50 {
        let speech = if team % 2 == 0 { Speech::Http11 } else { Speech::Http2 };
        let sender = sender(relay.address, &relay.issuer, speech, false);
        let manner = Manner { team, pause: Some(Duration::from_millis(20)), ..Manner::default() };
        if speech.multiplexes() {
            // Two teams over one connection of a sender.
            let wire = Shared::new(sender);
            let other = Manner { team: (team + 1) % 50, ..manner };
            workers.spawn(load.clone().shared(wire.clone(), manner));
            workers.spawn(load.clone().shared(wire, other));
        } else {
            workers.spawn(load.clone().one_by_one(sender, manner));
        }
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    relay.hand_over().await;
    let begun = Instant::now();
    within(60, workers.join_all()).await;
    let took = begun.elapsed();
    relay.stop(60).await;
    let figures = check(&load, &relay, &origin);
    assert_eq!(figures.accepted, figures.pushes, "{figures:?}");
    let connections = origin.ledger().summary().accepted;
    eprintln!("50 teams: {figures:?}, {connections} connections, {took:?} after the restart");
    assert!(connections <= 2 * 50 * 2, "{connections} connections");
}

/// Below the lanes that an egress has (64): what is shown is that liars take none of them away,
/// not that more teams than lanes fit.
const MOST_HONEST: u64 = 40;

/// Thousands of made-up tokens from one address: the caps hold, others are served, new ones too.
#[tokio::test]
async fn d2_made_up_tokens_starve_nobody() {
    const HONEST: u64 = 4;
    let pushes = size("PUSHRELAY_CHAOS_MADE_UP", 600);
    let (origin, mut relay) = deployment(|conduct| {
        conduct.teams = (0..1000).map(team_name).collect();
    })
    .await;
    let begun = Instant::now();
    let flood = Load::new(1, pushes);
    let elsewhere = from_another_address(relay.address).await;
    let mut liars = JoinSet::new();
    for _ in 0..4 {
        let wire = Shared::new(sender(elsewhere, &relay.issuer, Speech::Http2, false));
        let manner = Manner { makes_up: true, ..Manner::default() };
        for _ in 0..75 {
            liars.spawn(flood.clone().shared(wire.clone(), manner));
        }
    }
    let load = Load::new(2, u64::MAX);
    let mut honest = JoinSet::new();
    let worker = |team| {
        let sender = sender(relay.address, &relay.issuer, Speech::Http11, false);
        let manner = Manner { team, pause: Some(Duration::from_millis(20)), ..Manner::default() };
        load.clone().one_by_one(sender, manner)
    };
    for team in 0..HONEST {
        honest.spawn(worker(team));
    }
    let mut team = HONEST;
    let mut next = tokio::time::interval(Duration::from_secs(2));
    let flooded = async { while liars.join_next().await.is_some() {} };
    let mut flooded = std::pin::pin!(flooded);
    within(300, async {
        loop {
            tokio::select! {
                () = &mut flooded => break,
                _ = next.tick(), if team < MOST_HONEST => {
                    team += 1;
                    honest.spawn(worker(team));
                }
            }
        }
    })
    .await;
    let took = begun.elapsed();
    load.stop();
    within(30, honest.join_all()).await;
    let memory = relay.memory();
    relay.stop(60).await;
    let slowest = load.made.lock().unwrap().values().map(|made| made.took).max().unwrap();
    let figures = together(&[&load, &flood], &relay, &origin);
    let connections = origin.ledger().summary().accepted;
    eprintln!(
        "{pushes} made-up tokens in {took:?}: honest {:?}, slowest {slowest:?}, {team} teams; made \
         up {:?}; {connections} connections, memory {memory} KiB",
        figures[0], figures[1]
    );
    assert_eq!(figures[0].accepted, figures[0].pushes, "{:?}", figures[0]);
    assert!(slowest < Duration::from_secs(3), "an honest push took {slowest:?}");
    // The burst, one a second, and what honest teams need.
    let most = 64 + took.as_secs() + 2 + 2 * team;
    assert!(connections <= most, "{connections} connections, {most} allowed");
}

/// Both loads went through one relay: compared as one, told apart afterwards.
fn together(loads: &[&Arc<Load>], relay: &Relay, origin: &Origin) -> Vec<Figures> {
    let all = Load::new(0, 0);
    for load in loads {
        all.made.lock().unwrap().extend(load.made.lock().unwrap().clone());
    }
    check(&all, relay, origin);
    loads.iter().map(|load| crate::ledger::tally(load)).collect()
}
