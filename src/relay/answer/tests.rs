use super::*;
use crate::hop::{Hop, HopError, ProxyRefusal, Stage};
use crate::relay::outcome::Outcome;

const DIALECTS: [Dialect; 5] =
    [Dialect::Apns, Dialect::Fcm, Dialect::Mattermost, Dialect::OAuth2, Dialect::Plain];

fn not_sent() -> RelayError {
    let kind =
        HopErrorKind::AlpnNotH2 { chosen: None, issuer: Some("CN=Corp \"Proxy\" CA".into()) };
    RelayError::NotSent(HopError::new(Hop::Inspector, Stage::Alpn, kind))
}

fn unknown() -> RelayError {
    RelayError::Unknown(HopError::new(Hop::Origin, Stage::Request, HopErrorKind::Closed))
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::Topic,
        Refusal::Identity("team"),
        Refusal::Signature("too old"),
        Refusal::CertificateAuthentication,
        Refusal::Path,
        Refusal::Method,
        Refusal::Size,
        Refusal::Malformed("x"),
        Refusal::TimedOut,
        Refusal::Expectation,
        Refusal::Misdirected("elsewhere"),
        Refusal::HeadTooLarge,
        Refusal::Coding,
    ]
}

fn setting(dialect: Dialect) -> Setting<'static> {
    Setting {
        dialect,
        when_unsent: WhenUnsent::Auto,
        when_unknown: WhenUnknown::Final,
        repeats_refused: false,
        down_for: None,
        apns_id: None,
        request_id: "r-1",
    }
}

fn said(error: &RelayError, setting: &Setting<'_>) -> (u16, String) {
    let answer = synthetic(error, setting);
    (answer.status.as_u16(), String::from_utf8(answer.body.to_vec()).unwrap())
}

#[test]
fn every_dialect_says_not_sent_and_unknown_in_its_own_words() {
    let alpn = "relay: inspector: the peer chose no ALPN protocol instead of h2 \
                (certificate issued by CN=Corp \\\"Proxy\\\" CA)";
    let closed = "relay: origin: outcome unknown: the peer closed the connection";
    let plain_alpn = alpn.replace("\\\"", "'");
    for (dialect, error, status, body) in [
        (Dialect::Apns, not_sent(), 503, r#"{"reason":"ServiceUnavailable"}"#.to_owned()),
        (Dialect::Apns, unknown(), 409, r#"{"reason":"RelayOutcomeUnknown"}"#.to_owned()),
        (
            Dialect::Fcm,
            not_sent(),
            503,
            format!(r#"{{"error":{{"code":503,"message":"{alpn}","status":"UNAVAILABLE"}}}}"#),
        ),
        (
            Dialect::Fcm,
            unknown(),
            504,
            format!(
                r#"{{"error":{{"code":504,"message":"{closed}","status":"DEADLINE_EXCEEDED"}}}}"#
            ),
        ),
        (
            Dialect::OAuth2,
            not_sent(),
            503,
            format!(r#"{{"error":"temporarily_unavailable","error_description":"{plain_alpn}"}}"#),
        ),
        (
            Dialect::OAuth2,
            unknown(),
            503,
            format!(r#"{{"error":"temporarily_unavailable","error_description":"{closed}"}}"#),
        ),
        (Dialect::Mattermost, not_sent(), 200, format!(r#"{{"error":"{alpn}","status":"FAIL"}}"#)),
        (Dialect::Mattermost, unknown(), 200, format!(r#"{{"error":"{closed}","status":"FAIL"}}"#)),
        (
            Dialect::Plain,
            not_sent(),
            503,
            format!(r#"{{"error":"{alpn}","outcome":"not_sent","request_id":"r-1"}}"#),
        ),
        (
            Dialect::Plain,
            unknown(),
            504,
            format!(r#"{{"error":"{closed}","outcome":"unknown","request_id":"r-1"}}"#),
        ),
    ] {
        assert_eq!(said(&error, &setting(dialect)), (status, body), "{dialect:?}");
    }
}

#[test]
fn apns_refusals_are_the_table_of_the_design() {
    let expected = [
        (403, "Forbidden"),
        (403, "Forbidden"),
        (403, "Forbidden"),
        (403, "Forbidden"),
        (404, "BadPath"),
        (405, "MethodNotAllowed"),
        (413, "PayloadTooLarge"),
        (400, "RelayRefused"),
        (408, "RelayRefused"),
        (417, "RelayRefused"),
        (421, "RelayRefused"),
        (431, "RelayRefused"),
        (501, "RelayRefused"),
    ];
    for (refusal, (status, reason)) in refusals().into_iter().zip(expected) {
        let body = format!(r#"{{"reason":"{reason}"}}"#);
        let got = said(&RelayError::Refused(refusal.clone()), &setting(Dialect::Apns));
        assert_eq!(got, (status, body), "{refusal:?}");
    }
}

#[test]
fn other_dialects_refuse_with_words_that_delete_nothing() {
    for refusal in refusals() {
        let status = refusal_status(&refusal).as_u16();
        let error = RelayError::Refused(refusal);
        let (code, fcm) = said(&error, &setting(Dialect::Fcm));
        let word = if code == 403 { "PERMISSION_DENIED" } else { "INVALID_ARGUMENT" };
        assert!(code == status && fcm.contains(word), "{fcm}");
        let (code, oauth) = said(&error, &setting(Dialect::OAuth2));
        assert_eq!(code, if status == 403 { 403 } else { 400 });
        assert!(oauth.contains(r#""error":"access_denied""#), "{oauth}");
        let (code, mattermost) = said(&error, &setting(Dialect::Mattermost));
        assert!(code == status && mattermost.contains(r#""status":"FAIL""#), "{mattermost}");
    }
}

#[test]
fn e4_no_answer_of_ours_makes_a_sender_delete_a_device() {
    let killers = [
        "BadDeviceToken",
        "Unregistered",
        "UNREGISTERED",
        "DeviceTokenNotForTopic",
        "MissingDeviceToken",
        "ExpiredToken",
        "SENDER_ID_MISMATCH",
        "NOT_FOUND",
        "REMOVE",
        "errorCode",
    ];
    let mut errors = vec![not_sent(), unknown()];
    errors.extend(refusals().into_iter().map(RelayError::Refused));
    for error in &errors {
        for dialect in DIALECTS {
            for when_unknown in [WhenUnknown::Final, WhenUnknown::Retry] {
                let answer = synthetic(error, &Setting { when_unknown, ..setting(dialect) });
                let body = String::from_utf8(answer.body.to_vec()).unwrap();
                assert!(killers.iter().all(|killer| !body.contains(killer)), "{body}");
                assert!(![410, 429].contains(&answer.status.as_u16()), "{error} {dialect:?}");
                assert_eq!(answer.headers["content-type"], "application/json");
                let value: serde_json::Value = serde_json::from_str(&body).unwrap();
                assert!(value.is_object());
                if dialect == Dialect::Mattermost {
                    assert!(value.as_object().unwrap().values().all(serde_json::Value::is_string));
                }
                let retry = answer.headers.contains_key("retry-after");
                assert_eq!(retry, error.outcome() == Outcome::NotSent);
                assert_eq!(answer.headers.contains_key("apns-id"), dialect == Dialect::Apns);
            }
        }
    }
}

#[test]
fn when_unknown_retry_is_for_those_who_prefer_at_least_once() {
    let retry = Setting { when_unknown: WhenUnknown::Retry, ..setting(Dialect::Apns) };
    assert_eq!(said(&unknown(), &retry), (504, r#"{"reason":"RelayOutcomeUnknown"}"#.into()));
}

#[test]
fn b6_only_what_is_unsent_is_refused_and_only_to_go_while_the_outage_is_young() {
    let young = Some(Duration::from_secs(29));
    let old = Some(Duration::from_secs(30));
    for (error, when_unsent, go, down_for, refused) in [
        (not_sent(), WhenUnsent::Auto, true, None, true),
        (not_sent(), WhenUnsent::Auto, true, young, true),
        (not_sent(), WhenUnsent::Auto, true, old, false),
        (not_sent(), WhenUnsent::Auto, false, young, false),
        (not_sent(), WhenUnsent::Refuse, true, old, true),
        (not_sent(), WhenUnsent::Refuse, false, young, false),
        (not_sent(), WhenUnsent::Answer, true, young, false),
        (unknown(), WhenUnsent::Refuse, true, young, false),
        (RelayError::Refused(Refusal::Path), WhenUnsent::Refuse, true, young, false),
    ] {
        let setting =
            Setting { when_unsent, repeats_refused: go, down_for, ..setting(Dialect::Apns) };
        let got = matches!(reply(&error, &setting), Reply::Refuse);
        assert_eq!(got, refused, "{error} {when_unsent:?} go={go} {down_for:?}");
    }
    for (agent, go) in [
        (Some("Go-http-client/2.0"), true),
        (Some("Go-http-client/1.1"), true),
        (Some("my Go-http-client/2.0"), false),
        (Some("node"), false),
        (None, false),
    ] {
        let mut headers = HeaderMap::new();
        if let Some(agent) = agent {
            headers.insert("user-agent", agent.parse().unwrap());
        }
        assert_eq!(repeats_refused_streams(&headers), go, "{agent:?}");
    }
}

#[test]
fn e7_proxy_status_is_well_formed_and_reads_back() {
    let value = proxy_status::ours(&not_sent(), "r-1");
    assert_eq!(
        value.to_str().unwrap(),
        "pushrelay; error=tls_protocol_error; details=\"inspector alpn the peer chose no ALPN \
         protocol instead of h2 (certificate issued by CN=Corp \\\"Proxy\\\" CA)\"; \
         outcome=not_sent; request-id=\"r-1\""
    );
    let mut headers = HeaderMap::new();
    headers.append("proxy-status", "origin; outcome=accepted".parse().unwrap());
    assert_eq!(proxy_status::reported(&headers), None);
    headers.append("proxy-status", value);
    let reported = proxy_status::reported(&headers).unwrap();
    assert_eq!(reported.outcome, Outcome::NotSent);
    assert_eq!((reported.hop, reported.stage), (Some(Hop::Inspector), Some(Stage::Alpn)));
    assert!(reported.details.unwrap().contains("Corp \"Proxy\" CA"));
    let nasty = ProxyRefusal {
        status: 403,
        reason: "no, \"way\"; outcome=accepted \u{e9}".into(),
        via: Some("10.1.1.1".into()),
        offered: Vec::new(),
        squid_error: None,
        marks: Vec::new(),
        page: "10.1.1.1".into(),
    };
    let cause = HopError::new(Hop::Proxy, Stage::Connect, HopErrorKind::ProxyRefused(nasty.into()))
        .with_peer("10.1.1.1:3128".parse().unwrap());
    let value = proxy_status::ours(&RelayError::NotSent(cause), "r");
    assert!(!value.to_str().unwrap().contains("10.1.1.1"), "{value:?}");
    let mut headers = HeaderMap::new();
    headers.append("proxy-status", value);
    assert_eq!(proxy_status::reported(&headers).unwrap().outcome, Outcome::NotSent);
}

#[test]
fn r2_the_apns_id_is_echoed() {
    let id = HeaderValue::from_static("THE-ID");
    let echo = synthetic(&unknown(), &Setting { apns_id: Some(&id), ..setting(Dialect::Apns) });
    assert_eq!(echo.headers["apns-id"], "THE-ID");
}
