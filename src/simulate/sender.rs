//! A simulated sender: one connection, directly or through a CONNECT proxy, over HTTP/1.0, 1.1 or
//! 2, with ALPN or without, as the push libraries in use do it.
//!
//! Used by `pushrelay send`, the demo and the tests. It never repeats a push.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use bytes::Bytes;
use http::{Method, Request, Version};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::RootCertStore;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::authority::provider;
use super::proxy::read_head;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A sender that waits longer than MPNS (8 s) and aioapns (10 s) only measures itself.
const PATIENCE: Duration = Duration::from_secs(15);

/// What the sender speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// HTTP/1.0 with ALPN http/1.0.
    Http10,
    /// HTTP/1.1 with ALPN http/1.1.
    Http11,
    /// HTTP/2 with ALPN h2.
    Http2,
    /// HTTP/1.1 without ALPN.
    Http11WithoutAlpn,
    /// HTTP/2 without ALPN, as pushy and aioapns.
    Http2WithoutAlpn,
}

impl Speech {
    const fn alpn(self) -> Option<&'static [u8]> {
        match self {
            Self::Http10 => Some(b"http/1.0"),
            Self::Http11 => Some(b"http/1.1"),
            Self::Http2 => Some(b"h2"),
            Self::Http11WithoutAlpn | Self::Http2WithoutAlpn => None,
        }
    }

    /// Whether many pushes share a connection at once.
    pub const fn multiplexes(self) -> bool {
        matches!(self, Self::Http2 | Self::Http2WithoutAlpn)
    }
}

/// Where a sender connects and what it says.
#[derive(Debug, Clone)]
pub struct Sender {
    /// The host in URL and SNI.
    pub host: String,
    /// The port in CONNECT, and in the URL where it is not 443.
    pub port: u16,
    /// The SNI, where it is not the host.
    pub sni: Option<String>,
    /// The address that the host leads to (of the proxy, when there is one).
    pub connect: SocketAddr,
    /// Whether `connect` is a CONNECT proxy, and the Basic credentials that it gets.
    pub proxy: Option<Option<(String, String)>>,
    /// What it speaks.
    pub speech: Speech,
    /// What the relay's certificate must chain to.
    pub roots: Arc<RootCertStore>,
}

/// A push as a sender makes it.
#[derive(Debug, Clone)]
pub struct Push {
    /// Normally POST.
    pub method: Method,
    /// Path, from the slash.
    pub path: String,
    /// Fields in order.
    pub fields: Vec<(String, String)>,
    /// The payload.
    pub body: Bytes,
}

impl Push {
    /// An alert to a device token, signed by a made-up team and key.
    pub fn alert(token: &str, topic: &str) -> Self {
        let bearer = format!("bearer {}", super::apns::jwt("TEAM000001", "KEY0000001"));
        let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            method: Method::POST,
            path: format!("/3/device/{token}"),
            fields: vec![
                field("authorization", &bearer),
                field("apns-topic", topic),
                field("apns-push-type", "alert"),
                field("content-type", "application/json"),
            ],
            body: Bytes::from_static(br#"{"aps":{"alert":"A message"}}"#),
        }
    }

    /// Adds or replaces a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.retain(|(known, _)| known != name);
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Names the push.
    #[must_use]
    pub fn apns_id(self, id: &str) -> Self {
        self.field("apns-id", id)
    }

    /// Another body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Receipt {
    /// Status, version and fields.
    pub head: http::response::Parts,
    /// The whole body.
    pub body: Bytes,
    /// From the first byte sent to the last received.
    pub took: Duration,
}

impl Receipt {
    /// The status.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// A field, if it is there and text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.headers.get(name)?.to_str().ok()
    }

    /// APNs' `reason`.
    pub fn reason(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body.get("reason")?.as_str().map(str::to_owned)
    }
}

/// Why a push has no answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// TCP, or the stream underneath.
    #[error("the connection failed")]
    Io(#[from] std::io::Error),
    /// The proxy did not open the tunnel; its status line.
    #[error("the proxy answered: {0}")]
    Proxy(String),
    /// HTTP.
    #[error("the exchange failed")]
    Http(#[from] hyper::Error),
    /// A name, a field or TLS parameters.
    #[error("the push cannot be made")]
    Made(#[source] BoxError),
    /// Nothing came within 15 s.
    #[error("no answer in time")]
    Timeout,
}

#[derive(Debug)]
enum Exchange {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

/// An open connection.
#[derive(Debug)]
pub struct Connected {
    exchange: Exchange,
    sender: Sender,
    /// What ALPN chose.
    pub alpn: Option<String>,
    /// Drives the connection; it ends with the last handle.
    driver: Arc<tokio::task::JoinSet<()>>,
}

impl Sender {
    /// Opens TCP, the tunnel and TLS.
    pub async fn tls(&self) -> Result<TlsStream<TcpStream>, SendError> {
        let mut tcp = TcpStream::connect(self.connect).await?;
        tcp.set_nodelay(true)?;
        if let Some(credentials) = &self.proxy {
            self.tunnel(&mut tcp, credentials.as_ref()).await?;
        }
        let made = |error| SendError::Made(error);
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|error| made(error.into()))?
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = self.speech.alpn().map(<[u8]>::to_vec).into_iter().collect();
        let name = self.sni.as_ref().unwrap_or(&self.host).clone();
        let name = ServerName::try_from(name).map_err(|error| made(error.into()))?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, tcp).await?)
    }

    async fn tunnel(
        &self,
        tcp: &mut TcpStream,
        credentials: Option<&(String, String)>,
    ) -> Result<(), SendError> {
        let target = format!("{}:{}", self.host, self.port);
        let mut head = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n");
        if let Some((user, password)) = credentials {
            let pair =
                base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"));
            head.push_str(&format!("Proxy-Authorization: Basic {pair}\r\n"));
        }
        head.push_str("\r\n");
        tcp.write_all(head.as_bytes()).await?;
        let answer = read_head(tcp).await?.unwrap_or_default();
        let opened = answer.line.split(' ').nth(1).is_some_and(|word| word.starts_with('2'));
        let line = || crate::hop::clean(answer.line.as_bytes(), 120);
        if opened { Ok(()) } else { Err(SendError::Proxy(line())) }
    }

    /// Opens a connection, for many pushes. Fails after 15 s at the latest.
    pub async fn connect(&self) -> Result<Connected, SendError> {
        let open = self.open();
        tokio::time::timeout(PATIENCE, open).await.map_err(|_late| SendError::Timeout)?
    }

    async fn open(&self) -> Result<Connected, SendError> {
        let tls = self.tls().await?;
        let alpn = tls.get_ref().1.alpn_protocol().map(|name| crate::hop::clean(name, 32));
        let mut driver = tokio::task::JoinSet::new();
        // How a connection ended is told by the exchanges on it.
        let exchange = if self.speech.multiplexes() {
            let (send, connection) =
                http2::handshake(TokioExecutor::new(), TokioIo::new(tls)).await?;
            driver.spawn(async move { drop(connection.await) });
            Exchange::Two(send)
        } else {
            let (send, connection) = http1::handshake(TokioIo::new(tls)).await?;
            driver.spawn(async move { drop(connection.await) });
            Exchange::One(send)
        };
        Ok(Connected { exchange, sender: self.clone(), alpn, driver: Arc::new(driver) })
    }

    /// Opens a connection for one push.
    pub async fn send(&self, push: &Push) -> Result<Receipt, SendError> {
        self.connect().await?.send(push).await
    }
}

impl Connected {
    /// Sends one push and reads its answer. Fails after 15 s at the latest.
    pub async fn send(&mut self, push: &Push) -> Result<Receipt, SendError> {
        let exchange = self.exchange(push);
        tokio::time::timeout(PATIENCE, exchange).await.map_err(|_late| SendError::Timeout)?
    }

    /// Another handle on the same HTTP/2 connection; `None` over HTTP/1, where exchanges queue.
    pub fn another(&self) -> Option<Self> {
        let Exchange::Two(send) = &self.exchange else { return None };
        Some(Self {
            exchange: Exchange::Two(send.clone()),
            sender: self.sender.clone(),
            alpn: self.alpn.clone(),
            driver: Arc::clone(&self.driver),
        })
    }

    async fn exchange(&mut self, push: &Push) -> Result<Receipt, SendError> {
        let started = Instant::now();
        let request = request(&self.sender, push).map_err(|error| SendError::Made(error.into()))?;
        let answer = match &mut self.exchange {
            Exchange::One(send) => {
                send.ready().await?;
                send.send_request(request).await?
            }
            Exchange::Two(send) => {
                send.ready().await?;
                send.send_request(request).await?
            }
        };
        let (head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Receipt { head, body, took: started.elapsed() })
    }
}

fn request(sender: &Sender, push: &Push) -> Result<Request<Full<Bytes>>, http::Error> {
    let authority = match sender.port {
        443 => sender.host.clone(),
        port => format!("{}:{port}", sender.host),
    };
    let mut request = Request::builder().method(push.method.clone());
    request = if sender.speech.multiplexes() {
        request.uri(format!("https://{authority}{}", push.path)).version(Version::HTTP_2)
    } else {
        let version =
            if sender.speech == Speech::Http10 { Version::HTTP_10 } else { Version::HTTP_11 };
        request.uri(&push.path).version(version).header("host", authority)
    };
    for (name, value) in &push.fields {
        request = request.header(name, value);
    }
    request.body(Full::new(push.body.clone()))
}
