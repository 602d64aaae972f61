//! The admin socket: a line protocol that a person can type. Data lines are indented by two spaces; the last line
//! of an answer is `ok` or `error: …`; with `json` before it, a command answers exactly one line.

mod verbs;

use super::output::printable;
use super::shell::Shell;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener as StdListener;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};

/// The longest line, in bytes.
const LONGEST_LINE: u64 = 4096;

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

/// A connection for whoever may say everything: its other end.
///
/// # Errors
/// No descriptors, mostly.
pub(super) fn connect(shell: &Shell) -> io::Result<OwnedFd> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    tokio::task::spawn_local(talk(shell.clone(), UnixStream::from_std(ours)?));
    Ok(theirs.into())
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
            Answer::Lines(lines) => (data(&lines) + "ok\n", false),
            Answer::Json(line) => (line + "\n", false),
            Answer::Error(Failure { why, details, .. }) => (data(&details) + &format!("error: {why}\n"), false),
            Answer::Bye => ("ok\n".to_owned(), true),
        };
        if write.write_all(text.as_bytes()).await.is_err() || last {
            return;
        }
    }
}

fn data(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

enum Answer {
    Nothing,
    Lines(Vec<String>),
    Json(String),
    Error(Failure),
    Bye,
}

/// One answer in both forms.
#[derive(Default)]
struct Said {
    lines: Vec<String>,
    /// Without `ok`.
    json: Object,
}

type Object = serde_json::Map<String, serde_json::Value>;

/// Why a command was not obeyed: one line, and what more there is to say of it in both forms.
#[derive(Debug, Default)]
struct Failure {
    why: String,
    details: Vec<String>,
    json: Object,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self { why, ..Self::default() }
    }
}

impl From<&str> for Failure {
    fn from(why: &str) -> Self {
        why.to_owned().into()
    }
}

async fn obey(shell: &Shell, line: &str) -> Answer {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        [] => Answer::Nothing,
        ["quit"] => Answer::Bye,
        ["json", rest @ ..] => Answer::Json(match verbs::say(shell, rest).await {
            Ok(said) => object([("ok", true.into())], said.json),
            Err(failure) => object([("ok", false.into()), ("error", failure.why.into())], failure.json),
        }),
        words => match verbs::say(shell, words).await {
            Ok(said) => Answer::Lines(said.lines),
            Err(failure) => Answer::Error(failure),
        },
    }
}

/// One line, in this order.
fn object<const N: usize>(first: [(&str, serde_json::Value); N], rest: Object) -> String {
    let first = first.into_iter().map(|(key, value)| (key.to_owned(), value));
    let members = first.chain(rest).map(|(key, value)| format!("{}:{value}", serde_json::Value::from(key)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

fn text_lines(text: &str) -> Vec<String> {
    text.lines().map(printable).collect()
}
