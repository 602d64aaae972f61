//! Removing what an exchange has put aside. It may be large, so nobody waits for it.

use super::error::{Doing, SwapError};
use super::hands::look;
use super::scene::{Entry, Names};
use super::who::{self, User};
use rustix::fs::{AtFlags, FileType};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Removes what was put aside of the app at `root`, as whom it belongs to.
pub(crate) fn clear(root: &[u8], privileged: bool) {
    let Some(names) = Names::of(root) else { return };
    if let Err(error) = clear_beside(&names, privileged) {
        eprintln!("spawner: {} can't be cleared of old versions: {error}", names.parent.display());
    }
}

fn clear_beside(names: &Names, privileged: bool) -> io::Result<()> {
    let outlook = who::outlook(names).map_err(|error| io::Error::other(error.to_string()))?;
    let folder = outlook.open_parent(names).map_err(|error| io::Error::other(error.to_string()))?;
    for (user, aside) in put_aside(names, &folder)? {
        let work = || {
            who::become_user(user, names, &outlook, privileged)?;
            let folder = outlook.open_parent(names)?;
            for name in &aside {
                remove(&folder, name).map_err(|error| SwapError::Step {
                    doing: Doing::Removing,
                    path: names.parent.join(name),
                    error,
                })?;
            }
            Ok(())
        };
        if privileged {
            who::apart(work)?;
        } else {
            work().map_err(|error| io::Error::other(error.to_string()))?;
        }
    }
    Ok(())
}

fn put_aside(names: &Names, folder: &OwnedFd) -> io::Result<BTreeMap<User, Vec<OsString>>> {
    let prefix = names.aside();
    let mut found: BTreeMap<User, Vec<OsString>> = BTreeMap::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = OsStr::from_bytes(entry.file_name().to_bytes());
        if name.as_bytes().starts_with(prefix.as_bytes())
            && let Some(entry) = look(folder, name)?.as_ref().map(Entry::of)
        {
            found.entry((entry.uid, entry.gid)).or_default().push(name.into());
        }
    }
    Ok(found)
}

/// Links in it are removed, and not followed.
fn remove(folder: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let Some(stat) = look(folder, name)? else { return Ok(()) };
    if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
        return Ok(rustix::fs::unlinkat(folder, name, AtFlags::empty())?);
    }
    // In the open folder, wherever its path leads by now.
    let path = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
