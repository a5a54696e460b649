//! Counters, histograms and gauges for Prometheus. Names and labels are a contract.
//!
//! | name | labels | what |
//! |---|---|---|
//! | `pushrelay_build_info` | version | always 1 |
//! | `pushrelay_exchanges_total` | listener, route, wire, outcome | ended exchanges; their sum is all that were begun |
//! | `pushrelay_failures_total` | route, hop, stage, outcome | exchanges that the provider did not answer, by who is to blame |
//! | `pushrelay_refusals_total` | listener, route, rule | exchanges refused by our rules |
//! | `pushrelay_replays_total` | route | pushes sent again because proven unprocessed |
//! | `pushrelay_streams_refused_total` | route | unsent pushes handed back to clients that repeat them |
//! | `pushrelay_exchange_seconds` | route, outcome | from the first byte of the head to the answer |
//! | `pushrelay_upstream_seconds` | route | in the lane and at the provider |
//! | `pushrelay_exchanges_in_flight` | | exchanges under way |
//! | `pushrelay_sender_connections` | listener | open connections of senders |
//! | `pushrelay_connections_judged_total` | listener, kind | accepted sockets, by `admitted` or why not |
//! | `pushrelay_lanes` | egress | lanes |
//! | `pushrelay_upstream_connections` | egress, protocol | open upstream connections |
//! | `pushrelay_queued` | egress | pushes waiting in lanes |
//! | `pushrelay_dials_total` | egress, result, hop, stage | dials; result is `ok` or `failed` |
//! | `pushrelay_certificate_expiry_timestamp_seconds` | kind, name | end of validity, seconds since the epoch |
//! | `pushrelay_probe_verdict` | origin, egress, severity, code, hop | 1 for the latest verdict of a ladder that the relay climbed by itself |
//! | `pushrelay_reloads_total` | result | configurations and files read again; result is `ok` or `failed`, and then the old ones go on |
//! | `pushrelay_log_lines_dropped_total` | | lines that no log could take |
//!
//! Labels come from the configuration and from closed sets, never from a sender or a peer.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::hop::{Hop, HopError, Stage};
use crate::probe::verdict::Verdict;
use crate::relay::outcome::{Outcome, Refusal};
use crate::telemetry::Dropped;

/// Upper bounds in seconds: 1 ms is the relay alone, 50 ms a healthy provider, 7 s the default
/// deadline, 28 s Mattermost's.
const BUCKETS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 7.0, 28.0];

/// Labels of `pushrelay_exchanges_total`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExchangeLabels {
    listener: String,
    route: String,
    wire: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    route: String,
    hop: &'static str,
    stage: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    listener: String,
    route: String,
    rule: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RouteLabel {
    route: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TimeLabels {
    route: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabel {
    listener: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AdmissionLabels {
    listener: String,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EgressLabel {
    egress: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ProtocolLabels {
    egress: String,
    protocol: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DialLabels {
    egress: String,
    result: &'static str,
    hop: &'static str,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExpiryLabels {
    kind: &'static str,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct VerdictLabels {
    origin: String,
    egress: String,
    severity: &'static str,
    code: &'static str,
    hop: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

type Times = fn() -> Histogram;

/// Every figure of the process. Send and Sync; updating one never waits for the page that shows
/// them longer than a copy takes.
pub struct Metrics {
    registry: Mutex<Registry>,
    exchanges: Family<ExchangeLabels, Counter>,
    failures: Family<FailureLabels, Counter>,
    refusals: Family<RefusalLabels, Counter>,
    replays: Family<RouteLabel, Counter>,
    refused_streams: Family<RouteLabel, Counter>,
    exchange_seconds: Family<TimeLabels, Histogram, Times>,
    upstream_seconds: Family<RouteLabel, Histogram, Times>,
    in_flight: Gauge,
    sender_connections: Family<ListenerLabel, Gauge>,
    admissions: Family<AdmissionLabels, Counter>,
    lanes: Family<EgressLabel, Gauge>,
    upstream_connections: Family<ProtocolLabels, Gauge>,
    queued: Family<EgressLabel, Gauge>,
    dials: Family<DialLabels, Counter>,
    reloads: Family<ResultLabel, Counter>,
    expiry: Family<ExpiryLabels, Gauge>,
    verdicts: Family<VerdictLabels, Gauge>,
    /// The labels in use, by origin and egress: a verdict takes the place of the one before.
    judged: Mutex<BTreeMap<(String, String), VerdictLabels>>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

/// How an exchange ended, for [`Metrics::exchange_ended`].
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The listener's name.
    pub listener: &'a str,
    /// The route's name; empty where none was found.
    pub route: &'a str,
    /// `Wire::word`, or empty.
    pub wire: &'static str,
    /// The outcome.
    pub outcome: Outcome,
    /// Who is to blame where the provider did not answer.
    pub cause: Option<&'a HopError>,
    /// The rule that was broken.
    pub refusal: Option<&'a Refusal>,
    /// The stream was refused instead of answered.
    pub stream_refused: bool,
    /// How often it was sent again.
    pub replays: u8,
    /// From the first byte of the head.
    pub took: Duration,
    /// In the lane and at the provider; `None` where it did not get there.
    pub upstream: Option<Duration>,
}

impl Metrics {
    /// All at zero.
    pub fn new(dropped: Dropped) -> Self {
        let times: Times = || Histogram::new(BUCKETS);
        let metrics = Self {
            registry: Mutex::new(Registry::with_prefix("pushrelay")),
            exchanges: Family::default(),
            failures: Family::default(),
            refusals: Family::default(),
            replays: Family::default(),
            refused_streams: Family::default(),
            exchange_seconds: Family::new_with_constructor(times),
            upstream_seconds: Family::new_with_constructor(times),
            in_flight: Gauge::default(),
            sender_connections: Family::default(),
            admissions: Family::default(),
            lanes: Family::default(),
            upstream_connections: Family::default(),
            queued: Family::default(),
            dials: Family::default(),
            reloads: Family::default(),
            expiry: Family::default(),
            verdicts: Family::default(),
            judged: Mutex::default(),
        };
        metrics.register(dropped);
        metrics
    }

    fn register(&self, dropped: Dropped) {
        let mut to = self.registry.lock().expect("nobody panics while registering");
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        to.register("build_info", "The version that runs", build);
        to.register("exchanges", "Ended exchanges", self.exchanges.clone());
        to.register("failures", "Exchanges without the provider's answer", self.failures.clone());
        to.register("refusals", "Exchanges refused by our rules", self.refusals.clone());
        to.register("replays", "Pushes sent again", self.replays.clone());
        let refused = self.refused_streams.clone();
        to.register("streams_refused", "Unsent pushes handed back", refused);
        let whole = self.exchange_seconds.clone();
        to.register("exchange_seconds", "Head's first byte to answer", whole);
        let upstream = self.upstream_seconds.clone();
        to.register("upstream_seconds", "In the lane and at the provider", upstream);
        to.register("exchanges_in_flight", "Exchanges under way", self.in_flight.clone());
        let open = self.sender_connections.clone();
        to.register("sender_connections", "Open connections of senders", open);
        let judged = self.admissions.clone();
        to.register("connections_judged", "Accepted sockets, admitted or not", judged);
        to.register("lanes", "Lanes", self.lanes.clone());
        let upstream = self.upstream_connections.clone();
        to.register("upstream_connections", "Open upstream connections", upstream);
        to.register("queued", "Pushes waiting in lanes", self.queued.clone());
        to.register("dials", "Dials", self.dials.clone());
        to.register("reloads", "Configurations and files read again", self.reloads.clone());
        let name = "certificate_expiry_timestamp_seconds";
        to.register(name, "End of validity, seconds since the epoch", self.expiry.clone());
        let verdicts = self.verdicts.clone();
        to.register("probe_verdict", "The latest verdict of a path", verdicts);
        to.register_collector(Box::new(DroppedLines(dropped)));
    }

    /// An exchange began; [`Self::exchange_ended`] must follow.
    pub fn exchange_began(&self) {
        self.in_flight.inc();
    }

    /// Takes one down that [`Self::exchange_began`] counted.
    pub fn exchange_left(&self) {
        self.in_flight.dec();
    }

    /// Writes down how an exchange ended.
    pub fn exchange_ended(&self, ended: &Ended<'_>) {
        let route = || ended.route.to_owned();
        let outcome = ended.outcome.word();
        let (listener, wire) = (ended.listener.to_owned(), ended.wire);
        let labels = ExchangeLabels { listener, route: route(), wire, outcome };
        self.exchanges.get_or_create(&labels).inc();
        // One copy of the route's name serves all that every push needs.
        let times = TimeLabels { route: labels.route, outcome };
        self.exchange_seconds.get_or_create(&times).observe(ended.took.as_secs_f64());
        if let Some(upstream) = ended.upstream {
            let label = RouteLabel { route: times.route };
            self.upstream_seconds.get_or_create(&label).observe(upstream.as_secs_f64());
        }
        if let Some(cause) = ended.cause {
            let (hop, stage) = (cause.hop.word(), cause.stage.word());
            let labels = FailureLabels { route: route(), hop, stage, outcome };
            self.failures.get_or_create(&labels).inc();
        }
        if let Some(refusal) = ended.refusal {
            let (listener, rule) = (ended.listener.to_owned(), rule(refusal));
            let labels = RefusalLabels { listener, route: route(), rule };
            self.refusals.get_or_create(&labels).inc();
        }
        if ended.stream_refused {
            self.refused_streams.get_or_create(&RouteLabel { route: route() }).inc();
        }
        if ended.replays > 0 {
            let replays = u64::from(ended.replays);
            self.replays.get_or_create(&RouteLabel { route: route() }).inc_by(replays);
        }
    }

    /// Connections judged until now; `kind` is `admitted` or, from a closed set, why it came to
    /// nothing. A figure below the one before changes nothing.
    pub fn set_connections_judged(&self, listener: &str, kind: &'static str, total: u64) {
        let labels = AdmissionLabels { listener: listener.to_owned(), kind };
        let counter = self.admissions.get_or_create(&labels);
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// Open connections of a listener.
    pub fn set_sender_connections(&self, listener: &str, open: usize) {
        let label = ListenerLabel { listener: listener.to_owned() };
        self.sender_connections.get_or_create(&label).set(figure(open));
    }

    /// Lanes of an egress and what waits in them.
    pub fn set_lanes(&self, egress: &str, lanes: usize, queued: usize) {
        let label = EgressLabel { egress: egress.to_owned() };
        self.lanes.get_or_create(&label).set(figure(lanes));
        self.queued.get_or_create(&label).set(figure(queued));
    }

    /// Open upstream connections of an egress by protocol (`h2`, `http/1.1`).
    pub fn set_upstream_connections(&self, egress: &str, protocol: &'static str, open: usize) {
        let labels = ProtocolLabels { egress: egress.to_owned(), protocol };
        self.upstream_connections.get_or_create(&labels).set(figure(open));
    }

    /// Dials ended until now, by where they failed. A figure below the one before changes nothing.
    pub fn set_dials(&self, egress: &str, failure: Option<(Hop, Stage)>, total: u64) {
        let (result, hop, stage) = match failure {
            Some((hop, stage)) => ("failed", hop.word(), stage.word()),
            None => ("ok", "none", ""),
        };
        let labels = DialLabels { egress: egress.to_owned(), result, hop, stage };
        let counter = self.dials.get_or_create(&labels);
        counter.inc_by(total.saturating_sub(counter.get()));
    }

    /// A configuration or files were read again; `false` where the old ones go on.
    pub fn reloaded(&self, taken: bool) {
        let result = if taken { "ok" } else { "failed" };
        self.reloads.get_or_create(&ResultLabel { result }).inc();
    }

    /// When the certificates of now end, by name; those of before are forgotten, or an alarm would
    /// ring for what nobody uses. `kind` is `leaf`, `issuer` or `identity`.
    pub fn set_expiries(&self, ends: impl Iterator<Item = (&'static str, String, i64)>) {
        self.expiry.clear();
        for (kind, name, not_after) in ends {
            self.expiry.get_or_create(&ExpiryLabels { kind, name }).set(not_after);
        }
    }

    /// The configuration has this egress no more: its gauges would stand still. What was counted
    /// stays counted.
    pub fn forget_egress(&self, egress: &str) {
        let label = EgressLabel { egress: egress.to_owned() };
        self.lanes.remove(&label);
        self.queued.remove(&label);
        for protocol in ["h2", "http/1.1"] {
            let egress = egress.to_owned();
            self.upstream_connections.remove(&ProtocolLabels { egress, protocol });
        }
    }

    /// The latest verdict of a path; `None` where it holds no more.
    pub fn set_verdict(&self, origin: &str, egress: &str, verdict: Option<&Verdict>) {
        let mut judged = self.judged.lock().expect("nobody panics while holding it");
        let key = (origin.to_owned(), egress.to_owned());
        if let Some(before) = judged.remove(&key) {
            self.verdicts.remove(&before);
        }
        if let Some(verdict) = verdict {
            let labels = VerdictLabels {
                origin: origin.to_owned(),
                egress: egress.to_owned(),
                severity: verdict.severity.word(),
                code: verdict.code,
                hop: verdict.hop,
            };
            self.verdicts.get_or_create(&labels).set(1);
            judged.insert(key, labels);
        }
    }

    /// Everything in the OpenMetrics text format.
    pub fn encode(&self) -> String {
        let registry = self.registry.lock().expect("encoding does not panic");
        let mut out = String::with_capacity(16 * 1024);
        // Writing to a String cannot fail.
        let _ = text::encode(&mut out, &registry);
        out
    }
}

fn figure(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The word of a rule in metrics; a closed set.
pub const fn rule(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::CertificateAuthentication => "certificate_authentication",
        Refusal::Coding => "coding",
        Refusal::Expectation => "expectation",
        Refusal::HeadTooLarge => "head_too_large",
        Refusal::Identity(_) => "identity",
        Refusal::Malformed(_) => "malformed",
        Refusal::Method => "method",
        Refusal::Misdirected(_) => "misdirected",
        Refusal::Path => "path",
        Refusal::Signature(_) => "signature",
        Refusal::Size => "size",
        Refusal::TimedOut => "timed_out",
        Refusal::Topic => "topic",
    }
}

#[derive(Debug)]
struct DroppedLines(Dropped);

impl Collector for DroppedLines {
    fn encode(&self, mut to: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let counter = ConstCounter::new(self.0.total());
        let help = "Lines that no log could take";
        let metric =
            to.encode_descriptor("log_lines_dropped", help, None, counter.metric_type())?;
        counter.encode(metric)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hop::HopErrorKind;

    fn ended() -> Ended<'static> {
        Ended {
            listener: "dmz",
            route: "apns",
            wire: "HTTP/1.1",
            outcome: Outcome::Accepted,
            cause: None,
            refusal: None,
            stream_refused: false,
            replays: 0,
            took: Duration::from_millis(30),
            upstream: Some(Duration::from_millis(28)),
        }
    }

    #[test]
    fn names_and_labels_are_those_of_the_table() {
        let dropped = Dropped::default();
        dropped.count();
        let metrics = Metrics::new(dropped);
        metrics.exchange_began();
        metrics.exchange_ended(&ended());
        let cause = HopError::new(Hop::Proxy, Stage::Connect, HopErrorKind::Timeout);
        let unsent = Ended {
            outcome: Outcome::NotSent,
            cause: Some(&cause),
            replays: 2,
            stream_refused: true,
            ..ended()
        };
        metrics.exchange_ended(&unsent);
        let refusal = Refusal::Topic;
        let refused = Ended { outcome: Outcome::RelayRefused, refusal: Some(&refusal), ..ended() };
        metrics.exchange_ended(&refused);
        for total in [2, 5, 5] {
            metrics.set_connections_judged("dmz", "admitted", total);
        }
        metrics.set_sender_connections("dmz", 3);
        metrics.set_lanes("corporate", 2, 7);
        metrics.set_upstream_connections("corporate", "h2", 4);
        metrics.set_dials("corporate", None, 1);
        metrics.reloaded(false);
        metrics.set_expiries(std::iter::once(("issuer", "relay".to_owned(), 1_800_000_000)));
        let text = metrics.encode();
        for line in [
            "pushrelay_build_info{version=\"0.1.0\"} 1",
            "pushrelay_exchanges_total{listener=\"dmz\",route=\"apns\",wire=\"HTTP/1.1\",outcome=\"accepted\"} 1",
            "pushrelay_failures_total{route=\"apns\",hop=\"proxy\",stage=\"connect\",outcome=\"not_sent\"} 1",
            "pushrelay_refusals_total{listener=\"dmz\",route=\"apns\",rule=\"topic\"} 1",
            "pushrelay_replays_total{route=\"apns\"} 2",
            "pushrelay_streams_refused_total{route=\"apns\"} 1",
            "pushrelay_exchange_seconds_bucket{le=\"0.05\",route=\"apns\",outcome=\"accepted\"} 1",
            "pushrelay_upstream_seconds_count{route=\"apns\"} 3",
            "pushrelay_exchanges_in_flight 1",
            "pushrelay_sender_connections{listener=\"dmz\"} 3",
            "pushrelay_connections_judged_total{listener=\"dmz\",kind=\"admitted\"} 5",
            "pushrelay_lanes{egress=\"corporate\"} 2",
            "pushrelay_upstream_connections{egress=\"corporate\",protocol=\"h2\"} 4",
            "pushrelay_queued{egress=\"corporate\"} 7",
            "pushrelay_dials_total{egress=\"corporate\",result=\"ok\",hop=\"none\",stage=\"\"} 1",
            "pushrelay_reloads_total{result=\"failed\"} 1",
            "pushrelay_certificate_expiry_timestamp_seconds{kind=\"issuer\",name=\"relay\"} 1800000000",
            "pushrelay_log_lines_dropped_total 1",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\nis not in\n{text}");
        }
    }

    #[test]
    fn metrics_may_be_shared_between_threads() {
        const fn shared<T: Send + Sync>() {}
        shared::<Metrics>();
    }

    #[test]
    fn what_a_reload_took_away_is_shown_no_more() {
        let metrics = Metrics::new(Dropped::default());
        for name in ["old.example", "new.example"] {
            metrics.set_expiries(std::iter::once(("leaf", name.to_owned(), 1_800_000_000)));
        }
        for egress in ["gone", "kept"] {
            metrics.set_lanes(egress, 5, 2);
            metrics.set_upstream_connections(egress, "h2", 3);
        }
        metrics.forget_egress("gone");
        let text = metrics.encode();
        assert!(text.contains("new.example") && text.contains("kept"), "{text}");
        assert!(!text.contains("old.example") && !text.contains("gone"), "{text}");
    }
}
