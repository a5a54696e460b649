use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderValue, Response};

use super::fixture::{apns_route, bearer, config, head, listener, own_route, sender};
use super::*;
use crate::config::{Config, NextHop, RouteHost, Secret, SecretSource, WhenUnsent};
use crate::downstream::{Presence, Wire};
use crate::hop::{Hop, HopError, HopErrorKind, Stage};
use crate::provider::Dialect;
use crate::telemetry::Dropped;
use crate::telemetry::access::Captured;
use crate::upstream::Delivery;

const APNS: &str = "api.push.apple.com";
const TOKEN: &str = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";

/// Lanes that answer from a list, and accept everything when it is empty.
#[derive(Default)]
struct Table {
    sent: RefCell<Vec<Push>>,
    next: RefCell<VecDeque<Result<Answered, Unanswered>>>,
    down: Cell<Option<Duration>>,
    hangs: Cell<bool>,
}

fn answered(status: u16, fields: &[(&'static str, &'static str)], body: &'static str) -> Answered {
    let mut response = Response::new(Bytes::from_static(body.as_bytes()));
    *response.status_mut() = status.try_into().unwrap();
    for (name, value) in fields {
        response.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    Answered { response, connection: 7, protocol: "h2", replays: 1, far: Hop::BeyondProxy }
}

fn unanswered(delivery: Delivery) -> Unanswered {
    let cause = HopError::new(Hop::Proxy, Stage::Connect, HopErrorKind::Timeout);
    Unanswered { delivery, cause, replays: 0 }
}

impl Upstream for Table {
    async fn send(&self, push: Push) -> Result<Answered, Unanswered> {
        self.sent.borrow_mut().push(push);
        if self.hangs.get() {
            std::future::pending::<()>().await;
        }
        let next = self.next.borrow_mut().pop_front();
        next.unwrap_or_else(|| Ok(answered(200, &[("apns-id", "x")], "")))
    }

    fn down_for(&self, _towards: Towards<'_>) -> Option<Duration> {
        self.down.get()
    }
}

struct Bench {
    relay: Relay<Table>,
    lines: Captured,
    listener: Arc<crate::config::Listener>,
}

fn bench(config: &Config, keys: &[Secret], sign_with: Option<&Secret>) -> Bench {
    recorded_bench(config, keys, sign_with, None)
}

fn recorded_bench(
    config: &Config,
    keys: &[Secret],
    sign_with: Option<&Secret>,
    audit: Option<Audit>,
) -> Bench {
    let plan = Plan::with_keys(config, [keys].into_iter(), [sign_with, None].into_iter());
    let (access, lines) = AccessLog::captured();
    let metrics = Arc::new(Metrics::new(Dropped::default()));
    let records = Records { metrics, access, audit };
    let relay = Relay::new(plan, Table::default(), records);
    Bench { relay, lines, listener: Arc::clone(&config.listeners[0]) }
}

fn both() -> Config {
    let own = own_route("own", "push.corp.example", "http://10.1.2.3:8066");
    config(vec![apns_route("apns", &[APNS]), own])
}

fn push_head() -> Head {
    let mut head = head("POST", APNS, &format!("/3/device/{TOKEN}"));
    head.headers.insert("authorization", bearer("TEAM000001", "KEY0000001").parse().unwrap());
    head.headers.insert("apns-topic", "com.example.chat".parse().unwrap());
    head
}

impl Bench {
    async fn carry(&self, head: Head, body: &str) -> Reply {
        let sender = Sender { listener: Arc::clone(&self.listener), ..sender() };
        let permit = self.relay.permit(&head, &sender).unwrap();
        let body = Bytes::copy_from_slice(body.as_bytes());
        let presence = Presence::default();
        let exchange = Exchange { head, permit, body, sender: Rc::new(sender), presence };
        let whole = self.relay.handle(exchange);
        tokio::time::timeout(Duration::from_secs(5), whole).await.unwrap()
    }

    async fn answer(&self, head: Head, body: &str) -> Answer {
        match self.carry(head, body).await {
            Reply::Answer(answer) => answer,
            Reply::Refuse => panic!("refused"),
        }
    }

    fn next(&self, result: Result<Answered, Unanswered>) {
        self.relay.upstream().next.borrow_mut().push_back(result);
    }

    fn sent(&self) -> usize {
        self.relay.upstream().sent.borrow().len()
    }
}

#[tokio::test]
async fn a_push_is_carried_and_its_answer_comes_back_as_it_was() {
    let bench = bench(&both(), &[], None);
    let gone = answered(
        410,
        &[("apns-id", "abc"), ("content-type", "application/json")],
        r#"{"reason":"Unregistered","timestamp":1}"#,
    );
    bench.next(Ok(gone));
    let answer = bench.answer(push_head(), "{}").await;
    assert_eq!(answer.status.as_u16(), 410);
    assert_eq!(&answer.body[..], br#"{"reason":"Unregistered","timestamp":1}"#);
    let sent = bench.relay.upstream().sent.borrow();
    let credential = sent[0].credential.as_ref().unwrap();
    assert_eq!((&*credential.team, &*credential.key), ("TEAM000001", "KEY0000001"));
    assert_eq!(sent[0].request.body(), "{}");
    let line = bench.lines.next().unwrap();
    assert_eq!((line.outcome, line.status, line.replays), ("provider_refused", 410, 1));
    assert_eq!((line.upstream, line.upstream_protocol), (Some(7), Some("h2")));
    assert_eq!(bench.relay.under_way(), 0);
}

#[tokio::test]
async fn h1_no_secret_reaches_an_access_line() {
    let bench = bench(&both(), &[], None);
    let mut head = push_head();
    head.headers.insert("user-agent", "evil\u{9}agent".parse().unwrap());
    let jwt = head.headers["authorization"].to_str().unwrap().to_owned();
    bench.answer(head.clone(), "the payload is a secret").await;
    let refusal = Refusal::Malformed("x").into();
    bench.relay.refuse(&sender(), Some(&head), None, refusal);
    for line in [bench.lines.next().unwrap(), bench.lines.next().unwrap()] {
        let text = format!("{line:?} {}", serde_json::to_string(&line).unwrap());
        for canary in [TOKEN, &TOKEN[..16], &jwt[7..40], "c2lnbmF0dXJl", "payload"] {
            assert!(!text.contains(canary), "{canary} in {text}");
        }
        assert!(text.contains("/3/device/sha256:") && text.contains("evil.agent"), "{text}");
        assert_eq!(line.team.as_deref(), Some("TEAM000001"));
    }
    let shown = format!("{:?}", bench.relay.upstream().sent.borrow()[0].request.headers());
    assert!(!shown.contains(&jwt[7..40]), "{shown}");
}

#[tokio::test]
async fn mattermosts_ack_id_is_logged_and_unknown_is_a_fail_with_200() {
    let bench = bench(&both(), &[], None);
    bench.next(Err(unanswered(Delivery::Unknown)));
    let head = head("POST", "push.corp.example", "/api/v1/send_push");
    let body = r#"{"ack_id":"abc\u001b1","message":"secret"}"#;
    let answer = bench.answer(head, body).await;
    assert_eq!(answer.status.as_u16(), 200);
    assert!(String::from_utf8_lossy(&answer.body).contains(r#""status":"FAIL""#));
    let line = bench.lines.next().unwrap();
    assert_eq!(line.ack_id.as_deref(), Some("abc.1"));
    assert_eq!((line.outcome, line.hop, line.stage), ("unknown", "proxy", "connect"));
    assert!(line.cause.unwrap().contains("no answer in time"));
}

/// `when_unsent: refuse` on a route of one's own that says `dialect: apns`.
#[tokio::test]
async fn unsent_pushes_are_refused_on_own_routes_that_speak_apns_only() {
    for (dialect, refused) in [(Dialect::Apns, true), (Dialect::Mattermost, false)] {
        let mut own = own_route("own", "push.corp.example", "http://10.1.2.3:8066");
        own.when_unsent = WhenUnsent::Refuse;
        own.hosts = vec![Arc::new(RouteHost { dialect, ..(*own.hosts[0]).clone() })];
        let bench = bench(&config(vec![own]), &[], None);
        bench.next(Err(unanswered(Delivery::NotSent)));
        let mut head = head("POST", "push.corp.example", "/api/v1/send_push");
        head.headers.insert("user-agent", "Go-http-client/2.0".parse().unwrap());
        let reply = bench.carry(head, "{}").await;
        assert_eq!(matches!(reply, Reply::Refuse), refused, "{dialect:?}");
    }
}

#[tokio::test]
async fn a_senders_own_replay_of_what_was_refused_inherits_the_start() {
    let bench = bench(&both(), &[], None);
    let go = |started| {
        let mut head = push_head();
        head.headers.insert("user-agent", "Go-http-client/2.0".parse().unwrap());
        head.started = started;
        head
    };
    let now = Instant::now();
    let ago = |ms| now.checked_sub(Duration::from_millis(ms)).unwrap();
    bench.next(Err(unanswered(Delivery::NotSent)));
    assert!(matches!(bench.carry(go(ago(6900)), "{}").await, Reply::Refuse));
    assert_eq!(bench.sent(), 1);
    bench.next(Err(unanswered(Delivery::NotSent)));
    assert!(matches!(bench.carry(go(ago(200)), "other").await, Reply::Refuse));
    assert_eq!(bench.sent(), 2, "another body is another push");
    let inherited = bench.relay.upstream().sent.borrow()[0].deadline;
    bench.next(Ok(answered(200, &[("apns-id", "x")], "")));
    let mut replay = go(now);
    replay.started = ago(50);
    assert!(matches!(bench.carry(replay, "{}").await, Reply::Answer(_)));
    assert_eq!(bench.relay.upstream().sent.borrow()[2].deadline, inherited);
    bench.next(Err(unanswered(Delivery::NotSent)));
    assert!(matches!(bench.carry(go(ago(7500)), "late").await, Reply::Refuse));
    assert_eq!(bench.sent(), 3, "past its deadline nothing is dispatched");
    assert!(matches!(bench.carry(go(ago(0)), "late").await, Reply::Refuse));
    assert_eq!(bench.sent(), 3, "and its replay is not either");
}

#[tokio::test]
async fn an_old_outage_is_answered_and_not_waited_for() {
    let bench = bench(&both(), &[], None);
    bench.relay.upstream().down.set(Some(Duration::from_secs(31)));
    bench.next(Err(unanswered(Delivery::NotSent)));
    let mut head = push_head();
    head.headers.insert("user-agent", "Go-http-client/2.0".parse().unwrap());
    let started = head.started;
    let answer = bench.answer(head, "{}").await;
    assert_eq!(answer.status.as_u16(), 503);
    let deadline = bench.relay.upstream().sent.borrow()[0].deadline;
    assert!(deadline < (started + Duration::from_secs(3)).into());
}

#[tokio::test]
async fn what_breaks_a_rule_or_a_bound_is_not_dispatched() {
    let mut config = both();
    config.limits.exchanges = 0;
    let full = bench(&config, &[], None);
    assert_eq!(full.answer(push_head(), "{}").await.status.as_u16(), 503);
    let bench = bench(&both(), &[], None);
    let mut twice = push_head();
    twice.headers.append("apns-topic", "com.example.chat".parse().unwrap());
    let answer = bench.answer(twice, "{}").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (400, &br#"{"reason":"RelayRefused"}"#[..])
    );
    assert_eq!(full.sent() + bench.sent(), 0);
    let mut back = push_head();
    let via = format!("2.0 {}", bench.relay.pseudonym());
    back.headers.insert("via", via.parse().unwrap());
    let refused = bench.relay.permit(&back, &sender()).unwrap_err();
    assert!(matches!(refused, RelayError::Refused(Refusal::Misdirected(_))));
}

#[tokio::test]
async fn the_reserved_path_is_answered_here_and_never_forwarded() {
    let bench = bench(&both(), &[], None);
    let mut head = head("GET", APNS, permit::RESERVED_PATH);
    head.wire = Wire::Http11;
    head.headers.insert("via", "1.1 squid".parse().unwrap());
    let answer = bench.answer(head, "").await;
    let seen: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&seen["protocol"], &seen["via"][0]), (&"HTTP/1.1".into(), &"1.1 squid".into()));
    assert_eq!(bench.sent(), 0);
}

#[tokio::test]
async fn a_chain_signs_verifies_caps_the_deadline_and_tells_the_outcome() {
    let secret = Secret::new(b"shared by two".to_vec());
    let mut route = apns_route("apns", &[APNS]);
    route.next_hop = NextHop::Relay { sign_with: Some(SecretSource::Env("K".into())) };
    let pre = bench(&config(vec![route]), &[], Some(&secret));
    let mut first = push_head();
    first.started = first.started.checked_sub(Duration::from_secs(3)).unwrap();
    pre.answer(first, "{}").await;
    let signed = pre.relay.upstream().sent.borrow()[0].request.headers().clone();
    assert!(signed.contains_key("signature") && signed.contains_key("content-digest"));

    let mut config = both();
    let mut demanding = (*listener()).clone();
    demanding.signatures = vec![SecretSource::Env("K".into())];
    config.listeners = vec![Arc::new(demanding)];
    let post = bench(&config, std::slice::from_ref(&secret), None);
    let arrived = || Head { headers: signed.clone(), ..push_head() };
    let head = arrived();
    let latest = head.started + Duration::from_secs(4);
    let answer = post.answer(head, "{}").await;
    let told = answer.headers["proxy-status"].to_str().unwrap();
    assert!(told.starts_with("pushrelay; outcome=accepted"), "{told}");
    {
        let sent = post.relay.upstream().sent.borrow();
        assert!(sent[0].deadline < latest.into());
        let chain =
            ["signature", "signature-input", "content-digest", "via", "pushrelay-deadline-ms"];
        assert!(chain.iter().all(|name| !sent[0].request.headers().contains_key(*name)));
    }
    for (head, body) in [(arrived(), "{}"), (arrived(), "{} "), (push_head(), "{}")] {
        assert_eq!(post.answer(head, body).await.status.as_u16(), 403, "repeat, tamper, stranger");
    }
    assert_eq!(post.sent(), 1);
    post.relay.replace_plan(Plan::with_keys(&config, [&[][..]].into_iter(), [].into_iter()));
    assert_eq!(post.answer(arrived(), "{}").await.status.as_u16(), 403, "no key lets nobody in");
}

/// Senders may write what they like into a collapse id.
#[tokio::test]
async fn a_field_that_is_no_ascii_crosses_a_signed_chain() {
    let secret = Secret::new(b"shared by two".to_vec());
    let mut route = apns_route("apns", &[APNS]);
    route.next_hop = NextHop::Relay { sign_with: Some(SecretSource::Env("K".into())) };
    let pre = bench(&config(vec![route]), &[], Some(&secret));
    let mut demanding = (*listener()).clone();
    demanding.signatures = vec![SecretSource::Env("K".into())];
    let mut config = both();
    config.listeners = vec![Arc::new(demanding)];
    let post = bench(&config, std::slice::from_ref(&secret), None);
    let mut head = push_head();
    let value = HeaderValue::from_bytes(b"caf\xc3\xa9").unwrap();
    head.headers.insert("apns-collapse-id", value.clone());
    assert_eq!(pre.answer(head, "{}").await.status.as_u16(), 200);
    let signed = pre.relay.upstream().sent.borrow()[0].request.headers().clone();
    let arrived = Head { headers: signed, ..push_head() };
    assert_eq!(post.answer(arrived, "{}").await.status.as_u16(), 200);
    assert_eq!(post.relay.upstream().sent.borrow()[0].request.headers()["apns-collapse-id"], value);
}

#[tokio::test]
async fn what_a_relay_beyond_did_not_send_is_not_sent_here_either() {
    let mut route = apns_route("apns", &[APNS]);
    route.next_hop = NextHop::Relay { sign_with: None };
    let pre = bench(&config(vec![route]), &[], None);
    let status = "pushrelay; error=dns_error; details=\"resolver resolve x\"; outcome=not_sent";
    pre.next(Ok(answered(503, &[("proxy-status", status), ("apns-id", "x")], "{}")));
    let answer = pre.answer(push_head(), "{}").await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body[..]),
        (503, &br#"{"reason":"ServiceUnavailable"}"#[..])
    );
    let line = pre.lines.next().unwrap();
    assert_eq!((line.outcome, line.hop, line.stage), ("not_sent", "resolver", "resolve"));
}

#[test]
fn refused_heads_are_answered_in_the_dialect_of_the_nearest_route() {
    let bench = bench(&both(), &[], None);
    let stranger = head("POST", "stranger.example", "/x");
    let error = || Refusal::Misdirected("no route names this host").into();
    let plain = bench.relay.refuse(&sender(), Some(&stranger), None, error());
    assert!(String::from_utf8_lossy(&plain.body).contains("relay_refused"));
    let from = fixture::sender_with_sni(Some(APNS));
    let apns = bench.relay.refuse(&from, None, None, Refusal::TimedOut.into());
    assert_eq!((apns.status.as_u16(), &apns.body[..]), (408, &br#"{"reason":"RelayRefused"}"#[..]));
}

#[tokio::test]
async fn a_lane_that_never_ends_is_unknown_soon_after_the_deadline() {
    let bench = bench(&both(), &[], None);
    bench.relay.upstream().hangs.set(true);
    let mut head = push_head();
    head.started = head.started.checked_sub(Duration::from_millis(6900)).unwrap();
    let answer = bench.answer(head, "{}").await;
    assert_eq!(&answer.body[..], br#"{"reason":"RelayOutcomeUnknown"}"#);
    assert_eq!((answer.status.as_u16(), bench.relay.under_way()), (409, 0));
}

#[tokio::test]
async fn what_the_audit_log_cannot_take_is_refused_with_that_reason() {
    // Always full: every write fails with ENOSPC.
    let audit = Audit::open("/dev/full".as_ref(), true, Dropped::default()).unwrap();
    let bench = recorded_bench(&both(), &[], None, Some(audit));
    let deadline = Instant::now() + Duration::from_secs(10);
    // The first ones pass until the disk's first error is known.
    let answer = loop {
        let answer = bench.answer(push_head(), "{}").await;
        if answer.status.as_u16() != 200 {
            break answer;
        }
        assert!(Instant::now() < deadline, "nothing was refused");
    };
    assert_eq!(answer.status.as_u16(), 503);
    let carried = bench.sent();
    let line = std::iter::from_fn(|| bench.lines.next()).last().unwrap();
    assert_eq!((line.outcome, line.hop), ("not_sent", "relay-host"));
    assert!(line.cause.unwrap().contains("the audit log takes no more lines"));
    bench.answer(push_head(), "{}").await;
    assert_eq!(bench.sent(), carried);
}
