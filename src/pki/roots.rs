//! What a peer's certificate may chain to.
//!
//! Read once per load of the configuration; the dialer and the front door share the result.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::RootCertStore;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::ca::throwaway;

    #[test]
    fn roots_of_files_are_told_from_public_ones() {
        let folder = tempfile::tempdir().unwrap();
        let inspector = throwaway(&["api.push.apple.com"]).unwrap();
        let file = folder.path().join("inspection-ca.pem");
        std::fs::write(&file, &inspector.root_pem).unwrap();
        let roots = load(&[RootSource::Bundled, RootSource::File(file)]).unwrap();
        assert_eq!(roots.from_files.len(), 1);
        assert!(roots.store.roots.len() > 100);
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
