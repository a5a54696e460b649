//! The byte streams that a dial ends with: enums, so that a push costs no virtual call.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

/// Most first bytes that a handshake remembers, octets: enough to tell a page from a protocol.
const FIRST_CAP: usize = 512;

/// What TLS with the origin, or a cleartext origin, runs over.
#[derive(Debug)]
pub enum Transport {
    /// TLS to the proxy underneath.
    ProxyTls(Box<TlsStream<Witness<TcpStream>>>),
    /// TCP, straight or through a tunnel.
    Tcp(TcpStream),
}

/// A usable connection.
#[derive(Debug)]
pub enum Stream {
    /// Cleartext.
    Plain(Transport),
    /// TLS with the origin.
    Tls(Box<TlsStream<Witness<Transport>>>),
}

/// Remembers the first bytes that come in until told to forget them: what answered a ClientHello
/// when it was no TLS.
#[derive(Debug)]
pub struct Witness<IO> {
    io: IO,
    first: Option<Vec<u8>>,
}

impl<IO> Witness<IO> {
    pub(in crate::upstream) const fn new(io: IO) -> Self {
        Self { io, first: Some(Vec::new()) }
    }

    pub(in crate::upstream) fn forget(&mut self) {
        self.first = None;
    }

    pub(in crate::upstream) fn into_first(self) -> Vec<u8> {
        self.first.unwrap_or_default()
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Witness<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buf);
        if let Some(first) = &mut self.first {
            let room = FIRST_CAP.saturating_sub(first.len());
            let new = &buf.filled()[before..];
            first.extend_from_slice(&new[..new.len().min(room)]);
        }
        polled
    }
}

/// Forwards writing to whatever `$inner` selects.
macro_rules! forward_write {
    () => {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            each!(self.get_mut(), io => Pin::new(io).poll_write(cx, buf))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            bufs: &[io::IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            each!(self.get_mut(), io => Pin::new(io).poll_write_vectored(cx, bufs))
        }

        fn is_write_vectored(&self) -> bool {
            each!(self, io => io.is_write_vectored())
        }

        fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            each!(self.get_mut(), io => Pin::new(io).poll_flush(cx))
        }

        fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            each!(self.get_mut(), io => Pin::new(io).poll_shutdown(cx))
        }
    };
}

macro_rules! each {
    ($witness:expr, $io:ident => $call:expr) => {{
        let Witness { io: $io, .. } = $witness;
        $call
    }};
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Witness<IO> {
    forward_write!();
}

macro_rules! each {
    ($transport:expr, $io:ident => $call:expr) => {
        match $transport {
            Transport::ProxyTls($io) => $call,
            Transport::Tcp($io) => $call,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    forward_write!();
}

macro_rules! each {
    ($stream:expr, $io:ident => $call:expr) => {
        match $stream {
            Stream::Plain($io) => $call,
            Stream::Tls($io) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self.get_mut(), io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    forward_write!();
}
