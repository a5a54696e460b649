//! A simulated FCM: the OAuth2 token endpoint and the v1 send, over HTTP/1.1 and HTTP/2.
//!
//! A registration token that begins with an error code of FCM (`UNREGISTERED-...`) gets that error;
//! every other one is known. Counts what it saw; keeps no token.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::{SimulateError, bind, lock};

/// A TLS handshake that takes longer has failed.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// FCM's messages are far smaller.
const MAX_BODY: usize = 256 * 1024;

/// Error codes, their status and the word of google.rpc (FCM v1 reference, `ErrorCode`).
const ERRORS: &[(&str, u16, &str)] = &[
    ("INTERNAL", 500, "INTERNAL"),
    ("INVALID_ARGUMENT", 400, "INVALID_ARGUMENT"),
    ("QUOTA_EXCEEDED", 429, "RESOURCE_EXHAUSTED"),
    ("SENDER_ID_MISMATCH", 403, "PERMISSION_DENIED"),
    ("THIRD_PARTY_AUTH_ERROR", 401, "UNAUTHENTICATED"),
    ("UNAVAILABLE", 503, "UNAVAILABLE"),
    ("UNREGISTERED", 404, "NOT_FOUND"),
];

/// What was seen.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// Connections accepted.
    pub connections: u64,
    /// Requests over HTTP/1.1.
    pub http1: u64,
    /// Requests over HTTP/2.
    pub http2: u64,
    /// Access tokens handed out.
    pub tokens: u64,
    /// Messages accepted.
    pub accepted: u64,
    /// Answers by the script or by a fault of the request.
    pub refused: u64,
}

/// A running FCM. Dropping it cuts its connections and frees the port.
#[derive(Debug)]
pub struct Fcm {
    address: SocketAddr,
    summary: Arc<Mutex<Summary>>,
    accepting: AbortHandle,
}

impl Fcm {
    /// Starts with these TLS parameters; their ALPN list is kept. Fails where the address cannot
    /// be bound.
    pub async fn start(
        address: SocketAddr,
        tls: rustls::ServerConfig,
    ) -> Result<Self, SimulateError> {
        let (listener, address) = bind(address).await?;
        let summary = Arc::new(Mutex::new(Summary::default()));
        let tls = TlsAcceptor::from(Arc::new(tls));
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&summary))).abort_handle();
        Ok(Self { address, summary, accepting })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it saw.
    pub fn summary(&self) -> Summary {
        lock(&self.summary).clone()
    }
}

impl Drop for Fcm {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, summary: Arc<Mutex<Summary>>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((tcp, _peer)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        lock(&summary).connections += 1;
        connections.spawn(serve(tcp, tls.clone(), Arc::clone(&summary)));
    }
}

async fn serve(tcp: TcpStream, tls: TlsAcceptor, summary: Arc<Mutex<Summary>>) {
    let Ok(Ok(io)) = tokio::time::timeout(HANDSHAKE, tls.accept(tcp)).await else { return };
    let http2 = io.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = service_fn(move |request| answer(request, Arc::clone(&summary)));
    let io = TokioIo::new(io);
    // How a connection ended is the client's to notice.
    if http2 {
        drop(http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await);
    } else {
        drop(http1::Builder::new().serve_connection(io, service).await);
    }
}

async fn answer(
    request: Request<Incoming>,
    summary: Arc<Mutex<Summary>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_too_large_or_broken) => Bytes::new(),
    };
    let mut summary = lock(&summary);
    if head.version == Version::HTTP_2 {
        summary.http2 += 1;
    } else {
        summary.http1 += 1;
    }
    let path = head.uri.path();
    let (status, json) = if path == "/token" {
        summary.tokens += 1;
        oauth(&body)
    } else if head.method == Method::POST
        && path.starts_with("/v1/projects/")
        && path.ends_with("/messages:send")
    {
        let bearer = head.headers.get(AUTHORIZATION).is_some();
        send(path, bearer, &body)
    } else {
        error(404, "NOT_FOUND", None)
    };
    if status == 200 && path != "/token" {
        summary.accepted += 1;
    } else if status != 200 {
        summary.refused += 1;
    }
    let mut answer = Response::new(Full::new(Bytes::from(json.to_string())));
    *answer.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let json = http::HeaderValue::from_static("application/json; charset=UTF-8");
    answer.headers_mut().insert(CONTENT_TYPE, json);
    Ok(answer)
}

/// RFC 7523 §2.1: an assertion for a token.
fn oauth(body: &[u8]) -> (u16, serde_json::Value) {
    let asks = url::form_urlencoded::parse(body).any(|(name, value)| {
        name == "grant_type" && value == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    });
    if asks {
        let token = serde_json::json!({
            "access_token": "ya29.simulated", "expires_in": 3599, "token_type": "Bearer",
        });
        (200, token)
    } else {
        (400, serde_json::json!({ "error": "unsupported_grant_type" }))
    }
}

fn send(path: &str, bearer: bool, body: &[u8]) -> (u16, serde_json::Value) {
    if !bearer {
        return error(401, "UNAUTHENTICATED", None);
    }
    let Ok(message) = serde_json::from_slice::<serde_json::Value>(body) else {
        return error(400, "INVALID_ARGUMENT", None);
    };
    let token = message["message"]["token"].as_str().unwrap_or_default();
    if token.is_empty() && message["message"]["topic"].is_null() {
        return error(400, "INVALID_ARGUMENT", Some("INVALID_ARGUMENT"));
    }
    let scripted = ERRORS
        .iter()
        .find(|(code, ..)| token.strip_prefix(code).is_some_and(|rest| rest.starts_with('-')));
    if let Some((code, status, word)) = scripted {
        return error(*status, word, Some(code));
    }
    let project = path.trim_end_matches("/messages:send").trim_start_matches("/v1/");
    (200, serde_json::json!({ "name": format!("{project}/messages/0:1") }))
}

/// google.rpc.Status with FCM's own detail.
fn error(status: u16, word: &str, code: Option<&str>) -> (u16, serde_json::Value) {
    let detail = code.map(|code| {
        serde_json::json!({
            "@type": "type.googleapis.com/google.firebase.fcm.v1.FcmError", "errorCode": code,
        })
    });
    let details: Vec<_> = detail.into_iter().collect();
    let error = serde_json::json!({
        "code": status, "message": word, "status": word, "details": details,
    });
    (status, serde_json::json!({ "error": error }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_that_name_an_error_get_it() {
        let send_to = |token: &str| {
            let body = serde_json::json!({ "message": { "token": token } }).to_string();
            send("/v1/projects/p/messages:send", true, body.as_bytes())
        };
        for (code, status, _) in ERRORS {
            let (got, body) = send_to(&format!("{code}-1"));
            assert_eq!(
                (got, body["error"]["details"][0]["errorCode"].as_str()),
                (*status, Some(*code))
            );
        }
        assert_eq!(send_to("known").1["name"], "projects/p/messages/0:1");
        assert_eq!(send("/v1/projects/p/messages:send", false, b"{}").0, 401);
    }
}
