//! What runs an app of a kind.

use super::files::Files;
use super::venv::{self, Venv};
use crate::folder::FolderError;
use crate::manifest::Kind;
use rustix::fs::Access;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Names of the program that runs PHP behind a web server.
const PHP: [&str; 9] = [
    "php-cgi",
    "php-cgi8.5",
    "php-cgi8.4",
    "php-cgi8.3",
    "php-cgi8.2",
    "php-cgi8.1",
    "php-cgi8.0",
    "php-cgi7.4",
    "php-cgi82",
];

/// What an app finds around it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Surroundings {
    /// The worker's `PATH`.
    pub(crate) path: Vec<u8>,
    /// The home of whom it runs as.
    pub(crate) home: PathBuf,
    /// What `VIRTUAL_ENV` was said to be.
    pub(crate) virtual_env: Option<PathBuf>,
}

/// What runs an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Interpreter {
    /// As it is executed: the program, and arguments for it.
    pub(crate) words: Vec<Vec<u8>>,
    /// Where the program is.
    pub(crate) found: PathBuf,
    /// The virtual environment that it is in.
    pub(crate) venv: Option<PathBuf>,
    /// How it was found.
    pub(crate) why: String,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum InterpreterError {
    #[error("{entry} needs {program}, and there is none on the PATH ({path})")]
    Missing { kind: Kind, entry: String, program: String, path: String },
    #[error("{entry} is to be run by {}, which {why}", program.display())]
    Unusable { entry: String, program: PathBuf, why: String },
    #[error("the virtual environment {} is broken: its {program} {why}", venv.display())]
    Venv { venv: PathBuf, program: String, why: String },
    #[error("{0}")]
    Folder(#[from] FolderError),
}

impl InterpreterError {
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Missing { kind, program, .. } => format!(
                "Install it ({}), or name one in hatchery.toml (`interpreter = \"/path/to/{program}\"`).",
                packages(*kind, program)
            ),
            Self::Unusable { .. } => "Correct `interpreter` in hatchery.toml, or remove it there.".into(),
            Self::Venv { venv, .. } => format!(
                "Make it anew (`python3 -m venv --clear {0}`, then install into it what the app needs), or remove it \
                 (`rm -r {0}`).",
                venv.display()
            ),
            Self::Folder(error) => error.remedy(),
        }
    }
}

/// How it is installed.
fn packages(kind: Kind, program: &str) -> String {
    match kind {
        Kind::Wsgi | Kind::Asgi | Kind::Rack => format!("`apt install {program}`, `dnf install {program}`"),
        Kind::Node => "`apt install nodejs`, `dnf install nodejs`".into(),
        Kind::Php => "`apt install php-cgi`, `dnf install php-cli`".into(),
    }
}

/// What runs an app of this kind with this entry; `said`: what its manifest says.
pub(crate) fn find(
    files: &Files,
    around: &Surroundings,
    kind: Kind,
    entry: &str,
    said: Option<&[String]>,
) -> Result<Interpreter, InterpreterError> {
    if let Some([program, arguments @ ..]) = said {
        let mut found = named(files, around, kind, entry, program)?;
        found.words.extend(arguments.iter().map(|word| word.clone().into_bytes()));
        return Ok(found);
    }
    match kind {
        Kind::Wsgi | Kind::Asgi => match venv::find(files, around)? {
            Some(venv) => {
                let has = |name: &str| venv.path.join("bin").join(name).symlink_metadata().is_ok();
                let name = if has("python3") { "python3" } else { "python" };
                in_venv(venv, name)
            }
            None => on_the_path(files, around, kind, entry, &["python3"]),
        },
        Kind::Rack => on_the_path(files, around, kind, entry, &["ruby"]),
        Kind::Node => on_the_path(files, around, kind, entry, &["node"]),
        Kind::Php => on_the_path(files, around, kind, entry, &PHP),
    }
}

fn named(
    files: &Files,
    around: &Surroundings,
    kind: Kind,
    entry: &str,
    program: &str,
) -> Result<Interpreter, InterpreterError> {
    let why = String::from("as `interpreter` says");
    if !program.contains('/') {
        // A name is that of a program of the app's own environment first, as it is for whoever has activated it.
        let own = match kind {
            Kind::Wsgi | Kind::Asgi => {
                venv::find(files, around)?.filter(|venv| usable(&venv.path.join("bin").join(program)))
            }
            Kind::Rack | Kind::Node | Kind::Php => None,
        };
        let found = match own {
            Some(venv) => in_venv(venv, program)?,
            None => on_the_path(files, around, kind, entry, &[program])?,
        };
        return Ok(Interpreter { why, ..found });
    }
    let found = files.path(program);
    if let Some(why) = unusable(&found) {
        return Err(InterpreterError::Unusable { entry: entry.into(), program: found, why });
    }
    let venv = venv::around(&found);
    Ok(Interpreter { words: vec![found.clone().into_os_string().into_vec()], found, venv, why })
}

fn in_venv(venv: Venv, name: &str) -> Result<Interpreter, InterpreterError> {
    let Venv { path, why } = venv;
    let found = path.join("bin").join(name);
    if let Some(why) = unusable(&found) {
        return Err(InterpreterError::Venv { venv: path, program: format!("bin/{name}"), why });
    }
    let words = vec![found.clone().into_os_string().into_vec()];
    Ok(Interpreter { words, found, venv: Some(path), why: format!("of the virtual environment {why}") })
}

fn on_the_path(
    files: &Files,
    around: &Surroundings,
    kind: Kind,
    entry: &str,
    names: &[&str],
) -> Result<Interpreter, InterpreterError> {
    let found = names.iter().find_map(|name| Some((*name, on_path(files, &around.path, name)?)));
    match found {
        Some((name, found)) => {
            Ok(Interpreter { words: vec![name.into()], venv: None, found, why: "the first on the PATH".into() })
        }
        None => Err(InterpreterError::Missing {
            kind,
            entry: entry.into(),
            program: names.first().copied().unwrap_or_default().into(),
            path: String::from_utf8_lossy(&around.path).into_owned(),
        }),
    }
}

/// Where a program is found that has no slash in its name.
pub(crate) fn on_path(files: &Files, path: &[u8], name: &str) -> Option<PathBuf> {
    let folders = path.split(|byte| *byte == b':').map(|folder| files.path(OsStr::from_bytes(folder)));
    folders.map(|folder| folder.join(name)).find(|program| usable(program))
}

fn usable(program: &Path) -> bool {
    unusable(program).is_none()
}

/// Why a program can't be executed by this process, completing a sentence that begins with it.
fn unusable(program: &Path) -> Option<String> {
    let leads = || match ends_at(program) {
        Some(target) => format!("leads to {}, which ", target.display()),
        None => String::new(),
    };
    let metadata = match program.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Some(format!("{}is not there", leads())),
        Err(error) => return Some(format!("{}can't be reached: {error}", leads())),
    };
    if !metadata.is_file() {
        Some("is no file".into())
    } else if rustix::fs::access(program, Access::EXEC_OK).is_err() {
        Some(format!("{}can't be executed by the app's user", leads()))
    } else {
        None
    }
}

/// The last place that a link leads to; `None`: it is no link.
fn ends_at(program: &Path) -> Option<PathBuf> {
    const MOST: usize = 40;
    let mut at = program.to_path_buf();
    for _ in 0..MOST {
        match at.read_link() {
            Ok(target) => at = at.parent().unwrap_or(Path::new("/")).join(target),
            Err(_) => break,
        }
    }
    (at != program).then_some(at)
}

impl Interpreter {
    /// What an app in its virtual environment finds set, with `path` as the rest of its `PATH`.
    pub(crate) fn env(&self, path: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Some(venv) = &self.venv else { return Vec::new() };
        let bin: OsString = venv.join("bin").into();
        vec![
            (venv::VARIABLE.into(), venv.clone().into_os_string().into_vec()),
            (b"PATH".to_vec(), [bin.as_bytes(), path].join(&b':')),
        ]
    }
}
