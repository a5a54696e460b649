//! The validated configuration: whoever holds a [`Config`] holds a valid one.
//!
//! `raw` mirrors relay.yaml, `validate` turns it into these types and collects every problem,
//! `material` reads the files that the configuration names. Nothing here opens a port.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ipnet::IpNet;

use crate::names::{Authority, Host, HostName};
use crate::provider::{Dialect, Provider};

pub mod effective;
pub mod fixed;
pub mod flows;
pub mod material;
pub mod problem;
pub mod raw;
pub mod secret;
pub mod validate;

#[cfg(test)]
mod shipped;

pub use problem::{Invalid, Places, Problem};
pub use secret::{Secret, SecretSource};

/// relay.yaml, validated. No file that it names has been read yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Where it was read from; relative paths were resolved against its folder.
    pub path: PathBuf,
    /// A label for messages and pre-flight checks; no behaviour depends on it.
    pub placement: Option<Placement>,
    /// How long a drain may take.
    pub drain: Duration,
    /// Where senders arrive.
    pub listeners: Vec<Arc<Listener>>,
    /// What is carried where.
    pub routes: Vec<Arc<Route>>,
    /// The ways out, by name; `direct` is always there.
    pub egress: BTreeMap<EgressName, Arc<Egress>>,
    /// The issuer that mints leaves, as written; `None` = the default files, when they exist
    /// ([`Config::issuer_files`]).
    pub issuer: Option<KeyPairFiles>,
    /// Leaves brought as files.
    pub leaves: Vec<KeyPairFiles>,
    /// Bounds of the whole process.
    pub limits: Limits,
    /// The admin server.
    pub admin: Admin,
    /// Logging.
    pub log: Log,
    /// The audit log.
    pub audit: Audit,
    /// Where everything stands in the file, for problems that are found later.
    pub places: Arc<Places>,
}

impl Config {
    /// The hosts whose TLS ends here: each needs a leaf.
    pub fn hosts(&self) -> BTreeSet<HostName> {
        let ended = self.routes.iter().filter(|route| route.tls == TlsMode::Terminate);
        ended.flat_map(|route| &route.hosts).map(|host| host.host.clone()).collect()
    }

    /// Whether any listener shows certificates.
    pub fn ends_tls(&self) -> bool {
        self.listeners.iter().any(|listener| listener.accept.tls || listener.accept.connect)
    }

    /// The folder of relay.yaml, absolute: what relative paths are relative to.
    pub fn folder(&self) -> PathBuf {
        folder_of(&self.path)
    }

    /// Where the issuer is, or would be: as written, else certs/issuer.pem and certs/issuer.key
    /// beside relay.yaml.
    pub fn issuer_files(&self) -> KeyPairFiles {
        self.issuer.clone().unwrap_or_else(|| {
            let certs = self.folder().join("certs");
            KeyPairFiles { chain: certs.join("issuer.pem"), key: certs.join("issuer.key") }
        })
    }
}

/// The folder of a file, absolute where the working directory is known.
fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    std::path::absolute(folder).unwrap_or_else(|_no_working_directory| folder.to_owned())
}

/// `placement:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    /// Before the corporate proxy.
    Pre,
    /// After it.
    Post,
}

/// A chain and its key, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPairFiles {
    /// PEM, leaf first.
    pub chain: PathBuf,
    /// PEM, PKCS#8, PKCS#1 or SEC1, not encrypted.
    pub key: PathBuf,
}

/// One of `listeners:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name in logs and metrics.
    pub name: String,
    /// Sockets.
    pub bind: Vec<SocketAddr>,
    /// What may arrive; told apart by the first bytes.
    pub accept: Accept,
    /// Further targets that CONNECT may reach, untouched.
    pub tunnel: Vec<Authority>,
    /// After this (with jitter) a connection is asked to reconnect.
    pub max_age: Option<Duration>,
    /// Asked of CONNECT senders.
    pub connect_credentials: Option<BasicCredentials>,
    /// Who may connect; empty only where every bind is loopback or certificates are required.
    pub networks: Vec<IpNet>,
    /// Client certificates.
    pub sender_certificates: Option<SenderCertificates>,
    /// Peers that must send a PROXY header; others must not.
    pub proxy_protocol: Vec<IpNet>,
    /// Keys of pre relays; empty = no signature is demanded.
    pub signatures: Vec<SecretSource>,
    /// Leaf for senders without SNI.
    pub default_host: Option<HostName>,
}

/// `accept:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accept {
    /// TLS.
    pub tls: bool,
    /// HTTP CONNECT.
    pub connect: bool,
    /// Plain HTTP.
    pub plain: bool,
}

/// `sender_certificates:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderCertificates {
    /// What they must chain to.
    pub roots: Vec<RootSource>,
    /// Without one the handshake fails.
    pub require: bool,
}

/// User and password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasicCredentials {
    /// Never with a colon.
    pub username: String,
    /// Where the password is.
    pub password: SecretSource,
}

/// One of `routes:`, with its preset expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its name in logs and metrics; the provider's word where none was given.
    pub name: String,
    /// The provider.
    pub provider: Provider,
    /// Every host it serves.
    pub hosts: Vec<Arc<RouteHost>>,
    /// The way out.
    pub egress: EgressName,
    /// APNs topics allowed; empty = all.
    pub topics: Vec<String>,
    /// JWT issuers allowed; empty = all.
    pub teams: Vec<String>,
    /// JWT key ids allowed; empty = all.
    pub keys: Vec<String>,
    /// Largest request body, octets.
    pub body: usize,
    /// End TLS here or carry it.
    pub tls: TlsMode,
    /// How `not_sent` is told to the sender.
    pub when_unsent: WhenUnsent,
    /// How `unknown` is told to the sender.
    pub when_unknown: WhenUnknown,
    /// From the first byte of the head to the answer.
    pub deadline: Duration,
    /// Our own APNs client certificate.
    pub provider_identity: Option<KeyPairFiles>,
    /// Who stands beyond the egress.
    pub next_hop: NextHop,
}

/// A host of a route: what senders call it, where it leads, what is permitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteHost {
    /// What stands in `:authority`, SNI or the CONNECT target.
    pub host: HostName,
    /// `https` upstream, or `http` for an origin of one's own.
    pub scheme: Scheme,
    /// The origin's host; the same as `host` in presets.
    pub origin: Host,
    /// The origin's ports, in the order tried. Senders may name any of them.
    pub ports: Vec<u16>,
    /// Methods and paths; empty = all.
    pub permitted: Vec<Permitted>,
    /// The dialect of our own answers.
    pub dialect: Dialect,
    /// What is spoken upstream.
    pub protocol: Protocol,
}

/// One permitted combination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permitted {
    /// Methods; empty = all but CONNECT and TRACE.
    pub methods: Vec<Method>,
    /// The path, without the query.
    pub path: PathPattern,
}

/// Exact, or a prefix by one trailing `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathPattern {
    /// The whole path.
    Exact(String),
    /// Everything that begins so and has at least one more character.
    Prefix(String),
    /// `/1/apps/*/channels`-like preset patterns: prefix, one non-empty segment, suffix.
    Segment(String, String),
}

impl PathPattern {
    /// A pattern of a preset's table: `*` at the end is any rest, elsewhere one segment.
    pub fn preset(text: &str) -> Self {
        match text.split_once('*') {
            None => Self::Exact(text.to_owned()),
            Some((prefix, "")) => Self::Prefix(prefix.to_owned()),
            Some((prefix, suffix)) => Self::Segment(prefix.to_owned(), suffix.to_owned()),
        }
    }
}

impl fmt::Display for PathPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => f.write_str(path),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Segment(prefix, suffix) => write!(f, "{prefix}*{suffix}"),
        }
    }
}

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scheme {
    /// Cleartext.
    Http,
    /// TLS.
    Https,
}

/// `tls:` of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// Carry the sender's TLS untouched.
    Passthrough,
    /// End it here.
    Terminate,
}

/// `when_unsent:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnsent {
    /// Always answer.
    Answer,
    /// Refuse the stream to Go's client while an outage is young, else answer.
    Auto,
    /// Always refuse the stream.
    Refuse,
}

/// `when_unknown:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenUnknown {
    /// An answer that no sender repeats.
    Final,
    /// An answer that senders repeat.
    Retry,
}

/// `next_hop:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHop {
    /// The provider itself.
    Origin,
    /// Another pushrelay.
    Relay {
        /// Signs what it gets, when set.
        sign_with: Option<SecretSource>,
    },
}

/// `protocol:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// By ALPN.
    Auto,
    /// HTTP/2 or nothing.
    H2,
    /// HTTP/1.1 only.
    Http1,
}

impl EgressName {
    /// The name of the way out that is always there.
    pub const DIRECT: &str = "direct";

    /// The way out that is always there.
    pub fn direct() -> Self {
        Self(Self::DIRECT.into())
    }
}

/// A key of `egress:`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EgressName(pub Arc<str>);

impl fmt::Display for EgressName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One of `egress:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// Its key.
    pub name: EgressName,
    /// In order; empty = direct.
    pub proxies: Vec<EgressProxy>,
    /// What the origin's certificate may chain to.
    pub roots: Vec<RootSource>,
    /// Name lookup of a direct egress and of the proxies' own names.
    pub dns: Dns,
    /// Dial elsewhere; name, SNI and verification stay.
    pub connect_to: BTreeMap<Authority, Authority>,
    /// Outgoing address.
    pub source: Option<IpAddr>,
    /// Offer the ML-KEM key share.
    pub post_quantum: bool,
    /// Speak h2 although ALPN did not say so.
    pub assume_h2: bool,
    /// Bounds of its lanes.
    pub lane: LaneLimits,
}

/// A proxy of an egress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EgressProxy {
    /// TLS to the proxy itself.
    pub tls: bool,
    /// Where it is.
    pub authority: Authority,
    /// What it is told.
    pub credentials: Option<ProxyCredentials>,
    /// What its certificate may chain to (`https://` only).
    pub roots: Vec<RootSource>,
}

/// Credentials for a proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProxyCredentials {
    /// RFC 7617.
    Basic(BasicCredentials),
    /// Kerberos through the system's GSSAPI.
    Negotiate {
        /// Overrides `HTTP@proxy-host`.
        spn: Option<String>,
    },
    /// NTLMv2.
    Ntlm {
        /// The Windows domain; may be empty.
        domain: String,
        /// The account.
        basic: BasicCredentials,
    },
}

/// Where trust comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootSource {
    /// The Mozilla roots in this binary.
    Bundled,
    /// A PEM file.
    File(PathBuf),
    /// The operating system's.
    System,
}

/// `dns:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dns {
    /// Who is asked; empty = the system's servers, past a loopback stub.
    pub servers: Vec<SocketAddr>,
    /// Read the hosts file too.
    pub hosts_file: bool,
}

/// `lane:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneLimits {
    /// HTTP/2 connections of a lane.
    pub connections: usize,
    /// HTTP/1.1 connections of a lane.
    pub http1_connections: usize,
    /// Streams of a connection, below what the peer allows.
    pub streams: usize,
    /// Lanes of an egress.
    pub lanes: usize,
    /// Pushes waiting in a lane.
    pub queue: usize,
    /// An idle connection is PINGed this often.
    pub ping: Duration,
    /// New connections a second, towards one origin.
    pub dials_per_second: u32,
}

/// `limits:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Downstream connections.
    pub connections: usize,
    /// Exchanges under way.
    pub exchanges: usize,
    /// Request head, octets decoded.
    pub head: usize,
    /// Request body where no preset says otherwise, octets.
    pub body: usize,
}

/// `admin:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin {
    /// `None` = off.
    pub bind: Option<SocketAddr>,
    /// Who may ask besides loopback.
    pub networks: Vec<IpNet>,
    /// Required of everybody but loopback.
    pub token: Option<SecretSource>,
    /// A running relay climbs ladders by itself where pushes fail.
    pub probe: bool,
}

impl Admin {
    /// Where the admin server listens unless told otherwise: loopback, port 9380.
    pub const fn default_bind() -> SocketAddr {
        SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9380)
    }
}

/// `log:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Access lines at all.
    pub access: bool,
    /// Of accepted exchanges one line in so many; others always.
    pub sample: u32,
}

/// `log.format:`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// journald fields.
    Journald,
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// `audit:`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// `None` = off.
    pub path: Option<PathBuf>,
    /// Refuse exchanges that cannot be recorded, instead of dropping the record.
    pub refuse_when_full: bool,
}
