//! What can be wrong with a manifest, where, and what to do about it.

use super::{KEYS, KINDS, MAX_CONCURRENCY, NAME};
use crate::environment::NameError;
use hatchery_protocol::config::PoolOptions;
use hatchery_protocol::options::AppOptions;

/// Words of `pool.toml` beside its keys, and words that people try for them.
const OPERATORS_WORDS: [&str; 16] = [
    "app",
    "apps",
    "cpu",
    "defaults",
    "host",
    "max_cpu",
    "max_files",
    "max_preloaders",
    "max_processes",
    "memory",
    "name",
    "path",
    "pool",
    "quiet_period",
    "root",
    "watch",
];

/// Whether a word could be taken for an app owner's to say, and is the operator's.
pub(super) fn is_operators(word: &str) -> bool {
    PoolOptions::KEYS.iter().chain(AppOptions::KEYS).any(|key| key.name == word) || OPERATORS_WORDS.contains(&word)
}

/// A place in the file, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// What is wrong with a manifest, where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{NAME}, {at}: {what}")]
pub(crate) struct ManifestError {
    pub(crate) at: Position,
    pub(crate) what: Mistake,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mistake {
    #[error("{0}")]
    Toml(String),
    #[error("`{0}` is no key of this file")]
    UnknownKey(String),
    #[error("`{0}` belongs in pool.toml, the operator's file")]
    OperatorsKey(String),
    #[error("`{key}` must be {expected}, and is {found}")]
    Type { key: String, expected: &'static str, found: &'static str },
    #[error("`{value}` is no `{key}`")]
    Value { key: &'static str, value: String, allowed: &'static [&'static str] },
    #[error("`{0}` is empty")]
    Empty(&'static str),
    #[error("`{0}` has an opening quote without its end")]
    Quotes(&'static str),
    #[error("`{0}` contains a null byte")]
    Null(&'static str),
    #[error("`concurrency` must be between 0 and {MAX_CONCURRENCY}, and is {0}")]
    Concurrency(String),
    #[error("`env.{name}`: {error}")]
    Variable { name: String, error: NameError },
    #[error("`command` and `type` both say how the app is started")]
    CommandAndType,
    #[error("`{0}` means nothing without `type`")]
    WithoutType(&'static str),
    #[error("`{key}` can't be said of an app of `type = \"{kind}\"`")]
    SaidByType { key: &'static str, kind: &'static str },
    #[error("`preload` can't be said of an app of `type = \"{0}\"`")]
    NoPreload(&'static str),
}

impl Mistake {
    /// One sentence: what to do about it.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Toml(_) => "Correct that line; the file is TOML (https://toml.io).".into(),
            Self::UnknownKey(key) => match nearest(key, &KEYS) {
                Some(near) => format!("Did you mean `{near}`? The keys are {}.", list(&KEYS)),
                None => format!("Remove it; the keys are {}.", list(&KEYS)),
            },
            Self::OperatorsKey(key) => format!(
                "Remove `{key}` here; who runs the pool can set it for this app in pool.toml, or as an option of \
                 `hatchery serve`."
            ),
            Self::Type { key, .. } => format!("Write it like `{}`.", example(key)),
            Self::Value { key, value, allowed } => match nearest(value, allowed) {
                Some(near) => format!("Did you mean `{key} = \"{near}\"`? It can be {}.", list(allowed)),
                None => format!("Make it one of {}.", list(allowed)),
            },
            Self::Empty(key) => format!("Write it like `{}`.", example(key)),
            Self::Quotes(key) => format!("Close the quote, or write `{key}` as an array of strings."),
            Self::Null(_) => "Remove the `\\u0000`.".into(),
            Self::Concurrency(_) => "Say how many sessions one worker can have at once; 0 means no limit.".into(),
            Self::Variable { error: NameError::Reserved, .. } => {
                "Remove it; Hatchery tells the app its place to listen in PORT, LISTEN_* and HATCHERY_*.".into()
            }
            Self::Variable { .. } => "Give it a name and a value that an environment can hold.".into(),
            Self::CommandAndType => {
                "Keep `command` if the program serves by itself, or `type` if Hatchery is to load the app.".into()
            }
            Self::WithoutType("interpreter" | "entry") => format!(
                "Say the `type` too, which can be {}; a `command` names its program and file itself.",
                list(KINDS.names)
            ),
            Self::WithoutType(_) => "Say the `type` too, which can be `wsgi`, `asgi` or `rack`, or remove it.".into(),
            Self::SaidByType { .. } => "Remove it: the type says it.".into(),
            Self::NoPreload(_) => "Remove it; apps of type `wsgi`, `asgi` and `rack` can be preloaded.".into(),
        }
    }
}

fn example(key: &str) -> &'static str {
    match key {
        "command" => "command = [\"python3\", \"server.py\"]",
        "type" => "type = \"wsgi\"",
        "entry" => "entry = \"shop.wsgi:application\"",
        "interpreter" => "interpreter = \"python3.12\"",
        "preload" => "preload = false",
        "protocol" => "protocol = \"http\"",
        "listen" => "listen = \"fd\"",
        "ready" => "ready = \"probe\"",
        "concurrency" => "concurrency = 1",
        _ => "[env]` with lines like `NAME = \"value\"",
    }
}

fn list(words: &[&str]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

fn nearest<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    const FAR: usize = 3;
    let distance = |other: &str| strsim::damerau_levenshtein(&word.to_lowercase(), other);
    words.iter().copied().filter(|other| distance(other) < FAR.min(other.len())).min_by_key(|other| distance(other))
}
