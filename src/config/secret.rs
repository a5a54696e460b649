//! Secrets: where they are and what they are. `Debug` and `Display` never show one.

use std::path::PathBuf;

/// Where a secret is to be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A systemd credential, in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// An environment variable.
    Env(String),
    /// A file; one trailing line end is dropped.
    File(PathBuf),
}

/// A password, token or key. Wiped when dropped.
#[derive(Debug, Clone)]
pub struct Secret(secrecy::SecretSlice<u8>);

impl Secret {
    /// Takes a value over.
    pub fn new(value: Vec<u8>) -> Self {
        Self(value.into())
    }

    /// The value; every call is a place to review.
    pub fn expose(&self) -> &[u8] {
        secrecy::ExposeSecret::expose_secret(&self.0)
    }
}
