//! The issuer that mints leaves.
//!
//! Loads a chain and its key, checks that they can issue, and mints leaves for single hosts.
//! Every minted chain is verified as a sender would before anybody gets it. The same type stands
//! for the offline root while `ca init` and `ca extend` have it in their hands.

use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls::RootCertStore;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::ParsedCertificate;
use time::OffsetDateTime;
use x509_parser::prelude::{ParsedExtension, X509Certificate};

use super::{Identity, KeyFingerprint, pem};
use crate::names::HostName;

mod authority;
mod error;
mod issued;
mod limits;
mod sign;
mod throwaway;

pub use authority::{Algorithm, NewAuthority, new_issuer_request, new_root};
pub use error::{CaError, MintError};
pub use issued::Issued;
pub use limits::NameLimits;
pub use sign::SignError;
pub use throwaway::{Throwaway, throwaway, throwaway_unconstrained};

/// Validity starts this much before now: senders' clocks are not ours.
pub(super) const BACKDATE: i64 = 3_600;

/// Life of a leaf that the relay mints: short, because it renews them itself.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(90 * 86_400);

/// Life of a leaf for a relay that holds no CA key: the longest that Apple's platforms accept
/// is 398 days.
pub const ISSUED_LIFETIME: Duration = Duration::from_secs(397 * 86_400);

/// An issuer: a CA certificate, what stands above it, and its key.
pub struct Issuer {
    /// As loaded: the issuer first.
    chain: Vec<CertificateDer<'static>>,
    /// What goes out behind a leaf: the chain without self-signed certificates.
    sent: Vec<CertificateDer<'static>>,
    key: KeyPair,
    /// The issuer's Name in DER, byte for byte.
    subject: Vec<u8>,
    key_id: Vec<u8>,
    limits: NameLimits,
    path_length: Option<u32>,
    /// The window in which the whole chain is valid, seconds since 1970.
    not_before: i64,
    not_after: i64,
    fingerprint: KeyFingerprint,
    anchor: RootCertStore,
}

/// The key of a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafKey {
    /// For everybody who knows ECDSA.
    P256,
    /// For a ClientHello without ECDSA.
    Rsa2048,
}

impl LeafKey {
    /// A new key. RSA takes up to a second.
    pub(super) fn generate(self) -> Result<KeyPair, SignError> {
        let key = match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::Rsa2048 => {
                KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048)
            }
        };
        key.map_err(SignError::Make)
    }
}

impl Issuer {
    /// Reads an issuer from its files.
    ///
    /// # Errors
    /// See [`CaError`].
    pub fn load(chain: &Path, key: &Path) -> Result<Self, CaError> {
        let identity = pem::read_identity(chain, key)?;
        Self::new(identity.chain, &identity.key, SystemTime::now())
    }

    /// Takes an issuer's chain (the issuer first) and its key, and checks that it can issue.
    ///
    /// # Errors
    /// See [`CaError`].
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: &PrivateKeyDer<'_>,
        now: SystemTime,
    ) -> Result<Self, CaError> {
        let key = KeyPair::try_from(key).map_err(CaError::Key)?;
        let mut not_before = i64::MIN;
        let mut not_after = i64::MAX;
        let mut above: Option<Vec<u8>> = None;
        let mut sent = Vec::new();
        for (index, der) in chain.iter().enumerate() {
            let number = index + 1;
            let certificate = super::parse(der).ok_or(CaError::Unreadable { number })?;
            check_may_issue(&certificate, index)?;
            let validity = certificate.validity();
            not_before = not_before.max(validity.not_before.timestamp());
            not_after = not_after.min(validity.not_after.timestamp());
            if validity.not_after.timestamp() < super::unix(now) {
                return Err(CaError::Expired { number });
            }
            if validity.not_before.timestamp() > super::unix(now) {
                return Err(CaError::NotYetValid { number });
            }
            if above.is_some_and(|issuer| issuer != certificate.subject().as_raw()) {
                return Err(CaError::Order { number });
            }
            above = Some(certificate.issuer().as_raw().to_vec());
            if certificate.subject().as_raw() != certificate.issuer().as_raw() {
                sent.push(der.clone());
            }
        }
        let last = chain.last().ok_or(CaError::Unreadable { number: 1 })?;
        let mut anchor = RootCertStore::empty();
        anchor
            .add(last.clone())
            .map_err(|_not_an_anchor| CaError::Unreadable { number: chain.len() })?;

        let certificate = super::parse(&chain[0]).ok_or(CaError::Unreadable { number: 1 })?;
        let spki = certificate.public_key().raw;
        if rcgen::PublicKeyData::subject_public_key_info(&key) != spki {
            return Err(CaError::Mismatch);
        }
        let limits = NameLimits::of(&certificate).ok_or(CaError::Unreadable { number: 1 })?;
        Ok(Self {
            subject: certificate.subject().as_raw().to_vec(),
            key_id: key_id(&certificate),
            limits,
            path_length: path_length(&certificate),
            fingerprint: KeyFingerprint::of_spki(spki),
            not_before,
            not_after,
            sent,
            key,
            anchor,
            chain,
        })
    }

    /// Whether a leaf of its for `host` would be believed.
    pub fn permits(&self, host: &HostName) -> bool {
        self.limits.permits(host)
    }

    /// Mints a leaf for one host: random serial, SAN, serverAuth, backdated by an hour, never
    /// beyond the issuer's end. The chain is the leaf and the issuer's chain without the root.
    /// With RSA this takes up to a second.
    ///
    /// # Errors
    /// See [`MintError`].
    pub fn mint(
        &self,
        host: &HostName,
        key: LeafKey,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Identity, MintError> {
        let key =
            key.generate().map_err(|source| MintError::Sign { host: host.clone(), source })?;
        self.mint_for_key(host, &key, lifetime, now)
    }

    /// As [`Self::mint`], for a key that exists.
    pub(super) fn mint_for_key(
        &self,
        host: &HostName,
        key: &KeyPair,
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<Identity, MintError> {
        if !self.limits.permits(host) {
            let limits = self.limits.clone();
            return Err(MintError::NotPermitted { host: host.clone(), limits });
        }
        let at = super::unix(now);
        if at < self.not_before || at >= self.not_after {
            return Err(MintError::NotValidNow { host: host.clone() });
        }
        let lifetime = i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX);
        let begin = (at - BACKDATE).max(self.not_before);
        let end = at.saturating_add(lifetime).min(self.not_after);
        let leaf = leaf_params(host, begin, end)
            .and_then(|params| self.sign(params, key))
            .map_err(|source| MintError::Sign { host: host.clone(), source })?;
        let mut chain = vec![leaf];
        self.verify(&chain[0], host, now)
            .map_err(|source| MintError::Verify { host: host.clone(), source })?;
        chain.extend(self.sent.iter().cloned());
        Ok(Identity { chain, key: private_key(key) })
    }

    /// What a sender does with the leaf; the end of the chain at hand stands for its root.
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        host: &HostName,
        now: SystemTime,
    ) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        let above = &self.chain[..self.chain.len() - 1];
        let now = super::unix_time(now);
        let algorithms = signature_algorithms();
        verify_server_cert_signed_by_trust_anchor(
            &parsed,
            &self.anchor,
            above,
            now,
            algorithms.all,
        )?;
        let name = ServerName::try_from(host.as_str())
            .map_err(|_no_server_name| rustls::Error::General("not a TLS server name".into()))?;
        verify_server_name(&parsed, &name)
    }

    fn sign(
        &self,
        params: CertificateParams,
        public_key: &impl rcgen::PublicKeyData,
    ) -> Result<CertificateDer<'static>, SignError> {
        sign::sign(params, public_key, &self.subject, &self.key_id, &self.key)
    }

    /// The chain as loaded, the issuer first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// What it may issue for.
    pub const fn limits(&self) -> &NameLimits {
        &self.limits
    }

    /// How many CAs may stand below it; `None` = any number. 0 is what an issuer of leaves needs.
    pub const fn path_length(&self) -> Option<u32> {
        self.path_length
    }

    /// When the first certificate of its chain ends, seconds since 1970.
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }

    /// The fingerprint of its key.
    pub const fn key_fingerprint(&self) -> KeyFingerprint {
        self.fingerprint
    }

    /// Whether its key is RSA; a peer without ECDSA cannot verify anything else.
    pub fn is_rsa(&self) -> bool {
        self.key.is_compatible(&rcgen::PKCS_RSA_SHA256)
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("key", &self.fingerprint.to_string())
            .field("limits", &self.limits)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Every signature algorithm that this binary verifies.
pub(super) fn signature_algorithms() -> WebPkiSupportedAlgorithms {
    rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms
}

/// `below` CAs stand between this certificate and the leaf.
fn check_may_issue(certificate: &X509Certificate<'_>, below: usize) -> Result<(), CaError> {
    let number = below + 1;
    let unreadable = |_bad| CaError::Unreadable { number };
    if !certificate.is_ca() {
        return Err(CaError::NotACa { number });
    }
    if certificate.key_usage().map_err(unreadable)?.is_some_and(|u| !u.value.key_cert_sign()) {
        return Err(CaError::MayNotSign { number });
    }
    let purposes = certificate.extended_key_usage().map_err(unreadable)?;
    if purposes.is_some_and(|purposes| !purposes.value.server_auth && !purposes.value.any) {
        return Err(CaError::NotForServers { number });
    }
    if path_length(certificate).is_some_and(|most| (most as usize) < below) {
        return Err(CaError::PathLength { number });
    }
    Ok(())
}

fn path_length(certificate: &X509Certificate<'_>) -> Option<u32> {
    certificate.basic_constraints().ok().flatten()?.value.path_len_constraint
}

/// The issuer's own key identifier where it has one: verifiers compare it with the leaf's.
fn key_id(certificate: &X509Certificate<'_>) -> Vec<u8> {
    let own = certificate.extensions().iter().find_map(|extension| {
        let ParsedExtension::SubjectKeyIdentifier(id) = extension.parsed_extension() else {
            return None;
        };
        Some(id.0.to_vec())
    });
    own.unwrap_or_else(|| super::sha256(certificate.public_key().raw)[..20].to_vec())
}

fn leaf_params(host: &HostName, begin: i64, end: i64) -> Result<CertificateParams, SignError> {
    let mut params = base_params(begin, end)?;
    // RFC 5280 appendix A: a common name has at most 64 characters. Nobody reads it beside a SAN.
    if host.as_str().len() <= 64 {
        params.distinguished_name.push(DnType::CommonName, host.as_str());
    }
    let name = host.as_str().try_into().map_err(SignError::Make)?;
    params.subject_alt_names = vec![SanType::DnsName(name)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

/// Serial and validity set, everything else empty: the library's defaults last until 4096.
fn base_params(begin: i64, end: i64) -> Result<CertificateParams, SignError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(sign::random_serial()?);
    let at = |seconds| OffsetDateTime::from_unix_timestamp(seconds).map_err(SignError::Clock);
    params.not_before = at(begin)?;
    params.not_after = at(end)?;
    Ok(params)
}

fn private_key(key: &KeyPair) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(key.serialize_der()).into()
}

/// Host names from text.
///
/// # Errors
/// [`CaError::Name`] names the first that is none.
pub fn host_names<'a>(
    hosts: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeSet<HostName>, CaError> {
    let parse =
        |host: &str| host.parse().map_err(|source| CaError::Name { host: host.to_owned(), source });
    hosts.into_iter().map(parse).collect()
}

#[cfg(test)]
mod tests;
