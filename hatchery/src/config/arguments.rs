//! Every key as an option of `serve`, and as an environment variable.

use super::settings;
use clap::{Arg, ArgAction, ArgMatches, Command, Error, FromArgMatches};
use hatchery_protocol::config::PoolOptions;
use hatchery_protocol::keys::Key;
use hatchery_protocol::options::AppOptions;

/// Said elsewhere: `--admin` is an option of every verb.
const ELSEWHERE: &str = "admin";
/// What `-h` shows; `--help` shows all.
const USUAL: [&str; 15] = [
    "listen",
    "max",
    "log_file",
    "max_per_app",
    "min",
    "concurrency",
    "max_queue",
    "max_queue_wait",
    "max_idle",
    "max_memory",
    "max_request_time",
    "drain_timeout",
    "environment",
    "watch",
    "quiet_period",
];

/// What options and environment variables say. Options win.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    pub(crate) pool: PoolOptions,
    pub(crate) defaults: AppOptions,
}

impl clap::Args for Said {
    fn augment_args(command: Command) -> Command {
        let pool = PoolOptions::KEYS.iter().filter(|key| key.name != ELSEWHERE);
        let pool = pool.map(|key| argument(key, "The pool", |words| check_one_of_pool(key.name, words)));
        let app = AppOptions::KEYS.iter();
        let app = app.map(|key| argument(key, "Each application", |words| check_one_of_app(key.name, words)));
        command.args(pool).args(app)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn check_one_of_pool(name: &str, words: &[String]) -> Result<(), String> {
    let mut options = PoolOptions::default();
    options.set(name, words)?;
    // A place to listen is judged with the others, and is as wrong as one that is taken: no matter of usage.
    if matches!(name, "listen" | "admin_http" | "admin_http_hosts") { Ok(()) } else { settings::check_pool(&options) }
}

fn check_one_of_app(name: &str, words: &[String]) -> Result<(), String> {
    let mut options = AppOptions::default();
    options.set(name, words)?;
    // Its limits may be set by another option, or in the file.
    if name == "required" { Ok(()) } else { settings::check_app(&options) }
}

fn argument(
    key: &'static Key,
    heading: &'static str,
    check: impl Fn(&[String]) -> Result<(), String> + Clone + Send + Sync + 'static,
) -> Arg {
    let parse = move |text: &str| {
        let word = text.to_owned();
        check(std::slice::from_ref(&word)).map(|()| word)
    };
    let repeatable = if key.list { " (repeatable)" } else { "" };
    let argument = Arg::new(key.name)
        .long(key.name.replace('_', "-"))
        .env(variable(key))
        .help(format!("{}{repeatable} [default: {}]", key.doc.trim(), default_of(key)))
        .help_heading(heading)
        .hide_short_help(!USUAL.contains(&key.name))
        .value_name(value_name(key))
        .allow_negative_numbers(true)
        .value_parser(parse);
    let argument = if key.name == "environment" { argument.short('e') } else { argument };
    match key.kind {
        "true or false" => argument.num_args(0..=1).require_equals(true).default_missing_value("true"),
        _ if key.list => argument.action(ArgAction::Append).value_delimiter(','),
        _ => argument,
    }
}

/// `HATCHERY_MAX_IDLE`.
pub(super) fn variable(key: &Key) -> String {
    format!("HATCHERY_{}", key.name.to_uppercase())
}

/// `serve` knows better than the pool for whom it is.
fn default_of(key: &Key) -> &'static str {
    match key.name {
        "environment" => "development without --config while only this machine is listened to, else production",
        "staged_update" => "true without --config, else false",
        _ => key.default,
    }
}

fn value_name(key: &Key) -> &'static str {
    match (key.kind, key.name) {
        (_, "listen") => "ADDRESS",
        (_, "apps_under") => "FOLDER",
        (_, "log_file" | "output_dir" | "state_dir" | "cgroup" | "ping_path") => "PATH",
        (_, "watch_ignore") => "PATTERN",
        (_, "log_format") => "FORMAT",
        ("time", _) => "TIME",
        ("size", _) => "SIZE",
        ("octal", _) => "MASK",
        ("signal", _) => "SIGNAL",
        ("true or false", _) => "true|false",
        ("text" | "list", _) => "NAME",
        _ => "N",
    }
}

impl FromArgMatches for Said {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        let mut said = Self::default();
        said.update_from_arg_matches(matches)?;
        Ok(said)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        let wrong = |why: String| Error::raw(clap::error::ErrorKind::ValueValidation, format!("{why}\n"));
        let here =
            std::env::current_dir().map_err(|error| wrong(format!("the current folder is not known: {error}")))?;
        for key in PoolOptions::KEYS.iter().filter(|key| key.name != ELSEWHERE) {
            if let Some(words) = words(matches, key) {
                let words = settings::anchored(key.name, &words, &here).map_err(wrong)?;
                self.pool.set(key.name, &words).map_err(wrong)?;
            }
        }
        for key in AppOptions::KEYS {
            if let Some(words) = words(matches, key) {
                self.defaults.set(key.name, &words).map_err(wrong)?;
            }
        }
        Ok(())
    }
}

fn words(matches: &ArgMatches, key: &Key) -> Option<Vec<String>> {
    matches.get_many::<String>(key.name).map(|words| words.cloned().collect())
}
