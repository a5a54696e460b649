//! Who we are: so that the relay recognises itself at the far end of a dial.
//!
//! A hosts entry, a stub, a zone or a proxy may lead a dial back to this process, or to another
//! relay with our certificates. Both are found before a push is sent. Shared by every dialer;
//! the listeners and the certificates write it, dials read it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use aws_lc_rs::digest;
use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::pki::KeyFingerprint;

/// What is ours.
#[derive(Debug, Default)]
pub struct Ourselves(RwLock<Facts>);

#[derive(Debug, Default)]
struct Facts {
    listening: Vec<SocketAddr>,
    keys: Vec<KeyFingerprint>,
    issuers: Vec<Issuer>,
}

/// Subject and public key of an issuer of ours; its certificate may be renewed under both.
#[derive(Debug)]
struct Issuer {
    subject: Vec<u8>,
    key: Vec<u8>,
}

/// How a peer's leaf is related to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// It holds one of our keys: it is us, or a relay with our files.
    Ourselves,
    /// Our issuer signed it: a relay.
    Relay,
    /// It is a stranger's.
    Stranger,
}

impl Ourselves {
    /// The addresses of every listening socket, as bound.
    pub fn set_listening(&self, addresses: Vec<SocketAddr>) {
        self.write().listening = addresses;
    }

    /// The keys of every leaf that we serve.
    pub fn set_keys(&self, keys: Vec<KeyFingerprint>) {
        self.write().keys = keys;
    }

    /// The certificates of our issuers; one that cannot be parsed is left out.
    pub fn set_issuers(&self, certificates: &[CertificateDer<'_>]) {
        let parse = |der: &CertificateDer<'_>| {
            let (_, certificate) = X509Certificate::from_der(der).ok()?;
            let key = certificate.public_key().subject_public_key.data.to_vec();
            Some(Issuer { subject: certificate.subject().as_raw().to_vec(), key })
        };
        self.write().issuers = certificates.iter().filter_map(parse).collect();
    }

    /// Whether a connection to this address would reach one of our own listeners. A wildcard
    /// bind counts every address of this machine, of its own family.
    pub fn listens_at(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        self.read().listening.iter().any(|bound| {
            let own = bound.ip().to_canonical();
            bound.port() == address.port()
                && own.is_ipv4() == ip.is_ipv4()
                && (own == ip
                    || own.is_unspecified() && is_local(ip)
                    // Linux dials loopback when told to dial the unspecified address.
                    || ip.is_unspecified() && own.is_loopback())
        })
    }

    /// How the leaf in DER is related to us.
    pub fn kinship(&self, leaf: &[u8]) -> Kinship {
        let Ok((_, certificate)) = X509Certificate::from_der(leaf) else {
            return Kinship::Stranger;
        };
        let facts = self.read();
        if facts.keys.contains(&fingerprint(certificate.public_key().raw)) {
            return Kinship::Ourselves;
        }
        let issuer = certificate.issuer().as_raw();
        let signed = |one: &Issuer| one.subject == issuer && signed_by(&certificate, &one.key);
        if facts.issuers.iter().any(signed) { Kinship::Relay } else { Kinship::Stranger }
    }

    fn read(&self) -> RwLockReadGuard<'_, Facts> {
        // Writers replace whole fields, so a panic leaves no half state.
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Facts> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// SHA-256 of a SubjectPublicKeyInfo in DER.
pub fn fingerprint(public_key_info: &[u8]) -> KeyFingerprint {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, public_key_info).as_ref());
    KeyFingerprint(out)
}

/// Whether this machine owns the address. Binding succeeds for own addresses only, so no list of
/// interfaces has to be kept; where `ip_nonlocal_bind` makes every bind succeed (keepalived
/// machines) the source that the kernel picks towards an own address is that address.
pub(super) fn is_local(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    let family = if ip.is_ipv4() { "ipv4" } else { "ipv6" };
    let knob = std::fs::read_to_string(format!("/proc/sys/net/{family}/ip_nonlocal_bind"));
    if knob.is_ok_and(|value| value.trim() != "0") {
        let any: IpAddr = match ip {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let source = UdpSocket::bind((any, 0)).and_then(|socket| {
            // Sends nothing: a UDP connect only looks the route up. 9 is discard.
            socket.connect((ip, 9))?;
            socket.local_addr()
        });
        return source.is_ok_and(|source| source.ip() == ip);
    }
    UdpSocket::bind((ip, 0)).is_ok()
}

fn signed_by(certificate: &X509Certificate<'_>, key: &[u8]) -> bool {
    let signature = certificate.signature_value.data.as_ref();
    let message = certificate.tbs_certificate.as_ref();
    // Rare (the name matched) and short: trying every algorithm spares mapping their names.
    let algorithms =
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    algorithms.all.iter().any(|one| one.verify_signature(key, message, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, PublicKeyData as _};

    use super::*;

    #[test]
    fn c7_a_wildcard_counts_every_local_address_of_its_family_and_port() {
        let ours = Ourselves::default();
        ours.set_listening(vec![
            "0.0.0.0:443".parse().unwrap(),
            "127.0.0.1:8443".parse().unwrap(),
            "192.0.2.7:2197".parse().unwrap(),
        ]);
        for (address, own) in [
            ("127.0.0.1:443", true),
            ("127.9.9.9:443", true),
            ("[::ffff:127.0.0.1]:443", true),
            ("0.0.0.0:443", true),
            ("[::1]:443", false),
            ("127.0.0.1:444", false),
            ("198.51.100.9:443", false),
            ("127.0.0.1:8443", true),
            ("0.0.0.0:8443", true),
            ("127.0.0.2:8443", false),
            ("192.0.2.7:2197", true),
        ] {
            assert_eq!(ours.listens_at(address.parse().unwrap()), own, "{address}");
        }
    }

    #[test]
    fn a_leaf_is_told_by_its_key_and_by_its_issuer() {
        let issuer = |name: &str| {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(DnType::CommonName, name);
            (params.self_signed(&key).unwrap(), rcgen::Issuer::new(params, key))
        };
        let leaf = |issuer: &rcgen::Issuer<'_, KeyPair>| {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
            (params.signed_by(&key, issuer).unwrap(), key)
        };
        let ((certificate, ours_issues), (_, namesake)) = (issuer("ours"), issuer("ours"));
        let ours = Ourselves::default();
        ours.set_issuers(&[certificate.der().clone()]);
        let ((mine, key), (other, _)) = (leaf(&ours_issues), leaf(&namesake));
        assert_eq!(ours.kinship(mine.der()), Kinship::Relay);
        assert_eq!(ours.kinship(other.der()), Kinship::Stranger);
        ours.set_keys(vec![fingerprint(&key.subject_public_key_info())]);
        assert_eq!(ours.kinship(mine.der()), Kinship::Ourselves);
        assert_eq!(ours.kinship(b"no certificate"), Kinship::Stranger);
    }
}
