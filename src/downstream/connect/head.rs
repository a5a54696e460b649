//! The head of a CONNECT: strict where framing is concerned, tolerant where senders err.
//!
//! Pure. The request target decides; Host is not looked at, because node-apn and sygnal write the
//! proxy's own name there.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::{ConnectRefusal, LARGEST_HEAD};
use crate::names::Authority;

/// More fields than any sender writes.
const FIELDS: usize = 64;

/// What a CONNECT asks for.
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectHead {
    /// Whereto.
    pub target: Authority,
    /// `Proxy-Authorization: Basic`.
    pub basic: Option<Basic>,
    /// Not HTTP/1.1 but 1.0.
    pub http10: bool,
}

/// `user:password` as sent; wiped when dropped, never shown.
#[derive(PartialEq, Eq)]
pub struct Basic(Zeroizing<Vec<u8>>);

impl Basic {
    /// The octets.
    pub(super) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Basic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Basic")
    }
}

/// Parses a head; with it, how many octets it takes. `None`: it is not whole yet.
pub fn parse(bytes: &[u8]) -> Result<Option<(ConnectHead, usize)>, ConnectRefusal> {
    let malformed = ConnectRefusal::Malformed;
    let window = &bytes[..bytes.len().min(LARGEST_HEAD)];
    let Some(end) = window.windows(4).position(|four| four == b"\r\n\r\n") else {
        if window.len() == LARGEST_HEAD {
            return Err(malformed("the head is too large"));
        }
        // A bare LF would never end: say so at once instead of waiting for the deadline.
        if window.windows(2).any(|two| two == b"\n\n") {
            return Err(malformed("lines end with a bare LF"));
        }
        return Ok(None);
    };
    let head = &window[..end + 4];
    let bare = |(at, b): (usize, &u8)| match b {
        b'\n' => at == 0 || head[at - 1] != b'\r',
        b'\r' => head.get(at + 1) != Some(&b'\n'),
        _ => false,
    };
    if head.iter().enumerate().any(bare) {
        return Err(malformed("a bare CR or LF"));
    }
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let parsed = request.parse(head).map_err(|_syntax| malformed("not HTTP/1"))?;
    if parsed != httparse::Status::Complete(head.len()) || request.method != Some("CONNECT") {
        return Err(malformed("not one CONNECT"));
    }
    let target = request.path.unwrap_or_default();
    let target = target.parse().map_err(|_bad| malformed("the target is not host:port"))?;
    let mut basic = None;
    for field in request.headers.iter() {
        if field.name.eq_ignore_ascii_case("proxy-authorization") {
            if basic.is_some() {
                return Err(malformed("two Proxy-Authorization fields"));
            }
            basic = Some(decode(field.value));
        }
        // A CONNECT has no content (RFC 9110 §9.3.6): what follows is the tunnel.
        let length = field.name.eq_ignore_ascii_case("content-length") && field.value != b"0";
        if length || field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(malformed("a CONNECT with content"));
        }
    }
    let http10 = request.version == Some(0);
    Ok(Some((ConnectHead { target, basic: basic.flatten(), http10 }, head.len())))
}

/// Basic credentials (RFC 7617), in the standard or the URL-safe alphabet (sygnal's), padded or
/// not. Another scheme or garbage counts as none.
fn decode(value: &[u8]) -> Option<Basic> {
    let (scheme, token) = value.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"basic ") {
        return None;
    }
    let standard = token.trim_ascii().iter().map(|b| match b {
        b'-' => b'+',
        b'_' => b'/',
        other => *other,
    });
    let mut standard = Zeroizing::new(standard.collect::<Vec<u8>>());
    while standard.last() == Some(&b'=') {
        standard.pop();
    }
    STANDARD_NO_PAD.decode(&standard[..]).ok().map(|octets| Basic(Zeroizing::new(octets)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(text: &str) -> ConnectHead {
        let (head, used) = parse(text.as_bytes()).unwrap().unwrap();
        assert_eq!(used, text.len());
        head
    }

    // F5: HTTP/1.0 and a wrong Host are accepted.
    #[test]
    fn f5_the_target_decides_whatever_host_says() {
        for (text, http10) in [
            ("CONNECT api.push.apple.com:443 HTTP/1.0\r\n\r\n", true),
            ("CONNECT api.push.apple.com:443 HTTP/1.1\r\n\r\n", false),
            ("CONNECT API.push.apple.com:443 HTTP/1.1\r\nHost: 10.0.0.1:3128\r\n\r\n", false),
            ("CONNECT api.push.apple.com:443 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", false),
            ("CONNECT api.push.apple.com:443 HTTP/1.1\r\nContent-Length: 0\r\n\r\n", false),
        ] {
            let head = whole(text);
            assert_eq!(head.target.to_string(), "api.push.apple.com:443");
            assert_eq!((head.http10, head.basic), (http10, None));
            for cut in 0..text.len() {
                assert_eq!(parse(&text.as_bytes()[..cut]), Ok(None), "{text:?} {cut}");
            }
        }
    }

    // F5: Basic in both alphabets.
    #[test]
    fn f5_basic_is_read_in_both_alphabets() {
        // user:?>?>~~ has characters that differ between the alphabets.
        for token in
            ["dXNlcjo/Pj8+fn4=", "dXNlcjo_Pj8-fn4=", "dXNlcjo_Pj8-fn4", " dXNlcjo/Pj8+fn4="]
        {
            for scheme in ["Basic", "BASIC", "basic"] {
                let head = whole(&format!(
                    "CONNECT a.example:443 HTTP/1.1\r\nProxy-Authorization: {scheme} {token}\r\n\r\n"
                ));
                assert_eq!(head.basic.unwrap().expose(), b"user:?>?>~~", "{token}");
            }
        }
        for value in ["Bearer dXNlcjo=", "Basic", "Basic !!!", ""] {
            let text =
                format!("CONNECT a.example:443 HTTP/1.1\r\nProxy-Authorization: {value}\r\n\r\n");
            assert_eq!(whole(&text).basic, None, "{value}");
        }
        assert_eq!(format!("{:?}", decode(b"Basic dXNlcjo=")), "Some(Basic)");
    }

    #[test]
    fn doubtful_heads_are_refused() {
        let large =
            format!("CONNECT a.example:443 HTTP/1.1\r\nX: {}\r\n", "x".repeat(LARGEST_HEAD));
        for text in [
            "CONNECT a.example HTTP/1.1\r\n\r\n",
            "CONNECT a.example:0 HTTP/1.1\r\n\r\n",
            "CONNECT user@a.example:443 HTTP/1.1\r\n\r\n",
            "CONNECT http://a.example:443/ HTTP/1.1\r\n\r\n",
            "CONNECT  a.example:443 HTTP/1.1\r\n\r\n",
            "CONNECT a.example:443 HTTP/2.0\r\n\r\n",
            "CONNECT a.example:443 HTTP/1.1\n\n",
            "CONNECT a.example:443 HTTP/1.1\r\nA: b\nC: d\r\n\r\n",
            "CONNECT a.example:443 HTTP/1.1\r\nA : b\r\n\r\n",
            "CONNECT a.example:443 HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
            "CONNECT a.example:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n",
            "CONNECT a.example:443 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "CONNECT a.example:443 HTTP/1.1\r\nProxy-Authorization: Basic YTpi\r\n\
             Proxy-Authorization: Basic YTpj\r\n\r\n",
            large.as_str(),
        ] {
            let result = parse(text.as_bytes());
            assert!(matches!(result, Err(ConnectRefusal::Malformed(_))), "{text:.60} {result:?}");
        }
    }
}
