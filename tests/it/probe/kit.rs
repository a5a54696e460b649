//! The probe as a process, and peers that the simulators do not play.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::{Conduct, Origin};
use pushrelay::simulate::authority::Throwaway;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::support::{HOST, LOOPBACK, within};

pub(crate) const FCM: &str = "fcm.googleapis.com";
/// The promise.
const WORST: Duration = Duration::from_secs(15);

/// A probe in the making.
pub(crate) struct Case {
    directory: Arc<TempDir>,
    args: Vec<OsString>,
    target: Vec<String>,
    password: Option<String>,
    environment: Vec<(String, String)>,
}

impl Case {
    pub(crate) fn new() -> Self {
        Self {
            directory: Arc::new(tempfile::tempdir().unwrap()),
            args: Vec::new(),
            target: vec![HOST.to_owned()],
            password: None,
            environment: Vec::new(),
        }
    }

    pub(crate) fn through(proxy: SocketAddr) -> Self {
        Self::new().arg("--proxy").arg(&format!("http://{proxy}"))
    }

    pub(crate) fn through_tls(proxy: SocketAddr) -> Self {
        Self::new().arg("--proxy").arg(&format!("https://{proxy}"))
    }

    pub(crate) fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.into());
        self
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Basic credentials, the password by the environment.
    pub(crate) fn user(mut self, user: &str, password: &str) -> Self {
        for arg in &mut self.args {
            let text = arg.to_string_lossy().replace("http://", &format!("http://{user}@"));
            *arg = text.into();
        }
        self.password = Some(password.to_owned());
        self
    }

    pub(crate) fn target(mut self, target: &str) -> Self {
        if target == FCM {
            self.target.clear();
        }
        self.target.push(target.to_owned());
        self
    }

    pub(crate) fn target_only(mut self, target: &str) -> Self {
        self.target = vec![target.to_owned()];
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        std::fs::write(self.path(name), text).unwrap();
        self.path(name)
    }

    pub(crate) fn file_arg(mut self, option: &str, name: &str, text: &str) -> Self {
        let path = self.file(name, text);
        self.args.push(option.into());
        self.args.push(path.into());
        self
    }

    pub(crate) fn roots(self, authority: &Throwaway) -> Self {
        self.file_arg("--roots", "roots.pem", &authority.pem())
    }

    pub(crate) fn roots_pem(self, pem: &str) -> Self {
        self.file_arg("--roots", "roots.pem", pem)
    }

    pub(crate) fn inspector(self, authority: &Throwaway) -> Self {
        self.file_arg("--inspection-roots", "inspector.pem", &authority.pem())
    }

    /// The exit code and everything that was printed.
    pub(crate) async fn output(self) -> (i32, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pushrelay"));
        command.arg("probe").args(&self.args).args(&self.target);
        for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"]
        {
            command.env_remove(name);
        }
        command.env_remove("PUSHRELAY_PROXY_PASSWORD").envs(self.environment);
        if let Some(password) = &self.password {
            command.env("PUSHRELAY_PROXY_PASSWORD", password);
        }
        command.current_dir(self.directory.path());
        let ended = tokio::task::spawn_blocking(move || command.output().unwrap());
        let output = within(ended).await.unwrap();
        let text = [output.stdout, output.stderr].map(|it| String::from_utf8(it).unwrap());
        if let Some(password) = self.password {
            assert!(!text.concat().contains(&password), "the password was printed");
        }
        (output.status.code().unwrap(), text.concat())
    }

    /// Runs with `--json`.
    pub(crate) async fn run(self) -> Seen {
        let began = Instant::now();
        let files = Arc::clone(&self.directory);
        let (exit, text) = self.arg("--json").output().await;
        let json: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        Seen { exit, took: began.elapsed(), json, text, _files: files }
    }
}

/// What came of it.
pub(crate) struct Seen {
    pub(crate) exit: i32,
    pub(crate) took: Duration,
    pub(crate) json: Value,
    pub(crate) text: String,
    /// What the commands in it name.
    _files: Arc<TempDir>,
}

impl Seen {
    pub(crate) fn code(&self) -> &str {
        self.json["verdict"]["code"].as_str().unwrap()
    }

    pub(crate) fn hop(&self) -> &str {
        self.json["verdict"]["hop"].as_str().unwrap()
    }

    pub(crate) fn sentence(&self) -> &str {
        self.json["verdict"]["sentence"].as_str().unwrap()
    }
}

/// Runs and compares.
#[track_caller]
pub(crate) fn judge(
    case: Case,
    code: &str,
    hop: &str,
    exit: i32,
) -> impl Future<Output = Seen> + use<> {
    let caller = std::panic::Location::caller();
    let (code, hop) = (code.to_owned(), hop.to_owned());
    async move {
        let seen = case.run().await;
        let got = (seen.code(), seen.hop(), seen.exit);
        assert_eq!(got, (code.as_str(), hop.as_str(), exit), "{caller}\n{}", seen.text);
        assert!(seen.took < WORST, "{code} took {:?}", seen.took);
        seen
    }
}

/// A port where nobody listens.
pub(crate) fn closed() -> SocketAddr {
    std::net::TcpListener::bind(LOOPBACK).unwrap().local_addr().unwrap()
}

/// What a head is answered with; `None` is silence.
type Reply = dyn Fn(&str) -> Option<String> + Send + Sync;

/// A peer that reads a head and answers what a function says.
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    accepting: AbortHandle,
}

impl Scripted {
    /// `None` is silence.
    pub(crate) async fn proxy(
        answer: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self::start(None, Arc::new(answer)).await
    }

    /// Speaks first, as no proxy does.
    pub(crate) async fn greeting(text: &'static str) -> Self {
        Self::start(Some(text), Arc::new(|_: &str| None)).await
    }

    /// Opens tunnels by hand to one place, and answers anything else with a page.
    pub(crate) async fn tunnel(to: SocketAddr, page: String) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let page = page.clone();
                tokio::spawn(async move {
                    let Some(head) = read_head(&mut tcp).await else { return };
                    if !head.starts_with("CONNECT") {
                        let _ = tcp.write_all(page.as_bytes()).await;
                        return;
                    }
                    let mut origin = tokio::net::TcpStream::connect(to).await.unwrap();
                    let _ = tcp.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await;
                    let _ = tokio::io::copy_bidirectional(&mut tcp, &mut origin).await;
                });
            }
        });
        Self { address, accepting: accepting.abort_handle() }
    }

    async fn start(greeting: Option<&'static str>, answer: Arc<Reply>) -> Self {
        let listener = TcpListener::bind(LOOPBACK).await.unwrap();
        let address = listener.local_addr().unwrap();
        let accepting = tokio::spawn(async move {
            loop {
                let (mut tcp, _) = listener.accept().await.unwrap();
                let answer = Arc::clone(&answer);
                tokio::spawn(async move {
                    let _ = tcp.write_all(greeting.unwrap_or_default().as_bytes()).await;
                    let Some(head) = read_head(&mut tcp).await else { return };
                    match answer(&head) {
                        Some(answer) => drop(tcp.write_all(answer.as_bytes()).await),
                        None => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, accepting: accepting.abort_handle() }
    }
}

async fn read_head(tcp: &mut tokio::net::TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(tcp.read_u8().await.ok()?);
    }
    Some(String::from_utf8_lossy(&head).into_owned())
}

/// This moment as a Date field has it.
pub(crate) fn http_date() -> String {
    let now = time::OffsetDateTime::now_utc();
    let text = now.format(&time::format_description::well_known::Rfc2822).unwrap();
    text.replace("+0000", "GMT")
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// The way out of a relay.yaml.
pub(crate) enum Way {
    Pinned(SocketAddr),
    PinnedProxy(SocketAddr, SocketAddr),
    Listening(SocketAddr),
    Proxies(Vec<SocketAddr>),
}

/// A relay.yaml whose only route is APNs.
pub(crate) fn relay_yaml(authority: &Throwaway, way: Way) -> Case {
    let case = Case::new();
    case.file("origin.pem", &authority.pem());
    let pin = |to: &SocketAddr| format!("    connect_to: {{ \"{HOST}:443\": \"{to}\" }}\n");
    let proxies = |all: &[SocketAddr]| {
        let all: Vec<_> = all.iter().map(|one| format!("{{ url: \"http://{one}\" }}")).collect();
        format!("    proxies: [{}]\n", all.join(", "))
    };
    let (bind, egress) = match &way {
        Way::Pinned(to) => ("127.0.0.1:0".to_owned(), pin(to)),
        Way::Listening(to) => (to.to_string(), pin(to)),
        Way::Proxies(all) => ("127.0.0.1:0".to_owned(), proxies(all)),
        Way::PinnedProxy(proxy, to) => {
            ("127.0.0.1:0".to_owned(), format!("{}{}", proxies(&[*proxy]), pin(to)))
        }
    };
    let yaml = format!(
        "version: 1\nlisteners:\n  - name: test\n    bind: [\"{bind}\"]\n    accept: [plain]\n\
         routes:\n  - provider: apns\n    egress: out\negress:\n  out:\n    roots: [origin.pem]\n\
         {egress}"
    );
    case.file_arg("--config", "relay.yaml", &yaml)
}

/// What is wrong with a leaf.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Leaf {
    WrongName,
    Expired,
    Future,
    SelfSigned,
    Zscaler,
}

/// An origin with such a leaf, and the root to trust, if any.
pub(crate) async fn origin_with(leaf: Leaf) -> (Origin, Option<String>) {
    let name = if let Leaf::WrongName = leaf { "other.example" } else { HOST };
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    match leaf {
        Leaf::Expired => {
            params.not_before = rcgen::date_time_ymd(2020, 1, 1);
            params.not_after = rcgen::date_time_ymd(2021, 1, 1);
        }
        Leaf::Future => {
            params.not_before = rcgen::date_time_ymd(2090, 1, 1);
            params.not_after = rcgen::date_time_ymd(2091, 1, 1);
        }
        Leaf::WrongName | Leaf::SelfSigned | Leaf::Zscaler => {}
    }
    let key = KeyPair::generate().unwrap();
    let mut root = CertificateParams::default();
    let issuer =
        if let Leaf::Zscaler = leaf { "Zscaler Intermediate Root CA" } else { "Public CA" };
    root.distinguished_name.push(DnType::CommonName, issuer);
    root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let root_key = KeyPair::generate().unwrap();
    let root_certificate = root.self_signed(&root_key).unwrap();
    let trusted = match leaf {
        Leaf::SelfSigned | Leaf::Zscaler => None,
        Leaf::WrongName | Leaf::Expired | Leaf::Future => Some(root_certificate.pem()),
    };
    let issuer = Issuer::new(root, root_key);
    let certificate = match leaf {
        Leaf::SelfSigned => params.self_signed(&key).unwrap(),
        Leaf::WrongName | Leaf::Expired | Leaf::Future | Leaf::Zscaler => {
            params.signed_by(&key, &issuer).unwrap()
        }
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    (Origin::start_with(LOOPBACK, tls, Conduct::default()).await.unwrap(), trusted)
}

/// For a proxy that inspects nothing.
pub(crate) fn any_authority() -> Arc<Throwaway> {
    Throwaway::new("Nobody", HOST).unwrap()
}
