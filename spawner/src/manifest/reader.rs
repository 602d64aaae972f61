//! From the text of a manifest to what it says.

use super::mistake::{ManifestError, Mistake, Position, is_operators};
use super::{KINDS, LISTENS, MAX_CONCURRENCY, Manifest, PROTOCOLS, READYS, Words};
use crate::environment;
use std::collections::HashMap;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Reads a manifest.
pub(crate) fn parse(text: &str) -> Result<Manifest, ManifestError> {
    Reader { text }.read()
}

struct Reader<'a> {
    text: &'a str,
}

type Result<T, E = ManifestError> = std::result::Result<T, E>;

/// Where each key stands.
type Places = HashMap<String, Range<usize>>;

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
        let mut places = Places::new();
        for (key, value) in entries {
            self.entry(&mut manifest, key.get_ref(), &key.span(), value)?;
            places.insert(key.get_ref().to_string(), key.span());
        }
        self.together(&manifest, &places)?;
        Ok(manifest)
    }

    fn entry(&self, manifest: &mut Manifest, key: &str, at: &Range<usize>, value: &Spanned<DeValue<'_>>) -> Result<()> {
        match key {
            "command" => manifest.command = Some(self.words("command", value)?),
            "type" => manifest.kind = Some(self.word("type", value, &KINDS)?),
            "entry" => manifest.entry = Some(self.text("entry", value)?),
            "interpreter" => manifest.interpreter = Some(self.words("interpreter", value)?),
            "preload" => manifest.preload = Some(self.switch("preload", value)?),
            "protocol" => manifest.protocol = Some(self.word("protocol", value, &PROTOCOLS)?),
            "listen" => manifest.listen = Some(self.word("listen", value, &LISTENS)?),
            "ready" => manifest.ready = Some(self.word("ready", value, &READYS)?),
            "concurrency" => manifest.concurrency = Some(self.concurrency(value)?),
            "env" => manifest.env = self.env(value)?,
            key if is_operators(key) => return Err(self.mistake(at, Mistake::OperatorsKey(key.into()))),
            key => return Err(self.mistake(at, Mistake::UnknownKey(key.into()))),
        }
        Ok(())
    }

    /// What the keys mean for each other.
    fn together(&self, manifest: &Manifest, places: &Places) -> Result<()> {
        let place = |key: &str| places.get(key);
        if let (Some(command), Some(kind)) = (place("command"), place("type")) {
            let later = if command.start > kind.start { command } else { kind };
            return Err(self.mistake(later, Mistake::CommandAndType));
        }
        let Some(kind) = manifest.kind else {
            return match ["entry", "interpreter", "preload"].into_iter().find_map(|key| Some((key, place(key)?))) {
                Some((key, at)) => Err(self.mistake(at, Mistake::WithoutType(key))),
                None => Ok(()),
            };
        };
        if let Some((key, at)) = ["protocol", "listen"].into_iter().find_map(|key| Some((key, place(key)?))) {
            return Err(self.mistake(at, Mistake::SaidByType { key, kind: kind.name() }));
        }
        match place("preload") {
            Some(at) if !kind.can_preload() => Err(self.mistake(at, Mistake::NoPreload(kind.name()))),
            Some(_) | None => Ok(()),
        }
    }

    /// A program and its arguments.
    fn words(&self, key: &'static str, value: &Spanned<DeValue<'_>>) -> Result<Vec<String>> {
        let at = &value.span();
        let words = match value.get_ref() {
            DeValue::String(line) => shell_words::split(line).map_err(|_| self.mistake(at, Mistake::Quotes(key)))?,
            DeValue::Array(words) => words
                .iter()
                .map(|word| match word.get_ref() {
                    DeValue::String(word) => Ok(word.to_string()),
                    other => Err(self.wrong_type(key, "an array of strings", other, &word.span())),
                })
                .collect::<Result<_>>()?,
            other => return Err(self.wrong_type(key, "a string or an array of strings", other, at)),
        };
        if words.first().is_none_or(String::is_empty) {
            return Err(self.mistake(at, Mistake::Empty(key)));
        }
        if words.iter().any(|word| word.contains('\0')) {
            return Err(self.mistake(at, Mistake::Null(key)));
        }
        Ok(words)
    }

    fn text(&self, key: &'static str, value: &Spanned<DeValue<'_>>) -> Result<String> {
        let at = &value.span();
        match value.get_ref() {
            DeValue::String(text) if text.is_empty() => Err(self.mistake(at, Mistake::Empty(key))),
            DeValue::String(text) if text.contains('\0') => Err(self.mistake(at, Mistake::Null(key))),
            DeValue::String(text) => Ok(text.to_string()),
            other => Err(self.wrong_type(key, "a string", other, at)),
        }
    }

    fn switch(&self, key: &'static str, value: &Spanned<DeValue<'_>>) -> Result<bool> {
        match value.get_ref() {
            DeValue::Boolean(switch) => Ok(*switch),
            other => Err(self.wrong_type(key, "`true` or `false`", other, &value.span())),
        }
    }

    fn word<T: Copy + PartialEq>(
        &self,
        key: &'static str,
        value: &Spanned<DeValue<'_>>,
        words: &'static Words<T>,
    ) -> Result<T> {
        let at = &value.span();
        let DeValue::String(word) = value.get_ref() else {
            return Err(self.wrong_type(key, "a string", value.get_ref(), at));
        };
        let unknown = || Mistake::Value { key, value: word.to_string(), allowed: words.names };
        words.value(word).ok_or_else(|| self.mistake(at, unknown()))
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
