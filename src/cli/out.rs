//! Where commands print. A closed pipe or a full disk is no reason to panic, as `println!` would:
//! whoever cares looks at the result.

use std::fmt::Arguments;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::Path;

/// Prints to standard output. A reader that has gone away, such as `head`, has what it wanted.
///
/// # Errors
/// What the operating system says, a full disk above all.
pub(super) fn print(text: Arguments<'_>) -> io::Result<()> {
    let mut out = anstream::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Prints to standard error. Nothing is left to be told of a failure.
pub(super) fn print_error(text: Arguments<'_>) {
    let _ = anstream::stderr().lock().write_fmt(text);
}

/// Writes a whole file or leaves what was there: a full disk must not spoil the report of last
/// week, with which the next one is compared.
///
/// # Errors
/// What the operating system says.
pub(super) fn file(path: &Path, content: &str) -> io::Result<()> {
    // Pipes and devices are written as they are.
    if path.metadata().is_ok_and(|there| !there.is_file()) {
        return fs::write(path, content);
    }
    // A link stays one.
    let path = path.canonicalize().unwrap_or_else(|_new| path.to_owned());
    let mut draft = path.clone().into_os_string();
    draft.push(".tmp");
    let written = fs::write(&draft, content).and_then(|()| fs::rename(&draft, &path));
    if written.is_err() {
        // The error that counts is told already.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// A line on standard output, where its loss changes nothing.
macro_rules! say {
    ($($text:tt)*) => {
        // The command's exit code says how it went.
        drop($crate::cli::out::print(format_args!("{}\n", format_args!($($text)*))))
    };
}

/// A line on standard error.
macro_rules! complain {
    ($($text:tt)*) => {
        $crate::cli::out::print_error(format_args!("{}\n", format_args!($($text)*)))
    };
}

pub(super) use {complain, say};
