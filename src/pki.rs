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

impl Identity {
    /// True when the leaf is good for this host (RFC 6125 §6.4: its name, or one `*` label).
    pub fn covers(&self, host: &crate::names::HostName) -> bool {
        let Some(leaf) = self.chain.first() else { return false };
        let Ok((_, leaf)) = x509_parser::parse_x509_certificate(leaf) else { return false };
        let Ok(Some(names)) = leaf.subject_alternative_name() else { return false };
        let host = host.as_str();
        names.value.general_names.iter().any(|name| {
            let x509_parser::extensions::GeneralName::DNSName(name) = name else { return false };
            let wild = name.strip_prefix("*.").zip(host.split_once('.'));
            name.eq_ignore_ascii_case(host)
                || wild.is_some_and(|(rest, (_, parent))| rest.eq_ignore_ascii_case(parent))
        })
    }
}

/// SHA-256 of a SubjectPublicKeyInfo in DER: how a key of ours is recognised in a peer's leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyFingerprint(pub [u8; 32]);
