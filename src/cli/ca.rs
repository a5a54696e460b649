//! placeholder

use std::process::ExitCode;

/// Arguments of `ca`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `ca`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
