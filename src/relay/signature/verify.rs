//! Reading a signature: parse, recompute, compare, and only then ask whether it is fresh and new.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

use crate::relay::outcome::Refusal;

use super::{
    DEADLINE_FIELD, Key, LABEL, Memory, Message, WINDOW_SECONDS, base, content_digest, demanded,
};

/// Most components read; ours have about twelve.
const COMPONENTS_CAP: usize = 64;

/// What a good signature says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Which key, by name.
    pub key: String,
    /// What is left of the sender's deadline, milliseconds.
    pub remaining_ms: u64,
}

struct Input<'a> {
    components: Vec<&'a str>,
    created: i64,
    keyid: &'a str,
    params: &'a str,
}

/// Checks `message` against `keys` at `now` (seconds since the epoch) and remembers it.
///
/// # Errors
/// [`Refusal::Signature`] with the one thing that is wrong; a clock that differs is named as such,
/// after the signature itself was found to be right.
pub fn verify(
    message: &Message<'_>,
    keys: &[Key],
    now: i64,
    memory: &mut Memory,
) -> Result<Verified, Refusal> {
    let input = one_line(message.headers, "signature-input")?;
    let input = parse(input).ok_or(Refusal::Signature("Signature-Input cannot be read"))?;
    let tag = one_line(message.headers, "signature")?;
    let tag = tag.strip_prefix(':').and_then(|tag| tag.strip_suffix(':'));
    let tag = tag.and_then(|tag| STANDARD.decode(tag).ok());
    let tag = tag.ok_or(Refusal::Signature("Signature cannot be read"))?;
    let key = keys.iter().find(|key| key.id == input.keyid);
    let key = key.ok_or(Refusal::Signature("the key is not known here"))?;
    let covers = |name: &String| input.components.contains(&name.as_str());
    if !demanded(message).iter().all(covers) {
        return Err(Refusal::Signature("a part of the request is not covered"));
    }
    let base = base(message, input.components.iter().copied(), input.params)
        .ok_or(Refusal::Signature("a part that is covered is missing"))?;
    hmac::verify(&key.hmac, &base, &tag)
        .map_err(|_mismatch| Refusal::Signature("it does not match the request"))?;
    let digest = message.headers.get("content-digest").map(|digest| digest.as_bytes());
    if digest != Some(content_digest(message.body).as_bytes()) {
        return Err(Refusal::Signature("the body is not the one that was signed"));
    }
    let age = now.saturating_sub(input.created);
    if age > WINDOW_SECONDS {
        return Err(Refusal::Signature(
            "older than 120 s: delayed, repeated, or the clocks differ",
        ));
    }
    if age < -WINDOW_SECONDS {
        return Err(Refusal::Signature("from the future by more than 120 s: the clocks differ"));
    }
    memory.remember(&tag, input.created, now)?;
    let remaining = message.headers.get(DEADLINE_FIELD).and_then(|value| value.to_str().ok());
    let remaining = remaining.and_then(|value| value.parse().ok());
    let remaining_ms = remaining.ok_or(Refusal::Signature("the deadline is no number"))?;
    Ok(Verified { key: key.id.clone(), remaining_ms })
}

/// The value behind our label. Others' signatures may stand beside it in lines of their own.
fn one_line<'a>(headers: &'a HeaderMap, name: &str) -> Result<&'a str, Refusal> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    let mut ours = lines.filter_map(|line| line.trim().strip_prefix(LABEL)?.strip_prefix('='));
    let first = ours.next().ok_or(Refusal::Signature("there is none"))?;
    if ours.next().is_some() {
        return Err(Refusal::Signature("there are several"));
    }
    Ok(first)
}

/// Reads exactly the form that [`super::sign`] writes; the parameters are signed, so no other
/// form can be meant.
fn parse(text: &str) -> Option<Input<'_>> {
    let (list, rest) = text.strip_prefix('(')?.split_once(')')?;
    let mut components = Vec::new();
    for item in list.split(' ') {
        let name = item.strip_prefix('"')?.strip_suffix('"')?;
        if components.len() == COMPONENTS_CAP || components.contains(&name) {
            return None;
        }
        components.push(name);
    }
    let (mut created, mut keyid, mut nonce, mut alg) = (None, None, None, None);
    for param in rest.strip_prefix(';')?.split(';') {
        let (name, value) = param.split_once('=')?;
        let quoted = || value.strip_prefix('"')?.strip_suffix('"');
        match name {
            "created" if created.is_none() => created = Some(value.parse().ok()?),
            "keyid" if keyid.is_none() => keyid = Some(quoted()?),
            "alg" if alg.is_none() => alg = Some(quoted()?),
            "nonce" if nonce.is_none() => nonce = Some(quoted()?),
            _unknown => return None,
        }
    }
    if alg? != "hmac-sha256" || nonce?.len() < 16 {
        return None;
    }
    Some(Input { components, created: created?, keyid: keyid?, params: text })
}
