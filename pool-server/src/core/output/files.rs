//! A file of output that is begun anew at a size: `NAME.log`, before it `NAME.log.1`, before that `NAME.log.2`, …
//!
//! All names are looked up in the operator's folder by its descriptor, and none is followed if it is a link: whoever
//! may write into the folder can't have the pool write elsewhere.

use super::lines::line_end;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, renameat, statat, unlinkat};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// The longest name before `.log`, in bytes; file systems take 255 in all.
const LONGEST_NAME: usize = 200;

#[derive(Debug)]
pub(super) struct LogFile {
    folder: Arc<OwnedFd>,
    /// `NAME.log`
    name: String,
    /// 0: no limit.
    max_size: u64,
    /// How many there are, the present one included.
    files: u32,
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    file: File,
    size: u64,
    /// Device and inode.
    place: (u64, u64),
}

/// What could not be written, and how much was before that.
#[derive(Debug)]
pub(super) struct Unwritten {
    pub(super) error: io::Error,
    pub(super) written: usize,
}

impl LogFile {
    pub(super) fn new(folder: Arc<OwnedFd>, name: String, max_size: u64, files: u32) -> Self {
        Self { folder, name, max_size, files: files.max(1), open: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Writes whole lines; no file gets larger than the limit but for a single line that is.
    pub(super) fn append(&mut self, lines: &[u8]) -> Result<(), Unwritten> {
        let mut written = 0;
        while written < lines.len() {
            match self.append_some(&lines[written..]) {
                Ok(some) => written += some,
                Err(error) => {
                    self.open = None;
                    return Err(Unwritten { error, written });
                }
            }
        }
        Ok(())
    }

    /// How much of it was written; nothing if a new file was begun instead.
    fn append_some(&mut self, lines: &[u8]) -> io::Result<usize> {
        let max_size = self.max_size;
        let open = self.open()?;
        let room = if max_size == 0 { u64::MAX } else { max_size.saturating_sub(open.size) };
        let some = match whole_lines(lines, room) {
            0 if open.size > 0 => return self.rotate().map(|()| 0),
            0 => line_end(lines).map_or(lines.len(), |end| end + 1),
            some => some,
        };
        let written = open.file.write(&lines[..some])?;
        open.size += written as u64;
        if written == 0 { Err(io::ErrorKind::WriteZero.into()) } else { Ok(written) }
    }

    /// The file of this name. One that was moved away or removed is not written to any more.
    fn open(&mut self) -> io::Result<&mut Open> {
        let named = statat(&self.folder, self.name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        let place = named.map(|stat| (stat.st_dev, stat.st_ino));
        if self.open.as_ref().is_some_and(|open| place != Ok(open.place)) {
            self.open = None;
        }
        let opened = match self.open.take() {
            Some(open) => open,
            None => self.open_anew()?,
        };
        Ok(self.open.insert(opened))
    }

    fn open_anew(&self) -> io::Result<Open> {
        // Without NONBLOCK the opening of a pipe that nobody reads would never return.
        let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o640);
        let file = openat(&self.folder, self.name.as_str(), flags | OFlags::NONBLOCK | OFlags::NOCTTY, mode).map_err(
            |errno| match errno {
                Errno::LOOP => io::Error::other("it is a symbolic link, which is not followed"),
                Errno::NXIO => not_regular(),
                errno => errno.into(),
            },
        )?;
        let stat = fstat(&file)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(not_regular());
        }
        let size = u64::try_from(stat.st_size).unwrap_or(0);
        Ok(Open { file: file.into(), size, place: (stat.st_dev, stat.st_ino) })
    }

    /// Moves every file one number on; the last one, and what an earlier setting left beyond it, goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.open = None;
        let folder = self.folder.as_fd();
        let numbered = |number: u32| match number {
            0 => self.name.clone(),
            number => format!("{}.{number}", self.name),
        };
        for oldest in self.files - 1.. {
            match unlinkat(folder, numbered(oldest), AtFlags::empty()) {
                Ok(()) => {}
                Err(Errno::NOENT) => break,
                Err(errno) => return Err(errno.into()),
            }
        }
        for number in (0..self.files - 1).rev() {
            match renameat(folder, numbered(number), folder, numbered(number + 1)) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

fn not_regular() -> io::Error {
    io::Error::other("it is not a regular file")
}

/// The length of as many whole lines as have room.
fn whole_lines(lines: &[u8], room: u64) -> usize {
    match usize::try_from(room) {
        Ok(room) if room < lines.len() => {
            lines[..room].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1)
        }
        _ => lines.len(),
    }
}

/// `NAME.log` for an app's name: it has no slash and no leading dot, and is not too long. Two names that differ in
/// nothing else share a file.
pub(super) fn file_name(app: &str) -> String {
    let safe: String = super::lines::end_of(app, LONGEST_NAME)
        .chars()
        .map(|c| if c == '/' || c.is_control() { '_' } else { c })
        .collect();
    match safe.trim_start_matches('.') {
        "" => "app.log".into(),
        name => format!("{name}.log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use tempfile::TempDir;

    fn file(folder: &TempDir, max_size: u64, files: u32) -> LogFile {
        let folder = File::open(folder.path()).unwrap().into();
        LogFile::new(Arc::new(folder), "shop.log".into(), max_size, files)
    }

    fn read(folder: &TempDir, name: &str) -> String {
        fs::read_to_string(folder.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn names(folder: &TempDir) -> Vec<String> {
        let entries = fs::read_dir(folder.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_begun_anew_at_its_size_and_so_many_are_kept() {
        let folder = TempDir::new().unwrap();
        let mut log = file(&folder, 10, 3);
        log.append(b"one\ntwo\nthree\nfour\nfive\nsix\n").unwrap();
        assert_eq!(names(&folder), ["shop.log", "shop.log.1", "shop.log.2"]);
        assert_eq!(read(&folder, "shop.log"), "six\n");
        assert_eq!(read(&folder, "shop.log.1"), "four\nfive\n");
        assert_eq!(read(&folder, "shop.log.2"), "three\n");
        // What was there before is added to, and what is too many goes.
        let mut log = file(&folder, 10, 2);
        log.append(b"7\neight\n").unwrap();
        assert_eq!(names(&folder), ["shop.log", "shop.log.1"]);
        assert_eq!((read(&folder, "shop.log"), read(&folder, "shop.log.1")), ("eight\n".into(), "six\n7\n".into()));
        let mode = fs::metadata(folder.path().join("shop.log")).unwrap().permissions().mode();
        assert_eq!(mode & 0o137, 0, "{mode:o}");
    }

    #[test]
    fn with_one_file_what_is_older_goes_and_without_a_size_nothing_does() {
        let folder = TempDir::new().unwrap();
        let mut log = file(&folder, 4, 1);
        log.append(b"one\ntwo\n").unwrap();
        assert_eq!((names(&folder), read(&folder, "shop.log")), (vec!["shop.log".into()], "two\n".into()));
        let mut log = file(&folder, 0, 1);
        log.append("x\n".repeat(10_000).as_bytes()).unwrap();
        assert_eq!(read(&folder, "shop.log").len(), 20_004);
    }

    #[test]
    fn a_line_longer_than_a_file_has_one_of_its_own() {
        let folder = TempDir::new().unwrap();
        let mut log = file(&folder, 5, 3);
        log.append(b"a\nlonger than that\nb\n").unwrap();
        assert_eq!(read(&folder, "shop.log.1"), "longer than that\n");
        assert_eq!((read(&folder, "shop.log.2"), read(&folder, "shop.log")), ("a\n".into(), "b\n".into()));
    }

    #[test]
    fn links_pipes_and_folders_are_refused_and_what_they_lead_to_is_untouched() {
        let folder = TempDir::new().unwrap();
        let elsewhere = TempDir::new().unwrap();
        let target = elsewhere.path().join("target");
        fs::write(&target, "before").unwrap();
        let place = folder.path().join("shop.log");
        symlink(&target, &place).unwrap();
        let failed = file(&folder, 10, 2).append(b"line\n").unwrap_err();
        assert!(failed.error.to_string().contains("symbolic link"), "{}", failed.error);
        assert_eq!(fs::read_to_string(&target).unwrap(), "before");
        fs::remove_file(&place).unwrap();
        nix::unistd::mkfifo(&place, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(file(&folder, 10, 2).append(b"line\n").unwrap_err().error.to_string().contains("regular"));
        fs::remove_file(&place).unwrap();
        fs::create_dir(&place).unwrap();
        assert!(file(&folder, 10, 2).append(b"line\n").is_err());
    }

    #[test]
    fn a_file_that_was_moved_away_is_written_to_no_more() {
        let folder = TempDir::new().unwrap();
        let mut log = file(&folder, 0, 2);
        log.append(b"one\n").unwrap();
        fs::rename(folder.path().join("shop.log"), folder.path().join("moved")).unwrap();
        log.append(b"two\n").unwrap();
        assert_eq!((read(&folder, "moved"), read(&folder, "shop.log")), ("one\n".into(), "two\n".into()));
    }

    #[test]
    fn what_was_written_before_a_failure_is_known() {
        let folder = TempDir::new().unwrap();
        // It can't be removed, so the second file can't be begun.
        fs::create_dir(folder.path().join("shop.log.2")).unwrap();
        let failed = file(&folder, 8, 3).append(b"one\ntwo\nthree\n").unwrap_err();
        assert_eq!((failed.written, read(&folder, "shop.log")), (8, "one\ntwo\n".into()));
    }

    #[test]
    fn every_name_is_one_of_a_file() {
        for (app, name) in [
            ("shop", "shop.log"),
            ("srv/a/shop", "srv_a_shop.log"),
            ("/srv/shop", "_srv_shop.log"),
            ("..", "app.log"),
            (".hidden", "hidden.log"),
            ("../../etc", "_.._etc.log"),
            ("", "app.log"),
            ("a\nb\0c", "a_b_c.log"),
        ] {
            assert_eq!(file_name(app), name);
        }
        assert!(file_name(&"\u{20ac}".repeat(1000)).len() <= 255);
    }
}
