//! TCP to the first of several addresses that answers (RFC 8305, the light way).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::hop::HopErrorKind;

/// The next address is tried when the one before has been silent for this long (RFC 8305 §5
/// allows 100 ms to 2 s; below 250 ms most connections would be opened twice).
const STAGGER: Duration = Duration::from_millis(300);
/// Probes on a silent connection: a dead peer is noticed after a minute also where HTTP/2's PING
/// does not reach, and tunnels are kept warm in the firewalls between.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// Unanswered probes that end a connection.
const KEEPALIVE_RETRIES: u32 = 3;

/// No address answered; the fault that tells most.
#[derive(Debug)]
pub(super) struct NoConnection {
    pub(super) kind: HopErrorKind,
    pub(super) source: Option<io::Error>,
}

/// Connects. Addresses of another family than `source` are left out.
pub(super) async fn connect(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    until: Instant,
) -> Result<TcpStream, NoConnection> {
    let usable = |address: &SocketAddr| source.is_none_or(|ip| ip.is_ipv4() == address.is_ipv4());
    let mut waiting = addresses.iter().copied().filter(usable);
    let mut tries = JoinSet::new();
    let mut worst = NoConnection { kind: HopErrorKind::Unreachable, source: None };
    let mut more = true;
    loop {
        if more {
            match waiting.next() {
                Some(address) => drop(tries.spawn(one(address, source))),
                None => more = false,
            }
        }
        let pause = if more { until.min(Instant::now() + STAGGER) } else { until };
        match tokio::time::timeout_at(pause, tries.join_next()).await {
            Ok(Some(Ok(Ok(stream)))) => return Ok(stream),
            Ok(Some(Ok(Err(error)))) => worst = worst.or(error),
            // A try does not panic and is not aborted while we wait for it.
            Ok(Some(Err(_ended))) => {}
            Ok(None) if more => {}
            Ok(None) => return Err(worst),
            Err(_elapsed) if Instant::now() >= until => {
                return Err(worst.or(io::ErrorKind::TimedOut.into()));
            }
            Err(_elapsed) => {}
        }
    }
}

async fn one(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if let Some(source) = source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    let stream = socket.connect(address).await?;
    // A closed loopback port in the ephemeral range can be given to ourselves as source.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE)
        .with_interval(KEEPALIVE)
        .with_retries(KEEPALIVE_RETRIES);
    SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    Ok(stream)
}

impl NoConnection {
    /// An answer tells more than silence, silence more than a missing route.
    fn or(self, error: io::Error) -> Self {
        let kind = kind(&error);
        let order = [HopErrorKind::Unreachable, HopErrorKind::Timeout, HopErrorKind::Refused];
        let rank = |kind: &HopErrorKind| order.iter().position(|one| one == kind);
        if self.source.is_none() || rank(&kind) > rank(&self.kind) {
            return Self { kind, source: Some(error) };
        }
        self
    }
}

/// The operating system's word in ours.
#[expect(clippy::wildcard_enum_match_arm, reason = "not our enum, and it grows")]
pub(super) fn kind(error: &io::Error) -> HopErrorKind {
    use io::ErrorKind as E;
    match error.kind() {
        E::ConnectionRefused => HopErrorKind::Refused,
        E::TimedOut => HopErrorKind::Timeout,
        E::HostUnreachable | E::NetworkUnreachable | E::NetworkDown => HopErrorKind::Unreachable,
        E::ConnectionReset | E::ConnectionAborted | E::BrokenPipe | E::UnexpectedEof => {
            HopErrorKind::Closed
        }
        other => HopErrorKind::Io(other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::TcpListener;

    use super::*;

    async fn closed() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
    }

    /// D7: all addresses are tried.
    #[tokio::test]
    async fn d7_the_next_address_follows_a_refusal_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let addresses = [closed().await, closed().await, open];
        let until = Instant::now() + Duration::from_secs(10);
        let stream = connect(&addresses, None, until).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), open);
        assert!(stream.nodelay().unwrap() && SockRef::from(&stream).keepalive().unwrap());
    }

    #[tokio::test]
    async fn the_source_address_is_bound_and_other_families_are_left_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let open = listener.local_addr().unwrap();
        let until = Instant::now() + Duration::from_secs(10);
        let source: IpAddr = "127.0.0.9".parse().unwrap();
        let v6 = "[::1]:1".parse().unwrap();
        let stream = connect(&[v6, open], Some(source), until).await.unwrap();
        assert_eq!(stream.local_addr().unwrap().ip(), source);
        let none = connect(&[v6], Some(source), until).await.unwrap_err();
        assert_eq!(none.kind, HopErrorKind::Unreachable);
    }

    #[test]
    fn the_most_telling_fault_is_reported() {
        let first = NoConnection { kind: HopErrorKind::Unreachable, source: None };
        let kinds = [
            io::ErrorKind::NetworkUnreachable,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::TimedOut,
        ];
        let worst = kinds.into_iter().fold(first, |worst, kind| worst.or(kind.into()));
        assert_eq!(worst.kind, HopErrorKind::Refused);
    }
}
