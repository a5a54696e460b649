//! Paths and answers of the admin server.

use std::net::SocketAddr;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};

use super::{Site, guard, page};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const HTML: &str = "text/html; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Nothing is loaded, nothing runs; the page carries its own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

pub(super) async fn answer(
    site: &Site,
    peer: SocketAddr,
    request: &Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (method, path) = (request.method(), request.uri().path());
    let token = site.token.as_ref();
    if let Err((status, why)) =
        guard::check(&site.admin, token, peer, method, path, request.headers())
    {
        return refused(status, why);
    }
    let reads = *method == Method::GET || *method == Method::HEAD;
    match path {
        "/" | "/status" | "/configuration" | "/metrics" | "/livez" | "/readyz" if !reads => {
            refused(StatusCode::METHOD_NOT_ALLOWED, "GET only")
        }
        "/livez" => made(StatusCode::OK, TEXT, "alive\n".to_owned()),
        "/readyz" => match site.readiness.ready() {
            Ok(()) => made(StatusCode::OK, TEXT, "ready\n".to_owned()),
            Err(why) => refused(StatusCode::SERVICE_UNAVAILABLE, why),
        },
        "/metrics" => made(StatusCode::OK, OPEN_METRICS, site.metrics.encode()),
        "/status" => match site.status().await {
            Some(status) => made(StatusCode::OK, JSON, format!("{status:#}\n")),
            None => busy(),
        },
        "/" => match site.status().await {
            Some(status) => made(StatusCode::OK, HTML, page::render(&status)),
            None => busy(),
        },
        "/configuration" => match site.asker.configuration().await {
            Some(text) => made(StatusCode::OK, TEXT, text),
            None => busy(),
        },
        "/latch/clear" => clear_latch(site, request).await,
        _elsewhere => refused(StatusCode::NOT_FOUND, "there is no such page"),
    }
}

async fn clear_latch(site: &Site, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    if *request.method() != Method::POST {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "POST only");
    }
    let query = request.uri().query().unwrap_or_default().as_bytes();
    let egress = url::form_urlencoded::parse(query).find(|(name, _value)| name == "egress");
    let Some((_name, egress)) = egress else {
        return refused(StatusCode::BAD_REQUEST, "?egress=NAME is missing");
    };
    match site.asker.clear_latch(egress.into_owned()).await {
        Some(true) => made(StatusCode::OK, TEXT, "cleared\n".to_owned()),
        Some(false) => refused(StatusCode::NOT_FOUND, "there is no such egress"),
        None => busy(),
    }
}

fn busy() -> Response<Full<Bytes>> {
    refused(StatusCode::SERVICE_UNAVAILABLE, "the data plane did not answer in time")
}

fn refused(status: StatusCode, why: &str) -> Response<Full<Bytes>> {
    let mut response = made(status, TEXT, format!("{why}\n"));
    if status == StatusCode::UNAUTHORIZED {
        let scheme = HeaderValue::from_static("Bearer");
        response.headers_mut().insert(WWW_AUTHENTICATE, scheme);
    }
    response
}

fn made(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    for (name, value) in [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}
