//! The program under test: the relay, or a stranger in its place.
//!
//! Strangers are configured as well as their manuals allow for this job: one worker, one pool of
//! HTTP/2 connections with verified certificates, time-outs like the relay's deadline, graceful
//! succession.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use pushrelay::simulate::authority::Throwaway;

use crate::HOST;

/// What stands between senders and origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Program {
    /// Ours.
    #[default]
    Pushrelay,
    /// nghttp2's proxy.
    Nghttpx,
    /// HAProxy as it comes: it repeats a request only where it could not connect.
    Haproxy,
    /// HAProxy that repeats a request after every failure it calls retryable.
    HaproxyRetrying,
}

/// Where a stranger listens and where it leads.
pub(crate) struct Between<'a> {
    pub(crate) directory: &'a Path,
    pub(crate) address: SocketAddr,
    pub(crate) origin: SocketAddr,
    /// Seconds for what is in flight at a succession.
    pub(crate) drain: u64,
    /// Seconds for an answer of the origin.
    pub(crate) deadline: u64,
}

impl Program {
    /// All of them, the relay first.
    pub(crate) const ALL: [Self; 4] =
        [Self::Pushrelay, Self::Nghttpx, Self::Haproxy, Self::HaproxyRetrying];

    /// As the tables call it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pushrelay => "pushrelay",
            Self::Nghttpx => "nghttpx",
            Self::Haproxy => "HAProxy",
            Self::HaproxyRetrying => "HAProxy, retry-on all",
        }
    }

    /// The first line that it says of itself.
    pub(crate) fn version(self) -> String {
        let (binary, option) = match self {
            Self::Pushrelay => (env!("CARGO_BIN_EXE_pushrelay"), "--version"),
            Self::Nghttpx => ("/usr/sbin/nghttpx", "--version"),
            Self::Haproxy | Self::HaproxyRetrying => ("/usr/sbin/haproxy", "-v"),
        };
        let said = Command::new(binary).arg(option).output().unwrap_or_else(|error| {
            panic!("{binary}: {error} (apt-get install nghttp2-proxy haproxy)")
        });
        String::from_utf8_lossy(&said.stdout).lines().next().unwrap_or_default().to_owned()
    }

    /// Its command line; files that it needs are written.
    pub(crate) fn command(self, between: &Between<'_>) -> Command {
        let mut command = match self {
            Self::Pushrelay => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_pushrelay"));
                command.args(["run", "--config"]).arg(between.directory.join("relay.yaml"));
                return command;
            }
            Self::Nghttpx => nghttpx(between),
            Self::Haproxy => haproxy(between, ""),
            Self::HaproxyRetrying => haproxy(between, "  retry-on all-retryable-errors\n"),
        };
        // Strangers have children of their own, which end with the group.
        command.process_group(0);
        command
    }

    /// What makes a successor take over.
    pub(crate) const fn succession(self) -> &'static str {
        match self {
            Self::Pushrelay => "-TERM",
            Self::Nghttpx | Self::Haproxy | Self::HaproxyRetrying => "-USR2",
        }
    }

    /// What makes it read its configuration again.
    pub(crate) const fn reload(self) -> &'static str {
        match self {
            Self::Pushrelay | Self::Nghttpx => "-HUP",
            Self::Haproxy | Self::HaproxyRetrying => "-USR2",
        }
    }
}

fn nghttpx(between: &Between<'_>) -> Command {
    let (address, origin) = (between.address, between.origin);
    let file = |name: &str| between.directory.join(name).display().to_string();
    let config = format!(
        "frontend={},{}\nbackend={},{};/;tls;proto=h2;sni={HOST}\ncacert={}\n\
         private-key-file={}\ncertificate-file={}\npid-file={}\nerrorlog-file={}\nlog-level=WARN\n\
         workers=1\nno-ocsp=yes\nno-via=yes\nno-add-x-forwarded-proto=yes\n\
         no-location-rewrite=yes\nbackend-read-timeout={}s\nbackend-connect-timeout=1s\n\
         backend-max-backoff=1s\nworker-process-grace-shutdown-period={}s\n",
        address.ip(),
        address.port(),
        origin.ip(),
        origin.port(),
        file("origin.pem"),
        file("leaf.key"),
        file("leaf.pem"),
        file("pid"),
        file("nghttpx.log"),
        between.deadline,
        between.drain,
    );
    std::fs::write(between.directory.join("nghttpx.conf"), config).unwrap();
    let mut command = Command::new("/usr/sbin/nghttpx");
    command.arg(format!("--conf={}", file("nghttpx.conf")));
    command
}

fn haproxy(between: &Between<'_>, retries: &str) -> Command {
    let file = |name: &str| between.directory.join(name).display().to_string();
    let (address, origin) = (between.address, between.origin);
    let config = format!(
        "global\n  nbthread 1\n  maxconn 4000\n  hard-stop-after {drain}s\n  stats socket {socket} \
         mode 600 level admin expose-fd listeners\ndefaults\n  mode http\n  timeout connect 1s\n  \
         timeout server {deadline}s\n  timeout client 60s\n  timeout http-request 10s\n  timeout \
         http-keep-alive 60s\n  http-reuse always\n  retries 3\n  option redispatch\n  option \
         idle-close-on-response\n{retries}frontend f\n  bind {address} ssl crt {leaf} alpn \
         h2,http/1.1\n  default_backend b\nbackend b\n  server s {origin} ssl verify required \
         ca-file {roots} sni str({HOST}) verifyhost {HOST} alpn h2\n",
        drain = between.drain,
        socket = file("haproxy.sock"),
        deadline = between.deadline,
        leaf = file("leaf.both"),
        roots = file("origin.pem"),
    );
    std::fs::write(between.directory.join("haproxy.cfg"), config).unwrap();
    let mut command = Command::new("/usr/sbin/haproxy");
    // A master with workers, in the foreground.
    command.args(["-W", "-p"]).arg(between.directory.join("pid"));
    command.arg("-f").arg(between.directory.join("haproxy.cfg"));
    command
}

/// Writes a leaf for strangers, which mint none.
pub(crate) fn write_leaf(directory: &Path, issuer: &Throwaway) {
    let leaf = issuer.leaf(HOST).unwrap();
    let chain: String = leaf.chain.iter().map(|der| pem("CERTIFICATE", der)).collect();
    let key = pem("PRIVATE KEY", leaf.key.secret_der());
    let both = format!("{chain}{key}");
    for (name, text) in [("leaf.pem", &chain), ("leaf.key", &key), ("leaf.both", &both)] {
        std::fs::write(directory.join(name), text).unwrap();
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(directory.join(name), mode).unwrap();
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem + &format!("-----END {label}-----\n")
}
