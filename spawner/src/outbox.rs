//! Answers that wait for the keeper to read. Sending never blocks: keeper and spawner could wait for each other.

use hatchery_protocol::channel::{Channel, SendError};
use hatchery_protocol::codec::{self, Message};
use hatchery_protocol::link::{FromSpawner, ToSpawner};
use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};

/// As many answers may wait; while they do, no further request is read.
const LIMIT: usize = 256;

#[derive(Debug, Default)]
pub(crate) struct Outbox {
    packets: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
}

impl Outbox {
    /// Takes an answer. Those of this process are short, or were seen to fit when they were made.
    pub(crate) fn push(&mut self, message: &FromSpawner, descriptor: Option<OwnedFd>) -> Result<(), SendError> {
        debug_assert_eq!(message.descriptors(), usize::from(descriptor.is_some()));
        self.packets.push_back((codec::encode(message)?, descriptor));
        Ok(())
    }

    /// Sends what the keeper has room for.
    pub(crate) fn flush(&mut self, link: &Channel<FromSpawner, ToSpawner>) -> Result<(), SendError> {
        while let Some((bytes, descriptor)) = self.packets.front() {
            let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
            match link.send_packet(bytes, &descriptors) {
                Ok(()) => drop(self.packets.pop_front()),
                Err(SendError::Full) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.packets.len() >= LIMIT
    }
}
