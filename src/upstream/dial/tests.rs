//! Dials against scripted proxies and TLS servers on loopback.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test expects one kind and shows any other")]

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, DnType, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};

use super::*;
use crate::config::material::ProxyMaterial;
use crate::config::{
    Admin, Audit, BasicCredentials, Dns, EgressProxy, LaneLimits, Limits, Log, LogFormat,
    ProxyCredentials, Secret, SecretSource,
};
use crate::hop::{CertificateFault, Finding, LoopCause, ProxyRefusal, Unobserved};
use crate::pki::roots::Roots;
use crate::upstream::ourselves::fingerprint;

mod kit;
use kit::*;

#[tokio::test]
async fn direct_tls_with_h2_teaches_what_was_negotiated() {
    let ca = Ca::new("Test Root");
    let origin = ca.serve("origin.example", &[b"h2"]).await;
    let dialer = Setup::direct(&ca).pin("origin.example:443", origin.address).dialer();
    let seen = Recorded::default();
    let dialed = within(dialer.dial(&target("origin.example", Offer::H2), &seen)).await.unwrap();
    assert_eq!(dialed.facts.alpn.as_deref(), Some("h2"));
    assert!(dialed.facts.h2 && dialed.facts.proxy.is_none());
    assert_eq!(dialed.facts.peer, origin.address);
    let tls = dialed.facts.tls.unwrap();
    assert_eq!((tls.version.as_str(), tls.group.as_str()), ("TLSv1.3", "X25519MLKEM768"));
    assert!(!tls.inspected && tls.issuer.unwrap().contains("Test Root"));
    assert_eq!((tls.fingerprint.len(), tls.subjects.len()), (64, 1));
    assert_eq!(seen.stages(), [Stage::Resolve, Stage::Tcp, Stage::Tls, Stage::Alpn]);
}

#[tokio::test]
async fn without_post_quantum_no_ml_kem_is_offered() {
    let ca = Ca::new("Test Root");
    let origin = ca.serve("origin.example", &[b"h2"]).await;
    let mut setup = Setup::direct(&ca).pin("origin.example:443", origin.address);
    setup.egress.post_quantum = false;
    let dialed = setup.dial("origin.example", Offer::H2).await.unwrap();
    assert_eq!(dialed.facts.tls.unwrap().group, "X25519");
}

/// Old inspectors lose a ClientHello that does not fit into one segment (1460 octets).
#[tokio::test]
async fn without_post_quantum_the_hello_fits_into_one_segment() {
    let ca = Ca::new("Test Root");
    let mut sizes = Vec::new();
    for post_quantum in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut setup = Setup::direct(&ca).pin("origin.example:443", address);
        setup.egress.post_quantum = post_quantum;
        let hello = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 5];
            stream.read_exact(&mut head).await.unwrap();
            usize::from(u16::from_be_bytes([head[3], head[4]])) + head.len()
        };
        let (size, dialed) =
            within(async { tokio::join!(hello, setup.dial("origin.example", Offer::H2)) }).await;
        dialed.unwrap_err();
        sizes.push(size);
    }
    assert!(sizes[0] > 1216 && sizes[1] < 512, "{sizes:?}");
}

#[tokio::test]
async fn a_second_dial_resumes_the_session() {
    let ca = Ca::new("Test Root");
    let origin = ca.serve("origin.example", &[b"h2"]).await;
    let setup = Setup::direct(&ca).pin("origin.example:443", origin.address);
    let dialer = setup.dialer();
    let target = target("origin.example", Offer::H2);
    let mut first = within(dialer.dial(&target, &Unobserved)).await.unwrap();
    // The server's ticket comes with its first bytes.
    let mut byte = [0; 1];
    within(first.io.read_exact(&mut byte)).await.unwrap();
    let second = within(dialer.dial(&target, &Unobserved)).await.unwrap();
    assert!(!first.facts.tls.unwrap().resumed);
    let tls = second.facts.tls.unwrap();
    assert!(tls.resumed && !tls.chain.is_empty());
}

/// D1: nothing but h2 will do, and the error names issuer and ALPN.
#[tokio::test]
async fn d1_without_h2_the_error_names_issuer_and_alpn() {
    let ca = Ca::new("Box Root");
    for (protocols, offer, chosen) in
        [(&[][..], Offer::H2, None), (&[&b"http/1.1"[..]][..], Offer::H2AndHttp1, Some("http/1.1"))]
    {
        for (inspected, hop) in [(false, Hop::Network), (true, Hop::Inspector)] {
            let origin = ca.serve("origin.example", protocols).await;
            let mut setup = Setup::direct(&ca).pin("origin.example:443", origin.address);
            setup.inspected(inspected, &ca);
            let error = setup.dial("origin.example", offer).await.unwrap_err();
            assert_eq!((error.hop, error.stage), (hop, Stage::Alpn));
            match error.kind {
                HopErrorKind::AlpnNotH2 { chosen: c, issuer } => {
                    assert_eq!(c.as_deref(), chosen);
                    assert!(issuer.unwrap().contains("Box Root"));
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn assume_h2_is_the_explicit_exception() {
    let ca = Ca::new("Box Root");
    let origin = ca.serve("origin.example", &[]).await;
    let mut setup = Setup::direct(&ca).pin("origin.example:443", origin.address);
    setup.egress.assume_h2 = true;
    let dialed = setup.dial("origin.example", Offer::H2).await.unwrap();
    assert!(dialed.facts.h2 && dialed.facts.alpn.is_none());
}

#[tokio::test]
async fn alert_120_is_passed_on_by_name() {
    let ca = Ca::new("Test Root");
    let origin = ca.serve("origin.example", &[b"http/1.1"]).await;
    let setup = Setup::direct(&ca).pin("origin.example:443", origin.address);
    let error = setup.dial("origin.example", Offer::H2).await.unwrap_err();
    assert_eq!(error.hop, Hop::Network);
    let HopErrorKind::Alert(alert) = error.kind else { panic!("{error:?}") };
    assert_eq!(alert, "NoApplicationProtocol (120)");
}

#[tokio::test]
async fn certificates_that_do_not_verify_name_who_and_why() {
    let (ca, other) = (Ca::new("Test Root"), Ca::new("Corp Inspection CA"));
    let expired = ca.leaf_between("origin.example", 2001, 2002);
    let future = ca.leaf_between("origin.example", 3001, 3002);
    for (leaf, fault, hop) in [
        (other.leaf("origin.example"), CertificateFault::UnknownIssuer, Hop::Inspector),
        (ca.leaf("wrong.example"), CertificateFault::WrongName, Hop::BeyondProxy),
        (expired, CertificateFault::Expired, Hop::Origin),
        (future, CertificateFault::NotYetValid, Hop::RelayHost),
    ] {
        let origin = serve(leaf, &[b"h2"]).await;
        let proxy = tunnel_proxy(origin.address).await;
        let error = Setup::proxied(&ca, &[proxy]).dial("origin.example", Offer::H2).await;
        let error = error.unwrap_err();
        assert_eq!((error.hop, error.stage), (hop, Stage::Tls), "{fault:?}");
        match error.kind {
            HopErrorKind::Certificate { reason, issuer, .. } => {
                assert_eq!(reason, fault);
                assert!(issuer.unwrap().contains("CN="));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// C7: our own address is found before anything is dialled.
#[tokio::test]
async fn c7_an_address_of_our_own_is_not_dialled() {
    let ca = Ca::new("Test Root");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let wildcard = SocketAddr::new("0.0.0.0".parse().unwrap(), address.port());
    let pinned = Setup::direct(&ca).pin("origin.example:443", address);
    let proxied = Setup::proxied(&ca, &[address]);
    for setup in [pinned, proxied] {
        setup.own.set_listening(vec![wildcard]);
        let error = setup.dial("origin.example", Offer::H2).await.unwrap_err();
        assert_eq!(error.kind, HopErrorKind::Loop(LoopCause::Proxy));
        assert_eq!(error.hop, Hop::RelayHost);
    }
    let accepted = timeout(Duration::from_millis(20), listener.accept()).await;
    assert!(accepted.is_err(), "it was dialled");
}

/// C7: a name server on this machine that answers with our own address.
#[tokio::test]
async fn c7_a_stub_that_leads_home_is_named_before_anything_is_dialled() {
    let ca = Ca::new("Test Root");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let home = "127.0.0.1".parse().unwrap();
    let (server, _task) = crate::upstream::resolve::tests::scripted_server(home).await;
    let mut setup = Setup::direct(&ca);
    setup.egress.dns.servers = vec![server];
    setup.own.set_listening(vec![SocketAddr::new("0.0.0.0".parse().unwrap(), port)]);
    let mut target = target("origin.example", Offer::H2);
    target.port = port;
    let seen = Recorded::default();
    let error = within(setup.dialer().dial(&target, &seen)).await.unwrap_err();
    assert_eq!((error.hop, error.stage), (Hop::RelayHost, Stage::Resolve));
    assert_eq!(error.kind, HopErrorKind::Loop(LoopCause::Stub));
    assert_eq!(seen.stages(), [Stage::Resolve]);
    assert!(timeout(Duration::from_millis(20), listener.accept()).await.is_err());
}

#[tokio::test]
async fn our_own_key_and_our_own_issuer_are_recognised() {
    let (ca, ours) = (Ca::new("Test Root"), Ca::new("Our Issuer"));
    for known in [false, true] {
        let leaf = ours.leaf("origin.example");
        let key = fingerprint(&rcgen::PublicKeyData::subject_public_key_info(&leaf.signing_key));
        let origin = serve(leaf, &[b"h2"]).await;
        let setup = Setup::direct(&ca).pin("origin.example:443", origin.address);
        setup.own.set_issuers(std::slice::from_ref(&ours.certificate));
        if known {
            setup.own.set_keys(vec![key]);
        }
        let error = setup.dial("origin.example", Offer::H2).await.unwrap_err();
        match error.kind {
            HopErrorKind::Loop(cause) => assert!(known && cause == LoopCause::OwnCertificate),
            HopErrorKind::Certificate { reason, .. } => {
                assert!(!known && reason == CertificateFault::OwnIssuer);
            }
            other => panic!("{other:?}"),
        }
    }
    // A relay as next hop may show it, when the roots allow.
    let origin = ours.serve("origin.example", &[]).await;
    let setup = Setup::direct(&ours).pin("origin.example:443", origin.address);
    setup.own.set_issuers(std::slice::from_ref(&ours.certificate));
    let mut target = target("origin.example", Offer::H2AndHttp1);
    (target.relay_next_hop, target.demand_h2) = (true, false);
    assert!(within(setup.dialer().dial(&target, &Unobserved)).await.is_ok());
}

#[tokio::test]
async fn refused_tcp_is_the_networks_or_the_way_to_the_proxy() {
    let ca = Ca::new("Test Root");
    let closed = closed_port().await;
    let direct = Setup::direct(&ca).pin("origin.example:443", closed);
    let error = direct.dial("origin.example", Offer::H2).await.unwrap_err();
    assert_eq!((error.hop, error.stage), (Hop::Network, Stage::Tcp));
    assert_eq!(error.kind, HopErrorKind::Refused);
    let error = Setup::proxied(&ca, &[closed]).dial("origin.example", Offer::H2).await.unwrap_err();
    assert_eq!((error.hop, error.kind), (Hop::ToProxy, HopErrorKind::Refused));
    assert_eq!(error.peer.unwrap().port, closed.port());
}

/// F3: every refusal kind is told apart.
#[tokio::test]
async fn f3_what_a_proxy_says_decides_hop_and_kind() {
    let ca = Ca::new("Test Root");
    for (answer, hop, status) in [
        ("HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nport", Hop::Proxy, 403),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://login\r\nContent-Length: 0\r\n\r\n",
            Hop::Portal,
            302,
        ),
        ("HTTP/1.1 511 Login\r\nContent-Length: 0\r\n\r\n", Hop::Portal, 511),
        (
            "HTTP/1.1 503 No\r\nX-Squid-Error: ERR_CONNECT_FAIL 111\r\nContent-Length: 0\r\n\r\n",
            Hop::BeyondProxy,
            503,
        ),
        ("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Hop::Proxy, 503),
        (
            "HTTP/1.1 500 No\r\nX-Squid-Error: ERR_CANNOT_FORWARD 0\r\nContent-Length: 0\r\n\r\n",
            Hop::Proxy,
            500,
        ),
    ] {
        let proxy = scripted(vec![vec![answer]]).await;
        let error = Setup::proxied(&ca, &[proxy.address]).dial("origin.example", Offer::H2).await;
        let error = error.unwrap_err();
        assert_eq!((error.hop, error.stage), (hop, Stage::Connect), "{answer}");
        match error.kind {
            HopErrorKind::ProxyRefused(refusal) => assert_eq!(refusal.status, status),
            other => panic!("{other:?}"),
        }
    }
    for (answer, kind) in [
        ("", HopErrorKind::Closed),
        (
            "SSH-2.0-x\r\n",
            HopErrorKind::NotTheProtocol { expected: "HTTP", seen: "SSH-2.0-x..".into() },
        ),
    ] {
        let proxy = scripted(vec![vec![answer]]).await;
        let error = Setup::proxied(&ca, &[proxy.address]).dial("origin.example", Offer::H2).await;
        assert_eq!(error.unwrap_err().kind, kind);
    }
}

/// F1: what comes after CONNECT's 200 and is no TLS is diagnosed.
#[tokio::test]
async fn f1_pages_and_resets_after_connect_are_not_the_proxys_word() {
    let ca = Ca::new("Test Root");
    let page = "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n<html>blocked";
    let proxy = scripted(vec![vec![page]]).await;
    let early = Setup::proxied(&ca, &[proxy.address]).dial("origin.example", Offer::H2).await;
    let early = early.unwrap_err();
    assert_eq!((early.hop, early.stage), (Hop::Portal, Stage::Tls));
    let proxy =
        scripted(vec![vec!["HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 400 Bad\r\n\r\n<html>"]]).await;
    let late = Setup::proxied(&ca, &[proxy.address]).dial("origin.example", Offer::H2).await;
    let late = late.unwrap_err();
    assert_eq!(late.hop, Hop::Portal);
    assert!(
        matches!(late.kind, HopErrorKind::NotTheProtocol { expected: "TLS", seen } if seen.contains("400 Bad"))
    );
    let proxy = scripted(vec![vec!["HTTP/1.1 200 OK\r\n\r\n"]]).await;
    let closed = Setup::proxied(&ca, &[proxy.address]).dial("origin.example", Offer::H2).await;
    let closed = closed.unwrap_err();
    assert_eq!((closed.hop, closed.stage), (Hop::BeyondProxy, Stage::Tls));
    assert_eq!(closed.kind, HopErrorKind::Closed);
}

#[tokio::test]
async fn silence_ends_with_the_stages_own_deadline() {
    let ca = Ca::new("Test Root");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let short = Duration::from_millis(30);
    let patience = Patience { connect: short, tls: short, ..Patience::TRAFFIC };
    let proxied = Setup::proxied(&ca, &[address]).dialer().with_patience(patience);
    let target = target("origin.example", Offer::H2);
    let error = within(proxied.dial(&target, &Unobserved)).await.unwrap_err();
    assert_eq!((error.hop, error.stage), (Hop::BeyondProxy, Stage::Connect));
    assert_eq!(error.kind, HopErrorKind::Timeout);
    let direct = Setup::direct(&ca).pin("origin.example:443", address).dialer();
    let error =
        within(direct.with_patience(patience).dial(&target, &Unobserved)).await.unwrap_err();
    assert_eq!(
        (error.hop, error.stage, error.kind),
        (Hop::Network, Stage::Tls, HopErrorKind::Timeout)
    );
}

/// A hung proxy leaves time for the next one; the last one may use what is left.
#[tokio::test]
async fn the_last_proxy_has_more_time_for_connect() {
    let ca = Ca::new("Test Root");
    let hung = [TcpListener::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await];
    let hung = hung.map(|bound| bound.unwrap());
    let addresses = hung.each_ref().map(|listener| listener.local_addr().unwrap());
    let (short, long) = (Duration::from_millis(30), Duration::from_millis(300));
    let patience = Patience { connect: long, connect_elsewhere: short, ..Patience::TRAFFIC };
    let dialer = Setup::proxied(&ca, &addresses).dialer().with_patience(patience);
    let began = Instant::now();
    let error = within(dialer.dial(&target("origin.example", Offer::H2), &Unobserved)).await;
    assert_eq!(error.unwrap_err().kind, HopErrorKind::Timeout);
    assert!(began.elapsed() >= short + long);
    let patience = Patience { whole: short, ..patience };
    let dialer = Setup::proxied(&ca, &addresses).dialer().with_patience(patience);
    let began = Instant::now();
    let error = within(dialer.dial(&target("origin.example", Offer::H2), &Unobserved)).await;
    assert_eq!(error.unwrap_err().stage, Stage::Connect);
    assert!(began.elapsed() < long, "the whole is bounded");
}

#[tokio::test]
async fn proxies_are_tried_in_order_and_a_failed_one_rests() {
    let ca = Ca::new("Test Root");
    let origin = ca.serve("origin.example", &[b"h2"]).await;
    let broken = scripted(vec![vec!["HTTP/1.1 502 Bad\r\nContent-Length: 0\r\n\r\n"]; 9]).await;
    let good = tunnel_proxy(origin.address).await;
    let setup = Setup::proxied(&ca, &[closed_port().await, broken.address, good]);
    let dialer = setup.dialer();
    let target = target("origin.example", Offer::H2);
    for _ in 0..3 {
        let dialed = within(dialer.dial(&target, &Unobserved)).await.unwrap();
        assert_eq!(dialed.facts.proxy.unwrap().port, good.port());
    }
    assert_eq!(broken.requests().len(), 1, "a resting proxy was asked again");
    // Policy is not tried around: a 403 is final.
    let strict = scripted(vec![vec!["HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"]]).await;
    let setup = Setup::proxied(&ca, &[strict.address, good]);
    let error = setup.dial("origin.example", Offer::H2).await.unwrap_err();
    assert!(matches!(error.kind, HopErrorKind::ProxyRefused(refusal) if refusal.status == 403));
}

#[tokio::test]
async fn with_every_proxy_down_nothing_goes_direct() {
    let ca = Ca::new("Test Root");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let pin = listener.local_addr().unwrap();
    let down = [closed_port().await, closed_port().await];
    let setup = Setup::proxied(&ca, &down).pin("origin.example:443", pin);
    let dialer = setup.dialer();
    for _ in 0..2 {
        let error = within(dialer.dial(&target("origin.example", Offer::H2), &Unobserved)).await;
        assert_eq!(error.unwrap_err().hop, Hop::ToProxy);
    }
    assert!(timeout(Duration::from_millis(20), listener.accept()).await.is_err());
}

#[tokio::test]
async fn connect_goes_by_name_and_a_pin_is_connected_by_its_own() {
    let ca = Ca::new("Test Root");
    for (pin, expected) in [(None, "origin.example:443"), (Some("10.9.8.7:2197"), "10.9.8.7:2197")]
    {
        let proxy = scripted(vec![vec!["HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"]]).await;
        let mut setup = Setup::proxied(&ca, &[proxy.address]);
        if let Some(pin) = pin {
            setup = setup.pin("origin.example:443", pin.parse().unwrap());
        }
        setup.dial("origin.example", Offer::H2).await.unwrap_err();
        let asked = format!("CONNECT {expected} HTTP/1.1\r\nHost: {expected}\r\n");
        assert!(proxy.requests()[0].starts_with(&asked), "{:?}", proxy.requests());
    }
}

/// tinyproxy answers 407 to no password and 401 to a wrong one.
#[tokio::test]
async fn f2_a_401_to_credentials_is_a_refusal_of_them() {
    let ca = Ca::new("Test Root");
    let proxy = scripted(vec![vec!["HTTP/1.1 401 Unauthorized\r\n\r\n"]; 9]).await;
    let mut setup = Setup::proxied(&ca, &[proxy.address]);
    let target = target("origin.example", Offer::H2);
    let without = within(setup.dialer().dial(&target, &Unobserved)).await.unwrap_err();
    assert!(matches!(without.kind, HopErrorKind::ProxyRefused(refusal) if refusal.status == 401));
    setup.credentials(ProxyCredentials::Basic(account("svc")), "wrong");
    let dialer = setup.dialer();
    for _ in 0..2 {
        let error = within(dialer.dial(&target, &Unobserved)).await.unwrap_err();
        assert!(matches!(error.kind, HopErrorKind::CredentialsRefused(_)), "{error}");
    }
    let error = within(dialer.dial(&target, &Unobserved)).await.unwrap_err();
    assert_eq!(error.kind, HopErrorKind::CredentialsLatched);
    assert_eq!(proxy.requests().len(), 3, "a latched proxy was asked");
}

/// F2: Basic goes with the first CONNECT, and two refusals latch.
#[tokio::test]
async fn f2_refused_credentials_latch_and_the_offer_is_named() {
    let ca = Ca::new("Test Root");
    let no = "HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n";
    let proxy = scripted(vec![vec![no]; 9]).await;
    let missing = Setup::proxied(&ca, &[proxy.address]).dial("origin.example", Offer::H2).await;
    let HopErrorKind::CredentialsMissing(refusal) = missing.unwrap_err().kind else { panic!() };
    assert_eq!(refusal.offered, ["Negotiate", "Basic"]);
    let mut setup = Setup::proxied(&ca, &[proxy.address]);
    setup.credentials(ProxyCredentials::Basic(account("svc")), "secret");
    let dialer = setup.dialer();
    let dial = || async {
        let target = target("origin.example", Offer::H2);
        within(dialer.dial(&target, &Unobserved)).await.unwrap_err().kind
    };
    // The 407 promised to go on, then the proxy closed: the second and last try has a new
    // connection.
    assert!(matches!(dial().await, HopErrorKind::CredentialsRefused(_)));
    assert_eq!(dial().await, HopErrorKind::CredentialsLatched);
    assert_eq!(proxy.requests().len(), 3, "a latched proxy was asked");
    assert!(proxy.requests()[2].contains("Proxy-Authorization: Basic c3ZjOnNlY3JldA==\r\n"));
    // A reload keeps the latch, unless the password changed.
    let same = dialer.renewed(&setup.config(), &setup.material()).unwrap();
    assert_eq!(same.latched().len(), 1);
    setup.credentials(ProxyCredentials::Basic(account("svc")), "other");
    let changed = dialer.renewed(&setup.config(), &setup.material()).unwrap();
    let target = target("origin.example", Offer::H2);
    let kind = within(changed.dial(&target, &Unobserved)).await.unwrap_err().kind;
    assert!(matches!(kind, HopErrorKind::CredentialsRefused(_)));
    assert!(changed.clear_latch(&EgressName("out".into())));
    assert!(changed.latched().is_empty());
}

/// F2: some proxies answer 407 to the first CONNECT of every connection, whatever it carries, and
/// want the next one on the same connection.
#[tokio::test]
async fn f2_basic_is_repeated_once_on_the_same_connection() {
    let ca = Ca::new("Test Root");
    let no =
        "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 2\r\n\r\nno";
    let closes = "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=\"x\"\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    let full = "HTTP/1.1 503 Full\r\nContent-Length: 0\r\n\r\n";
    for (script, again) in [
        (vec![vec![no, full]], true),
        (vec![vec![closes], vec![full]], false),
        (vec![vec![no, no, full], vec![full]], false),
    ] {
        let proxy = scripted(script).await;
        let mut setup = Setup::proxied(&ca, &[proxy.address]);
        setup.credentials(ProxyCredentials::Basic(account("svc")), "secret");
        let kind = setup.dial("origin.example", Offer::H2).await.unwrap_err().kind;
        match kind {
            HopErrorKind::ProxyRefused(refusal) => assert!(again && refusal.status == 503),
            HopErrorKind::CredentialsRefused(refusal) => assert!(!again && refusal.status == 407),
            other => panic!("{other}"),
        }
    }
}

/// F2: three NTLM legs on one socket, checked by a verifier of its own.
#[tokio::test]
async fn f2_ntlm_logs_in_on_one_socket() {
    let ca = Ca::new("Test Root");
    let origin = ca.serve("origin.example", &[b"h2"]).await;
    for (password, closes) in [("Password", false), ("Password", true), ("wrong", false)] {
        let proxy = ntlm_proxy(origin.address, closes).await;
        let mut setup = Setup::proxied(&ca, &[proxy]);
        let ntlm = ProxyCredentials::Ntlm { domain: "Domain".into(), basic: account("User") };
        setup.credentials(ntlm, password);
        let dialed = setup.dial("origin.example", Offer::H2).await;
        match dialed {
            Ok(dialed) => assert!(password == "Password" && dialed.facts.h2),
            Err(error) => {
                assert!(matches!(error.kind, HopErrorKind::CredentialsRefused(_)), "{error:?}");
                assert_eq!(password, "wrong");
            }
        }
    }
}

#[tokio::test]
async fn a_proxy_over_tls_has_roots_of_its_own() {
    let (ca, proxies) = (Ca::new("Test Root"), Ca::new("Proxy Root"));
    let origin = ca.serve("origin.example", &[b"h2"]).await;
    let proxy = tls_tunnel_proxy(&proxies, origin.address).await;
    let mut setup = Setup::proxied(&ca, &[proxy]);
    setup.egress.proxies[0].tls = true;
    setup.proxies[0].roots = Some(proxies.roots(false));
    let seen = Recorded::default();
    let dialer = setup.dialer();
    let target = target("origin.example", Offer::H2);
    let dialed = within(dialer.dial(&target, &seen)).await.unwrap();
    assert!(dialed.facts.h2);
    let rungs = [Stage::Tcp, Stage::ProxyTls, Stage::Connect, Stage::Tls, Stage::Alpn];
    assert_eq!(seen.stages(), rungs);
    setup.proxies[0].roots = Some(ca.roots(false));
    let error = setup.dial("origin.example", Offer::H2).await.unwrap_err();
    assert_eq!((error.hop, error.stage), (Hop::Proxy, Stage::ProxyTls));
}

#[tokio::test]
async fn a_raw_dial_keeps_what_came_early() {
    let ca = Ca::new("Test Root");
    let proxy = scripted(vec![vec!["HTTP/1.1 200 OK\r\n\r\nbanner"]]).await;
    let dialer = Setup::proxied(&ca, &[proxy.address]).dialer();
    let origin = "mail.example:25".parse().unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    let egress = EgressName("out".into());
    let raw = within(dialer.dial_raw(&egress, &origin, deadline, &Unobserved)).await;
    let mut bytes = [0; 6];
    within(raw.unwrap().io.read_exact(&mut bytes)).await.unwrap();
    assert_eq!(&bytes, b"banner");
}

#[test]
fn f2_another_port_is_no_chance_for_refused_credentials() {
    let at = |stage, kind| another_port_may_do(&HopError::new(Hop::Proxy, stage, kind));
    let refusal = || {
        Box::new(ProxyRefusal {
            status: 407,
            reason: String::new(),
            via: None,
            offered: Vec::new(),
            squid_error: None,
            marks: Vec::new(),
            page: String::new(),
        })
    };
    for (stage, kind, may) in [
        (Stage::Tcp, HopErrorKind::Refused, true),
        (Stage::Connect, HopErrorKind::ProxyRefused(refusal()), true),
        (Stage::Connect, HopErrorKind::CredentialsRefused(refusal()), false),
        (Stage::Connect, HopErrorKind::CredentialsMissing(refusal()), false),
        (Stage::Connect, HopErrorKind::CredentialsLatched, false),
        (Stage::Connect, HopErrorKind::CredentialsUnusable("no ticket".into()), false),
        (Stage::Resolve, HopErrorKind::NameNotFound, false),
        (Stage::Tls, HopErrorKind::Timeout, false),
    ] {
        assert_eq!(at(stage, kind.clone()), may, "{stage} {kind}");
    }
}

#[test]
fn stages_fit_into_a_push() {
    let Patience { resolve, tcp, proxy_tls, connect, connect_elsewhere, tls, whole } =
        Patience::TRAFFIC;
    assert!(whole < Duration::from_secs(7));
    assert!(tcp + connect < whole && tcp + tls < whole);
    assert!(resolve + tcp < whole);
    assert!(tcp + proxy_tls + connect_elsewhere * 2 < Duration::from_secs(7));
}

#[test]
fn the_dialer_can_be_shared() {
    fn shared<T: Send + Sync>() {}
    shared::<Dialer>();
}
