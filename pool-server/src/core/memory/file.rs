//! `state.json` in the operator's folder, written by a thread of its own: a disk may be slow, the core never waits.
//!
//! All names are looked up in that folder by its descriptor, and none is followed if it is a link. The file is there
//! whole or not at all: it is written beside and takes the place of the one before, each on disk before the next step.

use super::Remembered;
use rustix::fs::{FileType, Mode, OFlags, fstat, fsync, open, openat, renameat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use tokio::sync::oneshot;

const NAME: &str = "state.json";
const FRESH: &str = "state.json.new";
const BROKEN: &str = "state.json.broken";
/// More than any pool has to remember.
const LONGEST: u64 = 64 << 20;

/// The folder.
#[derive(Debug)]
pub(super) struct Folder {
    folder: OwnedFd,
    path: PathBuf,
}

/// Why nothing is remembered, or not any more.
#[derive(Debug, thiserror::Error)]
#[error("state_dir: {}: {why}", path.display())]
pub(super) struct StateError {
    path: PathBuf,
    why: io::Error,
}

impl Folder {
    /// The keeper has made and checked it.
    ///
    /// # Errors
    /// It can't be opened.
    pub(super) fn open(path: &Path) -> Result<Self, StateError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match open(path, flags, Mode::empty()) {
            Ok(folder) => Ok(Self { folder, path: path.to_owned() }),
            Err(errno) => Err(StateError { path: path.to_owned(), why: errno.into() }),
        }
    }

    /// What was written last; nothing if nothing was.
    ///
    /// # Errors
    /// It can't be read, or is broken and was put aside.
    pub(super) fn read(&self) -> Result<Remembered, StateError> {
        let failed = |why: io::Error| StateError { path: self.path.join(NAME), why };
        let text = match self.read_text() {
            Ok(Some(text)) => text,
            Ok(None) => return Ok(Remembered::default()),
            Err(error) => return Err(failed(error)),
        };
        serde_json::from_slice(&text).map_err(|error| {
            let aside = match renameat(&self.folder, NAME, &self.folder, BROKEN) {
                Ok(()) => format!("it is kept as {BROKEN}"),
                Err(errno) => format!("it could not be put aside: {errno}"),
            };
            failed(io::Error::other(format!("{error}; {aside}, and the pool starts without it")))
        })
    }

    fn read_text(&self) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match openat(&self.folder, NAME, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(io::Error::other("it is a symbolic link, which is not followed")),
            Err(errno) => return Err(errno.into()),
        };
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut text = Vec::new();
        File::from(file).take(LONGEST).read_to_end(&mut text)?;
        Ok(Some(text))
    }

    /// # Errors
    /// What was written before is still there.
    fn write(&self, text: &[u8]) -> Result<(), StateError> {
        self.write_text(text).map_err(|why| StateError { path: self.path.join(NAME), why })
    }

    fn write_text(&self, text: &[u8]) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = openat(&self.folder, FRESH, flags | OFlags::CLOEXEC, Mode::from_raw_mode(0o600))?;
        let mut file = File::from(file);
        file.write_all(text)?;
        file.sync_all()?;
        renameat(&self.folder, FRESH, &self.folder, NAME)?;
        Ok(fsync(&self.folder)?)
    }
}

/// The thread that writes. It ends when this, and with it the last order, is gone.
#[derive(Debug)]
pub(super) struct Writer {
    orders: mpsc::Sender<Order>,
}

#[derive(Debug)]
enum Order {
    Write(Vec<u8>),
    /// Everything before it is written.
    Tell(oneshot::Sender<()>),
}

impl Writer {
    /// # Errors
    /// When there can be no further thread.
    pub(super) fn start(folder: Folder) -> Result<Self, StateError> {
        let path = folder.path.clone();
        let (orders, received) = mpsc::channel();
        let thread = std::thread::Builder::new().name("state".into());
        match thread.spawn(move || obey(&folder, &received)) {
            Ok(_) => Ok(Self { orders }),
            Err(why) => Err(StateError { path, why }),
        }
    }

    pub(super) fn write(&self, text: Vec<u8>) {
        // It ends with its sender alone.
        let _ = self.orders.send(Order::Write(text));
    }

    /// Ends when everything so far is written.
    pub(super) fn written(&self) -> impl Future<Output = ()> + use<> {
        let (done, told) = oneshot::channel();
        let sent = self.orders.send(Order::Tell(done));
        async move {
            if sent.is_ok() {
                let _ = told.await;
            }
        }
    }
}

fn obey(folder: &Folder, orders: &mpsc::Receiver<Order>) {
    while let Ok(first) = orders.recv() {
        let (mut text, mut waiting) = (None, Vec::new());
        // The last one holds what those before it said.
        for order in std::iter::once(first).chain(orders.try_iter()) {
            match order {
                Order::Write(newer) => text = Some(newer),
                Order::Tell(done) => waiting.push(done),
            }
        }
        if let Some(Err(error)) = text.map(|text| folder.write(&text)) {
            tracing::error!("{error}; what was changed last is not remembered");
        }
        for done in waiting {
            let _ = done.send(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::remembered;
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn text() -> Vec<u8> {
        remembered().text()
    }

    #[test]
    fn what_was_written_is_read_again_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = Folder::open(folder.path()).unwrap();
        assert_eq!(state.read().unwrap(), Remembered::default());
        for _ in 0..2 {
            state.write(&text()).unwrap();
            assert_eq!(state.read().unwrap(), remembered());
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn a_broken_file_is_kept_aside_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let state = Folder::open(folder.path()).unwrap();
        for broken in ["", "{\"apps\": [", "[]", "{\"apps\": [{\"root\": 5}]}"] {
            fs::write(folder.path().join(NAME), broken).unwrap();
            let error = state.read().unwrap_err().to_string();
            let path = folder.path().join(NAME);
            assert!(error.contains(path.to_str().unwrap()) && error.contains(BROKEN), "{error}");
            assert_eq!(fs::read_to_string(folder.path().join(BROKEN)).unwrap(), broken);
            assert_eq!(state.read().unwrap(), Remembered::default());
        }
    }

    #[test]
    fn links_and_folders_are_neither_read_nor_written_through() {
        let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = elsewhere.path().join("target");
        fs::write(&target, text()).unwrap();
        let state = Folder::open(folder.path()).unwrap();
        symlink(&target, folder.path().join(NAME)).unwrap();
        assert!(state.read().unwrap_err().to_string().contains("symbolic link"));
        symlink(&target, folder.path().join(FRESH)).unwrap();
        assert!(state.write(b"{}").is_err());
        assert_eq!(fs::read(&target).unwrap(), text());
        fs::remove_file(folder.path().join(FRESH)).unwrap();
        // It takes the link's place.
        state.write(&text()).unwrap();
        assert_eq!(state.read().unwrap(), remembered());
    }

    #[test]
    fn whoever_waits_knows_that_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let writer = Writer::start(Folder::open(folder.path()).unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for round in 0..50 {
            writer.write(format!("{{\"apps\":[], \"round\": {round}}}").into_bytes());
            runtime.block_on(writer.written());
            let text = fs::read_to_string(folder.path().join(NAME)).unwrap();
            assert!(text.contains(&format!("\"round\": {round}")), "{text}");
        }
    }
}
