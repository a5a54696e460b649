//! Refused as the design says, with nothing dialled: host, SNI, method, path, topic, team, body.

use http::Method;
use pushrelay::simulate::apns::jwt;
use pushrelay::simulate::sender::{Push, SendError, Speech};

use crate::support::{alert, origin, raw, relay, sender, within};

const SPEECHES: [Speech; 2] = [Speech::Http11, Speech::Http2];

#[tokio::test]
async fn strangers_by_method_path_topic_team_and_size_are_refused() {
    let origin = origin(|_| {}).await;
    let relay = relay()
        .to(&origin)
        .route("topics: [com.example.chat]")
        .route("teams: [TEAM000001]")
        .start()
        .await;
    let path = |path: &str| Push { path: path.into(), ..alert(1) };
    let stranger = format!("bearer {}", jwt("TEAM000009", "KEY0000009"));
    let rows = [
        ("method", Push { method: Method::PUT, ..alert(1) }, 405, "MethodNotAllowed"),
        ("path", path("/admin"), 404, "BadPath"),
        ("dot segments", path("/3/device/../../x"), 404, "BadPath"),
        ("encoded slash", path("/3/device/a%2Fb"), 404, "BadPath"),
        ("topic", alert(1).field("apns-topic", "com.example.other"), 403, "Forbidden"),
        ("team", alert(1).field("authorization", &stranger), 403, "Forbidden"),
        ("size", alert(1).body(vec![b'x'; 1 << 20]), 413, "PayloadTooLarge"),
    ];
    for speech in SPEECHES {
        for (what, push, status, reason) in &rows {
            let receipt = within(sender(&relay, speech).send(push)).await.unwrap();
            assert_eq!(receipt.status(), *status, "{what} {speech:?}");
            assert_eq!(receipt.reason().as_deref(), Some(*reason), "{what} {speech:?}");
            assert!(receipt.field("proxy-status").is_some(), "{what} {speech:?}");
        }
    }
    origin.untouched();
}

#[tokio::test]
async fn another_host_on_the_connection_is_misdirected() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    for speech in SPEECHES {
        let mut stranger = sender(&relay, speech);
        stranger.sni = Some(stranger.host.clone());
        stranger.host = "www.example.com".into();
        let receipt = within(stranger.send(&alert(1))).await.unwrap();
        assert_eq!(receipt.status(), 421, "{speech:?}");
    }
    origin.untouched();
}

#[tokio::test]
async fn an_unrouted_sni_ends_the_handshake() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    let mut stranger = sender(&relay, Speech::Http2);
    stranger.host = "www.example.com".into();
    assert!(within(stranger.tls()).await.is_err());
    origin.untouched();
}

/// A11 and its siblings: what cannot be framed one way only is refused and the connection closed.
#[tokio::test]
async fn ambiguous_http1_is_refused_and_closed() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    let sender = sender(&relay, Speech::Http11);
    let start = "POST /3/device/ab HTTP/1.1\r\nHost: api.push.apple.com\r\n";
    let rows = [
        "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        "Content-Length: +3\r\n\r\nabc",
        "Host: api.push.apple.com\r\nContent-Length: 0\r\n\r\n",
        "Content-Length : 3\r\n\r\nabc",
        "X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ];
    for row in rows {
        let answer = raw(&sender, format!("{start}{row}").as_bytes()).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(matches!(status, "400" | "501"), "{row:?}: {answer}");
    }
    origin.untouched();
}

#[tokio::test]
async fn connect_on_a_listener_for_tls_is_refused() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    let mut tunnelled = sender(&relay, Speech::Http2);
    tunnelled.proxy = Some(None);
    assert!(within(tunnelled.send(&alert(1))).await.is_err());
    origin.untouched();
}

#[tokio::test]
async fn connect_opens_only_what_a_route_names() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).accept("[tls, connect]").start().await;
    let mut tunnelled = sender(&relay, Speech::Http2);
    tunnelled.proxy = Some(None);
    assert_eq!(within(tunnelled.send(&alert(1))).await.unwrap().status(), 200);
    tunnelled.host = "www.example.com".into();
    assert!(within(tunnelled.send(&alert(2))).await.is_err());
    assert_eq!(origin.ledger().summary().requests, 1);
}

#[tokio::test]
async fn connect_wants_the_listeners_credentials() {
    let origin = origin(|_| {}).await;
    let credentials =
        "connect_credentials: { basic: { username: mpns, password: { file: connect.pw } } }";
    let relay = relay()
        .to(&origin)
        .accept("[connect]")
        .secret("connect.pw", "sesame")
        .listener(credentials)
        .start()
        .await;
    let mut tunnelled = sender(&relay, Speech::Http2);
    tunnelled.proxy = Some(Some(("mpns".into(), "wrong".into())));
    let refused = within(tunnelled.send(&alert(1))).await.unwrap_err();
    assert!(matches!(refused, SendError::Proxy(line) if line.contains(" 407 ")));
    origin.untouched();
    tunnelled.proxy = Some(Some(("mpns".into(), "sesame".into())));
    assert_eq!(within(tunnelled.send(&alert(2))).await.unwrap().status(), 200);
}
