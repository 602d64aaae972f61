//! What an errand gives up before it looks at what belongs to others.

use hatchery_protocol::link::Identity;
use nix::unistd::{Gid, Uid, getresgid, getresuid, setgroups, setresgid, setresuid};
use rustix::process::{Signal, getppid, set_parent_process_death_signal};
use rustix::thread::CapabilitySet;
use std::collections::BTreeSet;
use std::io;

/// Becomes this user for good. No other process of that user can look into this one.
pub(crate) fn assume(identity: &Identity) -> io::Result<()> {
    become_ids(identity.uid, identity.gid, &identity.groups)
}

pub(crate) fn become_ids(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    let parent = getppid();
    let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&groups)?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)?;
    let (uids, gids) = (getresuid()?, getresgid()?);
    let became = uids.real == uid
        && uids.effective == uid
        && uids.saved == uid
        && gids.real == gid
        && gids.effective == gid
        && gids.saved == gid;
    let stays = uid.is_root() || setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0)).is_err();
    if !became || !stays {
        return Err(io::Error::other("the privileges of root can't be given up"));
    }
    // The kernel does so too, unless it is told otherwise (fs.suid_dumpable).
    nix::sys::prctl::set_dumpable(false)?;
    // Another user's process has lost it.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != parent {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(())
}

/// Makes the process `pid` one that this one may look into, as far as that depends on who we are: in many
/// containers root may not look into processes of others, while each user may look into its own.
pub(crate) fn approach(pid: i32) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() || may_look_into_others() {
        return Ok(());
    }
    match user_and_group(pid) {
        Some((uid, gid)) if uid != 0 => become_ids(uid, gid, &[]),
        // It is ours already, or gone.
        Some(_) | None => Ok(()),
    }
}

pub(crate) fn may_look_into_others() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
}

/// The real user and group of a process. `None`: it is gone.
pub(crate) fn user_and_group(pid: i32) -> Option<(u32, u32)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let first = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    };
    Some((first("Uid")?, first("Gid")?))
}

/// All users that have processes, but for root, each with its group.
pub(crate) fn users_and_groups() -> BTreeSet<(u32, u32)> {
    let Ok(folder) = std::fs::read_dir("/proc") else { return BTreeSet::new() };
    let pids = folder.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(user_and_group).filter(|(user, _)| *user != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_tells_its_user_and_group() {
        let own = i32::try_from(std::process::id()).unwrap();
        let expected = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        assert_eq!(user_and_group(own), Some(expected));
        assert_eq!(user_and_group(i32::MAX), None);
    }
}
