//! The door: an anonymous socketpair between the front end and the keeper. The keeper reads the first packet
//! and answers it; every later packet is a new channel, read by the core.

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

/// The keeper's one answer, to `Configure`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromDoor {
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
}

impl Message for FromDoor {
    fn descriptors(&self) -> usize {
        0
    }
}
