//! The leaves that the front door serves, one or two for each host.
//!
//! Made whole at construction and again when one is due, then swapped in one step: the lookup on
//! the way of a handshake reads and never waits. Names that nobody routed get no leaf, so a
//! stranger's SNI can neither make the relay work nor make it speak for others.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use rcgen::KeyPair;
use rustls::SignatureAlgorithm;
use rustls::sign::CertifiedKey;

use super::ca::{BACKDATE, Issuer, LEAF_LIFETIME, LeafKey, MintError};
use super::{Identity, KeyFingerprint};
use crate::names::HostName;

/// Every leaf of the relay.
#[derive(Debug)]
pub struct LeafStore {
    issuer: Option<Arc<Issuer>>,
    brought: Vec<Brought>,
    hosts: BTreeSet<HostName>,
    table: ArcSwap<Table>,
}

/// What the store serves at a moment.
#[derive(Debug, Default)]
struct Table {
    minted: BTreeMap<HostName, Minted>,
    served: HashMap<HostName, Served>,
}

/// The minted leaves of a host.
#[derive(Debug, Clone)]
struct Minted {
    ecdsa: Arc<CertifiedKey>,
    rsa: Option<Arc<CertifiedKey>>,
    fingerprints: Vec<KeyFingerprint>,
    made: i64,
    not_after: i64,
}

/// By what the ClientHello can verify.
#[derive(Debug, Clone, Default)]
struct Served {
    ecdsa: Option<Arc<CertifiedKey>>,
    rsa: Option<Arc<CertifiedKey>>,
}

/// A leaf brought as a file.
#[derive(Debug)]
struct Brought {
    identity: Arc<Identity>,
    certified: Arc<CertifiedKey>,
    is_rsa: bool,
}

/// Why the store cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// The issuer cannot mint for these hosts; the first reason is the source.
    #[error("no leaf can be minted for: {}", list(hosts))]
    Mint {
        /// The hosts.
        hosts: Vec<HostName>,
        /// The reason for the first of them.
        #[source]
        source: MintError,
    },
    /// A brought leaf cannot be served.
    #[error("a leaf that was brought cannot be served ({})", names.join(", "))]
    Brought {
        /// Its names.
        names: Vec<String>,
        /// What the TLS library says.
        #[source]
        source: rustls::Error,
    },
}

/// What a renewal did.
#[derive(Debug, Default)]
pub struct Renewal {
    /// Hosts with a fresh leaf.
    pub renewed: Vec<HostName>,
    /// Hosts that keep the leaf they have, and why.
    pub failed: Vec<(HostName, MintError)>,
}

impl LeafStore {
    /// Mints a leaf for every host that no brought leaf covers. With an RSA issuer this takes up
    /// to a second.
    ///
    /// # Errors
    /// The issuer cannot mint for a host that no brought leaf covers, or a brought leaf cannot be
    /// served. A host without leaf because there is no issuer is no error: see
    /// [`Self::uncovered`].
    pub fn new(
        issuer: Option<Arc<Issuer>>,
        brought: Vec<Arc<Identity>>,
        hosts: BTreeSet<HostName>,
    ) -> Result<Self, LeafError> {
        Self::at(issuer, brought, hosts, SystemTime::now())
    }

    fn at(
        issuer: Option<Arc<Issuer>>,
        brought: Vec<Arc<Identity>>,
        hosts: BTreeSet<HostName>,
        now: SystemTime,
    ) -> Result<Self, LeafError> {
        let brought = brought.into_iter().map(Brought::new).collect::<Result<_, _>>()?;
        let store = Self { issuer, brought, hosts, table: ArcSwap::default() };
        let mut failed = store.renew(now).failed;
        // A brought leaf that has ended is still shown, with or without an issuer.
        failed.retain(|(host, _reason)| store.brought_for(host).next().is_none());
        let hosts = failed.iter().map(|(host, _reason)| host.clone()).collect();
        match failed.into_iter().next() {
            Some((_host, source)) => Err(LeafError::Mint { hosts, source }),
            None => Ok(store),
        }
    }

    /// The leaf for a routed host; `ecdsa_ok` says whether the ClientHello can verify ECDSA.
    /// Brought leaves win over minted ones while they are valid. Never waits.
    pub fn leaf(&self, host: &HostName, ecdsa_ok: bool) -> Option<Arc<CertifiedKey>> {
        let table = self.table.load();
        let served = table.served.get(host)?;
        match (ecdsa_ok, &served.ecdsa) {
            (true, Some(leaf)) => Some(leaf.clone()),
            (true, None) | (false, _) => served.rsa.clone(),
        }
    }

    /// Mints again what has lived two thirds of its life, and swaps it in; a leaf that cannot be
    /// renewed stays. To be called every hour, off the data plane: RSA keys take a moment.
    pub fn renew(&self, now: SystemTime) -> Renewal {
        let at = super::unix(now);
        // A brought leaf that ends before the next look would be shown when it has ended.
        let next = now + RENEW_EVERY;
        let mut renewal = Renewal::default();
        let mut minted = self.table.load().minted.clone();
        if let Some(issuer) = &self.issuer {
            // One RSA key for all: making one takes long, and they share a process anyway.
            let mut shared = None;
            for host in &self.hosts {
                if self.brought_for(host).any(|leaf| !leaf.identity.is_expired(next)) {
                    minted.remove(host);
                    continue;
                }
                if minted.get(host).is_some_and(|leaf| !leaf.is_due(issuer, at)) {
                    continue;
                }
                match Minted::new(issuer, host, &mut shared, now) {
                    Ok(leaf) => {
                        minted.insert(host.clone(), leaf);
                        renewal.renewed.push(host.clone());
                    }
                    Err(reason) => renewal.failed.push((host.clone(), reason)),
                }
            }
        }
        let served = self.hosts.iter().map(|host| (host.clone(), self.serve(host, &minted, next)));
        let served = served.collect();
        self.table.store(Arc::new(Table { minted, served }));
        renewal
    }

    /// Brought leaves that are valid then, minted ones, then expired ones: those at least say whose
    /// certificate has to be renewed.
    fn serve(
        &self,
        host: &HostName,
        minted: &BTreeMap<HostName, Minted>,
        then: SystemTime,
    ) -> Served {
        let mut served = Served::default();
        let valid = self.brought_for(host).filter(|leaf| !leaf.identity.is_expired(then));
        valid.for_each(|leaf| served.offer(leaf));
        if let Some(leaf) = minted.get(host) {
            served.ecdsa.get_or_insert_with(|| leaf.ecdsa.clone());
            served.rsa = served.rsa.take().or_else(|| leaf.rsa.clone());
        }
        if served.ecdsa.is_none() && served.rsa.is_none() {
            self.brought_for(host).for_each(|leaf| served.offer(leaf));
        }
        served
    }

    fn brought_for(&self, host: &HostName) -> impl Iterator<Item = &Brought> {
        self.brought.iter().filter(move |leaf| leaf.identity.covers(host))
    }

    /// Routed hosts that have no leaf at all: TLS for them ends in `unrecognized_name`.
    pub fn uncovered(&self) -> Vec<HostName> {
        let table = self.table.load();
        let bare = |host: &&HostName| {
            table.served.get(*host).is_none_or(|s| s.ecdsa.is_none() && s.rsa.is_none())
        };
        self.hosts.iter().filter(bare).cloned().collect()
    }

    /// Is there, for every host that is served at all, a leaf that has not ended? One that is not
    /// shown, as it has been replaced, may have.
    pub fn are_valid(&self, now: SystemTime) -> bool {
        let (table, at) = (self.table.load(), super::unix(now));
        let uncovered = self.uncovered();
        self.hosts.iter().filter(|host| !uncovered.contains(host)).all(|host| {
            table.minted.get(host).is_some_and(|leaf| leaf.not_after > at)
                || self.brought_for(host).any(|leaf| !leaf.identity.is_expired(now))
        })
    }

    /// What ends when: minted leaves by host, brought ones by their first name, and `issuer`;
    /// seconds since 1970.
    pub fn expiries(&self) -> Vec<(String, i64)> {
        let table = self.table.load();
        let minted = table.minted.iter().map(|(host, leaf)| (host.to_string(), leaf.not_after));
        let brought = self.brought.iter().filter_map(|leaf| {
            let name = leaf.identity.dns_names().into_iter().next();
            Some((name.unwrap_or_else(|| "unnamed".to_owned()), leaf.identity.not_after()?))
        });
        let issuer =
            self.issuer.iter().map(|issuer| (super::ISSUER.to_owned(), issuer.not_after()));
        minted.chain(brought).chain(issuer).collect()
    }

    /// The keys of every leaf and of the issuer: a peer that shows one of them is this relay.
    pub fn own_keys(&self) -> Vec<KeyFingerprint> {
        let table = self.table.load();
        let minted = table.minted.values().flat_map(|leaf| leaf.fingerprints.iter().copied());
        let brought = self.brought.iter().filter_map(|leaf| leaf.identity.key_fingerprint());
        let mut keys: Vec<_> = minted.chain(brought).chain(self.issuer_key()).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The issuer's key: a peer whose chain holds it is a relay that shares our issuer.
    pub fn issuer_key(&self) -> Option<KeyFingerprint> {
        self.issuer.as_ref().map(|issuer| issuer.key_fingerprint())
    }
}

impl Minted {
    fn new(
        issuer: &Issuer,
        host: &HostName,
        shared: &mut Option<KeyPair>,
        now: SystemTime,
    ) -> Result<Self, MintError> {
        let ecdsa = issuer.mint(host, LeafKey::P256, LEAF_LIFETIME, now)?;
        let mut identities = vec![ecdsa];
        if issuer.is_rsa() {
            let key = match shared.take() {
                Some(key) => key,
                None => LeafKey::Rsa2048
                    .generate()
                    .map_err(|source| MintError::Sign { host: host.clone(), source })?,
            };
            let rsa = issuer.mint_for_key(host, &key, LEAF_LIFETIME, now);
            *shared = Some(key);
            identities.push(rsa?);
        }
        let certify = |identity: &Identity| {
            identity
                .certified()
                .map(Arc::new)
                .map_err(|source| MintError::Verify { host: host.clone(), source })
        };
        Ok(Self {
            ecdsa: certify(&identities[0])?,
            rsa: identities.get(1).map(certify).transpose()?,
            fingerprints: identities.iter().filter_map(Identity::key_fingerprint).collect(),
            made: super::unix(now),
            not_after: identities.iter().filter_map(Identity::not_after).min().unwrap_or_default(),
        })
    }

    /// At two thirds of its life; but when the issuer's own end cut it short, a new one would
    /// end no later. Or not valid yet: it was made while the clock was ahead.
    const fn is_due(&self, issuer: &Issuer, now: i64) -> bool {
        if now.saturating_add(BACKDATE) < self.made {
            return true;
        }
        let life = self.not_after.saturating_sub(self.made);
        let due = self.made.saturating_add(life / 3 * 2);
        now >= due && self.not_after < issuer.not_after()
    }
}

impl Served {
    fn offer(&mut self, leaf: &Brought) {
        let slot = if leaf.is_rsa { &mut self.rsa } else { &mut self.ecdsa };
        slot.get_or_insert_with(|| leaf.certified.clone());
    }
}

impl Brought {
    fn new(identity: Arc<Identity>) -> Result<Self, LeafError> {
        let certified = identity
            .certified()
            .map_err(|source| LeafError::Brought { names: identity.dns_names(), source })?;
        let is_rsa = certified.key.algorithm() == SignatureAlgorithm::RSA;
        Ok(Self { identity, certified: Arc::new(certified), is_rsa })
    }
}

fn list(hosts: &[HostName]) -> String {
    hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}

/// How often [`LeafStore::renew`] is to be called: an issuer's last day still gets its leaf.
pub const RENEW_EVERY: Duration = Duration::from_secs(3_600);

#[cfg(test)]
mod tests;
