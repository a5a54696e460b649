//! A request on a connection of the simulated origin: counted, judged, answered or spoilt.

use std::time::Duration;

use aws_lc_rs::digest::{Context, SHA256, digest};

use super::Surplus;
use super::answers::{Answer, Resource, scripted};
use super::connection::{Connection, Due};
use super::fault::{Fault, mix};
use super::frames::{self, Frame};
use super::hpack::{self, Field};
use super::ledger::{Entry, Fate};
use super::strict::{self, Credential, Request};

/// Payload limits of APNs in bytes: alerts, and VoIP or broadcasts.
const PAYLOAD: usize = 4096;
const LARGE_PAYLOAD: usize = 5120;
/// How long a trickled answer is.
pub(super) const TRICKLED: usize = 200;
/// Graceful GOAWAY (RFC 9113 §6.8).
pub(super) const LAST_MAX: u32 = 0x7fff_ffff;

/// An open stream.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) number: u64,
    request: Request,
    credential: Option<Credential>,
    body: usize,
    digest: BodyHash,
    pub(super) window: i64,
    fault: Option<Fault>,
    pub(super) answer: Option<Answer>,
    /// What of the answer's body waits for the peer's window.
    unsent: Vec<u8>,
    pub(super) trickle: Option<Duration>,
}

/// The SHA-256 of what came so far of a body.
struct BodyHash(Context);

impl std::fmt::Debug for BodyHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BodyHash")
    }
}

impl Connection {
    /// A complete header block arrived.
    pub(super) fn headers(&mut self, id: u32, end: bool, fields: &[Field]) {
        if self.streams.contains_key(&id) {
            self.violated(id, "trailers");
            return self.complete(id);
        }
        if id.is_multiple_of(2) || id <= self.highest {
            return self.fail(format!("stream {id} out of order"));
        }
        self.highest = id;
        let (request, broken) = strict::examine(fields, self.sni.as_deref());
        for rule in broken {
            self.violated(id, rule);
        }
        let credential = request.authorization.as_deref().and_then(strict::credential);
        let number = self.shared.ledger.open(self.entry(id, &request, credential.as_ref()));
        if self.goaway_last.is_some_and(|last| id > last) {
            return self.fate(number, Fate::GoneAway);
        }
        if self.surplus(id, number) {
            return;
        }
        let fault = self.draw(number);
        if let Some(Fault::CutOnHeaders(cut)) = fault {
            self.fate(number, Fate::Cut);
            self.ending = Some(cut);
            return;
        }
        let window = self.peer_initial_window;
        let stream = Stream {
            number,
            request,
            credential,
            body: 0,
            digest: BodyHash(Context::new(&SHA256)),
            window,
            fault,
            answer: None,
            unsent: Vec::new(),
            trickle: None,
        };
        self.streams.insert(id, stream);
        if end {
            self.complete(id);
        }
    }

    fn entry(&self, id: u32, request: &Request, credential: Option<&Credential>) -> Entry {
        let shape = request.path.rfind('/').map_or("", |at| &request.path[..=at]);
        Entry {
            apns_id: request.apns_id.clone().or_else(|| request.apns_request_id.clone()),
            path_hash: path_hash(&request.path),
            path_shape: shape.to_owned(),
            connection: self.number,
            stream: id,
            team: credential.map(|credential| credential.team.clone()),
            key: credential.map(|credential| credential.key.clone()),
            certificate: self.certificate.clone(),
            topic: request.topic.clone(),
            body: 0,
            body_hash: String::new(),
            fields: request.fields.clone(),
            received_ms: self.shared.ledger.now_ms(),
            answered_ms: None,
            delivered: false,
            spoilt: false,
            fate: Fate::Open,
        }
    }

    /// Judges the number of open streams; `true` where this one was refused.
    fn surplus(&mut self, id: u32, number: u64) -> bool {
        let open = u32::try_from(self.streams.len() + 1).unwrap_or(u32::MAX);
        self.shared.ledger.count(|summary| {
            summary.most_streams = summary.most_streams.max(u64::from(open));
        });
        if open > self.binding_limit() {
            self.violated(id, format!("{open} streams, {} allowed", self.binding_limit()));
        }
        let refuse = self.shared.read(|conduct| conduct.surplus == Surplus::Refuse);
        if open <= self.limit || !refuse {
            return false;
        }
        self.shared.ledger.count(|summary| summary.refused_surplus += 1);
        self.fate(number, Fate::Reset(frames::REFUSED_STREAM));
        frames::put_word(&mut self.out, frames::RST_STREAM, id, frames::REFUSED_STREAM);
        true
    }

    fn draw(&self, number: u64) -> Option<Fault> {
        let fault = self.shared.read(|conduct| {
            let planned = conduct.faults.iter().find(|planned| planned.when.is(number));
            planned.map(|planned| planned.fault.clone()).or_else(|| conduct.chaos?.draw(number))
        });
        if fault.is_some() {
            self.shared.ledger.count(|summary| summary.faults += 1);
            self.shared.ledger.update(number, |entry| entry.spoilt = true);
        }
        fault
    }

    pub(super) fn fate(&self, number: u64, fate: Fate) {
        let now = self.shared.ledger.now_ms();
        self.shared.ledger.update(number, |entry| {
            entry.fate = fate;
            entry.answered_ms = matches!(fate, Fate::Answered(_)).then_some(now);
        });
    }

    /// DATA arrived.
    pub(super) fn data(&mut self, frame: &Frame) {
        let len = u32::try_from(frame.payload.len()).expect("frames are bounded");
        let Some(content) = frame.content() else {
            return self.fail("padding beyond DATA".into());
        };
        let end = frame.has(frames::END_STREAM);
        if len > 0 {
            frames::put_word(&mut self.out, frames::WINDOW_UPDATE, 0, len);
        }
        let Some(stream) = self.streams.get_mut(&frame.stream) else { return };
        stream.body += content.len();
        stream.digest.0.update(&content);
        if content.is_empty() && !end {
            self.violated(frame.stream, "an empty DATA frame");
        }
        if end {
            self.complete(frame.stream);
        } else if len > 0 {
            frames::put_word(&mut self.out, frames::WINDOW_UPDATE, frame.stream, len);
        }
    }

    /// The client reset a stream.
    pub(super) fn cancelled(&mut self, frame: &Frame) {
        if let Some(stream) = self.streams.remove(&frame.stream) {
            self.fate(stream.number, Fate::Cut);
        }
    }

    /// The request is whole: decides the answer and when it leaves.
    fn complete(&mut self, id: u32) {
        let Some(stream) = self.streams.get(&id) else { return };
        let (number, body) = (stream.number, stream.body);
        let body_hash = hex16(stream.digest.0.clone().finish().as_ref());
        let claimed = stream.request.content_length.as_deref();
        if claimed.is_some_and(|text| text.parse() != Ok(body)) {
            self.violated(id, "content-length differs from the body");
        }
        let fault = stream.fault.clone();
        let answer = self.decide(id);
        let delivered = answer.status / 100 == 2 && fault.as_ref().is_none_or(Fault::delivers);
        self.shared.ledger.update(number, |entry| {
            entry.body = body;
            entry.body_hash = body_hash;
            entry.delivered = delivered;
        });
        let accepted = answer.status / 100 == 2;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.answer = Some(answer);
        }
        let delay = self.shared.read(|conduct| conduct.delay);
        let delay = match fault {
            Some(Fault::Delay(more)) => delay + more,
            Some(fault) => return self.spoil(id, accepted, fault),
            None => delay,
        };
        self.adjust_limit(accepted);
        if delay.is_zero() { self.answer(id) } else { self.later(delay, Due::Answer(id)) }
    }

    /// One stream until a provider token was seen, then many (Apple: Sending notification
    /// requests to APNs); some see it fall again after a refusal (openradar 27870881).
    pub(super) fn adjust_limit(&mut self, accepted: bool) {
        let (cold, warm, falls) = self
            .shared
            .read(|conduct| (conduct.cold_limit, conduct.warm_limit, conduct.limit_falls));
        if self.bound.is_some() && !self.warm {
            self.warm = true;
            self.set_limit(warm);
        } else if falls && self.warm {
            self.set_limit(if accepted { warm } else { cold });
        }
    }

    fn decide(&mut self, id: u32) -> Answer {
        let Some(stream) = self.streams.get(&id) else { return Answer::bare(500) };
        let resource = Resource::of(&stream.request.path);
        let methods = resource.methods();
        let answer = if methods.is_empty() {
            Answer::refusal(404, "BadPath")
        } else if !methods.contains(&stream.request.method.as_str()) {
            Answer::refusal(405, "MethodNotAllowed")
        } else if let Some(refusal) = self.authorise(id) {
            refusal
        } else {
            self.serve_resource(id, resource)
        };
        let Some(stream) = self.streams.get(&id) else { return answer };
        let made_up = || made_up_uuid(self.number, stream.number);
        let (name, sent) = match resource {
            Resource::Broadcast | Resource::Channels | Resource::AllChannels => {
                ("apns-request-id", &stream.request.apns_request_id)
            }
            Resource::Device | Resource::Unknown => ("apns-id", &stream.request.apns_id),
        };
        answer.with(name, sent.clone().unwrap_or_else(made_up))
    }

    /// Checks the credential and binds the connection to the first good one.
    fn authorise(&mut self, id: u32) -> Option<Answer> {
        if self.certificate.is_some() {
            // APNs ignores tokens then.
            return None;
        }
        let stream = self.streams.get(&id)?;
        if stream.request.authorization.is_none() {
            return Some(Answer::refusal(403, "MissingProviderToken"));
        }
        let Some(credential) = stream.credential.clone() else {
            return Some(Answer::refusal(403, "InvalidProviderToken"));
        };
        let known = |teams: &[String]| teams.is_empty() || teams.contains(&credential.team);
        if !self.shared.read(|conduct| known(&conduct.teams)) {
            return Some(Answer::refusal(403, "InvalidProviderToken"));
        }
        let bound = self.bound.get_or_insert_with(|| credential.clone()).clone();
        if bound.team != credential.team {
            self.violated(id, "two teams on one connection");
            return Some(Answer::refusal(403, "InvalidProviderToken"));
        }
        if bound.key != credential.key {
            self.violated(id, "two keys on one connection");
            return Some(Answer::refusal(403, "UnrelatedKeyIdInToken"));
        }
        None
    }

    fn serve_resource(&self, id: u32, resource: Resource) -> Answer {
        let Some(stream) = self.streams.get(&id) else { return Answer::bare(500) };
        let request = &stream.request;
        match resource {
            Resource::Device | Resource::Unknown => device(request, stream.body),
            Resource::Broadcast if stream.body > LARGE_PAYLOAD => {
                Answer::refusal(413, "PayloadTooLarge")
            }
            Resource::Broadcast => Answer::bare(200),
            Resource::Channels | Resource::AllChannels => match request.method.as_str() {
                "POST" => Answer::bare(201).with("apns-channel-id", "c2ltdWxhdGVkIGNoYW5uZWw="),
                "DELETE" => Answer::bare(204),
                _ => Answer {
                    body: br#"{"channels":[]}"#.to_vec(),
                    ..Answer::bare(200).with("content-type", "application/json")
                },
            },
        }
    }

    /// The answer of a stream leaves now.
    pub(super) fn answer(&mut self, id: u32) {
        let Some(stream) = self.streams.get_mut(&id) else { return };
        let Some(answer) = &stream.answer else { return };
        let (number, status) = (stream.number, answer.status);
        stream.unsent.clone_from(&answer.body);
        let bare = answer.body.is_empty();
        let trickle = stream.trickle;
        self.put_headers(id, bare);
        self.fate(number, Fate::Answered(status));
        if bare {
            self.streams.remove(&id);
        } else if let Some(every) = trickle {
            self.later(every, Due::Byte(id));
        } else {
            self.pump();
        }
    }

    pub(super) fn put_headers(&mut self, id: u32, end: bool) {
        let Some(answer) = self.streams.get(&id).and_then(|stream| stream.answer.as_ref()) else {
            return;
        };
        let status = answer.status.to_string();
        let mut fields = vec![(":status", status.as_str())];
        fields.extend(answer.fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let block = hpack::encode(&fields);
        let flags = frames::END_HEADERS | if end { frames::END_STREAM } else { 0 };
        frames::put(&mut self.out, frames::HEADERS, flags, id, &block);
    }

    /// Sends what the peer's windows allow.
    pub(super) fn pump(&mut self) {
        let ids: Vec<u32> = self.streams.keys().copied().collect();
        for id in ids {
            while self.put_data(id, frames::MAX_FRAME) {}
        }
    }

    /// One byte of a trickled answer.
    pub(super) fn one_byte(&mut self, id: u32) {
        self.put_data(id, 1);
        if let Some(every) = self.streams.get(&id).and_then(|stream| stream.trickle) {
            self.later(every, Due::Byte(id));
        }
    }

    /// Sends at most `most` bytes of a stream's answer; `true` where more might follow.
    fn put_data(&mut self, id: u32, most: usize) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        if stream.unsent.is_empty() || (stream.trickle.is_some() && most > 1) {
            return false;
        }
        let window = usize::try_from(self.window.min(stream.window)).unwrap_or(0);
        let len = stream.unsent.len().min(window).min(most);
        if len == 0 {
            return false;
        }
        let rest = stream.unsent.split_off(len);
        let part = std::mem::replace(&mut stream.unsent, rest);
        let end = stream.unsent.is_empty();
        let sent = i64::try_from(len).expect("a frame's length");
        stream.window -= sent;
        self.window -= sent;
        let flags = if end { frames::END_STREAM } else { 0 };
        frames::put(&mut self.out, frames::DATA, flags, id, &part);
        if end {
            self.streams.remove(&id);
        }
        !end
    }
}

fn device(request: &Request, body: usize) -> Answer {
    let token = request.path.rsplit('/').next().unwrap_or_default();
    let large = matches!(request.push_type.as_deref(), Some("voip" | "liveactivity"));
    if token.is_empty() {
        return Answer::refusal(400, "MissingDeviceToken");
    }
    if request.topic.is_none() {
        return Answer::refusal(400, "MissingTopic");
    }
    if request.apns_id.as_deref().is_some_and(|id| !strict::is_uuid(&id.to_ascii_lowercase())) {
        return Answer::refusal(400, "BadMessageId");
    }
    if body == 0 {
        return Answer::refusal(400, "PayloadEmpty");
    }
    if body > if large { LARGE_PAYLOAD } else { PAYLOAD } {
        return Answer::refusal(413, "PayloadTooLarge");
    }
    scripted(token).unwrap_or_else(|| Answer::bare(200))
}

/// First 16 hex digits of the SHA-256 of a path: enough to tell pushes apart, not to send one.
pub fn path_hash(path: &str) -> String {
    short_hash(path.as_bytes())
}

/// First 16 hex digits of the SHA-256 of anything.
pub fn short_hash(bytes: &[u8]) -> String {
    hex16(digest(&SHA256, bytes).as_ref())
}

fn hex16(digest: &[u8]) -> String {
    digest[..8].iter().fold(String::with_capacity(16), |mut hex, byte| {
        use std::fmt::Write as _;
        // Writing into a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A UUID for a push that came without one; version and variant bits as RFC 9562 wants.
fn made_up_uuid(connection: u64, number: u64) -> String {
    let high = mix(connection ^ mix(number));
    let low = mix(high);
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | ((low >> 48) & 0x3fff),
        low & 0xffff_ffff_ffff
    )
}
