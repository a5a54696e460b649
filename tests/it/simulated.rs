//! The simulated peers without a relay: what they judge and break is what a test relies on.

use pushrelay::simulate::apns::{
    Alpn, Cut, Fate, Fault, Last, Planned, REASONS, When, jwt, token_for,
};
use pushrelay::simulate::proxy::Manner;
use pushrelay::simulate::sender::{Push, SendError, Speech};

use crate::support::{TOPIC, alert, corporate, id, origin, sender, within};

fn at(request: u64, fault: Fault) -> Planned {
    Planned { when: When::At(request), fault }
}

#[tokio::test]
async fn a_push_is_accepted_and_kept_in_the_ledger() {
    let origin = origin(|_| {}).await;
    let receipt = within(sender(&origin, Speech::Http2).send(&alert(1))).await.unwrap();
    assert_eq!((receipt.status(), receipt.field("apns-id")), (200, Some(&*id(1))));
    assert!(receipt.body.is_empty());
    let entry = origin.ledger().entries().remove(0);
    assert_eq!(
        (entry.team.as_deref(), entry.key.as_deref()),
        (Some("TEAM000001"), Some("KEY0000001"))
    );
    assert_eq!((entry.fate, entry.delivered), (Fate::Answered(200), true));
    origin.clean();
}

#[tokio::test]
async fn every_reason_of_apns_can_be_had() {
    let origin = origin(|_| {}).await;
    let mut connection = within(sender(&origin, Speech::Http2).connect()).await.unwrap();
    for (status, reasons) in REASONS {
        for reason in *reasons {
            let token = token_for(*status, reason, 1).unwrap();
            let receipt = within(connection.send(&Push::alert(&token, TOPIC))).await.unwrap();
            assert_eq!((receipt.status(), receipt.reason().as_deref()), (*status, Some(*reason)));
            assert!(receipt.field("apns-id").is_some());
        }
    }
    origin.clean();
}

#[tokio::test]
async fn without_a_provider_token_the_limit_stays_at_one() {
    let origin = origin(|_| {}).await;
    let mut push = alert(1);
    push.fields.retain(|(name, _)| name != "authorization");
    let receipt = within(sender(&origin, Speech::Http2).send(&push)).await.unwrap();
    assert_eq!(receipt.status(), 403);
    assert_eq!(receipt.reason().as_deref(), Some("MissingProviderToken"));
}

#[tokio::test]
async fn two_teams_on_one_connection_are_a_violation() {
    let origin = origin(|_| {}).await;
    let mut connection = within(sender(&origin, Speech::Http2).connect()).await.unwrap();
    within(connection.send(&alert(1))).await.unwrap();
    let other = format!("bearer {}", jwt("TEAM000002", "KEY0000002"));
    let receipt = within(connection.send(&alert(2).field("authorization", &other))).await.unwrap();
    assert_eq!(receipt.status(), 403);
    assert_eq!(origin.ledger().violations()[0].rule, "two teams on one connection");
}

#[tokio::test]
async fn faults_are_played_at_their_request() {
    let cases = [
        (Fault::Reset(7), Fate::Reset(7), false),
        (Fault::Reset(2), Fate::Reset(2), true),
        (Fault::CutOnHeaders(Cut::Reset), Fate::Cut, false),
        (Fault::CutOnBody(Cut::Close), Fate::Cut, true),
        (Fault::CutMidAnswer(Cut::Close), Fate::Cut, true),
        (
            Fault::GoAway { last: Last::Below, code: 0, reason: None, then_cut: Some(Cut::Close) },
            Fate::GoneAway,
            false,
        ),
    ];
    for (fault, fate, delivered) in cases {
        let origin = origin(|conduct| conduct.faults = vec![at(1, fault.clone())]).await;
        let sender = sender(&origin, Speech::Http2);
        assert!(within(sender.send(&alert(1))).await.is_err(), "{fault:?}");
        assert_eq!(within(sender.send(&alert(2))).await.unwrap().status(), 200);
        let entry = origin.ledger().entries().remove(0);
        assert_eq!((entry.fate, entry.delivered), (fate, delivered), "{fault:?}");
    }
}

#[tokio::test]
async fn a_large_answer_obeys_the_windows() {
    let fault = Fault::Oversized(300_000);
    let origin = origin(|conduct| conduct.faults = vec![at(1, fault)]).await;
    let receipt = within(sender(&origin, Speech::Http2).send(&alert(1))).await.unwrap();
    assert_eq!(receipt.body.len(), 300_000);
}

#[tokio::test]
async fn an_origin_without_h2_flags_a_blind_preface() {
    let origin = origin(|conduct| conduct.alpn = Alpn::Stripped).await;
    within(sender(&origin, Speech::Http2WithoutAlpn).send(&alert(1))).await.unwrap();
    assert!(origin.ledger().violations()[0].rule.starts_with("a blind preface"));
}

#[tokio::test]
async fn the_proxy_wants_its_credentials() {
    let origin = origin(|_| {}).await;
    let basic = |conduct: &mut pushrelay::simulate::proxy::Conduct| {
        conduct.basic = Some(("svc".into(), "pw".into()));
    };
    let proxy = corporate(Manner::Tunnel, origin.address(), &origin.authority, basic).await;
    let mut sender = sender(&proxy, Speech::Http2);
    sender.roots = origin.authority.roots();
    let refused = within(sender.send(&alert(1))).await.unwrap_err();
    assert!(matches!(refused, SendError::Proxy(line) if line.contains(" 407 ")));
    sender.proxy = Some(Some(("svc".into(), "pw".into())));
    assert_eq!(within(sender.send(&alert(1))).await.unwrap().status(), 200);
    let seen = proxy.seen();
    assert_eq!((seen[0].status, seen[1].status), (407, 200));
    assert_eq!(seen[1].credentials.as_deref(), Some("Basic"));
    assert!(!format!("{seen:?}").contains("c3ZjOnB3"));
}

#[tokio::test]
async fn an_inspecting_proxy_cannot_reach_an_h2_only_origin() {
    let origin = origin(|_| {}).await;
    let proxy = corporate(Manner::Inspect, origin.address(), &origin.authority, |_| {}).await;
    let receipt = within(sender(&proxy, Speech::Http11).send(&alert(1))).await.unwrap();
    assert_eq!(receipt.status(), 503);
    assert_eq!(origin.ledger().summary().requests, 0);
}
