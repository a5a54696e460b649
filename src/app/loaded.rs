//! A configuration with everything that it names, ready to be served.

use std::sync::Arc;
use std::time::SystemTime;

use rustls::sign::CertifiedKey;

use crate::config::Config;
use crate::config::material::Material;
use crate::downstream::listener::{HostRule, Hosts};
use crate::downstream::tls::{CertificateSource, TlsPlan};
use crate::names::HostName;
use crate::pki::leaf::{LeafError, LeafStore};
use crate::relay::route::RouteTable;
use crate::upstream::dial::Dialer;
use crate::upstream::ourselves::Ourselves;

/// Read, checked, minted. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Arc<Config>,
    /// The files that it names.
    pub material: Arc<Material>,
    /// The leaves of every terminated host.
    pub leaves: Arc<LeafStore>,
    /// The routes' hosts.
    pub hosts: Arc<RoutedHosts>,
}

/// Why it cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadedError {
    /// A hostname is to be ended here, and there is no certificate for it.
    #[error(
        "no leaf for {0}, and no issuer to mint one: `pushrelay ca init --root-key FILE` makes an \
         issuer, `leaves:` names certificates of your own, `tls: passthrough` needs none"
    )]
    NoLeaf(HostName),
    /// The issuer cannot mint.
    #[error("the leaves cannot be minted")]
    Leaves(#[from] LeafError),
    /// TLS of a listener cannot be set up.
    #[error("listener {listener}: TLS cannot be set up")]
    Tls {
        /// Whose.
        listener: String,
        /// Why.
        #[source]
        source: crate::downstream::tls::TlsPlanError,
    },
    /// An egress cannot be used.
    #[error("the egress cannot be set up")]
    Dialer(#[from] crate::upstream::dial::DialerError),
}

impl Loaded {
    /// Mints what is to be minted.
    pub fn new(config: Config, material: Material) -> Result<Self, LoadedError> {
        // A relay that only takes plain HTTP shows no certificate.
        let hosts = if config.ends_tls() { config.hosts() } else { Default::default() };
        let terminated = hosts.len();
        let leaves = LeafStore::new(material.issuer.clone(), material.leaves.clone(), hosts)?;
        // Whoever brings a leaf for one name of a preset means that name. With none at all, nobody
        // could ever connect.
        let uncovered = leaves.uncovered();
        if uncovered.len() == terminated
            && let Some(host) = uncovered.first()
        {
            return Err(LoadedError::NoLeaf(host.clone()));
        }
        for host in &uncovered {
            tracing::warn!(%host, "no certificate for this name: senders that ask for it are refused");
        }
        let hosts = Arc::new(RoutedHosts(RouteTable::new(&config)));
        Ok(Self {
            config: Arc::new(config),
            material: Arc::new(material),
            leaves: Arc::new(leaves),
            hosts,
        })
    }

    /// Makes what serving needs beyond leaves and sockets and throws it away.
    ///
    /// # Errors
    /// What would keep the relay from starting.
    pub fn rehearse(&self) -> Result<(), LoadedError> {
        Dialer::new(&self.config, &self.material, Arc::default())?;
        for index in 0..self.config.listeners.len() {
            self.tls_plan(index)?;
        }
        Ok(())
    }

    /// TLS of a listener; `None` where it shows no certificate.
    pub(super) fn tls_plan(&self, index: usize) -> Result<Option<TlsPlan>, LoadedError> {
        let Some(listener) = self.config.listeners.get(index) else { return Ok(None) };
        if !(listener.accept.tls || listener.accept.connect) {
            return Ok(None);
        }
        let material = self.material.listeners.get(index);
        let roots = material.and_then(|material| material.sender_roots.as_ref());
        let plan = TlsPlan::new(listener, roots, self.leaves.clone(), self.hosts.clone());
        let failed = |source| LoadedError::Tls { listener: listener.name.clone(), source };
        plan.map(Some).map_err(failed)
    }

    /// Re-mints leaves that are due; a failure is logged and the old leaf stays.
    pub(super) fn renew(&self) {
        let renewal = self.leaves.renew(SystemTime::now());
        for host in &renewal.renewed {
            tracing::info!(%host, "leaf renewed");
        }
        for (host, error) in &renewal.failed {
            tracing::error!(%host, %error, "leaf cannot be renewed");
        }
    }

    /// Every leaf that is served is valid now.
    pub(super) fn leaves_are_valid(&self) -> bool {
        self.leaves.are_valid(SystemTime::now())
    }

    /// Says what is ours, so that a loop is recognised.
    pub(super) fn tell(&self, own: &Ourselves) {
        own.set_keys(self.leaves.own_keys());
        if let Some(issuer) = &self.material.issuer {
            own.set_issuers(issuer.chain());
        }
    }
}

/// The route table as the front door asks it.
#[derive(Debug)]
pub struct RoutedHosts(RouteTable);

impl Hosts for RoutedHosts {
    fn find(&self, host: &HostName) -> Option<HostRule> {
        let rule = self.0.host_rule(host)?;
        Some(HostRule {
            tls: rule.tls,
            ports: rule.ports,
            cleartext: rule.cleartext,
            origins: rule.origins,
            apns: rule.apns,
            route_index: rule.first.index,
        })
    }
}

impl CertificateSource for LeafStore {
    fn leaf(&self, host: &HostName, ecdsa_ok: bool) -> Option<Arc<CertifiedKey>> {
        Self::leaf(self, host, ecdsa_ok)
    }
}
