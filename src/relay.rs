//! One exchange: route, permit, translate, send, translate back, answer.
//!
//! The rules are pure functions in the modules below; [`Relay`] only strings them together and
//! writes down the outcome. It knows neither codecs nor lanes: the senders' side calls it through
//! [`Handle`], and it sends through [`Upstream`].

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Route, RouteHost};
use crate::downstream::{Answer, Exchange, Handle, Head, Reply, Sender};
use crate::metrics::Metrics;
use crate::provider::apns::APNS_ID;
use crate::telemetry::{AccessLog, Audit};
use crate::upstream::{Answered, Credential, Push, Unanswered};

use self::outcome::{Refusal, RelayError};

pub mod answer;
#[cfg(test)]
pub(crate) mod fixture;
pub mod outcome;
pub mod permit;
pub mod plan;
mod record;
mod repeat;
mod reserved;
pub mod route;
pub mod signature;
pub mod translate;
mod walk;

pub use plan::Plan;

/// A head that may pass: where it goes and how large its body may be.
#[derive(Debug, Clone)]
pub struct Permit {
    /// The route.
    pub route: Arc<Route>,
    /// Its index in the configuration.
    pub route_index: usize,
    /// The host of the route.
    pub host: Arc<RouteHost>,
    /// Largest body, octets.
    pub body_limit: usize,
    /// The answer is the relay's own (`/.pushrelay/probe`); nothing is dialled.
    pub reserved: bool,
}

/// Where a push would go, to ask after the lane without sending.
#[derive(Debug, Clone, Copy)]
pub struct Towards<'a> {
    /// The route.
    pub route: &'a Arc<Route>,
    /// The host within the route.
    pub host: &'a Arc<RouteHost>,
    /// As in [`Push::credential`].
    pub credential: Option<&'a Credential>,
}

/// What carries pushes to providers: the lanes, or a table in a test.
pub trait Upstream: 'static {
    /// Sends, and always ends by the push's deadline.
    fn send(&self, push: Push) -> impl Future<Output = Result<Answered, Unanswered>>;

    /// Since when the lane of such pushes has had no usable connection although it was wanted;
    /// `None` when it has one or was never tried.
    fn down_for(&self, towards: Towards<'_>) -> Option<Duration>;
}

/// Where outcomes are written down.
#[derive(Debug, Clone)]
pub struct Records {
    /// Figures.
    pub metrics: Arc<Metrics>,
    /// One line per exchange.
    pub access: AccessLog,
    /// One line per exchange that counts, if configured.
    pub audit: Option<Audit>,
}

/// The rules between senders and lanes.
pub struct Relay<U> {
    plan: RefCell<Rc<Plan>>,
    upstream: U,
    records: Records,
    pseudonym: String,
    signatures: RefCell<signature::Memory>,
    repeats: RefCell<repeat::Repeats>,
    under_way: Cell<usize>,
    count: Cell<u64>,
}

impl<U: Upstream> Relay<U> {
    /// Stands ready with a plan.
    pub fn new(plan: Plan, upstream: U, records: Records) -> Self {
        let mut random = [0_u8; 4];
        aws_lc_rs::rand::fill(&mut random).expect("the system's random source works");
        Self {
            plan: RefCell::new(Rc::new(plan)),
            upstream,
            records,
            pseudonym: format!("pushrelay-{}", crate::telemetry::hex(&random)),
            signatures: RefCell::default(),
            repeats: RefCell::default(),
            under_way: Cell::new(0),
            count: Cell::new(0),
        }
    }

    /// Takes a new plan after a reload. Exchanges under way end by the one they began with.
    pub fn replace_plan(&self, plan: Plan) {
        *self.plan.borrow_mut() = Rc::new(plan);
    }

    /// The plan of now; also the table for [`route::RouteTable::host_rule`].
    pub fn plan(&self) -> Rc<Plan> {
        Rc::clone(&self.plan.borrow())
    }

    /// What carries the pushes.
    pub const fn upstream(&self) -> &U {
        &self.upstream
    }

    /// How this process calls itself in `Via` and in request ids.
    pub fn pseudonym(&self) -> &str {
        &self.pseudonym
    }

    /// Exchanges under way.
    pub fn under_way(&self) -> usize {
        self.under_way.get()
    }

    fn next_request_id(&self) -> (u64, String) {
        let number = self.count.get() + 1;
        self.count.set(number);
        let instance = self.pseudonym.rsplit('-').next().unwrap_or_default();
        (number, format!("{instance}-{number:x}"))
    }
}

impl<U> std::fmt::Debug for Relay<U> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("pseudonym", &self.pseudonym).finish_non_exhaustive()
    }
}

impl<U: Upstream> Handle for Relay<U> {
    fn permit(&self, head: &Head, sender: &Sender) -> Result<Permit, RelayError> {
        if translate::came_from_us(&head.headers, &self.pseudonym) {
            let what = "the request came back to the relay that sent it";
            return Err(Refusal::Misdirected(what).into());
        }
        Ok(permit::check(&self.plan().table, head, sender)?)
    }

    async fn handle(&self, exchange: Exchange) -> Reply {
        walk::walk(self, exchange).await
    }

    fn refuse(
        &self,
        sender: &Sender,
        head: Option<&Head>,
        permit: Option<&Permit>,
        error: RelayError,
    ) -> Answer {
        let (number, request_id) = self.next_request_id();
        let plan = self.plan();
        let found = permit.is_none().then(|| plan.table.nearest(head, sender)).flatten();
        let (route, host) = match permit {
            Some(permit) => (Some(&permit.route), Some(&permit.host)),
            None => (found.map(|found| &found.route), found.map(|found| &found.host)),
        };
        let setting = answer::Setting {
            dialect: host.map_or(crate::provider::Dialect::Plain, |host| host.dialect),
            when_unsent: route.map_or(crate::config::WhenUnsent::Answer, |one| one.when_unsent),
            when_unknown: route.map_or(crate::config::WhenUnknown::Final, |one| one.when_unknown),
            repeats_refused: false,
            down_for: None,
            apns_id: head.and_then(|head| head.headers.get(&APNS_ID)),
            request_id: &request_id,
        };
        let reply = Reply::Answer(answer::synthetic(&error, &setting));
        let ending = record::Ending {
            number,
            request_id: &request_id,
            sender,
            head,
            route,
            host,
            sent_id: None,
            body: &[],
            reply: &reply,
            outcome: error.outcome(),
            error: Some(&error),
            replays: 0,
            upstream: None,
        };
        // What never became an exchange had nothing to be promised a place for.
        let place = self.records.audit.as_ref().and_then(Audit::reserve);
        record::write(&self.records, &ending, place);
        match reply {
            Reply::Answer(answer) => answer,
            Reply::Refuse => answer::synthetic(&error, &setting),
        }
    }
}

#[cfg(test)]
#[path = "relay/tests.rs"]
mod tests;
