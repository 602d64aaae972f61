//! The admin socket: where it stands, and whom its file lets connect.

use super::{OPEN, PlaceError, because, hold};
use hatchery_protocol::config::{Admin, AdminAccess};
use hatchery_protocol::link::Access;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, chownat, fchmod, fstat, open};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a pool that lives may take to say something to whoever opens an admin socket where it has its own.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between a connection that was ended, and the next.
const PAUSE: Duration = Duration::from_millis(5);
/// Connections that may wait for the core, which may just be starting.
const BACKLOG: i32 = 128;

/// Whom the file of the admin socket lets connect. What they may say there is decided by who they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// The pool's own user.
    Own,
    /// Whoever is in this group, too.
    Group { gid: u32, name: String },
    /// All users.
    Everybody,
}

impl Audience {
    pub(crate) fn of(access: &Access, said: &AdminAccess) -> Self {
        match access.group {
            _ if access.owners || access.readers.is_some() => Self::Everybody,
            Some(gid) => Self::Group { gid, name: said.group.clone().unwrap_or_else(|| gid.to_string()) },
            None => Self::Own,
        }
    }

    fn mode(&self) -> u32 {
        match self {
            Self::Own => 0o600,
            Self::Group { .. } => 0o660,
            Self::Everybody => 0o666,
        }
    }

    fn can_enter(&self, folder: &Path) -> bool {
        let Ok(found) = fs::metadata(folder) else { return false };
        match self {
            Self::Own => true,
            Self::Group { gid, .. } if found.gid() == *gid => found.mode() & 0o010 != 0,
            Self::Group { .. } | Self::Everybody => found.mode() & 0o001 != 0,
        }
    }
}

/// The listening admin socket; its file is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct AdminSocket {
    pub(crate) listener: UnixListener,
    pub(crate) path: PathBuf,
}

impl AdminSocket {
    /// Opens the socket that was asked for. A stale one is replaced, a live one never.
    ///
    /// # Errors
    /// When it can't be made, or the named one belongs to a living pool.
    pub(crate) fn open(base: &Path, admin: &Admin, audience: &Audience) -> Result<Option<Self>, PlaceError> {
        match admin {
            Admin::None => Ok(None),
            Admin::At(path) => match Self::at(path, audience)? {
                Some(socket) => Ok(Some(socket)),
                None => Err(PlaceError::AdminTaken(path.clone())),
            },
            Admin::DefaultPlace => {
                if *audience != Audience::Own {
                    fs::set_permissions(base, Permissions::from_mode(OPEN)).map_err(because(base))?;
                }
                let path = base.join("admin.sock");
                if let Some(socket) = Self::at(&path, audience)? {
                    return Ok(Some(socket));
                }
                Self::at(&base.join(format!("admin-{}.sock", std::process::id())), audience)
            }
        }
    }

    /// `None`: somebody answers there.
    fn at(path: &Path, audience: &Audience) -> Result<Option<Self>, PlaceError> {
        // Two starts at the same time: one of them replaces a stale socket, the other finds it live.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let _held = hold(folder)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match UnixStream::connect(path) {
                Ok(pool) if answers(&pool) || Instant::now() >= until => return Ok(None),
                // It is about to end, or is something else.
                Ok(_) => thread::sleep(PAUSE),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    fs::remove_file(path).map_err(because(path))?;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::NotFound => break,
                Err(error) => return Err(because(path)(error)),
            }
        }
        Self::bind(path, audience).map(Some)
    }

    fn bind(path: &Path, audience: &Audience) -> Result<Self, PlaceError> {
        let failed = |errno: rustix::io::Errno| because(path)(errno.into());
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None);
        let socket = socket.map_err(failed)?;
        // The file gets the mode that the socket has before it is bound: at no moment more can connect than should.
        fchmod(&socket, Mode::from_raw_mode(0o600)).map_err(failed)?;
        bind(&socket, &SocketAddrUnix::new(path).map_err(failed)?).map_err(failed)?;
        // From here on its file is removed, whatever goes wrong.
        let admin = Self { listener: UnixListener::from(socket), path: path.to_owned() };
        admin.let_in(audience)?;
        listen(&admin.listener, BACKLOG).map_err(failed)?;
        Ok(admin)
    }

    /// By a descriptor of the file: where others may write too, something else may stand at its path by now.
    fn let_in(&self, audience: &Audience) -> Result<(), PlaceError> {
        if *audience == Audience::Own {
            return Ok(());
        }
        let failed = |errno: rustix::io::Errno| because(&self.path)(errno.into());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file: OwnedFd = open(&self.path, flags, Mode::empty()).map_err(failed)?;
        let found = fstat(&file).map_err(failed)?;
        let ours = found.st_uid == rustix::process::geteuid().as_raw();
        if !ours || FileType::from_raw_mode(found.st_mode) != FileType::Socket {
            return Err(PlaceError::NotOurs { path: self.path.clone(), owner: found.st_uid });
        }
        if let Audience::Group { gid, name } = audience {
            let given = chownat(file.as_fd(), "", None, Some(Gid::from_raw(*gid)), AtFlags::EMPTY_PATH);
            given.map_err(|errno| PlaceError::Group {
                path: self.path.clone(),
                group: name.clone(),
                gid: *gid,
                error: errno.into(),
            })?;
        }
        let by_descriptor = format!("/proc/self/fd/{}", file.as_raw_fd());
        fs::set_permissions(by_descriptor, Permissions::from_mode(audience.mode())).map_err(because(&self.path))
    }

    /// The folder because of which some cannot connect who should; `None`: all can.
    pub(crate) fn shut_off(&self, audience: &Audience) -> Option<PathBuf> {
        let real = self.path.canonicalize().ok()?;
        // The outermost one: before that is opened, those below it make no difference.
        let shut = real.ancestors().skip(1).filter(|folder| !audience.can_enter(folder)).last();
        shut.map(Path::to_owned)
    }
}

/// Whether a pool lives behind this connection. One whose keeper was killed still listens until its core is gone,
/// and that ends the connection; one that says nothing at all lives, but hangs.
fn answers(mut pool: &UnixStream) -> bool {
    let asked = pool.set_read_timeout(Some(PATIENCE)).and_then(|()| pool.write_all(b"help\n"));
    match asked.and_then(|()| pool.read(&mut [0])) {
        Ok(read) => read > 0,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

impl Drop for AdminSocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{self, BufRead};

    /// What listens at `path`, and does this with the first connection.
    fn at(path: &Path, then: impl FnOnce(UnixListener, UnixStream) + Send + 'static) -> thread::JoinHandle<()> {
        let listener = UnixListener::bind(path).unwrap();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            then(listener, stream);
        })
    }

    #[test]
    fn a_pool_that_answers_keeps_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let pool = at(&path, |_listener, mut stream| {
            io::BufReader::new(&stream).read_line(&mut String::new()).unwrap();
            stream.write_all(b"ok\n").unwrap();
        });
        assert!(AdminSocket::at(&path, &Audience::Own).unwrap().is_none());
        pool.join().unwrap();
    }

    #[test]
    fn the_socket_of_one_that_ends_is_waited_for_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        // The connection ends a moment before the listener does.
        let pool = at(&path, |listener, stream| {
            drop(stream);
            drop(listener.accept());
        });
        let socket = AdminSocket::at(&path, &Audience::Own).unwrap().expect("it is free");
        pool.join().unwrap();
        UnixStream::connect(&path).unwrap();
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn what_takes_connections_and_only_ends_them_is_somebody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let listener = UnixListener::bind(&path).unwrap();
        thread::spawn(move || listener.incoming().for_each(drop));
        assert!(AdminSocket::at(&path, &Audience::Own).unwrap().is_none());
        assert!(path.exists());
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_socket_lets_in_whom_it_is_for() {
        let base = tempfile::tempdir().unwrap();
        let gid = nix::unistd::getegid().as_raw();
        fs::set_permissions(base.path(), Permissions::from_mode(0o700)).unwrap();
        for (audience, socket_mode, base_mode) in [
            (Audience::Own, 0o600, 0o700),
            (Audience::Group { gid, name: "us".into() }, 0o660, OPEN),
            (Audience::Everybody, 0o666, OPEN),
            // Others may be let in by another pool's socket there.
            (Audience::Own, 0o600, OPEN),
        ] {
            let socket = AdminSocket::open(base.path(), &Admin::DefaultPlace, &audience).unwrap().unwrap();
            assert_eq!((mode(&socket.path), mode(base.path())), (socket_mode, base_mode), "{audience:?}");
            assert_eq!(fs::metadata(&socket.path).unwrap().gid(), gid);
            UnixStream::connect(&socket.path).unwrap();
        }
    }

    #[test]
    fn a_group_that_is_not_ours_is_refused_with_its_name_and_nothing_is_left() {
        if nix::unistd::geteuid().is_root() {
            return eprintln!("SKIPPED: root gives a socket to any group");
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let audience = Audience::Group { gid: 0, name: "root".into() };
        let refused = AdminSocket::at(&path, &audience).unwrap_err().to_string();
        assert!(refused.starts_with("admin_group: ") && refused.contains("the group root (0)"), "{refused}");
        assert!(!path.exists());
    }

    #[test]
    fn the_folder_that_keeps_others_out_is_named() {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, Permissions::from_mode(0o750)).unwrap();
        fs::set_permissions(outer.path(), Permissions::from_mode(0o700)).unwrap();
        let gid = fs::metadata(&inner).unwrap().gid();
        let group = Audience::Group { gid, name: "us".into() };
        let shut_off = |audience: &Audience| {
            let socket = AdminSocket::at(&inner.join("admin.sock"), &Audience::Own).unwrap().unwrap();
            socket.shut_off(audience)
        };
        let real = |folder: &Path| Some(folder.canonicalize().unwrap());
        assert_eq!(shut_off(&Audience::Own), None);
        assert_eq!(shut_off(&Audience::Everybody), real(outer.path()), "the outermost");
        fs::set_permissions(outer.path(), Permissions::from_mode(0o711)).unwrap();
        assert_eq!(shut_off(&Audience::Everybody), real(&inner));
        assert_eq!(shut_off(&group), None, "its group may enter");
        fs::set_permissions(&inner, Permissions::from_mode(0o711)).unwrap();
        assert_eq!(shut_off(&Audience::Everybody), None);
    }

    #[test]
    fn the_audience_is_as_large_as_the_largest_of_those_who_have_rights() {
        let said = AdminAccess { group: Some("web".into()), ..AdminAccess::default() };
        let access = Access { group: Some(7), ..Access::default() };
        assert_eq!(Audience::of(&Access::default(), &AdminAccess::default()), Audience::Own);
        assert_eq!(Audience::of(&access, &said), Audience::Group { gid: 7, name: "web".into() });
        assert_eq!(Audience::of(&Access { owners: true, ..access.clone() }, &said), Audience::Everybody);
        assert_eq!(Audience::of(&Access { readers: Some(8), ..Access::default() }, &said), Audience::Everybody);
    }
}
