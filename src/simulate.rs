//! Simulated peers: Apple's and Google's push services, the corporate proxy between, and a sender.
//!
//! For rehearsals by operators, for the demo, and for the integration tests, which use the same
//! ones. They are strict where a real peer is strict and break where a script says so. They never
//! stand on the path of a real push, and listen on loopback unless told otherwise.

use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

pub mod apns;
pub mod authority;
pub mod fcm;
pub mod proxy;
pub mod sender;

/// Locks a record of a simulator. Each critical section only moves values, so a panic in another
/// one leaves nothing half done.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Binds a listening socket. Port 0 takes a free one. Fails where the operating system refuses.
pub(crate) async fn bind(
    address: SocketAddr,
) -> std::io::Result<(tokio::net::TcpListener, SocketAddr)> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    let bound = listener.local_addr()?;
    Ok((listener, bound))
}

/// Why a simulator or a simulated sender cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SimulateError {
    /// A socket.
    #[error("cannot use the network")]
    Io(#[from] std::io::Error),
    /// A throw-away certificate.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// TLS parameters.
    #[error("cannot set TLS up")]
    Tls(#[from] rustls::Error),
    /// A file that was brought.
    #[error("{file}: {what}")]
    File {
        /// Its path.
        file: String,
        /// What is wrong with it.
        what: String,
    },
}
