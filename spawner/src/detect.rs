//! How a folder would be started, for whoever wants to know it before: `hatchery detect`, and `hatchery serve` for its
//! first line. It looks as whoever runs it, not as whom the app would run as.

use crate::environment;
use crate::folder::{self, FolderError, Root};
use crate::inspect;
use crate::manifest::{self, Kind, Manifest};
use crate::recognise::{self, Files, Surroundings};
use crate::secrets;
use crate::start::{self, Start, StartError};
use hatchery_protocol::link::{Listen, Program};
use hatchery_protocol::options::AppOptions;
use std::path::{Path, PathBuf};

/// Something in a folder that says how its app is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sign {
    /// What it is, such as `Django`.
    pub what: String,
    /// Relative to the folder.
    pub file: String,
    pub line: Option<usize>,
    /// Completes a sentence that begins with the file.
    pub why: String,
    /// How it would be started, in a few words.
    pub how: String,
    /// It holds only for a folder that somebody has named as an app's.
    pub guess: bool,
}

/// What runs an app, if that is not a part of its command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    pub path: PathBuf,
    /// How it was found.
    pub why: String,
}

/// How a folder would be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detected {
    /// What its path resolves to.
    pub folder: PathBuf,
    pub sign: Sign,
    /// Of what else there is.
    pub also: Vec<Sign>,
    /// The `type` that a `hatchery.toml` would say; `None`: a `command`.
    pub kind: Option<&'static str>,
    /// `entry`, where there is a type.
    pub entry: Option<String>,
    /// The words of the command, where there is none.
    pub command: Vec<String>,
    /// `fd`, `stdin`, `port` or `socket`.
    pub listen: &'static str,
    /// `http`, `fastcgi` or `session`.
    pub protocol: &'static str,
    /// `None`: the command names its program itself.
    pub interpreter: Option<Interpreter>,
    pub warnings: Vec<String>,
    /// The text of a `hatchery.toml` that says the same.
    pub manifest: String,
}

/// A folder that can't be started as it is.
#[derive(Debug, thiserror::Error)]
#[error("{problem}")]
pub struct Undetected {
    /// One sentence.
    pub problem: String,
    /// What to do about it; several lines where it shows a file.
    pub remedy: String,
    /// Nothing is there that says how it is started.
    pub nothing: bool,
    /// How it is to be started, where that is known.
    pub known: Option<Box<Known>>,
}

/// How a folder is to be started, though it can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub sign: Sign,
    /// The text of a `hatchery.toml` that says the same.
    pub manifest: String,
}

impl Undetected {
    fn of(error: &StartError) -> Self {
        let nothing = matches!(error, StartError::Nothing { .. });
        Self { problem: error.to_string(), remedy: error.remedy(), nothing, known: None }
    }
}

impl From<FolderError> for Undetected {
    fn from(error: FolderError) -> Self {
        Self::of(&error.into())
    }
}

impl From<StartError> for Undetected {
    fn from(error: StartError) -> Self {
        Self::of(&error)
    }
}

/// Looks into `path`, which is absolute.
///
/// # Errors
/// [`Undetected`]
pub fn detect(path: &Path) -> Result<Detected, Undetected> {
    let folder = match folder::resolve(path, None)? {
        Root::Folder(folder) => folder,
        Root::Program(program) => return Ok(of_program(program)),
    };
    let own = folder::manifest(&folder, None)?.unwrap_or_default();
    let files = Files::of(&folder);
    let inherited = environment::inherited(std::env::vars_os());
    let around = inspect::surroundings(&inherited, &own, &AppOptions::default(), None);
    let found = recognise::recognise(&files, true).map_err(StartError::from)?;
    let says_start = own.starts();
    let (manifest, chosen) = start::completed(&files, own, None)?;
    let is_chosen = |sign: &recognise::Sign| !says_start && chosen.as_ref().is_some_and(|one| one.start == sign.start);
    let also = found.signs.iter().filter(|sign| !is_chosen(sign)).map(Sign::of).collect();
    let sign = match &chosen {
        Some(sign) => Sign { how: how(&manifest), ..Sign::of(sign) },
        None => Sign::own(&manifest),
    };
    let text = manifest::written(&manifest);
    let start = start::of(&files, &around, &manifest, None).map_err(|error| Undetected {
        known: Some(Box::new(Known { sign: sign.clone(), manifest: text.clone() })),
        ..Undetected::of(&error)
    })?;
    let mut warnings = if says_start { Vec::new() } else { found.warnings };
    warnings.extend(missing(&files, &around, &start));
    warnings.extend(other_ruby(&files, &manifest));
    Ok(Detected {
        sign,
        also,
        kind: manifest.kind.map(Kind::name),
        entry: entry(&start, &manifest),
        command: manifest.command.clone().unwrap_or_default(),
        listen: manifest::listen_name(start.listen),
        protocol: manifest::protocol_name(start.protocol),
        interpreter: start.interpreter.map(|found| Interpreter { path: found.found, why: found.why }),
        warnings,
        manifest: text,
        folder,
    })
}

fn of_program(program: PathBuf) -> Detected {
    let shown = program.display().to_string();
    let folder = program.parent().unwrap_or(Path::new("/")).to_path_buf();
    let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let manifest = Manifest { command: Some(vec![shown.clone()]), ..Manifest::default() };
    Detected {
        sign: Sign {
            what: "a program".into(),
            file: name,
            line: None,
            why: "is an executable file".into(),
            how: "a program".into(),
            guess: false,
        },
        also: Vec::new(),
        kind: None,
        entry: None,
        command: vec![shown],
        listen: manifest::listen_name(Listen::Fd),
        protocol: "http",
        interpreter: None,
        warnings: Vec::new(),
        manifest: manifest::written(&manifest),
        folder,
    }
}

impl Sign {
    fn of(sign: &recognise::Sign) -> Self {
        Self {
            what: sign.what.into(),
            file: sign.file.clone(),
            line: sign.line,
            why: sign.why.clone(),
            how: how(&sign.start),
            guess: sign.guess,
        }
    }

    /// Of a manifest that says it itself.
    fn own(manifest: &Manifest) -> Self {
        Self {
            what: manifest.kind.map_or("a command", Kind::title).into(),
            file: manifest::NAME.into(),
            line: None,
            why: "says it".into(),
            how: how(manifest),
            guess: false,
        }
    }
}

/// In a few words, without what may be secret.
fn how(manifest: &Manifest) -> String {
    match (manifest.kind, &manifest.entry) {
        (Some(kind), Some(entry)) => format!("{}, {entry}", kind.title()),
        (Some(kind), None) => kind.title().into(),
        (None, _) => {
            let words = secrets::words(manifest.command.iter().flatten().map(String::as_str));
            shell_words::join(words)
        }
    }
}

/// As it was found, where the manifest does not say it.
fn entry(start: &Start, manifest: &Manifest) -> Option<String> {
    match &start.program {
        Program::Loader(loading) => Some(String::from_utf8_lossy(&loading.entry).into_owned()),
        Program::Command(_) | Program::DemoApp => manifest.entry.clone(),
    }
}

fn missing(files: &Files, around: &Surroundings, start: &Start) -> Option<String> {
    let Program::Command(words) = &start.program else { return None };
    let program = String::from_utf8_lossy(words.first()?);
    match start::program_of(files, &around.path, &start.program) {
        Some(_) => None,
        None if program.contains('/') => Some(format!("{program} is not there")),
        None => Some(format!("there is no {program} on the PATH ({})", String::from_utf8_lossy(&around.path))),
    }
}

/// Which Ruby the app asks for is for people to see to.
fn other_ruby(files: &Files, manifest: &Manifest) -> Option<String> {
    let is_ruby = manifest.kind == Some(Kind::Rack) && manifest.interpreter.is_none();
    let wanted = recognise::first_line(files, ".ruby-version").filter(|_| is_ruby)?;
    Some(format!(
        ".ruby-version wants Ruby {wanted}: name that one as the `interpreter`, if it is not the first on the PATH"
    ))
}
