//! The pool as its front end has it: the door, and the keeper's process.

use crate::blocking;
use crate::builder::Builder;
use crate::client::Client;
use crate::door::{Door, DoorLink, Links};
use crate::error::{ConnectError, ShutdownError, StartError};
use crate::locate::Executable;
use crate::owner::{Local, Owner};
use hatchery_protocol::codec::{self, DecodeError, MAX_PACKET};
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::door::{FromDoor, ToDoor};
use hatchery_protocol::{memfd, packet};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::process::{Pid, PidfdFlags, Signal, Uid, geteuid, pidfd_open, pidfd_send_signal};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};
use tokio::io::Interest;

/// How long a pool has to open.
const OPENING: Duration = Duration::from_secs(10);

/// How long the started process has to end, once its child has answered.
const FORKING: Duration = Duration::from_secs(2);

/// How long a killed keeper, and what it leaves, has to go.
const DYING: Duration = Duration::from_secs(2);

/// A pool that this process started, or inherited by a fork: the door to it.
///
/// Dropping it closes the door, and waits for nothing. The pool takes no new clients then, and goes with its last
/// client, or when its drain time is up. The door is closed once *all* processes that share it have closed it;
/// what is forked shares it, and should [`detach`](PoolServer::detach) or drop it.
///
/// In a forked child, [`connect`](PoolServer::connect) works as in the parent.
#[derive(Debug)]
pub struct PoolServer {
    door: Arc<Door>,
    links: Links,
    keeper: Keeper,
    builder: Builder,
    owner: Owner,
    /// This process's user when it started the pool.
    started_as: Uid,
}

#[derive(Debug)]
struct Keeper {
    pid: i32,
    /// `None` if it ended before it could be opened.
    pidfd: Option<OwnedFd>,
    admin: Option<PathBuf>,
    pool_user: Option<(u32, u32)>,
    /// On which it says what is unasked; `None`: it was given none.
    words: Option<OwnedFd>,
}

impl PoolServer {
    /// Settings for a new pool.
    pub fn builder() -> Builder {
        Builder::default()
    }

    pub(crate) fn start(builder: Builder) -> Result<Self, StartError> {
        let started_as = geteuid();
        let (door, keeper) = open(&builder)?;
        let door = Arc::new(door);
        let links = Links::new(&door);
        Ok(Self { door, links, keeper, builder, owner: Owner::this_process(), started_as })
    }

    /// A new channel to the pool, for this tokio runtime, which must have I/O and time enabled.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub async fn connect(&self) -> Result<Client, ConnectError> {
        Client::connect(&self.door, self.link()).await
    }

    /// A new channel to the pool, for a program without a runtime.
    ///
    /// # Errors
    /// [`ConnectError`]
    pub fn connect_blocking(&self) -> Result<blocking::Client, ConnectError> {
        blocking::Client::connect(&self.door, self.link())
    }

    fn link(&self) -> DoorLink {
        self.links.own(&self.door).clone()
    }

    /// The keeper's process, of which all workers are children.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.keeper.pid
    }

    /// Where the admin socket is, if there is one.
    #[must_use]
    pub fn admin(&self) -> Option<&Path> {
        self.keeper.admin.as_deref()
    }

    /// The user and group that the pool's core dropped to, if the pool is privileged. A front end that was privileged
    /// too, to bind its sockets and open its logs, should become that user once it has done so.
    #[must_use]
    pub fn pool_user(&self) -> Option<(u32, u32)> {
        self.keeper.pool_user
    }

    /// This process gives up the door; its clients and their sessions live on, and the clients can still make
    /// themselves a new channel when the pool's core is restarted: what they need of the door stays open until the
    /// last of them is dropped.
    pub fn detach(self) {
        self.link().keep(Arc::clone(&self.door));
    }

    /// A new pool with the same settings. The old one, if it lives, goes as if this had been dropped; its clients
    /// stay with it: connect anew.
    ///
    /// # Errors
    /// [`StartError`]; the old door is still there then. [`StartError::PrivilegesDropped`]: this process has become
    /// another user since, who could not start the same pool again. Nothing helps then but to end this process, and
    /// to have it started again by whoever started it.
    pub fn restart(&mut self) -> Result<(), StartError> {
        if !self.owner.is_here() {
            return Err(StartError::Forked);
        }
        let now = geteuid();
        if now != self.started_as {
            return Err(StartError::PrivilegesDropped { started_as: self.started_as.as_raw(), now: now.as_raw() });
        }
        *self = Self::start(self.builder.clone())?;
        Ok(())
    }

    /// What the next pool is started with, by [`restart`](PoolServer::restart). The one that runs is told by
    /// [`Client::reload`], which makes it read where [`PoolConfig::source`] says.
    ///
    /// # Errors
    /// [`StartError::Invalid`]; everything is as before then.
    pub fn configure(&mut self, config: PoolConfig) -> Result<(), StartError> {
        self.builder = self.builder.clone().config(config).checked()?;
        Ok(())
    }

    /// Closes the door, tells the pool to go, and waits until it has; what is left after `grace` is killed. Open
    /// sessions have until then, or until the pool's drain time is up. Blocks.
    ///
    /// # Errors
    /// [`ShutdownError`]
    pub fn shutdown(self, grace: Duration) -> Result<(), ShutdownError> {
        if !self.owner.is_here() {
            return Err(ShutdownError::Forked);
        }
        let Self { door, keeper, .. } = self;
        drop(door);
        keeper.end(grace)
    }

    /// Waits until the operator wants all of this to end (`hatchery shutdown`): the front end is to finish what it
    /// serves, and then to [shut the pool down](PoolServer::shutdown). The pool does not wait for long: after a few
    /// seconds it serves open sessions to their end, and refuses new ones. Told once, to one of the processes that
    /// share the door; pending for ever if the pool just ends.
    ///
    /// In a runtime that has I/O enabled.
    pub async fn told_to_end(&self) {
        if let Some(Ok(words)) = self.keeper.heard() {
            let mut packet = vec![0; MAX_PACKET];
            // An error here is the runtime's end.
            while words.readable().await.is_ok() {
                let heard = words.try_io(Interest::READABLE, || {
                    packet::receive(&*words, &mut packet, RecvFlags::DONTWAIT).map_err(io::Error::from)
                });
                match heard {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Ok(received) if received.len > 0 => {
                        let said = codec::decode::<FromDoor>(&packet[..received.len], received.descriptors);
                        if matches!(said, Ok((FromDoor::ShutDown, _))) {
                            return;
                        }
                    }
                    _ => break,
                }
            }
        }
        std::future::pending().await
    }

    /// Waits until the pool is gone: until its keeper has ended.
    ///
    /// In a runtime that has I/O enabled.
    pub async fn gone(&self) {
        while !self.keeper.is_gone() {
            let Some(Ok(keeper)) = self.keeper.watched() else { return };
            // An error here is the runtime's end.
            if keeper.readable().await.is_err() {
                return std::future::pending().await;
            }
        }
    }
}

impl Keeper {
    fn new(door: &OwnedFd, pid: i32) -> Self {
        // Non-blocking, as a runtime wants its descriptors.
        let mut pidfd = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
        // If it has ended already, its number may be another's by now.
        if wait_for(door, PollFlags::empty(), Some(Duration::ZERO)) != Ok(false) {
            pidfd = None;
        }
        Self { pid, pidfd, admin: None, pool_user: None, words: None }
    }

    fn is_gone(&self) -> bool {
        self.wait(Duration::ZERO)
    }

    /// Waits for its end, but not for longer than `limit`; whether it came.
    fn wait(&self, limit: Duration) -> bool {
        self.pidfd.as_ref().is_none_or(|pidfd| wait_for(pidfd, PollFlags::IN, Some(limit)).unwrap_or(false))
    }

    /// The pidfd for a runtime: dressed as a stream, since none of tokio's safe types watches any descriptor; never read or written.
    fn watched(&self) -> Option<io::Result<Local<tokio::net::UnixStream>>> {
        let pidfd = self.pidfd.as_ref()?.try_clone();
        Some(pidfd.and_then(|pidfd| tokio::net::UnixStream::from_std(UnixStream::from(pidfd))).map(Local::new))
    }

    /// Its words for a runtime.
    fn heard(&self) -> Option<io::Result<Local<tokio::net::UnixStream>>> {
        let words = self.words.as_ref()?.try_clone();
        Some(words.and_then(|words| tokio::net::UnixStream::from_std(UnixStream::from(words))).map(Local::new))
    }

    fn end(&self, grace: Duration) -> Result<(), ShutdownError> {
        // So that it goes even if others share the door. If this may not be sent, the closed door has to do.
        let _ = self.signal(Signal::TERM);
        if self.wait(grace) {
            return Ok(());
        }
        let still_there = |source| ShutdownError::StillThere { pid: self.pid, grace, source };
        match self.signal(Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => return Err(still_there(errno.into())),
        }
        if self.wait(DYING) {
            Err(ShutdownError::Killed { grace })
        } else {
            Err(still_there(io::ErrorKind::TimedOut.into()))
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), Errno> {
        self.pidfd.as_ref().map_or(Err(Errno::SRCH), |pidfd| pidfd_send_signal(pidfd, signal))
    }
}

/// Starts a pool-server and waits for its answer.
fn open(builder: &Builder) -> Result<(Door, Keeper), StartError> {
    let executable = Executable::find(builder.executable.as_deref())?;
    let config = memfd::write(&builder.config)?;
    let (ours, theirs) = packet::pair().map_err(io::Error::from)?;
    let path = executable.path.clone();
    // The command, and with it our copy of the pool's end, is gone after this statement.
    let mut child = executable
        .command()
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .map_err(|source| StartError::Spawn { executable: path.clone(), source })?;

    let answer = ask(&ours, &config);
    let status = reap(&mut child, matches!(answer, Ok(_) | Err(NoAnswer::Closed)));
    match answer {
        Ok((FromDoor::Opened { pid, admin, pool_user, .. }, words)) => {
            let keeper = Keeper { admin, pool_user, words, ..Keeper::new(&ours, pid) };
            Ok((Door { socket: ours }, keeper))
        }
        Ok((FromDoor::Failed(why), _)) => Err(StartError::Failed(why)),
        Ok((FromDoor::ShutDown, _)) => Err(StartError::Failed("it was told to end before it had begun".to_owned())),
        Err(NoAnswer::Closed) => Err(StartError::Died { executable: path, status }),
        Err(NoAnswer::TimedOut) => Err(StartError::TimedOut { executable: path, after: OPENING }),
        Err(NoAnswer::Nonsense(source)) => Err(StartError::Protocol { executable: path, source }),
        Err(NoAnswer::Io(error)) => Err(error.into()),
    }
}

/// Why a pool-server said nothing of use.
#[derive(Debug)]
enum NoAnswer {
    Closed,
    TimedOut,
    Nonsense(DecodeError),
    Io(io::Error),
}

impl From<Errno> for NoAnswer {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::PIPE | Errno::CONNRESET | Errno::NOTCONN => Self::Closed,
            other => Self::Io(other.into()),
        }
    }
}

/// Its answer, and the socket that comes with it.
fn ask(door: &OwnedFd, config: &OwnedFd) -> Result<(FromDoor, Option<OwnedFd>), NoAnswer> {
    let question = codec::encode(&ToDoor::Configure).map_err(NoAnswer::Nonsense)?;
    packet::send(door, &question, &[config.as_fd()], SendFlags::empty())?;
    if !wait_for(door, PollFlags::IN, Some(OPENING))? {
        return Err(NoAnswer::TimedOut);
    }
    let mut packet = vec![0; MAX_PACKET];
    let received = packet::receive(door, &mut packet, RecvFlags::empty())?;
    if received.len == 0 {
        return Err(NoAnswer::Closed);
    }
    let (answer, mut words) =
        codec::decode(&packet[..received.len], received.descriptors).map_err(NoAnswer::Nonsense)?;
    let words = words.pop();
    if let Some(words) = &words {
        rustix::io::ioctl_fionbio(words, true)?;
    }
    Ok((answer, words))
}

/// The started process forks the keeper and ends at once. It is reaped here, so that the host never has a child
/// it does not know; a host that reaps everything itself may have been faster. What has given no answer, or does
/// not end by itself, is killed.
fn reap(child: &mut Child, ends: bool) -> Option<ExitStatus> {
    let until = Instant::now() + if ends { FORKING } else { Duration::ZERO };
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status),
            Err(_) => return None,
            Ok(None) if Instant::now() < until => thread::sleep(Duration::from_millis(1)),
            Ok(None) => {
                let _ = child.kill();
                return child.wait().ok();
            }
        }
    }
}

/// Waits until `fd` is ready, or closed, but not for longer than `limit`; whether it is.
pub(crate) fn wait_for(fd: impl AsFd, events: PollFlags, limit: Option<Duration>) -> Result<bool, Errno> {
    let until = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        // A limit beyond what the kernel counts is none.
        let left = left.and_then(|left| Timespec::try_from(left).ok());
        match rustix::event::poll(&mut [PollFd::new(&fd, events)], left.as_ref()) {
            Err(Errno::INTR) => {}
            result => return result.map(|ready| ready > 0),
        }
    }
}
