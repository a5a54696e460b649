//! `ca issue`: leaves for relays that hold no CA key.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use clap::ValueEnum;

use super::read_root;
use super::{Failure, ISSUER, ISSUER_KEY, ROOT, make_folder, must_be_free};
use crate::pki::ca::{ISSUED_LIFETIME, Issuer, LeafKey, host_names};
use crate::pki::day;
use crate::pki::pem::{encode_certificates, encode_key, write_key, write_public};

/// Arguments of `ca issue`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Hosts, one leaf for each
    #[arg(value_name = "HOST", required = true)]
    hosts: Vec<String>,
    /// Where HOST.pem and HOST.key go
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Sign with the root itself, whose key this is; without, with the issuer in --dir
    #[arg(long, value_name = "FILE")]
    root_key: Option<PathBuf>,
    /// Where root.pem, or issuer.pem and issuer.key, are
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
    /// Another issuer's chain, for example a corporate one
    #[arg(long, value_name = "FILE", requires = "issuer_key", conflicts_with = "root_key")]
    issuer: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "issuer")]
    issuer_key: Option<PathBuf>,
    /// Keys of the leaves
    #[arg(long, value_enum, default_value = "p256")]
    key: Key,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Key {
    /// For every sender that knows ECDSA
    P256,
    /// For senders that do not
    Rsa2048,
}

pub(super) fn run(args: &Args) -> Result<String, Failure> {
    let hosts = host_names(args.hosts.iter().map(String::as_str))?;
    let files: Vec<_> = hosts
        .iter()
        .map(|host| (args.out.join(format!("{host}.pem")), args.out.join(format!("{host}.key"))))
        .collect();
    for (chain, key) in &files {
        must_be_free(&[chain, key])?;
    }
    let issuer = issuer(args)?;
    let key = match args.key {
        Key::P256 => LeafKey::P256,
        Key::Rsa2048 => LeafKey::Rsa2048,
    };
    // All are minted before the first is written: no half of a set.
    let now = SystemTime::now();
    let leaves = hosts
        .iter()
        .map(|host| issuer.mint(host, key, ISSUED_LIFETIME, now))
        .collect::<Result<Vec<_>, _>>()?;
    make_folder(&args.out)?;
    let mut text = String::new();
    let mut lines = String::new();
    for ((chain, key), leaf) in files.iter().zip(&leaves) {
        write_key(key, &encode_key(&leaf.key))?;
        write_public(chain, &encode_certificates(&leaf.chain))?;
        let end = day(leaf.not_after().unwrap_or_default());
        let (chain, key) = (chain.display(), key.display());
        let _ = writeln!(text, "{chain}  until {end}, its key in {key}");
        let _ = writeln!(lines, "  - {{ chain: {chain}, key: {key} }}");
    }
    let _ = write!(text, "In relay.yaml of the relay that serves them:\nleaves:\n{lines}");
    Ok(text)
}

fn issuer(args: &Args) -> Result<Issuer, Failure> {
    if let Some(key) = &args.root_key {
        return read_root(&args.dir.join(ROOT), key);
    }
    if let (Some(chain), Some(key)) = (&args.issuer, &args.issuer_key) {
        return Ok(Issuer::load(chain, key)?);
    }
    Ok(Issuer::load(&args.dir.join(ISSUER), &args.dir.join(ISSUER_KEY))?)
}
