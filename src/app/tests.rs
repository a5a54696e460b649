//! The relay as a whole, without a push.

use super::*;

const SOON: Duration = Duration::from_secs(10);

fn start() -> Running {
    let text = "version: 1\n\
        listeners: [{ name: a, bind: [\"127.0.0.1:0\"], accept: [plain] }]\n\
        routes: [{ name: own, hosts: [push.example], origin: \"http://127.0.0.1:1\" }]\n\
        admin: { probe: off }\n";
    let config = Config::from_text(text, std::path::Path::new("relay.yaml")).unwrap();
    let material = Material::load(&config).unwrap();
    let loaded = Loaded::new(config, material).unwrap();
    let sockets = open(&loaded.config, &BTreeSet::new(), &mut Vec::new()).unwrap();
    Bound { loaded, sockets, admin: None }.start(Dropped::default()).unwrap()
}

/// Without it a relay whose data plane is gone would look alive for ever.
#[tokio::test]
async fn the_end_of_the_data_plane_is_noticed() {
    let running = start();
    assert!(running.answers().await);
    assert!(tokio::time::timeout(Duration::from_millis(50), running.ended()).await.is_err());
    let (done, _drained) = oneshot::channel();
    running.orders.send(Order::Drain { total: Duration::ZERO, done }).await.unwrap();
    tokio::time::timeout(SOON, running.ended()).await.unwrap();
    assert!(!running.answers().await);
}
