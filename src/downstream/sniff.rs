//! What is spoken, told by the first bytes of a connection.
//!
//! Pure: reading them, and the deadline for it, is the listener's. Ports are shared (TLS, CONNECT,
//! plain HTTP), and many senders use HTTP/2 without ALPN, so bytes decide, never the port number.

/// The start of every HTTP/2 connection of a client (RFC 9113 §3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The start of a PROXY protocol version 2 header.
const PROXY_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The start of a PROXY protocol version 1 header.
const PROXY_V1: &[u8] = b"PROXY ";
/// The longest method that is still taken for HTTP: `UPDATEREDIRECTREF`, the longest registered
/// one, has 17 characters.
const LONGEST_METHOD: usize = 20;

/// What the first bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum First {
    /// HTTP CONNECT.
    Connect,
    /// Another HTTP/1 request.
    Http1,
    /// The preface of HTTP/2.
    Http2Preface,
    /// Too few bytes to tell.
    NeedMore,
    /// A PROXY header where none belongs.
    ProxyHeader,
    /// A TLS handshake record.
    Tls,
    /// None of these.
    Unknown,
}

impl First {
    /// For log lines.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Connect => "HTTP CONNECT",
            Self::Http1 => "plain HTTP/1",
            Self::Http2Preface => "plain HTTP/2",
            Self::NeedMore => "too few bytes",
            Self::ProxyHeader => "a PROXY header",
            Self::Tls => "TLS",
            Self::Unknown => "neither TLS nor HTTP",
        }
    }
}

/// Judges the first bytes of a connection. Never asks for more than 24.
pub fn sniff(bytes: &[u8]) -> First {
    match bytes {
        [] | [0x16] => return First::NeedMore,
        // A handshake record; the second octet is the major version, 3 in every version.
        [0x16, 0x03, ..] => return First::Tls,
        _ => {}
    }
    for (word, first) in [
        (PREFACE, First::Http2Preface),
        (PROXY_V2, First::ProxyHeader),
        (PROXY_V1, First::ProxyHeader),
        (b"CONNECT ", First::Connect),
    ] {
        if bytes.starts_with(word) {
            return first;
        }
        if word.starts_with(bytes) {
            return First::NeedMore;
        }
    }
    // One empty line before a request is tolerated (RFC 9112 §2.2).
    let line = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
    if line.is_empty() {
        return First::NeedMore;
    }
    let method = line.iter().take_while(|b| is_token(**b)).count();
    match line.get(method) {
        _ if method > LONGEST_METHOD => First::Unknown,
        None => First::NeedMore,
        Some(b' ') if method > 0 => First::Http1,
        Some(_) => First::Unknown,
    }
}

/// Judges the first bytes inside TLS, where ALPN said nothing: the preface, or HTTP/1.
pub fn sniff_inner(bytes: &[u8]) -> First {
    if bytes.starts_with(PREFACE) {
        First::Http2Preface
    } else if PREFACE.starts_with(bytes) {
        First::NeedMore
    } else {
        First::Http1
    }
}

/// A character of a method (RFC 9110 §5.6.2).
const fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_is_spoken() {
        for (bytes, expected) in [
            (&b""[..], First::NeedMore),
            (b"\x16", First::NeedMore),
            (b"\x16\x03\x01", First::Tls),
            (b"\x16\x02\x01", First::Unknown),
            (b"\x80\x2e\x01", First::Unknown),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", First::Http2Preface),
            (b"PRI * HTTP/2.0\r\n\r\n", First::NeedMore),
            (b"PRI / HTTP/1.1\r\n", First::Http1),
            (b"P", First::NeedMore),
            (b"POST /3/device", First::Http1),
            (b"GET http://push.example/ HTTP/1.1", First::Http1),
            (b"CONNECT a:443 HTTP/1.0", First::Connect),
            (b"CONNECT", First::NeedMore),
            (b"CONNECTED /", First::Http1),
            (b"PROXY TCP4 10.0.0.1", First::ProxyHeader),
            (b"\r\n\r\n\0\r\nQUIT\n\x21", First::ProxyHeader),
            (b"\r\nPOST /", First::Http1),
            (b"\r\n\r\nPOST", First::Unknown),
            (b"SSH-2.0-OpenSSH_9.2\r\n", First::Unknown),
            (b"AAAAAAAAAAAAAAAAAAAAAAAAAAA", First::Unknown),
            (b" GET / HTTP/1.1", First::Unknown),
            (b"\0\0\0\0", First::Unknown),
        ] {
            assert_eq!(sniff(bytes), expected, "{}", bytes.escape_ascii());
        }
    }

    #[test]
    fn a_verdict_never_waits_for_more_than_24_bytes() {
        for first in 0..=255_u8 {
            for second in [0_u8, 3, b' ', b'A', b'R'] {
                let mut bytes = [b'A'; 24];
                (bytes[0], bytes[1]) = (first, second);
                assert_ne!(sniff(&bytes), First::NeedMore, "{}", bytes.escape_ascii());
            }
        }
    }

    // F1: without ALPN the preface decides.
    #[test]
    fn f1_inside_tls_only_the_preface_is_http2() {
        assert_eq!(sniff_inner(PREFACE), First::Http2Preface);
        assert_eq!(sniff_inner(b"PRI"), First::NeedMore);
        assert_eq!(sniff_inner(b"PUT"), First::Http1);
        assert_eq!(sniff_inner(b"\x16\x03"), First::Http1);
    }
}
