//! `pushrelay check`: every problem of relay.yaml before any port opens.
//!
//! Reads files, opens no socket. Exit code 0, or 78 (EX_CONFIG) with the problems on stdout.

use std::fmt::{self, Display};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::EXIT_CONFIG;
use crate::config::Config;
use crate::config::flows::Table;
use crate::config::material::Material;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file to check
    #[arg(long, short, value_name = "FILE", default_value = "relay.yaml")]
    config: PathBuf,
    /// Read no other file: neither certificates nor secrets
    #[arg(long)]
    syntax: bool,
    /// Print the file with every default filled in
    #[arg(long, conflicts_with = "flows")]
    effective: bool,
    /// Print source, destination, port and purpose of every flow, for the firewall ticket
    #[arg(long)]
    flows: bool,
}

/// Runs `check`.
pub fn run(args: Args) -> ExitCode {
    match examine(&args) {
        Ok(text) => finish(&text, ExitCode::SUCCESS),
        Err(problems) => finish(&problems, ExitCode::from(EXIT_CONFIG)),
    }
}

/// What is printed when the file is valid, or its problems.
fn examine(args: &Args) -> Result<String, String> {
    let told = |invalid: &dyn Display| format!("{invalid}\n");
    let config = Config::load(&args.config).map_err(|invalid| told(&invalid))?;
    if !args.syntax {
        Material::load(&config).map_err(|invalid| told(&invalid))?;
    }
    if args.effective {
        return config.effective().map_err(|error: fmt::Error| told(&error));
    }
    if args.flows {
        return Ok(Table(&config.flows()).to_string());
    }
    let count = |number: usize, word: &str| match number {
        1 => format!("1 {word}"),
        _ => format!("{number} {word}s"),
    };
    Ok(format!(
        "{}: valid ({}, {}, {})\n",
        args.config.display(),
        count(config.listeners.len(), "listener"),
        count(config.routes.len(), "route"),
        count(config.hosts().len(), "host"),
    ))
}

fn finish(text: &str, code: ExitCode) -> ExitCode {
    match write!(anstream::stdout(), "{text}") {
        Ok(()) => code,
        Err(_closed) => ExitCode::FAILURE,
    }
}
