//! Methods and paths of a route of one's own.

use http::Method;

use super::check::Check;
use crate::config::{PathPattern, Permitted, raw};

/// The permitted combinations; empty = all.
pub(super) fn permitted(check: &mut Check<'_>, at: &str, route: &raw::Route) -> Vec<Permitted> {
    let methods = methods(check, &format!("{at}.methods"), route.methods.as_deref());
    let written = route.paths.as_deref().unwrap_or_default();
    let mut permitted = Vec::new();
    for (index, text) in written.iter().enumerate() {
        let path = format!("{at}.paths[{index}]");
        match pattern(text) {
            Ok(path) => permitted.push(Permitted { methods: methods.clone(), path }),
            Err((message, hint)) => check.findings.add(&path, message, hint),
        }
    }
    if written.is_empty() && !methods.is_empty() {
        // A path is never empty, so the empty prefix stands for every path.
        permitted.push(Permitted { methods, path: PathPattern::Prefix(String::new()) });
    }
    permitted
}

fn methods(check: &mut Check<'_>, at: &str, written: Option<&[String]>) -> Vec<Method> {
    let mut methods = Vec::new();
    for (index, text) in written.unwrap_or_default().iter().enumerate() {
        let path = format!("{at}[{index}]");
        match text.as_str() {
            "CONNECT" | "TRACE" => {
                check.findings.add(&path, "this method is never forwarded", "leave it out");
            }
            _ => match Method::from_bytes(text.as_bytes()) {
                Ok(method) if text.bytes().any(|b| b.is_ascii_lowercase()) => check.findings.add(
                    &path,
                    format!(
                        "methods are case-sensitive, `{method}` is not `{}`",
                        text.to_uppercase()
                    ),
                    format!("write {}", text.to_uppercase()),
                ),
                Ok(method) => methods.push(method),
                Err(_no_token) => {
                    check.findings.add(&path, "this is not a method", "write GET, POST, ...");
                }
            },
        }
    }
    methods
}

/// A path, exact or with one trailing `*` (RFC 3986 §3.3).
fn pattern(text: &str) -> Result<PathPattern, (&'static str, &'static str)> {
    let (body, prefix) = match text.strip_suffix('*') {
        Some(body) => (body, true),
        None => (text, false),
    };
    if !body.starts_with('/') {
        return Err((
            "a path begins with /",
            "write it as the sender does, such as /api/v1/send_push",
        ));
    }
    if body.contains('*') {
        return Err(("`*` stands only at the end of a path", "write one pattern for each path"));
    }
    if body.contains(['?', '#']) {
        return Err((
            "a pattern has neither query nor fragment",
            "write the path alone; queries pass",
        ));
    }
    if body.contains("//") || body.split('/').any(|part| matches!(part, "." | "..")) {
        return Err(("dot segments and // are refused before matching", "write the plain path"));
    }
    let hidden = body.to_ascii_lowercase();
    if hidden.contains("%2f") || hidden.contains("%2e") {
        return Err((
            "encoded slashes and dots are refused before matching",
            "write the plain path",
        ));
    }
    if body.bytes().any(|b| !b.is_ascii_graphic()) {
        return Err(("a path has only visible ASCII characters", "percent-encode the others"));
    }
    let body = body.to_owned();
    Ok(if prefix { PathPattern::Prefix(body) } else { PathPattern::Exact(body) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_exact_or_end_in_one_star() {
        assert_eq!(pattern("/a/b"), Ok(PathPattern::Exact("/a/b".to_owned())));
        assert_eq!(pattern("/a/*"), Ok(PathPattern::Prefix("/a/".to_owned())));
        for bad in [
            "", "a", "*", "/a/*/b", "/a/**", "/a/../b", "/a/.", "/a//b", "/a?b", "/a%2Fb",
            "/a%2e%2e", "/ä", "/a b",
        ] {
            assert!(pattern(bad).is_err(), "{bad}");
        }
    }
}
