//! The life of a worker: inspected for, started, ready, drained, stopped, gone.

use crate::app::Inspection;
use crate::book::Use;
use crate::effect::{Effect, EndReason, Failure, Notice, Refusal, StopReason};
use crate::event::Exit;
use crate::health::Health;
use crate::ids::{AppId, ConnectionId, Generation, ReportId, WorkerId};
use crate::pool::Pool;
use crate::queue::Ticket;
use crate::recycling::Weight;
use crate::roll::Stage;
use crate::room;
use crate::roster::{Phase, Worker};
use crate::settings::{AppSettings, Plan};
use crate::time::Time;
use crate::timers::Timer;
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a worker that is to be killed is looked at, at most …
const LOOK_TIME: Duration = Duration::from_millis(500);
/// … and how long it has to print its stacks, if it was asked to.
const DUMP_TIME: Duration = Duration::from_secs(1);

impl Pool {
    pub(crate) fn inspect(&mut self, id: AppId) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        app.inspection = Inspection::Looking;
        let generation = app.generation;
        self.effect(Effect::Inspect { app: id, generation });
    }

    pub(crate) fn inspected(&mut self, id: AppId, generation: Generation, plan: Plan) {
        let app = self.apps.get_mut(&id);
        let looking = app.filter(|app| app.inspection == Inspection::Looking && app.generation == generation);
        if let Some(app) = looking {
            app.inspection = Inspection::Known(plan);
            self.touch(id);
        } else if !self.roll_inspected(id, generation, plan) {
            // What is found too late is of no use.
            self.effect(Effect::ForgetPlan { app: id, generation });
        }
    }

    pub(crate) fn inspect_failed(&mut self, id: AppId, generation: Generation, report: ReportId, now: Time) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        if app.inspection == Inspection::Looking && app.generation == generation {
            (app.inspection, app.owed) = (Inspection::Unknown, 0);
            self.notice(Notice::SpawnFailed { app: id, worker: None, report });
            self.pause_min(id);
            self.roll_inspect_failed(id, generation, Stage::Fresh, report, now);
            self.refuse_waiters(id, &Refusal::SpawnFailed(report));
            self.count_failure(id, Failure::Start(report), now);
        } else {
            self.roll_inspect_failed(id, generation, Stage::Looking, report, now);
        }
    }

    /// Nothing known about an app's code holds any more: the next start looks again, as the next generation.
    pub(crate) fn begin_generation(&mut self, id: AppId) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        if app.inspection != Inspection::Unknown {
            app.newest = Generation(app.newest.0 + 1);
            let newest = app.newest;
            self.adopt(id, newest, Inspection::Unknown);
        }
    }

    /// Starts a worker for the oldest waiter no other start is for, else for the app's `min`.
    pub(crate) fn start(&mut self, id: AppId, now: Time) {
        if self.rolling.contains(&id) {
            return self.start_roll(id, now);
        }
        let starting = &self.roster.crew(id).starting;
        let causes = starting.iter().filter_map(|&worker| self.roster.get(worker)?.cause);
        let caused: BTreeSet<_> = causes.collect();
        let cause = self.queue.of_app(id).map(|waiter| waiter.ticket).find(|ticket| !caused.contains(ticket));
        if let Some(app) = self.apps.get_mut(&id) {
            app.owed = app.owed.saturating_sub(1);
        }
        self.hire(id, cause, now);
    }

    /// Starts a worker, for this waiter if one is named.
    pub(crate) fn hire(&mut self, id: AppId, cause: Option<Ticket>, now: Time) -> Option<WorkerId> {
        let app = self.apps.get(&id)?;
        let (generation, plan) = (app.generation, app.plan()?);
        self.hire_of(id, cause, generation, plan, now)
    }

    pub(crate) fn hire_of(
        &mut self,
        id: AppId,
        cause: Option<Ticket>,
        generation: Generation,
        plan: Plan,
        now: Time,
    ) -> Option<WorkerId> {
        let app = self.apps.get(&id)?;
        let concurrency = app.settings.concurrency.unwrap_or(plan.concurrency);
        let source = self.source(id, generation, plan, now);
        let worker = self.roster.hire(Worker {
            app: id,
            generation,
            concurrency,
            slots: concurrency.slots(self.settings.max_sessions.get()),
            parking: plan.parking,
            phase: Phase::Starting,
            why: None,
            cause,
            awaits: source.awaited(),
            from: source.forked(),
            started: now,
            ready: now,
            used: now,
            sessions: 0,
            leases: 0,
            connections: BTreeSet::new(),
            served: 0,
            back_off: None,
            backing_off: false,
            spent: None,
            replaces: None,
            replaced_by: None,
            beside: false,
            weight: Weight::default(),
            health: Health::default(),
            doomed: false,
            report: None,
            open_at_end: Vec::new(),
        });
        if source.awaited().is_none() {
            self.launch(worker, source.forked(), now);
        }
        self.touch(id);
        Some(worker)
    }

    pub(crate) fn ready(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.phase == Phase::Starting) else { return };
        let (app, after, forked) = (worker.app, now.since(worker.started), worker.from.is_some());
        self.timers.clear(Timer::Worker(id));
        self.roster.update(id, |worker| {
            worker.phase = Phase::Serving;
            (worker.ready, worker.used) = (now, now);
        });
        if let Some(app) = self.apps.get_mut(&app) {
            app.last_start = after;
            app.failed_replacements = 0;
            if forked {
                app.lost_forks = None;
            }
        }
        self.notice(Notice::WorkerReady { worker: id, after });
        self.touch(app);
        self.watch(id, now);
        self.succeed(id, now);
        self.take_over(id, now);
    }

    /// Who waits for an app without a serving worker is told at once. While others serve, only the waiter
    /// this start was for is told: each `get` pays for one failed start at most, so that a broken start
    /// can't be repeated without end, and the rest are served by the workers there are.
    pub(crate) fn spawn_failed(&mut self, id: WorkerId, report: ReportId, gone: bool, now: Time) {
        if self.preload_failed(id, report, gone, now) {
            return;
        }
        let app = self.app_of(id);
        if self.fail_start(id, report, gone, now)
            && let Some(app) = app
        {
            self.count_failure(app, Failure::Start(report), now);
        }
    }

    /// Whether it counts as a failure of the app.
    pub(crate) fn fail_start(&mut self, id: WorkerId, report: ReportId, gone: bool, now: Time) -> bool {
        let Some(worker) = self.roster.get(id) else { return false };
        let (app, cause, phase, generation) = (worker.app, worker.cause, worker.phase, worker.generation);
        let unasked = matches!(phase, Phase::Starting | Phase::Failing);
        if unasked {
            self.roster.update(id, |worker| worker.report = Some(report));
            // What was to be filled again is tried once.
            if let Some(app) = self.apps.get_mut(&app) {
                app.owed = 0;
            }
        }
        let replaced = self.fail_to_replace(id, now);
        let rolled = unasked && self.roll_start_failed(app, id, generation, report, now);
        match phase {
            _ if gone => _ = self.dismiss(id, None, now),
            Phase::Starting => self.kill(id, StopReason::SpawnFailed, now),
            Phase::Failing => self.roster.update(id, |worker| worker.phase = Phase::Killed),
            Phase::Serving | Phase::Draining | Phase::Stopping | Phase::Killed => {}
        }
        self.touch(app);
        if !unasked {
            return false;
        }
        self.notice(Notice::SpawnFailed { app, worker: Some(id), report });
        self.pause_min(app);
        let refusal = Refusal::SpawnFailed(report);
        // What made way for a new generation in vain comes back, and serves whoever waits.
        let comes_back = self.apps.get(&app).is_some_and(|app| app.owed > 0);
        let served = self.roster.crew(app).serving > 0 || comes_back;
        if !served {
            self.refuse_waiters(app, &refusal);
        } else if let Some(&waiter) = cause.and_then(|ticket| self.queue.get(app, ticket)) {
            self.queue.remove(waiter.request);
            self.refuse(Some(app), waiter.request, refusal);
        }
        // One that was to replace others says nothing about those, which serve.
        let beside = rolled && served;
        !(replaced || beside)
    }

    pub(crate) fn exited(&mut self, id: WorkerId, exit: Exit, now: Time) {
        if self.preloader_exited(id, exit, now) {
            return;
        }
        let Some(worker) = self.roster.get(id) else { return };
        let why = worker.why;
        self.note_open_sessions(id);
        self.revoke_all(id, None, EndReason::WorkerGone(exit), now);
        let replaced = self.fail_to_replace(id, now);
        self.notice(Notice::WorkerGone { worker: id, exit, why });
        let gone = self.dismiss(id, Some(exit), now);
        // One that was to replace another says nothing about the others, which serve.
        if let Some(worker) = gone.filter(|worker| worker.why.is_none() && !replaced) {
            self.crashed(worker.app, &worker, exit, now);
        }
    }

    /// No process is left of a worker.
    fn dismiss(&mut self, id: WorkerId, exit: Option<Exit>, now: Time) -> Option<Worker> {
        self.unwatch(id);
        self.timers.clear(Timer::Worker(id));
        let worker = self.roster.dismiss(id)?;
        self.roll_start_lost(worker.app, id);
        self.touch(worker.app);
        self.record(id, &worker, exit, now);
        Some(worker)
    }

    /// A worker was looked at closely: for its memory, or before it is killed.
    pub(crate) fn examined(&mut self, id: WorkerId, memory: Option<u64>, now: Time) {
        let Some(worker) = self.roster.get(id) else { return };
        // Whoever was told to print its stacks is given the time for it.
        if worker.doomed && !self.settings_of(id).is_some_and(|settings| settings.dump) {
            self.execute(id);
        } else {
            self.weighed(id, memory, now);
        }
    }

    /// A worker takes no new session, and goes when its last one ends. The first reason stays.
    pub(crate) fn leave(&mut self, id: WorkerId, why: StopReason, now: Time) {
        let Some(worker) = self.roster.get(id) else { return };
        let heir = worker.replaced_by.filter(|_| why == StopReason::Fairness);
        match worker.phase {
            Phase::Serving if worker.sessions > 0 => self.drain(id, why, now),
            Phase::Serving | Phase::Starting => self.stop(id, why, now),
            Phase::Draining | Phase::Stopping | Phase::Failing | Phase::Killed => {}
        }
        // The place is another app's then: nobody of this one takes it.
        if let Some(heir) = heir {
            self.leave(heir, StopReason::StartUnneeded, now);
        }
    }

    fn drain(&mut self, id: WorkerId, why: StopReason, now: Time) {
        let time = self.of_worker(id, |settings| settings.drain_timeout);
        self.unwatch(id);
        self.roster.update(id, |worker| (worker.phase, worker.why) = (Phase::Draining, Some(why)));
        self.timers.set(Timer::Worker(id), now + time);
        self.effect(Effect::Drain { worker: id, why });
        self.revoke_all(id, Some(Use::Parked), EndReason::LeaseEnded, now);
        self.touch_app_of(id);
    }

    pub(crate) fn stop(&mut self, id: WorkerId, why: StopReason, now: Time) {
        let Some(worker) = self.roster.get(id) else { return };
        if worker.awaits.is_some() {
            return self.call_off(id);
        }
        let why = worker.why.unwrap_or(why);
        let time = match why {
            StopReason::Evicted | StopReason::StartUnneeded => self.settings.evict_timeout,
            _ => self.of_worker(id, |settings| settings.stop_timeout),
        };
        self.unwatch(id);
        self.roster.update(id, |worker| (worker.phase, worker.why) = (Phase::Stopping, Some(why)));
        self.timers.set(Timer::Worker(id), now + time);
        self.revoke_all(id, None, EndReason::LeaseEnded, now);
        self.effect(Effect::Stop { worker: id, why });
        self.touch_app_of(id);
    }

    /// Its sessions end with its process. Before that it is looked at, and asked for its stacks: that is the last
    /// chance to find out what it was doing.
    pub(crate) fn kill(&mut self, id: WorkerId, why: StopReason, now: Time) {
        if self.roster.get(id).is_some_and(|worker| worker.awaits.is_some()) {
            return self.call_off(id);
        }
        let phase = match self.roster.get(id).map(|worker| worker.phase) {
            None | Some(Phase::Failing | Phase::Killed) => return,
            Some(Phase::Starting) if why == StopReason::StartTimedOut => Phase::Failing,
            Some(_) => Phase::Killed,
        };
        // The other half of a pair is told of a failed start with its report.
        if phase != Phase::Failing {
            self.unwatch(id);
        }
        self.note_open_sessions(id);
        self.revoke_all(id, Some(Use::Parked), EndReason::LeaseEnded, now);
        self.timers.clear(Timer::Worker(id));
        self.roster.update(id, |worker| {
            worker.phase = phase;
            worker.why.get_or_insert(why);
            worker.doomed = true;
        });
        self.touch_app_of(id);
        // One that said itself that it can't start has nothing more to say; and at the end nobody is left to read.
        if why == StopReason::SpawnFailed || self.phase != crate::pool::Phase::Running {
            return self.execute(id);
        }
        self.effect(Effect::Examine { worker: id });
        let dump = self.settings_of(id).is_some_and(|settings| settings.dump);
        if dump {
            self.effect(Effect::Dump { worker: id });
        }
        self.timers.set(Timer::Worker(id), now + if dump { DUMP_TIME } else { LOOK_TIME });
    }

    /// Kills a worker that was looked at, or can't be.
    pub(crate) fn execute(&mut self, id: WorkerId) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.doomed) else { return };
        // Why it was to leave: that it did not is plain.
        let why = match worker.phase {
            Phase::Failing => StopReason::StartTimedOut,
            _ => worker.why.unwrap_or(StopReason::StopTimedOut),
        };
        self.timers.clear(Timer::Worker(id));
        self.roster.update(id, |worker| worker.doomed = false);
        self.effect(Effect::Kill { worker: id, why });
    }

    pub(crate) fn stop_if_drained(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.roster.get(id) else { return };
        if let (Phase::Draining, 0, Some(why)) = (worker.phase, worker.sessions, worker.why) {
            self.stop(id, why, now);
        }
    }

    /// What a worker's time was set for in its phase has come.
    pub(crate) fn worker_due(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.roster.get(id) else { return };
        let (app, why) = (worker.app, worker.why);
        match worker.phase {
            Phase::Starting => self.kill(id, StopReason::StartTimedOut, now),
            Phase::Serving => self.roster.update(id, |worker| worker.backing_off = false),
            Phase::Draining => {
                self.note_open_sessions(id);
                let ended = match why {
                    Some(StopReason::PoolEnding) => EndReason::PoolEnding,
                    _ => EndReason::DrainTimedOut,
                };
                self.revoke_all(id, None, ended, now);
                self.stop_if_drained(id, now);
            }
            Phase::Stopping => self.kill(id, StopReason::StopTimedOut, now),
            Phase::Failing | Phase::Killed => self.execute(id),
        }
        self.touch(app);
    }

    /// Ends the connections of a worker; only those with this use, if one is named.
    pub(crate) fn revoke_all(&mut self, id: WorkerId, only: Option<Use>, why: EndReason, now: Time) {
        let Some(worker) = self.roster.get(id) else { return };
        let ended = |id: &ConnectionId| match only {
            Some(state) => self.book.get(*id).is_some_and(|connection| connection.state == state),
            None => true,
        };
        let connections: Vec<ConnectionId> = worker.connections.iter().copied().filter(ended).collect();
        for connection in connections {
            self.revoke(connection, why, now);
        }
    }

    /// Surplus leaves as soon as it is idle, whoever waits: a lowered limit is reached.
    pub(crate) fn trim(&mut self, id: AppId, now: Time) {
        while let Some(worker) = room::surplus(self, id) {
            self.leave(worker, StopReason::Surplus, now);
        }
    }

    pub(crate) fn idle_due(&mut self, id: AppId, now: Time) {
        let Some(app) = self.apps.get(&id) else { return };
        let (Some(idle), min) = (app.max_idle(), app.min()) else { return };
        while let Some((since, worker)) = self.roster.crew(id).longest_idle()
            && since + idle <= now
            && self.roster.crew(id).serving > min
        {
            self.leave(worker, StopReason::Idle, now);
        }
        self.touch(id);
    }

    fn touch_app_of(&mut self, worker: WorkerId) {
        if let Some(app) = self.app_of(worker) {
            self.touch(app);
        }
    }

    fn of_worker(&self, id: WorkerId, read: impl FnOnce(&AppSettings) -> Duration) -> Duration {
        self.settings_of(id).map_or(Duration::ZERO, read)
    }

    /// The settings of a worker's app.
    pub(crate) fn settings_of(&self, id: WorkerId) -> Option<&AppSettings> {
        let worker = self.roster.get(id)?;
        self.apps.get(&worker.app).map(|app| &app.settings)
    }
}
