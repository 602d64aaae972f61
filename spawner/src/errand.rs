//! Short-lived children that touch what could hang: folders and files below an app root, other processes.
//!
//! An errand is a fork of this process that does one thing, answers with one packet, and ends. It dies with the
//! spawner, and holds no descriptor but its answer's.

use hatchery_protocol::channel::ReceiveError;
use hatchery_protocol::codec::{self, DecodeError, Message};
use hatchery_protocol::link::{AppNumber, Findings, LaunchPlan, Place, Sight, SwapStep, WorkerNumber};
use hatchery_protocol::packet;
use hatchery_protocol::report::SpawnReport;
use rustix::net::{RecvFlags, SendFlags};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long looking into an app root may take.
pub(crate) const INSPECT_LIMIT: Duration = Duration::from_secs(5);
/// How long finding out about a worker may take: somebody waits for it before killing that worker.
const EXAMINE_LIMIT: Duration = Duration::from_secs(1);
/// How long seeing whether anything asks for a restart may take.
const LOOK_LIMIT: Duration = Duration::from_secs(2);
/// How long an exchange of files may take: all that the disk has to write is written first.
pub(crate) const SWAP_LIMIT: Duration = Duration::from_secs(60);

/// What an errand is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Inspect {
        app: AppNumber,
        generation: u64,
        root: Vec<u8>,
    },
    Look {
        app: AppNumber,
        root: Vec<u8>,
    },
    Swap {
        app: AppNumber,
        root: Vec<u8>,
        step: SwapStep,
    },
    /// What an exchange has put aside is removed.
    Clear,
    Find {
        worker: WorkerNumber,
        pid: i32,
        place: Place,
        /// Whom its socket must belong to; `None`: whom the process itself belongs to.
        owner: Option<u32>,
    },
    Examine {
        worker: WorkerNumber,
        pid: i32,
    },
    /// A worker's folder is removed.
    Remove,
}

impl Purpose {
    /// Errands of the kind at once.
    pub(crate) fn limit(&self) -> usize {
        match self {
            Self::Inspect { .. } => 16,
            // These last as long as a worker takes to listen.
            Self::Find { .. } => 40,
            Self::Look { .. } | Self::Swap { .. } | Self::Clear | Self::Examine { .. } => 4,
            Self::Remove => 8,
        }
    }

    fn time_limit(&self) -> Option<Duration> {
        match self {
            Self::Inspect { .. } => Some(INSPECT_LIMIT),
            // Until it has found something, or the worker is gone.
            Self::Find { .. } => None,
            Self::Examine { .. } => Some(EXAMINE_LIMIT),
            Self::Look { .. } => Some(LOOK_LIMIT),
            Self::Swap { .. } => Some(SWAP_LIMIT),
            Self::Clear => Some(Duration::from_secs(600)),
            Self::Remove => Some(Duration::from_secs(60)),
        }
    }
}

/// What an errand brings back.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Plan(Box<LaunchPlan>),
    /// The port is listened at by its worker.
    Port,
    /// The worker's socket, as an `O_PATH` descriptor.
    Socket,
    Findings(Box<Findings>),
    Sight(Option<Box<Sight>>),
    Swapped,
    Failed(Box<SpawnReport>),
    Removed,
}

impl Message for Answer {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Socket))
    }
}

/// One that is under way.
#[derive(Debug)]
pub(crate) struct Errand {
    pub(crate) purpose: Purpose,
    pub(crate) pid: i32,
    pub(crate) deadline: Option<Instant>,
    /// Its process is reaped: `pid` may be another's by now.
    pub(crate) reaped: bool,
    answer: OwnedFd,
}

/// Why an errand brought nothing back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ErrandError {
    #[error("a child process could not be made: {0}")]
    Start(#[from] io::Error),
    #[error("the child process that was to do it ended early")]
    Ended,
    #[error("the answer can't be read: {0}")]
    Answer(DecodeError),
}

impl Errand {
    /// Forks a child that does `work`.
    pub(crate) fn start(
        purpose: Purpose,
        work: impl FnOnce(&Purpose) -> (Answer, Option<OwnedFd>),
    ) -> io::Result<Self> {
        let (answer, theirs) = packet::pair()?;
        let spawner = rustix::process::getpid();
        // SAFETY: this process has one thread, so its child is a whole copy of it and may do anything; it shares
        // with its parent the descriptors only, and `become_errand` closes those.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let done = catch_unwind(AssertUnwindSafe(|| {
                    let mouth = become_errand(&theirs, spawner)?;
                    let (answer, descriptor) = work(&purpose);
                    say(mouth, &answer, descriptor)
                }));
                let status = i32::from(!matches!(done, Ok(Ok(()))));
                // SAFETY: ends the process without dropping what its parent owns.
                unsafe { libc::_exit(status) }
            }
            pid => {
                let deadline = purpose.time_limit().map(|limit| Instant::now() + limit);
                Ok(Self { purpose, pid, deadline, reaped: false, answer })
            }
        }
    }

    /// Reads the answer. `None`: it is not there yet.
    pub(crate) fn hear(&self) -> Option<Result<(Answer, Option<OwnedFd>), ErrandError>> {
        let mut buffer = vec![0; codec::MAX_PACKET];
        let received = match packet::receive(&self.answer, &mut buffer, RecvFlags::DONTWAIT) {
            Ok(received) if received.len == 0 => return Some(Err(ErrandError::Ended)),
            Ok(received) if received.truncated => return Some(Err(ErrandError::Answer(DecodeError::Truncated))),
            Ok(received) => received,
            Err(errno) if ReceiveError::from(errno).would_block() => return None,
            Err(_) => return Some(Err(ErrandError::Ended)),
        };
        let decoded = codec::decode(&buffer[..received.len], received.descriptors);
        Some(decoded.map(|(answer, mut descriptors)| (answer, descriptors.pop())).map_err(ErrandError::Answer))
    }

    /// Ends its process, if it has not ended.
    pub(crate) fn kill(&self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.pid).filter(|_| !self.reaped) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}

impl AsFd for Errand {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.answer.as_fd()
    }
}

/// In the child: dies with the spawner, and keeps no descriptor of it but 0 to 2 and `answer`.
fn become_errand(answer: &OwnedFd, spawner: rustix::process::Pid) -> io::Result<OwnedFd> {
    const MOUTH: RawFd = 3;
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if rustix::process::getppid() != Some(spawner) {
        return Err(io::ErrorKind::NotFound.into());
    }
    // SAFETY: the descriptors closed here belong to values of the parent's that this process never uses or drops
    // again; `MOUTH` is owned by the value that is returned, and by nothing else in this process.
    unsafe {
        if answer.as_raw_fd() != MOUTH && libc::dup3(answer.as_raw_fd(), MOUTH, libc::O_CLOEXEC) == -1 {
            return Err(io::Error::last_os_error());
        }
        if libc::close_range(MOUTH as u32 + 1, u32::MAX, 0) == -1 {
            return Err(io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(MOUTH))
    }
}

fn say(mouth: OwnedFd, answer: &Answer, descriptor: Option<OwnedFd>) -> io::Result<()> {
    let bytes = codec::encode(answer).map_err(io::Error::other)?;
    let descriptors: Vec<_> = descriptor.iter().map(AsFd::as_fd).collect();
    Ok(packet::send(mouth, &bytes, &descriptors, SendFlags::empty())?)
}
