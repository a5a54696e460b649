//! A running relay reads its own pushes for health, and climbs a ladder by itself where they fail.

use std::net::SocketAddr;
use std::time::Duration;

use pushrelay::simulate::proxy::Manner;
use pushrelay::simulate::sender::Speech;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::support::{Relay, alert, corporate, origin, relay, sender, within};

/// The relay looks every 5 s at what has failed for 30 s; a loaded machine is slower.
const PATIENCE: Duration = Duration::from_secs(90);

async fn page(admin: SocketAddr, path: &str) -> String {
    let mut tcp = within(tokio::net::TcpStream::connect(admin)).await.unwrap();
    let head = format!("GET {path} HTTP/1.0\r\nHost: {admin}\r\n\r\n");
    tcp.write_all(head.as_bytes()).await.unwrap();
    let mut text = String::new();
    within(tcp.read_to_string(&mut text)).await.unwrap();
    text.split_once("\r\n\r\n").unwrap().1.to_owned()
}

async fn status(relay: &Relay) -> Value {
    serde_json::from_str(&page(relay.admin, "/status").await).unwrap()
}

/// Sends pushes until status shows it; the serial of the latest push.
async fn pushing(relay: &Relay, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    for serial in 1.. {
        // Refused ones are what this is about.
        let _refused = within(sender(relay, Speech::Http11).send(&alert(serial))).await;
        let status = status(relay).await;
        if is(&status) {
            return status;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {status:#}\n{}", relay.log());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    unreachable!("serials do not end")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_path_gets_a_verdict_and_loses_it_when_pushes_get_through() {
    let apns = origin(|_| {}).await;
    let refusing = Manner::Refuse(403);
    let proxy = corporate(refusing, apns.address(), &apns.authority, |_| {}).await;
    let relay = relay().via(&proxy, &apns).route("deadline: 1s").start().await;
    assert_eq!(status(&relay).await["paths"], serde_json::json!([]), "nothing was sent yet");
    let failing = |status: &Value| status["paths"][0]["failing"] == true;
    let now = pushing(&relay, "a failure", failing).await;
    let failure = &now["paths"][0]["last_failure"];
    assert_eq!(
        (&failure["hop"], &failure["stage"]),
        (&"proxy".into(), &"connect".into()),
        "{now:#}"
    );
    assert!(failure["sentence"].as_str().unwrap().contains("403"), "{failure}");
    let probed = |status: &Value| status["probes"][0]["code"].is_string();
    let now = pushing(&relay, "a verdict", probed).await;
    assert_eq!(now["probes"][0]["code"], "policy_everything", "{now:#}");
    assert!(now["probes"][0]["action"].as_str().unwrap().contains("to be allowed"), "{now:#}");
    let metrics = page(relay.admin, "/metrics").await;
    assert!(metrics.contains("code=\"policy_everything\",hop=\"proxy\"} 1"), "{metrics}");
    let html = page(relay.admin, "/").await;
    assert!(html.contains("policy_everything") && html.contains("What to do"), "{html}");
    assert!(page(relay.admin, "/readyz").await.contains("ready"), "an outage is no readiness");

    proxy.change(|conduct| conduct.manner = Manner::Tunnel);
    let forgotten = |status: &Value| status["probes"] == serde_json::json!([]);
    let now = pushing(&relay, "to forget", forgotten).await;
    assert_eq!(now["paths"][0]["failing"], false, "{now:#}");
    assert!(now["paths"][0]["last_success"].is_string(), "{now:#}");
    let log = relay.log();
    assert_eq!(log.matches("path broken").count(), 1, "once for a change: {log}");
    assert!(log.contains("pushes get through again"), "{log}");
    assert!(!page(relay.admin, "/metrics").await.contains("policy_everything"));
}

/// What is carried untouched tells of the way, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_of_passthrough_counts_for_its_path() {
    let apns = origin(|_| {}).await;
    let builder = relay().to(&apns).accept("[connect]").route("tls: passthrough");
    let relay = builder.start().await;
    let mut tcp = within(tokio::net::TcpStream::connect(relay.address)).await.unwrap();
    let head = b"CONNECT api.push.apple.com:443 HTTP/1.1\r\nHost: api.push.apple.com:443\r\n\r\n";
    tcp.write_all(head).await.unwrap();
    let mut answer = [0; 12];
    within(tcp.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    let now = status(&relay).await;
    assert_eq!(now["paths"][0]["origin"], "api.push.apple.com:443", "{now:#}");
    assert!(now["paths"][0]["last_success"].is_string(), "{now:#}");
}
