//! The admin socket: a line protocol that a person can type. Data lines are indented by two spaces; the last line
//! of an answer is `ok` or `error: …`; with `json` before it, a command answers exactly one line.

use super::output::printable;
use super::shell::Shell;
use super::status;
use hatchery_pool::{Event, WorkerId};
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// The longest line, in bytes.
const LONGEST_LINE: u64 = 4096;
/// The longest reason for disabling an app, in characters.
const LONGEST_REASON: usize = 500;

pub(super) fn listener(socket: StdListener) -> io::Result<UnixListener> {
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket)
}

pub(super) async fn serve(shell: Shell, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(talk(shell.clone(), stream));
            }
            Err(error) => {
                // Out of descriptors, most likely: the connection stays pending, so trying at once would spin.
                tracing::warn!("the admin socket: {error}");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn talk(shell: Shell, stream: UnixStream) {
    let (read, mut write) = stream.into_split();
    let mut read = BufReader::with_capacity(512, read);
    loop {
        let mut line = Vec::new();
        let whole = (&mut read).take(LONGEST_LINE).read_until(b'\n', &mut line).await;
        let answer = match whole {
            Ok(0) | Err(_) => return,
            Ok(_) if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST_LINE => {
                let _ = write.write_all(b"error: a line is longer than 4096 bytes; the connection is closed\n").await;
                return;
            }
            Ok(_) => obey(&shell, &String::from_utf8_lossy(&line)).await,
        };
        let (text, last) = match answer {
            Answer::Nothing => continue,
            Answer::Lines(lines) => {
                (lines.iter().map(|line| format!("  {line}\n")).collect::<String>() + "ok\n", false)
            }
            Answer::Json(line) => (line + "\n", false),
            Answer::Error(why) => (format!("error: {why}\n"), false),
            Answer::Bye => ("ok\n".to_owned(), true),
        };
        if write.write_all(text.as_bytes()).await.is_err() || last {
            return;
        }
    }
}

enum Answer {
    Nothing,
    Lines(Vec<String>),
    Json(String),
    Error(String),
    Bye,
}

async fn obey(shell: &Shell, line: &str) -> Answer {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [] => Answer::Nothing,
        ["json", rest @ ..] => Answer::Json(match say(shell, rest).await {
            Ok(Some(said)) => said.json,
            Ok(None) => ok_json(serde_json::Map::new()),
            Err(why) => serde_json::json!({ "ok": false, "error": why }).to_string(),
        }),
        ["quit"] => Answer::Bye,
        words => match say(shell, words).await {
            Ok(Some(said)) => Answer::Lines(said.lines),
            Ok(None) => Answer::Bye,
            Err(why) => Answer::Error(why),
        },
    }
}

/// One answer in both forms.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    json: String,
}

const HELP: [&str; 7] = [
    "status                what runs, where, how busy, and what did not leave in peace",
    "json status           the same as one line of JSON, which every command can answer with",
    "disable APP [REASON]  new sessions are refused, workers stay; APP: its root, or the end of it",
    "enable APP            serve it again, whatever failed before",
    "retire WORKER|PID     drain a worker and end it",
    "help                  this",
    "quit                  closes this connection",
];

/// `None`: `quit`.
async fn say(shell: &Shell, words: &[&str]) -> Result<Option<Said>, String> {
    match words {
        ["status"] => {
            let status = status::status(&shell.state());
            let json = match serde_json::to_value(&status) {
                Ok(serde_json::Value::Object(object)) => ok_json(object),
                _ => return Err("the status can't be written as JSON".into()),
            };
            Ok(Some(Said { lines: status::lines(&status), json }))
        }
        ["disable", app, reason @ ..] => disable(shell, app, reason).await,
        ["enable", app] => {
            let root = root(shell, app)?;
            order(shell, |request| Event::Enable { request: Some(request), root }).await
        }
        ["retire", worker] => {
            let worker = worker_of(shell, worker)?;
            order(shell, |request| Event::Retire { request: Some(request), worker }).await
        }
        ["help"] => {
            let lines = HELP.map(String::from).to_vec();
            let mut object = serde_json::Map::new();
            object.insert("help".into(), serde_json::json!(HELP));
            Ok(Some(Said { lines, json: ok_json(object) }))
        }
        ["quit"] => Ok(None),
        ["status" | "help" | "quit", rest @ ..] => {
            Err(format!("takes no words after it, but got '{}'", printable(&rest.join(" "))))
        }
        ["disable" | "enable", ..] => Err("needs one application: its root, or the end of it".into()),
        ["retire", ..] => Err("needs one worker: its number or its process id, as status shows them".into()),
        [other, ..] => Err(format!("no command '{}'; type help", printable(other))),
        [] => Err("json needs a command behind it; type help".into()),
    }
}

async fn disable(shell: &Shell, app: &str, reason: &[&str]) -> Result<Option<Said>, String> {
    let root = root(shell, app)?;
    let why: String = match reason {
        [] => "the operator disabled it".into(),
        words => printable(&words.join(" ")).chars().take(LONGEST_REASON).collect(),
    };
    order(shell, |request| Event::Disable { request: Some(request), root, why }).await
}

fn root(shell: &Shell, app: &str) -> Result<Vec<u8>, String> {
    status::find(app, &shell.state().names()).map(<[u8]>::to_vec)
}

/// `3` or `w3`, else a process.
fn worker_of(shell: &Shell, said: &str) -> Result<WorkerId, String> {
    let unknown = || format!("no worker '{}'; status lists them", printable(said));
    let number: u64 = said.strip_prefix('w').unwrap_or(said).parse().map_err(|_| unknown())?;
    let state = shell.state();
    if state.workers.get(WorkerId(number)).is_some() {
        return Ok(WorkerId(number));
    }
    let pid = said.parse().ok().and_then(|pid| state.workers.with_pid(pid));
    pid.ok_or_else(unknown)
}

async fn order(shell: &Shell, event: impl FnOnce(hatchery_pool::Request) -> Event) -> Result<Option<Said>, String> {
    match shell.order(event).await {
        Ok(()) => Ok(Some(Said { json: ok_json(serde_json::Map::new()), ..Said::default() })),
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// `object` as one line, with `ok` before everything else.
fn ok_json(object: serde_json::Map<String, serde_json::Value>) -> String {
    let rest = serde_json::Value::Object(object).to_string();
    match rest.strip_prefix('{') {
        Some("}") | None => "{\"ok\":true}".into(),
        Some(rest) => format!("{{\"ok\":true,{rest}"),
    }
}
