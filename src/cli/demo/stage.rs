//! What both halves of the demo share: the peers' addresses, the pushes, and the printed lines.

use std::net::SocketAddr;

use anstyle::{AnsiColor, Style};

use crate::cli::out::say;
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

/// The longest path that is printed, so that the answers stand below each other.
const PATH_WIDTH: usize = 63;

/// Prints a heading.
pub(super) fn heading(title: &str, path: &str) {
    let bold = Style::new().bold();
    say!("\n{bold}{title}{bold:#}\n  {path}");
}

/// The protocol as people write it.
pub(super) fn spoken(version: http::Version) -> String {
    if version == http::Version::HTTP_2 { "HTTP/2".to_owned() } else { format!("{version:?}") }
}

/// What reached the origin, which speaks nothing but HTTP/2.
pub(super) fn arrived(entry: Option<&Entry>) -> String {
    entry.map_or("nothing", |_seen| "HTTP/2").to_owned()
}

/// Prints one push: its hops, and what came back through all of them.
pub(super) fn line(hops: &[(&str, String)], result: &Result, right: bool) {
    let reason = result.receipt.reason().unwrap_or_default();
    let answer = format!("{} {reason}", result.receipt.status());
    let outcome = format!("{answer:<16} {:>3} ms", result.receipt.took.as_millis());
    verdict(if right { "ok" } else { WRONG }, hops, &outcome);
}

/// The word for what was not as claimed.
pub(super) const WRONG: &str = "WRONG";

/// Prints a path and what came of it, after a word that sums it up.
pub(super) fn verdict(word: &str, hops: &[(&str, String)], outcome: &str) {
    let colour = match word {
        WRONG => AnsiColor::Red,
        "ok" => AnsiColor::Green,
        _ => AnsiColor::Yellow,
    };
    let style = colour.on_default().bold();
    let hops: Vec<String> = hops.iter().map(|(to, how)| format!("--{how}--> {to}")).collect();
    let path = format!("sender {}", hops.join(" "));
    say!("  {style}{word:<5}{style:#} {path:<PATH_WIDTH$} => {outcome}");
}

/// Prints what the origin counted.
pub(super) fn totals(origin: &Origin) {
    let summary = origin.ledger().summary();
    say!(
        "  APNs counted: {}, {}, {}, {}",
        counted(summary.requests, "push", "es"),
        counted(summary.connections, "HTTP/2 connection", "s"),
        counted(summary.violations, "broken rule", "s"),
        counted(summary.duplicates, "duplicate", "s"),
    );
}

fn counted(count: impl Into<u64>, what: &str, plural: &str) -> String {
    let count = count.into();
    format!("{count} {what}{}", if count == 1 { "" } else { plural })
}
