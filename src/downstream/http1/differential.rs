//! Our codec beside hyper's HTTP/1 server: whatever we accept, hyper accepts too and reads in the
//! same way. `PUSHRELAY_FUZZ_CASES` sets how many inputs are tried.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::body::BodyReader;
use super::head::{HeadReader, parse_head};

/// Enough to meet every pair of lines and mutations, in about a second.
const CASES: u64 = 40_000;
const LIMIT: usize = 16 * 1024;

/// Method, path, fields that may differ in reading, body.
type Request = (String, String, Vec<(String, Vec<u8>)>, Bytes);

/// What we would hand to the relay, in order, until something is refused.
fn ours(input: &[u8]) -> Vec<Request> {
    let mut buf = BytesMut::from(input);
    let mut all = Vec::new();
    loop {
        let Ok(Some(bytes)) = HeadReader::default().take(&mut buf, LIMIT) else { return all };
        let now = std::time::Instant::now();
        let Ok(parsed) = parse_head(&bytes, None, now) else { return all };
        let Ok(mut body) = BodyReader::new(parsed.framing, LIMIT) else { return all };
        let Ok(Some(body)) = body.take(&mut buf) else { return all };
        let head = parsed.head;
        let fields = head.headers.iter().map(field).collect();
        all.push((head.method.to_string(), head.target, fields, body));
        if !parsed.persistent {
            return all;
        }
    }
}

fn field((name, value): (&http::HeaderName, &http::HeaderValue)) -> (String, Vec<u8>) {
    (name.to_string(), value.as_bytes().to_vec())
}

/// What hyper hands to its service.
async fn hypers(input: &[u8]) -> Vec<Request> {
    let (mut client, server) = tokio::io::duplex(256 * 1024);
    client.write_all(input).await.unwrap();
    client.shutdown().await.unwrap();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            if let Ok(body) = body.collect().await {
                let method = head.method.to_string();
                let path = match head.uri.path_and_query().map(|path| path.as_str()) {
                    Some(path) if path.starts_with('?') => format!("/{path}"),
                    Some(path) => path.to_owned(),
                    None => "/".to_owned(),
                };
                let fields = head.headers.iter().filter(|(name, _)| *name != "host");
                let fields = fields.map(field).collect();
                seen.borrow_mut().push((method, path, fields, body.to_bytes()));
            }
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    builder.half_close(true).timer(hyper_util::rt::TokioTimer::new());
    let served = builder.serve_connection(TokioIo::new(server), service);
    let end = tokio::time::timeout(Duration::from_secs(10), served).await;
    drop(end.expect("hyper ends when its peer has ended"));
    let mut answers = Vec::new();
    drop(client.read_to_end(&mut answers).await);
    seen.take()
}

const LINES: &[&str] = &[
    "POST /3/device/00aa HTTP/1.1\r\n",
    "GET / HTTP/1.1\r\n",
    "POST https://a.example/x?y=1 HTTP/1.1\r\n",
    "POST /x HTTP/1.0\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "HEAD /{x} HTTP/1.1\r\n",
    "Host: a.example\r\n",
    "Host: a.example:443\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 03\r\n",
    "Content-Length: 3, 3\r\n",
    "Content-Length: +3\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: \tchunked \r\n",
    "Connection: keep-alive\r\n",
    "Connection: close\r\n",
    "Connection: Upgrade, HTTP2-Settings\r\n",
    "Upgrade: h2c\r\n",
    "Expect: 100-continue\r\n",
    "apns-topic: com.example\r\n",
    "X_Y: \u{e4}\t\u{7f}\r\n",
    "X: a\r\n b\r\n",
    "X :a\r\n",
    "X:\r\n",
    "\r\n",
    "\n",
    "abc",
    "3\r\nabc\r\n",
    "03;x=\"y\"\r\nabc\r\n",
    "3 \r\nabc\r\n",
    "3\nabc\r\n",
    "0\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "0\r\nContent-Length: 5\r\n\r\n",
    "0;\r\n\r\n",
];

const OCTETS: &[u8] = b"\r\n\0\t :;,/*?#%+-_019aAfFxX\"{}\x0b\x7f\x80\xff";

/// A sound request or two, or lines in any order; then some octets changed, removed, doubled.
fn input(rng: &mut TestRng) -> Vec<u8> {
    let mut pick = |n: usize| usize::try_from(rng.next_u64()).unwrap() % n;
    let mut text = Vec::new();
    if pick(3) == 0 {
        for _ in 0..pick(10) {
            text.extend_from_slice(LINES[pick(LINES.len())].as_bytes());
        }
    }
    for _ in 0..=pick(2) {
        text.extend_from_slice(LINES[pick(6)].as_bytes());
        text.extend_from_slice(LINES[6 + pick(2)].as_bytes());
        for _ in 0..pick(3) {
            text.extend_from_slice(LINES[8 + pick(17)].as_bytes());
        }
        match pick(3) {
            0 => text.extend_from_slice(b"Content-Length: 3\r\n\r\nabc"),
            1 => {
                text.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
                for _ in 0..pick(3) {
                    text.extend_from_slice(LINES[28 + pick(4)].as_bytes());
                }
                text.extend_from_slice(LINES[32 + pick(4)].as_bytes());
            }
            _ => text.extend_from_slice(b"\r\n"),
        }
    }
    for _ in 0..pick(4) {
        let at = pick(text.len());
        match pick(4) {
            0 => text[at] = OCTETS[pick(OCTETS.len())],
            1 => text.insert(at, OCTETS[pick(OCTETS.len())]),
            2 => drop(text.remove(at)),
            _ => text.insert(at, text[at]),
        }
    }
    text
}

#[tokio::test]
async fn whatever_we_accept_hyper_accepts_and_reads_alike() {
    let cases = std::env::var("PUSHRELAY_FUZZ_CASES");
    let cases = cases.map_or(CASES, |text| text.parse().expect("a number"));
    // The usual run is the same each time; a longer one also sees other inputs by its length.
    let mut rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut accepted = 0_u64;
    for _ in 0..cases {
        let input = input(&mut rng);
        let ours = ours(&input);
        let hypers = hypers(&input).await;
        accepted += u64::from(!ours.is_empty());
        let agrees = hypers.len() >= ours.len() && hypers[..ours.len()] == ours[..];
        assert!(agrees, "{}\n{ours:#?}\n{hypers:#?}", input.escape_ascii());
    }
    // A comparison in which nearly everything is refused would show nothing.
    assert!(accepted > cases / 10, "{accepted} of {cases}");
}
