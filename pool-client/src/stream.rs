//! A session's socket in a tokio program.

use crate::owner::Owner;
use hatchery_protocol::client::Transport;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// The kernel's limit of slices in one call (`IOV_MAX`).
pub(crate) const SLICES: usize = 1024;

#[derive(Debug)]
pub(crate) enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

macro_rules! either {
    ($self:expr, $stream:ident => $result:expr) => {
        match $self {
            Stream::Unix($stream) => $result,
            Stream::Tcp($stream) => $result,
        }
    };
}

impl Stream {
    /// Registers a non-blocking socket with the runtime.
    pub(crate) fn new(fd: OwnedFd, transport: Transport) -> io::Result<Self> {
        match transport {
            Transport::Unix => Ok(Self::Unix(UnixStream::from_std(fd.into())?)),
            Transport::Tcp => {
                let stream = std::net::TcpStream::from(fd);
                // Requests are written whole; waiting to fill a segment only delays them.
                let _ = stream.set_nodelay(true);
                Ok(Self::Tcp(TcpStream::from_std(stream)?))
            }
            _ => Err(io::Error::new(io::ErrorKind::Unsupported, "a transport that this client does not know")),
        }
    }

    /// The socket alone, no longer registered.
    pub(crate) fn into_fd(self) -> io::Result<OwnedFd> {
        Ok(either!(self, stream => stream.into_std()?.into()))
    }

    pub(crate) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        either!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        either!(self, stream => Pin::new(stream).poll_write(cx, buf))
    }

    pub(crate) fn shutdown_write(&self) -> io::Result<()> {
        match rustix::net::shutdown(self, rustix::net::Shutdown::Write) {
            // The other end closed first.
            Ok(()) | Err(rustix::io::Errno::NOTCONN) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Reads without the exclusive borrow, for one half of a split session. One reader at a time.
    pub(crate) fn poll_read_shared(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        loop {
            ready!(either!(self, stream => stream.poll_read_ready(cx)))?;
            match either!(self, stream => stream.try_read_buf(buf)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result.map(|_| ())),
            }
        }
    }

    /// Writes without the exclusive borrow. One writer at a time. By `sendmsg(2)`, since `writev(2)` can't be kept
    /// from raising SIGPIPE in a program that has not turned it off.
    pub(crate) fn poll_write_vectored(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let bufs = &bufs[..bufs.len().min(SLICES)];
        let send = || Ok(sendmsg(self, bufs, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL)?);
        loop {
            ready!(either!(self, stream => stream.poll_write_ready(cx)))?;
            match either!(self, stream => stream.try_io(Interest::WRITABLE, send)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        either!(self, stream => stream.as_fd())
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        either!(self, stream => stream.as_raw_fd())
    }
}

/// An error in a fork of `owner`, where the bytes are not ours to read or write.
pub(crate) fn check(owner: Owner) -> io::Result<()> {
    if owner.is_here() { Ok(()) } else { Err(io::Error::other("this session belongs to another process")) }
}
