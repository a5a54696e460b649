//! Web PKI verification that remembers what was shown and whether an inspector's root ended it.
//!
//! The record travels in a task-local of the handshake's own future: the verifier itself must be
//! shared, or rustls would not resume sessions.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use crate::pki::roots::Roots;

tokio::task_local! {
    static PRESENTED: RefCell<Presented>;
}

/// What a peer showed in one handshake; empty when the session was resumed.
#[derive(Debug, Default)]
pub(super) struct Presented {
    /// Leaf first.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// Only a root of a file makes it verify.
    pub(super) inspected: bool,
}

/// Runs a handshake and hands out what its verifier saw.
pub(super) async fn recorded<F: Future>(handshake: F) -> (F::Output, Presented) {
    PRESENTED
        .scope(RefCell::default(), async {
            let output = handshake.await;
            (output, PRESENTED.with(RefCell::take))
        })
        .await
}

/// Verifies and records.
#[derive(Debug)]
pub(super) struct Recorder {
    all: Arc<WebPkiServerVerifier>,
    /// Without the roots from files; `None` when there are no others.
    public: Option<Arc<WebPkiServerVerifier>>,
    /// Whether any root comes from a file.
    files: bool,
}

impl Recorder {
    pub(super) fn new(
        roots: &Roots,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, VerifierBuilderError> {
        let build = |store: Arc<RootCertStore>| {
            WebPkiServerVerifier::builder_with_provider(store, Arc::clone(provider)).build()
        };
        // webpki keeps the key without its outer SEQUENCE head.
        let from_file = |key: &[u8]| roots.from_files.iter().any(|der| der.ends_with(key));
        let others = roots.store.roots.iter();
        let others = others.filter(|root| !from_file(root.subject_public_key_info.as_ref()));
        let others = RootCertStore { roots: others.cloned().collect() };
        let public = if others.is_empty() { None } else { Some(build(Arc::new(others))?) };
        let files = !roots.from_files.is_empty();
        Ok(Self { all: build(Arc::clone(&roots.store))?, public, files })
    }

    /// Whether a chain verifies only by a root of a file.
    pub(super) fn inspects(&self, chain: &[CertificateDer<'_>], name: &ServerName<'_>) -> bool {
        let [leaf, rest @ ..] = chain else { return false };
        self.only_by_file(leaf, rest, name, UnixTime::now())
    }

    fn only_by_file(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> bool {
        let publicly = |public: &Arc<WebPkiServerVerifier>| {
            let verified = public.verify_server_cert(leaf, rest, name, &[], now);
            !matches!(
                verified,
                Err(Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
            )
        };
        self.files && !self.public.as_ref().is_some_and(publicly)
    }
}

impl ServerCertVerifier for Recorder {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.all.verify_server_cert(leaf, rest, name, ocsp, now);
        let unknown = matches!(
            &verified,
            Err(Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
        );
        // Outside a recorded handshake there is nobody to tell.
        let _nobody = PRESENTED.try_with(|presented| {
            let chain = std::iter::once(leaf).chain(rest);
            let chain = chain.map(|der| der.clone().into_owned()).collect();
            let inspected = !unknown && self.only_by_file(leaf, rest, name, now);
            *presented.borrow_mut() = Presented { chain, inspected };
        });
        verified
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.all.verify_tls12_signature(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.all.verify_tls13_signature(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.all.supported_verify_schemes()
    }
}
