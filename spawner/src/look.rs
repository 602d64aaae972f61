//! What about an app's root can ask for a restart. Runs in an errand, as whom the app runs as: it sees what that user
//! can see.

use crate::identity::Rules;
use crate::inspect;
use hatchery_protocol::link::{Sight, Staged};
use hatchery_protocol::options::AppOptions;
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Entries of a staged update beyond which it is not looked through.
const ENTRIES: usize = 200_000;
/// Folders in each other: each holds a descriptor while what is below it is looked through.
const DEPTH: usize = 200;
/// Less than an errand has, so that all else is told in any case.
const WALK_LIMIT: Duration = Duration::from_millis(1_500);

/// `None`: the root can't be looked at.
pub(crate) fn look(root: &[u8], settings: &AppOptions, rules: &Rules) -> Option<Sight> {
    let path = Path::new(OsStr::from_bytes(root));
    if !path.is_absolute() {
        return None;
    }
    inspect::become_whom_it_runs_as(path, settings, rules).ok()?;
    sight(path)
}

fn sight(root: &Path) -> Option<Sight> {
    let kind = FileType::from_raw_mode(rustix::fs::stat(root).ok()?.st_mode);
    let update = beside(root, ".update").and_then(|update| staged(&update, kind));
    Some(Sight { update, ..without_update(root)? })
}

/// What an inspection sees by the way.
pub(crate) fn without_update(root: &Path) -> Option<Sight> {
    let target = root.canonicalize().ok()?;
    let restart_txt = rustix::fs::lstat(root.join("tmp/restart.txt")).ok().map(|stat| modified(&stat));
    Some(Sight { target: target.into_os_string().into_vec(), restart_txt, update: None })
}

/// `None`: a root without a name.
fn beside(root: &Path, ending: &str) -> Option<PathBuf> {
    let mut name = root.file_name()?.to_owned();
    name.push(ending);
    Some(root.with_file_name(name))
}

fn modified(stat: &Stat) -> (i64, u32) {
    (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or_default())
}

/// What lies at `update`, if it is itself of this kind. `None` too if there is too much of it, or it can't all be seen.
fn staged(update: &Path, kind: FileType) -> Option<Staged> {
    let stat = rustix::fs::lstat(update).ok()?;
    let mut walk = Walk { hasher: DefaultHasher::new(), left: ENTRIES, end: Instant::now() + WALK_LIMIT };
    match (kind, FileType::from_raw_mode(stat.st_mode)) {
        (FileType::Directory, FileType::Directory) => {
            let folder = open(CWD, update.as_os_str()).ok()?;
            walk.folder(&folder, &mut Vec::new())?;
            let complete = rustix::fs::statat(&folder, ".complete", AtFlags::SYMLINK_NOFOLLOW).is_ok();
            Some(Staged { print: walk.hasher.finish(), complete })
        }
        (FileType::RegularFile, FileType::RegularFile) => {
            walk.entry(&[], &stat);
            // Of a file that another was renamed to, nothing else may have changed.
            stat.st_ino.hash(&mut walk.hasher);
            Some(Staged { print: walk.hasher.finish(), complete: false })
        }
        (_, _) => None,
    }
}

fn open(folder: impl AsFd, name: &OsStr) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(folder, name, flags, Mode::empty())
}

struct Walk {
    hasher: DefaultHasher,
    left: usize,
    end: Instant,
}

impl Walk {
    /// All that is below `folder`, whose path from the top is `path`. `None`: it is not to be looked through.
    fn folder(&mut self, folder: &OwnedFd, path: &mut Vec<OsString>) -> Option<()> {
        if path.len() >= DEPTH {
            return None;
        }
        let mut names = Vec::new();
        for entry in Dir::read_from(folder).ok()? {
            let name = OsStr::from_bytes(entry.ok()?.file_name().to_bytes()).to_owned();
            // Ours comes and goes without the update being another one.
            let ours = path.is_empty() && name.as_bytes().starts_with(b".hatchery-deploy");
            if name != "." && name != ".." && !ours {
                self.left = self.left.checked_sub(1)?;
                names.push(name);
            }
        }
        // As a file system lists them is nothing that it promises.
        names.sort();
        for name in names {
            if Instant::now() >= self.end {
                return None;
            }
            match rustix::fs::statat(folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
                // Removed meanwhile.
                Err(Errno::NOENT) => {}
                Err(_) => return None,
                Ok(stat) => {
                    path.push(name);
                    self.below(folder, path, &stat)?;
                    path.pop();
                }
            }
        }
        Some(())
    }

    fn below(&mut self, folder: &OwnedFd, path: &mut Vec<OsString>, stat: &Stat) -> Option<()> {
        self.entry(path, stat);
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Some(());
        }
        match open(folder, path.last()?) {
            Ok(inner) => self.folder(&inner, path),
            Err(Errno::NOENT) => Some(()),
            Err(_) => None,
        }
    }

    fn entry(&mut self, path: &[OsString], stat: &Stat) {
        path.hash(&mut self.hasher);
        FileType::from_raw_mode(stat.st_mode).as_raw_mode().hash(&mut self.hasher);
        modified(stat).hash(&mut self.hasher);
        stat.st_size.hash(&mut self.hasher);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct App(tempfile::TempDir);

    impl App {
        fn new() -> Self {
            let base = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(base.path().join("shop/tmp")).unwrap();
            Self(base)
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn sight(&self) -> Sight {
            sight(&self.path("shop")).unwrap()
        }

        fn write(&self, name: &str, text: &str) {
            std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
            std::fs::write(self.path(name), text).unwrap();
        }

        fn print(&self) -> u64 {
            self.sight().update.unwrap().print
        }
    }

    #[test]
    fn a_root_tells_where_it_leads() {
        let app = App::new();
        let target = app.path("shop").canonicalize().unwrap();
        assert_eq!(app.sight().target, target.as_os_str().as_bytes());
        symlink("shop", app.path("current")).unwrap();
        assert_eq!(sight(&app.path("current")).unwrap().target, target.as_os_str().as_bytes());
        assert_eq!(sight(&app.path("nothing")), None);
    }

    #[test]
    fn restart_txt_tells_when_it_was_touched_itself() {
        let app = App::new();
        assert_eq!(app.sight().restart_txt, None);
        app.write("other", "");
        symlink(app.path("other"), app.path("shop/tmp/restart.txt")).unwrap();
        let of_link = app.sight().restart_txt.unwrap();
        let touch = |path: &Path| {
            let time = rustix::fs::Timespec { tv_sec: 7, tv_nsec: 9 };
            let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
            rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
        };
        touch(&app.path("other"));
        assert_eq!(app.sight().restart_txt, Some(of_link));
        std::fs::remove_file(app.path("shop/tmp/restart.txt")).unwrap();
        app.write("shop/tmp/restart.txt", "");
        touch(&app.path("shop/tmp/restart.txt"));
        assert_eq!(app.sight().restart_txt, Some((7, 9)));
    }

    #[test]
    fn the_print_changes_with_every_file_and_with_nothing_else() {
        let app = App::new();
        assert_eq!(app.sight().update, None);
        std::fs::create_dir(app.path("shop.update")).unwrap();
        let mut seen = vec![app.print()];
        let mut changed = |app: &App| {
            let print = app.print();
            assert!(!seen.contains(&print), "seen before");
            assert_eq!(print, app.print());
            seen.push(print);
        };
        app.write("shop.update/a/b/c/file", "1");
        changed(&app);
        app.write("shop.update/a/b/c/file", "22");
        changed(&app);
        std::fs::rename(app.path("shop.update/a/b/c/file"), app.path("shop.update/a/b/file")).unwrap();
        changed(&app);
        symlink("/", app.path("shop.update/link")).unwrap();
        changed(&app);
        std::fs::remove_file(app.path("shop.update/link")).unwrap();
        std::fs::create_dir(app.path("shop.update/link")).unwrap();
        changed(&app);
        let before = app.print();
        app.write("shop.update/.hatchery-deploy", "x");
        assert_eq!(app.print(), before);
    }

    #[test]
    fn an_update_says_itself_that_it_is_complete() {
        let app = App::new();
        app.write("shop.update/file", "");
        assert!(!app.sight().update.unwrap().complete);
        app.write("shop.update/.complete", "");
        assert!(app.sight().update.unwrap().complete);
    }

    #[test]
    fn an_update_is_what_the_app_is_and_no_link() {
        let app = App::new();
        app.write("shop.update", "a file beside a folder");
        assert_eq!(app.sight().update, None);
        app.write("program", "1");
        app.write("program.update", "2");
        let staged = sight(&app.path("program")).unwrap().update.unwrap();
        assert!(!staged.complete);
        app.write("program.update", "three");
        assert_ne!(sight(&app.path("program")).unwrap().update, Some(staged));
        std::fs::remove_file(app.path("shop.update")).unwrap();
        symlink("shop", app.path("shop.update")).unwrap();
        assert_eq!(app.sight().update, None);
    }

    #[test]
    fn what_is_too_deep_is_not_looked_through() {
        let app = App::new();
        let deep: PathBuf = std::iter::repeat_n("d", DEPTH + 1).collect();
        std::fs::create_dir_all(app.path("shop.update").join(deep)).unwrap();
        assert_eq!(app.sight().update, None);
    }
}
