//! `pushrelay probe` against every way in which a path can be broken here: each ends with its code,
//! its hop's exit code, and in time.

mod commands;
mod health;
mod kit;
mod output;
mod through;

use std::time::Duration;

use kit::{Case, FCM, Scripted, Way, closed, judge, relay_yaml};
use pushrelay::simulate::apns::{Alpn, Cut, Fault, Last, Planned, When};
use pushrelay::simulate::proxy::Manner;

use super::support::{HOST, corporate, origin};

fn always(fault: Fault) -> Vec<Planned> {
    vec![Planned { when: When::From(1, 1), fault }]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_healthy_path_is_climbed_in_time() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |_| {}).await;
    let case = Case::through(proxy.address()).roots(&apns.authority);
    let seen = judge(case, "ok", "none", 0).await;
    assert!(seen.took < Duration::from_secs(3), "{:?}", seen.took);
    // A few interim answers are no fault.
    proxy.change(|conduct| conduct.manner = Manner::Chatty(3));
    judge(Case::through(proxy.address()).roots(&apns.authority), "ok", "none", 0).await;
    apns.clean();
    assert!(apns.fates().len() <= 2, "an unauthenticated request each, no push");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxy_says_has_its_code() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |_| {}).await;
    let challenges = vec!["NTLM".to_owned(), "Basic realm=\"x\"".to_owned()];
    for (manner, code, hop, exit) in [
        (Manner::Refuse(403), "policy_everything", "proxy", 11),
        (Manner::Refuse(302), "portal_redirect", "portal", 12),
        (Manner::Refuse(511), "portal_redirect", "portal", 12),
        (Manner::Refuse(405), "not_a_connect_proxy", "proxy", 11),
        (Manner::Refuse(429), "proxy_busy", "proxy", 11),
        (Manner::Refuse(500), "proxy_broken", "proxy", 11),
        // To the other host as well, so it is not what lies beyond.
        (Manner::Refuse(502), "proxy_gateway_error", "proxy", 11),
        (Manner::Refuse(504), "beyond_proxy_timeout", "beyond-proxy", 13),
        (Manner::Challenge(challenges), "proxy_auth_missing", "relay-host", 10),
        (Manner::Chatty(50), "proxy_not_http", "proxy", 11),
        (Manner::BlockPage, "block_page", "portal", 12),
        (Manner::ResetAfterConnect, "tunnel_reset", "beyond-proxy", 13),
    ] {
        proxy.change(|conduct| conduct.manner = manner.clone());
        judge(Case::through(proxy.address()).roots(&apns.authority), code, hop, exit).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_after_connect_is_told_from_silence_before_it() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Mute, apns.address(), &apns.authority, |conduct| {
        conduct.map.insert(format!("{FCM}:443"), apns.address());
    })
    .await;
    judge(Case::through(proxy.address()), "proxy_hung", "proxy", 11).await;
    proxy.change(|conduct| conduct.manner = Manner::HangAfterConnect);
    judge(Case::through(proxy.address()), "tunnel_black_hole", "beyond-proxy", 13).await;
    proxy.change(|conduct| conduct.manner = Manner::ExtraBytes);
    let seen = Case::through(proxy.address()).roots(&apns.authority).run().await;
    assert_eq!(seen.exit, if seen.hop() == "portal" { 12 } else { 13 }, "{}", seen.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspecting_proxy_is_named_with_and_without_its_root() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Inspect, apns.address(), &apns.authority, |_| {}).await;
    let case = || Case::through(proxy.address());
    judge(case(), "unknown_issuer", "inspector", 12).await;
    judge(case().inspector(&proxy.authority), "alpn_http1", "inspector", 12).await;
    proxy.change(|conduct| conduct.manner = Manner::StripAlpn);
    let seen = judge(case().inspector(&proxy.authority), "alpn_stripped", "inspector", 12).await;
    assert!(seen.sentence().contains("Simulated inspection CA"), "{}", seen.sentence());
    proxy.change(|conduct| {
        conduct.manner = Manner::BlockPageInside;
        conduct.map.insert(format!("{FCM}:443"), apns.address());
    });
    let case = case().inspector(&proxy.authority).target(FCM);
    judge(case, "block_page_in_tls", "inspector", 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_are_tried_by_one_dial_and_never_shown() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |conduct| {
        conduct.basic = Some(("svc".into(), "right".into()));
    })
    .await;
    let case = Case::through(proxy.address()).user("svc", "canary-wrong").target("fcm");
    let seen = judge(case, "proxy_auth_refused", "proxy", 11).await;
    assert_eq!(seen.json["targets"].as_array().unwrap().len(), 3, "each target is reported");
    let tried = proxy.seen().iter().filter(|one| one.credentials.is_some()).count();
    // One dial: some proxies refuse the first request of a connection whatever it carries, so the
    // dialer asks once more on it.
    assert!((1..=2).contains(&tried), "{tried} tries, for one dial of three targets");
    let case = Case::through(proxy.address()).user("svc", "right").roots(&apns.authority);
    judge(case, "ok", "none", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_listens_at_the_proxys_address_is_told_apart() {
    let apns = origin(|_| {}).await;
    judge(Case::through(closed()), "proxy_port_closed", "to-proxy", 11).await;
    judge(Case::through(apns.address()), "proxy_speaks_tls", "proxy", 11).await;
    let banner = Scripted::greeting("SSH-2.0-OpenSSH_9.2\r\n").await;
    judge(Case::through(banner.address), "proxy_not_http", "proxy", 11).await;
    judge(Case::through_tls(banner.address), "proxy_not_tls", "proxy", 11).await;
    judge(Case::through_tls(apns.address()), "proxy_tls_failed", "proxy", 11).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |c| c.down = true).await;
    judge(Case::through(proxy.address()), "proxy_closed", "proxy", 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn squids_errors_name_what_squid_met() {
    for (error, status, code, hop, exit) in [
        ("ERR_DNS_FAIL 0", 503, "proxy_dns", "proxy", 11),
        ("ERR_CONNECT_FAIL 111", 503, "beyond_proxy_refused", "beyond-proxy", 13),
        ("ERR_CONNECT_FAIL 110", 503, "beyond_proxy_timeout", "beyond-proxy", 13),
        ("ERR_CANNOT_FORWARD 0", 500, "proxy_cannot_forward", "proxy", 11),
        ("ERR_ACCESS_DENIED 0", 403, "policy_everything", "proxy", 11),
    ] {
        let answer = format!(
            "HTTP/1.1 {status} Nope\r\nX-Squid-Error: {error}\r\nContent-Length: 0\r\n\r\n"
        );
        let squid = Scripted::proxy(move |_| Some(answer.clone())).await;
        judge(Case::through(squid.address), code, hop, exit).await;
    }
}

/// Control rungs tell policy by name, and a proxy that waits, from what looks the same.
#[tokio::test(flavor = "multi_thread")]
async fn control_rungs_tell_apart_what_looks_alike() {
    const FORBIDDEN: &str = "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n";
    const UNREACHED: &str = "HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n";
    let by_name =
        |head: &str| Some(if head.contains("apple") { FORBIDDEN } else { UNREACHED }.to_owned());
    let proxy = Scripted::proxy(by_name).await;
    let seen = judge(Case::through(proxy.address), "policy_host", "proxy", 11).await;
    assert!(seen.sentence().contains("fcm.googleapis.com:443"), "the control host is named");
    let waits = |head: &str| (!head.contains("apple")).then(|| UNREACHED.to_owned());
    let proxy = Scripted::proxy(waits).await;
    judge(Case::through(proxy.address), "connect_waits_for_origin", "beyond-proxy", 13).await;
    let by_port =
        |head: &str| Some(if head.contains(":443 ") { UNREACHED } else { FORBIDDEN }.to_owned());
    let proxy = Scripted::proxy(by_port).await;
    let case = Case::through(proxy.address).target_only("api.push.apple.com:2197");
    judge(case, "policy_port", "proxy", 11).await;
    let control = Case::through(proxy.address).arg("--control").arg("other.example:8443");
    let seen = control.run().await;
    assert!(seen.text.contains("other.example:8443"), "{}", seen.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_works_and_the_other_does_not() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |conduct| {
        conduct.map.insert(format!("{HOST}:2197"), apns.address());
        conduct.ports = vec![2197];
    })
    .await;
    let case = || Case::through(proxy.address()).roots(&apns.authority);
    judge(case(), "works_on_other_port", "proxy", 0).await;
    proxy.change(|conduct| conduct.ports = vec![443]);
    let reverse = case().target_only("api.push.apple.com:2197");
    judge(reverse, "works_on_other_port", "proxy", 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_origin_is_not_blamed_on_the_proxy() {
    let goaway = Fault::GoAway {
        last: Last::Zero,
        code: 0,
        reason: Some("BadCertificateEnvironment".into()),
        then_cut: Some(Cut::Close),
    };
    for (fault, code, hop, exit) in [
        (Fault::Html(200), "block_page_in_tls", "portal", 12),
        (Fault::NoApnsId, "answer_not_providers", "beyond-proxy", 13),
        (Fault::Reset(7), "stream_refused", "beyond-proxy", 13),
        (Fault::CutOnHeaders(Cut::Close), "request_cut", "beyond-proxy", 13),
        (Fault::CutMidAnswer(Cut::Reset), "request_cut", "beyond-proxy", 13),
        (Fault::Stall, "request_swallowed", "beyond-proxy", 13),
        (goaway, "goaway", "beyond-proxy", 13),
    ] {
        let apns = origin(|conduct| conduct.faults = always(fault.clone())).await;
        // Port 2197 shakes hands as well, and is no way out.
        let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |conduct| {
            conduct.map.insert(format!("{HOST}:2197"), apns.address());
        })
        .await;
        let case = Case::through(proxy.address()).roots(&apns.authority);
        let seen = judge(case, code, hop, exit).await;
        if code == "goaway" {
            // Whatever the peer wrote beside its GOAWAY is what its people ask for.
            let rungs = seen.json["targets"][0]["rungs"].to_string();
            assert!(rungs.contains("\"name\":\"NO_ERROR\""), "{rungs}");
            assert!(rungs.contains("BadCertificateEnvironment"), "{rungs}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_climbed_step_by_step() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |_| {}).await;
    let case = || Case::through(proxy.address()).roots(&apns.authority);
    apns.change(|conduct| conduct.alpn = Alpn::Http11);
    judge(case(), "alpn_http1", "beyond-proxy", 13).await;
    apns.change(|conduct| conduct.alpn = Alpn::Stripped);
    judge(case(), "alpn_stripped", "beyond-proxy", 13).await;
    apns.change(|conduct| {
        conduct.alpn = Alpn::H2;
        conduct.settings = false;
    });
    judge(case(), "h2_swallowed", "beyond-proxy", 13).await;
    apns.change(|conduct| {
        conduct.settings = true;
        conduct.pings = false;
    });
    judge(case(), "ping_lost", "beyond-proxy", 0).await;
    apns.change(|conduct| conduct.pings = true);
    proxy.change(|conduct| conduct.idle = Some(Duration::from_secs(1)));
    judge(case().arg("--idle").arg("2"), "idle_cut", "beyond-proxy", 0).await;
    apns.change(|conduct| conduct.down = true);
    judge(case(), "tunnel_reset", "beyond-proxy", 13).await;
}

/// relay.yaml: the direct path, pins, loops and certificates.
#[tokio::test(flavor = "multi_thread")]
async fn the_routes_of_relay_yaml_are_climbed() {
    let apns = origin(|_| {}).await;
    let case = |way: Way| relay_yaml(&apns.authority, way).target_only("api.push.apple.com");
    judge(case(Way::Pinned(apns.address())), "inspected", "inspector", 0).await;
    judge(case(Way::Pinned(closed())), "origin_port_closed", "network", 13).await;
    judge(case(Way::Listening(apns.address())), "loop_proxy", "relay-host", 10).await;
    // Each proxy of a list has a ladder of its own.
    let proxy = corporate(Manner::Tunnel, apns.address(), &apns.authority, |_| {}).await;
    let both = case(Way::Proxies(vec![proxy.address(), closed()]));
    let seen = judge(both, "proxy_port_closed", "to-proxy", 11).await;
    let targets = seen.json["targets"].as_array().unwrap();
    let codes: Vec<_> =
        targets.iter().map(|one| one["verdict"]["code"].as_str().unwrap()).collect();
    assert_eq!(codes.len(), 2, "{codes:?}");
    assert!(codes.contains(&"inspected") && codes.contains(&"proxy_port_closed"), "{codes:?}");
}

/// Works directly but not through the proxy: only looked at when it is allowed.
#[tokio::test(flavor = "multi_thread")]
async fn the_direct_path_is_taken_only_when_allowed() {
    let apns = origin(|_| {}).await;
    let proxy = corporate(Manner::Refuse(403), apns.address(), &apns.authority, |_| {}).await;
    let case = || {
        let way = Way::PinnedProxy(proxy.address(), apns.address());
        relay_yaml(&apns.authority, way).target_only("api.push.apple.com")
    };
    judge(case(), "policy_everything", "proxy", 11).await;
    apns.untouched();
    let seen = judge(case().arg("--allow-direct"), "policy_everything", "proxy", 11).await;
    assert!(seen.sentence().contains("Directly, without the proxy, the same host answers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_judged_by_what_is_wrong_with_them() {
    for (leaf, code, hop) in [
        (kit::Leaf::WrongName, "certificate_wrong_name", "beyond-proxy"),
        (kit::Leaf::Expired, "certificate_expired", "beyond-proxy"),
        (kit::Leaf::Future, "certificate_not_yet_valid", "relay-host"),
        (kit::Leaf::SelfSigned, "self_signed", "beyond-proxy"),
        (kit::Leaf::Zscaler, "inspector", "inspector"),
    ] {
        let (apns, root) = kit::origin_with(leaf).await;
        let proxy = corporate(Manner::Tunnel, apns.address(), &kit::any_authority(), |_| {}).await;
        let mut case = Case::through(proxy.address());
        if let Some(root) = root {
            case = case.roots_pem(&root);
        }
        let exit = match hop {
            "relay-host" => 10,
            "inspector" => 12,
            _ => 13,
        };
        judge(case, code, hop, exit).await;
    }
}

/// A root of one's own origin is no inspector's, unless it stands beside the public ones; a route
/// with an identity says that the probe speaks without it.
#[tokio::test(flavor = "multi_thread")]
async fn private_roots_and_identities_are_said_for_what_they_are() {
    let apns = origin(|_| {}).await;
    let own = |roots: &str| {
        let case = Case::new();
        case.file("origin.pem", &apns.authority.pem());
        let yaml = format!(
            "version: 1\nlisteners:\n  - name: test\n    bind: [\"127.0.0.1:0\"]\n    accept: \
             [plain]\nroutes:\n  - name: own\n    hosts: [push.corp.example]\n    origin: \
             https://{HOST}\n    egress: out\n    methods: [POST]\n    paths: [/x]\negress:\n  \
             out:\n    roots: {roots}\n    connect_to: {{ \"{HOST}:443\": \"{}\" }}\n",
            apns.address()
        );
        case.file_arg("--config", "relay.yaml", &yaml).target_only("push.corp.example")
    };
    let seen = judge(own("[origin.pem]"), "ok", "none", 0).await;
    assert!(!seen.text.contains("\"inspected\": true"), "{}", seen.text);
    judge(own("[bundled, origin.pem]"), "inspected", "inspector", 0).await;

    let case = relay_yaml(&apns.authority, Way::Pinned(apns.address())).target_only(HOST);
    let yaml = std::fs::read_to_string(case.path("relay.yaml")).unwrap();
    let identity = "    provider_identity: { chain: identity.pem, key: identity.key }\negress:\n";
    case.file("relay.yaml", &yaml.replace("egress:\n", identity));
    let ours = kit::any_authority();
    case.file("identity.pem", &ours.pem());
    let key = case.file("identity.key", &ours.key_pem());
    std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let seen = judge(case, "inspected", "inspector", 0).await;
    let notes = seen.json["targets"][0]["notes"].to_string();
    assert!(notes.contains("speaks without it"), "{notes}");
}
