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

pub(super) fn start(config: &LogConfig) -> Result<Guard, String> {
    let (sink, colours): (Box<dyn Write + Send>, bool) = match &config.file {
        None => (Box::new(std::io::stderr()), std::io::stderr().is_terminal()),
        Some(path) => {
            let file = OpenOptions::new().append(true).create(true).open(path);
            (Box::new(file.map_err(|error| format!("the log file {}: {error}", path.display()))?), false)
        }
    };
    let (writer, guard) =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES).thread_name("log").finish(sink);
    let filter = EnvFilter::try_from_env("HATCHERY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_writer(writer).with_ansi(colours);
    match config.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(guard)
}
