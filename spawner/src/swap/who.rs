//! As whom versions are exchanged: the owner of the app, for whom the kernel then says what may be renamed.

use super::error::SwapError;
use super::hands::look;
use super::scene::{Entry, Names, Scene, Spot};
use crate::privilege;
use crate::users;
use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, Stat};
use rustix::process::{Pid, Signal, WaitOptions};
use std::io;
use std::os::fd::OwnedFd;

/// A user, with its group where the user database knows nobody of that number.
pub(super) type User = (u32, u32);

/// What lies there, as far as this process sees it; markers are not read.
#[derive(Debug)]
pub(super) struct Outlook {
    pub(super) scene: Scene,
    /// A marker lies beside or in the present version, whosever it is.
    pub(super) marked: bool,
    parent: Stat,
}

impl Outlook {
    /// The folder, as whom this process is by now: to that user it may be closed, or its path may lead elsewhere.
    pub(super) fn open_parent(&self, names: &Names) -> Result<OwnedFd, SwapError> {
        let of_parent = |errno| SwapError::of_parent(names, errno);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = rustix::fs::open(&names.parent, flags, Mode::empty()).map_err(of_parent)?;
        let stat = rustix::fs::fstat(&parent).map_err(of_parent)?;
        if (stat.st_dev, stat.st_ino) == (self.parent.st_dev, self.parent.st_ino) {
            Ok(parent)
        } else {
            Err(SwapError::OtherParent(names.parent.clone()))
        }
    }
}

pub(super) fn outlook(names: &Names) -> Result<Outlook, SwapError> {
    let of_parent = |errno| SwapError::of_parent(names, errno);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::openat(CWD, &names.parent, flags, Mode::empty()).map_err(of_parent)?;
    let mut scene = Scene::default();
    for spot in Spot::ALL {
        scene.entries[spot as usize] = look(&parent, &names.spot(spot)).map_err(of_parent)?.as_ref().map(Entry::of);
    }
    let marked = look(&parent, &names.note()).map_err(of_parent)?.is_some() || names.marked(&parent, &scene);
    Ok(Outlook { scene, marked, parent: rustix::fs::fstat(&parent).map_err(of_parent)? })
}

/// The owner of both, where one may be root, whose files nobody else has to mistrust.
pub(super) fn owner(entry: &Entry, other: &Entry) -> Option<User> {
    match (entry.uid, other.uid) {
        (one, two) if one == two || two == 0 => Some((one, entry.gid)),
        (0, two) => Some((two, other.gid)),
        (_, _) => None,
    }
}

/// Becomes `user` for good, if this process may become anybody, and sees whether that one may rename there.
pub(super) fn become_user(user: User, names: &Names, outlook: &Outlook, privileged: bool) -> Result<(), SwapError> {
    if privileged && user.0 == 0 {
        let shared = outlook.parent.st_mode & 0o022 != 0 && outlook.parent.st_mode & libc::S_ISVTX == 0;
        if outlook.parent.st_uid != 0 || shared {
            return Err(SwapError::SharedParent { name: names.path(Spot::Name), parent: names.parent.clone() });
        }
    } else if privileged {
        assume(user)?;
    }
    let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, &names.parent, wanted, AtFlags::empty()).map_err(|_| SwapError::closed(&names.parent))
}

fn assume((uid, gid): User) -> Result<(), SwapError> {
    let failed = |error| SwapError::Assume { user: users::name_of(uid), error };
    match users::user_of(uid)? {
        Some(user) => privilege::assume(&users::identity(user, None)?).map_err(failed),
        None => privilege::become_ids(uid, gid, &[]).map_err(failed),
    }
}

/// Does `work` in a child of this process, so that it can become somebody else and this one need not.
pub(super) fn apart(work: impl FnOnce() -> Result<(), SwapError>) -> io::Result<()> {
    let parent = rustix::process::getpid();
    // SAFETY: this process has one thread, so its child is a whole copy of it and may do anything.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let bound = rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).is_ok()
                && rustix::process::getppid() == Some(parent);
            if bound && let Err(error) = work() {
                eprintln!("spawner: {error}. {}", error.remedy());
            }
            // SAFETY: ends the process without dropping what its parent owns.
            unsafe { libc::_exit(i32::from(!bound)) }
        }
        child => {
            rustix::process::waitpid(Pid::from_raw(child), WaitOptions::empty())?;
            Ok(())
        }
    }
}
