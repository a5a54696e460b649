//! `pushrelay init`: writes a first relay.yaml and asks nothing. It never overwrites.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::EXIT_USAGE;
use super::out::{self, complain, say};

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the relay stands: before the corporate proxy or after it
    #[arg(long, value_enum, default_value = "post")]
    placement: Placement,
    /// The file to write; `-` prints it
    #[arg(long, short, value_name = "FILE", default_value = "relay.yaml")]
    output: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Placement {
    Pre,
    Post,
}

/// The file that ships, which is what `--placement post` writes.
const SHIPPED: &str = include_str!("../../relay.yaml");

/// What stands in the file before the corporate proxy, instead of what ships.
const PRE: &[(&str, &str)] = &[
    ("placement: post\n", "placement: pre\n"),
    ("  - name: dmz\n", "  - name: inside\n"),
    ("narrow this to your senders, or to the proxy in front.", "narrow this to your senders."),
    (
        "    egress: direct\n    # Each",
        "    # Behind a corporate proxy: take the `#` off `egress:` below and write corporate here.\n    egress: direct\n    # Each",
    ),
];

fn content(placement: Placement) -> String {
    match placement {
        Placement::Post => SHIPPED.to_owned(),
        Placement::Pre => {
            PRE.iter().fold(SHIPPED.to_owned(), |text, (from, to)| text.replacen(from, to, 1))
        }
    }
}

/// Writes the file.
pub fn run(args: Args) -> ExitCode {
    let Args { placement, output } = args;
    if output.as_os_str() == "-" {
        let printed = out::print(format_args!("{}", content(placement)));
        return if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let written =
        OpenOptions::new().write(true).create_new(true).open(&output).and_then(|mut file| {
            file.write_all(content(placement).as_bytes()).inspect_err(|_full| {
                // Half a file would stand in the way of the next try.
                drop(std::fs::remove_file(&output));
            })
        });
    let file = output.display();
    match written {
        Ok(()) => {
            say!(
                "{file} is written: edit `networks`, `topics` and the way out.\n\
                 Next: pushrelay ca init --config {file} --root-key FILE\n\
                 then: pushrelay check --config {file}"
            );
            ExitCode::SUCCESS
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            complain!("{file} exists and is left as it is; name another with --output");
            ExitCode::from(EXIT_USAGE)
        }
        Err(error) => {
            complain!("{file} cannot be written: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn both_placements_are_valid_and_each_replacement_happens() {
        for (from, to) in PRE {
            assert!(SHIPPED.contains(from), "{from}");
            assert!(content(Placement::Pre).contains(to), "{to}");
        }
        for placement in [Placement::Pre, Placement::Post] {
            let file = std::path::Path::new("relay.yaml");
            Config::from_text(&content(placement), file).unwrap();
        }
    }
}
