//! What was typed.

use super::answer::{Failure, Form};
use super::rights::Needs;
use super::words;
use crate::core::output::printable;
use hatchery_pool::RestartMode;
use hatchery_protocol::config::PoolOptions;
use hatchery_protocol::options::AppOptions;

/// Events that are told where nobody says how many.
const EVENTS: usize = 100;
/// Lines of output, likewise.
const LINES: usize = 100;
/// The longest reason for disabling an app, in characters.
const LONGEST_REASON: usize = 500;
const NO_APP: &str = "needs one application: its root, or the end of it";

/// Apps are named as they were typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Help,
    Quit,
    Status(Option<&'a str>),
    List,
    Sessions(Option<&'a str>),
    Metrics,
    /// The last so many, and then all that happen, in this form.
    Events(usize, Form),
    /// The last so many, at once.
    RecentEvents(usize),
    Logs {
        app: &'a str,
        wanted: usize,
        follow: bool,
        form: Form,
    },
    Get {
        app: Option<&'a str>,
        key: Option<&'a str>,
    },
    Set {
        app: Option<&'a str>,
        key: &'a str,
        value: &'a str,
    },
    Restart(&'a str, RestartMode),
    Order(Order, &'a str),
    Disable(&'a str, String),
    Add(&'a str, Vec<&'a str>),
    Retire(&'a str),
    End(&'a str),
    Clear,
    Reload,
    Shutdown,
}

/// What can be ordered about an app by its name alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Deploy,
    Rollback,
    Stop,
    Start,
    Remove,
    Enable,
}

impl Command<'_> {
    pub(super) fn needs(&self) -> Needs {
        match self {
            Self::Help | Self::Quit => Needs::Nothing,
            Self::Status(_) | Self::List => Needs::Look,
            Self::Logs { .. } => Needs::Logs,
            Self::Sessions(_) | Self::Metrics | Self::Events(..) | Self::RecentEvents(_) | Self::Get { .. } => {
                Needs::Read
            }
            Self::Restart(..) => Needs::Restart,
            Self::Set { .. }
            | Self::Order(..)
            | Self::Disable(..)
            | Self::Add(..)
            | Self::Retire(_)
            | Self::End(_)
            | Self::Clear
            | Self::Reload
            | Self::Shutdown => Needs::Change,
        }
    }
}

/// What a line says, and how it wants to be answered; `None`: nothing.
pub(super) fn read(line: &str) -> Option<(Form, Result<Command<'_>, Failure>)> {
    let line = line.trim();
    let (first, rest) = split(line);
    match first {
        "" => None,
        "json" => Some((Form::Json, command(rest, Form::Json))),
        _ => Some((Form::Lines, command(line, Form::Lines))),
    }
}

fn command(line: &str, form: Form) -> Result<Command<'_>, Failure> {
    let (verb, rest) = split(line);
    match verb {
        "set" => return set(rest),
        "disable" => return disable(rest),
        _ => {}
    }
    let words = words::all(line)?;
    let order = |order, app| Ok(Command::Order(order, app));
    match words.as_slice() {
        ["help"] => Ok(Command::Help),
        ["quit"] => Ok(Command::Quit),
        ["status"] => Ok(Command::Status(None)),
        ["status", app] => Ok(Command::Status(Some(app))),
        ["list"] => Ok(Command::List),
        ["sessions"] => Ok(Command::Sessions(None)),
        ["sessions", app] => Ok(Command::Sessions(Some(app))),
        ["metrics"] => Ok(Command::Metrics),
        ["events", rest @ ..] => events(rest, form),
        ["logs", app, rest @ ..] => logs(app, rest, form),
        ["get", rest @ ..] => get(rest),
        ["restart", app] | ["restart", app, "graceful" | "kind"] => Ok(Command::Restart(app, RestartMode::Graceful)),
        ["restart", app, "kill"] => Ok(Command::Restart(app, RestartMode::Kill)),
        ["restart", _, mode] => Err(format!("no mode '{}': graceful, kind or kill", printable(mode)).into()),
        ["deploy", app] => order(Order::Deploy, app),
        ["rollback", app] => order(Order::Rollback, app),
        ["stop", app] => order(Order::Stop, app),
        ["start", app] => order(Order::Start, app),
        ["remove", app] => order(Order::Remove, app),
        ["enable", app] => order(Order::Enable, app),
        ["add", root, settings @ ..] => Ok(Command::Add(root, settings.to_vec())),
        ["retire", worker] => Ok(Command::Retire(worker)),
        ["end", session] => Ok(Command::End(session)),
        ["clear"] => Ok(Command::Clear),
        ["reload"] => Ok(Command::Reload),
        ["shutdown"] => Ok(Command::Shutdown),
        words => Err(misunderstood(words)),
    }
}

fn misunderstood(words: &[&str]) -> Failure {
    match words {
        ["list" | "metrics" | "clear" | "reload" | "shutdown" | "help" | "quit", rest @ ..] => {
            format!("takes no words after it, but got '{}'", printable(&rest.join(" "))).into()
        }
        ["status" | "sessions", _, rest @ ..] => {
            format!("takes one application at most, but got '{}' too", printable(&rest.join(" "))).into()
        }
        ["restart", _, _, rest @ ..] => {
            format!("takes one application and one mode, but got '{}' too", printable(&rest.join(" "))).into()
        }
        ["restart" | "deploy" | "rollback" | "stop" | "start" | "remove" | "enable" | "logs", ..] => NO_APP.into(),
        ["add"] => "needs an application's root, an absolute path".into(),
        ["retire", ..] => "needs one worker: its number or its process id, as status shows them".into(),
        ["end", ..] => "needs one session: its number, as sessions shows it".into(),
        [other, ..] => format!("no command '{}'; type help", printable(other)).into(),
        [] => "json needs a command behind it; type help".into(),
    }
}

/// The first word, and what follows it.
fn split(line: &str) -> (&str, &str) {
    let (first, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    (first, rest.trim_start())
}

/// Words after a command, of which each is there once at most.
fn events<'a>(words: &[&str], form: Form) -> Result<Command<'a>, Failure> {
    let (mut wanted, mut json) = (None, false);
    for word in words {
        match (*word, word.parse()) {
            ("json", _) if !json => json = true,
            (_, Ok(number)) if wanted.is_none() => wanted = Some(number),
            _ => return Err(format!("takes a number and json, but got '{}' too", printable(word)).into()),
        }
    }
    Ok(match form {
        Form::Json => Command::RecentEvents(wanted.unwrap_or(EVENTS)),
        Form::Lines => Command::Events(wanted.unwrap_or(0), if json { Form::Json } else { Form::Lines }),
    })
}

fn logs<'a>(app: &'a str, words: &[&str], form: Form) -> Result<Command<'a>, Failure> {
    let (mut wanted, mut json, mut follow) = (None, false, false);
    for word in words {
        match (*word, word.parse()) {
            ("json", _) if !json => json = true,
            ("follow", _) if form == Form::Json => {
                return Err("json before it answers one line: write `logs APP follow json`".into());
            }
            ("follow", _) if !follow => follow = true,
            (_, Ok(number)) if wanted.is_none() => wanted = Some(number),
            _ => return Err(format!("takes a number, follow and json, but got '{}' too", printable(word)).into()),
        }
    }
    let form = if json { Form::Json } else { Form::Lines };
    Ok(Command::Logs { app, wanted: wanted.unwrap_or(LINES), follow, form })
}

/// An application, and the reason: the rest of the line as it was typed, but for its blanks.
fn disable(rest: &str) -> Result<Command<'_>, Failure> {
    let Some((app, reason)) = words::first(rest)? else { return Err(NO_APP.into()) };
    let reason: Vec<&str> = reason.split_whitespace().collect();
    let why = match reason.as_slice() {
        [] => "the operator disabled it".into(),
        words => printable(&words.join(" ")).chars().take(LONGEST_REASON).collect(),
    };
    Ok(Command::Disable(app, why))
}

/// Whether there is a setting of this name. An app that is called like one is named by its root.
fn is_key(word: &str) -> bool {
    AppOptions::KEYS.iter().chain(PoolOptions::KEYS).any(|key| key.name == word)
}

fn get<'a>(words: &[&'a str]) -> Result<Command<'a>, Failure> {
    match words {
        [] => Ok(Command::Get { app: None, key: None }),
        [key] if is_key(key) => Ok(Command::Get { app: None, key: Some(key) }),
        [app] => Ok(Command::Get { app: Some(app), key: None }),
        [app, key] => Ok(Command::Get { app: Some(app), key: Some(key) }),
        [_, _, rest @ ..] => {
            Err(format!("takes one application and one key, but got '{}' too", printable(&rest.join(" "))).into())
        }
    }
}

fn set(rest: &str) -> Result<Command<'_>, Failure> {
    let (typed, _) = split(rest);
    let of_pool = typed.split_once('=').is_some_and(|(key, _)| is_key(key));
    let first = if of_pool { None } else { words::first(rest)? };
    let (app, setting) = match first {
        Some((app, after)) if !after.trim().is_empty() => (Some(app), after.trim_start()),
        _ => (None, rest),
    };
    match setting.split_once('=') {
        Some((key, value)) if !key.is_empty() && !key.contains(char::is_whitespace) => {
            Ok(Command::Set { app, key, value: value.trim() })
        }
        _ => Err(
            "needs a setting, KEY=VALUE without blanks before the =, and before it the application if it is one's; \
                  get lists the keys"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::help::HELP;
    use super::*;

    fn said(line: &str) -> Command<'_> {
        read(line).expect("a line").1.expect("a command")
    }

    fn refused(line: &str) -> String {
        read(line).expect("a line").1.expect_err("no command").why
    }

    #[test]
    fn every_command_of_the_help_is_known_and_nothing_else() {
        for (usage, _) in HELP {
            let verb = usage.split(' ').next().unwrap_or_default();
            let found = read(verb).unwrap().1;
            assert!(!found.is_err_and(|failure| failure.why.starts_with("no command")), "{verb}");
        }
        assert_eq!(refused("frobnicate <now>\u{1b}"), "no command 'frobnicate'; type help");
        assert_eq!(refused("json"), "json needs a command behind it; type help");
        assert!(read("  \t ").is_none());
    }

    #[test]
    fn a_setting_is_the_pools_or_an_apps_and_its_value_the_rest_of_the_line() {
        let set = |app, key, value| Command::Set { app, key, value };
        assert_eq!(said("set max=9"), set(None, "max", "9"));
        assert_eq!(said("json set   shop max_idle=5m"), set(Some("shop"), "max_idle", "5m"));
        assert_eq!(said("set shop watch_ignore=*.css  *.js"), set(Some("shop"), "watch_ignore", "*.css  *.js"));
        assert_eq!(said("set watch_ignore=a b=c"), set(None, "watch_ignore", "a b=c"));
        assert_eq!(said("set shop tenant="), set(Some("shop"), "tenant", ""));
        assert_eq!(said("set /srv/a=b min=1"), set(Some("/srv/a=b"), "min", "1"));
        assert_eq!(said("set \"my shop\" min=1"), set(Some("my shop"), "min", "1"));
        assert_eq!(said("set nonsense=1"), set(None, "nonsense", "1"), "which is refused later, by its name");
        for wrong in ["set", "set shop", "set max = 5", "set shop max", "set =5"] {
            assert!(refused(wrong).starts_with("needs a setting"), "{wrong}");
        }
    }

    #[test]
    fn a_name_with_blanks_stands_in_quotes_and_a_reason_needs_none() {
        assert_eq!(said("restart \"my shop\" kill"), Command::Restart("my shop", RestartMode::Kill));
        let reason = "it's \"moved\"".to_owned();
        assert_eq!(said("disable \"my shop\"  it's  \"moved\""), Command::Disable("my shop", reason));
        assert!(refused("stop \"my shop").starts_with("a \" opens"));
    }

    #[test]
    fn a_get_of_one_word_is_of_a_key_where_there_is_one() {
        assert_eq!(said("get max"), Command::Get { app: None, key: Some("max") });
        assert_eq!(said("get shop"), Command::Get { app: Some("shop"), key: None });
        assert_eq!(said("get max max_idle"), Command::Get { app: Some("max"), key: Some("max_idle") });
        assert!(refused("get a b c").contains("'c'"));
    }

    #[test]
    fn streams_take_their_words_in_any_order_and_json_before_them_is_one_line() {
        assert_eq!(said("events"), Command::Events(0, Form::Lines));
        assert_eq!(said("events 5 json"), Command::Events(5, Form::Json));
        assert_eq!(said("json events"), Command::RecentEvents(100));
        assert_eq!(said("json events json 7"), Command::RecentEvents(7));
        let logs = |wanted, follow, form| Command::Logs { app: "shop", wanted, follow, form };
        assert_eq!(said("logs shop"), logs(100, false, Form::Lines));
        assert_eq!(said("logs shop follow json 3"), logs(3, true, Form::Json));
        assert!(refused("json logs shop follow").contains("logs APP follow json"));
        for wrong in ["events 1 2", "events soon", "logs shop follow follow", "logs shop -1", "logs"] {
            refused(wrong);
        }
    }
}
