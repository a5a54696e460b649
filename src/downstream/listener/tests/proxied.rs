//! CONNECT and passthrough over loopback.

use super::{APNS, CARRIED, everything, kit, on_data_plane, push};
use crate::config::{Accept, BasicCredentials, Listener, SecretSource};
use crate::downstream::admit::Refused;
use crate::downstream::listener::testing::{SOON, listener};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

fn connecting() -> Listener {
    Listener {
        accept: Accept { tls: true, connect: true, plain: false },
        tunnel: vec!["other.example:8443".parse().unwrap()],
        ..listener()
    }
}

async fn established(io: &mut TcpStream, request: &str) {
    io.write_all(request.as_bytes()).await.unwrap();
    let mut seen = vec![0; 39];
    timeout(SOON, io.read_exact(&mut seen)).await.unwrap().unwrap();
    assert_eq!(seen, b"HTTP/1.1 200 Connection established\r\n\r\n");
}

#[tokio::test]
async fn f5_connect_ends_tls_of_routed_hosts_whatever_sni_says() {
    on_data_plane(async {
        let kit = kit(connecting(), None);
        for (request, sni) in [
            ("CONNECT api.push.apple.com:443 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", true),
            ("CONNECT api.push.apple.com:2197 HTTP/1.0\r\n\r\n", false),
        ] {
            let mut io = kit.tcp().await;
            established(&mut io, request).await;
            let mut config = kit.client(&["h2"]);
            config.enable_sni = sni;
            push(kit.tls(io, config, APNS).await.unwrap()).await;
            let target = kit.handle.target.borrow().clone().unwrap();
            assert!(request.contains(&target), "{target}");
        }
        let mut io = kit.tcp().await;
        established(&mut io, "CONNECT plain.example:443 HTTP/1.1\r\n\r\n").await;
        push(io).await;
    })
    .await;
}

#[tokio::test]
async fn f5_refused_targets_and_failed_dials_are_honest() {
    on_data_plane(async {
        let kit = kit(connecting(), None);
        for (target, status) in [
            ("evil.example:443", "403"),
            ("api.push.apple.com:22", "403"),
            ("other.example:443", "403"),
            ("127.0.0.1:22", "403"),
            ("other.example", "400"),
            // Nothing can be dialled: said before any 200.
            ("other.example:8443", "504"),
            ("carried.example:443", "504"),
        ] {
            let mut io = kit.tcp().await;
            io.write_all(format!("CONNECT {target} HTTP/1.1\r\n\r\n").as_bytes()).await.unwrap();
            let seen = String::from_utf8(everything(io).await).unwrap();
            assert!(seen.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {seen}");
            let known = match status {
                "504" => "connection_timeout; details=\"to-proxy tcp",
                "403" => "http_request_denied; details=\"sender connect",
                _malformed => "http_request_error; details=\"sender connect",
            };
            let said = format!("\r\nProxy-Status: pushrelay; error={known}");
            assert!(seen.contains(&said), "{seen}");
            assert_eq!(seen.contains("outcome=not_sent"), status == "504", "{seen}");
        }
        kit.until(|| kit.refused(Refused::Connect) == 5).await;
    })
    .await;
}

#[tokio::test]
async fn f5_connect_credentials_are_asked_in_both_alphabets() {
    on_data_plane(async {
        let credentials = BasicCredentials {
            username: "user".into(),
            password: SecretSource::Env("UNUSED".into()),
        };
        let config = Listener { connect_credentials: Some(credentials), ..connecting() };
        let kit = kit(config, None);
        for token in ["dXNlcjo/Pj8+fn4=", "dXNlcjo_Pj8-fn4="] {
            let mut io = kit.tcp().await;
            let head = "CONNECT api.push.apple.com:443 HTTP/1.1\r\nProxy-Authorization: Basic";
            established(&mut io, &format!("{head} {token}\r\n\r\n")).await;
        }
        for field in ["", "Proxy-Authorization: Basic dXNlcjp3cm9uZw==\r\n"] {
            let mut io = kit.tcp().await;
            let head = format!("CONNECT api.push.apple.com:443 HTTP/1.1\r\n{field}\r\n");
            io.write_all(head.as_bytes()).await.unwrap();
            let seen = String::from_utf8(everything(io).await).unwrap();
            assert!(seen.starts_with("HTTP/1.1 407 "), "{seen}");
            assert!(seen.contains("\r\nProxy-Authenticate: Basic "), "{seen}");
        }
    })
    .await;
}

#[tokio::test]
async fn passthrough_hands_the_hello_on_untouched() {
    on_data_plane(async {
        let origin = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kit = kit(connecting(), Some(origin.local_addr().unwrap()));
        for connect in [false, true] {
            let mut io = kit.tcp().await;
            if connect {
                established(&mut io, "CONNECT carried.example:443 HTTP/1.1\r\n\r\n").await;
            }
            let name = ServerName::try_from(CARRIED).unwrap();
            let config = Arc::new(kit.client(&["h2"]));
            let mut session = rustls::ClientConnection::new(config, name).unwrap();
            let mut hello = Vec::new();
            session.write_tls(&mut hello).unwrap();
            // In pieces: nothing may depend on one read.
            for piece in hello.chunks(100) {
                io.write_all(piece).await.unwrap();
            }
            let (mut above, _) = timeout(SOON, origin.accept()).await.unwrap().unwrap();
            let mut seen = vec![0; hello.len()];
            timeout(SOON, above.read_exact(&mut seen)).await.unwrap().unwrap();
            assert_eq!(seen, hello);
            above.write_all(b"answer").await.unwrap();
            drop(above);
            assert_eq!(everything(io).await, b"answer");
        }
        kit.until(|| kit.front.counters.carried().1 == 12).await;
        // Another name inside the tunnel: not a byte goes up.
        let mut io = kit.tcp().await;
        established(&mut io, "CONNECT carried.example:443 HTTP/1.1\r\n\r\n").await;
        kit.tls(io, kit.client(&[]), "evil.example").await.unwrap_err();
        let (above, _) = timeout(SOON, origin.accept()).await.unwrap().unwrap();
        assert_eq!(everything(above).await, b"");
    })
    .await;
}
