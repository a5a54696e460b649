//! What of a request may be written down. Device tokens become hashes by which two lines can be
//! compared; queries, which may hold tokens, are left out.

use aws_lc_rs::digest::{SHA256, digest};

use crate::hop::clean;

use super::hex;

/// Longest path in a line, characters.
const PATH_CAP: usize = 200;

/// A segment this long is no word of an API: a token, whatever the path around it.
const TOKEN_LENGTH: usize = 32;

/// `sha256:` and the first 8 hex digits: enough to compare lines, useless to send to.
pub fn hashed(token: &str) -> String {
    format!("sha256:{}", hex(&digest(&SHA256, token.as_bytes()).as_ref()[..4]))
}

/// The path of a request target: device and registration tokens hashed, no query.
pub fn path(target: &str) -> String {
    let path = target.split(['?', '#']).next().unwrap_or_default();
    let mut out = String::with_capacity(path.len());
    let mut before = "";
    for (at, segment) in path.split('/').enumerate() {
        if at > 0 {
            out.push('/');
        }
        let token_comes = before.eq_ignore_ascii_case("device")
            || (path.starts_with("/iid/") && matches!(before, "info" | "v1"));
        if (token_comes && !segment.is_empty()) || segment.len() >= TOKEN_LENGTH {
            out.push_str(&hashed(segment));
        } else {
            out.push_str(segment);
        }
        if !segment.is_empty() {
            before = segment;
        }
    }
    clean(out.as_bytes(), PATH_CAP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h1_no_form_of_a_path_shows_a_token() {
        let token = "00fc13adff785122b4ad28809a3420982341241421348097878e577c991de8f0";
        for (target, expected) in [
            (format!("/3/device/{token}"), format!("/3/device/{}", hashed(token))),
            (format!("/3/DEVICE/{token}?x={token}"), format!("/3/DEVICE/{}", hashed(token))),
            ("/3/device/ab".into(), format!("/3/device/{}", hashed("ab"))),
            ("/3/device//ab".into(), format!("/3/device//{}", hashed("ab"))),
            (format!("/iid/info/{}", "x:y"), format!("/iid/info/{}", hashed("x:y"))),
            ("/v1/projects/p/messages:send".into(), "/v1/projects/p/messages:send".into()),
            ("/api/v1/send_push?token=x".into(), "/api/v1/send_push".into()),
        ] {
            assert_eq!(path(&target), expected);
        }
        for odd in ["/3/../device%2F", "/3//device;/", "//", "/x/"] {
            assert!(!path(&format!("{odd}{token}")).contains(&token[..16]), "{odd}");
        }
        assert_eq!(hashed("ab").len(), 15);
    }
}
