//! What a peer's certificate may chain to.
//!
//! Read once per load of the configuration; the dialer and the front door share the result.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::RootCertStore;
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;

use super::pem::{self, PemError};
use crate::config::RootSource;

/// Roots of an egress, a proxy or a listener.
#[derive(Debug)]
pub struct Roots {
    /// For rustls.
    pub store: Arc<RootCertStore>,
    /// Of these, the ones that stand in files only, by SubjectPublicKeyInfo as
    /// `TrustAnchor::subject_public_key_info` has it: a chain that ends at one was re-signed by
    /// an inspector.
    pub from_files: Vec<Vec<u8>>,
}

/// Why there are no roots.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// A PEM file cannot be used.
    #[error(transparent)]
    File(#[from] PemError),
    /// A certificate in a PEM file cannot be a root.
    #[error("{}: certificate {number} in it cannot be used as a root", path.display())]
    Anchor {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        number: usize,
        /// What the TLS library says.
        #[source]
        source: rustls::Error,
    },
    /// `system` gave nothing.
    #[error("this system has no root certificates (install ca-certificates, or use: bundled)")]
    NoSystemRoots {
        /// The first reason the system gave, if any.
        #[source]
        source: Option<rustls_native_certs::Error>,
    },
}

/// Reads every source into one set.
///
/// # Errors
/// A file is missing or holds no usable root; the system has none at all. Single unreadable
/// certificates of the system's store are skipped, as other programs on the machine do.
pub fn load(sources: &[RootSource]) -> Result<Roots, RootsError> {
    let mut elsewhere = RootCertStore::empty();
    let mut files = RootCertStore::empty();
    for source in sources {
        match source {
            RootSource::Bundled => {
                elsewhere.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
            RootSource::System => add_system(&mut elsewhere)?,
            RootSource::File(path) => {
                for (index, certificate) in pem::read_certificates(path)?.into_iter().enumerate() {
                    files.add(certificate).map_err(|source| RootsError::Anchor {
                        path: path.clone(),
                        number: index + 1,
                        source,
                    })?;
                }
            }
        }
    }
    let known = |spki: &[u8]| {
        elsewhere.roots.iter().any(|anchor| anchor.subject_public_key_info.as_ref() == spki)
    };
    let from_files = files
        .roots
        .iter()
        .map(|anchor| anchor.subject_public_key_info.as_ref())
        .filter(|spki| !known(spki))
        .map(<[u8]>::to_vec)
        .collect();
    elsewhere.extend(files.roots);
    Ok(Roots { store: Arc::new(elsewhere), from_files })
}

fn add_system(store: &mut RootCertStore) -> Result<(), RootsError> {
    let found = rustls_native_certs::load_native_certs();
    let (added, ignored) = store.add_parsable_certificates(found.certs);
    if added == 0 {
        return Err(RootsError::NoSystemRoots { source: found.errors.into_iter().next() });
    }
    if ignored > 0 || !found.errors.is_empty() {
        let unreadable = ignored + found.errors.len();
        tracing::debug!(unreadable, "some of the system's root certificates cannot be read");
    }
    Ok(())
}

impl Roots {
    /// Whether a server's chain, already verified against these roots, ends at a root that only
    /// a file brought: then an inspector stands on the path. `chain` is what the peer sent, leaf
    /// first. Costs a verification: once per dial, not per push.
    pub fn is_from_file(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> bool {
        if self.from_files.is_empty() {
            return false;
        }
        let mut files = RootCertStore::empty();
        let mut elsewhere = RootCertStore::empty();
        for anchor in &self.store.roots {
            let spki = anchor.subject_public_key_info.as_ref();
            let from_file = self.from_files.iter().any(|file| file == spki);
            let side = if from_file { &mut files } else { &mut elsewhere };
            side.roots.push(anchor.clone());
        }
        // Cross-signed chains may end at either; a public end means that nobody re-signed.
        ends_at(chain, &files, now) && !ends_at(chain, &elsewhere, now)
    }
}

fn ends_at(chain: &[CertificateDer<'_>], roots: &RootCertStore, now: SystemTime) -> bool {
    let Some((leaf, above)) = chain.split_first() else {
        return false;
    };
    let Ok(leaf) = ParsedCertificate::try_from(leaf) else {
        return false;
    };
    let algorithms = super::ca::signature_algorithms();
    verify_server_cert_signed_by_trust_anchor(
        &leaf,
        roots,
        above,
        super::unix_time(now),
        algorithms.all,
    )
    .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::ca::throwaway;

    #[test]
    fn a_chain_that_ends_at_a_file_root_was_re_signed() {
        let folder = tempfile::tempdir().unwrap();
        let inspector = throwaway(&["api.push.apple.com"]).unwrap();
        let stranger = throwaway(&["api.push.apple.com"]).unwrap();
        let file = folder.path().join("inspection-ca.pem");
        std::fs::write(&file, &inspector.root_pem).unwrap();
        let roots = load(&[RootSource::Bundled, RootSource::File(file)]).unwrap();
        assert_eq!(roots.from_files.len(), 1);
        assert!(roots.store.roots.len() > 100);

        let now = SystemTime::now();
        let host = "api.push.apple.com";
        assert!(roots.is_from_file(&inspector.identity(host).unwrap().chain, now));
        assert!(!roots.is_from_file(&stranger.identity(host).unwrap().chain, now));
        assert!(!roots.is_from_file(&[], now));
    }

    #[test]
    fn a_root_that_is_public_too_is_no_inspector() {
        let folder = tempfile::tempdir().unwrap();
        let authority = throwaway(&["api.push.apple.com"]).unwrap();
        let file = folder.path().join("root.pem");
        std::fs::write(&file, &authority.root_pem).unwrap();
        let mut roots = load(&[RootSource::File(file)]).unwrap();
        assert_eq!(roots.from_files.len(), 1);
        roots.from_files.clear();
        let chain = authority.identity("api.push.apple.com").unwrap().chain;
        assert!(!roots.is_from_file(&chain, SystemTime::now()));
    }

    #[test]
    fn a_missing_and_an_empty_file_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("roots.pem");
        let error = load(&[RootSource::File(file.clone())]).unwrap_err().to_string();
        assert!(error.contains("roots.pem") && error.contains("does not exist"), "{error}");
        std::fs::write(&file, "nothing\n").unwrap();
        let error = load(&[RootSource::File(file)]).unwrap_err().to_string();
        assert!(error.contains("no certificate"), "{error}");
    }
}
