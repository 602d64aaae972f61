//! Why versions are not exchanged, and what to do about it.

use super::scene::{Names, Spot};
use crate::folder;
use crate::users::{self, DatabaseError};
use rustix::fs::FileType;
use rustix::io::Errno;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(super) enum SwapError {
    #[error("{0} has no name that another version could have beside it")]
    NoName(String),
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    #[error("{} does not exist, or is no version", .0.display())]
    NothingBefore(PathBuf),
    #[error("there is no version before the present one: {} does not exist", .0.display())]
    NoBackup(PathBuf),
    #[error("{} is a symbolic link, and such an app is deployed by changing the link", .0.display())]
    Link(PathBuf),
    #[error("{} is {what}, which is not followed", path.display())]
    NoVersion { path: PathBuf, what: &'static str },
    #[error("{} is {what}, and {} is {present}", path.display(), name.display())]
    Kinds { path: PathBuf, what: &'static str, name: PathBuf, present: &'static str },
    #[error("{} belongs to {other}, and {} to {owner}", path.display(), name.display())]
    Owners { path: PathBuf, other: String, name: PathBuf, owner: String },
    #[error("{} is in the way, and not of an exchange of ours", .0.display())]
    InTheWay(PathBuf),
    #[error("the trial of a new version of {} could not be announced", .0.display())]
    Unannounced(PathBuf),
    #[error("another version of {} is tried already", .0.display())]
    UnderWay(PathBuf),
    #[error("another exchange in {} does not end", .0.display())]
    Busy(PathBuf),
    #[error("{user} may not rename what is in {}{mode}", parent.display())]
    Parent { parent: PathBuf, user: String, mode: String },
    #[error("{} can't be opened: {error}", parent.display())]
    NoParent { parent: PathBuf, error: io::Error },
    #[error("{} belongs to root, and {} is not root's alone", name.display(), parent.display())]
    SharedParent { name: PathBuf, parent: PathBuf },
    #[error("{} was replaced while it was looked at", .0.display())]
    OtherParent(PathBuf),
    #[error("the file system of {} can't exchange two versions at once", .0.display())]
    NoExchange(PathBuf),
    #[error("no new version of {} is tried: what is there is what was there before", .0.display())]
    NothingTried(PathBuf),
    #[error("the child process that was to do it can't become {user}: {error}")]
    Assume { user: String, error: io::Error },
    #[error("{0}")]
    Database(#[from] DatabaseError),
    #[error("{doing} {} failed: {error}", path.display())]
    Step { doing: Doing, path: PathBuf, error: io::Error },
}

/// What failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Doing {
    Looking,
    Flushing,
    Marking,
    Unmarking,
    Renaming,
    Exchanging,
    PuttingAside,
    Writing,
    Removing,
}

impl fmt::Display for Doing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Looking => "looking at",
            Self::Flushing => "writing to the disk the new version of",
            Self::Marking => "putting a marker in",
            Self::Unmarking => "removing the marker from",
            Self::Renaming => "renaming",
            Self::Exchanging => "exchanging",
            Self::PuttingAside => "putting aside",
            Self::Writing => "writing to the disk what was done to",
            Self::Removing => "removing the old version",
        })
    }
}

impl SwapError {
    pub(super) fn of_parent(names: &Names, errno: Errno) -> Self {
        match errno {
            Errno::NOENT => Self::Missing(names.parent.clone()),
            Errno::ACCESS | Errno::PERM => Self::closed(&names.parent),
            errno => Self::NoParent { parent: names.parent.clone(), error: errno.into() },
        }
    }

    /// This process may not do it in `parent`.
    pub(super) fn closed(parent: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let user = users::name_of(rustix::process::geteuid().as_raw());
        let mode = match parent.symlink_metadata() {
            Ok(stat) => format!(" ({:04o}, of {})", stat.mode() & 0o7777, users::name_of(stat.uid())),
            Err(_) => String::new(),
        };
        Self::Parent { parent: parent.into(), user, mode }
    }

    pub(super) fn kinds(names: &Names, spot: Spot, what: FileType, present: FileType) -> Self {
        Self::Kinds {
            path: names.path(spot),
            what: folder::name(what),
            name: names.path(Spot::Name),
            present: folder::name(present),
        }
    }

    pub(super) fn owners(names: &Names, spot: Spot, other: u32, owner: u32) -> Self {
        Self::Owners {
            path: names.path(spot),
            other: users::name_of(other),
            name: names.path(Spot::Name),
            owner: users::name_of(owner),
        }
    }

    pub(super) fn remedy(&self) -> String {
        match self {
            Self::NoName(_) => "Register the app by the absolute path of its folder.".into(),
            Self::Missing(_) => "Put it there, and try again.".into(),
            Self::NothingBefore(_) => "What is there stays: see whether it is what is wanted.".into(),
            Self::NoBackup(_) => "Deploy the version that is wanted.".into(),
            Self::Link(path) => format!(
                "Put the new version in a folder of its own, let the link lead there (`ln -sfn NEW {}`), and restart \
                 the app.",
                path.display()
            ),
            Self::NoVersion { path, .. } => format!("Put the files themselves at {}.", path.display()),
            Self::Kinds { name, .. } => {
                format!("Put there what {} is, or register the app anew under another path.", name.display())
            }
            Self::Owners { path, owner, .. } => {
                format!("`chown -R {owner} {}`, if its files may be trusted.", path.display())
            }
            Self::InTheWay(path) => format!("See what {} holds, and move it away.", path.display()),
            Self::Unannounced(_) => "See whether the pool is short of open files (`limit_nofile`), and try again.".into(),
            Self::UnderWay(_) => "Try again when that one is kept or undone.".into(),
            Self::Busy(_) => "Try again; see whether a disk or network mount hangs.".into(),
            Self::Parent { parent, user, .. } => format!(
                "Let {user} write in {0} (`chown {user} {0}`), put the app in a folder of its own user's, or deploy by \
                 changing a symbolic link.",
                parent.display()
            ),
            Self::NoParent { .. } => "See that it is a folder, and that its disk is well.".into(),
            Self::SharedParent { name, parent } => format!(
                "Give {} to a user of its own (`chown -R`), or see that only root can write in {}.",
                name.display(),
                parent.display()
            ),
            Self::OtherParent(_) => "Try again.".into(),
            Self::NoExchange(_) => {
                "Let the app be missing for a moment (`update_gap = true`), put it on another file system, or deploy by \
                 changing a symbolic link."
                    .into()
            }
            Self::NothingTried(_) => "Deploy it again, if it is wanted.".into(),
            Self::Assume { .. } => {
                "Let the pool keep root's capabilities to change users (CAP_SETUID, CAP_SETGID), or start it as an \
                 ordinary user."
                    .into()
            }
            Self::Database(_) => "See whether the user database (passwd, sssd, ldap) is well (`getent passwd`).".into(),
            Self::Step { doing: Doing::Marking | Doing::Unmarking, path, .. } => {
                format!("See that its owner may write in {}, and that the disk is well and not full.", path.display())
            }
            Self::Step { path, .. } => format!(
                "See that its user may write in {}, and that the disk is well and not full.",
                path.parent().unwrap_or(path).display()
            ),
        }
    }
}
