//! The head of an HTTP/1.x request: from bytes to a [`Head`], strictly. Sans-I/O.
//!
//! Whoever stands before us may read a doubtful request in another way than we do, so whatever
//! RFC 9112 lets a recipient repair is refused here instead (rules A1-A6 of the notes). Nothing
//! here permits anything: that is the handle's.

use std::mem::MaybeUninit;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::body::Framing;
use crate::downstream::{Head, Wire};
use crate::names::{Authority, Host, HostName};
use crate::relay::outcome::Refusal;

/// More fields than this are refused with 431: the largest real push has about twenty.
const FIELDS: usize = 100;

/// Finds where a head ends. Each octet is looked at once, however it trickles in.
#[derive(Debug, Default)]
pub(super) struct HeadReader {
    seen: usize,
    line: usize,
    blank: bool,
}

impl HeadReader {
    /// Takes a whole head off `buf`, its empty line included; `None`: more octets are needed.
    ///
    /// One empty line before the request line is taken away (RFC 9112 §2.2). A line that ends
    /// without CR is refused at once, a head over `limit` octets as soon as that is certain.
    pub(super) fn take(
        &mut self,
        buf: &mut BytesMut,
        limit: usize,
    ) -> Result<Option<Bytes>, Refusal> {
        if !self.blank && buf.starts_with(b"\r\n") {
            buf.advance(2);
            self.blank = true;
        }
        match buf.first() {
            Some(first) if first.is_ascii_graphic() => {}
            Some(b'\r') if buf.len() == 1 && !self.blank => return Ok(None),
            Some(_) => return Err(Refusal::Malformed("the request line")),
            None => return Ok(None),
        }
        while let Some(at) = line_end(&buf[..buf.len().min(limit)], self.seen)? {
            if at == self.line + 1 {
                return Ok(Some(buf.split_to(at + 1).freeze()));
            }
            self.seen = at + 1;
            self.line = at + 1;
        }
        self.seen = buf.len();
        if buf.len() >= limit { Err(Refusal::HeadTooLarge) } else { Ok(None) }
    }
}

/// The place of the first LF at or after `from`; a CR must stand before it.
pub(super) fn line_end(buf: &[u8], from: usize) -> Result<Option<usize>, Refusal> {
    let Some(at) = buf[from.min(buf.len())..].iter().position(|&b| b == b'\n') else {
        return Ok(None);
    };
    let at = from + at;
    if at == 0 || buf[at - 1] != b'\r' {
        return Err(Refusal::Malformed("a line that does not end with CRLF"));
    }
    Ok(Some(at))
}

/// What a head says about itself and about what follows it.
#[derive(Debug)]
pub(super) struct ParsedHead {
    pub(super) head: Head,
    pub(super) framing: Framing,
    /// The sender waits for a 100 before it sends the body.
    pub(super) expects_continue: bool,
    /// The sender wants to go on after this exchange.
    pub(super) persistent: bool,
}

/// Why a head is refused, and the head as far as it makes sense.
#[derive(Debug)]
pub(super) struct HeadFault {
    pub(super) refusal: Refusal,
    pub(super) head: Option<Box<Head>>,
}

impl From<Refusal> for HeadFault {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, head: None }
    }
}

/// Reads a whole head as [`HeadReader::take`] cut it out.
///
/// `fallback` is the host of an HTTP/1.0 request that names none (rule A3), `started` goes into
/// the [`Head`] as it is. Field values share the memory of `bytes`.
pub(super) fn parse_head(
    bytes: &Bytes,
    fallback: Option<&HostName>,
    started: Instant,
) -> Result<ParsedHead, HeadFault> {
    let mut slots = [const { MaybeUninit::uninit() }; FIELDS];
    let mut request = httparse::Request::new(&mut []);
    match request.parse_with_uninit_headers(bytes, &mut slots) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(Refusal::Malformed("the head ends early").into()),
        Err(error) => return Err(syntax(error).into()),
    }
    let wire = if request.version == Some(1) { Wire::Http11 } else { Wire::Http10 };
    let method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())
        .map_err(|_bad| Refusal::Malformed("the method"))?;
    if method == Method::CONNECT {
        return Err(Refusal::Method.into());
    }
    let (named, target) = target(request.path.unwrap_or_default(), &method)?;
    let mut fields = Fields::default();
    let mut headers = HeaderMap::with_capacity(request.headers.len());
    for field in request.headers.iter() {
        let name = HeaderName::from_bytes(field.name.as_bytes())
            .map_err(|_bad| Refusal::Malformed("a field name"))?;
        if fields.note(&name, field.value)? {
            let value = HeaderValue::from_maybe_shared(bytes.slice_ref(field.value))
                .map_err(|_bad| Refusal::Malformed("a field value"))?;
            headers.append(name, value);
        }
    }
    let (host, port) = agree(named, fields.host.take(), wire, fallback)?;
    let head = Head { wire, method, host, port, target, headers, started };
    match fields.framing(wire) {
        Ok(framing) => Ok(ParsedHead {
            framing,
            expects_continue: wire == Wire::Http11 && fields.expect == Expect::Continue,
            persistent: !fields.close && (wire == Wire::Http11 || fields.keep_alive),
            head,
        }),
        Err(refusal) => Err(HeadFault { refusal, head: Some(Box::new(head)) }),
    }
}

const fn syntax(error: httparse::Error) -> Refusal {
    match error {
        httparse::Error::TooManyHeaders => Refusal::HeadTooLarge,
        httparse::Error::HeaderName => Refusal::Malformed("a field name"),
        httparse::Error::HeaderValue => Refusal::Malformed("a field value"),
        httparse::Error::NewLine => Refusal::Malformed("a line that does not end with CRLF"),
        httparse::Error::Version => Refusal::Malformed("the HTTP version"),
        httparse::Error::Status | httparse::Error::Token => Refusal::Malformed("the request line"),
    }
}

type HostPort = (Host, Option<u16>);

/// The authority of an absolute form and its scheme's port.
struct Absolute {
    host: Host,
    port: Option<u16>,
    default: u16,
}

/// Splits a request target (RFC 9112 §3.2) into the authority of an absolute form, and path and
/// query. A fragment and whatever RFC 3986 does not let stand bare in a path are refused.
fn target(text: &str, method: &Method) -> Result<(Option<Absolute>, String), Refusal> {
    const BAD: Refusal = Refusal::Malformed("the request target");
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@/?".contains(&b);
    if text == "*" {
        return if method == Method::OPTIONS { Ok((None, text.to_owned())) } else { Err(BAD) };
    }
    let (absolute, path) = if text.starts_with('/') {
        (None, text)
    } else {
        let (scheme, rest) = text.split_once("://").ok_or(BAD)?;
        let default = match scheme {
            s if s.eq_ignore_ascii_case("https") => 443,
            s if s.eq_ignore_ascii_case("http") => 80,
            _other => return Err(BAD),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let (host, port) =
            Authority::parse_optional_port(authority).map_err(|_bad| BAD_AUTHORITY)?;
        (Some(Absolute { host, port, default }), path)
    };
    if !path.bytes().all(allowed) {
        return Err(BAD);
    }
    let target = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Ok((absolute, target))
}

const BAD_AUTHORITY: Refusal = Refusal::Malformed("the authority in the request target");

/// One authority out of the absolute form and the Host field; they must not disagree (A1-A3).
fn agree(
    absolute: Option<Absolute>,
    field: Option<HostPort>,
    wire: Wire,
    fallback: Option<&HostName>,
) -> Result<HostPort, Refusal> {
    const NONE: Refusal = Refusal::Malformed("no Host");
    match (absolute, field) {
        (Some(Absolute { host, port, default }), Some((named, named_port))) => {
            // A default port may be written in one place and left out in the other.
            if host != named || port.unwrap_or(default) != named_port.unwrap_or(default) {
                return Err(Refusal::Malformed("Host and the request target disagree"));
            }
            Ok((host, port))
        }
        (None, Some(field)) => Ok(field),
        (_, None) if wire != Wire::Http10 => Err(NONE),
        (Some(Absolute { host, port, .. }), None) => Ok((host, port)),
        (None, None) => Ok((fallback.cloned().ok_or(NONE)?.into(), None)),
    }
}

/// What the fields say that concern the connection, collected in one pass.
#[derive(Debug, Default)]
struct Fields {
    host: Option<HostPort>,
    length: Option<u64>,
    coding: Coding,
    expect: Expect,
    close: bool,
    keep_alive: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Coding {
    #[default]
    None,
    Chunked,
    Other,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Expect {
    #[default]
    Nothing,
    Continue,
    Other,
}

impl Fields {
    /// Takes note of a field; false when it must not stand in the [`Head`].
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<bool, Refusal> {
        if *name == HOST {
            if self.host.is_some() {
                return Err(Refusal::Malformed("more than one Host"));
            }
            let text = std::str::from_utf8(value).map_err(|_bad| BAD_HOST)?;
            self.host = Some(Authority::parse_optional_port(text).map_err(|_bad| BAD_HOST)?);
            return Ok(false);
        }
        if *name == CONTENT_LENGTH {
            let length = content_length(value)?;
            if self.length.is_some_and(|before| before != length) {
                return Err(Refusal::Malformed("two lengths"));
            }
            // Equal ones are folded into the first (RFC 9112 §6.3).
            return Ok(self.length.replace(length).is_none());
        }
        if *name == TRANSFER_ENCODING {
            let chunked = value.eq_ignore_ascii_case(b"chunked") && self.coding == Coding::None;
            self.coding = if chunked { Coding::Chunked } else { Coding::Other };
        } else if *name == EXPECT {
            let known = value.eq_ignore_ascii_case(b"100-continue");
            let first = self.expect == Expect::Nothing;
            self.expect = if known && first { Expect::Continue } else { Expect::Other };
        } else if *name == CONNECTION {
            for token in value.split(|&b| b == b',').map(<[u8]>::trim_ascii) {
                self.close |= token.eq_ignore_ascii_case(b"close");
                self.keep_alive |= token.eq_ignore_ascii_case(b"keep-alive");
            }
        }
        Ok(true)
    }

    /// How the body is framed (RFC 9112 §6.3); rules A4, A5 and A8.
    fn framing(&self, wire: Wire) -> Result<Framing, Refusal> {
        let framing = match (self.coding, self.length) {
            (Coding::None, length) => Framing::Length(length.unwrap_or(0)),
            (Coding::Chunked | Coding::Other, Some(_)) => {
                return Err(Refusal::Malformed("Content-Length beside Transfer-Encoding"));
            }
            (Coding::Chunked | Coding::Other, None) if wire == Wire::Http10 => {
                return Err(Refusal::Malformed("Transfer-Encoding in HTTP/1.0"));
            }
            (Coding::Chunked, None) => Framing::Chunked,
            (Coding::Other, None) => return Err(Refusal::Coding),
        };
        // An HTTP/1.0 expectation means nothing (RFC 9110 §10.1.1).
        if wire == Wire::Http11 && self.expect == Expect::Other {
            return Err(Refusal::Expectation);
        }
        Ok(framing)
    }
}

const BAD_HOST: Refusal = Refusal::Malformed("the Host field");

/// Digits only; 19 of them always fit.
fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    const BAD: Refusal = Refusal::Malformed("the Content-Length");
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return Err(BAD);
    }
    Ok(value.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests;
