//! HPACK (RFC 7541) as the simulated origin needs it: a full decoder, an encoder that indexes
//! nothing.
//!
//! The origin frames HTTP/2 itself, because a library hides or forbids most of what it must judge
//! and break. Pure: bytes in, fields out.

use std::collections::VecDeque;

/// A header field as it stood on the wire.
pub(crate) type Field = (Vec<u8>, Vec<u8>);

/// Our SETTINGS_HEADER_TABLE_SIZE is the default of RFC 9113 §6.5.2.
const TABLE_SIZE: usize = 4096;

/// The block cannot be read; the connection must end with COMPRESSION_ERROR (RFC 9113 §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the header block is not HPACK: {0}")]
pub(crate) struct HpackError(&'static str);

/// A decoder with its dynamic table; one per connection.
#[derive(Debug)]
pub(crate) struct Decoder {
    entries: VecDeque<Field>,
    size: usize,
    limit: usize,
}

impl Decoder {
    /// An empty table.
    pub(crate) const fn new() -> Self {
        Self { entries: VecDeque::new(), size: 0, limit: TABLE_SIZE }
    }

    /// Reads a whole header block.
    pub(crate) fn decode(&mut self, mut block: &[u8]) -> Result<Vec<Field>, HpackError> {
        let mut fields = Vec::with_capacity(16);
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                fields.push(self.entry(integer(&mut block, 7)?)?);
            } else if first & 0xc0 == 0x40 {
                let field = self.literal(&mut block, 6)?;
                self.insert(field.clone());
                fields.push(field);
            } else if first & 0xe0 == 0x20 {
                let limit = integer(&mut block, 5)?;
                if limit > TABLE_SIZE {
                    return Err(HpackError("table size above the limit"));
                }
                self.limit = limit;
                self.evict();
            } else {
                fields.push(self.literal(&mut block, 4)?);
            }
        }
        Ok(fields)
    }

    fn literal(&self, block: &mut &[u8], prefix: u32) -> Result<Field, HpackError> {
        let name = match integer(block, prefix)? {
            0 => string(block)?,
            index => self.entry(index)?.0,
        };
        Ok((name, string(block)?))
    }

    fn entry(&self, index: usize) -> Result<Field, HpackError> {
        let missing = HpackError("no such table entry");
        let index = index.checked_sub(1).ok_or(missing)?;
        if let Some((name, value)) = STATIC_TABLE.get(index) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.entries.get(index - STATIC_TABLE.len()).cloned().ok_or(missing)
    }

    fn insert(&mut self, field: Field) {
        self.size += weight(&field);
        self.entries.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.size > self.limit {
            let Some(old) = self.entries.pop_back() else { break };
            self.size -= weight(&old);
        }
    }
}

/// Writes fields as literals without indexing and without Huffman (RFC 7541 §6.2.2): the smallest
/// encoder that every peer must read.
pub(crate) fn encode(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::with_capacity(64);
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            put_integer(&mut block, text.len());
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

fn put_integer(block: &mut Vec<u8>, mut value: usize) {
    if value < 127 {
        block.push(u8::try_from(value).expect("below 127"));
        return;
    }
    block.push(127);
    value -= 127;
    while value >= 128 {
        block.push(u8::try_from(value & 0x7f).expect("seven bits") | 0x80);
        value >>= 7;
    }
    block.push(u8::try_from(value).expect("below 128"));
}

/// An entry's size in the table (RFC 7541 §4.1).
const fn weight(field: &Field) -> usize {
    field.0.len() + field.1.len() + 32
}

fn integer(block: &mut &[u8], prefix: u32) -> Result<usize, HpackError> {
    let end = HpackError("truncated integer");
    let (&first, mut rest) = block.split_first().ok_or(end)?;
    let mask = (1_usize << prefix) - 1;
    let mut value = usize::from(first) & mask;
    if value == mask {
        for shift in 0.. {
            if shift == 4 {
                return Err(HpackError("integer too large"));
            }
            let (&byte, tail) = rest.split_first().ok_or(end)?;
            rest = tail;
            value += usize::from(byte & 0x7f) << (7 * shift);
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

fn string(block: &mut &[u8]) -> Result<Vec<u8>, HpackError> {
    let coded = block.first().is_some_and(|b| b & 0x80 != 0);
    let len = integer(block, 7)?;
    if len > block.len() {
        return Err(HpackError("truncated string"));
    }
    let (text, rest) = block.split_at(len);
    *block = rest;
    if coded { huffman(text) } else { Ok(text.to_vec()) }
}

/// The canonical code: per length, its first code word, how many there are, and where its symbols
/// start.
struct Canon {
    symbols: [u16; 257],
    first: [u32; 31],
    count: [u32; 31],
    start: [usize; 31],
}

static CANON: Canon = canon();

const fn canon() -> Canon {
    let mut canon = Canon { symbols: [0; 257], first: [0; 31], count: [0; 31], start: [0; 31] };
    let (mut code, mut at, mut len) = (0_u32, 0_usize, 1_usize);
    while len <= 30 {
        code <<= 1;
        canon.first[len] = code;
        canon.start[len] = at;
        let mut symbol = 0_u16;
        while symbol < 257 {
            if CODE_LENGTHS[symbol as usize] as usize == len {
                canon.symbols[at] = symbol;
                canon.count[len] += 1;
                at += 1;
                code += 1;
            }
            symbol += 1;
        }
        len += 1;
    }
    canon
}

fn huffman(coded: &[u8]) -> Result<Vec<u8>, HpackError> {
    let mut out = Vec::with_capacity(coded.len() * 2);
    let (mut code, mut len) = (0_u32, 0_usize);
    for byte in coded {
        for bit in (0..8).rev() {
            code = (code << 1) | u32::from((byte >> bit) & 1);
            len += 1;
            if len > 30 {
                return Err(HpackError("no such code word"));
            }
            let offset = code.wrapping_sub(CANON.first[len]);
            if offset < CANON.count[len] {
                let offset = usize::try_from(offset).expect("below 257");
                match u8::try_from(CANON.symbols[CANON.start[len] + offset]) {
                    Ok(symbol) => out.push(symbol),
                    Err(_end_of_string) => return Err(HpackError("EOS in a string")),
                }
                (code, len) = (0, 0);
            }
        }
    }
    // What is left is padding: fewer than eight ones (RFC 7541 §5.2).
    if len > 7 || code != (1 << len) - 1 {
        return Err(HpackError("bad padding"));
    }
    Ok(out)
}

/// Lengths of the code words of RFC 7541 Appendix B, by symbol; 256 is EOS. The code is canonical,
/// so the lengths say everything.
#[rustfmt::skip]
static CODE_LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28,
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5,
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23,
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25,
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

/// RFC 7541 Appendix A.
#[rustfmt::skip]
static STATIC_TABLE: [(&str, &str); 61] = [
    (":authority", ""), (":method", "GET"), (":method", "POST"), (":path", "/"),
    (":path", "/index.html"), (":scheme", "http"), (":scheme", "https"), (":status", "200"),
    (":status", "204"), (":status", "206"), (":status", "304"), (":status", "400"),
    (":status", "404"), (":status", "500"), ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"), ("accept-language", ""), ("accept-ranges", ""),
    ("accept", ""), ("access-control-allow-origin", ""), ("age", ""), ("allow", ""),
    ("authorization", ""), ("cache-control", ""), ("content-disposition", ""),
    ("content-encoding", ""), ("content-language", ""), ("content-length", ""),
    ("content-location", ""), ("content-range", ""), ("content-type", ""), ("cookie", ""),
    ("date", ""), ("etag", ""), ("expect", ""), ("expires", ""), ("from", ""), ("host", ""),
    ("if-match", ""), ("if-modified-since", ""), ("if-none-match", ""), ("if-range", ""),
    ("if-unmodified-since", ""), ("last-modified", ""), ("link", ""), ("location", ""),
    ("max-forwards", ""), ("proxy-authenticate", ""), ("proxy-authorization", ""), ("range", ""),
    ("referer", ""), ("refresh", ""), ("retry-after", ""), ("server", ""), ("set-cookie", ""),
    ("strict-transport-security", ""), ("transfer-encoding", ""), ("user-agent", ""), ("vary", ""),
    ("via", ""), ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<char> = text.chars().filter(|c| !c.is_whitespace()).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap())
            .collect()
    }

    fn text(fields: &[Field]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        fields.iter().map(|(name, value)| (text(name), text(value))).collect()
    }

    /// RFC 7541 Appendix C.4: three requests with Huffman on one connection.
    #[test]
    fn reads_the_requests_of_rfc_7541() {
        let mut decoder = Decoder::new();
        let rows = [
            ("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff", 4, ":authority", "www.example.com"),
            ("8286 84be 5886 a8eb 1064 9cbf", 5, "cache-control", "no-cache"),
            (
                "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
                5,
                "custom-key",
                "custom-value",
            ),
        ];
        for (block, count, name, value) in rows {
            let fields = text(&decoder.decode(&hex(block)).unwrap());
            assert_eq!(fields.len(), count, "{name}");
            assert!(fields.contains(&(name.into(), value.into())), "{fields:?}");
        }
        assert_eq!(decoder.size, 164);
    }

    #[test]
    fn reads_what_it_writes() {
        let long = "v".repeat(300);
        let fields = [(":status", "200"), ("apns-id", "x"), ("long", long.as_str())];
        let read = text(&Decoder::new().decode(&encode(&fields)).unwrap());
        let want: Vec<_> = fields.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(read, want);
    }

    #[test]
    fn refuses_broken_blocks() {
        for bad in ["80", "ff", "c0", "3fe2ff7f", "0085ffffffffff", "0003", "7fffffffff7f"] {
            assert!(Decoder::new().decode(&hex(bad)).is_err(), "{bad}");
        }
    }
}
