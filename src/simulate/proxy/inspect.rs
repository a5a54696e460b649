//! The TLS-inspecting side of the simulated proxy: ends TLS with leaves of its own and speaks
//! HTTP/1.1 onwards, as Squid's ssl-bump and older boxes do.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{LazyConfigAcceptor, TlsConnector, client, server};

use super::super::authority::provider;
use super::tunnel::splice;
use super::{Head, Shared, page, read_head, refuse};

/// Bodies above this are no push.
const MAX_BODY: usize = 4 << 20;

fn invalid(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, what)
}

/// Ends the client's TLS, noting what ALPN it offered.
async fn terminate(
    tcp: TcpStream,
    shared: &Arc<Shared>,
    at: Option<usize>,
    alpn: &[&[u8]],
) -> std::io::Result<server::TlsStream<TcpStream>> {
    let start = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), tcp).await?;
    let hello = start.client_hello();
    let offered: Vec<String> = hello
        .alpn()
        .map(|names| names.map(|name| crate::hop::clean(name, 32)).collect())
        .unwrap_or_default();
    // An inspecting box that knows HTTP/1.1 alone leaves ALPN out where nothing fits.
    let fits = offered.iter().any(|name| alpn.contains(&name.as_bytes()));
    let config = shared.authority.server_config(if fits { alpn } else { &[] });
    shared.update(at, |seen| seen.offered = offered);
    start.into_stream(Arc::new(config)).await
}

/// TLS towards the next hop.
async fn onwards(
    shared: &Arc<Shared>,
    at: Option<usize>,
    host: &str,
    next: SocketAddr,
    alpn: &[&[u8]],
) -> std::io::Result<client::TlsStream<TcpStream>> {
    let mut config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(invalid)?
        .with_root_certificates(Arc::clone(&shared.upstream_roots))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from(host.to_owned()).map_err(invalid)?;
    let tcp = TcpStream::connect(next).await?;
    tcp.set_nodelay(true)?;
    let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
    let chosen = tls.get_ref().1.alpn_protocol().map(|name| crate::hop::clean(name, 32));
    shared.update(at, |seen| seen.chosen = chosen);
    Ok(tls)
}

/// Forwards HTTP/1.1 requests one by one over one connection onwards.
pub(super) async fn http1(
    tcp: TcpStream,
    shared: &Arc<Shared>,
    at: Option<usize>,
    host: &str,
    next: SocketAddr,
) -> std::io::Result<()> {
    let mut client = terminate(tcp, shared, at, &[b"http/1.1"]).await?;
    let mut origin = match onwards(shared, at, host, next, &[b"http/1.1"]).await {
        Ok(origin) => origin,
        Err(_unreachable) => {
            read_head(&mut client).await?;
            return refuse(&mut client, 503, &[]).await;
        }
    };
    loop {
        let Some(request) = read_head(&mut client).await? else { return Ok(()) };
        if request.line.starts_with("PRI * HTTP/2.0") {
            return refuse(&mut client, 405, &[]).await;
        }
        let body = read_body(&mut client, &request, true).await?;
        let head = rewrite(&request, body.len(), REQUEST_ADDS);
        origin.write_all(head.as_bytes()).await?;
        origin.write_all(&body).await?;
        origin.flush().await?;
        let Some(answer) = final_head(&mut origin).await? else {
            return refuse(&mut client, 502, &[]).await;
        };
        let status = status(&answer);
        let bodiless = matches!(status, 204 | 304);
        let body =
            if bodiless { Vec::new() } else { read_body(&mut origin, &answer, false).await? };
        note(shared, at, &request, status);
        client.write_all(rewrite(&answer, body.len(), ANSWER_ADDS).as_bytes()).await?;
        client.write_all(&body).await?;
        client.flush().await?;
        let close = |head: &Head| {
            head.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
        };
        if close(&request) || close(&answer) {
            return client.shutdown().await;
        }
    }
}

fn note(shared: &Arc<Shared>, at: Option<usize>, request: &Head, status: u16) {
    let mut words = request.line.split(' ');
    let (method, version) = (words.next().unwrap_or_default(), words.nth(1).unwrap_or_default());
    let line = crate::hop::clean(format!("{method} {version} -> {status}").as_bytes(), 60);
    shared.update(at, |seen| seen.forwarded.push(line));
}

/// What Squid adds on the way up and down.
const REQUEST_ADDS: &str = "Via: 1.1 simulated-proxy (squid/5.7)\r\nX-Forwarded-For: 10.0.0.7\r\nCache-Control: max-age=259200\r\n";
const ANSWER_ADDS: &str =
    "X-Cache: MISS from simulated-proxy\r\nVia: 1.1 simulated-proxy (squid/5.7)\r\n";

/// Writes a head again as a proxy does: hop-by-hop fields out, its own in, the length exact.
fn rewrite(head: &Head, body: usize, adds: &str) -> String {
    let mut line = head.line.clone();
    if line.ends_with(" HTTP/1.0") {
        let end = line.len() - 1;
        line.replace_range(end.., "1");
    }
    let mut text = format!("{line}\r\n");
    for (name, value) in &head.fields {
        let lower = name.to_ascii_lowercase();
        let dropped = ["connection", "proxy-connection", "keep-alive", "transfer-encoding"];
        if !dropped.contains(&lower.as_str()) && lower != "content-length" {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    text.push_str(&format!("Content-Length: {body}\r\n{adds}Connection: keep-alive\r\n\r\n"));
    text
}

fn status(head: &Head) -> u16 {
    head.line.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
}

async fn final_head<IO: AsyncRead + Unpin>(io: &mut IO) -> std::io::Result<Option<Head>> {
    loop {
        match read_head(io).await? {
            Some(head) if status(&head) / 100 == 1 => {}
            other => return Ok(other),
        }
    }
}

async fn read_body<IO: AsyncRead + AsyncWrite + Unpin>(
    io: &mut IO,
    head: &Head,
    request: bool,
) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if head.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        while let size @ 1.. = chunk_size(io).await? {
            let start = body.len();
            if start + size > MAX_BODY {
                return Err(invalid("body too large"));
            }
            body.resize(start + size, 0);
            io.read_exact(&mut body[start..]).await?;
            chunk_line(io).await?;
        }
        while !chunk_line(io).await?.is_empty() {}
        return Ok(body);
    }
    match head.get("content-length").map(str::parse::<usize>) {
        Some(Ok(len)) if len <= MAX_BODY => {
            if request && head.get("expect").is_some() {
                io.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
            }
            body.resize(len, 0);
            io.read_exact(&mut body).await?;
        }
        Some(_) => return Err(invalid("content-length")),
        None if request => {}
        None => {
            io.take(4 << 20).read_to_end(&mut body).await?;
        }
    }
    Ok(body)
}

async fn chunk_line<IO: AsyncRead + Unpin>(io: &mut IO) -> std::io::Result<String> {
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        if line.len() > 1024 {
            return Err(invalid("chunk line too long"));
        }
        line.push(io.read_u8().await?);
    }
    line.truncate(line.len() - 2);
    String::from_utf8(line).map_err(invalid)
}

async fn chunk_size<IO: AsyncRead + Unpin>(io: &mut IO) -> std::io::Result<usize> {
    let line = chunk_line(io).await?;
    usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16).map_err(invalid)
}

/// Ends TLS on both sides and carries the bytes, ALPN lost.
pub(super) async fn strip(
    tcp: TcpStream,
    shared: &Arc<Shared>,
    at: Option<usize>,
    host: &str,
    (next, idle): (SocketAddr, Option<Duration>),
) -> std::io::Result<()> {
    let client = terminate(tcp, shared, at, &[]).await?;
    let origin = onwards(shared, at, host, next, &[]).await?;
    splice(client, origin, idle).await
}

/// Answers any request with a page inside TLS.
pub(super) async fn block(
    tcp: TcpStream,
    shared: &Arc<Shared>,
    at: Option<usize>,
) -> std::io::Result<()> {
    let mut client = terminate(tcp, shared, at, &[b"http/1.1"]).await?;
    read_head(&mut client).await?;
    let page = page(200);
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\r\n{page}",
        page.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await
}
