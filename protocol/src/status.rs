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
    pub apps: Vec<AppStatus>,
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
    /// Sessions so far.
    pub served: u64,
    pub workers: Vec<WorkerStatus>,
    /// Processes that have the app loaded, for workers to fork from. They do not count.
    pub preloaders: Vec<PreloaderStatus>,
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
    pub uptime_s: f64,
    /// How long it has had no session; `None` while it has one or is not ready.
    pub idle_s: Option<f64>,
}
