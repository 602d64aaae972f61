//! Ports and socket folders for workers that make their own listener.

use hatchery_protocol::link::{Identity, Listen, Place, WorkerNumber};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The longest path that fits into a Unix socket's address, without its null.
const LONGEST_SOCKET_PATH: usize = 107;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("no free port was found on 127.0.0.1: {0}")]
    Port(io::Error),
    #[error("the folder {} for the worker's socket could not be made: {error}", folder.display())]
    Folder { folder: PathBuf, error: io::Error },
    #[error("the folder {} for the worker's socket could not be given to its user: {error}", folder.display())]
    Given { folder: PathBuf, error: io::Error },
    #[error("the path {} for the worker's socket is {len} bytes long; a Unix socket's path may have {LONGEST_SOCKET_PATH}", path.display())]
    TooLong { path: PathBuf, len: usize },
}

impl PlaceError {
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Port(_) => "See what uses so many ports (`ss -tan`), or let the app listen at descriptor 3.",
            Self::Folder { .. } => "Make room for it, or give the pool another runtime folder.",
            Self::Given { .. } => "Let the pool keep root's capability to give files away (CAP_CHOWN).",
            Self::TooLong { .. } => "Give the pool a runtime folder with a shorter path (XDG_RUNTIME_DIR).",
        }
    }
}

/// The places that are given away.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// Ports of workers that may not have bound them yet: the kernel would give them out again.
    ports: BTreeMap<WorkerNumber, u16>,
}

impl Places {
    /// Where `worker` is to listen, if it makes its listener itself.
    pub(crate) fn reserve(
        &mut self,
        worker: WorkerNumber,
        listen: Listen,
        runtime: &Path,
        identity: Option<&Identity>,
    ) -> Result<Option<Place>, PlaceError> {
        match listen {
            Listen::Fd | Listen::Stdin => Ok(None),
            Listen::Port => {
                let port = self.free_port().map_err(PlaceError::Port)?;
                self.ports.insert(worker, port);
                Ok(Some(Place::Port(port)))
            }
            Listen::Socket => {
                let path = make_folder(worker, runtime, identity)?;
                Ok(Some(Place::Path(path.as_os_str().as_bytes().to_vec())))
            }
        }
    }

    /// What a predecessor of this process gave away.
    pub(crate) fn learn(&mut self, worker: WorkerNumber, place: &Place) {
        if let Place::Port(port) = place {
            self.ports.insert(worker, *port);
        }
    }

    pub(crate) fn release(&mut self, worker: WorkerNumber) {
        self.ports.remove(&worker);
    }

    /// Not held until the worker binds it, which could not then: somebody else may be quicker. `find` sees that.
    fn free_port(&self) -> io::Result<u16> {
        const TRIES: u32 = 64;
        // Kept open meanwhile, or the kernel could offer the same again.
        let mut offered = Vec::new();
        for _ in 0..TRIES {
            let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
            let port = socket.local_addr()?.port();
            if !self.ports.values().any(|taken| *taken == port) {
                return Ok(port);
            }
            offered.push(socket);
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// The folder of a worker that makes its socket itself.
pub(crate) fn folder(worker: WorkerNumber, runtime: &Path) -> PathBuf {
    runtime.join(format!("w-{}", worker.0))
}

fn make_folder(worker: WorkerNumber, runtime: &Path, identity: Option<&Identity>) -> Result<PathBuf, PlaceError> {
    let folder = folder(worker, runtime);
    let path = folder.join("app.sock");
    let len = path.as_os_str().len();
    if len > LONGEST_SOCKET_PATH {
        return Err(PlaceError::TooLong { path, len });
    }
    match DirBuilder::new().mode(0o700).create(&folder) {
        Ok(()) => {}
        Err(error) => return Err(PlaceError::Folder { folder, error }),
    }
    match identity.map_or(Ok(()), |identity| give(&folder, identity)) {
        Ok(()) => Ok(path),
        Err(error) => Err(PlaceError::Given { folder, error: error.into() }),
    }
}

/// What is above it belongs to the core, which could put a link in its place.
fn give(folder: &Path, identity: &Identity) -> rustix::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty())?;
    rustix::fs::fchown(&folder, Some(Uid::from_raw(identity.uid)), Some(Gid::from_raw(identity.gid)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_given_to_two_workers() {
        let mut places = Places::default();
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..50 {
            let place = places.reserve(WorkerNumber(number), Listen::Port, Path::new("/nonexistent"), None).unwrap();
            let Some(Place::Port(port)) = place else { panic!("{place:?}") };
            assert!(seen.insert(port));
        }
        places.release(WorkerNumber(3));
        assert_eq!(places.ports.len(), 49);
    }

    #[test]
    fn a_socket_path_that_is_too_long_is_refused_by_name() {
        let runtime = PathBuf::from(format!("/{}", "x".repeat(110)));
        let error = Places::default().reserve(WorkerNumber(7), Listen::Socket, &runtime, None).unwrap_err();
        assert!(error.to_string().contains("w-7/app.sock"), "{error}");
        assert!(error.to_string().ends_with("a Unix socket's path may have 107"), "{error}");
    }
}
