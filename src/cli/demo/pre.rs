//! The inside placement: the relay goes out through a CONNECT proxy that wants Basic credentials.

use std::collections::BTreeMap;

use crate::simulate::apns::{self, Origin};
use crate::simulate::authority::Throwaway;
use crate::simulate::proxy::{self, Proxy};
use crate::simulate::sender::{Sender, Speech};

use super::DemoError;
use super::relay::{Directory, Relay};
use super::stage::{HOST, LOOPBACK, arrived, heading, line, pushes, send, spoken, totals};

const USER: &str = "svc-push";
const PASSWORD: &str = "demo-password";

/// Shows it; `true` where every push did what it claims.
pub(super) async fn show() -> Result<bool, DemoError> {
    let apple = Throwaway::new("Simulated APNs CA", HOST)?;
    let issuer = Throwaway::new("Demo relay CA", HOST)?;
    let unused = Throwaway::new("Simulated inspection CA", HOST)?;
    let origin = Origin::start(LOOPBACK, &apple, apns::Conduct::default()).await?;
    let conduct = proxy::Conduct {
        basic: Some((USER.into(), PASSWORD.into())),
        map: BTreeMap::from([(format!("{HOST}:443"), origin.address())]),
        ..proxy::Conduct::default()
    };
    let proxy = Proxy::start(LOOPBACK, unused, apple.roots(), conduct).await?;

    let directory = Directory::new("pre")?;
    directory.write("origin.pem", &apple.pem())?;
    directory.write("issuer.pem", &issuer.pem())?;
    directory.write("issuer.key", &issuer.key_pem())?;
    directory.write("proxy.pw", PASSWORD)?;
    directory.write("relay.yaml", &config(&proxy))?;
    let relay = Relay::start(&directory).await?;

    heading(
        "2. The relay before the proxy, which asks for a password",
        "The sender speaks what it likes; HTTP/2 goes out through one CONNECT tunnel.",
    );
    let mut all = true;
    for (serial, speech) in [(1, Speech::Http11), (2, Speech::Http2)] {
        let sender = Sender {
            host: HOST.into(),
            port: 443,
            sni: None,
            connect: relay.address,
            proxy: None,
            speech,
            roots: issuer.roots(),
        };
        for planned in pushes(serial) {
            let result = send(&sender, &planned, &origin).await?;
            let seen = proxy.seen();
            let opened = seen
                .iter()
                .filter(|seen| seen.status == 200 && seen.credentials.as_deref() == Some("Basic"));
            let tunnel = if opened.count() > 0 { "CONNECT" } else { "nothing" };
            let wanted =
                if speech.multiplexes() { http::Version::HTTP_2 } else { http::Version::HTTP_11 };
            let right =
                result.right && tunnel != "nothing" && result.receipt.head.version == wanted;
            let upstream = arrived(result.entry.as_ref());
            let downstream = spoken(result.receipt.head.version);
            let hops = [("relay", downstream), ("proxy", tunnel.to_owned()), ("APNs", upstream)];
            line(&hops, &result, right);
            all &= right;
        }
    }
    totals(&origin);
    Ok(all && proxy.seen().iter().all(|seen| seen.target == format!("{HOST}:443")))
}

fn config(proxy: &Proxy) -> String {
    format!(
        "version: 1\nplacement: pre\n\
         listeners:\n  - name: demo\n    bind: [\"127.0.0.1:0\"]\n    accept: [tls]\n\
         routes:\n  - provider: apns\n    egress: corporate\n\
         egress:\n  corporate:\n    proxies:\n      - url: http://{}\n        credentials: \
         {{ basic: {{ username: {USER}, password: {{ file: proxy.pw }} }} }}\n    roots: [origin.pem]\n\
         issuer: {{ chain: issuer.pem, key: issuer.key }}\nadmin: {{ bind: \"127.0.0.1:0\" }}\n",
        proxy.address()
    )
}
