//! What is printed: the fixed shape, harmless peer text, no secret, 80 columns.

use super::kit::{Case, Scripted, closed};
use crate::support::{corporate, origin};
use pushrelay::simulate::proxy::Manner;

const HOSTILE: &str = "HTTP/1.1 403 \u{1b}[31m<script>alert(1)</script>\r\nVia: 1.1 \u{1b}]0;x\u{7}<b>\r\n\
                       X-Squid-Error: <img src=x>\r\nContent-Length: 46\r\n\r\n\
                       <html><script>alert(2)</script>\u{1b}[2J</html>....";

#[tokio::test(flavor = "multi_thread")]
async fn hostile_peer_text_is_harmless_everywhere() {
    let proxy = Scripted::proxy(|_| Some(HOSTILE.to_owned())).await;
    let banner = Scripted::greeting("\u{1b}[31m<script>alert(3)</script>\r\n\r\n").await;
    for address in [proxy.address, banner.address] {
        let case = Case::through(address);
        let page = case.path("egress.html");
        let keep = tempfile::tempdir().unwrap();
        let kept = keep.path().join("egress.html");
        let (_, text) = case.arg("--report").arg(kept.to_str().unwrap()).output().await;
        assert!(!text.contains('\u{1b}'), "{text}");
        let html = std::fs::read_to_string(kept).unwrap();
        assert!(!html.contains('\u{1b}') && !html.contains("<script") && !html.contains("<img"));
        let seen = Case::through(address).run().await;
        assert!(!seen.text.contains("\\u001b") && !seen.text.contains('\u{1b}'), "{}", seen.text);
        drop(page);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_has_its_fixed_shape_and_the_table_fits_the_terminal() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |_| {}).await;
    let case = || Case::through(proxy.address()).roots(&apns.authority);
    let seen = case().run().await;
    assert_eq!(seen.json["version"], 1);
    let target = &seen.json["targets"][0];
    assert_eq!(target["origin"], "api.push.apple.com:443");
    let stages: Vec<_> = target["rungs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rung| rung["stage"].as_str().unwrap())
        .collect();
    assert_eq!(stages, ["resolve", "tcp", "connect", "tls", "alpn", "settings", "ping", "request"]);
    for rung in target["rungs"].as_array().unwrap() {
        for key in ["stage", "hop", "result", "ms", "evidence"] {
            assert!(rung.get(key).is_some(), "{key}: {rung}");
        }
    }
    for key in ["severity", "code", "hop", "sentence", "action"] {
        assert_eq!(target["verdict"][key], seen.json["verdict"][key]);
    }
    for broken in [proxy.address(), closed()] {
        let (_, text) = Case::through(broken).output().await;
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("PASS") || text.contains("FAIL"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_baseline_tells_what_changed() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |_| {}).await;
    let case = || Case::through(proxy.address()).roots(&apns.authority);
    let before = case().run().await.text;
    let with_baseline = || {
        let case = case();
        let file = case.file("before.json", &before);
        case.arg("--baseline").arg(file.to_str().unwrap())
    };
    assert!(with_baseline().run().await.json.get("changes").is_none());
    apns.change(|conduct| conduct.cold_limit = 7);
    let seen = with_baseline().run().await;
    let changes = seen.json["changes"].to_string();
    assert!(changes.contains("MAX_CONCURRENT_STREAMS is 7, was 1"), "{changes}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_and_configurations_have_their_exit_codes() {
    let secret = Case::new().arg("--proxy").arg("http://u:canary-password@127.0.0.1:1");
    let (exit, text) = secret.output().await;
    assert_eq!(exit, 64);
    assert!(!text.contains("canary"), "{text}");
    let (exit, _) = Case::through(closed()).target("not a host").output().await;
    assert_eq!(exit, 64);
    let (exit, _) = Case::new().arg("--explain").arg("nothing").output().await;
    assert_eq!(exit, 64);
    let (exit, text) = Case::new().arg("--explain").arg("alpn_stripped").output().await;
    assert_eq!(exit, 0);
    assert!(text.contains("ALPN"), "{text}");
    let (exit, text) = Case::new().output().await;
    assert_eq!(exit, 78, "no relay.yaml here");
    assert!(text.contains("--direct"), "{text}");
    for proxy in ["127.0.0.1:3128", "proxy:3128", "http://[::1:3128"] {
        let (exit, text) = Case::new().arg("--proxy").arg(proxy).output().await;
        assert_eq!(exit, 64);
        assert!(text.contains("want http[s]://[USER@]HOST:PORT"), "{text}");
    }
}
