//! Connections over loopback: TLS, ALPN, SNI, PROXY headers, accept; CONNECT is in `proxied`.

use std::collections::HashMap;

use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::LocalSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::testing::{HEADERS, Obedient, Raw, Routes, SOON, listener, post, rule};
use super::*;
use crate::config::{Scheme, SenderCertificates};
use crate::downstream::tls::CertificateSource;
use crate::hop::{Hop, HopError, HopErrorKind, Stage};
use crate::pki::roots::Roots;

mod proxied;

const APNS: &str = "api.push.apple.com";
const CARRIED: &str = "carried.example";
const PLAIN: &str = "plain.example";

/// A self-made leaf for every host, of both kinds.
struct Leaves(HashMap<(HostName, bool), Arc<CertifiedKey>>);

impl CertificateSource for Leaves {
    fn leaf(&self, host: &HostName, ecdsa_ok: bool) -> Option<Arc<CertifiedKey>> {
        self.0.get(&(host.clone(), ecdsa_ok)).cloned()
    }
}

fn mint(name: &str, ecdsa: bool) -> (Arc<CertifiedKey>, rcgen::CertifiedKey<rcgen::KeyPair>) {
    let algorithm = if ecdsa { &rcgen::PKCS_ECDSA_P256_SHA256 } else { &rcgen::PKCS_RSA_SHA256 };
    let signing_key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let params = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let cert = params.self_signed(&signing_key).unwrap();
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
    let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).unwrap();
    let leaf = CertifiedKey::new(vec![cert.der().clone()], key);
    (Arc::new(leaf), rcgen::CertifiedKey { cert, signing_key })
}

/// Dials one origin, or fails.
struct OneOrigin(Option<SocketAddr>);

impl Carry for OneOrigin {
    type Io = TcpStream;

    async fn dial_raw(
        &self,
        target: &Authority,
        _rule: Option<&HostRule>,
    ) -> Result<TcpStream, HopError> {
        match self.0 {
            Some(origin) => Ok(TcpStream::connect(origin).await.unwrap()),
            None => Err(HopError::new(Hop::ToProxy, Stage::Tcp, HopErrorKind::Timeout)
                .with_peer(target.clone())),
        }
    }
}

struct Kit {
    address: SocketAddr,
    handle: Rc<Obedient>,
    front: Rc<Front<Obedient, OneOrigin>>,
    roots: RootCertStore,
    stop: Rc<Stop>,
    accepting: JoinHandle<()>,
}

fn kit(config: Listener, origin: Option<SocketAddr>) -> Kit {
    let (mut leaves, mut roots) = (HashMap::new(), RootCertStore::empty());
    for ecdsa in [true, false] {
        let (leaf, _) = mint(APNS, ecdsa);
        roots.add(leaf.cert[0].clone()).unwrap();
        leaves.insert((APNS.parse().unwrap(), ecdsa), leaf);
    }
    let hosts: Arc<dyn Hosts> = Arc::new(Routes(HashMap::from([
        (APNS.parse().unwrap(), rule(TlsMode::Terminate, Scheme::Https)),
        (CARRIED.parse().unwrap(), rule(TlsMode::Passthrough, Scheme::Https)),
        (PLAIN.parse().unwrap(), rule(TlsMode::Terminate, Scheme::Http)),
    ])));
    let tls = TlsPlan::new(&config, None, Arc::new(Leaves(leaves)), Arc::clone(&hosts)).unwrap();
    let runtime = Rc::new(ListenerRuntime {
        config: Arc::new(config),
        index: 0,
        tls: Some(tls),
        connect_password: Some(Secret::new(b"?>?>~~".to_vec())),
    });
    let handle = Rc::new(Obedient::default());
    let limits = FrontLimits::new(16 * 1024);
    let carry = Rc::new(OneOrigin(origin));
    let behind = Behind { handle: Rc::clone(&handle), carry, hosts, limits };
    let front = Front::new(behind, 100, Arc::default());
    let socket = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    let stop = Rc::new(Stop::default());
    let accepting = accept(&front, &Slot::new(runtime), socket, &stop).unwrap();
    Kit { address, handle, front, roots, stop, accepting }
}

impl Kit {
    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    fn client(&self, alpn: &[&str]) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }

    async fn tls(
        &self,
        io: TcpStream,
        config: ClientConfig,
        name: &str,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        timeout(SOON, TlsConnector::from(Arc::new(config)).connect(name, io)).await.unwrap()
    }

    async fn until(&self, reached: impl Fn() -> bool) {
        let wait = async {
            while !reached() {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, wait).await.unwrap();
    }

    fn refused(&self, reason: Refused) -> u64 {
        self.front.counters.refused(reason)
    }
}

async fn on_data_plane(work: impl Future<Output = ()>) {
    timeout(3 * SOON, LocalSet::new().run_until(work)).await.unwrap();
}

/// One push over HTTP/2; panics without its answer.
async fn push<IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin>(io: IO) {
    let mut raw = Raw(io);
    raw.hello(&[]).await;
    raw.write(&post(1, "/ok", true)).await;
    assert_eq!(raw.find(HEADERS).await.flags, 5);
}

async fn everything(mut io: impl tokio::io::AsyncRead + Unpin) -> Vec<u8> {
    let mut seen = Vec::new();
    // A reset after the last octet is as good as an end here.
    let _ = timeout(SOON, io.read_to_end(&mut seen)).await.unwrap();
    seen
}

#[tokio::test]
async fn f1_alpn_decides_and_without_it_the_preface() {
    on_data_plane(async {
        let kit = kit(listener(), None);
        for (alpn, chosen, http2) in [
            (&["h2"][..], Some("h2"), true),
            (&["h2", "http/1.1"], Some("h2"), true),
            (&["http/1.1", "h2"], Some("h2"), true),
            (&[], None, true),
            (&["http/1.1"], Some("http/1.1"), false),
            (&["http/1.0"], Some("http/1.0"), false),
            (&[], None, false),
        ] {
            let before = kit.front.counters.http1_on_apns();
            let mut io = kit.tls(kit.tcp().await, kit.client(alpn), APNS).await.unwrap();
            assert_eq!(io.get_ref().1.alpn_protocol(), chosen.map(str::as_bytes));
            if http2 {
                push(io).await;
                let tls = kit.handle.tls.borrow().clone().unwrap();
                assert_eq!(tls.alpn_offered, alpn);
                assert_eq!((tls.alpn.as_deref(), tls.version.as_str()), (chosen, "TLSv1.3"));
                assert_eq!(tls.sni, tls.leaf);
                assert_eq!(kit.front.counters.http1_on_apns(), before);
            } else {
                io.write_all(b"POST / HTTP/1.1\r\n\r\n").await.unwrap();
                // D1: a middlebox took HTTP/2 away.
                kit.until(|| kit.front.counters.http1_on_apns() == before + 1).await;
            }
        }
        let error = kit.tls(kit.tcp().await, kit.client(&["spdy/3"]), APNS).await.unwrap_err();
        assert!(error.to_string().contains("NoApplicationProtocol"), "{error}");
        kit.until(|| kit.refused(Refused::Handshake) == 1).await;
    })
    .await;
}

#[tokio::test]
async fn f2_missing_and_unrouted_sni_need_a_default_host() {
    on_data_plane(async {
        let strict = kit(listener(), None);
        let mut nameless = strict.client(&["h2"]);
        nameless.enable_sni = false;
        for (config, name) in [(nameless.clone(), APNS), (strict.client(&["h2"]), "x.example")] {
            let error = strict.tls(strict.tcp().await, config, name).await.unwrap_err();
            assert!(error.to_string().contains("UnrecognisedName"), "{error}");
        }
        strict.until(|| strict.refused(Refused::Name) == 2).await;

        let host = Some(APNS.parse().unwrap());
        let lenient = kit(Listener { default_host: host, ..listener() }, None);
        let mut nameless = lenient.client(&["h2"]);
        nameless.enable_sni = false;
        push(lenient.tls(lenient.tcp().await, nameless, APNS).await.unwrap()).await;
        let tls = lenient.handle.tls.borrow().clone().unwrap();
        assert_eq!((tls.sni, tls.leaf.unwrap().as_str()), (None, APNS));
    })
    .await;
}

#[tokio::test]
async fn f4_senders_without_ecdsa_get_the_rsa_leaf() {
    on_data_plane(async {
        let kit = kit(listener(), None);
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|suite| format!("{:?}", suite.suite()).contains("_RSA_"));
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(kit.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        push(kit.tls(kit.tcp().await, config, APNS).await.unwrap()).await;
        assert_eq!(kit.handle.tls.borrow().as_ref().unwrap().version, "TLSv1.2");
    })
    .await;
}

// F7: a provider's certificate is noticed, also when the session is resumed.
#[tokio::test]
async fn f7_certificate_authentication_is_noticed() {
    on_data_plane(async {
        let kit = kit(listener(), None);
        let (_, own) = mint("com.example.chat", true);
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(kit.roots.clone())
            .with_client_auth_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        for expected in [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed] {
            let io = kit.tls(kit.tcp().await, config.clone(), APNS).await.unwrap();
            let kind = io.get_ref().1.handshake_kind();
            push(io).await;
            // With a ticket the first answer may come before it: TLS 1.3 sends it after.
            assert_eq!(kind, Some(expected));
            let tls = kit.handle.tls.borrow().clone().unwrap();
            assert!(tls.provider_certificate && tls.certificate.is_none());
        }
    })
    .await;
}

#[tokio::test]
async fn required_certificates_end_the_handshake_of_strangers() {
    on_data_plane(async {
        let (known, _) = mint("sender.example", true);
        let mut store = RootCertStore::empty();
        store.add(known.cert[0].clone()).unwrap();
        let roots = Arc::new(Roots { store: Arc::new(store), from_files: Vec::new() });
        let demand = SenderCertificates { roots: Vec::new(), require: true };
        let config = Listener { sender_certificates: Some(demand), ..listener() };
        let (leaf, _) = mint(APNS, true);
        let leaves = Leaves(HashMap::from([((APNS.parse().unwrap(), true), leaf)]));
        let routes = Routes(HashMap::from([(
            APNS.parse().unwrap(),
            rule(TlsMode::Terminate, Scheme::Https),
        )]));
        let plan = TlsPlan::new(&config, Some(&roots), Arc::new(leaves), Arc::new(routes)).unwrap();
        let (near, mut far) = tokio::io::duplex(65_536);
        let kit = kit(listener(), None);
        let name = ServerName::try_from(APNS).unwrap();
        let client = TlsConnector::from(Arc::new(kit.client(&["h2"]))).connect(name, near);
        let server = async {
            let first = bytes::BytesMut::new();
            let hello = crate::downstream::tls::hello::read(&mut far, first).await.unwrap();
            crate::downstream::tls::terminate(&plan, hello, far, None).await.map(|_| ())
        };
        let (_, served) = timeout(SOON, async { tokio::join!(client, server) }).await.unwrap();
        served.unwrap_err();
    })
    .await;
}

#[tokio::test]
async fn a11_the_wrong_protocol_gets_a_reason() {
    on_data_plane(async {
        let tls = kit(listener(), None);
        let mut io = tls.tcp().await;
        io.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let seen = String::from_utf8(everything(io).await).unwrap();
        let (head, body) = seen.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 "), "{head}");
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{head} {body}");
        tls.until(|| tls.refused(Refused::Protocol) == 1).await;

        let accept = crate::config::Accept { tls: false, connect: false, plain: true };
        let plain = kit(Listener { accept, ..listener() }, None);
        plain.tls(plain.tcp().await, plain.client(&["h2"]), APNS).await.unwrap_err();
        plain.until(|| plain.refused(Refused::Protocol) == 1).await;
        let mut raw = Raw(plain.tcp().await);
        raw.hello(&[]).await;
        raw.write(&post(1, "/ok", true)).await;
        assert_eq!(raw.find(HEADERS).await.flags, 5);
    })
    .await;
}

#[tokio::test]
async fn proxy_headers_are_demanded_of_some_and_refused_of_others() {
    on_data_plane(async {
        let config = Listener {
            networks: vec!["10.20.0.0/16".parse().unwrap()],
            proxy_protocol: vec!["127.0.0.1/32".parse().unwrap()],
            ..listener()
        };
        let behind = kit(config, None);
        let mut io = behind.tcp().await;
        io.write_all(b"PROXY TCP4 10.20.0.9 10.0.0.2 4000 443\r\n").await.unwrap();
        push(behind.tls(io, behind.client(&["h2"]), APNS).await.unwrap()).await;
        let mut io = behind.tcp().await;
        io.write_all(b"PROXY TCP4 10.21.0.9 10.0.0.2 4000 443\r\n").await.unwrap();
        assert_eq!(everything(io).await, b"");
        behind.until(|| behind.refused(Refused::Network) == 1).await;
        behind.tls(behind.tcp().await, behind.client(&["h2"]), APNS).await.unwrap_err();
        behind.until(|| behind.refused(Refused::ProxyHeader) == 1).await;

        let open = kit(listener(), None);
        let mut io = open.tcp().await;
        io.write_all(b"PROXY TCP4 10.20.0.9 10.0.0.2 4000 443\r\n").await.unwrap();
        assert_eq!(everything(io).await, b"");
        open.until(|| open.refused(Refused::ProxyHeader) == 1).await;
    })
    .await;
}

#[tokio::test]
async fn b7_stop_takes_the_queue_and_frees_the_port() {
    on_data_plane(async {
        let kit = kit(listener(), None);
        // Queued by the kernel, not yet seen by the accept task.
        let queued = std::net::TcpStream::connect(kit.address).unwrap();
        queued.set_nonblocking(true).unwrap();
        kit.stop.stop();
        timeout(SOON, kit.accepting).await.unwrap().unwrap();
        assert_eq!(kit.front.counters.accepted(), 1);
        let successor = bind(kit.address).unwrap();
        assert_eq!(successor.local_addr().unwrap(), kit.address);
        // A connection before its codec has nothing in flight: it ends at once.
        let left = timeout(SOON, kit.front.admitted().drain(SOON)).await.unwrap();
        assert_eq!(left, 0);
        assert_eq!(everything(TcpStream::from_std(queued).unwrap()).await, b"");
    })
    .await;
}

#[tokio::test]
async fn max_age_asks_old_connections_to_go() {
    on_data_plane(async {
        let max_age = Some(Duration::from_millis(50));
        let kit = kit(Listener { max_age, ..listener() }, None);
        let mut raw = Raw(kit.tls(kit.tcp().await, kit.client(&["h2"]), APNS).await.unwrap());
        raw.hello(&[]).await;
        raw.find(testing::GOAWAY).await;
    })
    .await;
}
