//! A worker that is to be forked from a preloader: from the order until the process has announced itself. What forks
//! is the app's own code, so whatever announces itself is held against what the kernel says of it.

use crate::cgroup::Made;
use crate::control::{self, Cause, Heard, Said, Trouble};
use crate::launch::Story;
use crate::tree;
use hatchery_protocol::link::WorkerNumber;
use hatchery_protocol::packet;
use rustix::fs::OFlags;
use rustix::io::Errno;
use rustix::net::UCred;
use rustix::net::sockopt::set_socket_passcred;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

/// Why no worker was forked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForkError {
    #[error("the preloader that it was to be forked from is gone, or has not loaded the application")]
    NoPreloader,
    #[error("a forked worker can't be told where to say that it is ready (`ready = \"notify\"`)")]
    Notify,
    #[error("the preloader takes no more orders: {0}")]
    Order(std::io::Error),
    #[error("the preloader ended, or what it forked did, before the worker had announced itself")]
    Ended,
    #[error("the preloader forked no worker within {:.1} s", .0.as_secs_f64())]
    Silent(Duration),
    #[error("what announced itself as a forked worker {0}")]
    Impostor(Impostor),
    #[error("a forked worker did not wait to be told to go on: {0}")]
    NotWaiting(std::io::Error),
    /// The app's own, said by its loader.
    #[error("{}", .0.problem)]
    Hook(Trouble),
}

impl ForkError {
    /// Whether nothing is said about the app, only about its preloader.
    pub(crate) fn is_preloaders(&self) -> bool {
        !matches!(self, Self::Hook(_))
    }
}

/// What is wrong with a process that says it was forked.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Impostor {
    #[error("said what no loader says")]
    Words,
    #[error("did so more than once")]
    Several,
    #[error("can't be told who it is")]
    Nobody,
    #[error("(pid {pid}) is a process of user {found}, and is to be one of user {expected}")]
    User { pid: i32, found: u32, expected: u32 },
    #[error("(pid {pid}) has ended")]
    Gone { pid: i32 },
    #[error("(pid {pid}) is a child of process {found}, and is to be one of the pool-server ({expected})")]
    Parent { pid: i32, found: i32, expected: i32 },
    #[error("(pid {pid}) leads no session of its own")]
    NoLeader { pid: i32 },
    #[error("(pid {pid}) is another worker, or another preloader")]
    Known { pid: i32 },
}

/// A worker that has not announced itself yet.
#[derive(Debug)]
pub(crate) struct Fork {
    pub(crate) worker: WorkerNumber,
    pub(crate) preloader: WorkerNumber,
    pub(crate) deadline: Instant,
    pub(crate) limit: Duration,
    pub(crate) story: Story,
    /// The control group it is put into.
    pub(crate) group: Option<Made>,
    /// Without it the worker is not to be.
    pub(crate) group_required: bool,
    /// One sentence for each limit that is not applied.
    pub(crate) missed: Vec<String>,
    /// Whom it runs as.
    pub(crate) user: u32,
    pub(crate) announce: OwnedFd,
}

/// What a worker to be forked is given.
#[derive(Debug)]
pub(crate) struct Gifts {
    pub(crate) mark: String,
    pub(crate) listener: OwnedFd,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// Its end of the channel where it announces itself.
    pub(crate) announce: OwnedFd,
}

/// The channel where a worker that is to be forked announces itself: our end, and that of the worker.
pub(crate) fn announcement() -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = packet::pair()?;
    set_socket_passcred(&ours, true)?;
    Ok((ours, theirs))
}

impl Gifts {
    /// Programs expect to wait in `accept` and `write`.
    pub(crate) fn blocking(&self) -> Result<(), Errno> {
        for descriptor in [&self.listener, &self.stdout, &self.stderr] {
            let flags = rustix::fs::fcntl_getfl(descriptor)?;
            rustix::fs::fcntl_setfl(descriptor, flags - OFlags::NONBLOCK)?;
        }
        Ok(())
    }

    /// Tells the preloader at `control` to fork.
    pub(crate) fn order(&self, control: impl AsFd) -> Result<(), ForkError> {
        let descriptors = [&self.listener, &self.stdout, &self.stderr, &self.announce].map(AsFd::as_fd);
        control::order_fork(control, &self.mark, &descriptors).map_err(|errno| ForkError::Order(errno.into()))
    }
}

impl Fork {
    /// Reads what the new process said. `None`: nothing yet. `is_known`: whether a process is somebody else already.
    pub(crate) fn hear(&self, keeper: i32, is_known: impl Fn(i32) -> bool) -> Option<Result<i32, ForkError>> {
        let sender = match control::hear(&self.announce) {
            Heard::Nothing => return None,
            Heard::End => return Some(Err(ForkError::Ended)),
            Heard::Said(Said::Here, sender) => sender,
            Heard::Said(Said::Failed(trouble), _) if trouble.cause == Cause::Hook => {
                return Some(Err(ForkError::Hook(trouble)));
            }
            Heard::Said(..) | Heard::Nonsense => return Some(Err(ForkError::Impostor(Impostor::Words))),
        };
        // Who has announced itself waits for an answer.
        let verdict = match control::hear(&self.announce) {
            Heard::Nothing => sender.ok_or(Impostor::Nobody).and_then(|sender| self.judge(sender, keeper, is_known)),
            Heard::End => return Some(Err(ForkError::Ended)),
            Heard::Said(..) | Heard::Nonsense => Err(Impostor::Several),
        };
        Some(verdict.map_err(ForkError::Impostor))
    }

    fn judge(&self, sender: UCred, keeper: i32, is_known: impl Fn(i32) -> bool) -> Result<i32, Impostor> {
        let pid = sender.pid.as_raw_nonzero().get();
        let found = sender.uid.as_raw();
        if found != self.user {
            return Err(Impostor::User { pid, found, expected: self.user });
        }
        // It is what it was when it spoke, or has ended: the keeper does not reap it before it is answered for.
        match tree::parent_and_session(pid) {
            None => Err(Impostor::Gone { pid }),
            Some((found, _)) if found != keeper => Err(Impostor::Parent { pid, found, expected: keeper }),
            Some((_, session)) if session != pid => Err(Impostor::NoLeader { pid }),
            Some(_) if is_known(pid) => Err(Impostor::Known { pid }),
            Some(_) => Ok(pid),
        }
    }

    /// Whether its control group limits it: else it is only what a worker's processes are found and ended by.
    pub(crate) fn is_limited(&self) -> bool {
        !self.story.group_limits.is_empty()
    }

    /// Puts the worker into its control group.
    pub(crate) fn confine(&mut self, pid: i32) -> Result<(), String> {
        let Some(group) = &self.group else { return Ok(()) };
        match rustix::io::write(&group.processes, pid.to_string().as_bytes()) {
            Ok(_) => Ok(()),
            Err(errno) => {
                let why = format!("its control group can't be joined: {}", std::io::Error::from(errno));
                self.missed.extend(self.story.group_limits.iter().map(|said| said.missed(&why)));
                self.group = None;
                if self.group_required { Err(why) } else { Ok(()) }
            }
        }
    }
}

impl AsFd for Fork {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.announce.as_fd()
    }
}
