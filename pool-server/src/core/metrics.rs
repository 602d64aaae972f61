//! What was counted, as `metrics` on the admin socket tells it: the pool's counters, with what `/proc` says.

use super::shell::State;
use super::status::{app_state, worker_state};
use super::words;
use super::workers::resident;
use crate::processor_time;
use hatchery_pool::{AppSnapshot, BOUNDS, Counters, TenantSnapshot, WorkerState};
use hatchery_protocol::metrics::{AppMetrics, Histogram, Metrics, ProcessMetrics, TenantMetrics};
use std::collections::BTreeMap;
use std::process;
use std::time::{Duration, SystemTime};

/// Each is told of every app, with 0 where there is none.
const STATES: [WorkerState; 5] =
    [WorkerState::Starting, WorkerState::Ready, WorkerState::Busy, WorkerState::Draining, WorkerState::Stopping];

pub(super) fn metrics(state: &State) -> Metrics {
    let now = state.now();
    let snapshot = state.pool.snapshot(now);
    let apps: Vec<AppMetrics> = snapshot.apps.iter().map(|app| of_app(state, app)).collect();
    let began = SystemTime::now().checked_sub(now.since_start()).unwrap_or(SystemTime::UNIX_EPOCH);
    let keeper = rustix::process::getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    let own = [("keeper", keeper), ("core", process::id().cast_signed()), ("spawner", state.spawner_pid)];
    Metrics {
        version: hatchery_protocol::VERSION.into(),
        started_at: began.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        max: snapshot.max,
        bounds_s: BOUNDS.iter().map(Duration::as_secs_f64).collect(),
        processes: own.map(|(role, pid)| of_process(role, pid)).into(),
        tenants: snapshot.tenants.iter().map(|tenant| of_tenant(tenant, &apps)).collect(),
        apps,
        refused: counted(state.pool.refused(), |kind| words::refusal(*kind)),
    }
}

fn of_process(role: &str, pid: i32) -> ProcessMetrics {
    let cpu_s = processor_time::own(pid).map(|time| time.as_secs_f64());
    ProcessMetrics { role: role.to_owned(), pid, memory_bytes: resident(pid), cpu_s }
}

fn of_app(state: &State, app: &AppSnapshot) -> AppMetrics {
    let mut workers: BTreeMap<String, u32> = STATES.map(|state| (worker_state(state).to_owned(), 0)).into();
    for worker in &app.workers {
        *workers.entry(worker_state(worker.state).to_owned()).or_default() += 1;
    }
    let open = |sessions: usize| u32::try_from(sessions).unwrap_or(u32::MAX);
    let (memory_bytes, cpu) = state.used(app);
    let unknown = Counters::default();
    let counters = state.pool.counters(app.id).unwrap_or(&unknown);
    let restarts = [("done", counters.restarts_done), ("failed", counters.restarts_failed)];
    AppMetrics {
        root: String::from_utf8_lossy(&app.root).into_owned(),
        name: state.options.name(&app.root),
        tenant: app.tenant.clone(),
        workers,
        active: open(app.workers.iter().filter(|worker| !worker.sessions.is_empty()).count()),
        sessions_open: open(app.workers.iter().map(|worker| worker.sessions.len()).sum()),
        waiting: app.waiting,
        memory_bytes,
        state: app_state(app.state).into(),
        cpu_s: cpu.as_secs_f64(),
        sessions: counters.sessions,
        sessions_ended: counted(&counters.sessions_ended, |end| words::session_end(*end)),
        refused: counted(&counters.refused, |kind| words::refusal(*kind)),
        cancelled: counters.cancelled,
        spawns: counters.spawns,
        spawn_failures: counters.spawn_failures,
        exits: counted(&counters.exits, |why| words::gone(*why)),
        restarts: restarts.map(|(how, count)| (how.to_owned(), count)).into(),
        breaker_opened: counters.breaker_opened,
        wait: histogram(&counters.wait),
        session: histogram(&counters.session),
        spawn: histogram(&counters.spawn),
    }
}

fn of_tenant(tenant: &TenantSnapshot, apps: &[AppMetrics]) -> TenantMetrics {
    let own = || apps.iter().filter(|app| app.tenant.as_ref() == Some(&tenant.name));
    TenantMetrics {
        name: tenant.name.clone(),
        max: tenant.limits.max.map(Into::into),
        max_memory: tenant.limits.max_memory.map(Into::into),
        apps: tenant.apps,
        workers: tenant.count,
        active: tenant.active,
        waiting: tenant.waiting,
        memory_bytes: own().map(|app| app.memory_bytes).sum(),
        cpu_s: own().map(|app| app.cpu_s).sum(),
        sessions: own().map(|app| app.sessions).sum(),
        refused: own().flat_map(|app| app.refused.values()).sum(),
    }
}

fn counted<K>(counts: &BTreeMap<K, u64>, word: impl Fn(&K) -> &'static str) -> BTreeMap<String, u64> {
    counts.iter().map(|(key, count)| (word(key).to_owned(), *count)).collect()
}

/// One that observed nothing costs nothing.
fn histogram(counted: &hatchery_pool::Histogram) -> Histogram {
    if counted.count() == 0 {
        return Histogram::default();
    }
    Histogram { counts: counted.counts().to_vec(), sum_s: counted.sum().as_secs_f64() }
}
