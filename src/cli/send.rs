//! `pushrelay send`: pushes as a sender would send them, to see what comes back.
//!
//! Speaks with the simulated sender of `simulate`; never repeats a push.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::rc::Rc;
use std::sync::Arc;

use rustls::RootCertStore;
use url::Url;

use crate::simulate::apns::{jwt, token_accepted};
use crate::simulate::authority::read_roots;
use crate::simulate::sender::{Connected, Push, Receipt, SendError, Sender, Speech};

use super::EXIT_USAGE;
use super::out::{complain, say};

/// Connections at once; more measure this machine and not the relay.
const MAX_CONCURRENCY: usize = 1000;

/// Arguments of `send`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the push goes: https://HOST[:PORT], a path to replace /3/device/TOKEN included
    #[arg(long, default_value = "https://api.push.apple.com", value_parser = with_scheme)]
    to: Url,
    /// Connect to this address in place of the host's own
    #[arg(long, value_name = "ADDRESS:PORT")]
    connect: Option<SocketAddr>,
    /// Go through this CONNECT proxy: http://[USER:PASSWORD@]ADDRESS:PORT
    #[arg(long, value_name = "URL", value_parser = with_scheme)]
    via_proxy: Option<Url>,
    /// What to speak
    #[arg(long, value_parser = ["1.0", "1.1", "2"], default_value = "2")]
    http: String,
    /// Offer no ALPN, as pushy and aioapns do
    #[arg(long)]
    no_alpn: bool,
    /// PEM file that the certificate must chain to; the bundled roots when absent
    #[arg(long, value_name = "FILE")]
    ca: Option<String>,
    /// Device token in hex; made up when absent
    #[arg(long, value_name = "HEX")]
    token: Option<String>,
    /// The app's topic
    #[arg(long, default_value = "com.example.chat")]
    topic: String,
    /// Team (iss) of the made-up provider token, 10 characters
    #[arg(long, default_value = "TEAM000001")]
    team: String,
    /// Key (kid) of the made-up provider token, 10 characters
    #[arg(long, default_value = "KEY0000001")]
    key: String,
    /// How many pushes
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// How many at once: streams of one connection over HTTP/2, connections over HTTP/1
    #[arg(long, default_value_t = 1)]
    concurrency: usize,
    /// One JSON object per push
    #[arg(long)]
    json: bool,
}

/// `HOST:PORT` would be a URL too, whose scheme is HOST.
fn with_scheme(text: &str) -> Result<Url, String> {
    if !text.contains("://") {
        return Err("the scheme is missing: http:// or https://".to_owned());
    }
    Url::parse(text).map_err(|error| error.to_string())
}

/// Runs `send`; success only if every push was answered with 2xx.
pub fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            complain!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(async {
        let sender = sender(&args).await?;
        Ok::<_, String>(tokio::task::LocalSet::new().run_until(pushes(sender, args)).await)
    }) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(wrong) => {
            complain!("error: {wrong}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

async fn sender(args: &Args) -> Result<Sender, String> {
    let host = args.to.host_str().ok_or("--to names no host")?.to_owned();
    if args.to.scheme() != "https" {
        return Err("--to must begin with https://".into());
    }
    let port = args.to.port().unwrap_or(443);
    let roots = match &args.ca {
        Some(file) => read_roots(file).map_err(|error| error.to_string())?,
        None => Arc::new(RootCertStore::from_iter(webpki_roots::TLS_SERVER_ROOTS.iter().cloned())),
    };
    let proxy = args.via_proxy.as_ref().map(|url| {
        let password = url.password().unwrap_or_default().to_owned();
        (!url.username().is_empty()).then(|| (url.username().to_owned(), password))
    });
    let connect = match (args.connect, &args.via_proxy) {
        (Some(address), _) => address,
        (None, Some(url)) => {
            lookup(url.host_str().ok_or("--via-proxy names no host")?, url.port().unwrap_or(3128))
                .await?
        }
        (None, None) => lookup(&host, port).await?,
    };
    let speech = match (args.http.as_str(), args.no_alpn) {
        ("1.0", _) => Speech::Http10,
        ("1.1", false) => Speech::Http11,
        ("1.1", true) => Speech::Http11WithoutAlpn,
        (_, false) => Speech::Http2,
        (_, true) => Speech::Http2WithoutAlpn,
    };
    Ok(Sender { host, port, sni: None, connect, proxy, speech, roots })
}

async fn lookup(host: &str, port: u16) -> Result<SocketAddr, String> {
    // A URL shows an IPv6 address in brackets.
    let found = tokio::net::lookup_host((host.trim_matches(['[', ']']), port)).await;
    let mut found = found.map_err(|error| format!("{host}: {error}"))?;
    found.next().ok_or_else(|| format!("{host} has no address"))
}

fn push(args: &Args, serial: u64) -> Push {
    let token = args.token.clone().unwrap_or_else(|| token_accepted(serial));
    let mut push = Push::alert(&token, &args.topic)
        .field("authorization", &format!("bearer {}", jwt(&args.team, &args.key)));
    if args.to.path() != "/" {
        args.to.path().clone_into(&mut push.path);
    }
    push
}

async fn pushes(sender: Sender, args: Args) -> bool {
    let args = Rc::new(args);
    let sender = Rc::new(sender);
    // The first push goes alone: APNs opens its stream limit only after it, and where nothing can
    // be reached, one attempt tells it and no account is locked by more.
    let mut first = None;
    let outcome = one(&sender, &mut first, &push(&args, 0)).await;
    let mut good = outcome.as_ref().is_ok_and(|receipt| receipt.status() / 100 == 2);
    report(args.json, &outcome);
    if !reachable(&outcome) {
        return false;
    }
    let next = Rc::new(std::cell::Cell::new(1));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..args.concurrency.clamp(1, MAX_CONCURRENCY) {
        let (args, sender, next) = (Rc::clone(&args), Rc::clone(&sender), Rc::clone(&next));
        let mut connection = first.as_ref().and_then(Connected::another);
        workers.spawn_local(async move {
            let mut good = true;
            while next.get() < args.count {
                let serial = next.get();
                next.set(serial + 1);
                let outcome = one(&sender, &mut connection, &push(&args, serial)).await;
                good &= outcome.as_ref().is_ok_and(|receipt| receipt.status() / 100 == 2);
                report(args.json, &outcome);
            }
            good
        });
    }
    while let Some(worker) = workers.join_next().await {
        good &= worker.unwrap_or(false);
    }
    good
}

/// Whether a push met HTTP, so that more are worth sending.
const fn reachable(outcome: &Result<Receipt, SendError>) -> bool {
    match outcome {
        Ok(_) | Err(SendError::Http(_) | SendError::Timeout) => true,
        Err(SendError::Io(_) | SendError::Proxy(_) | SendError::Made(_)) => false,
    }
}

async fn one(
    sender: &Sender,
    connection: &mut Option<Connected>,
    push: &Push,
) -> Result<Receipt, SendError> {
    let mut open = match connection.take() {
        Some(open) => open,
        None => sender.connect().await?,
    };
    let receipt = open.send(push).await?;
    let kept = receipt.head.version >= http::Version::HTTP_11
        && receipt.field("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close"));
    *connection = kept.then_some(open);
    Ok(receipt)
}

fn report(json: bool, outcome: &Result<Receipt, SendError>) {
    match (outcome, json) {
        (Ok(receipt), false) => say!(
            "{} {} {:?} {} ms apns-id {}{}",
            receipt.status(),
            receipt.reason().unwrap_or_default(),
            receipt.head.version,
            receipt.took.as_millis(),
            receipt.field("apns-id").unwrap_or("-"),
            receipt.field("proxy-status").map(|s| format!(" proxy-status {s}")).unwrap_or_default(),
        ),
        (Ok(receipt), true) => say!(
            "{}",
            serde_json::json!({
                "status": receipt.status(),
                "reason": receipt.reason(),
                "apns_id": receipt.field("apns-id"),
                "proxy_status": receipt.field("proxy-status"),
                "protocol": format!("{:?}", receipt.head.version),
                "ms": u64::try_from(receipt.took.as_millis()).unwrap_or(u64::MAX),
            })
        ),
        (Err(error), false) => say!("no answer: {}", chain(error)),
        (Err(error), true) => say!("{}", serde_json::json!({ "error": chain(error) })),
    }
}

/// An error and its sources on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    crate::hop::clean(text.as_bytes(), 400)
}
