//! placeholder

use std::process::ExitCode;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `check`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
