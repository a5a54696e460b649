//! One line per exchange: who, where to, what came of it, and which hop is to blame.
//!
//! A record is made of owned, cleaned text, so that formatting and writing happen on another
//! thread. The field names are a contract.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, SystemTime};

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Dropped, Entry, flush};

/// Records waiting for the thread that formats them; about 1 KB each.
const RECORDS: usize = 8192;

/// What is known of an exchange when it has ended. Empty and zero where nothing is.
#[derive(Debug, Clone, Serialize)]
pub struct AccessRecord {
    /// When the first byte of the head arrived.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    /// Ours; also in `Proxy-Status`.
    pub request_id: String,
    /// Number of the sender's connection.
    pub connection: u64,
    /// By name.
    pub listener: String,
    /// Address and port.
    pub client: String,
    /// Subject of the sender's certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// SNI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sni: Option<String>,
    /// What ALPN chose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alpn: Option<String>,
    /// `HTTP/1.1`, `HTTP/2`; empty where nothing could be read.
    pub wire: &'static str,
    /// By name; empty where none was found.
    pub route: String,
    /// As the sender called it.
    pub host: String,
    /// The method.
    pub method: String,
    /// Redacted, see `redact::path`.
    pub path: String,
    /// JWT `iss`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// JWT `kid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `apns-topic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// `apns-push-type`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub push_type: Option<String>,
    /// Sent by the sender or added by us.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apns_id: Option<String>,
    /// Mattermost's `ack_id`, by which a complaint can be traced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_id: Option<String>,
    /// What the sender got; 0 where its stream was refused.
    pub status: u16,
    /// One of the five words.
    pub outcome: &'static str,
    /// Who is to blame; empty where nobody is.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub hop: &'static str,
    /// At which step.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub stage: &'static str,
    /// What happened, cleaned.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// How often it was sent again.
    pub replays: u8,
    /// Number of the upstream connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<u64>,
    /// `h2` or `http/1.1`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_protocol: Option<&'static str>,
    /// From the first byte of the head to the answer, microseconds.
    pub took_us: u64,
    /// Of that in the lane and at the provider, microseconds.
    pub upstream_us: u64,
    /// Body received, octets.
    pub bytes_in: usize,
    /// Body answered, octets.
    pub bytes_out: usize,
    /// Cleaned and capped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
}

fn rfc3339<S: Serializer>(time: &SystemTime, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&stamp(*time))
}

/// UTC, RFC 3339.
fn stamp(time: SystemTime) -> String {
    OffsetDateTime::from(time).format(&Rfc3339).unwrap_or_default()
}

impl AccessRecord {
    /// Hands the line to the subscriber, target `access`.
    pub fn emit(&self) {
        tracing::info!(
            target: "access",
            received = stamp(self.time),
            request_id = self.request_id,
            connection = self.connection,
            listener = self.listener,
            client = self.client,
            certificate = self.certificate,
            sni = self.sni,
            alpn = self.alpn,
            wire = self.wire,
            route = self.route,
            host = self.host,
            method = self.method,
            path = self.path,
            team = self.team,
            key = self.key,
            topic = self.topic,
            push_type = self.push_type,
            apns_id = self.apns_id,
            ack_id = self.ack_id,
            status = self.status,
            outcome = self.outcome,
            hop = self.hop,
            stage = self.stage,
            cause = self.cause,
            replays = self.replays,
            upstream = self.upstream,
            upstream_protocol = self.upstream_protocol,
            took_us = self.took_us,
            upstream_us = self.upstream_us,
            bytes_in = self.bytes_in,
            bytes_out = self.bytes_out,
            user_agent = self.user_agent,
        );
    }
}

/// The way to the thread that writes access lines.
#[derive(Debug, Clone)]
pub struct AccessLog {
    to: Option<SyncSender<Entry<AccessRecord>>>,
    dropped: Dropped,
    sample: u32,
    random: RandomState,
}

impl AccessLog {
    /// Starts the thread. `sample` = one line in so many of the accepted; the others always.
    ///
    /// # Errors
    /// The operating system's, where no thread can be started.
    pub fn start(sample: u32, dropped: Dropped) -> io::Result<Self> {
        let (to, from) = sync_channel(RECORDS);
        thread::Builder::new().name("access".into()).spawn(move || emit_all(&from))?;
        Ok(Self { to: Some(to), dropped, sample: sample.max(1), random: RandomState::new() })
    }

    /// Writes nothing (`access: off`).
    pub fn off() -> Self {
        let random = RandomState::new();
        Self { to: None, dropped: Dropped::default(), sample: 1, random }
    }

    /// Would a line be written for this exchange? Asked first, so that an unwanted record is
    /// never put together.
    pub fn wants(&self, accepted: bool, exchange: u64) -> bool {
        self.to.is_some()
            && (!accepted
                || self.sample == 1
                // Hashed, so that regular traffic does not fall into step with the sampling.
                || self.random.hash_one(exchange).is_multiple_of(u64::from(self.sample)))
    }

    /// Hands a record over; never waits.
    pub fn write(&self, record: AccessRecord) {
        if self.to.as_ref().is_some_and(|to| to.try_send(Entry::Item(record)).is_err()) {
            self.dropped.count();
        }
    }

    /// Waits until every record so far was handed to the subscriber, at most `patience`.
    pub fn flush(&self, patience: Duration) -> bool {
        self.to.as_ref().is_none_or(|to| flush(to, patience))
    }

    /// A log whose records come back, for tests of those who write.
    #[cfg(test)]
    pub(crate) fn captured() -> (Self, Captured) {
        let (to, from) = sync_channel(RECORDS);
        (Self { to: Some(to), ..Self::off() }, Captured(from))
    }
}

fn emit_all(from: &Receiver<Entry<AccessRecord>>) {
    while let Ok(entry) = from.recv() {
        match entry {
            Entry::Item(record) => record.emit(),
            // Who asked may have stopped waiting.
            Entry::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

/// The other end of a captured log.
#[cfg(test)]
pub(crate) struct Captured(Receiver<Entry<AccessRecord>>);

#[cfg(test)]
impl Captured {
    /// The next record, if there is one.
    pub(crate) fn next(&self) -> Option<AccessRecord> {
        match self.0.try_recv().ok()? {
            Entry::Item(record) => Some(record),
            Entry::Flush(_) => None,
        }
    }
}

#[cfg(test)]
pub(crate) fn sample_record() -> AccessRecord {
    AccessRecord {
        time: SystemTime::UNIX_EPOCH,
        request_id: "r-1".into(),
        connection: 1,
        listener: "dmz".into(),
        client: "10.0.0.1:1".into(),
        certificate: None,
        sni: None,
        alpn: Some("h2".into()),
        wire: "HTTP/2",
        route: "apns".into(),
        host: "api.push.apple.com".into(),
        method: "POST".into(),
        path: "/3/device/sha256:00000000".into(),
        team: None,
        key: None,
        topic: None,
        push_type: None,
        apns_id: None,
        ack_id: None,
        status: 200,
        outcome: "accepted",
        hop: "",
        stage: "",
        cause: None,
        replays: 0,
        upstream: Some(1),
        upstream_protocol: Some("h2"),
        took_us: 1,
        upstream_us: 1,
        bytes_in: 2,
        bytes_out: 0,
        user_agent: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};
    use tracing_subscriber::layer::SubscriberExt;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, part: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(part);
            Ok(part.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_is_one_json_line_with_its_contract_names() {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
        let layer = layer.with_writer(move || writer.clone());
        let subscriber = tracing_subscriber::registry().with(layer);
        tracing::subscriber::with_default(subscriber, || sample_record().emit());
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["target"], "access");
        assert_eq!(line["received"], "1970-01-01T00:00:00Z");
        assert_eq!(line["outcome"], "accepted");
        assert_eq!(line["upstream"], 1);
        assert!(line.get("topic").is_none(), "{line}");
    }

    #[test]
    fn sampling_is_for_the_accepted_only() {
        let (mut log, _records) = AccessLog::captured();
        log.sample = 10;
        let wanted = (0..10_000).filter(|n| log.wants(true, *n)).count();
        assert!((600..1400).contains(&wanted), "{wanted}");
        assert!((0..100).all(|n| log.wants(false, n)));
        assert!(!AccessLog::off().wants(false, 1));
    }
}
