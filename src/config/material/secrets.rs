//! Reads one secret from where it is.
//!
//! Messages name the place, never the value.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::config::{Secret, SecretSource};

/// Largest secret, octets: a password or a key, no more.
const LARGEST: u64 = 64 << 10;

/// U+FEFF in UTF-8.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// The variable in which systemd names the folder of a unit's credentials.
const CREDENTIALS_DIRECTORY: &str = "CREDENTIALS_DIRECTORY";

/// Looks an environment variable up.
pub(super) type Lookup<'l> = &'l dyn Fn(&str) -> Option<OsString>;

/// Why a secret could not be read; `Display` says it for an operator.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// Nothing in it.
    #[error("{0} is empty")]
    Empty(String),
    /// `credential:` outside a unit with credentials.
    #[error("credential {0} is asked for, but $CREDENTIALS_DIRECTORY is not set")]
    NoCredentials(String),
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    NotSet(String),
    /// Anybody on this machine can read it.
    #[error("{} is readable by everybody (mode {mode:03o})", path.display())]
    Public {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Neither a password nor a token has several lines.
    #[error("{0} is not one line of text")]
    Lines(String),
    /// No secret is so large.
    #[error("{} is larger than {LARGEST} octets", .0.display())]
    TooLarge(PathBuf),
    /// Not there, or not for us.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl SecretError {
    /// What would be right.
    pub fn hint(&self) -> String {
        match self {
            Self::Empty(_) => "write the secret into it".to_owned(),
            Self::NoCredentials(_) => {
                "run under systemd with LoadCredential=, or use { file: PATH }".to_owned()
            }
            Self::NotSet(name) => {
                format!("set {name} for the relay's process, or use {{ file: PATH }}")
            }
            Self::Lines(_) => {
                "a password is one line of UTF-8; save it as such, without a blank line".to_owned()
            }
            Self::Public { path, .. } => format!("chmod o-rwx {}", path.display()),
            Self::TooLarge(_) => "name the file that holds the secret alone".to_owned(),
            Self::Unreadable { .. } => {
                "name an existing file that the relay's user can read".to_owned()
            }
        }
    }
}

/// Reads the secret. A file in the credentials folder may be readable by anybody who can enter
/// that folder; every other file must not be readable by others than its owner and group.
pub(super) fn read(source: &SecretSource, lookup: Lookup<'_>) -> Result<Secret, SecretError> {
    let credentials = lookup(CREDENTIALS_DIRECTORY).map(PathBuf::from);
    match source {
        SecretSource::Credential(name) => {
            let folder = credentials.ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
            from_file(&folder.join(name), false)
        }
        SecretSource::Env(name) => {
            let value = lookup(name).ok_or_else(|| SecretError::NotSet(name.clone()))?;
            let value = std::os::unix::ffi::OsStringExt::into_vec(value);
            present(value, format!("the environment variable {name}"))
        }
        SecretSource::File(path) => {
            let guarded = credentials.is_some_and(|folder| path.starts_with(folder));
            from_file(path, !guarded)
        }
    }
}

/// Reads a password or a token: one line, without the mark that some editors put before it. A
/// wrong one is not only useless: the proxy locks the account for it.
pub(super) fn read_text(source: &SecretSource, lookup: Lookup<'_>) -> Result<Secret, SecretError> {
    let secret = read(source, lookup)?;
    let value = secret.expose();
    let text = value.strip_prefix(BYTE_ORDER_MARK).unwrap_or(value);
    // A NUL is what UTF-16 looks like.
    if text.iter().any(|octet| matches!(octet, b'\n' | b'\r' | 0)) {
        return Err(SecretError::Lines(place(source)));
    }
    present(text.to_vec(), place(source))
}

fn place(source: &SecretSource) -> String {
    match source {
        SecretSource::Credential(name) => format!("credential {name}"),
        SecretSource::Env(name) => format!("the environment variable {name}"),
        SecretSource::File(path) => path.display().to_string(),
    }
}

fn from_file(path: &Path, private: bool) -> Result<Secret, SecretError> {
    let unreadable = |source| SecretError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
    if private && mode & 0o007 != 0 {
        return Err(SecretError::Public { path: path.to_owned(), mode });
    }
    let mut value = Vec::new();
    let read = file.take(LARGEST + 1).read_to_end(&mut value).map_err(unreadable)?;
    if read as u64 > LARGEST {
        return Err(SecretError::TooLarge(path.to_owned()));
    }
    if value.ends_with(b"\n") {
        value.pop();
        if value.ends_with(b"\r") {
            value.pop();
        }
    }
    present(value, path.display().to_string())
}

fn present(value: Vec<u8>, place: String) -> Result<Secret, SecretError> {
    if value.is_empty() { Err(SecretError::Empty(place)) } else { Ok(Secret::new(value)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(folder: &Path, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn one_line_end_is_dropped_and_group_readable_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        for (text, secret) in [("pw\n", "pw"), ("pw\r\n", "pw"), ("pw", "pw"), ("pw \n\n", "pw \n")]
        {
            let path = file(folder.path(), "a", text, 0o640);
            let read = read(&SecretSource::File(path), &|_| None).unwrap();
            assert_eq!(read.expose(), secret.as_bytes());
            assert!(!format!("{read:?}").contains("pw"));
        }
    }

    #[test]
    fn a_secret_that_everybody_reads_is_refused_except_among_credentials() {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "a", "pw", 0o644);
        let source = SecretSource::File(path);
        let error = read(&source, &|_| None).unwrap_err();
        assert!(error.to_string().contains("readable by everybody (mode 644)"), "{error}");
        assert!(error.hint().starts_with("chmod o-rwx "));
        let among = |_: &str| Some(folder.path().as_os_str().to_owned());
        assert_eq!(read(&source, &among).unwrap().expose(), b"pw");
        let named = SecretSource::Credential("a".to_owned());
        assert_eq!(read(&named, &among).unwrap().expose(), b"pw");
        assert!(matches!(read(&named, &|_| None), Err(SecretError::NoCredentials(_))));
    }

    #[test]
    fn a_password_is_one_line_whatever_an_editor_made_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let read = |octets: &[u8]| {
            let path = folder.path().join("pw");
            std::fs::write(&path, octets).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            read_text(&SecretSource::File(path), &|_| None)
        };
        for good in [&b"pw"[..], b"pw\n", b"pw\r\n", b"\xef\xbb\xbfpw\r\n"] {
            assert_eq!(read(good).unwrap().expose(), b"pw", "{good:?}");
        }
        assert_eq!(read(b"p w \n").unwrap().expose(), b"p w ");
        for bad in [&b"pw\n\n"[..], b"user\npw\n", b"\xff\xfep\0w\0\n\0"] {
            let error = read(bad).unwrap_err();
            assert!(matches!(error, SecretError::Lines(_)), "{error}");
            assert!(!error.to_string().contains("pw\n") && error.hint().contains("UTF-8"));
        }
        assert!(matches!(read(b"\xef\xbb\xbf\n"), Err(SecretError::Empty(_))));
    }

    #[test]
    fn what_is_missing_or_empty_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let empty = file(folder.path(), "a", "\n", 0o600);
        assert!(matches!(read(&SecretSource::File(empty), &|_| None), Err(SecretError::Empty(_))));
        let gone = SecretSource::File(folder.path().join("b"));
        assert!(matches!(read(&gone, &|_| None), Err(SecretError::Unreadable { .. })));
        let variable = SecretSource::Env("PW".to_owned());
        assert!(matches!(read(&variable, &|_| None), Err(SecretError::NotSet(_))));
        let set = |name: &str| (name == "PW").then(|| OsString::from("x"));
        assert_eq!(read(&variable, &set).unwrap().expose(), b"x");
    }
}
