//! `pushrelay simulate`: a simulated APNs, FCM or corporate proxy for rehearsals.
//!
//! Listens on loopback unless `--allow-non-loopback` says otherwise; ends on SIGTERM or SIGINT
//! with a summary as JSON.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::simulate::authority::{Throwaway, read_identity, read_roots, server_config_of};
use crate::simulate::{SimulateError, apns, fcm, proxy};

use super::EXIT_USAGE;
use super::out::{complain, say};
use super::send::chain;

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Apple's push service: HTTP/2 only, strict, faulty on demand
    Apns(Apns),
    /// Google's: OAuth2 token and v1 send
    Fcm(Common),
    /// A corporate CONNECT proxy
    Proxy(Box<Proxy>),
}

#[derive(Debug, clap::Args)]
struct Common {
    /// Where to listen; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Listen on addresses that others can reach
    #[arg(long)]
    allow_non_loopback: bool,
    /// Write the throw-away root here, as PEM
    #[arg(long, value_name = "FILE")]
    ca_out: Option<PathBuf>,
    /// Bring a certificate: PEM chain and key
    #[arg(long, value_name = "CHAIN,KEY", value_parser = files)]
    identity: Option<(String, String)>,
    /// Write the record as JSON here at the end and on SIGUSR1
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum AlpnArg {
    H2,
    Http11,
    None,
}

#[derive(Debug, clap::Args)]
struct Apns {
    #[command(flatten)]
    common: Common,
    /// MAX_CONCURRENT_STREAMS before the first request with a provider token
    #[arg(long, default_value_t = 1)]
    cold_limit: u32,
    /// MAX_CONCURRENT_STREAMS afterwards
    #[arg(long, default_value_t = 1000)]
    streams: u32,
    /// The limit falls back after a refused push
    #[arg(long)]
    limit_falls: bool,
    /// Serve streams above the limit (they stay violations) in place of REFUSED_STREAM
    #[arg(long)]
    serve_surplus: bool,
    /// What to answer to ALPN
    #[arg(long, value_enum, default_value = "h2")]
    alpn: AlpnArg,
    /// Never send SETTINGS
    #[arg(long)]
    no_settings: bool,
    /// INITIAL_WINDOW_SIZE in bytes
    #[arg(long, default_value_t = 65_535)]
    window: u32,
    /// Do not answer PING
    #[arg(long)]
    no_pings: bool,
    /// Take provider certificates that chain to these roots, besides tokens
    #[arg(long, value_name = "FILE", conflicts_with = "identity")]
    client_ca: Option<String>,
    /// Milliseconds before each answer
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// KIND@WHEN[:key=value,...], for example goaway@5:last=below,then=close or reset@3+7:code=7
    #[arg(long, value_name = "FAULT")]
    fault: Vec<apns::Planned>,
    /// Draw random faults from this seed
    #[arg(long, value_name = "SEED")]
    chaos: Option<u64>,
    /// How many of 1000 requests meet a random fault
    #[arg(long, default_value_t = 20)]
    chaos_per_mille: u64,
}

#[derive(Debug, clap::Args)]
struct Proxy {
    #[command(flatten)]
    common: Common,
    /// What to do with CONNECT: tunnel, inspect, strip-alpn, refuse=STATUS, challenge=SCHEMES,
    /// block-page, block-page-inside, reset, hang, chatty=COUNT, extra-bytes, mute
    #[arg(long, default_value = "tunnel", value_parser = manner)]
    manner: proxy::Manner,
    /// Require Basic: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD", value_parser = pair)]
    basic: Option<(String, String)>,
    /// Where a target leads; only these can be reached
    #[arg(long, value_name = "HOST:PORT=ADDRESS:PORT", value_parser = mapping)]
    map: Vec<(String, SocketAddr)>,
    /// Only these ports may be reached
    #[arg(long, value_delimiter = ',')]
    ports: Vec<u16>,
    /// Milliseconds before each answer to CONNECT
    #[arg(long, default_value_t = 0)]
    delay: u64,
    /// Seconds after which a silent tunnel is cut
    #[arg(long)]
    idle: Option<u64>,
    /// Roots that an inspecting proxy trusts behind it
    #[arg(long, value_name = "FILE")]
    upstream_ca: Option<String>,
}

fn manner(text: &str) -> Result<proxy::Manner, String> {
    use proxy::Manner;
    let (word, value) = text.split_once('=').unwrap_or((text, ""));
    let wrong = |_error| format!("{word} wants a number");
    Ok(match word {
        "tunnel" => Manner::Tunnel,
        "inspect" => Manner::Inspect,
        "strip-alpn" => Manner::StripAlpn,
        "refuse" => Manner::Refuse(value.parse().map_err(wrong)?),
        "challenge" => Manner::Challenge(value.split('+').map(str::to_owned).collect()),
        "block-page" => Manner::BlockPage,
        "block-page-inside" => Manner::BlockPageInside,
        "reset" => Manner::ResetAfterConnect,
        "hang" => Manner::HangAfterConnect,
        "chatty" => Manner::Chatty(value.parse().map_err(wrong)?),
        "extra-bytes" => Manner::ExtraBytes,
        "mute" => Manner::Mute,
        _ => return Err("no such manner".into()),
    })
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (user, password) = text.split_once(':').ok_or("want USER:PASSWORD")?;
    Ok((user.to_owned(), password.to_owned()))
}

fn files(text: &str) -> Result<(String, String), String> {
    let (chain, key) = text.split_once(',').ok_or("want CHAIN,KEY")?;
    Ok((chain.to_owned(), key.to_owned()))
}

fn mapping(text: &str) -> Result<(String, SocketAddr), String> {
    let (target, address) = text.split_once('=').ok_or("want HOST:PORT=ADDRESS:PORT")?;
    Ok((target.to_owned(), address.parse().map_err(|_bad| "the address is not ADDRESS:PORT")?))
}

/// Runs `simulate` until a signal ends it.
pub fn run(args: Args) -> ExitCode {
    let common = match &args.what {
        What::Apns(apns) => &apns.common,
        What::Fcm(common) => common,
        What::Proxy(proxy) => &proxy.common,
    };
    if !common.listen.ip().is_loopback() && !common.allow_non_loopback {
        complain!("error: {} is not loopback; add --allow-non-loopback", common.listen);
        return ExitCode::from(EXIT_USAGE);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ran = runtime.map_err(SimulateError::Io).and_then(|runtime| {
        runtime.block_on(async {
            match &args.what {
                What::Apns(args) => apns(args).await,
                What::Fcm(common) => fcm(common).await,
                What::Proxy(args) => proxy(args).await,
            }
        })
    });
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

impl Common {
    fn authority(&self, name: &str, host: &str) -> Result<Arc<Throwaway>, SimulateError> {
        let authority = Throwaway::new(name, host)?;
        if let Some(file) = &self.ca_out {
            std::fs::write(file, authority.pem())?;
        }
        Ok(authority)
    }

    fn tls(
        &self,
        name: &str,
        host: &str,
        alpn: &[&[u8]],
    ) -> Result<rustls::ServerConfig, SimulateError> {
        if let Some((chain, key)) = &self.identity {
            return server_config_of(read_identity(chain, key)?, alpn);
        }
        Ok(self.authority(name, host)?.server_config(alpn))
    }

    /// Prints the ready line, then waits for the end; `record` is written on SIGUSR1 and then.
    async fn until_stopped(
        &self,
        what: &str,
        address: SocketAddr,
        record: impl Fn() -> serde_json::Value,
        summary: impl Fn() -> serde_json::Value,
    ) -> Result<(), SimulateError> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut dump = signal(SignalKind::user_defined1())?;
        let ca = self.ca_out.as_deref().map_or_else(|| "-".to_owned(), |p| p.display().to_string());
        say!("ready {what} {address} ca {ca}");
        loop {
            let over = tokio::select! {
                _ = interrupt.recv() => true,
                _ = terminate.recv() => true,
                _ = dump.recv() => false,
            };
            if let Some(file) = &self.ledger {
                write_whole(file, &record())?;
            }
            if over {
                say!("{}", summary());
                return Ok(());
            }
        }
    }
}

/// Writes beside the file and renames, so that a reader never sees half a record.
fn write_whole(file: &Path, json: &serde_json::Value) -> Result<(), SimulateError> {
    let beside = file.with_extension("part");
    std::fs::write(&beside, json.to_string())?;
    Ok(std::fs::rename(beside, file)?)
}

async fn apns(args: &Apns) -> Result<(), SimulateError> {
    let conduct = apns::Conduct {
        alpn: match args.alpn {
            AlpnArg::H2 => apns::Alpn::H2,
            AlpnArg::Http11 => apns::Alpn::Http11,
            AlpnArg::None => apns::Alpn::Stripped,
        },
        cold_limit: args.cold_limit,
        warm_limit: args.streams,
        limit_falls: args.limit_falls,
        surplus: if args.serve_surplus { apns::Surplus::Serve } else { apns::Surplus::Refuse },
        settings: !args.no_settings,
        initial_window: args.window,
        pings: !args.no_pings,
        delay: Duration::from_millis(args.delay),
        faults: args.fault.clone(),
        chaos: args.chaos.map(|seed| apns::Chaos { seed, per_mille: args.chaos_per_mille }),
        down: false,
        teams: Vec::new(),
        in_flight: None,
    };
    let (name, host) = ("simulated APNs root", "api.push.apple.com");
    let tls = match &args.client_ca {
        Some(file) => args.common.authority(name, host)?.server_config_asking(read_roots(file)?)?,
        None => args.common.tls(name, host, &[])?,
    };
    let origin = apns::Origin::start_with(args.common.listen, tls, conduct).await?;
    let ledger = origin.ledger();
    let summary = || serde_json::json!(ledger.summary());
    args.common.until_stopped("apns", origin.address(), || ledger.to_json(), summary).await
}

async fn fcm(common: &Common) -> Result<(), SimulateError> {
    let tls = common.tls("simulated FCM root", "fcm.googleapis.com", &[b"h2", b"http/1.1"])?;
    let origin = fcm::Fcm::start(common.listen, tls).await?;
    let summary = || serde_json::json!(origin.summary());
    common.until_stopped("fcm", origin.address(), summary, summary).await
}

async fn proxy(args: &Proxy) -> Result<(), SimulateError> {
    let authority = args.common.authority("simulated inspection CA", "proxy.corp.example")?;
    let roots = match &args.upstream_ca {
        Some(file) => read_roots(file)?,
        None => Arc::new(rustls::RootCertStore::empty()),
    };
    let conduct = proxy::Conduct {
        manner: args.manner.clone(),
        basic: args.basic.clone(),
        delay: Duration::from_millis(args.delay),
        idle: args.idle.map(Duration::from_secs),
        ports: args.ports.clone(),
        map: args.map.iter().cloned().collect(),
        down: false,
    };
    let proxy = proxy::Proxy::start(args.common.listen, authority, roots, conduct).await?;
    let record = || serde_json::json!(proxy.seen());
    let summary = || serde_json::json!({ "connections": proxy.seen().len() });
    args.common.until_stopped("proxy", proxy.address(), record, summary).await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::{Args, What};

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    #[test]
    fn an_identity_is_one_word_with_a_comma() {
        let parsed = |word: &str| {
            Program::try_parse_from(["simulate", "fcm", "--identity", word])
                .map(|program| program.args.what)
        };
        let Ok(What::Fcm(common)) = parsed("chain.pem,key.pem") else { panic!("refused") };
        assert_eq!(common.identity, Some(("chain.pem".to_owned(), "key.pem".to_owned())));
        assert!(parsed("chain.pem").is_err(), "the key is missing");
    }
}
