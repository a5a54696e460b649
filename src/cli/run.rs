//! placeholder

use std::process::ExitCode;

/// Arguments of `run`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `run`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
