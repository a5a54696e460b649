//! Two routes for one host: refused, unless their APNs topics tell them apart.

use super::check::Check;
use crate::config::{Route, TlsMode};
use crate::names::HostName;

pub(super) fn find(check: &mut Check<'_>, routes: &[Route]) {
    for (index, route) in routes.iter().enumerate() {
        for other in &routes[..index] {
            let Some(host) = shared(route, other) else { continue };
            let at = format!("routes[{index}]");
            if let Some(topic) = route.topics.iter().find(|topic| other.topics.contains(topic)) {
                check.findings.add(
                    &format!("{at}.topics"),
                    format!(
                        "topic `{topic}` of {host} is already carried by route `{}`",
                        other.name
                    ),
                    "routes that share a host have topics of their own, each listed once",
                );
            } else if route.topics.is_empty() || other.topics.is_empty() {
                check.findings.add(
                    &at,
                    format!("{host} is already carried by route `{}`", other.name),
                    "keep one route for a host; on APNs, lists of `topics` can tell two apart",
                );
            } else if route.tls == TlsMode::Passthrough || other.tls == TlsMode::Passthrough {
                check.findings.add(
                    &format!("{at}.tls"),
                    format!(
                        "{host} is shared with route `{}`, and passthrough sees no topics",
                        other.name
                    ),
                    "write `tls: terminate` on both, or keep one route",
                );
            }
        }
    }
}

fn shared<'r>(route: &'r Route, other: &Route) -> Option<&'r HostName> {
    let theirs = |host: &&HostName| other.hosts.iter().any(|other| other.host == **host);
    route.hosts.iter().map(|host| &host.host).find(theirs)
}
