//! The walk of one exchange through the rules, from a whole request to a reply.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderName, HeaderValue};

use crate::config::{NextHop, WhenUnsent};
use crate::downstream::{Exchange, Reply};
use crate::hop::{Hop, HopError, HopErrorKind, Stage};
use crate::provider::apns::APNS_ID;
use crate::provider::{Dialect, Provider};
use crate::telemetry::Audit;
use crate::telemetry::audit::Place;
use crate::upstream::{Answered, Credential, Delivery, Push, Unanswered};

use super::answer::proxy_status;
use super::answer::{Setting, YOUNG_OUTAGE, repeats_refused_streams, reply};
use super::outcome::{Outcome, Refusal, RelayError};
use super::plan::Plan;
use super::record::{self, Ending, Leg};
use super::signature::{self, Message};
use super::translate::back::{self, Judged};
use super::translate::{self, Chain};
use super::{Permit, Relay, Towards, Upstream, reserved};

/// What a push still waits for a lane that has been down for long: enough for one dial's back-off,
/// so that a recovered provider is noticed, and short enough to count as "at once".
const LONG_OUTAGE_WAIT: Duration = Duration::from_secs(1);

/// Taken off the deadline that is told to the relay beyond, so that its word arrives before ours
/// must be said.
const CHAIN_MARGIN: Duration = Duration::from_millis(250);

/// Lanes end by the deadline. Should one ever not, the sender is told what is known before the
/// Mattermost push proxy, a second after the default deadline, tries anew.
const BACKSTOP: Duration = Duration::from_millis(250);

/// What became of an exchange besides its result, before it is told to anybody.
struct Fate {
    apns_id: Option<HeaderValue>,
    leg: Option<Leg>,
    replays: u8,
    down_for: Option<Duration>,
    started: Instant,
}

/// A request that may go: the push and, for the answer, what is known about it.
struct Ready {
    push: Push,
    apns_id: Option<HeaderValue>,
}

/// Counts an exchange as under way for as long as it lives, even where its future is dropped.
struct UnderWay<'a, U: Upstream>(&'a Relay<U>);

impl<U: Upstream> Drop for UnderWay<'_, U> {
    fn drop(&mut self) {
        self.0.under_way.set(self.0.under_way.get().saturating_sub(1));
        self.0.records.metrics.exchange_left();
    }
}

pub(super) async fn walk<U: Upstream>(relay: &Relay<U>, exchange: Exchange) -> Reply {
    let (number, request_id) = relay.next_request_id();
    relay.under_way.set(relay.under_way.get() + 1);
    relay.records.metrics.exchange_began();
    let _under_way = UnderWay(relay);
    let plan = relay.plan();
    let place = relay.records.audit.as_ref().and_then(Audit::reserve);
    let fate = fate(relay, &plan, &exchange, &request_id, place.as_ref()).await;
    let (result, fate) = fate;
    let (reply, outcome, error) = match result {
        Ok(judged) => {
            relay.repeats.borrow_mut().ended(&exchange);
            (Reply::Answer(judged.answer), judged.outcome, None)
        }
        Err(error) => {
            (tell(relay, &exchange, &fate, &error, &request_id), error.outcome(), Some(error))
        }
    };
    let ending = Ending {
        number,
        request_id: &request_id,
        sender: &exchange.sender,
        head: Some(&exchange.head),
        route: Some(&exchange.permit.route),
        host: Some(&exchange.permit.host),
        sent_id: fate.apns_id.as_ref(),
        body: &exchange.body,
        reply: &reply,
        outcome,
        error: error.as_ref(),
        replays: fate.replays,
        upstream: fate.leg,
    };
    record::write(&relay.records, &ending, place);
    reply
}

async fn fate<U: Upstream>(
    relay: &Relay<U>,
    plan: &Plan,
    exchange: &Exchange,
    request_id: &str,
    place: Option<&Place>,
) -> (Result<Judged, RelayError>, Fate) {
    let started = relay.repeats.borrow().started(exchange);
    let none = Fate { apns_id: None, leg: None, replays: 0, down_for: None, started };
    if exchange.permit.reserved {
        let answer = reserved::answer(&exchange.head, &exchange.sender, request_id);
        return (Ok(Judged { answer, outcome: Outcome::Accepted }), none);
    }
    if let Err(error) = room(relay, plan, place) {
        return (Err(error), none);
    }
    let ready = match prepare(relay, plan, exchange, started) {
        Ok(ready) => ready,
        Err(error) => return (Err(error), none),
    };
    let (down_for, push) = shorten(relay, exchange, ready.push);
    let handed_over = Instant::now();
    let latest = push.deadline + BACKSTOP;
    let sending = relay.upstream.send(push);
    let result = tokio::time::timeout_at(latest, sending).await.unwrap_or_else(|_late| {
        let cause = HopError::new(Hop::RelayHost, Stage::Request, HopErrorKind::Timeout);
        Err(Unanswered { delivery: Delivery::Unknown, cause, replays: 0 })
    });
    let took = handed_over.elapsed();
    let (result, connection, replays) = match result {
        Ok(answered) => {
            let connection = (answered.connection, answered.protocol);
            let replays = answered.replays;
            (judged(exchange, answered, request_id), Some(connection), replays)
        }
        Err(unanswered) => {
            let error = match unanswered.delivery {
                Delivery::NotSent => RelayError::NotSent(unanswered.cause),
                Delivery::Unknown => RelayError::Unknown(unanswered.cause),
            };
            (Err(error), None, unanswered.replays)
        }
    };
    let leg = Some(Leg { connection, took });
    (result, Fate { apns_id: ready.apns_id, leg, replays, down_for, ..none })
}

/// Is there room for one more, in the process and, where it binds, in the audit log?
fn room<U: Upstream>(
    relay: &Relay<U>,
    plan: &Plan,
    place: Option<&Place>,
) -> Result<(), RelayError> {
    let unrecorded = place.is_none() && relay.records.audit.as_ref().is_some_and(Audit::binds);
    if unrecorded {
        return Err(own(HopErrorKind::Unrecorded));
    }
    if relay.under_way.get() > plan.exchanges {
        return Err(own(HopErrorKind::Overloaded));
    }
    Ok(())
}

fn own(kind: HopErrorKind) -> RelayError {
    RelayError::NotSent(HopError::new(Hop::RelayHost, Stage::Queue, kind))
}

fn prepare<U: Upstream>(
    relay: &Relay<U>,
    plan: &Plan,
    exchange: &Exchange,
    started: Instant,
) -> Result<Ready, RelayError> {
    let Exchange { head, permit, body, presence, .. } = exchange;
    let remaining = verified(relay, plan, exchange)?;
    let mut deadline = started + permit.route.deadline;
    if let Some(remaining) = remaining {
        deadline = deadline.min(head.started + remaining);
    }
    let chain = Chain { signed: remaining.is_some(), pseudonym: &relay.pseudonym };
    let mut request = translate::request(head, permit, chain, body.clone())?;
    if presence.is_gone() {
        return Err(own(HopErrorKind::SenderGone));
    }
    let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())
    else {
        return Err(own(HopErrorKind::Timeout));
    };
    let apns_id = request.headers().get(&APNS_ID).cloned();
    if let Some(key) = plan.sign_key(&permit.route, permit.route_index) {
        let added = sign(&request, key, left);
        request.headers_mut().extend(added);
    }
    let credential = match permit.route.provider {
        // A lane is bound to the relay's own certificate where it has one.
        Provider::Apns if permit.route.provider_identity.is_none() => {
            exchange.sender.bearer.credential(&head.headers)
        }
        Provider::Apns | Provider::Fcm | Provider::Mattermost | Provider::Own => None,
    };
    let push = Push {
        route: permit.route.clone(),
        host: permit.host.clone(),
        sender: exchange.sender.client.ip().to_canonical(),
        request,
        credential,
        deadline: deadline.into(),
        presence: presence.clone(),
    };
    Ok(Ready { push, apns_id })
}

/// Checks the chain signature that the listener demands; what is left of the sender's deadline.
fn verified<U: Upstream>(
    relay: &Relay<U>,
    plan: &Plan,
    exchange: &Exchange,
) -> Result<Option<Duration>, Refusal> {
    let (head, listener) = (&exchange.head, &exchange.sender.listener);
    if listener.signatures.is_empty() {
        return Ok(None);
    }
    let authority = match head.port.filter(|port| *port != 443) {
        Some(port) => format!("{}:{port}", head.host),
        None => head.host.to_string(),
    };
    let message = Message {
        method: head.method.as_str(),
        authority: &authority,
        target: &head.target,
        headers: &head.headers,
        body: &exchange.body,
    };
    // No key for a listener that demands signatures, after a reload say, lets nobody in.
    let keys = plan.verify_keys(&listener.name);
    let memory = &mut relay.signatures.borrow_mut();
    let verified = signature::verify(&message, keys, epoch_seconds(), memory)?;
    Ok(Some(Duration::from_millis(verified.remaining_ms)))
}

fn sign(
    request: &http::Request<bytes::Bytes>,
    key: &signature::Key,
    left: Duration,
) -> Vec<(HeaderName, HeaderValue)> {
    let authority = request.uri().authority().map_or("", |authority| authority.as_str());
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let message = Message {
        method: request.method().as_str(),
        authority,
        target,
        headers: request.headers(),
        body: request.body(),
    };
    let left = left.saturating_sub(CHAIN_MARGIN).as_millis();
    signature::sign(&message, key, epoch_seconds(), u64::try_from(left).unwrap_or(u64::MAX))
}

fn epoch_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Where `auto` would answer anyway because the outage is old, the push does not wait for it.
fn shorten<U: Upstream>(
    relay: &Relay<U>,
    exchange: &Exchange,
    mut push: Push,
) -> (Option<Duration>, Push) {
    if !repeats_refused(exchange) || push.route.when_unsent != WhenUnsent::Auto {
        return (None, push);
    }
    let down_for = down_for(relay, exchange, push.credential.as_ref());
    if down_for.is_some_and(|down| down >= YOUNG_OUTAGE) {
        push.deadline = push.deadline.min(tokio::time::Instant::now() + LONG_OUTAGE_WAIT);
    }
    (down_for, push)
}

fn down_for<U: Upstream>(
    relay: &Relay<U>,
    exchange: &Exchange,
    credential: Option<&Credential>,
) -> Option<Duration> {
    let Permit { route, host, .. } = &exchange.permit;
    relay.upstream.down_for(Towards { route, host, credential })
}

/// Routes that speak APNs only, Go's client only, and never a relay that signs.
fn repeats_refused(exchange: &Exchange) -> bool {
    exchange.permit.host.dialect == Dialect::Apns
        && exchange.sender.listener.signatures.is_empty()
        && repeats_refused_streams(&exchange.head.headers)
}

/// The provider's word or not; a relay before us is told the outcome beside it.
fn judged(exchange: &Exchange, answered: Answered, request_id: &str) -> Result<Judged, RelayError> {
    let mut judged = back::answer(answered.response, &exchange.permit, answered.far)?;
    let told = judged.answer.headers.contains_key("proxy-status");
    if !exchange.sender.listener.signatures.is_empty() && !told {
        let value = proxy_status::passed(judged.outcome, request_id);
        judged.answer.headers.insert(HeaderName::from_static("proxy-status"), value);
    } else if told && exchange.permit.route.next_hop == NextHop::Origin {
        judged.answer.headers.remove("proxy-status");
    }
    Ok(judged)
}

fn tell<U: Upstream>(
    relay: &Relay<U>,
    exchange: &Exchange,
    fate: &Fate,
    error: &RelayError,
    request_id: &str,
) -> Reply {
    let permit = &exchange.permit;
    let id = fate.apns_id.as_ref().or_else(|| exchange.head.headers.get(&APNS_ID));
    let reply = reply(
        error,
        &Setting {
            dialect: permit.host.dialect,
            when_unsent: permit.route.when_unsent,
            when_unknown: permit.route.when_unknown,
            repeats_refused: repeats_refused(exchange),
            down_for: fate.down_for,
            apns_id: id,
            request_id,
        },
    );
    let mut repeats = relay.repeats.borrow_mut();
    match reply {
        Reply::Refuse => repeats.refused(exchange, fate.started, permit.route.deadline),
        Reply::Answer(_) => repeats.ended(exchange),
    }
    reply
}
