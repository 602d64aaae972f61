//! What is counted of an app is what was ordered for it. The number is that of the invariant in `docs/architecture.md`.

use super::{Books, Checked};
use hatchery_pool::{AppId, Counters, Effect, Event, Notice, Refusal, RefusalKind, SessionId, WorkerId};

/// Counted here, of one app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    sessions: u64,
    /// But for questions that made no sense.
    refused: u64,
    cancelled: u64,
    spawns: u64,
    spawn_failures: u64,
    ready: u64,
    exits: u64,
    restarts: u64,
}

impl Counted {
    fn of(counters: &Counters) -> Self {
        let refused = counters.refused.iter().filter(|(kind, _)| **kind != RefusalKind::Invalid);
        Self {
            sessions: counters.sessions,
            refused: refused.map(|(_, times)| times).sum(),
            cancelled: counters.cancelled,
            spawns: counters.spawns,
            spawn_failures: counters.spawn_failures,
            ready: counters.spawn.count(),
            exits: counters.exits.values().sum(),
            restarts: counters.restarts_done + counters.restarts_failed,
        }
    }
}

impl Books {
    pub(super) fn told_of_counts(&mut self, event: &Event) {
        match event {
            Event::Cancelled { request } => {
                if let Some(root) = self.open.get(request).map(|open| open.root.clone()) {
                    self.count_at(&root, |counted| counted.cancelled += 1);
                }
            }
            Event::ClientGone { client } => {
                let gone = self.open.iter().filter(|(request, _)| request.client == *client);
                for root in gone.map(|(_, open)| open.root.clone()).collect::<Vec<_>>() {
                    self.count_at(&root, |counted| counted.cancelled += 1);
                }
            }
            Event::ConnectFailed { session, .. } => {
                if let Some(app) = self.app_of_session(*session) {
                    self.count(app, |counted| counted.sessions -= 1);
                }
            }
            _ => {}
        }
    }

    pub(super) fn ordered_for_counts(&mut self, effect: &Effect) {
        match effect {
            Effect::Grant { request, worker, .. } if self.open.contains_key(request) => {
                self.count_of(*worker, |counted| counted.sessions += 1);
            }
            Effect::Refuse { request, refusal } if !matches!(refusal, Refusal::Invalid(_)) => {
                if let Some(root) = self.open.get(request).map(|open| open.root.clone()) {
                    self.count_at(&root, |counted| counted.refused += 1);
                }
            }
            Effect::Spawn { app, .. } | Effect::Preload { app, .. } => self.count(*app, |counted| counted.spawns += 1),
            Effect::Notice(Notice::SpawnFailed { app, .. }) => self.count(*app, |counted| counted.spawn_failures += 1),
            Effect::Notice(Notice::WorkerReady { worker, .. }) => self.count_of(*worker, |counted| counted.ready += 1),
            Effect::Notice(Notice::Restarted { app, .. } | Notice::RestartFailed { app, .. }) => {
                self.count(*app, |counted| counted.restarts += 1);
            }
            Effect::Forget { app, .. } => _ = self.counted.remove(app),
            _ => {}
        }
    }

    /// A worker's process is gone.
    pub(super) fn count_exit(&mut self, worker: WorkerId) {
        self.count_of(worker, |counted| counted.exits += 1);
    }

    /// # Errors
    /// The pool has counted something else.
    pub(crate) fn check_counts(&self, app: AppId, counters: &Counters) -> Checked {
        let (ours, theirs) = (self.counted.get(&app).copied().unwrap_or_default(), Counted::of(counters));
        if ours == theirs { Ok(()) } else { Err(format!("{app} has counted {theirs:?}, not {ours:?} (invariant 25)")) }
    }

    fn count(&mut self, app: AppId, change: impl FnOnce(&mut Counted)) {
        change(self.counted.entry(app).or_default());
    }

    fn count_of(&mut self, worker: WorkerId, change: impl FnOnce(&mut Counted)) {
        if let Some(app) = self.workers.get(&worker).map(|worker| worker.app) {
            self.count(app, change);
        }
    }

    fn count_at(&mut self, root: &[u8], change: impl FnOnce(&mut Counted)) {
        if let Some(app) = self.apps.iter().find(|(_, known)| *known == root).map(|(&app, _)| app) {
            self.count(app, change);
        }
    }

    fn app_of_session(&self, session: SessionId) -> Option<AppId> {
        let connection = self.connections.values().find(|connection| connection.session == session)?;
        self.workers.get(&connection.worker).map(|worker| worker.app)
    }
}
