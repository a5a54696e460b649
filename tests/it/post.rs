//! The DMZ: sender -> inspecting HTTP/1.1 proxy -> relay -> APNs.

use pushrelay::simulate::apns::{Fate, token_for};
use pushrelay::simulate::proxy::Manner;
use pushrelay::simulate::sender::{Push, Speech};

use crate::support::{TOPIC, alert, corporate, id, origin, receipts, relay, sender, within};

#[tokio::test]
async fn pushes_through_an_inspecting_proxy_arrive_as_http2() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    let proxy = corporate(Manner::Inspect, relay.address, &relay.issuer, |_| {}).await;
    for (serial, speech) in (1..).zip([Speech::Http10, Speech::Http11, Speech::Http11WithoutAlpn]) {
        let receipt = within(sender(&proxy, speech).send(&alert(serial))).await.unwrap();
        assert_eq!(receipt.status(), 200, "{speech:?}");
        assert_eq!(receipt.field("apns-id"), Some(&*id(serial)));
        origin.delivered_once(&id(serial));
    }
    assert_eq!(proxy.seen()[0].chosen.as_deref(), Some("http/1.1"));
    // Via, X-Forwarded-For and hop-by-hop fields of the proxy would be violations here.
    origin.clean();
}

#[tokio::test]
async fn a_refusal_of_apns_comes_back_through_the_proxy() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    let proxy = corporate(Manner::Inspect, relay.address, &relay.issuer, |_| {}).await;
    let token = token_for(410, "Unregistered", 1).unwrap();
    let push = Push::alert(&token, TOPIC).apns_id(&id(1));
    let receipt = within(sender(&proxy, Speech::Http11).send(&push)).await.unwrap();
    assert_eq!((receipt.status(), receipt.reason().as_deref()), (410, Some("Unregistered")));
    assert_eq!(origin.fates(), [Fate::Answered(410)]);
}

#[tokio::test]
async fn an_http2_sender_shares_the_port_with_the_proxy() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    let proxy = corporate(Manner::Inspect, relay.address, &relay.issuer, |_| {}).await;
    let first = within(sender(&proxy, Speech::Http11).send(&alert(1))).await.unwrap();
    let second = within(sender(&relay, Speech::Http2).send(&alert(2))).await.unwrap();
    assert_eq!((first.status(), second.status()), (200, 200));
    assert_eq!(origin.ledger().summary().connections, 1);
}

#[tokio::test]
async fn fifty_pushes_by_ten_proxied_senders_lose_nothing() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    let proxy = corporate(Manner::Inspect, relay.address, &relay.issuer, |_| {}).await;
    let all = receipts(&sender(&proxy, Speech::Http11), 10, 5).await;
    assert!(all.iter().all(|receipt| receipt.as_ref().is_ok_and(|r| r.status() == 200)));
    for serial in 1..=50 {
        origin.delivered_once(&id(serial));
    }
    assert!(origin.ledger().summary().connections <= 2);
    origin.clean();
}
