//! Name constraints of an issuer, as far as they concern DNS names (RFC 5280 §4.2.1.10).

use std::collections::BTreeSet;
use std::fmt;

use rcgen::{CidrSubnet, GeneralSubtree, NameConstraints};
use x509_parser::prelude::X509Certificate;

use crate::names::HostName;
use crate::pki::dns_name;

/// What an issuer may issue for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NameLimits {
    /// Permitted subtrees; `None` = every name.
    pub permitted: Option<Vec<String>>,
    /// Excluded subtrees; they win.
    pub excluded: Vec<String>,
}

impl NameLimits {
    /// Reads them from a certificate; `None` when the extension cannot be read.
    pub(super) fn of(certificate: &X509Certificate<'_>) -> Option<Self> {
        let Some(constraints) = certificate.name_constraints().ok()? else {
            return Some(Self::default());
        };
        let names = |subtrees: &[x509_parser::prelude::GeneralSubtree<'_>]| -> Vec<String> {
            subtrees.iter().filter_map(|subtree| dns_name(&subtree.base)).collect()
        };
        let permitted = constraints.value.permitted_subtrees.as_deref().map(names);
        let excluded = constraints.value.excluded_subtrees.as_deref().map(names);
        Some(Self {
            // Subtrees of other kinds leave DNS names free.
            permitted: permitted.filter(|names| !names.is_empty()),
            excluded: excluded.unwrap_or_default(),
        })
    }

    /// Whether a leaf for `host` would be believed.
    pub fn permits(&self, host: &HostName) -> bool {
        let permitted = self.permitted.as_ref();
        permitted.is_none_or(|names| names.iter().any(|name| lies_in(host, name)))
            && !self.excluded.iter().any(|name| lies_in(host, name))
    }
}

impl fmt::Display for NameLimits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.permitted {
            None => f.write_str("permitted: every name")?,
            Some(names) => write!(f, "permitted: {}", names.join(", "))?,
        }
        if self.excluded.is_empty() {
            return Ok(());
        }
        write!(f, "; excluded: {}", self.excluded.join(", "))
    }
}

/// A subtree holds its own name and everything below; with a leading dot only what is below,
/// as verifiers take it. An empty one holds all.
fn lies_in(host: &HostName, subtree: &str) -> bool {
    let host = host.as_str();
    match (subtree, subtree.strip_prefix('.')) {
        ("", _) => true,
        (_, Some(_)) => host.ends_with(subtree),
        (_, None) => {
            host.strip_suffix(subtree).is_some_and(|left| left.is_empty() || left.ends_with('.'))
        }
    }
}

/// Only these hosts, and no address at all.
pub(super) fn constraints(hosts: &BTreeSet<HostName>) -> NameConstraints {
    let host = |host: &HostName| GeneralSubtree::DnsName(host.as_str().to_owned());
    NameConstraints {
        permitted_subtrees: hosts.iter().map(host).collect(),
        excluded_subtrees: vec![
            GeneralSubtree::IpAddress(CidrSubnet::V4([0; 4], [0; 4])),
            GeneralSubtree::IpAddress(CidrSubnet::V6([0; 16], [0; 16])),
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subtree_holds_itself_and_what_is_below() {
        for (host, subtree, inside) in [
            ("api.push.apple.com", "api.push.apple.com", true),
            ("x.api.push.apple.com", "api.push.apple.com", true),
            ("xapi.push.apple.com", "api.push.apple.com", false),
            ("push.apple.com", "api.push.apple.com", false),
            ("corp.example", ".corp.example", false),
            ("a.corp.example", ".corp.example", true),
            ("acorp.example", ".corp.example", false),
            ("a.example", "", true),
        ] {
            let host: HostName = host.parse().unwrap();
            assert_eq!(lies_in(&host, subtree), inside, "{host} in {subtree}");
        }
    }

    #[test]
    fn exclusion_wins_over_permission() {
        let limits = NameLimits {
            permitted: Some(vec!["example".to_owned()]),
            excluded: vec!["secret.example".to_owned()],
        };
        assert!(limits.permits(&"a.example".parse().unwrap()));
        assert!(!limits.permits(&"a.secret.example".parse().unwrap()));
        assert!(!limits.permits(&"a.test".parse().unwrap()));
        assert!(NameLimits::default().permits(&"a.test".parse().unwrap()));
    }
}
