//! Orders the pool gives, each with its reason. The shell carries them out in order; what fails becomes an event.

use crate::event::{Exit, RestartMode};
use crate::ids::{AppId, ClientId, ConnectionId, Generation, ReportId, Request, SessionId, WorkerId};
use crate::time::Time;
use std::time::Duration;

/// What to do. Named in the imperative.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Look into an app's root. Answered by `Inspected` or `InspectFailed`, always: how long a look may take
    /// is for the one who looks to say.
    Inspect { app: AppId, generation: Generation },
    /// Start a worker. Answered by `Ready` or `SpawnFailed`; once it has a process, `Exited` always comes.
    /// An `Exited` that answers it alone is a crash nobody can explain: another start follows while somebody
    /// waits.
    Spawn {
        app: AppId,
        worker: WorkerId,
        generation: Generation,
        /// Fork it from this preloader, which is of the same app and generation, and ready; `None`: by its program.
        /// A fork that comes to nothing may be told by `ForkFailed` instead.
        from: Option<WorkerId>,
    },
    /// Give a session to the client that asked. For `Path::Fresh`, connect first, and tell `ConnectFailed`
    /// before anything else if that fails; the question is then still open, and that connection never was:
    /// it is neither revoked nor released. The same session can be granted again, to a `Reconnected`.
    Grant { request: Request, session: SessionId, worker: WorkerId, connection: ConnectionId, path: Path },
    /// Answer an `Asked` with a refusal.
    Refuse { request: Request, refusal: Refusal },
    /// Answer any other question.
    Answer { request: Request, answer: Answer },
    /// End a connection for every holder in every process, and tell the client if a session of its was on
    /// it or it was parked there.
    Revoke { connection: ConnectionId, client: ClientId, session: SessionId, why: EndReason },
    /// The client itself is done with a connection: end it for whoever else may hold a copy.
    Release { connection: ConnectionId },
    /// An abandoned session: half-close, discard until the worker's end of file, then tell `Lingered`.
    Linger { connection: ConnectionId },
    /// Take no new sessions to this worker any more. For the log and the operator.
    Drain { worker: WorkerId, why: StopReason },
    /// Ask a worker's tree to leave (TERM); it may be one that is still starting. The pool keeps the time.
    Stop { worker: WorkerId, why: StopReason },
    /// End a worker's tree (KILL). After `StartTimedOut` a `SpawnFailed` with what it said is awaited, before
    /// its `Exited`.
    Kill { worker: WorkerId, why: StopReason },
    /// Make the worker's runtime dump its stacks before it is killed.
    Dump { worker: WorkerId },
    /// Ask a worker whether it lives, over a connection of its own. Answered by `Pinged`, unless `EndPing` comes
    /// first.
    Ping { worker: WorkerId },
    /// Drop the connection of a ping: its answer came too late, or its worker leaves.
    EndPing { worker: WorkerId },
    /// Measure a worker's resident memory, as cheaply as can be. Answered by `Sampled`, or not at all.
    Sample { worker: WorkerId },
    /// Look at a worker closely: memory of its tree, state, where it waits. Answered by `Examined`; who waits for
    /// that does not wait for ever.
    Examine { worker: WorkerId },
    /// A worker is gone, or could not be started, and not in peace: keep what is known of it.
    Record(Box<Passing>),
    /// Start a process that loads an app once, for workers to fork from. Answered by `Preloaded` or `SpawnFailed`;
    /// once it has a process, `Exited` always comes.
    Preload { app: AppId, preloader: WorkerId, generation: Generation },
    /// Ask a preloader to leave (TERM). The pool keeps the time.
    DropPreloader { preloader: WorkerId, why: DropReason },
    /// End a preloader (KILL). After `StartTimedOut` a `SpawnFailed` with what it said is awaited, else its `Exited`.
    KillPreloader { preloader: WorkerId, why: DropReason },
    /// A step of an exchange of versions. Answered by `SwapDone`, always.
    Swap { app: AppId, step: SwapStep },
    /// Nothing is left of an app that was registered by a `get`: what the shell remembers of it can go.
    Forget { app: AppId, root: Vec<u8> },
    /// Nothing of a generation is started any more: what was found out about it can go.
    ForgetPlan { app: AppId, generation: Generation },
    /// Something worth a line in the log.
    Notice(Notice),
    /// The pool has ended: no worker is left.
    Ended,
}

/// A step of an exchange of an app's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SwapStep {
    /// The staged update becomes the app's.
    Take,
    /// The backup does.
    Back,
    /// What was exchanged stays: the version before becomes the backup.
    Keep,
    /// It changes back.
    Undo,
}

/// Whether a granted session needs a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Connect to the worker and send the socket.
    Fresh,
    /// The client holds the connection already: it parked it.
    Parked,
}

/// Why a `get` is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    SpawnFailed(ReportId),
    QueueFull { limit: u32, scope: Scope },
    Disabled { until: Option<Time>, why: Disabling },
    Stopped,
    Overloaded,
    ShuttingDown,
    TimedOut { waited: Duration },
    NotAllowed(Beyond),
    Invalid(Invalid),
}

/// Why an app is disabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disabling {
    Operator(String),
    /// The breaker: so many failures within its window, without a session that ended in peace between them.
    Failures {
        count: u32,
        last: Failure,
    },
}

/// What the breaker counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// An app root couldn't be inspected, or a worker not be started.
    Start(ReportId),
    /// A worker ended by itself.
    Crash(Exit),
    /// A ready worker does not answer at its socket.
    Refused,
}

/// The end of a worker that did not leave in peace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passing {
    pub app: AppId,
    pub worker: WorkerId,
    pub generation: Generation,
    /// What it was told to leave for; `None`: it was told nothing.
    pub why: Option<StopReason>,
    /// It had to be killed.
    pub killed: bool,
    /// `None`: it never had a process.
    pub exit: Option<Exit>,
    /// The report of its failed start.
    pub report: Option<ReportId>,
    pub age: Duration,
    pub served: u64,
    /// Sessions it had when it was given up, or when it died, with their ages.
    pub sessions: Vec<(SessionId, ClientId, Duration)>,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    App,
    Pool,
}

/// What a client asked for that only the operator can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// The root is neither registered nor under `apps_under`.
    Root,
    /// A setting that is the operator's alone; its name.
    Operators(&'static str),
    /// A larger limit than the operator's; the name of the setting.
    Limit(&'static str),
}

/// What makes a question meaningless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalid {
    /// The app was removed while the client waited.
    Removed,
    /// A question with this number is open already.
    DuplicateRequest,
    /// No app with this root, or no such worker or session.
    Unknown,
    /// This session is not the client's.
    NotYours,
    /// Another update of the app is not over.
    UpdateUnderWay,
}

/// The answer to any question but `Asked`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Done,
    Refused(Refusal),
}

/// Why a connection is ended by the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// The worker's process is gone.
    WorkerGone(Exit),
    /// The client is gone.
    ClientGone,
    /// The parked connection's slot is needed for somebody else, or it was parked long enough, or the worker leaves.
    LeaseEnded,
    /// The worker had its drain time.
    DrainTimedOut,
    /// The abandoned session's worker never finished within `linger`.
    LingerTimedOut,
    /// The session had its time (`max_request_time`).
    RequestTimedOut,
    /// A kill restart.
    Restarted,
    /// The operator ended it.
    Operator,
    /// The answer to the question crossed its `Cancel`.
    Cancelled,
    /// The pool is ending.
    PoolEnding,
}

/// Why a worker leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopReason {
    /// Idle past `max_idle`.
    Idle,
    /// Idle, and its place is needed by another app.
    Evicted,
    /// Busy, and its place is needed by an app that has waited longer than is fair.
    Fairness,
    /// A limit was lowered.
    Surplus,
    /// `clear`.
    Cleared,
    /// Starting, and nobody waits for it any more while another app needs the place.
    StartUnneeded,
    /// Not ready within `start_timeout`.
    StartTimedOut,
    /// It said that it could not start, while its process still runs.
    SpawnFailed,
    /// It does not answer at its socket.
    ConnectRefused,
    /// A client abandoned a session that it never finished.
    LingerTimedOut,
    /// It did not leave within its stop time after TERM.
    StopTimedOut,
    MaxRequests,
    MaxLifetime,
    MaxMemory,
    /// The workers of its tenant use more memory than they may in common.
    TenantMemory,
    RequestTimedOut,
    /// The operator ended a session of it, and it may still compute for that.
    SessionEnded,
    PingFailed,
    /// It is starting, and the breaker opened.
    BreakerOpened,
    OldGeneration,
    Retired,
    AppStopped,
    AppRemoved,
    PoolEnding,
}

/// Why workers of an app are not forked, though they could be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotPreloaded {
    /// Its loader says so.
    Unfit,
    /// Forks came to nothing, of one preloader and of the next.
    ForksFail,
}

/// Why a preloader leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// No worker was forked from it for `max_preloader_idle`.
    Unused,
    /// Its place is needed by another app.
    Evicted,
    /// Its app is another generation now.
    OldGeneration,
    /// It did not load its app within `start_timeout`.
    StartTimedOut,
    /// Its app must not be forked.
    Unfit,
    /// It does not fork as it should.
    Useless,
    /// Its app was stopped, removed, or disabled by the breaker.
    AppStopped,
    /// It did not leave within its stop time after TERM.
    StopTimedOut,
    PoolEnding,
}

/// What keeps an app from growing, though somebody waits. `None` of these: it may start one now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// `max` workers, none of them evictable.
    PoolFull,
    /// `max_per_app` workers of this app.
    AppFull,
    /// As many workers of its tenant's apps as it may have, none of them evictable.
    TenantFull,
    /// The workers of its tenant use as much memory as they may in common.
    TenantMemory,
    /// `max_starting` workers are starting.
    TooManyStarting,
    /// Its root is being looked into.
    Inspecting,
    /// As many slots are starting as it has waiters.
    EnoughStarting,
    /// Room is kept for an app that has waited longer.
    Reserved,
    /// Switched off by the operator or the breaker.
    Disabled,
    /// The breaker lets one start at a time be tried.
    Trying,
    Stopped,
    /// A restart is under way, and its first worker not ready.
    Rolling,
    /// A staged update is being swapped in.
    Swapping,
    Ending,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    Registered {
        app: AppId,
    },
    Forgotten {
        app: AppId,
    },
    /// The operator registered an app, or said its settings anew.
    Added {
        app: AppId,
    },
    Removed {
        app: AppId,
    },
    Stopped {
        app: AppId,
    },
    Started {
        app: AppId,
    },
    /// By the operator.
    Disabled {
        app: AppId,
        why: String,
    },
    Enabled {
        app: AppId,
    },
    TenantChanged {
        app: AppId,
        tenant: Option<String>,
    },
    /// The pool ended a session that its client had not.
    SessionEnded {
        app: AppId,
        worker: WorkerId,
        session: SessionId,
        why: EndReason,
    },
    /// Later options of a `get` differ from those the app was registered with, and are ignored (said once).
    OptionsIgnored {
        app: AppId,
    },
    WorkerReady {
        worker: WorkerId,
        after: Duration,
    },
    WorkerGone {
        worker: WorkerId,
        exit: Exit,
        why: Option<StopReason>,
    },
    SpawnFailed {
        app: AppId,
        worker: Option<WorkerId>,
        report: ReportId,
    },
    /// The workers kept at least are as many as the pool's limit, or more. Said once, until it holds no longer.
    MinAboveMax {
        apps: Vec<AppId>,
        min_total: u32,
        max: u32,
    },
    /// The operator registered more apps than can have a worker at the same time.
    MoreAppsThanMax {
        apps: Vec<AppId>,
        max: u32,
    },
    /// An app is disabled until then, when the next `get` tries again.
    BreakerOpened {
        app: AppId,
        until: Time,
        why: Disabling,
    },
    /// A session of an app that was disabled ended in peace.
    BreakerClosed {
        app: AppId,
    },
    /// The next generation of an app begins.
    Restarting {
        app: AppId,
        generation: Generation,
        mode: RestartMode,
    },
    /// No worker of an older generation takes a session any more.
    Restarted {
        app: AppId,
        generation: Generation,
    },
    /// The new generation can't be started; the old one serves on, if it did.
    RestartFailed {
        app: AppId,
        generation: Generation,
        report: ReportId,
    },
    /// A staged update can't be taken; nothing has changed.
    UpdateRefused {
        app: AppId,
        report: ReportId,
    },
    /// A staged update is the app's for good.
    Updated {
        app: AppId,
    },
    /// A staged update did not start, and the version before is the app's again.
    UpdateUndone {
        app: AppId,
    },
    /// The last step of an exchange did not succeed: somebody has to look at the folders.
    SwapFailed {
        app: AppId,
        report: ReportId,
    },
    /// A worker is to be replaced.
    Recycling {
        worker: WorkerId,
        why: StopReason,
    },
    /// A worker that was to replace another could not be started; the other goes on, and the next try is not
    /// before then.
    RecyclingPaused {
        app: AppId,
        until: Time,
    },
    /// A worker did not answer a ping.
    PingMissed {
        worker: WorkerId,
        in_a_row: u32,
    },
    /// The retry of `min` workers waits after a failed start.
    MinPaused {
        app: AppId,
    },
    /// A preloader has loaded its app.
    PreloaderReady {
        preloader: WorkerId,
        after: Duration,
    },
    PreloaderGone {
        preloader: WorkerId,
        exit: Exit,
        why: Option<DropReason>,
    },
    /// Workers of this generation are started by their program from now on. Said once.
    NotPreloaded {
        app: AppId,
        generation: Generation,
        why: NotPreloaded,
    },
}
