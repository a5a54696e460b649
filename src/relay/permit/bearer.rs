//! Team and key of a provider token, read without verifying: they tell lanes apart and may be
//! allowed or not, they prove nothing. The signature is never looked at (some senders' is DER).

use std::borrow::Cow;
use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use serde::Deserialize;

use crate::upstream::Credential;

/// Longest token looked into, octets. Real ones have about 220; the head's own limit would let
/// one sender make us decode 16 KiB for each of its requests.
const TOKEN_CAP: usize = 4096;

/// Longest `iss` or `kid`, characters. Apple's have 10; a few more harm no lane and no log line.
const CLAIM_CAP: usize = 32;

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    kid: Cow<'a, str>,
}

#[derive(Deserialize)]
struct Claims<'a> {
    #[serde(borrow)]
    iss: Cow<'a, str>,
}

fn read(value: &HeaderValue) -> Option<Credential> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") || token.len() > TOKEN_CAP {
        return None;
    }
    let mut parts = token.trim_start_matches(' ').split('.');
    let header = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
    let claims = URL_SAFE_NO_PAD.decode(parts.next()?).ok()?;
    let header: Header<'_> = serde_json::from_slice(&header).ok()?;
    let claims: Claims<'_> = serde_json::from_slice(&claims).ok()?;
    Some(Credential { team: plain(&claims.iss)?, key: plain(&header.kid)? })
}

/// The last token of a connection and what it said: senders repeat one for up to an hour, and
/// decoding it would be among the dearest steps of a push.
#[derive(Default)]
pub struct Memo(RefCell<Option<(Box<[u8]>, Credential)>>);

impl Memo {
    /// The credential of a request with an APNs provider token; `None` where there is no single
    /// `authorization` with a readable JWT. Such a request shares the lane of the nameless, and
    /// APNs says what is wrong with it.
    pub fn credential(&self, headers: &HeaderMap) -> Option<Credential> {
        let mut fields = headers.get_all(AUTHORIZATION).iter();
        let (value, None) = (fields.next()?, fields.next()) else {
            return None;
        };
        if let Some((token, known)) = &*self.0.borrow()
            && **token == *value.as_bytes()
        {
            return Some(known.clone());
        }
        let found = read(value)?;
        *self.0.borrow_mut() = Some((value.as_bytes().into(), found.clone()));
        Some(found)
    }
}

/// Shows nothing of the token.
impl fmt::Debug for Memo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memo").finish_non_exhaustive()
    }
}

fn plain(claim: &str) -> Option<Arc<str>> {
    let ok = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (!claim.is_empty() && claim.len() <= CLAIM_CAP && claim.bytes().all(ok)).then(|| claim.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::relay::fixture::bearer;

    fn read(values: &[&str]) -> Option<(String, String)> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, value.parse().unwrap());
        }
        let found = Memo::default().credential(&headers)?;
        Some((found.team.to_string(), found.key.to_string()))
    }

    #[test]
    fn d2_team_and_key_are_told_apart_whatever_the_signature() {
        let expected = Some(("TEAM000001".to_owned(), "KEY0000001".to_owned()));
        let token = bearer("TEAM000001", "KEY0000001");
        assert_eq!(read(&[&token]), expected);
        assert_eq!(read(&[&token.replace("bearer", "Bearer")]), expected);
        let unsigned = token.rsplit_once('.').unwrap().0.to_owned();
        assert_eq!(read(&[&format!("{unsigned}.MEUCIQDder")]), expected);
    }

    #[test]
    fn another_token_on_the_same_connection_is_another_credential() {
        let memo = Memo::default();
        for (team, key) in [("T1", "K1"), ("T1", "K1"), ("T2", "K2"), ("T1", "K1")] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, bearer(team, key).parse().unwrap());
            let found = memo.credential(&headers).unwrap();
            assert_eq!((&*found.team, &*found.key), (team, key));
            headers.insert(AUTHORIZATION, "bearer nonsense".parse().unwrap());
            assert_eq!(memo.credential(&headers), None);
        }
    }

    #[test]
    fn what_is_no_token_names_nobody() {
        let good = bearer("TEAM000001", "KEY0000001");
        let long = format!("{good}{}", "A".repeat(TOKEN_CAP));
        let newline = bearer("a\\nb", "KEY0000001");
        let wide = bearer(&"T".repeat(CLAIM_CAP + 1), "KEY0000001");
        for bad in ["", "bearer", "bearer ", "basic YTpi", "bearer a.b.c", &long, &newline, &wide] {
            assert_eq!(read(&[bad]), None, "{bad:.40}");
        }
        assert_eq!(read(&[&good, &good]), None);
    }
}
