//! What the firewall must let through: `check --flows`.
//!
//! Read from the configuration alone; nothing is resolved.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use super::{Config, Egress, Listener, Route, Scheme};
use crate::names::{Authority, Host};

/// One line of the firewall ticket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Who opens the connection.
    pub source: String,
    /// To whom.
    pub destination: String,
    /// `443/tcp`.
    pub port: String,
    /// What for.
    pub purpose: String,
}

impl Config {
    /// Every connection that this configuration needs, each once.
    pub fn flows(&self) -> Vec<Flow> {
        let mut flows = BTreeSet::new();
        for listener in &self.listeners {
            arriving(listener, &mut flows);
        }
        for route in &self.routes {
            let Some(egress) = self.egress.get(&route.egress) else { continue };
            leaving(route, egress, &mut flows);
            names(egress, &mut flows);
        }
        for listener in &self.listeners {
            for target in &listener.tunnel {
                flows.insert(tcp("relay", target, format!("tunnel of listener {}", listener.name)));
            }
        }
        if let Some(bind) = self.admin.bind.filter(|bind| !bind.ip().is_loopback()) {
            for network in &self.admin.networks {
                flows.insert(Flow {
                    source: network.to_string(),
                    destination: here(bind.ip()),
                    port: format!("{}/tcp", bind.port()),
                    purpose: "admin: health, status, metrics".to_owned(),
                });
            }
        }
        flows.into_iter().collect()
    }
}

fn here(bind: IpAddr) -> String {
    if bind.is_unspecified() { "relay".to_owned() } else { format!("relay ({bind})") }
}

fn tcp(source: &str, to: &Authority, purpose: String) -> Flow {
    Flow {
        source: source.to_owned(),
        destination: to.host.to_string(),
        port: format!("{}/tcp", to.port),
        purpose,
    }
}

fn arriving(listener: &Listener, flows: &mut BTreeSet<Flow>) {
    let mut sources: Vec<String> = listener.networks.iter().map(ToString::to_string).collect();
    sources.extend(listener.proxy_protocol.iter().map(ToString::to_string));
    let words = [
        (listener.accept.tls, "TLS"),
        (listener.accept.connect, "CONNECT"),
        (listener.accept.plain, "HTTP"),
    ];
    let words: Vec<&str> = words.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
    for bind in listener.bind.iter().filter(|bind| !bind.ip().is_loopback()) {
        let anybody = ["any, with a certificate".to_owned()];
        for source in if sources.is_empty() { anybody.as_slice() } else { sources.as_slice() } {
            flows.insert(Flow {
                source: source.clone(),
                destination: here(bind.ip()),
                port: format!("{}/tcp", bind.port()),
                purpose: format!("senders to listener {} ({})", listener.name, words.join(", ")),
            });
        }
    }
}

fn leaving(route: &Route, egress: &Egress, flows: &mut BTreeSet<Flow>) {
    let me = egress.source.map_or_else(|| "relay".to_owned(), |source| format!("relay ({source})"));
    for proxy in &egress.proxies {
        let purpose = format!("egress {}: CONNECT", egress.name);
        flows.insert(tcp(&me, &proxy.authority, purpose));
    }
    let opener = match egress.proxies.is_empty() {
        true => me,
        false => format!("proxies of {}", egress.name),
    };
    for host in &route.hosts {
        let spoken = match host.scheme {
            Scheme::Http => "HTTP",
            Scheme::Https => "TLS",
        };
        for port in &host.ports {
            let named = Authority::new(host.origin.clone(), *port);
            let to = egress.connect_to.get(&named).unwrap_or(&named);
            let mut purpose = format!("route {}: {spoken}", route.name);
            if to != &named {
                purpose.push_str(&format!(" for {named}"));
            }
            flows.insert(tcp(&opener, to, purpose));
        }
    }
}

/// Names are asked of DNS for direct origins and for the proxies' own names.
fn names(egress: &Egress, flows: &mut BTreeSet<Flow>) {
    let by_name = egress.proxies.iter().any(|proxy| matches!(proxy.authority.host, Host::Name(_)));
    if !egress.proxies.is_empty() && !by_name {
        return;
    }
    let purpose = format!("egress {}: names", egress.name);
    let system = Flow {
        source: "relay".to_owned(),
        destination: "the servers of resolv.conf".to_owned(),
        port: "53/udp+tcp".to_owned(),
        purpose: purpose.clone(),
    };
    if egress.dns.servers.is_empty() {
        flows.insert(system);
        return;
    }
    for server in &egress.dns.servers {
        flows.insert(Flow {
            destination: server.ip().to_string(),
            port: format!("{}/udp+tcp", server.port()),
            ..system.clone()
        });
    }
}

/// The flows as a table of aligned columns.
#[derive(Debug)]
pub struct Table<'f>(pub &'f [Flow]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = Flow {
            source: "SOURCE".to_owned(),
            destination: "DESTINATION".to_owned(),
            port: "PORT".to_owned(),
            purpose: "PURPOSE".to_owned(),
        };
        let rows = || std::iter::once(&head).chain(self.0);
        let widest = |cell: fn(&Flow) -> &str| {
            rows().map(|flow| cell(flow).chars().count()).max().unwrap_or_default()
        };
        let (source, to) = (widest(|flow| &flow.source), widest(|flow| &flow.destination));
        let port = widest(|flow| &flow.port);
        for flow in rows() {
            writeln!(
                f,
                "{:source$}  {:to$}  {:port$}  {}",
                flow.source, flow.destination, flow.port, flow.purpose
            )?;
        }
        Ok(())
    }
}
