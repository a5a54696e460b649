//! placeholder

use std::process::ExitCode;

/// Arguments of `probe`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `probe`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
