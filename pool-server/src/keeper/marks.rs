//! Whose a process is, by the mark in its environment.

use super::errand;
use crate::privileges::{Ids, become_user, privileged};
use hatchery_protocol::mark;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::ErrorKind;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Whose {
    /// A worker's, or of something it started: its mark, `POOL.CORE.N`.
    Worker(String),
    /// This pool's own: it has not executed anything that would be a worker's. If the pool itself was started by
    /// another pool's worker, it carries that one's mark too.
    Pool,
    /// It has ended, or says nothing.
    Nobody,
    /// This process may not ask it.
    Closed,
}

/// Of each of these processes. Root in a container often lacks the right to look into processes of other users; who
/// becomes that user has it.
pub(super) fn whose(pool: &str, pids: Vec<i32>) -> Vec<(i32, Whose)> {
    let mut found: Vec<(i32, Whose)> = pids.into_iter().map(|pid| (pid, ask(pool, pid))).collect();
    if !privileged() {
        return found;
    }
    let mut closed: BTreeMap<Ids, Vec<i32>> = BTreeMap::new();
    for (pid, _) in found.iter().filter(|(_, whose)| *whose == Whose::Closed) {
        if let Some(user) = user_of(*pid).filter(|user| user.uid != 0) {
            closed.entry(user).or_default().push(*pid);
        }
    }
    let seen: BTreeMap<i32, Whose> = closed.iter().flat_map(|(user, pids)| seen_by(pool, *user, pids)).collect();
    for (pid, whose) in &mut found {
        if let Some(seen) = seen.get(pid) {
            whose.clone_from(seen);
        }
    }
    found
}

fn ask(pool: &str, pid: i32) -> Whose {
    if mark::of(pid, mark::POOL).is_some_and(|of| of == pool) {
        return Whose::Pool;
    }
    if let Some(mark) = mark::of(pid, mark::WORKER) {
        return Whose::Worker(mark);
    }
    match File::open(format!("/proc/{pid}/environ")) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Whose::Closed,
        _ => Whose::Nobody,
    }
}

/// Asked by a child that is this user. What can't be seen so either stays closed.
fn seen_by(pool: &str, user: Ids, pids: &[i32]) -> Vec<(i32, Whose)> {
    let ask_all =
        || become_user(user).map_or_else(|_| Vec::new(), |()| pids.iter().map(|pid| (*pid, ask(pool, *pid))).collect());
    errand::run(ask_all).unwrap_or_default()
}

fn user_of(pid: i32) -> Option<Ids> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let first = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Some(Ids { uid: first("Uid:")?, gid: first("Gid:")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::time::Duration;

    const SOMEBODY: Ids = Ids { uid: 61998, gid: 61997 };

    /// `sleep`, once it executes.
    fn sleeper(prepare: impl FnOnce(&mut Command)) -> std::process::Child {
        let mut command = Command::new("sleep");
        prepare(command.arg("1000").env_clear());
        let child = command.spawn().unwrap();
        let executes =
            || fs::read(format!("/proc/{}/cmdline", child.id())).is_ok_and(|words| words.starts_with(b"sleep"));
        while !executes() {
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    }

    #[test]
    fn a_worker_is_told_from_a_process_of_this_pool_and_both_from_others() {
        let worker = || Whose::Worker("5f.1.2".into());
        for (marks, expected) in [
            (vec![(mark::WORKER, "5f.1.2")], worker()),
            (vec![(mark::POOL, "5f")], Whose::Pool),
            (vec![], Whose::Nobody),
            // A pool inside a worker of this one, and this one inside a worker of another.
            (vec![(mark::POOL, "60"), (mark::WORKER, "5f.1.2")], worker()),
            (vec![(mark::POOL, "5f"), (mark::WORKER, "60.1.2")], Whose::Pool),
        ] {
            let mut child = sleeper(|command| {
                command.envs(marks);
            });
            let pid = child.id().cast_signed();
            assert_eq!(whose("5f", vec![pid]), [(pid, expected)]);
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(whose("5f", vec![pid]), [(pid, Whose::Nobody)]);
        }
    }

    #[test]
    fn who_becomes_a_user_sees_whose_its_processes_are_and_no_others() {
        if !privileged() {
            return eprintln!("SKIPPED: only root can become somebody else");
        }
        let mut theirs = sleeper(|command| {
            command.env(mark::WORKER, "5f.1.2").uid(SOMEBODY.uid).gid(SOMEBODY.gid);
        });
        let mut other = sleeper(|command| {
            command.env(mark::WORKER, "5f.1.3");
        });
        let pids = [theirs.id().cast_signed(), other.id().cast_signed()];
        assert_eq!(user_of(pids[0]), Some(SOMEBODY));
        let seen = seen_by("5f", SOMEBODY, &pids);
        assert_eq!(seen, [(pids[0], Whose::Worker("5f.1.2".into())), (pids[1], Whose::Closed)]);
        for child in [&mut theirs, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}
