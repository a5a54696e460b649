//! Finding the end of a refusal's page, so that the connection can carry the next leg.
//!
//! Reads framing only; what a page says is not its business.

/// Largest page that is read for the sake of the connection, octets. Squid's pages have 4 KiB,
/// branded ones some 20 KiB; beyond this a new connection is cheaper.
const PAGE_DRAIN_CAP: usize = 64 * 1024;
/// Longest line of chunked framing (size with extensions, or a trailer), octets.
const LINE_CAP: usize = 1024;

/// How a body ends (RFC 9112 §6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Chunked,
    Length(usize),
    /// With the connection, or in a way that cannot be trusted.
    UntilClose,
}

impl Framing {
    /// Contradictory or unknown framing reads until close: nothing may follow on that connection.
    pub(super) fn of(codings: &[&[u8]], lengths: &[&[u8]]) -> Self {
        match (codings, lengths) {
            ([], []) => Self::UntilClose,
            ([one], []) if one.trim_ascii().eq_ignore_ascii_case(b"chunked") => Self::Chunked,
            ([], [first, others @ ..]) if others.iter().all(|other| other == first) => {
                let text = std::str::from_utf8(first.trim_ascii()).unwrap_or_default();
                let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
                let length = text.parse().ok().filter(|_| digits);
                length.map_or(Self::UntilClose, Self::Length)
            }
            _ => Self::UntilClose,
        }
    }
}

/// How far a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Drained {
    /// Its end was not found within the cap, or its framing is broken.
    Never,
    /// More must come.
    NotYet,
    /// To its last octet, and nothing came after it.
    Whole,
}

/// A body on its way.
#[derive(Debug)]
pub(super) struct Body {
    step: Step,
    octets: usize,
}

#[derive(Debug)]
enum Step {
    Broken,
    /// Octets of the chunk that are still to come, its CRLF among them.
    Chunk(usize),
    Close,
    Done,
    Length(usize),
    /// A chunk's size line.
    Size(Vec<u8>),
    /// Trailer lines, until the empty one.
    Trailer(Vec<u8>),
}

impl Body {
    pub(super) const fn new(framing: Framing) -> Self {
        let step = match framing {
            Framing::Chunked => Step::Size(Vec::new()),
            Framing::Length(0) => Step::Done,
            Framing::Length(octets) => Step::Length(octets),
            Framing::UntilClose => Step::Close,
        };
        Self { step, octets: 0 }
    }

    /// Takes what arrived and hands the page's own octets to `keep`.
    pub(super) fn read(&mut self, mut chunk: &[u8], mut keep: impl FnMut(&[u8])) -> Drained {
        self.octets += chunk.len();
        while !chunk.is_empty() {
            match &mut self.step {
                Step::Close => {
                    keep(chunk);
                    chunk = &[];
                }
                Step::Length(left) => {
                    let (now, later) = chunk.split_at(chunk.len().min(*left));
                    keep(now);
                    *left -= now.len();
                    chunk = later;
                    if *left == 0 {
                        self.step = Step::Done;
                    }
                }
                Step::Chunk(left) => {
                    let (now, later) = chunk.split_at(chunk.len().min(*left));
                    // The last two octets are the chunk's CRLF.
                    let content = left.saturating_sub(2).min(now.len());
                    keep(&now[..content]);
                    *left -= now.len();
                    chunk = later;
                    if *left == 0 {
                        self.step = Step::Size(Vec::new());
                    }
                }
                Step::Size(line) | Step::Trailer(line) => {
                    line.push(chunk[0]);
                    chunk = &chunk[1..];
                    if line.ends_with(b"\n") || line.len() > LINE_CAP {
                        self.line();
                    }
                }
                // Octets that nobody asked for: whatever they are, no answer of ours.
                Step::Done => self.step = Step::Broken,
                Step::Broken => chunk = &[],
            }
        }
        match self.step {
            Step::Done => Drained::Whole,
            Step::Broken => Drained::Never,
            Step::Chunk(_) | Step::Close | Step::Length(_) | Step::Size(_) | Step::Trailer(_) => {
                if self.octets > PAGE_DRAIN_CAP {
                    Drained::Never
                } else {
                    Drained::NotYet
                }
            }
        }
    }

    /// A whole line of chunked framing is there.
    fn line(&mut self) {
        let next = match &self.step {
            Step::Size(line) => match chunk_size(line) {
                Some(0) => Step::Trailer(Vec::new()),
                Some(size) => Step::Chunk(size + 2),
                None => Step::Broken,
            },
            Step::Trailer(line) if line.len() > LINE_CAP => Step::Broken,
            Step::Trailer(line) if line.trim_ascii().is_empty() => Step::Done,
            Step::Trailer(_) => Step::Trailer(Vec::new()),
            Step::Broken | Step::Chunk(_) | Step::Close | Step::Done | Step::Length(_) => return,
        };
        self.step = next;
    }
}

fn chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|&b| b == b';').next()?.trim_ascii();
    let text = std::str::from_utf8(digits).ok()?;
    let hex = !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit());
    let size = usize::from_str_radix(text, 16).ok()?;
    (hex && size <= PAGE_DRAIN_CAP).then_some(size)
}
