//! The data plane: one thread that accepts, relays and dials, with no lock and no other runtime.
//!
//! Everything here lives on that thread; orders and questions come in by message.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet};
use tokio::time::{Instant, MissedTickBehavior};

use super::loaded::{Loaded, LoadedError};
use super::paths::Paths;
use super::tunnels::Tunnels;
use super::{Socket, StartError, status};
use crate::admin::Question;
use crate::config::{EgressName, Listener};
use crate::downstream::admit::DownstreamCounters;
use crate::downstream::listener::{self, Behind, Front, FrontLimits, ListenerRuntime, Slot, Stop};
use crate::hop::{HopError, Observe};
use crate::relay::{Plan, Records, Relay, Towards, Upstream};
use crate::upstream::dial::Stream;
use crate::upstream::dial::{DialFacts, Dialer, Target};
use crate::upstream::lane::DialOrigin;
use crate::upstream::lanes::{Lanes, Wiring};
use crate::upstream::ourselves::Ourselves;
use crate::upstream::proxy_auth::latch::Latches;
use crate::upstream::{Answered, Push, Unanswered};

/// Before the drain deadline cuts connections, whoever still waits in a lane is told: time for the
/// answer to leave.
const LAST_WORD: Duration = Duration::from_millis(500);
/// Idle upstream connections are looked at this often, and figures are refreshed.
const SWEEP: Duration = Duration::from_secs(1);

/// What the control plane may order.
#[derive(Debug)]
pub(super) enum Order {
    /// Serve this from now on.
    Reload {
        loaded: Loaded,
        fresh: Vec<Socket>,
        done: oneshot::Sender<Result<BTreeMap<String, Vec<SocketAddr>>, StartError>>,
    },
    /// Take what is queued, accept nothing more, end. Answers with the connections still open.
    Drain { total: Duration, done: oneshot::Sender<usize> },
}

type TheRelay = Relay<TheLanes>;
type TheFront = Front<TheRelay, Tunnels>;

/// The lanes as the relay sends through them.
#[derive(Debug)]
pub(super) struct TheLanes {
    pub(super) lanes: Rc<Lanes<Dialer>>,
    pub(super) paths: Rc<Paths>,
}

impl Upstream for TheLanes {
    async fn send(&self, push: Push) -> Result<Answered, Unanswered> {
        let sent = self.lanes.send(&push).await;
        self.paths.sent(&push.route, &push.host, &sent);
        sent
    }

    fn down_for(&self, towards: Towards<'_>) -> Option<Duration> {
        self.lanes.down_for(towards.route, towards.host, towards.credential)
    }
}

impl DialOrigin for Dialer {
    type Io = Stream;

    async fn dial_origin(
        &self,
        target: &Target,
        observe: &dyn Observe,
    ) -> Result<(Stream, DialFacts), HopError> {
        let dialed = self.dial(target, observe).await?;
        Ok((dialed.io, dialed.facts))
    }

    fn is_proxied(&self, egress: &EgressName) -> bool {
        self.leads_through_proxies(egress)
    }
}

/// A served socket.
struct Serving {
    listener: String,
    local: SocketAddr,
    slot: Rc<Slot>,
    stop: Rc<Stop>,
    task: JoinHandle<()>,
}

/// Everything of the data plane's thread.
pub(super) struct Plane {
    loaded: Loaded,
    own: Arc<Ourselves>,
    records: Records,
    counters: Arc<DownstreamCounters>,
    lanes: Rc<Lanes<Dialer>>,
    relay: Rc<TheRelay>,
    front: Rc<TheFront>,
    serving: HashMap<SocketAddr, Serving>,
    paths: Rc<Paths>,
    started: Instant,
}

impl Plane {
    /// The body of the data plane's thread: sets up, says so, and serves until it is drained.
    #[expect(clippy::too_many_arguments, reason = "one call, from the thread's start")]
    pub(super) fn run(
        loaded: Loaded,
        sockets: Vec<Socket>,
        own: Arc<Ourselves>,
        latches: Arc<Latches>,
        records: Records,
        counters: Arc<DownstreamCounters>,
        questions: mpsc::Receiver<Question>,
        orders: mpsc::Receiver<Order>,
        ready: &std::sync::mpsc::Sender<Result<(), StartError>>,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = match runtime {
            Ok(runtime) => runtime,
            Err(error) => {
                // Nobody left to tell means that nobody waits for the start either.
                let _ = ready.send(Err(error.into()));
                return;
            }
        };
        let local = LocalSet::new();
        local.block_on(&runtime, async move {
            match Self::set_up(loaded, sockets, own, latches, records, counters) {
                Ok(plane) => {
                    let _ = ready.send(Ok(()));
                    plane.serve(questions, orders).await;
                }
                Err(error) => {
                    let _ = ready.send(Err(error));
                }
            }
        });
        // A KDC that does not answer holds GSSAPI for minutes, and nobody waits for it any more.
        drop(local);
        runtime.shutdown_background();
    }

    fn set_up(
        loaded: Loaded,
        sockets: Vec<Socket>,
        own: Arc<Ourselves>,
        latches: Arc<Latches>,
        records: Records,
        counters: Arc<DownstreamCounters>,
    ) -> Result<Self, StartError> {
        let dialer = Dialer::sharing(&loaded.config, &loaded.material, own.clone(), latches)
            .map_err(LoadedError::from)?;
        let lanes = Lanes::new(wiring(dialer, &loaded));
        let plan = Plan::new(&loaded.config, &loaded.material);
        let paths = Rc::new(Paths::default());
        let ways = TheLanes { lanes: lanes.clone(), paths: paths.clone() };
        let relay = Rc::new(Relay::new(plan, ways, records.clone()));
        let behind = behind(&loaded, &relay, &lanes, &paths);
        let front = Front::new(behind, loaded.config.limits.connections, counters.clone());
        let mut plane = Self {
            loaded,
            own,
            records,
            counters,
            lanes,
            relay,
            front,
            serving: HashMap::new(),
            paths,
            started: Instant::now(),
        };
        let runtimes = plane.runtimes(&plane.loaded)?;
        plane.listen(sockets, &runtimes)?;
        Ok(plane)
    }

    /// What each listener of a configuration needs, by name.
    fn runtimes(
        &self,
        loaded: &Loaded,
    ) -> Result<HashMap<String, Rc<ListenerRuntime>>, LoadedError> {
        let mut runtimes = HashMap::new();
        for (index, config) in loaded.config.listeners.iter().enumerate() {
            let material = loaded.material.listeners.get(index);
            let tls = loaded.tls_plan(index)?;
            let connect_password = material.and_then(|material| material.connect_password.clone());
            let runtime = ListenerRuntime { config: config.clone(), index, tls, connect_password };
            runtimes.insert(config.name.clone(), Rc::new(runtime));
        }
        Ok(runtimes)
    }

    fn listen(
        &mut self,
        sockets: Vec<Socket>,
        runtimes: &HashMap<String, Rc<ListenerRuntime>>,
    ) -> Result<(), StartError> {
        for Socket { listener, asked, socket } in sockets {
            let Some(runtime) = runtimes.get(&listener) else {
                continue;
            };
            let local = socket.local_addr()?;
            let slot = Slot::new(runtime.clone());
            let stop = Rc::new(Stop::default());
            let task = listener::accept(&self.front, &slot, socket, &stop)?;
            self.serving.insert(asked, Serving { listener, local, slot, stop, task });
        }
        self.own.set_listening(self.serving.values().map(|one| one.local).collect());
        Ok(())
    }

    async fn serve(
        mut self,
        mut questions: mpsc::Receiver<Question>,
        mut orders: mpsc::Receiver<Order>,
    ) {
        let mut sweep = tokio::time::interval(SWEEP);
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                order = orders.recv() => match order {
                    Some(Order::Reload { loaded, fresh, done }) => {
                        // The control plane waits for it; if it has gone, nobody needs to know.
                        let _ = done.send(self.reload(loaded, fresh).await);
                    }
                    Some(Order::Drain { total, done }) => {
                        let left = self.drain(total).await;
                        let _ = done.send(left);
                        return;
                    }
                    None => return,
                },
                Some(question) = questions.recv() => self.answer(question),
                _ = sweep.tick() => {
                    self.lanes.sweep();
                    status::figures(&self.records.metrics, &self.lanes, &self.counters);
                }
            }
        }
    }

    fn answer(&self, question: Question) {
        // Whoever asked and left needs no answer.
        match question {
            Question::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Question::Paths(reply) => {
                let _ = reply.send(self.paths.seen(&self.loaded.config));
            }
            Question::Configuration(reply) => {
                // Writing to memory does not fail; were it to, nobody would get an answer.
                if let Ok(text) = self.loaded.config.effective() {
                    let _ = reply.send(text);
                }
            }
            Question::ClearLatch { egress, done } => {
                let name = EgressName(egress.into());
                let known = self.loaded.config.egress.contains_key(&name);
                self.lanes.dialer().clear_latch(&name);
                let _ = done.send(known);
            }
        }
    }

    fn status(&self) -> serde_json::Value {
        let listeners: Vec<_> =
            self.serving.values().map(|one| (one.listener.as_str(), one.local)).collect();
        status::report(&status::Facts {
            loaded: &self.loaded,
            listeners: &listeners,
            lanes: &self.lanes,
            counters: &self.counters,
            under_way: self.relay.under_way(),
            uptime: self.started.elapsed(),
            paths: &self.paths,
        })
    }

    /// All or nothing: what can fail comes first.
    async fn reload(
        &mut self,
        loaded: Loaded,
        fresh: Vec<Socket>,
    ) -> Result<BTreeMap<String, Vec<SocketAddr>>, StartError> {
        let dialer = self
            .lanes
            .dialer()
            .renewed(&loaded.config, &loaded.material)
            .map_err(LoadedError::from)?;
        let runtimes = self.runtimes(&loaded)?;
        self.lanes.rewire(wiring(dialer, &loaded));
        self.relay.replace_plan(Plan::new(&loaded.config, &loaded.material));
        let behind = behind(&loaded, &self.relay, &self.lanes, &self.paths);
        self.front.replace(behind, loaded.config.limits.connections);
        self.paths.keep(&loaded.config);
        let before = std::mem::replace(&mut self.loaded, loaded);
        for name in before.config.egress.keys() {
            if !self.loaded.config.egress.contains_key(name) {
                self.records.metrics.forget_egress(&name.0);
            }
        }
        let mut asked: HashMap<SocketAddr, String> = HashMap::new();
        for listener in &self.loaded.config.listeners {
            asked.extend(listener.bind.iter().map(|bind| (*bind, listener.name.clone())));
        }
        let gone: Vec<_> =
            self.serving.keys().filter(|bind| !asked.contains_key(bind)).copied().collect();
        for bind in gone {
            if let Some(serving) = self.serving.remove(&bind) {
                serving.stop.stop();
                // Its queue is taken and its socket closed when the task ends.
                let _ = serving.task.await;
            }
        }
        for (bind, serving) in &mut self.serving {
            let runtime = asked.get(bind).and_then(|name| runtimes.get(name));
            if let Some(runtime) = runtime {
                serving.listener.clone_from(&runtime.config.name);
                serving.slot.replace(runtime.clone());
            }
        }
        self.listen(fresh, &runtimes)?;
        let listeners = &self.loaded.config.listeners;
        let kept = |before: &Listener| listeners.iter().any(|now| **now == *before);
        self.front.admitted().ask_those_not(kept);
        let mut addresses: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
        for serving in self.serving.values() {
            addresses.entry(serving.listener.clone()).or_default().push(serving.local);
        }
        Ok(addresses)
    }

    async fn drain(&mut self, total: Duration) -> usize {
        let serving: Vec<_> = self.serving.drain().map(|(_, serving)| serving).collect();
        for serving in &serving {
            serving.stop.stop();
        }
        for serving in serving {
            // A task that panicked holds no socket any more.
            let _ = serving.task.await;
        }
        let lanes = self.lanes.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(total.saturating_sub(LAST_WORD)).await;
            lanes.give_up();
        });
        let left = self.front.admitted().drain(total).await;
        self.lanes.close();
        status::figures(&self.records.metrics, &self.lanes, &self.counters);
        let accepted = self.counters.accepted();
        tracing::info!(connections = accepted, left, "drained");
        left
    }
}

fn wiring(dialer: Dialer, loaded: &Loaded) -> Wiring<Dialer> {
    let routes = loaded.material.routes.iter();
    Wiring::new(dialer, &loaded.config, routes.map(|route| route.identity.clone()))
}

fn behind(
    loaded: &Loaded,
    relay: &Rc<TheRelay>,
    lanes: &Rc<Lanes<Dialer>>,
    paths: &Rc<Paths>,
) -> Behind<TheRelay, Tunnels> {
    Behind {
        handle: relay.clone(),
        carry: Rc::new(Tunnels::new(lanes.clone(), loaded.clone(), paths.clone())),
        hosts: loaded.hosts.clone(),
        limits: FrontLimits::new(loaded.config.limits.head),
    }
}
