//! `pushrelay schema`: the JSON schema of relay.yaml, for editors.

use std::io::Write;
use std::process::ExitCode;

use crate::config::raw;

/// Arguments of `schema`.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Prints the schema.
pub fn run(_args: Args) -> ExitCode {
    let Ok(text) = serde_json::to_string_pretty(&raw::schema()) else { return ExitCode::FAILURE };
    match writeln!(anstream::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_closed) => ExitCode::FAILURE,
    }
}
