//! Writing PEM: whole or not at all, keys for the owner only.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::PemError;

/// Certificates as PEM, in their order.
pub fn encode_certificates(certificates: &[CertificateDer<'_>]) -> String {
    certificates.iter().map(|der| section("CERTIFICATE", der)).collect()
}

/// A key as PEM, under the label of its form (RFC 7468 §10; RFC 5915 §4).
pub fn encode_key(key: &PrivateKeyDer<'_>) -> Zeroizing<String> {
    let label = match key {
        PrivateKeyDer::Pkcs1(_) => "RSA PRIVATE KEY",
        PrivateKeyDer::Sec1(_) => "EC PRIVATE KEY",
        // The library's type is open; whatever it adds is a form of PKCS#8.
        PrivateKeyDer::Pkcs8(_) | _ => "PRIVATE KEY",
    };
    Zeroizing::new(section(label, key.secret_der()))
}

fn section(label: &str, der: &[u8]) -> String {
    let body = Zeroizing::new(STANDARD.encode(der));
    let mut text = String::with_capacity(body.len() + body.len() / 64 + 2 * label.len() + 40);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in body.as_bytes().chunks(64) {
        text.extend(line.iter().map(|&byte| char::from(byte)));
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// Writes a new file with mode 0600.
///
/// # Errors
/// [`PemError::Exists`] when something stands there, [`PemError::Unwritable`] otherwise.
pub fn write_key(path: &Path, text: &str) -> Result<(), PemError> {
    create(path, text, 0o600)
}

/// Writes a new file with mode 0644.
///
/// # Errors
/// [`PemError::Exists`] when something stands there, [`PemError::Unwritable`] otherwise.
pub fn write_public(path: &Path, text: &str) -> Result<(), PemError> {
    create(path, text, 0o644)
}

/// Replaces a public file in one step; readers see the old text or the new one.
///
/// # Errors
/// [`PemError::Unwritable`]; the old file then stands untouched.
pub fn replace_public(path: &Path, text: &str) -> Result<(), PemError> {
    let written = beside(path)
        .and_then(|draft| fill(&draft, text, 0o644).map(|()| draft))
        .and_then(|draft| fs::rename(&draft, path).inspect_err(|_failed| discard(&draft)))
        .and_then(|()| sync_folder(path));
    written.map_err(|source| PemError::Unwritable { path: path.to_owned(), source })
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), PemError> {
    let fault = |source: io::Error| {
        if source.kind() == io::ErrorKind::AlreadyExists {
            return PemError::Exists(path.to_owned());
        }
        PemError::Unwritable { path: path.to_owned(), source }
    };
    let draft = beside(path).map_err(fault)?;
    fill(&draft, text, mode).map_err(fault)?;
    // A link refuses an existing name in the same step in which the whole file appears.
    let linked = fs::hard_link(&draft, path);
    discard(&draft);
    match linked {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(fault(error)),
        // File systems without links (FAT on the stick that keeps the root key).
        Err(_no_links) => fill(path, text, mode).map_err(fault)?,
    }
    sync_folder(path).map_err(fault)
}

/// A name in the same folder that nobody else uses.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random)
        .map_err(|_no_entropy| io::Error::other("the system gives no random numbers"))?;
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let mut draft = std::ffi::OsString::from(".");
    draft.push(name);
    draft.push(format!(".{:016x}", u64::from_ne_bytes(random)));
    Ok(path.with_file_name(draft))
}

fn fill(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(path)?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .inspect_err(|_failed| discard(path))
}

fn discard(path: &Path) {
    // A draft that stays behind harms nobody, and the first error is the one to tell.
    let _ = fs::remove_file(path);
}

/// Without this the name itself may be lost with the power.
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    match File::open(folder.unwrap_or_else(|| Path::new("."))) {
        Ok(folder) => folder.sync_all().or_else(|error| {
            // Some network file systems do not know how to.
            let unknown = [io::ErrorKind::InvalidInput, io::ErrorKind::Unsupported];
            if unknown.contains(&error.kind()) { Ok(()) } else { Err(error) }
        }),
        // A folder may be writable and not readable.
        Err(_unreadable) => Ok(()),
    }
}
