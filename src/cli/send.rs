//! placeholder

use std::process::ExitCode;

/// Arguments of `send`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `send`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
