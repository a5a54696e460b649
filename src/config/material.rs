//! Everything that the configuration names but does not hold: keys, chains, roots, passwords.
//!
//! Read in one go, every problem collected; read again when the files change. `check` without
//! `--syntax` reads it and throws it away.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::problem::Findings;
use super::{
    Config, Egress, EgressName, EgressProxy, Invalid, KeyPairFiles, Listener, NextHop,
    ProxyCredentials, RootSource, Route, Secret, SecretSource, TlsMode, raw,
};
use crate::names::HostName;
use crate::pki::ca::{CaError, Issuer};
use crate::pki::roots::{self, Roots};
use crate::pki::{Identity, pem};

mod secrets;

pub use secrets::SecretError;

/// What was read.
#[derive(Debug, Default)]
pub struct Material {
    /// Mints leaves.
    pub issuer: Option<Arc<Issuer>>,
    /// Leaves brought as files.
    pub leaves: Vec<Arc<Identity>>,
    /// In the order of `Config::listeners`.
    pub listeners: Vec<ListenerMaterial>,
    /// In the order of `Config::routes`.
    pub routes: Vec<RouteMaterial>,
    /// By egress.
    pub egress: BTreeMap<EgressName, EgressMaterial>,
    /// The admin server's token.
    pub admin_token: Option<Secret>,
}

/// What a listener needs.
#[derive(Debug, Default)]
pub struct ListenerMaterial {
    /// Roots of `sender_certificates`.
    pub sender_roots: Option<Arc<Roots>>,
    /// The password of `connect_credentials`.
    pub connect_password: Option<Secret>,
    /// Keys of `signatures`.
    pub signature_keys: Vec<Secret>,
}

/// What a route needs.
#[derive(Debug, Default)]
pub struct RouteMaterial {
    /// `provider_identity`.
    pub identity: Option<Arc<Identity>>,
    /// `next_hop.relay.sign_with`.
    pub sign_with: Option<Secret>,
}

/// What an egress needs.
#[derive(Debug)]
pub struct EgressMaterial {
    /// What origins may chain to.
    pub roots: Arc<Roots>,
    /// In the order of `Egress::proxies`.
    pub proxies: Vec<ProxyMaterial>,
}

/// What a proxy needs.
#[derive(Debug)]
pub struct ProxyMaterial {
    /// The password of Basic or NTLM.
    pub password: Option<Secret>,
    /// What an `https://` proxy may chain to.
    pub roots: Option<Arc<Roots>>,
}

impl Material {
    /// Reads everything that the configuration names.
    ///
    /// # Errors
    /// Every problem of every file, by its key in relay.yaml and its own name.
    pub fn load(config: &Config) -> Result<Self, Invalid> {
        let mut reading = Reading { findings: Findings::new(&config.places) };
        let issuer = reading.issuer(config);
        let leaves = config.leaves.iter().enumerate();
        let leaves: Vec<Arc<Identity>> = leaves
            .filter_map(|(index, pair)| reading.identity(&format!("leaves[{index}]"), pair))
            .collect();
        match &issuer {
            Some(issuer) => reading.every_host_is_permitted(config, issuer, &leaves),
            None if reading.findings.problems.is_empty() => {
                reading.some_host_has_a_leaf(config, &leaves);
            }
            None => {}
        }
        let listeners = config.listeners.iter().enumerate();
        let listeners = listeners
            .map(|(index, listener)| reading.listener(&format!("listeners[{index}]"), listener))
            .collect();
        let routes = config.routes.iter().enumerate();
        let routes = routes
            .map(|(index, route)| reading.route(&format!("routes[{index}]"), route))
            .collect();
        let egress = config.egress.values();
        let egress = egress
            .filter_map(|egress| Some((egress.name.clone(), reading.egress(egress)?)))
            .collect();
        let token = config.admin.token.as_ref();
        let admin_token = token.and_then(|token| reading.password("admin.token", token));
        reading.audit(config);
        match Invalid::from_problems(&config.path, reading.findings.problems) {
            Some(invalid) => Err(invalid),
            None => Ok(Self { issuer, leaves, listeners, routes, egress, admin_token }),
        }
    }
}

/// Reads file after file and goes on after a problem.
struct Reading<'c> {
    findings: Findings<'c>,
}

impl Reading<'_> {
    fn secret(&mut self, at: &str, source: &SecretSource) -> Option<Secret> {
        match secrets::read(source, &|name| std::env::var_os(name)) {
            Ok(secret) => Some(secret),
            Err(error) => {
                self.findings.add(at, error.to_string(), error.hint());
                None
            }
        }
    }

    /// The audit log is made at the start; its folder is not.
    fn audit(&mut self, config: &Config) {
        let folder = config.audit.path.as_deref().and_then(Path::parent);
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            self.findings.add(
                "audit.path",
                format!("the folder {} does not exist", folder.display()),
                "make it, writable for the relay's user",
            );
        }
    }

    /// A password or token: one line of text.
    fn password(&mut self, at: &str, source: &SecretSource) -> Option<Secret> {
        match secrets::read_text(source, &|name| std::env::var_os(name)) {
            Ok(secret) => Some(secret),
            Err(error) => {
                self.findings.add(at, error.to_string(), error.hint());
                None
            }
        }
    }

    fn identity(&mut self, at: &str, pair: &KeyPairFiles) -> Option<Arc<Identity>> {
        match pem::read_identity(&pair.chain, &pair.key) {
            Ok(identity) => Some(Arc::new(identity)),
            Err(error) => {
                self.findings.add(at, with_sources(&error), key_pair_hint(pair));
                None
            }
        }
    }

    /// The issuer as written; else the default one, when its files exist.
    fn issuer(&mut self, config: &Config) -> Option<Arc<Issuer>> {
        let pair = config.issuer_files();
        if config.issuer.is_none() {
            match (pair.chain.exists(), pair.key.exists()) {
                (true, true) => {}
                (false, false) => return None,
                (true, false) | (false, true) => {
                    let missing = if pair.chain.exists() { &pair.key } else { &pair.chain };
                    self.findings.add(
                        "issuer",
                        format!("half of the default issuer is missing: {}", missing.display()),
                        "put it there, or name both files in `issuer:`",
                    );
                    return None;
                }
            }
        }
        match Issuer::load(&pair.chain, &pair.key) {
            Ok(issuer) => Some(Arc::new(issuer)),
            Err(error) => {
                let hint = if let CaError::Expired { .. } = error {
                    "`pushrelay ca extend --root-key FILE` signs it again (or the CA that made \
                     it); senders change nothing"
                        .to_owned()
                } else {
                    key_pair_hint(&pair)
                };
                self.findings.add("issuer", with_sources(&error), hint);
                None
            }
        }
    }

    /// The issuer is bound to the hosts of the day on which it was signed; routes come later.
    fn every_host_is_permitted(
        &mut self,
        config: &Config,
        issuer: &Issuer,
        leaves: &[Arc<Identity>],
    ) {
        if !config.ends_tls() {
            return;
        }
        let strange =
            |host: &HostName| !issuer.permits(host) && !leaves.iter().any(|leaf| leaf.covers(host));
        let ended = |route: &Route| route.tls == TlsMode::Terminate;
        for (index, route) in config.routes.iter().enumerate().filter(|(_, route)| ended(route)) {
            let hosts = route.hosts.iter().map(|host| &host.host).filter(|host| strange(host));
            let hosts: Vec<_> = hosts.map(HostName::as_str).collect();
            if !hosts.is_empty() {
                self.findings.add(
                    &format!("routes[{index}]"),
                    format!("the issuer may not speak for {}", hosts.join(", ")),
                    "`pushrelay ca extend --root-key FILE` adds every host of relay.yaml; senders \
                     change nothing",
                );
            }
        }
    }

    /// Without an issuer some host needs a leaf that was brought. Not every one: whoever brings a
    /// leaf for one name of a preset means that name.
    fn some_host_has_a_leaf(&mut self, config: &Config, leaves: &[Arc<Identity>]) {
        let hosts = config.hosts();
        // Carried TLS needs no certificate of ours, so a passthrough relay needs no CA.
        if hosts.is_empty() || !config.ends_tls() {
            return;
        }
        let hint =
            "`pushrelay ca init --root-key FILE` makes an issuer, or bring leaves in `leaves:`";
        if leaves.is_empty() {
            let pair = config.issuer_files();
            let message =
                format!("there is neither an issuer ({}) nor a leaf", pair.chain.display());
            self.findings.add("issuer", message, hint);
            return;
        }
        let covered = hosts.iter().any(|host| leaves.iter().any(|leaf| leaf.covers(host)));
        if !covered && let Some(host) = hosts.first() {
            let message = format!("no leaf covers any routed host, such as {host}");
            self.findings.add("leaves", message, hint);
        }
    }

    /// Roots, and which of them are at fault.
    fn roots(&mut self, at: &str, sources: &[RootSource]) -> Option<Arc<Roots>> {
        let error = match roots::load(sources) {
            Ok(roots) => return Some(Arc::new(roots)),
            Err(error) => error,
        };
        let hint = "write bundled, system, or a PEM file of certificates";
        let before = self.findings.problems.len();
        for (index, source) in sources.iter().enumerate() {
            if let Err(error) = roots::load(std::slice::from_ref(source)) {
                self.findings.add(&format!("{at}[{index}]"), with_sources(&error), hint);
            }
        }
        if self.findings.problems.len() == before {
            self.findings.add(at, with_sources(&error), hint);
        }
        None
    }

    fn listener(&mut self, at: &str, listener: &Listener) -> ListenerMaterial {
        let certificates = listener.sender_certificates.as_ref();
        let asked = listener.connect_credentials.as_ref();
        let keys = listener.signatures.iter().enumerate();
        ListenerMaterial {
            sender_roots: certificates
                .and_then(|one| self.roots(&format!("{at}.sender_certificates.roots"), &one.roots)),
            connect_password: asked.and_then(|asked| {
                self.password(&format!("{at}.connect_credentials.basic.password"), &asked.password)
            }),
            signature_keys: keys
                .filter_map(|(index, key)| {
                    self.secret(&format!("{at}.signatures.keys[{index}]"), key)
                })
                .collect(),
        }
    }

    fn route(&mut self, at: &str, route: &Route) -> RouteMaterial {
        let identity = route.provider_identity.as_ref();
        let sign_with = match &route.next_hop {
            NextHop::Origin => None,
            NextHop::Relay { sign_with } => sign_with.as_ref(),
        };
        RouteMaterial {
            identity: identity
                .and_then(|pair| self.identity(&format!("{at}.provider_identity"), pair)),
            sign_with: sign_with
                .and_then(|key| self.secret(&format!("{at}.next_hop.relay.sign_with"), key)),
        }
    }

    fn egress(&mut self, egress: &Egress) -> Option<EgressMaterial> {
        let at = raw::join("egress", &egress.name.to_string());
        let proxies = egress.proxies.iter().enumerate();
        let proxies = proxies
            .map(|(index, proxy)| self.proxy(&format!("{at}.proxies[{index}]"), proxy))
            .collect();
        let roots = self.roots(&format!("{at}.roots"), &egress.roots)?;
        Some(EgressMaterial { roots, proxies })
    }

    fn proxy(&mut self, at: &str, proxy: &EgressProxy) -> ProxyMaterial {
        let password = match &proxy.credentials {
            Some(ProxyCredentials::Basic(basic)) => Some(("basic", &basic.password)),
            Some(ProxyCredentials::Ntlm { basic, .. }) => Some(("ntlm", &basic.password)),
            Some(ProxyCredentials::Negotiate { .. }) | None => None,
        };
        ProxyMaterial {
            password: password.and_then(|(kind, source)| {
                self.password(&format!("{at}.credentials.{kind}.password"), source)
            }),
            roots: if proxy.tls { self.roots(&format!("{at}.roots"), &proxy.roots) } else { None },
        }
    }
}

fn key_pair_hint(pair: &KeyPairFiles) -> String {
    if !pair.chain.exists() && !pair.key.exists() {
        return format!(
            "`pushrelay ca init --root-key FILE` makes an issuer; if you have one, put it at {} and {}",
            pair.chain.display(),
            pair.key.display()
        );
    }
    format!(
        "check {} (PEM, leaf first) and {} (PEM, not encrypted)",
        pair.chain.display(),
        pair.key.display()
    )
}

/// An error and its causes in one line.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests;
