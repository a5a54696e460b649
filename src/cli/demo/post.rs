//! The DMZ placement: an inspecting HTTP/1.1-only proxy stands between the sender and the relay.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::simulate::apns::{self, Origin};
use crate::simulate::authority::Throwaway;
use crate::simulate::proxy::{self, Manner, Proxy};
use crate::simulate::sender::{Sender, Speech};

use super::DemoError;
use super::relay::{Directory, Relay};
use super::stage::{HOST, LOOPBACK, heading, line, pushes, send, totals};

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

    let map = BTreeMap::from([(format!("{HOST}:443"), relay.address)]);
    let conduct = proxy::Conduct { manner: Manner::Inspect, map, ..proxy::Conduct::default() };
    let proxy = Proxy::start(LOOPBACK, Arc::clone(&inspection), issuer.roots(), conduct).await?;

    heading(
        "Post-proxy: an old inspecting proxy speaks only HTTP/1.1, APNs speaks only HTTP/2",
        "sender -> inspecting proxy -> relay -> APNs; a sender of HTTP/2 reaches the relay itself",
    );
    let through_proxy = Sender {
        host: HOST.into(),
        port: 443,
        sni: None,
        connect: proxy.address(),
        proxy: Some(None),
        speech: Speech::Http11,
        roots: inspection.roots(),
    };
    let direct = Sender {
        connect: relay.address,
        proxy: None,
        speech: Speech::Http2,
        roots: issuer.roots(),
        ..through_proxy.clone()
    };
    let mut all = via_proxy(&through_proxy, &proxy, &origin).await?;
    for planned in pushes(2) {
        let result = send(&direct, &planned, &origin).await?;
        let spoken = format!("{:?}", result.receipt.head.version);
        let upstream = result.entry.as_ref().map_or("nothing", |_| "HTTP/2.0").to_owned();
        let right = result.right && result.receipt.head.version == http::Version::HTTP_2;
        line(&[("relay", spoken), ("APNs", upstream)], &result, right);
        all &= right;
    }
    totals(&origin);
    Ok(all)
}

/// The pushes through the proxy: what it says of itself must be HTTP/1.1 on both sides.
async fn via_proxy(sender: &Sender, proxy: &Proxy, origin: &Origin) -> Result<bool, DemoError> {
    let mut all = true;
    for planned in pushes(1) {
        let result = send(sender, &planned, origin).await?;
        let seen = proxy.seen().pop().unwrap_or_default();
        let want = format!("POST HTTP/1.1 -> {}", result.receipt.status());
        let onwards = if seen.chosen.as_deref() == Some("http/1.1") { "HTTP/1.1" } else { "?" };
        let upstream = result.entry.as_ref().map_or("nothing", |_| "HTTP/2.0").to_owned();
        let right = result.right && seen.forwarded == [want] && onwards == "HTTP/1.1";
        let spoken = format!("{:?}", result.receipt.head.version);
        let hops = [("proxy", spoken), ("relay", onwards.to_owned()), ("APNs", upstream)];
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
