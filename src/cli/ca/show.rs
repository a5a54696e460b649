//! `ca show`: what is there, when it ends, and how senders come to trust it.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Failure, ISSUER, ROOT, pem, trust};
use crate::hop::clean;
use crate::pki::ca::Issued;
use crate::pki::day;
use crate::pki::pem::PemError;
use crate::pki::{Alarm, alarm};

/// Characters of a certificate's text shown: room for every host of every provider, not more.
const MOST: usize = 4_096;

/// Arguments of `ca show`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where root.pem and issuer.pem are
    #[arg(long, value_name = "DIR", default_value = "certs")]
    dir: PathBuf,
}

pub(super) fn run(args: &Args) -> Result<String, Failure> {
    let root_path = args.dir.join(ROOT);
    let issuer_path = args.dir.join(ISSUER);
    let root = optional(&root_path)?;
    let issuer = optional(&issuer_path)?;
    if root.is_empty() && issuer.is_empty() {
        return Err(Failure::Usage(format!(
            "{}: neither {ROOT} nor {ISSUER} is there; make them with: pushrelay ca init --root-key FILE",
            args.dir.display(),
        )));
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let mut text = String::new();
    for (what, path, chain) in [("root", &root_path, &root), ("issuer", &issuer_path, &issuer)] {
        for certificate in chain {
            describe(&mut text, what, path, &Issued::read(certificate)?, now);
        }
    }
    if root.is_empty() {
        text.push_str(
            "\nThere is no root here: senders must trust the corporate root above the issuer.\n",
        );
    } else {
        text.push_str(&trust::commands(&root_path));
    }
    Ok(text)
}

fn optional(path: &Path) -> Result<Vec<rustls::pki_types::CertificateDer<'static>>, Failure> {
    match pem::read_certificates(path) {
        Ok(chain) => Ok(chain),
        Err(PemError::Missing(_)) => Ok(Vec::new()),
        Err(fault) => Err(fault.into()),
    }
}

fn describe(text: &mut String, what: &str, path: &Path, certificate: &Issued, now: i64) {
    let left = certificate.not_after.saturating_sub(now) / 86_400;
    let note = match alarm(certificate.not_after, now) {
        Alarm::Quiet => "",
        Alarm::Month => "  SOON: renew it within the month",
        Alarm::Fortnight => "  SOON: renew it within two weeks",
        Alarm::Week => "  URGENT: renew it this week",
        Alarm::Expired => "  EXPIRED",
    };
    let _ = write!(
        text,
        "\
{what}  {}
  subject         {}
  SHA-256         {}
  key SHA-256     {}
  ends            {} ({left} days){note}
",
        path.display(),
        clean(certificate.subject.as_bytes(), MOST),
        certificate.fingerprint,
        certificate.key_fingerprint,
        day(certificate.not_after),
    );
    if let Some(most) = certificate.path_length {
        let _ = writeln!(text, "  CAs below it    at most {most}");
    }
    if what == "issuer" {
        let _ = writeln!(text, "  {}", clean(certificate.limits.to_string().as_bytes(), MOST));
    }
}
