//! The bytes to the relay as the sender's environment leads: straight, or through its proxy.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

use crate::hop::clean;
use crate::names::{Authority, Host};
use crate::pki::roots::Roots;
use crate::probe::control;
use crate::upstream::dial::Offer;
use crate::upstream::tls::TlsClient;
use crate::upstream::tunnel::{Answer, AnswerReader, request};

/// A proxy of the environment answers CONNECT within this.
pub(super) const PROXY: Duration = Duration::from_secs(5);

/// Any byte stream.
pub(super) trait Bytes: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Bytes for T {}

/// A connection to whatever the sender would reach, and its two ends.
pub(super) struct Way {
    pub(super) io: Box<dyn Bytes>,
    pub(super) ends: (SocketAddr, SocketAddr),
}

impl Way {
    pub(super) fn straight(tcp: TcpStream) -> std::io::Result<Self> {
        let ends = (tcp.local_addr()?, tcp.peer_addr()?);
        Ok(Self { io: Box::new(tcp), ends })
    }
}

/// CONNECT through the proxy that a variable names, as the sender does it. `Err` is what to tell;
/// it never holds the URL, in which a password may stand.
pub(super) async fn proxied(url: &str, target: &Authority, roots: &Roots) -> Result<Way, String> {
    let url = if url.contains("://") { url.to_owned() } else { format!("http://{url}") };
    let url = Url::parse(&url).map_err(|_secret| "it is no URL".to_owned())?;
    let host = url.host_str().ok_or("it names no host")?;
    let host: Host = host.parse().map_err(|_bad| "it names no host")?;
    let port = url.port_or_known_default().unwrap_or(80);
    let at = Authority::new(host, port);
    let io = |error: std::io::Error| error.to_string();
    let tcp = control::connected(&at).await.ok_or("it cannot be reached")?;
    let mut way = Way::straight(tcp).map_err(io)?;
    match url.scheme() {
        "http" => {}
        "https" => {
            let tls = TlsClient::new(roots, true).map_err(|error| error.to_string())?;
            let shaken = tls.handshake(way.io, &at.host, Offer::Http1, None).await;
            let (io, _facts) =
                shaken.map_err(|failure| clean(failure.error.to_string().as_bytes(), 200))?;
            way.io = Box::new(io);
        }
        other => return Err(format!("{other} proxies are not tried by the probe")),
    }
    let user = (!url.username().is_empty()).then(|| {
        let decoded = |text: &str| {
            let pairs = format!("x={}", text.replace('+', "%2B"));
            let found = url::form_urlencoded::parse(pairs.as_bytes()).next();
            found.map(|(_, text)| text.into_owned()).unwrap_or_default()
        };
        let password = decoded(url.password().unwrap_or_default());
        let pair = format!("{}:{password}", decoded(url.username()));
        format!("Basic {}", STANDARD.encode(pair))
    });
    way.io.write_all(&request(target, user.as_deref())).await.map_err(io)?;
    way.io.flush().await.map_err(io)?;
    let mut reader = AnswerReader::default();
    let mut buffer = [0; 4096];
    loop {
        let read = way.io.read(&mut buffer).await.map_err(io)?;
        let answer = if read == 0 {
            Some(reader.end().map_err(|fault| fault.to_string())?)
        } else {
            reader.read(&buffer[..read]).map_err(|fault| fault.to_string())?
        };
        match answer {
            Some(Answer::Opened { early, .. }) if early.is_empty() => return Ok(way),
            Some(Answer::Opened { .. }) => return Err("it speaks before the origin".to_owned()),
            Some(Answer::Refused(refused)) => {
                let refusal = refused.refusal;
                return Err(format!(
                    "it answers CONNECT with {} {}",
                    refusal.status, refusal.reason
                ));
            }
            None => {}
        }
    }
}
