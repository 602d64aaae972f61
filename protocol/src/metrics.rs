//! What a pool has counted since its core began: what `json metrics` on the admin socket answers. Counters only grow;
//! they begin anew with a new core, and an application's end with its registration.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Of the pool-server.
    pub version: String,
    /// When the core began: seconds since 1970, UTC.
    pub started_at: f64,
    /// Worker processes of all apps together, at most.
    pub max: u32,
    /// Upper ends of the histograms' buckets, in seconds; one more bucket is for all beyond.
    pub bounds_s: Vec<f64>,
    /// The pool's own processes.
    pub processes: Vec<ProcessMetrics>,
    pub apps: Vec<AppMetrics>,
    pub tenants: Vec<TenantMetrics>,
    /// Refused before any app was known: by reason.
    pub refused: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessMetrics {
    /// `keeper`, `core` or `spawner`.
    pub role: String,
    pub pid: i32,
    /// Resident; `None` where it can't be read.
    pub memory_bytes: Option<u64>,
    pub cpu_s: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AppMetrics {
    pub root: String,
    /// Unique among the pool's apps.
    pub name: String,
    pub tenant: Option<String>,
    // ── as it is now ──
    /// Processes by state: `starting`, `ready`, `busy`, `draining`, `stopping`. Each is there.
    pub workers: BTreeMap<String, u32>,
    /// Workers with at least one session.
    pub active: u32,
    /// Open sessions.
    pub sessions_open: u32,
    pub waiting: u32,
    /// Resident memory of its processes.
    pub memory_bytes: u64,
    /// Its state, as status has it.
    pub state: String,
    // ── since its registration ──
    /// Processor time of its workers and preloaders, those that are gone included.
    pub cpu_s: f64,
    /// Sessions granted.
    pub sessions: u64,
    /// Sessions that ended, by how: `done`, `abandoned`, or the pool's reason, such as `request_timed_out`.
    pub sessions_ended: BTreeMap<String, u64>,
    /// `get`s refused, by reason, such as `queue_full`.
    pub refused: BTreeMap<String, u64>,
    /// `get`s that were taken back by whoever asked.
    pub cancelled: u64,
    /// Processes ordered.
    pub spawns: u64,
    pub spawn_failures: u64,
    /// Worker processes that are gone, by why: the pool's reason, or `died`.
    pub exits: BTreeMap<String, u64>,
    /// Restarts that came to an end, by how: `done` or `failed`.
    pub restarts: BTreeMap<String, u64>,
    /// How often the breaker opened.
    pub breaker_opened: u64,
    /// From a `get` to its session.
    pub wait: Histogram,
    /// From the beginning of a session to its end.
    pub session: Histogram,
    /// From the order to a worker that answers.
    pub spawn: Histogram,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// In each bucket alone; one more than there are bounds. Empty: nothing was observed.
    pub counts: Vec<u64>,
    pub sum_s: f64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TenantMetrics {
    pub name: String,
    pub max: Option<u32>,
    pub max_memory: Option<u64>,
    pub apps: u32,
    pub workers: u32,
    pub active: u32,
    pub waiting: u32,
    pub memory_bytes: u64,
    pub cpu_s: f64,
    pub sessions: u64,
    pub refused: u64,
}
