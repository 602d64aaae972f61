//! Where a worker listens, and connecting there.

use hatchery_pool::ConnectFailure;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{AtFlags, Mode, OFlags, openat, unlinkat};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Connections that may wait for a worker to accept them. The kernel caps it at `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

#[derive(Debug)]
pub(super) enum Address {
    /// An `O_PATH` descriptor of the socket's file, which has no name any more.
    Unix(OwnedFd),
    /// A port on 127.0.0.1.
    Tcp(u16),
}

/// A listening socket that only the owner of the returned address can connect to: its name in `folder` is gone
/// again before anybody is told.
pub(super) fn private_listener(folder: BorrowedFd<'_>) -> Result<(OwnedFd, Address), Errno> {
    const NAME: &str = "worker";
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Through /proc, since the folder's own path may be longer than an address can be.
    let path = format!("/proc/self/fd/{}/{NAME}", folder.as_raw_fd());
    bind(&socket, &SocketAddrUnix::new(path)?)?;
    let file = openat(folder, NAME, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty());
    unlinkat(folder, NAME, AtFlags::empty())?;
    listen(&socket, BACKLOG)?;
    Ok((socket, Address::Unix(file?)))
}

impl Address {
    /// A connected, non-blocking socket. Never waits.
    pub(super) fn connect(&self) -> Result<OwnedFd, ConnectFailure> {
        match self {
            Self::Unix(file) => connect_unix(file.as_fd()),
            Self::Tcp(port) => connect_tcp(*port),
        }
        .map_err(|errno| match errno {
            Errno::AGAIN | Errno::INPROGRESS => ConnectFailure::BacklogFull,
            Errno::MFILE | Errno::NFILE | Errno::NOMEM | Errno::NOBUFS | Errno::ADDRNOTAVAIL => {
                ConnectFailure::Exhausted
            }
            _ => ConnectFailure::Refused,
        })
    }
}

const FLAGS: SocketFlags = SocketFlags::CLOEXEC.union(SocketFlags::NONBLOCK);

fn connect_unix(file: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?;
    connect(&socket, &SocketAddrUnix::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?)?;
    Ok(socket)
}

/// On loopback the handshake is over when `connect` returns, unless the backlog is full.
fn connect_tcp(port: u16) -> Result<OwnedFd, Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, FLAGS, None)?;
    rustix::net::sockopt::set_tcp_nodelay(&socket, true)?;
    match connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
        Ok(()) => return Ok(socket),
        Err(Errno::INPROGRESS) => {}
        Err(errno) => return Err(errno),
    }
    let mut poller = [PollFd::new(&socket, PollFlags::OUT)];
    if poll(&mut poller, Some(&Timespec::default()))? == 0 {
        return Err(Errno::INPROGRESS);
    }
    rustix::net::sockopt::socket_error(&socket)??;
    Ok(socket)
}
