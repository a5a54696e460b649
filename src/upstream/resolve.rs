//! Names to addresses, past the hosts file that sends the senders to us.
//!
//! The machine's hosts file maps the providers' names to the relay, so a routed name is only ever
//! asked of name servers, as an absolute name, afresh for each connection (D7). A loopback stub
//! answers from that same hosts file; its real upstreams are asked instead where they can be
//! found, and otherwise the answer is marked. Nothing is dialled here.

mod servers;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};

pub use self::servers::{Servers, hosts_addresses};
use crate::config::Dns;
use crate::hop::clean;
use crate::names::HostName;

/// After the first family has answered the other is waited for no longer than this: some servers
/// never answer AAAA. RFC 8305 §3 says 50 ms; corporate forwarders are slower.
const OTHER_FAMILY: Duration = Duration::from_millis(150);
/// One server is given so long before the next is asked: a dead one must not cost a push.
const ONE_SERVER: Duration = Duration::from_millis(450);
/// Where all of them were silent they are asked once more and given so long: a forwarder that asks
/// others may take a second or two.
const SLOW_SERVER: Duration = Duration::from_millis(1800);
/// Longest text kept of what a server said, characters.
const SAYS_CAP: usize = 100;
/// Most addresses that are tried; APNs answers with eight.
const ADDRESSES_CAP: usize = 16;

/// Where names are looked up: files and servers, read afresh each time.
#[derive(Debug, Clone)]
pub struct Resolver {
    dns: Dns,
    files: Files,
}

/// The system's files.
#[derive(Debug, Clone)]
pub struct Files {
    /// `/etc/hosts`.
    pub hosts: PathBuf,
    /// `/etc/resolv.conf`.
    pub resolv: PathBuf,
    /// Where stubs leave the addresses of their upstreams.
    pub upstreams: Vec<PathBuf>,
}

impl Default for Files {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv: "/etc/resolv.conf".into(),
            // systemd-resolved, NetworkManager's dnsmasq, resolvconf's dnsmasq.
            upstreams: vec![
                "/run/systemd/resolve/resolv.conf".into(),
                "/run/NetworkManager/no-stub-resolv.conf".into(),
                "/run/dnsmasq/resolv.conf".into(),
            ],
        }
    }
}

/// Addresses and where they come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// IPv6 and IPv4 in turns, IPv6 first.
    pub addresses: Vec<IpAddr>,
    /// Who said so.
    pub source: Source,
}

/// Who named the addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The hosts file of this machine.
    HostsFile,
    /// No lookup: it was an address already.
    Literal,
    /// Name servers.
    Servers(Servers),
}

/// Why there are no addresses.
#[derive(Debug, thiserror::Error)]
pub enum ResolveFault {
    /// The servers say that the name has none.
    #[error("the name servers know no address")]
    NotFound(#[source] Option<NetError>),
    /// No server is known.
    #[error("no name server is configured")]
    NoServer,
    /// They refuse or fail.
    #[error("the name servers do not answer the question")]
    Failed(#[source] NetError),
    /// No way leads to them.
    #[error("the name servers cannot be reached")]
    Unreachable(#[source] NetError),
    /// They are silent.
    #[error("the name servers are silent")]
    Timeout,
}

impl ResolveFault {
    /// What a server that refuses or fails said, in its own word where it has one.
    pub(super) fn says(error: &NetError) -> String {
        if let NetError::Dns(DnsError::ResponseCode(code)) = error {
            return code.to_string();
        }
        if let NetError::Dns(DnsError::NoRecordsFound(none)) = error {
            return none.response_code.to_string();
        }
        clean(error.to_string().as_bytes(), SAYS_CAP)
    }
}

impl Resolver {
    /// By the egress' `dns:` and the system's files.
    pub fn new(dns: Dns) -> Self {
        Self { dns, files: Files::default() }
    }

    /// With other files.
    #[must_use]
    pub fn with_files(mut self, files: Files) -> Self {
        self.files = files;
        self
    }

    /// Looks a routed name up: the hosts file only if relay.yaml says so.
    pub async fn routed(&self, name: &HostName) -> Result<Resolved, ResolveFault> {
        self.lookup(name, self.dns.hosts_file).await
    }

    /// Looks a proxy's name up. Its name is no routed one, so nobody redirects it to us, and
    /// administrators do keep proxies in the hosts file: it is read first.
    pub async fn proxy(&self, name: &HostName) -> Result<Resolved, ResolveFault> {
        self.lookup(name, true).await
    }

    /// Who is asked now, where the hosts file is not.
    pub fn servers(&self) -> Servers {
        Servers::find(&self.dns.servers, &self.files)
    }

    fn hosts(&self, name: &HostName) -> Vec<IpAddr> {
        let text = std::fs::read_to_string(&self.files.hosts).unwrap_or_default();
        hosts_addresses(&text, name)
    }

    async fn lookup(&self, name: &HostName, hosts_file: bool) -> Result<Resolved, ResolveFault> {
        if hosts_file {
            let addresses = self.hosts(name);
            if !addresses.is_empty() {
                return Ok(Resolved {
                    addresses: interleave(addresses),
                    source: Source::HostsFile,
                });
            }
        }
        let servers = self.servers();
        if servers.addresses.is_empty() {
            return Err(ResolveFault::NoServer);
        }
        let resolver = client(&servers, ONE_SERVER, 2).map_err(ResolveFault::Failed)?;
        let mut found = ask(&resolver, name).await;
        // One that nobody named is no slow forwarder.
        if matches!(found, Err(ResolveFault::Timeout)) && !servers.assumed {
            let resolver = client(&servers, SLOW_SERVER, 0).map_err(ResolveFault::Failed)?;
            found = ask(&resolver, name).await;
        }
        // Nobody said that one runs there.
        if servers.assumed
            && matches!(&found, Err(ResolveFault::Timeout | ResolveFault::Unreachable(_)))
        {
            return Err(ResolveFault::NoServer);
        }
        let addresses = interleave(found?);
        Ok(Resolved { addresses, source: Source::Servers(servers) })
    }
}

/// A client without cache, search list or hosts file. Made for one lookup: dials are rare, a
/// changed resolv.conf counts at once, and nothing ties it to the runtime of another dial.
fn client(servers: &Servers, each: Duration, again: usize) -> Result<TokioResolver, NetError> {
    let server = |address: &SocketAddr| {
        let at = |mut connection: ConnectionConfig| {
            connection.port = address.port();
            connection
        };
        let connections = vec![at(ConnectionConfig::udp()), at(ConnectionConfig::tcp())];
        NameServerConfig::new(address.ip(), true, connections)
    };
    let servers = servers.addresses.iter().map(server).collect();
    let config = ResolverConfig::from_parts(None, Vec::new(), servers);
    let mut options = ResolverOpts::default();
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    options.timeout = each;
    options.attempts = again;
    options.try_tcp_on_error = true;
    let provider = TokioRuntimeProvider::default();
    TokioResolver::builder_with_config(config, provider).with_options(options).build()
}

/// Asks for both families at once.
async fn ask(resolver: &TokioResolver, name: &HostName) -> Result<Vec<IpAddr>, ResolveFault> {
    let mut v6 = std::pin::pin!(one_family(resolver, name, RecordType::AAAA));
    let mut v4 = std::pin::pin!(one_family(resolver, name, RecordType::A));
    let (first, other) = tokio::select! {
        answer = &mut v6 => (answer, v4),
        answer = &mut v4 => (answer, v6),
    };
    let second = patiently(other).await;
    let (first, second) = match (first, second) {
        // Nothing usable yet: then the other family is worth its full time.
        (Err(fault), Later::Pending(rest)) => (Err(fault), Some(rest.await)),
        (Ok(found), Later::Pending(rest)) if found.is_empty() => (Ok(found), Some(rest.await)),
        (first, Later::Pending(_)) => (first, None),
        (first, Later::Answer(second)) => (first, Some(second)),
    };
    match (first, second) {
        (Ok(mut found), Some(Ok(more))) => {
            found.extend(more);
            if found.is_empty() { Err(ResolveFault::NotFound(None)) } else { Ok(found) }
        }
        (Ok(found), _) if !found.is_empty() => Ok(found),
        (_, Some(Ok(found))) if !found.is_empty() => Ok(found),
        // A server that fails for one family has not said that there is nothing.
        (Err(fault), _) | (_, Some(Err(fault))) => Err(fault),
        (Ok(_), _) => Err(ResolveFault::NotFound(None)),
    }
}

enum Later<F: Future> {
    Answer(F::Output),
    Pending(F),
}

async fn patiently<F: Future + Unpin>(mut other: F) -> Later<F> {
    match tokio::time::timeout(OTHER_FAMILY, &mut other).await {
        Ok(answer) => Later::Answer(answer),
        Err(_elapsed) => Later::Pending(other),
    }
}

/// The addresses of one family; an empty list when the name exists without any.
async fn one_family(
    resolver: &TokioResolver,
    name: &HostName,
    family: RecordType,
) -> Result<Vec<IpAddr>, ResolveFault> {
    // The dot makes it absolute: no search list can complete it to something else.
    match resolver.lookup(format!("{name}."), family).await {
        Ok(lookup) => {
            Ok(lookup.answers().iter().filter_map(|record| address(&record.data)).collect())
        }
        Err(NetError::Timeout) => Err(ResolveFault::Timeout),
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if none.response_code == ResponseCode::NoError =>
        {
            Ok(Vec::new())
        }
        Err(error @ (NetError::NoConnections | NetError::Io(_))) => {
            Err(ResolveFault::Unreachable(error))
        }
        Err(error) if error.is_nx_domain() => Err(ResolveFault::NotFound(Some(error))),
        Err(error) => Err(ResolveFault::Failed(error)),
    }
}

/// CNAMEs come along with the addresses that they lead to.
fn address(data: &RData) -> Option<IpAddr> {
    if let RData::A(address) = data {
        return Some(address.0.into());
    }
    if let RData::AAAA(address) = data { Some(address.0.into()) } else { None }
}

/// IPv6 and IPv4 in turns, each family in the order given (RFC 8305 §4).
fn interleave(addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    let (v6, v4): (Vec<_>, Vec<_>) = addresses.into_iter().partition(IpAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut turns = Vec::new();
    loop {
        let pair = [v6.next(), v4.next()];
        if pair == [None, None] || turns.len() >= ADDRESSES_CAP {
            return turns;
        }
        turns.extend(pair.into_iter().flatten());
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostsFile => f.write_str("hosts file"),
            Self::Literal => f.write_str("literal"),
            Self::Servers(servers) => write!(f, "{servers}"),
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    #[test]
    fn families_take_turns_and_the_list_is_bounded() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<_>>();
        assert_eq!(
            interleave(ips(&["10.0.0.1", "10.0.0.2", "2001:db8::1", "10.0.0.3"])),
            ips(&["2001:db8::1", "10.0.0.1", "10.0.0.2", "10.0.0.3"])
        );
        assert_eq!(interleave(vec!["10.0.0.1".parse().unwrap(); 99]).len(), ADDRESSES_CAP);
    }

    /// Answers the A question with this address and the AAAA question with nothing.
    pub(in crate::upstream) async fn scripted_server(
        ip: std::net::Ipv4Addr,
    ) -> (SocketAddr, tokio::task::JoinHandle<Vec<u8>>) {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let task = tokio::spawn(async move {
            let mut last = Vec::new();
            for _ in 0..2 {
                let mut buffer = [0; 1500];
                let (n, from) = socket.recv_from(&mut buffer).await.unwrap();
                let question_end = 12 + buffer[12..n].iter().position(|&b| b == 0).unwrap() + 5;
                let is_a = buffer[question_end - 3] == 1;
                let mut answer = buffer[..question_end].to_vec();
                answer[2..4].copy_from_slice(&[0x81, 0x80]);
                answer[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
                if is_a {
                    answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
                    answer.extend_from_slice(&ip.octets());
                }
                last = buffer[12..question_end].to_vec();
                socket.send_to(&answer, from).await.unwrap();
            }
            last
        });
        (address, task)
    }

    #[tokio::test]
    async fn a_server_that_takes_a_second_and_a_half_is_waited_for() {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let server = socket.local_addr().unwrap();
        let socket = std::rc::Rc::new(socket);
        let local = tokio::task::LocalSet::new();
        local.spawn_local(async move {
            let mut buffer = [0; 1500];
            while let Ok((n, from)) = socket.recv_from(&mut buffer).await {
                let mut answer = buffer[..n].to_vec();
                let end = 12 + buffer[12..n].iter().position(|&b| b == 0).unwrap() + 5;
                let is_a = buffer[end - 3] == 1;
                answer.truncate(end);
                answer[2..4].copy_from_slice(&[0x81, 0x80]);
                answer[6..12].copy_from_slice(&[0, u8::from(is_a), 0, 0, 0, 0]);
                if is_a {
                    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4, 192, 0, 2, 1]);
                }
                let socket = socket.clone();
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_millis(1500)).await;
                    let _ = socket.send_to(&answer, from).await;
                });
            }
        });
        let name: HostName = "api.push.apple.com".parse().unwrap();
        let resolver = Resolver::new(Dns { servers: vec![server], hosts_file: false });
        let asked = tokio::time::timeout(Duration::from_secs(10), resolver.routed(&name));
        let found = local.run_until(asked).await.unwrap().unwrap();
        assert_eq!(found.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    }

    #[tokio::test]
    async fn d7_routed_names_skip_the_hosts_file_and_proxy_names_do_not() {
        let folder = tempfile::tempdir().unwrap();
        let hosts = folder.path().join("hosts");
        std::fs::write(&hosts, "127.0.0.1 api.push.apple.com proxy.corp.example\n").unwrap();
        let (server, task) = scripted_server("192.0.2.1".parse().unwrap()).await;
        let dns = Dns { servers: vec![server], hosts_file: false };
        let missing = folder.path().join("none");
        let files = Files { hosts, resolv: missing.clone(), upstreams: vec![missing] };
        let resolver = Resolver::new(dns).with_files(files);
        let name: HostName = "api.push.apple.com".parse().unwrap();
        let wait = Duration::from_secs(10);
        let found = tokio::time::timeout(wait, resolver.routed(&name)).await.unwrap().unwrap();
        assert_eq!(found.addresses, ["192.0.2.1".parse::<IpAddr>().unwrap()]);
        let asked = tokio::time::timeout(wait, task).await.unwrap().unwrap();
        assert!(asked.starts_with(b"\x03api\x04push\x05apple\x03com\0"), "{asked:?}");
        let proxy = resolver.proxy(&"proxy.corp.example".parse().unwrap()).await.unwrap();
        assert_eq!(proxy.source, Source::HostsFile);
    }
}
