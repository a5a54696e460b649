use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::cli::status::ask;
use crate::telemetry::Dropped;

struct Running {
    address: SocketAddr,
    readiness: Arc<Readiness>,
    stop: oneshot::Sender<()>,
    served: tokio::task::JoinHandle<io::Result<()>>,
}

async fn start() -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (asker, mut asked) = questions();
    tokio::spawn(async move {
        while let Some(question) = asked.recv().await {
            match question {
                Question::Status(reply) => {
                    let _ = reply.send(json!({ "listeners": [{ "name": "dmz" }] }));
                }
                Question::Paths(reply) => drop(reply.send(Vec::new())),
                Question::Configuration(reply) => drop(reply.send("version: 1\n".to_owned())),
                Question::ClearLatch { egress, done } => {
                    let _ = done.send(egress == "corporate & co");
                }
            }
        }
    });
    let readiness = Arc::new(Readiness::default());
    let site = Arc::new(Site {
        admin: Admin { bind: Some(address), networks: Vec::new(), token: None, probe: true },
        token: None,
        metrics: Arc::new(Metrics::new(Dropped::default())),
        readiness: Arc::clone(&readiness),
        asker,
        verdicts: Arc::default(),
    });
    let (stop, stopped) = oneshot::channel::<()>();
    let served = tokio::spawn(serve(listener, site, async move {
        let _ = stopped.await;
    }));
    Running { address, readiness, stop, served }
}

async fn get(at: &Running, method: &str, target: &str) -> (u16, String) {
    let base = format!("http://{}", at.address).parse().unwrap();
    let asked = ask(&base, method.parse().unwrap(), target, None);
    let answer = tokio::time::timeout(Duration::from_secs(5), asked).await.unwrap().unwrap();
    (answer.0.as_u16(), String::from_utf8(answer.1.to_vec()).unwrap())
}

#[tokio::test]
async fn the_pages_over_loopback() {
    let at = start().await;
    assert_eq!(get(&at, "GET", "/livez").await, (200, "alive\n".into()));
    assert_eq!(get(&at, "GET", "/readyz").await, (503, "listeners are not bound\n".into()));
    at.readiness.set_listeners_bound(true);
    at.readiness.set_leaves_valid(true);
    assert_eq!(get(&at, "GET", "/readyz").await, (200, "ready\n".into()));
    at.readiness.set_draining();
    assert_eq!(get(&at, "GET", "/readyz").await, (503, "draining\n".into()));
    let (status, text) = get(&at, "GET", "/status").await;
    assert_eq!(status, 200);
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["listeners"][0]["name"], "dmz");
    assert_eq!(get(&at, "GET", "/configuration").await, (200, "version: 1\n".into()));
    assert!(get(&at, "GET", "/").await.1.contains("<svg"));
    assert!(get(&at, "GET", "/metrics").await.1.contains("pushrelay_build_info"));
    assert_eq!(get(&at, "POST", "/latch/clear?egress=corporate+%26+co").await.0, 200);
    assert_eq!(get(&at, "POST", "/latch/clear?egress=other").await.0, 404);
    assert_eq!(get(&at, "GET", "/latch/clear?egress=other").await.0, 405);
    assert_eq!(get(&at, "POST", "/status").await.0, 405);
    assert_eq!(get(&at, "GET", "/elsewhere").await.0, 404);
    at.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(5), at.served).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(at.address).await.is_err(), "the socket is released at once");
}

#[tokio::test]
async fn a_rebinding_page_gets_nothing() {
    let at = start().await;
    let mut stream = TcpStream::connect(at.address).await.unwrap();
    let request = b"GET /status HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    tokio::time::timeout(Duration::from_secs(5), read).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 421 ") && !answer.contains("dmz"), "{answer}");
}
