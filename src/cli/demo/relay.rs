//! The relay of the demo: this executable again, with a relay.yaml in a directory of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde::Deserialize;

use super::DemoError;

/// A relay that is not ready by then does not start.
const START: Duration = Duration::from_secs(20);
/// How often the ready file is looked for.
const LOOK: Duration = Duration::from_millis(20);

/// What the relay writes once it listens.
#[derive(Debug, Deserialize)]
struct Ready {
    listeners: BTreeMap<String, Vec<SocketAddr>>,
}

/// A directory that ends with this value.
#[derive(Debug)]
pub(super) struct Directory(PathBuf);

impl Directory {
    /// A fresh one, for this user only.
    pub(super) fn new(name: &str) -> std::io::Result<Self> {
        let path =
            std::env::temp_dir().join(format!("pushrelay-demo-{}-{name}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Writes a file that only this user reads.
    pub(super) fn write(&self, name: &str, text: &str) -> std::io::Result<()> {
        use std::io::Write as _;
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(self.0.join(name))?.write_all(text.as_bytes())
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What remains is in the system's directory for such files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running relay; it ends with this value.
#[derive(Debug)]
pub(super) struct Relay {
    child: Child,
    /// Where its listener called `demo` listens.
    pub(super) address: SocketAddr,
}

impl Relay {
    /// Starts it with the relay.yaml in `directory` and waits until it listens.
    pub(super) async fn start(directory: &Directory) -> Result<Self, DemoError> {
        let ready = directory.path().join("ready.json");
        let log = std::fs::File::create(directory.path().join("relay.log"))?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["run", "--config"])
            .arg(directory.path().join("relay.yaml"))
            .env("PUSHRELAY_READY_FILE", &ready)
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.try_clone()?))
            .stderr(Stdio::from(log))
            .spawn()?;
        let address = wait(&mut child, &ready, directory).await;
        match address {
            Ok(address) => Ok(Self { child, address }),
            Err(error) => {
                stop(&mut child);
                Err(error)
            }
        }
    }
}

async fn wait(
    child: &mut Child,
    ready: &Path,
    directory: &Directory,
) -> Result<SocketAddr, DemoError> {
    let started = Instant::now();
    loop {
        // A file that is still being written does not parse, and is read again.
        let read = std::fs::read(ready).ok();
        let parsed = read.and_then(|text| serde_json::from_slice::<Ready>(&text).ok());
        let address = parsed.and_then(|ready| ready.listeners.get("demo")?.first().copied());
        if let Some(address) = address {
            return Ok(address);
        }
        if child.try_wait()?.is_some() || started.elapsed() > START {
            let log = std::fs::read(directory.path().join("relay.log")).unwrap_or_default();
            return Err(DemoError::Relay(crate::hop::clean(&log, 1000)));
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn stop(child: &mut Child) {
    // It may have ended by itself.
    let _ = child.kill();
    let _ = child.wait();
}

impl Drop for Relay {
    fn drop(&mut self) {
        stop(&mut self.child);
    }
}
