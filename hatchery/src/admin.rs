//! Questions to a live pool, over its admin socket: a line each way, or several lines back.

use crate::admin_place;
use crate::cli::{AdminAt, Disable, Enable, Retire};
use crate::{complain, print};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

/// How long a pool may take to say something.
const PATIENCE: Duration = Duration::from_secs(10);
/// More than any pool has to say.
const LONGEST_ANSWER: u64 = 64 << 20;
const APP: &str = "an application";
/// The pool takes no longer line.
const LONGEST_QUESTION: usize = 4095;

pub(crate) fn disable(options: &Disable, admin: Option<AdminAt>) -> ExitCode {
    let reason = options.reason.join(" ");
    said(admin, || Ok(format!("disable {} {}", word(APP, &options.app)?, one_line(&reason)?)))
}

pub(crate) fn enable(options: &Enable, admin: Option<AdminAt>) -> ExitCode {
    said(admin, || Ok(format!("enable {}", word(APP, &options.app)?)))
}

pub(crate) fn retire(options: &Retire, admin: Option<AdminAt>) -> ExitCode {
    said(admin, || Ok(format!("retire {}", word("a worker", &options.worker)?)))
}

fn said(admin: Option<AdminAt>, question: impl FnOnce() -> Result<String, String>) -> ExitCode {
    let done = question().and_then(|question| {
        let pool = admin_place::connect(admin).map_err(|problem| problem.to_string())?;
        let lines = ask(&pool, question.trim_end())?;
        print(&lines)
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => complain(problem),
    }
}

/// What a verb is said of, as one word of a line.
fn word<'a>(what: &str, name: &'a str) -> Result<&'a str, String> {
    if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(format!("{name:?} can't be said on the admin socket: {what} is named by one word"));
    }
    Ok(name)
}

fn one_line(text: &str) -> Result<&str, String> {
    if text.contains(char::is_control) {
        return Err("a reason has to be one line of text".to_owned());
    }
    Ok(text)
}

/// The data lines of an answer that ends in `ok`, without the two spaces that tell them from that.
///
/// # Errors
/// The pool's, or that there is no whole answer.
pub(crate) fn ask(pool: &UnixStream, question: &str) -> Result<String, String> {
    let mut text = String::new();
    for line in send(pool, question)? {
        let line = line.map_err(|error| format!("the pool did not finish its answer: {error}"))?;
        match line.strip_prefix("  ") {
            Some(data) => {
                text.push_str(data);
                text.push('\n');
            }
            None if line == "ok" => return Ok(text),
            None => return Err(line.strip_prefix("error: ").unwrap_or(&line).to_owned()),
        }
    }
    Err("the pool ended before it had answered".to_owned())
}

/// The object of an answer in JSON, without its `ok`.
///
/// # Errors
/// The pool's, or that there is no whole answer.
pub(crate) fn ask_json(
    pool: &UnixStream,
    question: &str,
) -> Result<serde_json::Map<String, serde_json::Value>, String> {
    let line = send(pool, &format!("json {question}"))?.next().ok_or("the pool ended before it had answered")?;
    let line = line.map_err(|error| format!("the pool did not finish its answer: {error}"))?;
    let unread = |error| format!("the pool's answer is no JSON: {error}");
    let mut answer: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&line).map_err(unread)?;
    if answer.shift_remove("ok") != Some(true.into()) {
        let error =
            answer.get("error").and_then(|error| error.as_str()).unwrap_or("the pool refused, without a reason");
        return Err(error.to_owned());
    }
    Ok(answer)
}

fn send(mut pool: &UnixStream, question: &str) -> Result<impl Iterator<Item = std::io::Result<String>>, String> {
    if question.len() > LONGEST_QUESTION {
        return Err(format!("what is said to a pool has at most {LONGEST_QUESTION} bytes; shorten it"));
    }
    let asked = pool
        .set_read_timeout(Some(PATIENCE))
        .and_then(|()| pool.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| pool.write_all(format!("{question}\n").as_bytes()));
    asked.map_err(|error| format!("the pool can't be asked: {error}"))?;
    Ok(BufReader::new(pool.take(LONGEST_ANSWER)).lines())
}

/// The end of a pool that has said `answer` already.
#[cfg(test)]
pub(crate) fn pool_that_said(answer: &str) -> UnixStream {
    let (ours, mut pools) = UnixStream::pair().unwrap();
    pools.write_all(answer.as_bytes()).unwrap();
    // The question waits in the buffer; the end of the answer is seen.
    pools.shutdown(std::net::Shutdown::Write).unwrap();
    std::mem::forget(pools);
    ours
}

#[cfg(test)]
mod tests {
    use super::pool_that_said as pool;
    use super::*;

    #[test]
    fn data_is_what_stands_between_its_indent_and_ok() {
        assert_eq!(ask(&pool("  one\n    two\nok\n"), "status").unwrap(), "one\n  two\n");
        assert_eq!(ask(&pool("error: not now\n"), "status").unwrap_err(), "not now");
        assert!(ask(&pool("  one\n"), "status").unwrap_err().contains("ended"));
    }

    #[test]
    fn json_is_the_object_without_ok_in_its_order() {
        let said = ask_json(&pool("{\"ok\":true,\"version\":\"1\",\"max\":6,\"apps\":[]}\n"), "status").unwrap();
        assert_eq!(said.keys().collect::<Vec<_>>(), ["version", "max", "apps"]);
        assert_eq!(ask_json(&pool("{\"ok\":false,\"error\":\"no\"}\n"), "status").unwrap_err(), "no");
        assert!(ask_json(&pool("nonsense\n"), "status").is_err());
    }

    #[test]
    fn what_would_be_another_line_is_not_said() {
        assert!(word(APP, "shop\nquit").is_err() && word(APP, "").is_err() && word(APP, "a b").is_err());
        assert!(one_line("maintenance\nquit").is_err());
        assert_eq!(one_line("back at noon"), Ok("back at noon"));
        assert!(send(&pool(""), &"x".repeat(5000)).is_err());
    }
}
