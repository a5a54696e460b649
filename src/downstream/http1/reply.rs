//! An answer as HTTP/1.1 octets: exact status, the fields as given, a length, never chunks.

use bytes::{BufMut, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderName, StatusCode};

use crate::downstream::{Answer, Wire};

/// What the sender is told about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// It goes on.
    Continue,
    /// It ends with this answer.
    Close,
}

/// Head and body in one piece, for one write.
///
/// The version is always ours, HTTP/1.1 (RFC 9110 §6.2); HTTP/1.0 senders hear `keep-alive` when
/// the connection goes on. `to_head`: the request was HEAD, so the body is only measured.
pub(super) fn encode(answer: &Answer, wire: Wire, to_head: bool, then: Then) -> BytesMut {
    let status = answer.status;
    let fields: usize =
        answer.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    // Status line, content-length, connection and the empty line take less than 128.
    let mut out = BytesMut::with_capacity(128 + fields + answer.body.len());
    out.put_slice(b"HTTP/1.1 ");
    out.put_slice(status.as_str().as_bytes());
    out.put_u8(b' ');
    out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
    out.put_slice(b"\r\n");
    for (name, value) in &answer.headers {
        if !is_framing(name) {
            field(&mut out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    // The length that a HEAD would have had is not always known; then it is left out
    // (RFC 9110 §8.6).
    let unknown = to_head && answer.body.is_empty();
    if !bodiless && !unknown {
        field(&mut out, b"content-length", decimal(answer.body.len(), &mut [0; 20]));
    }
    match (then, wire) {
        (Then::Close, _) => field(&mut out, b"connection", b"close"),
        (Then::Continue, Wire::Http10) => field(&mut out, b"connection", b"keep-alive"),
        (Then::Continue, Wire::Http11 | Wire::Http2) => {}
    }
    out.put_slice(b"\r\n");
    if !bodiless && !to_head {
        out.put_slice(&answer.body);
    }
    out
}

/// The codec's own fields: an answer that carries one would be framed twice.
fn is_framing(name: &HeaderName) -> bool {
    *name == CONTENT_LENGTH || *name == CONNECTION || *name == TRANSFER_ENCODING
}

fn field(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_slice(name);
    out.put_slice(b": ");
    out.put_slice(value);
    out.put_slice(b"\r\n");
}

fn decimal(mut number: usize, room: &mut [u8; 20]) -> &[u8] {
    let mut at = room.len();
    loop {
        at -= 1;
        // A remainder of ten fits.
        room[at] = b'0' + u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            return &room[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn text(status: u16, body: &'static str, wire: Wire, to_head: bool, then: Then) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("apns-id", HeaderValue::from_static("A"));
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        let status = StatusCode::from_u16(status).unwrap();
        let body = Bytes::from_static(body.as_bytes());
        let answer = Answer { status, headers, body, close: false };
        String::from_utf8(encode(&answer, wire, to_head, then).to_vec()).unwrap()
    }

    #[test]
    fn s5_an_answer_has_a_length_and_is_never_chunked() {
        assert_eq!(
            text(410, "{}", Wire::Http11, false, Then::Continue),
            "HTTP/1.1 410 Gone\r\napns-id: A\r\ncontent-length: 2\r\n\r\n{}"
        );
        assert_eq!(
            text(200, "", Wire::Http11, false, Then::Close),
            "HTTP/1.1 200 OK\r\napns-id: A\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        );
    }

    #[test]
    fn a3_http_1_0_hears_keep_alive_or_close() {
        assert!(text(200, "", Wire::Http10, false, Then::Continue).contains("connection: keep-a"));
        assert!(text(200, "", Wire::Http10, false, Then::Close).contains("connection: close"));
    }

    #[test]
    fn c5_head_204_and_304_have_no_body() {
        for status in [204, 304] {
            let text = text(status, "x", Wire::Http11, false, Then::Continue);
            assert!(text.ends_with("apns-id: A\r\n\r\n"), "{text}");
        }
        let measured = text(200, "12345", Wire::Http11, true, Then::Continue);
        assert!(measured.ends_with("content-length: 5\r\n\r\n"), "{measured}");
        let unknown = text(200, "", Wire::Http11, true, Then::Continue);
        assert!(unknown.ends_with("apns-id: A\r\n\r\n"), "{unknown}");
    }

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 9, 10, 4096, usize::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
        }
    }
}
