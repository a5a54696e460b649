//! One connection against an origin written in octets, for what no HTTP/2 library does.

use std::io;
use std::pin::Pin;
use std::task::{Context, Waker};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex};

use super::*;
use crate::upstream::dial::DialFacts;

const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
/// An answer with `:status: 400` and nothing else; its flags are to be said.
const fn headers(flags: u8) -> [u8; 10] {
    [0, 0, 1, 1, flags, 0, 0, 0, 1, 0x8c]
}
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// All of a body.
const DATA: &[u8] = &[0, 0, 2, 0, END_STREAM, 0, 0, 0, 1, b'{', b'}'];
const RST_NO_ERROR: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 0];

async fn open(near: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Rc<Connection> {
    let any = "127.0.0.1:1".parse().unwrap();
    let facts = DialFacts {
        local: any,
        peer: any,
        proxy: None,
        alpn: None,
        h2: true,
        tls: None,
        took: Duration::ZERO,
    };
    let changed = Rc::new(|| {});
    let ping = Duration::from_secs(60);
    Connection::open(1, (near, facts), ping, &crate::hop::Unobserved, changed).await.unwrap()
}

fn push(octets: usize) -> http::Request<Bytes> {
    http::Request::post("https://a.example/x").body(vec![b'x'; octets].into()).unwrap()
}

/// RFC 9113 §8.1: an answer that comes before the whole body was taken ends with RST_STREAM and
/// NO_ERROR, and is not to be thrown away for that.
#[tokio::test(start_paused = true)]
async fn an_answer_before_the_body_was_taken_counts() {
    let local = tokio::task::LocalSet::new();
    let bare = headers(END_STREAM | END_HEADERS);
    let with_body = [&headers(END_HEADERS)[..], DATA].concat();
    for answer in [&bare[..], &with_body] {
        let answer = [answer, RST_NO_ERROR].concat();
        local.run_until(early(answer)).await;
    }
}

async fn early(answer: Vec<u8>) {
    {
        let (near, mut far) = duplex(1 << 20);
        tokio::task::spawn_local(async move {
            far.write_all(SETTINGS).await.unwrap();
            // More than the 65,535 octets of the first window never come.
            let mut taken = 0;
            while taken < 65_535 {
                taken += far.read(&mut [0; 4096]).await.unwrap();
            }
            far.write_all(&answer).await.unwrap();
            std::future::pending::<()>().await;
        });
        let connection = open(near).await;
        let deadline = Instant::now() + Duration::from_secs(5);
        let answer = connection.exchange(&push(200_000), deadline).await.unwrap();
        assert_eq!(answer.status(), 400);
    }
}

/// The first octets of a body, and more of it is to come.
const HALF_A_BODY: &[u8] = &[0, 0, 1, 0, 0, 0, 0, 0, 1, b'{'];
const RST_REFUSED: &[u8] = &[0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 7];
const GOAWAY_ZERO: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

#[tokio::test(start_paused = true)]
async fn e1_who_has_begun_to_answer_cannot_say_that_it_processed_nothing() {
    let local = tokio::task::LocalSet::new();
    for end in [RST_REFUSED, GOAWAY_ZERO] {
        for (begun, expected) in
            [(&b""[..], Delivery::NotSent), (&headers(END_HEADERS)[..], Delivery::Unknown)]
        {
            let said = match begun {
                b"" => end.to_vec(),
                head => [head, HALF_A_BODY, end].concat(),
            };
            local.run_until(taken_back(said, expected)).await;
        }
    }
}

async fn taken_back(said: Vec<u8>, expected: Delivery) {
    let (near, mut far) = duplex(1 << 20);
    tokio::task::spawn_local(async move {
        far.write_all(SETTINGS).await.unwrap();
        let mut taken = 0;
        while taken < 4000 {
            taken += far.read(&mut [0; 4096]).await.unwrap();
        }
        far.write_all(&said).await.unwrap();
        std::future::pending::<()>().await;
    });
    let connection = open(near).await;
    let deadline = Instant::now() + Duration::from_secs(5);
    let failure = connection.exchange(&push(4000), deadline).await.unwrap_err();
    assert_eq!(failure.delivery, expected, "{}", failure.cause);
}

/// A path that takes nothing while it is shut.
struct Valve {
    io: DuplexStream,
    shut: Rc<Cell<bool>>,
    waker: Rc<RefCell<Option<Waker>>>,
}

impl AsyncRead for Valve {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Valve {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.shut.get() {
            *self.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// What was said to be unsent must never leave afterwards: neither when the deadline came while a
/// PING waits for its answer, nor when the peer broke HTTP/2 or closed its half.
#[tokio::test(start_paused = true)]
async fn what_was_not_written_in_time_is_never_written() {
    let local = tokio::task::LocalSet::new();
    for fault in [Fault::None, Fault::DataOnStreamZero, Fault::HalfClose] {
        local.run_until(unwritten(fault)).await;
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    None,
    DataOnStreamZero,
    HalfClose,
}

async fn unwritten(fault: Fault) {
    let (near, mut far) = duplex(1 << 20);
    let (shut, waker) = (Rc::new(Cell::new(false)), Rc::new(RefCell::new(None)));
    far.write_all(SETTINGS).await.unwrap();
    let connection = open(Valve { io: near, shut: shut.clone(), waker: waker.clone() }).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    shut.set(true);
    let tried = connection.clone();
    tokio::task::spawn_local(async move { tried.try_path().await });
    tokio::task::yield_now().await;
    let deadline = Instant::now() + Duration::from_millis(300);
    let request = push(4000);
    let exchange = connection.exchange(&request, deadline);
    let breaking = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        match fault {
            Fault::None => {}
            Fault::DataOnStreamZero => {
                far.write_all(&[0, 0, 0, 0, 0, 0, 0, 0, 0]).await.unwrap();
            }
            Fault::HalfClose => far.shutdown().await.unwrap(),
        }
    };
    let (answer, ()) = tokio::join!(exchange, breaking);
    assert_eq!(answer.unwrap_err().delivery, Delivery::NotSent);
    shut.set(false);
    waker.take().into_iter().for_each(Waker::wake);
    let mut all = Vec::new();
    let read = timeout(Duration::from_secs(10), far.read_to_end(&mut all)).await;
    assert!(read.is_ok(), "it is closed");
    assert!(!all.windows(100).any(|part| part.iter().all(|b| *b == b'x')), "{fault:?}");
}
