//! Applications, sessions and figures.

use super::{print_json, print_lines, terminal};
use crate::admin::{self, Trouble};
use crate::cli::AdminAt;
use crate::orders::{APP, connect, word};
use crate::print;
use clap::Args;
use hatchery_pool_server::show::{self, Listed};
use hatchery_protocol::status::SessionStatus;
use serde::{Deserialize, Serialize};

#[derive(Args, Debug)]
pub(crate) struct List {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Sessions {
    /// Only those of this application: its root, or the last part of that
    app: Option<String>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Metrics {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Deserialize, Serialize)]
struct Apps {
    apps: Vec<Listed>,
}

#[derive(Deserialize, Serialize)]
struct Open {
    sessions: Vec<SessionStatus>,
}

pub(super) fn list(options: &List, at: Option<AdminAt>) -> Result<(), String> {
    show("list", options.json, at, |apps: Apps| show::list(&apps.apps, terminal::look()))
}

pub(super) fn sessions(options: &Sessions, at: Option<AdminAt>) -> Result<(), String> {
    show(&line_of_sessions(options)?, options.json, at, |open: Open| show::sessions(&open.sessions, terminal::look()))
}

fn line_of_sessions(options: &Sessions) -> Result<String, String> {
    match &options.app {
        Some(app) => Ok(format!("sessions {}", word(APP, app)?)),
        None => Ok("sessions".to_owned()),
    }
}

pub(super) fn metrics(options: &Metrics, at: Option<AdminAt>) -> Result<(), String> {
    show("metrics", options.json, at, |metrics| show::metrics(&metrics, terminal::look()))
}

/// Prints what the pool answers to a question: its object as it is, or the lines that are drawn of it.
fn show<T: serde::de::DeserializeOwned>(
    question: &str,
    json: bool,
    at: Option<AdminAt>,
    draw: impl FnOnce(T) -> Vec<String>,
) -> Result<(), String> {
    let pool = connect(at)?;
    if json {
        return print_json(&admin::ask_json(&pool, question)?);
    }
    match admin::ask_for(&pool, question) {
        Ok(answer) => print_lines(&draw(answer)),
        // Of another version, most likely: it knows how to draw what it says.
        Err(Trouble::Unread(_)) => print(&admin::ask(&pool, question)?),
        Err(trouble) => Err(trouble.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_one_application_are_asked_for_by_its_name() {
        let line = |app: Option<&str>| line_of_sessions(&Sessions { app: app.map(str::to_owned), json: false });
        assert_eq!((line(None).unwrap(), line(Some("shop")).unwrap()), ("sessions".into(), "sessions shop".into()));
        assert_eq!(line(Some("a b")).unwrap(), "sessions \"a b\"");
    }
}
