//! HTTP/1 towards senders.

use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncWrite};

use super::lease::Lease;
use super::{Handle, Sender};

/// Bounds of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Http1Limits {
    /// Request head, octets.
    pub head: usize,
    /// Quiet after a first request.
    pub idle: std::time::Duration,
}

impl Default for Http1Limits {
    fn default() -> Self {
        Self { head: 16 * 1024, idle: std::time::Duration::from_secs(180) }
    }
}

/// Serves a connection to its end.
pub async fn serve<IO, H>(
    io: IO,
    sender: Rc<Sender>,
    handle: Rc<H>,
    limits: Http1Limits,
    lease: Lease,
) where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
    H: Handle,
{
    drop((io, sender, handle, limits, lease));
    tokio::task::yield_now().await;
}
