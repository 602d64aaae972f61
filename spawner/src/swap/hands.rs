//! What is done on the disk. Every name is looked up in one open folder, and nothing is followed.

use super::error::{Doing, SwapError};
use super::presence;
use super::scene::{COMPLETE, Entry, MARKER, Mark, Names, Scene, Spot};
use super::steps::{EXCHANGE_WITH_GAP, Op};
use super::who::Outlook;
use rustix::fs::{AtFlags, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long another exchange in the same folder is waited for.
const LOCK_LIMIT: Duration = Duration::from_secs(2);
const LOCK_PAUSE: Duration = Duration::from_millis(5);
/// Longer ones are none of ours.
const LONGEST_MARKER: u64 = 1024;

/// What is exchanged on a file system that can't.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    Refused,
    Permitted,
}

/// The folder that the versions lie in, locked against other exchanges.
#[derive(Debug)]
pub(super) struct Hands {
    parent: OwnedFd,
    names: Names,
    /// Whose folders hold their marker.
    own: u32,
}

impl Hands {
    pub(super) fn open(names: &Names, outlook: &Outlook) -> Result<Self, SwapError> {
        let parent = outlook.open_parent(names)?;
        let hands = Self { parent, names: names.clone(), own: rustix::process::geteuid().as_raw() };
        hands.lock()?;
        Ok(hands)
    }

    fn lock(&self) -> Result<(), SwapError> {
        let end = Instant::now() + LOCK_LIMIT;
        loop {
            match rustix::fs::flock(&self.parent, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK) if Instant::now() < end => std::thread::sleep(LOCK_PAUSE),
                Err(Errno::WOULDBLOCK) => return Err(SwapError::Busy(self.names.parent.clone())),
                Err(Errno::INTR) => {}
                // A file system without locks on folders, such as NFS: who shares it must not exchange at once.
                Err(_) => return Ok(()),
            }
        }
    }

    fn look(&self, name: &OsStr) -> Result<Option<Stat>, Errno> {
        look(&self.parent, name)
    }

    pub(super) fn scene(&self) -> Result<Scene, SwapError> {
        let note = self.read_marker(&self.parent, &self.names.note());
        let mut scene = Scene::default();
        let mut found = false;
        for spot in Spot::ALL {
            let name = self.names.spot(spot);
            let stat = self.look(&name).map_err(|errno| self.failed(spot, Doing::Looking, errno))?;
            let Some(mut entry) = stat.as_ref().map(Entry::of) else { continue };
            if entry.holds_marker(self.own) {
                entry.mark = self
                    .folder(&name)
                    .ok()
                    .and_then(|folder| self.read_marker(&folder, MARKER.as_ref()))
                    .map(|(mark, _)| mark);
            } else if let Some((mark, place)) = &note
                && entry.is_version()
                && *place == entry.place
            {
                found = true;
                entry.mark = Some(mark.clone());
            }
            scene.entries[spot as usize] = Some(entry);
        }
        scene.stray = note.filter(|_| !found).map(|(mark, _)| mark);
        Ok(scene)
    }

    fn folder(&self, name: &OsStr) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&self.parent, name, flags, Mode::empty())
    }

    /// `None`: there is none, or it is none of ours.
    fn read_marker(&self, folder: impl AsFd, name: &OsStr) -> Option<(Mark, (u64, u64))> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = rustix::fs::openat(folder, name, flags, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&file).ok()?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile || stat.st_uid != self.own {
            return None;
        }
        let mut text = String::new();
        File::from(file).take(LONGEST_MARKER).read_to_string(&mut text).ok()?;
        Mark::parse(&text)
    }

    /// Does one step, and has it written to the disk.
    pub(super) fn perform(&self, op: &Op, gap: Gap) -> Result<(), SwapError> {
        match op {
            Op::Mark(spot, mark) => {
                self.mark(*spot, mark).map_err(|error| self.failed_io(*spot, Doing::Marking, error))?
            }
            Op::Unmark(spot) => self.unmark(*spot).map_err(|errno| self.failed(*spot, Doing::Unmarking, errno))?,
            Op::DropStray => remove(&self.parent, &self.names.note())
                .map_err(|errno| self.failed(Spot::Deploying, Doing::Unmarking, errno))?,
            Op::Move(from, to) => self
                .rename(&self.names.spot(*from), &self.names.spot(*to))
                .map_err(|errno| self.failed(*from, Doing::Renaming, errno))?,
            Op::PutAside(spot) => {
                let aside = self.fresh_aside().map_err(|error| self.failed_io(*spot, Doing::PuttingAside, error))?;
                self.rename(&self.names.spot(*spot), &aside)
                    .map_err(|errno| self.failed(*spot, Doing::PuttingAside, errno))?;
            }
            Op::Exchange => return self.exchange(gap),
        }
        sync(&self.parent).map_err(|errno| self.failed(Spot::Name, Doing::Writing, errno))
    }

    fn exchange(&self, gap: Gap) -> Result<(), SwapError> {
        let (name, deploying) = (self.names.spot(Spot::Name), self.names.spot(Spot::Deploying));
        let flags = RenameFlags::EXCHANGE;
        match rustix::fs::renameat_with(&self.parent, &deploying, &self.parent, &name, flags) {
            Ok(()) => sync(&self.parent).map_err(|errno| self.failed(Spot::Name, Doing::Writing, errno)),
            Err(Errno::INVAL | Errno::NOSYS | Errno::XDEV | Errno::OPNOTSUPP) => match gap {
                Gap::Permitted => EXCHANGE_WITH_GAP.iter().try_for_each(|op| self.perform(op, gap)),
                Gap::Refused => Err(SwapError::NoExchange(self.names.parent.clone())),
            },
            Err(errno) => Err(self.failed(Spot::Name, Doing::Exchanging, errno)),
        }
    }

    /// To a name where nothing is.
    fn rename(&self, from: &OsStr, to: &OsStr) -> Result<(), Errno> {
        match rustix::fs::renameat_with(&self.parent, from, &self.parent, to, RenameFlags::NOREPLACE) {
            // The file system knows no such flag: the lock keeps other exchanges away.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => match self.look(to)? {
                Some(_) => Err(Errno::EXIST),
                None => rustix::fs::renameat(&self.parent, from, &self.parent, to),
            },
            done => done,
        }
    }

    fn fresh_aside(&self) -> io::Result<OsString> {
        let mut name = self.names.aside();
        name.push(presence::fresh_id()?);
        Ok(name)
    }

    fn mark(&self, spot: Spot, mark: &Mark) -> io::Result<()> {
        let name = self.names.spot(spot);
        let entry = self.look(&name)?.as_ref().map(Entry::of).ok_or(Errno::NOENT)?;
        let text = mark.text(entry.place);
        if entry.holds_marker(self.own) {
            write_over(self.folder(&name)?, MARKER.as_ref(), &text)
        } else {
            write_over(&self.parent, &self.names.note(), &text)
        }
    }

    fn unmark(&self, spot: Spot) -> Result<(), Errno> {
        let name = self.names.spot(spot);
        let Some(entry) = self.look(&name)?.as_ref().map(Entry::of) else { return Ok(()) };
        if !entry.holds_marker(self.own) {
            return remove(&self.parent, &self.names.note());
        }
        let folder = self.folder(&name)?;
        if spot == Spot::Name {
            remove_file(&folder, COMPLETE.as_ref())?;
        }
        remove(&folder, MARKER.as_ref())?;
        sync(&folder)
    }

    fn failed(&self, spot: Spot, doing: Doing, errno: Errno) -> SwapError {
        self.failed_io(spot, doing, errno.into())
    }

    fn failed_io(&self, spot: Spot, doing: Doing, error: io::Error) -> SwapError {
        SwapError::Step { doing, path: self.names.path(spot), error }
    }
}

/// What is at this name, itself.
pub(super) fn look(folder: impl AsFd, name: &OsStr) -> Result<Option<Stat>, Errno> {
    match rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// A new file takes the place of what has this name: a link is not followed, and what has a second name keeps its
/// content there.
fn write_over(folder: impl AsFd, name: &OsStr, text: &str) -> io::Result<()> {
    let mut fresh = name.to_owned();
    fresh.push(".new");
    remove(&folder, &fresh)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::openat(&folder, &fresh, flags, Mode::RUSR | Mode::WUSR)?);
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    rustix::fs::renameat(&folder, &fresh, &folder, name)?;
    Ok(sync(&folder)?)
}

fn remove(folder: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        done => done,
    }
}

fn remove_file(folder: impl AsFd, name: &OsStr) -> Result<(), Errno> {
    match look(&folder, name)? {
        Some(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => remove(folder, name),
        Some(_) | None => Ok(()),
    }
}

/// Has the names in a folder written to the disk.
fn sync(folder: impl AsFd) -> Result<(), Errno> {
    match rustix::fs::fsync(folder) {
        // A file system that has nothing to write.
        Err(Errno::INVAL) => Ok(()),
        done => done,
    }
}
