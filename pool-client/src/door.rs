//! The door to the pool, and how a channel comes through it: a pair is made, our end says `Hello` at once, the
//! other end goes through the door, and the pool's `Hello` comes on our end.

use crate::error::ConnectError;
use crate::owner::Owner;
use hatchery_protocol::WIRE;
use hatchery_protocol::client::ToClient;
use hatchery_protocol::codec::{self, DecodeError, Hello};
use hatchery_protocol::door::ToDoor;
use hatchery_protocol::packet;
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

/// How long the pool has to greet.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Channels that may be closed before a greeting until that is believed: the core may be restarting.
pub(crate) const ATTEMPTS: u32 = 8;

/// The front end's end. Never set non-blocking: forks share that flag.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) socket: OwnedFd,
}

/// How clients find the door again, without keeping it open: it closes with its `PoolServer`. Without a lock,
/// since a fork may happen at any time.
#[derive(Clone, Debug)]
pub(crate) struct DoorLink {
    door: Weak<Door>,
    /// Set by `detach`: then it stays open as long as a client does.
    kept: Arc<OnceLock<Arc<Door>>>,
}

impl DoorLink {
    fn new(door: &Arc<Door>) -> Self {
        Self { door: Arc::downgrade(door), kept: Arc::default() }
    }

    pub(crate) fn keep(&self, door: Arc<Door>) {
        // It can be set already only by ourselves, and to the same.
        let _ = self.kept.set(door);
    }

    /// The door, if this process still has it.
    pub(crate) fn get(&self) -> Result<Arc<Door>, ConnectError> {
        self.kept.get().cloned().or_else(|| self.door.upgrade()).ok_or_else(|| {
            ConnectError::PoolGone(
                "the channel is closed, and the PoolServer that could make a new one is dropped".into(),
            )
        })
    }
}

/// The link of each process that shares a `PoolServer` by forks, from the first on: what a child keeps open must
/// not hang on copies of its parent's clients, which nobody may drop there.
#[derive(Debug)]
pub(crate) struct Links {
    owner: Owner,
    link: DoorLink,
    next: OnceLock<Box<Self>>,
}

impl Links {
    pub(crate) fn new(door: &Arc<Door>) -> Self {
        Self { owner: Owner::this_process(), link: DoorLink::new(door), next: OnceLock::new() }
    }

    /// This process's own.
    pub(crate) fn own(&self, door: &Arc<Door>) -> &DoorLink {
        let mut links = self;
        while !links.owner.is_here() {
            links = links.next.get_or_init(|| Box::new(Self::new(door)));
        }
        &links.link
    }
}

/// A channel that is about to go through the door.
#[derive(Debug)]
pub(crate) struct Knock {
    ours: OwnedFd,
    theirs: OwnedFd,
}

impl Knock {
    pub(crate) fn new() -> io::Result<Self> {
        let (ours, theirs) = packet::pair()?;
        packet::send(&ours, &Hello::ours().encode(), &[], SendFlags::DONTWAIT)?;
        Ok(Self { ours, theirs })
    }

    /// Whether the other end went through; if not, the door is crowded at the moment.
    pub(crate) fn try_enter(&self, door: &Door) -> Result<bool, ConnectError> {
        let packet = codec::encode(&ToDoor::Connect).map_err(ConnectError::Protocol)?;
        match packet::send(&door.socket, &packet, &[self.theirs.as_fd()], SendFlags::DONTWAIT) {
            Ok(()) => Ok(true),
            Err(Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::TOOMANYREFS) => Ok(false),
            Err(Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN) => {
                Err(ConnectError::PoolGone("the other end of its door is closed".into()))
            }
            Err(other) => Err(io::Error::from(other).into()),
        }
    }

    /// Our end, once the other went through. What is left of that here is closed: only the pool holds it then,
    /// so that its death is an end of file.
    pub(crate) fn into_ours(self) -> OwnedFd {
        self.ours
    }
}

/// What the first packet on a channel says.
pub(crate) fn greeted(packet: &[u8]) -> Result<(), ConnectError> {
    let (theirs, wire) = match Hello::decode(packet) {
        Ok(hello) => hello,
        Err(DecodeError::OutOfTurn) => {
            return Err(match codec::decode::<ToClient>(packet, Vec::new()) {
                Ok((ToClient::Goodbye { why }, _)) => ConnectError::Refused(why),
                Ok(_) => ConnectError::Protocol(DecodeError::OutOfTurn),
                Err(error) => ConnectError::Protocol(error),
            });
        }
        Err(error) => return Err(ConnectError::Protocol(error)),
    };
    if wire == WIRE {
        return Ok(());
    }
    let ours = Hello::ours();
    Err(ConnectError::Version {
        pool_version: theirs.version,
        pool_executable: theirs.executable,
        pool_wire: wire,
        client_version: ours.version,
        client_executable: ours.executable,
        client_wire: WIRE,
    })
}

/// How long to wait before the next attempt.
pub(crate) fn pause(attempt: u32) -> Duration {
    Duration::from_millis(10 << attempt.min(6))
}
