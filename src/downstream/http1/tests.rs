//! `serve` over an in-memory stream with a scripted handle, on a paused clock.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::timeout;

use super::*;
use crate::config::{
    Accept, EgressName, Listener, NextHop, Protocol, Route, RouteHost, Scheme, TlsMode,
    WhenUnknown, WhenUnsent,
};
use crate::provider::{Dialect, Provider};

const BODY: usize = 100;

/// Answers `/slow` when told, `/refuse` with a refusal, everything else with its path and body.
#[derive(Default)]
struct Script {
    go: Notify,
    began: Notify,
    handled: RefCell<Vec<(String, String, bool)>>,
    refused: RefCell<Vec<String>>,
    last_started: Cell<Option<std::time::Instant>>,
}

impl Handle for Script {
    fn permit(&self, head: &Head, _sender: &Sender) -> Result<Permit, RelayError> {
        if head.target == "/forbidden" {
            return Err(Refusal::Path.into());
        }
        Ok(permit())
    }

    async fn handle(&self, exchange: Exchange) -> Reply {
        let target = exchange.head.target.clone();
        self.last_started.set(Some(exchange.head.started));
        self.began.notify_one();
        if target == "/slow" {
            tokio::select! {
                () = self.go.notified() => {}
                () = exchange.presence.gone() => {}
            }
        }
        let body = String::from_utf8(exchange.body.to_vec()).unwrap();
        let gone = exchange.presence.is_gone();
        self.handled.borrow_mut().push((target.clone(), body.clone(), gone));
        if target == "/refuse" {
            return Reply::Refuse;
        }
        Reply::Answer(Answer {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(
                http::HeaderName::from_static("apns-id"),
                HeaderValue::from_static("A"),
            )]),
            body: format!("{target} {body}").into(),
            close: false,
        })
    }

    fn refuse(
        &self,
        _sender: &Sender,
        _head: Option<&Head>,
        _permit: Option<&Permit>,
        error: RelayError,
    ) -> Answer {
        self.refused.borrow_mut().push(error.to_string());
        let status = match error {
            RelayError::NotSent(_) => 503,
            RelayError::Unknown(_) => 409,
            RelayError::Refused(Refusal::Size) => 413,
            RelayError::Refused(Refusal::TimedOut) => 408,
            RelayError::Refused(Refusal::HeadTooLarge) => 431,
            RelayError::Refused(Refusal::Path) => 404,
            RelayError::Refused(_) => 400,
        };
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: HeaderMap::new(), body: "no".into(), close: false }
    }
}

fn permit() -> Permit {
    let host = Arc::new(RouteHost {
        host: "a.example".parse().unwrap(),
        scheme: Scheme::Https,
        origin: "a.example".parse().unwrap(),
        ports: vec![443],
        permitted: vec![],
        dialect: Dialect::Apns,
        protocol: Protocol::Auto,
    });
    let route = Arc::new(Route {
        name: "r".into(),
        provider: Provider::Apns,
        hosts: vec![Arc::clone(&host)],
        egress: EgressName("direct".into()),
        topics: vec![],
        teams: vec![],
        keys: vec![],
        body: BODY,
        tls: TlsMode::Terminate,
        when_unsent: WhenUnsent::Auto,
        when_unknown: WhenUnknown::Final,
        deadline: Duration::from_secs(7),
        provider_identity: None,
        next_hop: NextHop::Origin,
    });
    Permit { route, route_index: 0, host, body_limit: BODY, reserved: false }
}

fn sender() -> Sender {
    let listener = Listener {
        name: "l".into(),
        bind: vec![],
        accept: Accept { tls: false, connect: false, plain: true },
        tunnel: vec![],
        max_age: None,
        connect_credentials: None,
        networks: vec![],
        sender_certificates: None,
        proxy_protocol: vec![],
        signatures: vec![],
        default_host: None,
    };
    Sender {
        connection: 1,
        listener: Arc::new(listener),
        listener_index: 0,
        client: "127.0.0.1:1".parse().unwrap(),
        local: "127.0.0.1:2".parse().unwrap(),
        tls: None,
        connect_target: None,
        bearer: crate::relay::permit::bearer::Memo::default(),
    }
}

/// One served connection, seen from its sender.
struct Bench {
    io: DuplexStream,
    script: Rc<Script>,
    lease: Lease,
    served: JoinHandle<()>,
    from: Instant,
}

impl Bench {
    fn new() -> Self {
        Self::with_pipe(64 * 1024)
    }

    fn with_pipe(octets: usize) -> Self {
        let (io, theirs) = duplex(octets);
        let (script, lease) = (Rc::new(Script::default()), Lease::new());
        let limits = Http1Limits { head: 1024, ..Http1Limits::default() };
        let served = serve(theirs, Rc::new(sender()), Rc::clone(&script), limits, lease.clone());
        Self { io, script, lease, served: spawn_local(served), from: Instant::now() }
    }

    async fn send(&mut self, text: &str) {
        within(self.io.write_all(text.as_bytes())).await.unwrap();
    }

    /// Reads exactly what is expected.
    async fn hear(&mut self, expected: &str) {
        let mut text = vec![0; expected.len()];
        let read = within(self.io.read_exact(&mut text)).await;
        assert!(
            read.is_ok(),
            "ended; expected {expected:?}, saw {:?}",
            text.escape_ascii().to_string()
        );
        assert_eq!(String::from_utf8(text).unwrap(), expected);
    }

    /// Reads to the end.
    async fn rest(&mut self) -> String {
        let mut text = String::new();
        within(self.io.read_to_string(&mut text)).await.unwrap();
        text
    }

    /// Waits until the server has closed; the seconds since the beginning.
    async fn closed(mut self) -> u64 {
        assert_eq!(self.rest().await, "");
        drop(self.io);
        within(self.served).await.unwrap();
        self.from.elapsed().as_secs()
    }
}

/// The clock is paused: this is over at once when nothing moves any more.
async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(600), future).await.expect("in time")
}

async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: a.example\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn ok(text: &str) -> String {
    format!("HTTP/1.1 200 OK\r\napns-id: A\r\ncontent-length: {}\r\n\r\n{text}", text.len())
}

fn last(status: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\nconnection: close\r\n\r\nno")
}

#[tokio::test(start_paused = true)]
async fn s5_pipelined_requests_are_answered_one_at_a_time_in_order() {
    local(async {
        let mut bench = Bench::new();
        bench.send(&[post("/slow", "1"), post("/b", "2"), post("/c", "")].concat()).await;
        within(bench.script.began.notified()).await;
        tokio::task::yield_now().await;
        assert_eq!(bench.lease.in_flight(), 1);
        assert!(bench.script.handled.borrow().is_empty());
        bench.script.go.notify_one();
        bench.hear(&[ok("/slow 1"), ok("/b 2"), ok("/c ")].concat()).await;
        assert_eq!(bench.lease.in_flight(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_starts_when_its_first_octet_came() {
    local(async {
        let mut bench = Bench::new();
        let text = post("/a", "x");
        bench.send(&text[..1]).await;
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(3)).await;
        bench.send(&text[1..]).await;
        bench.hear(&ok("/a x")).await;
        let started = bench.script.last_started.get().unwrap();
        assert!(bench.from.into_std() + Duration::from_secs(1) > started);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a8_expect_gets_100_before_the_body_and_only_while_it_is_awaited() {
    local(async {
        let mut bench = Bench::new();
        let head = "POST /a HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\n\
                    Content-Length: 2\r\n\r\n";
        bench.send(head).await;
        bench.hear("HTTP/1.1 100 Continue\r\n\r\n").await;
        bench.send("xy").await;
        bench.hear(&ok("/a xy")).await;
        bench.send(&format!("{head}xy")).await;
        bench.hear(&ok("/a xy")).await;
        bench.send(&head.replace("HTTP/1.1", "HTTP/1.0")).await;
        bench.send("xy").await;
        assert!(bench.rest().await.starts_with("HTTP/1.1 200 OK"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a8_what_is_refused_by_its_head_is_never_asked_for_its_body() {
    local(async {
        for (path, length, status) in
            [("/a", 101, "413 Payload Too Large"), ("/forbidden", 2, "404 Not Found")]
        {
            let mut bench = Bench::new();
            bench
                .send(&format!(
                    "POST {path} HTTP/1.1\r\nHost: a.example\r\nExpect: 100-continue\r\n\
                     Content-Length: {length}\r\n\r\n"
                ))
                .await;
            assert_eq!(bench.rest().await, last(status));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a5_a6_a10_faults_are_answered_and_end_the_connection() {
    local(async {
        let smuggled = post("/smuggled", "");
        let both = "POST /a HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\
                    Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        let chunk = "POST /a HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n1\na";
        let large = format!("POST /a HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1024));
        for (text, status) in [
            (both, "400 Bad Request"),
            (chunk, "400 Bad Request"),
            ("POST /a HTTP/1.1\r\n\r\n", "400 Bad Request"),
            (&large, "431 Request Header Fields Too Large"),
        ] {
            let mut bench = Bench::new();
            bench.send(&format!("{text}{smuggled}")).await;
            assert_eq!(bench.rest().await, last(status));
            assert!(bench.script.handled.borrow().is_empty());
            assert_eq!(bench.script.refused.borrow().len(), 1);
            assert_eq!(bench.closed().await, 0);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a7_a_413_is_heard_though_the_body_still_comes() {
    local(async {
        // The pipe is small: without draining, the sender would block and then be cut off.
        let mut bench = Bench::with_pipe(512);
        bench.send(&post("/a", &"x".repeat(40_000))).await;
        assert_eq!(bench.rest().await, last("413 Payload Too Large"));
        assert!(bench.script.handled.borrow().is_empty());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_drain_after_a_refusal_is_bounded_in_octets_and_time() {
    local(async {
        let mut bench = Bench::with_pipe(512);
        bench.send(&post("/a", "").replace(": 0", ": 999999")).await;
        let flood = vec![b'x'; 1 << 20];
        within(bench.io.write_all(&flood)).await.unwrap_err();
        let mut bench = Bench::new();
        bench.send(&post("/a", "").replace(": 0", ": 999999")).await;
        within(bench.served).await.unwrap();
        assert_eq!(bench.from.elapsed().as_secs(), LINGER);
    })
    .await;
}

const LINGER: u64 = 2;

#[tokio::test(start_paused = true)]
async fn g3_a_forbidden_head_keeps_the_connection_when_its_body_is_here() {
    local(async {
        let mut bench = Bench::new();
        bench.send(&post("/forbidden", "x")).await;
        bench.hear("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno").await;
        bench.send(&post("/a", "x")).await;
        bench.hear(&ok("/a x")).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a7_a_truncated_body_goes_nowhere_but_into_the_log() {
    local(async {
        let mut bench = Bench::new();
        bench.send(&post("/a", "x").replace(": 1", ": 9")).await;
        bench.io.shutdown().await.unwrap();
        assert_eq!(bench.rest().await, "");
        assert!(bench.script.handled.borrow().is_empty());
        let refused = bench.script.refused.take();
        assert_eq!(refused, ["refused: malformed request: the body ended early"]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a10_nothing_waits_for_ever() {
    local(async {
        assert_eq!(Bench::new().closed().await, 10, "nothing sent");

        let mut bench = Bench::new();
        bench.send("POST /a HT").await;
        assert_eq!(bench.rest().await, last("408 Request Timeout"));
        assert_eq!(bench.closed().await, 10, "half a head");

        let mut bench = Bench::new();
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(6)).await;
        bench.send("P").await;
        assert_eq!(bench.rest().await, last("408 Request Timeout"));
        assert_eq!(bench.closed().await, 10, "the first head counts from the beginning");

        let mut bench = Bench::new();
        bench.send(&post("/a", "")).await;
        bench.hear(&ok("/a ")).await;
        assert_eq!(bench.closed().await, 180, "idle");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a10_a_dripped_head_or_body_is_cut_all_the_same() {
    local(async {
        for (text, seconds) in [("P", 10), (&*post("/a", "").replace(": 0", ": 99"), 15)] {
            let mut bench = Bench::new();
            bench.send(text).await;
            let (mut read, mut write) = tokio::io::split(bench.io);
            let drip = async {
                loop {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    drop(write.write_all(b"x").await);
                }
            };
            let mut heard = vec![0; last("408 Request Timeout").len()];
            tokio::select! {
                read = within(read.read_exact(&mut heard)) => drop(read.unwrap()),
                () = drip => {}
            }
            assert_eq!(String::from_utf8(heard).unwrap(), last("408 Request Timeout"));
            assert_eq!(bench.from.elapsed().as_secs(), seconds, "{text}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a10_a_sender_that_does_not_read_is_cut() {
    local(async {
        let mut bench = Bench::with_pipe(64);
        let body = "x".repeat(99);
        bench.send(&post("/a", &body)).await;
        within(bench.served).await.unwrap();
        assert_eq!(bench.from.elapsed().as_secs(), 15, "writing one answer");
        assert_eq!(bench.lease.in_flight(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn e3_a_sender_that_leaves_is_told_to_the_exchange_which_still_ends() {
    local(async {
        let mut bench = Bench::new();
        bench.send(&post("/slow", "1")).await;
        within(bench.script.began.notified()).await;
        drop(bench.io);
        within(bench.served).await.unwrap();
        assert_eq!(bench.script.handled.take(), [("/slow".into(), "1".into(), true)]);
        assert_eq!(bench.lease.in_flight(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_half_closed_sender_still_hears_its_answer() {
    local(async {
        let mut bench = Bench::new();
        bench.send(&post("/slow", "1")).await;
        within(bench.script.began.notified()).await;
        bench.io.shutdown().await.unwrap();
        let text = bench.rest().await;
        assert!(text.contains("connection: close\r\n\r\n/slow 1"), "{text}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_flood_behind_a_slow_request_is_not_read() {
    local(async {
        let mut bench = Bench::with_pipe(256);
        bench.send(&post("/slow", "1")).await;
        within(bench.script.began.notified()).await;
        let flood = vec![b'x'; 1 << 16];
        let written = timeout(Duration::from_secs(5), bench.io.write_all(&flood)).await;
        assert!(written.is_err(), "one buffer is read ahead, not all of it");
        bench.script.go.notify_one();
        bench.hear(&ok("/slow 1")).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_push_is_closed_without_an_answer() {
    local(async {
        let mut bench = Bench::new();
        bench.send(&post("/refuse", "1")).await;
        assert_eq!(bench.closed().await, 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a3_http_1_0_and_close_end_after_the_answer() {
    local(async {
        for text in [
            "POST /a HTTP/1.0\r\nHost: a.example\r\n\r\n",
            "POST /a HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n",
        ] {
            let mut bench = Bench::new();
            bench.send(text).await;
            bench.send(&post("/never", "")).await;
            let heard = bench.rest().await;
            assert!(heard.ends_with("connection: close\r\n\r\n/a "), "{heard}");
        }
        let mut bench = Bench::new();
        let kept = "POST /a HTTP/1.0\r\nHost: a.example\r\nConnection: keep-alive\r\n\r\n";
        for _ in 0..2 {
            bench.send(kept).await;
            let end = "content-length: 3\r\nconnection: keep-alive\r\n\r\n/a ";
            bench.hear(&format!("HTTP/1.1 200 OK\r\napns-id: A\r\n{end}")).await;
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn s3_a_drained_connection_ends_when_quiet_or_with_its_answer() {
    local(async {
        let mut bench = Bench::new();
        bench.send(&post("/a", "")).await;
        bench.hear(&ok("/a ")).await;
        bench.lease.ask(Asked::EndWhenQuiet);
        assert_eq!(bench.closed().await, 1, "quiet for a second");

        let mut bench = Bench::new();
        bench.send(&post("/a", "")).await;
        bench.hear(&ok("/a ")).await;
        bench.lease.ask(Asked::EndWhenQuiet);
        tokio::task::yield_now().await;
        bench.send(&post("/a", "")).await;
        assert!(bench.rest().await.ends_with("connection: close\r\n\r\n/a "), "on its way");

        let mut bench = Bench::new();
        bench.send(&post("/slow", "1")).await;
        within(bench.script.began.notified()).await;
        bench.lease.ask(Asked::EndWhenQuiet);
        bench.script.go.notify_one();
        assert!(bench.rest().await.ends_with("connection: close\r\n\r\n/slow 1"));

        let bench = Bench::new();
        bench.lease.ask(Asked::EndWhenQuiet);
        assert_eq!(bench.closed().await, 1, "fresh, silent");

        let mut bench = Bench::new();
        bench.lease.ask(Asked::EndWhenQuiet);
        tokio::task::yield_now().await;
        bench.send(&post("/a", "")).await;
        assert!(bench.rest().await.ends_with("connection: close\r\n\r\n/a "), "fresh, in time");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn i8_at_the_drains_deadline_everything_ends_with_what_is_known() {
    local(async {
        let bench = Bench::new();
        bench.lease.ask(Asked::EndNow);
        assert_eq!(bench.closed().await, 0, "quiet");

        let mut bench = Bench::new();
        bench.send(&post("/a", "x").replace(": 1", ": 9")).await;
        tokio::task::yield_now().await;
        bench.lease.ask(Asked::EndNow);
        assert_eq!(bench.rest().await, last("503 Service Unavailable"), "half a body");

        let mut bench = Bench::new();
        bench.send(&post("/slow", "1")).await;
        within(bench.script.began.notified()).await;
        bench.lease.ask(Asked::EndNow);
        assert!(bench.rest().await.ends_with("connection: close\r\n\r\n/slow 1"));
        assert_eq!(bench.script.handled.take(), [("/slow".into(), "1".into(), true)]);
    })
    .await;
}
