//! placeholder

use std::process::ExitCode;

/// Arguments of `demo`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `demo`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
