//! The issuer that mints leaves.

/// An issuer.
#[derive(Debug)]
pub struct Issuer {}

/// Why an issuer could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// Its files.
    #[error(transparent)]
    Pem(#[from] super::pem::PemError),
}

impl Issuer {
    /// Loads an issuer.
    ///
    /// # Errors
    /// Files that cannot be read.
    pub fn load(chain: &std::path::Path, key: &std::path::Path) -> Result<Self, CaError> {
        super::pem::read_identity(chain, key)?;
        Ok(Self {})
    }
}
