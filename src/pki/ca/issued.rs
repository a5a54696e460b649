//! What a CA certificate says about itself, for people.

use rustls::pki_types::CertificateDer;

use super::{CaError, NameLimits, path_length};
use crate::pki::{KeyFingerprint, parse, sha256};

/// A CA certificate, read. Its text comes from a file: clean it before it is shown.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Its subject.
    pub subject: String,
    /// SHA-256 of the whole certificate as `AA:BB:..`, as trust stores show it.
    pub fingerprint: String,
    /// SHA-256 of its key.
    pub key_fingerprint: KeyFingerprint,
    /// Its end, seconds since 1970.
    pub not_after: i64,
    /// How many CAs may stand below it.
    pub path_length: Option<u32>,
    /// What it may issue for.
    pub limits: NameLimits,
}

impl Issued {
    /// Reads a certificate.
    ///
    /// # Errors
    /// [`CaError::Unreadable`].
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, CaError> {
        let unreadable = CaError::Unreadable { number: 1 };
        let Some(certificate) = parse(der) else {
            return Err(unreadable);
        };
        let hex: Vec<_> = sha256(der).iter().map(|byte| format!("{byte:02X}")).collect();
        Ok(Self {
            subject: certificate.subject().to_string(),
            fingerprint: hex.join(":"),
            key_fingerprint: KeyFingerprint::of_spki(certificate.public_key().raw),
            not_after: certificate.validity().not_after.timestamp(),
            path_length: path_length(&certificate),
            limits: NameLimits::of(&certificate).ok_or(unreadable)?,
        })
    }
}
