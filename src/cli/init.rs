//! `pushrelay init`: writes a first relay.yaml and asks nothing. It never overwrites.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use super::EXIT_USAGE;

/// Arguments of `init`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Where the relay stands: before the corporate proxy or after it
    #[arg(long, value_enum, default_value = "post")]
    placement: Placement,
    /// The file to write
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
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&output)
        .and_then(|mut file| file.write_all(content(placement).as_bytes()));
    let file = output.display();
    // Nothing can be done about a closed terminal.
    let _ = match &written {
        Ok(()) => writeln!(
            anstream::stdout(),
            "{file} is written.\nNext: pushrelay ca init --root-key FILE, then pushrelay check --config {file}"
        ),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            writeln!(
                anstream::stderr(),
                "{file} exists and is left as it is; name another with --output"
            )
        }
        Err(error) => writeln!(anstream::stderr(), "{file} cannot be written: {error}"),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_told) => ExitCode::from(EXIT_USAGE),
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
