//! Certificates of senders: let through, then judged.
//!
//! APNs certificate authentication cannot cross the end of TLS. Failing the handshake would tell
//! the operator nothing, so every certificate whose key the sender really holds is let through,
//! and what it is gets written down.

use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::hop::clean;

/// Accepts any chain, never an unproven key. Grants nothing: [`subject`] judges.
#[derive(Debug)]
pub(super) struct Tolerant {
    algorithms: WebPkiSupportedAlgorithms,
}

impl Tolerant {
    pub(super) fn new(provider: &CryptoProvider) -> Self {
        Self { algorithms: provider.signature_verification_algorithms }
    }
}

impl ClientCertVerifier for Tolerant {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// None: a hint would keep senders from showing the certificate that we want to notice.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The subject of a sender's certificate, if it chains to `roots` now.
pub(super) fn subject(
    roots: Option<&Arc<dyn ClientCertVerifier>>,
    chain: &[CertificateDer<'_>],
) -> Option<String> {
    let (leaf, intermediates) = chain.split_first()?;
    roots?.verify_client_cert(leaf, intermediates, UnixTime::now()).ok()?;
    let (_, parsed) = X509Certificate::from_der(leaf).ok()?;
    Some(clean(parsed.subject().to_string().as_bytes(), 256))
}
