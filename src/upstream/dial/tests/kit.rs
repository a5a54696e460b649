//! Authorities, origins and proxies for the dialer's tests.

use super::*;

pub(super) async fn within<F: Future>(future: F) -> F::Output {
    timeout(Duration::from_secs(20), future).await.expect("in time")
}

pub(super) fn target(host: &str, offer: Offer) -> Target {
    Target {
        egress: EgressName("out".into()),
        scheme: Scheme::Https,
        host: host.parse().unwrap(),
        port: 443,
        offer,
        identity: None,
        demand_h2: true,
        relay_next_hop: false,
        deadline: Instant::now() + Duration::from_secs(10),
    }
}

pub(super) fn account(user: &str) -> BasicCredentials {
    let password = SecretSource::Env("UNUSED".into());
    BasicCredentials { username: user.into(), password }
}

#[derive(Default)]
pub(super) struct Recorded(RefCell<Vec<Stage>>);

impl Recorded {
    pub(super) fn stages(&self) -> Vec<Stage> {
        self.0.borrow().clone()
    }
}

impl Observe for Recorded {
    fn passed(&self, finding: Finding) {
        self.0.borrow_mut().push(finding.stage);
    }
}

pub(super) struct Ca {
    pub(super) certificate: CertificateDer<'static>,
    issuer: rcgen::Issuer<'static, KeyPair>,
    key_info: Vec<u8>,
}

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let key_info = rcgen::PublicKeyData::subject_public_key_info(&key);
        Self { certificate, issuer: rcgen::Issuer::new(params, key), key_info }
    }

    pub(super) fn leaf(&self, name: &str) -> CertifiedKey<KeyPair> {
        self.leaf_between(name, 2020, 2090)
    }

    pub(super) fn leaf_between(&self, name: &str, from: i32, to: i32) -> CertifiedKey<KeyPair> {
        let signing_key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        CertifiedKey { cert: params.signed_by(&signing_key, &self.issuer).unwrap(), signing_key }
    }

    pub(super) async fn serve(&self, name: &str, protocols: &[&[u8]]) -> Origin {
        serve(self.leaf(name), protocols).await
    }

    pub(super) fn roots(&self, from_file: bool) -> Arc<Roots> {
        let mut store = RootCertStore::empty();
        store.add(self.certificate.clone()).unwrap();
        let from_files = if from_file { vec![self.key_info.clone()] } else { Vec::new() };
        Arc::new(Roots { store: Arc::new(store), from_files })
    }
}

pub(super) struct Origin {
    pub(super) address: SocketAddr,
}

fn acceptor(leaf: &CertifiedKey<KeyPair>, protocols: &[&[u8]]) -> tokio_rustls::TlsAcceptor {
    let key = PrivateKeyDer::try_from(leaf.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.cert.der().clone()], key)
        .unwrap();
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Arc::new(config).into()
}

/// Shakes hands, writes one byte and waits for the end.
pub(super) async fn serve(leaf: CertifiedKey<KeyPair>, protocols: &[&[u8]]) -> Origin {
    let acceptor = acceptor(&leaf, protocols);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _gone = stream.write_all(b"!").await;
                    let _end = stream.read(&mut [0; 64]).await;
                }
            });
        }
    });
    Origin { address }
}

pub(super) async fn closed_port() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

async fn read_head(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// Says the n-th script on the n-th connection: its first text after a head, each further one
/// after some more bytes came; then closes.
pub(super) struct Scripted {
    pub(super) address: SocketAddr,
    requests: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Scripted {
    pub(super) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

pub(super) async fn scripted(scripts: Vec<Vec<&'static str>>) -> Scripted {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Arc::<std::sync::Mutex<Vec<String>>>::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        for script in scripts {
            let (mut stream, _) = listener.accept().await.unwrap();
            let head = read_head(&mut stream).await;
            seen.lock().unwrap().push(head);
            for (n, text) in script.into_iter().enumerate() {
                if n > 0 {
                    let _hello = stream.read(&mut [0; 4096]).await;
                }
                let _gone = stream.write_all(text.as_bytes()).await;
            }
            // A close with unread bytes would be a reset: take what comes until the end.
            let _closed = stream.shutdown().await;
            let drain =
                async move { while matches!(stream.read(&mut [0; 4096]).await, Ok(1..)) {} };
            tokio::spawn(timeout(Duration::from_secs(5), drain));
        }
    });
    Scripted { address, requests }
}

async fn splice(
    mut stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    to: SocketAddr,
) {
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.unwrap();
    let mut origin = TcpStream::connect(to).await.unwrap();
    let _either = tokio::io::copy_bidirectional(&mut stream, &mut origin).await;
}

/// Opens every tunnel to one origin.
pub(super) async fn tunnel_proxy(to: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                read_head(&mut stream).await;
                splice(stream, to).await;
            });
        }
    });
    address
}

pub(super) async fn tls_tunnel_proxy(ca: &Ca, to: SocketAddr) -> SocketAddr {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.subject_alt_names = vec![rcgen::SanType::IpAddress("127.0.0.1".parse().unwrap())];
    let signing_key = KeyPair::generate().unwrap();
    let cert = params.signed_by(&signing_key, &ca.issuer).unwrap();
    let acceptor = acceptor(&CertifiedKey { cert, signing_key }, &[b"http/1.1"]);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(mut stream) = acceptor.accept(stream).await {
                read_head(&mut stream).await;
                tokio::spawn(splice(stream, to));
            }
        }
    });
    address
}

/// Demands NTLM from `Domain\User` with `Password`; `closes` hangs up after the first 407.
pub(super) async fn ntlm_proxy(to: SocketAddr, closes: bool) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut close_next = closes;
        while let Ok((mut stream, _)) = listener.accept().await {
            let first = token(&read_head(&mut stream).await);
            assert_eq!(first[8], 1);
            let close = std::mem::take(&mut close_next);
            let asked = challenge();
            let extra = if close { "Connection: close\r\n" } else { "" };
            let said = format!(
                "HTTP/1.1 407 Auth\r\nProxy-Authenticate: NTLM {}\r\n{extra}\
                 Transfer-Encoding: chunked\r\n\r\n4\r\npage\r\n0\r\n\r\n",
                BASE64_STANDARD.encode(&asked)
            );
            stream.write_all(said.as_bytes()).await.unwrap();
            if close {
                continue;
            }
            let third = token(&read_head(&mut stream).await);
            if verify(&third) {
                tokio::spawn(splice(stream, to));
            } else {
                let no =
                    b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: NTLM\r\nContent-Length: 0\r\n\r\n";
                stream.write_all(no).await.unwrap();
            }
        }
    });
    address
}

fn token(head: &str) -> Vec<u8> {
    let value = head.split("Proxy-Authorization: NTLM ").nth(1).expect("NTLM");
    BASE64_STANDARD.decode(value.split("\r\n").next().unwrap()).unwrap()
}

const NONCE: &[u8; 8] = b"nonce-of";

fn challenge() -> Vec<u8> {
    let target = b"\x02\0\x02\0D\0\0\0\0\0";
    let mut message = b"NTLMSSP\0\x02\0\0\0\0\0\0\0\x30\0\0\0\x05\x82\x08\0".to_vec();
    message.extend_from_slice(NONCE);
    message.extend_from_slice(&[0; 8]);
    let length = u16::try_from(target.len()).unwrap().to_le_bytes();
    message.extend_from_slice(&[length, length].concat());
    message.extend_from_slice(&48_u32.to_le_bytes());
    message.extend_from_slice(target);
    message
}

/// MS-NLMP §3.3.2 from the server's side, from the password's published hash (§4.2.4.1.1).
fn verify(message: &[u8]) -> bool {
    use hmac::{Hmac, KeyInit as _, Mac as _};
    let number = |at: usize| usize::from(u16::from_le_bytes([message[at], message[at + 1]]));
    let (length, offset) = (number(20), number(24));
    let response = &message[offset..offset + length];
    let key = [
        0x0c, 0x86, 0x8a, 0x40, 0x3b, 0xfd, 0x7a, 0x93, 0xa3, 0x00, 0x1e, 0xf2, 0x2e, 0xf0, 0x2e,
        0x3f,
    ];
    let mut mac = Hmac::<md5::Md5>::new_from_slice(&key).unwrap();
    mac.update(NONCE);
    mac.update(&response[16..]);
    mac.verify_slice(&response[..16]).is_ok()
}

/// One egress named `out` and its files.
pub(super) struct Setup {
    pub(super) egress: Egress,
    pub(super) proxies: Vec<ProxyMaterial>,
    pub(super) roots: Arc<Roots>,
    pub(super) own: Arc<Ourselves>,
}

impl Setup {
    pub(super) fn direct(ca: &Ca) -> Self {
        let lane = LaneLimits {
            connections: 2,
            http1_connections: 2,
            streams: 2,
            lanes: 2,
            queue: 2,
            ping: Duration::from_secs(60),
            dials_per_second: 1,
        };
        let egress = Egress {
            name: EgressName("out".into()),
            proxies: Vec::new(),
            roots: Vec::new(),
            dns: Dns { servers: vec!["127.0.0.1:9".parse().unwrap()], hosts_file: false },
            connect_to: BTreeMap::new(),
            source: None,
            post_quantum: true,
            assume_h2: false,
            lane,
        };
        Self { egress, proxies: Vec::new(), roots: ca.roots(false), own: Arc::default() }
    }

    pub(super) fn proxied(ca: &Ca, proxies: &[SocketAddr]) -> Self {
        let mut setup = Self::direct(ca);
        for address in proxies {
            let authority = Authority { host: Host::Ip(address.ip()), port: address.port() };
            let (credentials, roots) = (None, Vec::new());
            setup.egress.proxies.push(EgressProxy { tls: false, authority, credentials, roots });
            setup.proxies.push(ProxyMaterial { password: None, roots: None });
        }
        setup
    }

    pub(super) fn pin(mut self, origin: &str, to: SocketAddr) -> Self {
        let to = Authority { host: Host::Ip(to.ip()), port: to.port() };
        self.egress.connect_to.insert(origin.parse().unwrap(), to);
        self
    }

    pub(super) fn inspected(&mut self, inspected: bool, ca: &Ca) {
        self.roots = ca.roots(inspected);
    }

    pub(super) fn credentials(&mut self, credentials: ProxyCredentials, password: &str) {
        self.egress.proxies[0].credentials = Some(credentials);
        self.proxies[0].password = Some(Secret::new(password.as_bytes().to_vec()));
    }

    pub(super) fn config(&self) -> Config {
        let name = self.egress.name.clone();
        Config {
            places: Arc::default(),
            path: "relay.yaml".into(),
            placement: None,
            drain: Duration::from_secs(1),
            listeners: Vec::new(),
            routes: Vec::new(),
            egress: [(name, Arc::new(self.egress.clone()))].into(),
            issuer: None,
            leaves: Vec::new(),
            limits: Limits { connections: 1, exchanges: 1, head: 1, body: 1 },
            admin: Admin { bind: None, networks: Vec::new(), token: None, probe: true },
            log: Log { format: LogFormat::Text, level: "info".into(), access: false, sample: 1 },
            audit: Audit { path: None, refuse_when_full: false },
        }
    }

    pub(super) fn material(&self) -> Material {
        let copy = |one: &ProxyMaterial| ProxyMaterial {
            password: one.password.clone(),
            roots: one.roots.clone(),
        };
        let proxies = self.proxies.iter().map(copy).collect();
        let egress = EgressMaterial { roots: Arc::clone(&self.roots), proxies };
        Material {
            issuer: None,
            leaves: Vec::new(),
            listeners: Vec::new(),
            routes: Vec::new(),
            egress: [(self.egress.name.clone(), egress)].into(),
            admin_token: None,
        }
    }

    pub(super) fn dialer(&self) -> Dialer {
        Dialer::new(&self.config(), &self.material(), Arc::clone(&self.own)).unwrap()
    }

    pub(super) async fn dial(&self, host: &str, offer: Offer) -> Result<Dialed, HopError> {
        within(self.dialer().dial(&target(host, offer), &Unobserved)).await
    }
}
