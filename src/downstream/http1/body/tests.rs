use proptest::prelude::*;

use super::*;

const LIMIT: usize = 64;

/// The body and how many octets were left, a refusal, or `None` for a body that is not whole.
type Seen = Result<Option<(Bytes, usize)>, Refusal>;

fn read(framing: Framing, text: &[u8], step: usize) -> Seen {
    let mut buf = BytesMut::new();
    let mut reader = BodyReader::new(framing, LIMIT)?;
    let mut taken = 0;
    for part in text.chunks(step.max(1)) {
        buf.extend_from_slice(part);
        taken += part.len();
        if let Some(body) = reader.take(&mut buf)? {
            return Ok(Some((body, text.len() - taken + buf.len())));
        }
    }
    Ok(None)
}

fn chunked(text: &str) -> Seen {
    read(Framing::Chunked, text.as_bytes(), usize::MAX)
}

fn whole(body: &'static str, left: usize) -> Seen {
    Ok(Some((Bytes::from_static(body.as_bytes()), left)))
}

#[test]
fn a7_a_length_is_judged_before_the_body_is_read() {
    assert_eq!(read(Framing::Length(3), b"abcdef", 1), whole("abc", 3));
    assert_eq!(read(Framing::Length(4), b"abc", 1), Ok(None));
    assert_eq!(BodyReader::new(Framing::Length(64), LIMIT).map(drop), Ok(()));
    assert_eq!(BodyReader::new(Framing::Length(65), LIMIT).map(drop), Err(Refusal::Size));
    assert_eq!(BodyReader::new(Framing::Length(u64::MAX), LIMIT).map(drop), Err(Refusal::Size));
}

#[test]
fn chunks_are_put_together_and_extensions_and_trailers_dropped() {
    assert_eq!(chunked("0\r\n\r\nGET"), whole("", 3));
    assert_eq!(chunked("3\r\nabc\r\n00A\r\n0123456789\r\n0\r\n\r\n"), whole("abc0123456789", 0));
    assert_eq!(chunked("3;a=\"b\";c\r\nabc\r\n0;x\r\n\r\n"), whole("abc", 0));
    assert_eq!(chunked("1\r\na\r\n0\r\nContent-Length: 9\r\nX: y\r\n\r\nZ"), whole("a", 1));
    for partial in ["", "3", "3\r", "3\r\nab", "3\r\nabc", "3\r\nabc\r", "0\r\n", "0\r\nX: y\r\n"] {
        assert_eq!(chunked(partial), Ok(None), "{partial:?}");
    }
}

#[test]
fn a6_doubtful_chunks_are_refused() {
    for bad in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\na\r\n",
        " 1\r\na\r\n",
        "1 \r\na\r\n",
        "1\t;x\r\na\r\n",
        "1\na\r\n",
        "1;x\na\r\n",
        "1;\0\r\na\r\n",
        "1;a\rb\r\na\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\nab\r\n",
        "1\r\na\rb",
        "00000000000000001\r\na\r\n",
        "0\r\n\n",
        "0\r\nX: y\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\nX: a\0b\r\n\r\n",
        "0\r\nX: a\r\n b\r\n\r\n",
        ";x\r\n",
    ] {
        let refused = matches!(chunked(bad), Err(Refusal::Malformed(_)));
        assert!(refused, "{bad:?}: {:?}", chunked(bad));
    }
}

#[test]
fn a7_a10_chunks_extensions_and_trailers_are_bounded() {
    let digits = "0".repeat(60);
    assert_eq!(chunked(&format!("3c\r\n{digits}\r\n5\r\n")), Err(Refusal::Size));
    assert_eq!(chunked("ffffffffffffffff\r\n"), Err(Refusal::Size));
    assert_eq!(chunked("8000000000000000\r\n"), Err(Refusal::Size));
    let extension = |octets: usize| format!("1;{}\r\na\r\n", "x".repeat(octets - 1));
    let end = "0\r\n\r\n";
    assert_eq!(chunked(&(extension(EXTENSIONS) + end)), whole("a", 0));
    assert!(chunked(&(extension(EXTENSIONS + 1) + end)).is_err());
    assert!(chunked(&format!("{0}{0}", extension(EXTENSIONS / 2 + 1))).is_err());
    assert!(chunked(&format!("1;{}", "x".repeat(EXTENSIONS + 1))).is_err());
    let trailer = |octets: usize| format!("0\r\nX:{}\r\n\r\n", "x".repeat(octets - 6));
    assert_eq!(chunked(&trailer(TRAILERS)), whole("", 0));
    assert!(chunked(&trailer(TRAILERS + 1)).is_err());
    assert!(chunked(&format!("0\r\n{}\r\n", "x:\r\n".repeat(TRAILER_FIELDS + 1))).is_err());
}

proptest! {
    #[test]
    fn any_chunking_gives_the_same_body(
        pieces in proptest::collection::vec(piece(), 0..10), step in 1_usize..30,
    ) {
        let text = pieces.concat();
        let at_once = read(Framing::Chunked, text.as_bytes(), usize::MAX);
        prop_assert_eq!(read(Framing::Chunked, text.as_bytes(), step), at_once);
    }
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{1,15}".prop_map(|data| format!("{:x}\r\n{data}\r\n", data.len())),
        "[a-z]{1,15}".prop_map(|data| format!("{:x};{data}\r\n{data}\r\n", data.len())),
        Just("0\r\n\r\n".to_owned()),
        Just("0\r\nX: y\r\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\n".to_owned()),
        "[ -~]{0,6}",
    ]
}
