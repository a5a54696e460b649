//! Answers exactly as the origin gave them (rules R1, R5, S5).

use pushrelay::simulate::apns::{REASONS, token_for};
use pushrelay::simulate::sender::{Push, Speech};

use crate::support::{TOPIC, alert, id, origin, raw, relay, sender, within};

/// R5: status, apns-id and body bytes of every reason that APNs has, by HTTP/1.1 and HTTP/2.
#[tokio::test]
async fn every_answer_of_apns_passes_unchanged() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    for speech in [Speech::Http11, Speech::Http2] {
        let mut direct = within(sender(&origin, Speech::Http2).connect()).await.unwrap();
        let mut relayed = within(sender(&relay, speech).connect()).await.unwrap();
        for (serial, (status, reason)) in (1..).zip(pairs()) {
            // Credential refusals would retire the lane; these are about the device.
            let token = token_for(status, reason, serial).unwrap();
            let push = Push::alert(&token, TOPIC).apns_id(&id(serial));
            let want = within(direct.send(&push)).await.unwrap();
            let got = within(relayed.send(&push)).await.unwrap();
            assert_eq!((got.status(), &got.body), (want.status(), &want.body), "{reason}");
            for name in ["apns-id", "content-type"] {
                assert_eq!(got.field(name), want.field(name), "{reason}: {name}");
            }
        }
    }
    origin.clean();
}

fn pairs() -> Vec<(u16, &'static str)> {
    let device = REASONS.iter().filter(|(status, _)| *status != 403);
    device.flat_map(|(status, reasons)| reasons.iter().map(|reason| (*status, *reason))).collect()
}

fn request(push: &Push) -> Vec<u8> {
    let mut text = format!("POST {} HTTP/1.1\r\nHost: api.push.apple.com\r\n", push.path);
    for (name, value) in &push.fields {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("Content-Length: {}\r\nConnection: close\r\n\r\n", push.body.len()));
    [text.as_bytes(), &push.body].concat()
}

/// S5, R1: never chunked, a content-length, exactly the body of the origin.
#[tokio::test]
async fn http1_answers_have_a_length_and_are_never_chunked() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    let sender = sender(&relay, Speech::Http11);
    let accepted = raw(&sender, &request(&alert(1))).await.to_ascii_lowercase();
    assert!(accepted.starts_with("http/1.1 200"), "{accepted}");
    assert!(accepted.contains("\r\ncontent-length: 0\r\n"), "{accepted}");
    assert!(accepted.ends_with("\r\n\r\n"), "{accepted}");
    let token = token_for(400, "BadDeviceToken", 1).unwrap();
    let refused = raw(&sender, &request(&Push::alert(&token, TOPIC))).await;
    assert!(refused.ends_with("\r\n\r\n{\"reason\":\"BadDeviceToken\"}"), "{refused}");
    assert!(!refused.to_ascii_lowercase().contains("transfer-encoding"), "{refused}");
}

/// Q1, Q2: hop-by-hop and proxies' fields stay behind, names are lower case, each once.
#[tokio::test]
async fn what_proxies_add_stays_behind() {
    let origin = origin(|_| {}).await;
    let relay = relay().to(&origin).start().await;
    let push = alert(1)
        .field("Via", "1.1 squid")
        .field("X-Forwarded-For", "10.0.0.7")
        .field("Keep-Alive", "timeout=5")
        .field("Proxy-Connection", "keep-alive")
        .field("Upgrade", "h2c")
        .field("HTTP2-Settings", "AAMAAABkAAQAAP__")
        .field("TE", "trailers")
        .field("Apns-Priority", "10");
    let answer = raw(&sender(&relay, Speech::Http11), &request(&push)).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let fields = origin.ledger().entries().remove(0).fields;
    assert!(fields.contains(&"apns-priority".to_owned()), "{fields:?}");
    origin.clean();
}
