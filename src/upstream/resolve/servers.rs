//! Which name servers to ask: the configured ones, or the system's past a stub on this machine.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Files;
use crate::names::HostName;
use crate::upstream::ourselves::is_local;

/// resolv.conf(5) reads three; containers write more.
const SERVERS_CAP: usize = 6;

/// Name servers and what is known of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers {
    /// In the order asked.
    pub addresses: Vec<SocketAddr>,
    /// At least one runs on this machine, so that its answer may be the hosts file's.
    pub stub: bool,
    /// Nobody named one, so the one is asked that resolv.conf(5) says runs on this machine then.
    pub assumed: bool,
}

impl Servers {
    /// The configured servers, else those of resolv.conf; where these run on this machine, the
    /// ones that a stub names as its upstreams.
    pub(super) fn find(configured: &[SocketAddr], files: &Files) -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        if !configured.is_empty() {
            return Self::judged(configured.to_vec());
        }
        let mut system = name_servers(&read(&files.resolv));
        let assumed = system.is_empty();
        if assumed {
            system.push(SocketAddr::from((Ipv4Addr::LOCALHOST, 53)));
        }
        let system = Self { assumed, ..Self::judged(system) };
        if !system.stub {
            return system;
        }
        let beyond = files.upstreams.iter().map(|path| Self::judged(name_servers(&read(path))));
        beyond.into_iter().find(|one| !one.stub && !one.addresses.is_empty()).unwrap_or(system)
    }

    fn judged(mut addresses: Vec<SocketAddr>) -> Self {
        addresses.truncate(SERVERS_CAP);
        let stub = addresses.iter().any(|server| is_local(server.ip()));
        Self { addresses, stub, assumed: false }
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, server) in self.addresses.iter().enumerate() {
            write!(f, "{}{server}", if n == 0 { "" } else { ", " })?;
        }
        f.write_str(if self.stub { " (on this machine)" } else { "" })
    }
}

/// The `nameserver` lines of a resolv.conf(5); scoped addresses are left out.
fn name_servers(text: &str) -> Vec<SocketAddr> {
    let lines = text.lines().map(|line| line.split_once(['#', ';']).map_or(line, |(it, _)| it));
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        let ip: IpAddr = words.next()?.parse().ok()?;
        Some(SocketAddr::new(ip, 53))
    };
    lines.filter_map(server).collect()
}

/// The addresses that a hosts(5) file gives to a name, in order.
pub fn hosts_addresses(text: &str, name: &HostName) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split_once('#').map_or(line, |(it, _)| it);
        let mut words = line.split_ascii_whitespace();
        let Some(ip) = words.next().and_then(|word| word.parse::<IpAddr>().ok()) else { continue };
        let same = |word: &str| {
            let word = word.strip_suffix('.').unwrap_or(word);
            word.eq_ignore_ascii_case(name.as_str())
        };
        if words.any(same) && !found.contains(&ip) {
            found.push(ip);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(resolv: &str, upstreams: &[&str]) -> (tempfile::TempDir, Files) {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let upstreams = upstreams.iter().enumerate();
        let upstreams = upstreams.map(|(n, text)| write(&format!("up{n}"), text)).collect();
        let files = Files { hosts: write("hosts", ""), resolv: write("resolv", resolv), upstreams };
        (folder, files)
    }

    #[test]
    fn a_stub_on_this_machine_is_passed_by_where_its_upstreams_are_known() {
        let stub = "# stub\nnameserver 127.0.0.53\noptions edns0\n";
        let real = "nameserver 192.0.2.53\nnameserver 2001:db8::53\n";
        for (resolv, upstreams, expected, marked) in [
            (real, &[][..], "192.0.2.53:53, [2001:db8::53]:53", false),
            (stub, &["", real][..], "192.0.2.53:53, [2001:db8::53]:53", false),
            (stub, &[stub], "127.0.0.53:53 (on this machine)", true),
            ("", &[], "127.0.0.1:53 (on this machine)", true),
            (
                "nameserver\nnameserver fe80::1%eth0 ; x\n",
                &[real],
                "192.0.2.53:53, [2001:db8::53]:53",
                false,
            ),
        ] {
            let (_folder, files) = files(resolv, upstreams);
            let servers = Servers::find(&[], &files);
            assert_eq!(
                (servers.to_string().as_str(), servers.stub, servers.assumed),
                (expected, marked, resolv.is_empty()),
                "{resolv}"
            );
        }
        let (_folder, files) = files(real, &[]);
        let own = Servers::find(&["127.0.0.1:5353".parse().unwrap()], &files);
        assert_eq!(own.to_string(), "127.0.0.1:5353 (on this machine)");
    }

    #[test]
    fn the_hosts_file_is_read_as_hosts_5_says() {
        let text = "127.0.0.1 localhost # api.push.apple.com\n10.0.0.1\tA.push.apple.com. api.push.apple.com\n\
                    ::1 API.push.apple.com\nbroken api.push.apple.com\n10.0.0.1 api.push.apple.com\n";
        let name = "api.push.apple.com".parse().unwrap();
        let expected = ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()];
        assert_eq!(hosts_addresses(text, &name), expected);
    }
}
