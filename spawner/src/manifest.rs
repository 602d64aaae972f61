//! `hatchery.toml`: how the owner of an app says it is started. Nothing in it makes an app more powerful.

use crate::environment::{self, NameError};
use hatchery_protocol::client::SessionProtocol;
use hatchery_protocol::config::PoolOptions;
use hatchery_protocol::link::{Listen, ReadyBy};
use hatchery_protocol::options::AppOptions;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// The file's name in the app root.
pub(crate) const NAME: &str = "hatchery.toml";
/// The longest that is read, in bytes.
pub(crate) const MAX_LEN: usize = 64 * 1024;
/// More sessions at once than any worker can have.
const MAX_CONCURRENCY: u32 = 100_000;

const KEYS: [&str; 8] = ["command", "protocol", "listen", "ready", "concurrency", "env", "type", "entry"];

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
fn is_operators(word: &str) -> bool {
    PoolOptions::KEYS.iter().chain(AppOptions::KEYS).any(|key| key.name == word) || OPERATORS_WORDS.contains(&word)
}

/// What a manifest says; `None` and empty: nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) command: Option<Vec<String>>,
    pub(crate) protocol: Option<SessionProtocol>,
    pub(crate) listen: Option<Listen>,
    pub(crate) ready: Option<ReadyBy>,
    pub(crate) concurrency: Option<u32>,
    pub(crate) env: Vec<(String, String)>,
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
    #[error("`{0}` is not supported: this version starts apps by `command`")]
    NotYet(String),
    #[error("`{key}` must be {expected}, and is {found}")]
    Type { key: String, expected: &'static str, found: &'static str },
    #[error("`{value}` is no `{key}`")]
    Value { key: &'static str, value: String, allowed: &'static [&'static str] },
    #[error("`command` is empty")]
    EmptyCommand,
    #[error("`command` has an opening quote without its end")]
    Quotes,
    #[error("`{0}` contains a null byte")]
    Null(String),
    #[error("`concurrency` must be between 0 and {MAX_CONCURRENCY}, and is {0}")]
    Concurrency(String),
    #[error("`env.{name}`: {error}")]
    Variable { name: String, error: NameError },
}

impl Mistake {
    /// One sentence: what to do about it.
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Toml(_) => "Correct that line; the file is TOML (https://toml.io).".into(),
            Self::UnknownKey(key) => match nearest(key, &KEYS[..6]) {
                Some(near) => format!("Did you mean `{near}`? The keys are {}.", list(&KEYS[..6])),
                None => format!("Remove it; the keys are {}.", list(&KEYS[..6])),
            },
            Self::OperatorsKey(key) => format!(
                "Remove `{key}` here; who runs the pool can set it for this app in pool.toml, or as an option of \
                 `hatchery serve`."
            ),
            Self::NotYet(_) => "Say `command = [\"program\", \"argument\"]` instead: the program and arguments that \
                                start the app."
                .into(),
            Self::Type { key, .. } => format!("Write it like `{}`.", example(key)),
            Self::Value { key, value, allowed } => match nearest(value, allowed) {
                Some(near) => format!("Did you mean `{key} = \"{near}\"`? It can be {}.", list(allowed)),
                None => format!("Make it one of {}.", list(allowed)),
            },
            Self::EmptyCommand => format!("Write it like `{}`.", example("command")),
            Self::Quotes => "Close the quote, or write `command` as an array of strings.".into(),
            Self::Null(_) => "Remove the `\\u0000`.".into(),
            Self::Concurrency(_) => "Say how many sessions one worker can have at once; 0 means no limit.".into(),
            Self::Variable { error: NameError::Reserved, .. } => {
                "Remove it; Hatchery tells the app its place to listen in PORT, LISTEN_* and HATCHERY_*.".into()
            }
            Self::Variable { .. } => "Give it a name and a value that an environment can hold.".into(),
        }
    }
}

fn example(key: &str) -> &'static str {
    match key {
        "command" => "command = [\"python3\", \"server.py\"]",
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

/// Reads a manifest.
pub(crate) fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Reader { text }.read()
}

struct Reader<'a> {
    text: &'a str,
}

type Result<T, E = ManifestError> = std::result::Result<T, E>;

impl Reader<'_> {
    fn read(&self) -> Result<Manifest> {
        let table = DeTable::parse(self.text).map_err(|error| {
            let at = error.span().unwrap_or(0..0);
            self.mistake(&at, Mistake::Toml(error.message().lines().collect::<Vec<_>>().join(", ")))
        })?;
        let mut manifest = Manifest::default();
        // In the order of the file, so that the first mistake in it is the one that is told.
        let mut entries: Vec<_> = table.get_ref().iter().collect();
        entries.sort_by_key(|(key, _)| key.span().start);
        for (key, value) in entries {
            self.entry(&mut manifest, key.get_ref(), &key.span(), value)?;
        }
        Ok(manifest)
    }

    fn entry(&self, manifest: &mut Manifest, key: &str, at: &Range<usize>, value: &Spanned<DeValue<'_>>) -> Result<()> {
        match key {
            "command" => manifest.command = Some(self.command(value)?),
            "protocol" => manifest.protocol = Some(self.word("protocol", value, &PROTOCOLS)?),
            "listen" => manifest.listen = Some(self.word("listen", value, &LISTENS)?),
            "ready" => manifest.ready = Some(self.word("ready", value, &READYS)?),
            "concurrency" => manifest.concurrency = Some(self.concurrency(value)?),
            "env" => manifest.env = self.env(value)?,
            "type" | "entry" => return Err(self.mistake(at, Mistake::NotYet(key.into()))),
            key if is_operators(key) => return Err(self.mistake(at, Mistake::OperatorsKey(key.into()))),
            key => return Err(self.mistake(at, Mistake::UnknownKey(key.into()))),
        }
        Ok(())
    }

    fn command(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>> {
        let at = &value.span();
        let command = match value.get_ref() {
            DeValue::String(line) => shell_words::split(line).map_err(|_| self.mistake(at, Mistake::Quotes))?,
            DeValue::Array(words) => words
                .iter()
                .map(|word| match word.get_ref() {
                    DeValue::String(word) => Ok(word.to_string()),
                    other => Err(self.wrong_type("command", "an array of strings", other, &word.span())),
                })
                .collect::<Result<_>>()?,
            other => return Err(self.wrong_type("command", "a string or an array of strings", other, at)),
        };
        if command.first().is_none_or(String::is_empty) {
            return Err(self.mistake(at, Mistake::EmptyCommand));
        }
        if command.iter().any(|word| word.contains('\0')) {
            return Err(self.mistake(at, Mistake::Null("command".into())));
        }
        Ok(command)
    }

    fn word<T: Copy>(&self, key: &'static str, value: &Spanned<DeValue<'_>>, words: &'static Words<T>) -> Result<T> {
        let at = &value.span();
        let DeValue::String(word) = value.get_ref() else {
            return Err(self.wrong_type(key, "a string", value.get_ref(), at));
        };
        match words.names.iter().position(|name| *name == word.as_ref()) {
            Some(index) => Ok(words.values[index]),
            None => Err(self.mistake(at, Mistake::Value { key, value: word.to_string(), allowed: words.names })),
        }
    }

    fn concurrency(&self, value: &Spanned<DeValue<'_>>) -> Result<u32> {
        let at = &value.span();
        let DeValue::Integer(integer) = value.get_ref() else {
            return Err(self.wrong_type("concurrency", "an integer", value.get_ref(), at));
        };
        u32::from_str_radix(integer.as_str(), integer.radix())
            .ok()
            .filter(|concurrency| *concurrency <= MAX_CONCURRENCY)
            .ok_or_else(|| self.mistake(at, Mistake::Concurrency(integer.to_string())))
    }

    fn env(&self, value: &Spanned<DeValue<'_>>) -> Result<Vec<(String, String)>> {
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.wrong_type("env", "a table of strings", value.get_ref(), &value.span()));
        };
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        entries
            .into_iter()
            .map(|(name, value)| {
                let DeValue::String(text) = value.get_ref() else {
                    let key = format!("env.{}", name.get_ref());
                    return Err(self.wrong_type(&key, "a string", value.get_ref(), &value.span()));
                };
                environment::check(name.get_ref().as_bytes(), text.as_bytes()).map_err(|error| {
                    self.mistake(&name.span(), Mistake::Variable { name: name.get_ref().to_string(), error })
                })?;
                Ok((name.get_ref().to_string(), text.to_string()))
            })
            .collect()
    }

    fn wrong_type(&self, key: &str, expected: &'static str, found: &DeValue<'_>, at: &Range<usize>) -> ManifestError {
        let found = match found {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.mistake(at, Mistake::Type { key: key.into(), expected, found })
    }

    fn mistake(&self, at: &Range<usize>, what: Mistake) -> ManifestError {
        let before = &self.text.as_bytes()[..at.start.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let column = String::from_utf8_lossy(&before[line_start..]).chars().count() + 1;
        ManifestError { at: Position { line, column }, what }
    }
}

/// The words that a key can be, and what they mean.
struct Words<T: 'static> {
    names: &'static [&'static str],
    values: &'static [T],
}

static PROTOCOLS: Words<SessionProtocol> = Words {
    names: &["http", "fastcgi", "session"],
    values: &[SessionProtocol::Http, SessionProtocol::Fastcgi, SessionProtocol::Session],
};
static LISTENS: Words<Listen> = Words {
    names: &["fd", "stdin", "port", "socket"],
    values: &[Listen::Fd, Listen::Stdin, Listen::Port, Listen::Socket],
};
static READYS: Words<ReadyBy> = Words { names: &["probe", "notify"], values: &[ReadyBy::Probe, ReadyBy::Notify] };

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(text: &str) -> (String, String) {
        let error = parse(text).unwrap_err();
        (error.to_string(), error.what.remedy())
    }

    #[test]
    fn a_manifest_can_say_everything() {
        let manifest = parse(
            "command = [\"python3\", \"a b.py\"]\nprotocol = \"session\"\nlisten = \"stdin\"\nready = \"notify\"\n\
             concurrency = 0\n[env]\nB = \"2\"\nA = \"1\"\n",
        )
        .unwrap();
        assert_eq!(manifest.command.unwrap(), ["python3", "a b.py"]);
        assert_eq!(manifest.protocol, Some(SessionProtocol::Session));
        assert_eq!(manifest.listen, Some(Listen::Stdin));
        assert_eq!(manifest.ready, Some(ReadyBy::Notify));
        assert_eq!(manifest.concurrency, Some(0));
        assert_eq!(manifest.env, [("B".into(), "2".into()), ("A".into(), "1".into())]);
        assert_eq!(parse("").unwrap(), Manifest::default());
    }

    #[test]
    fn a_command_in_one_string_is_split_like_a_shell_does() {
        let manifest = parse("command = \"node 'my server.js' --flag=\\\"x y\\\" $HOME\"").unwrap();
        assert_eq!(manifest.command.unwrap(), ["node", "my server.js", "--flag=x y", "$HOME"]);
    }

    #[test]
    fn an_unknown_key_is_told_with_its_place_and_the_nearest_key() {
        let (problem, remedy) = mistake("# hello\n\n  comand = \"x\"\n");
        assert_eq!(problem, "hatchery.toml, line 3, column 3: `comand` is no key of this file");
        assert!(remedy.starts_with("Did you mean `command`?"), "{remedy}");
        let (_, remedy) = mistake("frobnicate = 1");
        assert!(remedy.starts_with("Remove it; the keys are `command`, "), "{remedy}");
    }

    #[test]
    fn the_operators_keys_are_refused_with_that_files_name() {
        for key in [
            "max",
            "user",
            "group",
            "max_idle",
            "host",
            "path",
            "root",
            "min",
            "memory",
            "memory_max",
            "limit_as",
            "nice",
        ] {
            let (problem, _) = mistake(&format!("command = \"x\"\n{key} = 1"));
            let expected =
                format!("hatchery.toml, line 2, column 1: `{key}` belongs in pool.toml, the operator's file");
            assert_eq!(problem, expected);
        }
    }

    #[test]
    fn what_this_version_lacks_is_said() {
        let (problem, remedy) = mistake("type = \"wsgi\"");
        assert_eq!(
            problem,
            "hatchery.toml, line 1, column 1: `type` is not supported: this version starts apps by `command`"
        );
        assert!(remedy.contains("command = ["), "{remedy}");
        assert!(mistake("entry = \"shop.wsgi:application\"").0.contains("`entry` is not supported"));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (text, problem) in [
            ("command = 3", "line 1, column 11: `command` must be a string or an array of strings, and is an integer"),
            ("command = [\"a\", 1]", "line 1, column 17: `command` must be an array of strings, and is an integer"),
            ("command = []", "line 1, column 11: `command` is empty"),
            ("command = \"\"", "line 1, column 11: `command` is empty"),
            ("command = [\"\", \"x\"]", "line 1, column 11: `command` is empty"),
            ("command = \"a 'b\"", "line 1, column 11: `command` has an opening quote without its end"),
            ("command = \"a\\u0000\"", "line 1, column 11: `command` contains a null byte"),
            ("protocol = \"htpp\"", "line 1, column 12: `htpp` is no `protocol`"),
            ("listen = 3", "line 1, column 10: `listen` must be a string, and is an integer"),
            ("ready = true", "line 1, column 9: `ready` must be a string, and is a boolean"),
            ("concurrency = \"1\"", "line 1, column 15: `concurrency` must be an integer, and is a string"),
            ("concurrency = 1.5", "line 1, column 15: `concurrency` must be an integer, and is a float"),
            ("concurrency = -1", "line 1, column 15: `concurrency` must be between 0 and 100000, and is -1"),
            ("concurrency = 100001", "line 1, column 15: `concurrency` must be between 0 and 100000, and is 100001"),
            ("env = []", "line 1, column 7: `env` must be a table of strings, and is an array"),
            ("[env]\nA = 1", "line 2, column 5: `env.A` must be a string, and is an integer"),
            ("[env]\nPORT = \"1\"", "line 2, column 1: `env.PORT`: the environment variable is Hatchery's own to set"),
            (
                "[env]\n\"A=B\" = \"1\"",
                "line 2, column 1: `env.A=B`: the name of an environment variable contains `=` or a null byte",
            ),
            ("[env]\n\"\" = \"1\"", "line 2, column 1: `env.`: an environment variable has an empty name"),
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("hatchery.toml, {problem}"), "{text}");
            assert!(!error.what.remedy().is_empty());
        }
    }

    #[test]
    fn broken_toml_is_told_with_its_line() {
        let (problem, _) = mistake("command = \"x\"\nprotocol = \n");
        assert!(problem.starts_with("hatchery.toml, line 2, column "), "{problem}");
        assert!(mistake("command = 1\ncommand = 2").0.contains("duplicate key"));
        assert!(!mistake("\u{0}").0.is_empty());
    }
}
