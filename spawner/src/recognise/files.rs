//! Looking at the files of a folder. They belong to the app's owner: none is waited for, or trusted to be short.

use crate::folder::{self, FolderError};
use rustix::fs::{Access, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most that is read of a file, in bytes.
pub(super) const MAX_LEN: usize = 256 * 1024;
/// The most entries of a folder that are looked at.
const MAX_ENTRIES: usize = 2000;

/// The folder of an app.
#[derive(Clone, Debug)]
pub(crate) struct Files {
    root: PathBuf,
}

/// The beginning of a file.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) text: String,
    /// There is more of it.
    pub(super) cut: bool,
}

impl Files {
    pub(crate) fn of(root: &Path) -> Self {
        Self { root: root.into() }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.root.join(name)
    }

    /// Whether there is a regular file, or a link to one.
    pub(crate) fn has(&self, name: impl AsRef<Path>) -> bool {
        self.path(name).metadata().is_ok_and(|metadata| metadata.is_file())
    }

    pub(super) fn has_folder(&self, name: impl AsRef<Path>) -> bool {
        self.path(name).is_dir()
    }

    /// Whether there is a regular file that this process may execute, and that looks like a program: where all files
    /// are executable, as on some mounts, that alone says nothing.
    pub(super) fn has_program(&self, name: impl AsRef<Path>) -> bool {
        let path = self.path(name);
        let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
        if !is_file || rustix::fs::access(&path, Access::EXEC_OK).is_err() {
            return false;
        }
        let mut head = [0; 4];
        match open(&path) {
            Ok(mut file) => file.read(&mut head).is_ok() && (head.starts_with(b"#!") || head == *b"\x7fELF"),
            // What may be executed, and not read, is a program.
            Err(error) => error == Errno::ACCESS,
        }
    }

    /// `None`: there is no regular file of that name.
    pub(super) fn read(&self, name: impl AsRef<Path>) -> Result<Option<Text>, FolderError> {
        read(&self.path(name))
    }

    /// Names in the folder, sorted; those that are text, and not too many.
    pub(super) fn names(&self) -> Vec<String> {
        let Ok(entries) = self.root.read_dir() else { return Vec::new() };
        let names = entries.flatten().take(MAX_ENTRIES).filter_map(|entry| entry.file_name().into_string().ok());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }
}

fn open(path: &Path) -> Result<File, Errno> {
    // A FIFO is not waited for.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

/// `None`: there is no regular file.
pub(super) fn read(path: &Path) -> Result<Option<Text>, FolderError> {
    let failed = |error: Errno| FolderError::Io { path: path.into(), error: error.into() };
    let file = match open(path) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::NXIO | Errno::LOOP) => return Ok(None),
        Err(Errno::ACCESS) => return Err(folder::closed(path)),
        Err(error) => return Err(failed(error)),
    };
    let stat = rustix::fs::fstat(&file).map_err(failed)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(MAX_LEN as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| FolderError::Io { path: path.into(), error })?;
    let cut = bytes.len() > MAX_LEN;
    bytes.truncate(MAX_LEN);
    // Names and words of other encodings don't matter here.
    let text = String::from_utf8_lossy(&bytes).trim_start_matches('\u{feff}').to_owned();
    Ok(Some(Text { text, cut }))
}

/// Whom a file itself belongs to, not what it leads to. `None`: it is not there.
pub(crate) fn owner(path: &Path) -> Option<u32> {
    path.symlink_metadata().ok().map(|metadata| metadata.uid())
}
