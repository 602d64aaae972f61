//! A pool, live in a terminal.
//!
//! | file | holds |
//! | --- | --- |
//! | `model.rs` | what is shown and selected: a status and keys in, rows and orders out; no terminal, no clock |
//! | `history.rs` | rates and queues of the last minutes |
//! | `draw.rs` | the model, drawn |
//! | `shell.rs` | terminal, keys, and the pool's socket |

#[cfg(feature = "tui")]
mod draw;
#[cfg(feature = "tui")]
mod history;
#[cfg(feature = "tui")]
mod model;
#[cfg(feature = "tui")]
mod shell;

use crate::cli::AdminAt;
use clap::Args;
use hatchery_protocol::units;
use std::process::ExitCode;
use std::time::Duration;

#[derive(Args, Debug)]
#[command(after_help = "Keys: ? shows them all, q leaves.")]
pub(crate) struct Top {
    /// Between two looks at the pool
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = delay)]
    delay: Duration,
}

fn delay(text: &str) -> Result<Duration, String> {
    match units::time(text)? {
        Some(delay) if delay >= Duration::from_millis(100) => Ok(delay),
        _ => Err("between two looks there are at least 100ms".to_owned()),
    }
}

#[cfg(feature = "tui")]
pub(crate) fn run(options: &Top, at: Option<AdminAt>) -> ExitCode {
    match shell::run(options.delay, at) {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => crate::complain(problem),
    }
}

#[cfg(not(feature = "tui"))]
pub(crate) fn run(options: &Top, _: Option<AdminAt>) -> ExitCode {
    let seconds = options.delay.as_secs_f64();
    crate::complain(format!(
        "this hatchery was built without top: build it with `cargo build --features tui`, or use `hatchery status \
         --watch={seconds}`"
    ))
}
