//! What is started, and how: from what a manifest says to the program of a plan. Runs in an errand.

use crate::folder::{self, FolderError};
use crate::manifest::{self, Kind, Manifest, listen_name};
use crate::recognise::{self, Files, Interpreter, InterpreterError, Sign, Surroundings};
use hatchery_protocol::client::{Documents, SessionProtocol};
use hatchery_protocol::link::{Listen, Loading, Program};
use std::path::{Path, PathBuf};

/// Names and values as a plan holds them.
pub(crate) type Env = Vec<(Vec<u8>, Vec<u8>)>;

/// What is started.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) program: Program,
    pub(crate) listen: Listen,
    pub(crate) protocol: SessionProtocol,
    /// Where nobody says otherwise.
    pub(crate) concurrency: u32,
    pub(crate) documents: Option<Documents>,
    /// Unless the manifest or the operator say otherwise.
    pub(crate) usual: Env,
    /// Over all that they say.
    pub(crate) env: Env,
    /// What runs it, if that is not a part of the program.
    pub(crate) interpreter: Option<Interpreter>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error("the command contains `{{port}}` and `{{socket}}`; an app listens in one place")]
    TwoPlaces,
    #[error("{}: `listen = \"{listen}\"` contradicts the command, which contains `{word}`", manifest::NAME)]
    Contradiction { listen: &'static str, word: &'static str },
    #[error(
        "{}: `listen = \"socket\"` needs `{{socket}}` in the command: how else would the app know its path",
        manifest::NAME
    )]
    SocketUnsaid,
    #[error("{}: `type = \"{kind}\"` needs an `entry`: nothing in {} tells what of it is loaded", manifest::NAME, folder.display())]
    NoEntry { folder: PathBuf, kind: &'static str },
    #[error("{}: the `entry` {entry} is no file in {}", manifest::NAME, folder.display())]
    EntryMissing { folder: PathBuf, entry: String },
    #[error(
        "{}: `{key}` can't be said of an app of `type = \"{kind}\"`, which {file} shows that it is",
        manifest::NAME
    )]
    SaidByType { key: &'static str, kind: &'static str, file: String },
    #[error("nothing in {} says how it is started", folder.display())]
    Nothing {
        folder: PathBuf,
        /// What looked like it.
        hints: Vec<String>,
    },
    #[error("{0}")]
    Interpreter(#[from] InterpreterError),
    #[error("{0}")]
    Folder(#[from] FolderError),
}

impl StartError {
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::TwoPlaces => "Keep one of them.".into(),
            Self::Contradiction { .. } => "Remove the `listen` line: the command says it.".into(),
            Self::SocketUnsaid => "Say where the path goes, such as `--bind unix:{socket}`.".into(),
            Self::NoEntry { kind, .. } => format!("Say it, such as `entry = \"{}\"`.", example(kind)),
            Self::EntryMissing { .. } => "Correct it; it is a path relative to the app's folder.".into(),
            Self::SaidByType { key, .. } => {
                format!("Remove `{key}`, or say by `command` how the app is started.")
            }
            Self::Nothing { folder, hints } => {
                let hints: String = hints.iter().map(|hint| format!("{hint}.\n")).collect();
                format!(
                    "Looked for: {}.\n{hints}Put a file {} there that says it, such as:\n\n\
                     command = [\"python3\", \"server.py\"]   # serves HTTP on the socket at descriptor 3\n\n\
                     or, for a program that takes a port:\n\n\
                     command = \"node server.js --port {{port}}\"\n\n\
                     or, for an application that is to be loaded:\n\n\
                     type = \"wsgi\"   # or \"asgi\", \"rack\", \"node\", \"php\"\n\
                     entry = \"shop.wsgi:application\"\n",
                    recognise::LOOKED_FOR,
                    folder.join(manifest::NAME).display()
                )
            }
            Self::Interpreter(error) => error.remedy(),
            Self::Folder(error) => error.remedy(),
        }
    }
}

fn example(kind: &str) -> &'static str {
    match kind {
        "rack" => "config.ru",
        "node" => "server.js",
        "php" => "public/index.php",
        _ => "shop.wsgi:application",
    }
}

/// A folder's own manifest, completed by what is recognised in the folder where it does not say what is started, with
/// the sign for that. `Err(Nothing)`: nothing is.
pub(crate) fn completed(
    files: &Files,
    own: Manifest,
    owner: Option<u32>,
) -> Result<(Manifest, Option<Sign>), StartError> {
    if own.starts() {
        return Ok((own, None));
    }
    let found = recognise::recognise(files, false)?;
    let Some(sign) = found.signs.into_iter().next() else {
        return Err(StartError::Nothing { folder: files.root().into(), hints: found.hints });
    };
    belongs(files, &sign.file, owner)?;
    if let Some(kind) = sign.start.kind
        && let Some(key) = [("protocol", own.protocol.is_some()), ("listen", own.listen.is_some())]
            .iter()
            .find_map(|(key, said)| said.then_some(*key))
    {
        return Err(StartError::SaidByType { key, kind: kind.name(), file: sign.file });
    }
    let start = sign.start.clone();
    let manifest = Manifest {
        protocol: own.protocol.or(start.protocol),
        listen: own.listen.or(start.listen),
        ready: own.ready,
        concurrency: own.concurrency,
        env: own.env.into_iter().fold(start.env, |mut env, variable| {
            env.retain(|(name, _)| *name != variable.0);
            env.push(variable);
            env
        }),
        ..start
    };
    Ok((manifest, Some(sign)))
}

/// What a manifest starts.
pub(crate) fn of(
    files: &Files,
    around: &Surroundings,
    manifest: &Manifest,
    owner: Option<u32>,
) -> Result<Start, StartError> {
    match (&manifest.command, manifest.kind) {
        (_, Some(kind)) => typed(files, around, manifest, kind, owner),
        (command, None) => {
            let words = command.iter().flatten().map(|word| word.clone().into_bytes());
            command_of(Program::Command(words.collect()), manifest)
        }
    }
}

/// A program that serves by itself.
pub(crate) fn command_of(program: Program, manifest: &Manifest) -> Result<Start, StartError> {
    let protocol = manifest.protocol.unwrap_or(SessionProtocol::Http);
    Ok(Start {
        listen: listen(&program, manifest.listen, protocol)?,
        program,
        protocol,
        concurrency: 1,
        documents: None,
        usual: Env::new(),
        env: Env::new(),
        interpreter: None,
    })
}

/// An app that one of our loaders loads, or that PHP runs.
fn typed(
    files: &Files,
    around: &Surroundings,
    manifest: &Manifest,
    kind: Kind,
    owner: Option<u32>,
) -> Result<Start, StartError> {
    let entry = match &manifest.entry {
        Some(entry) => entry.clone(),
        None => {
            let found = recognise::of_kind(files, kind)?.and_then(|sign| sign.start.entry);
            found.ok_or_else(|| StartError::NoEntry { folder: files.root().into(), kind: kind.name() })?
        }
    };
    match entry_file(files, kind, &entry) {
        Some(file) => belongs(files, &file, owner)?,
        None if matches!(kind, Kind::Rack | Kind::Php) => {
            return Err(StartError::EntryMissing { folder: files.root().into(), entry });
        }
        // Modules may be anywhere that the loader looks; it tells what is missing.
        None => {}
    }
    let interpreter = recognise::interpreter(files, around, kind, &entry, manifest.interpreter.as_deref())?;
    let env = interpreter.env(&around.path);
    let start = match kind.loader() {
        Some(loader) => {
            let gemfile = (kind == Kind::Rack && files.has("Gemfile")).then(|| files.path("Gemfile"));
            let gemfile = gemfile.map(|path| (b"BUNDLE_GEMFILE".to_vec(), path.into_os_string().into_encoded_bytes()));
            let loading = Loading {
                loader,
                interpreter: interpreter.words.clone(),
                entry: entry.into_bytes(),
                preload: manifest.preload.unwrap_or(kind.can_preload()),
            };
            Start {
                program: Program::Loader(loading),
                listen: Listen::Fd,
                protocol: match kind {
                    Kind::Wsgi | Kind::Rack => SessionProtocol::Session,
                    Kind::Asgi | Kind::Node | Kind::Php => SessionProtocol::Http,
                },
                concurrency: if matches!(kind, Kind::Asgi | Kind::Node) { 0 } else { 1 },
                documents: None,
                usual: gemfile.into_iter().collect(),
                env,
                interpreter: Some(interpreter),
            }
        }
        None => php(files, &entry, interpreter, env),
    };
    Ok(start)
}

fn php(files: &Files, entry: &str, interpreter: Interpreter, mut env: Env) -> Start {
    // The pool has the processes, and ends them when they have done enough.
    env.push((b"PHP_FCGI_CHILDREN".to_vec(), b"0".to_vec()));
    env.push((b"PHP_FCGI_MAX_REQUESTS".to_vec(), b"0".to_vec()));
    let path = files.path(entry);
    let root = path.parent().unwrap_or(files.root());
    let mut words = interpreter.words.clone();
    // What is asked for is said by the web server, which has looked at the files; PHP is not to guess.
    words.extend([b"-d".to_vec(), b"cgi.fix_pathinfo=0".to_vec()]);
    Start {
        program: Program::Command(words),
        listen: Listen::Stdin,
        protocol: SessionProtocol::Fastcgi,
        concurrency: 1,
        documents: Some(Documents {
            root: root.as_os_str().as_encoded_bytes().to_vec(),
            index: path.file_name().map(|name| name.as_encoded_bytes().to_vec()),
        }),
        usual: Env::new(),
        env,
        interpreter: Some(interpreter),
    }
}

/// The file that an entry is about, relative to the app's folder, as far as that can be told.
pub(crate) fn entry_file(files: &Files, kind: Kind, entry: &str) -> Option<String> {
    let candidates = match kind {
        Kind::Rack | Kind::Node | Kind::Php => vec![entry.to_owned()],
        Kind::Wsgi | Kind::Asgi => {
            let module = entry.split_once(':').map_or(entry, |(module, _)| module);
            let path = module.replace('.', "/");
            vec![module.to_owned(), format!("{path}.py"), format!("{path}/__init__.py")]
        }
    };
    candidates.into_iter().find(|file| files.has(file))
}

/// What is started must belong to whom the app runs as for owning it.
pub(crate) fn belongs(files: &Files, file: &str, owner: Option<u32>) -> Result<(), FolderError> {
    match recognise::owner(&files.path(file)) {
        Some(found) => folder::one_owner(files.root(), file, owner, found),
        None => Ok(()),
    }
}

/// Where a command is to be found that this one may be taken for; `None`: nowhere.
pub(crate) fn program_of(files: &Files, path: &[u8], program: &Program) -> Option<PathBuf> {
    let Program::Command(words) = program else { return None };
    let name = std::str::from_utf8(words.first()?).ok()?;
    if name.contains('/') {
        return Some(files.path(Path::new(name))).filter(|path| path.is_file());
    }
    recognise::on_path(files, path, name)
}

/// Where the app listens: what the command says, else the manifest, else what is usual.
fn listen(program: &Program, said: Option<Listen>, protocol: SessionProtocol) -> Result<Listen, StartError> {
    let contains = |word: &str| match program {
        Program::Command(command) => {
            command.iter().any(|argument| argument.windows(word.len()).any(|window| window == word.as_bytes()))
        }
        Program::DemoApp | Program::Loader(_) => false,
    };
    let (by_command, word) = match (contains("{port}"), contains("{socket}")) {
        (true, true) => return Err(StartError::TwoPlaces),
        (true, false) => (Some(Listen::Port), "{port}"),
        (false, true) => (Some(Listen::Socket), "{socket}"),
        (false, false) => (None, ""),
    };
    match (by_command, said) {
        (Some(listen), Some(said)) if listen != said => {
            Err(StartError::Contradiction { listen: listen_name(said), word })
        }
        (Some(listen), _) => Ok(listen),
        (None, Some(Listen::Socket)) => Err(StartError::SocketUnsaid),
        (None, Some(said)) => Ok(said),
        (None, None) if protocol == SessionProtocol::Fastcgi => Ok(Listen::Stdin),
        (None, None) => Ok(Listen::Fd),
    }
}
