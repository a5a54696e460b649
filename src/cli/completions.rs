//! `pushrelay completions`: what a shell needs to complete the command line.

use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use super::out;

/// Arguments of `completions`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell
    shell: Shell,
}

/// Prints the script.
pub fn run(args: Args) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "pushrelay", &mut script);
    let script = String::from_utf8_lossy(&script);
    match out::print(format_args!("{script}")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_full) => ExitCode::FAILURE,
    }
}
