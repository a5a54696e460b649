//! TLS towards origins and proxies: configurations, handshake, and what it taught.
//!
//! Verification is never weakened (G1): the verifier adds a record of what was shown, so that an
//! error can name issuer and subject. Whose fault a failure is decides `dial`.

mod verifier;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use self::verifier::{Presented, Recorder};
use super::dial::Witness;
use crate::hop::{TlsFacts, clean};
use crate::names::Host;
use crate::pki::Identity;
use crate::pki::roots::Roots;

/// Sessions kept for resumption, by server name. A relay speaks with some twenty origins.
const SESSIONS: usize = 64;
/// Most configurations of one egress: offers times identities, of which a route has one.
const CONFIGURATIONS_CAP: usize = 256;
/// Longest name kept of a certificate, characters.
const NAME_CAP: usize = 300;

/// What ALPN offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Offer {
    /// `h2` alone: APNs.
    H2,
    /// `h2` first, then `http/1.1`.
    H2AndHttp1,
    /// `http/1.1` alone.
    Http1,
    /// No ALPN extension.
    NoAlpn,
}

/// TLS with the roots of one egress or proxy.
#[derive(Debug)]
pub struct TlsClient {
    provider: Arc<CryptoProvider>,
    verifier: Arc<Recorder>,
    configurations: Mutex<HashMap<(Offer, Option<usize>), Configuration>>,
}

/// The identity is held so that its address, the key of the map, stays its own.
#[derive(Debug)]
struct Configuration {
    config: Arc<ClientConfig>,
    _identity: Option<Arc<Identity>>,
}

/// A handshake that failed, with all that is known.
#[derive(Debug)]
pub struct TlsFailure {
    /// The cause; holds a [`rustls::Error`] where TLS was spoken.
    pub error: io::Error,
    /// The chain that was shown, leaf first; empty when none came.
    pub chain: Vec<CertificateDer<'static>>,
    /// That chain ended at a root of a file.
    pub inspected: bool,
    /// The first bytes that came back.
    pub first: Vec<u8>,
}

impl TlsClient {
    /// With these roots. Fails when there are none.
    pub fn new(
        roots: &Roots,
        post_quantum: bool,
    ) -> Result<Self, rustls::client::VerifierBuilderError> {
        let mut provider = provider::default_provider();
        if !post_quantum {
            let hybrid = |group: NamedGroup| {
                matches!(
                    group,
                    NamedGroup::X25519MLKEM768
                        | NamedGroup::secp256r1MLKEM768
                        | NamedGroup::MLKEM512
                        | NamedGroup::MLKEM768
                        | NamedGroup::MLKEM1024
                )
            };
            provider.kx_groups.retain(|group| !hybrid(group.name()));
        }
        let provider = Arc::new(provider);
        let verifier = Arc::new(Recorder::new(roots, &provider)?);
        Ok(Self { provider, verifier, configurations: Mutex::default() })
    }

    /// Shakes hands. The bound of the wait is the caller's.
    pub async fn handshake<IO: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: IO,
        host: &Host,
        offer: Offer,
        identity: Option<&Arc<Identity>>,
    ) -> Result<(TlsStream<Witness<IO>>, TlsFacts), TlsFailure> {
        let failed =
            |error| TlsFailure { error, chain: Vec::new(), inspected: false, first: Vec::new() };
        let config = self.config(offer, identity).map_err(|e| failed(io::Error::other(e)))?;
        let name = server_name(host).map_err(|e| failed(io::Error::other(e)))?;
        let connecting =
            TlsConnector::from(config).connect(name.clone(), Witness::new(io)).into_fallible();
        let (connected, presented) = verifier::recorded(connecting).await;
        match connected {
            Ok(mut stream) => {
                stream.get_mut().0.forget();
                let facts = self.facts(stream.get_ref().1, &name, presented);
                Ok((stream, facts))
            }
            Err((error, io)) => Err(TlsFailure {
                error,
                chain: presented.chain,
                inspected: presented.inspected,
                first: io.into_first(),
            }),
        }
    }

    fn config(
        &self,
        offer: Offer,
        identity: Option<&Arc<Identity>>,
    ) -> Result<Arc<ClientConfig>, rustls::Error> {
        let key = (offer, identity.map(|identity| Arc::as_ptr(identity).addr()));
        // Insertion is the only change, so a panic leaves no half state.
        let mut known = self.configurations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&key) {
            return Ok(Arc::clone(&found.config));
        }
        let builder = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_safe_default_protocol_versions()?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&self.verifier) as _);
        let mut config = match identity {
            Some(identity) => {
                builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = offer.protocols();
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        let config = Arc::new(config);
        if known.len() < CONFIGURATIONS_CAP {
            let held = Configuration { config: Arc::clone(&config), _identity: identity.cloned() };
            known.insert(key, held);
        }
        Ok(config)
    }

    fn facts(
        &self,
        session: &ClientConnection,
        name: &ServerName<'_>,
        presented: Presented,
    ) -> TlsFacts {
        let resumed = session.handshake_kind() == Some(HandshakeKind::Resumed);
        let chain = session.peer_certificates().unwrap_or_default();
        let inspected =
            if resumed { self.verifier.inspects(chain, name) } else { presented.inspected };
        let leaf = chain.first().and_then(|der| X509Certificate::from_der(der).ok());
        let version = session.protocol_version().and_then(|version| version.as_str());
        TlsFacts {
            version: version.unwrap_or("unknown").replace('_', "."),
            cipher: session
                .negotiated_cipher_suite()
                .map(|suite| suite.suite().as_str().unwrap_or("unknown").to_owned())
                .unwrap_or_default(),
            group: session
                .negotiated_key_exchange_group()
                .map(|group| group.name().as_str().unwrap_or("unknown").to_owned())
                .unwrap_or_default(),
            subjects: chain.iter().map(|der| names(der).0.unwrap_or_default()).collect(),
            issuer: chain.first().and_then(|der| names(der).1),
            fingerprint: chain.first().map(|der| hex_sha256(der)).unwrap_or_default(),
            not_after: leaf.map_or(0, |(_, leaf)| leaf.validity().not_after.timestamp()),
            inspected,
            resumed,
            chain: chain.iter().map(|der| der.to_vec()).collect(),
        }
    }
}

impl Offer {
    fn protocols(self) -> Vec<Vec<u8>> {
        match self {
            Self::H2 => vec![b"h2".to_vec()],
            Self::H2AndHttp1 => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            Self::Http1 => vec![b"http/1.1".to_vec()],
            Self::NoAlpn => Vec::new(),
        }
    }
}

/// Subject and issuer of a certificate, cleaned.
pub fn names(der: &[u8]) -> (Option<String>, Option<String>) {
    let Ok((_, certificate)) = X509Certificate::from_der(der) else { return (None, None) };
    let text = |name: &x509_parser::x509::X509Name<'_>| {
        Some(clean(name.to_string().as_bytes(), NAME_CAP)).filter(|text| !text.is_empty())
    };
    (text(certificate.subject()), text(certificate.issuer()))
}

fn server_name(host: &Host) -> Result<ServerName<'static>, rustls::pki_types::InvalidDnsNameError> {
    match host {
        Host::Ip(IpAddr::V4(ip)) => Ok(ServerName::from(IpAddr::V4(*ip))),
        Host::Ip(IpAddr::V6(ip)) => Ok(ServerName::from(IpAddr::V6(*ip))),
        Host::Name(name) => ServerName::try_from(name.as_str().to_owned()),
    }
}

fn hex_sha256(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let digest = digest::digest(&digest::SHA256, bytes);
    digest.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}
