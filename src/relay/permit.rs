//! May this request pass: method, path, topic, team, key. Judged by the head alone, before the
//! body is read and long before anything is dialled.
//!
//! Pure. The source network and the sender's certificate were judged at admission; the body's
//! size is counted by the codec against [`Permit::body_limit`].

use std::sync::Arc;

use http::{Method, header};

use crate::config::{PathPattern, Permitted};
use crate::downstream::{Head, Sender};
use crate::provider::Provider;

use super::Permit;
use super::outcome::Refusal;
use super::route::{Found, RouteTable};

pub mod bearer;
pub mod path;
pub mod topic;

/// The path that the relay answers by itself on every routed host; `probe --through` reads it.
pub const RESERVED_PATH: &str = "/.pushrelay/probe";

/// Routes and judges a head.
///
/// # Errors
/// The first rule that says no, in this order: form, host, path, method, authentication, topic,
/// team and key.
pub fn check(table: &RouteTable, head: &Head, sender: &Sender) -> Result<Permit, Refusal> {
    if head.method == Method::CONNECT || head.method == Method::TRACE || head.target == "*" {
        return Err(Refusal::Method);
    }
    let found = table.find(head, sender)?;
    let path = path::sound(&head.target)?;
    if path == RESERVED_PATH {
        if ![Method::GET, Method::HEAD, Method::POST].contains(&head.method) {
            return Err(Refusal::Method);
        }
        return Ok(permit(found, true));
    }
    permitted(&found.host.permitted, &head.method, path)?;
    if found.route.provider == Provider::Apns {
        authentication(found, head, sender)?;
    }
    // Routes of one's own that speak APNs have such lists too; elsewhere they are empty.
    topics(&found.route.topics, head)?;
    identity(found, head, sender)?;
    Ok(permit(found, false))
}

fn permit(found: &Found, reserved: bool) -> Permit {
    Permit {
        route: Arc::clone(&found.route),
        route_index: found.index,
        host: Arc::clone(&found.host),
        body_limit: found.route.body,
        reserved,
    }
}

/// A path that is permitted with another method is 405, any other 404 (RFC 9110 §15.5.5, §15.5.6).
fn permitted(rules: &[Permitted], method: &Method, path: &str) -> Result<(), Refusal> {
    if rules.is_empty() {
        return Ok(());
    }
    let mut known = false;
    for rule in rules.iter().filter(|rule| matches(&rule.path, path)) {
        if rule.methods.is_empty() || rule.methods.contains(method) {
            return Ok(());
        }
        known = true;
    }
    Err(if known { Refusal::Method } else { Refusal::Path })
}

fn matches(pattern: &PathPattern, path: &str) -> bool {
    match pattern {
        PathPattern::Exact(exact) => path == exact,
        PathPattern::Prefix(prefix) => path.len() > prefix.len() && path.starts_with(prefix),
        PathPattern::Segment(before, after) => path
            .strip_prefix(before.as_str())
            .and_then(|rest| rest.strip_suffix(after.as_str()))
            .is_some_and(|segment| !segment.is_empty() && !segment.contains('/')),
    }
}

/// A client certificate cannot cross TLS termination (F7): without a bearer token there is
/// nothing left that APNs could know the sender by.
fn authentication(found: &Found, head: &Head, sender: &Sender) -> Result<(), Refusal> {
    let by_certificate = sender.tls.as_ref().is_some_and(|tls| tls.provider_certificate);
    let by_token = head.headers.contains_key(header::AUTHORIZATION);
    if by_certificate && !by_token && found.route.provider_identity.is_none() {
        return Err(Refusal::CertificateAuthentication);
    }
    Ok(())
}

fn topics(allowed: &[String], head: &Head) -> Result<(), Refusal> {
    if allowed.is_empty() {
        return Ok(());
    }
    let named = topic::named(head);
    let listed = |topic: &&str| allowed.iter().any(|allowed| allowed == topic);
    if named.is_empty() || !named.iter().all(listed) {
        return Err(Refusal::Topic);
    }
    Ok(())
}

fn identity(found: &Found, head: &Head, sender: &Sender) -> Result<(), Refusal> {
    let (teams, keys) = (&found.route.teams, &found.route.keys);
    if teams.is_empty() && keys.is_empty() {
        return Ok(());
    }
    let Some(credential) = sender.bearer.credential(&head.headers) else {
        return Err(Refusal::Identity("bearer token"));
    };
    if !teams.is_empty() && !teams.iter().any(|team| **team == *credential.team) {
        return Err(Refusal::Identity("team"));
    }
    if !keys.is_empty() && !keys.iter().any(|key| **key == *credential.key) {
        return Err(Refusal::Identity("key"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::downstream::SenderTls;
    use crate::relay::fixture::{apns_route, bearer, config, head, own_route, sender};

    const APNS: &str = "api.push.apple.com";

    fn judge(table: &RouteTable, head: &Head) -> Result<bool, Refusal> {
        check(table, head, &sender()).map(|permit| permit.reserved)
    }

    #[test]
    fn a9_g3_methods_and_paths_pass_by_the_list_only() {
        let table = RouteTable::new(&config(vec![
            apns_route("apns", &[APNS]),
            own_route("own", "push.corp.example", "http://10.1.2.3:8066"),
        ]));
        for (method, host, target, expected) in [
            ("POST", APNS, "/3/device/abcd", Ok(false)),
            ("POST", APNS, "/3/device/", Err(Refusal::Path)),
            ("POST", APNS, "/3/devices", Err(Refusal::Path)),
            ("GET", APNS, "/3/device/abcd", Err(Refusal::Method)),
            ("POST", APNS, "/4/broadcasts/apps/com.example.chat", Ok(false)),
            ("DELETE", APNS, "/1/apps/com.example.chat/channels", Ok(false)),
            ("GET", APNS, "/1/apps//channels", Err(Refusal::Path)),
            ("GET", APNS, "/1/apps/a/b/channels", Err(Refusal::Path)),
            ("CONNECT", APNS, "/3/device/abcd", Err(Refusal::Method)),
            ("TRACE", APNS, "/3/device/abcd", Err(Refusal::Method)),
            ("OPTIONS", APNS, "*", Err(Refusal::Method)),
            ("POST", APNS, "/3/device/../admin", Err(Refusal::Path)),
            ("POST", "push.corp.example", "/api/v1/send_push", Ok(false)),
            ("POST", "push.corp.example", "/api/v1/send_push?x=/../", Ok(false)),
            ("POST", "push.corp.example", "/api/v1/send_push/", Err(Refusal::Path)),
            ("PUT", "push.corp.example", "/api/v1/send_push", Err(Refusal::Method)),
            ("GET", APNS, RESERVED_PATH, Ok(true)),
            ("GET", APNS, "/.pushrelay/probe?x=1", Ok(true)),
            ("PUT", APNS, RESERVED_PATH, Err(Refusal::Method)),
            ("GET", "stranger.example", RESERVED_PATH, Err(Refusal::Misdirected(""))),
        ] {
            let got = judge(&table, &head(method, host, target));
            match (&got, &expected) {
                (Err(Refusal::Misdirected(_)), Err(Refusal::Misdirected(_))) => {}
                (got, expected) => assert_eq!(*got, *expected, "{method} {host} {target}"),
            }
        }
    }

    #[test]
    fn topics_are_an_exact_list_and_a_bundle_id_in_the_path_counts() {
        let mut route = apns_route("apns", &[APNS]);
        route.topics = vec!["com.example.chat".into()];
        let listed = RouteTable::new(&config(vec![route]));
        let open = RouteTable::new(&config(vec![apns_route("apns", &[APNS])]));
        for (topic, target, ok) in [
            (Some("com.example.chat"), "/3/device/ab", true),
            (Some("com.example.chat.voip"), "/3/device/ab", false),
            (Some("com.example.CHAT"), "/3/device/ab", false),
            (None, "/3/device/ab", false),
            (None, "/4/broadcasts/apps/com.example.chat", true),
            (None, "/4/broadcasts/apps/com.example.other", false),
            (None, "/1/apps/com.example.chat/channels", true),
            (None, "/1/apps/com.example.other/all-channels", false),
            (Some("com.example.chat"), "/4/broadcasts/apps/com.example.other", false),
        ] {
            let mut head = head("POST", APNS, target);
            if let Some(topic) = topic {
                head.headers.insert("apns-topic", topic.parse().unwrap());
            }
            let expected = if ok { Ok(false) } else { Err(Refusal::Topic) };
            assert_eq!(judge(&listed, &head), expected, "{topic:?} {target}");
            assert_eq!(judge(&open, &head), Ok(false), "{topic:?} {target}");
        }
    }

    #[test]
    fn teams_and_keys_are_read_from_the_bearer_token() {
        let mut route = apns_route("apns", &[APNS]);
        route.teams = vec!["TEAM000001".into()];
        route.keys = vec!["KEY0000001".into()];
        let table = RouteTable::new(&config(vec![route]));
        for (token, expected) in [
            (Some(bearer("TEAM000001", "KEY0000001")), Ok(false)),
            (Some(bearer("TEAM000002", "KEY0000001")), Err(Refusal::Identity("team"))),
            (Some(bearer("TEAM000001", "KEY0000002")), Err(Refusal::Identity("key"))),
            (Some("bearer nonsense".into()), Err(Refusal::Identity("bearer token"))),
            (None, Err(Refusal::Identity("bearer token"))),
        ] {
            let mut head = head("POST", APNS, "/3/device/ab");
            if let Some(token) = &token {
                head.headers.insert("authorization", token.parse().unwrap());
            }
            assert_eq!(judge(&table, &head), expected, "{token:?}");
        }
    }

    /// `dialect: apns` on a route of one's own.
    #[test]
    fn the_lists_of_a_route_of_ones_own_are_kept_too() {
        let mut route = own_route("own", "push.corp.example", "https://10.1.2.3:443");
        route.teams = vec!["TEAM000001".into()];
        route.topics = vec!["com.example.chat".into()];
        let table = RouteTable::new(&config(vec![route]));
        let mut request = head("POST", "push.corp.example", "/api/v1/send_push");
        assert_eq!(judge(&table, &request), Err(Refusal::Topic));
        request.headers.insert("apns-topic", "com.example.chat".parse().unwrap());
        assert_eq!(judge(&table, &request), Err(Refusal::Identity("bearer token")));
        let token = |team| bearer(team, "KEY0000001").parse().unwrap();
        request.headers.insert("authorization", token("TEAM000002"));
        assert_eq!(judge(&table, &request), Err(Refusal::Identity("team")));
        request.headers.insert("authorization", token("TEAM000001"));
        assert_eq!(judge(&table, &request), Ok(false));
    }

    #[test]
    fn f7_certificate_authentication_is_refused_with_its_reason() {
        let table = RouteTable::new(&config(vec![apns_route("apns", &[APNS])]));
        let mut from = sender();
        from.tls = Some(SenderTls { provider_certificate: true, ..SenderTls::default() });
        let mut request = head("POST", APNS, "/3/device/ab");
        let refused = check(&table, &request, &from).unwrap_err();
        assert_eq!(refused, Refusal::CertificateAuthentication);
        request.headers.insert("authorization", bearer("T", "K").parse().unwrap());
        assert!(check(&table, &request, &from).is_ok());
    }
}
