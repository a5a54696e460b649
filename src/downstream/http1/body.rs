//! The body of an HTTP/1.x request, whole: by length or in chunks. Sans-I/O.
//!
//! Bounded by what the permit says, before it is read where the length is known, while it is
//! read otherwise. Chunk extensions and trailers are read, bounded and dropped.

use bytes::{Buf, Bytes, BytesMut};

use super::head::line_end;
use crate::relay::outcome::Refusal;

/// Extensions of all chunks of one body together, octets: nobody sends any, and 1 KiB is enough
/// for a chunk signature.
const EXTENSIONS: usize = 1024;
/// The trailer section, octets: it is dropped, so it only has to be read.
const TRAILERS: usize = 4096;
/// Trailer fields.
const TRAILER_FIELDS: usize = 32;
/// Hexadecimal digits of a chunk's size: 64 bits.
const SIZE_DIGITS: usize = 16;

/// How a body is delimited (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// This many octets, 0 when the head says nothing.
    Length(u64),
    /// `Transfer-Encoding: chunked` and nothing else.
    Chunked,
}

/// Reads one body.
#[derive(Debug)]
pub(super) struct BodyReader {
    state: State,
    limit: usize,
    whole: BytesMut,
    extensions: usize,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// A body of known length.
    Whole(usize),
    /// At a chunk's size line.
    Size,
    /// In a chunk, so many octets left.
    Data(usize),
    /// At the CRLF that ends a chunk's data.
    DataEnd,
    /// In the trailer section: octets seen, start of the line.
    Trailers { seen: usize, line: usize },
}

impl BodyReader {
    /// For a body of at most `limit` octets; a length above it is refused before it is read.
    pub(super) fn new(framing: Framing, limit: usize) -> Result<Self, Refusal> {
        let state = match framing {
            Framing::Length(length) => match usize::try_from(length) {
                Ok(length) if length <= limit => State::Whole(length),
                Ok(_) | Err(_) => return Err(Refusal::Size),
            },
            Framing::Chunked => State::Size,
        };
        Ok(Self { state, limit, whole: BytesMut::new(), extensions: 0 })
    }

    /// Takes what belongs to the body off `buf`; the body once it is whole.
    pub(super) fn take(&mut self, buf: &mut BytesMut) -> Result<Option<Bytes>, Refusal> {
        loop {
            match self.state {
                State::Whole(length) => {
                    return Ok((buf.len() >= length).then(|| buf.split_to(length).freeze()));
                }
                State::Size => {
                    let Some(size) = self.size_line(buf)? else { return Ok(None) };
                    if size > self.limit - self.whole.len() {
                        return Err(Refusal::Size);
                    }
                    self.state = match size {
                        0 => State::Trailers { seen: 0, line: 0 },
                        size => State::Data(size),
                    };
                }
                State::Data(left) => {
                    let part = left.min(buf.len());
                    self.whole.extend_from_slice(&buf[..part]);
                    buf.advance(part);
                    if part < left {
                        self.state = State::Data(left - part);
                        return Ok(None);
                    }
                    self.state = State::DataEnd;
                }
                State::DataEnd => {
                    let wrong = buf.iter().zip(b"\r\n").any(|(is, should)| is != should);
                    if wrong {
                        return Err(Refusal::Malformed("a chunk's end"));
                    }
                    if buf.len() < 2 {
                        return Ok(None);
                    }
                    buf.advance(2);
                    self.state = State::Size;
                }
                State::Trailers { seen, line } => return self.trailers(buf, seen, line),
            }
        }
    }

    /// `1A[;extension]CRLF`: strict, without blanks around the size.
    fn size_line(&mut self, buf: &mut BytesMut) -> Result<Option<usize>, Refusal> {
        const BAD: Refusal = Refusal::Malformed("a chunk's size");
        let digits = buf.iter().take_while(|b| b.is_ascii_hexdigit()).count();
        if digits > SIZE_DIGITS {
            return Err(BAD);
        }
        match buf.get(digits) {
            None => return Ok(None),
            Some(b'\r' | b';') if digits > 0 => {}
            Some(_) => return Err(BAD),
        }
        let room = EXTENSIONS - self.extensions;
        let Some(end) = line_end(&buf[..buf.len().min(digits + room + 2)], digits)? else {
            // The window holds every size line that is still allowed.
            return if buf.len() >= digits + room + 2 { Err(BAD) } else { Ok(None) };
        };
        let extension = &buf[digits..end - 1];
        if !extension.iter().all(|&b| b == b'\t' || b >= b' ' && b != 0x7f) {
            return Err(BAD);
        }
        self.extensions += extension.len();
        let size = buf[..digits].iter().fold(0_u64, |sum, &digit| {
            sum << 4 | u64::from(char::from(digit).to_digit(16).unwrap_or_default())
        });
        buf.advance(end + 1);
        // What no address space holds is over any limit.
        Ok(Some(usize::try_from(size).unwrap_or(usize::MAX)))
    }

    fn trailers(
        &mut self,
        buf: &mut BytesMut,
        mut seen: usize,
        mut line: usize,
    ) -> Result<Option<Bytes>, Refusal> {
        const BAD: Refusal = Refusal::Malformed("a trailer");
        while let Some(at) = line_end(&buf[..buf.len().min(TRAILERS)], seen)? {
            if at == line + 1 {
                let section = buf.split_to(at + 1);
                let mut slots = [httparse::EMPTY_HEADER; TRAILER_FIELDS];
                return match httparse::parse_headers(&section, &mut slots) {
                    Ok(httparse::Status::Complete((length, _))) if length == section.len() => {
                        Ok(Some(std::mem::take(&mut self.whole).freeze()))
                    }
                    Ok(_) | Err(_) => Err(BAD),
                };
            }
            (seen, line) = (at + 1, at + 1);
        }
        if buf.len() >= TRAILERS {
            return Err(BAD);
        }
        self.state = State::Trailers { seen: buf.len(), line };
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
