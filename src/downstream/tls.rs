//! TLS with senders: SNI chooses the leaf, ALPN the codec.
//!
//! `hello` reads the ClientHello before anything is decided; [`TlsPlan`] holds what a listener
//! decided once; [`terminate`] ends TLS. `verify` looks at senders' certificates. A failed
//! handshake says in the log what the sender offered, and nothing is sent to it but an alert.

use std::fmt;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoClientAuth, ResolvesServerCert, ServerSessionMemoryCache, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_rustls::StartHandshake;
use tokio_rustls::server::TlsStream;

use super::SenderTls;
use super::listener::Hosts;
use crate::config::Listener;
use crate::names::HostName;
use crate::pki::roots::Roots;

pub mod hello;
mod verify;

pub use hello::{Hello, Offer};

/// Sessions remembered for resumption, per listener and kind: a Mattermost server behind an
/// HTTP/1.1 proxy makes some 90 connections for 100 pushes. 1-3 KiB each.
const SESSIONS: usize = 4096;
/// HTTP/2 first: APNs' libraries want it. HTTP/1.0 is named by a few old proxies.
const ALPN: [&[u8]; 3] = [b"h2", b"http/1.1", b"http/1.0"];
/// RFC 6066 §3.
const UNRECOGNIZED_NAME: u8 = 112;

/// Where leaves come from. Called in every handshake: must not block.
pub trait CertificateSource: Send + Sync {
    /// The leaf for a host; an RSA one when the sender cannot verify ECDSA.
    fn leaf(&self, host: &HostName, ecdsa_ok: bool) -> Option<Arc<CertifiedKey>>;
}

/// The TLS side of a listener, built once and replaced on reload, session memory included.
pub struct TlsPlan {
    /// Asks for no certificate.
    silent: Arc<ServerConfig>,
    /// Asks for one; whether it is demanded is the verifier's.
    asking: Arc<ServerConfig>,
    /// Judges senders' certificates; `None` without `sender_certificates`.
    roots: Option<Arc<dyn ClientCertVerifier>>,
    require: bool,
    default_host: Option<HostName>,
    source: Arc<dyn CertificateSource>,
    hosts: Arc<dyn Hosts>,
}

/// The roots of `sender_certificates` cannot be used, or the crypto provider has no usable suite.
#[derive(Debug, thiserror::Error)]
pub enum TlsPlanError {
    /// No root that a certificate could chain to.
    #[error("sender_certificates: {0}")]
    Roots(#[from] rustls::server::VerifierBuilderError),
    /// TLS itself.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// Why a handshake did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum TlsFault {
    /// SNI is missing or names no route, and there is no `default_host`.
    #[error("no route for this server name, and no default_host")]
    Name,
    /// TLS itself failed; an alert was sent.
    #[error("TLS handshake failed: {0}")]
    Handshake(#[source] std::io::Error),
    /// The resumed session's certificate is no longer acceptable.
    #[error("the sender's certificate is no longer acceptable")]
    Certificate,
}

impl TlsPlan {
    /// Sets up TLS for a listener. `roots` are those of `sender_certificates`.
    pub fn new(
        listener: &Listener,
        roots: Option<&Arc<Roots>>,
        source: Arc<dyn CertificateSource>,
        hosts: Arc<dyn Hosts>,
    ) -> Result<Self, TlsPlanError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let require =
            listener.sender_certificates.as_ref().is_some_and(|certificates| certificates.require);
        let roots = match roots {
            Some(roots) => Some(
                WebPkiClientVerifier::builder_with_provider(
                    Arc::clone(&roots.store),
                    Arc::clone(&provider),
                )
                .build()?,
            ),
            None => None,
        };
        let asks: Arc<dyn ClientCertVerifier> = match &roots {
            Some(roots) if require => Arc::clone(roots),
            // Everything is let through and judged after the handshake, so that the relay can
            // explain instead of failing with an alert.
            Some(_) | None => Arc::new(verify::Tolerant::new(&provider)),
        };
        Ok(Self {
            silent: server(&provider, Arc::new(NoClientAuth), &source)?,
            asking: server(&provider, asks, &source)?,
            roots,
            require,
            default_host: listener.default_host.clone(),
            source,
            hosts,
        })
    }

    /// The name whose leaf is shown: SNI's when it is routed, else the CONNECT target's or
    /// `default_host`.
    fn shown(&self, sni: Option<&HostName>, target: Option<&HostName>) -> Option<HostName> {
        let routed = |host: &&HostName| self.hosts.find(host).is_some();
        sni.filter(routed).or_else(|| target.filter(routed)).or(self.default_host.as_ref()).cloned()
    }

    /// The settings for a handshake that shows `shown`.
    fn settings(&self, shown: &HostName, sni: Option<&HostName>) -> Arc<ServerConfig> {
        // APNs senders may authenticate by certificate: asking is the only way to notice.
        let apns = self.hosts.find(shown).is_some_and(|rule| rule.apns);
        let base = if self.roots.is_some() || apns { &self.asking } else { &self.silent };
        if sni == Some(shown) {
            return Arc::clone(base);
        }
        let mut settings = ServerConfig::clone(base);
        let (source, host) = (Arc::clone(&self.source), Some(shown.clone()));
        settings.cert_resolver = Arc::new(Leaf { source, host });
        Arc::new(settings)
    }
}

impl fmt::Debug for TlsPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsPlan")
            .field("require", &self.require)
            .field("default_host", &self.default_host)
            .finish_non_exhaustive()
    }
}

fn server(
    provider: &Arc<CryptoProvider>,
    verifier: Arc<dyn ClientCertVerifier>,
    source: &Arc<dyn CertificateSource>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Leaf { source: Arc::clone(source), host: None }));
    config.alpn_protocols = ALPN.iter().map(|name| name.to_vec()).collect();
    // Resumption from memory only: no ticket key that could leak, and each entry serves once.
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    config.send_tls13_tickets = 1;
    // Early data can be replayed, and a replay is a duplicate push.
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Finds the leaf for a ClientHello: `host`'s, or SNI's.
struct Leaf {
    source: Arc<dyn CertificateSource>,
    host: Option<HostName>,
}

impl ResolvesServerCert for Leaf {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // Of TLS 1.2 senders rustls has already dropped the schemes that their suites exclude.
        let ecdsa = hello.signature_schemes().contains(&SignatureScheme::ECDSA_NISTP256_SHA256);
        match &self.host {
            Some(host) => self.source.leaf(host, ecdsa),
            None => self.source.leaf(&hello.server_name()?.parse().ok()?, ecdsa),
        }
    }
}

impl fmt::Debug for Leaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Leaf").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Ends TLS. `target` is the host that CONNECT named. The caller sets the deadline.
pub async fn terminate<IO>(
    plan: &TlsPlan,
    hello: Hello,
    mut io: IO,
    target: Option<&HostName>,
) -> Result<(TlsStream<IO>, SenderTls), TlsFault>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let offer = hello.offer;
    let Some(shown) = plan.shown(offer.sni.as_ref(), target) else {
        alert(&mut io, UNRECOGNIZED_NAME).await;
        return Err(TlsFault::Name);
    };
    let settings = plan.settings(&shown, offer.sni.as_ref());
    let accepted = StartHandshake::from_parts(hello.accepted, io).into_stream(settings);
    let stream = accepted.await.map_err(TlsFault::Handshake)?;
    let session = stream.get_ref().1;
    let text = |alpn: &[u8]| crate::hop::clean(alpn, 32);
    let mut tls = SenderTls {
        sni: offer.sni,
        leaf: Some(shown),
        alpn_offered: offer.alpn,
        alpn: session.alpn_protocol().map(text),
        version: session.protocol_version().map_or_else(String::new, hello::version),
        certificate: None,
        provider_certificate: false,
    };
    if let Some(chain) = session.peer_certificates() {
        // Judged here and not by the verifier, which a resumed session does not ask.
        tls.certificate = verify::subject(plan.roots.as_ref(), chain);
        tls.provider_certificate = tls.certificate.is_none() && !chain.is_empty();
    }
    if plan.require && tls.certificate.is_none() {
        return Err(TlsFault::Certificate);
    }
    Ok((stream, tls))
}

/// Writes a fatal alert in the clear, as fits before the server's first message (RFC 8446 §6).
pub async fn alert<IO: AsyncWrite + Unpin>(io: &mut IO, description: u8) {
    // The connection ends either way.
    let _ = io.write_all(&[21, 3, 3, 0, 2, 2, description]).await;
    let _ = io.shutdown().await;
}
