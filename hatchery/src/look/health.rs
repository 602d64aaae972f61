//! How a pool is, for monitoring: a line as its plugins print it, and 0, 1, 2 or 3 as exit status.

mod judge;

use self::judge::{Judgement, Thresholds, judge};
use crate::admin::{self, Trouble};
use crate::admin_place::{self, NoAdmin};
use crate::cli::AdminAt;
use crate::orders::{APP, word};
use crate::print;
use clap::Args;
use hatchery_pool_server::show::printable;
use serde_json::json;
use std::io::ErrorKind;
use std::process::ExitCode;

#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN: wrongly asked, not allowed, or not understood."
)]
pub(crate) struct Health {
    /// Judge this application alone: its root, or the last part of that
    #[arg(long, value_name = "APP")]
    app: Option<String>,

    /// WARNING when so many requests wait, or more
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    warn_waiting: Option<u32>,

    /// CRITICAL when so many requests wait, or more
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    critical_waiting: Option<u32>,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What monitoring makes of it; the worst wins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    #[default]
    Ok,
    Warning,
    Critical,
    Unknown,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Warning => "WARNING",
            Self::Critical => "CRITICAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Warning => 1,
            Self::Critical => 2,
            Self::Unknown => 3,
        }
    }
}

/// What clap says of a command line that asks for this verb.
pub(crate) fn misused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        error.exit();
    }
    let text = error.render().to_string();
    let first = text.lines().next().unwrap_or_default();
    let told = tell(&Judgement::of(Level::Unknown, first.trim_start_matches("error: ").to_owned()), false);
    eprint!("{text}");
    told
}

pub(super) fn run(options: &Health, at: Option<AdminAt>) -> ExitCode {
    let judgement = look(options, at).unwrap_or_else(|(level, why)| Judgement::of(level, why));
    tell(&judgement, options.json)
}

fn look(options: &Health, at: Option<AdminAt>) -> Result<Judgement, (Level, String)> {
    let thresholds = options.thresholds().map_err(unknown)?;
    let line = match &options.app {
        Some(app) => format!("status {}", word(APP, app).map_err(unknown)?),
        None => "status".to_owned(),
    };
    let pool = admin_place::connect(at).map_err(|problem| (level_of(&problem), problem.to_string()))?;
    match admin::ask_for(&pool, &line) {
        Ok(status) => Ok(judge(&status, options.app.is_some(), thresholds)),
        Err(Trouble::Silent(why)) => Err((Level::Critical, why)),
        Err(Trouble::Refused(why) | Trouble::Unread(why)) => Err(unknown(why)),
    }
}

fn unknown(why: String) -> (Level, String) {
    (Level::Unknown, why)
}

/// That no pool runs is what monitoring is there to tell; that it can't be asked says nothing about it.
fn level_of(problem: &NoAdmin) -> Level {
    match problem {
        NoAdmin::NoneRuns { .. } => Level::Critical,
        NoAdmin::Silent { error, .. } => match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Level::Critical,
            _ => Level::Unknown,
        },
        NoAdmin::Several(_) | NoAdmin::Unnamed => Level::Unknown,
    }
}

impl Health {
    fn thresholds(&self) -> Result<Thresholds, String> {
        match (self.warn_waiting, self.critical_waiting) {
            (Some(warning), Some(critical)) if warning > critical => Err(format!(
                "--warn-waiting {warning} is above --critical-waiting {critical}: it would never be reached"
            )),
            (warning, critical) => Ok(Thresholds { warning, critical }),
        }
    }
}

fn tell(judgement: &Judgement, json: bool) -> ExitCode {
    let Judgement { level, said, figures } = judgement;
    // What stands behind `|` is read by machines; a second line would be another kind of text.
    let said = printable(said).replace('|', "/");
    let text = match json {
        true => {
            let figures: serde_json::Map<_, _> =
                figures.iter().map(|figure| (figure.name.to_owned(), figure.value.into())).collect();
            json!({ "state": level.word(), "code": level.code(), "text": said, "figures": figures }).to_string()
        }
        false if figures.is_empty() => format!("HATCHERY {} - {said}", level.word()),
        false => {
            let figures: Vec<String> = figures.iter().map(ToString::to_string).collect();
            format!("HATCHERY {} - {said} | {}", level.word(), figures.join(" "))
        }
    };
    match print(&(text + "\n")) {
        Ok(()) => ExitCode::from(level.code()),
        Err(problem) => {
            eprintln!("hatchery: {problem}");
            ExitCode::from(Level::Unknown.code())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Error;

    #[test]
    fn no_pool_is_critical_and_one_that_can_not_be_asked_unknown() {
        let silent = |kind: ErrorKind| NoAdmin::Silent { path: "/run/a".into(), error: Error::from(kind) };
        for (problem, level) in [
            (NoAdmin::NoneRuns { looked_in: vec![] }, Level::Critical),
            (silent(ErrorKind::NotFound), Level::Critical),
            (silent(ErrorKind::ConnectionRefused), Level::Critical),
            (silent(ErrorKind::PermissionDenied), Level::Unknown),
            (NoAdmin::Several(vec![]), Level::Unknown),
            (NoAdmin::Unnamed, Level::Unknown),
        ] {
            assert_eq!(level_of(&problem), level, "{problem}");
        }
    }

    #[test]
    fn thresholds_that_contradict_each_other_are_wrong() {
        let of = |warn_waiting, critical_waiting| {
            Health { app: None, warn_waiting, critical_waiting, json: false }.thresholds()
        };
        assert!(of(Some(5), Some(4)).is_err());
        assert!(of(Some(5), Some(5)).is_ok() && of(Some(5), None).is_ok() && of(None, None).is_ok());
    }
}
