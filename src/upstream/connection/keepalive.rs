//! What runs a connection until it ends: polls h2, sends PINGs, drops a dead path.

use std::future::Future;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use h2::{Ping, PingPong};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until, timeout};

use super::Connection;
use crate::upstream::frames::Tap;

/// A PING without an answer for so long means that the path is dead. Above any honest round trip,
/// well below the route's deadline.
pub(super) const PONG_WITHIN: Duration = Duration::from_secs(2);

/// A PING that waits for so long puts new pushes on hold: honest round trips are shorter, and
/// what is sent into a dead path would be `unknown`.
const DOUBT_AFTER: Duration = Duration::from_millis(500);

/// With pushes in flight and nothing arriving for so long, the path is tried by PING: APNs answers
/// in milliseconds, a cut tunnel never does.
const SILENCE_IN_FLIGHT: Duration = Duration::from_secs(3);

/// Runs the connection until it ends: polls h2, sends PINGs, drops a dead path.
pub(super) async fn drive<IO>(
    connection: Rc<Connection>,
    driver: h2::client::Connection<Tap<IO>, Bytes>,
    mut pings: Option<PingPong>,
    ping: Duration,
    changed: Rc<dyn Fn()>,
) where
    IO: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let mut driver = pin!(driver);
    // A wish on hold: PING once a quiet connection has pushes again.
    loop {
        let due = next_ping(&connection, ping);
        let ended = tokio::select! {
            end = driver.as_mut() => Some(end.err()),
            () = connection.wishes.abort.notified() => Some(None),
            () = connection.wishes.busy.notified() => None,
            () = connection.wishes.try_path.notified() => {
                let alive = pong(driver.as_mut(), &mut pings, &connection).await;
                connection.wishes.tried.notify_waiters();
                (!alive).then_some(None)
            }
            () = sleep_until(due) => {
                if next_ping(&connection, ping) > Instant::now() {
                    continue;
                }
                let alive = pong(driver.as_mut(), &mut pings, &connection).await;
                (!alive).then_some(None)
            }
        };
        if let Some(error) = ended {
            if let Some(error) = error {
                tracing::debug!(connection = connection.id, %error, "upstream connection ended");
            }
            break;
        }
    }
    connection.closed.set(true);
    connection.send.borrow_mut().take();
    connection.wishes.tried.notify_waiters();
    changed();
}

fn next_ping(connection: &Connection, ping: Duration) -> Instant {
    let quiet_since = connection.log.last_read().map_or(connection.since, Instant::from_std);
    let patience = if connection.in_flight.get() > 0 { SILENCE_IN_FLIGHT.min(ping) } else { ping };
    quiet_since + patience
}

/// One PING and its answer while the connection is polled on. `false`: dead or ended.
async fn pong<F>(
    mut driver: Pin<&mut F>,
    pings: &mut Option<PingPong>,
    connection: &Connection,
) -> bool
where
    F: Future<Output = Result<(), h2::Error>>,
{
    let Some(pings) = pings.as_mut() else {
        return true;
    };
    let answer = async {
        let mut pong = pin!(pings.ping(Ping::opaque()));
        if let Ok(pong) = timeout(DOUBT_AFTER, pong.as_mut()).await {
            return pong.is_ok();
        }
        connection.doubted.set(true);
        let late = timeout(PONG_WITHIN - DOUBT_AFTER, pong).await;
        connection.silent.set(late.is_err());
        matches!(late, Ok(Ok(_)))
    };
    let alive = tokio::select! {
        _end = driver.as_mut() => false,
        alive = answer => alive,
    };
    if alive {
        connection.doubted.set(false);
    }
    alive
}
