//! Whether a file is root's alone to change: it and every folder on the way to it, links included.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

/// As many as the kernel follows.
const LINKS: u32 = 40;
const STICKY: u32 = 0o1000;
const OTHERS_WRITE: u32 = 0o022;

/// Why somebody else could change what a file says: the path that is to be mended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Exposed {
    #[error("{} can't be looked at: {error}", path.display())]
    Unknown { path: PathBuf, error: io::Error },
    #[error("{} belongs to user {owner}; give it to root (chown root)", path.display())]
    Owned { path: PathBuf, owner: u32 },
    #[error("{} can be written by others than root (mode {mode:04o}); take that from them (chmod go-w)", path.display())]
    Writable { path: PathBuf, mode: u32 },
    #[error("{} goes through more than {LINKS} links", .0.display())]
    Links(PathBuf),
}

/// Follows an absolute path as the kernel would, and judges each step.
///
/// # Errors
/// The first step that somebody else could change.
pub(super) fn only_root_writes(path: &Path) -> Result<(), Exposed> {
    let mut ahead = steps(path);
    let mut at = PathBuf::from("/");
    let mut links = 0;
    judge(&at)?;
    while let Some(step) = ahead.pop_front() {
        if step == ".." {
            at.pop();
            continue;
        }
        let next = at.join(step);
        if !judge(&next)? {
            at = next;
            continue;
        }
        links += 1;
        if links > LINKS {
            return Err(Exposed::Links(path.to_owned()));
        }
        let target = fs::read_link(&next).map_err(|error| Exposed::Unknown { path: next.clone(), error })?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        let mut further = steps(&target);
        further.append(&mut ahead);
        ahead = further;
    }
    Ok(())
}

fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|step| matches!(step, Component::Normal(_) | Component::ParentDir))
        .map(|step| step.as_os_str().to_owned())
        .collect()
}

/// True: it is a link, whose folder was judged before. What lies in a folder with the sticky bit, only its owner
/// can take away, and that owner is root wherever this goes on.
fn judge(path: &Path) -> Result<bool, Exposed> {
    let found = fs::symlink_metadata(path).map_err(|error| Exposed::Unknown { path: path.to_owned(), error })?;
    if found.uid() != 0 {
        return Err(Exposed::Owned { path: path.to_owned(), owner: found.uid() });
    }
    let mode = found.mode() & 0o7777;
    let kept = found.is_dir() && mode & STICKY != 0;
    if mode & OTHERS_WRITE != 0 && !found.is_symlink() && !kept {
        return Err(Exposed::Writable { path: path.to_owned(), mode });
    }
    Ok(found.is_symlink())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    #[test]
    fn a_file_that_is_not_roots_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pool.toml");
        fs::write(&file, "").unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(&file, Some(65534), None).unwrap();
        }
        let problem = only_root_writes(&file).unwrap_err().to_string();
        assert!(problem.contains("belongs to user") && problem.contains("chown root"), "{problem}");
    }

    #[test]
    fn what_is_not_there_is_told() {
        let problem = only_root_writes(Path::new("/no/such/pool.toml")).unwrap_err();
        assert!(matches!(&problem, Exposed::Unknown { path, .. } if path == Path::new("/no")), "{problem}");
    }

    #[test]
    fn folders_links_and_what_they_lead_to_are_judged() {
        if !nix::unistd::geteuid().is_root() {
            assert!(std::env::var_os("HATCHERY_CI").is_none(), "CI tries this as root as well");
            return eprintln!("SKIPPED folders_links_and_what_they_lead_to_are_judged: only root has files of root's");
        }
        let folder = tempfile::tempdir().unwrap();
        let made = |name: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            path
        };
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let (safe, open) = (made("safe"), made("open"));
        let file = safe.join("pool.toml");
        fs::write(&file, "").unwrap();
        only_root_writes(&file).unwrap();
        only_root_writes(&safe.join("../safe/./pool.toml")).unwrap();

        symlink("../safe/pool.toml", open.join("link")).unwrap();
        only_root_writes(&open.join("link")).unwrap();
        mode(&open, 0o777);
        // Anybody could put another link there.
        assert!(matches!(only_root_writes(&open.join("link")), Err(Exposed::Writable { path, .. }) if path == open));
        // Not with the sticky bit.
        mode(&open, 0o1777);
        only_root_writes(&open.join("link")).unwrap();

        symlink(open.join("file"), safe.join("away")).unwrap();
        fs::write(open.join("file"), "").unwrap();
        mode(&open, 0o775);
        assert!(matches!(only_root_writes(&safe.join("away")), Err(Exposed::Writable { path, .. }) if path == open));
        symlink("round", safe.join("round")).unwrap();
        assert!(matches!(only_root_writes(&safe.join("round")), Err(Exposed::Links(_))));
        mode(&file, 0o620);
        let problem = only_root_writes(&file).unwrap_err().to_string();
        assert!(problem.contains("mode 0620") && problem.contains("chmod go-w"), "{problem}");
    }
}
