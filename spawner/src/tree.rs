//! Which processes are a worker's, and what sockets they hold.

use crate::tcp::Listener;
use hatchery_protocol::mark;
use std::collections::BTreeSet;
use std::fmt;

/// What one process says of its place among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
}

/// Who holds a socket, as far as this process may see.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Process {
        pid: i32,
        name: String,
    },
    /// A process that can't be looked into.
    User(u32),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, name } => write!(f, "{name} (pid {pid})"),
            Self::User(user) => write!(f, "a process of user {user}"),
        }
    }
}

/// The worker `pid`, its session, its descendants, and all that carries its mark.
pub(crate) fn of(pid: i32, mark: Option<&str>) -> BTreeSet<i32> {
    let mut tree = family(pid, &processes());
    tree.extend(mark.map(|mark| mark::processes(mark::WORKER, mark, false)).unwrap_or_default());
    tree
}

fn family(pid: i32, processes: &[Process]) -> BTreeSet<i32> {
    let mut family: BTreeSet<i32> =
        processes.iter().filter(|other| other.session == pid).map(|other| other.pid).collect();
    family.insert(pid);
    loop {
        let children = processes.iter().filter(|other| family.contains(&other.parent) && !family.contains(&other.pid));
        let children: Vec<i32> = children.map(|child| child.pid).collect();
        if children.is_empty() {
            return family;
        }
        family.extend(children);
    }
}

fn pids() -> Vec<i32> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return Vec::new() };
    folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

fn processes() -> Vec<Process> {
    pids()
        .into_iter()
        .filter_map(|pid| parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?))
        .collect()
}

/// Reads `/proc/PID/stat`. The name in it can contain anything, even parentheses.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session })
}

/// The inodes of all sockets that these processes hold.
pub(crate) fn sockets(tree: &BTreeSet<i32>) -> BTreeSet<u64> {
    tree.iter().flat_map(|pid| sockets_of(*pid)).collect()
}

fn sockets_of(pid: i32) -> Vec<u64> {
    let Ok(folder) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    folder
        .flatten()
        .filter_map(|entry| {
            let link = std::fs::read_link(entry.path()).ok()?;
            link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        })
        .collect()
}

/// Who listens there.
pub(crate) fn owner(listener: &Listener) -> Owner {
    let holder = pids().into_iter().find(|pid| sockets_of(*pid).contains(&listener.inode));
    match holder {
        Some(pid) => {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Owner::Process { pid, name: name.trim_end().to_owned() }
        }
        None => Owner::User(listener.user),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let expected = Process { pid: 7, parent: 5, session: 3 };
        assert_eq!(parse(7, "7 (a) R 9 (b) S 5 4 3 0 -1"), Some(expected));
        assert_eq!(parse(7, "7 (a"), None);
        assert_eq!(parse(7, "7 (a) S 5"), None);
    }

    #[test]
    fn a_family_is_a_session_and_its_descendants() {
        let process = |pid, parent, session| Process { pid, parent, session };
        let processes = [
            process(10, 1, 10),
            process(11, 10, 10),
            // Left the session, and so did its child.
            process(12, 11, 12),
            process(13, 12, 13),
            // Left its parent.
            process(14, 1, 10),
            process(20, 1, 20),
        ];
        assert_eq!(family(10, &processes), [10, 11, 12, 13, 14].into());
    }
}
