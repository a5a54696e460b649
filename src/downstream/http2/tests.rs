//! Frames of the server, as a sender sees them.

use tokio::io::{DuplexStream, duplex};
use tokio::task::LocalSet;
use tokio::time::timeout;

use super::*;
use crate::downstream::listener::testing::{
    BODY, DATA, Frame, GOAWAY, HEADERS, Obedient, PING, RESET, Raw, SETTINGS, SOON, WINDOW, frame,
    post, sender,
};

struct Kit {
    raw: Raw<DuplexStream>,
    handle: Rc<Obedient>,
    lease: Lease,
    served: tokio::task::JoinHandle<()>,
}

fn start(limits: Http2Limits, buffer: usize) -> Kit {
    let (near, far) = duplex(buffer);
    let (handle, lease) = (Rc::new(Obedient::default()), Lease::new());
    let served = tokio::task::spawn_local(serve(
        far,
        sender(true),
        Rc::clone(&handle),
        limits,
        lease.clone(),
    ));
    Kit { raw: Raw(near), handle, lease, served }
}

impl Kit {
    /// Until `path` was begun `n` times.
    async fn begun(&self, n: usize) {
        let wait = async {
            while self.handle.begun.borrow().len() < n {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, wait).await.unwrap();
    }

    async fn over(self) {
        timeout(SOON, self.served).await.unwrap().unwrap();
    }
}

/// Runs a test on a data plane of its own.
async fn on_data_plane(work: impl Future<Output = ()>) {
    timeout(2 * SOON, LocalSet::new().run_until(work)).await.unwrap();
}

fn code(frame: &Frame) -> u32 {
    let at = if frame.kind == GOAWAY { 4 } else { 0 };
    u32::from_be_bytes(frame.body[at..at + 4].try_into().unwrap())
}

#[tokio::test]
async fn s1_settings_come_first_and_at_once() {
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 65_536);
        // Nothing was sent yet.
        let first = kit.raw.read().await.unwrap();
        assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
        let settings: std::collections::BTreeMap<u16, u32> = first
            .body
            .chunks_exact(6)
            .map(|s| {
                let value = u32::from_be_bytes(s[2..].try_into().unwrap());
                (u16::from_be_bytes([s[0], s[1]]), value)
            })
            .collect();
        assert_eq!(settings[&3], 500, "MAX_CONCURRENT_STREAMS");
        assert!(settings[&4] >= 65_536, "INITIAL_WINDOW_SIZE");
        assert_eq!(settings[&6], 32 * 1024, "MAX_HEADER_LIST_SIZE");
        kit.raw.hello(&[]).await;
        let window = kit.raw.find(WINDOW).await;
        assert_eq!(window.stream, 0);
        assert!(code(&window) + 65_535 >= 1 << 20, "the connection window");
    })
    .await;
}

// R1: the frames are part of the contract.
#[tokio::test]
async fn r1_answers_are_one_headers_or_headers_and_one_data() {
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 65_536);
        kit.raw.hello(&[]).await;
        kit.raw.write(&post(1, "/ok", true)).await;
        let head = kit.raw.find(HEADERS).await;
        assert_eq!((head.stream, head.flags), (1, 4 | 1), "END_HEADERS and END_STREAM");
        kit.raw.write(&post(3, "/bad", true)).await;
        let head = kit.raw.find(HEADERS).await;
        assert_eq!((head.stream, head.flags), (3, 4));
        let data = kit.raw.read().await.unwrap();
        assert_eq!((data.kind, data.stream, data.flags), (DATA, 3, 1));
        assert_eq!(data.body, br#"{"reason":"Forbidden"}"#);
        kit.raw.write(&post(5, "/refuse", true)).await;
        let reset = kit.raw.find(RESET).await;
        assert_eq!((reset.stream, code(&reset)), (5, 7), "B6: REFUSED_STREAM");
    })
    .await;
}

/// The fields of a push, and one more.
fn push_with(field: (&'static str, &'static str)) -> [(&'static str, &'static str); 5] {
    [
        (":method", "POST"),
        (":scheme", "https"),
        (":authority", "api.push.apple.com"),
        (":path", "/ok"),
        field,
    ]
}

// RFC 9110 §10.1.1: Java's client sends no body before the 100 that it asked for.
#[tokio::test]
async fn a_sender_that_waits_for_100_gets_it_before_its_body() {
    use crate::downstream::listener::testing::block;
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 65_536);
        kit.raw.hello(&[]).await;
        let fields = push_with(("expect", "100-continue"));
        kit.raw.write(&frame(HEADERS, 4, 1, &block(&fields))).await;
        let interim = kit.raw.find(HEADERS).await;
        assert_eq!((interim.stream, interim.flags), (1, 4), "no END_STREAM");
        assert_ne!(interim.body[0], 0x88, "not yet the answer");
        assert_eq!(kit.handle.begun.borrow().len(), 0);
        kit.raw.write(&frame(DATA, 1, 1, b"{}")).await;
        let head = kit.raw.find(HEADERS).await;
        assert_eq!((head.flags, head.body[0]), (5, 0x88));
        // Who sends no body waits for nothing.
        kit.raw.write(&frame(HEADERS, 5, 3, &block(&fields))).await;
        let head = kit.raw.find(HEADERS).await;
        assert_eq!((head.stream, head.flags, head.body[0]), (3, 5, 0x88));
    })
    .await;
}

#[tokio::test]
async fn b1_f3_and_b2_are_judged_on_the_wire() {
    use crate::downstream::listener::testing::block;
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 65_536);
        kit.raw.hello(&[]).await;
        let base = [(":method", "POST"), (":scheme", "https"), (":path", "/ok")];
        let host = ("host", "api.push.apple.com");
        let authority = (":authority", "api.push.apple.com");
        let cases: [(&[(&str, &str)], bool); 6] = [
            (&[base[0], base[1], base[2], host], true),
            (&[base[0], base[1], authority, base[2], host], true),
            (&base, false),
            (&[base[0], base[1], authority, base[2], ("host", "b.example")], false),
            (&[base[0], (":scheme", "http"), authority, base[2]], false),
            (&[base[0], base[1], authority, base[2], ("apns-topic", " a")], false),
        ];
        for (index, (fields, accepted)) in cases.into_iter().enumerate() {
            let stream = 2 * u32::try_from(index).unwrap() + 1;
            kit.raw.write(&frame(HEADERS, 5, stream, &block(fields))).await;
            let head = kit.raw.find(HEADERS).await;
            assert_eq!(head.stream, stream);
            // Indexed in HPACK's static table: 0x88 is 200, 0x8c is 400.
            assert_eq!(head.body[0], if accepted { 0x88 } else { 0x8c }, "{fields:?}");
        }
        assert_eq!(kit.handle.begun.borrow().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn s2_pings_are_answered_while_every_handler_hangs() {
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 65_536);
        kit.raw.hello(&[]).await;
        for stream in (1..40).step_by(2) {
            kit.raw.write(&post(stream, "/hang", true)).await;
        }
        kit.begun(20).await;
        kit.raw.write(&frame(PING, 0, 0, b"12345678")).await;
        let pong = kit.raw.find(PING).await;
        assert_eq!((pong.flags, &pong.body[..]), (1, &b"12345678"[..]));
    })
    .await;
}

#[tokio::test]
async fn bodies_over_the_limit_get_413_and_no_reset() {
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 1 << 20);
        kit.raw.hello(&[]).await;
        kit.raw.write(&post(1, "/ok", false)).await;
        kit.raw.write(&frame(DATA, 0, 1, &vec![0; BODY])).await;
        kit.raw.write(&frame(DATA, 0, 1, &[0; 1])).await;
        let head = kit.raw.find(HEADERS).await;
        assert_eq!(head.stream, 1);
        // 413 in HPACK's Huffman code.
        assert!(head.body.windows(3).any(|w| w == [0x68, 0x2c, 0xff]), "{:x?}", head.body);
        kit.raw.write(&frame(DATA, 1, 1, &[0; 1000])).await;
        assert!(kit.handle.begun.borrow().is_empty());
        // A body at the limit passes on the same connection, and no RST_STREAM came between.
        kit.raw.write(&post(3, "/ok", false)).await;
        kit.raw.write(&frame(DATA, 1, 3, &vec![0; BODY])).await;
        loop {
            let frame = kit.raw.read().await.unwrap();
            assert_ne!(frame.kind, RESET);
            if frame.kind == HEADERS {
                assert_eq!((frame.stream, frame.body[0]), (3, 0x88));
                break;
            }
        }
        assert_eq!(*kit.handle.bodies.borrow(), [BODY]);
    })
    .await;
}

#[tokio::test]
async fn a_polite_sender_with_window_0_is_cut() {
    on_data_plane(async {
        let write = Duration::from_millis(100);
        let mut kit = start(Http2Limits { write, ..Http2Limits::default() }, 65_536);
        kit.raw.hello(&[(4, 0)]).await;
        kit.raw.write(&post(1, "/large", true)).await;
        kit.raw.find(HEADERS).await;
        kit.raw.write(&frame(PING, 0, 0, b"politely")).await;
        let reset = kit.raw.find(RESET).await;
        assert_eq!((reset.stream, code(&reset)), (1, 8), "CANCEL");
        assert_eq!(code(&kit.raw.find(GOAWAY).await), 0);
        drop(kit.raw);
        timeout(SOON, kit.served).await.unwrap().unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_sender_that_never_reads_is_cut() {
    on_data_plane(async {
        let write = Duration::from_millis(100);
        // A transport of 1 octet: nothing ever gets out.
        let kit = start(Http2Limits { write, ..Http2Limits::default() }, 1);
        kit.over().await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    on_data_plane(async {
        let first_request = Duration::from_millis(50);
        let limits = Http2Limits { first_request, ..Http2Limits::default() };
        // Not even a preface.
        start(limits, 65_536).over().await;
        let mut kit = start(limits, 65_536);
        kit.raw.hello(&[]).await;
        assert_eq!(code(&kit.raw.find(GOAWAY).await), 0);
        drop(kit.raw);
        timeout(SOON, kit.served).await.unwrap().unwrap();
        // Idle counts only after a first request.
        let idle = Duration::from_millis(50);
        let mut kit = start(Http2Limits { idle, ..limits }, 65_536);
        kit.raw.hello(&[]).await;
        kit.raw.write(&post(1, "/hang", true)).await;
        kit.begun(1).await;
        let asked = std::time::Instant::now();
        while asked.elapsed() < 4 * idle {
            kit.raw.write(&frame(PING, 0, 0, b"12345678")).await;
            assert_ne!(kit.raw.read().await.unwrap().kind, GOAWAY, "not idle");
        }
        kit.handle.go.notify_one();
        assert_eq!(code(&kit.raw.find(GOAWAY).await), 0);
    })
    .await;
}

#[tokio::test]
async fn s3_goaway_waits_until_nothing_is_in_flight() {
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 65_536);
        kit.raw.hello(&[]).await;
        kit.raw.write(&post(1, "/hang", true)).await;
        kit.begun(1).await;
        kit.lease.ask(Asked::EndWhenQuiet);
        kit.raw.write(&frame(PING, 0, 0, b"12345678")).await;
        loop {
            let frame = kit.raw.read().await.unwrap();
            assert_ne!(frame.kind, GOAWAY, "a request is in flight");
            if frame.kind == PING {
                break;
            }
        }
        // Late requests are served as well.
        kit.raw.write(&post(3, "/ok", true)).await;
        assert_eq!(kit.raw.find(HEADERS).await.stream, 3);
        kit.handle.go.notify_one();
        assert_eq!(kit.raw.find(HEADERS).await.stream, 1);
        let goaway = kit.raw.read().await.unwrap();
        assert_eq!((goaway.kind, code(&goaway)), (GOAWAY, 0));
        assert_eq!(goaway.body[..4], 3_u32.to_be_bytes(), "the last stream that was taken");
        assert_eq!(kit.raw.read().await, None);
    })
    .await;
}

#[tokio::test]
async fn b7_hand_over_answers_what_is_in_flight() {
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 65_536);
        kit.raw.hello(&[]).await;
        kit.raw.write(&post(1, "/hang", true)).await;
        kit.begun(1).await;
        kit.lease.ask(Asked::HandOver);
        let first = kit.raw.find(GOAWAY).await;
        assert_eq!(first.body[..4], 0x7fff_ffff_u32.to_be_bytes());
        let ping = kit.raw.find(PING).await;
        kit.raw.write(&frame(PING, 1, 0, &ping.body)).await;
        assert_eq!(kit.raw.find(GOAWAY).await.body[..4], 1_u32.to_be_bytes());
        kit.handle.go.notify_one();
        assert_eq!(kit.raw.find(HEADERS).await.stream, 1);
        kit.raw.rest().await;
    })
    .await;
}

#[tokio::test]
async fn b7_the_end_of_a_drain_cuts_but_exchanges_run_on() {
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 65_536);
        kit.raw.hello(&[]).await;
        kit.raw.write(&post(1, "/hang", true)).await;
        kit.begun(1).await;
        kit.lease.ask(Asked::EndNow);
        kit.raw.find(GOAWAY).await;
        let handle = Rc::clone(&kit.handle);
        drop(kit.raw);
        timeout(SOON, kit.served).await.unwrap().unwrap();
        let ended = async {
            while handle.ended.get() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, ended).await.unwrap();
        assert_eq!(handle.left.get(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_reset_tells_the_handler_and_the_handler_runs_to_its_end() {
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 65_536);
        kit.raw.hello(&[]).await;
        kit.raw.write(&post(1, "/hang", true)).await;
        kit.begun(1).await;
        kit.raw.write(&frame(RESET, 0, 1, &8_u32.to_be_bytes())).await;
        let ended = async {
            while kit.handle.ended.get() == 0 {
                tokio::task::yield_now().await;
            }
        };
        timeout(SOON, ended).await.unwrap();
        assert_eq!(kit.handle.left.get(), 1);
        // The connection lives.
        kit.raw.write(&post(3, "/ok", true)).await;
        assert_eq!(kit.raw.find(HEADERS).await.stream, 3);
    })
    .await;
}

#[tokio::test]
async fn b4_rapid_reset_ends_the_connection_and_no_other() {
    on_data_plane(async {
        let mut other = start(Http2Limits::default(), 65_536);
        other.raw.hello(&[]).await;
        // All at once, and one by one as fast as they are taken.
        for together in [true, false] {
            let mut kit = start(Http2Limits::default(), 1 << 20);
            kit.raw.hello(&[]).await;
            let mut octets = Vec::new();
            for stream in (1..2000).step_by(2) {
                octets.extend(post(stream, "/hang", true));
                octets.extend(frame(RESET, 0, stream, &8_u32.to_be_bytes()));
                if !together {
                    if kit.served.is_finished() {
                        break;
                    }
                    let (head, reset) = octets.split_at(octets.len() - 13);
                    let begun = kit.handle.begun.borrow().len();
                    use tokio::io::AsyncWriteExt;
                    if kit.raw.0.write_all(head).await.is_err() {
                        break;
                    }
                    for _ in 0..20 {
                        if kit.handle.begun.borrow().len() > begun {
                            break;
                        }
                        tokio::task::yield_now().await;
                    }
                    let _ = kit.raw.0.write_all(reset).await;
                    octets.clear();
                }
            }
            kit.raw.write(&octets).await;
            assert_eq!(code(&kit.raw.find(GOAWAY).await), 11, "ENHANCE_YOUR_CALM");
            assert!(kit.handle.begun.borrow().len() <= 300);
        }
        other.raw.write(&post(1, "/ok", true)).await;
        assert_eq!(other.raw.find(HEADERS).await.stream, 1);
    })
    .await;
}

#[tokio::test]
async fn large_heads_get_our_431_up_to_twice_the_limit() {
    use crate::downstream::listener::testing::block;
    on_data_plane(async {
        let mut kit = start(Http2Limits { head: 1024, ..Http2Limits::default() }, 65_536);
        kit.raw.hello(&[]).await;
        let value = "x".repeat(120);
        // 157 octets a field: below the limit, ours, and h2's bare answer.
        for (stream, count, flags) in [(1, 3, 5), (3, 8, 4), (5, 20, 5)] {
            let mut fields = vec![
                (":method", "POST"),
                (":scheme", "https"),
                (":authority", "api.push.apple.com"),
                (":path", "/ok"),
            ];
            fields.resize(4 + count, ("x-abc", value.as_str()));
            kit.raw.write(&frame(HEADERS, 5, stream, &block(&fields))).await;
            let head = kit.raw.find(HEADERS).await;
            assert_eq!((head.stream, head.flags), (stream, flags));
            assert_eq!(head.body[0] == 0x88, count == 3, "200 only below the limit");
        }
        assert_eq!(kit.handle.begun.borrow().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_trickled_body_gets_408_and_never_leaves() {
    on_data_plane(async {
        let body = Duration::from_millis(50);
        let mut kit = start(Http2Limits { body, ..Http2Limits::default() }, 65_536);
        kit.raw.hello(&[]).await;
        kit.raw.write(&post(1, "/ok", false)).await;
        kit.raw.write(&frame(DATA, 0, 1, b"x")).await;
        let head = kit.raw.find(HEADERS).await;
        // 408 in HPACK's Huffman code: 011010 00000 011110 and ones.
        assert!(head.body.windows(3).any(|w| w == [0x68, 0x0f, 0x7f]), "{:x?}", head.body);
        assert!(kit.handle.begun.borrow().is_empty());
        let goaway = kit.raw.find(GOAWAY).await;
        assert_eq!(code(&goaway), 0, "or it could begin again");
    })
    .await;
}

// A truncated body never leaves: content-length and DATA must agree (RFC 9113 §8.1.1).
#[tokio::test]
async fn a_body_of_another_length_never_leaves() {
    use crate::downstream::listener::testing::block;
    on_data_plane(async {
        let mut kit = start(Http2Limits::default(), 65_536);
        kit.raw.hello(&[]).await;
        let fields = push_with(("content-length", "10"));
        kit.raw.write(&frame(HEADERS, 4, 1, &block(&fields))).await;
        kit.raw.write(&frame(DATA, 1, 1, b"short")).await;
        let reset = kit.raw.find(RESET).await;
        assert_eq!((reset.stream, code(&reset)), (1, 1), "PROTOCOL_ERROR");
        assert!(kit.handle.begun.borrow().is_empty());
    })
    .await;
}

/// Writes down what each write carried.
struct Writes(DuplexStream, Rc<std::cell::RefCell<Vec<Vec<u8>>>>);

impl AsyncRead for Writes {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Writes {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        self.1.borrow_mut().push(buf.to_vec());
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

// Every write becomes a TLS record.
#[tokio::test]
async fn headers_and_data_leave_in_one_write() {
    on_data_plane(async {
        let (near, far) = duplex(65_536);
        let writes = Rc::default();
        let io = Writes(far, Rc::clone(&writes));
        let handle = Rc::new(Obedient::default());
        let limits = Http2Limits::default();
        tokio::task::spawn_local(serve(io, sender(true), handle, limits, Lease::new()));
        let mut raw = Raw(near);
        raw.hello(&[]).await;
        raw.write(&post(1, "/bad", true)).await;
        raw.find(DATA).await;
        let text = br#"{"reason":"Forbidden"}"#;
        let writes = writes.borrow();
        let with_data: Vec<_> =
            writes.iter().filter(|w| w.windows(text.len()).any(|part| part == text)).collect();
        assert_eq!(with_data.len(), 1);
        let head = with_data[0].windows(9).find(|f| f[3] == HEADERS && f[8] == 1 && f[0] == 0);
        assert!(head.is_some(), "the write that carries DATA carries HEADERS too");
        assert!(with_data[0].len() > 9 + 9 + text.len());
    })
    .await;
}
