//! The environment variables by which Hatchery's processes are found again, whatever became of their parents.

use std::os::unix::ffi::OsStrExt;

/// In every worker and all it starts: `POOL.CORE.N` (the pool's random id, the core's start count, the worker).
pub const WORKER: &str = "HATCHERY_WORKER";
/// In the keeper, core, spawner and preloaders: the pool's random id.
pub const POOL: &str = "HATCHERY_POOL";
/// In every worker: its app's root.
pub const ROOT: &str = "HATCHERY_ROOT";

/// What a worker is marked with.
#[must_use]
pub fn worker(pool: &str, core: u32, worker: u64) -> String {
    format!("{pool}.{core}.{worker}")
}

/// What the environment of a process said of `variable` when it was executed; `None` too if it can't be read.
#[must_use]
pub fn of(pid: i32, variable: &str) -> Option<String> {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
    let prefix = format!("{variable}=");
    let value = environment.split(|byte| *byte == 0).find_map(|entry| entry.strip_prefix(prefix.as_bytes()))?;
    String::from_utf8(value.to_vec()).ok()
}

/// The processes whose environment says `variable=value`, or `variable=value.…` if `below`. Those that end
/// meanwhile, and those whose environment this process may not read, are not among them.
#[must_use]
pub fn processes(variable: &str, value: &str, below: bool) -> Vec<i32> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    let wanted = format!("{variable}={value}");
    folder
        .flatten()
        .filter_map(|entry| std::str::from_utf8(entry.file_name().as_bytes()).ok()?.parse::<i32>().ok())
        .filter(|pid| carries(*pid, wanted.as_bytes(), below))
        .collect()
}

fn carries(pid: i32, wanted: &[u8], below: bool) -> bool {
    let Ok(environment) = std::fs::read(format!("/proc/{pid}/environ")) else { return false };
    environment.split(|byte| *byte == 0).any(|entry| match entry.strip_prefix(wanted) {
        Some([]) => true,
        Some([b'.', ..]) => below,
        _ => false,
    })
}
