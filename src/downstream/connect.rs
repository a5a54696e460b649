//! Senders that use us as their HTTP proxy: CONNECT.
//!
//! `head` parses strictly; [`judge`] decides purely: only hosts that a route names, or the
//! listener's `tunnel` list. What follows the 200 (TLS ended here, or carried) is `listener`'s.
//! The answer is exactly one line, because senders compare it literally.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::listener::{HostRule, Hosts};
use crate::config::{BasicCredentials, Listener, Secret, TlsMode};
use crate::hop::{HopError, HopErrorKind};
use crate::relay::answer::proxy_status;

pub mod head;

pub use head::{Basic, ConnectHead};

/// The answer that opens a tunnel: aioapns waits for these very octets, sygnal for status 200.
pub const ESTABLISHED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
/// The largest head of a CONNECT; a Kerberos token, which we ignore, may have 12 KiB.
pub const LARGEST_HEAD: usize = 16 * 1024;

/// Where a permitted CONNECT leads.
#[derive(Debug, Clone)]
pub enum Way {
    /// TLS is carried untouched to a routed host.
    Passthrough(HostRule),
    /// TLS is ended here.
    Terminate(HostRule),
    /// Everything is carried untouched to a target of the `tunnel` list.
    Tunnel,
}

/// Why a CONNECT is refused; nothing was dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectRefusal {
    /// No route and no `tunnel` entry names the target.
    #[error("no route names this target")]
    Target,
    /// Credentials are missing or wrong.
    #[error("proxy credentials are missing or wrong")]
    Credentials,
    /// Not a CONNECT as it should be.
    #[error("malformed CONNECT: {0}")]
    Malformed(&'static str),
}

impl ConnectRefusal {
    /// What the sender gets; the connection is closed after it.
    pub fn answer(self) -> Vec<u8> {
        let (status, extra) = match self {
            Self::Target => ("403 Forbidden", ""),
            Self::Credentials => (
                "407 Proxy Authentication Required",
                "Proxy-Authenticate: Basic realm=\"pushrelay\", charset=\"UTF-8\"\r\n",
            ),
            Self::Malformed(_) => ("400 Bad Request", ""),
        };
        let kind = match self {
            Self::Target | Self::Credentials => "http_request_denied",
            Self::Malformed(_) => "http_request_error",
        };
        let extra = format!(
            "{extra}Proxy-Status: pushrelay; error={kind}; details=\"sender connect {self}\"; \
             outcome=relay_refused\r\n"
        );
        answer(status, &extra, &self.to_string())
    }
}

/// Judges target and credentials. `password`: that of `connect_credentials`.
pub fn judge(
    head: &ConnectHead,
    listener: &Listener,
    password: Option<&Secret>,
    hosts: &dyn Hosts,
) -> Result<Way, ConnectRefusal> {
    if let Some(expected) = &listener.connect_credentials
        && !head.basic.as_ref().is_some_and(|basic| matches(basic, expected, password))
    {
        return Err(ConnectRefusal::Credentials);
    }
    let rule = head.target.host.name().and_then(|host| hosts.find(host));
    match rule.filter(|rule| rule.ports.contains(&head.target.port)) {
        Some(rule) => Ok(match rule.tls {
            TlsMode::Passthrough => Way::Passthrough(rule),
            TlsMode::Terminate => Way::Terminate(rule),
        }),
        None if listener.tunnel.contains(&head.target) => Ok(Way::Tunnel),
        None => Err(ConnectRefusal::Target),
    }
}

/// Compares in a time that tells nothing about either side: digests have one length.
fn matches(basic: &Basic, expected: &BasicCredentials, password: Option<&Secret>) -> bool {
    // Without the password's value nobody gets in.
    let Some(password) = password else { return false };
    let mut whole = expected.username.clone().into_bytes();
    whole.push(b':');
    whole.extend_from_slice(password.expose());
    let ours = digest(&SHA256, &whole);
    zeroize::Zeroize::zeroize(&mut whole);
    let theirs = digest(&SHA256, basic.expose());
    verify_slices_are_equal(ours.as_ref(), theirs.as_ref()).is_ok()
}

/// Reads a head from what was read already and from `io`; the rest stays in `buffer`. The caller
/// sets the deadline. `Ok(None)`: the sender went away.
pub async fn read<IO: AsyncRead + Unpin>(
    io: &mut IO,
    buffer: &mut BytesMut,
) -> std::io::Result<Option<Result<ConnectHead, ConnectRefusal>>> {
    loop {
        match head::parse(buffer) {
            Ok(Some((head, used))) => {
                bytes::Buf::advance(buffer, used);
                return Ok(Some(Ok(head)));
            }
            Ok(None) => {}
            Err(refusal) => return Ok(Some(Err(refusal))),
        }
        buffer.reserve(1024);
        if io.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// The answer where the way out failed before the tunnel was opened: `Proxy-Status` in the words
/// of every other answer of ours, a status by RFC 9209 §2.3's recommendation.
pub fn failed(error: &HopError) -> Vec<u8> {
    let said = proxy_status::tunnel(error);
    let extra = format!("Proxy-Status: {}\r\n", said.to_str().unwrap_or_default());
    let text = format!("{} ({}): {}", error.hop, error.stage, error.kind);
    answer(failure(&error.kind), &extra, &text)
}

const fn failure(kind: &HopErrorKind) -> &'static str {
    match kind {
        HopErrorKind::Timeout => "504 Gateway Timeout",
        HopErrorKind::BudgetExhausted
        | HopErrorKind::Draining
        | HopErrorKind::Overloaded
        | HopErrorKind::SenderGone
        | HopErrorKind::Unrecorded => "503 Service Unavailable",
        HopErrorKind::Alert(_)
        | HopErrorKind::AlpnNotH2 { .. }
        | HopErrorKind::Certificate { .. }
        | HopErrorKind::Closed
        | HopErrorKind::CredentialsLatched
        | HopErrorKind::CredentialsMissing(_)
        | HopErrorKind::CredentialsRefused(_)
        | HopErrorKind::CredentialsUnusable(_)
        | HopErrorKind::ForeignAnswer { .. }
        | HopErrorKind::GoAway { .. }
        | HopErrorKind::Io(_)
        | HopErrorKind::Loop(_)
        | HopErrorKind::NameNotFound
        | HopErrorKind::NameRefused(_)
        | HopErrorKind::NotTheProtocol { .. }
        | HopErrorKind::Protocol(_)
        | HopErrorKind::ProxyRefused(_)
        | HopErrorKind::Refused
        | HopErrorKind::Reset { .. }
        | HopErrorKind::Unreachable => "502 Bad Gateway",
    }
}

fn answer(status: &str, extra: &str, text: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status}\r\n{extra}Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{text}\n",
        text.len() + 1
    )
    .into_bytes()
}

/// Writes an answer and closes; the last unread octets are waited for, so that the answer arrives.
pub async fn say<IO: AsyncRead + AsyncWrite + Unpin>(io: IO, octets: &[u8]) {
    let mut io = crate::io::Guarded::new(io, std::time::Duration::from_secs(5));
    // The connection ends either way.
    let _ = io.write_all(octets).await;
    let _ = io.flush().await;
    let _ = io.shutdown().await;
}
