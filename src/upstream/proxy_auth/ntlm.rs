//! NTLMv2 (MS-NLMP) without sockets: three messages, each a pure function of its inputs.
//!
//! Authentication only: no signing, no sealing, no session after it. The connection is what gets
//! authenticated, so all three legs must travel on one socket; that is the dialer's duty.

use hmac::{Hmac, KeyInit, Mac};
use md4::{Digest, Md4};
use md5::Md5;
use zeroize::Zeroizing;

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";
/// MS-NLMP §2.2.2.5: Unicode, OEM, request target, NTLM, always sign, extended session security:
/// what is needed to be asked for NTLMv2 and nothing that would follow it.
const FLAGS: u32 = 0x0008_8207;
const UNICODE: u32 = 0x0000_0001;
const AV_END: u16 = 0;
const AV_FLAGS: u16 = 6;
const AV_TIMESTAMP: u16 = 7;
/// MsvAvFlags: the authenticate message carries a MIC.
const AV_FLAG_MIC: u32 = 2;
/// Where the MIC stands in the authenticate message, octets.
const MIC_AT: usize = 72;
/// Seconds from 1601 to 1970: Windows' clock counts 100 ns from there.
const EPOCH_OFFSET: u64 = 11_644_473_600;

/// Who logs in. Holds NTOWFv2 (MS-NLMP §3.3.2), not the password; wiped when dropped.
pub struct Account {
    user: String,
    domain: String,
    key: Zeroizing<[u8; 16]>,
}

/// Why a challenge cannot be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NtlmFault {
    /// Not an NTLM challenge, or cut short.
    #[error("the proxy's NTLM challenge is malformed")]
    Malformed,
}

impl Account {
    /// Derives the key; the domain may be empty.
    pub fn new(user: &str, domain: &str, password: &str) -> Self {
        let password = Zeroizing::new(utf16(password));
        let hash = Zeroizing::new(<[u8; 16]>::from(Md4::digest(password.as_slice())));
        let who = utf16(&format!("{}{domain}", user.to_uppercase()));
        let key = Zeroizing::new(hmac(hash.as_slice(), &[&who]));
        Self { user: user.to_owned(), domain: domain.to_owned(), key }
    }

    /// For telling one credential from another; never shown.
    pub(super) fn identity(&self) -> [&[u8]; 3] {
        [self.domain.as_bytes(), self.user.as_bytes(), self.key.as_slice()]
    }
}

impl std::fmt::Debug for Account {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Account").finish_non_exhaustive()
    }
}

/// The first message (§2.2.1.1). Names neither domain nor workstation.
pub fn negotiate() -> Vec<u8> {
    let mut message = [&SIGNATURE[..], &1_u32.to_le_bytes(), &FLAGS.to_le_bytes()].concat();
    message.extend_from_slice(&[0; 16]);
    message
}

/// 100 ns since 1601, from seconds and nanoseconds since 1970.
pub const fn filetime(seconds: u64, nanoseconds: u32) -> u64 {
    (seconds + EPOCH_OFFSET) * 10_000_000 + (nanoseconds / 100) as u64
}

/// The third message (§2.2.1.3) in answer to `challenge`. `nonce` is the client challenge and
/// must be random; `now` is a [`filetime`], used when the challenge brings no time of its own.
pub fn authenticate(
    account: &Account,
    negotiate: &[u8],
    challenge: &[u8],
    nonce: [u8; 8],
    now: u64,
) -> Result<Vec<u8>, NtlmFault> {
    let asked = Challenge::parse(challenge)?;
    let (target, signed) = asked.target_for_answer();
    let time = asked.timestamp.unwrap_or(now);
    let response = respond(&account.key, asked.nonce, nonce, time, &target);
    // §3.1.5.1.2: with a timestamp in the challenge the LM answer is zeros.
    let lm = if signed { [0; 24] } else { lm_response(&account.key, asked.nonce, nonce) };
    let text = |value: &str| match asked.flags & UNICODE {
        0 => value.as_bytes().to_vec(),
        _ => utf16(value),
    };
    let header = if signed { MIC_AT + 16 } else { 64 };
    let parts = [
        lm.to_vec(),
        response.message,
        text(&account.domain),
        text(&account.user),
        Vec::new(),
        Vec::new(),
    ];
    let mut message = [&SIGNATURE[..], &3_u32.to_le_bytes()].concat();
    let mut at = header;
    for part in &parts {
        let length = u16::try_from(part.len()).map_err(|_too_long| NtlmFault::Malformed)?;
        let offset = u32::try_from(at).map_err(|_too_long| NtlmFault::Malformed)?;
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&length.to_le_bytes());
        message.extend_from_slice(&offset.to_le_bytes());
        at += part.len();
    }
    message.extend_from_slice(&(FLAGS & asked.flags).to_le_bytes());
    message.resize(header, 0);
    message.extend(parts.into_iter().flatten());
    if signed {
        let mic = hmac(response.session_key.as_slice(), &[negotiate, challenge, &message]);
        message[MIC_AT..MIC_AT + 16].copy_from_slice(&mic);
    }
    Ok(message)
}

/// What the second message (§2.2.1.2) asks.
struct Challenge<'a> {
    nonce: [u8; 8],
    flags: u32,
    target: &'a [u8],
    timestamp: Option<u64>,
}

impl<'a> Challenge<'a> {
    fn parse(message: &'a [u8]) -> Result<Self, NtlmFault> {
        let cut = NtlmFault::Malformed;
        let kind = message.get(8..12).ok_or(cut)?;
        if !message.starts_with(SIGNATURE) || kind != 2_u32.to_le_bytes() {
            return Err(cut);
        }
        let flags = u32::from_le_bytes(array(message, 20).ok_or(cut)?);
        let nonce = array(message, 24).ok_or(cut)?;
        // Before Windows 2000 there was no target information at all.
        let target = match (array(message, 40), array(message, 44)) {
            (Some(length), Some(offset)) => {
                let (length, offset) = (u16::from_le_bytes(length), u32::from_le_bytes(offset));
                let offset = usize::try_from(offset).map_err(|_too_far| cut)?;
                let end = offset.checked_add(usize::from(length)).ok_or(cut)?;
                if length == 0 { &[] } else { message.get(offset..end).ok_or(cut)? }
            }
            _ => &[],
        };
        let timestamp = pairs(target)
            .find(|(id, _)| *id == AV_TIMESTAMP)
            .and_then(|(_, value)| array(value, 0).map(u64::from_le_bytes));
        Ok(Self { nonce, flags, target, timestamp })
    }

    /// The target information as the answer repeats it, and whether a MIC goes with it.
    fn target_for_answer(&self) -> (Vec<u8>, bool) {
        let signed = self.timestamp.is_some();
        let mut target = Vec::with_capacity(self.target.len() + 12);
        let mut push = |id: u16, value: &[u8]| {
            target.extend_from_slice(&id.to_le_bytes());
            // A value's length came from the same 16-bit field, so it fits.
            target.extend_from_slice(&u16::try_from(value.len()).unwrap_or(0).to_le_bytes());
            target.extend_from_slice(value);
        };
        let mut flags = 0;
        for (id, value) in pairs(self.target) {
            if id == AV_FLAGS {
                flags = array(value, 0).map_or(0, u32::from_le_bytes);
            } else {
                push(id, value);
            }
        }
        if signed || flags != 0 {
            let mic = if signed { AV_FLAG_MIC } else { 0 };
            push(AV_FLAGS, &(flags | mic).to_le_bytes());
        }
        push(AV_END, &[]);
        (target, signed)
    }
}

/// Attribute-value pairs (§2.2.2.1) up to the end mark or the first broken one.
fn pairs(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let id = u16::from_le_bytes(array(rest, 0)?);
        let length = usize::from(u16::from_le_bytes(array(rest, 2)?));
        let value = rest.get(4..4 + length)?;
        rest = &rest[4 + length..];
        (id != AV_END).then_some((id, value))
    })
}

struct Response {
    message: Vec<u8>,
    session_key: Zeroizing<[u8; 16]>,
}

/// NTLMv2_CLIENT_CHALLENGE with its proof in front (§2.2.2.7, §3.3.2).
fn respond(key: &[u8; 16], server: [u8; 8], nonce: [u8; 8], time: u64, target: &[u8]) -> Response {
    let mut blob = vec![1, 1, 0, 0, 0, 0, 0, 0];
    blob.extend_from_slice(&time.to_le_bytes());
    blob.extend_from_slice(&nonce);
    blob.extend_from_slice(&[0; 4]);
    blob.extend_from_slice(target);
    blob.extend_from_slice(&[0; 4]);
    let proof = hmac(key, &[&server, &blob]);
    let session_key = Zeroizing::new(hmac(key, &[&proof]));
    Response { message: [&proof[..], &blob].concat(), session_key }
}

fn lm_response(key: &[u8; 16], server: [u8; 8], nonce: [u8; 8]) -> [u8; 24] {
    let mut response = [0; 24];
    response[..16].copy_from_slice(&hmac(key, &[&server, &nonce]));
    response[16..].copy_from_slice(&nonce);
    response
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    let mut mac = Hmac::<Md5>::new_from_slice(key).expect("HMAC takes a key of any length");
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: [u8; 8] = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
    const NONCE: [u8; 8] = [0xaa; 8];

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    fn av(id: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap();
        [&id.to_le_bytes()[..], &length.to_le_bytes(), value].concat()
    }

    fn challenge(flags: u32, target: &[u8]) -> Vec<u8> {
        let mut message = [&SIGNATURE[..], &2_u32.to_le_bytes(), &[0; 8]].concat();
        message.extend_from_slice(&flags.to_le_bytes());
        message.extend_from_slice(&SERVER);
        message.extend_from_slice(&[0; 8]);
        let length = u16::try_from(target.len()).unwrap().to_le_bytes();
        message.extend_from_slice(&[length, length].concat());
        message.extend_from_slice(&48_u32.to_le_bytes());
        message.extend_from_slice(target);
        message
    }

    fn field(message: &[u8], at: usize) -> &[u8] {
        let length = usize::from(u16::from_le_bytes(array(message, at).unwrap()));
        let offset = u32::from_le_bytes(array(message, at + 4).unwrap()) as usize;
        &message[offset..offset + length]
    }

    /// MS-NLMP §4.2.1 and §4.2.4: the protocol's own example.
    #[test]
    fn ms_nlmp_4_2_4_vectors() {
        let account = Account::new("User", "Domain", "Password");
        assert_eq!(hex(account.key.as_slice()), "0c868a403bfd7a93a3001ef22ef02e3f");
        let target = [av(2, &utf16("Domain")), av(1, &utf16("Server")), av(AV_END, &[])].concat();
        let response = respond(&account.key, SERVER, NONCE, 0, &target);
        assert_eq!(hex(&response.message[..16]), "68cd0ab851e51c96aabc927bebef6a1c");
        assert_eq!(hex(response.session_key.as_slice()), "8de40ccadbc14a82f15cb0ad0de95ca3");
        let lm = lm_response(&account.key, SERVER, NONCE);
        assert_eq!(hex(&lm), "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa");
    }

    #[test]
    fn the_whole_answer_carries_the_vectors_without_a_timestamp() {
        let account = Account::new("User", "Domain", "Password");
        let target = [av(2, &utf16("Domain")), av(1, &utf16("Server")), av(AV_END, &[])].concat();
        let asked = challenge(0xe28a_8233, &target);
        let answer = authenticate(&account, &negotiate(), &asked, NONCE, 0).unwrap();
        assert_eq!(hex(&field(&answer, 20)[..16]), "68cd0ab851e51c96aabc927bebef6a1c");
        assert_eq!(hex(&field(&answer, 12)[..16]), "86c35097ac9cec102554764a57cccc19");
        assert_eq!(field(&answer, 28), utf16("Domain"));
        assert_eq!(field(&answer, 36), utf16("User"));
    }

    #[test]
    fn a_timestamp_in_the_challenge_brings_a_mic_and_no_lm_answer() {
        let account = Account::new("User", "", "Password");
        let stamp = 0x01d9_0000_1234_5678_u64;
        let target = [
            av(AV_TIMESTAMP, &stamp.to_le_bytes()),
            av(AV_FLAGS, &1_u32.to_le_bytes()),
            av(AV_END, &[]),
        ]
        .concat();
        let (first, asked) = (negotiate(), challenge(UNICODE, &target));
        let mut answer = authenticate(&account, &first, &asked, NONCE, 7).unwrap();
        assert_eq!(field(&answer, 12), [0; 24]);
        let proof_and_blob = field(&answer, 20).to_vec();
        assert_eq!(proof_and_blob[24..32], stamp.to_le_bytes());
        let flags = av(AV_FLAGS, &3_u32.to_le_bytes());
        assert!(proof_and_blob.windows(flags.len()).any(|window| window == flags));
        let mic: [u8; 16] = array(&answer, MIC_AT).unwrap();
        answer[MIC_AT..MIC_AT + 16].fill(0);
        let session_key = hmac(account.key.as_slice(), &[&proof_and_blob[..16]]);
        assert_eq!(mic, hmac(&session_key, &[&first, &asked, &answer]));
    }

    #[test]
    fn malformed_challenges_are_refused_and_never_panic() {
        let account = Account::new("u", "d", "p");
        let good = challenge(UNICODE, &[av(AV_TIMESTAMP, &[1, 2, 3]), av(AV_END, &[])].concat());
        for end in 0..good.len() {
            let _any = authenticate(&account, &negotiate(), &good[..end], NONCE, 0);
        }
        for bad in [&b""[..], b"NTLMSSP\0", &negotiate(), &good[..31]] {
            let answer = authenticate(&account, &negotiate(), bad, NONCE, 0);
            assert_eq!(answer, Err(NtlmFault::Malformed));
        }
        let mut far = good;
        far[44..48].fill(0xff);
        assert!(authenticate(&account, &negotiate(), &far, NONCE, 0).is_err());
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", Account::new("user", "dom", "pw")), "Account { .. }");
    }
}
