//! A session in a program without a runtime.

use super::Shared;
use crate::error::CloseError;
use crate::line::Parked;
use crate::machine::Granted;
use crate::owner::Owner;
use crate::stream::{self, SLICES};
use crate::ticket::{AnyLine, Ticket};
use hatchery_protocol::client::{Documents, Ended, How, SessionId, SessionProtocol, Transport};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendFlags, sendmsg};
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One use of a worker: a connection to it, to be written and read as its [protocol](Session::protocol) says. Like a
/// socket of the standard library, a shared reference can be read and written too, by one thread each.
///
/// Whoever is done with it calls [`finish`](Session::finish) or [`keep`](Session::keep), once the exchange is
/// complete; dropping it is [`abandon`](Session::abandon). When the pool ends it, reads still return what the
/// worker had sent, then the end of file; [`ended`](Session::ended) tells why.
#[derive(Debug)]
pub struct Session {
    socket: OwnedFd,
    ticket: Ticket,
    owner: Owner,
    reused: bool,
    /// A direction is closed: nothing more can follow on this connection.
    spoilt: AtomicBool,
}

impl Session {
    /// `socket` is blocking.
    pub(super) fn new(socket: OwnedFd, shared: Arc<Shared>, granted: &Granted<Parked>, reused: bool) -> Self {
        let owner = shared.line.owner;
        let ticket = Ticket::new(AnyLine::Blocking(shared), granted);
        Self { socket, ticket, owner, reused, spoilt: AtomicBool::new(false) }
    }

    /// The session, as the pool names it.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.ticket.id()
    }

    /// The worker's process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.ticket.pid()
    }

    /// What the worker speaks.
    #[must_use]
    pub fn protocol(&self) -> SessionProtocol {
        self.ticket.protocol()
    }

    /// What a FastCGI worker is to be asked for.
    #[must_use]
    pub fn documents(&self) -> Option<&Documents> {
        self.ticket.documents()
    }

    /// What kind of socket it is.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.ticket.transport()
    }

    /// Whether the connection was parked: it has carried a session before. A worker that closed it at the same
    /// moment gives an end of file before any byte; a request that is safe to repeat can be sent again then.
    #[must_use]
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// The exchange is complete, and the connection is closed.
    ///
    /// # Errors
    /// In a forked child.
    pub fn finish(self) -> Result<(), CloseError> {
        let Self { socket, ticket, .. } = self;
        let closed = ticket.close(How::Finished, None);
        drop(socket);
        closed
    }

    /// The exchange is complete, to the last byte in both directions, and the connection is parked for the next
    /// `get` of this client at this worker. If a direction of it is closed, this is [`finish`](Session::finish).
    ///
    /// # Errors
    /// In a forked child.
    pub fn keep(self) -> Result<(), CloseError> {
        if self.spoilt.load(Ordering::Relaxed) {
            return self.finish();
        }
        let Self { socket, ticket, .. } = self;
        ticket.close(How::Kept, Some(Parked::Fd(socket)))
    }

    /// The exchange is not complete: the worker may still compute for nobody, and the pool waits for it a while.
    pub fn abandon(self) {
        drop(self);
    }

    /// Tells the operator what the session is doing, in up to 200 characters. Dropped if the pool does not keep up.
    pub fn label(&self, text: &str) {
        self.ticket.label(text);
    }

    /// Why the pool ended the session, if it did. What the worker had sent can still be read then.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.ticket.ended()
    }

    /// Half-closes the connection: the worker reads an end of file, and can still answer.
    ///
    /// # Errors
    /// What `shutdown(2)` says; in a forked child.
    pub fn shutdown_write(&self) -> io::Result<()> {
        stream::check(self.owner)?;
        self.spoil();
        Ok(rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Write)?)
    }

    /// The socket, and what the session is closed by. The socket is blocking.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, Ticket) {
        (self.socket, self.ticket)
    }

    fn spoil(&self) {
        self.spoilt.store(true, Ordering::Relaxed);
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Read for &Session {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        stream::check(self.owner)?;
        let result = rustix::io::read(&self.socket, &mut *buf);
        if matches!(result, Ok(0)) && !buf.is_empty() || matches!(result, Err(errno) if errno != Errno::INTR) {
            self.spoil();
        }
        Ok(result?)
    }
}

impl Write for &Session {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(buf)])
    }

    /// By `sendmsg(2)`, which alone can be kept from raising SIGPIPE.
    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        stream::check(self.owner)?;
        let bufs = &bufs[..bufs.len().min(SLICES)];
        let result = sendmsg(&self.socket, bufs, &mut SendAncillaryBuffer::default(), SendFlags::NOSIGNAL);
        if matches!(result, Err(errno) if errno != Errno::INTR) {
            self.spoil();
        }
        Ok(result?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Session {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }
}

impl Write for Session {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
