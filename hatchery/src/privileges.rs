//! Giving up root's rights, for good.

use nix::sys::prctl;
use nix::unistd::{Gid, Uid, User, getgroups, getresgid, getresuid, setgroups, setresgid, setresuid, setuid};
use std::fmt;

/// Whom a process can become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// Why a process still has rights that it should not have. It must not go on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum DropError {
    /// The account is root's own.
    Root,
    /// The system refused a step.
    Refused { step: &'static str, account: Account, errno: nix::Error },
    /// All steps were done, and yet it has rights that the account does not have.
    Kept { account: Account },
}

impl fmt::Display for DropError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the pool's user is root; name another with --pool-user"),
            Self::Refused { step, account, errno } => {
                write!(
                    f,
                    "the web server can't become {account} ({step}: {errno}); start it as root with all \
                    capabilities, or as an ordinary user"
                )
            }
            Self::Kept { account } => {
                write!(
                    f,
                    "the web server became {account}, but can still become root again; it does not go on like this"
                )
            }
        }
    }
}

impl std::error::Error for DropError {}

impl fmt::Display for Account {
    /// Its name, if it has one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match User::from_uid(Uid::from_raw(self.uid)) {
            Ok(Some(user)) => write!(f, "{} (user {})", user.name, self.uid),
            _ => write!(f, "user {} (which has no name)", self.uid),
        }
    }
}

/// Becomes `account`, with no further group and no way back. Call it while there is one thread only: others that
/// the standard library does not know of would keep their rights. What was opened before stays open.
///
/// # Errors
/// [`DropError`]
pub(crate) fn become_account(account: Account) -> Result<(), DropError> {
    let (uid, gid) = (Uid::from_raw(account.uid), Gid::from_raw(account.gid));
    if uid.is_root() {
        return Err(DropError::Root);
    }
    let refused = |step| move |errno| DropError::Refused { step, account, errno };
    setgroups(&[]).map_err(refused("setgroups"))?;
    setresgid(gid, gid, gid).map_err(refused("setresgid"))?;
    setresuid(uid, uid, uid).map_err(refused("setresuid"))?;
    // Nobody else who runs as this user may look into our memory, or take our sockets.
    prctl::set_dumpable(false).map_err(refused("PR_SET_DUMPABLE"))?;
    prctl::set_no_new_privs().map_err(refused("PR_SET_NO_NEW_PRIVS"))?;
    let users = getresuid().map_err(refused("getresuid"))?;
    let groups = getresgid().map_err(refused("getresgid"))?;
    let all_set = [users.real, users.effective, users.saved].iter().all(|user| *user == uid)
        && [groups.real, groups.effective, groups.saved].iter().all(|group| *group == gid)
        && getgroups().map_err(refused("getgroups"))?.is_empty();
    if !all_set || setuid(Uid::from_raw(0)).is_ok() {
        return Err(DropError::Kept { account });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pools_user_is_never_root() {
        assert_eq!(become_account(Account { uid: 0, gid: 5 }), Err(DropError::Root));
    }

    #[test]
    fn an_account_is_shown_by_name_and_number() {
        assert_eq!(Account { uid: 0, gid: 0 }.to_string(), "root (user 0)");
        assert_eq!(Account { uid: 61_500, gid: 1 }.to_string(), "user 61500 (which has no name)");
    }
}
