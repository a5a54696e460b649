//! `pushrelay check`: every problem of relay.yaml before any port opens.
//!
//! Reads files; opens no socket but for `--diff`, which asks the running relay. Exit code 0, or 78
//! (EX_CONFIG) with the problems on stdout; with `--diff` 1 where the relay serves something else.

mod diff;

use std::fmt::{self, Display};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use http::{Method, Uri};

use super::EXIT_CONFIG;
use super::status::{self, AskError};
use crate::app::Loaded;
use crate::config::flows::Table;
use crate::config::material::Material;
use crate::config::{Admin, Config, EgressName};
use crate::hop::clean;
use crate::pki;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: super::ConfigFile,
    /// Read no other file: neither certificates nor secrets
    #[arg(long)]
    syntax: bool,
    /// Print the file with every default filled in
    #[arg(long, conflicts_with = "flows")]
    effective: bool,
    /// Print source, destination, port and purpose of every flow, for the firewall ticket
    #[arg(long)]
    flows: bool,
    /// Compare with what the running relay serves (- runs, + stands in the file); exit code 1 where
    /// they differ. A relay.yaml that has changed is read on SIGHUP
    #[arg(long, conflicts_with_all = ["effective", "flows"])]
    diff: bool,
    /// With --diff: where the admin server is; by default where the file says
    #[arg(long, value_name = "URL", requires = "diff")]
    admin: Option<Uri>,
    /// With --diff: file with the admin token, needed from other machines
    #[arg(long, value_name = "FILE", requires = "diff")]
    token_file: Option<PathBuf>,
}

/// Runs `check`.
pub fn run(args: Args) -> ExitCode {
    match examine(&args) {
        Ok((text, same)) => finish(&text, if same { ExitCode::SUCCESS } else { ExitCode::FAILURE }),
        Err(problems) => finish(&problems, ExitCode::from(EXIT_CONFIG)),
    }
}

/// What is printed when the file is valid and whether all is as it should be, or its problems.
fn examine(args: &Args) -> Result<(String, bool), String> {
    let told = |invalid: &dyn Display| format!("{invalid}\n");
    let config = Config::load(&args.file.config).map_err(|invalid| told(&invalid))?;
    let material = if args.syntax {
        Arc::default()
    } else {
        let material = Material::load(&config).map_err(|invalid| told(&invalid))?;
        // What `run` does before it opens a port.
        let served = Loaded::new(config.clone(), material);
        let served = served.and_then(|loaded| loaded.rehearse().map(|()| loaded.material));
        served.map_err(|error| {
            format!("{}: {}\n", args.file.config.display(), super::send::chain(&error))
        })?
    };
    let effective = || config.effective().map_err(|error: fmt::Error| told(&error));
    if args.effective {
        return Ok((effective()?, true));
    }
    if args.diff {
        return Ok(compared(args, &config, &effective()?));
    }
    if args.flows {
        return Ok((Table(&config.flows()).to_string(), true));
    }
    let count = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    let mut valid = format!(
        "{}: valid ({}, {}, {})\n",
        args.file.config.display(),
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.hosts().len(), "host"),
    );
    for note in notes(args, &config, &material) {
        valid.push_str(&format!("note: {note}\n"));
    }
    Ok((valid, true))
}

/// What is valid and still worth a look.
fn notes(args: &Args, config: &Config, material: &Material) -> Vec<String> {
    let unused = config.egress.keys().filter(|name| {
        name.0.as_ref() != EgressName::DIRECT
            && config.routes.iter().all(|route| route.egress != **name)
    });
    let unused =
        unused.map(|name| format!("{}: no route uses egress {name}", args.file.config.display()));
    let brought = material.leaves.iter().filter_map(|leaf| {
        let name = leaf.dns_names().into_iter().next().unwrap_or_default();
        Some((name, leaf.not_after()?))
    });
    let issuer = material.issuer.iter().map(|issuer| (pki::ISSUER.to_owned(), issuer.not_after()));
    let expiries: Vec<_> = brought.chain(issuer).collect();
    let endings = pki::endings(&expiries, pki::unix(SystemTime::now()));
    unused.chain(endings.into_iter().map(|ending| ending.text)).collect()
}

/// What the running relay serves, against the file.
fn compared(args: &Args, config: &Config, file: &str) -> (String, bool) {
    let bind = config.admin.bind.filter(|bind| bind.port() != 0);
    let bind = bind.unwrap_or(Admin::default_bind());
    // A wildcard bind is asked on this machine.
    let ip = if bind.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { bind.ip() };
    let at = format!("http://{}", SocketAddr::new(ip, bind.port()));
    let at = args.admin.clone().or_else(|| at.parse().ok()).unwrap_or_default();
    let asked = status::told(&at, args.token_file.as_deref(), Method::GET, "/configuration");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let body = match runtime.map_err(AskError::Runtime) {
        Ok(runtime) => runtime.block_on(asked),
        Err(error) => Err(error),
    };
    match body {
        Err(error) => (format!("{}\n", super::send::chain(&error)), false),
        Ok(running) => {
            let running = String::from_utf8_lossy(&running);
            // It comes over the network: no line of it may move the cursor.
            let running: Vec<_> =
                running.lines().map(|line| clean(line.as_bytes(), 2000)).collect();
            let changes = diff::diff(&running.join("\n"), file);
            if changes.is_empty() {
                ("the running relay serves what the file says\n".to_owned(), true)
            } else {
                (changes, false)
            }
        }
    }
}

fn finish(text: &str, code: ExitCode) -> ExitCode {
    match write!(anstream::stdout(), "{text}") {
        Ok(()) => code,
        Err(_closed) => ExitCode::FAILURE,
    }
}
