//! Chains and keys from PEM files.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::Identity;

/// Why a PEM file is no good.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// Not there, or not PEM.
    #[error("{} cannot be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
}

/// Reads a chain and its key.
///
/// # Errors
/// A file that cannot be read as PEM.
pub fn read_identity(chain: &Path, key: &Path) -> Result<Identity, PemError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        |source| PemError::Unreadable { path, source }
    };
    let certificates = CertificateDer::pem_file_iter(chain).map_err(unreadable(chain))?;
    let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(unreadable(chain))?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(unreadable(key))?;
    Ok(Identity { chain: certificates, key: private })
}
