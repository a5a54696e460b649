//! From the sender's side, through a running relay.

use super::kit::{Case, closed, judge};
use crate::support::{HOST, corporate, origin, relay};
use pushrelay::simulate::proxy::Manner;

#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_is_seen_as_a_sender_sees_it() {
    let apns = origin(|_| {}).await;
    let relay = relay().to(&apns).start().await;
    let at = relay.address.to_string();
    let case = || Case::new().arg("--through").arg(&at);
    let seen = judge(case().roots(&relay.issuer), "through_ok", "none", 0).await;
    assert!(seen.sentence().contains("2 arrives"), "{}", seen.sentence());
    let notes = seen.json["targets"][0]["notes"].to_string();
    assert!(notes.contains("and not to the relay at 127.0.0.1"), "{notes}");
    judge(case(), "through_untrusted", "relay-host", 10).await;
    let bypass = case().env("HTTPS_PROXY", "http://u:canary@proxy.corp.example:3128");
    let seen = judge(bypass, "through_bypassed", "relay-host", 10).await;
    assert!(!seen.text.contains("canary"), "{}", seen.text);
    let excepted = case().roots(&relay.issuer).env("HTTPS_PROXY", "http://p:1");
    judge(excepted.env("NO_PROXY", ".apple.com"), "through_ok", "none", 0).await;
    apns.untouched();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_relay_is_said_so() {
    let apns = origin(|_| {}).await;
    let at = apns.address().to_string();
    let case = Case::new().arg("--through").arg(&at).roots(&apns.authority);
    judge(case, "through_not_the_relay", "relay-host", 10).await;
    let nobody = closed().to_string();
    let case = Case::new().arg("--through").arg(&nobody);
    judge(case, "through_unreachable", "relay-host", 10).await;
}

/// HTTPS_PROXY is followed: the relay itself, or a proxy before it, is no way around it.
#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_of_the_environment_is_followed_to_the_relay_or_around_it() {
    let apns = origin(|_| {}).await;
    let relay = relay().to(&apns).accept("[tls, connect]").start().await;
    let at = relay.address.to_string();
    let case = |proxy: &str| {
        Case::new().arg("--through").arg(&at).roots(&relay.issuer).env("HTTPS_PROXY", proxy)
    };
    judge(case(&format!("http://{at}")), "through_ok", "none", 0).await;
    let seen = judge(case("socks5://127.0.0.1:1"), "through_bypassed", "relay-host", 10).await;
    assert!(seen.sentence().contains("socks5"), "{}", seen.sentence());
    let proxy = corporate(Manner::Tunnel, relay.address, &apns.authority, |conduct| {
        conduct.basic = Some(("u".into(), "canary".into()));
    })
    .await;
    let url = format!("http://u:canary@{}", proxy.address());
    let seen = judge(case(&url), "through_ok", "none", 0).await;
    assert!(!seen.text.contains("canary"), "{}", seen.text);
    // Around it: the origin itself answers at the end of this proxy.
    proxy.change(|conduct| {
        conduct.map.insert(format!("{HOST}:443"), apns.address());
    });
    let around = case(&url).file_arg("--roots", "apns.pem", &apns.authority.pem());
    let seen = judge(around, "through_bypassed", "relay-host", 10).await;
    assert!(seen.sentence().contains("no relay answers"), "{}", seen.sentence());
}

/// What a box between changes is listed.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_middle_changed_is_shown() {
    let apns = origin(|_| {}).await;
    let relay = relay().to(&apns).start().await;
    let proxy = corporate(Manner::Inspect, relay.address, &relay.issuer, |_| {}).await;
    let case = Case::new()
        .arg("--through")
        .arg(&relay.address.to_string())
        .inspector(&proxy.authority)
        .env("HTTPS_PROXY", &format!("http://{}", proxy.address()));
    let seen = judge(case, "through_http1", "none", 0).await;
    for part in ["HTTP/1.1", "Via", "fields added: "] {
        assert!(seen.sentence().contains(part), "{part}: {}", seen.sentence());
    }
}

/// The environment of a process that runs, found by its unit: /proc/PID/environ is read for real.
#[tokio::test(flavor = "multi_thread")]
async fn the_units_own_environment_decides() {
    let apns = origin(|_| {}).await;
    let relay = relay().to(&apns).start().await;
    let keep = tempfile::tempdir().unwrap();
    let path = |name: &str| keep.path().join(name);
    std::fs::write(path("relay-root.pem"), relay.issuer.pem()).unwrap();
    let sender = |name: &str, value: &std::path::Path| {
        Unit(std::process::Command::new("sleep").arg("60").env(name, value).spawn().unwrap())
    };
    let case = |unit: &Unit| {
        // systemd runs nowhere but on a real machine: this says which process the unit is.
        let tool = format!("#!/bin/sh\n[ \"$5\" = mpns.service ] && echo {}\n", unit.0.id());
        std::fs::write(path("systemctl"), tool).unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(path("systemctl"), mode).unwrap();
        let tools = format!("{}:{}", keep.path().display(), std::env::var("PATH").unwrap());
        let case = Case::new().arg("--through").arg(&relay.address.to_string());
        case.arg("--unit").arg("mpns").env("PATH", &tools)
    };
    for (name, value) in [
        ("SSL_CERT_FILE", path("relay-root.pem")),
        ("SSL_CERT_DIR", keep.path().to_owned()),
        ("NODE_EXTRA_CA_CERTS", path("relay-root.pem")),
    ] {
        let unit = sender(name, &value);
        let seen = judge(case(&unit), "through_ok", "none", 0).await;
        let notes = seen.json["targets"][0]["notes"].to_string();
        assert!(notes.contains(name), "{notes}");
    }
    let unit = sender("SSL_CERT_FILE", &path("missing.pem"));
    let seen = judge(case(&unit), "through_untrusted", "relay-host", 10).await;
    assert!(seen.text.contains("trusts nothing in it"), "{}", seen.text);
    let unit = sender("OTHER", &path("x"));
    judge(case(&unit), "through_untrusted", "relay-host", 10).await;
    // The same from unit files below a folder, whose paths are inside it.
    let folder = path("image/etc/systemd/system");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::copy(path("relay-root.pem"), path("image/etc/root.pem")).unwrap();
    let text = "[Service]\nEnvironment=SSL_CERT_FILE=/etc/root.pem\n";
    std::fs::write(folder.join("mpns.service"), text).unwrap();
    let image = path("image");
    let files = case(&unit).arg("--root").arg(image.to_str().unwrap());
    judge(files, "through_ok", "none", 0).await;
}

/// A process of this test; it ends with this value.
struct Unit(std::process::Child);

impl Drop for Unit {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The egress of a chain trusts the next relay's root: that is no inspector to complain of.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_relay_of_a_chain_is_no_inspector() {
    let apns = origin(|_| {}).await;
    let post = relay().to(&apns).start().await;
    let case = Case::new();
    case.file("post.pem", &post.issuer.pem());
    let yaml = format!(
        "version: 1\nlisteners:\n  - {{ name: test, bind: ['127.0.0.1:0'], accept: [plain] }}\n\
         routes:\n  - {{ provider: apns, egress: out, next_hop: {{ relay: {{}} }} }}\negress:\n  out:\n    \
         roots: [post.pem]\n    connect_to: {{ \"{HOST}:443\": \"{}\" }}\n",
        post.address
    );
    let case = case.file_arg("--config", "relay.yaml", &yaml).target_only(HOST);
    judge(case, "ok", "none", 0).await;
}
