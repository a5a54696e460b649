//! The environment of a sender: our own, a running unit's, or what its unit files say.
//!
//! Only the variables that decide where pushes go are kept; the others may be secrets and are
//! dropped as they are read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::hop::clean;
use crate::names::HostName;

/// What decides where a sender connects and whom it trusts.
const KEPT: &[&str] = &[
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
    "NO_PROXY",
    "no_proxy",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
];
/// Where unit files are, the first wins (systemd.unit(5)).
const UNIT_PATHS: &[&str] = &[
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// Files of a certificate folder that are read; systems have some 150.
const FILES_CAP: usize = 1000;
/// Longest value kept, characters.
const VALUE_CAP: usize = 500;

/// The kept variables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment(BTreeMap<String, String>);

/// What decides whom the sender trusts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Certificate files besides the system's, or in their place.
    pub files: Vec<PathBuf>,
    /// The system's own count too.
    pub system: bool,
    /// What was done with each variable, for the report.
    pub notes: Vec<String>,
}

/// Why a unit's environment is not known.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// No unit file of that name.
    #[error("no unit file of {0} below {1}")]
    NoFile(String, PathBuf),
    /// systemd does not run it.
    #[error("unit {0} does not run here; --root DIR reads its files")]
    NotRunning(String),
    /// The process' environment cannot be read: another user's.
    #[error("the environment of unit {0} cannot be read; try as root")]
    Unreadable(String, #[source] std::io::Error),
}

impl Environment {
    /// This process' own.
    pub fn ours() -> Self {
        Self::of(std::env::vars())
    }

    fn of(vars: impl IntoIterator<Item = (String, String)>) -> Self {
        let kept = vars
            .into_iter()
            .filter(|(name, value)| KEPT.contains(&name.as_str()) && !value.is_empty());
        Self(kept.map(|(name, value)| (name, clean(value.as_bytes(), VALUE_CAP))).collect())
    }

    /// A running unit's.
    pub fn of_unit(unit: &str) -> Result<Self, UnitError> {
        let name = full(unit);
        let shown = Command::new("systemctl")
            .args(["show", "--property=MainPID", "--value", "--"])
            .arg(&name)
            .output();
        let pid = shown.ok().and_then(|out| String::from_utf8(out.stdout).ok());
        let pid = pid.and_then(|text| text.trim().parse::<u32>().ok()).filter(|pid| *pid != 0);
        let Some(pid) = pid else { return Err(UnitError::NotRunning(name)) };
        let read = std::fs::read(format!("/proc/{pid}/environ"));
        let bytes = read.map_err(|error| UnitError::Unreadable(name, error))?;
        let vars = bytes.split(|byte| *byte == 0).filter_map(|entry| {
            let (name, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Ok(Self::of(vars))
    }

    /// What the unit files below `root` say.
    pub fn of_files(unit: &str, root: &Path) -> Result<Self, UnitError> {
        let name = full(unit);
        let mut vars: Vec<(String, String)> = Vec::new();
        let folders: Vec<_> = UNIT_PATHS.iter().map(|path| root.join(path)).collect();
        let main = folders.iter().map(|folder| folder.join(&name)).find(|file| file.is_file());
        let main = main.ok_or_else(|| UnitError::NoFile(name.clone(), root.to_owned()))?;
        let mut files = vec![main];
        for folder in &folders {
            let drop_ins = std::fs::read_dir(folder.join(format!("{name}.d")));
            let drop_ins = drop_ins.into_iter().flatten().flatten().map(|entry| entry.path());
            let mut confs: Vec<_> = drop_ins
                .filter(|path| path.extension().is_some_and(|ending| ending == "conf"))
                .collect();
            confs.sort();
            files.extend(confs);
        }
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            for line in text.lines().map(str::trim) {
                if let Some(rest) = line.strip_prefix("Environment=") {
                    vars.extend(assignments(rest));
                } else if let Some(rest) = line.strip_prefix("EnvironmentFile=") {
                    let path = rest.trim_start_matches('-').trim_start_matches('/');
                    let text = std::fs::read_to_string(root.join(path)).unwrap_or_default();
                    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
                    vars.extend(lines.filter_map(assignment));
                }
            }
        }
        Ok(Self::of(vars))
    }

    /// The proxy through which this environment leads HTTPS to a host, credentials and all: for
    /// going there, not for showing.
    pub fn proxy_for(&self, host: &HostName) -> Option<(&str, &str)> {
        let names = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
        let (name, value) = names.iter().find_map(|name| Some((*name, self.0.get(*name)?)))?;
        let excepted = ["NO_PROXY", "no_proxy"].iter().filter_map(|name| self.0.get(*name));
        let excepted =
            excepted.flat_map(|list| list.split(',')).any(|one| covers(one.trim(), host));
        (!excepted).then_some((name, value.as_str()))
    }

    /// Mattermost's push proxy reads the variables in its own way for APNs, and is the sender that
    /// most units run: what it does where others do something else.
    pub fn mattermost(&self, host: &HostName) -> Option<String> {
        if !host.as_str().ends_with(".push.apple.com") {
            return None;
        }
        let upper = ["HTTPS_PROXY", "HTTP_PROXY"].into_iter();
        let upper = upper.filter_map(|name| Some((name, self.0.get(name)?.as_str()))).next();
        match upper {
            Some((name, value)) if !value.contains("://") => Some(format!(
                "Mattermost's push proxy fails every APNs push with {name}={}: it wants http://.",
                without_user(value)
            )),
            Some(("HTTP_PROXY", _)) => Some(
                "Mattermost's push proxy sends APNs through HTTP_PROXY too, unlike other senders."
                    .to_owned(),
            ),
            Some((name, _)) if self.proxy_for(host).is_none() => Some(format!(
                "Mattermost's push proxy sends APNs through {name} in spite of NO_PROXY."
            )),
            Some(_) => None,
            None if self.proxy_for(host).is_some() => Some(
                "Mattermost's push proxy sends APNs through upper-case variables only: with these \
                 it dials the name itself, so that a hosts entry holds."
                    .to_owned(),
            ),
            None => None,
        }
    }

    /// Whom a sender with this environment trusts. `root` stands before its paths.
    pub fn trust(&self, root: Option<&Path>) -> Trust {
        let mut trust = Trust { system: true, ..Trust::default() };
        let at = |path: &str| {
            let inside = root.map(|root| root.join(path.trim_start_matches('/')));
            inside.unwrap_or_else(|| PathBuf::from(path))
        };
        let mut note = |text: String| trust.notes.push(text);
        if let Some(file) = self.0.get("SSL_CERT_FILE") {
            note(format!(
                "SSL_CERT_FILE={file} is trusted, as OpenSSL and Go do; Node and Java do not read it."
            ));
            trust.files.push(at(file));
        }
        if let Some(folders) = self.0.get("SSL_CERT_DIR") {
            note(format!(
                "The certificates in SSL_CERT_DIR={folders} are trusted, as OpenSSL and Go do (OpenSSL \
                 only the ones that c_rehash has named)."
            ));
            for folder in folders.split(':').filter(|folder| !folder.is_empty()) {
                let entries = std::fs::read_dir(at(folder)).into_iter().flatten().flatten();
                let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
                files.sort();
                let certificates = files.into_iter().filter(|file| holds_certificates(file));
                trust.files.extend(certificates.take(FILES_CAP));
            }
        }
        if let Some(file) = self.0.get("NODE_EXTRA_CA_CERTS") {
            note(format!(
                "NODE_EXTRA_CA_CERTS={file} is trusted, as Node does; nobody else reads it."
            ));
            trust.files.push(at(file));
        }
        // Each replaces its half of what OpenSSL and Go take from the system.
        trust.system =
            !(self.0.contains_key("SSL_CERT_FILE") && self.0.contains_key("SSL_CERT_DIR"));
        if self.0.contains_key("ALL_PROXY") || self.0.contains_key("all_proxy") {
            trust.notes.push(
                "ALL_PROXY is followed, as curl and Python do; Go and Node do not read it."
                    .to_owned(),
            );
        }
        trust
    }

    /// Names and values for the evidence, without credentials.
    pub fn shown(&self) -> BTreeMap<String, String> {
        self.0.iter().map(|(name, value)| (name.clone(), without_user(value))).collect()
    }
}

fn full(unit: &str) -> String {
    if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") }
}

/// `"A=1" B=2` of systemd.exec(5): blanks part assignments, quotes keep them together.
fn assignments(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    let (mut current, mut quote) = (String::new(), None);
    for c in text.chars().chain([' ']) {
        match (c, quote) {
            ('"' | '\'', None) => quote = Some(c),
            (c, Some(open)) if c == open => quote = None,
            (' ' | '\t', None) => {
                all.extend(assignment(&current));
                current.clear();
            }
            (c, _) => current.push(c),
        }
    }
    all
}

fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    Some((name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned()))
}

fn holds_certificates(file: &Path) -> bool {
    let text = std::fs::read(file).unwrap_or_default();
    text.windows(27).any(|part| part == b"-----BEGIN CERTIFICATE-----")
}

/// `*`, the name itself, or a domain above it.
fn covers(entry: &str, host: &HostName) -> bool {
    let entry = entry.trim_start_matches("*.").trim_start_matches('.');
    let entry = entry.split(':').next().unwrap_or(entry).to_ascii_lowercase();
    entry == "*"
        || !entry.is_empty()
            && (host.as_str() == entry
                || host.as_str().strip_suffix(&entry).is_some_and(|rest| rest.ends_with('.')))
}

/// A proxy's URL as it may be shown.
pub fn without_user(value: &str) -> String {
    let (scheme, rest) =
        value.split_once("://").map_or(("", value), |(scheme, rest)| (scheme, rest));
    let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mattermosts_push_proxy_reads_the_variables_in_its_own_way() {
        let apns: HostName = "api.push.apple.com".parse().unwrap();
        let told = |vars: &[(&str, &str)], host: &HostName| {
            let vars = vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            Environment::of(vars).mattermost(host).unwrap_or_default()
        };
        let proxy = "http://proxy:3128";
        assert_eq!(told(&[], &apns), "");
        assert_eq!(told(&[("HTTPS_PROXY", proxy)], &apns), "");
        assert!(told(&[("https_proxy", proxy)], &apns).contains("dials the name itself"));
        assert!(told(&[("HTTP_PROXY", proxy)], &apns).contains("through HTTP_PROXY too"));
        let bare = told(&[("HTTPS_PROXY", "u:canary@proxy:3128")], &apns);
        assert!(bare.contains("it wants http://") && !bare.contains("canary"), "{bare}");
        let excepted = [("HTTPS_PROXY", proxy), ("NO_PROXY", ".apple.com")];
        assert!(told(&excepted, &apns).contains("in spite of NO_PROXY"));
        assert_eq!(told(&[("https_proxy", proxy)], &"fcm.googleapis.com".parse().unwrap()), "");
    }

    #[test]
    fn unit_files_with_drop_ins_and_environment_files_are_read() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write(
            "usr/lib/systemd/system/mpns.service",
            "[Service]\nEnvironment=\"NO_PROXY=localhost,.corp.example\" SECRET=canary\n\
             EnvironmentFile=-/etc/default/mpns\n",
        );
        write("etc/default/mpns", "# proxy\nHTTPS_PROXY='http://u:canary@proxy:3128'\n");
        write("etc/systemd/system/mpns.service.d/ca.conf", "Environment=SSL_CERT_FILE=/ca.pem\n");
        let environment = Environment::of_files("mpns", root.path()).unwrap();
        let host: HostName = "api.push.apple.com".parse().unwrap();
        let (name, proxy) = environment.proxy_for(&host).unwrap();
        assert_eq!((name, without_user(proxy).as_str()), ("HTTPS_PROXY", "http://proxy:3128"));
        assert!(environment.proxy_for(&"push.corp.example".parse().unwrap()).is_none());
        let shown = format!("{:?}", environment.shown());
        assert!(!shown.contains("canary") && shown.contains("/ca.pem"), "{shown}");
        assert!(Environment::of_files("other", root.path()).is_err());
    }
}
