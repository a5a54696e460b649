use proptest::prelude::*;

use super::*;

const LIMIT: usize = 1024;

/// What a test wants to know of a head.
#[derive(Debug, PartialEq)]
enum Seen {
    Head { host: String, port: Option<u16>, target: String, framing: Framing, persistent: bool },
    Fault(Refusal),
    Partial,
}

fn read(text: &[u8], step: usize) -> Seen {
    let sni: HostName = "sni.example".parse().unwrap();
    let mut buf = BytesMut::new();
    let mut reader = HeadReader::default();
    for part in text.chunks(step.max(1)) {
        buf.extend_from_slice(part);
        match reader.take(&mut buf, LIMIT) {
            Ok(None) => {}
            Ok(Some(bytes)) => return seen(parse_head(&bytes, Some(&sni), Instant::now())),
            Err(refusal) => return Seen::Fault(refusal),
        }
    }
    Seen::Partial
}

fn seen(parsed: Result<ParsedHead, HeadFault>) -> Seen {
    match parsed {
        Ok(ParsedHead { head, framing, persistent, .. }) => Seen::Head {
            host: head.host.to_string(),
            port: head.port,
            target: head.target,
            framing,
            persistent,
        },
        Err(fault) => Seen::Fault(fault.refusal),
    }
}

fn once(text: &str) -> Seen {
    read(text.as_bytes(), usize::MAX)
}

fn status(text: &[u8]) -> &'static str {
    match read(text, usize::MAX) {
        Seen::Head { .. } => "ok",
        Seen::Partial => "partial",
        Seen::Fault(Refusal::Malformed(_)) => "400",
        Seen::Fault(Refusal::Method) => "405",
        Seen::Fault(Refusal::Expectation) => "417",
        Seen::Fault(Refusal::HeadTooLarge) => "431",
        Seen::Fault(Refusal::Coding) => "501",
        Seen::Fault(other) => panic!("{other}"),
    }
}

fn head(host: &str, port: Option<u16>, target: &str, length: u64, persistent: bool) -> Seen {
    let (host, target, framing) = (host.into(), target.into(), Framing::Length(length));
    Seen::Head { host, port, target, framing, persistent }
}

#[test]
fn a1_a_host_must_be_there_once_and_be_one() {
    for (lines, expected) in [
        ("Host: a.example\r\n", "ok"),
        ("hOsT:\ta.example \r\n", "ok"),
        ("", "400"),
        ("Host: a.example\r\nHost: a.example\r\n", "400"),
        ("Host: a.example\r\nHost: b.example\r\n", "400"),
        ("Host:\r\n", "400"),
        ("Host: a.example, b.example\r\n", "400"),
        ("Host: u@a.example\r\n", "400"),
        ("Host: a.example/x\r\n", "400"),
        ("Host: a.example:0\r\n", "400"),
        ("Host: a.example:99999\r\n", "400"),
        ("Host: a b\r\n", "400"),
        ("Host: a\u{e4}.example\r\n", "400"),
    ] {
        let text = format!("POST /x HTTP/1.1\r\n{lines}\r\n");
        assert_eq!(status(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn a2_the_absolute_form_routes_and_must_agree_with_host() {
    let cases = [
        ("https://a.example/x?y", "A.example", head("a.example", None, "/x?y", 0, true)),
        ("HTTPS://a.example", "a.example:443", head("a.example", None, "/", 0, true)),
        ("https://a.example:2197/", "a.example:2197", head("a.example", Some(2197), "/", 0, true)),
        ("http://a.example?q", "a.example", head("a.example", None, "/?q", 0, true)),
    ];
    for (target, host, expected) in cases {
        let text = format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(once(&text), expected, "{text}");
    }
    for (target, host) in [
        ("https://a.example/", "b.example"),
        ("https://a.example/", "a.example:80"),
        ("https://a.example:2197/", "a.example"),
        ("https://u@a.example/", "a.example"),
        ("https:///", "a.example"),
        ("ftp://a.example/", "a.example"),
        ("a.example:443", "a.example"),
        ("x", "a.example"),
        ("*", "a.example"),
        ("/x#f", "a.example"),
        ("/\u{e4}", "a.example"),
        ("/a\\b", "a.example"),
    ] {
        let text = format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        assert_eq!(status(text.as_bytes()), "400", "{text}");
    }
    let missing = "POST https://a.example/ HTTP/1.1\r\n\r\n";
    assert_eq!(status(missing.as_bytes()), "400");
}

#[test]
fn a3_http_1_0_closes_unless_asked_and_may_lack_a_host() {
    let kept = "POST /x HTTP/1.0\r\nHost: a.example\r\nConnection: Keep-Alive\r\n\r\n";
    assert_eq!(once(kept), head("a.example", None, "/x", 0, true));
    let bare = "POST /x HTTP/1.0\r\n\r\n";
    assert_eq!(once(bare), head("sni.example", None, "/x", 0, false));
    let absolute = "POST http://a.example/x HTTP/1.0\r\n\r\n";
    assert_eq!(once(absolute), head("a.example", None, "/x", 0, false));
    let mut buf = BytesMut::from(bare);
    let bytes = HeadReader::default().take(&mut buf, LIMIT).unwrap().unwrap();
    let nobody = seen(parse_head(&bytes, None, Instant::now()));
    assert_eq!(nobody, Seen::Fault(Refusal::Malformed("no Host")));
}

#[test]
fn a3_a9_connection_tokens_are_read_from_every_line() {
    let text = "POST / HTTP/1.1\r\nHost: a\r\nConnection: x-y, CLOSE\r\nConnection: h\r\n\r\n";
    assert_eq!(once(text), head("a", None, "/", 0, false));
    let text = "POST / HTTP/1.0\r\nHost: a\r\nConnection: ,keep-alive ,\r\n\r\n";
    assert_eq!(once(text), head("a", None, "/", 0, true));
    let text = "POST / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive, close\r\n\r\n";
    assert_eq!(once(text), head("a", None, "/", 0, false));
    let text = "POST / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n";
    assert_eq!(once(text), head("a", None, "/", 0, true));
}

/// Every row is one way in which two parties have read one request differently.
const FIELD_LINES: &[(&str, &str)] = &[
    ("Content-Length: 5", "ok"),
    ("Content-Length: 005", "ok"),
    ("Content-Length: 5\r\nContent-Length: 5", "ok"),
    ("Content-Length: 5\r\nContent-Length: 6", "400"),
    ("Content-Length: 5, 5", "400"),
    ("Content-Length: 5,6", "400"),
    ("Content-Length: +5", "400"),
    ("Content-Length: -1", "400"),
    ("Content-Length: 0x5", "400"),
    ("Content-Length: 5 5", "400"),
    ("Content-Length:", "400"),
    ("Content-Length: 5;", "400"),
    ("Content-Length: 99999999999999999999", "400"),
    ("Content-Length: 18446744073709551616", "400"),
    ("Content-Length: \u{664}", "400"),
    ("Transfer-Encoding: chunked", "ok"),
    ("Transfer-Encoding: Chunked", "ok"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "501"),
    ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", "501"),
    ("Transfer-Encoding: chunked, chunked", "501"),
    ("Transfer-Encoding: gzip, chunked", "501"),
    ("Transfer-Encoding: chunked, identity", "501"),
    ("Transfer-Encoding: xchunked", "501"),
    ("Transfer-Encoding: \"chunked\"", "501"),
    ("Transfer-Encoding: chunked;q=1", "501"),
    ("Transfer-Encoding: gzip", "501"),
    ("Transfer-Encoding:", "501"),
    ("Transfer-Encoding: \u{b}chunked", "400"),
    ("Transfer-Encoding : chunked", "400"),
    ("Transfer-Encoding: chunked\r\nContent-Length: 5", "400"),
    ("Content-Length: 5\r\nTransfer-Encoding: chunked", "400"),
    ("Content-Length: 5\r\nTransfer-Encoding: gzip", "400"),
    ("Expect: 100-continue", "ok"),
    ("Expect: 100-Continue", "ok"),
    ("Expect: 200-ok", "417"),
    ("Expect: 100-continue, x", "417"),
    ("Expect: 100-continue\r\nExpect: 100-continue", "417"),
    ("X: a\r\n b", "400"),
    ("X: a\r\n\tb", "400"),
    (" X: a", "400"),
    ("X : a", "400"),
    ("X\t: a", "400"),
    (": a", "400"),
    ("X", "400"),
    ("X: a\rb", "400"),
    ("X: a\0b", "400"),
    ("X: a\u{7f}b", "400"),
    ("X: a\u{1b}b", "400"),
    ("X\0: a", "400"),
    ("X\u{e4}: a", "400"),
    ("X(: a", "400"),
    ("X: a\nY: b", "400"),
    ("X: a\r\r\nY: b", "400"),
    ("X: \u{e4}\tb", "ok"),
    ("X:", "ok"),
];

const HEADS: &[(&str, &str)] = &[
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "ok"),
    ("post / HTTP/1.1\r\nHost: a\r\n\r\n", "ok"),
    ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "ok"),
    ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET / HTTP/1.1\nHost: a\n\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\n\n", "400"),
    ("GET / HTTP/1.1\r\nHost: a\n\r\n", "400"),
    ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", "400"),
    ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", "400"),
    ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "400"),
    ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", "400"),
    ("GET / http/1.1\r\nHost: a\r\n\r\n", "400"),
    ("GET /\r\nHost: a\r\n\r\n", "400"),
    ("GET\r\n\r\n", "400"),
    ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", "400"),
    ("PRI * HTTP/2.0\r\n\r\n", "400"),
    ("CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n", "405"),
    ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "ok"),
    ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", "400"),
    ("POST / HTTP/1.0\r\nHost: a\r\nExpect: x\r\n\r\n", "ok"),
    ("\u{16}\u{3}\u{1}", "400"),
    ("GET / HTTP/1.1\r\nHost: a\r\n", "partial"),
    ("\r\n", "partial"),
    ("", "partial"),
];

#[test]
fn a4_a5_a6_a8_doubtful_fields_are_refused() {
    for (lines, expected) in FIELD_LINES {
        let text = format!("POST /x HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n\r\n");
        assert_eq!(status(text.as_bytes()), *expected, "{lines:?}");
    }
}

#[test]
fn a4_a6_a9_doubtful_lines_and_methods_are_refused() {
    for (text, expected) in HEADS {
        assert_eq!(status(text.as_bytes()), *expected, "{text:?}");
    }
}

#[test]
fn a10_heads_are_bounded_in_octets_and_in_fields() {
    let start = "POST / HTTP/1.1\r\nHost: a\r\n";
    let fill = |octets: usize| format!("{start}X: {}\r\n\r\n", "x".repeat(octets));
    let spare = LIMIT - fill(0).len();
    assert_eq!(status(fill(spare).as_bytes()), "ok");
    assert_eq!(status(fill(spare + 1).as_bytes()), "431");
    let many = |lines: usize| format!("{start}{}\r\n", "x:\r\n".repeat(lines));
    assert_eq!(status(many(FIELDS - 1).as_bytes()), "ok");
    assert_eq!(status(many(FIELDS).as_bytes()), "431");
}

#[test]
fn c4_fields_stay_as_they_came_and_host_is_gone() {
    let text = "POST /3/device/00 HTTP/1.1\r\nHost: a\r\nApns-Topic: com.Example\r\n\
                authorization: Bearer aB==\r\nContent-Length: 2\r\nX: 1\r\nX: 2\r\n\r\n";
    let mut buf = BytesMut::from(text);
    let bytes = HeadReader::default().take(&mut buf, LIMIT).unwrap().unwrap();
    let head = parse_head(&bytes, None, Instant::now()).unwrap().head;
    let fields: Vec<_> =
        head.headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
    assert_eq!(
        fields,
        [
            ("apns-topic", "com.Example"),
            ("authorization", "Bearer aB=="),
            ("content-length", "2"),
            ("x", "1"),
            ("x", "2")
        ]
    );
}

#[test]
fn faults_after_the_host_keep_the_head_for_the_answer() {
    let text = "POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n";
    let mut buf = BytesMut::from(text);
    let bytes = HeadReader::default().take(&mut buf, LIMIT).unwrap().unwrap();
    let fault = parse_head(&bytes, None, Instant::now()).unwrap_err();
    assert_eq!(fault.head.unwrap().target, "/x");
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_head(
        pieces in proptest::collection::vec(piece(), 0..12), step in 1_usize..40,
    ) {
        let text = pieces.concat();
        prop_assert_eq!(read(text.as_bytes(), step), read(text.as_bytes(), usize::MAX));
    }

    #[test]
    fn any_octets_are_read_without_a_panic(
        octets in proptest::collection::vec(any::<u8>(), 0..200), step in 1_usize..9,
    ) {
        prop_assert_eq!(read(&octets, step), read(&octets, usize::MAX));
    }
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("POST /x HTTP/1.1\r\n".to_owned()),
        Just("Host: a.example\r\n".to_owned()),
        Just("Content-Length: 3\r\n".to_owned()),
        Just("Transfer-Encoding: chunked\r\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        Just("\r".to_owned()),
        Just(format!("X: {}\r\n", "y".repeat(400))),
        "[ -~]{0,20}",
    ]
}
