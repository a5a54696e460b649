//! A name server that fails as told.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::LOOPBACK;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answering {
    /// With the origin's address.
    Well,
    /// SERVFAIL (RFC 1035 §4.1.1).
    Failure,
    /// NXDOMAIN.
    NoSuchName,
    /// Not at all.
    Silence,
}

/// A running server; it ends with this value.
pub(crate) struct Names {
    pub(crate) address: SocketAddr,
    answering: Arc<Mutex<Answering>>,
    serving: AbortHandle,
}

impl Names {
    /// Every name has this address, and no other.
    pub(crate) async fn start(ip: Ipv4Addr) -> Self {
        let socket = UdpSocket::bind(LOOPBACK).await.unwrap();
        let address = socket.local_addr().unwrap();
        let answering = Arc::new(Mutex::new(Answering::Well));
        let serving = tokio::spawn(serve(socket, ip, answering.clone())).abort_handle();
        Self { address, answering, serving }
    }

    /// From now on.
    pub(crate) fn answer(&self, how: Answering) {
        *self.answering.lock().unwrap() = how;
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn serve(socket: UdpSocket, ip: Ipv4Addr, answering: Arc<Mutex<Answering>>) {
    let mut question = [0; 512];
    loop {
        let (len, from) = socket.recv_from(&mut question).await.unwrap();
        let how = *answering.lock().unwrap();
        if let Some(answer) = answer(&question[..len], ip, how) {
            socket.send_to(&answer, from).await.unwrap();
        }
    }
}

/// RFC 1035 §4: the head, the question as it came, one A record.
fn answer(question: &[u8], ip: Ipv4Addr, how: Answering) -> Option<Vec<u8>> {
    let code = match how {
        Answering::Silence => return None,
        Answering::Well => 0,
        Answering::Failure => 2,
        Answering::NoSuchName => 3,
    };
    let name = question.get(12..)?.iter().position(|&octet| octet == 0)?;
    let end = 12 + name + 5;
    let is_a = question.get(end - 4..end - 2)? == [0, 1];
    let records = u8::from(is_a && how == Answering::Well);
    let mut answer = question[..end].to_vec();
    answer[2..4].copy_from_slice(&[0x81, 0x80 | code]);
    answer[6..12].copy_from_slice(&[0, records, 0, 0, 0, 0]);
    if records == 1 {
        // The name by a pointer, A, IN, no time to live, four octets.
        answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4]);
        answer.extend_from_slice(&ip.octets());
    }
    Some(answer)
}
