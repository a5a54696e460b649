//! The real binary with a relay.yaml written for the test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pushrelay::simulate::authority::Throwaway;
use serde::Deserialize;
use tempfile::TempDir;

use super::{Corporate, HOST, TestOrigin};

#[derive(Deserialize)]
struct Ready {
    listeners: BTreeMap<String, Vec<SocketAddr>>,
    admin: SocketAddr,
}

/// Starts empty; a deployment says the rest.
pub(crate) fn relay() -> Builder {
    let directory = tempfile::tempdir().unwrap();
    Builder {
        directory,
        accept: "[tls]".into(),
        provider: "apns".into(),
        listener: String::new(),
        route: String::new(),
        egress: String::new(),
        roots: Vec::new(),
    }
}

/// A relay.yaml in the making.
pub(crate) struct Builder {
    directory: TempDir,
    accept: String,
    provider: String,
    listener: String,
    route: String,
    egress: String,
    roots: Vec<String>,
}

impl Builder {
    /// Goes directly to this origin.
    pub(crate) fn to(self, origin: &TestOrigin) -> Self {
        let pin = format!("connect_to: {{ \"{HOST}:443\": \"{}\" }}", origin.address());
        self.trusting("origin.pem", &origin.authority).egress(&pin)
    }

    /// Goes through this proxy to this origin.
    pub(crate) fn via(self, proxy: &Corporate, origin: &TestOrigin) -> Self {
        let proxies = format!("proxies: [{{ url: \"http://{}\" }}]", proxy.address());
        self.trusting("origin.pem", &origin.authority).egress(&proxies)
    }

    /// The same with Basic credentials.
    pub(crate) fn via_basic(
        self,
        proxy: &Corporate,
        origin: &TestOrigin,
        who: (&str, &str),
    ) -> Self {
        let proxies = format!(
            "proxies: [{{ url: \"http://{}\", credentials: {{ basic: {{ username: {}, password: \
             {{ file: proxy.pw }} }} }} }}]",
            proxy.address(),
            who.0
        );
        self.secret("proxy.pw", who.1).trusting("origin.pem", &origin.authority).egress(&proxies)
    }

    /// A file that only this user reads.
    pub(crate) fn secret(self, file: &str, text: &str) -> Self {
        std::fs::write(self.directory.path().join(file), text).unwrap();
        private(&self.directory, file);
        self
    }

    /// Trusts an authority upstream.
    pub(crate) fn trusting(mut self, file: &str, authority: &Throwaway) -> Self {
        std::fs::write(self.directory.path().join(file), authority.pem()).unwrap();
        self.roots.push(file.to_owned());
        self
    }

    /// What the listener accepts besides TLS, in YAML.
    pub(crate) fn accept(mut self, accept: &str) -> Self {
        self.accept = accept.to_owned();
        self
    }

    /// Another preset than APNs.
    pub(crate) fn provider(mut self, provider: &str) -> Self {
        self.provider = provider.to_owned();
        self
    }

    /// One more line of the listener.
    pub(crate) fn listener(mut self, line: &str) -> Self {
        self.listener.push_str(&format!("    {line}\n"));
        self
    }

    /// One more line of the route.
    pub(crate) fn route(mut self, line: &str) -> Self {
        self.route.push_str(&format!("    {line}\n"));
        self
    }

    /// One more line of the egress.
    pub(crate) fn egress(mut self, line: &str) -> Self {
        self.egress.push_str(&format!("    {line}\n"));
        self
    }

    /// The file as it will be written.
    fn yaml(&self) -> String {
        format!(
            "version: 1\nplacement: post\nlisteners:\n  - name: test\n    bind: [\"127.0.0.1:0\"]\n    \
             accept: {}\n{}routes:\n  - provider: {}\n    egress: out\n{}egress:\n  out:\n    \
             roots: [{}]\n{}issuer: {{ chain: issuer.pem, key: issuer.key }}\n\
             admin: {{ bind: \"127.0.0.1:0\" }}\n",
            self.accept,
            self.listener,
            self.provider,
            self.route,
            self.roots.join(", "),
            self.egress,
        )
    }

    /// Writes the files, starts the binary, and waits until it listens.
    pub(crate) async fn start(self) -> Relay {
        let issuer = Throwaway::new("Test relay CA", HOST).unwrap();
        let path = |name: &str| self.directory.path().join(name);
        std::fs::write(path("issuer.pem"), issuer.pem()).unwrap();
        std::fs::write(path("issuer.key"), issuer.key_pem()).unwrap();
        private(&self.directory, "issuer.key");
        std::fs::write(path("relay.yaml"), self.yaml()).unwrap();
        let log = std::fs::File::create(path("relay.log")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_pushrelay"))
            .args(["run", "--config"])
            .arg(path("relay.yaml"))
            .env("PUSHRELAY_READY_FILE", path("ready.json"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let ready = ready(&mut child, &self.directory).await;
        let address = ready.listeners["test"][0];
        Relay { child, address, admin: ready.admin, issuer, directory: self.directory }
    }
}

fn private(directory: &TempDir, name: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(directory.path().join(name), mode).unwrap();
}

/// Polls for the ready file: the only wait here that nothing announces.
async fn ready(child: &mut Child, directory: &TempDir) -> Ready {
    let started = Instant::now();
    loop {
        let text = std::fs::read(directory.path().join("ready.json")).unwrap_or_default();
        if let Ok(ready) = serde_json::from_slice(&text) {
            return ready;
        }
        if child.try_wait().unwrap().is_some() || started.elapsed() > Duration::from_secs(20) {
            // Already ended, or ended by this.
            let _ = child.kill();
            let log = std::fs::read_to_string(directory.path().join("relay.log"));
            panic!("the relay did not start:\n{}", log.unwrap_or_default());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A running relay; it ends with this value.
pub(crate) struct Relay {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) issuer: Arc<Throwaway>,
    directory: TempDir,
}

impl Relay {
    /// A file of its folder.
    pub(crate) fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// What it logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("relay.log")).unwrap_or_default()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("log of the relay:\n{}", self.log());
        }
    }
}
