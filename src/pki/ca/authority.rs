//! Making the authority: the offline root, the constrained issuer below it, or a request for a
//! corporate CA to sign.

use std::collections::BTreeSet;
use std::time::SystemTime;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, RsaKeySize, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::limits::constraints;
use super::{BACKDATE, CaError, Issuer, SignError, base_params, private_key};
use crate::names::HostName;

const YEAR: i64 = 31_557_600;
/// The root outlives several issuers: senders import it once.
const ROOT_LIFETIME: i64 = 10 * YEAR;
/// The issuer's key lies on the relay, so it ends sooner; renewing it costs senders nothing.
const ISSUER_LIFETIME: i64 = 2 * YEAR;

/// The keys of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// Small; peers without ECDSA are left out.
    P256,
    /// Signs leaves for peers without ECDSA too.
    Rsa3072,
}

impl Algorithm {
    fn generate(self) -> Result<KeyPair, SignError> {
        let key = match self {
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        };
        key.map_err(SignError::Make)
    }
}

/// A CA certificate and its key, fresh.
#[derive(Debug)]
pub struct NewAuthority {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key, PKCS#8.
    pub key: PrivateKeyDer<'static>,
}

/// Makes a self-signed root that lasts ten years and has room for one CA below it.
///
/// # Errors
/// The key or the certificate cannot be made.
pub fn new_root(
    algorithm: Algorithm,
    name: &str,
    now: SystemTime,
) -> Result<NewAuthority, SignError> {
    let key = algorithm.generate()?;
    let at = crate::pki::unix(now);
    let mut params = ca_params(name, 1, at - BACKDATE, at.saturating_add(ROOT_LIFETIME))?;
    params.extended_key_usages.clear();
    let certificate = params.self_signed(&key).map_err(SignError::Make)?.der().clone();
    Ok(NewAuthority { certificate, key: private_key(&key) })
}

impl Issuer {
    /// Makes an issuer below this root: for two years, for these hosts only, with no CA below.
    ///
    /// # Errors
    /// No hosts, or the key or the certificate cannot be made.
    pub fn new_issuer(
        &self,
        algorithm: Algorithm,
        name: &str,
        hosts: &BTreeSet<HostName>,
        now: SystemTime,
    ) -> Result<NewAuthority, CaError> {
        let key = algorithm.generate()?;
        let certificate = self.certify(&key, name, Some(hosts), now)?;
        Ok(NewAuthority { certificate, key: private_key(&key) })
    }

    /// Signs an existing issuer's key again, under the name it has, for other hosts or a new
    /// term. Its key is not needed, and senders notice nothing.
    ///
    /// # Errors
    /// No hosts, or the old certificate cannot be read.
    pub fn extend(
        &self,
        issuer: &CertificateDer<'_>,
        hosts: &BTreeSet<HostName>,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, CaError> {
        let old = crate::pki::parse(issuer).ok_or(CaError::Unreadable { number: 1 })?;
        let name = old.subject().iter_common_name().next();
        let name =
            name.and_then(|name| name.as_str().ok()).ok_or(CaError::Unreadable { number: 1 })?;
        let key = SubjectPublicKeyInfo::from_der(old.public_key().raw).map_err(CaError::Key)?;
        self.certify(&key, name, Some(hosts), now)
    }

    /// `hosts` `None` = without limits.
    pub(super) fn certify(
        &self,
        key: &impl PublicKeyData,
        name: &str,
        hosts: Option<&BTreeSet<HostName>>,
        now: SystemTime,
    ) -> Result<CertificateDer<'static>, CaError> {
        let at = crate::pki::unix(now);
        let begin = (at - BACKDATE).max(self.not_before);
        let end = at.saturating_add(ISSUER_LIFETIME).min(self.not_after);
        let mut params = ca_params(name, 0, begin, end)?;
        if let Some(hosts) = hosts {
            if hosts.is_empty() {
                return Err(CaError::NoHosts);
            }
            params.name_constraints = Some(constraints(hosts));
        }
        Ok(self.sign(params, key)?)
    }
}

/// A request for an issuer that a corporate CA signs, in PEM, and its key. Requests cannot carry
/// name constraints; whoever signs it sets them.
///
/// # Errors
/// The key or the request cannot be made.
pub fn new_issuer_request(
    algorithm: Algorithm,
    name: &str,
) -> Result<(String, PrivateKeyDer<'static>), SignError> {
    let key = algorithm.generate()?;
    let mut params = ca_params(name, 0, 0, 0)?;
    // A serial belongs to the signer.
    params.serial_number = None;
    let request = params.serialize_request(&key).map_err(SignError::Make)?;
    Ok((request.pem().map_err(SignError::Make)?, private_key(&key)))
}

fn ca_params(
    name: &str,
    path_length: u8,
    begin: i64,
    end: i64,
) -> Result<CertificateParams, SignError> {
    let mut params = base_params(begin, end)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}
