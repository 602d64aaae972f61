//! The socket that a worker makes at its path. The worker's code owns the folder: nothing there is followed,
//! and nothing is believed that was not opened first.

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SocketError {
    #[error("{} is {what}, not a socket", path.display())]
    Kind { path: PathBuf, what: &'static str },
    #[error("the socket {} belongs to user {found}, not to the worker's user {expected}", path.display())]
    Owner { path: PathBuf, found: u32, expected: u32 },
    #[error("the folder of the socket {} belongs to user {found}, not to the worker's user {expected}", path.display())]
    Folder { path: PathBuf, found: u32, expected: u32 },
    #[error("{} is a socket that takes no connections", .0.display())]
    NoStream(PathBuf),
    #[error("the socket {} can't be {action}: {error}", path.display())]
    Io { path: PathBuf, action: &'static str, error: io::Error },
}

impl SocketError {
    pub(crate) fn remedy(&self) -> String {
        match self {
            Self::Kind { .. } | Self::NoStream(_) => {
                "Let the app make a listening stream socket at the path that `{socket}` stands for.".into()
            }
            Self::Owner { .. } => "Let the app make its socket as the user it was started as.".into(),
            Self::Folder { .. } | Self::Io { .. } => "See that the pool's runtime folder is whole.".into(),
        }
    }
}

/// Opens the socket at `path` and takes its name away: from then on, only who has the descriptor can connect.
/// Both the socket and its folder must be `expected`'s. `None`: nothing is there, or it does not yet take
/// connections.
pub(crate) fn take(path: &Path, expected: u32) -> Result<Option<OwnedFd>, SocketError> {
    let io = |action, error: Errno| SocketError::Io { path: path.into(), action, error: error.into() };
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io("opened", Errno::ISDIR));
    };
    // What is above it belongs to the core, which could have put another folder there.
    let folder = match rustix::fs::open(folder, flags | OFlags::DIRECTORY, Mode::empty()) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(io("opened in its folder", error)),
    };
    let owner = rustix::fs::fstat(&folder).map_err(|error| io("looked at in its folder", error))?.st_uid;
    if owner != expected {
        return Err(SocketError::Folder { path: path.into(), found: owner, expected });
    }
    let socket = match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
        Ok(socket) => socket,
        Err(Errno::NOENT) => return Ok(None),
        Err(error) => return Err(io("opened", error)),
    };
    let stat = rustix::fs::fstat(&socket).map_err(|error| io("looked at", error))?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind != FileType::Socket {
        return Err(SocketError::Kind { path: path.into(), what: crate::folder::name(kind) });
    }
    if stat.st_uid != expected {
        return Err(SocketError::Owner { path: path.into(), found: stat.st_uid, expected });
    }
    // The descriptor's own path, since an `O_PATH` descriptor is good for little else.
    let own = format!("/proc/self/fd/{}", socket.as_raw_fd());
    // The pool is another user than the worker. The folder is closed to all others, and the name goes in a moment.
    rustix::fs::chmod(own.as_str(), Mode::from_raw_mode(0o666)).map_err(|error| io("made connectable", error))?;
    match connect(&own) {
        // The queue of connections is full: it listens.
        Ok(()) | Err(Errno::AGAIN) => {}
        // Bound, and not yet listening; or left behind by another process of the worker's.
        Err(Errno::CONNREFUSED) => return Ok(None),
        Err(Errno::PROTOTYPE) => return Err(SocketError::NoStream(path.into())),
        Err(error) => return Err(io("connected to", error)),
    }
    match rustix::fs::unlinkat(&folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(Some(socket)),
        Err(error) => Err(io("unlinked", error)),
    }
}

/// Another socket in the folder of `path`, which must be `expected`'s: one that was given another name.
pub(crate) fn neighbour(path: &Path, expected: u32) -> Option<PathBuf> {
    /// Whoever fills the folder is not looked after any further.
    const ENTRIES: usize = 256;
    let parent = path.parent()?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(parent, flags, Mode::empty()).ok()?;
    if rustix::fs::fstat(&folder).ok()?.st_uid != expected {
        return None;
    }
    let names = rustix::fs::Dir::read_from(&folder).ok()?.flatten().take(ENTRIES);
    let is_socket = |name: &CStr| {
        let stat = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Socket)
    };
    let mut found: Vec<_> = names.map(|entry| entry.file_name().to_owned()).filter(|name| is_socket(name)).collect();
    found.sort();
    let name = found.into_iter().next()?;
    Some(parent.join(OsStr::from_bytes(name.as_bytes()))).filter(|found| found != path)
}

fn connect(name: &str) -> Result<(), Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let probe = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::connect(&probe, &SocketAddrUnix::new(name)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

    fn own() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn refusal(path: &Path) -> String {
        let error = take(path, own()).unwrap_err();
        assert!(!error.remedy().is_empty());
        error.to_string()
    }

    #[test]
    fn a_socket_is_taken_once_it_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        assert!(take(&path, own()).unwrap().is_none());
        let bound = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        rustix::net::bind(&bound, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        assert!(take(&path, own()).unwrap().is_none());
        rustix::net::listen(&bound, 8).unwrap();
        let socket = take(&path, own()).unwrap().unwrap();
        assert!(!path.exists());
        assert_eq!(rustix::fs::fstat(&socket).unwrap().st_mode & 0o777, 0o666);
        UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).unwrap();
    }

    #[test]
    fn what_is_no_listening_socket_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let elsewhere = folder.path().join("elsewhere.sock");
        let _listener = UnixListener::bind(&elsewhere).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(refusal(&path).ends_with("app.sock is a symbolic link, not a socket"));
        assert!(elsewhere.exists());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert!(refusal(&path).ends_with("app.sock is a file, not a socket"));
        std::fs::remove_file(&path).unwrap();
        let _datagrams = UnixDatagram::bind(&path).unwrap();
        assert!(refusal(&path).ends_with("app.sock is a socket that takes no connections"));
    }

    #[test]
    fn a_socket_of_another_name_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        assert_eq!(neighbour(&path, own()), None);
        std::fs::write(folder.path().join("log"), "").unwrap();
        assert_eq!(neighbour(&path, own()), None);
        let other = folder.path().join("gunicorn.sock");
        let _listener = UnixListener::bind(&other).unwrap();
        assert_eq!(neighbour(&path, own()), Some(other));
        assert_eq!(neighbour(&path, own() + 1), None);
    }

    #[test]
    fn a_socket_of_another_user_is_refused() {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("HATCHERY_CI").is_none(), "CI demands what only root can do: give files away");
            eprintln!("SKIPPED a socket of another user: only root can give files away");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.sock");
        let _listener = UnixListener::bind(&path).unwrap();
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(refusal(&path).ends_with("app.sock belongs to user 65534, not to the worker's user 0"));
        std::os::unix::fs::chown(folder.path(), Some(65534), None).unwrap();
        let said = refusal(&path);
        assert!(said.starts_with("the folder of the socket "), "{said}");
        assert!(said.ends_with("belongs to user 65534, not to the worker's user 0"), "{said}");
        assert!(take(&path, 65534).unwrap().is_some());
    }
}
