//! The figures that `hatchery status` shows.

mod failures;
mod names;
mod sessions;
#[cfg(test)]
mod tests;

pub(super) use failures::Failed;
pub(super) use names::{Said, find};
pub(super) use sessions::sessions;

use super::shell::State;
use super::translate;
use super::words;
use super::workers::resident;
use crate::processor_time;
use hatchery_pool::{
    AppSnapshot, AppState, PreloaderSnapshot, PreloaderState, RestartState, SessionSnapshot, TenantSnapshot, Time,
    WorkerId, WorkerSnapshot, WorkerState,
};
use hatchery_protocol::post_mortem::OpenSession;
use hatchery_protocol::status::{
    AppStatus, DisabledStatus, PreloaderStatus, RestartStatus, Status, TenantStatus, WorkerStatus,
};
use std::time::Duration;

const ROLLING: &str = "rolling";

pub(super) fn status(state: &State) -> Status {
    let now = state.now();
    let snapshot = state.pool.snapshot(now);
    let apps: Vec<AppStatus> = snapshot.apps.iter().map(|app| state.app_status(app, now)).collect();
    Status {
        version: hatchery_protocol::VERSION.into(),
        max: snapshot.max,
        count: snapshot.count,
        active: snapshot.active,
        waiting: snapshot.waiting,
        uptime_s: now.since_start().as_secs_f64(),
        tenants: snapshot.tenants.iter().map(|tenant| tenant_status(tenant, &apps)).collect(),
        apps,
        post_mortems: state.records.all(),
    }
}

fn tenant_status(tenant: &TenantSnapshot, apps: &[AppStatus]) -> TenantStatus {
    let own = || apps.iter().filter(|app| app.tenant.as_ref() == Some(&tenant.name));
    TenantStatus {
        name: tenant.name.clone(),
        max: tenant.limits.max.map(Into::into),
        max_memory: tenant.limits.max_memory.map(Into::into),
        apps: tenant.apps,
        count: tenant.count,
        active: tenant.active,
        waiting: tenant.waiting,
        memory_bytes: own().map(|app| app.memory_bytes).sum(),
        served: own().map(|app| app.served).sum(),
    }
}

fn restart_status(state: &State, restart: RestartState) -> RestartStatus {
    match restart {
        RestartState::Rolling(generation) => {
            RestartStatus { state: ROLLING.into(), generation: generation.0, report: None }
        }
        RestartState::Failed(generation, report) => RestartStatus {
            state: "failed".into(),
            generation: generation.0,
            report: state.report(report).map(|report| report.to_string()),
        },
    }
}

impl State {
    fn app_status(&self, app: &AppSnapshot, now: Time) -> AppStatus {
        let workers: Vec<WorkerStatus> = app.workers.iter().map(|worker| self.worker_status(worker, now)).collect();
        let preloaders: Vec<PreloaderStatus> =
            app.preloaders.iter().map(|preloader| self.preloader_status(preloader, now)).collect();
        let memory = workers.iter().map(|worker| worker.memory_bytes);
        let memory = memory.chain(preloaders.iter().map(|preloader| preloader.memory_bytes));
        let own_cpu: f64 = workers.iter().filter_map(|worker| worker.cpu_s).sum();
        let loading = preloaders.iter().filter_map(|preloader| processor_time::of(preloader.pid)).sum::<Duration>();
        let gone = self.apps.get(&app.id).map(|app| app.cpu_of_gone).unwrap_or_default();
        AppStatus {
            root: String::from_utf8_lossy(&app.root).into_owned(),
            name: self.options.name(&app.root),
            tenant: app.tenant.clone(),
            state: app_state(app.state).into(),
            disabled: app.disabled.as_ref().map(|(why, until)| DisabledStatus {
                why: translate::disabling(why),
                retry_in_s: until.map(|until| until.since(now).as_secs_f64()),
            }),
            limit: app.limit.map(|gate| words::gate(gate).into()),
            generation: app.generation.0,
            restart: app.restart.map(|restart| restart_status(self, restart)),
            waiting: app.waiting,
            oldest_wait_s: app.oldest_waiter.map(|since| now.since(since).as_secs_f64()),
            served: app.served,
            memory_bytes: memory.flatten().sum(),
            cpu_s: own_cpu + (loading + gone).as_secs_f64(),
            failure: self.failure(app.id),
            workers,
            preloaders,
        }
    }

    /// Resident memory of an app's processes, and the processor time of all that it ever had.
    pub(super) fn used(&self, app: &AppSnapshot) -> (u64, Duration) {
        let ids = app.workers.iter().map(|worker| worker.id).chain(app.preloaders.iter().map(|preloader| preloader.id));
        let pids = ids.map(|id| self.pid(id)).filter(|pid| *pid != 0);
        let gone = self.apps.get(&app.id).map(|app| app.cpu_of_gone).unwrap_or_default();
        pids.fold((0, gone), |(memory, cpu), pid| {
            (memory + resident(pid).unwrap_or(0), cpu + processor_time::of(pid).unwrap_or_default())
        })
    }

    fn worker_status(&self, worker: &WorkerSnapshot, now: Time) -> WorkerStatus {
        let pid = self.pid(worker.id);
        let open: Vec<OpenSession> = worker.sessions.iter().map(|session| self.open_session(session, now)).collect();
        WorkerStatus {
            id: worker.id.0,
            pid,
            state: worker_state(worker.state).into(),
            generation: worker.generation.0,
            sessions: u32::try_from(worker.sessions.len()).unwrap_or(u32::MAX),
            doing: open.iter().filter_map(|session| session.doing.clone()).collect(),
            open,
            served: worker.served,
            memory_bytes: resident(pid),
            cpu_s: processor_time::of(pid).map(|time| time.as_secs_f64()),
            uptime_s: now.since(worker.started).as_secs_f64(),
            idle_s: worker.idle.map(|idle| idle.as_secs_f64()),
        }
    }

    fn preloader_status(&self, preloader: &PreloaderSnapshot, now: Time) -> PreloaderStatus {
        let pid = self.pid(preloader.id);
        PreloaderStatus {
            id: preloader.id.0,
            pid,
            state: preloader_state(preloader.state).into(),
            generation: preloader.generation.0,
            forks: preloader.forks,
            memory_bytes: resident(pid),
            uptime_s: now.since(preloader.started).as_secs_f64(),
        }
    }

    /// Whether status lists this worker, which may have no process yet.
    pub(super) fn is_listed(&self, worker: WorkerId) -> bool {
        let snapshot = self.pool.snapshot(self.now());
        snapshot.apps.iter().flat_map(|app| &app.workers).any(|listed| listed.id == worker)
    }

    fn open_session(&self, session: &SessionSnapshot, now: Time) -> OpenSession {
        let (age_s, doing) = (now.since(session.since).as_secs_f64(), self.doing(session.connection));
        OpenSession { id: session.id.0, age_s, doing }
    }

    /// Every known app: its root, and what it is called before that is shortened.
    pub(super) fn names(&self) -> Vec<(Vec<u8>, String)> {
        self.options.roots().map(|root| (root.to_vec(), self.options.label(root))).collect()
    }

    /// After another configuration: what the operator calls its apps.
    pub(super) fn name_apps_anew(&mut self) {
        self.options.follow(&self.config);
    }
}

pub(super) fn app_state(state: AppState) -> &'static str {
    match state {
        AppState::Running => "running",
        AppState::Idle => "idle",
        AppState::Starting => "starting",
        AppState::Stopped => "stopped",
        AppState::Disabled => "disabled",
    }
}

pub(super) fn worker_state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Ready => "ready",
        WorkerState::Busy => "busy",
        WorkerState::Draining => "draining",
        WorkerState::Stopping => "stopping",
    }
}

fn preloader_state(state: PreloaderState) -> &'static str {
    match state {
        PreloaderState::Starting => "starting",
        PreloaderState::Ready => "ready",
        PreloaderState::Stopping => "stopping",
    }
}
