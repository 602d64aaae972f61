//! What goes wrong: what is counted, what is remembered of an app, and what is recorded of a worker.

use crate::app::{Origin, Upkeep};
use crate::book::Use;
use crate::effect::{Effect, Failure, Notice, Passing, Refusal, StopReason};
use crate::event::Exit;
use crate::ids::{AppId, WorkerId};
use crate::pool::{self, Pool};
use crate::roster::{Phase, Worker};
use crate::time::Time;
use crate::timers::Timer;
use std::time::Duration;

/// Broken apps that nobody uses and that were only asked for, of which the pool remembers that they are broken.
const REMEMBERED: usize = 1000;
/// Of workers that end sooner than this after they were ready, `min` restores the first at once …
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// … and the others after this: what dies at once shall not be started as fast as the machine can.
const RESTORE_PAUSE: Duration = Duration::from_secs(1);

impl Pool {
    /// A start failed, or a worker ended by itself.
    pub(crate) fn count_failure(&mut self, id: AppId, failure: Failure, now: Time) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let (limit, window) = (app.settings.breaker_failures, app.settings.breaker_window);
        if !app.breaker.fail(failure, limit, window, now) {
            return;
        }
        let Some((why, until)) = app.breaker.open() else { return };
        self.notice(Notice::BreakerOpened { app: id, until, why: why.clone() });
        let refusal = Refusal::Disabled { until: Some(until), why };
        self.refuse_roll(id, &refusal, now);
        self.refuse_waiters(id, &refusal);
        // Their places are of more use to others until the next try.
        let starting: Vec<WorkerId> = self.roster.crew(id).starting.iter().copied().collect();
        for worker in starting {
            self.leave(worker, StopReason::BreakerOpened, now);
        }
    }

    /// A session of the app ended in peace: whatever went wrong before, it works.
    pub(crate) fn prove(&mut self, id: AppId) {
        let Some(app) = self.apps.get_mut(&id).filter(|app| !app.breaker.is_clean()) else { return };
        if app.breaker.reset() {
            self.notice(Notice::BreakerClosed { app: id });
        }
        self.touch(id);
    }

    /// A worker that was told nothing has ended.
    pub(crate) fn crashed(&mut self, id: AppId, worker: &Worker, exit: Exit, now: Time) {
        if let Some(app) = self.apps.get_mut(&id) {
            app.short_lives = if now.since(worker.ready) < SHORT_LIFE { app.short_lives + 1 } else { 0 };
            if app.short_lives > 1 && app.settings.min > 0 {
                app.restore_from = now + RESTORE_PAUSE;
                self.timers.set(Timer::Retry(id), now + RESTORE_PAUSE);
            }
        }
        // Somebody who kills the workers of a healthy app shall not get it disabled on top.
        if !exit.is_from_outside() {
            self.count_failure(id, Failure::Crash(exit), now);
        }
    }

    /// Whether an app that nobody uses is kept in mind because it is broken; if so, for how long is noted.
    pub(crate) fn remembers(&mut self, id: AppId, now: Time) -> bool {
        let Some(app) = self.apps.get(&id) else { return false };
        let until = app.breaker.remembered_until(app.settings.breaker_window);
        match until.filter(|&until| until > now && self.phase == pool::Phase::Running) {
            Some(until) => {
                self.timers.set(Timer::Memory(id), until);
                self.remembered.set(id, until);
                let first = self.remembered.iter().next().map(|(_, first)| first);
                if let Some(first) = first.filter(|_| self.remembered.len() > REMEMBERED) {
                    self.forget_failures(first);
                }
                self.remembered.time(id).is_some()
            }
            None => {
                self.no_longer_remembered(id);
                false
            }
        }
    }

    pub(crate) fn forget_failures(&mut self, id: AppId) {
        self.no_longer_remembered(id);
        // What the operator has registered or switched off since keeps what is known of it.
        if self.is_forgettable(id)
            && let Some(app) = self.apps.get_mut(&id)
        {
            app.breaker.reset();
            // Nobody uses it: that its failures are forgotten is no reason to start it.
            app.upkeep = Upkeep::NotYet;
            self.touch(id);
        }
    }

    /// It is used, or gone.
    pub(crate) fn no_longer_remembered(&mut self, id: AppId) {
        if self.remembered.time(id).is_some() {
            self.remembered.clear(id);
            self.timers.clear(Timer::Memory(id));
        }
    }

    /// Notes which sessions a worker has at this moment, the first time that it is given up.
    pub(crate) fn note_open_sessions(&mut self, id: WorkerId) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.open_at_end.is_empty()) else { return };
        let connections = worker.connections.iter().filter_map(|id| self.book.get(*id));
        let open = connections.filter(|connection| connection.state != Use::Parked);
        let open: Vec<_> = open.map(|open| (open.session, open.client, open.since)).collect();
        if !open.is_empty() {
            self.roster.update(id, |worker| worker.open_at_end = open);
        }
    }

    /// Records the end of a worker, if it was not a peaceful one.
    pub(crate) fn record(&mut self, id: WorkerId, worker: &Worker, exit: Option<Exit>, now: Time) {
        // One that has never had a process: what is to be said is said of its preloader.
        if worker.awaits.is_some() {
            return;
        }
        let overdue = worker.phase == Phase::Killed || worker.phase == Phase::Failing;
        // One that is still looked at was not killed yet: it left by itself, though too late.
        let killed = overdue && !worker.doomed;
        let blameless = worker.why.is_some_and(is_peaceful) && worker.report.is_none();
        if blameless && !overdue && is_as_told(worker.phase, exit) {
            return;
        }
        let sessions = worker.open_at_end.iter().map(|&(session, client, since)| (session, client, now.since(since)));
        self.effect(Effect::Record(Box::new(Passing {
            app: worker.app,
            worker: id,
            generation: worker.generation,
            why: worker.why,
            killed,
            exit,
            report: worker.report,
            age: now.since(worker.started),
            served: worker.served,
            sessions: sessions.collect(),
        })));
    }

    /// One that only a `get` made known, and that nothing keeps.
    pub(crate) fn is_forgettable(&self, id: AppId) -> bool {
        let only_asked_for = |app: &crate::app::App| app.origin != Origin::Operator && !app.stopped;
        self.apps.get(&id).is_some_and(|app| only_asked_for(app) && app.disabled.is_none())
    }
}

/// Whether a worker that was to leave did so: after it was told, and not by a crash or somebody's KILL.
fn is_as_told(phase: Phase, exit: Option<Exit>) -> bool {
    let by_itself = match exit {
        None | Some(Exit::Status(_)) => true,
        Some(Exit::Signal(_)) => exit.is_some_and(Exit::is_asked_for),
        Some(Exit::OutOfMemory) => false,
    };
    phase != Phase::Draining && by_itself
}

/// Whether a worker that left for this, without being killed, did nothing wrong.
fn is_peaceful(why: StopReason) -> bool {
    match why {
        StopReason::Idle
        | StopReason::Evicted
        | StopReason::Fairness
        | StopReason::Surplus
        | StopReason::Cleared
        | StopReason::StartUnneeded
        | StopReason::MaxRequests
        | StopReason::MaxLifetime
        | StopReason::TenantMemory
        | StopReason::BreakerOpened
        | StopReason::OldGeneration
        | StopReason::Retired
        | StopReason::AppStopped
        | StopReason::AppRemoved
        | StopReason::PoolEnding => true,
        StopReason::StartTimedOut
        | StopReason::SpawnFailed
        | StopReason::ConnectRefused
        | StopReason::LingerTimedOut
        | StopReason::StopTimedOut
        | StopReason::MaxMemory
        | StopReason::RequestTimedOut
        | StopReason::SessionEnded
        | StopReason::PingFailed => false,
    }
}
