//! Certificates: the issuer and its leaves, identities brought as files, roots.
//!
//! Reads and mints; never opens a socket and never logs a key.

pub mod ca;
pub mod leaf;
pub mod pem;
pub mod roots;

use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A chain (leaf first) and the key of its leaf, checked to belong together.
#[derive(Debug)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

/// SHA-256 of a SubjectPublicKeyInfo in DER: how a key of ours is recognised in a peer's leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyFingerprint(pub [u8; 32]);
