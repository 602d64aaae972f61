//! When the keeper is gone: nothing of the pool is left behind.

use hatchery_protocol::mark;
use rustix::process::{Pid, Signal, kill_process};
use std::path::Path;
use std::time::{Duration, Instant};

/// What can't be killed for so long hangs in the kernel.
const PATIENCE: Duration = Duration::from_secs(10);

/// Kills all that carries the mark of a worker of `pool`, until nothing does, and removes the runtime folder.
pub(crate) fn sweep(pool: &str, folder: &Path) {
    let end = Instant::now() + PATIENCE;
    // Twice, since what forks while it is looked for can be missed once.
    let mut clean = 0;
    while clean < 2 && Instant::now() < end {
        let marked = mark::processes(mark::WORKER, pool, true);
        clean = if marked.is_empty() { clean + 1 } else { 0 };
        for pid in marked.into_iter().filter_map(Pid::from_raw) {
            let _ = kill_process(pid, Signal::KILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Err(error) = std::fs::remove_dir_all(folder)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        eprintln!("spawner: {} could not be removed: {error}", folder.display());
    }
}
