//! What every block needs: ranges, names, networks, roots, secrets, paths.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::config::problem::Findings;
use crate::config::raw::{self, Span};
use crate::config::{BasicCredentials, KeyPairFiles, RootSource, SecretSource};

/// Longest name of a listener, route or egress: they stand in every log line.
const LONGEST_NAME: usize = 64;

/// The findings so far, and what relative paths are relative to.
#[derive(Debug)]
pub(super) struct Check<'a> {
    pub(super) findings: Findings<'a>,
    folder: PathBuf,
}

impl<'a> Check<'a> {
    pub(super) const fn new(findings: Findings<'a>, folder: PathBuf) -> Self {
        Self { findings, folder }
    }

    /// A number within its range, or the default.
    pub(super) fn number<T: Copy + PartialOrd + Display>(
        &mut self,
        path: &str,
        written: Option<T>,
        default: T,
        range: RangeInclusive<T>,
    ) -> T {
        let value = written.unwrap_or(default);
        if !range.contains(&value) {
            let (least, most) = (range.start(), range.end());
            self.findings.add(
                path,
                format!("{value} is out of range"),
                format!("write a number from {least} to {most}; the default is {default}"),
            );
        }
        value
    }

    /// A size within its range, or the default.
    pub(super) fn size(
        &mut self,
        path: &str,
        written: Option<raw::Size>,
        default: usize,
        range: RangeInclusive<usize>,
    ) -> usize {
        let value = written.map_or(default, |size| size.0);
        if !range.contains(&value) {
            let (least, most) = (raw::Size(*range.start()), raw::Size(*range.end()));
            self.findings.add(
                path,
                format!("{} is out of range", raw::Size(value)),
                format!(
                    "write a size from {least} to {most}; the default is {}",
                    raw::Size(default)
                ),
            );
        }
        value
    }

    /// A duration within its range, or the default.
    pub(super) fn span(
        &mut self,
        path: &str,
        written: Option<Span>,
        default: Duration,
        range: RangeInclusive<Duration>,
    ) -> Duration {
        let value = written.map_or(default, |span| span.0);
        if !range.contains(&value) {
            let (least, most) = (Span(*range.start()), Span(*range.end()));
            self.findings.add(
                path,
                format!("{} is out of range", Span(value)),
                format!(
                    "write a duration from {least} to {most}; the default is {}",
                    Span(default)
                ),
            );
        }
        value
    }

    /// A name for logs and metrics.
    pub(super) fn name(&mut self, path: &str, name: &str) {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(plain) {
            self.findings.add(
                path,
                "this cannot be a name",
                format!("1 to {LONGEST_NAME} letters, digits, dots, dashes and underscores"),
            );
        }
    }

    /// Networks, as `10.0.0.0/8` or as one address.
    pub(super) fn networks(&mut self, path: &str, written: Option<&[String]>) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for (index, text) in written.unwrap_or_default().iter().enumerate() {
            let path = format!("{path}[{index}]");
            match text.parse::<IpNet>() {
                Ok(network) if network.trunc() == network => networks.push(network),
                Ok(network) => {
                    self.findings.add(
                        &path,
                        format!("`{network}` has bits set behind its mask"),
                        format!("did you mean {}?", network.trunc()),
                    );
                    networks.push(network);
                }
                Err(_no_network) => match text.parse::<std::net::IpAddr>() {
                    Ok(address) => networks.push(address.into()),
                    Err(_no_address) => self.findings.add(
                        &path,
                        "this is not a network",
                        "write ADDRESS/BITS, such as 10.20.0.0/16 or 2001:db8::/32",
                    ),
                },
            }
        }
        networks
    }

    /// A file, relative to relay.yaml.
    pub(super) fn file(&mut self, path: &str, text: &str) -> PathBuf {
        if text.is_empty() {
            self.findings.add(path, "the file's name is empty", "name a file");
        }
        self.folder.join(text)
    }

    pub(super) fn key_pair(&mut self, path: &str, pair: &raw::KeyPair) -> KeyPairFiles {
        KeyPairFiles {
            chain: self.file(&format!("{path}.chain"), &pair.chain),
            key: self.file(&format!("{path}.key"), &pair.key),
        }
    }

    /// What a certificate may chain to.
    pub(super) fn roots(&mut self, path: &str, written: &[String]) -> Vec<RootSource> {
        if written.is_empty() {
            self.findings.missing(
                path,
                "no roots: nothing would be trusted",
                "bundled, system or PEM files",
            );
        }
        let mut roots = Vec::new();
        for (index, text) in written.iter().enumerate() {
            let source = match text.as_str() {
                "bundled" => RootSource::Bundled,
                "system" => RootSource::System,
                _ => RootSource::File(self.file(&format!("{path}[{index}]"), text)),
            };
            roots.push(source);
        }
        roots
    }

    pub(super) fn secret(&mut self, path: &str, source: &raw::SecretSource) -> SecretSource {
        match source {
            raw::SecretSource::File(file) => {
                SecretSource::File(self.file(&format!("{path}.file"), file))
            }
            raw::SecretSource::Env(name) => {
                if name.is_empty() || name.contains(['=', '\0']) {
                    let path = format!("{path}.env");
                    self.findings.add(
                        &path,
                        "this cannot be a variable's name",
                        "name an environment variable",
                    );
                }
                SecretSource::Env(name.clone())
            }
            raw::SecretSource::Credential(name) => {
                if name.is_empty() || name.contains('/') || name.starts_with('.') {
                    let path = format!("{path}.credential");
                    self.findings.add(
                        &path,
                        "this cannot be a credential's name",
                        "write the name that LoadCredential= gives it, without a path",
                    );
                }
                SecretSource::Credential(name.clone())
            }
        }
    }

    /// User and password (RFC 7617 §2: no colon in the user's name).
    pub(super) fn basic(
        &mut self,
        path: &str,
        username: &str,
        password: &raw::SecretSource,
    ) -> BasicCredentials {
        let key = format!("{path}.username");
        if username.is_empty() {
            self.findings.add(&key, "the user name is empty", "name the account");
        }
        if username.contains(':') || username.chars().any(char::is_control) {
            self.findings.add(
                &key,
                "a user name has no colon and no control character",
                "write the name alone; the password goes to `password`",
            );
        }
        let password = self.secret(&format!("{path}.password"), password);
        BasicCredentials { username: username.to_owned(), password }
    }
}
