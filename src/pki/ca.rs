//! The issuer that mints leaves.

/// An issuer.
#[derive(Debug)]
pub struct Issuer {}
