//! placeholder

use std::process::ExitCode;

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `simulate`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
