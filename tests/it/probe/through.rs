//! From the sender's side, through a running relay.

use super::kit::{Case, closed, judge};
use crate::support::{origin, relay};

#[tokio::test(flavor = "multi_thread")]
async fn a_running_relay_is_seen_as_a_sender_sees_it() {
    let apns = origin(|_| {}).await;
    let relay = relay().to(&apns).start().await;
    let at = relay.address.to_string();
    let case = || Case::new().arg("--through").arg(&at);
    let seen = judge(case().roots(&relay.issuer), "through_ok", "none", 0).await;
    assert!(seen.sentence().contains("2 arrives"), "{}", seen.sentence());
    judge(case(), "through_untrusted", "relay-host", 10).await;
    let bypass = case().env("HTTPS_PROXY", "http://u:canary@proxy.corp.example:3128");
    let seen = judge(bypass, "through_bypassed", "relay-host", 10).await;
    assert!(!seen.text.contains("canary"), "{}", seen.text);
    // The proxy in the environment is the relay itself, or does not count for the host.
    let own = case().roots(&relay.issuer).env("HTTPS_PROXY", &format!("http://{at}"));
    judge(own, "through_ok", "none", 0).await;
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
