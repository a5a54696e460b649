//! Senders: one connection each, to the relay or through a proxy.

use std::net::SocketAddr;

use pushrelay::simulate::apns::token_accepted;
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::sender::{Push, Receipt, SendError, Sender, Speech};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::{Corporate, HOST, Relay, TOPIC, TestOrigin, within};

/// Where a sender connects: an address and what is trusted there.
pub(crate) trait Route {
    /// The address, the authority, and whether it is a proxy.
    fn ends(&self) -> (SocketAddr, &Throwaway, bool);
}

impl Route for Relay {
    fn ends(&self) -> (SocketAddr, &Throwaway, bool) {
        (self.address, &self.issuer, false)
    }
}

impl Route for TestOrigin {
    fn ends(&self) -> (SocketAddr, &Throwaway, bool) {
        (self.address(), &self.authority, false)
    }
}

impl Route for Corporate {
    fn ends(&self) -> (SocketAddr, &Throwaway, bool) {
        (self.address(), &self.authority, true)
    }
}

/// A sender towards `route` that speaks `speech`.
pub(crate) fn sender(route: &impl Route, speech: Speech) -> Sender {
    let (connect, authority, proxied) = route.ends();
    Sender {
        host: HOST.into(),
        port: 443,
        sni: None,
        connect,
        proxy: proxied.then_some(None),
        speech,
        roots: authority.roots(),
    }
}

/// An accepted push, named by its serial.
pub(crate) fn alert(serial: u64) -> Push {
    Push::alert(&token_accepted(serial), TOPIC).apns_id(&id(serial))
}

/// The apns-id of [`alert`].
pub(crate) fn id(serial: u64) -> String {
    format!("00000000-0000-4000-8000-{serial:012x}")
}

/// `connections` senders at once, each sending `each` pushes one after the other; serials count
/// on from 1.
pub(crate) async fn receipts(
    sender: &Sender,
    connections: u64,
    each: u64,
) -> Vec<Result<Receipt, SendError>> {
    let mut tasks = JoinSet::new();
    for connection in 0..connections {
        let sender = sender.clone();
        tasks.spawn(async move {
            let mut receipts = Vec::new();
            let mut open = None;
            for push in 1..=each {
                if open.is_none() {
                    match sender.connect().await {
                        Ok(connected) => open = Some(connected),
                        Err(error) => {
                            receipts.push(Err(error));
                            continue;
                        }
                    }
                }
                let connected = open.as_mut().expect("just opened");
                let receipt = connected.send(&alert(connection * each + push)).await;
                let close = |r: &Receipt| r.field("connection") == Some("close");
                if receipt.as_ref().map_or(true, close) {
                    open = None;
                }
                receipts.push(receipt);
            }
            receipts
        });
    }
    within(tasks.join_all()).await.into_iter().flatten().collect()
}

/// Writes these bytes inside TLS and reads until the relay closes or falls silent for good.
pub(crate) async fn raw(sender: &Sender, bytes: &[u8]) -> String {
    let mut tls = within(sender.tls()).await.unwrap();
    tls.write_all(bytes).await.unwrap();
    tls.flush().await.unwrap();
    let mut answer = Vec::new();
    // A relay that resets after its answer is judged by the answer.
    let _ = within(tls.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

impl Corporate {
    /// Lines of forwarded requests over all connections.
    pub(crate) fn forwarded(&self) -> Vec<String> {
        self.seen().into_iter().flat_map(|seen| seen.forwarded).collect()
    }
}

/// Keeps the speeches that every answer is tried with in one place.
pub(crate) const SPEECHES: [Speech; 5] = [
    Speech::Http10,
    Speech::Http11,
    Speech::Http2,
    Speech::Http11WithoutAlpn,
    Speech::Http2WithoutAlpn,
];
