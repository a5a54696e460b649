//! What a probe stands on: the relay's own dialer, and variants of it for control rungs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::ask::Ask;
use super::ladder::Aim;
use crate::config::material::Material;
use crate::config::{Config, Egress, EgressName, Invalid, RootSource};
use crate::names::Authority;
use crate::pki::roots::{self, Roots};
use crate::upstream::dial::{Dialer, DialerError, Patience};
use crate::upstream::ourselves::Ourselves;
use crate::upstream::proxy_auth::latch::Latches;

/// A probe is at least as patient as a push: a slow hop is to be named, not to be missed. The
/// whole with SETTINGS, PING and request stays below [`super::WHOLE`].
const PATIENCE: Patience = Patience {
    resolve: Duration::from_millis(3000),
    tcp: Duration::from_millis(2500),
    proxy_tls: Duration::from_millis(1500),
    connect: Duration::from_millis(4500),
    connect_elsewhere: Duration::from_millis(4500),
    tls: Duration::from_millis(3500),
    whole: Duration::from_secs(8),
};

/// Why there is nothing to stand on.
#[derive(Debug, thiserror::Error)]
pub enum GroundError {
    /// relay.yaml or a file that it names.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A proxy's credentials or roots cannot be used.
    #[error(transparent)]
    Dialer(#[from] DialerError),
    /// A file of public roots cannot be used.
    #[error("the roots cannot be used")]
    Roots(#[from] roots::RootsError),
}

/// Dialers over one configuration in which each egress has one proxy at most.
#[derive(Debug)]
pub struct Ground {
    /// The ways out, those of several proxies taken apart.
    pub egress: BTreeMap<EgressName, Arc<Egress>>,
    /// As traffic dials.
    pub dialer: Dialer,
    /// Without the post-quantum key share: its hello fits one packet.
    pub small: Dialer,
    /// Without proxies; only where somebody may ask for it.
    pub direct: Option<Dialer>,
    /// Other hosts that may be asked.
    pub references: Vec<Authority>,
    /// Somebody named an inspector's roots.
    pub declared: bool,
}

/// The name of each egress in relay.yaml and of its parts, one for each proxy.
pub type Parts = BTreeMap<EgressName, Vec<EgressName>>;

/// Takes each list of proxies apart, so that every proxy gets a ladder.
pub fn apart(mut config: Config) -> (Config, Parts) {
    let mut parts = Parts::new();
    for (name, egress) in std::mem::take(&mut config.egress) {
        if egress.proxies.len() < 2 {
            parts.insert(name.clone(), vec![name.clone()]);
            config.egress.insert(name, egress);
            continue;
        }
        for proxy in &egress.proxies {
            let part = EgressName(format!("{name}/{}", proxy.authority).into());
            let alone = Egress {
                name: part.clone(),
                proxies: vec![proxy.clone()],
                ..Egress::clone(&egress)
            };
            parts.entry(name.clone()).or_default().push(part.clone());
            config.egress.insert(part, Arc::new(alone));
        }
    }
    (config, parts)
}

impl Ground {
    /// Reads what the configuration names. `public` are root files that are no inspector's.
    ///
    /// # Errors
    /// A file cannot be read, or credentials or roots cannot be used.
    pub fn new(config: &Config, public: &[RootSource]) -> Result<Self, GroundError> {
        let own = Arc::new(Ourselves::default());
        let listening = config.listeners.iter().flat_map(|listener| &listener.bind);
        own.set_listening(listening.copied().filter(|bound| bound.port() != 0).collect());
        let public = if public.is_empty() { None } else { Some(roots::load(public)?) };
        let dialer = |change: &dyn Fn(&mut Egress)| {
            let mut changed = config.clone();
            for egress in changed.egress.values_mut() {
                let mut one = Egress::clone(egress);
                change(&mut one);
                *egress = Arc::new(one);
            }
            let mut material = Material::load(&changed)?;
            if let Some(public) = &public {
                declare_public(&mut material, public);
            }
            if let Some(issuer) = &material.issuer {
                own.set_issuers(issuer.chain());
            }
            let leaves = material.leaves.iter().filter_map(|leaf| leaf.key_fingerprint());
            own.set_keys(leaves.collect());
            let dialer = Dialer::new(&changed, &material, Arc::clone(&own))?;
            Ok::<_, GroundError>(dialer.with_patience(PATIENCE))
        };
        Ok(Self {
            egress: config.egress.clone(),
            dialer: dialer(&|_as_it_is| {})?,
            small: dialer(&|egress| egress.post_quantum = false)?,
            direct: Some(dialer(&|egress| egress.proxies.clear())?),
            references: references(config),
            declared: false,
        })
    }

    /// In a relay that runs: its configuration and files, its latches, so that a wrong password is
    /// not tried once more for the sake of a probe.
    ///
    /// # Errors
    /// As [`Dialer::new`].
    pub fn running(
        config: &Config,
        material: &Material,
        own: &Arc<Ourselves>,
        latches: &Arc<Latches>,
    ) -> Result<Self, DialerError> {
        let dialer = |config: &Config| {
            let (own, latches) = (Arc::clone(own), Arc::clone(latches));
            Ok(Dialer::sharing(config, material, own, latches)?.with_patience(PATIENCE))
        };
        let mut small = config.clone();
        for egress in small.egress.values_mut() {
            Arc::make_mut(egress).post_quantum = false;
        }
        let mut ground = Self {
            egress: config.egress.clone(),
            dialer: dialer(config)?,
            small: dialer(&small)?,
            direct: None,
            references: references(config),
            declared: false,
        };
        ground.references = ground.controls([]);
        Ok(ground)
    }

    /// Whether root files are the origin's own and no inspector's: the origin is nobody's public
    /// service or another relay, and its egress trusts files only. A file beside the public roots
    /// is there for a box that re-signs, and so is one that vouches for Apple or Google.
    pub fn is_private(&self, aim: &Aim) -> bool {
        let roots = self.egress.get(&aim.egress).map(|egress| egress.roots.as_slice());
        let files = |root: &RootSource| matches!(root, RootSource::File(_));
        let own = aim.ask == Ask::Own || aim.relay_next_hop;
        own && !self.declared && roots.is_some_and(|roots| roots.iter().all(files))
    }

    /// Whom control rungs may ask for, best first: another probed or routed host, else the other
    /// provider.
    pub fn controls(&self, probed: impl IntoIterator<Item = Authority>) -> Vec<Authority> {
        let known = ["fcm.googleapis.com:443", "api.push.apple.com:443"];
        let known = known.into_iter().filter_map(|text| text.parse().ok());
        // Hosts of another provider first: a filter by category is blind for Apple's siblings.
        let (other, same): (Vec<Authority>, Vec<Authority>) = probed
            .into_iter()
            .chain(self.references.iter().cloned())
            .chain(known)
            .partition(|authority| !authority.host.to_string().ends_with(".push.apple.com"));
        other.into_iter().chain(same).collect()
    }

    /// The proxy of an egress.
    pub fn proxy(&self, egress: &EgressName) -> Option<&crate::config::EgressProxy> {
        self.egress.get(egress).and_then(|egress| egress.proxies.first())
    }
}

/// A root that the operator calls public is nobody's inspection.
fn declare_public(material: &mut Material, public: &Roots) {
    for egress in material.egress.values_mut() {
        let known = |spki: &Vec<u8>| {
            let mut anchors = public.store.roots.iter();
            anchors.any(|anchor| anchor.subject_public_key_info.as_ref() == spki.as_slice())
        };
        let from_files = egress.roots.from_files.iter().filter(|spki| !known(spki));
        let roots = Roots {
            store: Arc::clone(&egress.roots.store),
            from_files: from_files.cloned().collect(),
        };
        egress.roots = Arc::new(roots);
    }
}

/// Every routed provider host, in the order written.
fn references(config: &Config) -> Vec<Authority> {
    let mut seen = BTreeSet::new();
    let hosts = config.routes.iter().flat_map(|route| &route.hosts);
    hosts
        .filter_map(|host| Some(Authority::new(host.origin.clone(), *host.ports.first()?)))
        .filter(|authority| seen.insert(authority.clone()))
        .collect()
}
