//! `pushrelay run`: load, bind, serve; reload on SIGHUP and when files change; drain on SIGTERM.
//!
//! This thread is the control plane: admin server, signals, renewal, service manager.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use sd_notify::NotifyState;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::EXIT_CONFIG;
use super::out::complain;
use crate::admin::{self, Site};
use crate::app::watch::Fingerprints;
use crate::app::{App, Inherited, Running, StartError};
use crate::config::Config;
use crate::config::fixed::until_restart;
use crate::config::material::Material;
use crate::config::problem::Invalid;
use crate::pki::leaf::RENEW_EVERY;
use crate::shutdown::{Request, Signals};
use crate::telemetry::{self, Dropped};

/// Files that the configuration names are looked at this often.
const WATCH: Duration = Duration::from_secs(5);
/// A clock that was moved by more than this was set; time servers move it by less at once.
const SET: Duration = Duration::from_secs(60);
/// A test or a supervisor that is not systemd reads here where we listen.
const READY_FILE: &str = "PUSHRELAY_READY_FILE";

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: super::ConfigFile,
}

/// Runs `run`.
pub fn run(args: Args) -> ExitCode {
    let loaded = Config::load(&args.file.config).and_then(|config| {
        // Before they are read: what changes meanwhile is read again.
        let seen = Fingerprints::of(&config);
        let material = Material::load(&config)?;
        Ok((config, material, seen))
    });
    let (config, material, seen) = match loaded {
        Ok(loaded) => loaded,
        Err(invalid) => return refused(&invalid),
    };
    let dropped = Dropped::default();
    let logs = match telemetry::start(&config.log, &dropped) {
        Ok(logs) => logs,
        Err(error) => return failed(&error),
    };
    // Ten thousand senders need more descriptors than a shell gives; where it is not allowed the
    // accept back-off copes.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::from)
        .and_then(|runtime| {
            // Ladders are climbed on this thread too.
            let tasks = tokio::task::LocalSet::new();
            let served = tasks.block_on(&runtime, serve(config, material, seen, dropped));
            drop(tasks);
            // A ladder's Kerberos may hang; the process ends without it.
            runtime.shutdown_background();
            served
        });
    let code = match served {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => failed(&error),
    };
    logs.flush(Duration::from_secs(1));
    code
}

fn refused(invalid: &Invalid) -> ExitCode {
    complain!("{invalid}");
    ExitCode::from(EXIT_CONFIG)
}

fn failed(error: &(dyn Error + 'static)) -> ExitCode {
    complain!("pushrelay: {}", super::send::chain(error));
    if let Some(hint) = error.downcast_ref().and_then(StartError::hint) {
        complain!("  hint: {hint}");
    }
    ExitCode::FAILURE
}

/// Sockets from the service manager (systemd's LISTEN_FDS protocol).
fn inherited() -> Inherited {
    let mut passed = listenfd::ListenFd::from_env();
    (0..passed.len()).filter_map(|at| passed.take_tcp_listener(at).ok().flatten()).collect()
}

async fn serve(
    config: Config,
    material: Material,
    seen: Fingerprints,
    dropped: Dropped,
) -> Result<bool, StartError> {
    let mut signals = Signals::new()?;
    let path = config.path.clone();
    let mut running = App::bind(config, material, inherited())?.start(dropped)?;
    let stop_admin = Arc::new(Notify::new());
    let admin = running.admin.take();
    let admin_address = admin.as_ref().and_then(|socket| socket.local_addr().ok());
    let admin_task = match admin {
        None => None,
        Some(socket) => Some(serve_admin(&running, socket, stop_admin.clone())?),
    };
    announce(&running.addresses, admin_address)?;
    let patrol = tokio::task::spawn_local(running.patrol().run());
    let ended = control(&mut running, &path, seen, &mut signals).await;
    patrol.abort();
    ended?;
    // A successor may bind at once, the admin port too.
    stop_admin.notify_one();
    if let Some(task) = admin_task {
        let _ = task.await;
    }
    tell(&[NotifyState::Stopping]);
    tracing::info!("draining");
    let drained = tokio::select! {
        drained = running.drain() => drained,
        // A second signal ends at once.
        () = second_stop(&mut signals) => false,
    };
    tracing::info!(complete = drained, "stopped");
    Ok(drained)
}

async fn second_stop(signals: &mut Signals) {
    while signals.next().await != Request::Stop {}
}

fn serve_admin(
    running: &Running,
    socket: TcpListener,
    stop: Arc<Notify>,
) -> Result<tokio::task::JoinHandle<()>, StartError> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::TcpListener::from_std(socket)?;
    let loaded = running.loaded();
    let site = Arc::new(Site {
        admin: loaded.config.admin.clone(),
        token: loaded.material.admin_token.clone(),
        metrics: running.metrics.clone(),
        readiness: running.readiness.clone(),
        asker: running.asker.clone(),
        verdicts: running.verdicts.clone(),
    });
    Ok(tokio::spawn(async move {
        let stopped = async move { stop.notified().await };
        if let Err(error) = admin::serve(socket, site, stopped).await {
            tracing::error!(%error, "the admin server has ended");
        }
    }))
}

fn announce(
    addresses: &BTreeMap<String, Vec<SocketAddr>>,
    admin: Option<SocketAddr>,
) -> Result<(), StartError> {
    for (name, bound) in addresses {
        for address in bound {
            tracing::info!(listener = %name, %address, "listening");
        }
    }
    if let Some(address) = admin {
        tracing::info!(%address, "admin");
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "ready");
    tell(&[NotifyState::Ready]);
    if let Some(path) = std::env::var_os(READY_FILE) {
        let ready = serde_json::json!({ "listeners": addresses, "admin": admin });
        let path = PathBuf::from(path);
        let draft = path.with_extension("tmp");
        // Renamed into place: a reader never sees half of it.
        std::fs::write(&draft, ready.to_string())?;
        std::fs::rename(&draft, &path)?;
    }
    Ok(())
}

/// Tells systemd, where there is one.
fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Until SIGTERM, or until there is nothing left to control: whoever started the process shall
/// start it again.
async fn control(
    running: &mut Running,
    path: &Path,
    mut seen: Fingerprints,
    signals: &mut Signals,
) -> Result<(), StartError> {
    let mut watch = ticks(WATCH);
    let mut renew = ticks(RENEW_EVERY);
    let mut clocks = Clocks::now();
    let watchdog = sd_notify::watchdog_enabled();
    let mut pat = ticks(watchdog.map_or(RENEW_EVERY, |limit| limit / 2));
    loop {
        tokio::select! {
            request = signals.next() => match request {
                Request::Stop => return Ok(()),
                Request::Reload => {
                    tell(&[NotifyState::Reloading]);
                    match Config::load(path) {
                        Ok(config) => {
                            let before = Fingerprints::of(&config);
                            if reload(running, config, "relay.yaml").await {
                                seen = before;
                            }
                        }
                        Err(invalid) => kept(running, &invalid),
                    }
                    tell(&[NotifyState::Ready]);
                }
            },
            _ = watch.tick() => {
                if clocks.have_parted(Clocks::now()) {
                    tracing::warn!("the clock was set, or the machine slept: leaves are looked at");
                    running.renew();
                }
                let now = Fingerprints::of(&running.loaded().config);
                if now != seen {
                    seen = now;
                    let config = (*running.loaded().config).clone();
                    reload(running, config, "files").await;
                }
            }
            _ = renew.tick() => running.renew(),
            () = running.ended() => return Err(StartError::Ended),
            _ = pat.tick() => {
                if watchdog.is_some() && running.answers().await {
                    tell(&[NotifyState::Watchdog]);
                }
            }
        }
    }
}

/// The time of day beside a clock that nobody sets.
struct Clocks {
    day: SystemTime,
    steady: Instant,
}

impl Clocks {
    fn now() -> Self {
        Self { day: SystemTime::now(), steady: Instant::now() }
    }

    /// Was the time of day set since, or did the steady clock stand still with the machine? Both
    /// leave leaves that have ended, or not begun, long before the next hourly look.
    fn have_parted(&mut self, now: Self) -> bool {
        let expected = self.day + now.steady.duration_since(self.steady);
        let apart = now.day.duration_since(expected).unwrap_or_else(|ahead| ahead.duration());
        *self = now;
        apart > SET
    }
}

fn ticks(every: Duration) -> tokio::time::Interval {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    ticks
}

async fn reload(running: &mut Running, mut config: Config, what: &str) -> bool {
    let mut material = match Material::load(&config) {
        Ok(material) => material,
        Err(invalid) => {
            kept(running, &invalid);
            return false;
        }
    };
    let loaded = running.loaded();
    let served = (&*loaded.config, &*loaded.material);
    let fixed = until_restart(served, (&mut config, &mut material)).join(", ");
    let done = running.reload(config, material).await;
    let taken = done.is_ok();
    running.metrics.reloaded(taken);
    match done {
        Ok(()) => {
            tracing::info!(what, "reloaded");
            if !fixed.is_empty() {
                tracing::warn!(keys = %fixed, "these changes wait for a restart");
            }
        }
        Err(error) => {
            let cause = error.source().map(ToString::to_string);
            let hint = error.hint();
            tracing::error!(%error, cause, hint, "not reloaded; the old configuration goes on");
        }
    }
    taken
}

fn kept(running: &Running, invalid: &Invalid) {
    running.metrics.reloaded(false);
    tracing::error!(problems = %invalid, "not reloaded; the old configuration goes on");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_is_told_from_one_that_runs() {
        let start = Clocks::now();
        let (day, steady) = (start.day, start.steady);
        let mut clocks = start;
        let second = Duration::from_secs(1);
        let mut at = |day, steady| clocks.have_parted(Clocks { day, steady });
        assert!(!at(day + 5 * second, steady + 5 * second));
        assert!(!at(day + 40 * second, steady + 10 * second), "slewed by a time server");
        assert!(at(day + 400 * second, steady + 15 * second), "set ahead, or asleep");
        assert!(!at(day + 405 * second, steady + 20 * second), "told once");
        assert!(at(day, steady + 25 * second), "set back");
    }
}
