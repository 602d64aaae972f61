//! The control group of the whole pool, in which each worker gets its own: where it is, and what it can give.

use crate::cgroup::{below, parent_of, processes, remove, write};
use crate::mounts;
use hatchery_protocol::mark;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

const PREFIX: &str = "hatchery-";
/// Where our own processes go when they stand in the way of controllers. No group of workers: it is never ended.
const MAIN: &str = "hatchery-main";
const CONTROLLERS: [&str; 3] = ["memory", "cpu", "pids"];

#[derive(Debug)]
pub(crate) struct PoolGroup {
    path: PathBuf,
    pool: String,
    pool_user: Option<u32>,
    /// Says that it is in use. `None`: it is not there.
    lock: Option<OwnedFd>,
}

impl PoolGroup {
    /// Makes it below `parent`, or below the group that this process is in.
    pub(crate) fn begin(parent: Option<&Path>, pool: &str, pool_user: Option<u32>) -> Result<Self, String> {
        let parent = match parent {
            Some(parent) if is_group(parent) => parent.to_path_buf(),
            Some(parent) => return Err(format!("{} is no control group of version 2", parent.display())),
            None => own_group()?,
        };
        let path = parent.join(format!("{PREFIX}{pool}"));
        let mut group = Self { path, pool: pool.to_owned(), pool_user, lock: None };
        group.ensure()?;
        remove_what_others_left(&parent, &group.path);
        Ok(group)
    }

    /// Whether it is there or not.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, if it is not there.
    pub(crate) fn ensure(&mut self) -> Result<(), String> {
        if self.lock.is_some() && self.path.is_dir() {
            return Ok(());
        }
        let parent = parent_of(&self.path);
        let failed =
            |error: &dyn std::fmt::Display| format!("no control group can be made in {}: {error}", parent.display());
        self.lock = Some(make_and_lock(&self.path).map_err(|error| failed(&error))?);
        give_controllers(parent, &self.path, &self.pool);
        let Some(user) = self.pool_user else { return Ok(()) };
        // So that the core can end all workers when the keeper is gone. A kernel before 5.14 has no such file.
        match std::os::unix::fs::chown(self.path.join("cgroup.kill"), Some(user), None) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                eprintln!("spawner: {}/cgroup.kill can't be given to the pool's user: {error}", self.path.display());
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes it, if nothing is in it.
    pub(crate) fn release(&mut self) {
        if rustix::fs::rmdir(&self.path).is_ok() {
            self.lock = None;
        }
    }
}

fn open(group: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::open(group, flags, Mode::empty())
}

/// The group, made or found, and locked before a pool that begins can take it for one that was left behind.
fn make_and_lock(group: &Path) -> io::Result<OwnedFd> {
    const TRIES: u32 = 16;
    for _ in 0..TRIES {
        match std::fs::create_dir(group) {
            // Made by an earlier spawner of this pool.
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        // Shared, since an earlier spawner may be about to go. It may have been removed in between.
        if let Ok(lock) = open(group)
            && rustix::fs::flock(&lock, FlockOperation::NonBlockingLockShared).is_ok()
            && group.is_dir()
        {
            return Ok(lock);
        }
    }
    Err(io::ErrorKind::ResourceBusy.into())
}

/// Removes the empty groups of pools whose spawner is gone: one that was killed could not.
fn remove_what_others_left(parent: &Path, own: &Path) {
    for group in below(parent) {
        let name = group.file_name().unwrap_or_default();
        if name == MAIN || group == own || !name.as_encoded_bytes().starts_with(PREFIX.as_bytes()) {
            continue;
        }
        if let Ok(lock) = open(&group)
            && rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
        {
            // The kernel keeps those that have processes.
            remove(&group);
        }
    }
}

fn is_group(path: &Path) -> bool {
    const CGROUP2: u64 = 0x6367_7270;
    rustix::fs::statfs(path).is_ok_and(|stat| stat.f_type as u64 == CGROUP2)
}

/// The group that this process is in, or would be in if it had not been moved out of the way.
fn own_group() -> Result<PathBuf, String> {
    let group = mounts::own_group().map_err(|error| error.to_string())?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::end;
    use std::time::{Duration, Instant};

    /// A group for a test, if one can be made here.
    fn group(test: &str) -> Option<PathBuf> {
        let name = format!("test-{test}-{}", std::process::id());
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
        let Some(parent) = group("moved") else { return };
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
    fn an_empty_group_that_nobody_uses_is_removed_by_the_next_pool() {
        let Some(parent) = group("left") else { return };
        let killed = parent.join("hatchery-killed");
        std::fs::create_dir_all(killed.join("w-1")).unwrap();
        let other = parent.join("other");
        std::fs::create_dir(&other).unwrap();
        let mut first = PoolGroup::begin(Some(&parent), "first", None).unwrap();
        assert!(!killed.exists() && other.exists());
        let second = PoolGroup::begin(Some(&parent), "second", None).unwrap();
        assert!(first.path().is_dir());
        // A pool without workers has none.
        std::fs::create_dir(first.path().join("w-1")).unwrap();
        first.release();
        assert!(first.path().is_dir());
        remove(&first.path().join("w-1"));
        first.release();
        assert!(!first.path().exists());
        first.ensure().unwrap();
        assert!(first.path().is_dir());
        drop((first, second));
        assert!(remove(&parent));
    }
}
