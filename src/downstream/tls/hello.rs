//! The ClientHello: read whole, bounded, before anything is decided or sent.
//!
//! rustls parses it; its octets are kept, because passthrough hands them on untouched. What rustls
//! does not show (versions, Encrypted Client Hello) is read here, leniently: it decides nothing
//! but a refusal and what a log line says.

use std::fmt;
use std::io;

use bytes::BytesMut;
use rustls::ProtocolVersion;
use rustls::server::{Accepted, Acceptor};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::hop::clean;
use crate::names::HostName;

/// The largest ClientHello with its records: the post-quantum ones have 2 KiB, and fragments cost
/// 5 octets each.
const LARGEST: usize = 32 * 1024;
/// Octets asked of the socket at once: a ClientHello fits.
const READ: usize = 4096;

/// A ClientHello as it arrived.
pub struct Hello {
    pub(super) accepted: Accepted,
    /// Every octet read so far, to be handed on by passthrough.
    pub bytes: BytesMut,
    /// What it offers.
    pub offer: Offer,
}

/// What a sender offers, for decisions and for the log line of a failed handshake.
#[derive(Debug, Clone, Default)]
pub struct Offer {
    /// SNI, when it is a name.
    pub sni: Option<HostName>,
    /// ALPN, cleaned.
    pub alpn: Vec<String>,
    /// Versions, as in `supported_versions`, or the old field.
    pub versions: Vec<u16>,
    /// How many cipher suites.
    pub ciphers: usize,
    /// Encrypted Client Hello (RFC 9849): the visible SNI may not be the real one.
    pub ech: bool,
}

impl fmt::Debug for Hello {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hello").field("offer", &self.offer).finish_non_exhaustive()
    }
}

impl fmt::Display for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sni = self.sni.as_ref().map_or("none", HostName::as_str);
        let versions: Vec<_> = self.versions.iter().map(|v| version((*v).into())).collect();
        write!(
            f,
            "SNI {sni}, ALPN [{}], versions [{}], {} cipher suites",
            self.alpn.join(", "),
            versions.join(", "),
            self.ciphers
        )
    }
}

/// A version for people: `TLSv1.3`.
pub(super) fn version(version: ProtocolVersion) -> String {
    match u16::from(version) {
        0x0301 => "TLSv1.0".to_owned(),
        0x0302 => "TLSv1.1".to_owned(),
        0x0303 => "TLSv1.2".to_owned(),
        0x0304 => "TLSv1.3".to_owned(),
        other => format!("{other:#06x}"),
    }
}

/// Reads a ClientHello from what was read already and from `io`; answers a malformed one with its
/// alert. The caller sets the deadline.
pub async fn read<IO>(io: &mut IO, first: BytesMut) -> io::Result<Hello>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let mut acceptor = Acceptor::default();
    let (mut bytes, mut fed) = (first, 0);
    loop {
        while fed < bytes.len() {
            fed += acceptor.read_tls(&mut &bytes[fed..])?;
            match acceptor.accept() {
                Ok(None) => {}
                Ok(Some(accepted)) => {
                    // rustls has taken what it was given; the rest would be lost to it.
                    if fed < bytes.len() {
                        return Err(invalid("more than a ClientHello arrived at once"));
                    }
                    let offer = offer(&accepted, &bytes);
                    return Ok(Hello { accepted, bytes, offer });
                }
                Err((error, mut alert)) => {
                    let mut record = Vec::new();
                    alert.write(&mut record)?;
                    io.write_all(&record).await?;
                    return Err(invalid(error));
                }
            }
        }
        if bytes.len() >= LARGEST {
            return Err(invalid("the ClientHello is too large"));
        }
        bytes.reserve(READ);
        if io.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

fn offer(accepted: &Accepted, bytes: &[u8]) -> Offer {
    let hello = accepted.client_hello();
    // Sixteen names of 32 characters are more than any sender offers.
    let alpn = hello.alpn().into_iter().flatten().take(16).map(|name| clean(name, 32)).collect();
    let mut offer = Offer {
        sni: hello.server_name().and_then(|name| name.parse().ok()),
        alpn,
        versions: Vec::new(),
        ciphers: hello.cipher_suites().len(),
        ech: false,
    };
    // rustls has parsed it, so there is nothing to report when this reading finds nothing.
    let _ = extensions(bytes, &mut offer);
    offer
}

/// Takes `n` octets.
fn take<'a>(from: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(n)?;
    *from = rest;
    Some(taken)
}

/// Takes a vector whose length stands before it in `width` octets.
fn vector<'a>(from: &mut &'a [u8], width: usize) -> Option<&'a [u8]> {
    let length = take(from, width)?.iter().fold(0_usize, |n, b| n << 8 | usize::from(*b));
    take(from, length)
}

/// The extensions that rustls does not show (RFC 8446 §4.1.2), over any number of records.
fn extensions(mut records: &[u8], offer: &mut Offer) -> Option<()> {
    let mut message = Vec::new();
    while let [0x16, _, _, ..] = records {
        take(&mut records, 3)?;
        message.extend_from_slice(vector(&mut records, 2)?);
    }
    let mut message = &message[..];
    take(&mut message, 1)?;
    let mut hello = vector(&mut message, 3)?;
    let old = take(&mut hello, 2)?;
    offer.versions = vec![u16::from_be_bytes([old[0], old[1]])];
    take(&mut hello, 32)?;
    vector(&mut hello, 1)?;
    vector(&mut hello, 2)?;
    vector(&mut hello, 1)?;
    let mut extensions = vector(&mut hello, 2)?;
    while !extensions.is_empty() {
        let kind = take(&mut extensions, 2)?;
        let mut body = vector(&mut extensions, 2)?;
        match u16::from_be_bytes([kind[0], kind[1]]) {
            // supported_versions; GREASE values (RFC 8701) say nothing.
            43 => {
                offer.versions = vector(&mut body, 1)?
                    .chunks_exact(2)
                    .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                    .filter(|version| version & 0x0f0f != 0x0a0a)
                    .take(8)
                    .collect();
            }
            // encrypted_client_hello
            0xfe0d => offer.ech = true,
            _ => {}
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(extensions: &[u8]) -> Vec<u8> {
        let mut body = vec![3, 3];
        body.extend([7; 32]);
        body.extend([0, 0, 2, 0x13, 0x01, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        let mut message = vec![1, 0];
        message.extend((body.len() as u16).to_be_bytes());
        message.extend(body);
        message
    }

    fn records(message: &[u8], size: usize) -> Vec<u8> {
        let mut all = Vec::new();
        for part in message.chunks(size) {
            all.extend([0x16, 3, 1]);
            all.extend((part.len() as u16).to_be_bytes());
            all.extend(part);
        }
        all
    }

    #[test]
    fn versions_and_ech_are_found_over_fragmented_records() {
        let plain = hello(&[0, 43, 0, 7, 6, 0x3a, 0x3a, 3, 4, 3, 3]);
        let ech = hello(&[0xfe, 0x0d, 0, 1, 0]);
        for size in [1, 5, 7, 1000] {
            let mut offer = Offer::default();
            extensions(&records(&plain, size), &mut offer).unwrap();
            assert_eq!((offer.versions, offer.ech), (vec![0x0304, 0x0303], false));
            let mut offer = Offer::default();
            extensions(&records(&ech, size), &mut offer).unwrap();
            assert_eq!((offer.versions, offer.ech), (vec![0x0303], true));
        }
    }

    #[test]
    fn a_cut_hello_never_panics() {
        let whole = records(&hello(&[0, 43, 0, 3, 2, 3, 4]), 9);
        for end in 0..whole.len() {
            let _ = extensions(&whole[..end], &mut Offer::default());
        }
    }
}
