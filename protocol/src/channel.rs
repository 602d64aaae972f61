//! A channel with typed ends: what one end sends is what the other receives, checked by the compiler.

use crate::codec::{self, DecodeError, Hello, MAX_PACKET, Message};
use crate::packet;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use sendfd::SendWithFd;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
#[cfg(feature = "async")]
use std::sync::Arc;

/// Why nothing could be received. All but `WouldBlock` end the channel.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiveError {
    /// The peer closed its end, or is gone.
    #[error("the channel is closed")]
    Closed,
    #[error("{0}")]
    Decode(#[from] DecodeError),
    #[error("the channel can't be read: {0}")]
    Io(io::Error),
}

impl ReceiveError {
    /// Nothing is there yet, and waiting was not allowed.
    #[must_use]
    pub fn would_block(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl From<io::Error> for ReceiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The peer closed with messages of ours unread.
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::NotConnected => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

impl From<Errno> for ReceiveError {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

/// Why something could not be sent.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The peer closed its end, or is gone.
    #[error("the channel is closed")]
    Closed,
    /// The peer's queue is full, and waiting was not allowed.
    #[error("the peer does not keep up")]
    Full,
    #[error("{0}")]
    Encode(#[from] DecodeError),
    #[error("the channel can't be written: {0}")]
    Io(io::Error),
}

impl From<io::Error> for SendError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::NotConnected => Self::Closed,
            io::ErrorKind::WouldBlock => Self::Full,
            _ => Self::Io(error),
        }
    }
}

/// One end: sends `S`, receives `R`.
#[derive(Debug)]
pub struct Channel<S, R> {
    // Dressed as a stream, since no library has a type for SOCK_SEQPACKET; never read or written as one.
    socket: UnixStream,
    buffer: Vec<u8>,
    ends: PhantomData<fn(S) -> R>,
}

/// Two connected ends.
///
/// # Errors
/// When this process is out of descriptors.
pub fn pair<A: Message, B: Message>() -> io::Result<(Channel<A, B>, Channel<B, A>)> {
    let (a, b) = packet::pair()?;
    Ok((Channel::new(a), Channel::new(b)))
}

impl<S: Message, R: Message> Channel<S, R> {
    /// An end that somebody handed over.
    #[must_use]
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket: UnixStream::from(socket), buffer: Vec::new(), ends: PhantomData }
    }

    /// Makes `send` and `receive` return instead of waiting.
    ///
    /// # Errors
    /// Hardly ever: what `ioctl(2)` says.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        self.socket.set_nonblocking(nonblocking)
    }

    /// Sends a message without descriptors.
    ///
    /// # Errors
    /// [`SendError`]; the message is not sent then, nor any part of it.
    pub fn send(&self, message: &S) -> Result<(), SendError> {
        debug_assert_eq!(message.descriptors(), 0, "send_with is for messages with descriptors");
        self.send_packet(&codec::encode(message)?, &[])
    }

    /// Sends a message with its descriptors, which the caller still owns afterwards.
    ///
    /// # Errors
    /// [`SendError`]; the message is not sent then, nor any part of it.
    pub fn send_with(&self, message: &S, descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        debug_assert_eq!(message.descriptors(), descriptors.len());
        self.send_packet(&codec::encode(message)?, descriptors)
    }

    /// Sends an encoded message. With descriptors only in a program that ignores `SIGPIPE`, as all of
    /// Hatchery's own do.
    ///
    /// # Errors
    /// [`SendError`]
    pub fn send_packet(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        send_packet(&self.socket, bytes, descriptors)
    }

    /// Sends the greeting.
    ///
    /// # Errors
    /// [`SendError`]
    pub fn send_hello(&self) -> Result<(), SendError> {
        self.send_packet(&Hello::ours().encode(), &[])
    }

    /// Waits for the next message.
    ///
    /// # Errors
    /// [`ReceiveError`]
    pub fn receive(&mut self) -> Result<(R, Vec<OwnedFd>), ReceiveError> {
        let (len, descriptors) = self.receive_packet()?;
        Ok(codec::decode(&self.buffer[..len], descriptors)?)
    }

    /// Waits for the peer's greeting, which any version can read.
    ///
    /// # Errors
    /// [`ReceiveError`]; [`DecodeError::Version`] when the peer speaks another wire version.
    pub fn receive_hello(&mut self) -> Result<Hello, ReceiveError> {
        let (len, _) = self.receive_packet()?;
        Ok(Hello::check(&self.buffer[..len])?)
    }

    fn receive_packet(&mut self) -> Result<(usize, Vec<OwnedFd>), ReceiveError> {
        self.buffer.resize(MAX_PACKET, 0);
        judge(packet::receive(&self.socket, &mut self.buffer, RecvFlags::empty())?)
    }

    /// The socket itself.
    #[must_use]
    pub fn into_fd(self) -> OwnedFd {
        self.socket.into()
    }
}

impl<S, R> AsFd for Channel<S, R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A packet that can be trusted to be whole: its length, and its descriptors.
fn judge(received: packet::Received) -> Result<(usize, Vec<OwnedFd>), ReceiveError> {
    if received.truncated {
        return Err(DecodeError::Truncated.into());
    }
    if received.len == 0 {
        return Err(ReceiveError::Closed);
    }
    Ok((received.len, received.descriptors))
}

/// Plain packets go by `send(2)` with `MSG_NOSIGNAL`; those with descriptors by sendfd, which has no such flag.
fn send_packet(socket: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
    if descriptors.is_empty() {
        return packet::send(socket, bytes, &[], SendFlags::empty()).map_err(|errno| io::Error::from(errno).into());
    }
    let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    loop {
        match socket.send_with_fd(bytes, &raw) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map(|_| ()).map_err(SendError::from),
        }
    }
}

#[cfg(feature = "async")]
pub use asynchronous::{Receiver, Sender, split};

#[cfg(feature = "async")]
mod asynchronous {
    use super::judge;
    use super::{
        Arc, AsRawFd, BorrowedFd, Hello, MAX_PACKET, Message, OwnedFd, PhantomData, ReceiveError, RecvFlags, SendError,
        SendFlags, codec, io, packet,
    };
    use sendfd::SendWithFd;
    use tokio::io::Interest;
    use tokio::net::UnixStream;

    /// The receiving half of one end.
    #[derive(Debug)]
    pub struct Receiver<R> {
        socket: Arc<UnixStream>,
        buffer: Vec<u8>,
        receives: PhantomData<fn() -> R>,
    }

    /// The sending half of one end. Cheap to clone.
    #[derive(Debug)]
    pub struct Sender<S> {
        socket: Arc<UnixStream>,
        sends: PhantomData<fn(S)>,
    }

    impl<S> Clone for Sender<S> {
        fn clone(&self) -> Self {
            Self { socket: Arc::clone(&self.socket), sends: PhantomData }
        }
    }

    /// The two halves of an end, for a tokio program. The socket becomes non-blocking, which its copies in
    /// other processes share.
    ///
    /// # Errors
    /// When it can't be registered with the runtime.
    pub fn split<S: Message, R: Message>(socket: OwnedFd) -> io::Result<(Sender<S>, Receiver<R>)> {
        let socket = std::os::unix::net::UnixStream::from(socket);
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UnixStream::from_std(socket)?);
        let sender = Sender { socket: Arc::clone(&socket), sends: PhantomData };
        Ok((sender, Receiver { socket, buffer: Vec::new(), receives: PhantomData }))
    }

    impl<R: Message> Receiver<R> {
        /// Waits for the next message. Can be cancelled at any point without losing one.
        ///
        /// # Errors
        /// [`ReceiveError`]
        pub async fn receive(&mut self) -> Result<(R, Vec<OwnedFd>), ReceiveError> {
            let (len, descriptors) = self.receive_packet().await?;
            Ok(codec::decode(&self.buffer[..len], descriptors)?)
        }

        /// Waits for the peer's greeting, which any version can read.
        ///
        /// # Errors
        /// [`ReceiveError`]; [`DecodeError::Version`](crate::codec::DecodeError::Version) when the peer speaks another wire version.
        pub async fn receive_hello(&mut self) -> Result<Hello, ReceiveError> {
            let (len, _) = self.receive_packet().await?;
            Ok(Hello::check(&self.buffer[..len])?)
        }

        async fn receive_packet(&mut self) -> Result<(usize, Vec<OwnedFd>), ReceiveError> {
            self.buffer.resize(MAX_PACKET, 0);
            let Self { socket, buffer, .. } = self;
            let received = socket
                .async_io(Interest::READABLE, || {
                    packet::receive(socket.as_ref(), buffer, RecvFlags::DONTWAIT).map_err(io::Error::from)
                })
                .await;
            judge(received?)
        }

        /// The peer's process when the channel was made.
        ///
        /// # Errors
        /// What `getsockopt(2)` says.
        pub fn peer(&self) -> io::Result<tokio::net::unix::UCred> {
            self.socket.peer_cred()
        }
    }

    impl<S: Message> Sender<S> {
        /// Sends an encoded message without waiting. With descriptors only in a program that ignores `SIGPIPE`.
        ///
        /// # Errors
        /// [`SendError`]
        pub fn try_send_packet(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
            let sent = if descriptors.is_empty() {
                packet::send(self.socket.as_ref(), bytes, &[], SendFlags::DONTWAIT).map_err(io::Error::from)
            } else {
                let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
                self.socket.send_with_fd(bytes, &raw).map(|_| ())
            };
            sent.map_err(SendError::from)
        }

        /// Sends an encoded message as soon as the peer has room for it.
        ///
        /// # Errors
        /// [`SendError`], never `Full`.
        pub async fn send_packet(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
            let flags = SendFlags::DONTWAIT;
            self.socket
                .async_io(Interest::WRITABLE, || {
                    packet::send(self.socket.as_ref(), bytes, descriptors, flags).map_err(io::Error::from)
                })
                .await
                .map_err(SendError::from)
        }

        /// Sends the greeting without waiting.
        ///
        /// # Errors
        /// [`SendError`]
        pub fn try_send_hello(&self) -> Result<(), SendError> {
            self.try_send_packet(&Hello::ours().encode(), &[])
        }
    }
}
