//! The running relay: what is bound, which thread does what, reload and drain.
//!
//! [`App::bind`] opens every socket and serves nothing; [`Bound::start`] serves. The data plane is
//! one thread with a runtime of its own; whoever starts the app keeps the control plane: admin
//! server, signals, renewal. They speak by messages only.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch as shared};

use crate::admin::{self, Asker, Readiness};
use crate::config::material::Material;
use crate::config::{Admin, Config};
use crate::downstream::admit::DownstreamCounters;
use crate::downstream::listener;
use crate::metrics::Metrics;
use crate::probe::patrol::Verdicts;
use crate::relay::Records;
use crate::telemetry::{AccessLog, Audit, Dropped};
use crate::upstream::ourselves::Ourselves;
use crate::upstream::proxy_auth::latch::Latches;

mod expiry;
mod loaded;
mod paths;
pub mod patrol;
mod plane;
mod status;
mod tunnels;
pub mod watch;

use expiry::Expiry;
pub use loaded::{Loaded, LoadedError};
use patrol::Patrol;
use plane::{Order, Plane};

/// A predecessor releases its sockets at SIGTERM as soon as its threads come to it: on a loaded
/// machine a successor is faster.
const PREDECESSOR: Duration = Duration::from_secs(2);
/// Between two looks whether it has.
const BIND_PAUSE: Duration = Duration::from_millis(5);
/// Orders waiting for the data plane: one reload and one drain are all there ever are.
const ORDERS: usize = 4;

/// Why the relay cannot start, or a reload not take place.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A socket could not be opened.
    #[error("listener {listener}: cannot listen on {address}")]
    Bind {
        /// Whose.
        listener: String,
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The audit log cannot be opened.
    #[error("the audit log {} cannot be written", path.display())]
    Audit {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The operating system refused a thread, a runtime or a log.
    #[error("the process cannot be set up")]
    Process(#[from] io::Error),
    /// What was loaded cannot be served.
    #[error("the configuration cannot be served")]
    Loaded(#[from] LoadedError),
    /// The data plane has ended.
    #[error("the data plane has ended")]
    Ended,
}

impl StartError {
    /// What the operator can do, where that is known.
    pub fn hint(&self) -> Option<String> {
        let Self::Bind { address, source, .. } = self else { return None };
        let (port, kind) = (address.port(), source.kind());
        if kind == io::ErrorKind::AddrInUse {
            return Some(format!(
                "another process listens there: ss -ltnp 'sport = :{port}' names it"
            ));
        }
        if kind == io::ErrorKind::PermissionDenied {
            return Some(format!(
                "port {port} needs root, CAP_NET_BIND_SERVICE, or systemd's socket (deploy/)"
            ));
        }
        let absent = kind == io::ErrorKind::AddrNotAvailable;
        absent.then(|| format!("this machine has no address {}: see ip address", address.ip()))
    }
}

/// One bound socket, and by what name and address the configuration asked for it.
#[derive(Debug)]
struct Socket {
    listener: String,
    asked: SocketAddr,
    socket: TcpListener,
}

/// Everything is open, nothing is served.
#[derive(Debug)]
pub struct Bound {
    loaded: Loaded,
    sockets: Vec<Socket>,
    admin: Option<TcpListener>,
}

/// Sockets inherited from a service manager, to be used where a bind asks for their address.
pub type Inherited = Vec<TcpListener>;

/// A serving relay, as the control plane sees it.
#[derive(Debug)]
pub struct Running {
    /// The addresses of each listener.
    pub addresses: BTreeMap<String, Vec<SocketAddr>>,
    /// The admin server's socket, to be served by the control plane.
    pub admin: Option<TcpListener>,
    /// Asks the data plane for the admin server.
    pub asker: Asker,
    /// `/readyz`.
    pub readiness: Arc<Readiness>,
    /// `/metrics`.
    pub metrics: Arc<Metrics>,
    /// Who we are, for loops.
    pub own: Arc<Ourselves>,
    /// What the relay's own ladders came to.
    pub verdicts: Arc<Verdicts>,
    loaded: Loaded,
    told: shared::Sender<Loaded>,
    latches: Arc<Latches>,
    orders: mpsc::Sender<Order>,
    thread: JoinHandle<()>,
    records: Records,
    expiry: RefCell<Expiry>,
}

/// The relay as a program.
#[derive(Debug)]
pub struct App;

impl App {
    /// Opens every socket, or none.
    pub fn bind(
        config: Config,
        material: Material,
        mut inherited: Inherited,
    ) -> Result<Bound, StartError> {
        let loaded = Loaded::new(config, material)?;
        let sockets = open(&loaded.config, &BTreeSet::new(), &mut inherited)?;
        let admin = match loaded.config.admin.bind {
            None => None,
            Some(address) => open_admin(address, &mut inherited)?,
        };
        for address in inherited.iter().filter_map(|socket| socket.local_addr().ok()) {
            tracing::warn!(
                %address,
                "the service manager listens where no listener binds: who connects there waits in vain"
            );
        }
        Ok(Bound { loaded, sockets, admin })
    }
}

impl Bound {
    /// Starts the data plane.
    pub fn start(self, dropped: Dropped) -> Result<Running, StartError> {
        let Self { loaded, sockets, admin } = self;
        let config = &loaded.config;
        let metrics = Arc::new(Metrics::new(dropped.clone()));
        let access = if config.log.access {
            AccessLog::start(config.log.sample, dropped.clone())?
        } else {
            AccessLog::off()
        };
        let audit = match &config.audit.path {
            None => None,
            Some(path) => {
                let opened = Audit::open(path, config.audit.refuse_when_full, dropped);
                let failed = |source| StartError::Audit { path: path.clone(), source };
                Some(opened.map_err(failed)?)
            }
        };
        let records = Records { metrics: metrics.clone(), access, audit };
        let own = Arc::new(Ourselves::default());
        loaded.tell(&own);
        let counters = Arc::new(DownstreamCounters::default());
        let addresses = addresses(&sockets);
        let (asker, questions) = admin::questions();
        let (orders, taken) = mpsc::channel(ORDERS);
        let (ready, started) = std::sync::mpsc::channel();
        let latches = Arc::new(Latches::default());
        let plane = {
            let (loaded, own, latches) = (loaded.clone(), own.clone(), latches.clone());
            let records = records.clone();
            move || {
                Plane::run(
                    loaded, sockets, own, latches, records, counters, questions, taken, &ready,
                );
            }
        };
        let thread = std::thread::Builder::new().name("data".into()).spawn(plane)?;
        started.recv().map_err(|_ended| StartError::Ended)??;
        let readiness = Arc::new(Readiness::default());
        readiness.set_listeners_bound(true);
        let running = Running {
            addresses,
            admin,
            asker,
            readiness,
            metrics,
            own,
            verdicts: Arc::default(),
            told: shared::Sender::new(loaded.clone()),
            loaded,
            latches,
            orders,
            thread,
            records,
            expiry: RefCell::default(),
        };
        running.note_leaves();
        Ok(running)
    }
}

impl Running {
    /// What is served now.
    pub const fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Who climbs ladders while the relay runs; to be run on the control plane.
    pub fn patrol(&self) -> Patrol {
        Patrol {
            asker: self.asker.clone(),
            loaded: self.told.subscribe(),
            own: self.own.clone(),
            latches: self.latches.clone(),
            metrics: self.metrics.clone(),
            verdicts: self.verdicts.clone(),
        }
    }

    /// Serves another configuration from now on, or goes on as before. All or nothing: the new
    /// sockets are open and the new certificates minted before anything changes.
    pub async fn reload(&mut self, config: Config, material: Material) -> Result<(), StartError> {
        let loaded = Loaded::new(config, material)?;
        let kept: BTreeSet<SocketAddr> = bound_addresses(&self.loaded.config);
        let fresh = open(&loaded.config, &kept, &mut Vec::new())?;
        let (done, answer) = oneshot::channel();
        let order = Order::Reload { loaded: loaded.clone(), fresh, done };
        self.orders.send(order).await.map_err(|_ended| StartError::Ended)?;
        self.addresses = answer.await.map_err(|_ended| StartError::Ended)??;
        loaded.tell(&self.own);
        self.told.send_replace(loaded.clone());
        self.loaded = loaded;
        self.note_leaves();
        Ok(())
    }

    /// Renews leaves that are due and writes down when certificates end. To be called hourly.
    pub fn renew(&self) {
        self.loaded.renew();
        self.loaded.tell(&self.own);
        self.note_leaves();
    }

    fn note_leaves(&self) {
        self.expiry.borrow_mut().note(&self.loaded.leaves.expiries(), &self.metrics);
        self.readiness.set_leaves_valid(self.loaded.leaves_are_valid());
    }

    /// Returns when the data plane has ended by itself, which only a fault of ours brings about.
    pub async fn ended(&self) {
        self.orders.closed().await;
    }

    /// Does the data plane come to what it is asked?
    pub async fn answers(&self) -> bool {
        self.asker.paths().await.is_some()
    }

    /// Takes what is queued, closes every listening socket, lets exchanges end, and returns when
    /// the data plane has ended, by `drain` and a moment.
    pub async fn drain(self) -> bool {
        self.readiness.set_draining();
        drop(self.admin);
        let total = self.loaded.config.drain;
        let (done, drained) = oneshot::channel();
        if self.orders.send(Order::Drain { total, done }).await.is_err() {
            return false;
        }
        let patience = total + Duration::from_secs(5);
        let left = tokio::time::timeout(patience, drained).await;
        let whole = matches!(left, Ok(Ok(0)));
        // The thread ends by itself after its last word; what hangs is not waited for.
        if whole {
            let _ = self.thread.join();
        }
        self.records.access.flush(Duration::from_secs(1));
        if let Some(audit) = &self.records.audit {
            audit.flush(Duration::from_secs(1));
        }
        whole
    }
}

fn bound_addresses(config: &Config) -> BTreeSet<SocketAddr> {
    config.listeners.iter().flat_map(|listener| listener.bind.iter().copied()).collect()
}

/// Opens the sockets of a configuration but those that are open already.
fn open(
    config: &Config,
    kept: &BTreeSet<SocketAddr>,
    inherited: &mut Inherited,
) -> Result<Vec<Socket>, StartError> {
    let mut sockets = Vec::new();
    for listener in &config.listeners {
        for address in listener.bind.iter().filter(|address| !kept.contains(address)) {
            sockets.push(open_one(&listener.name, *address, inherited)?);
        }
    }
    Ok(sockets)
}

/// The admin socket. Where nobody chose the address and another relay on this machine has it, the
/// relay does without: pushes matter more than the page about them.
fn open_admin(
    address: SocketAddr,
    inherited: &mut Inherited,
) -> Result<Option<TcpListener>, StartError> {
    match open_one("admin", address, inherited) {
        Ok(opened) => Ok(Some(opened.socket)),
        Err(error) if address == Admin::default_bind() => {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::warn!(%error, cause, hint = error.hint(), "no admin server: set admin.bind");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn open_one(
    name: &str,
    asked: SocketAddr,
    inherited: &mut Inherited,
) -> Result<Socket, StartError> {
    let same = |socket: &TcpListener| socket.local_addr().is_ok_and(|local| local == asked);
    if let Some(at) = inherited.iter().position(same) {
        let socket = inherited.swap_remove(at);
        return Ok(Socket { listener: name.to_owned(), asked, socket });
    }
    let socket = bind_after_another(asked).map_err(|source| StartError::Bind {
        listener: name.to_owned(),
        address: asked,
        source,
    })?;
    Ok(Socket { listener: name.to_owned(), asked, socket })
}

/// Binds, waiting a moment for a predecessor that was just told to end.
fn bind_after_another(address: SocketAddr) -> io::Result<TcpListener> {
    let until = Instant::now() + PREDECESSOR;
    loop {
        match listener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < until => {
                std::thread::sleep(BIND_PAUSE);
            }
            bound => return bound,
        }
    }
}

fn addresses(sockets: &[Socket]) -> BTreeMap<String, Vec<SocketAddr>> {
    let mut addresses: BTreeMap<String, Vec<SocketAddr>> = BTreeMap::new();
    for socket in sockets {
        if let Ok(local) = socket.socket.local_addr() {
            addresses.entry(socket.listener.clone()).or_default().push(local);
        }
    }
    addresses
}

#[cfg(test)]
mod tests;
