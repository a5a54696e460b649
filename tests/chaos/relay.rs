//! The real binary at an address of its own, so that a successor can take it over.

use std::collections::HashMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::Origin;
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::proxy::Proxy;
use tempfile::TempDir;

use crate::program::{Between, Program, write_leaf};
use crate::{HOST, within};

/// A relay.yaml, its directory, and the processes that were started on it; or a stranger.
pub(crate) struct Relay {
    pub(crate) address: SocketAddr,
    pub(crate) issuer: Arc<Throwaway>,
    pub(crate) program: Program,
    directory: TempDir,
    origin: SocketAddr,
    drain: u64,
    deadline: u64,
    processes: Vec<Child>,
    /// Process ids of a stranger that were there before each succession.
    retired: Vec<Vec<u32>>,
    reloads: u64,
}

/// What the deployment says beyond the usual.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) program: Program,
    pub(crate) accept: Option<&'static str>,
    /// Seconds; as shipped where none.
    pub(crate) drain: Option<u64>,
    /// Seconds; as shipped where none.
    pub(crate) deadline: Option<u64>,
    pub(crate) route: String,
    pub(crate) egress: String,
    /// Where names are asked for, instead of an address for the origin's name.
    pub(crate) names: Option<SocketAddr>,
}

/// A port that nobody else uses: a loopback address of this process and this call alone.
fn own_address() -> SocketAddr {
    std::net::TcpListener::bind((own_ip(), 0)).unwrap().local_addr().unwrap()
}

/// A loopback address of this process and this call alone.
pub(crate) fn own_ip() -> Ipv4Addr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let [_, nth] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    Ipv4Addr::new(127, 1 + high % 200, low, nth)
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
        let relay = Self {
            address,
            issuer,
            program: plan.program,
            directory,
            origin: origin.address(),
            drain: plan.drain.unwrap_or(60),
            deadline: plan.deadline.unwrap_or(7),
            processes: Vec::new(),
            retired: Vec::new(),
            reloads: 0,
        };
        relay.write("issuer.pem", &relay.issuer.pem());
        relay.write("issuer.key", &relay.issuer.key_pem());
        relay.write("origin.pem", &authority.pem());
        if plan.program != Program::Pushrelay {
            write_leaf(relay.directory.path(), &relay.issuer);
        }
        let way = match (proxy, plan.names) {
            (Some(proxy), _) => format!("proxies: [{{ url: \"http://{}\" }}]", proxy.address()),
            (None, Some(names)) => format!("dns: {{ servers: [\"{names}\"] }}"),
            (None, None) => format!("connect_to: {{ \"{HOST}:443\": \"{}\" }}", relay.origin),
        };
        relay.write("relay.yaml", &relay.yaml(plan, &way));
        relay
    }

    fn yaml(&self, plan: &Plan, way: &str) -> String {
        let line = |key: &str, seconds: Option<u64>| {
            seconds.map(|seconds| format!("{key}: {seconds}s\n")).unwrap_or_default()
        };
        let (drain, deadline) = (line("drain", plan.drain), line("    deadline", plan.deadline));
        let (accept, address) = (plan.accept.unwrap_or("[tls]"), self.address);
        format!(
            "version: 1\nplacement: post\n{drain}listeners:\n  - name: chaos\n    bind: \
             [\"{address}\"]\n    accept: {accept}\nroutes:\n  - provider: apns\n    egress: \
             out\n{deadline}{}egress:\n  out:\n    roots: [origin.pem]\n    {way}\n{}issuer: {{ \
             chain: issuer.pem, key: issuer.key }}\nadmin: {{ bind: \"{}:0\", probe: off }}\nlog: {{ format: \
             json }}\n",
            plan.route,
            plan.egress,
            address.ip(),
        )
    }

    fn write(&self, name: &str, text: &str) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.path(name), text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(self.path(name), mode).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&mut self) -> usize {
        let number = self.processes.len();
        let log = std::fs::File::create(self.path(&format!("{number}.log"))).unwrap();
        let between = Between {
            directory: self.directory.path(),
            address: self.address,
            origin: self.origin,
            drain: self.drain,
            deadline: self.deadline,
        };
        let child = self
            .program
            .command(&between)
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
        loop {
            let serves = match self.program {
                Program::Pushrelay => ready.exists(),
                Program::Nghttpx | Program::Haproxy | Program::HaproxyRetrying => {
                    std::net::TcpStream::connect(self.address).is_ok()
                }
            };
            if serves {
                return;
            }
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
        let written = || std::fs::read_to_string(self.path("pid")).ok()?.trim().parse().ok();
        match self.program {
            // It writes its own, and its successor writes another.
            Program::Nghttpx => written(),
            Program::Pushrelay | Program::Haproxy | Program::HaproxyRetrying => None,
        }
        .unwrap_or_else(|| self.processes.last().unwrap().id())
    }

    /// The processes of a stranger: all of its group.
    fn group(&self) -> Vec<u32> {
        let group = self.processes[0].id().to_string();
        let mut members = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            // After the name: state, parent, group.
            let fields = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
            let mut fields = fields.split(' ');
            let alive = fields.next().is_some_and(|state| state != "Z");
            if alive && fields.nth(1) == Some(&group) {
                members
                    .extend(entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()));
            }
        }
        members
    }

    /// Sends a signal to the process of now.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.pid();
        let done = Command::new("kill").arg(signal).arg(pid.to_string()).status();
        assert!(done.unwrap().success(), "kill {signal} {pid}: {}", self.log());
    }

    /// Has the configuration read again, with another number in it, and waits until it counts.
    pub(crate) async fn reload(&mut self) {
        if self.program != Program::Pushrelay {
            self.replaced_by(self.program.reload()).await;
            return;
        }
        let old = std::fs::read_to_string(self.path("relay.yaml")).unwrap();
        self.reloads += 1;
        let (from, to) = if self.reloads % 2 == 1 { ("100 }", "99 }") } else { ("99 }", "100 }") };
        let new = old.replace(from, to);
        assert_ne!(old, new, "a reload that changes something");
        self.write("relay.yaml", &new);
        self.signalled("reloaded").await;
    }

    /// Has a configuration read that nobody could serve by: the old one must go on. Afterwards the
    /// file is good again.
    pub(crate) async fn reload_broken(&self) {
        let good = std::fs::read_to_string(self.path("relay.yaml")).unwrap();
        self.write("relay.yaml", &good.replace("provider: apns", "provider: nobody"));
        self.signalled("not reloaded; the old configuration goes on").await;
        self.write("relay.yaml", &good);
    }

    /// SIGHUP, and the line that must follow it.
    async fn signalled(&self, message: &str) {
        let log = self.path(&format!("{}.log", self.processes.len() - 1));
        let before = std::fs::metadata(&log).unwrap().len();
        self.signal("-HUP");
        let line = format!("\"{message}\"");
        within(10, async {
            loop {
                let mut file = std::fs::File::open(&log).unwrap();
                file.seek(SeekFrom::Start(before)).unwrap();
                let mut text = Vec::new();
                file.read_to_end(&mut text).unwrap();
                if String::from_utf8_lossy(&text).contains(&line) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// Ends the process of now, and a successor starts at once: SIGTERM, or what a stranger's
    /// manual says. Returns the number of the one that drains.
    pub(crate) async fn hand_over(&mut self) -> usize {
        match self.program {
            Program::Pushrelay => {
                self.signal(self.program.succession());
                let before = self.processes.len() - 1;
                self.start().await;
                before
            }
            Program::Nghttpx | Program::Haproxy | Program::HaproxyRetrying => {
                let mut before = self.replaced_by(self.program.succession()).await;
                if self.program != Program::Nghttpx {
                    // HAProxy's master stays.
                    before.retain(|pid| *pid != self.processes[0].id());
                }
                self.retired.push(before);
                self.retired.len() - 1
            }
        }
    }

    /// Signals a stranger until it has a new process. Returns those of before.
    async fn replaced_by(&self, signal: &str) -> Vec<u32> {
        let before = self.group();
        within(60, async {
            loop {
                self.signal(signal);
                let signalled = Instant::now();
                // One that is still being replaced may have missed the signal.
                while signalled.elapsed() < Duration::from_secs(2) {
                    if self.group().iter().any(|pid| !before.contains(pid)) {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        })
        .await;
        before
    }

    /// Waits until nothing of what a succession replaced is left.
    pub(crate) async fn left(&mut self, number: usize, seconds: u64) {
        if self.program == Program::Pushrelay {
            let status = self.ended(number, seconds).await;
            assert!(status.success(), "the drain was not complete: {status}");
            return;
        }
        within(seconds, async {
            loop {
                // Reaps the first process, which is a zombie else.
                let _ = self.processes[0].try_wait();
                let group = self.group();
                if !self.retired[number].iter().any(|pid| group.contains(pid)) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
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

    /// Ends a stranger with all that it started.
    fn end_group(&self) {
        let group = format!("-{}", self.processes[0].id());
        // It may have ended by itself.
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
    }

    /// SIGTERM to the last one, and the end of all.
    pub(crate) async fn stop(&mut self, seconds: u64) {
        if self.program != Program::Pushrelay {
            return self.end_group();
        }
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
        if self.program != Program::Pushrelay && !self.processes.is_empty() {
            self.end_group();
        }
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
