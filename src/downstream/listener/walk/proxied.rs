//! What CONNECT and passthrough lead to: bytes carried untouched, or TLS ended inside a tunnel.

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::{Codec, Turned, UNRECOGNIZED_NAME, Walk, Walked, refuse};
use crate::downstream::Handle;
use crate::downstream::admit::Refused;
use crate::downstream::connect::{self, Way};
use crate::downstream::listener::HostRule;
use crate::downstream::passthrough::{self, Carry};
use crate::downstream::sniff::{First, sniff};
use crate::downstream::tls::{self, hello};
use crate::hop::HopError;
use crate::names::{Authority, Host, HostName};

impl<H: Handle, C: Carry> Walk<H, C> {
    /// Carries a sender's own TLS to a routed host.
    pub(super) async fn pass(
        &self,
        socket: TcpStream,
        first: &[u8],
        host: HostName,
        rule: &HostRule,
    ) -> Walked<()> {
        // A sender that was led here by a hosts entry means the port that it came to.
        let target = Authority::new(host, self.local.port());
        match self.behind.carry.dial_raw(&target, Some(rule)).await {
            Ok(origin) => {
                self.carry("passthrough", socket, origin, first, &target).await;
                Ok(())
            }
            Err(error) => Err(self.no_way(&target, &error)),
        }
    }

    fn no_way(&self, target: &Authority, error: &HopError) -> Turned {
        // Senders come again at once: an outage must not flood the log.
        if self.front.lines.pass() {
            tracing::warn!(
                client = %self.client,
                %target,
                hop = %error.hop,
                stage = %error.stage,
                cause = %error.kind,
                "nothing could be carried"
            );
        }
        Turned::Ended
    }

    async fn carry(
        &self,
        kind: &'static str,
        socket: TcpStream,
        origin: C::Io,
        first: &[u8],
        target: &Authority,
    ) {
        let lease = self.place.lease();
        lease.begin();
        let (started, limits) = (Instant::now(), self.behind.limits.carry);
        let carried = passthrough::carry(socket, origin, first, limits, lease).await;
        lease.end();
        self.front.counters.count_carried(carried.up, carried.down);
        let listener = &self.runtime.config.name;
        passthrough::log(kind, self.client, listener, target, &carried, started.elapsed());
    }

    pub(super) async fn connect(
        &self,
        mut socket: TcpStream,
        mut buffer: BytesMut,
    ) -> Walked<Option<Codec>> {
        let reading = connect::read(&mut socket, &mut buffer);
        let read = self.within(self.behind.limits.sniff, "CONNECT head", reading).await?;
        let Ok(Some(head)) = read else { return Err(Turned::Ended) };
        let password = self.runtime.connect_password.as_ref();
        let mut asked = String::new();
        let judged = head.and_then(|head| {
            let hosts = &*self.behind.hosts;
            asked = format!("; the sender asked for {}", head.target);
            let way = connect::judge(&head, &self.runtime.config, password, hosts)?;
            Ok((way, head.target))
        });
        match judged {
            Ok((Way::Terminate(rule), target)) => {
                self.established(&mut socket).await?;
                self.inside(socket, buffer, target, &rule).await
            }
            Ok((Way::Passthrough(rule), target)) => {
                self.tunnel(socket, buffer, target, Some(&rule)).await.map(|()| None)
            }
            Ok((Way::Tunnel, target)) => {
                self.tunnel(socket, buffer, target, None).await.map(|()| None)
            }
            Err(refusal) => {
                connect::say(socket, &refusal.answer()).await;
                refuse(Refused::Connect, format!("{refusal}{asked}"))
            }
        }
    }

    async fn established(&self, socket: &mut TcpStream) -> Walked<()> {
        let write = socket.write_all(connect::ESTABLISHED);
        let written = self.within(self.behind.limits.sniff, "room for an answer", write).await?;
        written.map_err(|_left| Turned::Ended)
    }

    /// What comes after the 200 of a host whose TLS ends here.
    async fn inside(
        &self,
        mut socket: TcpStream,
        mut buffer: BytesMut,
        target: Authority,
        rule: &HostRule,
    ) -> Walked<Option<Codec>> {
        match self.first(&mut socket, &mut buffer, sniff).await? {
            First::Tls => self.tls(socket, buffer, Some(target)).await,
            // Origins of one's own may be plain, and then their senders may be.
            first @ (First::Http1 | First::Http2Preface)
                if rule.cleartext.contains(&target.port) =>
            {
                let http2 = first == First::Http2Preface;
                Ok(Some(self.plain(socket, buffer, http2, Some(target))))
            }
            other @ (First::Connect
            | First::Http1
            | First::Http2Preface
            | First::NeedMore
            | First::ProxyHeader
            | First::Unknown) => {
                refuse(Refused::Protocol, format!("{} after CONNECT", other.word()))
            }
        }
    }

    /// Carries what follows a CONNECT. The way out is dialled before the 200, so that a failure
    /// is an honest answer.
    async fn tunnel(
        &self,
        mut socket: TcpStream,
        mut buffer: BytesMut,
        target: Authority,
        rule: Option<&HostRule>,
    ) -> Walked<()> {
        let origin = match self.behind.carry.dial_raw(&target, rule).await {
            Ok(origin) => origin,
            Err(error) => {
                connect::say(socket, &connect::failed(&error)).await;
                return Err(self.no_way(&target, &error));
            }
        };
        self.established(&mut socket).await?;
        if let (Some(_), Host::Name(host)) = (rule, &target.host) {
            let reading = hello::read(&mut socket, buffer);
            let limit = self.behind.limits.handshake;
            let hello = match self.within(limit, "ClientHello", reading).await? {
                Ok(hello) => hello,
                Err(error) => return refuse(Refused::Handshake, format!("ClientHello: {error}")),
            };
            if let Err(refusal) = passthrough::judge(&hello.offer, host) {
                tls::alert(&mut socket, UNRECOGNIZED_NAME).await;
                return refuse(Refused::Name, format!("{refusal} ({})", hello.offer));
            }
            buffer = hello.bytes;
        }
        self.carry("tunnel", socket, origin, &buffer, &target).await;
        Ok(())
    }
}
