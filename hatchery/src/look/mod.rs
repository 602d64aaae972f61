//! Looking at a live pool.
//!
//! | file | shows |
//! | --- | --- |
//! | `status.rs` | what runs, where, how busy it is; once, or again and again |
//! | `lists.rs` | applications, sessions, figures |
//! | `events.rs`, `logs.rs` | what happens, and what an application prints |
//! | `health.rs` | a line and an exit status for monitoring |
//! | `stream.rs` | reading what goes on until somebody ends it |
//! | `terminal.rs` | who reads what is printed |

pub(crate) mod events;
pub(crate) mod health;
pub(crate) mod lists;
pub(crate) mod logs;
pub(crate) mod status;
mod stream;
mod terminal;

#[cfg(feature = "tui")]
pub(crate) use terminal::wants_colours;

use crate::cli::AdminAt;
use crate::{complain, print};
use clap::Subcommand;
use std::process::ExitCode;

#[derive(Debug, Subcommand)]
pub(crate) enum Look {
    /// Show what runs, where, and how busy it is
    Status(status::Status),
    /// List the applications
    List(lists::List),
    /// List open sessions: who holds which, at which worker, for how long, and what it does
    Sessions(lists::Sessions),
    /// Show what the pool has counted
    Metrics(lists::Metrics),
    /// Show what happened in the pool lately, or what happens
    Events(events::Events),
    /// Show what an application printed
    Logs(logs::Logs),
    /// Tell monitoring how the pool is: a line, and 0 OK, 1 WARNING, 2 CRITICAL or 3 UNKNOWN as exit status
    Health(health::Health),
}

pub(crate) fn run(look: &Look, at: Option<AdminAt>) -> ExitCode {
    let done = match look {
        Look::Status(options) => status::run(options, at),
        Look::List(options) => lists::list(options, at),
        Look::Sessions(options) => lists::sessions(options, at),
        Look::Metrics(options) => lists::metrics(options, at),
        Look::Events(options) => events::run(options, at),
        Look::Logs(options) => logs::run(options, at),
        Look::Health(options) => return health::run(options, at),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => complain(problem),
    }
}

fn print_lines(lines: &[String]) -> Result<(), String> {
    print(&lines.iter().map(|line| format!("{line}\n")).collect::<String>())
}

/// One object, for people too.
fn print_json(value: &impl serde::Serialize) -> Result<(), String> {
    print(&(serde_json::to_string_pretty(value).map_err(|error| error.to_string())? + "\n"))
}
