//! The real binary at an address of its own, so that a successor can take it over.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::Origin;
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::proxy::Proxy;
use tempfile::TempDir;

use crate::{HOST, within};

/// A relay.yaml, its directory, and the processes that were started on it.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    pub(crate) issuer: Arc<Throwaway>,
    directory: TempDir,
    processes: Vec<Child>,
}

/// What the deployment says beyond the usual.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) accept: Option<&'static str>,
    pub(crate) top: String,
    pub(crate) route: String,
    pub(crate) egress: String,
    pub(crate) log: Option<&'static str>,
}

/// A port that nobody else uses: a loopback address of this process and this call alone.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [_, nth] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    let ip = std::net::Ipv4Addr::new(127, 1 + high % 200, low, nth);
    std::net::TcpListener::bind((ip, 0)).unwrap().local_addr().unwrap()
}

impl Relay {
    /// Writes the files; nothing runs yet.
    pub(crate) fn new(
        origin: &Origin,
        authority: &Throwaway,
        proxy: Option<&Proxy>,
        plan: &Plan,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = own_address();
        let issuer = Throwaway::new("Chaos relay CA", HOST).unwrap();
        let write = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = directory.path().join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        write("issuer.pem", &issuer.pem());
        write("issuer.key", &issuer.key_pem());
        write("origin.pem", &authority.pem());
        let way = match proxy {
            Some(proxy) => format!("proxies: [{{ url: \"http://{}\" }}]", proxy.address()),
            None => format!("connect_to: {{ \"{HOST}:443\": \"{}\" }}", origin.address()),
        };
        write(
            "relay.yaml",
            &format!(
                "version: 1\nplacement: post\n{}listeners:\n  - name: chaos\n    bind: \
                 [\"{address}\"]\n    accept: {}\nroutes:\n  - provider: apns\n    egress: \
                 out\n{}egress:\n  out:\n    roots: [origin.pem]\n    {way}\n{}issuer: {{ chain: \
                 issuer.pem, key: issuer.key }}\nadmin: {{ bind: \"{}:0\", probe: off }}\nlog: {}\n",
                plan.top,
                plan.accept.unwrap_or("[tls]"),
                plan.route,
                plan.egress,
                address.ip(),
                plan.log.unwrap_or("{ format: json }"),
            ),
        );
        Self { address, issuer, directory, processes: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&mut self) -> usize {
        let number = self.processes.len();
        let log = std::fs::File::create(self.path(&format!("{number}.log"))).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_pushrelay"))
            .args(["run", "--config"])
            .arg(self.path("relay.yaml"))
            .env("PUSHRELAY_READY_FILE", self.path(&format!("{number}.ready")))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.processes.push(child);
        number
    }

    /// Starts a process and waits until it serves.
    pub(crate) async fn start(&mut self) {
        let number = self.spawn();
        self.ready(number).await;
    }

    async fn ready(&mut self, number: usize) {
        let ready = self.path(&format!("{number}.ready"));
        let deadline = Instant::now() + Duration::from_secs(30);
        while !ready.exists() {
            let ended = self.processes[number].try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.path(&format!("{number}.log")));
                panic!("relay {number} did not start: {}", log.unwrap_or_default());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The process of now.
    pub(crate) fn pid(&self) -> u32 {
        self.processes.last().unwrap().id()
    }

    /// Sends a signal to the process of now.
    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").arg(signal).arg(self.pid().to_string()).status();
        assert!(done.unwrap().success(), "kill {signal}");
    }

    /// SIGTERM, and a successor at once. Returns the number of the one that drains.
    pub(crate) async fn hand_over(&mut self) -> usize {
        self.signal("-TERM");
        let before = self.processes.len() - 1;
        self.start().await;
        before
    }

    /// SIGKILL, and a new one.
    pub(crate) async fn crash(&mut self) {
        self.signal("-KILL");
        self.processes.last_mut().unwrap().wait().unwrap();
        self.start().await;
    }

    /// Waits for the end of a process.
    pub(crate) async fn ended(&mut self, number: usize, seconds: u64) -> ExitStatus {
        within(seconds, async {
            loop {
                if let Some(status) = self.processes[number].try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await
    }

    /// SIGTERM to the last one, and the end of all.
    pub(crate) async fn stop(&mut self, seconds: u64) {
        if self.processes.last_mut().unwrap().try_wait().unwrap().is_none() {
            self.signal("-TERM");
        }
        for number in 0..self.processes.len() {
            self.ended(number, seconds).await;
        }
    }

    /// Resident memory of the process of now, KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let line = |text: &String| {
            let line = text.lines().find(|line| line.starts_with("VmRSS:"))?;
            line.split_whitespace().nth(1)?.parse().ok()
        };
        status.ok().as_ref().and_then(line).unwrap_or(0)
    }

    /// Outcomes in the access logs of all processes, by apns-id.
    pub(crate) fn lines(&self) -> HashMap<String, Vec<String>> {
        use std::io::BufRead as _;
        let mut lines: HashMap<String, Vec<String>> = HashMap::new();
        for number in 0..self.processes.len() {
            let log = std::fs::File::open(self.path(&format!("{number}.log"))).unwrap();
            for line in std::io::BufReader::new(log).lines() {
                let Ok(line) = serde_json::from_str::<serde_json::Value>(&line.unwrap()) else {
                    continue;
                };
                let field = |name: &str| {
                    let found = line.get(name).or_else(|| line.get("fields")?.get(name));
                    found.and_then(|value| value.as_str()).map(str::to_owned)
                };
                if let (Some(id), Some(outcome)) = (field("apns_id"), field("outcome")) {
                    lines.entry(id).or_default().push(outcome);
                }
            }
        }
        lines
    }

    /// What was logged besides access lines, for a look after a failure.
    pub(crate) fn log(&self) -> String {
        let mut all = String::new();
        for number in 0..self.processes.len() {
            let log = std::fs::read_to_string(self.path(&format!("{number}.log")));
            for line in log.unwrap_or_default().lines() {
                if !line.contains("\"access\"") {
                    all.push_str(&format!("{number}: {line}\n"));
                }
            }
        }
        all
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        for child in &mut self.processes {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let log = self.log();
            let from = log.len().saturating_sub(20_000);
            eprintln!("logs of the relay:\n{}", log.get(from..).unwrap_or(&log));
            if let Ok(kept) = std::env::var("PUSHRELAY_CHAOS_KEEP") {
                // For a look after the fact only.
                let _ = Command::new("cp").arg("-r").arg(self.directory.path()).arg(kept).status();
            }
        }
    }
}
