//! `egress:`: the ways out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::check::Check;
use super::urls;
use crate::config::raw::{self, join};
use crate::config::{
    Dns, Egress, EgressName, EgressProxy, LaneLimits, ProxyCredentials, RootSource, Scheme,
};
use crate::names::Authority;

/// The port that most corporate proxies listen on (Squid's), where a URL names none.
const PROXY_PORT: u16 = 3128;

/// Bounds of lanes where none are written: two connections carry thousands of pushes a second,
/// and Apple takes churn for an attack.
const LANE: LaneLimits = LaneLimits {
    connections: 2,
    http1_connections: 100,
    streams: 500,
    lanes: 64,
    queue: 1000,
    ping: Duration::from_secs(60),
    dials_per_second: 1,
};

pub(super) fn all(
    check: &mut Check<'_>,
    written: Option<&BTreeMap<String, raw::Egress>>,
) -> BTreeMap<EgressName, Arc<Egress>> {
    let mut all = BTreeMap::new();
    let direct = raw::Egress::default();
    all.insert(EgressName::direct(), Arc::new(one(check, "", EgressName::DIRECT, &direct)));
    for (name, egress) in written.into_iter().flatten() {
        let at = join("egress", name);
        check.name(&at, name);
        if name == EgressName::DIRECT && egress.proxies.as_ref().is_some_and(|all| !all.is_empty())
        {
            check.findings.add(
                &format!("{at}.proxies"),
                "an egress called `direct` has no proxies",
                "give it another name, and let the routes name that",
            );
        }
        let egress = one(check, &at, name, egress);
        all.insert(egress.name.clone(), Arc::new(egress));
    }
    all
}

fn one(check: &mut Check<'_>, at: &str, name: &str, written: &raw::Egress) -> Egress {
    let proxies = written.proxies.as_deref().unwrap_or_default();
    let mut addresses: Vec<Authority> = Vec::new();
    let mut read = Vec::new();
    for (index, written) in proxies.iter().enumerate() {
        let at = format!("{at}.proxies[{index}]");
        let Some(proxy) = proxy(check, &at, written) else { continue };
        if addresses.contains(&proxy.authority) {
            check.findings.add(
                &format!("{at}.url"),
                "this proxy is already in the list",
                "name each once",
            );
        }
        addresses.push(proxy.authority.clone());
        read.push(proxy);
    }
    let roots = match &written.roots {
        Some(roots) => check.roots(&format!("{at}.roots"), roots),
        None => vec![RootSource::Bundled],
    };
    Egress {
        name: EgressName(name.into()),
        proxies: read,
        roots,
        dns: dns(check, &format!("{at}.dns"), written.dns.as_ref()),
        connect_to: connect_to(check, &format!("{at}.connect_to"), written.connect_to.as_ref()),
        source: source(check, &format!("{at}.source"), written.source.as_deref()),
        post_quantum: written.post_quantum.unwrap_or(true),
        assume_h2: written.assume_h2.unwrap_or(false),
        lane: lane(check, &format!("{at}.lane"), written.lane.as_ref()),
    }
}

fn proxy(check: &mut Check<'_>, at: &str, written: &raw::Proxy) -> Option<EgressProxy> {
    let credentials = match &written.credentials {
        None => None,
        Some(raw::Credentials::Basic(basic)) => {
            let at = format!("{at}.credentials.basic");
            Some(ProxyCredentials::Basic(check.basic(&at, &basic.username, &basic.password)))
        }
        Some(raw::Credentials::Ntlm(ntlm)) => {
            let at = format!("{at}.credentials.ntlm");
            if let Some((domain, user)) = ntlm.username.split_once('\\') {
                check.findings.add(
                    &format!("{at}.username"),
                    "the domain has a key of its own",
                    format!("write domain: {domain} and username: {user}"),
                );
            }
            Some(ProxyCredentials::Ntlm {
                domain: ntlm.domain.clone().unwrap_or_default(),
                basic: check.basic(&at, &ntlm.username, &ntlm.password),
            })
        }
        Some(raw::Credentials::Negotiate(negotiate)) => {
            if negotiate.spn.as_deref().is_some_and(str::is_empty) {
                let at = format!("{at}.credentials.negotiate.spn");
                check.findings.add(
                    &at,
                    "the service principal is empty",
                    "write HTTP@proxy.example, or leave it out",
                );
            }
            Some(ProxyCredentials::Negotiate { spn: negotiate.spn.clone() })
        }
    };
    let (scheme, authority) =
        urls::base(check, &format!("{at}.url"), &written.url, Some(PROXY_PORT))?;
    let tls = scheme == Scheme::Https;
    let roots = match &written.roots {
        Some(_) if !tls => {
            check.findings.add(
                &format!("{at}.roots"),
                "an http:// proxy shows no certificate",
                "write https:// in `url`, or leave `roots` out; roots for origins stand in the egress",
            );
            Vec::new()
        }
        Some(roots) => check.roots(&format!("{at}.roots"), roots),
        None if tls => vec![RootSource::System],
        None => Vec::new(),
    };
    Some(EgressProxy { tls, authority, credentials, roots })
}

fn dns(check: &mut Check<'_>, at: &str, written: Option<&raw::Dns>) -> Dns {
    let hosts_file = written.and_then(|dns| dns.hosts_file) == Some(raw::HostsFile::Use);
    let mut servers = Vec::new();
    let words = written.and_then(|dns| dns.servers.as_ref()).map(raw::OneOrMany::values);
    for (index, text) in words.unwrap_or_default().iter().enumerate() {
        if text == "system" && words.is_some_and(|words| words.len() == 1) {
            continue;
        }
        match text
            .parse::<SocketAddr>()
            .ok()
            .or_else(|| text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 53)))
        {
            Some(server) => servers.push(server),
            None => check.findings.add(
                &format!("{at}.servers[{index}]"),
                "this is not the address of a DNS server",
                "write `system`, or a list of addresses: [10.0.0.53]",
            ),
        }
    }
    Dns { servers, hosts_file }
}

fn connect_to(
    check: &mut Check<'_>,
    at: &str,
    written: Option<&BTreeMap<String, String>>,
) -> BTreeMap<Authority, Authority> {
    let mut map = BTreeMap::new();
    for (from, to) in written.into_iter().flatten() {
        let at = join(at, from);
        let hint = "write \"HOST:PORT\": \"HOST:PORT\"";
        match (from.parse::<Authority>(), to.parse::<Authority>()) {
            (Ok(from), Ok(to)) => {
                if map.insert(from, to).is_some() {
                    check.findings.add(&at, "this name and port stand here twice", "keep one");
                }
            }
            (Err(error), _) | (Ok(_), Err(error)) => {
                check.findings.add(&at, error.to_string(), hint);
            }
        }
    }
    map
}

fn source(check: &mut Check<'_>, at: &str, written: Option<&str>) -> Option<IpAddr> {
    let address = written?.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
    if address.is_none() {
        check.findings.add(
            at,
            "this is not an address of this host",
            "write one address, such as 203.0.113.5",
        );
    }
    address
}

fn lane(check: &mut Check<'_>, at: &str, written: Option<&raw::Lane>) -> LaneLimits {
    let Some(raw) = written else { return LANE };
    let key = |key: &str| format!("{at}.{key}");
    let hour = Duration::from_secs(3600);
    LaneLimits {
        connections: check.number(&key("connections"), raw.connections, LANE.connections, 1..=16),
        http1_connections: check.number(
            &key("http1_connections"),
            raw.http1_connections,
            LANE.http1_connections,
            1..=1000,
        ),
        streams: check.number(&key("streams"), raw.streams, LANE.streams, 1..=10_000),
        lanes: check.number(&key("lanes"), raw.lanes, LANE.lanes, 1..=1000),
        queue: check.number(&key("queue"), raw.queue, LANE.queue, 1..=100_000),
        ping: check.span(&key("ping"), raw.ping, LANE.ping, Duration::from_secs(1)..=hour),
        dials_per_second: check.number(
            &key("dials_per_second"),
            raw.dials_per_second,
            LANE.dials_per_second,
            1..=100,
        ),
    }
}
