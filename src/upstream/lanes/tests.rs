//! Lanes against an origin in memory that speaks real HTTP/2.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::future::Future;

use bytes::Bytes;
use h2::server::SendResponse;
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::time::sleep;

use super::*;
use crate::config::{Dns, LaneLimits, Route, RouteHost, TlsMode, WhenUnknown, WhenUnsent};
use crate::downstream::Presence;
use crate::hop::Observe;
use crate::provider::Dialect;
use crate::upstream::dial::{DialFacts, Target};

mod life;

/// How the origin treats the n-th request (counted over all connections, from 0).
#[derive(Debug, Clone, Copy, PartialEq)]
enum Treat {
    Answer(u16),
    GoAwayThenAnswer,
    GoAwayZero,
    Kill,
    Mute,
    Refuse,
    RefuseAndEnd,
    Slow(Duration),
    Stall,
}

struct Origin {
    limit: u32,
    script: fn(usize) -> Treat,
    seen: RefCell<Vec<String>>,
    dials: Cell<usize>,
    dial_fails: Cell<usize>,
    closed_port: Cell<u16>,
    ports: RefCell<Vec<u16>>,
    open: Cell<usize>,
    most_open: Cell<usize>,
    /// So many requests are refused before the script begins.
    refuses: Cell<usize>,
    /// Connections that stand.
    alive: Cell<usize>,
    /// What the last dial was to show.
    shown: RefCell<Option<Arc<Identity>>>,
}

impl Origin {
    fn new(limit: u32, script: fn(usize) -> Treat) -> Rc<Self> {
        Rc::new(Self {
            limit,
            script,
            seen: RefCell::default(),
            dials: Cell::new(0),
            dial_fails: Cell::new(0),
            closed_port: Cell::new(0),
            ports: RefCell::default(),
            open: Cell::new(0),
            most_open: Cell::new(0),
            refuses: Cell::new(0),
            alive: Cell::new(0),
            shown: RefCell::default(),
        })
    }

    async fn serve(self: Rc<Self>, mut io: DuplexStream) {
        let first = (self.script)(0);
        if matches!(first, Treat::GoAwayZero | Treat::Mute | Treat::RefuseAndEnd) {
            io.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
            if first == Treat::Mute {
                return std::future::pending().await;
            }
            sleep(Duration::from_millis(10)).await;
            let refused = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
            let away = |last| [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, last, 0, 0, 0, 0];
            // GOAWAY that names no stream once the push came, or one that it has refused.
            let refuses = first == Treat::RefuseAndEnd;
            let end = if refuses { [&refused[..], &away(1)].concat() } else { away(0).to_vec() };
            return io.write_all(&end).await.unwrap();
        }
        let mut builder = h2::server::Builder::new();
        builder.max_concurrent_streams(self.limit);
        let mut connection = builder.handshake::<_, Bytes>(io).await.unwrap();
        while let Some(Ok((request, respond))) = connection.accept().await {
            let number = self.seen.borrow().len();
            self.seen.borrow_mut().push(request.uri().path().to_owned());
            let treat = match self.refuses.get() {
                0 => (self.script)(number),
                left => {
                    self.refuses.set(left - 1);
                    Treat::Refuse
                }
            };
            match treat {
                Treat::Kill => return,
                Treat::GoAwayThenAnswer => connection.graceful_shutdown(),
                Treat::Answer(_)
                | Treat::GoAwayZero
                | Treat::Mute
                | Treat::Refuse
                | Treat::RefuseAndEnd
                | Treat::Slow(_)
                | Treat::Stall => {}
            }
            tokio::task::spawn_local(self.clone().answer(request, respond, treat));
        }
    }

    async fn answer(
        self: Rc<Self>,
        request: http::Request<h2::RecvStream>,
        mut respond: SendResponse<Bytes>,
        treat: Treat,
    ) {
        self.open.set(self.open.get() + 1);
        self.most_open.set(self.most_open.get().max(self.open.get()));
        let mut body = request.into_body();
        while body.data().await.is_some() {}
        let status = match treat {
            Treat::Answer(status) => status,
            Treat::GoAwayThenAnswer => 200,
            Treat::Refuse => {
                self.seen.borrow_mut().pop();
                self.open.set(self.open.get() - 1);
                return respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
            Treat::Slow(pause) => {
                sleep(pause).await;
                200
            }
            Treat::Stall => std::future::pending().await,
            Treat::GoAwayZero | Treat::Kill | Treat::Mute | Treat::RefuseAndEnd => return,
        };
        self.open.set(self.open.get() - 1);
        let answer = http::Response::builder().status(status).header("apns-id", "x");
        let _ = respond.send_response(answer.body(()).unwrap(), true);
    }
}

#[derive(Clone)]
struct Dialer(Rc<Origin>);

impl DialOrigin for Dialer {
    type Io = DuplexStream;

    async fn dial_origin(
        &self,
        target: &Target,
        _observe: &dyn Observe,
    ) -> Result<(DuplexStream, DialFacts), HopError> {
        let origin = self.0.clone();
        origin.ports.borrow_mut().push(target.port);
        origin.shown.borrow_mut().clone_from(&target.identity);
        if origin.closed_port.get() == target.port {
            return Err(HopError::new(Hop::Network, Stage::Tcp, HopErrorKind::Timeout));
        }
        if origin.dial_fails.get() > 0 {
            origin.dial_fails.set(origin.dial_fails.get() - 1);
            return Err(HopError::new(Hop::ToProxy, Stage::Tcp, HopErrorKind::Refused));
        }
        origin.dials.set(origin.dials.get() + 1);
        // As long as a near proxy takes.
        sleep(Duration::from_millis(5)).await;
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        tokio::task::spawn_local(async move {
            origin.alive.set(origin.alive.get() + 1);
            origin.clone().serve(theirs).await;
            origin.alive.set(origin.alive.get() - 1);
        });
        let any = "127.0.0.1:0".parse().unwrap();
        let facts = DialFacts {
            local: any,
            peer: any,
            proxy: None,
            alpn: Some("h2".to_owned()),
            h2: true,
            tls: None,
            took: Duration::ZERO,
        };
        Ok((ours, facts))
    }

    fn is_proxied(&self, _egress: &EgressName) -> bool {
        false
    }
}

const LIMITS: LaneLimits = LaneLimits {
    connections: 2,
    http1_connections: 100,
    streams: 500,
    lanes: 64,
    queue: 1000,
    ping: Duration::from_secs(60),
    dials_per_second: 1,
};

fn route() -> Arc<Route> {
    let host = RouteHost {
        host: "api.push.apple.com".parse().unwrap(),
        scheme: Scheme::Https,
        origin: "api.push.apple.com".parse().unwrap(),
        ports: vec![443, 2197],
        permitted: Vec::new(),
        dialect: Dialect::Apns,
        protocol: Protocol::H2,
    };
    Arc::new(Route {
        name: "apns".to_owned(),
        provider: Provider::Apns,
        hosts: vec![Arc::new(host)],
        egress: EgressName("direct".into()),
        topics: Vec::new(),
        teams: Vec::new(),
        keys: Vec::new(),
        body: 8192,
        tls: TlsMode::Terminate,
        when_unsent: WhenUnsent::Auto,
        when_unknown: WhenUnknown::Final,
        deadline: Duration::from_secs(7),
        provider_identity: None,
        next_hop: NextHop::Origin,
    })
}

fn lanes(origin: &Rc<Origin>, limits: LaneLimits) -> Rc<Lanes<Dialer>> {
    let name = EgressName("direct".into());
    let egress = Egress {
        name: name.clone(),
        proxies: Vec::new(),
        roots: Vec::new(),
        dns: Dns { servers: Vec::new(), hosts_file: false },
        connect_to: BTreeMap::new(),
        source: None,
        post_quantum: true,
        assume_h2: false,
        lane: limits,
    };
    Lanes::new(Wiring {
        dialer: Rc::new(Dialer(origin.clone())),
        egress: BTreeMap::from([(name, Arc::new(egress))]),
        identities: BTreeMap::new(),
    })
}

fn push(number: usize, key: &str) -> Push {
    let route = route();
    let uri = format!("https://api.push.apple.com/3/device/{number}");
    Push {
        host: route.hosts[0].clone(),
        route,
        sender: [10, 0, 0, 1].into(),
        request: http::Request::post(uri).body(Bytes::from_static(b"{}")).unwrap(),
        credential: Some(Credential { team: "TEAM".into(), key: key.into() }),
        deadline: Instant::now() + Duration::from_secs(7),
        presence: Presence::default(),
    }
}

/// Runs on paused time, so that deadlines and back-off cost nothing.
fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    let local = tokio::task::LocalSet::new();
    let bounded = async { tokio::time::timeout(Duration::from_secs(120), test).await.unwrap() };
    local.block_on(&runtime, bounded)
}

async fn send_all(
    lanes: &Rc<Lanes<Dialer>>,
    pushes: Vec<Push>,
) -> Vec<Result<Answered, Unanswered>> {
    let tasks: Vec<_> = pushes
        .into_iter()
        .map(|push| {
            let lanes = lanes.clone();
            tokio::task::spawn_local(async move { lanes.send(&push).await })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    results
}

fn pushes(count: usize) -> Vec<Push> {
    (0..count).map(|number| push(number, "KEY")).collect()
}

#[test]
fn a_burst_on_a_cold_lane_loses_nothing_and_opens_at_most_two_connections() {
    for limit in [1, 2, 1000] {
        run(async {
            let origin = Origin::new(limit, |_| Treat::Answer(200));
            let lanes = lanes(&origin, LIMITS);
            let results = send_all(&lanes, pushes(200)).await;
            assert!(results.iter().all(Result::is_ok), "limit {limit}");
            let seen: BTreeSet<_> = origin.seen.borrow().iter().cloned().collect();
            assert_eq!((seen.len(), origin.seen.borrow().len()), (200, 200));
            assert!(origin.dials.get() <= 2, "{}", origin.dials.get());
            let most = usize::try_from(limit).unwrap() * 2;
            assert!(origin.most_open.get() <= most, "{} > {most}", origin.most_open.get());
        });
    }
}

#[test]
fn e1_refused_streams_and_goaway_are_replayed_and_nothing_is_processed_twice() {
    run(async {
        let origin = Origin::new(1000, |number| match number {
            0 => Treat::Answer(200),
            n if n % 50 == 7 => Treat::GoAwayThenAnswer,
            _ => Treat::Answer(200),
        });
        let lanes = lanes(&origin, LIMITS);
        let results = send_all(&lanes, pushes(200)).await;
        let lost = results.iter().filter(|result| result.is_err()).count();
        assert_eq!(lost, 0);
        let seen: BTreeSet<_> = origin.seen.borrow().iter().cloned().collect();
        assert_eq!((seen.len(), origin.seen.borrow().len()), (200, 200));
    });
}

#[test]
fn an_origin_that_refuses_for_ever_gets_each_push_five_times_at_most() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Refuse);
        let lanes = lanes(&origin, LIMITS);
        let results = send_all(&lanes, pushes(1)).await;
        let Err(unanswered) = &results[0] else { panic!("{results:?}") };
        assert_eq!((unanswered.delivery, unanswered.replays), (Delivery::NotSent, 4));
    });
}

#[test]
fn a_slow_origin_does_not_hold_a_cold_burst_behind_its_first_answer() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Slow(Duration::from_secs(4)));
        let lanes = lanes(&origin, LIMITS);
        let results = send_all(&lanes, pushes(100)).await;
        assert!(results.iter().all(Result::is_ok), "{results:?}");
    });
}

#[test]
fn a_path_that_went_dead_is_not_called_closed_by_the_peer() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Mute);
        let lanes = lanes(&origin, LIMITS);
        let results = send_all(&lanes, pushes(1)).await;
        let Err(unanswered) = &results[0] else { panic!("{results:?}") };
        assert_eq!(unanswered.delivery, Delivery::Unknown);
        assert_eq!(unanswered.cause.kind, HopErrorKind::Timeout);
    });
}

#[test]
fn what_the_dial_budget_holds_back_is_told_so() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Answer(403));
        let lanes = lanes(&origin, LIMITS);
        let made_up = (0..60).map(|number| push(number, &format!("KEY{number}"))).collect();
        let results = send_all(&lanes, made_up).await;
        let held: Vec<_> = results.into_iter().filter_map(Result::err).collect();
        assert!(!held.is_empty(), "{} dials", origin.dials.get());
        for unanswered in held {
            let cause = unanswered.cause;
            assert_eq!((cause.hop, cause.stage), (Hop::RelayHost, Stage::Queue), "{cause}");
            assert_eq!(unanswered.delivery, Delivery::NotSent);
        }
    });
}

#[test]
fn an_origin_that_ends_every_connection_at_once_is_not_dialled_in_a_rush() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::GoAwayZero);
        let lanes = lanes(&origin, LIMITS);
        let results = send_all(&lanes, pushes(20)).await;
        for result in results {
            let Err(unanswered) = result else { panic!("{result:?}") };
            assert_eq!(unanswered.delivery, Delivery::NotSent);
            assert!(matches!(unanswered.cause.kind, HopErrorKind::GoAway { .. }), "{unanswered:?}");
        }
        assert!(origin.dials.get() <= 20, "{}", origin.dials.get());
    });
}

#[test]
fn a_connection_that_dies_under_a_push_leaves_its_outcome_unknown_and_is_replaced() {
    run(async {
        let origin =
            Origin::new(1000, |number| if number == 0 { Treat::Kill } else { Treat::Answer(200) });
        let lanes = lanes(&origin, LIMITS);
        let first = send_all(&lanes, pushes(1)).await;
        assert!(
            matches!(&first[0], Err(Unanswered { delivery: Delivery::Unknown, replays: 0, .. })),
            "{first:?}"
        );
        let second = send_all(&lanes, pushes(1)).await;
        assert!(second[0].is_ok(), "{second:?}");
        assert_eq!(origin.dials.get(), 2);
    });
}

#[test]
fn ports_are_tried_in_order_and_the_one_that_worked_is_remembered() {
    run(async {
        let origin =
            Origin::new(1000, |number| if number == 1 { Treat::Kill } else { Treat::Answer(200) });
        origin.closed_port.set(443);
        let lanes = lanes(&origin, LIMITS);
        for _push in 0..3 {
            send_all(&lanes, pushes(1)).await;
        }
        assert_eq!(*origin.ports.borrow(), [443, 2197, 2197]);
    });
}

#[test]
fn an_answer_that_never_comes_ends_by_the_deadline() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Stall);
        let lanes = lanes(&origin, LIMITS);
        let begun = Instant::now();
        let results = send_all(&lanes, pushes(5)).await;
        assert!(begun.elapsed() <= Duration::from_secs(8));
        // It answers PING, so that after a second it passed for slow and got the others too.
        for result in results {
            assert!(matches!(result, Err(Unanswered { delivery: Delivery::Unknown, .. })));
        }
    });
}

#[test]
fn a_push_waits_out_a_short_outage_and_a_gone_sender_does_not() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Answer(200));
        origin.dial_fails.set(5);
        let lanes = lanes(&origin, LIMITS);
        let begun = Instant::now();
        let gone = push(9, "KEY");
        gone.presence.leave();
        let waiting = vec![push(1, "KEY"), gone, push(2, "KEY")];
        let results = send_all(&lanes, waiting).await;
        assert!(results[0].is_ok() && results[2].is_ok(), "{results:?}");
        assert!(matches!(&results[1], Err(Unanswered { delivery: Delivery::NotSent, .. })));
        assert!(begun.elapsed() < Duration::from_secs(2));
        assert_eq!(origin.seen.borrow().len(), 2);
    });
}

#[test]
fn d2_two_keys_never_share_a_connection_and_made_up_ones_stay_within_the_caps() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Answer(403));
        let lanes = lanes(&origin, LaneLimits { lanes: 8, ..LIMITS });
        let made_up = (0..60).map(|number| push(number, &format!("KEY{number}"))).collect();
        let results = send_all(&lanes, made_up).await;
        let answered = results.iter().filter(|result| result.is_ok()).count();
        assert!(lanes.len() <= 8);
        assert_eq!(origin.dials.get(), answered, "one connection a key");
        assert!(answered >= 4, "{answered}");
    });
}

#[test]
fn a_lane_that_is_down_for_long_answers_at_once() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Answer(200));
        origin.dial_fails.set(100_000);
        let lanes = lanes(&origin, LIMITS);
        for _ in 0..6 {
            let results = send_all(&lanes, pushes(3)).await;
            assert!(results.iter().all(Result::is_err));
        }
        let begun = Instant::now();
        let results = send_all(&lanes, pushes(3)).await;
        assert!(results.iter().all(Result::is_err));
        assert!(begun.elapsed() <= Duration::from_secs(1), "{:?}", begun.elapsed());
        origin.dial_fails.set(0);
        sleep(Duration::from_secs(1)).await;
        assert!(send_all(&lanes, pushes(1)).await[0].is_ok());
    });
}

#[test]
fn made_up_tokens_of_one_sender_starve_no_new_credential_of_another() {
    run(async {
        let origin = Origin::new(1000, |_| Treat::Answer(403));
        let lanes = lanes(&origin, LIMITS);
        let flood = (0..2000).map(|number| push(number, &format!("KEY{number}"))).collect();
        let flooding = {
            let lanes = lanes.clone();
            tokio::task::spawn_local(async move { send_all(&lanes, flood).await })
        };
        for round in 0..20 {
            sleep(Duration::from_millis(300)).await;
            let honest = Push { sender: [10, 0, 0, 2].into(), ..push(round, &format!("T{round}")) };
            let begun = Instant::now();
            assert!(lanes.send(&honest).await.is_ok(), "round {round}");
            assert!(begun.elapsed() < Duration::from_secs(1), "round {round}");
        }
        let answered = flooding.await.unwrap().iter().filter(|result| result.is_ok()).count();
        assert!(answered < 50, "{answered} dials for made-up tokens");
        assert!(lanes.len() <= LIMITS.lanes);
    });
}
