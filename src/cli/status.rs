//! placeholder

use std::process::ExitCode;

/// Arguments of `status`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `status`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
