//! Where the runtime folder and the admin socket are.
//!
//! The base is `$XDG_RUNTIME_DIR/hatchery`, `/run/hatchery` for root, else `/tmp/hatchery-UID`, checked to be
//! ours. In it stand `hatchery-POOL`, the folder of one pool, and `admin.sock`. Of a privileged pool the folder
//! belongs to the pool's user, and stands where all users can reach it.

mod socket;

pub(crate) use socket::{AdminSocket, Audience};

use crate::privileges::{Ids, privileged};
use rustix::fs::{FlockOperation, OFlags, flock};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Why a folder or socket could not be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("{path} can't be used: {error}")]
    Io { path: PathBuf, error: io::Error },
    #[error("{path} belongs to user {owner}, not to us: remove it, or set XDG_RUNTIME_DIR to a folder of your own")]
    NotOurs { path: PathBuf, owner: u32 },
    #[error("another pool answers at {0}: choose another path with --admin")]
    AdminTaken(PathBuf),
    #[error(
        "admin_group: {path} can't be given to the group {group} ({gid}): {error}; be a member of that group, start the \
         pool as root, or name a group of yours"
    )]
    Group { path: PathBuf, group: String, gid: u32, error: io::Error },
}

fn because(path: &Path) -> impl FnOnce(io::Error) -> PlaceError {
    |error| PlaceError::Io { path: path.to_owned(), error }
}

/// The mode of a folder that others may go through, and see nothing of.
const OPEN: u32 = 0o711;

/// The base folder of root.
const OF_ROOT: &str = "/run/hatchery";

/// The base folder, made if it isn't there.
///
/// # Errors
/// When it can't be made, or belongs to somebody else.
pub(crate) fn base() -> Result<PathBuf, PlaceError> {
    let uid = rustix::process::geteuid().as_raw();
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_dir());
    match given {
        Some(dir) => own_folder(Path::new(&dir).join("hatchery")),
        None if uid == 0 => base_of_root(),
        None => own_folder(PathBuf::from(format!("/tmp/hatchery-{uid}"))),
    }
}

/// Where the runtime folder stands: in the base folder too, unless a privileged pool's user and its apps' users could
/// not reach it there, as below root's own `XDG_RUNTIME_DIR`.
///
/// # Errors
/// When another one is needed, and can't be made.
pub(crate) fn runtime_base(base: &Path) -> Result<PathBuf, PlaceError> {
    let enterable = |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.mode() & 0o001 != 0);
    let real = base.canonicalize().map_err(because(base))?;
    if !privileged() || real.ancestors().all(enterable) { Ok(base.to_owned()) } else { base_of_root() }
}

fn base_of_root() -> Result<PathBuf, PlaceError> {
    let path = PathBuf::from(OF_ROOT);
    if let Some(parent) = path.parent() {
        // A bare container may have no /run.
        make(parent, 0o755)?;
    }
    own_folder(path)
}

fn own_folder(path: PathBuf) -> Result<PathBuf, PlaceError> {
    // Workers of other users must reach what is inside by its name.
    let mode = if privileged() { OPEN } else { 0o700 };
    make(&path, mode)?;
    let found = fs::symlink_metadata(&path).map_err(because(&path))?;
    if !found.is_dir() || found.uid() != rustix::process::geteuid().as_raw() {
        return Err(PlaceError::NotOurs { path, owner: found.uid() });
    }
    // Another pool's socket in it may be for others, too.
    if found.mode() & 0o7777 != OPEN {
        fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(because(&path))?;
    }
    Ok(path)
}

fn make(path: &Path, mode: u32) -> Result<(), PlaceError> {
    match DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(because(path)(error)),
        _ => Ok(()),
    }
}

/// A folder that no other start looks into until this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    path: PathBuf,
    _lock: File,
}

/// Waits until no other start looks into this folder.
///
/// # Errors
/// When it can't be locked.
pub(crate) fn hold(folder: &Path) -> Result<Held, PlaceError> {
    let file = File::open(folder).map_err(because(folder))?;
    flock(&file, FlockOperation::LockExclusive).map_err(|errno| because(folder)(errno.into()))?;
    Ok(Held { path: folder.to_owned(), _lock: file })
}

impl Held {
    /// Whom the folders of pools in here belong to.
    pub(crate) fn owners(&self) -> Vec<u32> {
        pool_folders(&self.path)
            .filter_map(|folder| fs::symlink_metadata(folder).ok())
            .map(|found| found.uid())
            .collect()
    }
}

fn pool_folders(base: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(base).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b"hatchery-")).map(|entry| entry.path())
}

/// The folder of one pool. It is removed when this is dropped; what a killed keeper left behind, the next start
/// of any pool removes.
#[derive(Debug)]
pub(crate) struct RuntimeFolder {
    path: PathBuf,
    // Whoever holds this lock lives.
    _lock: File,
}

impl RuntimeFolder {
    /// Makes `hatchery-POOL` in `base`, and removes what pools that are no more left there. Two starts at the same
    /// time: a folder whose lock is not taken yet looks like one that was left, hence the held base.
    ///
    /// # Errors
    /// When it can't be made.
    pub(crate) fn create(base: &Held, pool: &str, owner: Option<Ids>) -> Result<Self, PlaceError> {
        pool_folders(&base.path).filter(|folder| is_left(folder)).for_each(|left| {
            let _ = fs::remove_dir_all(left);
        });
        let path = base.path.join(format!("hatchery-{pool}"));
        DirBuilder::new().mode(0o711).create(&path).map_err(because(&path))?;
        let lock = File::create(path.join("lock")).map_err(because(&path))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|errno| because(&path)(errno.into()))?;
        let folder = Self { path, _lock: lock };
        // Whatever our own mask takes away, others must be able to enter.
        fs::set_permissions(&folder.path, Permissions::from_mode(0o711)).map_err(because(&folder.path))?;
        if let Some(Ids { uid, gid }) = owner {
            chown(&folder.path, Some(uid), Some(gid)).map_err(because(&folder.path))?;
        }
        Ok(folder)
    }

    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes all but the lock: what an earlier core left.
    ///
    /// # Errors
    /// When something can't be removed.
    pub(crate) fn empty(&self) -> Result<(), PlaceError> {
        for entry in fs::read_dir(&self.path).map_err(because(&self.path))?.flatten() {
            let path = entry.path();
            if entry.file_name() == "lock" {
                continue;
            }
            let removed = match entry.file_type() {
                Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
                _ => fs::remove_file(&path),
            };
            removed.map_err(because(&path))?;
        }
        Ok(())
    }
}

impl Drop for RuntimeFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// A folder whose lock nobody holds. One without a lock is another keeper's that is just starting. Its owner may be
/// another than we: what stands there may be anything, and is not waited for.
fn is_left(folder: &Path) -> bool {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let lock = OpenOptions::new().read(true).custom_flags(flags).open(folder.join("lock"));
    lock.is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_that_start_at_the_same_time_leave_each_other_their_folders() {
        let base = tempfile::tempdir().unwrap();
        std::thread::scope(|threads| {
            for thread in 0..4 {
                let base = base.path();
                threads.spawn(move || {
                    for start in 0..100 {
                        let held = hold(base).unwrap();
                        let folder = RuntimeFolder::create(&held, &format!("{thread}-{start}"), None).unwrap();
                        drop(held);
                        assert!(folder.path().join("lock").exists());
                    }
                });
            }
        });
        assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0, "each removes its own");
    }
}
