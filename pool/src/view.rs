//! The pool as status and tests see it.

use crate::app::{App, Inspection, Origin};
use crate::book::Use;
use crate::effect::Gate;
use crate::ids::{AppId, WorkerId};
use crate::pool::Pool;
use crate::preloader::{self, Preloader};
use crate::room;
use crate::roster::{Phase, Worker};
use crate::snapshot::{
    AppSnapshot, AppState, PreloaderSnapshot, PreloaderState, RestartState, SessionSnapshot, Snapshot, TenantSnapshot,
    WorkerSnapshot, WorkerState,
};
use crate::tenant;
use crate::time::Time;

impl Pool {
    /// Everything the pool knows, as of `now`.
    #[must_use]
    pub fn snapshot(&self, now: Time) -> Snapshot {
        let gates = room::gates(self, now);
        Snapshot {
            max: self.settings.max.get(),
            count: self.count(),
            active: self.active(),
            waiting: self.queue.total(),
            apps: self.apps.iter().map(|(&id, app)| self.app_snapshot(id, app, gates.get(&id).copied(), now)).collect(),
            tenants: self.settings.tenants.keys().map(|name| self.tenant_snapshot(name)).collect(),
        }
    }

    fn tenant_snapshot(&self, name: &str) -> TenantSnapshot {
        let apps: Vec<AppId> = tenant::apps(self, name).collect();
        let crews = || apps.iter().map(|&id| self.roster.crew(id));
        let workers = || crews().flat_map(|crew| crew.all.iter().filter_map(|&id| self.roster.get(id)));
        TenantSnapshot {
            name: name.to_owned(),
            limits: self.settings.tenants.get(name).copied().unwrap_or_default(),
            apps: u32::try_from(apps.len()).unwrap_or(u32::MAX),
            count: crews().map(|crew| crew.count()).sum(),
            active: workers().map(|worker| u32::from(worker.sessions > 0)).sum(),
            waiting: apps.iter().map(|&id| self.queue.len(id)).sum(),
            memory_bytes: workers().map(|worker| worker.weight.bytes).sum(),
        }
    }

    fn app_snapshot(&self, id: AppId, app: &App, limit: Option<Gate>, now: Time) -> AppSnapshot {
        let workers = self.roster.crew(id).all.iter().filter_map(|&id| Some((id, self.roster.get(id)?)));
        AppSnapshot {
            id,
            root: app.root.clone(),
            state: self.app_state(id, app),
            registered: app.origin == Origin::Operator,
            tenant: app.settings.tenant.clone(),
            limit,
            disabled: app.disabled(),
            generation: app.generation,
            restart: match (&app.roll, app.failed_roll) {
                (Some(roll), _) => Some(RestartState::Rolling(roll.generation)),
                (None, Some((generation, report))) => Some(RestartState::Failed(generation, report)),
                (None, None) => None,
            },
            waiting: self.queue.len(id),
            oldest_waiter: self.queue.first(id).map(|waiter| waiter.arrived),
            served: app.counters.sessions,
            workers: workers.map(|(id, worker)| self.worker_snapshot(id, worker, now)).collect(),
            preloaders: self.preloaders.of_app(id).map(|(id, preloader)| preloader_snapshot(id, preloader)).collect(),
        }
    }

    fn app_state(&self, id: AppId, app: &App) -> AppState {
        let crew = self.roster.crew(id);
        let mut workers = crew.all.iter().filter_map(|&id| self.roster.get(id));
        if app.stopped {
            AppState::Stopped
        } else if app.disabled().is_some() {
            AppState::Disabled
        } else if workers.any(|worker| matches!(worker.phase, Phase::Serving | Phase::Draining)) {
            AppState::Running
        } else if !crew.starting.is_empty() || app.inspection == Inspection::Looking {
            AppState::Starting
        } else {
            AppState::Idle
        }
    }

    fn worker_snapshot(&self, id: WorkerId, worker: &Worker, now: Time) -> WorkerSnapshot {
        let connections = worker.connections.iter().filter_map(|&id| Some((id, self.book.get(id)?)));
        let sessions = connections.filter(|(_, connection)| connection.state != Use::Parked);
        WorkerSnapshot {
            id,
            state: match worker.phase {
                Phase::Starting => WorkerState::Starting,
                Phase::Serving if worker.sessions == 0 => WorkerState::Ready,
                Phase::Serving => WorkerState::Busy,
                Phase::Draining => WorkerState::Draining,
                Phase::Stopping | Phase::Failing | Phase::Killed => WorkerState::Stopping,
            },
            generation: worker.generation,
            sessions: sessions
                .map(|(id, connection)| SessionSnapshot {
                    id: connection.session,
                    client: connection.client,
                    connection: id,
                    since: connection.since,
                    abandoned: connection.state == Use::Lingering,
                })
                .collect(),
            leases: worker.leases,
            served: worker.served,
            started: worker.started,
            awaits: worker.awaits,
            why: worker.why.or(worker.spent),
            idle: worker.is_idle().then(|| now.since(worker.used)),
        }
    }
}

fn preloader_snapshot(id: WorkerId, preloader: &Preloader) -> PreloaderSnapshot {
    PreloaderSnapshot {
        id,
        state: match preloader.phase {
            preloader::Phase::Loading => PreloaderState::Starting,
            preloader::Phase::Ready => PreloaderState::Ready,
            preloader::Phase::Failing | preloader::Phase::Leaving | preloader::Phase::Killed => {
                PreloaderState::Stopping
            }
        },
        generation: preloader.generation,
        forks: preloader.forks,
        started: preloader.started,
    }
}
