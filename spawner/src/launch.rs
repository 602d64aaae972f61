//! One start: from a plan to `Started` or `SpawnFailed`.

use crate::cgroup::{Applied, Made};
use crate::child::{self, Image, LoaderEnds, Pointers, Prepared};
use crate::command::{candidates, filled, levels, string};
use crate::confine::{Group, Ids};
use crate::environment::{self, Environment};
use crate::forks::ForkError;
use crate::limits::{self, Said};
use crate::loaders;
use crate::place::PlaceError;
use crate::startup::Basis;
use crate::word::{Failure, WORD, Word};
use hatchery_protocol::channel::ReceiveError;
use hatchery_protocol::link::{Identity, LaunchPlan, Listen, Loader, Place, Program, WorkerNumber};
use hatchery_protocol::packet;
use hatchery_protocol::report::Setup;
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
pub(crate) const LONGEST: Duration = Duration::from_secs(3600);

/// What the keeper sent along.
#[derive(Debug)]
pub(crate) struct Given {
    pub(crate) mark: String,
    pub(crate) notify: Option<Vec<u8>>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) listener: Option<OwnedFd>,
}

/// As what a program is executed.
#[derive(Debug)]
pub(crate) enum Executed {
    /// A program of the app's own.
    App,
    /// One of our loaders, which reads this text and serves the app.
    Loader(OwnedFd),
    /// One of our loaders, for workers to fork from.
    Preloader(OwnedFd),
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
    #[error("workers of this application can't be forked")]
    NotForked,
    #[error("{0}")]
    Fork(#[from] ForkError),
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
    /// Which of our loaders runs it.
    pub(crate) loader: Option<Loader>,
    /// What it was to be.
    pub(crate) setup: Setup,
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
    /// It loads an app for workers to be forked from.
    pub(crate) preloads: bool,
    /// Our end of the channel to its loader.
    pub(crate) control: Option<OwnedFd>,
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
            loader: match &plan.program {
                Program::Loader(loading) => Some(loading.loader),
                Program::Command(_) | Program::DemoApp => None,
            },
            setup: plan.setup.clone(),
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
    (executed, given): (Executed, Given),
    place: Option<Place>,
    applied: Applied,
) -> Result<Launch, Box<Failed>> {
    let mut story = Story::of(plan);
    let limit = plan.start_timeout.min(LONGEST);
    let missed = applied.missed.iter().map(|(said, why)| said.missed(why)).collect();
    let group = applied.made.as_ref().map(|made| made.path.clone());
    story.group_limits = applied.kept;
    let preloads = matches!(executed, Executed::Preloader(_));
    let plan_and_place = (plan, place.as_ref());
    match prepare(basis, inherited, plan_and_place, executed, given, applied.made, &mut story) {
        Ok((mut prepared, Ends { words, control })) => match child::start(&mut prepared) {
            Ok(_) => Ok(Launch {
                worker,
                place,
                deadline: Instant::now() + limit,
                limit,
                story,
                group,
                missed,
                preloads,
                control,
                words,
                pid: None,
                failure: None,
            }),
            Err(error) => Err(Box::new(Failed { error: error.into(), story })),
        },
        Err(error) => Err(Box::new(Failed { error, story })),
    }
}

/// Our ends of the channels to a new process.
struct Ends {
    words: OwnedFd,
    control: Option<OwnedFd>,
}

fn prepare(
    basis: &Basis,
    inherited: &BTreeMap<Vec<u8>, Vec<u8>>,
    (plan, place): (&LaunchPlan, Option<&Place>),
    executed: Executed,
    given: Given,
    made: Option<Made>,
    story: &mut Story,
) -> Result<(Prepared, Ends), LaunchError> {
    let preload = matches!(executed, Executed::Preloader(_));
    let inherits = matches!(plan.listen, Listen::Fd | Listen::Stdin) && !preload;
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
            let command = command.iter().map(|argument| filled(argument, place)).collect();
            on_path(command, &path, story)?
        }
        Program::Loader(loading) => on_path(loaders::arguments(loading, plan.concurrency, preload), &path, story)?,
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
    let (loader, control) = match executed {
        Executed::App => (None, None),
        Executed::Loader(text) | Executed::Preloader(text) => {
            let (ours, control) = packet::pair().map_err(io::Error::from)?;
            (Some(LoaderEnds { text, control }), Some(ours))
        }
    };
    let prepared = Prepared {
        keeper: basis.keeper,
        words: theirs,
        stdin,
        stdout: given.stdout,
        stderr: given.stderr,
        listener: if preload { Some(File::open("/dev/null")?.into()) } else { listener },
        loader,
        limits,
        group: made.map(|made| Group { folder: made.folder, processes: made.processes, required: group_required }),
        umask: plan.limits.umask.unwrap_or(UMASK),
        ids: plan.identity.as_ref().map(ids),
        levels: story.levels.clone(),
        image,
        arguments: Pointers::new(arguments),
        environment: Pointers::new(entries),
        own_pid_entry,
    };
    Ok((prepared, Ends { words, control }))
}

/// A command whose program is looked for.
fn on_path(command: Vec<Vec<u8>>, path: &[u8], story: &mut Story) -> Result<(Image, Vec<CString>), LaunchError> {
    let program = command.first().filter(|program| !program.is_empty()).ok_or(LaunchError::NoProgram)?;
    story.candidates = candidates(program, path)?;
    let arguments = command.into_iter().map(string).collect::<Result<_, _>>()?;
    Ok((Image::Paths(story.candidates.clone()), arguments))
}

fn ids(identity: &Identity) -> Ids {
    Ids { uid: identity.uid, gid: identity.gid, groups: identity.groups.clone() }
}

/// The worker may open its output by name (`/dev/stdout`). No file is given away that is not a pipe's end: it
/// would be the core that said which.
pub(crate) fn give(output: &OwnedFd, identity: &Identity) -> Result<(), LaunchError> {
    const PIPES: u64 = 0x5049_5045;
    if rustix::fs::fstatfs(output).map_err(io::Error::from)?.f_type as u64 != PIPES {
        return Err(LaunchError::Output);
    }
    let (user, group) = (Uid::from_raw(identity.uid), Gid::from_raw(identity.gid));
    Ok(rustix::fs::fchown(output, Some(user), Some(group)).map_err(io::Error::from)?)
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

    /// Its process, as far as that has said so.
    pub(crate) fn pid(&self) -> Option<i32> {
        self.pid
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
