//! What is answered: lines for a person, or one line of JSON.

use super::super::output::printable;
use super::super::shell::Refused;

/// How an answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Data lines indented by two spaces, then `ok` or `error: …`.
    Lines,
    /// One object, with `ok` first.
    Json,
}

pub(super) type Object = serde_json::Map<String, serde_json::Value>;

/// One answer in both forms.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) lines: Vec<String>,
    /// Without `ok`.
    pub(super) json: Object,
}

impl Said {
    /// The same lines in both forms.
    pub(super) fn notes(lines: Vec<String>) -> Self {
        let json = match lines.as_slice() {
            [] => Object::new(),
            lines => member("notes", serde_json::json!(lines)),
        };
        Self { lines, json }
    }
}

/// Why a command was not obeyed: one line, and what more there is to say of it in both forms.
#[derive(Debug, Default)]
pub(super) struct Failure {
    pub(super) why: String,
    pub(super) details: Vec<String>,
    pub(super) json: Object,
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

impl From<Refused> for Failure {
    fn from(Refused { refusal, report }: Refused) -> Self {
        let Some(report) = report else { return refusal.to_string().into() };
        Self {
            why: format!("{refusal}: {}", printable(&report.problem)),
            details: text_lines(&report.to_string()),
            json: member("report", serde_json::json!(*report)),
        }
    }
}

impl Form {
    /// The whole answer.
    pub(super) fn write(self, answer: Result<Said, Failure>) -> String {
        match (self, answer) {
            (Self::Lines, Ok(said)) => data(&said.lines) + "ok\n",
            (Self::Lines, Err(failure)) => data(&failure.details) + &format!("error: {}\n", failure.why),
            (Self::Json, Ok(said)) => object([("ok", true.into())], said.json) + "\n",
            (Self::Json, Err(failure)) => {
                object([("ok", false.into()), ("error", failure.why.into())], failure.json) + "\n"
            }
        }
    }
}

/// Data lines.
pub(super) fn data(lines: &[String]) -> String {
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// An object of one member.
pub(super) fn member(key: &str, value: serde_json::Value) -> Object {
    Object::from_iter([(key.to_owned(), value)])
}

/// One line, in this order.
fn object<const N: usize>(first: [(&str, serde_json::Value); N], rest: Object) -> String {
    let first = first.into_iter().map(|(key, value)| (key.to_owned(), value));
    let members = first.chain(rest).map(|(key, value)| format!("{}:{value}", serde_json::Value::from(key)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

/// A text of several lines, none of which commands a terminal.
pub(super) fn text_lines(text: &str) -> Vec<String> {
    text.lines().map(printable).collect()
}
