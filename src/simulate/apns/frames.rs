//! HTTP/2 frames (RFC 9113 §4.1, §6) for the simulated origin: reading what came, writing what the
//! script wants, allowed or not.
//!
//! Pure: buffers in, buffers out.

use bytes::{Buf, Bytes, BytesMut};

/// What a client sends first (RFC 9113 §3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The frame size that we accept: the default of RFC 9113 §6.5.2.
pub(crate) const MAX_FRAME: usize = 16_384;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PUSH_PROMISE: u8 = 5;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

/// END_STREAM of DATA and HEADERS; ACK of SETTINGS and PING.
pub(crate) const END_STREAM: u8 = 0x1;
/// ACK of SETTINGS and PING.
pub(crate) const ACK: u8 = 0x1;
/// END_HEADERS of HEADERS and CONTINUATION.
pub(crate) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITISED: u8 = 0x20;

/// SETTINGS_MAX_CONCURRENT_STREAMS.
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
/// SETTINGS_INITIAL_WINDOW_SIZE.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
/// SETTINGS_MAX_HEADER_LIST_SIZE.
pub(crate) const MAX_HEADER_LIST_SIZE: u16 = 6;

/// PROTOCOL_ERROR (RFC 9113 §7).
pub(crate) const PROTOCOL_ERROR: u32 = 1;
/// REFUSED_STREAM.
pub(crate) const REFUSED_STREAM: u32 = 7;

/// A frame as read.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Bytes,
}

impl Frame {
    /// Whether a flag is set.
    pub(crate) const fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The payload of DATA or HEADERS without padding and priority fields; `None` where the
    /// lengths contradict each other.
    pub(crate) fn content(&self) -> Option<Bytes> {
        let mut payload = self.payload.clone();
        let mut padding = 0;
        if self.has(PADDED) {
            if payload.is_empty() {
                return None;
            }
            padding = usize::from(payload.get_u8());
        }
        if self.kind == HEADERS && self.has(PRIORITISED) {
            if payload.len() < 5 {
                return None;
            }
            payload.advance(5);
        }
        let len = payload.len().checked_sub(padding)?;
        payload.truncate(len);
        Some(payload)
    }

    /// The first four octets as a number, for RST_STREAM and WINDOW_UPDATE.
    pub(crate) fn word(&self) -> Option<u32> {
        let first: [u8; 4] = self.payload.get(..4)?.try_into().ok()?;
        Some(u32::from_be_bytes(first))
    }

    /// The settings of a SETTINGS frame.
    pub(crate) fn settings(&self) -> Vec<(u16, u32)> {
        self.payload
            .chunks_exact(6)
            .map(|entry| {
                let mut entry = entry;
                (entry.get_u16(), entry.get_u32())
            })
            .collect()
    }
}

/// Takes the next whole frame out of `buffer`; `Err` where a frame is larger than allowed.
pub(crate) fn take(buffer: &mut BytesMut) -> Result<Option<Frame>, TooLarge> {
    let Some(head) = buffer.get(..9) else { return Ok(None) };
    let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
    if len > MAX_FRAME {
        return Err(TooLarge);
    }
    if buffer.len() < 9 + len {
        return Ok(None);
    }
    let mut head = buffer.split_to(9);
    head.advance(3);
    let (kind, flags) = (head.get_u8(), head.get_u8());
    let stream = head.get_u32() & 0x7fff_ffff;
    Ok(Some(Frame { kind, flags, stream, payload: buffer.split_to(len).freeze() }))
}

/// A frame above [`MAX_FRAME`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame above the advertised size")]
pub(crate) struct TooLarge;

/// Appends a frame.
pub(crate) fn put(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let len = u32::try_from(payload.len()).expect("the simulator writes small frames");
    out.extend_from_slice(&len.to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends SETTINGS.
pub(crate) fn put_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let mut payload = Vec::with_capacity(settings.len() * 6);
    for (name, value) in settings {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    put(out, SETTINGS, 0, 0, &payload);
}

/// Appends GOAWAY with debug data.
pub(crate) fn put_goaway(out: &mut Vec<u8>, last: u32, code: u32, debug: &[u8]) {
    let mut payload = last.to_be_bytes().to_vec();
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(debug);
    put(out, GOAWAY, 0, 0, &payload);
}

/// Appends RST_STREAM or WINDOW_UPDATE.
pub(crate) fn put_word(out: &mut Vec<u8>, kind: u8, stream: u32, word: u32) {
    put(out, kind, 0, stream, &word.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_whole_or_not_at_all() {
        let mut out = Vec::new();
        put_settings(&mut out, &[(MAX_CONCURRENT_STREAMS, 1)]);
        put(&mut out, DATA, END_STREAM | PADDED, 3, b"\x02abcXX");
        let mut buffer = BytesMut::new();
        let mut frames = Vec::new();
        for byte in out {
            buffer.extend_from_slice(&[byte]);
            frames.extend(take(&mut buffer).unwrap());
        }
        assert_eq!(frames[0].settings(), [(MAX_CONCURRENT_STREAMS, 1)]);
        assert_eq!(frames[1].content().unwrap(), &b"abc"[..]);
        assert_eq!((frames[1].stream, frames.len(), buffer.len()), (3, 2, 0));
    }

    #[test]
    fn padding_beyond_the_frame_is_noticed() {
        let mut out = Vec::new();
        put(&mut out, DATA, PADDED, 1, b"\x09abc");
        let frame = take(&mut BytesMut::from(&out[..])).unwrap().unwrap();
        assert!(frame.content().is_none());
        assert_eq!(
            take(&mut BytesMut::from(&b"\xff\xff\xff\0\0\0\0\0\0"[..])).err(),
            Some(TooLarge)
        );
    }
}
