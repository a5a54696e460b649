//! `ca extend`: the issuer signed again, under its key.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::SystemTime;

use super::{Failure, Hosts, ISSUER, ISSUER_KEY, ROOT, list, pem, read_root};
use crate::names::HostName;
use crate::pki::ca::{Issued, host_names};
use crate::pki::day;
use crate::pki::pem::{encode_certificates, replace_public};

/// Arguments of `ca extend`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The root's key, as `ca init` wrote it
    #[arg(long, value_name = "FILE")]
    root_key: PathBuf,
    /// Where root.pem and issuer.pem are; the issuer's key is not needed [default: certs, beside the configuration file]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    hosts: Hosts,
}

pub(super) fn run(args: &Args) -> Result<String, Failure> {
    let dir = args.hosts.folder(args.dir.as_deref());
    let issuer_path = dir.join(ISSUER);
    let root = read_root(&dir.join(ROOT), &args.root_key)?;
    let old = pem::read_certificates(&issuer_path)?;
    let before = hosts_of(&Issued::read(&old[0])?)?;
    let mut hosts = before.clone();
    hosts.extend(args.hosts.names()?);

    let certificate = root.extend(&old[0], &hosts, SystemTime::now())?;
    let fresh = Issued::read(&certificate)?;
    replace_public(&issuer_path, &encode_certificates(&[certificate]))?;

    let mut text = String::new();
    let _ = writeln!(
        text,
        "{}  signed again, until {}. Key and root are the same: senders change nothing.",
        issuer_path.display(),
        day(fresh.not_after),
    );
    let added = list(hosts.difference(&before));
    if !added.is_empty() {
        let _ = write!(text, "New hosts:\n{added}");
    }
    let _ = write!(
        text,
        "\
A running relay reads the new certificate by itself. Where relay and root are on
different machines, copy {} there; {} stays where it is.
Put the root's key away again.
",
        issuer_path.display(),
        dir.join(ISSUER_KEY).display(),
    );
    Ok(text)
}

/// What the issuer may speak for today.
fn hosts_of(issuer: &Issued) -> Result<BTreeSet<HostName>, Failure> {
    let permitted = issuer.limits.permitted.iter().flatten();
    Ok(host_names(permitted.map(String::as_str))?)
}
