//! Front end ↔ core, on a channel per client.

use crate::codec::Message;
use crate::options::AppOptions;
use crate::refusal::Refusal;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A client's own number for a question, unique among its open ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A session, as the pool names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

/// A connection that can carry one session after another: what a parked one is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u64);

/// Client → pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToPool {
    /// Answered by `Session` or `Refused`.
    Get {
        request: RequestId,
        /// Absolute and lexically normalised; bytes, not text.
        app_root: Vec<u8>,
        options: Box<AppOptions>,
        /// A sticky worker to prefer.
        key: Option<String>,
        /// What the session is for, such as the request line: what a `Label` may say later, from the beginning.
        label: Option<String>,
    },
    /// The answer to `Get` is no longer wanted. Not answered; a `Session` that crosses it is closed by the client.
    Cancel {
        request: RequestId,
    },
    /// A session ended, or (`Finished`, after it was `Kept`) its parked connection was closed. Not answered.
    Close {
        session: SessionId,
        how: How,
    },
    /// The parked connection was dead: the same session again, with a fresh socket.
    Reconnect {
        request: RequestId,
        session: SessionId,
    },
    /// What the session is doing, for the operator. Not answered.
    Label {
        session: SessionId,
        text: String,
    },
    /// Answered by `Done` or `Refused`.
    Clear {
        request: RequestId,
    },
    SetMax {
        request: RequestId,
        max: u32,
    },
    /// 0: no limit.
    SetMaxPerApp {
        request: RequestId,
        max_per_app: u32,
    },
    /// Zero: never.
    SetMaxIdleTime {
        request: RequestId,
        max_idle: Duration,
    },
    /// Answered by `Figure`: workers with at least one session.
    GetActive {
        request: RequestId,
    },
    /// Answered by `Figure`: every worker process.
    GetCount {
        request: RequestId,
    },
    /// Answered by `Figure`: the spawner's process id.
    GetSpawnServerPid {
        request: RequestId,
    },
    /// Answered by `Status`.
    Status {
        request: RequestId,
    },
    /// Begin the next generation of an app. Answered once it serves, or has failed.
    Restart {
        request: RequestId,
        root: Vec<u8>,
        mode: RestartMode,
    },
    /// Register an app, or change the options of one that is.
    Add {
        request: RequestId,
        root: Vec<u8>,
        options: Box<AppOptions>,
    },
    Remove {
        request: RequestId,
        root: Vec<u8>,
    },
    /// Its workers drain, and it is refused until it is started.
    Stop {
        request: RequestId,
        root: Vec<u8>,
    },
    Start {
        request: RequestId,
        root: Vec<u8>,
    },
    /// New sessions are refused, for this reason; workers stay.
    Disable {
        request: RequestId,
        root: Vec<u8>,
        why: String,
    },
    /// Serve it again, whatever failed before.
    Enable {
        request: RequestId,
        root: Vec<u8>,
    },
    /// A session of any client's is ended at once.
    EndSession {
        request: RequestId,
        session: SessionId,
    },
    /// The worker with this process id is replaced, drained and ended.
    Retire {
        request: RequestId,
        pid: i32,
    },
    /// The pool's configuration is read again where it came from.
    Reload {
        request: RequestId,
    },
    /// A connection that speaks the line protocol of the admin socket, with all rights. Answered by `Operator`.
    Operate {
        request: RequestId,
    },
}

/// How old workers leave at a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartMode {
    /// New first, then the old drain.
    Graceful,
    /// Old workers and their sessions end at once.
    Kill,
}

impl Message for ToPool {
    fn descriptors(&self) -> usize {
        0
    }
}

/// How a client ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum How {
    /// The exchange is complete; connection and slot stay with the client for its next session.
    Kept,
    /// The exchange is complete; the connection is closed.
    Finished,
    /// The exchange is not complete: the worker may still compute.
    Abandoned,
}

/// Pool → client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToClient {
    /// With a connected, non-blocking socket if `fresh`; else the client holds it parked under `lease`.
    Session {
        request: RequestId,
        session: SessionId,
        lease: LeaseId,
        fresh: bool,
        /// The worker's process.
        pid: i32,
        protocol: SessionProtocol,
        transport: Transport,
        /// What to ask for, if that is not told by the address of a request alone.
        documents: Option<Box<Documents>>,
    },
    /// With a sealed memfd that holds a [`SpawnReport`](crate::report::SpawnReport) if that is the reason.
    Refused {
        request: RequestId,
        refusal: Refusal,
    },
    Done {
        request: RequestId,
    },
    Figure {
        request: RequestId,
        figure: u64,
    },
    /// With a sealed memfd that holds a [`Status`](crate::status::Status).
    Status {
        request: RequestId,
    },
    /// With one end of a connected stream socket.
    Operator {
        request: RequestId,
    },
    /// The pool ended a session or a parked connection. Unasked.
    Ended {
        session: SessionId,
        lease: LeaseId,
        why: Ended,
    },
    /// The pool ends this channel. Unasked.
    Goodbye {
        why: String,
    },
}

impl Message for ToClient {
    fn descriptors(&self) -> usize {
        match self {
            Self::Session { fresh, .. } => usize::from(*fresh),
            Self::Refused { refusal: Refusal::SpawnFailed, .. } | Self::Status { .. } | Self::Operator { .. } => 1,
            Self::Refused { .. }
            | Self::Done { .. }
            | Self::Figure { .. }
            | Self::Ended { .. }
            | Self::Goodbye { .. } => 0,
        }
    }
}

/// What a worker speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum SessionProtocol {
    /// HTTP/1.1.
    Http,
    /// FastCGI.
    Fastcgi,
    /// A block of CGI variables in, HTTP/1.1 out, connection kept: our own loaders.
    Session,
}

/// What a front end asks a FastCGI worker for: files, seen from the worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Documents {
    /// The folder that addresses are looked for in: an absolute path.
    pub root: Vec<u8>,
    /// The script of every address that names no other one, relative to `root`, such as `index.php`; `None`: the
    /// program answers whatever it is asked for.
    pub index: Option<Vec<u8>>,
}

/// What kind of socket a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Transport {
    Unix,
    Tcp,
}

/// Why the pool ended a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Ended {
    /// The worker's process is gone.
    WorkerGone,
    /// The parked connection was needed, or parked long enough.
    LeaseEnded,
    /// The worker had to leave and its open sessions had their time.
    DrainTimedOut,
    /// The session had its time.
    RequestTimedOut,
    /// A restart with `kill`.
    Restarted,
    /// The operator ended it.
    Operator,
    /// The pool is ending.
    PoolEnding,
}
