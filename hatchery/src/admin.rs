//! Questions to a live pool, over its admin socket: a line each way, or several lines back.

use crate::{complain, print};
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

/// How long a pool may take to say something that it need not wait for itself.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// More than any pool has to say.
const LONGEST_ANSWER: u64 = 64 << 20;
/// The pool takes no longer line.
const LONGEST_QUESTION: usize = 4095;

pub(crate) type Object = serde_json::Map<String, serde_json::Value>;

/// How long an answer may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    /// The pool knows at once.
    Soon,
    /// It waits for something itself, and has its own limits for that.
    Verdict,
}

/// An order, and what came of it, as they go to the pool and to whoever gave it.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) line: String,
    pub(crate) until: Until,
    /// The answer is printed as the pool's line of JSON.
    pub(crate) json: bool,
}

/// What a pool answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// For standard output.
    pub(crate) text: String,
    /// Why it was refused, or failed: a sentence, and the report behind it where there is one.
    pub(crate) refusal: Option<String>,
}

impl Question {
    /// # Errors
    /// There is no whole answer.
    pub(crate) fn ask(&self, pool: &UnixStream) -> Result<Answer, String> {
        self.say(pool)?;
        self.hear(pool)
    }

    /// # Errors
    /// It can't be said.
    pub(crate) fn say(&self, pool: &UnixStream) -> Result<(), String> {
        let json = if self.json { "json " } else { "" };
        say(pool, &format!("{json}{}", self.line.trim_end()), self.until)
    }

    /// # Errors
    /// There is no whole answer.
    pub(crate) fn hear(&self, pool: &UnixStream) -> Result<Answer, String> {
        if !self.json {
            return Ok(match hear(pool)? {
                Ok(text) => Answer { text, refusal: None },
                Err(why) => Answer { text: String::new(), refusal: Some(why) },
            });
        }
        let line = hear_line(pool)?;
        let refusal = object(&line)?.err();
        Ok(Answer { text: line + "\n", refusal })
    }
}

/// Why a question has no answer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The pool is gone, or says nothing.
    Silent(String),
    /// The pool's own words.
    Refused(String),
    /// It said something that this command does not know.
    Unread(String),
}

impl From<Trouble> for String {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Silent(why) | Trouble::Refused(why) | Trouble::Unread(why) => why,
        }
    }
}

/// Prints what became of an order.
pub(crate) fn tell(done: Result<Answer, String>) -> ExitCode {
    let printed = done.and_then(|answer| print(&answer.text).map(|()| answer.refusal));
    match printed {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(problem)) | Err(problem) => complain(problem),
    }
}

/// The data lines of an answer that ends in `ok`, without the two spaces that tell them from that.
///
/// # Errors
/// The pool's, or that there is no whole answer.
pub(crate) fn ask(pool: &UnixStream, question: &str) -> Result<String, String> {
    say(pool, question, Until::Soon)?;
    hear(pool)?
}

/// The object of an answer in JSON, without its `ok`.
///
/// # Errors
/// The pool's, or that there is no whole answer.
pub(crate) fn ask_json(pool: &UnixStream, question: &str) -> Result<Object, Trouble> {
    say(pool, &format!("json {question}"), Until::Soon).map_err(Trouble::Silent)?;
    let line = hear_line(pool).map_err(Trouble::Silent)?;
    object(&line).map_err(Trouble::Unread)?.map_err(Trouble::Refused)
}

/// The same as what it is said to be.
///
/// # Errors
/// The pool's, or that there is no such answer.
pub(crate) fn ask_for<T: DeserializeOwned>(pool: &UnixStream, question: &str) -> Result<T, Trouble> {
    let answer = ask_json(pool, question)?;
    let said = answer.get("version").and_then(|version| version.as_str()).map(str::to_owned);
    serde_json::from_value(serde_json::Value::Object(answer)).map_err(|error| {
        let ours = hatchery_protocol::VERSION;
        Trouble::Unread(match said {
            Some(pools) if pools != ours => {
                format!("the pool is of version {pools}, and this command of {ours}: start the pool anew ({error})")
            }
            _ => format!("the pool's answer can't be read: {error}"),
        })
    })
}

/// What a pool says to an order: data lines, or why it was not carried out with the data lines behind that.
fn hear(pool: &UnixStream) -> Result<Result<String, String>, String> {
    let mut text = String::new();
    for line in BufReader::new(pool.take(LONGEST_ANSWER)).lines() {
        let line = line.map_err(unfinished)?;
        match line.strip_prefix("  ") {
            Some(data) => {
                text.push_str(data);
                text.push('\n');
            }
            None if line == "ok" => return Ok(Ok(text)),
            None => {
                let why = line.strip_prefix("error: ").unwrap_or(&line);
                return Ok(Err(format!("{why}\n{text}").trim_end().to_owned()));
            }
        }
    }
    Err("the pool ended before it had answered".to_owned())
}

fn hear_line(pool: &UnixStream) -> Result<String, String> {
    let mut lines = BufReader::new(pool.take(LONGEST_ANSWER)).lines();
    lines.next().ok_or("the pool ended before it had answered")?.map_err(unfinished)
}

fn unfinished(error: std::io::Error) -> String {
    format!("the pool did not finish its answer: {error}")
}

/// The object in a line of JSON without its `ok`; inside, why it was refused.
fn object(line: &str) -> Result<Result<Object, String>, String> {
    let unread = |error| format!("the pool's answer is no JSON: {error}");
    let mut answer: Object = serde_json::from_str(line).map_err(unread)?;
    if answer.shift_remove("ok") != Some(true.into()) {
        let error =
            answer.get("error").and_then(|error| error.as_str()).unwrap_or("the pool refused, without a reason");
        return Ok(Err(error.to_owned()));
    }
    Ok(Ok(answer))
}

/// # Errors
/// It can't be said.
pub(crate) fn say(mut pool: &UnixStream, question: &str, until: Until) -> Result<(), String> {
    if question.len() > LONGEST_QUESTION {
        return Err(format!("what is said to a pool has at most {LONGEST_QUESTION} bytes; shorten it"));
    }
    let patience = match until {
        Until::Soon => Some(PATIENCE),
        Until::Verdict => None,
    };
    let asked = pool
        .set_read_timeout(patience)
        .and_then(|()| pool.set_write_timeout(Some(PATIENCE)))
        .and_then(|()| pool.write_all(format!("{question}\n").as_bytes()));
    asked.map_err(|error| format!("the pool can't be asked: {error}"))
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
        let trouble = |answer| ask_json(&pool(answer), "status").unwrap_err();
        assert_eq!(trouble("{\"ok\":false,\"error\":\"no\"}\n"), Trouble::Refused("no".to_owned()));
        assert!(matches!(trouble("nonsense\n"), Trouble::Unread(_)) && matches!(trouble(""), Trouble::Silent(_)));
    }

    #[test]
    fn an_answer_of_another_version_says_so() {
        let old = pool("{\"ok\":true,\"version\":\"0.0.1\"}\n");
        let Err(Trouble::Unread(why)) = ask_for::<hatchery_protocol::status::Status>(&old, "status") else {
            panic!("it has no apps")
        };
        assert!(why.contains("version 0.0.1") && why.contains(hatchery_protocol::VERSION), "{why}");
    }

    fn question(json: bool) -> Question {
        Question { line: "restart shop".to_owned(), until: Until::Verdict, json }
    }

    #[test]
    fn what_failed_is_a_sentence_and_its_report() {
        let failed =
            question(false).ask(&pool("  /srv/shop: it ended\n  Line 2 is at fault.\nerror: it can't be started\n"));
        let refusal = failed.unwrap().refusal.unwrap();
        assert_eq!(refusal, "it can't be started\n/srv/shop: it ended\nLine 2 is at fault.");
        assert_eq!(question(false).ask(&pool("ok\n")).unwrap(), Answer { text: String::new(), refusal: None });
    }

    #[test]
    fn json_is_passed_on_as_it_is_and_tells_a_refusal_too() {
        let line = "{\"ok\":false,\"error\":\"no\",\"report\":{\"problem\":\"it ended\"}}\n";
        let refused = question(true).ask(&pool(line)).unwrap();
        assert_eq!(refused, Answer { text: line.to_owned(), refusal: Some("no".to_owned()) });
        assert_eq!(question(true).ask(&pool("{\"ok\":true}\n")).unwrap().refusal, None);
        assert!(question(true).ask(&pool("")).unwrap_err().contains("ended"));
    }

    #[test]
    fn no_line_is_longer_than_the_pool_takes() {
        assert!(ask(&pool("ok\n"), &"x".repeat(5000)).unwrap_err().contains("at most 4095 bytes"));
    }
}
