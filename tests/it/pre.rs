//! Inside the network: sender -> relay -> CONNECT proxy -> APNs.

use pushrelay::simulate::proxy::{Conduct, Manner};
use pushrelay::simulate::sender::Speech;

use crate::support::{SPEECHES, alert, corporate, id, origin, relay, sender, within};

#[tokio::test]
async fn every_speech_reaches_apns_through_an_open_proxy() {
    let origin = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, origin.address(), &origin.authority, |_| {}).await;
    let relay = relay().via(&proxy, &origin).start().await;
    for (serial, speech) in (1..).zip(SPEECHES) {
        let receipt = within(sender(&relay, speech).send(&alert(serial))).await.unwrap();
        assert_eq!(receipt.status(), 200, "{speech:?}");
        origin.delivered_once(&id(serial));
    }
    assert_eq!(proxy.seen().len(), 1, "one tunnel for all");
    origin.clean();
}

#[tokio::test]
async fn basic_credentials_open_the_tunnel() {
    let origin = origin(|_| {}).await;
    let basic = |conduct: &mut Conduct| conduct.basic = Some(("svc".into(), "secret-pw".into()));
    let proxy = corporate(Manner::Tunnel, origin.address(), &origin.authority, basic).await;
    let relay = relay().via_basic(&proxy, &origin, ("svc", "secret-pw")).start().await;
    let receipt = within(sender(&relay, Speech::Http2).send(&alert(1))).await.unwrap();
    assert_eq!(receipt.status(), 200);
    let seen = proxy.seen().remove(0);
    assert_eq!(
        (&*seen.target, seen.credentials.as_deref()),
        ("api.push.apple.com:443", Some("Basic"))
    );
    assert!(seen.fields.iter().any(|name| name.eq_ignore_ascii_case("proxy-connection")));
    assert!(!relay.log().contains("secret-pw"), "the password is in the log");
}

#[tokio::test]
async fn a_refusing_proxy_is_named_and_the_push_is_not_sent() {
    for manner in [Manner::Refuse(403), Manner::Challenge(vec!["NTLM".into()]), Manner::Refuse(502)]
    {
        let origin = origin(|_| {}).await;
        let at = origin.address();
        let proxy = corporate(manner.clone(), at, &origin.authority, |_| {}).await;
        let relay = relay().via(&proxy, &origin).start().await;
        let receipt = within(sender(&relay, Speech::Http2).send(&alert(1))).await.unwrap();
        assert_eq!(receipt.status(), 503, "{manner:?}");
        assert_eq!(receipt.reason().as_deref(), Some("ServiceUnavailable"));
        assert!(receipt.field("retry-after").is_some());
        let why = receipt.field("proxy-status").unwrap_or_default();
        assert!(why.contains("proxy"), "{manner:?}: {why}");
        origin.untouched();
    }
}

#[tokio::test]
async fn a_proxy_that_breaks_after_connect_costs_a_bounded_time() {
    let manners = [
        Manner::BlockPage,
        Manner::ResetAfterConnect,
        Manner::HangAfterConnect,
        Manner::Chatty(100_000),
        Manner::ExtraBytes,
        Manner::Mute,
    ];
    for manner in manners {
        let origin = origin(|_| {}).await;
        let at = origin.address();
        let proxy = corporate(manner.clone(), at, &origin.authority, |_| {}).await;
        let relay = relay().via(&proxy, &origin).route("deadline: 2s").start().await;
        let receipt = within(sender(&relay, Speech::Http11).send(&alert(1))).await.unwrap();
        assert_eq!(receipt.status(), 503, "{manner:?}");
        assert!(receipt.took.as_secs() < 5, "{manner:?}: {:?}", receipt.took);
        assert_eq!(origin.ledger().summary().requests, 0, "{manner:?}");
    }
}

/// An origin that negotiates no h2: no HTTP/1.1 request, no blind preface, and a 503 that names
/// hop, issuer and ALPN.
#[tokio::test]
async fn an_inspector_without_h2_is_named_with_issuer_and_alpn() {
    let origin = origin(|_| {}).await;
    let proxy = corporate(Manner::Inspect, origin.address(), &origin.authority, |_| {}).await;
    let relay =
        relay().via(&proxy, &origin).trusting("inspection.pem", &proxy.authority).start().await;
    let receipt = within(sender(&relay, Speech::Http2).send(&alert(1))).await.unwrap();
    assert_eq!(receipt.status(), 503);
    let why = receipt.field("proxy-status").unwrap_or_default();
    for word in ["inspector", "Simulated inspection CA", "ALPN"] {
        assert!(why.contains(word), "{word} is missing in: {why}");
    }
    assert!(proxy.forwarded().is_empty());
    assert_eq!(proxy.seen()[0].offered, ["h2"]);
    assert_eq!(origin.ledger().summary().requests, 0);
}
