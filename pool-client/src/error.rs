//! One error per operation, each with a sentence for whoever reads it.

use crate::machine::Gone;
use hatchery_protocol::codec::DecodeError;
use hatchery_protocol::memfd::PayloadError;
use hatchery_protocol::refusal::Refusal;
use hatchery_protocol::report::SpawnReport;
use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why no pool could be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration can't be meant.
    #[error("{0}")]
    Invalid(String),
    /// No executable was found at any of these places.
    #[error(
        "no pool-server was found; tried {}; name one with Builder::pool_server or HATCHERY_POOL_SERVER",
        list(.tried)
    )]
    NotFound {
        /// The places, in order.
        tried: Vec<PathBuf>,
    },
    /// The executable could not be run.
    #[error("{} can't be run: {source}", .executable.display())]
    Spawn {
        /// The executable.
        executable: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The pool itself says why it could not start.
    #[error("the pool could not start: {0}")]
    Failed(String),
    /// It ended without an answer.
    #[error("{} ended without an answer{}; its standard error may say why", .executable.display(), ended_with(.status))]
    Died {
        /// The executable.
        executable: PathBuf,
        /// How its first process ended, if this process was told.
        status: Option<ExitStatus>,
    },
    /// It did not answer in time.
    #[error("{} did not answer within {} s; is it a pool-server of this version?", .executable.display(), .after.as_secs())]
    TimedOut {
        /// The executable.
        executable: PathBuf,
        /// How long it had.
        after: Duration,
    },
    /// It answered something that is no answer.
    #[error("{} answered with {source}", .executable.display())]
    Protocol {
        /// The executable.
        executable: PathBuf,
        /// What is wrong with the answer.
        source: DecodeError,
    },
    /// This process lacks descriptors or memory.
    #[error("the pool could not be started: {0}")]
    Io(#[from] io::Error),
    /// In a forked child, which may only connect.
    #[error("this pool was started by another process, which alone can restart it")]
    Forked,
    /// This process has become another user since it started the pool.
    #[error(
        "no new pool can be started: this process was user {started_as} when it started the first, and has dropped \
         its privileges since (now user {now}); end it, and let the service manager start it again"
    )]
    PrivilegesDropped {
        /// The user who started the pool.
        started_as: u32,
        /// The user that this process is now.
        now: u32,
    },
}

fn list(places: &[PathBuf]) -> String {
    let mut text = String::new();
    for (nth, place) in places.iter().enumerate() {
        let comma = if nth == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{}", place.display());
    }
    text
}

fn ended_with(status: &Option<ExitStatus>) -> String {
    status.map_or_else(String::new, |status| format!(" ({status})"))
}

impl From<PayloadError> for StartError {
    fn from(error: PayloadError) -> Self {
        match error {
            PayloadError::Io(error) => Self::Io(error),
            other => Self::Invalid(format!("the configuration can't be passed on: {other}")),
        }
    }
}

impl StartError {
    /// Whether the same again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Io(_) | Self::TimedOut { .. })
    }
}

/// Why there is no channel to the pool.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The pool has ended.
    #[error("the pool is gone: {0}")]
    PoolGone(String),
    /// The pool takes no client; its own words.
    #[error("the pool refused the connection: {0}")]
    Refused(String),
    /// Pool and client are of different versions.
    #[error(
        "the pool is version {pool_version} ({pool_executable}) and speaks wire version {pool_wire}; this program's \
         client is version {client_version} ({client_executable}) and speaks {client_wire}: use executables of one version"
    )]
    Version {
        /// Of the pool.
        pool_version: String,
        /// Its path.
        pool_executable: String,
        /// Its wire version.
        pool_wire: u16,
        /// Of this crate.
        client_version: String,
        /// This program's path.
        client_executable: String,
        /// The wire version of this crate.
        client_wire: u16,
    },
    /// The pool did not answer in time.
    #[error("the pool did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The pool answered something that is no answer.
    #[error("the pool answered with {0}")]
    Protocol(DecodeError),
    /// This process lacks descriptors or memory, or its runtime is ending.
    #[error("no connection to the pool could be made: {0}")]
    Io(#[from] io::Error),
}

impl ConnectError {
    /// Whether the same again may succeed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::TimedOut(_) | Self::Io(_))
    }
}

impl From<ConnectError> for Gone {
    fn from(error: ConnectError) -> Self {
        let why = match error {
            ConnectError::PoolGone(why) => why,
            other => other.to_string(),
        };
        Self { why }
    }
}

/// Why there is no session. Nothing was sent to the application in any case.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GetError {
    /// The application could not be started: what was tried, what went wrong, what it printed.
    #[error("the application could not be started: {}", .0.problem)]
    SpawnFailed(Box<SpawnReport>),
    /// The pool's reason.
    #[error(transparent)]
    Refused(Refusal),
    /// The pool has ended, or ended the channel.
    #[error("the pool is gone: {0}")]
    PoolGone(String),
    /// The root or the options can't be meant.
    #[error("{0}")]
    Invalid(String),
    /// The handle was made by another process. A forked child makes its own with [`PoolServer::connect`].
    ///
    /// [`PoolServer::connect`]: crate::PoolServer::connect
    #[error("this handle belongs to another process; after a fork, connect anew")]
    Forked,
    /// This process had no descriptor left for the answer.
    #[error("this process is out of descriptors; raise its limit of open files, or lower its load")]
    OutOfDescriptors,
    /// The session's socket can't be used here.
    #[error("the session's socket can't be used: {0}")]
    Io(#[from] io::Error),
}

impl GetError {
    /// Whether the same again, later, may succeed without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused(refusal) => match refusal {
                Refusal::QueueFull { .. } | Refusal::Overloaded | Refusal::TimedOut { .. } => true,
                Refusal::Disabled { retry_after, .. } => retry_after.is_some(),
                _ => false,
            },
            Self::OutOfDescriptors => true,
            _ => false,
        }
    }

    /// The status a web server should answer with.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        match self {
            Self::SpawnFailed(_) => 502,
            Self::Refused(refusal) => refusal.http_status(),
            Self::PoolGone(_) | Self::OutOfDescriptors => 503,
            Self::Invalid(_) | Self::Forked | Self::Io(_) => 500,
        }
    }

    /// When to try again, if the pool said so.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => refusal.retry_after(),
            _ => None,
        }
    }
}

impl From<Gone> for GetError {
    fn from(gone: Gone) -> Self {
        Self::PoolGone(gone.why)
    }
}

/// Why the pool did not do what it was asked, or gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The pool's reason.
    #[error(transparent)]
    Refused(Refusal),
    /// The next generation could not be started: what was tried, what went wrong, what it printed. The present one
    /// serves on.
    #[error("the application could not be started: {}", .0.problem)]
    SpawnFailed(Box<SpawnReport>),
    /// What was asked can't be meant.
    #[error("{0}")]
    Invalid(String),
    /// The pool has ended, or ended the channel.
    #[error("the pool is gone: {0}")]
    PoolGone(String),
    /// The handle was made by another process.
    #[error("this handle belongs to another process; after a fork, connect anew")]
    Forked,
    /// This process had no descriptor left for the answer.
    #[error("this process is out of descriptors; raise its limit of open files, or lower its load")]
    OutOfDescriptors,
    /// The answer can't be read.
    #[error("the pool's answer can't be read: {0}")]
    Unreadable(String),
}

impl CallError {
    /// Whether the same again, later, may succeed without anybody changing anything.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::OutOfDescriptors | Self::Refused(Refusal::Overloaded))
    }
}

impl From<Gone> for CallError {
    fn from(gone: Gone) -> Self {
        Self::PoolGone(gone.why)
    }
}

/// Why a session could not be closed as asked. That the pool, or the worker, has gone meanwhile is no error: the
/// session is over then, as was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The session belongs to another process, and goes on there.
    #[error("this session belongs to another process")]
    Forked,
}

impl CloseError {
    /// Whether the same again may succeed: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}

/// Why a pool did not go as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ShutdownError {
    /// It had to be killed; it is gone.
    #[error("the pool did not go within {:.1} s and was killed", .grace.as_secs_f64())]
    Killed {
        /// How long it had.
        grace: Duration,
    },
    /// It is still there: this process may not kill it.
    #[error("the pool (process {pid}) did not go within {:.1} s, and can't be killed: {source}", .grace.as_secs_f64())]
    StillThere {
        /// The keeper's process.
        pid: i32,
        /// How long it had.
        grace: Duration,
        /// What the system says.
        source: io::Error,
    },
    /// In a forked child, which may only connect. Its copy of the door is closed.
    #[error("this pool was started by another process, which alone can shut it down")]
    Forked,
}

impl ShutdownError {
    /// Whether the same again may succeed: never.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }
}
