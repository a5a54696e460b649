use std::sync::Arc;

use super::back::answer;
use super::*;
use crate::config::Route;
use crate::hop::{Hop, HopErrorKind, Stage};
use crate::relay::fixture::{apns_route, head as make_head, own_route};
use crate::relay::outcome::{Outcome, RelayError};
use http::{Response, StatusCode};

const APNS: &str = "api.push.apple.com";
const PLAIN: Chain<'_> = Chain { signed: false, pseudonym: "pushrelay-1" };

fn permit(route: Route) -> Permit {
    let host = Arc::clone(&route.hosts[0]);
    Permit { body_limit: route.body, route: Arc::new(route), route_index: 0, host, reserved: false }
}

fn apns() -> Permit {
    permit(apns_route("apns", &[APNS]))
}

fn head(fields: &[(&'static str, &str)]) -> Head {
    let mut head = make_head("POST", APNS, "/3/device/abcd");
    for (name, value) in fields {
        head.headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
    }
    head
}

fn translate(fields: &[(&'static str, &str)]) -> Result<Request<Bytes>, Refusal> {
    request(&head(fields), &apns(), PLAIN, Bytes::from_static(b"{}"))
}

#[test]
fn c1_c6_hop_by_hop_and_middlebox_fields_stay_behind() {
    let sent = [
        ("connection", "close, x-one"),
        ("connection", "X-Two"),
        ("x-one", "1"),
        ("x-two", "2"),
        ("keep-alive", "5"),
        ("proxy-connection", "keep-alive"),
        ("proxy-authorization", "Basic x"),
        ("te", "trailers"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "h2c"),
        ("http2-settings", "AAA"),
        ("trailer", "x"),
        ("expect", "100-continue"),
        ("via", "1.1 squid"),
        ("forwarded", "for=10.0.0.1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-real-ip", "10.0.0.1"),
        ("x-bluecoat-via", "abc"),
        ("cache-control", "max-age=0"),
        ("signature", "x"),
        ("pushrelay-deadline-ms", "1"),
        ("content-length", "99"),
        ("apns-topic", "com.example"),
        ("apns-unheard-of", "kept"),
        ("content-type", "application/json"),
    ];
    let got = translate(&sent).unwrap();
    let mut names: Vec<&str> = got.headers().keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    let kept = ["apns-id", "apns-topic", "apns-unheard-of", "content-length", "content-type"];
    assert_eq!(names, kept);
    assert_eq!(got.headers()["content-length"], "2");
}

#[test]
fn c2_the_uri_is_absolute_with_the_routes_own_authority() {
    let mut named = head(&[]);
    named.port = Some(443);
    let uri = |head: &Head, permit: &Permit| {
        request(head, permit, PLAIN, Bytes::new()).unwrap().uri().to_string()
    };
    assert_eq!(uri(&named, &apns()), "https://api.push.apple.com/3/device/abcd");
    named.port = Some(2197);
    assert_eq!(uri(&named, &apns()), "https://api.push.apple.com/3/device/abcd");
    let own = permit(own_route("own", "push.corp.example", "http://10.1.2.3:8066"));
    let mut head = make_head("POST", "push.corp.example", "/api/v1/send_push?x=1");
    head.port = Some(8443);
    assert_eq!(uri(&head, &own), "http://10.1.2.3:8066/api/v1/send_push?x=1");
    let mut alternative = apns();
    let mut host = (*alternative.host).clone();
    host.ports = vec![2197];
    alternative.host = host.into();
    assert_eq!(uri(&named, &alternative), "https://api.push.apple.com:2197/3/device/abcd");
}

#[test]
fn c3_b2_duplicates_blanks_and_underscore_twins_are_refused() {
    for bad in [
        &[("apns-topic", "a"), ("apns-topic", "a")][..],
        &[("authorization", "bearer a"), ("authorization", "bearer a")],
        &[("content-type", "a/b"), ("content-type", "c/d")],
        &[("apns-topic", " a")],
        &[("x-any", "a\t")],
        &[("content_length", "2")],
        &[("apns_topic", "a")],
        &[("transfer_encoding", "chunked")],
        &[("x_forwarded_for", "1")],
        &[("connection", "apns-topic"), ("apns-topic", "a")],
        &[("connection", "authorization"), ("authorization", "bearer a")],
        &[("connection", "@")],
    ] {
        let got = translate(bad).map(|_sent| ());
        assert!(matches!(got, Err(Refusal::Malformed(_))), "{bad:?}: {got:?}");
    }
    let joined = translate(&[
        ("x-any", "a"),
        ("x-any", "b"),
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("content-type", "a/b"),
        ("content-type", "a/b"),
        ("my_own", "kept"),
    ]);
    let joined = joined.unwrap();
    assert_eq!(joined.headers()["x-any"], "a, b");
    assert_eq!(joined.headers()["cookie"], "a=1; b=2");
    assert_eq!(joined.headers()["content-type"], "a/b");
    assert_eq!(joined.headers()["my_own"], "kept");
    assert!(joined.headers().keys().all(|name| joined.headers().get_all(name).iter().count() == 1));
}

#[test]
fn d8_an_apns_id_is_added_where_none_came_and_never_indexed() {
    let made = translate(&[]).unwrap();
    let id = made.headers()["apns-id"].to_str().unwrap();
    assert_eq!((id.len(), &id[14..15]), (36, "4"), "{id}");
    assert!(id.bytes().all(|b| b == b'-' || b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    let sent = [
        ("apns-id", "ID-as-Sent"),
        ("apns-expiration", "1"),
        ("apns-collapse-id", "c"),
        ("authorization", "bearer x"),
    ];
    let kept = translate(&sent).unwrap();
    for (name, value) in sent {
        assert_eq!(kept.headers()[name].as_bytes(), value.as_bytes());
        assert!(kept.headers()[name].is_sensitive(), "{name}");
    }
    let mut secret = head(&[("x-secret", "s"), ("x-open", "o")]);
    secret.headers.get_mut("x-secret").unwrap().set_sensitive(true);
    let kept = request(&secret, &apns(), PLAIN, Bytes::new()).unwrap();
    assert!(kept.headers()["x-secret"].is_sensitive(), "RFC 7541 §7.1.3");
    assert!(!kept.headers()["x-open"].is_sensitive());
    let mut broadcast = head(&[]);
    broadcast.target = "/4/broadcasts/apps/com.example".into();
    let sent = request(&broadcast, &apns(), PLAIN, Bytes::new()).unwrap();
    assert!(!sent.headers().contains_key("apns-id"));
}

#[test]
fn d8_a_header_list_beyond_what_apns_takes_is_refused_here() {
    let long = "a".repeat(7900);
    assert_eq!(translate(&[("x-long", &long)]).unwrap_err(), Refusal::HeadTooLarge);
    let own = permit(own_route("own", "push.corp.example", "http://10.1.2.3:8066"));
    assert!(request(&head(&[("x-long", &long)]), &own, PLAIN, Bytes::new()).is_ok());
}

#[test]
fn accept_encoding_passes_where_the_answer_is_not_ours_to_read() {
    assert!(
        !translate(&[("accept-encoding", "gzip")])
            .unwrap()
            .headers()
            .contains_key("accept-encoding")
    );
    let own = permit(own_route("own", "push.corp.example", "http://10.1.2.3:8066"));
    let sent = request(&head(&[("accept-encoding", "gzip")]), &own, PLAIN, Bytes::new()).unwrap();
    assert_eq!(sent.headers()["accept-encoding"], "gzip");
    assert!(!sent.headers().contains_key("apns-id"));
}

#[test]
fn towards_a_relay_via_is_ours_alone_and_a_return_is_recognised() {
    let mut route = apns_route("apns", &[APNS]);
    route.next_hop = NextHop::Relay { sign_with: None };
    let sent = head(&[("via", "1.1 squid")]);
    let got = request(&sent, &permit(route), PLAIN, Bytes::new()).unwrap();
    assert_eq!(got.headers()["via"], "2.0 pushrelay-1");
    assert!(came_from_us(got.headers(), "pushrelay-1"));
    let mut with_squid = HeaderMap::new();
    with_squid.append("via", "1.1 squid (5), 2.0 pushrelay-1".parse().unwrap());
    assert!(came_from_us(&with_squid, "pushrelay-1"));
    assert!(!came_from_us(&with_squid, "pushrelay-2"));
}

fn response(status: u16, fields: &[(&'static str, &'static str)]) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from_static(b"body"));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    for (name, value) in fields {
        response.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    response
}

fn judged(permit: &Permit, response: Response<Bytes>, inspected: bool) -> Outcome {
    match answer(response, permit, if inspected { Hop::Inspector } else { Hop::Origin }) {
        Ok(judged) => judged.outcome,
        Err(error) => error.outcome(),
    }
}

#[test]
fn e8_r3_only_an_answer_with_apples_mark_is_apples() {
    for (status, fields, expected) in [
        (200, &[("apns-id", "x")][..], Outcome::Accepted),
        (200, &[("apns-request-id", "x")], Outcome::Accepted),
        (410, &[("apns-id", "x"), ("content-type", "application/json")], Outcome::ProviderRefused),
        (200, &[("content-type", "text/html")], Outcome::Unknown),
        (403, &[("content-type", "application/json")], Outcome::Unknown),
        (503, &[("via", "1.1 squid")], Outcome::Unknown),
    ] {
        assert_eq!(
            judged(&apns(), response(status, fields), false),
            expected,
            "{status} {fields:?}"
        );
    }
}

#[test]
fn e8_pages_in_the_place_of_other_providers_are_not_their_word() {
    let mut fcm = own_route("fcm", "fcm.googleapis.com", "https://fcm.googleapis.com:443");
    fcm.provider = Provider::Fcm;
    let (fcm, html) = (permit(fcm), ("content-type", "text/html; charset=utf-8"));
    let own = permit(own_route("own", "push.corp.example", "http://10.1.2.3:8066"));
    let json = ("content-type", "application/json");
    for (permit, status, field, inspected, expected) in [
        (&fcm, 200, json, false, Outcome::Accepted),
        (&fcm, 404, json, false, Outcome::ProviderRefused),
        (&fcm, 404, html, false, Outcome::ProviderRefused),
        (&fcm, 404, html, true, Outcome::Unknown),
        (&fcm, 200, html, false, Outcome::Unknown),
        (&fcm, 502, html, false, Outcome::Unknown),
        (&fcm, 407, json, false, Outcome::Unknown),
        (&fcm, 403, ("x-squid-error", "ERR_ACCESS_DENIED"), false, Outcome::Unknown),
        (&own, 502, html, false, Outcome::ProviderRefused),
        (&own, 407, html, false, Outcome::Unknown),
    ] {
        assert_eq!(
            judged(permit, response(status, &[field]), inspected),
            expected,
            "{status} {field:?}"
        );
    }
}

#[test]
fn the_relay_beyond_is_believed_on_its_route_only() {
    let mut route = apns_route("apns", &[APNS]);
    route.next_hop = NextHop::Relay { sign_with: None };
    let chained = permit(route);
    let status = "pushrelay; error=connection_refused; details=\"origin tcp connection refused\"; \
                  outcome=not_sent; request-id=\"x\"";
    let make = || response(503, &[("apns-id", "x"), ("proxy-status", status)]);
    assert_eq!(judged(&chained, make(), false), Outcome::NotSent);
    assert_eq!(judged(&apns(), make(), false), Outcome::ProviderRefused);
    let Err(RelayError::NotSent(error)) = answer(make(), &chained, Hop::Origin) else {
        panic!("not adopted");
    };
    assert_eq!((error.hop, error.stage), (Hop::Origin, Stage::Tcp));
    assert!(matches!(error.kind, HopErrorKind::ForeignAnswer { .. }));
    let refused = response(403, &[("proxy-status", "pushrelay; outcome=relay_refused")]);
    let refused = answer(refused, &chained, Hop::Origin).unwrap();
    assert_eq!(refused.outcome, Outcome::RelayRefused);
    assert!(refused.answer.headers.contains_key("proxy-status"));
}

#[test]
fn c5_r5_answers_keep_everything_but_what_belongs_to_the_hop() {
    let got = response(
        429,
        &[
            ("apns-id", "x"),
            ("apns-unique-id", "u"),
            ("retry-after", "7"),
            ("content-type", "application/json"),
            ("connection", "x-hop"),
            ("x-hop", "1"),
            ("transfer-encoding", "chunked"),
            ("content-length", "4"),
            ("alt-svc", "h3=\":443\""),
            ("proxy-status", "pushrelay; outcome=not_sent"),
            ("proxy-authenticate", "Basic"),
        ],
    );
    let got = answer(got, &apns(), Hop::Origin).unwrap().answer;
    let mut names: Vec<&str> = got.headers.keys().map(HeaderName::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, ["apns-id", "apns-unique-id", "content-type", "retry-after"]);
    assert_eq!((got.status.as_u16(), &got.body[..]), (429, &b"body"[..]));
}
