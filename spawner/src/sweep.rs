//! When the keeper is gone: nothing of the pool is left behind.

use crate::cgroup::Cgroups;
use crate::privilege;
use hatchery_protocol::mark;
use rustix::process::{Pid, Signal, WaitOptions, kill_process};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// What can't be killed for so long hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(5);

/// Kills all that is in the pool's control group or carries the mark of a worker of `pool`, until nothing does, and
/// removes the group and the runtime folder.
pub(crate) fn sweep(pool: &str, folder: &Path, cgroups: &Cgroups) {
    let end = Instant::now() + PATIENCE;
    let mut ended = cgroups.end_all();
    kill_marked(pool, end);
    if rustix::process::geteuid().is_root() && !privilege::may_look_into_others() {
        kill_marked_of_each_user(pool, end);
    }
    while !ended && Instant::now() < end {
        std::thread::sleep(PAUSE);
        ended = cgroups.end_all();
    }
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("spawner: {} could not be removed: {error}", folder.display());
    }
}

/// In many containers root may not read the environment of others' processes, and so sees no marks there. A child
/// that is each user in turn does.
fn kill_marked_of_each_user(pool: &str, end: Instant) {
    for (uid, gid) in privilege::users_and_groups() {
        // SAFETY: this process has one thread, so its child is a whole copy of it and may do anything.
        match unsafe { libc::fork() } {
            -1 => eprintln!("spawner: what user {uid} may have left is not looked for: {}", io::Error::last_os_error()),
            0 => {
                let done = privilege::become_ids(uid, gid, &[]);
                match &done {
                    Ok(()) => kill_marked(pool, end),
                    Err(error) => eprintln!("spawner: what user {uid} may have left is not looked for: {error}"),
                }
                // SAFETY: ends the process without dropping what its parent owns.
                unsafe { libc::_exit(i32::from(done.is_err())) }
            }
            child => {
                let _ = rustix::process::waitpid(rustix::process::Pid::from_raw(child), WaitOptions::empty());
            }
        }
    }
}

fn kill_marked(pool: &str, end: Instant) {
    // Twice, since what forks while it is looked for can be missed once.
    let mut clean = 0;
    while clean < 2 && Instant::now() < end {
        let marked = mark::processes(mark::WORKER, pool, true);
        clean = if marked.is_empty() { clean + 1 } else { 0 };
        for pid in marked.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(PAUSE);
    }
}
