//! A throw-away certificate authority: P-256, unconstrained, in memory, one leaf per host.
//!
//! Only for simulated peers and tests: it signs whatever name a client asks for, as an inspecting
//! proxy does. The relay's own issuer is in `pki`.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};

use super::{SimulateError, lock};
use crate::pki::Identity;

/// Names beyond this are not minted: nobody rehearses with more, and the cache stays small.
const MAX_LEAVES: usize = 256;

/// The authority.
pub struct Throwaway {
    issuer: CertifiedIssuer<'static, KeyPair>,
    leaf_key: KeyPair,
    default_host: String,
    minted: Mutex<HashMap<String, Arc<CertifiedKey>>>,
}

impl fmt::Debug for Throwaway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throwaway")
            .field("default_host", &self.default_host)
            .finish_non_exhaustive()
    }
}

impl Throwaway {
    /// Makes a root with this common name; `default_host` stands in the leaf of clients that send
    /// no SNI. Fails only where the cryptographic library does.
    pub fn new(common_name: &str, default_host: &str) -> Result<Arc<Self>, SimulateError> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Arc::new(Self {
            issuer,
            leaf_key: KeyPair::generate()?,
            default_host: default_host.to_owned(),
            minted: Mutex::default(),
        }))
    }

    /// The root certificate as PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// The root's key as PKCS #8 PEM, for a relay that mints from this authority in a test.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// A trust store with this root alone.
    pub fn roots(&self) -> Arc<RootCertStore> {
        let mut store = RootCertStore::empty();
        // The root was made above by a library that writes what this one reads.
        store.add(self.issuer.der().clone()).expect("a fresh root is readable");
        Arc::new(store)
    }

    /// A leaf for `host`, signed by the root.
    pub fn leaf(&self, host: &str) -> Result<Identity, SimulateError> {
        let mut params = CertificateParams::new(vec![host.to_owned()])?;
        params.distinguished_name.push(DnType::CommonName, host);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&self.leaf_key, &self.issuer)?;
        Ok(Identity {
            chain: vec![leaf.der().clone(), self.issuer.der().clone()],
            key: PrivatePkcs8KeyDer::from(self.leaf_key.serialize_der()).into(),
        })
    }

    /// Server-side TLS that mints by SNI and offers `alpn`, in this order.
    pub fn server_config(self: &Arc<Self>, alpn: &[&[u8]]) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider supports the default versions")
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }

    /// The same, asking for a client certificate that chains to `clients`, without requiring one:
    /// APNs takes certificates and tokens on one port.
    pub fn server_config_asking(
        self: &Arc<Self>,
        clients: Arc<RootCertStore>,
    ) -> Result<ServerConfig, SimulateError> {
        let wrong = |error: rustls::server::VerifierBuilderError| SimulateError::File {
            file: "client roots".into(),
            what: error.to_string(),
        };
        let verifier = WebPkiClientVerifier::builder_with_provider(clients, provider())
            .allow_unauthenticated()
            .build()
            .map_err(wrong)?;
        Ok(ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>))
    }

    fn certified(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        let mut minted = lock(&self.minted);
        if let Some(known) = minted.get(host) {
            return Some(Arc::clone(known));
        }
        if minted.len() >= MAX_LEAVES {
            return None;
        }
        let identity = self.leaf(host).ok()?;
        let key = CertifiedKey::from_der(identity.chain, identity.key, &provider()).ok()?;
        let key = Arc::new(key);
        minted.insert(host.to_owned(), Arc::clone(&key));
        Some(key)
    }
}

impl ResolvesServerCert for Throwaway {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified(hello.server_name().unwrap_or(&self.default_host))
    }
}

/// The cryptography of every simulated peer.
pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Server-side TLS with a certificate that was brought.
pub fn server_config_of(identity: Identity, alpn: &[&[u8]]) -> Result<ServerConfig, SimulateError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// Reads a chain and a key in PEM. Fails where a file cannot be read or has no such item.
pub fn read_identity(chain: &str, key: &str) -> Result<Identity, SimulateError> {
    let wrong = |file: &str| {
        let file = file.to_owned();
        move |error: rustls::pki_types::pem::Error| SimulateError::File {
            file,
            what: error.to_string(),
        }
    };
    let certificates = CertificateDer::pem_file_iter(chain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(wrong(chain))?;
    if certificates.is_empty() {
        return Err(SimulateError::File { file: chain.into(), what: "no certificate".into() });
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(wrong(key))?;
    Ok(Identity { chain: certificates, key })
}

/// Reads roots in PEM. Fails where the file cannot be read or holds no certificate.
pub fn read_roots(file: &str) -> Result<Arc<RootCertStore>, SimulateError> {
    let wrong = |what: String| SimulateError::File { file: file.to_owned(), what };
    let mut store = RootCertStore::empty();
    for certificate in
        CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?
    {
        store.add(certificate.map_err(|error| wrong(error.to_string()))?)?;
    }
    if store.is_empty() {
        return Err(wrong("no certificate".into()));
    }
    Ok(Arc::new(store))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_chain_to_the_root_and_are_minted_once() {
        let ca = Throwaway::new("test root", "a.example").unwrap();
        let one = ca.certified("b.example").unwrap();
        assert!(Arc::ptr_eq(&one, &ca.certified("b.example").unwrap()));
        let verifier =
            rustls::client::WebPkiServerVerifier::builder_with_provider(ca.roots(), provider())
                .build()
                .unwrap();
        let now = rustls::pki_types::UnixTime::now();
        let verify = |name: &'static str| {
            use rustls::client::danger::ServerCertVerifier;
            let name = name.try_into().unwrap();
            verifier.verify_server_cert(&one.cert[0], &one.cert[1..], &name, &[], now)
        };
        verify("b.example").unwrap();
        assert!(verify("c.example").is_err());
    }
}
