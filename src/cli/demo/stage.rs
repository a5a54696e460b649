//! What both halves of the demo share: the peers' addresses, the pushes, and the printed lines.

use std::net::SocketAddr;

use anstream::println;
use anstyle::{AnsiColor, Style};

use crate::simulate::apns::{Entry, Fate, Origin, path_hash, token_accepted, token_for};
use crate::simulate::sender::{Push, Receipt, SendError, Sender};

/// A free port of this machine.
pub(super) const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// The host of the demo's pushes.
pub(super) const HOST: &str = "api.push.apple.com";
/// The topic of the demo's pushes.
const TOPIC: &str = "com.example.chat";

/// A push of the demo and what must come back.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) push: Push,
    pub(super) apns_id: String,
    status: u16,
    reason: Option<&'static str>,
}

/// One push that is accepted and one that the origin refuses.
pub(super) fn pushes(serial: u64) -> [Planned; 2] {
    let unregistered = token_for(410, "Unregistered", serial).unwrap_or_default();
    let rows = [(token_accepted(serial), 200, None), (unregistered, 410, Some("Unregistered"))];
    let mut number = serial * 2;
    rows.map(|(token, status, reason)| {
        number += 1;
        let apns_id = format!("00000000-0000-4000-8000-{number:012x}");
        let push = Push::alert(&token, TOPIC).apns_id(&apns_id);
        Planned { push, apns_id, status, reason }
    })
}

/// What became of one push, by the sender and by the origin's record.
#[derive(Debug)]
pub(super) struct Result {
    pub(super) receipt: Receipt,
    pub(super) entry: Option<Entry>,
    pub(super) right: bool,
}

/// Sends a push and compares the answer with the plan and the origin's record.
pub(super) async fn send(
    sender: &Sender,
    planned: &Planned,
    origin: &Origin,
) -> std::result::Result<Result, SendError> {
    let receipt = sender.send(&planned.push).await?;
    let hash = path_hash(&planned.push.path);
    let mut entries = origin.ledger().entries();
    entries.retain(|entry| {
        entry.path_hash == hash && entry.apns_id.as_deref() == Some(&planned.apns_id)
    });
    let once = entries.len() == 1;
    let entry = entries.pop();
    let answered = entry.as_ref().is_some_and(|entry| entry.fate == Fate::Answered(planned.status));
    let right = once
        && answered
        && receipt.status() == planned.status
        && receipt.reason().as_deref() == planned.reason
        && receipt.field("apns-id") == Some(&planned.apns_id)
        && origin.ledger().summary().violations == 0;
    Ok(Result { receipt, entry, right })
}

/// Prints a heading.
pub(super) fn heading(title: &str, path: &str) {
    let bold = Style::new().bold();
    println!("\n{bold}{title}{bold:#}\n  {path}");
}

/// Prints one push: its hops, and what came back through all of them.
pub(super) fn line(hops: &[(&str, String)], result: &Result, right: bool) {
    let colour = if right { AnsiColor::Green } else { AnsiColor::Red };
    let style = colour.on_default().bold();
    let word = if right { "ok   " } else { "WRONG" };
    let hops: Vec<String> = hops.iter().map(|(to, how)| format!("--{how}--> {to}")).collect();
    let reason = result.receipt.reason().unwrap_or_default();
    println!(
        "  {style}{word}{style:#} sender {}  =>  {} {reason}{}({} ms)",
        hops.join(" "),
        result.receipt.status(),
        if reason.is_empty() { "" } else { " " },
        result.receipt.took.as_millis(),
    );
}

/// Prints what the origin counted.
pub(super) fn totals(origin: &Origin) {
    let summary = origin.ledger().summary();
    println!(
        "  the origin saw {} requests on {} HTTP/2 connections, {} broken rules, {} duplicates",
        summary.requests, summary.connections, summary.violations, summary.duplicates
    );
}
