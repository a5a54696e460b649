//! What the tests of this side share: a listener, a route, a handler that does as its path says,
//! and raw HTTP/2 frames.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{HostRule, Hosts};
use crate::config::{
    Accept, EgressName, Listener, NextHop, Protocol, Route, RouteHost, Scheme, TlsMode,
    WhenUnknown, WhenUnsent,
};
use crate::downstream::{Answer, Exchange, Handle, Head, Reply, Sender, SenderTls};
use crate::names::HostName;
use crate::provider::{Dialect, Provider};
use crate::relay::Permit;
use crate::relay::outcome::{Refusal, RelayError};

/// No wait of a test is longer.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// A listener on loopback that accepts TLS from everybody.
pub(crate) fn listener() -> Listener {
    Listener {
        name: "test".into(),
        bind: vec!["127.0.0.1:0".parse().unwrap()],
        accept: Accept { tls: true, connect: false, plain: false },
        tunnel: Vec::new(),
        max_age: None,
        connect_credentials: None,
        networks: Vec::new(),
        sender_certificates: None,
        proxy_protocol: Vec::new(),
        signatures: Vec::new(),
        default_host: None,
    }
}

/// Routes by name.
pub(crate) struct Routes(pub(crate) HashMap<HostName, HostRule>);

impl Hosts for Routes {
    fn find(&self, host: &HostName) -> Option<HostRule> {
        self.0.get(host).cloned()
    }
}

/// A rule for an APNs host.
pub(crate) fn rule(tls: TlsMode, scheme: Scheme) -> HostRule {
    let ports = vec![443, 2197];
    let cleartext = if scheme == Scheme::Http { ports.clone() } else { Vec::new() };
    let origin = |port: &u16| format!("origin.example:{port}").parse().unwrap();
    let origins = ports.iter().map(origin).collect();
    HostRule { tls, ports, cleartext, origins, apns: true, route_index: 0 }
}

fn permit(limit: usize) -> Permit {
    let host = Arc::new(RouteHost {
        host: "api.push.apple.com".parse().unwrap(),
        scheme: Scheme::Https,
        origin: "api.push.apple.com".parse().unwrap(),
        ports: vec![443],
        permitted: Vec::new(),
        dialect: Dialect::Apns,
        protocol: Protocol::H2,
    });
    let route = Route {
        name: "apns".into(),
        provider: Provider::Apns,
        hosts: vec![Arc::clone(&host)],
        egress: EgressName("direct".into()),
        topics: Vec::new(),
        teams: Vec::new(),
        keys: Vec::new(),
        body: limit,
        tls: TlsMode::Terminate,
        when_unsent: WhenUnsent::Auto,
        when_unknown: WhenUnknown::Final,
        deadline: Duration::from_secs(7),
        provider_identity: None,
        next_hop: NextHop::Origin,
    };
    Permit { route: Arc::new(route), route_index: 0, host, body_limit: limit, reserved: false }
}

/// Largest body that [`Obedient`] permits.
pub(crate) const BODY: usize = 8 * 1024;

/// Does what the path says, and writes down what it saw.
#[derive(Default)]
pub(crate) struct Obedient {
    /// Paths of exchanges begun.
    pub(crate) begun: RefCell<Vec<String>>,
    /// Lengths of their bodies.
    pub(crate) bodies: RefCell<Vec<usize>>,
    /// Exchanges that ran to their end.
    pub(crate) ended: Cell<usize>,
    /// Senders that left meanwhile.
    pub(crate) left: Cell<usize>,
    /// TLS facts of the last exchange.
    pub(crate) tls: RefCell<Option<SenderTls>>,
    /// The last exchange's CONNECT target.
    pub(crate) target: RefCell<Option<String>>,
    /// Lets `/hang` go on.
    pub(crate) go: tokio::sync::Notify,
}

pub(crate) fn answer(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert("apns-id", http::HeaderValue::from_static("id"));
    Answer { status, headers, body: body.into(), close: false }
}

impl Handle for Obedient {
    fn permit(&self, _head: &Head, _sender: &Sender) -> Result<Permit, RelayError> {
        Ok(permit(BODY))
    }

    async fn handle(&self, exchange: Exchange) -> Reply {
        let path = exchange.head.target.clone();
        self.begun.borrow_mut().push(path.clone());
        self.bodies.borrow_mut().push(exchange.body.len());
        *self.tls.borrow_mut() = exchange.sender.tls.clone();
        *self.target.borrow_mut() =
            exchange.sender.connect_target.as_ref().map(ToString::to_string);
        if path == "/hang" {
            tokio::select! {
                () = self.go.notified() => {}
                () = exchange.presence.gone() => self.left.set(self.left.get() + 1),
            }
        }
        self.ended.set(self.ended.get() + 1);
        match path.as_str() {
            "/refuse" => Reply::Refuse,
            "/bad" => Reply::Answer(answer(StatusCode::FORBIDDEN, r#"{"reason":"Forbidden"}"#)),
            "/large" => Reply::Answer(answer(StatusCode::OK, vec![b'x'; 10_000])),
            _ => Reply::Answer(answer(StatusCode::OK, "")),
        }
    }

    fn refuse(
        &self,
        _sender: &Sender,
        _head: Option<&Head>,
        _permit: Option<&Permit>,
        error: RelayError,
    ) -> Answer {
        let status = match error {
            RelayError::Refused(Refusal::Size) => 413,
            RelayError::Refused(Refusal::HeadTooLarge) => 431,
            RelayError::Refused(Refusal::Method) => 405,
            RelayError::Refused(Refusal::TimedOut) => 408,
            RelayError::Refused(_) => 400,
            RelayError::NotSent(_) | RelayError::Unknown(_) => 503,
        };
        answer(StatusCode::from_u16(status).unwrap(), r#"{"reason":"RelayRefused"}"#)
    }
}

/// A sender over `listener`, encrypted or not.
pub(crate) fn sender(tls: bool) -> Rc<Sender> {
    Rc::new(Sender {
        connection: 1,
        listener: Arc::new(listener()),
        listener_index: 0,
        client: "127.0.0.1:1".parse().unwrap(),
        local: "127.0.0.1:2".parse().unwrap(),
        tls: tls.then(SenderTls::default),
        connect_target: None,
        bearer: crate::relay::permit::bearer::Memo::default(),
    })
}

/// A frame of HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) body: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RESET: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW: u8 = 8;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, body: &[u8]) -> Vec<u8> {
    let mut octets = (body.len() as u32).to_be_bytes()[1..].to_vec();
    octets.extend([kind, flags]);
    octets.extend(stream.to_be_bytes());
    octets.extend(body);
    octets
}

/// A header block of literals.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut octets = Vec::new();
    for (name, value) in fields {
        octets.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            octets.push(text.len() as u8);
            octets.extend(text.bytes());
        }
    }
    octets
}

/// HEADERS of a POST.
pub(crate) fn post(stream: u32, path: &str, end: bool) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "api.push.apple.com"),
        (":path", path),
    ];
    frame(HEADERS, 4 | u8::from(end), stream, &block(&fields))
}

/// A sender that speaks raw frames.
pub(crate) struct Raw<IO>(pub(crate) IO);

impl<IO: AsyncRead + AsyncWrite + Unpin> Raw<IO> {
    /// Preface and SETTINGS.
    pub(crate) async fn hello(&mut self, settings: &[(u16, u32)]) {
        let mut body = Vec::new();
        for (id, value) in settings {
            body.extend(id.to_be_bytes());
            body.extend(value.to_be_bytes());
        }
        let mut octets = crate::downstream::sniff::PREFACE.to_vec();
        octets.extend(frame(SETTINGS, 0, 0, &body));
        self.write(&octets).await;
    }

    pub(crate) async fn write(&mut self, octets: &[u8]) {
        tokio::time::timeout(SOON, self.0.write_all(octets)).await.unwrap().unwrap();
    }

    /// The next frame; `None` at the end.
    pub(crate) async fn read(&mut self) -> Option<Frame> {
        let reading = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut body = vec![0; length as usize];
            self.0.read_exact(&mut body).await.ok()?;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            Some(Frame { kind: head[3], flags: head[4], stream, body })
        };
        tokio::time::timeout(SOON, reading).await.unwrap()
    }

    /// The next frame of a kind; others are skipped.
    pub(crate) async fn find(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.read().await.expect("the connection ended");
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// What is left until the end, by kind and first code octets.
    pub(crate) async fn rest(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.read().await {
            frames.push(frame);
        }
        frames
    }
}
