//! An app's root on disk. Runs in an errand: any call here may hang.

use crate::manifest::{self, Manifest, ManifestError};
use crate::users;
use rustix::fs::{Access, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What a root is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Root {
    Folder(PathBuf),
    /// An executable file.
    Program(PathBuf),
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    #[error("{} is no absolute path", .0.display())]
    Relative(PathBuf),
    #[error("{} does not exist", .0.display())]
    Missing(PathBuf),
    #[error("{} can't be entered: its mode is {mode:04o}, its owner user {owner}", level.display())]
    Refused { level: PathBuf, mode: u32, owner: u32 },
    #[error("{} is a file and not executable", path.display())]
    NotExecutable { path: PathBuf, mode: u32 },
    #[error("{} is {what}, no folder", path.display())]
    Kind { path: PathBuf, what: &'static str },
    #[error("{} can't be read: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} can't be read: its mode is {mode:04o}, its owner user {owner}", path.display())]
    Unreadable { path: PathBuf, mode: u32, owner: u32 },
    #[error("{} belongs to {root_owner}, its {file} to {owner}: chown one of them", root.display())]
    Owners { root: PathBuf, file: String, root_owner: String, owner: String },
    #[error("{} changed its owner while it was looked at", .0.display())]
    NewOwner(PathBuf),
    #[error("{} is {what}, not a regular file", path.display())]
    ManifestKind { path: PathBuf, what: &'static str },
    #[error("{} is longer than {} KiB", .0.display(), manifest::MAX_LEN / 1024)]
    ManifestLong(PathBuf),
    #[error("{} is not UTF-8 text: byte {at} is not", path.display())]
    ManifestText { path: PathBuf, at: usize },
    #[error("{0}")]
    Manifest(#[from] ManifestError),
}

impl FolderError {
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Relative(_) => "Name the app by the absolute path of its folder.".into(),
            Self::Missing(_) => "Create it, or correct the app's path.".into(),
            Self::Refused { level, .. } => {
                format!("Let the pool's user enter it (`chmod o+x {}`), or move the app.", level.display())
            }
            Self::NotExecutable { path, .. } => {
                format!("Make it executable (`chmod +x {}`), or name the folder of an app.", path.display())
            }
            Self::Unreadable { path, .. } => {
                format!("Let the pool's user read it (`chmod o+r {}`), or move the app.", path.display())
            }
            Self::Owners { root, file, root_owner, .. } => format!(
                "`chown {root_owner} {}`, or `chown` the folder, or name the user that the app is to run as in \
                 pool.toml (`user = ...`).",
                root.join(file).display()
            ),
            Self::NewOwner(_) => "Try again.".into(),
            Self::Kind { .. } => "Name the folder of an app, or an executable file.".into(),
            Self::Io { .. } => "See that the pool's user can read it, and that its disk is well.".into(),
            Self::ManifestKind { path, .. } => {
                format!("Put a regular file at {}; links are not followed there.", path.display())
            }
            Self::ManifestLong(_) => "Shorten it; it only says how the app is started.".into(),
            Self::ManifestText { .. } => "Save it as UTF-8.".into(),
            Self::Manifest(error) => error.what.remedy(),
        }
    }

    /// Problem and remedy where it is `user` that something is closed to.
    pub(crate) fn closed_to(&self, user: &str) -> Option<(String, String)> {
        let (does, path, mode, letter) = match self {
            Self::Refused { level, mode, .. } => ("enter", level, mode, "x"),
            Self::Unreadable { path, mode, .. } => ("read", path, mode, "r"),
            Self::NotExecutable { path, mode } if mode & 0o111 != 0 => ("execute", path, mode, "x"),
            _ => return None,
        };
        let path = path.display();
        let problem = format!("runs as {user}, who can't {does} {path} ({mode:04o})");
        let remedy = format!(
            "Let {user} {does} it (`chmod o+{letter} {path}`), give the app to who can (`chown`), or name the user that \
             it is to run as in pool.toml (`user = ...`)."
        );
        Some((problem, remedy))
    }
}

/// What is at `root`, with its path resolved. A folder must belong to `owner`, if there is to be one.
pub(crate) fn resolve(root: &Path, owner: Option<u32>) -> Result<Root, FolderError> {
    if !root.is_absolute() {
        return Err(FolderError::Relative(root.into()));
    }
    let resolved = root.canonicalize().map_err(|error| explain(root, error))?;
    let metadata = resolved.metadata().map_err(|error| explain(root, error))?;
    if metadata.is_dir() && owner.is_some_and(|owner| owner != metadata.uid()) {
        return Err(FolderError::NewOwner(root.into()));
    }
    let executable = rustix::fs::access(&resolved, Access::EXEC_OK).is_ok();
    match FileType::from_raw_mode(metadata.mode()) {
        FileType::Directory if executable => Ok(Root::Folder(resolved)),
        FileType::Directory => Err(refused(&resolved)),
        FileType::RegularFile if executable => Ok(Root::Program(resolved)),
        FileType::RegularFile => Err(FolderError::NotExecutable { path: root.into(), mode: metadata.mode() & 0o7777 }),
        other => Err(FolderError::Kind { path: root.into(), what: name(other) }),
    }
}

/// Finds the level of `root` that is the matter.
fn explain(root: &Path, error: io::Error) -> FolderError {
    let mut levels: Vec<_> = root.ancestors().collect();
    levels.reverse();
    for level in levels {
        match level.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return FolderError::Missing(level.into()),
            Err(error) => return FolderError::Io { path: level.into(), error },
            Ok(metadata) if metadata.is_dir() && rustix::fs::access(level, Access::EXEC_OK).is_err() => {
                return refused(level);
            }
            Ok(_) => {}
        }
    }
    FolderError::Io { path: root.into(), error }
}

fn refused(level: &Path) -> FolderError {
    match level.metadata() {
        Ok(metadata) => {
            FolderError::Refused { level: level.into(), mode: metadata.mode() & 0o7777, owner: metadata.uid() }
        }
        Err(error) => FolderError::Io { path: level.into(), error },
    }
}

/// What a file of this kind is called.
pub(crate) fn name(kind: FileType) -> &'static str {
    match kind {
        FileType::Directory => "a folder",
        FileType::RegularFile => "a file",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "a device",
        _ => "something else",
    }
}

/// The manifest in `folder`, if it has one. What is there belongs to the app's owner: it is not followed, not
/// waited for, and not trusted to be short. It must belong to `owner`, if there is to be one.
pub(crate) fn manifest(folder: &Path, owner: Option<u32>) -> Result<Option<Manifest>, FolderError> {
    let path = folder.join(manifest::NAME);
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Ok(None),
        Err(Errno::LOOP) => return Err(FolderError::ManifestKind { path, what: "a symbolic link" }),
        Err(Errno::NXIO) => return Err(FolderError::ManifestKind { path, what: "a socket" }),
        Err(error) => return Err(unreadable(folder, path, owner, error)),
    };
    let stat = match rustix::fs::fstat(&file) {
        Ok(stat) => stat,
        Err(error) => return Err(FolderError::Io { path, error: error.into() }),
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        other => return Err(FolderError::ManifestKind { path, what: name(other) }),
    }
    // Of the open file, so that it can be no other that is read.
    one_owner(folder, manifest::NAME, owner, stat.st_uid)?;
    let mut bytes = Vec::new();
    if let Err(error) = file.take(manifest::MAX_LEN as u64 + 1).read_to_end(&mut bytes) {
        return Err(FolderError::Io { path, error });
    }
    if bytes.len() > manifest::MAX_LEN {
        return Err(FolderError::ManifestLong(path));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Some(manifest::parse(text)?)),
        Err(error) => Err(FolderError::ManifestText { path, at: error.valid_up_to() }),
    }
}

/// Why a file can't be opened that is there.
pub(crate) fn closed(path: &Path) -> FolderError {
    match path.metadata() {
        Ok(metadata) => {
            FolderError::Unreadable { path: path.into(), mode: metadata.mode() & 0o7777, owner: metadata.uid() }
        }
        Err(error) => FolderError::Io { path: path.into(), error },
    }
}

/// Of a file of which nothing can be read, the kind and the owner say more than that.
fn unreadable(folder: &Path, path: PathBuf, owner: Option<u32>, error: Errno) -> FolderError {
    let metadata = match path.symlink_metadata() {
        Ok(metadata) if error == Errno::ACCESS => metadata,
        Ok(_) | Err(_) => return FolderError::Io { path, error: error.into() },
    };
    let kind = FileType::from_raw_mode(metadata.mode());
    if kind != FileType::RegularFile {
        return FolderError::ManifestKind { path, what: name(kind) };
    }
    match one_owner(folder, manifest::NAME, owner, metadata.uid()) {
        Err(error) => error,
        Ok(()) => FolderError::Unreadable { path, mode: metadata.mode() & 0o7777, owner: metadata.uid() },
    }
}

/// What is at the root must belong to one owner: that of `folder`, and that of `file` in it, which is `found`.
pub(crate) fn one_owner(folder: &Path, file: &str, owner: Option<u32>, found: u32) -> Result<(), FolderError> {
    match owner {
        Some(owner) if owner != found => Err(FolderError::Owners {
            root: folder.into(),
            file: file.into(),
            root_owner: users::name_of(owner),
            owner: users::name_of(found),
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixListener;

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn refusal(folder: &Path) -> String {
        let error = manifest(folder, None).unwrap_err();
        assert!(!error.remedy().is_empty());
        error.to_string()
    }

    #[test]
    fn a_root_is_resolved_once() {
        let base = folder();
        let base = base.path().canonicalize().unwrap();
        std::fs::create_dir(base.join("v1")).unwrap();
        symlink("v1", base.join("current")).unwrap();
        assert_eq!(resolve(&base.join("current"), None).unwrap(), Root::Folder(base.join("v1")));
    }

    #[test]
    fn the_level_that_is_missing_is_named() {
        let base = folder();
        let error = resolve(&base.path().join("a/b/c"), None).unwrap_err();
        assert_eq!(error.to_string(), format!("{} does not exist", base.path().join("a").display()));
        assert!(matches!(resolve(Path::new("a"), None), Err(FolderError::Relative(_))));
    }

    #[test]
    fn a_file_is_an_app_when_it_is_executable() {
        let base = folder();
        let path = base.path().canonicalize().unwrap().join("app");
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        assert!(resolve(&path, None).unwrap_err().to_string().ends_with("is a file and not executable"));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(resolve(&path, None).unwrap(), Root::Program(path.clone()));
        let socket = base.path().join("socket");
        let _listener = UnixListener::bind(&socket).unwrap();
        assert!(resolve(&socket, None).unwrap_err().to_string().ends_with("is a socket, no folder"));
    }

    #[test]
    fn a_manifest_is_a_short_regular_text_file() {
        let base = folder();
        let path = base.path().join(manifest::NAME);
        assert_eq!(manifest(base.path(), None).unwrap(), None);

        symlink("/etc/passwd", &path).unwrap();
        assert!(refusal(base.path()).ends_with("hatchery.toml is a symbolic link, not a regular file"));
        std::fs::remove_file(&path).unwrap();

        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(refusal(base.path()).ends_with("hatchery.toml is a FIFO, not a regular file"));
        std::fs::remove_file(&path).unwrap();

        let listener = UnixListener::bind(&path).unwrap();
        assert!(refusal(base.path()).ends_with("hatchery.toml is a socket, not a regular file"));
        drop(listener);
        std::fs::remove_file(&path).unwrap();

        std::fs::create_dir(&path).unwrap();
        assert!(refusal(base.path()).ends_with("hatchery.toml is a folder, not a regular file"));
        std::fs::remove_dir(&path).unwrap();

        std::fs::write(&path, "#".repeat(manifest::MAX_LEN + 1)).unwrap();
        assert!(refusal(base.path()).ends_with("hatchery.toml is longer than 64 KiB"));
        std::fs::write(&path, "#".repeat(manifest::MAX_LEN)).unwrap();
        assert!(manifest(base.path(), None).unwrap().is_some());

        std::fs::write(&path, b"# \xff").unwrap();
        assert!(refusal(base.path()).ends_with("hatchery.toml is not UTF-8 text: byte 2 is not"));
    }
}
