//! Is a path what it seems to be? Two parsers must never read it as two different places, so what
//! some servers would normalise is refused before it is matched.

use crate::relay::outcome::Refusal;

/// The path of a request target, without the query, when it can be matched as it stands.
///
/// Refused: no leading `/`, a fragment, `//`, `\`, dot segments (also with a `;` parameter
/// behind them), percent-encoded `/`, `\`, `.`, `%` and control characters, broken escapes, and
/// whatever is not visible ASCII (RFC 3986 §3.3, §6.2.2).
///
/// # Errors
/// [`Refusal::Path`].
pub fn sound(target: &str) -> Result<&str, Refusal> {
    let visible = target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    let end = target.bytes().position(|byte| byte == b'?').unwrap_or(target.len());
    let path = &target[..end];
    let Some(segments) = path.as_bytes().strip_prefix(b"/").filter(|_rooted| visible) else {
        return Err(Refusal::Path);
    };
    let mut segments = segments.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let between = segments.peek().is_some();
        if segment.is_empty() && between || is_dots(segment) || segment.contains(&b'\\') {
            return Err(Refusal::Path);
        }
    }
    if !escapes_are_plain(path.as_bytes()) {
        return Err(Refusal::Path);
    }
    Ok(path)
}

/// `.` or `..`, also with a parameter behind.
fn is_dots(segment: &[u8]) -> bool {
    let rest = segment.strip_prefix(b"..").or_else(|| segment.strip_prefix(b"."));
    rest.is_some_and(|rest| matches!(rest.first(), None | Some(b';')))
}

fn escapes_are_plain(path: &[u8]) -> bool {
    let mut rest = path;
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        let Some(code) = rest.get(at + 1..at + 3) else {
            return false;
        };
        let value = std::str::from_utf8(code).ok().filter(|code| !code.starts_with('+'));
        let Some(value) = value.and_then(|code| u8::from_str_radix(code, 16).ok()) else {
            return false;
        };
        if matches!(value, b'/' | b'\\' | b'.' | b'%' | 0..=0x1f | 0x7f) {
            return false;
        }
        rest = &rest[at + 3..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_8_4_what_could_be_read_in_two_ways_is_refused() {
        for bad in [
            "",
            "x",
            "3/device",
            "//3/device/a",
            "/3//device",
            "/3/device//",
            "/3/./a",
            "/3/../a",
            "/..",
            "/.",
            "/3/device/..",
            "/3/..;x/a",
            "/3/.;/a",
            "/3/%2e%2e/a",
            "/3/%2E/a",
            "/3/a%2Fb",
            "/3/a%2fb",
            "/3/a%5Cb",
            "/3/a%5cb",
            "/3/a\\b",
            "/3/a%252Fb",
            "/3/a%00",
            "/3/a%0d%0ab",
            "/3/a%",
            "/3/a%2",
            "/3/a%zz",
            "/3/a%+1",
            "/3/a b",
            "/3/a\u{e9}",
            "/3/a#frag",
            "/3/a?x#frag",
        ] {
            assert_eq!(sound(bad), Err(Refusal::Path), "{bad}");
        }
    }

    #[test]
    fn ordinary_paths_are_matched_as_they_stand() {
        for (good, path) in [
            ("/", "/"),
            ("/3/device/abcdef", "/3/device/abcdef"),
            ("/v1/projects/p-1/messages:send", "/v1/projects/p-1/messages:send"),
            ("/a/b/", "/a/b/"),
            ("/a...b/..c", "/a...b/..c"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/a%20b", "/a%20b"),
            ("/a?q=//..%2F", "/a"),
        ] {
            assert_eq!(sound(good), Ok(path), "{good}");
        }
    }
}
