//! `ca csr`: a request that a corporate CA signs, and what to ask of it.

use std::fmt::Write;
use std::path::PathBuf;

use super::{Algorithm, Failure, Hosts, ISSUER, ISSUER_KEY, REQUEST, make_folder, must_be_free};
use crate::pki::ca::new_issuer_request;
use crate::pki::pem::{encode_key, write_key, write_public};

/// Arguments of `ca csr`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Where the request and the issuer's key go [default: certs, beside the configuration file]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    #[command(flatten)]
    hosts: Hosts,
    /// Key of the issuer
    #[arg(long, value_enum, default_value = "rsa3072")]
    algorithm: Algorithm,
    /// The issuer's common name; the CA may set another
    #[arg(long, value_name = "NAME", default_value = "pushrelay issuer")]
    name: String,
}

pub(super) fn run(args: &Args) -> Result<String, Failure> {
    let dir = args.hosts.folder(args.dir.as_deref());
    let hosts = args.hosts.some_names()?;
    let key_path = dir.join(ISSUER_KEY);
    let request_path = dir.join(REQUEST);
    let chain_path = dir.join(ISSUER);
    must_be_free(&[&key_path, &request_path, &chain_path])?;
    make_folder(&dir)?;
    let (request, key) = new_issuer_request(args.algorithm.into(), &args.name)?;
    write_key(&key_path, &encode_key(&key))?;
    write_public(&request_path, &request)?;

    let (mut permitted, mut inf) = (String::new(), String::new());
    for (index, host) in hosts.iter().enumerate() {
        let _ = writeln!(permitted, "  permitted;DNS.{index} = {host}");
        let _ = writeln!(inf, "  DNS = {host}");
    }
    Ok(format!(
        "\
{request}  the request. Give it to whoever runs the corporate CA.
{key}  its key. It stays here; the relay's account must read it, nobody else.
Ask for a subordinate CA certificate with:
  basic constraints, critical: CA, path length 0
  key usage, critical: certificate signing, CRL signing
  extended key usage: server authentication
  name constraints, critical: only the hosts below, every address excluded
A request cannot carry name constraints. With openssl ca, as an extension section:
  basicConstraints = critical,CA:TRUE,pathlen:0
  keyUsage = critical,keyCertSign,cRLSign
  extendedKeyUsage = serverAuth
  subjectKeyIdentifier = hash
  authorityKeyIdentifier = keyid
  nameConstraints = critical,@names
  [names]
{permitted}  excluded;IP.0 = 0.0.0.0/0.0.0.0
  excluded;IP.1 = ::/::
With Active Directory Certificate Services, in the policy file of certreq -policy:
  [NameConstraintsExtension]
  Include = NameConstraintsPermitted
  Exclude = NameConstraintsExcluded
  Critical = True
  [NameConstraintsPermitted]
{inf}  [NameConstraintsExcluded]
  IPAddress = 0.0.0.0, 0.0.0.0
  IPAddress = ::, ::
Put the answer into {chain} as PEM: the issuer first, then what stands between
it and the root. Senders must trust the corporate root; most do already.
",
        request = request_path.display(),
        key = key_path.display(),
        chain = chain_path.display(),
    ))
}
