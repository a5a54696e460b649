//! Signing a certificate so that the issuer's name stays as it is, byte for byte.
//!
//! rcgen keeps a name as a map by attribute type and loses repeated DC and OU, which every
//! Active Directory name has; a leaf with such an issuer chains to nobody. So rcgen only lays
//! the certificate out; the issuer's own name is put in before the key signs it.

use std::cell::RefCell;

use rcgen::{
    CertificateParams, KeyIdMethod, KeyPair, PublicKeyData, SerialNumber, SignatureAlgorithm,
    SigningKey,
};
use rustls::pki_types::CertificateDer;

/// Why a certificate could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The library refused what should go into it.
    #[error("the certificate cannot be put together")]
    Make(#[source] rcgen::Error),
    /// What the library laid out is not a certificate.
    #[error("the certificate's layout cannot be read")]
    Layout(#[source] yasna::ASN1Error),
    /// A time that a certificate cannot hold.
    #[error("the validity cannot be expressed")]
    Clock(#[source] time::error::ComponentRange),
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Entropy,
}

/// Elements of a TBSCertificate as rcgen writes it (RFC 5280 §4.1): version, serial, signature
/// algorithm, issuer, validity, subject, key, extensions.
const ELEMENTS: usize = 8;
const ALGORITHM: usize = 2;
const ISSUER: usize = 3;

/// Takes what it should sign and signs nothing.
struct Draft<'a> {
    key: &'a KeyPair,
    taken: RefCell<Vec<u8>>,
}

impl PublicKeyData for Draft<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        PublicKeyData::algorithm(self.key)
    }
}

impl SigningKey for Draft<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.taken.replace(message.to_vec());
        Ok(Vec::new())
    }
}

/// Signs `params` in the name `issuer` (DER), with `key_id` as the authority key identifier.
pub(super) fn sign(
    mut params: CertificateParams,
    public_key: &impl PublicKeyData,
    issuer: &[u8],
    key_id: &[u8],
    key: &KeyPair,
) -> Result<CertificateDer<'static>, SignError> {
    params.use_authority_key_identifier_extension = true;
    let mut above = CertificateParams::default();
    above.key_identifier_method = KeyIdMethod::PreSpecified(key_id.to_vec());
    let draft = Draft { key, taken: RefCell::default() };
    params
        .signed_by(public_key, &rcgen::Issuer::from_params(&above, &draft))
        .map_err(SignError::Make)?;

    let mut elements = elements(&draft.taken.borrow()).map_err(SignError::Layout)?;
    elements[ISSUER] = issuer.to_vec();
    let tbs = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            for element in &elements {
                writer.next().write_der(element);
            }
        });
    });
    let signature = key.sign(&tbs).map_err(SignError::Make)?;
    let der = yasna::construct_der(|writer| {
        writer.write_sequence(|writer| {
            writer.next().write_der(&tbs);
            writer.next().write_der(&elements[ALGORITHM]);
            writer.next().write_bitvec_bytes(&signature, signature.len() * 8);
        });
    });
    Ok(der.into())
}

fn elements(tbs: &[u8]) -> Result<Vec<Vec<u8>>, yasna::ASN1Error> {
    yasna::parse_der(tbs, |reader| {
        reader.read_sequence(|reader| {
            (0..ELEMENTS).map(|_element| reader.next().read_der()).collect()
        })
    })
}

/// 127 random bits: the library's default repeats issuer and serial when a key is signed again.
pub(super) fn random_serial() -> Result<SerialNumber, SignError> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_unspecified| SignError::Entropy)?;
    // RFC 5280 §4.1.2.2: positive and not zero.
    bytes[0] = (bytes[0] & 0x7f) | 0x01;
    Ok(SerialNumber::from_slice(&bytes))
}
