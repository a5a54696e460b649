//! The PROXY protocol, versions 1 and 2: who is behind a balancer.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use proxy_header::{Error, ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::canonical;

/// The largest header with every extension that balancers add; the format would allow 64 KiB.
const LARGEST: usize = 2048;

/// Takes a header off the front of `buffer`. `Ok(None)`: more octets are needed.
/// `Some(None)`: a valid header without an address (`UNKNOWN`, `LOCAL`): the balancer speaks for
/// itself.
pub fn parse(buffer: &mut BytesMut) -> io::Result<Option<Option<SocketAddr>>> {
    let config = ParseConfig { include_tlvs: false, allow_v1: true, allow_v2: true };
    let (client, used) = match ProxyHeader::parse(buffer, config) {
        Ok((header, used)) => {
            (header.proxied_address().map(|address| canonical(address.source)), used)
        }
        Err(Error::BufferTooShort) if buffer.len() < LARGEST => return Ok(None),
        Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
    };
    buffer.advance(used);
    Ok(Some(client))
}

/// Reads a header. The caller sets the deadline.
pub async fn read<IO: AsyncRead + Unpin>(
    io: &mut IO,
    buffer: &mut BytesMut,
) -> io::Result<Option<SocketAddr>> {
    loop {
        if let Some(client) = parse(buffer)? {
            return Ok(client);
        }
        buffer.reserve(LARGEST);
        if io.read_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        header.extend([command, family]);
        header.extend((body.len() as u16).to_be_bytes());
        header.extend(body);
        header
    }

    #[test]
    fn both_versions_name_the_client_and_leave_the_rest() {
        let body = [10, 0, 0, 1, 10, 0, 0, 2, 0x1f, 0x90, 1, 0xbb];
        for (header, expected) in [
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 8080 443\r\n".to_vec(), Some("10.0.0.1:8080")),
            (b"PROXY TCP6 ::ffff:10.0.0.1 ::1 8080 443\r\n".to_vec(), Some("10.0.0.1:8080")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2(0x21, 0x11, &body), Some("10.0.0.1:8080")),
            (v2(0x20, 0x00, &[]), None),
        ] {
            for cut in 0..header.len() {
                assert_eq!(parse(&mut BytesMut::from(&header[..cut])).unwrap(), None);
            }
            let mut buffer = BytesMut::from(&header[..]);
            buffer.extend_from_slice(b"\x16\x03");
            let client = parse(&mut buffer).unwrap().unwrap();
            assert_eq!(client.map(|c| c.to_string()).as_deref(), expected);
            assert_eq!(&buffer[..], b"\x16\x03");
        }
    }

    #[test]
    fn anything_else_is_refused_and_nothing_grows() {
        let mut long = b"PROXY TCP4 ".to_vec();
        long.resize(200, b'1');
        for bad in [
            b"POST / HTTP/1.1\r\n".to_vec(),
            b"PROXY TCP4 10.0.0.1 10.0.0.2 99999 1\r\n".to_vec(),
            b"PROXY UDP4 10.0.0.1 10.0.0.2 1 1\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01".to_vec(),
            v2(0x31, 0x11, &[0; 12]),
            [v2(0x21, 0x11, &[0; 4]), vec![0; 8]].concat(),
            v2(0x21, 0x11, &[0; 60_000])[..LARGEST].to_vec(),
            long,
        ] {
            parse(&mut BytesMut::from(&bad[..])).expect_err(&bad.escape_ascii().to_string());
        }
    }
}
