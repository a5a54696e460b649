//! `pushrelay probe`: find out which hop breaks HTTP/2.
//!
//! Exit code: 0 ok or warn, 10 a fault at our own side, 11 at or before the proxy, 12 an inspector
//! or portal, 13 beyond it, 64 wrong usage, 78 a configuration that is not valid.

use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use super::out::{self, complain};
use super::{EXIT_CONFIG, EXIT_USAGE};
use crate::probe::baseline::{self, BaselineError};
use crate::probe::clock;
use crate::probe::codes::{self, Code};
use crate::probe::ground::{Ground, GroundError};
use crate::probe::ladder::Aim;
use crate::probe::report::{Report, TargetReport, html, text};
use crate::probe::unit::UnitError;
use crate::probe::{Told, Wishes, probe, through};

mod plan;

/// Alone it is no fault.
const UNSYNCHRONISED: &str = "The kernel says that the clock of this machine is not synchronised.";
/// Longest idle rung, seconds: firewalls that forget later than an hour do no harm.
const MAX_IDLE: u64 = 3600;

/// Arguments of `probe`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to climb to: apns, fcm, mattermost, or HOST[:PORT]; with relay.yaml, only these of its
    /// hosts
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Without relay.yaml: through this proxy, http[s]://[USER@]HOST:PORT; repeat for several.
    /// The password comes from PUSHRELAY_PROXY_PASSWORD or --proxy-password-file
    #[arg(long, value_name = "URL", conflicts_with = "config")]
    proxy: Vec<String>,
    /// Read the proxy's password from this file
    #[arg(long, value_name = "FILE", requires = "proxy")]
    proxy_password_file: Option<PathBuf>,
    /// Without relay.yaml: on the direct path
    #[arg(long, conflicts_with_all = ["proxy", "config"])]
    direct: bool,
    /// The configuration whose routes and proxies are probed
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// More public roots, PEM
    #[arg(long, value_name = "FILE")]
    roots: Vec<PathBuf>,
    /// Roots of a known inspector, PEM: found in use they are a warning
    #[arg(long, value_name = "FILE")]
    inspection_roots: Vec<PathBuf>,
    /// Another host that control rungs may ask for
    #[arg(long, value_name = "HOST:PORT")]
    control: Vec<crate::names::Authority>,
    /// Control rungs may go around the proxy
    #[arg(long)]
    allow_direct: bool,
    /// Leave a connection idle for so long and see whether it lives
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=MAX_IDLE))]
    idle: Option<u64>,
    /// Compare with this earlier JSON report and say what changed
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// From the sender's side, through the relay that listens there
    #[arg(long, value_name = "HOST:PORT", conflicts_with_all = ["proxy", "direct", "config"])]
    through: Option<crate::names::Authority>,
    /// With --through: with the environment of this systemd unit
    #[arg(long, value_name = "NAME", requires = "through")]
    unit: Option<String>,
    /// With --unit: read its files below this folder in place of the running process
    #[arg(long, value_name = "DIR", requires = "unit")]
    root: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Write the JSON to this file too; it may be the --baseline of the next run
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    /// Write one self-contained page for the firewall ticket
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Explain a code (`all` lists them) and end
    #[arg(long, value_name = "CODE")]
    explain: Option<String>,
}

/// Runs `probe`.
pub fn run(args: Args) -> ExitCode {
    if let Some(code) = &args.explain {
        return explain(code);
    }
    match climbed(&args) {
        Ok(report) => finish(&args, &report),
        Err(problem) => problem.exit(),
    }
}

fn climbed(args: &Args) -> Result<Report, Problem> {
    let before = args.baseline.as_deref().map(baseline::read).transpose()?.flatten();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(Problem::Io)?;
    let tasks = tokio::task::LocalSet::new();
    let mut report = if let Some(relay) = &args.through {
        let sender = plan::sender(args, relay)?;
        let report = runtime.block_on(tasks.run_until(through::probe(&sender)));
        if !args.json {
            let mut table = text::Table::default();
            for target in &report.targets {
                print(&table.target(target));
            }
        }
        report
    } else {
        let (ground, aims) = plan::plan(args)?;
        runtime.block_on(tasks.run_until(climb(args, &ground, &aims)))
    };
    if clock::synchronised() == Some(false) {
        report.notes.push(UNSYNCHRONISED.to_owned());
    }
    match (before, &args.baseline) {
        (Some(before), _) => report.changes = baseline::changes(&before, &report),
        (None, Some(file)) => {
            let file = file.display();
            report.notes.push(format!("There is no baseline {file} yet: nothing is compared."));
        }
        (None, None) => {}
    }
    Ok(report)
}

async fn climb(args: &Args, ground: &Ground, aims: &[Aim]) -> Report {
    let idle = args.idle.map(Duration::from_secs);
    let wishes = Wishes { allow_direct: args.allow_direct, idle };
    let table = RefCell::new(text::Table::default());
    let told = |target: &TargetReport| {
        if !args.json {
            print(&table.borrow_mut().target(target));
        }
    };
    let begun = |aim: &Aim| {
        // Only where somebody watches; the table is the result.
        if !args.json && std::io::stderr().is_terminal() {
            complain!("climbing to {} by {} ...", aim.origin, aim.egress);
        }
    };
    probe(ground, aims, wishes, &Told { begun: &begun, ended: &told }).await
}

fn finish(args: &Args, report: &Report) -> ExitCode {
    let json = match serde_json::to_string_pretty(report) {
        Ok(json) => json,
        Err(error) => return Problem::Io(error.into()).exit(),
    };
    let shown = if args.json { format!("{json}\n") } else { text::summary(report) };
    let mut whole = true;
    if let Err(error) = out::print(format_args!("{shown}")) {
        complain!("error: standard output: {error}");
        whole = false;
    }
    let page = args.report.as_ref().map(|file| (file, html::page(report)));
    let json = args.json_file.as_ref().map(|file| (file, json));
    for (file, content) in page.into_iter().chain(json) {
        if let Err(error) = out::file(file, &content) {
            complain!("error: {}: {error}", file.display());
            whole = false;
        }
    }
    if whole { ExitCode::from(report.exit_code()) } else { ExitCode::FAILURE }
}

/// What is lost here stands in the report's JSON and page too.
fn print(text: &str) {
    drop(out::print(format_args!("{text}")));
}

fn explain(word: &str) -> ExitCode {
    if word == "all" {
        print(&codes::markdown());
        return ExitCode::SUCCESS;
    }
    if let Some(code) = Code::find(word) {
        print(&code.explained());
        return ExitCode::SUCCESS;
    }
    complain!("error: there is no code {word:?}; `--explain all` lists them");
    ExitCode::from(EXIT_USAGE)
}

/// Why nothing was climbed.
#[derive(Debug)]
enum Problem {
    Baseline(BaselineError),
    Io(std::io::Error),
    Usage(String),
    Ground(GroundError),
    NoFile(PathBuf),
}

impl From<GroundError> for Problem {
    fn from(error: GroundError) -> Self {
        Self::Ground(error)
    }
}

impl From<BaselineError> for Problem {
    fn from(error: BaselineError) -> Self {
        Self::Baseline(error)
    }
}

impl From<UnitError> for Problem {
    fn from(error: UnitError) -> Self {
        Self::Usage(super::send::chain(&error))
    }
}

impl Problem {
    fn exit(self) -> ExitCode {
        match self {
            Self::Usage(what) => {
                complain!("error: {what}");
                ExitCode::from(EXIT_USAGE)
            }
            Self::Baseline(error) => {
                complain!("error: {}", super::send::chain(&error));
                ExitCode::from(EXIT_USAGE)
            }
            Self::Io(error) => {
                complain!("error: {error}");
                ExitCode::FAILURE
            }
            Self::NoFile(file) => {
                complain!(
                    "error: there is no {}: name a relay.yaml with --config, or probe without one: \
                     --proxy http://[USER@]HOST:PORT, or --direct",
                    file.display()
                );
                ExitCode::from(EXIT_CONFIG)
            }
            // Line by line, as `check` tells them.
            Self::Ground(GroundError::Invalid(invalid)) => {
                complain!("{invalid}");
                ExitCode::from(EXIT_CONFIG)
            }
            Self::Ground(error) => {
                complain!("error: {}", super::send::chain(&error));
                ExitCode::from(EXIT_CONFIG)
            }
        }
    }
}
