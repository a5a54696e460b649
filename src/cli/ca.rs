//! `ca`: makes, extends and shows the relay's certificates.
//!
//! The only place that ever holds the root key, and only while a command runs. Nothing is
//! overwritten but the issuer's certificate by `extend`, whose key stays the same.

use std::collections::BTreeSet;
use std::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use crate::config::Config;
use crate::config::problem::Invalid;
use crate::names::HostName;
use crate::pki::ca::{self as authority, CaError, MintError, SignError};
use crate::pki::pem::{self, PemError};

use super::{EXIT_CONFIG, EXIT_USAGE};

mod csr;
mod extend;
mod init;
mod issue;
mod show;
mod trust;

/// The root's certificate, in `--dir`.
const ROOT: &str = "root.pem";
/// The issuer's chain, in `--dir`; relay.yaml finds it there by itself.
const ISSUER: &str = "issuer.pem";
/// The issuer's key, in `--dir`; relay.yaml finds it there by itself.
const ISSUER_KEY: &str = "issuer.key";
/// A request for a corporate CA, in `--dir`.
const REQUEST: &str = "issuer.csr";

/// Arguments of `ca`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make an offline root and an issuer that may speak for the routed hosts only
    Init(init::Args),
    /// Sign the issuer again, for other hosts or a new term; senders change nothing
    Extend(extend::Args),
    /// Make leaves for a relay that holds no CA key
    Issue(issue::Args),
    /// Make a request, so that a corporate CA signs the issuer
    Csr(csr::Args),
    /// Show fingerprints, ends, and how senders come to trust the root
    Show(show::Args),
}

/// The authority's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Algorithm {
    /// RSA with 3072 bits, for every sender
    Rsa3072,
    /// P-256; senders without ECDSA are left out
    P256,
}

impl From<Algorithm> for authority::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::P256 => Self::P256,
            Algorithm::Rsa3072 => Self::Rsa3072,
        }
    }
}

/// Where host names come from.
#[derive(Debug, clap::Args)]
struct Hosts {
    /// A host the issuer may speak for; may be repeated
    #[arg(long = "host", value_name = "HOST")]
    hosts: Vec<String>,
    /// The file whose routed hosts count, beside --host [default: relay.yaml, where no --host is]
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl Hosts {
    /// The hosts given; empty when none were.
    fn names(&self) -> Result<BTreeSet<HostName>, Failure> {
        let mut names = authority::host_names(self.hosts.iter().map(String::as_str))?;
        let usual = Path::new("relay.yaml");
        let usual = (names.is_empty() && usual.exists()).then_some(usual);
        if let Some(config) = self.config.as_deref().or(usual) {
            names.extend(Config::load(config)?.hosts());
        }
        Ok(names)
    }

    /// The same for what cannot do without any.
    fn some_names(&self) -> Result<BTreeSet<HostName>, Failure> {
        let names = self.names()?;
        if names.is_empty() {
            let missing = "no hosts: name relay.yaml with --config, or each host with --host";
            return Err(Failure::Usage(missing.to_owned()));
        }
        Ok(names)
    }

    /// Where root and issuer lie: what was said, else where relay.yaml looks for them by itself.
    fn folder(&self, given: Option<&Path>) -> PathBuf {
        let beside = self.config.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
        given.map_or_else(|| beside.join("certs"), Path::to_owned)
    }
}

/// Why a command ends without its result.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("the configuration is not valid\n{0}")]
    Config(#[from] Invalid),
    #[error(transparent)]
    Pem(#[from] PemError),
    #[error(transparent)]
    Ca(#[from] CaError),
    #[error(transparent)]
    Mint(#[from] MintError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error("{}: the folder cannot be made", path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
}

/// Runs `ca`.
pub fn run(args: Args) -> ExitCode {
    let done = match args.command {
        Command::Init(args) => init::run(&args),
        Command::Extend(args) => extend::run(&args),
        Command::Issue(args) => issue::run(&args),
        Command::Csr(args) => csr::run(&args),
        Command::Show(args) => show::run(&args),
    };
    match done {
        Ok(text) => {
            // Nothing can be done about a closed terminal.
            let _ = anstream::stdout().write_all(text.as_bytes());
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = writeln!(anstream::stderr(), "pushrelay ca: {}", Whole(&failure));
            match failure {
                Failure::Usage(_) => ExitCode::from(EXIT_USAGE),
                Failure::Config(_) => ExitCode::from(EXIT_CONFIG),
                Failure::Pem(_)
                | Failure::Ca(_)
                | Failure::Mint(_)
                | Failure::Sign(_)
                | Failure::Folder { .. } => ExitCode::FAILURE,
            }
        }
    }
}

/// An error with its sources.
struct Whole<'a>(&'a dyn std::error::Error);

impl fmt::Display for Whole<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        while let Some(error) = source {
            write!(f, ": {error}")?;
            source = error.source();
        }
        Ok(())
    }
}

/// Fails when one of these exists: before minutes of key generation, and before a command has
/// done half of its work.
fn must_be_free(paths: &[&Path]) -> Result<(), Failure> {
    for path in paths {
        // A dangling link is something, too.
        if path.symlink_metadata().is_ok() {
            return Err(PemError::Exists((*path).to_owned()).into());
        }
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(path)
        .map_err(|source| Failure::Folder { path: path.to_owned(), source })
}

/// The root with its key, for the length of a command.
fn read_root(certificate: &Path, key: &Path) -> Result<authority::Issuer, Failure> {
    Ok(authority::Issuer::load(certificate, key)?)
}

fn list<'a>(hosts: impl IntoIterator<Item = &'a HostName>) -> String {
    hosts.into_iter().map(|host| format!("  {host}\n")).collect()
}
