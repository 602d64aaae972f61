//! The keeper's end of a link: never waits, keeps in order what the other end has no room for yet.

use hatchery_protocol::channel::{Channel, ReceiveError, SendError};
use hatchery_protocol::codec::{self, Message};
use rustix::event::{PollFd, PollFlags};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

/// Messages that may wait for the other end. It reads all the time, so more means that it hangs.
const OUTBOX: usize = 10_000;

#[derive(Debug)]
pub(super) struct Link<S, R> {
    channel: Channel<S, R>,
    greeted: bool,
    outbox: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

impl<S: Message, R: Message> Link<S, R> {
    /// Takes the keeper's end and sends its greeting.
    pub(super) fn new(end: OwnedFd) -> Result<Self, SendError> {
        let channel = Channel::new(end);
        channel.set_nonblocking(true).map_err(SendError::Io)?;
        channel.send_hello()?;
        Ok(Self { channel, greeted: false, outbox: VecDeque::new() })
    }

    /// Sends now or as soon as there is room.
    pub(super) fn send(&mut self, message: &S, descriptors: Vec<OwnedFd>) -> Result<(), SendError> {
        debug_assert_eq!(message.descriptors(), descriptors.len());
        if self.outbox.len() >= OUTBOX {
            return Err(SendError::Full);
        }
        self.outbox.push_back((codec::encode(message)?, descriptors));
        self.flush()
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) -> Result<(), SendError> {
        while let Some((bytes, descriptors)) = self.outbox.front() {
            let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
            match self.channel.send_packet(bytes, &borrowed) {
                Ok(()) => {
                    self.outbox.pop_front();
                }
                Err(SendError::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// The next message that is here, after the other end's greeting.
    pub(super) fn receive(&mut self) -> Result<Option<(R, Vec<OwnedFd>)>, ReceiveError> {
        let received = if self.greeted {
            self.channel.receive().map(Some)
        } else {
            self.channel.receive_hello().map(|_| {
                self.greeted = true;
                None
            })
        };
        match received {
            Err(error) if error.would_block() => Ok(None),
            other => other,
        }
    }

    /// Nothing more is said or heard: the other end sees the end of the link.
    pub(super) fn close(&self) {
        // An end that is gone already has seen it.
        let _ = rustix::net::shutdown(&self.channel, rustix::net::Shutdown::Both);
    }

    pub(super) fn poll(&self) -> PollFd<'_> {
        let out = if self.outbox.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        PollFd::new(&self.channel, PollFlags::IN | out)
    }
}

/// A pair of which one end stays and the other is inherited.
pub(super) fn ends() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(hatchery_protocol::packet::pair()?)
}
