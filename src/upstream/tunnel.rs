//! HTTP CONNECT without sockets: the request's bytes, and the answer read in any chunking.
//!
//! Knows RFC 9110 §9.3.6 and RFC 9112 and nothing of TCP, TLS or credentials: `dial` moves the
//! bytes, `proxy_auth` fills the authorization line. A refusal is kept whole, because it is what
//! an operator needs from the proxy's people.

mod body;
mod challenge;
#[cfg(test)]
mod tests;

use std::fmt::Write as _;

use bytes::Bytes;

use self::body::{Body, Framing};
pub use self::challenge::{Challenge, challenges};
use crate::hop::{ProxyRefusal, clean, marks};
use crate::names::Authority;

/// Largest head of all answers to one CONNECT together, octets: 1xx heads count too. Block pages'
/// heads with cookies and policies stay below 8 KiB; twice that is generous.
pub const HEAD_CAP: usize = 16 * 1024;
/// Most fields of a head; httparse needs a bound.
const FIELDS_CAP: usize = 100;
/// Most 1xx answers before the final one: a proxy that sends more never ends.
const INTERIM_CAP: usize = 8;
/// First bytes of a refusal's page that are kept, octets.
const PAGE_CAP: usize = 512;
/// Longest text kept of a reason phrase or `Via`, characters.
const TEXT_CAP: usize = 200;

/// The request. By name, with `Host` (curl and Squid expect both equal) and
/// `Proxy-Connection: Keep-Alive`: without it old proxies close after the first 407 and NTLM
/// never gets to its third leg. `authorization` is the whole value of `Proxy-Authorization`.
pub fn request(target: &Authority, authorization: Option<&str>) -> Vec<u8> {
    let mut head =
        format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\nProxy-Connection: Keep-Alive\r\n");
    if let Some(value) = authorization {
        let _infallible = write!(head, "Proxy-Authorization: {value}\r\n");
    }
    head.push_str("\r\n");
    head.into_bytes()
}

/// What an answer came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Any 2xx: the tunnel is open.
    Opened {
        /// The status code.
        status: u16,
        /// The reason phrase, cleaned.
        reason: String,
        /// `Via`, cleaned.
        via: Option<String>,
        /// What its people can find it by.
        marks: Vec<(String, String)>,
        /// Bytes that followed the head; they belong to the tunnel.
        early: Bytes,
    },
    /// Anything else.
    Refused(Box<Refused>),
}

/// A refusal with what the next leg of an authentication needs.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    /// For errors and reports.
    pub refusal: ProxyRefusal,
    /// Every challenge of every `Proxy-Authenticate` line, in order.
    pub challenges: Vec<Challenge>,
    /// The body is drained and the connection stays: another request may follow on it.
    pub reusable: bool,
}

/// Why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TunnelFault {
    /// The connection ended before a head was complete.
    #[error("the proxy closed the connection before it answered CONNECT")]
    Closed,
    /// The head is over its cap, or too many 1xx.
    #[error("the proxy's answer to CONNECT has no end")]
    Endless,
    /// No HTTP/1.x.
    #[error("the proxy does not answer in HTTP: {0:?}")]
    NotHttp(String),
}

/// Reads the answer to one CONNECT.
#[derive(Debug, Default)]
pub struct AnswerReader {
    buffer: Vec<u8>,
    state: State,
    /// Octets of 1xx heads that are gone already.
    interim_octets: usize,
    interims: usize,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    Page(Box<Refusing>),
    Done,
}

/// A refusal whose page is still coming.
#[derive(Debug)]
struct Refusing {
    refusal: ProxyRefusal,
    challenges: Vec<Challenge>,
    keeps: bool,
    page: Vec<u8>,
    body: Body,
}

impl AnswerReader {
    /// Takes what arrived; `None` asks for more.
    pub fn read(&mut self, chunk: &[u8]) -> Result<Option<Answer>, TunnelFault> {
        if let State::Page(_) = self.state {
            return Ok(self.page(chunk));
        }
        self.buffer.extend_from_slice(chunk);
        // A head cannot end without a line end: parsing again before one is waste.
        if !chunk.contains(&b'\n') && looks_like_http(&self.buffer) {
            return self.bounded();
        }
        loop {
            let Some(head) = Head::parse(&self.buffer)? else { return self.bounded() };
            if head.octets + self.interim_octets > HEAD_CAP {
                return Err(TunnelFault::Endless);
            }
            let rest = self.buffer.split_off(head.octets);
            self.buffer = rest;
            // 101 changes the protocol: no further HTTP would come, so it is final here.
            if (100..200).contains(&head.status) && head.status != 101 {
                self.interims += 1;
                self.interim_octets += head.octets;
                if self.interims > INTERIM_CAP {
                    return Err(TunnelFault::Endless);
                }
                continue;
            }
            return Ok(self.decide(head));
        }
    }

    /// The peer closed. A refusal whose page ends so is complete; anything else is a fault.
    pub fn end(&mut self) -> Result<Answer, TunnelFault> {
        self.give_up().ok_or(TunnelFault::Closed)
    }

    /// Time is up: what is known of a refusal, if its head was complete.
    pub fn give_up(&mut self) -> Option<Answer> {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Page(refusing) => Some(refusing.finish(false)),
            State::Head | State::Done => None,
        }
    }

    fn bounded(&self) -> Result<Option<Answer>, TunnelFault> {
        if self.buffer.len() + self.interim_octets > HEAD_CAP {
            return Err(TunnelFault::Endless);
        }
        Ok(None)
    }

    fn decide(&mut self, head: Head) -> Option<Answer> {
        let rest = std::mem::take(&mut self.buffer);
        if (200..300).contains(&head.status) {
            // Content-Length and Transfer-Encoding mean nothing here (RFC 9110 §9.3.6).
            self.state = State::Done;
            return Some(Answer::Opened {
                status: head.status,
                reason: head.reason,
                via: head.via,
                marks: head.marks,
                early: rest.into(),
            });
        }
        let bodyless = matches!(head.status, 101 | 204 | 304);
        let framing = if bodyless { Framing::Length(0) } else { head.framing };
        self.state = State::Page(Box::new(Refusing {
            refusal: ProxyRefusal {
                status: head.status,
                reason: head.reason,
                via: head.via,
                offered: head.challenges.iter().map(|one| one.scheme.clone()).collect(),
                squid_error: head.squid_error,
                marks: head.marks,
                page: String::new(),
            },
            challenges: head.challenges,
            keeps: head.keeps && head.status != 101,
            page: Vec::new(),
            body: Body::new(framing),
        }));
        self.page(&rest)
    }

    fn page(&mut self, chunk: &[u8]) -> Option<Answer> {
        let State::Page(refusing) = &mut self.state else { return None };
        let drained = refusing.body.read(chunk, |part| {
            let room = PAGE_CAP.saturating_sub(refusing.page.len());
            refusing.page.extend_from_slice(&part[..part.len().min(room)]);
        });
        // Only a 407 is worth draining: the next leg wants its connection.
        let enough = refusing.refusal.status != 407 && refusing.page.len() >= PAGE_CAP;
        let reusable = match drained {
            body::Drained::Whole => refusing.keeps,
            body::Drained::Never => false,
            body::Drained::NotYet if enough => false,
            body::Drained::NotYet => return None,
        };
        match std::mem::replace(&mut self.state, State::Done) {
            State::Page(refusing) => Some(refusing.finish(reusable)),
            State::Head | State::Done => None,
        }
    }
}

impl Refusing {
    fn finish(mut self: Box<Self>, reusable: bool) -> Answer {
        self.refusal.page = clean(&self.page, PAGE_CAP);
        Answer::Refused(Box::new(Refused {
            refusal: self.refusal,
            challenges: self.challenges,
            reusable,
        }))
    }
}

/// A head, in owned words.
struct Head {
    octets: usize,
    status: u16,
    reason: String,
    via: Option<String>,
    squid_error: Option<String>,
    marks: Vec<(String, String)>,
    challenges: Vec<Challenge>,
    framing: Framing,
    keeps: bool,
}

impl Head {
    fn parse(buffer: &[u8]) -> Result<Option<Self>, TunnelFault> {
        let not_http = || TunnelFault::NotHttp(clean(buffer, TEXT_CAP));
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_CAP];
        let mut response = httparse::Response::new(&mut fields);
        let octets = match lenient().parse_response(&mut response, buffer) {
            Ok(httparse::Status::Complete(octets)) => octets,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(TunnelFault::Endless),
            Err(_other) => return Err(not_http()),
        };
        let (Some(status), Some(version)) = (response.code, response.version) else {
            return Err(not_http());
        };
        let texts = |name: &str| {
            let same = |field: &&httparse::Header<'_>| field.name.eq_ignore_ascii_case(name);
            response.headers.iter().filter(same).map(|field| field.value).collect::<Vec<_>>()
        };
        let joined = |name: &str| {
            let lines = texts(name);
            (!lines.is_empty()).then(|| clean(&lines.join(&b", "[..]), TEXT_CAP))
        };
        let mut connection = texts("connection");
        connection.extend(texts("proxy-connection"));
        let says = |word: &str| connection.iter().any(|line| has_token(line, word));
        Ok(Some(Self {
            octets,
            status,
            reason: clean(response.reason.unwrap_or_default().as_bytes(), TEXT_CAP),
            via: joined("via"),
            squid_error: joined("x-squid-error"),
            marks: marks(response.headers.iter().map(|field| (field.name, field.value))),
            challenges: challenges(&texts("proxy-authenticate")),
            framing: Framing::of(&texts("transfer-encoding"), &texts("content-length")),
            keeps: !says("close") && (version == 1 || says("keep-alive")),
        }))
    }
}

/// What old proxies write and every client takes. RFC 9112 tells who reads an answer to mend blanks
/// before a colon (§5.1) and folded lines (§5.2). A line that is no field is left out: nothing is
/// forwarded from this head, and all that could be misread is where a refusal's page ends.
fn lenient() -> httparse::ParserConfig {
    let mut parser = httparse::ParserConfig::default();
    parser
        .allow_spaces_after_header_name_in_responses(true)
        .allow_obsolete_multiline_headers_in_responses(true)
        .allow_multiple_spaces_in_response_status_delimiters(true)
        .ignore_invalid_headers_in_responses(true);
    parser
}

fn has_token(line: &[u8], word: &str) -> bool {
    line.split(|&b| b == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(word.as_bytes()))
}

fn looks_like_http(buffer: &[u8]) -> bool {
    // RFC 9112 §2.2 lets a client skip empty lines before a status line.
    let start = buffer.iter().position(|b| !matches!(b, b'\r' | b'\n')).unwrap_or(buffer.len());
    let begin = &buffer[start..];
    let n = begin.len().min(5);
    begin[..n] == b"HTTP/"[..n]
}
