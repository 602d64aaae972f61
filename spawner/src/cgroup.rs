//! Control groups, version 2: one for the pool, in it one for each worker. With the group its whole tree can be
//! ended, whatever became of parents and sessions; and where controllers are given, it can be limited.
//!
//! Paths here are the kernel's own and never hang. Where no group can be made, a pool works without.

use crate::limits::{Said, is_required, system};
use crate::pool_group::PoolGroup;
use hatchery_protocol::link::{Limits, WorkerNumber};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The kernel's usual period of `cpu.max`, in microseconds.
const PERIOD: u64 = 100_000;
/// The kernel takes no smaller quota, in microseconds.
const LEAST_QUOTA: u64 = 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Cgroups {
    /// The pool's group, or why there can be none.
    pool: Result<PoolGroup, String>,
    leaving: Vec<Leaving>,
}

/// A group that is being ended.
#[derive(Debug)]
struct Leaving {
    path: PathBuf,
    next: Instant,
    pause: Duration,
}

/// A worker's group that was made.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) path: PathBuf,
    /// It itself, by `O_PATH`.
    pub(crate) folder: OwnedFd,
    /// Its `cgroup.procs`.
    pub(crate) processes: OwnedFd,
}

/// What became of the limits that need a group.
#[derive(Debug, Default)]
pub(crate) struct Applied {
    pub(crate) made: Option<Made>,
    /// Those that hold once the worker is in its group.
    pub(crate) kept: Vec<Said>,
    /// Those that are not applied, and why.
    pub(crate) missed: Vec<(Said, String)>,
}

impl Applied {
    /// The first that is required and not applied.
    pub(crate) fn refusal(&self, required: &[String]) -> Option<&(Said, String)> {
        self.missed.iter().find(|(said, _)| is_required(required, said.key))
    }
}

impl Cgroups {
    /// Before it is known where.
    pub(crate) fn none() -> Self {
        Self { pool: Err("the pool has not begun".into()), leaving: Vec::new() }
    }

    /// Makes the pool's group below `parent`, or below the one that this process is in.
    pub(crate) fn begin(parent: Option<&Path>, pool: &str, pool_user: Option<u32>) -> Self {
        Self { pool: PoolGroup::begin(parent, pool, pool_user), leaving: Vec::new() }
    }

    /// Why there are none, though a parent was named for them.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.pool.as_ref().err().map(String::as_str)
    }

    /// A worker's own, which may not be there.
    pub(crate) fn path(&self, worker: WorkerNumber) -> Option<PathBuf> {
        self.pool.as_ref().ok().map(|pool| own(pool, worker))
    }

    /// Makes a worker's group with its limits.
    pub(crate) fn make(&mut self, worker: WorkerNumber, limits: &Limits) -> Applied {
        let wanted = files(limits);
        let made = self.make_own(worker);
        let mut applied = Applied::default();
        for (said, file, text) in wanted {
            match made.as_ref().map_err(Clone::clone).and_then(|made| write_limit(&made.path, file, &text)) {
                Ok(()) => applied.kept.push(said),
                Err(why) => applied.missed.push((said, why)),
            }
        }
        applied.made = made.ok();
        applied
    }

    fn make_own(&mut self, worker: WorkerNumber) -> Result<Made, String> {
        let pool = self.pool.as_mut().map_err(|why| why.clone())?;
        pool.ensure()?;
        let path = own(pool, worker);
        // A number can be used again.
        self.leaving.retain(|leaving| leaving.path != path);
        make_group(&path)
    }

    /// Ends what is in a worker's group, and removes it, now or later.
    pub(crate) fn forget(&mut self, worker: WorkerNumber) {
        let Some(path) = self.path(worker) else { return };
        if !path.is_dir() || self.leaving.iter().any(|leaving| leaving.path == path) {
            return;
        }
        if end(&path) {
            self.release();
        } else {
            self.leaving.push(Leaving { path, next: Instant::now() + FIRST_PAUSE, pause: FIRST_PAUSE });
        }
    }

    /// A pool without workers needs no group; what is not there is not left behind.
    fn release(&mut self) {
        if let Ok(pool) = &mut self.pool {
            pool.release();
        }
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.leaving.iter().map(|leaving| leaving.next).min()
    }

    /// Tries again what could not be removed yet. What is killed takes a moment to go.
    pub(crate) fn retry(&mut self, now: Instant) {
        let before = self.leaving.len();
        self.leaving.retain_mut(|leaving| {
            if leaving.next > now {
                return true;
            }
            leaving.pause = (leaving.pause * 2).min(LONGEST_PAUSE);
            leaving.next = now + leaving.pause;
            !end(&leaving.path)
        });
        if self.leaving.len() < before {
            self.release();
        }
    }

    /// The pool is gone: ends all that is in its group. False: something is left there.
    pub(crate) fn end_all(&self) -> bool {
        self.pool.as_ref().map_or(true, |pool| end(pool.path()))
    }
}

/// The group of a worker in that of its pool.
fn own(pool: &PoolGroup, worker: WorkerNumber) -> PathBuf {
    pool.path().join(format!("w-{}", worker.0))
}

/// The limits, each with its file and what is written there.
fn files(limits: &Limits) -> Vec<(Said, &'static str, String)> {
    let mut files = Vec::new();
    if let Some(bytes) = limits.memory_max {
        files.push((Said::new("memory_max", bytes), "memory.max", bytes.to_string()));
    }
    if let Some(thousandths) = limits.cpu_max {
        let quota = (u64::from(thousandths) * PERIOD / 1000).max(LEAST_QUOTA);
        let said = Said::new("cpu_max", f64::from(thousandths) / 1000.0);
        files.push((said, "cpu.max", format!("{quota} {PERIOD}")));
    }
    if let Some(count) = limits.pids_max {
        files.push((Said::new("pids_max", count), "pids.max", count.to_string()));
    }
    files
}

fn write_limit(group: &Path, file: &str, text: &str) -> Result<(), String> {
    write(&group.join(file), text).map_err(|error| match error {
        Errno::NOENT => {
            let controller = file.split('.').next().unwrap_or(file);
            format!("control groups below {} have no {controller} controller", parent_of(group).display())
        }
        error => format!("{}: {}", group.join(file).display(), system(error.raw_os_error())),
    })
}

pub(crate) fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// The files of a control group take what is written in one piece, and are never made by writing.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

pub(crate) fn processes(group: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

fn make_group(path: &Path) -> Result<Made, String> {
    // Left behind under this number: a worker that was given up.
    if path.is_dir() {
        end(path);
    }
    let failed = |error: &dyn std::fmt::Display| format!("the control group {} can't be made: {error}", path.display());
    std::fs::create_dir(path).map_err(|error| failed(&error))?;
    let open = |path: &Path, flags| rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty());
    let opened = open(&path.join("cgroup.procs"), OFlags::WRONLY)
        .and_then(|processes| Ok((processes, open(path, OFlags::PATH | OFlags::DIRECTORY)?)));
    match opened {
        Ok((processes, folder)) => Ok(Made { path: path.to_path_buf(), folder, processes }),
        Err(error) => {
            let why = failed(&error);
            end(path);
            Err(why)
        }
    }
}

/// Kills what is in `group` and below, and removes it. False: it is still there, as what is killed takes a moment.
pub(crate) fn end(group: &Path) -> bool {
    if write(&group.join("cgroup.kill"), "1") == Err(Errno::NOENT) {
        // A kernel before 5.14. What forks meanwhile is found the next time.
        kill_each(group);
    }
    remove(group)
}

fn kill_each(group: &Path) {
    for pid in processes(group).into_iter().filter_map(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
    }
    below(group).iter().for_each(|group| kill_each(group));
}

pub(crate) fn below(group: &Path) -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(group) else { return Vec::new() };
    folder
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

pub(crate) fn remove(group: &Path) -> bool {
    for group in below(group) {
        remove(&group);
    }
    match rustix::fs::rmdir(group) {
        Ok(()) | Err(Errno::NOENT) => true,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_written_as_the_kernel_reads_them() {
        let limits = Limits { memory_max: Some(1 << 20), cpu_max: Some(1500), pids_max: Some(7), ..Limits::default() };
        let written: Vec<_> = files(&limits).into_iter().map(|(said, file, text)| (said.value, file, text)).collect();
        let expected =
            [("1048576", "memory.max", "1048576"), ("1.5", "cpu.max", "150000 100000"), ("7", "pids.max", "7")];
        assert_eq!(written, expected.map(|(value, file, text)| (value.to_owned(), file, text.to_owned())));
        assert_eq!(files(&Limits { cpu_max: Some(1), ..Limits::default() })[0].2, "1000 100000");
    }

    #[test]
    fn without_a_group_every_limit_that_needs_one_is_missed_with_the_reason() {
        let mut groups = Cgroups::begin(Some(Path::new("/tmp")), "p", None);
        assert_eq!(groups.refusal(), Some("/tmp is no control group of version 2"));
        let limits = Limits { pids_max: Some(7), required: vec!["pids_max".into()], ..Limits::default() };
        let applied = groups.make(WorkerNumber(1), &limits);
        assert!(applied.made.is_none());
        let (said, why) = applied.refusal(&limits.required).unwrap();
        assert_eq!(
            said.refused(why),
            "pids_max = 7 is required and can't be applied: /tmp is no control group of version 2"
        );
        groups.forget(WorkerNumber(1));
        assert_eq!(groups.deadline(), None);
        assert!(groups.end_all());
    }
}
