//! What is wrong with an operator's file, where, and what to do about it.

use super::tenants::NoTenant;
use std::fmt;
use std::path::{Path, PathBuf};

/// So many are told of one file; the first is often the cause of the rest.
const MOST: usize = 20;

/// A place in a file, both from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: usize,
    /// In characters.
    pub(crate) column: usize,
}

impl Position {
    /// Of the byte at `offset`.
    pub(super) fn of(text: &str, offset: usize) -> Self {
        let before = &text.as_bytes()[..offset.min(text.len())];
        let line_start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        Self { line, column: 1 + String::from_utf8_lossy(&before[line_start..]).chars().count() }
    }
}

/// Which part of the file a key stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// Outside of all.
    Top,
    Pool,
    Defaults,
    Tenant,
    App,
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Top => "the top of the file",
            Self::Pool => "[pool]",
            Self::Defaults => "[defaults]",
            Self::Tenant => "a [[tenant]]",
            Self::App => "an [[app]]",
        })
    }
}

/// Where a key belongs that stands elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Home {
    Pool,
    App,
    DefaultsOrApp,
    Manifest,
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pool => "[pool]",
            Self::App => "an [[app]]",
            Self::DefaultsOrApp => "[defaults] or an [[app]]",
            Self::Manifest => "the application's hatchery.toml",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Mistake {
    #[error("{0}")]
    Toml(String),
    #[error("unknown key `{key}`{}", instead(.near, *.home))]
    UnknownKey { key: String, near: Option<&'static str>, home: Table },
    #[error("`{key}` belongs into {home}, not into {found}")]
    Misplaced { key: String, home: Home, found: Table },
    #[error("`{key}` must be {expected}, and is {found}")]
    Type { key: String, expected: &'static str, found: &'static str },
    #[error("`{key}`: {why}")]
    Value { key: String, why: String },
    #[error("{0}")]
    Senseless(String),
    #[error("an [[app]] needs a `root`: the application's folder")]
    NoRoot,
    #[error("{root} does not exist; correct `root`, or take this [[app]] out")]
    NothingThere { root: PathBuf },
    #[error("a [[tenant]] needs a `name`")]
    NoTenantName,
    #[error("another [[tenant]] is called {name} already, in line {line}")]
    TakenTenant { name: String, line: usize },
    #[error("{0}")]
    Tenant(NoTenant),
    #[error("another [[app]] is served at {place} already, in line {line}; give one another `host` or `path`")]
    TakenPlace { place: String, line: usize },
    #[error("another [[app]] is called {name} already, in line {line}; give one another `name`")]
    TakenName { name: String, line: usize },
    #[error(
        "{root} is an application of this file since line {line}; its settings belong there, and here `host` and `path`"
    )]
    SettingsTwice { root: PathBuf, line: usize },
}

fn instead(near: &Option<&'static str>, home: Table) -> String {
    match (near, home) {
        (Some(near), Table::Top) => format!("; did you mean `{near}`?"),
        (Some(near), home) => format!("; did you mean `{near}`, in {home}?"),
        (None, _) => "; docs/configuration.md lists those that there are".to_owned(),
    }
}

/// A mistake in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) at: Position,
    pub(crate) what: Mistake,
}

/// What is wrong with one file: a line each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problems {
    file: PathBuf,
    unread: Option<String>,
    list: Vec<Problem>,
}

impl Problems {
    pub(super) fn new(file: &Path, mut list: Vec<Problem>) -> Self {
        list.sort_by_key(|problem| problem.at);
        Self { file: file.to_owned(), unread: None, list }
    }

    /// All of them, for programs: each with its line and column, both from 1, and null of a file that can't be read.
    pub(crate) fn json(&self) -> serde_json::Value {
        let unread = self.unread.iter().map(|why| serde_json::json!({ "line": null, "column": null, "problem": why }));
        let told = self.list.iter().map(|Problem { at, what }| {
            serde_json::json!({ "line": at.line, "column": at.column, "problem": what.to_string() })
        });
        serde_json::json!({ "ok": false, "problems": unread.chain(told).collect::<Vec<_>>() })
    }

    /// The file could not be read at all.
    pub(super) fn unread(file: &Path, why: String) -> Self {
        Self { file: file.to_owned(), unread: Some(why), list: Vec::new() }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        if let Some(why) = &self.unread {
            return write!(f, "{file}: {why}");
        }
        for (nth, Problem { at, what }) in self.list.iter().take(MOST).enumerate() {
            let newline = if nth == 0 { "" } else { "\n" };
            write!(f, "{newline}{file}:{}:{}: {what}", at.line, at.column)?;
        }
        match self.list.len().saturating_sub(MOST) {
            0 => Ok(()),
            more => write!(f, "\n{file}: and {more} more"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_lines_and_characters_from_one() {
        let text = "a\n\u{e4}b = 1\n";
        for (offset, line, column) in [(0, 1, 1), (1, 1, 2), (2, 2, 1), (4, 2, 2), (10, 3, 1), (99, 3, 1)] {
            assert_eq!(Position::of(text, offset), Position { line, column }, "{offset}");
        }
    }

    #[test]
    fn so_many_problems_are_told_and_the_rest_is_counted() {
        let one = |line| Problem { at: Position { line, column: 1 }, what: Mistake::NoRoot };
        let said = Problems::new(Path::new("pool.toml"), (1..=23).rev().map(one).collect()).to_string();
        assert_eq!(said.lines().count(), 21);
        assert!(said.starts_with("pool.toml:1:1: an [[app]]"), "{said}");
        assert!(said.ends_with("\npool.toml: and 3 more"), "{said}");
    }
}
