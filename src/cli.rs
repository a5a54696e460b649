//! The commands: clap types and one match. Each command is a module with `Args` and `run`.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod ca;
pub mod check;
pub mod completions;
pub mod demo;
pub mod init;
mod out;
pub mod probe;
pub mod run;
pub mod schema;
pub mod send;
pub mod simulate;
pub mod status;

/// Exit code for wrong usage (sysexits EX_USAGE).
pub const EXIT_USAGE: u8 = 64;
/// Exit code for a configuration that is not valid (sysexits EX_CONFIG).
pub const EXIT_CONFIG: u8 = 78;

/// Names relay.yaml to every command that reads it and is not told another.
const CONFIG_VARIABLE: &str = "PUSHRELAY_CONFIG";

/// Which relay.yaml, for commands that cannot do without one.
#[derive(Debug, clap::Args)]
struct ConfigFile {
    /// The configuration
    #[arg(
        long,
        short,
        value_name = "FILE",
        default_value = "relay.yaml",
        env = CONFIG_VARIABLE
    )]
    config: std::path::PathBuf,
}

/// Carries push notifications out of corporate networks.
#[derive(Debug, Parser)]
#[command(name = "pushrelay", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make and show the relay's certificates
    Ca(ca::Args),
    /// Check relay.yaml before any port opens
    Check(check::Args),
    /// Print a completion script: source <(pushrelay completions bash)
    Completions(completions::Args),
    /// Show the main job on this machine, without network or root
    Demo(demo::Args),
    /// Write a first relay.yaml
    Init(init::Args),
    /// Find out which hop breaks HTTP/2
    Probe(probe::Args),
    /// Run the relay
    Run(run::Args),
    /// Print the JSON schema of relay.yaml
    Schema(schema::Args),
    /// Send one push as a sender would
    Send(send::Args),
    /// Run a simulated APNs, FCM or corporate proxy
    Simulate(simulate::Args),
    /// Show what a running relay does
    Status(status::Args),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { EXIT_USAGE } else { 0 });
        }
    };
    match cli.command {
        Command::Ca(args) => ca::run(args),
        Command::Check(args) => check::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Init(args) => init::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Run(args) => run::run(args),
        Command::Schema(args) => schema::run(args),
        Command::Send(args) => send::run(args),
        Command::Simulate(args) => simulate::run(args),
        Command::Status(args) => status::run(args),
    }
}
