//! The figures that `hatchery status` shows.

mod names;

pub(super) use crate::show::lines;
pub(super) use names::find;

use super::connections::Connection;
use super::shell::State;
use super::translate;
use super::workers::resident;
use crate::processor_time;
use hatchery_pool::{
    AppSnapshot, AppState, PreloaderSnapshot, PreloaderState, RestartState, SessionSnapshot, Time, WorkerId,
    WorkerSnapshot, WorkerState,
};
use hatchery_protocol::options::{AppOptions, Start};
use hatchery_protocol::post_mortem::OpenSession;
use hatchery_protocol::status::{AppStatus, DisabledStatus, PreloaderStatus, RestartStatus, Status, WorkerStatus};
use names::unique_names;

const ROLLING: &str = "rolling";

pub(super) fn status(state: &State) -> Status {
    let now = state.now();
    let snapshot = state.pool.snapshot(now);
    let names = unique_names(&snapshot.apps.iter().map(|app| state.label(app)).collect::<Vec<_>>());
    let apps = snapshot.apps.iter().zip(names).map(|(app, name)| AppStatus {
        root: String::from_utf8_lossy(&app.root).into_owned(),
        name,
        tenant: app.tenant.clone(),
        state: app_state(app.state).into(),
        disabled: app.disabled.as_ref().map(|(why, until)| DisabledStatus {
            why: translate::disabling(why),
            retry_in_s: until.map(|until| until.since(now).as_secs_f64()),
        }),
        limit: app.limit.map(|gate| translate::gate(gate).into()),
        generation: app.generation.0,
        restart: app.restart.map(|restart| restart_status(state, restart)),
        waiting: app.waiting,
        oldest_wait_s: app.oldest_waiter.map(|since| now.since(since).as_secs_f64()),
        served: app.served,
        memory_bytes: 0,
        cpu_s: 0.0,
        failure: None,
        preloaders: app.preloaders.iter().map(|preloader| state.preloader_status(preloader, now)).collect(),
        workers: app
            .workers
            .iter()
            .map(|worker| WorkerStatus {
                uptime_s: now.since(worker.started).as_secs_f64(),
                ..state.worker_status(worker, now)
            })
            .collect(),
    });
    Status {
        version: hatchery_protocol::VERSION.into(),
        max: snapshot.max,
        count: snapshot.count,
        active: snapshot.active,
        waiting: snapshot.waiting,
        uptime_s: now.since_start().as_secs_f64(),
        apps: apps.collect(),
        tenants: Vec::new(),
        post_mortems: state.records.all(),
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
    fn worker_status(&self, worker: &WorkerSnapshot, now: Time) -> WorkerStatus {
        let pid = self.workers.get(worker.id).map_or(0, |process| process.pid);
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
            uptime_s: 0.0,
            idle_s: worker.idle.map(|idle| idle.as_secs_f64()),
        }
    }

    fn preloader_status(&self, preloader: &PreloaderSnapshot, now: Time) -> PreloaderStatus {
        let pid = self.workers.get(preloader.id).map_or(0, |process| process.pid);
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
        let label = self.connections.get(&session.connection).map(Connection::label);
        let doing = label.filter(|label| !label.is_empty()).map(str::to_owned);
        OpenSession { id: session.id.0, age_s: now.since(session.since).as_secs_f64(), doing }
    }

    /// The last part of an app's root or name, lengthened until no other known app has the same.
    pub(super) fn short_name(&self, root: &[u8]) -> String {
        let apps = self.names();
        let place = apps.iter().position(|(other, _)| other == root);
        let labels: Vec<String> = apps.into_iter().map(|(_, label)| label).collect();
        match place.and_then(|place| unique_names(&labels).into_iter().nth(place)) {
            Some(name) => name,
            None => self.name(root, &self.options(root)),
        }
    }

    /// Every known app: its root, and what it is called.
    pub(super) fn names(&self) -> Vec<(Vec<u8>, String)> {
        self.options.iter().map(|(root, options)| (root.clone(), self.name(root, options))).collect()
    }

    /// What an app is called, from the left part of a path to what is shown of it.
    fn label(&self, app: &AppSnapshot) -> String {
        self.name(&app.root, &self.options(&app.root))
    }

    /// The operator's name for it, else its root.
    pub(super) fn name(&self, root: &[u8], options: &AppOptions) -> String {
        let given = self.config.apps.iter().find(|app| app.root == root).and_then(|app| app.name.clone());
        let start = options.start.as_ref().or(self.config.defaults.start.as_ref());
        given.unwrap_or_else(|| match start {
            Some(Start::DemoApp) => "demo".into(),
            _ => String::from_utf8_lossy(root).into_owned(),
        })
    }
}

fn app_state(state: AppState) -> &'static str {
    match state {
        AppState::Running => "running",
        AppState::Idle => "idle",
        AppState::Starting => "starting",
        AppState::Stopped => "stopped",
        AppState::Disabled => "disabled",
    }
}

fn worker_state(state: WorkerState) -> &'static str {
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
