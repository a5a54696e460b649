//! PEM files: read with the exact fault named, written once and never over another.
//!
//! An operator sees these errors, so each says which file, what is wrong and, where one command
//! mends it, that command. Key material never reaches an error.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::Identity;

mod write;

pub use write::{encode_certificates, encode_key, replace_public, write_key, write_public};

/// Largest file read, octets: the system's whole root store is a fourth of it.
const MAX_FILE: u64 = 1 << 20;

/// What is wrong with a chain or key file.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// No such file.
    #[error("{}: the file does not exist", .0.display())]
    Missing(PathBuf),
    /// The system does not let us read it.
    #[error("{}: the file cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// More than 1 MiB.
    #[error("{}: larger than 1 MiB, so this is no chain and no key", .0.display())]
    TooLarge(PathBuf),
    /// DER where PEM is expected.
    #[error("{}: this is DER, not PEM; convert it with: openssl x509 -inform DER (keys: openssl pkey -inform DER)", .0.display())]
    Der(PathBuf),
    /// No CERTIFICATE section.
    #[error("{}: there is no certificate in it", .0.display())]
    NoCertificate(PathBuf),
    /// No private key section.
    #[error("{}: there is no private key in it", .0.display())]
    NoKey(PathBuf),
    /// The key has a passphrase.
    #[error("{}: the key is encrypted; the relay cannot ask for a passphrase, so store it without: openssl pkey -in {} -out NEW-FILE", .0.display(), .0.display())]
    Encrypted(PathBuf),
    /// Broken base64 or a missing end line.
    #[error("{}: the PEM text is damaged", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where it breaks.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// PEM that holds no X.509 certificate.
    #[error("{}: certificate {number} in it is not a valid X.509 certificate", path.display())]
    BadCertificate {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        number: usize,
    },
    /// A leaf that the TLS library does not take, one of X.509 version 1 for example.
    #[error("{}: the first certificate in it cannot be used in TLS; it must be of X.509 version 3 (openssl makes version 1 without extensions)", path.display())]
    UnsupportedLeaf {
        /// The file.
        path: PathBuf,
        /// What the TLS library says.
        #[source]
        source: rustls::Error,
    },
    /// A key that cannot sign.
    #[error("{}: the key is of a type that cannot be used; RSA, P-256, P-384, P-521 and Ed25519 can", path.display())]
    UnsupportedKey {
        /// The file.
        path: PathBuf,
        /// What the TLS library says.
        #[source]
        source: rustls::Error,
    },
    /// Key and leaf are strangers.
    #[error("{}: this key does not belong to the first certificate in {}", key.display(), chain.display())]
    Mismatch {
        /// The chain.
        chain: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// Others may read or write the key file.
    #[error("{}: every account on this machine can reach this key (mode {mode:04o}); take that away with: chmod o= {}", path.display(), path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Writing would replace a file.
    #[error("{}: the file exists already and is never overwritten", .0.display())]
    Exists(PathBuf),
    /// The system does not let us write it.
    #[error("{}: the file cannot be written", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
}

/// Reads a chain (leaf first) and its key and checks that they belong together. An expired leaf
/// is no error: ask [`Identity::is_expired`].
///
/// # Errors
/// Every [`PemError`] that reading can meet.
pub fn read_identity(chain: &Path, key: &Path) -> Result<Identity, PemError> {
    let certificates = read_certificates(chain)?;
    let identity = Identity { chain: certificates, key: read_key(key)? };
    match identity.certified() {
        Ok(_usable) => Ok(identity),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(PemError::Mismatch { chain: chain.to_owned(), key: key.to_owned() })
        }
        Err(source @ rustls::Error::InvalidCertificate(_)) => {
            Err(PemError::UnsupportedLeaf { path: chain.to_owned(), source })
        }
        Err(source) => Err(PemError::UnsupportedKey { path: key.to_owned(), source }),
    }
}

/// Reads every certificate of a PEM file, at least one.
///
/// # Errors
/// The file cannot be read, holds no certificate, or one that is not X.509.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let text = read(path, false)?;
    let mut certificates = Vec::new();
    for section in CertificateDer::pem_slice_iter(&text) {
        let certificate: CertificateDer<'static> =
            section.map_err(|source| PemError::Damaged { path: path.to_owned(), source })?;
        if super::parse(&certificate).is_none() {
            let number = certificates.len() + 1;
            return Err(PemError::BadCertificate { path: path.to_owned(), number });
        }
        certificates.push(certificate);
    }
    if certificates.is_empty() {
        return Err(PemError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

/// Reads the first private key of a PEM file that only its owner and group may read.
///
/// # Errors
/// The file cannot be read, others can read it, or it holds no unencrypted key.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    use rustls::pki_types::pem::Error;

    let text = read(path, true)?;
    if is_encrypted(&text) {
        return Err(PemError::Encrypted(path.to_owned()));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|source| {
        if matches!(source, Error::NoItemsFound) {
            return PemError::NoKey(path.to_owned());
        }
        PemError::Damaged { path: path.to_owned(), source: without_text(source) }
    })
}

/// The library quotes the line it stumbled over; in a key file that line may be the key.
fn without_text(error: rustls::pki_types::pem::Error) -> rustls::pki_types::pem::Error {
    use rustls::pki_types::pem::Error;
    if matches!(error, Error::IllegalSectionStart { .. }) {
        return Error::IllegalSectionStart { line: Vec::new() };
    }
    if matches!(error, Error::Base64Decode(_)) {
        return Error::Base64Decode("not base64".to_owned());
    }
    error
}

/// PKCS#8 has a label for it (RFC 7468 §11), the traditional forms a header (RFC 1421 §4.6.1.1).
fn is_encrypted(text: &[u8]) -> bool {
    let has = |needle: &[u8]| text.windows(needle.len()).any(|window| window == needle);
    has(b"-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(b"Proc-Type: 4,ENCRYPTED")
}

fn read(path: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, PemError> {
    let unreadable = |source: io::Error| {
        if source.kind() == io::ErrorKind::NotFound {
            return PemError::Missing(path.to_owned());
        }
        PemError::Unreadable { path: path.to_owned(), source }
    };
    let file = File::open(path).map_err(unreadable)?;
    if secret && !is_credential(path) {
        // Asked of the open file: the name may point elsewhere a moment later.
        let mode = mode_of(&file).map_err(unreadable)?;
        if mode & 0o007 != 0 {
            return Err(PemError::Exposed { path: path.to_owned(), mode });
        }
    }
    // Reserved at once: a growing vector would leave copies of the key behind.
    let length = file.metadata().map_err(unreadable)?.len();
    if length > MAX_FILE {
        return Err(PemError::TooLarge(path.to_owned()));
    }
    let capacity = usize::try_from(length).unwrap_or_default() + 1;
    let mut text = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(MAX_FILE + 1).read_to_end(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE {
        return Err(PemError::TooLarge(path.to_owned()));
    }
    if text.starts_with(&[0x30]) && std::str::from_utf8(&text).is_err() {
        return Err(PemError::Der(path.to_owned()));
    }
    Ok(text)
}

/// systemd keeps credentials in a folder that only the unit can enter; their mode says nothing.
fn is_credential(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY")
        .is_some_and(|folder| !folder.is_empty() && is_inside(path, Path::new(&folder)))
}

/// Whether `path` really lies below `folder`, links and `..` followed.
fn is_inside(path: &Path, folder: &Path) -> bool {
    match (path.canonicalize(), folder.canonicalize()) {
        (Ok(path), Ok(folder)) => path.starts_with(folder),
        (Err(_), _) | (_, Err(_)) => false,
    }
}

#[cfg(unix)]
fn mode_of(file: &File) -> io::Result<u32> {
    use std::os::unix::fs::PermissionsExt;
    Ok(file.metadata()?.permissions().mode() & 0o7777)
}

#[cfg(not(unix))]
fn mode_of(_file: &File) -> io::Result<u32> {
    // Access lists decide there, and reading them needs more than the standard library.
    Ok(0)
}

#[cfg(test)]
mod tests;
