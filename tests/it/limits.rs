//! Bursts on a cold relay (measured peers lose up to 23 of 200, or open up to 188 connections).

use pushrelay::simulate::apns::{Conduct, Fault, Last, Order, Planned, When, token_for};
use pushrelay::simulate::sender::{Push, Speech};

use crate::support::{TOPIC, id, origin, receipts, relay, sender, within};

async fn burst(speech: Speech, conduct: impl FnOnce(&mut Conduct)) {
    let origin = origin(conduct).await;
    let relay = relay().to(&origin).start().await;
    let all = receipts(&sender(&relay, speech), 20, 10).await;
    let good = all.iter().filter(|r| r.as_ref().is_ok_and(|r| r.status() == 200)).count();
    assert_eq!(good, 200, "answered with 200");
    for serial in 1..=200 {
        origin.delivered_once(&id(serial));
    }
    let summary = origin.ledger().summary();
    assert!(summary.connections <= 2, "{} upstream connections", summary.connections);
    assert_eq!((summary.duplicates, summary.refused_surplus), (0, 0));
    origin.clean();
}

#[tokio::test]
async fn one_stream_then_a_thousand_loses_nothing() {
    burst(Speech::Http11, |_| {}).await;
}

#[tokio::test]
async fn one_stream_for_ever_loses_nothing() {
    burst(Speech::Http11, |conduct| conduct.warm_limit = 1).await;
}

#[tokio::test]
async fn http2_senders_meet_the_same_limit() {
    burst(Speech::Http2, |conduct| conduct.warm_limit = 1).await;
}

/// nginx' `keepalive_requests` and connection ages: what lies above the GOAWAY is sent again, as
/// often as it takes, and the next connection is not held back by the dial budget.
#[tokio::test]
async fn an_origin_that_ends_each_connection_after_two_pushes_gets_the_whole_burst() {
    let fault = Fault::GoAway { last: Last::Exact, code: 0, reason: None, then_cut: None };
    let planned = Planned { when: When::From(2, 2), fault };
    let origin = origin(|conduct| conduct.faults = vec![planned]).await;
    let relay = relay().to(&origin).start().await;
    let all = receipts(&sender(&relay, Speech::Http2), 20, 10).await;
    let good = all.iter().filter(|r| r.as_ref().is_ok_and(|r| r.status() == 200)).count();
    assert_eq!(good, 200, "answered with 200");
    for serial in 1..=200 {
        origin.delivered_once(&id(serial));
    }
    let summary = origin.ledger().summary();
    assert!(
        summary.connections >= 65,
        "more than the dial budget's burst: {}",
        summary.connections
    );
}

#[tokio::test]
async fn a_limit_that_falls_after_refusals_loses_nothing() {
    let origin = origin(|conduct| conduct.limit_falls = true).await;
    let relay = relay().to(&origin).start().await;
    let honest = sender(&relay, Speech::Http11);
    let burst = tokio::spawn({
        let honest = honest.clone();
        async move { receipts(&honest, 10, 10).await }
    });
    let mut other = within(sender(&relay, Speech::Http11).connect()).await.unwrap();
    for serial in 1..=20 {
        let token = token_for(400, "BadDeviceToken", serial).unwrap();
        let receipt = within(other.send(&Push::alert(&token, TOPIC))).await.unwrap();
        assert_eq!(receipt.status(), 400);
    }
    let all = within(burst).await.unwrap();
    assert!(all.iter().all(|receipt| receipt.as_ref().is_ok_and(|r| r.status() == 200)));
    for serial in 1..=100 {
        origin.delivered_once(&id(serial));
    }
    origin.clean();
}

#[tokio::test]
async fn a_limit_of_zero_holds_pushes_until_it_rises() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    let sender = sender(&relay, Speech::Http11);
    assert_eq!(receipts(&sender, 1, 1).await.len(), 1);
    origin.order(Order::Limit(0));
    let waiting = tokio::spawn({
        let sender = sender.clone();
        async move { receipts(&sender, 5, 2).await }
    });
    origin.order(Order::Limit(1000));
    let all = within(waiting).await.unwrap();
    assert!(all.iter().all(|receipt| receipt.as_ref().is_ok_and(|r| r.status() == 200)));
    origin.clean();
}
