//! Another configuration, read where the first came from: what the source tells to execute prints it.

use super::exposure::only_root_writes;
use super::roles::clean_environment;
use super::{start, workers};
use crate::privileges::privileged;
use hatchery_protocol::config::{PoolConfig, Source};
use hatchery_protocol::report::Exit;
use hatchery_protocol::{codec, mark};
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, Pid, fork, getpid, getppid, setpgid};
use rustix::event::{PollFd, PollFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take.
const LIMIT: Duration = Duration::from_secs(10);
/// How long a configuration may be, encoded.
const LONGEST: usize = 4 << 20;
/// How much of what is wrong with it is passed on.
const LONGEST_PROBLEM: usize = 64 << 10;

/// The one that is being read, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Reloads {
    reading: Option<Reading>,
    /// Questions that are answered by what is being read.
    answers: u32,
    /// Those that came since: what is read began before them, and may be older than they expect.
    later: u32,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) answers: u32,
    pub(super) config: Result<PoolConfig, String>,
}

impl Reloads {
    pub(super) fn ask(&mut self) {
        self.later = self.later.saturating_add(1);
    }

    /// Nobody waits any more.
    pub(super) fn cancel(&mut self) {
        *self = Self::default();
    }

    /// Goes on as far as it can without waiting.
    pub(super) fn turn(&mut self, begin: impl FnOnce() -> Result<Reading, String>) -> Option<Outcome> {
        if self.reading.is_none() && self.later > 0 {
            self.answers = std::mem::take(&mut self.later);
            match begin() {
                Ok(reading) => self.reading = Some(reading),
                Err(problem) => return Some(self.answered(Err(problem))),
            }
        }
        let config = self.reading.as_mut()?.turn()?;
        self.reading = None;
        Some(self.answered(config))
    }

    fn answered(&mut self, config: Result<PoolConfig, String>) -> Outcome {
        Outcome { answers: std::mem::take(&mut self.answers), config }
    }

    /// The process that reads it.
    pub(super) fn pid(&self) -> Option<i32> {
        self.reading.as_ref().map(|reading| reading.pid)
    }

    pub(super) fn poll(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.reading.iter().flat_map(|reading| reading.output.poll().into_iter().chain(reading.errors.poll()))
    }

    /// When something is to be done even if nothing comes.
    pub(super) fn due(&self) -> Option<Instant> {
        self.reading.as_ref().map(|reading| reading.by)
    }
}

/// Executes what the source tells.
///
/// # Errors
/// One sentence: why there is nothing that could be read.
pub(super) fn begin(source: Option<&Source>, pool: &str) -> Result<Reading, String> {
    let source = source.ok_or(
        "this pool was started with a configuration that is written nowhere, so that it can't be read again; start \
         it anew with another, or say what is to change through its admin socket",
    )?;
    Reading::start(command(source, pool), &source.files)
        .map_err(|error| format!("the configuration can't be read: {error}"))
}

/// A process that reads the configuration and prints it. Ended when this is dropped.
#[derive(Debug)]
pub(super) struct Reading {
    pid: i32,
    output: Intake,
    errors: Intake,
    by: Instant,
    reaped: bool,
}

impl Reading {
    fn start(mut command: Command, files: &[Vec<u8>]) -> io::Result<Self> {
        let (output, mouth) = pipe_with(PipeFlags::CLOEXEC)?;
        let (errors, complaint) = pipe_with(PipeFlags::CLOEXEC)?;
        let keeper = getpid();
        // SAFETY: the keeper has one thread, so its child is a whole copy of it and may do anything.
        match unsafe { fork() }? {
            ForkResult::Child => {
                let error = become_reader(mouth, complaint, keeper).map_or_else(
                    |error| error.to_string(),
                    |()| check(files).map_or_else(|problem| problem, |()| execute(&mut command)),
                );
                let _ = writeln!(io::stderr(), "{error}");
                // SAFETY: ends the process without dropping what its parent owns.
                unsafe { libc::_exit(1) }
            }
            ForkResult::Parent { child } => Ok(Self {
                pid: child.as_raw(),
                output: Intake::new(output, LONGEST)?,
                errors: Intake::new(errors, LONGEST_PROBLEM)?,
                by: Instant::now() + LIMIT,
                reaped: false,
            }),
        }
    }

    /// What it came to, once it has.
    fn turn(&mut self) -> Option<Result<PoolConfig, String>> {
        let late = self.by <= Instant::now();
        // Before the end is looked at: what came until then is whole.
        let ended = workers::has_ended(self.pid);
        self.output.take();
        self.errors.take();
        if self.output.overflowed {
            return Some(Err(format!("the configuration is longer than {LONGEST} bytes")));
        }
        if !ended {
            let slow = || Err(format!("the configuration could not be read within {} s", LIMIT.as_secs()));
            return late.then(slow);
        }
        let exit = self.reap();
        Some(match exit {
            Exit::Status(0) => codec::decode_payload(&self.output.bytes)
                .map_err(|error| format!("what was read is no configuration of this version: {error}")),
            exit => Err(self.problem(exit)),
        })
    }

    fn problem(&self, exit: Exit) -> String {
        let said = String::from_utf8_lossy(&self.errors.bytes);
        match said.trim_end() {
            "" => format!("what reads the configuration ended with {exit}, and did not say why"),
            said => said.to_owned(),
        }
    }

    fn reap(&mut self) -> Exit {
        workers::kill_group(self.pid);
        self.reaped = true;
        workers::reap(self.pid)
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        if !self.reaped {
            // Its number is its own until the keeper's loop reaps it.
            workers::kill_group(self.pid);
        }
    }
}

fn command(source: &Source, pool: &str) -> Command {
    let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
    let mut command = Command::new("/proc/self/exe");
    if let [name, rest @ ..] = source.arguments.as_slice() {
        command.arg0(text(name)).args(rest.iter().map(|word| text(word)));
    }
    command
        .env_clear()
        .envs(clean_environment())
        .envs(source.env.iter().map(|(name, value)| (text(name), text(value))));
    command.env(mark::POOL, pool).current_dir(text(&source.directory));
    command.stdin(Stdio::null());
    command
}

/// In the child: what it prints goes into the pipes, and it holds nothing else of the keeper's.
fn become_reader(mouth: OwnedFd, complaint: OwnedFd, keeper: Pid) -> io::Result<()> {
    rustix::stdio::dup2_stdout(&mouth)?;
    rustix::stdio::dup2_stderr(&complaint)?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    if getppid() != keeper {
        return Err(ErrorKind::NotFound.into());
    }
    // Whatever it starts ends with it.
    setpgid(Pid::from_raw(0), Pid::from_raw(0))?;
    std::mem::forget((mouth, complaint));
    // SAFETY: the descriptors closed here belong to values that this process never uses or drops again.
    match unsafe { libc::close_range(3, u32::MAX, 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Who could write the file would say as whom applications run.
fn check(files: &[Vec<u8>]) -> Result<(), String> {
    if !privileged() {
        return Ok(());
    }
    for file in files {
        let path = Path::new(OsStr::from_bytes(file));
        only_root_writes(path).map_err(|exposed| format!("{} is not read again: {exposed}", path.display()))?;
    }
    Ok(())
}

/// Returns only what went wrong.
fn execute(command: &mut Command) -> String {
    format!("what reads the configuration can't be executed: {}", command.exec())
}

/// What comes out of a pipe, up to a limit.
#[derive(Debug)]
struct Intake {
    /// `None` once its end was seen.
    pipe: Option<File>,
    bytes: Vec<u8>,
    limit: usize,
    /// There was more than that.
    overflowed: bool,
}

impl Intake {
    fn new(pipe: OwnedFd, limit: usize) -> io::Result<Self> {
        rustix::io::ioctl_fionbio(&pipe, true)?;
        Ok(Self { pipe: Some(pipe.into()), bytes: Vec::new(), limit, overflowed: false })
    }

    /// All that is here. What is too much is thrown away.
    fn take(&mut self) {
        let mut some = [0; 16 << 10];
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut some) {
                Ok(read @ 1..) => {
                    let room = self.limit - self.bytes.len();
                    self.bytes.extend(&some[..read.min(room)]);
                    self.overflowed |= read > room;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Ok(0) | Err(_) => self.pipe = None,
            }
        }
    }

    fn poll(&self) -> Option<PollFd<'_>> {
        self.pipe.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN))
    }
}

/// The new configuration, with what can't change while the pool runs as it is now; and the keys that would have.
///
/// # Errors
/// One sentence: what no pool can be started with, none goes on with.
pub(super) fn merge(fresh: PoolConfig, present: &PoolConfig) -> Result<(PoolConfig, Vec<String>), String> {
    start::check(&fresh)?;
    let differs = [
        ("admin", fresh.admin != present.admin),
        ("admin_group", fresh.admin_access.group != present.admin_access.group),
        ("admin_readers", fresh.admin_access.readers != present.admin_access.readers),
        ("admin_owners", fresh.admin_access.owners != present.admin_access.owners),
        ("log_file", fresh.log.file != present.log.file),
        ("log_format", fresh.log.format != present.log.format),
        ("output_dir", fresh.output.folder != present.output.folder),
        ("output_max_size", fresh.output.max_size != present.output.max_size),
        ("output_files", fresh.output.files != present.output.files),
        ("state_dir", fresh.state_dir != present.state_dir),
        ("pool_user", fresh.pool_user != present.pool_user),
        ("cgroup", fresh.cgroup != present.cgroup),
    ];
    let kept = differs.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name.to_owned()).collect();
    let present = present.clone();
    let merged = PoolConfig {
        admin: present.admin,
        admin_access: present.admin_access,
        log: present.log,
        output: present.output,
        state_dir: present.state_dir,
        pool_user: present.pool_user,
        cgroup: present.cgroup,
        spawner: present.spawner,
        source: present.source,
        ..fresh
    };
    Ok((merged, kept))
}

#[cfg(test)]
mod tests;
