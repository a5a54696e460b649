//! The Mattermost push proxy's ways in Go, and a corporate proxy that dies.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pushrelay::simulate::apns::{Conduct, Origin, path_hash};
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::proxy::{self, Proxy};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::relay::{Plan, Relay};
use crate::{HOST, LOOPBACK, within};

/// A push proxy for a town: ten a second for 28 s.
const PER_SECOND: u64 = 10;
const SECONDS: u64 = 28;

#[derive(serde::Deserialize, Debug)]
struct Line {
    token: String,
    status: u16,
    tries: u32,
    took_ms: u64,
    #[expect(dead_code, reason = "shown where a push was lost")]
    #[serde(default)]
    error: String,
}

/// Builds our stand-in with the Go tool chain.
fn build(into: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/clients/go");
    let go = Path::new("/usr/local/go/bin/go");
    let go = if go.exists() { go } else { Path::new("go") };
    let built = Command::new(go)
        .args(["build", "-o"])
        .arg(into)
        .arg("./mpns")
        .current_dir(source)
        .env("CGO_ENABLED", "0")
        .status();
    assert!(built.expect("the Go tool chain").success(), "go build");
}

struct Corporate {
    at: std::net::SocketAddr,
    next: std::net::SocketAddr,
    trusts: Arc<Throwaway>,
    proxy: Option<Proxy>,
}

impl Corporate {
    async fn start(&mut self) {
        let mut conduct = proxy::Conduct::default();
        conduct.map.insert(format!("{HOST}:443"), self.next);
        let minting = Throwaway::new("Chaos proxy CA", HOST).unwrap();
        let proxy = Proxy::start(self.at, minting, self.trusts.roots(), conduct).await.unwrap();
        self.at = proxy.address();
        self.proxy = Some(proxy);
    }

    /// As kill -9 does: every connection is cut and the port is closed.
    fn kill(&mut self) {
        self.proxy = None;
    }
}

/// Returns between two pushes: one in flight at the kill is `unknown` by nature, and the storm
/// has those.
async fn between_pushes(origin: &Origin, started: Instant) {
    within(10, async {
        loop {
            let entries = origin.ledger().entries();
            let answered = entries.last().and_then(|entry| entry.answered_ms);
            let now = started.elapsed().as_millis();
            if answered.is_some_and(|at| (15..50).contains(&(now - u128::from(at)))) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

async fn sleep_until(began: Instant, second: f64) {
    tokio::time::sleep_until((began + Duration::from_secs_f64(second)).into()).await;
}

/// Measured peers lose 63-139 of 101-240 pushes and make 2-4 duplicates here.
#[tokio::test]
#[ignore = "needs the Go tool chain; a minute"]
async fn a_corporate_proxy_dies_and_restarts_under_the_mattermost_push_proxy() {
    let files = tempfile::tempdir().unwrap();
    let program = files.path().join("mpns");
    build(&program);
    let authority = Throwaway::new("Chaos APNs CA", HOST).unwrap();
    let conduct = Conduct { delay: Duration::from_millis(5), ..Conduct::default() };
    let started = Instant::now();
    let origin = Origin::start(LOOPBACK, &authority, conduct).await.unwrap();
    let mut corporate =
        Corporate { at: LOOPBACK, next: origin.address(), trusts: authority.clone(), proxy: None };
    corporate.start().await;
    let plan = Plan::default();
    let mut relay = Relay::new(&origin, &authority, corporate.proxy.as_ref(), &plan);
    relay.start().await;
    let roots = files.path().join("roots.pem");
    std::fs::write(&roots, relay.issuer.pem()).unwrap();
    let mut sender = Command::new(&program)
        .arg(relay.address.to_string())
        .arg(&roots)
        .arg((PER_SECOND * SECONDS).to_string())
        .arg(PER_SECOND.to_string())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    let mut returns = Vec::new();
    for (dies, returns_at) in [(3.0, 13.0), (20.0, 20.2), (21.5, 21.7)] {
        sleep_until(began, dies).await;
        between_pushes(&origin, started).await;
        corporate.kill();
        sleep_until(began, returns_at).await;
        corporate.start().await;
        returns.push(u64::try_from(started.elapsed().as_millis()).unwrap());
    }
    let output = std::os::fd::OwnedFd::from(sender.stdout.take().unwrap());
    let output = tokio::fs::File::from_std(output.into());
    let mut output = BufReader::new(output).lines();
    let mut lines: Vec<Line> = Vec::new();
    within(90, async {
        while let Some(line) = output.next_line().await.unwrap() {
            lines.push(serde_json::from_str(&line).unwrap());
        }
    })
    .await;
    assert!(sender.wait().unwrap().success());
    relay.stop(30).await;
    judge(&lines, &origin, &relay, &returns);
}

fn judge(lines: &[Line], origin: &Origin, relay: &Relay, returns: &[u64]) {
    let entries = origin.ledger().entries();
    let delivered = |line: &Line| {
        let path = path_hash(&format!("/3/device/{}", line.token));
        entries.iter().filter(|entry| entry.delivered && entry.path_hash == path).count()
    };
    let lost: Vec<&Line> = lines.iter().filter(|line| line.status != 200).collect();
    let twice = lines.iter().filter(|line| delivered(line) > 1).count();
    let mut recoveries = Vec::new();
    for back in returns {
        let first = entries.iter().filter_map(|entry| entry.answered_ms).find(|at| at >= back);
        recoveries.push(first.expect("a push after it") - back);
    }
    let unknown = relay.lines().values().flatten().filter(|word| *word == "unknown").count();
    let slowest = lines.iter().map(|line| line.took_ms).max().unwrap();
    let tries = lines.iter().map(|line| line.tries).max().unwrap();
    eprintln!(
        "{} pushes like MPNS: {} lost, {twice} twice, {unknown} unknown, back after \
         {recoveries:?} ms, slowest {slowest} ms, at most {tries} tries",
        lines.len(),
        lost.len(),
    );
    assert_eq!(lines.len() as u64, PER_SECOND * SECONDS);
    assert_eq!(twice, 0, "duplicates");
    assert!(lost.is_empty() && unknown == 0, "{unknown} unknown, lost: {lost:?}");
    assert!(recoveries.iter().all(|ms| *ms <= 1000), "{recoveries:?}");
}
