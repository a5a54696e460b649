//! An authority that lives in memory for minutes: for the demo, the simulators and tests.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;

use super::{
    Algorithm, CaError, Issuer, LEAF_LIFETIME, LeafKey, host_names, new_root, private_key,
};
use crate::pki::Identity;
use crate::pki::pem::{encode_certificates, encode_key};

/// A root, an issuer below it, and what others need to use them. P-256 throughout.
#[derive(Debug)]
pub struct Throwaway {
    /// The root, for trust stores.
    pub root: CertificateDer<'static>,
    /// The root as PEM.
    pub root_pem: String,
    /// The issuer as PEM, as `issuer.chain` expects it.
    pub issuer_chain_pem: String,
    /// The issuer's key as PEM.
    pub issuer_key_pem: String,
    /// The issuer, ready to mint.
    pub issuer: Arc<Issuer>,
}

impl Throwaway {
    /// A leaf for `host`, P-256, with its chain.
    ///
    /// # Errors
    /// The host is no name, or not one that this authority was made for.
    pub fn identity(&self, host: &str) -> Result<Identity, CaError> {
        let host =
            host.parse().map_err(|source| CaError::Name { host: host.to_owned(), source })?;
        Ok(self.issuer.mint(&host, LeafKey::P256, LEAF_LIFETIME, SystemTime::now())?)
    }
}

/// An authority for these hosts only, as `ca init` makes it.
///
/// # Errors
/// A host is no name, there is none, or a key cannot be made.
pub fn throwaway(hosts: &[&str]) -> Result<Throwaway, CaError> {
    make(Some(hosts))
}

/// An authority for every host, as an inspecting proxy has it.
///
/// # Errors
/// A key cannot be made.
pub fn throwaway_unconstrained() -> Result<Throwaway, CaError> {
    make(None)
}

fn make(hosts: Option<&[&str]>) -> Result<Throwaway, CaError> {
    let now = SystemTime::now();
    let hosts = hosts.map(|hosts| host_names(hosts.iter().copied())).transpose()?;
    let new = new_root(Algorithm::P256, "throwaway root", now)?;
    let root = Issuer::new(vec![new.certificate.clone()], &new.key, now)?;
    let key = LeafKey::P256.generate()?;
    let certificate = root.certify(&key, "throwaway issuer", hosts.as_ref(), now)?;
    let key = private_key(&key);
    let chain = vec![certificate];
    Ok(Throwaway {
        root_pem: encode_certificates(std::slice::from_ref(&new.certificate)),
        root: new.certificate,
        issuer_chain_pem: encode_certificates(&chain),
        issuer_key_pem: encode_key(&key).to_string(),
        issuer: Arc::new(Issuer::new(chain, &key, now)?),
    })
}
