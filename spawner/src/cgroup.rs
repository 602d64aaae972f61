//! Control groups, version 2: one for the pool, in it one for each worker. With the group its whole tree can be
//! ended, whatever became of parents and sessions; and where controllers are given, it can be limited.
//!
//! Paths here are the kernel's own and never hang. Where no group can be made, a pool works without.

use crate::limits::{Said, is_required, system};
use crate::mounts;
use hatchery_protocol::link::{Limits, WorkerNumber};
use hatchery_protocol::mark;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Where our own processes go when they stand in the way of controllers. No group of workers: it is never ended.
const MAIN: &str = "hatchery-main";
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];
/// The kernel's usual period of `cpu.max`, in microseconds.
const PERIOD: u64 = 100_000;
/// The kernel takes no smaller quota, in microseconds.
const LEAST_QUOTA: u64 = 1000;
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Cgroups {
    /// The pool's group, or why there is none.
    pool: Result<PathBuf, String>,
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
        Self { pool: make_pool(parent, pool, pool_user), leaving: Vec::new() }
    }

    /// Why there are none, though a parent was named for them.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.pool.as_ref().err().map(String::as_str)
    }

    /// A worker's own, which may not be there.
    pub(crate) fn path(&self, worker: WorkerNumber) -> Option<PathBuf> {
        self.pool.as_ref().ok().map(|pool| pool.join(format!("w-{}", worker.0)))
    }

    /// Makes a worker's group with its limits.
    pub(crate) fn make(&mut self, worker: WorkerNumber, limits: &Limits) -> Applied {
        let wanted = files(limits);
        let made = match (&self.pool, self.path(worker)) {
            (Ok(_), Some(path)) => make_group(&path),
            (pool, _) => Err(pool.as_ref().err().cloned().unwrap_or_default()),
        };
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

    /// Ends what is in a worker's group, and removes it, now or later.
    pub(crate) fn forget(&mut self, worker: WorkerNumber) {
        let Some(path) = self.path(worker) else { return };
        if !path.is_dir() || self.leaving.iter().any(|leaving| leaving.path == path) || end(&path) {
            return;
        }
        self.leaving.push(Leaving { path, next: Instant::now() + FIRST_PAUSE, pause: FIRST_PAUSE });
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.leaving.iter().map(|leaving| leaving.next).min()
    }

    /// Tries again what could not be removed yet. What is killed takes a moment to go.
    pub(crate) fn retry(&mut self, now: Instant) {
        self.leaving.retain_mut(|leaving| {
            if leaving.next > now {
                return true;
            }
            leaving.pause = (leaving.pause * 2).min(LONGEST_PAUSE);
            leaving.next = now + leaving.pause;
            !end(&leaving.path)
        });
    }

    /// The pool is gone: ends all that is in its group. False: something is left there.
    pub(crate) fn end_all(&self) -> bool {
        self.pool.as_ref().map_or(true, |pool| end(pool))
    }
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

fn parent_of(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// The files of a control group take what is written in one piece, and are never made by writing.
fn write(path: &Path, text: &str) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(&file, text.as_bytes()).map(drop)
}

fn make_pool(parent: Option<&Path>, pool: &str, pool_user: Option<u32>) -> Result<PathBuf, String> {
    let parent = match parent {
        Some(parent) if is_group(parent) => parent.to_path_buf(),
        Some(parent) => return Err(format!("{} is no control group of version 2", parent.display())),
        None => own_group()?,
    };
    let group = parent.join(format!("hatchery-{pool}"));
    match std::fs::create_dir(&group) {
        Ok(()) => {}
        // Made by an earlier spawner of this pool.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(format!("no control group can be made in {}: {error}", parent.display())),
    }
    give_controllers(&parent, &group, pool);
    if let Some(user) = pool_user {
        // So that the core can end all workers when the keeper is gone. A kernel before 5.14 has no such file.
        match std::os::unix::fs::chown(group.join("cgroup.kill"), Some(user), None) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("spawner: {}/cgroup.kill can't be given to the pool's user: {error}", group.display());
            }
            _ => {}
        }
    }
    Ok(group)
}

fn is_group(path: &Path) -> bool {
    const CGROUP2: u64 = 0x6367_7270;
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u64 == CGROUP2)
}

/// The group that this process is in, or would be in if it had not been moved out of the way.
fn own_group() -> Result<PathBuf, String> {
    let group = mounts::own_group()?;
    match group.file_name() {
        Some(name) if name == MAIN => Ok(parent_of(&group).to_path_buf()),
        _ => Ok(group),
    }
}

/// Gives the workers' groups what controllers there are. What can't be given is told by the limits that need it.
fn give_controllers(parent: &Path, group: &Path, pool: &str) {
    for controller in CONTROLLERS.into_iter().filter(|controller| lists(&parent.join("cgroup.controllers"), controller))
    {
        let enable = format!("+{controller}");
        let control = parent.join("cgroup.subtree_control");
        if !lists(&control, controller) && write(&control, &enable) == Err(Errno::BUSY) && move_aside(parent, pool) {
            let _ = write(&control, &enable);
        }
        let _ = write(&group.join("cgroup.subtree_control"), &enable);
    }
}

fn lists(file: &Path, word: &str) -> bool {
    std::fs::read_to_string(file).is_ok_and(|text| text.split_ascii_whitespace().any(|other| other == word))
}

fn processes(group: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// A group with processes of its own can give no controllers. If they are all ours, they move to one beside.
fn move_aside(parent: &Path, pool: &str) -> bool {
    /// What is forked meanwhile is found the next time.
    const TRIES: u32 = 3;
    let main = parent.join(MAIN);
    for _ in 0..TRIES {
        let standing = processes(parent);
        if standing.is_empty() {
            return true;
        }
        if !standing.iter().all(|pid| is_ours(*pid, pool)) {
            return false;
        }
        match std::fs::create_dir(&main) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return false,
            _ => {}
        }
        for pid in standing {
            // One that has just ended needs no place.
            let _ = write(&main.join("cgroup.procs"), &pid.to_string());
        }
    }
    processes(parent).is_empty()
}

/// Whether a process is of this pool, or executes what this one executes: the web server with the pool inside.
fn is_ours(pid: i32, pool: &str) -> bool {
    let file = |path: String| std::fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino())).ok();
    let same = || file(format!("/proc/{pid}/exe")).is_some_and(|exe| file("/proc/self/exe".into()) == Some(exe));
    mark::of(pid, mark::POOL).as_deref() == Some(pool) || same()
}

fn make_group(path: &Path) -> Result<Made, String> {
    // Left behind under this number: a worker that was given up.
    if path.is_dir() {
        end(path);
    }
    let failed = |error: &dyn std::fmt::Display| format!("the control group {} can't be made: {error}", path.display());
    std::fs::create_dir(path).map_err(|error| failed(&error))?;
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    match rustix::fs::open(path.join("cgroup.procs"), flags, Mode::empty()) {
        Ok(processes) => Ok(Made { path: path.to_path_buf(), processes }),
        Err(error) => {
            let why = failed(&error);
            end(path);
            Err(why)
        }
    }
}

/// Kills what is in `group` and below, and removes it. False: it is still there, as what is killed takes a moment.
fn end(group: &Path) -> bool {
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

fn below(group: &Path) -> Vec<PathBuf> {
    let Ok(folder) = std::fs::read_dir(group) else { return Vec::new() };
    folder
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn remove(group: &Path) -> bool {
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

    /// A group for a test, if one can be made here.
    fn group() -> Option<PathBuf> {
        let name = format!("hatchery-test-{}", std::process::id());
        match own_group().and_then(|own| {
            let group = own.join(name);
            std::fs::create_dir(&group).map(|()| group).map_err(|error| error.to_string())
        }) {
            Ok(group) => Some(group),
            Err(why) => {
                assert!(std::env::var_os("HATCHERY_CI").is_none(), "CI demands what can't be tested here: {why}");
                eprintln!("SKIPPED control groups: {why}");
                None
            }
        }
    }

    #[test]
    fn only_our_own_processes_are_moved_out_of_the_way() {
        let Some(parent) = group() else { return };
        let start = |pool: &str| {
            let mut command = std::process::Command::new("sleep");
            let child = command.arg("1000").env_clear().env(mark::POOL, pool).env("PATH", "/usr/bin:/bin").spawn();
            let child = child.unwrap();
            write(&parent.join("cgroup.procs"), &child.id().to_string()).unwrap();
            // Until it is executed, it is what this process is.
            let pid = i32::try_from(child.id()).unwrap();
            while mark::of(pid, mark::POOL).as_deref() != Some(pool) {
                std::thread::yield_now();
            }
            (child, pid)
        };
        let (mut ours, pid) = start("p");
        let (mut other, other_pid) = start("other");
        assert!(!move_aside(&parent, "p"));
        assert!(processes(&parent).contains(&pid));
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!processes(&parent).contains(&other_pid));
        assert!(move_aside(&parent, "p"));
        assert_eq!(processes(&parent.join(MAIN)), [pid]);
        let by = Instant::now() + Duration::from_secs(30);
        while !end(&parent) {
            assert!(Instant::now() < by, "the group stays");
        }
        ours.wait().unwrap();
    }

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
