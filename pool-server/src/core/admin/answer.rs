//! What is answered: lines for a person, or one line of JSON.

use super::super::output::printable;
use super::super::shell::Refused;
use serde::Serialize;

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
    /// An object that was written already, in place of `json`.
    written: Option<String>,
}

impl Said {
    pub(super) fn new(lines: Vec<String>, json: Object) -> Self {
        Self { lines, json, written: None }
    }

    /// A value in the form that is wanted, and in that alone: the pool serves nobody meanwhile.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn of<T: Serialize>(
        form: Form,
        value: &T,
        lines: impl FnOnce(&T) -> Vec<String>,
    ) -> Result<Self, Failure> {
        match form {
            Form::Lines => Ok(Self { lines: lines(value), ..Self::default() }),
            Form::Json => match serde_json::to_string(value) {
                Ok(text) => Ok(Self { written: Some(text), ..Self::default() }),
                Err(error) => Err(format!("it can't be written as JSON: {error}").into()),
            },
        }
    }

    /// The same lines in both forms.
    pub(super) fn notes(lines: Vec<String>) -> Self {
        let json = match lines.as_slice() {
            [] => Object::new(),
            lines => member("notes", serde_json::json!(lines)),
        };
        Self::new(lines, json)
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
            (Self::Json, Ok(said)) => match said.written.as_deref().and_then(|text| text.strip_prefix('{')) {
                Some("}") => "{\"ok\":true}\n".to_owned(),
                Some(members) => format!("{{\"ok\":true,{members}\n"),
                None => object([("ok", true.into())], said.json) + "\n",
            },
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
