//! The operator's verbs: each is said to a live pool, and tells what came of it.

use crate::admin::{self, Answer, Object, PATIENCE, Question, Until};
use crate::cli::AdminAt;
use crate::{admin_place, deploy};
use clap::{Args, Subcommand};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::root::normalised;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::borrow::Cow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

pub(crate) const APP: &str = "an application";
/// Between two looks whether a restart has begun.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

#[derive(Debug, Subcommand)]
pub(crate) enum Order {
    /// Start an application's workers anew: the new ones first, then the old ones leave
    Restart(Restart),
    /// Put a new version of an application in its place, and take it back if it does not start
    Deploy(Deploy),
    /// Return to the version before
    Rollback(OfApp),
    /// Drain an application's workers, and refuse requests until it is started; it stays registered
    Stop(OfApp),
    /// Serve an application again that was stopped
    Start(OfApp),
    /// Register an application
    Add(Add),
    /// Drain an application's workers, and forget it
    Remove(OfApp),
    /// Refuse new sessions with an application, until it is enabled
    Disable(Disable),
    /// Serve an application again that was disabled, by whomever
    Enable(OfApp),
    /// Replace a worker: it takes no new session, and leaves with its last one
    Retire(Retire),
    /// End a session at once
    End(End),
    /// Replace all workers; open sessions go on
    Clear(Plain),
    /// Read the pool's configuration again
    Reload(Plain),
    /// Change a setting of an application, or of the pool, while it runs
    Set(Set),
    /// Show a setting and where it comes from, or all
    Get(Get),
    /// End the pool and its web server: open requests have their time; returns once it is gone
    Shutdown(Plain),
}

#[derive(Args, Debug)]
pub(crate) struct Plain {
    /// Print the pool's answer as one line of JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
pub(crate) struct OfApp {
    /// Its root, or the last part of that
    pub(crate) app: String,

    #[command(flatten)]
    pub(crate) plain: Plain,
}

#[derive(Args, Debug)]
pub(crate) struct Restart {
    #[command(flatten)]
    pub(crate) of: OfApp,

    /// End the old workers and their sessions at once
    #[arg(long)]
    pub(crate) kill: bool,

    /// Return as soon as it has begun, not when the new workers serve
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Args, Debug)]
pub(crate) struct Deploy {
    /// Its root, or the last part of that
    pub(crate) app: String,

    /// The new version, which is copied: a folder, or a file if the application is a single executable
    #[arg(value_name = "DIR")]
    pub(crate) version: PathBuf,

    #[command(flatten)]
    pub(crate) plain: Plain,
}

#[derive(Args, Debug)]
pub(crate) struct Add {
    /// Its folder, or an executable
    pub(crate) root: PathBuf,

    /// Keys of [defaults], such as max_idle=10m
    #[arg(value_name = "KEY=VALUE", value_parser = setting)]
    pub(crate) settings: Vec<String>,

    #[command(flatten)]
    pub(crate) plain: Plain,
}

#[derive(Args, Debug)]
pub(crate) struct Disable {
    #[command(flatten)]
    pub(crate) of: OfApp,

    /// What is told to whoever asks for it
    #[arg(value_name = "REASON")]
    pub(crate) reason: Vec<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Retire {
    /// Its number or its process, as `status` shows them
    #[arg(value_name = "WORKER|PID")]
    pub(crate) worker: String,

    #[command(flatten)]
    pub(crate) plain: Plain,
}

#[derive(Args, Debug)]
pub(crate) struct End {
    /// Its number
    pub(crate) session: u64,

    #[command(flatten)]
    pub(crate) plain: Plain,
}

#[derive(Args, Debug)]
#[command(
    after_help = "Keys of an application: those of [[app]] and [defaults]. Without APP: any key of [defaults], and \
    those of [pool] that can change while it runs."
)]
pub(crate) struct Set {
    /// Its root, or the last part of that; without it, the pool
    #[arg(value_names = ["APP", "KEY=VALUE"], num_args = 1..=2, required = true)]
    pub(crate) words: Vec<String>,

    #[command(flatten)]
    pub(crate) plain: Plain,
}

#[derive(Args, Debug)]
pub(crate) struct Get {
    /// Whose settings, without APP the pool's, and which, without KEY all
    #[arg(value_names = ["APP", "KEY"], num_args = 0..=2)]
    pub(crate) words: Vec<String>,

    #[command(flatten)]
    pub(crate) plain: Plain,
}

pub(crate) fn run(order: &Order, at: Option<AdminAt>) -> ExitCode {
    admin::tell(match order {
        Order::Deploy(options) => deploy::run(options, at),
        order => order.question().and_then(|question| match order {
            Order::Restart(options) if options.no_wait => begin_restart(&options.of.app, &question, at),
            Order::Shutdown(_) => shut_down(&question, &connect(at)?),
            _ => question.ask(&connect(at)?),
        }),
    })
}

pub(crate) fn connect(at: Option<AdminAt>) -> Result<UnixStream, String> {
    admin_place::connect(at).map_err(|problem| problem.to_string())
}

impl Order {
    /// # Errors
    /// It can't be said in one line of words.
    fn question(&self) -> Result<Question, String> {
        use Until::{Soon, Verdict};
        let of = |verb: &str, of: &OfApp, until| {
            let line = format!("{verb} {}", word(APP, &of.app)?);
            Ok(Question { line, until, json: of.plain.json })
        };
        let plain = |line: &str, plain: &Plain, until| Ok(Question { line: line.to_owned(), until, json: plain.json });
        match self {
            Self::Restart(options) => {
                let question = of("restart", &options.of, Verdict)?;
                let mode = if options.kill { "kill" } else { "graceful" };
                Ok(Question { line: format!("{} {mode}", question.line), ..question })
            }
            Self::Deploy(options) => question_of_deploy(&options.app, options.plain.json),
            Self::Rollback(options) => of("rollback", options, Verdict),
            Self::Stop(options) => of("stop", options, Soon),
            Self::Start(options) => of("start", options, Soon),
            Self::Remove(options) => of("remove", options, Soon),
            Self::Enable(options) => of("enable", options, Soon),
            Self::Disable(options) => {
                let question = of("disable", &options.of, Soon)?;
                let reason = options.reason.join(" ");
                Ok(Question { line: format!("{} {}", question.line, one_line("a reason", &reason)?), ..question })
            }
            Self::Add(options) => {
                let here = std::env::current_dir().map_err(|error| format!("the current folder is not known: {error}"));
                plain(&line_of_add(&here?, options)?, &options.plain, Soon)
            }
            Self::Retire(options) => {
                plain(&format!("retire {}", word("a worker", &options.worker)?), &options.plain, Soon)
            }
            Self::End(options) => plain(&format!("end {}", options.session), &options.plain, Soon),
            Self::Clear(options) => plain("clear", options, Soon),
            Self::Reload(options) => plain("reload", options, Verdict),
            Self::Set(options) => plain(&line_of_set(&options.words)?, &options.plain, Verdict),
            Self::Get(options) => plain(&line_of_get(&options.words)?, &options.plain, Soon),
            Self::Shutdown(options) => plain("shutdown", options, Soon),
        }
    }
}

/// # Errors
/// It can't be said in one line of words.
pub(crate) fn question_of_deploy(app: &str, json: bool) -> Result<Question, String> {
    Ok(Question { line: format!("deploy {}", word(APP, app)?), until: Until::Verdict, json })
}

fn line_of_add(here: &Path, options: &Add) -> Result<String, String> {
    let root = normalised(here, &options.root);
    let root = root.to_str().ok_or_else(|| format!("{} is no text in UTF-8; use a path that is", root.display()))?;
    let mut line = format!("add {}", word(APP, root)?);
    for setting in &options.settings {
        line.push(' ');
        line.push_str(&word("a setting", setting)?);
    }
    Ok(line)
}

/// A value may have spaces: what stands behind `=` is the rest of the line.
fn line_of_set(words: &[String]) -> Result<String, String> {
    let (app, setting) = match words {
        [setting] => (String::new(), setting),
        [app, setting] => (format!("{} ", word(APP, app)?), setting),
        _ => return Err("set takes an application, which may be left out, and one KEY=VALUE".to_owned()),
    };
    let Some((key, value)) = setting.split_once('=') else {
        return Err(format!("`{setting}` sets nothing; write KEY=VALUE"));
    };
    Ok(format!("set {app}{}={}", word("a setting", key)?, one_line("a value", value)?))
}

fn line_of_get(words: &[String]) -> Result<String, String> {
    let mut line = "get".to_owned();
    for each in words {
        line.push(' ');
        line.push_str(&word("an application, or a setting,", each)?);
    }
    Ok(line)
}

/// Returns once the pool is gone: with it goes the connection.
fn shut_down(question: &Question, pool: &UnixStream) -> Result<Answer, String> {
    let answer = question.ask(pool)?;
    if answer.refusal.is_none() {
        let unheard = |error| format!("the pool was told to end, and can't be listened to any more: {error}");
        pool.set_read_timeout(None).map_err(unheard)?;
        std::io::copy(&mut { pool }, &mut std::io::sink()).map_err(unheard)?;
    }
    Ok(answer)
}

fn setting(text: &str) -> Result<String, String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(format!("`{text}` sets nothing; write KEY=VALUE"));
    };
    // What it may be is the pool's to judge as well; here a mistake is one of usage.
    AppOptions::default().set(key, &[value.to_owned()])?;
    Ok(text.to_owned())
}

/// What a verb is said of, as one word of a line.
///
/// In quotes, if it has blanks.
///
/// # Errors
/// It can't be said in a line.
pub(crate) fn word<'a>(what: &str, name: &'a str) -> Result<Cow<'a, str>, String> {
    let blank = name.contains(char::is_whitespace) || name.starts_with('"');
    if name.is_empty() || name.contains(char::is_control) || blank && name.contains('"') {
        return Err(format!(
            "{name:?} can't be said on the admin socket: {what} has no control characters, and no \" with blanks"
        ));
    }
    Ok(if blank { Cow::Owned(format!("\"{name}\"")) } else { Cow::Borrowed(name) })
}

fn one_line<'a>(what: &str, text: &'a str) -> Result<&'a str, String> {
    if text.contains(char::is_control) {
        return Err(format!("{what} has to be one line of text"));
    }
    Ok(text)
}

/// Asks for a restart, and returns once its generation has begun, or it was refused.
fn begin_restart(app: &str, question: &Question, at: Option<AdminAt>) -> Result<Answer, String> {
    let (asking, looking) = (connect(at.clone())?, connect(at)?);
    let status = admin::ask_json(&looking, "status")?;
    let app = find(app, &status)?;
    let (root, before) = (app["root"].clone(), newest(app));
    question.say(&asking)?;
    let by = Instant::now() + PATIENCE;
    while Instant::now() < by {
        let mut answered = [PollFd::new(&asking, PollFlags::IN)];
        match poll(&mut answered, Some(&LOOK)) {
            Ok(0) => {}
            Ok(_) => return question.hear(&asking),
            Err(rustix::io::Errno::INTR) => continue,
            Err(error) => return Err(format!("the pool can't be listened to: {error}")),
        }
        let status = admin::ask_json(&looking, "status")?;
        let app = apps(&status).find(|app| app["root"] == root);
        if app.is_some_and(|app| newest(app) > before) {
            let text = if question.json { "{\"ok\":true}\n" } else { "" };
            return Ok(Answer { text: text.to_owned(), refusal: None });
        }
    }
    Err(format!(
        "the restart was asked for, and has not begun within {} s; hatchery status shows what becomes of it",
        PATIENCE.as_secs()
    ))
}

fn apps(status: &Object) -> impl Iterator<Item = &serde_json::Value> {
    status.get("apps").and_then(|apps| apps.as_array()).into_iter().flatten()
}

/// The generation that was begun last, of an app in a status.
fn newest(app: &serde_json::Value) -> u64 {
    let of = |value: &serde_json::Value| value["generation"].as_u64().unwrap_or(0);
    of(app).max(of(&app["restart"]))
}

/// The app of a status that is named by its root, its name, or the last parts of either, as the pool finds it.
///
/// # Errors
/// There is none, or several.
pub(crate) fn find<'a>(wanted: &str, status: &'a Object) -> Result<&'a serde_json::Value, String> {
    let said = |app: &'a serde_json::Value| ["root", "name"].map(|key| app[key].as_str().unwrap_or_default());
    let parts = |path: &'a str| path.split('/').filter(|part| !part.is_empty());
    let end: Vec<String> = wanted.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let ends = |path: &'a str| parts(path).map(str::to_owned).collect::<Vec<_>>().ends_with(&end);
    let mut found: Vec<_> = apps(status).filter(|app| said(app).contains(&wanted)).collect();
    if found.is_empty() && !wanted.starts_with('/') && !end.is_empty() {
        found = apps(status).filter(|app| said(app).into_iter().any(ends)).collect();
    }
    match found.as_slice() {
        [app] => Ok(app),
        [] => Err(format!("no application '{wanted}'; status lists them")),
        several => {
            let mut roots: Vec<_> = several.iter().filter_map(|app| app["root"].as_str()).collect();
            roots.sort_unstable();
            Err(format!("'{wanted}' may be any of {}; write more of its path", roots.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Verb};
    use clap::Parser;

    fn question(line: &str) -> Result<Question, String> {
        match Cli::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?.verb {
            Verb::Order(order) => order.question(),
            other => unreachable!("an order was given, not {other:?}"),
        }
    }

    #[test]
    fn a_verb_is_the_line_that_could_be_typed() {
        for (said, line, until) in [
            ("restart shop", "restart shop graceful", Until::Verdict),
            ("restart --kill /srv/shop", "restart /srv/shop kill", Until::Verdict),
            ("stop shop", "stop shop", Until::Soon),
            ("start shop", "start shop", Until::Soon),
            ("remove shop", "remove shop", Until::Soon),
            ("rollback shop", "rollback shop", Until::Verdict),
            ("add /srv//shop/ max_idle=10m min=1", "add /srv/shop max_idle=10m min=1", Until::Soon),
            ("disable shop back at noon", "disable shop back at noon", Until::Soon),
            ("enable shop", "enable shop", Until::Soon),
            ("retire 4821", "retire 4821", Until::Soon),
            ("end 17", "end 17", Until::Soon),
            ("clear", "clear", Until::Soon),
            ("reload", "reload", Until::Verdict),
            ("set max=8", "set max=8", Until::Verdict),
            ("set shop max_idle=10m", "set shop max_idle=10m", Until::Verdict),
            ("set shop ping_path=", "set shop ping_path=", Until::Verdict),
            ("get", "get", Until::Soon),
            ("get shop", "get shop", Until::Soon),
            ("get shop max_idle", "get shop max_idle", Until::Soon),
            ("shutdown", "shutdown", Until::Soon),
        ] {
            let asked = question(&format!("hatchery {said}")).unwrap();
            assert_eq!((asked.line.as_str(), asked.until, asked.json), (line, until, false), "{said}");
            let verb = said.split(' ').next().unwrap();
            assert!(question(&format!("hatchery {}", said.replacen(verb, &format!("{verb} --json"), 1))).unwrap().json);
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_before_a_pool_is_asked() {
        for line in ["add /srv/shop max_idle", "add /srv/shop max_ilde=5m", "add /srv/shop max_idle=soon", "end last"] {
            assert!(question(&format!("hatchery {line}")).is_err(), "{line}");
        }
        for line in [
            "restart",
            "stop",
            "start",
            "add",
            "remove",
            "deploy shop",
            "rollback",
            "clear all",
            "set",
            "set a b c=1",
            "get a b c",
        ] {
            assert!(question(&format!("hatchery {line}")).is_err(), "{line}");
        }
    }

    #[test]
    fn a_relative_root_is_one_of_the_current_folder() {
        let options = Add { root: "../blog".into(), settings: vec![], plain: Plain { json: false } };
        assert_eq!(line_of_add(Path::new("/srv/shop"), &options).unwrap(), "add /srv/blog");
        let spaced = Add { root: "a b".into(), settings: vec![], plain: Plain { json: false } };
        assert_eq!(line_of_add(Path::new("/srv"), &spaced).unwrap(), "add \"/srv/a b\"");
    }

    #[test]
    fn what_would_be_another_line_is_not_said() {
        assert!(word(APP, "shop\nquit").is_err() && word(APP, "").is_err() && word(APP, "a \"b").is_err());
        assert_eq!((&*word(APP, "my shop").unwrap(), &*word(APP, "it's").unwrap()), ("\"my shop\"", "it's"));
        assert!(one_line("a reason", "maintenance\nquit").is_err());
        assert_eq!(one_line("a reason", "back at noon"), Ok("back at noon"));
        let set = |words: &[&str]| line_of_set(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(set(&["shop", "command=python3  server.py"]).unwrap(), "set shop command=python3  server.py");
        assert!(set(&["max=8\nquit"]).is_err() && set(&["shop", "max"]).is_err());
        assert_eq!(set(&["a b", "max=8"]).unwrap(), "set \"a b\" max=8");
    }

    #[test]
    fn a_shutdown_is_over_when_the_connection_is() {
        let (ours, pools) = UnixStream::pair().unwrap();
        let question = Question { line: "shutdown".to_owned(), until: Until::Soon, json: false };
        let pool = std::thread::spawn(move || {
            let mut pool = std::io::BufReader::new(&pools);
            std::io::BufRead::read_line(&mut pool, &mut String::new()).unwrap();
            std::io::Write::write_all(&mut &pools, b"ok\n").unwrap();
            pools
        });
        let asking = std::thread::spawn(move || shut_down(&question, &ours));
        let pools = pool.join().unwrap();
        assert!(!asking.is_finished());
        drop(pools);
        assert_eq!(asking.join().unwrap(), Ok(Answer { text: String::new(), refusal: None }));
    }

    #[test]
    fn an_app_is_found_as_the_pool_finds_it() {
        let status = serde_json::json!({ "apps": [
            { "root": "/a/shop", "name": "a/shop" },
            { "root": "/b/shop", "name": "b/shop" },
            { "root": "/", "name": "demo" },
        ] });
        let status = status.as_object().unwrap();
        for (wanted, root) in [("/a/shop", "/a/shop"), ("b/shop", "/b/shop"), ("demo", "/"), ("/", "/")] {
            assert_eq!(find(wanted, status).unwrap()["root"], root, "{wanted}");
        }
        assert!(find("shop", status).unwrap_err().contains("may be any of /a/shop, /b/shop"));
        for unknown in ["op", "/shop", "", "c/shop"] {
            assert!(find(unknown, status).unwrap_err().contains("no application"), "{unknown}");
        }
    }
}
