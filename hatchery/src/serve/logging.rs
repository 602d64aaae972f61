//! Where the web server's own lines go.

use hatchery_pool_client::LogFormat;
use hatchery_protocol::config::LogConfig;
use std::fs::OpenOptions;
use std::io::IsTerminal;
use std::sync::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// # Errors
/// The log file can't be written.
pub(crate) fn start(config: &LogConfig) -> Result<(), String> {
    let filter = EnvFilter::try_from_env("HATCHERY_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let (writer, colours) = match &config.file {
        Some(path) => {
            // The pool appends to the same file: each line is one write.
            let file = OpenOptions::new().append(true).create(true).open(path);
            let file = file.map_err(|error| format!("the log {} can't be written: {error}", path.display()))?;
            (BoxMakeWriter::new(Mutex::new(file)), false)
        }
        None => (BoxMakeWriter::new(std::io::stderr), std::io::stderr().is_terminal()),
    };
    // A line that can't be written is lost: telling that on standard error too would panic where that is a terminal
    // that is gone.
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_target(false).with_ansi(colours);
    let lines = lines.with_writer(writer).log_internal_errors(false);
    let set = match config.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| format!("the log can't be started: {error}"))
}
