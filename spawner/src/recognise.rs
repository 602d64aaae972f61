//! How an app is started that does not say it in a `hatchery.toml`: by what lies in its folder. Nothing is executed.
//! Runs in an errand: any call here may hang.
//!
//! | file | recognises |
//! | --- | --- |
//! | `procfile` | a `Procfile` with a `web:` line |
//! | `rack` | `config.ru` |
//! | `python`, `source` | Django, and what has an `application` or `app`; reading Python's top level |
//! | `node`, `words` | `package.json`, `server.js` and the like; command lines of others |
//! | `php` | an `index.php` |
//! | `executable` | a program |
//!
//! | file | holds |
//! | --- | --- |
//! | `files` | looking at the files of a folder, within bounds |
//! | `interpreter`, `venv` | what runs an app of a kind: on the `PATH`, in a virtual environment |

mod executable;
mod files;
mod interpreter;
mod node;
mod php;
mod procfile;
mod python;
mod rack;
mod source;
#[cfg(test)]
mod tests;
mod venv;
mod words;

pub(crate) use files::{Files, owner};
pub(crate) use interpreter::{Interpreter, InterpreterError, Surroundings, find as interpreter, on_path};

use crate::folder::FolderError;
use crate::manifest::{Kind, Manifest};

/// Something in a folder that says how the app is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sign {
    /// As a manifest would say it.
    pub(crate) start: Manifest,
    /// What it is, such as `Django`.
    pub(crate) what: &'static str,
    /// Relative to the folder.
    pub(crate) file: String,
    pub(crate) line: Option<usize>,
    /// Completes the sentence "the file …".
    pub(crate) why: String,
    /// It may be something else: it holds only for a folder that somebody has named as an app's.
    pub(crate) guess: bool,
}

/// What was found in a folder.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The first is the one that holds.
    pub(crate) signs: Vec<Sign>,
    /// What is strange about a sign.
    pub(crate) warnings: Vec<String>,
    /// What looks like a sign, and is none.
    pub(crate) hints: Vec<String>,
}

type Result<T, E = FolderError> = std::result::Result<T, E>;

/// What looks for one kind of sign.
type Look = fn(&mut Search<'_>) -> Result<Option<Sign>>;

/// In this order; the first that finds something says how the app is started.
const LOOKS: [Look; 10] = [
    procfile::look,
    rack::look,
    python::django,
    python::files,
    python::package,
    node::package_json,
    node::files,
    php::look,
    executable::look,
    executable::only,
];

/// What was looked for, for whoever has none of it.
pub(crate) const LOOKED_FOR: &str = "a Procfile with a `web:` line, config.ru, manage.py (Django), passenger_wsgi.py, \
     wsgi.py, asgi.py, app.py or main.py with an `application` or `app`, a package with a wsgi.py, package.json with a \
     `start` script or `main`, server.js, app.js or index.js, index.php in the folder, in public or in web, and an \
     executable file";

/// A search of one folder.
#[derive(Debug)]
struct Search<'a> {
    files: &'a Files,
    warnings: Vec<String>,
    hints: Vec<String>,
}

/// What in the folder says how its app is started; as far as it is needed to know, or `all` of it.
pub(crate) fn recognise(files: &Files, all: bool) -> Result<Found> {
    let mut search = Search { files, warnings: Vec::new(), hints: Vec::new() };
    let mut signs: Vec<Sign> = Vec::new();
    for look in LOOKS {
        let Some(sign) = look(&mut search)? else { continue };
        // Two ways to the same start are one.
        if signs.iter().all(|known| known.start != sign.start) {
            signs.push(sign);
        }
        if !all {
            break;
        }
    }
    Ok(Found { signs, warnings: search.warnings, hints: search.hints })
}

/// The first sign of an app of this kind.
pub(crate) fn of_kind(files: &Files, kind: Kind) -> Result<Option<Sign>> {
    let found = recognise(files, true)?;
    Ok(found.signs.into_iter().find(|sign| sign.start.kind == Some(kind)))
}

/// What a short file says; `None`: it is not there, or says nothing.
pub(crate) fn first_line(files: &Files, name: &str) -> Option<String> {
    const LONGEST: usize = 40;
    let text = files.read(name).ok()??.text;
    let line = text.lines().next()?.trim();
    let printable: String = line.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    Some(printable).filter(|line| !line.is_empty())
}

impl Manifest {
    fn of_kind(kind: Kind, entry: impl Into<String>) -> Self {
        Self { kind: Some(kind), entry: Some(entry.into()), ..Self::default() }
    }
}
