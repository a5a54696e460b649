//! Other ways in and out: ports, passthrough, FCM.

use std::net::TcpListener;

use bytes::Bytes;
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::fcm::Fcm;
use pushrelay::simulate::sender::{Push, Speech};

use crate::support::{HOST, LOOPBACK, alert, id, origin, relay, sender, within};

/// A pin of each port: 443 where nobody listens any more, 2197 at the origin.
fn first_port_closed(origin: std::net::SocketAddr) -> String {
    let closed = TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap();
    format!("connect_to: {{ \"{HOST}:443\": \"{closed}\", \"{HOST}:2197\": \"{origin}\" }}")
}

#[tokio::test]
async fn the_second_port_stands_in_for_the_first() {
    let origin = origin(|_| {}).await;
    let pins = first_port_closed(origin.address());
    let relay = relay().trusting("origin.pem", &origin.authority).egress(&pins).start().await;
    for (serial, speech) in [(1, Speech::Http2), (2, Speech::Http11)] {
        let receipt = within(sender(&relay, speech).send(&alert(serial))).await.unwrap();
        assert_eq!(receipt.status(), 200, "{speech:?}");
        origin.delivered_once(&id(serial));
    }
    origin.clean();
}

#[tokio::test]
async fn passthrough_falls_back_to_the_second_port_and_shows_the_origins_certificate() {
    let origin = origin(|_| {}).await;
    let pins = first_port_closed(origin.address());
    let relay = relay()
        .accept("[tls, connect]")
        .route("tls: passthrough")
        .trusting("origin.pem", &origin.authority)
        .egress(&pins)
        .start()
        .await;
    for (serial, proxy) in [(1, None), (2, Some(None))] {
        let mut direct = sender(&relay, Speech::Http2);
        direct.roots = origin.authority.roots();
        direct.proxy = proxy;
        let receipt = within(direct.send(&alert(serial))).await.unwrap();
        assert_eq!(receipt.status(), 200);
        origin.delivered_once(&id(serial));
    }
}

#[tokio::test]
async fn fcm_passes_over_both_protocols_upstream() {
    const FCM: &str = "fcm.googleapis.com";
    for protocols in [&[b"h2".as_slice(), b"http/1.1"][..], &[b"http/1.1".as_slice()]] {
        let authority = Throwaway::new("Simulated Google CA", FCM).unwrap();
        let fcm = Fcm::start(LOOPBACK, authority.server_config(protocols)).await.unwrap();
        let pins = format!("connect_to: {{ \"{FCM}:443\": \"{}\" }}", fcm.address());
        let relay =
            relay().provider("fcm").trusting("google.pem", &authority).egress(&pins).start().await;
        let push = |token: &str| Push {
            path: "/v1/projects/chat/messages:send".into(),
            body: Bytes::from(format!(r#"{{"message":{{"token":"{token}"}}}}"#)),
            ..alert(1)
        };
        for speech in [Speech::Http11, Speech::Http2] {
            let mut server = sender(&relay, speech);
            server.host = FCM.into();
            let accepted = within(server.send(&push("known"))).await.unwrap();
            assert_eq!(accepted.status(), 200, "{speech:?} {protocols:?}");
            // The provider's own refusal passes word for word.
            let gone = within(server.send(&push("UNREGISTERED-1"))).await.unwrap();
            assert_eq!(gone.status(), 404, "{speech:?} {protocols:?}");
            let told = String::from_utf8_lossy(&gone.body);
            assert!(told.contains("UNREGISTERED"), "{told}");
        }
        let seen = fcm.summary();
        let h2 = protocols.len() == 2;
        assert_eq!((seen.http1, seen.http2), if h2 { (0, 4) } else { (4, 0) });
    }
}
