//! One connection, from its first byte to its codec.
//!
//! Every wait has a deadline. Asked to end before the codec takes over, a connection gets a moment:
//! its sender may count it as open already. What CONNECT leads to is in `proxied`.
//! The steps up to the codec and the codec have a box each: an idle connection holds the state of
//! the codec only, a third of both.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::{Behind, Front, HostRule, ListenerRuntime};
use crate::config::TlsMode;
use crate::downstream::admit::{self, Judgement, Place, Refused, proxy};
use crate::downstream::connect;
use crate::downstream::lease::{Asked, Lease};
use crate::downstream::passthrough::{self, Carry};
use crate::downstream::sniff::{First, sniff, sniff_inner};
use crate::downstream::tls::{self, TlsFault, hello};
use crate::downstream::{Handle, Sender, SenderTls, http1, http2};
use crate::io::Prefixed;
use crate::names::{Authority, HostName};
use crate::relay::permit::bearer::Memo;

mod proxied;

/// A plain request on a TLS port gets this, so that whoever tries it with curl knows (A11).
const SPEAK_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\
    Content-Length: 38\r\nConnection: close\r\n\r\nThis port speaks TLS: use https://...\n";
/// RFC 6066 §3 and RFC 8446 §6.2.
const UNRECOGNIZED_NAME: u8 = 112;

/// Why a walk ended before its codec; logged and counted in one place.
enum Turned {
    /// It was asked to end, the sender left, or the reason is logged already.
    Ended,
    Refused(Refused, String),
}

type Walked<T> = Result<T, Turned>;

/// Serves a connection from its first request to its end.
type Codec = Pin<Box<dyn Future<Output = ()>>>;

fn refuse<T>(reason: Refused, why: impl Into<String>) -> Walked<T> {
    Err(Turned::Refused(reason, why.into()))
}

/// A connection on its way.
pub(super) struct Walk<H, C> {
    pub(super) front: Rc<Front<H, C>>,
    pub(super) behind: Rc<Behind<H, C>>,
    pub(super) runtime: Rc<ListenerRuntime>,
    pub(super) client: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) place: Place,
}

impl<H: Handle, C: Carry> Walk<H, C> {
    /// From the first byte to the end of the connection.
    pub(super) async fn run(mut self, socket: TcpStream, judgement: Judgement) {
        let lease = self.place.lease().clone();
        let max_age = self.runtime.config.max_age;
        let walking = async {
            let codec = Box::pin(self.walk(socket, judgement)).await?;
            if let Some(codec) = codec {
                codec.await;
            }
            Ok(())
        };
        let walked = tokio::select! {
            walked = walking => walked,
            never = age(max_age, &lease) => match never {},
        };
        if let Err(Turned::Refused(reason, why)) = walked {
            self.front.refused(&self.runtime.config, self.client, reason, &why);
        }
    }

    /// Up to the codec, where the connection gets one, or to its end.
    async fn walk(&mut self, mut socket: TcpStream, judgement: Judgement) -> Walked<Option<Codec>> {
        let mut buffer = BytesMut::new();
        if judgement == Judgement::ExpectProxyHeader {
            self.proxy_header(&mut socket, &mut buffer).await?;
        }
        let accept = self.runtime.config.accept;
        let first = self.first(&mut socket, &mut buffer, sniff).await?;
        match first {
            First::Tls if accept.tls => self.tls(socket, buffer, None).await,
            First::Connect if accept.connect => self.connect(socket, buffer).await,
            // A CONNECT where only plain HTTP is accepted gets its refusal from the codec.
            First::Http1 | First::Connect if accept.plain => {
                Ok(Some(self.plain(socket, buffer, false, None)))
            }
            First::Http2Preface if accept.plain => Ok(Some(self.plain(socket, buffer, true, None))),
            First::Http1 | First::Connect | First::Http2Preface | First::Tls => {
                if accept.tls && first != First::Http2Preface {
                    connect::say(socket, SPEAK_TLS).await;
                }
                refuse(Refused::Protocol, format!("{} is not accepted here", first.word()))
            }
            First::ProxyHeader => {
                refuse(Refused::ProxyHeader, "a PROXY header from a peer that may not send one")
            }
            First::Unknown | First::NeedMore => {
                let seen = crate::hop::clean(&buffer, 16);
                refuse(Refused::FirstBytes, format!("{}: {seen:?}", First::Unknown.word()))
            }
        }
    }

    /// Waits for `work`, at most `limit`, and not for long once the connection is asked to end.
    async fn within<T>(
        &self,
        limit: Duration,
        what: &str,
        work: impl Future<Output = T>,
    ) -> Walked<T> {
        tokio::select! {
            done = timeout(limit, work) => match done {
                Ok(done) => Ok(done),
                Err(_elapsed) => refuse(Refused::Timeout, format!("no {what} in time")),
            },
            () = self.place.lease().hurried() => Err(Turned::Ended),
        }
    }

    async fn proxy_header(&mut self, socket: &mut TcpStream, buffer: &mut BytesMut) -> Walked<()> {
        let read = proxy::read(socket, buffer);
        match self.within(self.behind.limits.sniff, "PROXY header", read).await? {
            Ok(Some(client)) => self.client = client,
            // The balancer speaks for itself: judged by its own address.
            Ok(None) => {}
            Err(error) => return refuse(Refused::ProxyHeader, format!("PROXY header: {error}")),
        }
        if admit::may_connect(&self.runtime.config, self.client.ip()) {
            return Ok(());
        }
        refuse(Refused::Network, "the address in the PROXY header is in none of the networks")
    }

    /// Reads until the first bytes can be judged.
    async fn first<IO: AsyncRead + Unpin>(
        &self,
        io: &mut IO,
        buffer: &mut BytesMut,
        judge: fn(&[u8]) -> First,
    ) -> Walked<First> {
        let reading = async {
            loop {
                let first = judge(buffer);
                if first != First::NeedMore {
                    return Ok(first);
                }
                buffer.reserve(1024);
                if io.read_buf(buffer).await? == 0 {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
                }
            }
        };
        // Health checks of balancers connect and leave: not worth a line.
        let read = self.within(self.behind.limits.sniff, "first bytes", reading).await?;
        read.map_err(|_left| Turned::Ended)
    }

    async fn tls(
        &self,
        mut socket: TcpStream,
        buffer: BytesMut,
        target: Option<Authority>,
    ) -> Walked<Option<Codec>> {
        let Some(plan) = &self.runtime.tls else {
            return refuse(Refused::Protocol, "TLS is not set up here");
        };
        let deadline = Instant::now() + self.behind.limits.handshake;
        let reading = hello::read(&mut socket, buffer);
        let hello = match self.within(deadline - Instant::now(), "ClientHello", reading).await? {
            Ok(hello) => hello,
            Err(error) => return refuse(Refused::Handshake, format!("ClientHello: {error}")),
        };
        if target.is_none()
            && let Some((host, rule)) = self.carried(hello.offer.sni.as_ref())
        {
            if let Err(refusal) = passthrough::judge(&hello.offer, &host) {
                tls::alert(&mut socket, UNRECOGNIZED_NAME).await;
                return refuse(Refused::Name, format!("{refusal} ({})", hello.offer));
            }
            return self.pass(socket, &hello.bytes, host, &rule).await.map(|()| None);
        }
        let offer = hello.offer.clone();
        let named = target.as_ref().and_then(|target| target.host.name());
        let handshake = tls::terminate(plan, hello, socket, named);
        match self.within(deadline - Instant::now(), "TLS handshake", handshake).await? {
            Ok((stream, tls)) => self.secured(stream, tls, target).await.map(Some),
            Err(fault) => {
                let reason = match fault {
                    TlsFault::Name => Refused::Name,
                    TlsFault::Handshake(_) | TlsFault::Certificate => Refused::Handshake,
                };
                refuse(reason, format!("{fault}; the sender offered {offer}"))
            }
        }
    }

    /// The host whose route carries this TLS untouched, by SNI or as `default_host`.
    fn carried(&self, sni: Option<&HostName>) -> Option<(HostName, HostRule)> {
        let find = |host: &HostName| Some((host.clone(), self.behind.hosts.find(host)?));
        sni.and_then(find)
            .or_else(|| self.runtime.config.default_host.as_ref().and_then(find))
            .filter(|(_, rule)| rule.tls == TlsMode::Passthrough)
    }

    fn plain(
        &self,
        socket: TcpStream,
        buffer: BytesMut,
        http2: bool,
        target: Option<Authority>,
    ) -> Codec {
        let sender = self.sender(None, target);
        self.codec(Prefixed::new(buffer.freeze(), socket), http2, sender)
    }

    /// ALPN decides the codec; without ALPN the preface does (F1).
    async fn secured<IO>(
        &self,
        mut stream: IO,
        tls: SenderTls,
        target: Option<Authority>,
    ) -> Walked<Codec>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (http2, prefix) = match tls.alpn.as_deref() {
            Some(alpn) => (alpn == "h2", Bytes::new()),
            None => {
                let mut buffer = BytesMut::new();
                let first = self.first(&mut stream, &mut buffer, sniff_inner).await?;
                (first == First::Http2Preface, buffer.freeze())
            }
        };
        let rule = tls.leaf.as_ref().and_then(|leaf| self.behind.hosts.find(leaf));
        if !http2 && rule.is_some_and(|rule| rule.apns) {
            self.front.counters.count_http1_on_apns();
        }
        let sender = self.sender(Some(tls), target);
        Ok(self.codec(Prefixed::new(prefix, stream), http2, sender))
    }

    /// What serves the rest of the connection.
    fn codec<IO>(
        &self,
        io: IO,
        http2: bool,
        sender: Rc<Sender>,
    ) -> Pin<Box<dyn Future<Output = ()>>>
    where
        IO: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (handle, limits) = (Rc::clone(&self.behind.handle), self.behind.limits);
        let lease = self.place.lease().clone();
        if http2 {
            Box::pin(http2::serve(io, sender, handle, limits.http2, lease))
        } else {
            Box::pin(http1::serve(io, sender, handle, limits.http1, lease))
        }
    }

    fn sender(&self, tls: Option<SenderTls>, connect_target: Option<Authority>) -> Rc<Sender> {
        Rc::new(Sender {
            connection: self.place.number(),
            listener: self.runtime.config.clone(),
            listener_index: self.runtime.index,
            client: self.client,
            local: self.local,
            tls,
            connect_target,
            bearer: Memo::default(),
        })
    }
}

/// Asks a connection to end when it is `max_age` old, a tenth more or less: senders that came
/// together shall not leave together. Never returns.
async fn age(max_age: Option<Duration>, lease: &Lease) -> std::convert::Infallible {
    if let Some(max_age) = max_age {
        tokio::time::sleep(max_age.mul_f64(jitter())).await;
        lease.ask(Asked::EndWhenQuiet);
    }
    std::future::pending().await
}

/// 0.9 to 1.1.
fn jitter() -> f64 {
    use std::hash::{BuildHasher, RandomState};
    // The standard library's hash keys are random: enough to spread, no crate needed.
    let random = u16::try_from(RandomState::new().hash_one(0) % 1000).unwrap_or_default();
    0.9 + f64::from(random) / 5000.0
}
