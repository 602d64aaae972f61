//! Finding out about a running worker. Runs in an errand: reading of a process's memory waits for the process.

use crate::privilege;
use crate::tree;
use hatchery_protocol::link::Findings;
use std::collections::BTreeSet;
use std::path::Path;

/// As much of a kernel stack is told, in bytes.
const LONGEST_STACK: usize = 4096;

/// What can be found out about the worker `pid`, whose control group is at `group` if it has one. `others`: further
/// workers' processes.
pub(crate) fn examine(pid: i32, mark: &str, group: Option<&Path>, others: &[i32]) -> Findings {
    // What only root may read comes first.
    let kernel_stack = kernel_stack(pid);
    let state = state(pid);
    let out_of_memory_kills = group.map_or(0, out_of_memory_kills);
    let of_group = group.and_then(|group| number(&group.join("memory.current")));
    if privilege::approach(pid).is_err() {
        // Without the right to look into its processes, this is all.
        return Findings { memory_bytes: of_group, processes: 0, state, kernel_stack, out_of_memory_kills };
    }
    let tree =
        group.map(members).filter(|members| !members.is_empty()).unwrap_or_else(|| tree::of(pid, Some(mark), others));
    let memory_bytes = of_group.or_else(|| tree.iter().filter_map(|pid| memory_of(*pid)).reduce(u64::saturating_add));
    let processes = u32::try_from(tree.len()).unwrap_or(u32::MAX);
    Findings { memory_bytes, processes, state, kernel_stack, out_of_memory_kills }
}

fn number(file: &Path) -> Option<u64> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

/// The processes of a control group and of those below it.
fn members(group: &Path) -> BTreeSet<i32> {
    let text = std::fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    let mut members: BTreeSet<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if let Ok(folder) = std::fs::read_dir(group) {
        let below = folder.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        members.extend(below.flat_map(|entry| self::members(&entry.path())));
    }
    members
}

fn out_of_memory_kills(group: &Path) -> u64 {
    let events = std::fs::read_to_string(group.join("memory.events")).unwrap_or_default();
    events.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

/// Its share of what it has in memory; where that may not be read, all of what it has.
fn memory_of(pid: i32) -> Option<u64> {
    std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok().and_then(|text| proportional(&text)).or_else(
        || {
            let pages: u64 =
                std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?.split(' ').nth(1)?.parse().ok()?;
            Some(pages.saturating_mul(rustix::param::page_size() as u64))
        },
    )
}

/// The `Pss` of `/proc/PID/smaps_rollup`, in bytes.
fn proportional(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes.saturating_mul(1024))
}

/// As `/proc/PID/status` words it.
fn state(pid: i32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(status.lines().find_map(|line| line.strip_prefix("State:"))?.trim().to_owned())
}

/// Where it waits in the kernel: all of its stack if that may be read, else the function that it sleeps in.
fn kernel_stack(pid: i32) -> Option<String> {
    let read = |file: &str| {
        let bytes = std::fs::read(format!("/proc/{pid}/{file}")).ok()?;
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(LONGEST_STACK)]);
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    read("stack").or_else(|| read("wchan").filter(|function| function != "0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_memory_is_read_from_its_line() {
        let text = "55 7ff rollup\nRss:                 900 kB\nPss:                 123 kB\nPss_Dirty: 5 kB\n";
        assert_eq!(proportional(text), Some(123 * 1024));
        assert_eq!(proportional("Rss: 5 kB\n"), None);
        assert_eq!(proportional("Pss: much\n"), None);
    }

    #[test]
    fn a_process_that_is_gone_is_found_to_be_nothing() {
        let findings = examine(i32::MAX, "p.1.1", None, &[]);
        assert_eq!((findings.memory_bytes, findings.state, findings.kernel_stack), (None, None, None));
    }

    #[test]
    fn what_a_control_group_says_is_taken() {
        let group = tempfile::tempdir().unwrap();
        std::fs::write(group.path().join("memory.current"), "4096\n").unwrap();
        std::fs::write(group.path().join("memory.events"), "low 0\noom 3\noom_kill 2\noom_group_kill 0\n").unwrap();
        std::fs::write(group.path().join("cgroup.procs"), "7\n8\n").unwrap();
        std::fs::create_dir(group.path().join("below")).unwrap();
        std::fs::write(group.path().join("below/cgroup.procs"), "9\n").unwrap();
        let own = i32::try_from(std::process::id()).unwrap();
        let findings = examine(own, "p.1.1", Some(group.path()), &[]);
        assert_eq!((findings.memory_bytes, findings.processes, findings.out_of_memory_kills), (Some(4096), 3, 2));
    }
}
