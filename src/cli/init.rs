//! placeholder

use std::process::ExitCode;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `init`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
