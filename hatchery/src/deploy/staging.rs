//! Where a version is copied to: a private folder beside the app, from which it is renamed to `NAME.update` when it is
//! whole. Whoever has that folder locked deploys; what a killed one left in it, the next one removes.
//!
//! The app's owner may change what is beside the app at any moment, and whoever deploys may be root. So everything
//! goes through descriptors: of the folder that the app lies in, and of the private one, which nobody else may enter.
//!
//! `.complete` is not put into it: it is whole from its first moment on, and a pool that takes updates by itself could
//! be faster than the order to take this one, which would then be refused.

use super::copy::{Owner, new_folder, open};
use super::unstaged::{Done, Unstaged};
use rustix::fs::{
    AtFlags, Dir, FileType, FlockOperation, Gid, Mode, OFlags, RenameFlags, Stat, Uid, fchmod, flock, fstat, fsync,
    mkdirat, openat, renameat, renameat_with, statat, syncfs, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use std::ffi::{CStr, CString, OsString};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// What is copied, while it lies in the private folder.
const COPY: &CStr = c"version";
/// Of an earlier deploy: said of the whole version, so no part of it.
const MARKS: [&CStr; 2] = [c".complete", c".hatchery-deploy"];

/// An app, and the private folder beside it.
#[derive(Debug)]
pub(super) struct Staging {
    root: PathBuf,
    /// What it is: a folder or a file, and whose.
    app: Stat,
    /// The folder that it lies in.
    parent: OwnedFd,
    private: Private,
}

/// A version that lies beside its app.
#[derive(Debug)]
pub(super) struct Staged {
    staging: Staging,
    version: Stat,
}

impl Staging {
    /// # Errors
    /// [`Unstaged`]
    pub(super) fn begin(root: &Path) -> Result<Self, Unstaged> {
        let (Some(folder), Some(name)) = (root.parent(), root.file_name()) else {
            return Err(Unstaged::NoPlace { root: root.to_owned() });
        };
        let parent = rustix::fs::open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let parent = parent.map_err(Done::Read.not(folder))?;
        let app = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(Done::Read.not(root))?;
        match FileType::from_raw_mode(app.st_mode) {
            FileType::Directory | FileType::RegularFile => {}
            FileType::Symlink => return Err(Unstaged::Link { root: root.to_owned() }),
            _ => return Err(Unstaged::OddRoot { root: root.to_owned() }),
        }
        let private = [b".", name.as_bytes(), b".hatchery-staging"].concat();
        let private = Private::take(&parent, folder.join(OsString::from_vec(private)))?;
        let staging = Self { root: root.to_owned(), app, parent, private };
        match statat(&staging.parent, staging.update_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => Ok(staging),
            Ok(_) => Err(Unstaged::Waiting { update: staging.update() }),
            Err(error) => Err(Done::Read.not(&staging.update())(error)),
        }
    }

    /// Copies the version, and puts it beside the app when it is whole.
    ///
    /// # Errors
    /// [`Unstaged`]; nothing is left of it then.
    pub(super) fn stage(self, version: &Path) -> Result<Staged, Unstaged> {
        let found = self.copy(version)?;
        let update = self.update();
        // All that was copied, not each file of it: there may be very many.
        syncfs(&self.private.folder).map_err(Done::Saved.not(&update))?;
        let place = self.update_name();
        let renamed = renameat_with(&self.private.folder, COPY, &self.parent, &place, RenameFlags::NOREPLACE);
        match renamed {
            Err(Errno::EXIST) => return Err(Unstaged::Waiting { update }),
            renamed => renamed.map_err(Done::Renamed.not(&update))?,
        }
        let staged = Staged { staging: self, version: found };
        match fsync(&staged.staging.parent) {
            Ok(()) => Ok(staged),
            Err(error) => {
                staged.withdraw()?;
                Err(Done::Saved.not(&update)(error))
            }
        }
    }

    fn copy(&self, version: &Path) -> Result<Stat, Unstaged> {
        let shown = version.to_owned();
        let version = version.canonicalize().map_err(Done::Read.not(version))?;
        let root = self.root.canonicalize().map_err(Done::Read.not(&self.root))?;
        if version == root {
            return Err(Unstaged::Same { version: shown });
        }
        if root.starts_with(&version) {
            return Err(Unstaged::Contains { version: shown, root: self.root.clone() });
        }
        let from = rustix::fs::open(&version, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty());
        let from = from.map_err(Done::Read.not(&version))?;
        let found = fstat(&from).map_err(Done::Read.not(&version))?;
        let owner = geteuid().is_root().then(|| (Uid::from_raw(self.app.st_uid), Gid::from_raw(self.app.st_gid)));
        let owner = Owner(owner);
        match (FileType::from_raw_mode(self.app.st_mode), FileType::from_raw_mode(found.st_mode)) {
            (FileType::Directory, FileType::Directory) => {
                let to = new_folder(self.private.folder.as_fd(), COPY, &self.update())?;
                owner.copy_folder(from, to.as_fd(), &version, &MARKS)?;
                // A mark is put into it when it is taken, and it can't be renamed by who may not write to it.
                let mode = Mode::from_raw_mode((found.st_mode & 0o3777) | 0o700);
                fchmod(&to, mode).map_err(Done::Copied.not(&self.update()))?;
                fstat(&to).map_err(Done::Read.not(&self.update()))
            }
            (FileType::Directory, _) => Err(Unstaged::NotAFolder { version: shown, root: self.root.clone() }),
            (_, FileType::RegularFile) => {
                owner.copy_file(from, self.private.folder.as_fd(), COPY, &version)?;
                let copy = statat(&self.private.folder, COPY, AtFlags::SYMLINK_NOFOLLOW);
                copy.map_err(Done::Read.not(&self.update()))
            }
            (_, _) => Err(Unstaged::NotAFile { version: shown, root: self.root.clone() }),
        }
    }

    fn update(&self) -> PathBuf {
        let mut update = self.root.clone().into_os_string();
        update.push(".update");
        update.into()
    }

    fn update_name(&self) -> OsString {
        self.update().file_name().unwrap_or_default().to_owned()
    }
}

impl Staged {
    /// Removes the version, if it still lies there: nobody has taken it.
    ///
    /// # Errors
    /// [`Unstaged`]
    pub(super) fn withdraw(self) -> Result<(), Unstaged> {
        let Staging { parent, private, .. } = &self.staging;
        let (update, place) = (self.staging.update(), self.staging.update_name());
        match statat(parent, &place, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if same(&found, &self.version) => {}
            // The pool has taken it, or somebody has put another one there.
            Ok(_) | Err(Errno::NOENT) => return Ok(()),
            Err(error) => return Err(Done::Read.not(&update)(error)),
        }
        // At once, so that it can't be taken while it is removed.
        match renameat(parent, &place, &private.folder, COPY) {
            Err(Errno::NOENT) => Ok(()),
            renamed => {
                renamed.map_err(Done::Renamed.not(&update))?;
                private.empty()
            }
        }
    }
}

fn same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}

/// A folder that nobody else may enter, locked. Removed when this is dropped.
#[derive(Debug)]
struct Private {
    path: PathBuf,
    folder: OwnedFd,
}

impl Private {
    /// Makes it, or takes over what a killed deploy left.
    fn take(parent: &OwnedFd, path: PathBuf) -> Result<Self, Unstaged> {
        let name = path.file_name().unwrap_or_default();
        loop {
            match mkdirat(parent, name, Mode::RWXU) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(Done::Written.not(path.parent().unwrap_or(&path))(error)),
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let folder = match openat(parent, name, flags, Mode::empty()) {
                Ok(folder) => folder,
                // The deploy that had it ended just now.
                Err(Errno::NOENT) => continue,
                Err(Errno::NOTDIR | Errno::LOOP) => return Err(Unstaged::Foreign { staging: path }),
                Err(error) => return Err(Done::Read.not(&path)(error)),
            };
            let found = fstat(&folder).map_err(Done::Read.not(&path))?;
            if found.st_uid != geteuid().as_raw() || found.st_mode & 0o077 != 0 {
                return Err(Unstaged::Foreign { staging: path });
            }
            match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => return Err(Unstaged::UnderWay { staging: path }),
                locked => locked.map_err(Done::Written.not(&path))?,
            }
            // Perhaps removed before it was locked.
            if statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|there| same(&there, &found)) {
                let private = Self { path, folder };
                private.empty()?;
                return Ok(private);
            }
        }
    }

    fn empty(&self) -> Result<(), Unstaged> {
        let mut entries = Dir::read_from(&self.folder).map_err(Done::Read.not(&self.path))?;
        let mut names: Vec<CString> = Vec::new();
        while let Some(entry) = entries.read() {
            names.push(entry.map_err(Done::Read.not(&self.path))?.file_name().to_owned());
        }
        for name in names.iter().filter(|name| ![c".", c".."].contains(&name.as_c_str())) {
            let shown = self.path.join(std::ffi::OsStr::from_bytes(name.to_bytes()));
            let removed = match unlinkat(&self.folder, name, AtFlags::empty()) {
                Err(Errno::ISDIR) => self.remove_folder(name),
                removed => removed.map_err(Into::into),
            };
            removed.map_err(Done::Removed.not(&shown))?;
        }
        Ok(())
    }

    /// A whole tree, through the descriptor: the path may lead elsewhere by now.
    fn remove_folder(&self, name: &CStr) -> std::io::Result<()> {
        writable(open(self.folder.as_fd(), name, OFlags::DIRECTORY)?)?;
        let place = format!("/proc/self/fd/{}", self.folder.as_raw_fd());
        std::fs::remove_dir_all(Path::new(&place).join(std::ffi::OsStr::from_bytes(name.to_bytes())))
    }
}

/// Makes a tree's folders ones that their owner can remove things from.
fn writable(folder: OwnedFd) -> std::io::Result<()> {
    fchmod(&folder, Mode::RWXU)?;
    let mut entries = Dir::read_from(&folder)?;
    while let Some(entry) = entries.read() {
        let entry = entry?;
        let name = entry.file_name();
        if entry.file_type() == FileType::Directory && name != c"." && name != c".." {
            writable(open(folder.as_fd(), name, OFlags::DIRECTORY)?)?;
        }
    }
    Ok(())
}

impl Drop for Private {
    fn drop(&mut self) {
        // What can't be removed now, the next deploy removes or tells of.
        if self.empty().is_ok() {
            let _ = std::fs::remove_dir(&self.path);
        }
    }
}

#[cfg(test)]
#[path = "staging_tests.rs"]
mod tests;
