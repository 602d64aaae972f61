//! What `hatchery status --json` prints: keys stay, values and keys may be added.

use crate::post_mortem::{OpenSession, PostMortem};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the pool-server.
    pub version: String,
    pub max: u32,
    /// Every worker process, whatever its state.
    pub count: u32,
    /// Workers with at least one session.
    pub active: u32,
    /// `get`s that no worker can serve yet.
    pub waiting: u32,
    /// How long the pool's core has run.
    pub uptime_s: f64,
    pub apps: Vec<AppStatus>,
    /// In the order of the configuration.
    pub tenants: Vec<TenantStatus>,
    /// Workers that did not leave in peace, the latest first; a bounded number.
    pub post_mortems: Vec<PostMortem>,
}

/// A restart that is under way, or failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RestartStatus {
    /// `rolling` or `failed`.
    pub state: String,
    pub generation: u64,
    /// Why it failed: the report, as text.
    pub report: Option<String>,
}

/// Why an app is disabled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DisabledStatus {
    pub why: String,
    /// When the next `get` may try again; `None`: once the operator enables it.
    pub retry_in_s: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AppStatus {
    pub root: String,
    /// The last part of the root, lengthened until unique.
    pub name: String,
    pub tenant: Option<String>,
    /// `running`, `idle`, `starting`, `stopped` or `disabled`.
    pub state: String,
    /// What keeps it from growing though somebody waits, such as `pool_full`.
    pub limit: Option<String>,
    /// `None` unless `state` is `disabled`.
    pub disabled: Option<DisabledStatus>,
    pub generation: u64,
    /// What became of the last restart, while there is something to say of it.
    pub restart: Option<RestartStatus>,
    pub waiting: u32,
    /// How long its oldest waiter has waited.
    pub oldest_wait_s: Option<f64>,
    /// Sessions so far.
    pub served: u64,
    /// Resident memory of its workers and preloaders.
    pub memory_bytes: u64,
    /// Processor time of its workers and preloaders, those that are gone included.
    pub cpu_s: f64,
    /// The last failed start since its last session that ended in peace.
    pub failure: Option<FailureStatus>,
    pub workers: Vec<WorkerStatus>,
    /// Processes that have the app loaded, for workers to fork from. They do not count.
    pub preloaders: Vec<PreloaderStatus>,
}

/// A failed start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FailureStatus {
    /// Seconds since 1970, UTC.
    pub at: f64,
    /// One sentence.
    pub problem: String,
    /// What to do.
    pub remedy: String,
    /// The whole report as text, with the last of its output.
    pub report: String,
}

/// What the apps of a tenant have in common.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TenantStatus {
    pub name: String,
    /// Worker processes at most; `None`: no limit of its own.
    pub max: Option<u32>,
    /// Bytes; `None`: no limit of its own.
    pub max_memory: Option<u64>,
    /// How many apps belong to it.
    pub apps: u32,
    /// Worker processes, whatever their state.
    pub count: u32,
    /// Workers with at least one session.
    pub active: u32,
    pub waiting: u32,
    /// Resident memory of its workers.
    pub memory_bytes: u64,
    pub served: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreloaderStatus {
    pub id: u64,
    /// 0 while it has no process yet.
    pub pid: i32,
    /// `starting`, `ready` or `stopping`.
    pub state: String,
    pub generation: u64,
    /// Workers forked from it so far.
    pub forks: u64,
    /// Resident memory of its process; `None` where it can't be read.
    pub memory_bytes: Option<u64>,
    pub uptime_s: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorkerStatus {
    pub id: u64,
    /// 0 while it has no process yet.
    pub pid: i32,
    /// `starting`, `ready`, `busy`, `draining` or `stopping`.
    pub state: String,
    pub generation: u64,
    /// Open sessions.
    pub sessions: u32,
    /// What front ends said of those sessions, where they did.
    pub doing: Vec<String>,
    /// Each of those sessions, with the number by which it can be ended.
    pub open: Vec<OpenSession>,
    /// Sessions so far.
    pub served: u64,
    /// Resident memory of its process; `None` where it can't be read.
    pub memory_bytes: Option<u64>,
    /// Processor time of its process and what it has waited for; `None` where it can't be read.
    pub cpu_s: Option<f64>,
    pub uptime_s: f64,
    /// How long it has had no session; `None` while it has one or is not ready.
    pub idle_s: Option<f64>,
}

/// A session, as `sessions` lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// What `end` takes.
    pub id: u64,
    /// The app's name.
    pub app: String,
    pub root: String,
    pub worker: u64,
    /// The worker's process.
    pub pid: i32,
    /// The channel of the front end that has it.
    pub client: u64,
    /// The front end's process; `None`: it is gone, or not known.
    pub client_pid: Option<i32>,
    pub age_s: f64,
    /// Its client has abandoned it, and the worker still computes.
    pub abandoned: bool,
    /// What the front end said of it, such as the request line.
    pub doing: Option<String>,
}

/// A line that an app printed, as `logs` lists it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OutputLine {
    /// Counts upwards for each app; a gap is what was lost.
    pub number: u64,
    /// When it was read: seconds since 1970, UTC.
    pub at: f64,
    pub pid: i32,
    /// `stdout` or `stderr`.
    pub stream: String,
    pub line: String,
}
