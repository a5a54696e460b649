//! placeholder

use std::process::ExitCode;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs `schema`.
pub fn run(_args: Args) -> ExitCode {
    ExitCode::FAILURE
}
