//! Certificates: the issuer and its leaves, identities brought as files, roots.
//!
//! Reads and mints; never opens a socket and never logs a key. The TLS front door asks
//! [`leaf::LeafStore`] for a leaf by name, the dialer asks [`roots::Roots`] whom to believe and
//! [`fingerprint_of`] whether the peer is this relay itself.

pub mod ca;
pub mod leaf;
pub mod pem;
pub mod roots;

use std::fmt;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::names::HostName;

/// A chain (leaf first) and the key of its leaf, checked to belong together.
#[derive(Debug)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// The leaf's key.
    pub key: PrivateKeyDer<'static>,
}

impl Identity {
    /// The leaf, when it can be read.
    fn leaf(&self) -> Option<X509Certificate<'_>> {
        parse(self.chain.first()?)
    }

    /// When the leaf ends, in seconds since 1970; `None` for a leaf that cannot be read.
    pub fn not_after(&self) -> Option<i64> {
        Some(self.leaf()?.validity().not_after.timestamp())
    }

    /// Whether the leaf has ended: worth a warning, never a refusal to start, because the other
    /// leaves still serve.
    pub fn is_expired(&self, now: SystemTime) -> bool {
        self.not_after().is_some_and(|end| end < unix(now))
    }

    /// The fingerprint of the leaf's key.
    pub fn key_fingerprint(&self) -> Option<KeyFingerprint> {
        fingerprint_of(self.chain.first()?)
    }

    /// The DNS names of the leaf's SAN, lower case, wildcards as they stand.
    pub fn dns_names(&self) -> Vec<String> {
        self.leaf().map(|leaf| dns_names(&leaf)).unwrap_or_default()
    }

    /// Whether the leaf speaks for `host`: by an exact SAN, or by `*.` for exactly one label
    /// (RFC 6125 §6.4.3). The common name does not count.
    pub fn covers(&self, host: &HostName) -> bool {
        let host = host.as_str();
        let parent = host.split_once('.').map(|(_label, parent)| parent);
        self.dns_names().iter().any(|name| match name.strip_prefix("*.") {
            Some(below) => parent == Some(below),
            None => name == host,
        })
    }

    /// Chain and key as rustls serves them.
    ///
    /// # Errors
    /// The key is of a type that cannot sign a handshake, or is not the leaf's.
    pub fn certified(&self) -> Result<CertifiedKey, rustls::Error> {
        let key = aws_lc_rs::sign::any_supported_type(&self.key)?;
        let certified = CertifiedKey::new(self.chain.clone(), key);
        certified.keys_match()?;
        Ok(certified)
    }
}

/// SHA-256 of a SubjectPublicKeyInfo in DER: how a key of ours is recognised in a peer's leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyFingerprint(pub [u8; 32]);

impl KeyFingerprint {
    /// Of a SubjectPublicKeyInfo in DER.
    pub fn of_spki(spki: &[u8]) -> Self {
        Self(sha256(spki))
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The fingerprint of a certificate's key; `None` when the certificate cannot be read.
pub fn fingerprint_of(certificate: &[u8]) -> Option<KeyFingerprint> {
    Some(KeyFingerprint::of_spki(parse(certificate)?.public_key().raw))
}

/// What the issuer is called among [`leaf::LeafStore::expiries`].
pub const ISSUER: &str = "issuer";

/// How close the end of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// More than 30 days.
    Quiet,
    /// 30 days or less.
    Month,
    /// 14 days or less.
    Fortnight,
    /// 7 days or less.
    Week,
    /// It is over.
    Expired,
}

/// The alarm level of a certificate that ends at `not_after`; both in seconds since 1970.
pub const fn alarm(not_after: i64, now: i64) -> Alarm {
    const DAY: i64 = 86_400;
    match not_after.saturating_sub(now) {
        left if left <= 0 => Alarm::Expired,
        left if left <= 7 * DAY => Alarm::Week,
        left if left <= 14 * DAY => Alarm::Fortnight,
        left if left <= 30 * DAY => Alarm::Month,
        _more => Alarm::Quiet,
    }
}

/// A certificate that somebody has to renew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Of the leaf, or [`ISSUER`].
    pub name: String,
    /// How close.
    pub alarm: Alarm,
    /// What ends when, and what to do.
    pub text: String,
}

/// In words, what ends and when, once somebody has to do something about it; what is renewed here
/// before it ends is left out. `expiries` are [`leaf::LeafStore::expiries`].
pub fn endings(expiries: &[(String, i64)], now: i64) -> Vec<Ending> {
    let issuer = expiries.iter().find(|(name, _)| name == ISSUER).map(|(_, end)| *end);
    let concerns = |(name, not_after): &&(String, i64)| {
        // Minted leaves end with their issuer at the latest: it is the issuer that is told.
        alarm(*not_after, now) != Alarm::Quiet && (name == ISSUER || issuer != Some(*not_after))
    };
    let told = |(name, not_after): &(String, i64)| {
        let (end, left) = (day(*not_after), not_after.saturating_sub(now).div_euclid(86_400));
        let when = match left {
            ..0 => format!("ended on {end}"),
            0 => format!("ends today, {end}"),
            1 => format!("ends on {end}, tomorrow"),
            _ => format!("ends on {end}, in {left} days"),
        };
        let text = if name == ISSUER {
            format!(
                "the issuer {when}: sign it again with `pushrelay ca extend` (or by the CA that \
                 made it); senders change nothing"
            )
        } else {
            format!("the leaf for {name} {when}: put a new one in its place")
        };
        Ending { name: name.clone(), alarm: alarm(*not_after, now), text }
    };
    expiries.iter().filter(concerns).map(told).collect()
}

/// The day of a moment, UTC.
pub fn day(unix: i64) -> String {
    time::OffsetDateTime::from_unix_timestamp(unix)
        .map_or_else(|_never| unix.to_string(), |moment| moment.date().to_string())
}

/// Reads a certificate; anything after it makes it unreadable.
fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        Ok(_) | Err(_) => None,
    }
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(san)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    san.value.general_names.iter().filter_map(dns_name).collect()
}

fn dns_name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(dns) => Some(dns.to_ascii_lowercase()),
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// Seconds since 1970; 0 for a clock that stands before it.
pub(crate) fn unix(now: SystemTime) -> i64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

fn unix_time(now: SystemTime) -> UnixTime {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    UnixTime::since_unix_epoch(since)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_name_what_somebody_has_to_renew() {
        let day = 86_400;
        let now = 20_000 * day;
        let told = |expiries: &[(&str, i64)]| {
            let expiries: Vec<_> =
                expiries.iter().map(|(name, left)| ((*name).to_owned(), now + left)).collect();
            endings(&expiries, now).into_iter().map(|it| it.text).collect::<Vec<_>>()
        };
        assert!(told(&[("issuer", 31 * day), ("api.push.apple.com", 40 * day)]).is_empty());
        let soon = told(&[("api.push.apple.com", 5 * day), ("issuer", 5 * day)]);
        assert_eq!(soon.len(), 1, "{soon:?}");
        assert!(soon[0].starts_with("the issuer ends on 2024-10-09, in 5 days: "), "{soon:?}");
        let brought = told(&[("push.corp.example", -1), ("issuer", 300 * day)]);
        assert!(brought[0].starts_with("the leaf for push.corp.example ended on "), "{brought:?}");
    }

    #[test]
    fn alarms_rise_at_30_14_and_7_days() {
        let day = 86_400;
        for (left, level) in [
            (31 * day, Alarm::Quiet),
            (30 * day, Alarm::Month),
            (15 * day, Alarm::Month),
            (14 * day, Alarm::Fortnight),
            (7 * day, Alarm::Week),
            (1, Alarm::Week),
            (0, Alarm::Expired),
            (-day, Alarm::Expired),
        ] {
            assert_eq!(alarm(1_000 * day + left, 1_000 * day), level, "{left}");
        }
        assert_eq!(alarm(i64::MIN, i64::MAX), Alarm::Expired);
    }

    #[test]
    fn what_is_no_certificate_has_no_fingerprint() {
        assert_eq!(fingerprint_of(b""), None);
        assert_eq!(fingerprint_of(b"\x30\x00"), None);
    }
}
