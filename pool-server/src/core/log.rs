//! The log, which never holds up the core: lines go through a bounded queue to a thread of their own, and are
//! dropped when their reader hangs.

use hatchery_protocol::config::{LogConfig, LogFormat};
use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Writes out what is queued when it is dropped.
pub(super) type Guard = WorkerGuard;

/// Lines that may wait to be written.
const LINES: usize = 10_000;

/// Where lines go, and whether they are coloured.
pub(super) struct Sink {
    write: Box<dyn Write + Send>,
    colours: bool,
}

/// Opens the log, which later this process may have no right to do any more.
pub(super) fn open(config: &LogConfig) -> Result<Sink, String> {
    let Some(path) = &config.file else {
        return Ok(Sink { write: Box::new(std::io::stderr()), colours: std::io::stderr().is_terminal() });
    };
    let file = OpenOptions::new().append(true).create(true).open(path);
    let file = file.map_err(|error| format!("the log file {}: {error}", path.display()))?;
    Ok(Sink { write: Box::new(file), colours: false })
}

pub(super) fn start(sink: Sink, format: LogFormat) -> Guard {
    let Sink { write, colours } = sink;
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES).thread_name("log").finish(write);
    let filter = EnvFilter::try_from_env("HATCHERY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(writer).with_ansi(colours);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    guard
}
