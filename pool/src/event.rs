//! Facts the pool is told. Every one is legal in every phase: what is stale is not found and changes nothing.

use crate::ids::{AppId, ClientId, ConnectionId, Generation, ReportId, Request, SessionId, WorkerId};
use crate::settings::{AppSettings, Plan, Settings, Wanted};
use std::num::NonZeroU32;
use std::time::Duration;

/// What happened. Named in the past tense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    // ── clients ──────────────────────────────────────────────────────────────────────────────────
    /// A client asked for a session. `root` is absolute and normalised (the shell refuses others).
    /// `key` is a sticky worker to prefer (from the front-end work on).
    Asked {
        request: Request,
        root: Vec<u8>,
        wanted: Wanted,
        key: Option<String>,
    },
    /// A client no longer wants the answer to its `Asked`.
    Cancelled {
        request: Request,
    },
    /// A client ended its session, or dropped its parked connection (`Finished` with the session's id
    /// after it was `Kept`).
    Closed {
        client: ClientId,
        session: SessionId,
        how: Close,
    },
    /// A client found its parked connection dead and wants a fresh one for the session it was just granted.
    /// Answered like an `Asked`: by a grant of the same session, or of another one if its worker proves to
    /// be dead too.
    Reconnected {
        request: Request,
        session: SessionId,
    },
    /// A client's channel is closed: all it had ends.
    ClientGone {
        client: ClientId,
    },

    // ── what became of effects ───────────────────────────────────────────────────────────────────
    /// An app root was inspected: it can be started.
    Inspected {
        app: AppId,
        generation: Generation,
        plan: Plan,
    },
    /// An app root can't be started as it is.
    InspectFailed {
        app: AppId,
        generation: Generation,
        report: ReportId,
    },
    /// A preloader has loaded its app: workers can be forked from it, if it is `fit` for that; else it leaves.
    Preloaded {
        preloader: WorkerId,
        fit: bool,
    },
    /// A worker that was to be forked was not: its preloader is gone, or does not do what it should. No process came
    /// of it, and nothing is said about the app.
    ForkFailed {
        worker: WorkerId,
    },
    /// A started worker answers.
    Ready {
        worker: WorkerId,
    },
    /// A worker, or a preloader, could not be started, or left before it was ready. `gone`: no process is left of it (else
    /// `Exited` follows).
    SpawnFailed {
        worker: WorkerId,
        report: ReportId,
        gone: bool,
    },
    /// A fresh connection for a granted session could not be made. Told at once, before any later event.
    ConnectFailed {
        session: SessionId,
        why: ConnectFailure,
    },
    /// The worker of an abandoned session closed its end: it computes for nobody no longer.
    Lingered {
        connection: ConnectionId,
    },
    /// The process of a worker or a preloader is gone and was reaped.
    Exited {
        worker: WorkerId,
        exit: Exit,
    },
    /// The resident memory of a worker: never less than what an examination finds.
    Sampled {
        worker: WorkerId,
        resident_bytes: u64,
    },
    /// A running worker was looked at closely. `memory_bytes`: of its whole process tree; `None` if it can't be
    /// read.
    Examined {
        worker: WorkerId,
        memory_bytes: Option<u64>,
    },
    /// A ping was answered, or surely won't be.
    Pinged {
        worker: WorkerId,
        alive: bool,
    },
    /// Something under an app's root changed and stayed quiet.
    FilesChanged {
        app: AppId,
    },
    /// A new version lies beside an app, complete, and shall take its place.
    Staged {
        request: Option<Request>,
        root: Vec<u8>,
    },
    /// The version before is wanted back.
    RolledBack {
        request: Option<Request>,
        root: Vec<u8>,
    },
    /// A step of an exchange was done, or not.
    SwapDone {
        app: AppId,
        report: Option<ReportId>,
    },

    // ── operator and clients with the right to ───────────────────────────────────────────────────
    /// Empty the pool: waiters are served by fresh workers, open sessions keep working.
    Clear {
        request: Option<Request>,
    },
    SetMax {
        request: Option<Request>,
        max: NonZeroU32,
    },
    /// The default per-app limit, and that of every app which set none of its own: one the operator registered
    /// with the default's value follows it.
    SetMaxPerApp {
        request: Option<Request>,
        max_per_app: Option<NonZeroU32>,
    },
    /// The default idle time, and that of every app which set none of its own, likewise.
    SetMaxIdleTime {
        request: Option<Request>,
        max_idle: Option<Duration>,
    },
    /// An app is registered by the operator; it stays until removed. Known already: its settings change.
    /// In a bounded pool what comes with a request keeps within what the operator gave at start, here and in
    /// the three orders before.
    Added {
        request: Option<Request>,
        root: Vec<u8>,
        settings: AppSettings,
    },
    Removed {
        request: Option<Request>,
        root: Vec<u8>,
    },
    Restart {
        request: Option<Request>,
        root: Vec<u8>,
        mode: RestartMode,
    },
    StopApp {
        request: Option<Request>,
        root: Vec<u8>,
    },
    StartApp {
        request: Option<Request>,
        root: Vec<u8>,
    },
    Disable {
        request: Option<Request>,
        root: Vec<u8>,
        why: String,
    },
    Enable {
        request: Option<Request>,
        root: Vec<u8>,
    },
    Retire {
        request: Option<Request>,
        worker: WorkerId,
    },
    EndSession {
        request: Option<Request>,
        session: SessionId,
    },
    Reloaded {
        settings: Box<Settings>,
    },
    /// Every app of the operator's configuration is added: what was said of it as a whole is judged.
    Configured,
    /// The door is closed and every client is gone, or the pool was told to go: no new sessions; workers
    /// drain for at most `grace` (none: nobody is left to read an answer) and leave.
    Ending {
        grace: Duration,
    },

    // ── time ─────────────────────────────────────────────────────────────────────────────────────
    /// `Pool::deadline` has come.
    Tick,
}

/// How a client ends a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The exchange is complete; the client keeps connection and slot for its next session (a lease).
    Kept,
    /// The exchange is complete; the connection is closed.
    Finished,
    /// The exchange is not complete: the worker may still compute.
    Abandoned,
}

/// Why no connection could be made to a worker that says it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectFailure {
    /// Nobody listens, or somebody else does: the worker is of no use.
    Refused,
    /// Its backlog is full: a busy worker, not a dead one.
    BacklogFull,
    /// This process is out of descriptors or memory: no worker's fault.
    Exhausted,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Status(i32),
    Signal(i32),
    /// The kernel killed it for want of memory.
    OutOfMemory,
}

impl Exit {
    /// Whether somebody else ended it: these signals a program does not get for what it did itself.
    pub(crate) fn is_from_outside(self) -> bool {
        const KILL: i32 = 9;
        self.is_asked_for() || matches!(self, Self::Signal(KILL))
    }

    /// Whether it ended of a signal that asks a program to leave.
    pub(crate) fn is_asked_for(self) -> bool {
        const HUP: i32 = 1;
        const INT: i32 = 2;
        const TERM: i32 = 15;
        matches!(self, Self::Signal(HUP | INT | TERM))
    }
}

/// How old workers leave at a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartMode {
    /// New first, then the old drain.
    Graceful,
    /// Old workers and their sessions end at once.
    Kill,
}
