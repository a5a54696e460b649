use super::*;
use crate::relay::outcome::Refusal;

const NOW: i64 = 1_770_000_000;

fn key(text: &str) -> Key {
    Key::new(&Secret::new(text.as_bytes().to_vec()))
}

fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
    list.iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect()
}

/// The request of a test, owned, so that it can be tampered with.
#[derive(Clone)]
struct Request {
    method: String,
    authority: String,
    target: String,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Request {
    fn message(&self) -> Message<'_> {
        Message {
            method: &self.method,
            authority: &self.authority,
            target: &self.target,
            headers: &self.headers,
            body: &self.body,
        }
    }

    fn verify(&self, keys: &[Key], now: i64) -> Result<Verified, Refusal> {
        verify(&self.message(), keys, now, &mut Memory::new())
    }
}

fn signed(created: i64) -> Request {
    let mut request = Request {
        method: "POST".into(),
        authority: "api.push.apple.com".into(),
        target: "/3/device/abcd?x=1".into(),
        headers: fields(&[
            ("apns-topic", "com.example"),
            ("apns-id", "some-id"),
            ("authorization", "bearer a.b.c"),
            ("user-agent", "any"),
        ]),
        body: b"{\"aps\":{}}".to_vec(),
    };
    let added = sign(&request.message(), &key("one"), created, 5500);
    request.headers.extend(added);
    request
}

/// RFC 9421 §B.2.5, with the key of §B.1.5 and the request of §B.2.
#[test]
fn the_base_and_the_tag_are_those_of_the_rfc() {
    let secret = "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBt\
                  bmHhIDi6pcl8jsasjlTMtDQ==";
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(secret).unwrap());
    let headers =
        fields(&[("date", "Tue, 20 Apr 2021 02:07:55 GMT"), ("content-type", "application/json")]);
    let message = Message {
        method: "POST",
        authority: "example.com",
        target: "/foo?param=Value&Pet=dog",
        headers: &headers,
        body: b"{\"hello\": \"world\"}",
    };
    let params = "(\"date\" \"@authority\" \"content-type\");created=1618884473\
                  ;keyid=\"test-shared-secret\"";
    let base = base(&message, ["date", "@authority", "content-type"].into_iter(), params).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&base),
        "\"date\": Tue, 20 Apr 2021 02:07:55 GMT\n\"@authority\": example.com\n\
         \"content-type\": application/json\n\"@signature-params\": \
         (\"date\" \"@authority\" \"content-type\");created=1618884473\
         ;keyid=\"test-shared-secret\""
    );
    let tag = STANDARD.encode(hmac::sign(&key, &base).as_ref());
    assert_eq!(tag, "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");
}

/// RFC 9530 appendix: the digest of `{"hello": "world"}` and a line end.
#[test]
fn the_digest_is_that_of_rfc_9530() {
    let digest = content_digest(b"{\"hello\": \"world\"}\n");
    assert_eq!(digest, "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:");
}

#[test]
fn what_is_signed_verifies_with_any_of_the_keys() {
    let request = signed(NOW);
    let keys = [key("zero"), key("one")];
    let verified = request.verify(&keys, NOW + 3).unwrap();
    assert_eq!(verified, Verified { key: key("one").id().to_owned(), remaining_ms: 5500 });
    assert_eq!(verified.key.len(), 16);
    let mut stranger = request;
    stranger.headers.insert("user-agent", "other".parse().unwrap());
    stranger.headers.insert("via", "1.1 squid".parse().unwrap());
    assert!(stranger.verify(&keys, NOW).is_ok(), "what proxies add is not covered");
}

#[test]
fn whatever_is_tampered_with_is_refused() {
    type Tamper = fn(&mut Request);
    let table: [(&str, Tamper); 15] = [
        ("method", |r| r.method = "PUT".into()),
        ("authority", |r| r.authority = "api.sandbox.push.apple.com".into()),
        ("path", |r| r.target = "/3/device/abce?x=1".into()),
        ("query", |r| r.target = "/3/device/abcd?x=2".into()),
        ("query away", |r| r.target = "/3/device/abcd".into()),
        ("body", |r| r.body.push(b' ')),
        ("topic", |r| drop(r.headers.insert("apns-topic", "com.other".parse().unwrap()))),
        ("topic away", |r| drop(r.headers.remove("apns-topic"))),
        ("topic twice", |r| assert!(r.headers.append("apns-topic", "x".parse().unwrap()))),
        ("apns added", |r| drop(r.headers.insert("apns-priority", "10".parse().unwrap()))),
        ("token", |r| drop(r.headers.insert("authorization", "bearer x".parse().unwrap()))),
        ("token away", |r| drop(r.headers.remove("authorization"))),
        ("deadline", |r| drop(r.headers.insert(DEADLINE_FIELD, "99999".parse().unwrap()))),
        ("no signature", |r| drop(r.headers.remove("signature"))),
        ("no input", |r| drop(r.headers.remove("signature-input"))),
    ];
    for (what, tamper) in table {
        let mut request = signed(NOW);
        tamper(&mut request);
        let got = request.verify(&[key("one")], NOW);
        assert!(matches!(got, Err(Refusal::Signature(_))), "{what}: {got:?}");
    }
    let mut digest = signed(NOW);
    digest.body = b"other".to_vec();
    let value = content_digest(&digest.body).parse().unwrap();
    digest.headers.insert("content-digest", value);
    assert!(digest.verify(&[key("one")], NOW).is_err(), "a new digest is covered, too");
    assert!(signed(NOW).verify(&[key("two")], NOW).is_err(), "a stranger's key");
    let mut input = signed(NOW);
    for (from, to) in
        [("hmac-sha256", "rsa-v1_5-sha256"), ("created=", "created=9"), (" \"@path\"", "")]
    {
        let text = input.headers["signature-input"].to_str().unwrap().replace(from, to);
        input.headers.insert("signature-input", text.parse().unwrap());
        assert!(input.verify(&[key("one")], NOW).is_err(), "{from}");
        input = signed(NOW);
    }
}

#[test]
fn old_ones_future_ones_and_repeats_are_named_as_such() {
    let keys = [key("one")];
    let said = |result: Result<Verified, Refusal>| match result {
        Err(Refusal::Signature(what)) => what,
        other => panic!("{other:?}"),
    };
    assert!(signed(NOW).verify(&keys, NOW + 120).is_ok());
    assert!(signed(NOW).verify(&keys, NOW - 120).is_ok());
    assert!(said(signed(NOW).verify(&keys, NOW + 121)).contains("clocks differ"));
    assert!(said(signed(NOW).verify(&keys, NOW - 121)).contains("clocks differ"));
    let mut memory = Memory::new();
    let (one, same_push_again) = (signed(NOW), signed(NOW));
    assert!(verify(&one.message(), &keys, NOW, &mut memory).is_ok());
    assert!(said(verify(&one.message(), &keys, NOW + 1, &mut memory)).contains("used before"));
    assert!(verify(&same_push_again.message(), &keys, NOW, &mut memory).is_ok(), "nonces differ");
}

#[test]
fn keys_are_never_shown() {
    assert!(!format!("{:?}", key("very secret")).contains("secret"));
}
