//! Becoming an ordinary user for good, and not being looked into. For the core, and for a web server around the pool
//! that was started as root.

use nix::errno::Errno;
use nix::sys::prctl;
use nix::unistd::{Gid, Uid, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ids {
    pub uid: u32,
    pub gid: u32,
}

/// Why this process is not, or not wholly, the user that it should be. It must end then.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DropError {
    #[error("the pool's user would be root; name another as pool_user")]
    Root,
    #[error(
        "can't become user {uid} ({call}: {errno}): give the pool the capabilities SETUID and SETGID over that user \
         and its group {gid}, or start it as an ordinary user"
    )]
    Refused { uid: u32, gid: u32, call: &'static str, errno: Errno },
    #[error("is not wholly user {uid} with group {gid} and no others after it became that")]
    Incomplete { uid: u32, gid: u32 },
    #[error("could become root again after it became user {uid}: don't start the pool with secure bits set")]
    WayBack { uid: u32 },
}

/// Whether this process may become any user.
pub(crate) fn privileged() -> bool {
    rustix::process::geteuid().is_root()
}

/// Nobody but root may look into this process, whoever it becomes. The kernel forgets this at every change of user.
///
/// # Errors
/// As the kernel says.
pub(crate) fn forbid_tracing() -> Result<(), Errno> {
    prctl::set_dumpable(false)
}

/// This process, with all its threads, becomes `user` and nobody else: no other groups, no way back, nothing gained
/// by what it executes, nothing of it to be seen by others of that user.
///
/// # Errors
/// [`DropError`]
pub fn become_user(user: Ids) -> Result<(), DropError> {
    let Ids { uid, gid } = user;
    if uid == 0 {
        return Err(DropError::Root);
    }
    let refused = |call| move |errno| DropError::Refused { uid, gid, call, errno };
    setgroups(&[]).map_err(refused("setgroups"))?;
    let group = Gid::from_raw(gid);
    setresgid(group, group, group).map_err(refused("setresgid"))?;
    let own = Uid::from_raw(uid);
    setresuid(own, own, own).map_err(refused("setresuid"))?;
    prctl::set_no_new_privs().map_err(refused("no_new_privs"))?;
    forbid_tracing().map_err(refused("dumpable"))?;

    let users = getresuid().map_err(refused("getresuid"))?;
    let groups = getresgid().map_err(refused("getresgid"))?;
    let others = getgroups().map_err(refused("getgroups"))?;
    let wholly = [users.real, users.effective, users.saved] == [own; 3]
        && [groups.real, groups.effective, groups.saved] == [group; 3]
        && others.is_empty();
    if !wholly {
        return Err(DropError::Incomplete { uid, gid });
    }
    // -1: as it is.
    let same = Uid::from_raw(u32::MAX);
    match setresuid(same, Uid::from_raw(0), same) {
        Ok(()) => Err(DropError::WayBack { uid }),
        Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_becomes_root_like_this() {
        assert_eq!(become_user(Ids { uid: 0, gid: 5 }), Err(DropError::Root));
    }
}
