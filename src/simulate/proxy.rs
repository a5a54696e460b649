//! A simulated corporate proxy: CONNECT, open or with Basic, refusing, slow, broken, or inspecting
//! TLS as an old HTTP/1.1-only box does.
//!
//! It records what it was asked for, never a credential. Names lead where the map says, so that
//! everything stays on this machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::authority::Throwaway;
use super::{SimulateError, bind, lock};

mod inspect;
mod tunnel;

/// Clients are on this machine; a head that takes longer does not come.
const HEAD: Duration = Duration::from_secs(15);
/// A head above this is refused.
const MAX_HEAD: usize = 64 * 1024;
/// Connections remembered; later ones are only counted.
const MAX_SEEN: usize = 10_000;

/// What the proxy does with a CONNECT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Manner {
    /// Opens the tunnel.
    Tunnel,
    /// Ends TLS with its own leaves and forwards HTTP/1.1, adding what Squid's ssl-bump adds.
    Inspect,
    /// Ends TLS, answers no ALPN, and carries the bytes on in TLS without ALPN.
    StripAlpn,
    /// Refuses with this status and an HTML page.
    Refuse(u16),
    /// 407 with these challenges, whatever comes.
    Challenge(Vec<String>),
    /// 200, then an HTML page instead of the origin's TLS.
    BlockPage,
    /// 200, TLS with its own leaf, then an HTML page as the answer to any request.
    BlockPageInside,
    /// 200, then TCP RST.
    ResetAfterConnect,
    /// 200, then silence.
    HangAfterConnect,
    /// This many 1xx answers before the 200.
    Chatty(u32),
    /// 200 with extra bytes behind it that belong to nobody.
    ExtraBytes,
    /// No answer to CONNECT at all.
    Mute,
}

/// How the proxy behaves; may change while it runs.
#[derive(Debug, Clone)]
pub struct Conduct {
    /// What it does with a CONNECT.
    pub manner: Manner,
    /// User name and password that Basic must bring.
    pub basic: Option<(String, String)>,
    /// Each answer to CONNECT comes this much later.
    pub delay: Duration,
    /// Tunnels without a byte for this long are cut.
    pub idle: Option<Duration>,
    /// Only these ports may be reached; empty is any.
    pub ports: Vec<u16>,
    /// Where `host:port` leads; others are refused with 503, because nothing leaves this machine.
    pub map: BTreeMap<String, SocketAddr>,
    /// `true`: connections are accepted and cut at once.
    pub down: bool,
}

impl Default for Conduct {
    /// An open proxy with an empty map.
    fn default() -> Self {
        Self {
            manner: Manner::Tunnel,
            basic: None,
            delay: Duration::ZERO,
            idle: None,
            ports: Vec::new(),
            map: BTreeMap::new(),
            down: false,
        }
    }
}

/// One connection as the proxy saw it.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Seen {
    /// The target of CONNECT.
    pub target: String,
    /// Names of the fields of CONNECT, in order.
    pub fields: Vec<String>,
    /// The scheme of Proxy-Authorization, never its value.
    pub credentials: Option<String>,
    /// The status that answered CONNECT; 0 for none.
    pub status: u16,
    /// ALPN that an inspected client offered the proxy.
    pub offered: Vec<String>,
    /// ALPN that the next hop chose behind an inspecting proxy.
    pub chosen: Option<String>,
    /// Requests forwarded by an inspecting proxy, as `METHOD HTTP/1.x -> status`.
    pub forwarded: Vec<String>,
}

#[derive(Debug)]
pub(crate) struct Shared {
    conduct: Mutex<Conduct>,
    seen: Mutex<Vec<Seen>>,
    authority: Arc<Throwaway>,
    upstream_roots: Arc<rustls::RootCertStore>,
    cut: broadcast::Sender<()>,
}

impl Shared {
    fn update(&self, at: Option<usize>, change: impl FnOnce(&mut Seen)) {
        let mut seen = lock(&self.seen);
        if let Some(seen) = at.and_then(|at| seen.get_mut(at)) {
            change(seen);
        }
    }
}

/// A running proxy. Dropping it cuts its connections and frees the port.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Starts; an inspecting one mints from `authority` and trusts `upstream_roots` behind it.
    /// Fails where the address cannot be bound.
    pub async fn start(
        address: SocketAddr,
        authority: Arc<Throwaway>,
        upstream_roots: Arc<rustls::RootCertStore>,
        conduct: Conduct,
    ) -> Result<Self, SimulateError> {
        let (listener, address) = bind(address).await?;
        let shared = Arc::new(Shared {
            conduct: Mutex::new(conduct),
            seen: Mutex::default(),
            authority,
            upstream_roots,
            cut: broadcast::channel(1).0,
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { address, shared, accepting })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A copy of what it saw.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// Cuts every open connection, as a restart does.
    pub fn cut(&self) {
        // Without connections nobody listens, which is fine.
        let _ = self.shared.cut.send(());
    }

    /// Changes how it behaves from now on.
    pub fn change(&self, change: impl FnOnce(&mut Conduct)) {
        change(&mut lock(&self.shared.conduct));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((tcp, _peer)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if lock(&shared.conduct).down {
            continue;
        }
        // A socket that cannot be told not to wait still works.
        let _ = tcp.set_nodelay(true);
        let shared = Arc::clone(&shared);
        let mut cut = shared.cut.subscribe();
        connections.spawn(async move {
            // A broken connection is the client's to notice, and so is a cut one.
            tokio::select! {
                _ended = serve(tcp, &shared) => {}
                _cut = cut.recv() => {}
            }
        });
    }
}

/// The head of a request or answer: its first line and fields, in order.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) line: String,
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    /// The first value of a field, named in lower case.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.fields.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }
}

/// Reads a head byte by byte, so that nothing behind it is taken; `None` at a clean end.
pub(crate) async fn read_head<IO: AsyncRead + Unpin>(io: &mut IO) -> std::io::Result<Option<Head>> {
    let mut raw = Vec::with_capacity(512);
    while !raw.ends_with(b"\r\n\r\n") {
        if raw.len() > MAX_HEAD {
            return Err(std::io::ErrorKind::InvalidData.into());
        }
        let mut byte = [0];
        if io.read(&mut byte).await? == 0 {
            return if raw.is_empty() {
                Ok(None)
            } else {
                Err(std::io::ErrorKind::UnexpectedEof.into())
            };
        }
        raw.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&raw);
    let mut lines = text.lines();
    let line = lines.next().unwrap_or_default().to_owned();
    let field = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_owned(), value.trim().to_owned()))
    };
    Ok(Some(Head { line, fields: lines.filter_map(field).collect() }))
}

async fn serve(mut tcp: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    // Refused challenges keep the connection, as real proxies do for the next leg.
    loop {
        let Ok(head) = timeout(HEAD, read_head(&mut tcp)).await else { return Ok(()) };
        let Some(head) = head? else { return Ok(()) };
        let conduct = lock(&shared.conduct).clone();
        let mut words = head.line.split(' ');
        let (method, target) = (words.next(), words.next().unwrap_or_default().to_owned());
        let at = remember(shared, &head, &target);
        if method != Some("CONNECT") {
            shared.update(at, |seen| seen.status = 405);
            return refuse(&mut tcp, 405, &[]).await;
        }
        tokio::time::sleep(conduct.delay).await;
        if let Some((status, challenges)) = refusal(&conduct, &head, &target) {
            shared.update(at, |seen| seen.status = status);
            refuse(&mut tcp, status, &challenges).await?;
            if status == 407 {
                continue;
            }
            return Ok(());
        }
        let Some(next) = conduct.map.get(&target).copied() else { return Ok(()) };
        return tunnel::open(tcp, shared, at, (&target, next), &conduct).await;
    }
}

fn remember(shared: &Shared, head: &Head, target: &str) -> Option<usize> {
    let mut seen = lock(&shared.seen);
    if seen.len() >= MAX_SEEN {
        return None;
    }
    let scheme = |value: &str| value.split(' ').next().unwrap_or_default().to_owned();
    seen.push(Seen {
        target: target.to_owned(),
        fields: head.fields.iter().map(|(name, _)| name.clone()).collect(),
        credentials: head.get("proxy-authorization").map(scheme),
        ..Seen::default()
    });
    Some(seen.len() - 1)
}

/// The status and challenges with which a CONNECT is refused, if it is.
fn refusal(conduct: &Conduct, head: &Head, target: &str) -> Option<(u16, Vec<String>)> {
    if let Some((user, password)) = &conduct.basic {
        let want = base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
        let brought = head.get("proxy-authorization").and_then(|value| value.split_once(' '));
        if brought.is_none_or(|(s, v)| !s.eq_ignore_ascii_case("basic") || v != want) {
            return Some((407, vec!["Basic realm=\"simulated proxy\"".to_owned()]));
        }
    }
    match &conduct.manner {
        Manner::Refuse(status) => return Some((*status, Vec::new())),
        Manner::Challenge(challenges) => return Some((407, challenges.clone())),
        Manner::BlockPage
        | Manner::BlockPageInside
        | Manner::Chatty(_)
        | Manner::ExtraBytes
        | Manner::HangAfterConnect
        | Manner::Inspect
        | Manner::Mute
        | Manner::ResetAfterConnect
        | Manner::StripAlpn
        | Manner::Tunnel => {}
    }
    let port = target.rsplit(':').next().and_then(|port| port.parse().ok());
    if !conduct.ports.is_empty() && port.is_none_or(|port| !conduct.ports.contains(&port)) {
        return Some((403, Vec::new()));
    }
    (!conduct.map.contains_key(target)).then(|| (503, Vec::new()))
}

/// An HTML page as proxies show it.
pub(crate) fn page(status: u16) -> String {
    format!("<html><head><title>{status}</title></head><body>Blocked by policy</body></html>")
}

async fn refuse<IO: AsyncWrite + Unpin>(
    io: &mut IO,
    status: u16,
    challenges: &[String],
) -> std::io::Result<()> {
    let page = page(status);
    let mut answer = format!(
        "HTTP/1.1 {status} Refused\r\nVia: 1.1 simulated-proxy\r\nContent-Type: text/html\r\n\
         Content-Length: {}\r\n",
        page.len()
    );
    for challenge in challenges {
        answer.push_str(&format!("Proxy-Authenticate: {challenge}\r\n"));
    }
    let connection = if status == 407 { "keep-alive" } else { "close" };
    answer.push_str(&format!("Connection: {connection}\r\n\r\n{page}"));
    io.write_all(answer.as_bytes()).await
}
