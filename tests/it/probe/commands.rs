//! The commands in the evidence, run as they are printed: they show what the relay saw.

use std::process::Command;

use serde_json::Value;

use super::kit::{Case, Scripted, Way, judge, relay_yaml};
use crate::support::{HOST, corporate, origin, within};
use pushrelay::simulate::proxy::Manner;

/// What a shell prints for a rung's command, both streams.
async fn shown(target: &Value, stage: &str) -> String {
    let rungs = target["rungs"].as_array().unwrap();
    let rung = rungs.iter().find(|rung| rung["stage"] == stage).unwrap();
    let command = rung["evidence"]["command"].as_str().unwrap_or_else(|| panic!("{rung}"));
    let command = command.to_owned();
    let ran = tokio::task::spawn_blocking(move || {
        // What would lead curl astray where the command did not say otherwise.
        let ran = Command::new("bash")
            .args(["-c", &command])
            .env("https_proxy", "http://127.0.0.1:1")
            .env("NO_PROXY", "*")
            .env("PROXY_PASSWORD", "right")
            .output()
            .unwrap();
        let [out, err] =
            [ran.stdout, ran.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
        format!("$ {command}\n{out}{err}")
    });
    within(ran).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn through_a_proxy_they_climb_what_the_relay_climbed() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |_| {}).await;
    let keep = tempfile::tempdir().unwrap();
    let roots = keep.path().join("the roots.pem");
    std::fs::write(&roots, apns.authority.pem()).unwrap();
    let case = || Case::through(proxy.address()).arg("--roots").arg(roots.to_str().unwrap());
    let seen = judge(case(), "ok", "none", 0).await;
    let target = &seen.json["targets"][0];
    let text = shown(target, "tls").await;
    assert!(text.contains("ALPN protocol: h2") && text.contains("Verification: OK"), "{text}");
    let text = shown(target, "tcp").await;
    assert!(text.contains("Connected to 127.0.0.1"), "{text}");
    let text = shown(target, "connect").await;
    assert!(text.contains("> CONNECT api.push.apple.com:443"), "{text}");
    let text = shown(target, "request").await;
    assert!(text.contains("MissingProviderToken"), "{text}");
    proxy.change(|conduct| conduct.manner = Manner::StripAlpn);
    let case = case().inspector(&proxy.authority);
    let seen = judge(case, "alpn_stripped", "inspector", 12).await;
    let text = shown(&seen.json["targets"][0], "alpn").await;
    assert!(text.contains("No ALPN negotiated"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_direct_path_they_dial_the_address_that_the_relay_dialled() {
    let apns = origin(|_| {}).await;
    let case = relay_yaml(&apns.authority, Way::Pinned(apns.address())).target_only(HOST);
    let seen = judge(case, "inspected", "inspector", 0).await;
    let target = &seen.json["targets"][0];
    let text = shown(target, "tls").await;
    assert!(text.contains("ALPN protocol: h2") && text.contains("Verification: OK"), "{text}");
    let text = shown(target, "request").await;
    assert!(text.contains("MissingProviderToken"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_named_and_never_printed() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |conduct| {
        conduct.basic = Some(("svc".into(), "right".into()));
    })
    .await;
    apns.change(|conduct| conduct.alpn = pushrelay::simulate::apns::Alpn::Http11);
    let case = Case::through(proxy.address()).user("svc", "right").roots(&apns.authority);
    let seen = judge(case, "alpn_http1", "beyond-proxy", 13).await;
    // The origin's alert ends the handshake itself.
    let rungs = seen.json["targets"][0]["rungs"].as_array().unwrap();
    let tls = rungs.iter().find(|rung| rung["stage"] == "tls").unwrap();
    let needs = tls["evidence"]["command_needs"].as_str().unwrap();
    assert!(needs.contains("PROXY_PASSWORD"), "{needs}");
    let text = shown(&seen.json["targets"][0], "tls").await;
    assert!(text.contains("-proxy_user svc") && text.contains("CONNECTED"), "{text}");
    assert!(text.contains("no application protocol"), "{text}");
}

/// The numbers by which others find a request in their logs are kept, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_proxys_numbers_are_evidence() {
    let gateway = Scripted::proxy(|_| {
        Some(
            "HTTP/1.1 403 Forbidden\r\nX-BlueCoat-Transaction: 00c7-1a2b\r\nVia: 1.1 gw\r\n\
             Set-Cookie: canary=1\r\nX-Cache: MISS from gw\r\nContent-Length: 0\r\n\r\n"
                .to_owned(),
        )
    })
    .await;
    let seen = judge(Case::through(gateway.address), "policy_everything", "proxy", 11).await;
    let rungs = seen.json["targets"][0]["rungs"].as_array().unwrap();
    let connect = rungs.iter().find(|rung| rung["stage"] == "connect").unwrap();
    let fields = &connect["evidence"]["fields"];
    assert_eq!(fields["x-bluecoat-transaction"], "00c7-1a2b");
    assert_eq!(fields["x-cache"], "MISS from gw");
    assert!(!seen.text.contains("canary"));
}

/// A wrong clock is told from a bad certificate by what others say of the time.
#[tokio::test(flavor = "multi_thread")]
async fn the_clock_is_compared_with_whoever_tells_the_time() {
    let apns = super::kit::origin_with(super::kit::Leaf::Expired).await;
    let (apns, root) = (apns.0, apns.1.unwrap());
    // The proxy opens tunnels by hand, so that its CONNECT answer carries no Date and its page does.
    for (date, code, exit) in [
        ("Thu, 01 Jan 2015 00:00:00 GMT".to_owned(), "clock_wrong", 10),
        (super::kit::http_date(), "certificate_expired", 13),
    ] {
        let page = format!("HTTP/1.1 400 Bad\r\nDate: {date}\r\nContent-Length: 0\r\n\r\n");
        let proxy = Scripted::tunnel(apns.address(), page).await;
        let case = Case::through(proxy.address).roots_pem(&root);
        let seen = case.run().await;
        assert_eq!((seen.code(), seen.exit), (code, exit), "{}", seen.text);
        let rungs = seen.json["targets"][0]["rungs"].as_array().unwrap();
        let clock = rungs.iter().find(|rung| rung["stage"] == "clock").unwrap();
        assert_eq!(clock["evidence"]["told_by"], proxy.address.to_string(), "{clock}");
        let checked = seen.json["verdict"]["action"].as_str().unwrap().contains("Check this");
        assert!(!checked, "somebody was asked: {}", seen.text);
    }
}
