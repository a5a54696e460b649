//! APNs certificate authentication across TLS termination: the relay presents the certificate.

use pushrelay::pki::pem::{encode_certificates, encode_key};
use pushrelay::simulate::apns::{Conduct, Origin};
use pushrelay::simulate::authority::Throwaway;
use pushrelay::simulate::sender::{Push, Speech};

use crate::support::{HOST, LOOPBACK, alert, relay, sender, within};

fn without_token(serial: u64) -> Push {
    let mut push = alert(serial);
    push.fields.retain(|(name, _)| name != "authorization");
    push
}

#[tokio::test]
async fn d10_a_route_presents_its_own_certificate_and_its_senders_need_no_token() {
    let clients = Throwaway::new("Apple WWDR, simulated", HOST).unwrap();
    let authority = Throwaway::new("Simulated APNs CA", HOST).unwrap();
    let mut tls = authority.server_config_asking(clients.roots()).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let origin = Origin::start_with(LOOPBACK, tls, Conduct::default()).await.unwrap();
    let identity = clients.leaf("com.example.chat").unwrap();
    let relay = relay()
        .secret("provider.pem", &encode_certificates(&identity.chain))
        .secret("provider.key", &encode_key(&identity.key))
        .trusting("origin.pem", &authority)
        .egress(&format!("connect_to: {{ \"{HOST}:443\": \"{}\" }}", origin.address()))
        .route("provider_identity: { chain: provider.pem, key: provider.key }")
        .start()
        .await;
    for (serial, speech) in [(1, Speech::Http2), (2, Speech::Http11)] {
        let receipt = within(sender(&relay, speech).send(&without_token(serial))).await.unwrap();
        assert_eq!(receipt.status(), 200, "{speech:?} {:?}", receipt.reason());
    }
    let ledger = origin.ledger();
    let entries = ledger.entries();
    assert_eq!(entries.len(), 2);
    assert!(entries.iter().all(|entry| entry.certificate.is_some()), "{entries:?}");
    assert_eq!(entries[0].connection, entries[1].connection, "one lane for the route");
}
