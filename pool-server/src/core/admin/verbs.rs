//! What can be said on the admin socket.

use super::{Failure, Object, Said, text_lines};
use crate::core::apps;
use crate::core::output::printable;
use crate::core::shell::{Refused, Shell};
use crate::core::status;
use hatchery_pool::{Event, Request, RestartMode, SessionId, WorkerId};
use hatchery_protocol::options::AppOptions;
use std::collections::BTreeMap;

/// The longest reason for disabling an app, in characters.
const LONGEST_REASON: usize = 500;

const HELP: [&str; 19] = [
    "status                  what runs, where, how busy, and what did not leave in peace",
    "json status             the same as one line of JSON, which every command can answer with",
    "list                    the applications: name, root, state, and whether they stay when nobody uses them",
    "restart APP [MODE]      graceful (kind): new workers first, then the old ones drain; kill: old ones end at once;",
    "                        APP: its root, or the end of it; answers when the new workers serve, or can't",
    "deploy APP              takes the version that lies beside it as NAME.update, and answers with the verdict",
    "rollback APP            goes back to the version before",
    "stop APP                its workers drain, and it refuses until it is started; it stays registered",
    "start APP               serve it again",
    "add ROOT [KEY=VALUE …]  registers an application, or says its options anew; a list is one KEY=VALUE for each word",
    "remove APP              its workers drain, and it is known no more",
    "disable APP [REASON]    new sessions are refused, workers stay",
    "enable APP              serve it again, whatever failed before",
    "retire WORKER|PID       drain a worker and end it",
    "end SESSION             ends a session at once",
    "clear                   every worker is replaced by a fresh one; open sessions go on",
    "reload                  reads the configuration again",
    "help                    this",
    "quit                    closes this connection",
];

pub(super) async fn say(shell: &Shell, words: &[&str]) -> Result<Said, Failure> {
    match words {
        ["status"] => show_status(shell),
        ["list"] => Ok(list(shell)),
        ["restart", app] => restart(shell, app, RestartMode::Graceful).await,
        ["restart", app, "graceful" | "kind"] => restart(shell, app, RestartMode::Graceful).await,
        ["restart", app, "kill"] => restart(shell, app, RestartMode::Kill).await,
        ["restart", _, mode] => Err(format!("no mode '{}': graceful, kind or kill", printable(mode)).into()),
        ["deploy", app] => of_app(shell, app, |request, root| Event::Staged { request, root }).await,
        ["rollback", app] => of_app(shell, app, |request, root| Event::RolledBack { request, root }).await,
        ["stop", app] => of_app(shell, app, |request, root| Event::StopApp { request, root }).await,
        ["start", app] => of_app(shell, app, |request, root| Event::StartApp { request, root }).await,
        ["remove", app] => of_app(shell, app, |request, root| Event::Removed { request, root }).await,
        ["enable", app] => of_app(shell, app, |request, root| Event::Enable { request, root }).await,
        ["disable", app, reason @ ..] => {
            let why: String = match reason {
                [] => "the operator disabled it".into(),
                words => printable(&words.join(" ")).chars().take(LONGEST_REASON).collect(),
            };
            of_app(shell, app, |request, root| Event::Disable { request, root, why }).await
        }
        ["add", root, settings @ ..] => add(shell, root, settings).await,
        ["retire", worker] => {
            let worker = worker_of(shell, worker)?;
            order(shell, |request| shell.tell(Event::Retire { request: Some(request), worker })).await
        }
        ["end", session] => end(shell, session).await,
        ["clear"] => order(shell, |request| shell.tell(Event::Clear { request: Some(request) })).await,
        ["reload"] => reload(shell).await,
        ["help"] => {
            let json = Object::from_iter([("help".to_owned(), serde_json::json!(HELP))]);
            Ok(Said { lines: HELP.map(String::from).to_vec(), json })
        }
        // As one line of JSON it says nothing.
        ["quit"] => Ok(Said::default()),
        words => Err(misunderstood(words)),
    }
}

fn misunderstood(words: &[&str]) -> Failure {
    match words {
        ["status" | "list" | "clear" | "reload" | "help" | "quit", rest @ ..] => {
            format!("takes no words after it, but got '{}'", printable(&rest.join(" "))).into()
        }
        ["restart", _, _, rest @ ..] => {
            format!("takes one application and one mode, but got '{}' too", printable(&rest.join(" "))).into()
        }
        ["restart" | "deploy" | "rollback" | "stop" | "start" | "remove" | "disable" | "enable", ..] => {
            "needs one application: its root, or the end of it".into()
        }
        ["add"] => "needs an application's root, an absolute path".into(),
        ["retire", ..] => "needs one worker: its number or its process id, as status shows them".into(),
        ["end", ..] => "needs one session: its number".into(),
        [other, ..] => format!("no command '{}'; type help", printable(other)).into(),
        [] => "json needs a command behind it; type help".into(),
    }
}

fn show_status(shell: &Shell) -> Result<Said, Failure> {
    let status = status::status(&shell.state());
    match serde_json::to_value(&status) {
        Ok(serde_json::Value::Object(json)) => Ok(Said { lines: status::lines(&status), json }),
        _ => Err("the status can't be written as JSON".into()),
    }
}

fn list(shell: &Shell) -> Said {
    let status = status::status(&shell.state());
    let stays: Vec<bool> = {
        let state = shell.state();
        state.pool.snapshot(state.now()).apps.iter().map(|app| app.registered).collect()
    };
    let apps = || status.apps.iter().zip(&stays);
    let lines = apps().map(|(app, stays)| {
        let kept = if *stays { "registered" } else { "asked for" };
        format!("{}  {}  {}  {kept}", app.name, printable(&app.root), app.state)
    });
    let json = apps().map(|(app, stays)| {
        serde_json::json!({ "name": app.name, "root": app.root, "state": app.state, "registered": stays })
    });
    Said { lines: lines.collect(), json: Object::from_iter([("apps".to_owned(), json.collect())]) }
}

async fn restart(shell: &Shell, app: &str, mode: RestartMode) -> Result<Said, Failure> {
    of_app(shell, app, |request, root| Event::Restart { request, root, mode }).await
}

/// An order about one app.
async fn of_app(
    shell: &Shell,
    app: &str,
    event: impl FnOnce(Option<Request>, Vec<u8>) -> Event,
) -> Result<Said, Failure> {
    let root = status::find(app, &shell.state().names()).map(<[u8]>::to_vec)?;
    order(shell, |request| shell.tell(event(Some(request), root))).await
}

async fn add(shell: &Shell, root: &str, settings: &[&str]) -> Result<Said, Failure> {
    let options = options(settings)?;
    apps::check(root.as_bytes(), &options)?;
    order(shell, |request| shell.add(request, root.as_bytes().to_vec(), options)).await
}

/// What `KEY=VALUE` after `KEY=VALUE` says. A list has each of its words in one of its own.
fn options(settings: &[&str]) -> Result<AppOptions, String> {
    let mut said: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for setting in settings {
        let Some((key, value)) = setting.split_once('=') else {
            return Err(format!("'{}' is no setting: write KEY=VALUE", printable(setting)));
        };
        said.entry(key).or_default().push(value.to_owned());
    }
    let mut options = AppOptions::default();
    for (key, words) in said {
        options.set(key, &words).map_err(|why| format!("{}: {why}", printable(key)))?;
    }
    Ok(options)
}

/// `17` or `s17`.
async fn end(shell: &Shell, said: &str) -> Result<Said, Failure> {
    let number = said.strip_prefix('s').unwrap_or(said).parse();
    let number = number.map_err(|_| format!("no session '{}'; a session is a number", printable(said)))?;
    let session = SessionId(number);
    order(shell, |request| shell.tell(Event::EndSession { request: Some(request), session })).await
}

async fn reload(shell: &Shell) -> Result<Said, Failure> {
    let Err(problem) = shell.reload().await else { return Ok(Said::default()) };
    let lines = text_lines(&problem);
    match lines.as_slice() {
        [why] => Err(why.clone().into()),
        _ => Err(Failure {
            why: "the configuration stays as it was".to_owned(),
            json: Object::from_iter([("problems".to_owned(), serde_json::json!(lines))]),
            details: lines,
        }),
    }
}

/// `3` or `w3`, else a process.
fn worker_of(shell: &Shell, said: &str) -> Result<WorkerId, String> {
    let unknown = || format!("no worker '{}'; status lists them", printable(said));
    let number: u64 = said.strip_prefix('w').unwrap_or(said).parse().map_err(|_| unknown())?;
    let state = shell.state();
    let known = state.workers.get(WorkerId(number)).is_some() || state.is_listed(WorkerId(number));
    let by_pid = || said.parse().ok().and_then(|pid| state.workers.with_pid(pid));
    let worker = known.then_some(WorkerId(number)).or_else(by_pid).ok_or_else(unknown)?;
    state.only_a_worker(worker)
}

/// Answers once the pool has, and what outlasts it is on disk.
async fn order(shell: &Shell, order: impl FnOnce(Request)) -> Result<Said, Failure> {
    let answer = shell.order(order).await;
    shell.written().await;
    answer.map(|()| Said::default()).map_err(refused)
}

fn refused(Refused { refusal, report }: Refused) -> Failure {
    let Some(report) = report else { return refusal.to_string().into() };
    Failure {
        why: format!("{refusal}: {}", printable(&report.problem)),
        details: text_lines(&report.to_string()),
        json: Object::from_iter([("report".to_owned(), serde_json::json!(*report))]),
    }
}
