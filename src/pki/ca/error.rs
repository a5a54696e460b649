//! What goes wrong with an issuer, in words for the operator.

use super::{NameLimits, SignError};
use crate::names::{HostName, NameError};
use crate::pki::pem::PemError;

/// Why a chain and a key are no issuer.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be used.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A certificate that may not issue.
    #[error("certificate {number} of the chain is no CA certificate")]
    NotACa {
        /// Counted from 1.
        number: usize,
    },
    /// A key usage without keyCertSign (RFC 5280 §4.2.1.3).
    #[error(
        "the key usage of certificate {number} of the chain does not allow signing certificates"
    )]
    MayNotSign {
        /// Counted from 1.
        number: usize,
    },
    /// An extended key usage without serverAuth.
    #[error("certificate {number} of the chain may not issue for TLS servers (extended key usage)")]
    NotForServers {
        /// Counted from 1.
        number: usize,
    },
    /// Too many CAs below one that limits their number (RFC 5280 §4.2.1.9).
    #[error("certificate {number} of the chain allows fewer CAs below it than there are")]
    PathLength {
        /// Counted from 1.
        number: usize,
    },
    /// It is over.
    #[error("certificate {number} of the chain has expired")]
    Expired {
        /// Counted from 1.
        number: usize,
    },
    /// Not yet; or the clock is wrong.
    #[error("certificate {number} of the chain is not valid yet; check this machine's clock")]
    NotYetValid {
        /// Counted from 1.
        number: usize,
    },
    /// Issuer first, then who signed it, and so on.
    #[error(
        "certificate {number} of the chain did not sign the one before it; the issuer stands first, then who signed it"
    )]
    Order {
        /// Counted from 1.
        number: usize,
    },
    /// Key and certificate are strangers.
    #[error("the key does not belong to the first certificate of the chain")]
    Mismatch,
    /// No X.509, or an extension that cannot be read.
    #[error("certificate {number} of the chain cannot be read")]
    Unreadable {
        /// Counted from 1.
        number: usize,
    },
    /// A key type that cannot sign certificates.
    #[error("the issuer's key cannot sign certificates; RSA, P-256, P-384, P-521 and Ed25519 can")]
    Key(#[source] rcgen::Error),
    /// A host that is no name.
    #[error("{host}: not a host name")]
    Name {
        /// As given.
        host: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// Without hosts an issuer would be good for nothing, or for everything.
    #[error("an issuer needs at least one host")]
    NoHosts,
    /// Making it failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// A leaf could not be minted.
    #[error(transparent)]
    Mint(#[from] MintError),
}

/// Why there is no leaf.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// The issuer may not speak for this host.
    #[error(
        "{host}: the issuer is not permitted to issue for it ({limits}); add it with: pushrelay ca extend"
    )]
    NotPermitted {
        /// The host.
        host: HostName,
        /// What the issuer may.
        limits: NameLimits,
    },
    /// The issuer has ended, or not begun.
    #[error(
        "{host}: the issuer is not valid at this time; renew it with pushrelay ca extend, and check this machine's clock"
    )]
    NotValidNow {
        /// The host.
        host: HostName,
    },
    /// The signature or the key failed.
    #[error("{host}: the leaf cannot be made")]
    Sign {
        /// The host.
        host: HostName,
        /// Why.
        #[source]
        source: SignError,
    },
    /// What was made does not verify: better none than one that senders refuse.
    #[error("{host}: the minted chain does not verify")]
    Verify {
        /// The host.
        host: HostName,
        /// What a sender would say.
        #[source]
        source: rustls::Error,
    },
}
