//! The DMZ placement: an inspecting HTTP/1.1-only proxy stands between the sender and the relay.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::simulate::apns::{self, Origin};
use crate::simulate::authority::Throwaway;
use crate::simulate::proxy::{self, Manner, Proxy};
use crate::simulate::sender::{Sender, Speech};

use super::DemoError;
use super::relay::{Directory, Relay};
use super::stage::{
    HOST, LOOPBACK, WRONG, arrived, heading, line, pushes, send, spoken, totals, verdict,
};

/// Shows it; `true` where every push did what it claims.
pub(super) async fn show() -> Result<bool, DemoError> {
    let apple = Throwaway::new("Simulated APNs CA", HOST)?;
    let issuer = Throwaway::new("Demo relay CA", HOST)?;
    let inspection = Throwaway::new("Simulated inspection CA", HOST)?;
    let origin = Origin::start(LOOPBACK, &apple, apns::Conduct::default()).await?;

    let directory = Directory::new("post")?;
    directory.write("origin.pem", &apple.pem())?;
    directory.write("issuer.pem", &issuer.pem())?;
    directory.write("issuer.key", &issuer.key_pem())?;
    directory.write("relay.yaml", &config(&origin))?;
    let relay = Relay::start(&directory).await?;

    let mut all = without_relay(&apple, &inspection, &origin).await?;

    let (leads, trusts) = (inspecting(relay.address), issuer.roots());
    let proxy = Proxy::start(LOOPBACK, Arc::clone(&inspection), trusts, leads).await?;
    heading(
        "1. The relay after that proxy",
        "HTTP/1.1 that comes out of the proxy, and HTTP/2 that comes straight, reach APNs as HTTP/2.",
    );
    let through_proxy = through(proxy.address(), &inspection);
    let direct = Sender {
        connect: relay.address,
        proxy: None,
        speech: Speech::Http2,
        roots: issuer.roots(),
        ..through_proxy.clone()
    };
    all &= via_proxy(&through_proxy, &proxy, &origin).await?;
    for planned in pushes(2) {
        let result = send(&direct, &planned, &origin).await?;
        let upstream = arrived(result.entry.as_ref());
        let right = result.right && result.receipt.head.version == http::Version::HTTP_2;
        let downstream = spoken(result.receipt.head.version);
        line(&[("relay", downstream), ("APNs", upstream)], &result, right);
        all &= right;
    }
    totals(&origin);
    Ok(all)
}

/// An inspecting proxy that knows one way out.
fn inspecting(next: SocketAddr) -> proxy::Conduct {
    let map = BTreeMap::from([(format!("{HOST}:443"), next)]);
    proxy::Conduct { manner: Manner::Inspect, map, ..proxy::Conduct::default() }
}

/// The reason for all of this: such a proxy straight towards APNs; `true` where it fails.
async fn without_relay(
    apple: &Throwaway,
    inspection: &Arc<Throwaway>,
    origin: &Origin,
) -> Result<bool, DemoError> {
    let leads = inspecting(origin.address());
    let proxy = Proxy::start(LOOPBACK, Arc::clone(inspection), apple.roots(), leads).await?;
    heading(
        "Without a relay: an old inspecting proxy speaks only HTTP/1.1, APNs speaks only HTTP/2",
        "The push does not arrive. This is what the relay is for.",
    );
    let sender = through(proxy.address(), inspection);
    let [planned, _refused] = pushes(0);
    let receipt = sender.send(&planned.push).await?;
    let right = receipt.status() == 503 && origin.ledger().entries().is_empty();
    let hops = [("proxy", spoken(receipt.head.version)), ("APNs", "nothing".to_owned())];
    let outcome = format!("{} by the proxy", receipt.status());
    verdict(if right { "lost" } else { WRONG }, &hops, &outcome);
    Ok(right)
}

/// A sender that speaks HTTP/1.1 through a proxy whose inspection it trusts.
fn through(proxy: SocketAddr, inspection: &Throwaway) -> Sender {
    Sender {
        host: HOST.into(),
        port: 443,
        sni: None,
        connect: proxy,
        proxy: Some(None),
        speech: Speech::Http11,
        roots: inspection.roots(),
    }
}

/// The pushes through the proxy: what it says of itself must be HTTP/1.1 on both sides.
async fn via_proxy(sender: &Sender, proxy: &Proxy, origin: &Origin) -> Result<bool, DemoError> {
    let mut all = true;
    for planned in pushes(1) {
        let result = send(sender, &planned, origin).await?;
        let seen = proxy.seen().pop().unwrap_or_default();
        let want = format!("POST HTTP/1.1 -> {}", result.receipt.status());
        let onwards = if seen.chosen.as_deref() == Some("http/1.1") { "HTTP/1.1" } else { "?" };
        let upstream = arrived(result.entry.as_ref());
        let right = result.right && seen.forwarded == [want] && onwards == "HTTP/1.1";
        let downstream = spoken(result.receipt.head.version);
        let hops = [("proxy", downstream), ("relay", onwards.to_owned()), ("APNs", upstream)];
        line(&hops, &result, right);
        all &= right;
    }
    Ok(all)
}

fn config(origin: &Origin) -> String {
    format!(
        "version: 1\nplacement: post\n\
         listeners:\n  - name: demo\n    bind: [\"127.0.0.1:0\"]\n    accept: [tls]\n\
         routes:\n  - provider: apns\n    egress: internet\n\
         egress:\n  internet:\n    roots: [origin.pem]\n    connect_to: {{ \"{HOST}:443\": \"{}\" }}\n\
         issuer: {{ chain: issuer.pem, key: issuer.key }}\nadmin: {{ bind: \"127.0.0.1:0\" }}\n",
        origin.address()
    )
}
