//! The door: an anonymous socketpair between the front end and the keeper. The keeper reads the first packet
//! and answers it; every later packet is a new channel, read by the core. With its answer comes a socket of its own
//! for what the keeper has to say later.

use crate::codec::Message;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Front end → pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToDoor {
    /// The first packet: with a sealed memfd that holds a [`PoolConfig`](crate::config::PoolConfig).
    Configure,
    /// A new client: with the pool's end of its channel.
    Connect,
}

impl Message for ToDoor {
    fn descriptors(&self) -> usize {
        1
    }
}

/// Pool → front end. The keeper's answer to `Configure`, on the door; then, on the socket that comes with it, what is
/// unasked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromDoor {
    /// With the front end's end of a pair (`SOCK_SEQPACKET`) on which the keeper says what is unasked.
    Opened {
        /// The random id that marks this pool's processes.
        pool: String,
        /// The keeper's process. It is not the front end's child: it forked once at its start, so that a front
        /// end has nothing to reap.
        pid: i32,
        /// Where the admin socket is, if one was asked for.
        admin: Option<PathBuf>,
        /// The user and group that core and front end run as from now on, if the pool is privileged.
        pool_user: Option<(u32, u32)>,
    },
    /// The pool could not be started: one sentence.
    Failed(String),
    /// The operator wants all of this to end: the front end is to finish what it serves, and then to close the door.
    /// Unasked.
    ShutDown,
}

impl Message for FromDoor {
    fn descriptors(&self) -> usize {
        match self {
            Self::Opened { .. } => 1,
            Self::Failed(_) | Self::ShutDown => 0,
        }
    }
}
