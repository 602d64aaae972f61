//! Folders that the core writes to: made if they aren't there, and checked to be its own to write to.

use super::errand;
use crate::privileges::{DropError, Ids, become_user};
use rustix::fs::{Access, AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::fs::{accessat, chownat, fstat, mkdir, open, statat};
use rustix::io::Errno;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// What a folder is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The output of apps, which others may be let in to read.
    Output,
    /// What the pool remembers.
    State,
}

impl Purpose {
    fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::State => "state",
        }
    }

    fn option(self) -> &'static str {
        match self {
            Self::Output => "--output-dir",
            Self::State => "--state-dir",
        }
    }

    fn mode(self) -> Mode {
        Mode::from_raw_mode(match self {
            Self::Output => 0o750,
            Self::State => 0o700,
        })
    }
}

/// Why nothing could be written there: the path, and what to do.
#[derive(Debug, thiserror::Error)]
enum FolderError {
    #[error("{} is not an absolute path", .0.display())]
    Relative(PathBuf),
    #[error("{} can't be made: {errno}; make it, or name another", path.display())]
    Make { path: PathBuf, errno: Errno },
    #[error("{} is a symbolic link: name what it leads to", .0.display())]
    Link(PathBuf),
    #[error("{} is no folder: name another", .0.display())]
    NoFolder(PathBuf),
    #[error("{} can't be used: {errno}; name another", path.display())]
    Unusable { path: PathBuf, errno: Errno },
    #[error(
        "{} belongs to user {owner} (mode {mode:04o}), and user {user}, as whom the pool writes, \
         may not write there: chown it to the user that --pool-user names, or name another",
        path.display()
    )]
    NotWritable { path: PathBuf, owner: u32, mode: u32, user: u32 },
    #[error(
        "{} is out of reach: user {user}, as whom the pool writes, may not enter {}; name another",
        path.display(), closed.display()
    )]
    OutOfReach { path: PathBuf, closed: PathBuf, user: u32 },
    #[error("can't be checked: the pool {0}")]
    Drop(#[from] DropError),
}

/// Makes the folder, for the pool's user, or checks the one that is there.
///
/// # Errors
/// One sentence.
pub(super) fn prepare(purpose: Purpose, path: &Path, user: Option<Ids>) -> Result<(), String> {
    let name = purpose.name();
    let done = errand::run(|| prepare_here(purpose, path, user).map_err(|error| error.to_string()))
        .map_err(|error| format!("the {name} folder {} could not be looked at: {error}", path.display()))?;
    done.map_err(|error| format!("the {name} folder {error} ({})", purpose.option()))
}

/// In a child, which becomes the pool user to see what that may.
fn prepare_here(purpose: Purpose, path: &Path, user: Option<Ids>) -> Result<(), FolderError> {
    if !path.is_absolute() {
        return Err(FolderError::Relative(path.to_owned()));
    }
    // Not less than is said here.
    rustix::process::umask(Mode::empty());
    let made = match mkdir(path, purpose.mode()) {
        Ok(()) => true,
        Err(Errno::EXIST) => false,
        Err(errno) => return Err(FolderError::Make { path: path.to_owned(), errno }),
    };
    let folder = open_folder(path)?;
    let unusable = |errno| FolderError::Unusable { path: path.to_owned(), errno };
    if let (true, Some(Ids { uid, gid })) = (made, user) {
        let owner = (Uid::from_raw(uid), Gid::from_raw(gid));
        chownat(&folder, "", Some(owner.0), Some(owner.1), AtFlags::EMPTY_PATH).map_err(unusable)?;
    }
    if let Some(user) = user {
        become_user(user)?;
    }
    let own = rustix::process::geteuid().as_raw();
    match may(folder.as_fd(), Path::new("."), Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => {}
        Err(Errno::ACCESS) => {
            let found = fstat(&folder).map_err(unusable)?;
            let mode = found.st_mode & 0o7777;
            return Err(FolderError::NotWritable { path: path.to_owned(), owner: found.st_uid, mode, user: own });
        }
        Err(errno) => return Err(unusable(errno)),
    }
    let mut ancestors: Vec<&Path> = path.ancestors().skip(1).collect();
    ancestors.reverse();
    match ancestors.into_iter().find(|folder| may(CWD, folder, Access::EXEC_OK).is_err()) {
        None => Ok(()),
        Some(closed) => Err(FolderError::OutOfReach { path: path.to_owned(), closed: closed.to_owned(), user: own }),
    }
}

/// By the effective user, whatever that is.
fn may(at: std::os::fd::BorrowedFd<'_>, path: &Path, access: Access) -> Result<(), Errno> {
    accessat(at, path, access, AtFlags::EACCESS)
}

/// The folder itself, through no link at its end.
fn open_folder(path: &Path) -> Result<OwnedFd, FolderError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).map_err(|errno| match (errno, statat(CWD, path, AtFlags::SYMLINK_NOFOLLOW)) {
        (Errno::NOTDIR | Errno::LOOP, Ok(found)) if rustix::fs::FileType::from_raw_mode(found.st_mode).is_symlink() => {
            FolderError::Link(path.to_owned())
        }
        (Errno::NOTDIR, _) => FolderError::NoFolder(path.to_owned()),
        (errno, _) => FolderError::Unusable { path: path.to_owned(), errno },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privileges::privileged;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    /// A folder that anybody may enter.
    fn open_to_all() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        folder
    }

    fn somebody() -> Option<Ids> {
        privileged().then_some(Ids { uid: 61999, gid: 61999 })
    }

    #[test]
    fn what_is_missing_is_made_for_the_pool_user_alone_and_found_again() {
        let folder = open_to_all();
        let path = folder.path().join("output");
        prepare(Purpose::Output, &path, somebody()).unwrap();
        let made = fs::metadata(&path).unwrap();
        assert_eq!(made.mode() & 0o7777, 0o750);
        let owner = somebody().map_or(nix::unistd::geteuid().as_raw(), |user| user.uid);
        assert_eq!(made.uid(), owner);
        prepare(Purpose::Output, &path, somebody()).unwrap();
        let state = folder.path().join("state");
        prepare(Purpose::State, &state, somebody()).unwrap();
        assert_eq!(fs::metadata(&state).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn what_can_not_be_is_refused_with_its_path() {
        let folder = open_to_all();
        let refused = |path: &Path| prepare(Purpose::Output, path, None).unwrap_err();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(refused(&file).contains("file is no folder"), "{}", refused(&file));
        let link = folder.path().join("link");
        symlink(folder.path(), &link).unwrap();
        assert!(refused(&link).contains("link is a symbolic link"), "{}", refused(&link));
        let deep = folder.path().join("a/b");
        assert!(refused(&deep).contains("a/b can't be made: No such file"), "{}", refused(&deep));
        assert!(refused(Path::new("logs")).contains("not an absolute path (--output-dir)"));
        let error = prepare(Purpose::State, &file, None).unwrap_err();
        assert!(error.starts_with("the state folder ") && error.ends_with("(--state-dir)"), "{error}");
    }

    #[test]
    fn a_folder_of_somebody_elses_is_refused_with_its_owner() {
        let Some(user) = somebody() else { return eprintln!("SKIPPED: only root can become somebody else") };
        let folder = open_to_all();
        let path = folder.path().join("output");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let error = prepare(Purpose::Output, &path, Some(user)).unwrap_err();
        assert!(error.contains("output belongs to user 0 (mode 0755), and user 61999"), "{error}");

        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        prepare(Purpose::Output, &path, Some(user)).unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let error = prepare(Purpose::Output, &path, Some(user)).unwrap_err();
        let closed = format!("may not enter {};", folder.path().display());
        assert!(error.contains(&closed), "{error}");
    }
}
