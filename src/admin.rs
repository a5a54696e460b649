//! The admin server: is it alive, is it ready, what does it do, and its figures.
//!
//! Runs on the control runtime, so that a busy data plane never makes it silent. It reads shared
//! atomics and asks the data plane by message; it changes nothing but a latch that an operator
//! clears.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, oneshot};

use crate::config::{Admin, Secret};
use crate::metrics::Metrics;
use crate::probe::patrol::{Seen, Verdicts};

mod guard;
mod page;
mod site;

/// Connections at one time: a scraper, a balancer, some people. More would be an accident.
const CONNECTIONS: usize = 64;

/// A head must be here by then.
const HEAD: Duration = Duration::from_secs(10);

/// No connection lives longer; scrapers reconnect.
const LIFE: Duration = Duration::from_secs(600);

/// The data plane answers by then, or the question is given up.
const PATIENCE: Duration = Duration::from_secs(2);

/// Questions waiting for the data plane; more than [`CONNECTIONS`] cannot be asked at once.
const QUESTIONS: usize = CONNECTIONS;

/// Whether balancers should send senders here. Written by whoever binds, mints and drains.
#[derive(Debug, Default)]
pub struct Readiness {
    listeners_bound: AtomicBool,
    leaves_valid: AtomicBool,
    draining: AtomicBool,
}

impl Readiness {
    /// Every listener is bound, or not (yet).
    pub fn set_listeners_bound(&self, bound: bool) {
        self.listeners_bound.store(bound, Ordering::Relaxed);
    }

    /// Every leaf is valid now, or not.
    pub fn set_leaves_valid(&self, valid: bool) {
        self.leaves_valid.store(valid, Ordering::Relaxed);
    }

    /// A drain has begun.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// `Ok`, or the first reason against. An egress outage is none: an emptied balancer would
    /// take the explanation from the senders.
    ///
    /// # Errors
    /// What is missing.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.draining.load(Ordering::Relaxed) {
            return Err("draining");
        }
        if !self.listeners_bound.load(Ordering::Relaxed) {
            return Err("listeners are not bound");
        }
        if !self.leaves_valid.load(Ordering::Relaxed) {
            return Err("a certificate is not valid");
        }
        Ok(())
    }
}

/// What the admin server asks the data plane.
#[derive(Debug)]
pub enum Question {
    /// What is going on? The page draws from it: `listeners` (`name`, `bind`), `routes` (`name`,
    /// `provider`, `hosts`, `egress`), `egress` (`name`, `proxies`, `latched`), `lanes` (`origin`,
    /// `connections`, `in_flight`, `waiting`, `down_seconds`), `paths` (`origin`, `egress`,
    /// `failing`, `last_success`, `last_failure`), `certificates` (`name`, `not_after`).
    Status(oneshot::Sender<Value>),
    /// What have pushes told of every path?
    Paths(oneshot::Sender<Vec<Seen>>),
    /// What is served? relay.yaml with every default; secrets by their places only.
    Configuration(oneshot::Sender<String>),
    /// Forget that the credentials of an egress failed; `false` = there is no such egress.
    ClearLatch {
        /// Its name.
        egress: String,
        /// The answer.
        done: oneshot::Sender<bool>,
    },
}

/// The asking end.
#[derive(Debug, Clone)]
pub struct Asker(mpsc::Sender<Question>);

/// Makes both ends: the admin server asks, the data plane answers when it comes to it.
pub fn questions() -> (Asker, mpsc::Receiver<Question>) {
    let (ask, answer) = mpsc::channel(QUESTIONS);
    (Asker(ask), answer)
}

impl Asker {
    /// What pushes have told of every path; `None` where the data plane does not answer.
    pub async fn paths(&self) -> Option<Vec<Seen>> {
        self.ask(Question::Paths).await
    }

    async fn configuration(&self) -> Option<String> {
        self.ask(Question::Configuration).await
    }

    async fn status(&self) -> Option<Value> {
        self.ask(Question::Status).await
    }

    async fn clear_latch(&self, egress: String) -> Option<bool> {
        self.ask(|done| Question::ClearLatch { egress, done }).await
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Question) -> Option<T> {
        let (reply, answer) = oneshot::channel();
        self.0.try_send(question(reply)).ok()?;
        tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
    }
}

/// What the pages are made from.
#[derive(Debug)]
pub struct Site {
    /// Who may ask.
    pub admin: Admin,
    /// The token of `admin.token`.
    pub token: Option<Secret>,
    /// `/metrics`.
    pub metrics: Arc<Metrics>,
    /// `/readyz`.
    pub readiness: Arc<Readiness>,
    /// `/status`, `/` and the latch.
    pub asker: Asker,
    /// What the relay's own ladders came to.
    pub verdicts: Arc<Verdicts>,
}

impl Site {
    /// The data plane's status, and the verdicts beside it.
    async fn status(&self) -> Option<Value> {
        let mut status = self.asker.status().await?;
        status["probes"] = self.verdicts.report().into();
        Some(status)
    }
}

/// Serves until `stop` ends, then closes the socket at once; open connections die with the
/// runtime.
///
/// # Errors
/// Never from a single connection; only where the socket itself fails for good.
pub async fn serve(
    listener: TcpListener,
    site: Arc<Site>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) => {
                // Out of descriptors, mostly: others give theirs back in a moment.
                tracing::warn!(%error, "the admin socket cannot accept");
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let site = Arc::clone(&site);
        tokio::spawn(async move {
            let _place = place;
            connection(stream, peer, site).await;
        });
    }
}

fn is_of_one_connection(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::ConnectionAborted || kind == io::ErrorKind::ConnectionReset
}

async fn connection(stream: TcpStream, peer: SocketAddr, site: Arc<Site>) {
    let service = service_fn(move |request| {
        let site = Arc::clone(&site);
        async move { Ok::<_, std::convert::Infallible>(site::answer(&site, peer, &request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(16 * 1024)
        .serve_connection(TokioIo::new(stream), service);
    // How a visitor leaves concerns nobody.
    let _ = tokio::time::timeout(LIFE, served).await;
}

/// What the status JSON tells of certificates: names and ends, seconds since 1970.
pub fn expiries(status: &Value) -> Vec<(String, i64)> {
    let listed = status.get("certificates").and_then(|all| all.as_array());
    let one = |one: &Value| {
        Some((one.get("name")?.as_str()?.to_owned(), one.get("not_after")?.as_i64()?))
    };
    listed.into_iter().flatten().filter_map(one).collect()
}

/// A duration in its two largest units.
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..86_400 => format!("{} h {} min", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{} d {} h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
#[path = "admin/tests.rs"]
mod tests;
