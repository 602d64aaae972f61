//! Which processes are a worker's, and what sockets they hold.

use crate::tcp::Listener;
use hatchery_protocol::mark;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What one process says of its place among the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    session: i32,
    /// It ended, and waits to be reaped.
    ended: bool,
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

/// The worker `pid`, its group and session, all that carries its mark, and the descendants of these, as far as
/// they have not ended. Without the trees of `others`: workers that were forked from a preloader carry its mark. One
/// pass over all processes, whose number is what it costs.
pub(crate) fn of(pid: i32, mark: Option<&str>, others: &[i32]) -> BTreeSet<i32> {
    let processes = processes();
    let marked = |other: &Process| mark.is_some() && mark::of(other.pid, mark::WORKER).as_deref() == mark;
    let alive: BTreeSet<i32> = processes.iter().filter(|other| !other.ended).map(|other| other.pid).collect();
    family(pid, &processes, marked, others).intersection(&alive).copied().collect()
}

fn family(pid: i32, processes: &[Process], marked: impl Fn(&Process) -> bool, others: &[i32]) -> BTreeSet<i32> {
    let mut children: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process.pid);
    }
    let mut known = BTreeSet::new();
    let leads = |leader: i32, process: &Process| process.group == leader || process.session == leader;
    for other in others {
        let own = processes.iter().filter(|process| leads(*other, process)).map(|process| process.pid);
        with_descendants(own.chain([*other]).collect(), &children, &mut known);
    }
    let theirs = known.clone();
    let own = processes.iter().filter(|process| leads(pid, process) || marked(process)).map(|process| process.pid);
    with_descendants(own.chain([pid]).collect(), &children, &mut known);
    known.difference(&theirs).copied().collect()
}

/// Adds these and their descendants to those that are known.
fn with_descendants(mut waiting: Vec<i32>, children: &BTreeMap<i32, Vec<i32>>, known: &mut BTreeSet<i32>) {
    while let Some(member) = waiting.pop() {
        if known.insert(member) {
            waiting.extend(children.get(&member).into_iter().flatten());
        }
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

/// The parent of a process, and the leader of its session. `None`: it has ended.
pub(crate) fn parent_and_session(pid: i32) -> Option<(i32, i32)> {
    let process = parse(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?;
    (!process.ended).then_some((process.parent, process.session))
}

/// Reads `/proc/PID/stat`. The name in it can contain anything, even parentheses.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    let mut number = || fields.next()?.parse().ok();
    let (parent, group, session) = (number()?, number()?, number()?);
    Some(Process { pid, parent, group, session, ended: matches!(state, "Z" | "X") })
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
        let expected = Process { pid: 7, parent: 5, group: 4, session: 3, ended: false };
        assert_eq!(parse(7, "7 (a) R 9 (b) S 5 4 3 0 -1"), Some(expected));
        assert_eq!(parse(7, "7 (a) Z 5 4 3"), Some(Process { ended: true, ..expected }));
        assert_eq!(parse(7, "7 (a"), None);
        assert_eq!(parse(7, "7 (a) S 5"), None);
    }

    #[test]
    fn a_family_is_a_session_what_is_marked_and_their_descendants() {
        let process = |pid, parent, session| Process { pid, parent, group: session, session, ended: false };
        let processes = [
            process(10, 1, 10),
            process(11, 10, 10),
            // Left the session, and so did its child.
            process(12, 11, 12),
            process(13, 12, 13),
            // Left its parent.
            process(14, 1, 10),
            process(20, 1, 20),
            // Left all, and has a child of its own.
            process(30, 1, 30),
            process(31, 30, 31),
        ];
        assert_eq!(family(10, &processes, |_| false, &[]), [10, 11, 12, 13, 14].into());
        assert_eq!(family(10, &processes, |other| other.pid == 30, &[]), [10, 11, 12, 13, 14, 30, 31].into());
        // A worker that was forked from what 10 is, with all that is its own.
        assert_eq!(family(10, &processes, |other| other.pid >= 30, &[30, 12]), [10, 11, 14].into());
        assert_eq!(family(99, &processes, |_| false, &[]), [99].into());
    }
}
