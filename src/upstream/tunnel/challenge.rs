//! The challenges of `Proxy-Authenticate` (RFC 9110 §11.6.1): several lines, several challenges a
//! line, commas between challenges and between their parameters alike.

use crate::hop::clean;

/// Most challenges that are kept; real proxies offer up to four.
const CHALLENGES_CAP: usize = 16;
/// Longest scheme name that is kept, characters.
const SCHEME_CAP: usize = 40;

/// One challenge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// The scheme as written, cleaned.
    pub scheme: String,
    /// The token68 of NTLM and Negotiate, when there is one.
    pub token: Option<String>,
}

impl Challenge {
    /// Whether it is of this scheme; schemes know no case.
    pub fn is(&self, scheme: &str) -> bool {
        self.scheme.eq_ignore_ascii_case(scheme)
    }
}

/// Every challenge of every line, in order.
pub fn challenges(lines: &[&[u8]]) -> Vec<Challenge> {
    let mut found = Vec::new();
    for part in lines.iter().flat_map(|line| elements(line)) {
        if found.len() == CHALLENGES_CAP {
            break;
        }
        let part = part.trim_ascii();
        let end = part.iter().position(|&b| matches!(b, b' ' | b'\t' | b'=')).unwrap_or(part.len());
        let (word, rest) = part.split_at(end);
        let rest = rest.trim_ascii();
        // `name=value` continues the challenge before it.
        if word.is_empty() || rest.starts_with(b"=") {
            continue;
        }
        found.push(Challenge { scheme: clean(word, SCHEME_CAP), token: token68(rest) });
    }
    found
}

/// Splits at commas outside quotes.
fn elements(line: &[u8]) -> Vec<&[u8]> {
    let (mut quoted, mut escaped) = (false, false);
    line.split(|&b| {
        let splits = b == b',' && !quoted;
        match b {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        splits
    })
    .collect()
}

fn token68(text: &[u8]) -> Option<String> {
    let padding = text.iter().rev().take_while(|&&b| b == b'=').count();
    let body = &text[..text.len() - padding];
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-._~+/".contains(b);
    let whole = !body.is_empty() && body.iter().all(allowed);
    whole.then(|| String::from_utf8_lossy(text).into_owned())
}
