//! `ca init`: the offline root and the issuer.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Algorithm, Failure, Hosts, ISSUER, ISSUER_KEY, ROOT};
use super::{list, make_folder, must_be_free};
use crate::pki::ca::{Issuer, new_root};
use crate::pki::day;
use crate::pki::pem::{encode_certificates, encode_key, write_key, write_public};

/// Arguments of `ca init`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the root's key goes: a medium that leaves this machine, never the relay's folders
    #[arg(long, value_name = "FILE")]
    root_key: PathBuf,
    /// Where the certificates and the issuer's key go [default: certs, beside the configuration file]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    hosts: Hosts,
    /// Keys of root and issuer
    #[arg(long, value_enum, default_value = "rsa3072")]
    algorithm: Algorithm,
    /// The name of the authority in trust stores [default: pushrelay and the day]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<String, Failure> {
    let dir = args.hosts.folder(args.dir.as_deref());
    let hosts = args.hosts.some_names()?;
    let root_path = dir.join(ROOT);
    let issuer_path = dir.join(ISSUER);
    let key_path = dir.join(ISSUER_KEY);
    nothing_is_there(&args.root_key, &dir, &[&root_path, &issuer_path, &key_path])?;
    make_folder(&dir)?;
    keep_apart(&args.root_key, &dir)?;

    let now = SystemTime::now();
    let name = args.name.clone().unwrap_or_else(|| format!("pushrelay {}", day(unix(now))));
    let algorithm = args.algorithm.into();
    let root = new_root(algorithm, &format!("{name} root"), now)?;
    let signer = Issuer::new(vec![root.certificate.clone()], &root.key, now)?;
    let issuer = signer.new_issuer(algorithm, &format!("{name} issuer"), &hosts, now)?;
    let loaded = Issuer::new(vec![issuer.certificate.clone()], &issuer.key, now)?;

    // The root's key first: without it the rest could never be extended.
    write_key(&args.root_key, &encode_key(&root.key))?;
    write_public(&root_path, &encode_certificates(&[root.certificate]))?;
    write_key(&key_path, &encode_key(&issuer.key))?;
    write_public(&issuer_path, &encode_certificates(&[issuer.certificate]))?;

    let mut text = String::new();
    let root_key = args.root_key.display();
    let _ = write!(
        text,
        "\
{root_key}  the root's key. Move it off this machine now: an encrypted stick or
    a vault, with a second copy elsewhere. Only `ca extend` and `ca issue` need it.
    Whoever has it can pretend to be any server towards your senders.
{}  the root, until {}. Senders import this one and nothing else.
{}  the issuer, until {}. The relay holds it.
{}  the issuer's key. The relay's account must read it, nobody else:
    chgrp pushrelay {} && chmod 640 {}
The issuer may speak for these hosts only, and for no address:
{}Next: pushrelay ca show --dir {}
",
        root_path.display(),
        day(signer.not_after()),
        issuer_path.display(),
        day(loaded.not_after()),
        key_path.display(),
        key_path.display(),
        key_path.display(),
        list(&hosts),
        dir.display(),
    );
    Ok(text)
}

/// No authority yet, and a medium for its key.
fn nothing_is_there(root_key: &Path, dir: &Path, files: &[&Path]) -> Result<(), Failure> {
    must_be_free(&[root_key])?;
    if must_be_free(files).is_err() {
        return Err(Failure::Usage(format!(
            "{} holds an authority already, and nothing is overwritten. For other hosts or a new \
             term: `pushrelay ca extend`; senders change nothing. For another authority: --dir",
            dir.display()
        )));
    }
    let medium = parent(root_key);
    // The certificates' own folder is refused below, with the better reason.
    if medium != dir && !medium.is_dir() {
        return Err(Failure::Usage(format!(
            "{}: this folder for the root's key is not there; is the medium mounted?",
            medium.display()
        )));
    }
    Ok(())
}

fn parent(file: &Path) -> &Path {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or_else(|| Path::new("."))
}

/// The relay's folders end up in backups and on the relay itself.
fn keep_apart(root_key: &Path, dir: &Path) -> Result<(), Failure> {
    let folder = |path: &Path| {
        path.canonicalize().map_err(|source| Failure::Folder { path: path.to_owned(), source })
    };
    if folder(parent(root_key))?.starts_with(folder(dir)?) {
        return Err(Failure::Usage(format!(
            "{}: the root's key must not lie in {}, which stays on the relay; name a medium that leaves this machine",
            root_key.display(),
            dir.display(),
        )));
    }
    Ok(())
}

fn unix(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
