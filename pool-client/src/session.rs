//! A session in a tokio program.

use crate::client::Shared;
use crate::error::CloseError;
use crate::line::Parked;
use crate::machine::Granted;
use crate::owner::Local;
use crate::stream::{self, Stream};
use crate::ticket::{AnyLine, Ticket};
use hatchery_protocol::client::{Documents, Ended, How, SessionId, SessionProtocol, Transport};
use std::fmt;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// One use of a worker: a connection to it, to be written and read as its [protocol](Session::protocol) says.
///
/// Whoever is done with it calls [`finish`](Session::finish) or [`keep`](Session::keep), once the exchange is
/// complete; dropping it is [`abandon`](Session::abandon). When the pool ends it (the worker died, a time limit, the
/// operator), reads still return what the worker had sent, then the end of file; [`ended`](Session::ended)
/// tells why.
#[derive(Debug)]
pub struct Session {
    stream: Local<Stream>,
    ticket: Ticket,
    reused: bool,
    /// A direction is closed: nothing more can follow on this connection.
    spoilt: bool,
}

impl Session {
    pub(crate) fn new(stream: Local<Stream>, shared: Arc<Shared>, granted: &Granted<Parked>, reused: bool) -> Self {
        Self { stream, ticket: Ticket::new(AnyLine::Async(shared), granted), reused, spoilt: false }
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

    /// The exchange is complete, and the connection is closed. Waits for nothing.
    ///
    /// # Errors
    /// In a forked child.
    pub async fn finish(self) -> Result<(), CloseError> {
        let Self { stream, ticket, .. } = self;
        let closed = ticket.close(How::Finished, None);
        drop(stream);
        closed
    }

    /// The exchange is complete, to the last byte in both directions, and the connection is parked for the next
    /// `get` of this client at this worker. If a direction of it is closed, this is [`finish`](Session::finish).
    /// Waits for nothing.
    ///
    /// # Errors
    /// In a forked child.
    pub async fn keep(self) -> Result<(), CloseError> {
        if self.spoilt {
            return self.finish().await;
        }
        let Self { stream, ticket, .. } = self;
        ticket.close(How::Kept, Some(Parked::Stream(stream)))
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

    /// Two halves, for two tasks. [`SessionRead::reunite`] puts them together again; when both are dropped
    /// without that, the session is abandoned.
    #[must_use]
    pub fn into_split(self) -> (SessionRead, SessionWrite) {
        let Self { stream, ticket, reused, spoilt } = self;
        let halves = Arc::new(Halves { stream, ticket, reused, spoilt: AtomicBool::new(spoilt) });
        (SessionRead { halves: Arc::clone(&halves) }, SessionWrite { halves: Some(halves) })
    }

    /// The socket, for another runtime, and what the session is closed by. The socket is non-blocking.
    ///
    /// # Errors
    /// When the runtime can't let go of the socket, or in a forked child. The session is abandoned then.
    pub fn into_parts(self) -> io::Result<(OwnedFd, Ticket)> {
        let Self { stream, ticket, .. } = self;
        stream::check(stream.owner())?;
        Ok((stream.into_inner().into_fd()?, ticket))
    }
}

impl AsFd for Session {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl AsyncRead for Session {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        stream::check(this.stream.owner())?;
        let before = buf.remaining();
        let result = this.stream.get_mut().poll_read(cx, buf);
        this.spoilt |= spoils(&result, before, buf);
        result
    }
}

/// Whether a read brought the end of the connection.
fn spoils(result: &Poll<io::Result<()>>, before: usize, buf: &ReadBuf<'_>) -> bool {
    match result {
        Poll::Ready(Ok(())) => before > 0 && buf.remaining() == before,
        Poll::Ready(Err(_)) => true,
        Poll::Pending => false,
    }
}

impl AsyncWrite for Session {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        stream::check(this.stream.owner())?;
        let result = this.stream.get_mut().poll_write(cx, buf);
        this.spoilt |= matches!(result, Poll::Ready(Err(_)));
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        stream::check(this.stream.owner())?;
        let result = this.stream.poll_write_vectored(cx, bufs);
        this.spoilt |= matches!(result, Poll::Ready(Err(_)));
        result
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Half-closes the connection: the worker reads an end of file, and can still answer.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        stream::check(this.stream.owner())?;
        this.spoilt = true;
        Poll::Ready(this.stream.shutdown_write())
    }
}

#[derive(Debug)]
struct Halves {
    stream: Local<Stream>,
    ticket: Ticket,
    reused: bool,
    spoilt: AtomicBool,
}

impl Halves {
    fn spoil(&self) {
        self.spoilt.store(true, Ordering::Relaxed);
    }
}

/// The half of a session that reads.
#[derive(Debug)]
pub struct SessionRead {
    halves: Arc<Halves>,
}

/// The half of a session that writes. Dropping it half-closes the connection.
#[derive(Debug)]
pub struct SessionWrite {
    // `None` once reunited.
    halves: Option<Arc<Halves>>,
}

/// The halves are of two sessions. Both are given back.
#[derive(Debug)]
pub struct ReuniteError(pub SessionRead, pub SessionWrite);

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the two halves are not of one session")
    }
}

impl std::error::Error for ReuniteError {}

impl SessionRead {
    /// The session again, to be finished or kept.
    ///
    /// # Errors
    /// When the halves are not of one session.
    pub fn reunite(self, mut write: SessionWrite) -> Result<Session, ReuniteError> {
        if !write.halves.as_ref().is_some_and(|halves| Arc::ptr_eq(halves, &self.halves)) {
            return Err(ReuniteError(self, write));
        }
        write.halves = None;
        match Arc::try_unwrap(self.halves) {
            Ok(Halves { stream, ticket, reused, spoilt }) => {
                Ok(Session { stream, ticket, reused, spoilt: spoilt.into_inner() })
            }
            // There are no other holders than the two halves.
            Err(halves) => Err(ReuniteError(Self { halves }, write)),
        }
    }

    /// Why the pool ended the session, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.halves.ticket.ended()
    }
}

impl AsyncRead for SessionRead {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let halves = &self.halves;
        stream::check(halves.stream.owner())?;
        let before = buf.remaining();
        let result = halves.stream.poll_read_shared(cx, buf);
        if spoils(&result, before, buf) {
            halves.spoil();
        }
        result
    }
}

impl SessionWrite {
    fn poll_slices(&self, cx: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let Some(halves) = &self.halves else { return Poll::Ready(Err(io::ErrorKind::NotConnected.into())) };
        stream::check(halves.stream.owner())?;
        let result = halves.stream.poll_write_vectored(cx, bufs);
        if let Poll::Ready(Err(_)) = result {
            halves.spoil();
        }
        result
    }

    fn shutdown(&self) -> io::Result<()> {
        let Some(halves) = &self.halves else { return Ok(()) };
        stream::check(halves.stream.owner())?;
        halves.spoil();
        halves.stream.shutdown_write()
    }
}

impl AsyncWrite for SessionWrite {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_slices(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_slices(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.shutdown())
    }
}

impl Drop for SessionWrite {
    fn drop(&mut self) {
        // In a forked child it does nothing: the connection is the parent's.
        let _ = self.shutdown();
    }
}
