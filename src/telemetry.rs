//! What the relay writes down: the log, one access line per exchange, the audit log.
//!
//! The data plane never waits for a disk, a pipe or a journal: it puts finished records into a
//! bounded channel, and a thread writes. What does not fit is dropped and counted. Redaction is
//! in `access`: no device token, no bearer token and no body reaches a record.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::{Log, LogFormat};

pub mod access;
pub mod audit;
pub mod redact;

pub use access::{AccessLog, AccessRecord};
pub use audit::Audit;

/// Lines waiting for the writing thread: a second of heavy traffic, at most a few MB.
const LINES: usize = 8192;

/// Why logging could not begin.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is no level or filter.
    #[error("log.level is not a level or filter")]
    Level(#[from] ParseError),
    /// The thread that writes could not be started, or the journal not be reached.
    #[error("the log cannot be written")]
    Io(#[from] io::Error),
    /// A second subscriber in one process.
    #[error("logging was set up before")]
    Twice(#[from] TryInitError),
}

/// Sets logging up for the whole process: to standard error, or to the journal.
///
/// # Errors
/// See [`LogError`].
pub fn start(log: &Log, dropped: &Dropped) -> Result<Logs, LogError> {
    // Access lines have a switch of their own and do not fall to a high level.
    let filter = EnvFilter::builder().parse(format!("access=info,{}", log.level))?;
    let registry = tracing_subscriber::registry().with(filter);
    let mut logs = Logs(None);
    match log.format {
        LogFormat::Text => {
            let lines = Lines::start(io::stderr(), dropped.clone())?;
            logs.0 = Some(lines.clone());
            // Escape codes belong to a terminal; behind a pipe they are noise.
            let ansi = io::IsTerminal::is_terminal(&io::stderr());
            let layer = tracing_subscriber::fmt::layer().with_ansi(ansi).with_writer(lines);
            registry.with(layer).try_init()?;
        }
        LogFormat::Json => {
            let lines = Lines::start(io::stderr(), dropped.clone())?;
            logs.0 = Some(lines.clone());
            let layer = tracing_subscriber::fmt::layer().json().flatten_event(true);
            registry.with(layer.with_writer(lines)).try_init()?;
        }
        LogFormat::Journald => start_journald(registry)?,
    }
    Ok(logs)
}

#[cfg(target_os = "linux")]
fn start_journald<S>(registry: S) -> Result<(), LogError>
where
    S: tracing::Subscriber
        + for<'a> tracing_subscriber::registry::LookupSpan<'a>
        + Send
        + Sync
        + 'static,
{
    // Access lines arrive here from their own thread; other lines are rare enough to be written
    // where they arise.
    Ok(registry.with(tracing_journald::layer()?).try_init()?)
}

#[cfg(not(target_os = "linux"))]
fn start_journald<S>(_registry: S) -> Result<(), LogError> {
    Err(LogError::Io(io::Error::new(io::ErrorKind::Unsupported, "there is no journald here")))
}

/// The log that was started, to be emptied before the process ends.
#[derive(Debug)]
pub struct Logs(Option<Lines>);

impl Logs {
    /// Waits until everything written so far is out, at most `patience`; was it?
    pub fn flush(&self, patience: Duration) -> bool {
        self.0.as_ref().is_none_or(|lines| flush(&lines.to, patience))
    }
}

/// What travels to a writing thread.
#[derive(Debug)]
enum Entry<T> {
    /// To be written.
    Item(T),
    /// To be answered once everything before it is written.
    Flush(SyncSender<()>),
}

/// Waits for a writing thread, at most `patience`. Blocks: for the end of the process only.
fn flush<T>(to: &SyncSender<Entry<T>>, patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    let (done, written) = sync_channel(1);
    loop {
        match to.try_send(Entry::Flush(done.clone())) {
            Ok(()) => break,
            Err(TrySendError::Disconnected(_)) => return false,
            Err(TrySendError::Full(_)) if Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(TrySendError::Full(_)) => return false,
        }
    }
    written.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok()
}

/// Counts what could not be written down. Shared by every log; a metric shows it.
#[derive(Debug, Clone, Default)]
pub struct Dropped(Arc<AtomicU64>);

impl Dropped {
    /// One more line was lost.
    pub fn count(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Whole lines on their way to the thread that writes them.
#[derive(Debug, Clone)]
pub struct Lines {
    to: SyncSender<Entry<Vec<u8>>>,
    dropped: Dropped,
}

impl Lines {
    /// Starts the thread that writes to `out`; it ends when every sender is gone.
    ///
    /// # Errors
    /// The operating system's, where no thread can be started.
    pub fn start(out: impl Write + Send + 'static, dropped: Dropped) -> io::Result<Self> {
        let (to, from) = sync_channel(LINES);
        thread::Builder::new().name("log".into()).spawn(move || write_lines(out, &from))?;
        Ok(Self { to, dropped })
    }
}

fn write_lines(mut out: impl Write, from: &Receiver<Entry<Vec<u8>>>) {
    while let Ok(entry) = from.recv() {
        match entry {
            // A closed standard error is no reason to stop relaying.
            Entry::Item(line) => {
                let _ = out.write_all(&line).and_then(|()| out.flush());
            }
            // Who asked may have stopped waiting.
            Entry::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { text: Vec::with_capacity(512), lines: self }
    }
}

/// One line under way; sent when dropped.
#[derive(Debug)]
pub struct Line<'a> {
    text: Vec<u8>,
    lines: &'a Lines,
}

impl Write for Line<'_> {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.lines.to.try_send(Entry::Item(std::mem::take(&mut self.text))).is_err() {
            self.lines.dropped.count();
        }
    }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).expect("a nibble is a digit");
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_that_hangs_loses_lines_and_stops_nobody() {
        struct Hangs(Receiver<()>);
        impl Write for Hangs {
            fn write(&mut self, part: &[u8]) -> io::Result<usize> {
                let _ = self.0.recv();
                Ok(part.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (free, hang) = sync_channel(0);
        let dropped = Dropped::default();
        let lines = Lines::start(Hangs(hang), dropped.clone()).unwrap();
        for _ in 0..LINES + 10 {
            lines.make_writer().write_all(b"line\n").unwrap();
        }
        assert!((9..=10).contains(&dropped.total()), "{}", dropped.total());
        assert!(!flush(&lines.to, Duration::from_millis(20)), "a full one cannot be emptied");
        drop(free);
        assert!(flush(&lines.to, Duration::from_secs(10)));
    }
}
