//! One start: from a plan to `Started` or `SpawnFailed`.

use crate::cgroup::{Applied, Made};
use crate::child::{self, Image, Pointers, Prepared};
use crate::confine::{Group, Ids};
use crate::environment::{self, Environment};
use crate::limits::{self, Said};
use crate::place::PlaceError;
use crate::startup::Basis;
use crate::word::{Failure, WORD, Word};
use hatchery_protocol::channel::ReceiveError;
use hatchery_protocol::link::{Identity, LaunchPlan, Listen, Place, Program, WorkerNumber};
use hatchery_protocol::packet;
use rustix::fs::{Gid, Uid};
use rustix::net::RecvFlags;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What workers' files are masked with, if nobody says otherwise.
const UMASK: u32 = 0o022;

/// No program takes longer to be executed, whatever the plan says of its start.
const LONGEST: Duration = Duration::from_secs(3600);

/// What the keeper sent along.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) mark: String,
    pub(crate) notify: Option<Vec<u8>>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) listener: Option<OwnedFd>,
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("{0}")]
    Place(#[from] PlaceError),
    #[error("the plan has no program")]
    NoProgram,
    #[error("what came along for the worker's output is no pipe")]
    Output,
    #[error("{}", said.refused(why))]
    Limit { said: Said, why: String },
    #[error("an argument or a path contains a null byte")]
    Null,
    #[error("the worker's listener did not come along, or came for an app that makes its own")]
    Listener,
    #[error("this executable has no demo app inside")]
    NoDemoApp,
    #[error("a process could not be made: {0}")]
    Process(#[from] io::Error),
    #[error("the start command could not be executed")]
    Child(Failure),
    #[error("the process said nothing that makes sense")]
    Garbled,
    #[error("executing the start command took longer than {:.1} s", .0.as_secs_f64())]
    TookTooLong(Duration),
    #[error("too many workers are about to execute their program")]
    TooMany,
    #[error("the worker was given up before its program was executed")]
    GivenUp,
}

/// What reports tell of a start.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) root: Vec<u8>,
    pub(crate) program: Vec<u8>,
    pub(crate) candidates: Vec<CString>,
    pub(crate) levels: Vec<CString>,
    pub(crate) path: Vec<u8>,
    /// Whom it runs as, if not as the pool.
    pub(crate) user: Option<String>,
    /// What its process applies to itself.
    pub(crate) limits: Vec<Said>,
    /// What its control group is to apply.
    pub(crate) group_limits: Vec<Said>,
}

/// A process that does not yet execute its program.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) worker: WorkerNumber,
    pub(crate) place: Option<Place>,
    pub(crate) deadline: Instant,
    pub(crate) limit: Duration,
    pub(crate) story: Story,
    pub(crate) group: Option<PathBuf>,
    /// One sentence for each limit that is not applied.
    pub(crate) missed: Vec<String>,
    words: OwnedFd,
    pid: Option<i32>,
    failure: Option<Failure>,
}

/// How a start ended.
pub(crate) type Outcome = Result<i32, LaunchError>;

impl Story {
    pub(crate) fn of(plan: &LaunchPlan) -> Self {
        let program = match &plan.program {
            Program::Command(command) => command.first().cloned().unwrap_or_default(),
            Program::DemoApp => b"the demo app".to_vec(),
            Program::Loader(loading) => loading.interpreter.first().cloned().unwrap_or_default(),
        };
        Self {
            root: plan.root.clone(),
            program,
            candidates: Vec::new(),
            levels: Vec::new(),
            path: Vec::new(),
            user: plan.identity.as_ref().map(|identity| identity.name.clone()),
            limits: Vec::new(),
            group_limits: Vec::new(),
        }
    }
}

/// A start that came to nothing before there was a process.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: LaunchError,
    pub(crate) story: Story,
}

/// Begins to start `plan`.
pub(crate) fn begin(
    basis: &Basis,
    inherited: &BTreeMap<Vec<u8>, Vec<u8>>,
    worker: WorkerNumber,
    plan: &LaunchPlan,
    given: Given,
    place: Option<Place>,
    applied: Applied,
) -> Result<Launch, Box<Failed>> {
    let mut story = Story::of(plan);
    let limit = plan.start_timeout.min(LONGEST);
    let missed = applied.missed.iter().map(|(said, why)| said.missed(why)).collect();
    let group = applied.made.as_ref().map(|made| made.path.clone());
    story.group_limits = applied.kept;
    match prepare(basis, inherited, plan, given, place.as_ref(), applied.made, &mut story) {
        Ok((mut prepared, words)) => match child::start(&mut prepared) {
            Ok(_) => Ok(Launch {
                worker,
                place,
                deadline: Instant::now() + limit,
                limit,
                story,
                group,
                missed,
                words,
                pid: None,
                failure: None,
            }),
            Err(error) => Err(Box::new(Failed { error: error.into(), story })),
        },
        Err(error) => Err(Box::new(Failed { error, story })),
    }
}

fn prepare(
    basis: &Basis,
    inherited: &BTreeMap<Vec<u8>, Vec<u8>>,
    plan: &LaunchPlan,
    given: Given,
    place: Option<&Place>,
    made: Option<Made>,
    story: &mut Story,
) -> Result<(Prepared, OwnedFd), LaunchError> {
    let inherits = matches!(plan.listen, Listen::Fd | Listen::Stdin);
    if inherits != given.listener.is_some() {
        return Err(LaunchError::Listener);
    }
    let (stdin, listener) = match (plan.listen, given.listener) {
        (Listen::Stdin, Some(listener)) => (listener, None),
        (_, listener) => (File::open("/dev/null")?.into(), listener),
    };
    let Environment { entries, own_pid_entry, path } =
        environment::of(inherited, plan, &given.mark, given.notify.as_deref(), place, listener.is_some());
    let (image, arguments) = match &plan.program {
        Program::DemoApp => {
            let executable = basis.demo_app.as_ref().ok_or(LaunchError::NoDemoApp)?;
            (Image::Open(executable.try_clone()?), vec![c"hatchery".to_owned(), c"demo-app".to_owned()])
        }
        Program::Command(command) => {
            let command: Vec<_> = command.iter().map(|argument| filled(argument, place)).collect();
            let program = command.first().filter(|program| !program.is_empty()).ok_or(LaunchError::NoProgram)?;
            story.candidates = candidates(program, &path)?;
            let arguments = command.into_iter().map(string).collect::<Result<_, _>>()?;
            (Image::Paths(story.candidates.clone()), arguments)
        }
        Program::Loader(_) => return Err(LaunchError::NoProgram),
    };
    story.path = path;
    story.levels = levels(&plan.directory)?;
    let (limits, said) = limits::steps(&plan.limits);
    story.limits = said;
    let group_required = story.group_limits.iter().any(|said| limits::is_required(&plan.limits.required, said.key));
    if let Some(identity) = &plan.identity {
        give(&given.stdout, identity)?;
        give(&given.stderr, identity)?;
    }
    let (words, theirs) = packet::pair().map_err(io::Error::from)?;
    let prepared = Prepared {
        keeper: basis.keeper,
        words: theirs,
        stdin,
        stdout: given.stdout,
        stderr: given.stderr,
        listener,
        limits,
        group: made.map(|made| Group { processes: made.processes, required: group_required }),
        umask: plan.limits.umask.unwrap_or(UMASK),
        ids: plan.identity.as_ref().map(ids),
        levels: story.levels.clone(),
        image,
        arguments: Pointers::new(arguments),
        environment: Pointers::new(entries),
        own_pid_entry,
    };
    Ok((prepared, words))
}

fn ids(identity: &Identity) -> Ids {
    Ids { uid: identity.uid, gid: identity.gid, groups: identity.groups.clone() }
}

/// The worker may open its output by name (`/dev/stdout`). No file is given away that is not a pipe's end: it
/// would be the core that said which.
fn give(output: &OwnedFd, identity: &Identity) -> Result<(), LaunchError> {
    const PIPES: u64 = 0x5049_5045;
    if rustix::fs::fstatfs(output).map_err(io::Error::from)?.f_type as u64 != PIPES {
        return Err(LaunchError::Output);
    }
    let (user, group) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    Ok(rustix::fs::fchown(output, Some(user), Some(group)).map_err(io::Error::from)?)
}

fn string(bytes: Vec<u8>) -> Result<CString, LaunchError> {
    CString::new(bytes).map_err(|_| LaunchError::Null)
}

/// Where the program may be: itself if it has a slash, else in each folder of `path`.
fn candidates(program: &[u8], path: &[u8]) -> Result<Vec<CString>, LaunchError> {
    if program.contains(&b'/') {
        return Ok(vec![string(program.to_vec())?]);
    }
    path.split(|byte| *byte == b':')
        .map(|folder| {
            let folder = if folder.is_empty() { b"." } else { folder };
            string([folder, program].join(&b'/'))
        })
        .collect()
}

/// `directory` with all its parents, from the top.
fn levels(directory: &[u8]) -> Result<Vec<CString>, LaunchError> {
    let mut levels = vec![c"/".to_owned()];
    for (index, byte) in directory.iter().enumerate() {
        let end = index + 1 == directory.len();
        if index > 0 && *byte != b'/' && (end || directory[index + 1] == b'/') {
            levels.push(string(directory[..=index].to_vec())?);
        }
    }
    Ok(levels)
}

/// An argument with `{port}` and `{socket}` filled in.
fn filled(argument: &[u8], place: Option<&Place>) -> Vec<u8> {
    match place {
        None => argument.to_vec(),
        Some(Place::Port(port)) => replaced(argument, b"{port}", port.to_string().as_bytes()),
        Some(Place::Path(path)) => replaced(argument, b"{socket}", path),
    }
}

fn replaced(text: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        result.extend_from_slice(&rest[..at]);
        result.extend_from_slice(to);
        rest = &rest[at + from.len()..];
    }
    result.extend_from_slice(rest);
    result
}

impl Launch {
    /// Reads what the new process said. `None`: it is not over yet.
    pub(crate) fn hear(&mut self) -> Option<Outcome> {
        let mut buffer = [0; WORD];
        loop {
            match packet::receive(&self.words, &mut buffer, RecvFlags::DONTWAIT) {
                Ok(received) if received.len == 0 => return Some(self.conclude()),
                Ok(received) => match Word::decode(&buffer[..received.len]) {
                    Some(Word::Pid(pid)) => self.pid = Some(pid),
                    Some(Word::Failed(failure)) => self.failure = Some(failure),
                    Some(Word::Missed { limit, errno }) => self.miss(limit, errno),
                    None => return Some(Err(LaunchError::Garbled)),
                },
                Err(errno) => {
                    return match ReceiveError::from(errno) {
                        error if error.would_block() => None,
                        ReceiveError::Closed => Some(self.conclude()),
                        _ => Some(Err(LaunchError::Process(errno.into()))),
                    };
                }
            }
        }
    }

    fn miss(&mut self, limit: usize, errno: i32) {
        let why = limits::system(errno);
        if let Some(said) = self.story.limits.get(limit) {
            self.missed.push(said.missed(&why));
        } else {
            // It could not join its control group, which so can do nothing for it.
            let why = format!("its control group can't be joined: {why}");
            self.missed.extend(self.story.group_limits.iter().map(|said| said.missed(&why)));
            self.group = None;
        }
    }

    /// Nobody can say anything any more: the process between has ended, and the program is executing, or the
    /// worker has ended.
    fn conclude(&mut self) -> Outcome {
        match (self.failure.take(), self.pid) {
            (Some(failure), _) => Err(LaunchError::Child(failure)),
            (None, Some(pid)) => Ok(pid),
            (None, None) => Err(LaunchError::Garbled),
        }
    }

    /// Ends a process that has not executed its program. The keeper does not reap it before this start is
    /// answered, so the pid is still its own.
    pub(crate) fn give_up(mut self) {
        // From now on the process can say nothing, its pid included, without which it goes no further; what it
        // had said before is read here.
        let _ = rustix::net::shutdown(&self.words, rustix::net::Shutdown::Both);
        while self.hear().is_none() {}
        if let Some(pid) = self.pid.and_then(rustix::process::Pid::from_raw) {
            // Gone already: all the better.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

impl AsFd for Launch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.words.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(strings: &[CString]) -> Vec<&str> {
        strings.iter().map(|string| string.to_str().unwrap()).collect()
    }

    #[test]
    fn a_program_without_a_slash_is_looked_for_on_the_path() {
        assert_eq!(text(&candidates(b"ruby", b"/a:/b/c::").unwrap()), ["/a/ruby", "/b/c/ruby", "./ruby", "./ruby"]);
        assert_eq!(text(&candidates(b"./ruby", b"/a").unwrap()), ["./ruby"]);
    }

    #[test]
    fn every_level_of_a_directory_is_entered() {
        assert_eq!(text(&levels(b"/").unwrap()), ["/"]);
        assert_eq!(text(&levels(b"/srv/a b/c").unwrap()), ["/", "/srv", "/srv/a b", "/srv/a b/c"]);
        assert_eq!(text(&levels(b"/a").unwrap()), ["/", "/a"]);
    }

    #[test]
    fn places_are_filled_into_arguments() {
        assert_eq!(filled(b"--port={port},{port}", Some(&Place::Port(80))), b"--port=80,80");
        assert_eq!(filled(b"{socket}", Some(&Place::Path(b"/x".to_vec()))), b"/x");
        assert_eq!(filled(b"{port}{socket}", None), b"{port}{socket}");
    }
}
