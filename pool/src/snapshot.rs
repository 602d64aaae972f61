//! What status and tests read.

use crate::effect::{Disabling, Gate, StopReason};
use crate::ids::{AppId, ClientId, ConnectionId, Generation, ReportId, SessionId, WorkerId};
use crate::settings::TenantSettings;
use crate::time::Time;
use std::time::Duration;

/// The whole pool at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub max: u32,
    /// Every worker process, whatever its state.
    pub count: u32,
    /// Workers with at least one session.
    pub active: u32,
    /// `get`s that no worker can serve yet.
    pub waiting: u32,
    /// In the order they were first seen.
    pub apps: Vec<AppSnapshot>,
    /// By name: those that the settings know.
    pub tenants: Vec<TenantSnapshot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSnapshot {
    pub name: String,
    pub limits: TenantSettings,
    /// How many apps it has.
    pub apps: u32,
    /// Every worker process, whatever its state.
    pub count: u32,
    /// Workers with at least one session.
    pub active: u32,
    pub waiting: u32,
    /// What its serving workers use, as last measured; measured only where that is limited.
    pub memory_bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSnapshot {
    pub id: AppId,
    pub root: Vec<u8>,
    pub state: AppState,
    /// Registered by the operator: never forgotten.
    pub registered: bool,
    pub tenant: Option<String>,
    /// What keeps it from growing though somebody waits; `None` when nobody waits or nothing does.
    pub limit: Option<Gate>,
    /// Why it is disabled, and until when.
    pub disabled: Option<(Disabling, Option<Time>)>,
    pub generation: Generation,
    /// What became of the last restart, while there is something to say of it.
    pub restart: Option<RestartState>,
    pub waiting: u32,
    /// When its oldest waiter came.
    pub oldest_waiter: Option<Time>,
    /// Sessions granted so far.
    pub served: u64,
    /// In the order they were started.
    pub workers: Vec<WorkerSnapshot>,
    /// In the order they were started. They do not count.
    pub preloaders: Vec<PreloaderSnapshot>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreloaderSnapshot {
    pub id: WorkerId,
    pub state: PreloaderState,
    pub generation: Generation,
    /// Workers forked from it so far.
    pub forks: u64,
    pub started: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreloaderState {
    /// It loads the app.
    Starting,
    Ready,
    Stopping,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartState {
    /// It is under way.
    Rolling(Generation),
    /// It failed; the generation before serves on.
    Failed(Generation, ReportId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppState {
    /// It has a worker that serves or drains.
    Running,
    /// It has no worker that serves or will; one may still be leaving.
    Idle,
    /// Its only workers are starting, or its root is being looked into.
    Starting,
    Stopped,
    Disabled,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSnapshot {
    pub id: WorkerId,
    pub state: WorkerState,
    pub generation: Generation,
    /// Open sessions, with those that are abandoned and still computing.
    pub sessions: Vec<SessionSnapshot>,
    /// Parked connections.
    pub leases: u32,
    /// Sessions granted so far.
    pub served: u64,
    pub started: Time,
    /// It has no process before this preloader has loaded the app.
    pub awaits: Option<WorkerId>,
    /// Why it is to be replaced, or leaves.
    pub why: Option<StopReason>,
    /// How long it has had no session; `None` while it has one or is not ready.
    pub idle: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerState {
    Starting,
    /// Ready without a session.
    Ready,
    Busy,
    Draining,
    Stopping,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSnapshot {
    pub id: SessionId,
    pub client: ClientId,
    pub connection: ConnectionId,
    pub since: Time,
    /// The client abandoned it; the slot stays taken until the worker is done.
    pub abandoned: bool,
}
