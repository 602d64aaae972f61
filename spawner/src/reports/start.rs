//! What is said of a start that failed.

use super::{Report, report, text};
use crate::control::{Cause, Trouble};
use crate::forks::ForkError;
use crate::launch::{LaunchError, Story};
use crate::loaders;
use crate::word::{Failure, Stage};
use hatchery_protocol::report::SpawnStep;
use std::ffi::CString;
use std::io;

/// The report on a start that failed.
pub(crate) fn launch(error: &LaunchError, story: &Story) -> Report {
    with_setup(launched(error, story), story)
}

/// The report on an app that its loader could not load.
pub(crate) fn load(trouble: &Trouble, story: &Story) -> Report {
    let (problem, remedy) = told(trouble);
    with_setup(report(&story.root, SpawnStep::Load, problem, remedy), story)
}

fn told(trouble: &Trouble) -> (String, String) {
    let general = match trouble.cause {
        Cause::Syntax => "Correct the file, and start it again.",
        Cause::Module => "Install what is missing, where the application's interpreter finds it.",
        Cause::Entry => "Name what is to be loaded as `entry` in hatchery.toml.",
        Cause::Exception | Cause::Exit => "See the output for where it happened, and correct that.",
        Cause::Runtime => "Install a newer interpreter, or name another one.",
        Cause::Hook => "See the output for where it happened, and correct the hook.",
    };
    let remedy = if trouble.remedy.is_empty() { general.into() } else { trouble.remedy.clone() };
    (trouble.problem.clone(), remedy)
}

fn with_setup(mut report: Report, story: &Story) -> Report {
    let mut setup = story.setup.clone();
    if setup.user.is_empty() {
        setup.user = story.user.clone().unwrap_or_else(own_user);
    }
    report.setup = Some(Box::new(setup));
    report
}

/// Whom the pool runs as, where the apps do too.
fn own_user() -> String {
    let uid = nix::unistd::geteuid();
    match nix::unistd::User::from_uid(uid) {
        Ok(Some(user)) => user.name,
        Ok(None) | Err(_) => format!("user {uid}"),
    }
}

fn launched(error: &LaunchError, story: &Story) -> Report {
    let (step, problem, remedy) = match error {
        LaunchError::Child(failure) => return child(failure, story),
        LaunchError::Place(place) => (SpawnStep::Prepare, place.to_string(), place.remedy().into()),
        LaunchError::Process(error) if error.raw_os_error() == Some(libc::EAGAIN) => {
            (SpawnStep::Prepare, PROCESS_LIMIT.into(), PROCESS_LIMIT_REMEDY.into())
        }
        LaunchError::TookTooLong(_) => (
            SpawnStep::Execute,
            format!("{error}: {}", text(&story.program)),
            "See whether the disk or network mount that the program is on hangs.".into(),
        ),
        LaunchError::NoDemoApp => (
            SpawnStep::Execute,
            error.to_string(),
            "Run the pool with the `hatchery` executable, which has one, or name the root of an app.".into(),
        ),
        LaunchError::Limit { .. } => (SpawnStep::Prepare, error.to_string(), LIMIT_REMEDY.into()),
        LaunchError::NoProgram | LaunchError::Null => {
            (SpawnStep::Prepare, error.to_string(), "Correct the app's start command.".into())
        }
        LaunchError::Fork(ForkError::Hook(trouble)) => {
            let (problem, remedy) = told(trouble);
            (SpawnStep::Fork, problem, remedy)
        }
        LaunchError::Fork(error) => (SpawnStep::Fork, error.to_string(), fork_remedy(error).into()),
        LaunchError::NotForked | LaunchError::Listener | LaunchError::Output => {
            (SpawnStep::Prepare, error.to_string(), "This is a bug of Hatchery's.".into())
        }
        LaunchError::Process(_) | LaunchError::Garbled | LaunchError::GivenUp | LaunchError::TooMany => (
            SpawnStep::Prepare,
            error.to_string(),
            "See whether the machine is short of memory or of processes, and try again.".into(),
        ),
    };
    report(&story.root, step, problem, remedy)
}

fn fork_remedy(error: &ForkError) -> &'static str {
    match error {
        ForkError::NoPreloader | ForkError::Ended => "Nothing: workers are started by themselves meanwhile.",
        ForkError::Notify => "Let the pool ask whether it is ready (`ready = \"probe\"`), or do without preloading.",
        ForkError::Order(_) | ForkError::Silent(_) | ForkError::NotWaiting(_) => {
            "See what the application does in its preloader when it is forked (its `before_fork` hooks, its threads)."
        }
        ForkError::Impostor(_) | ForkError::Hook(_) => {
            "See what the application does when it is forked: something other than its loader used the loader's channel."
        }
    }
}

const PROCESS_LIMIT: &str = "no further process may be made: the limit of processes is reached";
const PROCESS_LIMIT_REMEDY: &str =
    "Raise the limit (`ulimit -u`, TasksMax of the service, or the app's limit_nproc), or lower the pool's max.";

const LIMIT_REMEDY: &str = "Change it, give the pool what it takes to apply it (`hatchery doctor` says what this \
                            machine offers), or take it off `required` in pool.toml.";

/// What the new process said of its own failure.
fn child(failure: &Failure, story: &Story) -> Report {
    let system = io::Error::from_raw_os_error(failure.errno);
    let (step, problem, remedy) = match failure.stage {
        Stage::Fork if failure.errno == libc::EAGAIN => {
            (SpawnStep::Prepare, PROCESS_LIMIT.into(), PROCESS_LIMIT_REMEDY.to_owned())
        }
        Stage::Parent => (
            SpawnStep::Prepare,
            "the pool-server did not become the worker's parent".into(),
            "Start the spawner through the pool-server only.".into(),
        ),
        Stage::Limit => {
            let why = system.to_string();
            let problem = story.limits.get(failure.index).map(|said| said.refused(&why)).unwrap_or(why);
            (SpawnStep::Prepare, problem, LIMIT_REMEDY.into())
        }
        Stage::ControlGroup => {
            let why = format!("its control group can't be joined: {system}");
            let problem = story.group_limits.first().map(|said| said.refused(&why)).unwrap_or(why);
            (SpawnStep::Prepare, problem, LIMIT_REMEDY.into())
        }
        Stage::Identity => (
            SpawnStep::Prepare,
            format!("the worker's process could not become {}: {system}", story.user.as_deref().unwrap_or("its user")),
            "Let the pool keep root's capabilities to change users (CAP_SETUID, CAP_SETGID), or start it as an \
             ordinary user."
                .into(),
        ),
        Stage::Directory => directory(failure, story, &system),
        Stage::Execute => {
            let (problem, remedy) = execute(failure, story, &system);
            (SpawnStep::Execute, problem, remedy)
        }
        Stage::Fork | Stage::Session | Stage::Descriptors | Stage::DeathSignal => (
            SpawnStep::Prepare,
            format!("the worker's process could not be set up: {system}"),
            "See whether the machine is short of memory, of processes or of descriptors, and try again.".into(),
        ),
    };
    report(&story.root, step, problem, remedy)
}

fn at(paths: &[CString], index: usize) -> String {
    paths.get(index).map(|path| text(path.as_bytes())).unwrap_or_default()
}

fn directory(failure: &Failure, story: &Story, system: &io::Error) -> (SpawnStep, String, String) {
    let level = at(&story.levels, failure.index);
    let directory = story.levels.last().map(|path| text(path.as_bytes())).unwrap_or_default();
    let of = if level == directory { String::new() } else { format!(" (on the way to {directory})") };
    match (failure.errno, &story.user) {
        (libc::EACCES, Some(user)) => (
            SpawnStep::Execute,
            format!("runs as {user}, who can't enter {level} ({:04o}){of}", failure.mode & 0o7777),
            format!(
                "Let {user} enter it (`chmod o+x {level}`), give the app to who can (`chown`), or name the user that \
                 it is to run as in pool.toml (`user = ...`)."
            ),
        ),
        (libc::EACCES, None) => (
            SpawnStep::Execute,
            format!("{level}{of} can't be entered: its mode is {:04o}", failure.mode & 0o7777),
            format!("Let the worker's user enter it (`chmod o+x {level}`), or move the app."),
        ),
        (libc::ENOENT, _) => (
            SpawnStep::Execute,
            format!("{level}{of} does not exist any more"),
            "Restart the app when its folder is back.".into(),
        ),
        _ => (
            SpawnStep::Execute,
            format!("{level}{of} can't be entered: {system}"),
            "See that it is a folder, and that its disk is well.".into(),
        ),
    }
}

fn execute(failure: &Failure, story: &Story, system: &io::Error) -> (String, String) {
    let program = text(&story.program);
    // The demo app has no path.
    let found = Some(at(&story.candidates, failure.index)).filter(|found| !found.is_empty());
    let found = found.unwrap_or_else(|| program.clone());
    let by = story.user.as_deref().unwrap_or("the worker's user");
    match failure.errno {
        libc::EACCES if story.candidates.is_empty() => (
            format!("the `hatchery` executable, which {program} is in, may not be executed by {by}"),
            "Let every user execute the file itself (`chmod o+x`), and see that its disk is not mounted noexec.".into(),
        ),
        libc::ENOENT if failure.mode == 0 && story.loader.is_some() => missing_runtime(&program, story),
        libc::ENOENT if failure.mode != 0 => missing_interpreter(&found, &failure.head),
        libc::ENOENT if story.program.contains(&b'/') => (
            format!("{program} does not exist"),
            "Correct the start command; a path in it is seen from the app's folder.".into(),
        ),
        libc::ENOENT if !story.candidates.is_empty() => (
            format!("{program} is not on the PATH ({})", text(&story.path)),
            format!("Install {program}, write its full path in the start command, or set PATH in [env]."),
        ),
        libc::EACCES if failure.mode == 0 && !story.program.contains(&b'/') => (
            format!(
                "{program} is not on the PATH ({}), as far as its folders can be entered: {} can't",
                text(&story.path),
                found.rsplit_once('/').map_or("", |(folder, _)| folder)
            ),
            format!("Install {program} where {by} can execute it, or set PATH in [env]."),
        ),
        libc::EACCES if failure.mode & libc::S_IFMT == libc::S_IFDIR => {
            (format!("{found} is a folder, no program"), "Name a program in the start command.".into())
        }
        libc::EACCES if failure.mode != 0 && failure.mode & 0o111 == 0 => (
            format!("{found} is not executable: its mode is {:04o}", failure.mode & 0o7777),
            format!("Make it executable (`chmod +x {found}`), or start it through its interpreter."),
        ),
        libc::EACCES => (
            format!("{found} may not be executed by {by}"),
            "See that its user may enter the folder and execute the file, and that its disk is not mounted noexec."
                .into(),
        ),
        libc::ENOEXEC if failure.head.is_empty() => (format!("{found} is empty"), "Put a program there.".into()),
        libc::ENOEXEC => (
            format!("{found} is no program: it has no #! line, and is no executable for this machine"),
            "Begin it with a line like `#!/bin/sh`, or start it through its interpreter.".into(),
        ),
        libc::E2BIG => (
            "the command and environment are longer than this machine allows".into(),
            "Pass long values in a file.".into(),
        ),
        libc::ETXTBSY => (format!("{found} is being written"), "Restart the app when the file is complete.".into()),
        libc::EAGAIN => (PROCESS_LIMIT.into(), PROCESS_LIMIT_REMEDY.into()),
        _ => (
            format!("{found} could not be executed: {system}"),
            "See that the file is whole and its disk is well.".into(),
        ),
    }
}

/// The interpreter of one of our loaders is not there.
fn missing_runtime(program: &str, story: &Story) -> (String, String) {
    let (name, package) = story.loader.map_or(("its interpreter", "it"), loaders::interpreter);
    if program.contains('/') {
        return (
            format!("the interpreter {program} ({name}), which the application is run by, does not exist"),
            format!(
                "Install {name} ({package}); if it is that of a virtual environment, or of a version manager, make that anew \
                 with a {name} that is there."
            ),
        );
    }
    (
        format!("{program} ({name}), which the application is run by, is not on the PATH ({})", text(&story.path)),
        format!("Install {name} ({package}), or set PATH in [env] so that it is found."),
    )
}

/// The file is there, and the kernel says that something is not.
fn missing_interpreter(found: &str, head: &[u8]) -> (String, String) {
    let first_line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Some(line) = first_line.strip_prefix(b"#!") else {
        return (
            format!("{found} is there, but the dynamic loader that it needs is not"),
            "Install the C library it was built for, or build it for this machine.".into(),
        );
    };
    let windows = line.ends_with(b"\r");
    let line = text(line.trim_ascii());
    let interpreter = line.split_ascii_whitespace().next().unwrap_or_default();
    if windows {
        return (
            format!("{found} has lines that end as on Windows, so its #! line asks for `{interpreter}\\r`"),
            format!("Convert it (`sed -i 's/\\r$//' {found}`)."),
        );
    }
    (
        format!("{found} is there, but {interpreter}, which its #! line names, is not"),
        format!("Install {interpreter}, or correct the first line of {found}."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Said;
    use hatchery_protocol::report::Setup;

    fn story() -> Story {
        Story {
            root: b"/apps/shop".to_vec(),
            program: b"python4".to_vec(),
            candidates: vec![c"/usr/bin/python4".to_owned(), c"/bin/python4".to_owned()],
            levels: vec![c"/".to_owned(), c"/apps".to_owned(), c"/apps/shop".to_owned()],
            path: b"/usr/bin:/bin".to_vec(),
            user: None,
            loader: None,
            setup: Setup::default(),
            limits: vec![Said::new("nice", -5)],
            group_limits: vec![Said::new("pids_max", 7)],
        }
    }

    fn told(stage: Stage, errno: i32, index: usize, mode: u32, head: &[u8]) -> String {
        let failure = Failure { stage, errno, index, mode, head: head.to_vec() };
        let report = launch(&LaunchError::Child(failure), &story());
        assert!(!report.remedy.is_empty());
        report.problem
    }

    #[test]
    fn what_could_not_be_executed_is_named() {
        let none = usize::from(u16::MAX);
        for (errno, index, mode, head, problem) in [
            (libc::ENOENT, none, 0, "", "python4 is not on the PATH (/usr/bin:/bin)"),
            (
                libc::ENOENT,
                1,
                0o100_755,
                "#!/opt/perl -w\n",
                "/bin/python4 is there, but /opt/perl, which its #! line names, is not",
            ),
            (
                libc::ENOENT,
                1,
                0o100_755,
                "#!/bin/sh\r\n",
                "/bin/python4 has lines that end as on Windows, so its #! line asks for `/bin/sh\\r`",
            ),
            (
                libc::ENOENT,
                0,
                0o100_755,
                "\u{7f}ELF",
                "/usr/bin/python4 is there, but the dynamic loader that it needs is not",
            ),
            (
                libc::EACCES,
                0,
                0,
                "",
                "python4 is not on the PATH (/usr/bin:/bin), as far as its folders can be entered: /usr/bin can't",
            ),
            (libc::EACCES, 0, 0o100_644, "", "/usr/bin/python4 is not executable: its mode is 0644"),
            (libc::EACCES, 0, 0o040_755, "", "/usr/bin/python4 is a folder, no program"),
            (libc::EACCES, 0, 0o100_755, "", "/usr/bin/python4 may not be executed by the worker's user"),
            (
                libc::ENOEXEC,
                0,
                0o100_755,
                "echo",
                "/usr/bin/python4 is no program: it has no #! line, and is no executable for this machine",
            ),
            (libc::ENOEXEC, 0, 0o100_755, "", "/usr/bin/python4 is empty"),
            (libc::E2BIG, 0, 0, "", "the command and environment are longer than this machine allows"),
            (libc::EAGAIN, 0, 0, "", PROCESS_LIMIT),
        ] {
            assert_eq!(told(Stage::Execute, errno, index, mode, head.as_bytes()), problem);
        }
    }

    #[test]
    fn a_limit_that_is_required_is_named_with_its_value_and_the_error() {
        assert_eq!(
            told(Stage::Limit, libc::EPERM, 0, 0, b""),
            "nice = -5 is required and can't be applied: Operation not permitted (os error 1)"
        );
        assert_eq!(
            told(Stage::ControlGroup, libc::EBUSY, 0, 0, b""),
            "pids_max = 7 is required and can't be applied: its control group can't be joined: Device or resource busy \
             (os error 16)"
        );
    }

    #[test]
    fn the_level_that_refuses_is_named() {
        assert_eq!(
            told(Stage::Directory, libc::EACCES, 1, 0o040_700, b""),
            "/apps (on the way to /apps/shop) can't be entered: its mode is 0700"
        );
        assert_eq!(told(Stage::Directory, libc::ENOENT, 2, 0, b""), "/apps/shop does not exist any more");
    }
}
