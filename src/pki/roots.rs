//! What a peer's certificate may chain to.

use std::sync::Arc;

use rustls::RootCertStore;

/// Roots of an egress, a proxy or a listener.
#[derive(Debug)]
pub struct Roots {
    /// For rustls.
    pub store: Arc<RootCertStore>,
    /// Of these, the ones from files, by DER SubjectPublicKeyInfo: a chain that ends at one was
    /// re-signed by an inspector.
    pub from_files: Vec<Vec<u8>>,
}
