//! What the operator says: a file, options, environment variables.
//!
//! | file | holds |
//! | --- | --- |
//! | [`file`], [`value`] | `pool.toml`, and what its values may be |
//! | [`mistake`] | what is wrong with it, and where |
//! | [`arguments`] | the same keys as options and environment variables |
//! | [`settings`] | whether it all makes sense, and what the pool is told |
//! | [`source`] | how the pool reads it again |
//! | [`schema`] | the keys as a JSON schema |
//! | [`reference`], [`sample`] | the keys as `docs/configuration.md` lists them, and `packaging/pool.toml` |

pub(crate) mod arguments;
pub(crate) mod file;
pub(crate) mod mistake;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod sample;
mod schema;
pub(crate) mod settings;
pub(crate) mod source;
pub(crate) mod tenants;
mod value;

use crate::complain;
use file::OperatorsFile;
use std::path::Path;
use std::process::ExitCode;

/// `hatchery config check FILE`.
pub(crate) fn check(path: &Path, json: bool) -> ExitCode {
    let read = OperatorsFile::read(path);
    let status = if read.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    let said = match read {
        _ if json => match serde_json::to_string_pretty(&read.err().map_or_else(no_problem, |list| list.json())) {
            Ok(text) => text,
            Err(error) => return complain(error),
        },
        Ok(_) => "ok".to_owned(),
        Err(problems) => problems.to_string(),
    };
    match crate::print(&format!("{said}\n")) {
        Ok(()) => status,
        Err(problem) => complain(problem),
    }
}

fn no_problem() -> serde_json::Value {
    serde_json::json!({ "ok": true, "problems": [] })
}

/// `hatchery config schema`.
pub(crate) fn print_schema() -> ExitCode {
    crate::print(&schema::text()).map_or_else(complain, |()| ExitCode::SUCCESS)
}
