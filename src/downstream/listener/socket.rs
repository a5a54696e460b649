//! Listening sockets: opened here or inherited, and the options of accepted ones.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::TcpStream;

/// Connections that the kernel queues: a burst of senders after a restart fits.
const BACKLOG: i32 = 4096;
/// A dead peer behind a firewall that forgot the connection is noticed after about 2 minutes.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Opens a listening socket. `[::]` serves IPv6 only, so that `0.0.0.0` can stand beside it.
/// The old process may still drain connections on the same port.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    if domain == Domain::IPV6 {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Takes over a listening socket that was handed to us (socket activation).
pub fn adopt(fd: OwnedFd) -> io::Result<TcpListener> {
    let socket = Socket::from(fd);
    if !socket.is_listener()? {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a listening socket"));
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// Options of an accepted socket.
pub(super) fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE / 3).with_retries(3);
    SockRef::from(socket).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_inherited_socket_must_listen() {
        let bound = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = bound.local_addr().unwrap();
        assert_eq!(adopt(bound.into()).unwrap().local_addr().unwrap(), address);
        let other = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        adopt(other.into()).unwrap_err();
    }

    #[test]
    fn an_ipv6_wildcard_leaves_ipv4_free() {
        let Ok(six) = bind("[::]:0".parse().unwrap()) else { return };
        let port = six.local_addr().unwrap().port();
        bind(SocketAddr::new("0.0.0.0".parse().unwrap(), port)).unwrap();
    }
}
