//! CONNECT answers as tables, and under any chunking.

use proptest::prelude::*;

use super::*;

fn read_whole(bytes: &[u8]) -> Result<Option<Answer>, TunnelFault> {
    AnswerReader::default().read(bytes)
}

fn refused(bytes: &[u8]) -> Refused {
    let mut reader = AnswerReader::default();
    let answer = match reader.read(bytes).unwrap() {
        Some(answer) => answer,
        None => reader.end().unwrap(),
    };
    match answer {
        Answer::Refused(refused) => *refused,
        Answer::Opened { .. } => panic!("opened"),
    }
}

#[test]
fn f1_the_request_goes_by_name_with_host_and_keep_alive() {
    let target: Authority = "api.push.apple.com:443".parse().unwrap();
    assert_eq!(
        String::from_utf8(request(&target, Some("Basic Zm9v"))).unwrap(),
        "CONNECT api.push.apple.com:443 HTTP/1.1\r\nHost: api.push.apple.com:443\r\n\
         Proxy-Connection: Keep-Alive\r\nProxy-Authorization: Basic Zm9v\r\n\r\n"
    );
    let v6 = request(&"[2001:db8::1]:443".parse().unwrap(), None);
    assert!(v6.starts_with(b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n"));
}

#[test]
fn f1_any_2xx_opens_and_its_framing_is_ignored() {
    for (answer, status, early) in [
        (&b"HTTP/1.1 200 Connection established\r\n\r\n"[..], 200, &b""[..]),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 200, b""),
        (b"HTTP/1.1 204 \r\nTransfer-Encoding: chunked\r\n\r\n", 204, b""),
        (b"HTTP/1.1 299 Fine\n\nearly", 299, b"early"),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n<html>", 200, b"<html>"),
    ] {
        match read_whole(answer).unwrap().unwrap() {
            Answer::Opened { status: s, early: e, .. } => assert_eq!((s, &e[..]), (status, early)),
            Answer::Refused(refused) => panic!("{refused:?}"),
        }
    }
}

#[test]
fn f1_heads_that_only_clients_of_old_proxies_know_are_understood() {
    for answer in [
        &b"HTTP/1.0 200 Verbindung \xfcber Proxy\r\n\r\n"[..],
        b"HTTP/1.1  200  Connection established\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nProxy-Agent : Old/1.0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: one\r\n  two\r\n\tthree\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno field at all\r\nX-\xe4: 1\r\n: nameless\r\n\r\n",
    ] {
        let shown = answer.escape_ascii();
        assert!(matches!(read_whole(answer), Ok(Some(Answer::Opened { .. }))), "{shown}");
    }
    let folded = refused(
        b"HTTP/1.1 407 Auth\r\nProxy-Authenticate : Digest realm=\"a\",\r\n  nonce=\"n\"\r\n\
          Proxy-Authenticate: NTLM,\r\n\tBasic realm=\"x\"\r\nContent-Length : 0\r\n\r\n",
    );
    assert_eq!(folded.refusal.offered, ["Digest", "NTLM", "Basic"]);
    assert!(folded.reusable);
}

#[test]
fn f3_a_refusal_is_kept_whole() {
    let found = refused(
        b"HTTP/1.1 503 Service Unavailable\r\nVia: 1.1 a\r\nVia: 1.1 b (squid)\r\n\
          X-Squid-Error: ERR_CONNECT_FAIL 111\r\nContent-Length: 9\r\n\r\n<html>\x07..",
    );
    assert_eq!(found.refusal.status, 503);
    assert_eq!(found.refusal.via.as_deref(), Some("1.1 a, 1.1 b (squid)"));
    assert_eq!(found.refusal.squid_error.as_deref(), Some("ERR_CONNECT_FAIL 111"));
    assert_eq!(found.refusal.page, "<html>...");
    assert!(found.reusable);
}

#[test]
fn f2_every_scheme_of_every_line_is_named() {
    let found = refused(
        b"HTTP/1.1 407 Auth\r\nProxy-Authenticate: Negotiate, NTLM\r\n\
          Proxy-Authenticate: Digest realm=\"a, NTLMx \\\" b\", nonce = \"n\",Basic realm=\"x\"\r\n\
          proxy-authenticate: NTLM TlRMTVNTUAAC==\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(found.refusal.offered, ["Negotiate", "NTLM", "Digest", "Basic", "NTLM"]);
    assert_eq!(found.challenges[4].token.as_deref(), Some("TlRMTVNTUAAC=="));
    assert_eq!(found.challenges[3].token, None);
}

#[test]
fn f2_the_body_of_a_407_is_drained_so_that_the_connection_stays() {
    let head = "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n";
    for (rest, reusable) in [
        ("Content-Length: 4\r\n\r\npage", true),
        ("Content-Length: 4\r\nContent-Length: 4\r\n\r\npage", true),
        ("Transfer-Encoding: chunked\r\n\r\n4;x=y\r\npage\r\n0\r\nT: 1\r\n\r\n", true),
        ("Transfer-Encoding: Chunked\r\n\r\n2\r\npa\r\n2\r\nge\r\n0\r\n\r\n", true),
        ("Connection: close\r\nContent-Length: 4\r\n\r\npage", false),
        ("Proxy-Connection: x, Close\r\nContent-Length: 4\r\n\r\npage", false),
        ("\r\npage", false),
        ("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\npage", false),
        ("Content-Length: +4\r\n\r\npage", false),
        ("Content-Length: 4\r\n\r\npagesmuggled", false),
        ("Transfer-Encoding: chunked\r\n\r\nzz\r\npage", false),
    ] {
        let found = refused(format!("{head}{rest}").as_bytes());
        assert_eq!(found.reusable, reusable, "{rest:?}");
        if reusable {
            assert_eq!(found.refusal.page, "page", "{rest:?}");
        }
    }
    let old = "HTTP/1.0 407 No\r\nContent-Length: 0\r\n";
    assert!(!refused(format!("{old}\r\n").as_bytes()).reusable);
    assert!(refused(format!("{old}Proxy-Connection: keep-alive\r\n\r\n").as_bytes()).reusable);
}

#[test]
fn a_page_without_end_costs_a_bounded_amount() {
    let mut reader = AnswerReader::default();
    assert_eq!(
        reader.read(b"HTTP/1.1 407 No\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap(),
        None
    );
    let mut fed = 0;
    let answer = loop {
        fed += 4096 + 7;
        let chunk = [b"1000\r\n", &[b'x'; 4096][..], b"\r\n"].concat();
        if let Some(answer) = reader.read(&chunk).unwrap() {
            break answer;
        }
        assert!(fed < 100_000, "not bounded");
    };
    assert!(matches!(answer, Answer::Refused(refused) if !refused.reusable));
}

#[test]
fn heads_without_end_and_other_protocols_are_told_apart() {
    let flood = b"HTTP/1.1 102 Processing\r\n\r\n".repeat(20);
    assert_eq!(read_whole(&flood), Err(TunnelFault::Endless));
    let long = [b"HTTP/1.1 200 OK\r\nX: ", &[b'a'; HEAD_CAP][..]].concat();
    assert_eq!(read_whole(&long), Err(TunnelFault::Endless));
    let mut drip = AnswerReader::default();
    let fault = (0..3000).find_map(|_| drip.read(b"HTTP/1.1 100 C\r\n\r\n").err());
    assert_eq!(fault, Some(TunnelFault::Endless));
    for other in
        [&b"<html>\n"[..], b"\x15\x03\x01\x00\x02\x02\x0a", b"SSH-2.0-x\r\n", b"\0\0\x12\x04"]
    {
        assert!(matches!(read_whole(other), Err(TunnelFault::NotHttp(_))), "{other:?}");
    }
    assert_eq!(AnswerReader::default().end(), Err(TunnelFault::Closed));
}

#[test]
fn a_page_cut_by_the_clock_still_tells_the_refusal() {
    let mut reader = AnswerReader::default();
    let head = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 900\r\n\r\nshort";
    assert_eq!(reader.read(head).unwrap(), None);
    let Some(Answer::Refused(refused)) = reader.give_up() else { panic!("no refusal") };
    assert_eq!((refused.refusal.status, refused.refusal.page.as_str()), (403, "short"));
    assert!(!refused.reusable);
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_answer(
        which in 0_usize..6,
        cuts in proptest::collection::vec(1_usize..40, 1..40),
    ) {
        let answers: [&[u8]; 6] = [
            b"HTTP/1.1 200 OK\r\nVia: 1.1 p\r\n\r\n",
            b"HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 407 A\r\nProxy-Authenticate: NTLM TlRM\r\nContent-Length: 7\r\n\r\n<html>x",
            b"HTTP/1.1 407 A\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nb;e\r\nhello world\r\n0\r\nX: y\r\n\r\n",
            b"HTTP/1.0 503 No\r\nX-Squid-Error: ERR_DNS_FAIL 0\r\n\r\nuntil the end",
            b"\x16\x03\x03 no HTTP at all",
        ];
        let bytes = answers[which];
        let finish = |reader: &mut AnswerReader| reader.end().map(Some);
        let mut whole = AnswerReader::default();
        let expected = match whole.read(bytes) { Ok(None) => finish(&mut whole), other => other };
        let mut reader = AnswerReader::default();
        let (mut rest, mut cut) = (bytes, cuts.iter().cycle());
        let mut got = Ok(None);
        while !rest.is_empty() && got == Ok(None) {
            let n = (*cut.next().unwrap()).min(rest.len());
            got = reader.read(&rest[..n]);
            rest = &rest[n..];
        }
        if got == Ok(None) { got = finish(&mut reader); }
        match (&got, &expected) {
            // How much of a wrong protocol is shown depends on what had arrived.
            (Err(TunnelFault::NotHttp(_)), Err(TunnelFault::NotHttp(_))) => {}
            _ => prop_assert_eq!(got, expected),
        }
    }
}
