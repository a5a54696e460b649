//! Which files a configuration names, and whether they changed.
//!
//! By polling: editors, configuration management and Kubernetes replace files by rename, which
//! watches on the file itself miss, and a few stats every some seconds cost nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use crate::config::{
    Config, EgressProxy, KeyPairFiles, NextHop, ProxyCredentials, RootSource, SecretSource,
};

/// Size and time of each file; a file that cannot be read has none.
#[derive(Debug, PartialEq, Eq)]
pub struct Fingerprints(BTreeMap<PathBuf, Option<(u64, SystemTime)>>);

impl Fingerprints {
    /// As they are now.
    pub fn of(config: &Config) -> Self {
        let seen = |path: PathBuf| {
            let metadata = std::fs::metadata(&path).ok();
            let print = metadata.and_then(|file| Some((file.len(), file.modified().ok()?)));
            (path, print)
        };
        Self(files(config).into_iter().map(seen).collect())
    }
}

fn files(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    pair(&mut files, &config.issuer_files());
    for leaf in &config.leaves {
        pair(&mut files, leaf);
    }
    for listener in &config.listeners {
        for key in &listener.signatures {
            secret(&mut files, key);
        }
        if let Some(credentials) = &listener.connect_credentials {
            secret(&mut files, &credentials.password);
        }
        if let Some(certificates) = &listener.sender_certificates {
            roots(&mut files, &certificates.roots);
        }
    }
    for route in &config.routes {
        if let Some(identity) = &route.provider_identity {
            pair(&mut files, identity);
        }
        if let NextHop::Relay { sign_with: Some(key) } = &route.next_hop {
            secret(&mut files, key);
        }
    }
    for egress in config.egress.values() {
        roots(&mut files, &egress.roots);
        for proxy in &egress.proxies {
            roots(&mut files, &proxy.roots);
            password(&mut files, proxy);
        }
    }
    if let Some(token) = &config.admin.token {
        secret(&mut files, token);
    }
    files
}

fn pair(files: &mut Vec<PathBuf>, pair: &KeyPairFiles) {
    files.extend([pair.chain.clone(), pair.key.clone()]);
}

fn password(files: &mut Vec<PathBuf>, proxy: &EgressProxy) {
    match &proxy.credentials {
        Some(ProxyCredentials::Basic(basic) | ProxyCredentials::Ntlm { basic, .. }) => {
            secret(files, &basic.password);
        }
        Some(ProxyCredentials::Negotiate { .. }) | None => {}
    }
}

fn secret(files: &mut Vec<PathBuf>, source: &SecretSource) {
    match source {
        SecretSource::File(path) => files.push(path.clone()),
        // Neither changes while the process lives.
        SecretSource::Credential(_) | SecretSource::Env(_) => {}
    }
}

fn roots(files: &mut Vec<PathBuf>, sources: &[RootSource]) {
    for source in sources {
        match source {
            RootSource::File(path) => files.push(path.clone()),
            RootSource::Bundled | RootSource::System => {}
        }
    }
}
