//! Copies of files and trees. Nothing is followed below what is copied, on either side, so whoever may change the one
//! or the other meanwhile gains nothing by links.

use super::unstaged::{Done, Unstaged};
use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat, mkdirat, openat, readlinkat,
    symlinkat,
};
use std::ffi::{CStr, OsStr};
use std::fs::{File, FileTimes};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Of a file: a set-user-id bit would be another user's in the copy.
const OF_FILES: u32 = 0o777;
/// Of a folder: what is made in it has its group, and is its maker's to remove.
const OF_FOLDERS: u32 = 0o3777;

/// Whom copies belong to; `None`: whoever copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner(pub(super) Option<(Uid, Gid)>);

/// A folder's entry of that name is not copied.
pub(super) type Skipped<'a> = &'a [&'a CStr];

impl Owner {
    /// Copies what is in the folder `from`, at `path`, to the empty folder `to`.
    pub(super) fn copy_folder(
        self,
        from: OwnedFd,
        to: BorrowedFd<'_>,
        path: &Path,
        skipped: Skipped<'_>,
    ) -> Result<(), Unstaged> {
        let found = fstat(&from).map_err(Done::Read.not(path))?;
        let mut entries = Dir::read_from(&from).map_err(Done::Read.not(path))?;
        while let Some(entry) = entries.read() {
            let entry = entry.map_err(Done::Read.not(path))?;
            let name = entry.file_name();
            if name != c"." && name != c".." && !skipped.contains(&name) {
                self.copy_entry(from.as_fd(), to, name, &path.join(OsStr::from_bytes(name.to_bytes())))?;
            }
        }
        self.finish(to, &found, OF_FOLDERS, path)
    }

    fn copy_entry(self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<(), Unstaged> {
        let found = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Done::Read.not(path))?;
        match FileType::from_raw_mode(found.st_mode) {
            FileType::Directory => {
                let from = open(from, name, OFlags::DIRECTORY).map_err(Done::Read.not(path))?;
                self.copy_folder(from, new_folder(to, name, path)?.as_fd(), path, &[])
            }
            FileType::RegularFile => {
                let from = open(from, name, OFlags::NONBLOCK).map_err(Done::Read.not(path))?;
                self.copy_file(from, to, name, path)
            }
            FileType::Symlink => {
                let target = readlinkat(from, name, Vec::new()).map_err(Done::Read.not(path))?;
                symlinkat(target.as_c_str(), to, name).map_err(Done::Copied.not(path))?;
                match self.0 {
                    Some((uid, gid)) => chownat(to, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                        .map_err(Done::GivenAway.not(path)),
                    None => Ok(()),
                }
            }
            _ => Err(Unstaged::Odd { path: path.to_owned() }),
        }
    }

    /// Copies the file `from`, at `path`, to a new one in `to`.
    pub(super) fn copy_file(self, from: OwnedFd, to: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<(), Unstaged> {
        let found = fstat(&from).map_err(Done::Read.not(path))?;
        // It may be another one than was looked at.
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile {
            return Err(Unstaged::Odd { path: path.to_owned() });
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = openat(to, name, flags, Mode::from_raw_mode(0o600)).map_err(Done::Copied.not(path))?;
        let (mut from, mut to) = (File::from(from), File::from(to));
        // Shares the blocks where the file system can.
        std::io::copy(&mut from, &mut to).map_err(Done::Copied.not(path))?;
        // Caches of compiled code go by it.
        let modified = from.metadata().and_then(|found| found.modified()).map_err(Done::Read.not(path))?;
        to.set_times(FileTimes::new().set_modified(modified)).map_err(Done::Copied.not(path))?;
        self.finish(to.as_fd(), &found, OF_FILES, path)
    }

    fn finish(self, copy: BorrowedFd<'_>, found: &Stat, mask: u32, path: &Path) -> Result<(), Unstaged> {
        if let Some((uid, gid)) = self.0 {
            fchown(copy, Some(uid), Some(gid)).map_err(Done::GivenAway.not(path))?;
        }
        fchmod(copy, Mode::from_raw_mode(found.st_mode & mask)).map_err(Done::Copied.not(path))
    }
}

/// An entry of a folder, to be read; a link is none.
pub(super) fn open(folder: BorrowedFd<'_>, name: &CStr, more: OFlags) -> rustix::io::Result<OwnedFd> {
    openat(folder, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | more, Mode::empty())
}

pub(super) fn new_folder(folder: BorrowedFd<'_>, name: &CStr, path: &Path) -> Result<OwnedFd, Unstaged> {
    mkdirat(folder, name, Mode::RWXU).map_err(Done::Copied.not(path))?;
    open(folder, name, OFlags::DIRECTORY).map_err(Done::Copied.not(path))
}
