//! The channel's socket in a tokio program, and the task that carries its packets. The task reads for everybody: a
//! `get` that was polled once and then left alone must not keep the answers of others from them, so those who wait
//! can't read for each other here.

use crate::client::Shared;
use crate::door::{self, Door, Knock};
use crate::error::ConnectError;
use crate::line::Books;
use crate::machine::Loss;
use crate::owner::Local;
use hatchery_protocol::codec::MAX_PACKET;
use hatchery_protocol::packet;
use rustix::net::{RecvFlags, SendFlags};
use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::task::AbortHandle;

/// The channel's socket and the task that reads it.
#[derive(Debug)]
pub(crate) struct Plugged {
    socket: Local<UnixStream>,
    reader: AbortHandle,
}

impl AsFd for Plugged {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Plugged {
    fn drop(&mut self) {
        if self.socket.owner().is_here() {
            self.reader.abort();
        }
    }
}

impl Plugged {
    /// Starts the task, for the books' present epoch.
    pub(crate) fn new(socket: Local<UnixStream>, shared: &Arc<Shared>, epoch: u64) -> Self {
        Self { socket, reader: spawn_reader(Arc::downgrade(shared), epoch) }
    }
}

/// A new channel through the door.
pub(crate) async fn open(door: &Door) -> Result<Local<UnixStream>, ConnectError> {
    let attempts = async {
        let mut attempt = 0;
        loop {
            let knock = Knock::new()?;
            let mut crowded = 0;
            while !knock.try_enter(door)? {
                tokio::time::sleep(door::pause(crowded)).await;
                crowded += 1;
            }
            let ours = std::os::unix::net::UnixStream::from(knock.into_ours());
            ours.set_nonblocking(true)?;
            let socket = Local::new(UnixStream::from_std(ours)?);
            match greeting(&socket).await? {
                Some(packet) => return door::greeted(&packet).map(|()| socket),
                None if attempt < door::ATTEMPTS => tokio::time::sleep(door::pause(attempt)).await,
                None => return Err(ConnectError::PoolGone("it closes every channel before a greeting".into())),
            }
            attempt += 1;
        }
    };
    match tokio::time::timeout(door::LIMIT, attempts).await {
        Ok(result) => result,
        Err(_) => Err(ConnectError::TimedOut(door::LIMIT)),
    }
}

/// The first packet, or none if the channel is closed.
async fn greeting(socket: &UnixStream) -> Result<Option<Vec<u8>>, ConnectError> {
    let mut packet = vec![0; MAX_PACKET];
    let received = socket.async_io(Interest::READABLE, || {
        packet::receive(socket, &mut packet, RecvFlags::DONTWAIT).map_err(io::Error::from)
    });
    match received.await {
        Ok(received) => {
            packet.truncate(received.len);
            Ok((!packet.is_empty()).then_some(packet))
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Carries packets between socket and books, until the channel of this epoch is gone.
fn poll_carry(shared: &Shared, epoch: u64, cx: &mut Context<'_>) -> Poll<()> {
    shared.line.with(|books| {
        while books.machine.epoch() == epoch {
            books.sender.get_or_insert_with(|| cx.waker().clone());
            if poll_send(books, cx).is_ready() || poll_receive(books, cx).is_ready() {
                continue;
            }
            return Poll::Pending;
        }
        Poll::Ready(())
    })
}

/// Sends one packet that waits; pending when there is none, or no room.
fn poll_send(books: &mut Books<Plugged>, cx: &mut Context<'_>) -> Poll<()> {
    let (Some(plugged), Some(packet)) = (&books.socket, books.machine.outbox().front()) else { return Poll::Pending };
    let socket = &*plugged.socket;
    let sent = match socket.poll_write_ready(cx) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Err(error)) => Err(error),
        Poll::Ready(Ok(())) => socket.try_io(Interest::WRITABLE, || {
            packet::send(socket, packet, &[], SendFlags::DONTWAIT).map_err(io::Error::from)
        }),
    };
    match sent {
        Ok(()) => {
            books.machine.outbox().pop_front();
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        Err(_) => {
            books.drain();
            books.lose(Loss::Closed);
        }
    }
    Poll::Ready(())
}

/// Takes in one packet, or learns that there is none.
fn poll_receive(books: &mut Books<Plugged>, cx: &mut Context<'_>) -> Poll<()> {
    let (Some(plugged), Some(buffer)) = (&books.socket, &mut books.buffer) else { return Poll::Pending };
    let socket = &*plugged.socket;
    match socket.poll_read_ready(cx) {
        Poll::Pending => return Poll::Pending,
        Poll::Ready(Err(_)) => {
            books.lose(Loss::Closed);
            return Poll::Ready(());
        }
        Poll::Ready(Ok(())) => {}
    }
    let mut received = Err(rustix::io::Errno::AGAIN);
    let result = socket.try_io(Interest::READABLE, || {
        received = packet::receive(socket, buffer, RecvFlags::DONTWAIT);
        received.as_ref().map(|_| ()).map_err(|errno| io::Error::from(*errno))
    });
    match result {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        // What was received before the reset comes after it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => books.drain(),
        _ => {
            books.take_in(received);
        }
    }
    Poll::Ready(())
}

fn spawn_reader(shared: Weak<Shared>, epoch: u64) -> AbortHandle {
    let reader = Reader { shared, epoch };
    let task = tokio::spawn(async move {
        poll_fn(|cx| match reader.shared.upgrade() {
            Some(shared) => poll_carry(&shared, reader.epoch, cx),
            None => Poll::Ready(()),
        })
        .await;
    });
    task.abort_handle()
}

/// The task's claim to its channel. When its runtime ends, the channel does: nobody would read it any more.
#[derive(Debug)]
struct Reader {
    shared: Weak<Shared>,
    epoch: u64,
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some(shared) = self.shared.upgrade() else { return };
        if shared.line.owner.is_here() {
            shared.line.with(|books| {
                if books.machine.epoch() == self.epoch {
                    books.lose(Loss::Closed);
                }
            });
        }
    }
}
