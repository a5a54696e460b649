//! A faulty origin: what is proven unprocessed is replayed, what is not is said to be unknown.

use std::time::Duration;

use pushrelay::simulate::apns::{Chaos, Cut, Fault, Last, Planned, When};
use pushrelay::simulate::sender::{Receipt, Speech};

use crate::support::{TestOrigin, alert, id, origin, receipts, relay, sender, within};

/// The first push meets no fault, so that the connection is warm; the second meets this one.
async fn second_meets(fault: Fault) -> (TestOrigin, Receipt) {
    let planned = Planned { when: When::At(2), fault };
    let origin = origin(|conduct| conduct.faults = vec![planned]).await;
    let relay = relay().to(&origin).route("deadline: 3s").start().await;
    let mut connection = within(sender(&relay, Speech::Http11).connect()).await.unwrap();
    assert_eq!(within(connection.send(&alert(1))).await.unwrap().status(), 200);
    let receipt = within(connection.send(&alert(2))).await.unwrap();
    let after = within(sender(&relay, Speech::Http2).send(&alert(3))).await.unwrap();
    assert_eq!(after.status(), 200, "the relay recovers by itself");
    (origin, receipt)
}

#[tokio::test]
async fn refused_streams_are_replayed_with_the_same_apns_id() {
    let (origin, receipt) = second_meets(Fault::Reset(7)).await;
    assert_eq!((receipt.status(), receipt.field("apns-id")), (200, Some(&*id(2))));
    origin.delivered_once(&id(2));
}

#[tokio::test]
async fn streams_above_a_goaway_are_replayed_on_a_new_connection() {
    for then_cut in [None, Some(Cut::Close), Some(Cut::Reset)] {
        let reason = Some("Shutdown".to_owned());
        let fault = Fault::GoAway { last: Last::Below, code: 0, reason, then_cut };
        let (origin, receipt) = second_meets(fault).await;
        assert_eq!(receipt.status(), 200, "{then_cut:?}");
        origin.delivered_once(&id(2));
        assert_eq!(origin.ledger().summary().connections, 2);
    }
}

#[tokio::test]
async fn a_graceful_goaway_answers_what_is_open_and_is_replaced() {
    for last in [Last::Exact, Last::Max] {
        let fault = Fault::GoAway { last, code: 0, reason: None, then_cut: None };
        let (origin, receipt) = second_meets(fault).await;
        assert_eq!(receipt.status(), 200, "{last:?}");
        origin.delivered_once(&id(2));
        assert_eq!(origin.ledger().summary().connections, 2, "{last:?}");
    }
}

#[tokio::test]
async fn what_may_have_been_processed_is_unknown_and_never_sent_again() {
    let faults = [
        Fault::Reset(0),
        Fault::Reset(2),
        Fault::Reset(8),
        Fault::CutOnHeaders(Cut::Close),
        Fault::CutOnBody(Cut::Reset),
        Fault::CutMidAnswer(Cut::Close),
        Fault::Stall,
        Fault::Trickle(Duration::from_millis(500)),
        Fault::Html(502),
        Fault::NoApnsId,
    ];
    for fault in faults {
        let (origin, receipt) = second_meets(fault.clone()).await;
        assert_eq!(receipt.status(), 409, "{fault:?}");
        assert_eq!(receipt.reason().as_deref(), Some("RelayOutcomeUnknown"), "{fault:?}");
        let sent = origin.ledger().entries();
        let sent = sent.iter().filter(|entry| entry.apns_id.as_deref() == Some(&*id(2))).count();
        assert_eq!(sent, 1, "{fault:?} was sent again");
    }
}

#[tokio::test]
async fn floods_and_oversized_answers_end_by_the_deadline() {
    for fault in [Fault::Informational(200_000), Fault::Oversized(4 << 20)] {
        let (_origin, receipt) = second_meets(fault.clone()).await;
        assert_eq!(receipt.status(), 409, "{fault:?}");
        assert!(receipt.took < Duration::from_secs(5), "{fault:?}");
    }
}

/// I1-I4 of the notes in small: every push has one outcome, and the origin's ledger agrees with it.
#[tokio::test]
async fn a_storm_of_faults_loses_and_duplicates_nothing() {
    for (seed, speech) in (1..).zip([Speech::Http11, Speech::Http2, Speech::Http11]) {
        let chaos = Chaos { seed, per_mille: 50 };
        let origin = origin(|conduct| conduct.chaos = Some(chaos)).await;
        let relay = relay().to(&origin).route("deadline: 3s").start().await;
        let all = receipts(&sender(&relay, speech), 20, 10).await;
        assert_eq!(all.len(), 200);
        for receipt in all {
            let receipt = receipt.unwrap();
            let id = receipt.field("apns-id").expect("echoed by the relay too");
            let allowed = match receipt.status() {
                200 => 1..=1,
                503 => 0..=0,
                409 => 0..=1,
                other => panic!("seed {seed}: status {other}"),
            };
            let deliveries = origin.deliveries(id);
            assert!(allowed.contains(&deliveries), "seed {seed}: {id} {deliveries} times");
        }
        assert_eq!(origin.ledger().summary().duplicates, 0, "seed {seed}");
        origin.clean();
    }
}
