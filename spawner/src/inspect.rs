//! How an app is started: from what its root holds and what was said from outside. Runs in an errand.

use crate::environment::{self, NameError};
use crate::errand::Answer;
use crate::folder::{self, FolderError, Root};
use crate::identity::{self, Choice, IdentityError, Rules};
use crate::limits;
use crate::look;
use crate::manifest::Manifest;
use crate::privilege;
use crate::recognise::{Files, InterpreterError, Surroundings};
use crate::reports;
use crate::setup;
use crate::start::{self, Env, Start, StartError};
use hatchery_protocol::codec::{self, MAX_PACKET};
use hatchery_protocol::link::{Identity, LaunchPlan, Program, ReadyBy};
use hatchery_protocol::options::{self, AppOptions};
use hatchery_protocol::report::Setup;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

const START_TIMEOUT: Duration = Duration::from_secs(90);
const ENVIRONMENT: &str = "production";
/// What a `Spawn` says beside the plan fits into the rest.
const LONGEST_PLAN: usize = MAX_PACKET - 16 * 1024;

#[derive(Debug, thiserror::Error)]
pub(crate) enum InspectError {
    #[error("{0}")]
    Folder(#[from] FolderError),
    #[error("{0}")]
    Identity(#[from] IdentityError),
    #[error("{} runs as {user}, and the child process that was to look into it can't become that user: {error}", app.display())]
    Assume { app: PathBuf, user: String, error: std::io::Error },
    #[error("the start command given for {} is empty", .0.display())]
    EmptyCommand(PathBuf),
    #[error("the start command given for {} contains a null byte", .0.display())]
    NullInCommand(PathBuf),
    #[error("{} is a file, and a start command needs a folder to run in", .0.display())]
    CommandInFile(PathBuf),
    #[error("{0}")]
    Start(#[from] StartError),
    #[error("the environment variable `{name}` given for the app: {error}")]
    Variable { name: String, error: NameError },
    #[error("the name of the environment contains a null byte")]
    EnvironmentName,
    #[error("the app's command and environment are {0} bytes long, more than {LONGEST_PLAN}")]
    TooLong(usize),
}

impl InspectError {
    fn remedy(&self) -> String {
        match self {
            Self::Folder(error) => error.remedy(),
            Self::Identity(error) => error.remedy(),
            Self::Assume { .. } => {
                "Let the pool keep root's capabilities to change users (CAP_SETUID, CAP_SETGID), or start it as an \
                 ordinary user."
                    .into()
            }
            Self::EmptyCommand(_) => "Say which program starts the app.".into(),
            Self::NullInCommand(_) => "Remove it.".into(),
            Self::CommandInFile(_) => "Name the app's folder as its root.".into(),
            Self::Start(error) => error.remedy(),
            Self::Variable { error: NameError::Reserved, .. } => {
                "Leave it out; Hatchery tells the app its place to listen in PORT, LISTEN_* and HATCHERY_*.".into()
            }
            Self::Variable { .. } => "Give it a name and a value that an environment can hold.".into(),
            Self::EnvironmentName => "Give it a name like `production`.".into(),
            Self::TooLong(_) => "Pass long values in a file of the app's.".into(),
        }
    }
}

impl InspectError {
    /// What is wrong with the folder, if that is it.
    fn folder(&self) -> Option<&FolderError> {
        match self {
            Self::Folder(error)
            | Self::Start(StartError::Folder(error) | StartError::Interpreter(InterpreterError::Folder(error))) => {
                Some(error)
            }
            _ => None,
        }
    }
}

/// Looks into `root`, as the user that the app is to run as.
pub(crate) fn inspect(root: &[u8], settings: AppOptions, rules: &Rules) -> Answer {
    let path = Path::new(OsStr::from_bytes(root));
    let failed = |problem, remedy| Answer::Failed(reports::inspect(root, problem, remedy));
    let who = match become_whom_it_runs_as(path, &settings, rules) {
        Ok(who) => who,
        Err(error) => return failed(error.to_string(), error.remedy()),
    };
    let user = who.identity.as_ref().map(|identity| identity.name.clone());
    let setup = setup::known_before(root, &settings, who.identity.clone());
    match plan(root, settings, who) {
        Ok(plan) => Answer::Plan(Box::new(plan)),
        Err(error) => {
            let closed = user.as_deref().and_then(|user| error.folder()?.closed_to(user));
            let (problem, remedy) = closed.unwrap_or_else(|| (error.to_string(), error.remedy()));
            let mut report = reports::inspect(root, problem, remedy);
            report.setup = Some(Box::new(setup));
            Answer::Failed(report)
        }
    }
}

/// Whom an app runs as.
#[derive(Debug, Default)]
pub(crate) struct Who {
    /// `None`: as this process.
    identity: Option<Identity>,
    /// Whom all that is read at its root must belong to.
    owner: Option<u32>,
}

/// From here on this process can do no more than the app itself.
pub(crate) fn become_whom_it_runs_as(path: &Path, settings: &AppOptions, rules: &Rules) -> Result<Who, InspectError> {
    let (identity, owner) = match identity::choose(path, settings, rules)? {
        Choice::AsThePool => return Ok(Who::default()),
        Choice::Said(identity) | Choice::Unseen(identity) => (identity, None),
        Choice::Owner { identity, owner } => (identity, Some(owner)),
    };
    match privilege::assume(&identity) {
        Ok(()) => Ok(Who { identity: Some(identity), owner }),
        Err(error) => Err(InspectError::Assume { app: path.into(), user: identity.name, error }),
    }
}

fn plan(root: &[u8], options: AppOptions, who: Who) -> Result<LaunchPlan, InspectError> {
    let path = Path::new(OsStr::from_bytes(root));
    let seen = if options.start == Some(options::Start::DemoApp) { None } else { look::without_update(path) };
    let inherited = environment::inherited(std::env::vars_os());
    let Begun { start, directory, manifest } = begun(path, &options, &who, &inherited)?;
    let mut plan = LaunchPlan {
        root: root.to_vec(),
        directory: directory.into_os_string().into_encoded_bytes(),
        listen: start.listen,
        program: start.program,
        ready: manifest.ready.unwrap_or(ReadyBy::Probe),
        protocol: start.protocol,
        concurrency: options.concurrency.or(manifest.concurrency).unwrap_or(start.concurrency),
        environment: environment_name(options.environment.clone())?,
        env: [start.usual, env(manifest.env, &options.env)?, start.env].concat(),
        documents: start.documents,
        start_timeout: options.start_timeout.unwrap_or(START_TIMEOUT),
        identity: who.identity,
        limits: limits::of(&options),
        dump_signal: options.dump_signal.unwrap_or_default(),
        seen,
        setup: Setup::default(),
    };
    plan.setup = setup::of(&plan, &options, &inherited);
    let len = codec::encode_payload(&plan).map_or(usize::MAX, |bytes| bytes.len());
    if len > LONGEST_PLAN { Err(InspectError::TooLong(len)) } else { Ok(plan) }
}

/// What is started, where, and what else its manifest says.
struct Begun {
    start: Start,
    directory: PathBuf,
    manifest: Manifest,
}

fn begun(path: &Path, options: &AppOptions, who: &Who, inherited: &Variables) -> Result<Begun, InspectError> {
    let owner = who.owner;
    let manifest_of = |folder: &Path| Ok::<_, FolderError>(folder::manifest(folder, owner)?.unwrap_or_default());
    match &options.start {
        Some(options::Start::DemoApp) => {
            let start = start::command_of(Program::DemoApp, &Manifest::default())?;
            Ok(Begun {
                start: Start { concurrency: 0, ..start },
                directory: PathBuf::from("/"),
                manifest: Manifest::default(),
            })
        }
        Some(options::Start::Command(command)) => match folder::resolve(path, owner)? {
            Root::Folder(folder) => {
                let manifest = manifest_of(&folder)?;
                Ok(Begun { start: start::command_of(given(command, path)?, &manifest)?, directory: folder, manifest })
            }
            Root::Program(_) => Err(InspectError::CommandInFile(path.into())),
        },
        None => match folder::resolve(path, owner)? {
            Root::Folder(folder) => {
                let own = manifest_of(&folder)?;
                let files = Files::of(&folder);
                let around = surroundings(inherited, &own, options, who.identity.as_ref());
                let (manifest, _) = start::completed(&files, own, owner)?;
                let start = start::of(&files, &around, &manifest, owner)?;
                Ok(Begun { start, directory: folder, manifest })
            }
            Root::Program(program) => {
                let directory = program.parent().unwrap_or(Path::new("/")).to_path_buf();
                let command = Program::Command(vec![program.into_os_string().into_encoded_bytes()]);
                let manifest = Manifest::default();
                Ok(Begun { start: start::command_of(command, &manifest)?, directory, manifest })
            }
        },
    }
}

type Variables = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a worker of the app will find around it.
pub(crate) fn surroundings(
    inherited: &Variables,
    manifest: &Manifest,
    options: &AppOptions,
    identity: Option<&Identity>,
) -> Surroundings {
    let said = |name: &str| {
        let mut variables = options.env.iter().rev().chain(manifest.env.iter().rev());
        variables.find(|(known, _)| known == name).map(|(_, value)| value.clone().into_bytes())
    };
    let inherited = |name: &[u8]| inherited.get(name).cloned().unwrap_or_default();
    let path = |bytes: Vec<u8>| PathBuf::from(OsString::from_vec(bytes));
    Surroundings {
        path: said("PATH").unwrap_or_else(|| inherited(b"PATH")),
        home: path(identity.map_or_else(|| inherited(b"HOME"), |identity| identity.home.clone())),
        virtual_env: said("VIRTUAL_ENV").filter(|value| !value.is_empty()).map(path),
    }
}

fn given(command: &[String], root: &Path) -> Result<Program, InspectError> {
    if command.first().is_none_or(String::is_empty) {
        return Err(InspectError::EmptyCommand(root.into()));
    }
    if command.iter().any(|word| word.contains('\0')) {
        return Err(InspectError::NullInCommand(root.into()));
    }
    Ok(Program::Command(command.iter().map(|word| word.clone().into_bytes()).collect()))
}

fn environment_name(said: Option<String>) -> Result<String, InspectError> {
    match said {
        Some(name) if name.contains('\0') => Err(InspectError::EnvironmentName),
        Some(name) => Ok(name),
        None => Ok(ENVIRONMENT.into()),
    }
}

/// The manifest's variables, which are checked already, and over them those from outside.
fn env(manifest: Vec<(String, String)>, given: &[(String, String)]) -> Result<Env, InspectError> {
    for (name, value) in given {
        environment::check(name.as_bytes(), value.as_bytes())
            .map_err(|error| InspectError::Variable { name: name.clone(), error })?;
    }
    Ok(manifest
        .into_iter()
        .chain(given.iter().cloned())
        .map(|(name, value)| (name.into_bytes(), value.into_bytes()))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use hatchery_protocol::client::SessionProtocol;
    use hatchery_protocol::link::Listen;
    use hatchery_protocol::options::Start;

    fn app(manifest: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(manifest::NAME), manifest).unwrap();
        folder
    }

    fn inspected(folder: &tempfile::TempDir, options: AppOptions) -> Result<LaunchPlan, String> {
        plan(folder.path().as_os_str().as_bytes(), options, Who::default()).map_err(|error| {
            assert!(!error.remedy().is_empty());
            error.to_string()
        })
    }

    fn listens(manifest: &str) -> Result<Listen, String> {
        inspected(&app(manifest), AppOptions::default()).map(|plan| plan.listen)
    }

    #[test]
    fn what_nobody_says_has_a_default() {
        let folder = app("command = \"server\"");
        let plan = inspected(&folder, AppOptions::default()).unwrap();
        let directory = folder.path().canonicalize().unwrap();
        assert_eq!(plan.directory, directory.as_os_str().as_bytes());
        assert_eq!(plan.program, Program::Command(vec![b"server".to_vec()]));
        assert_eq!((plan.listen, plan.ready, plan.protocol), (Listen::Fd, ReadyBy::Probe, SessionProtocol::Http));
        assert_eq!((plan.concurrency, plan.environment.as_str()), (1, "production"));
        assert_eq!((plan.start_timeout, plan.env), (Duration::from_secs(90), Vec::new()));
    }

    #[test]
    fn what_is_said_from_outside_wins() {
        let folder = app("command = \"server\"\nconcurrency = 5\n[env]\nA = \"1\"");
        let options = AppOptions {
            concurrency: Some(7),
            environment: Some("test".into()),
            start_timeout: Some(Duration::from_secs(3)),
            env: vec![("A".into(), "2".into())],
            start: Some(Start::Command(vec!["other".into()])),
            ..AppOptions::default()
        };
        let plan = inspected(&folder, options).unwrap();
        assert_eq!(plan.program, Program::Command(vec![b"other".to_vec()]));
        assert_eq!((plan.concurrency, plan.environment.as_str()), (7, "test"));
        assert_eq!(plan.env.last().unwrap().1, b"2");
        assert_eq!(plan.start_timeout, Duration::from_secs(3));
    }

    #[test]
    fn the_command_says_where_the_app_listens() {
        assert_eq!(listens("command = \"a {port}\""), Ok(Listen::Port));
        assert_eq!(listens("command = \"a --bind=unix:{socket}\""), Ok(Listen::Socket));
        assert_eq!(listens("command = \"a\"\nlisten = \"port\""), Ok(Listen::Port));
        assert_eq!(listens("command = \"a\"\nprotocol = \"fastcgi\""), Ok(Listen::Stdin));
        assert_eq!(listens("command = \"a\"\nprotocol = \"fastcgi\"\nlisten = \"fd\""), Ok(Listen::Fd));
        assert!(listens("command = \"a {port} {socket}\"").unwrap_err().contains("one place"));
        assert!(listens("command = \"a {port}\"\nlisten = \"fd\"").unwrap_err().contains("contradicts the command"));
        assert!(listens("command = \"a\"\nlisten = \"socket\"").unwrap_err().contains("needs `{socket}`"));
    }

    #[test]
    fn a_folder_without_anything_to_start_gets_a_manifest_to_paste() {
        let folder = tempfile::tempdir().unwrap();
        let rules = Rules { privileged: false, lowest_user: "nobody".into(), min_uid: 100, reserved: Vec::new() };
        let root = folder.path().as_os_str().as_bytes();
        let Answer::Failed(report) = inspect(root, AppOptions::default(), &rules) else {
            panic!("a plan from nothing")
        };
        assert!(report.problem.ends_with("says how it is started"), "{}", report.problem);
        let pasted = report.remedy.lines().find(|line| line.starts_with("command")).unwrap();
        assert!(manifest::parse(pasted).unwrap().command.is_some());
        assert!(report.remedy.contains("config.ru") && report.remedy.contains("package.json"), "{}", report.remedy);
    }

    #[test]
    fn variables_from_outside_are_checked() {
        let folder = app("command = \"server\"");
        let options = AppOptions { env: vec![("HATCHERY_WORKER".into(), "x".into())], ..AppOptions::default() };
        assert_eq!(
            inspected(&folder, options).unwrap_err(),
            "the environment variable `HATCHERY_WORKER` given for the app: the environment variable is Hatchery's own to set"
        );
    }

    #[test]
    fn the_demo_app_touches_no_disk() {
        let options = AppOptions { start: Some(Start::DemoApp), ..AppOptions::default() };
        let plan = plan(b"/nonexistent/demo", options, Who::default()).unwrap();
        assert_eq!((plan.program, plan.concurrency), (Program::DemoApp, 0));
        assert_eq!(plan.directory, b"/");
        assert_eq!(plan.listen, Listen::Fd);
    }

    #[test]
    fn a_start_command_needs_words() {
        let folder = app("");
        let command = |words: &[&str]| {
            let start = Some(Start::Command(words.iter().map(|word| (*word).to_owned()).collect()));
            inspected(&folder, AppOptions { start, ..AppOptions::default() })
        };
        assert!(command(&[]).unwrap_err().ends_with("is empty"));
        assert!(command(&["a\0"]).unwrap_err().ends_with("contains a null byte"));
        assert!(command(&["a"]).is_ok());
    }

    #[test]
    fn a_plan_fits_into_a_packet() {
        let folder = app("command = \"server\"");
        let options = AppOptions { env: vec![("A".into(), "x".repeat(LONGEST_PLAN))], ..AppOptions::default() };
        assert!(inspected(&folder, options).unwrap_err().contains("more than"));
    }
}
