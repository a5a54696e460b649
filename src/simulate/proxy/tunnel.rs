//! What the simulated proxy does once it took a CONNECT: a tunnel, or one of its bad manners.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

use super::{Conduct, Manner, Shared, inspect, refuse};

/// Answers a CONNECT that is not refused, in the proxy's manner, and serves until either end leaves.
pub(super) async fn open(
    mut tcp: TcpStream,
    shared: &Arc<Shared>,
    at: Option<usize>,
    (target, next): (&str, SocketAddr),
    conduct: &Conduct,
) -> std::io::Result<()> {
    const OPENED: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";
    if conduct.manner == Manner::Mute {
        return std::future::pending().await;
    }
    if let Manner::Chatty(count) = conduct.manner {
        for _ in 0..count {
            tcp.write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n").await?;
        }
    }
    shared.update(at, |seen| seen.status = 200);
    let host = target.rsplit_once(':').map_or(target, |(host, _)| host);
    match &conduct.manner {
        Manner::Refuse(_) | Manner::Challenge(_) | Manner::Mute => Ok(()),
        Manner::Tunnel | Manner::Chatty(_) | Manner::ExtraBytes => {
            let Ok(upstream) = TcpStream::connect(next).await else {
                shared.update(at, |seen| seen.status = 502);
                return refuse(&mut tcp, 502, &[]).await;
            };
            tcp.write_all(OPENED).await?;
            if conduct.manner == Manner::ExtraBytes {
                tcp.write_all(b"these bytes belong to nobody").await?;
            }
            // A socket that cannot be told not to wait still works.
            let _ = upstream.set_nodelay(true);
            splice(tcp, upstream, conduct.idle).await
        }
        Manner::Inspect => {
            tcp.write_all(OPENED).await?;
            inspect::http1(tcp, shared, at, host, next).await
        }
        Manner::StripAlpn => {
            tcp.write_all(OPENED).await?;
            inspect::strip(tcp, shared, at, host, (next, conduct.idle)).await
        }
        Manner::BlockPage => {
            tcp.write_all(OPENED).await?;
            refuse(&mut tcp, 403, &[]).await
        }
        Manner::BlockPageInside => {
            tcp.write_all(OPENED).await?;
            inspect::block(tcp, shared, at).await
        }
        Manner::ResetAfterConnect => {
            tcp.write_all(OPENED).await?;
            // Without linger the close is a FIN, which cuts the tunnel as well.
            let _ = socket2::SockRef::from(&tcp).set_linger(Some(Duration::ZERO));
            Ok(())
        }
        Manner::HangAfterConnect => {
            tcp.write_all(OPENED).await?;
            std::future::pending().await
        }
    }
}

/// Carries bytes both ways until one side ends or nothing moved for `idle`.
pub(super) async fn splice<A, B>(mut a: A, mut b: B, idle: Option<Duration>) -> std::io::Result<()>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    let Some(idle) = idle else {
        return copy_bidirectional(&mut a, &mut b).await.map(|_bytes| ());
    };
    let (mut from_a, mut from_b) = (vec![0; 16 * 1024], vec![0; 16 * 1024]);
    loop {
        tokio::select! {
            read = a.read(&mut from_a) => match read? {
                0 => return Ok(()),
                n => b.write_all(&from_a[..n]).await?,
            },
            read = b.read(&mut from_b) => match read? {
                0 => return Ok(()),
                n => a.write_all(&from_b[..n]).await?,
            },
            () = tokio::time::sleep(idle) => return Ok(()),
        }
    }
}
