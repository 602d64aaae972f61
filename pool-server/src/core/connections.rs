//! The duplicate of every connection handed out. `shutdown` on it ends the connection for every holder in every
//! process, which is how the pool takes a session back without anybody's cooperation.

use super::shell::Shell;
use hatchery_pool::{ClientId, ConnectionId, Event, SessionId, WorkerId};
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    worker: WorkerId,
    /// The session that is on it, or was last.
    session: SessionId,
    client: ClientId,
    /// What the client said that session is doing.
    label: String,
    /// Discards what an abandoned session's worker still writes.
    lingering: Option<AbortHandle>,
}

impl Connection {
    pub(super) fn new(socket: OwnedFd, worker: WorkerId, client: ClientId, session: SessionId, label: String) -> Self {
        Self { socket, worker, session, client, label, lingering: None }
    }

    /// It was parked, and carries another session now.
    pub(super) fn reuse(&mut self, session: SessionId, label: String) {
        (self.session, self.label) = (session, label);
    }

    pub(super) fn carries(&self, client: ClientId, session: SessionId) -> bool {
        (self.client, self.session) == (client, session)
    }

    pub(super) fn set_label(&mut self, label: String) {
        self.label = label;
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    pub(super) fn worker(&self) -> WorkerId {
        self.worker
    }

    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Ends it for everybody.
    pub(super) fn end(self) {
        if let Some(lingering) = &self.lingering {
            lingering.abort();
        }
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    /// The worker sees the end of the request, and what it still answers is discarded until it is done.
    pub(super) fn linger(&mut self, shell: &Shell, connection: ConnectionId) {
        let _ = shutdown(&self.socket, Shutdown::Write);
        let Ok(copy) = self.socket.try_clone() else { return };
        let shell = shell.clone();
        let task = tokio::task::spawn_local(async move {
            discard(copy).await;
            shell.tell(Event::Lingered { connection });
        });
        self.lingering = Some(task.abort_handle());
    }
}

/// Reads to the end of file, or to an error, which is an end as well. TCP sockets take the same calls.
async fn discard(socket: OwnedFd) {
    let socket = std::os::unix::net::UnixStream::from(socket);
    if socket.set_nonblocking(true).is_err() {
        return;
    }
    let Ok(socket) = UnixStream::from_std(socket) else { return };
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = socket
            .async_io(Interest::READABLE, || Ok(recv(&socket, buffer.as_mut_slice(), RecvFlags::DONTWAIT)?.0))
            .await;
        if !matches!(read, Ok(1..)) {
            return;
        }
    }
}
