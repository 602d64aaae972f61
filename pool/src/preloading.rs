//! Where a worker comes from: its program, or a fork of a process that has the app loaded already; and the life of
//! those processes.

use crate::app::{App, Origin};
use crate::effect::{DropReason, Effect, Failure, NotPreloaded, Notice, Passing, StopReason};
use crate::event::Exit;
use crate::ids::{AppId, Generation, ReportId, WorkerId};
use crate::pool::{self, Pool};
use crate::preloader::{Phase, Preloader};
use crate::roll::Stage;
use crate::roster;
use crate::settings::Plan;
use crate::time::Time;
use crate::timers::Timer;
use std::time::Duration;

/// No preloader is sent away for another app's that was of use so short a time ago.
const SPARED: Duration = Duration::from_secs(10);
/// How long one has after TERM when the pool ends: there is nothing it could finish.
const LAST_STOP: Duration = Duration::from_secs(1);

/// Where a worker comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Program,
    ForkOf(WorkerId),
    /// As soon as this preloader has loaded the app.
    Awaited(WorkerId),
}

impl Source {
    pub(crate) fn forked(self) -> Option<WorkerId> {
        match self {
            Self::ForkOf(preloader) => Some(preloader),
            Self::Program | Self::Awaited(_) => None,
        }
    }

    pub(crate) fn awaited(self) -> Option<WorkerId> {
        match self {
            Self::Awaited(preloader) => Some(preloader),
            Self::Program | Self::ForkOf(_) => None,
        }
    }
}

impl Pool {
    /// Where the next worker of this generation comes from. May start a preloader.
    pub(crate) fn source(&mut self, id: AppId, generation: Generation, plan: Plan, now: Time) -> Source {
        let unforked = self.apps.get(&id).is_none_or(|app| app.unforked == Some(generation));
        if !plan.preloads || unforked || self.settings.max_preloaders == 0 {
            return Source::Program;
        }
        match self.preloaders.of(id, generation) {
            Some((preloader, Preloader { phase: Phase::Ready, .. })) => return Source::ForkOf(preloader),
            Some((preloader, _)) => return Source::Awaited(preloader),
            None => {}
        }
        if self.preloaders.count() < self.settings.max_preloaders {
            return Source::Awaited(self.preload(id, generation, now));
        }
        // The next worker may find room for one; this one doesn't wait for it.
        if let Some((used, preloader)) = self.preloaders.least_used()
            && used + SPARED <= now
        {
            self.drop_preloader(preloader, DropReason::Evicted, now);
        }
        Source::Program
    }

    fn preload(&mut self, app: AppId, generation: Generation, now: Time) -> WorkerId {
        let preloader = self.roster.next_id();
        let phase = Phase::Loading;
        self.preloaders
            .insert(preloader, Preloader { app, generation, phase, why: None, started: now, used: now, forks: 0 });
        let timeout = self.apps.get(&app).map_or(Duration::ZERO, |app| app.settings.start_timeout);
        self.timers.set(Timer::Preloader(preloader), now + timeout);
        self.count_spawn(app);
        self.effect(Effect::Preload { app, preloader, generation });
        preloader
    }

    /// Orders the process of a worker that was just hired.
    pub(crate) fn launch(&mut self, id: WorkerId, from: Option<WorkerId>, now: Time) {
        let Some(worker) = self.roster.get(id) else { return };
        let (app, generation) = (worker.app, worker.generation);
        let timeout = self.settings_of(id).map_or(Duration::ZERO, |settings| settings.start_timeout);
        self.timers.set(Timer::Worker(id), now + timeout);
        if let Some(preloader) = from {
            self.use_preloader(preloader, now);
        }
        self.count_spawn(app);
        self.effect(Effect::Spawn { app, worker: id, generation, from });
    }

    fn count_spawn(&mut self, app: AppId) {
        if let Some(app) = self.apps.get_mut(&app) {
            app.counters.spawns += 1;
        }
    }

    fn use_preloader(&mut self, id: WorkerId, now: Time) {
        let Some(preloader) = self.preloaders.get_mut(id) else { return };
        preloader.forks += 1;
        preloader.used = now;
        self.await_disuse(id);
    }

    /// Sets the timer of a ready one.
    fn await_disuse(&mut self, id: WorkerId) {
        let ready = self.preloaders.get(id).filter(|preloader| preloader.phase == Phase::Ready);
        match (ready.map(|preloader| preloader.used), self.settings.max_preloader_idle) {
            (Some(used), Some(idle)) => self.timers.set(Timer::Preloader(id), used + idle),
            (Some(_), None) => self.timers.clear(Timer::Preloader(id)),
            (None, _) => {}
        }
    }

    /// A worker that has no process, and never will.
    pub(crate) fn call_off(&mut self, id: WorkerId) {
        self.unwatch(id);
        self.timers.clear(Timer::Worker(id));
        if let Some(worker) = self.roster.dismiss(id) {
            self.roll_start_lost(worker.app, id);
            self.touch(worker.app);
        }
    }

    /// A worker of the app that waits for this preloader.
    fn waits_for(&self, app: AppId, preloader: WorkerId) -> Option<WorkerId> {
        let mut starting = self.roster.crew(app).starting.iter().copied();
        starting.find(|&worker| self.roster.get(worker).is_some_and(|worker| worker.awaits == Some(preloader)))
    }

    pub(crate) fn preloaded(&mut self, id: WorkerId, fit: bool, now: Time) {
        let Some(preloader) = self.preloaders.get_mut(id).filter(|preloader| preloader.phase == Phase::Loading) else {
            return;
        };
        let (app, generation, after) = (preloader.app, preloader.generation, now.since(preloader.started));
        preloader.used = now;
        if fit {
            preloader.phase = Phase::Ready;
            self.await_disuse(id);
            self.notice(Notice::PreloaderReady { preloader: id, after });
        } else {
            (preloader.phase, preloader.why) = (Phase::Leaving, Some(DropReason::Unfit));
            self.time_leaving(id, now);
            self.forgo_forks(app, generation, NotPreloaded::Unfit);
        }
        self.start_waiting(app, id, now);
        self.touch(app);
    }

    /// Whoever waits for a preloader has a process now, under a number of its own: those are given in the order of
    /// starts.
    fn start_waiting(&mut self, app: AppId, preloader: WorkerId, now: Time) {
        while let Some(worker) = self.waits_for(app, preloader) {
            self.start_instead(worker, now);
        }
    }

    fn forgo_forks(&mut self, id: AppId, generation: Generation, why: NotPreloaded) {
        if let Some(app) = self.apps.get_mut(&id) {
            app.unforked = Some(generation);
            self.notice(Notice::NotPreloaded { app: id, generation, why });
        }
    }

    /// An app could not be loaded: whoever was to be forked can't be started. True: it was a preloader.
    pub(crate) fn preload_failed(&mut self, id: WorkerId, report: ReportId, gone: bool, now: Time) -> bool {
        let Some(preloader) = self.preloaders.get(id) else { return false };
        let (app, generation, started) = (preloader.app, preloader.generation, preloader.started);
        let of_use = preloader.is_of_use();
        let killed = preloader.phase == Phase::Failing;
        if of_use || killed {
            self.effect(Effect::Record(Box::new(Passing {
                app,
                worker: id,
                generation,
                why: killed.then_some(StopReason::StartTimedOut),
                killed,
                exit: None,
                report: Some(report),
                age: now.since(started),
                served: 0,
                sessions: Vec::new(),
            })));
        }
        if gone {
            self.timers.clear(Timer::Preloader(id));
            self.preloaders.remove(id);
        } else if of_use {
            self.kill_preloader(id, DropReason::Useless);
        }
        let (mut told, mut counts) = (false, false);
        while let Some(worker) = self.waits_for(app, id) {
            told = true;
            counts |= self.fail_start(worker, report, true, now);
        }
        if !told && of_use {
            self.notice(Notice::SpawnFailed { app, worker: None, report });
        }
        // However many were to be forked, it is one failure.
        if counts {
            self.count_failure(app, Failure::Start(report), now);
        }
        self.touch(app);
        true
    }

    /// True: it was a preloader.
    pub(crate) fn preloader_exited(&mut self, id: WorkerId, exit: Exit, now: Time) -> bool {
        let Some(preloader) = self.preloaders.remove(id) else { return false };
        self.timers.clear(Timer::Preloader(id));
        self.notice(Notice::PreloaderGone { preloader: id, exit, why: preloader.why });
        if self.waits_for(preloader.app, id).is_some() {
            self.note_lost(preloader.app, preloader.generation, id);
            self.start_waiting(preloader.app, id, now);
        }
        self.touch(preloader.app);
        true
    }

    /// A preloader was of no use. Of the first of a generation a second is given a chance.
    fn note_lost(&mut self, id: AppId, generation: Generation, preloader: WorkerId) {
        let Some(app) = self.apps.get_mut(&id).filter(|app| app.unforked != Some(generation)) else { return };
        // Several forks of one are lost together.
        let again = app.lost_forks.is_some_and(|(of, lost)| of == generation && lost != preloader);
        app.lost_forks = Some((generation, preloader));
        if again {
            self.forgo_forks(id, generation, NotPreloaded::ForksFail);
        }
    }

    /// A fork came to nothing, and that says nothing about the app: another worker takes that one's place.
    pub(crate) fn fork_failed(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.roster.get(id) else { return };
        let Some(preloader) = worker.from else { return self.call_off(id) };
        let (app, generation) = (worker.app, worker.generation);
        if self.preloaders.get(preloader).is_some_and(Preloader::is_of_use) {
            self.kill_preloader(preloader, DropReason::Useless);
        }
        self.note_lost(app, generation, preloader);
        match self.roster.get(id).map(|worker| worker.phase) {
            Some(roster::Phase::Starting) => self.start_instead(id, now),
            // It was to leave already.
            _ => self.call_off(id),
        }
    }

    /// A new worker takes the place of one that never had a process.
    fn start_instead(&mut self, lost: WorkerId, now: Time) {
        let Some(worker) = self.roster.get(lost) else { return };
        let (app, generation, cause) = (worker.app, worker.generation, worker.cause);
        let (replaces, beside) = (worker.replaces, worker.beside);
        let plan = self.plan_of(app, generation);
        self.timers.clear(Timer::Worker(lost));
        self.unwatch(lost);
        self.roster.dismiss(lost);
        self.touch(app);
        let Some(heir) = plan.and_then(|plan| self.hire_of(app, cause, generation, plan, now)) else {
            return self.roll_start_lost(app, lost);
        };
        self.roster.update(heir, |worker| worker.beside = beside);
        if let Some(old) = replaces {
            self.roster.update(heir, |worker| worker.replaces = Some(old));
            self.roster.update(old, |worker| worker.replaced_by = Some(heir));
        }
        self.roll_start_instead(app, lost, heir);
    }

    fn plan_of(&self, id: AppId, generation: Generation) -> Option<Plan> {
        let app = self.apps.get(&id)?;
        if app.generation == generation {
            return app.plan();
        }
        match app.roll.as_ref().filter(|roll| roll.generation == generation)?.stage {
            Stage::Known(plan) | Stage::Starting(plan, _) => Some(plan),
            Stage::Looking | Stage::Fresh | Stage::Serving => None,
        }
    }

    /// What a preloader's time was set for in its phase has come.
    pub(crate) fn preloader_due(&mut self, id: WorkerId, now: Time) {
        match self.preloaders.get(id).map(|preloader| preloader.phase) {
            Some(Phase::Loading) => {
                self.kill_preloader(id, DropReason::StartTimedOut);
                if let Some(preloader) = self.preloaders.get_mut(id) {
                    preloader.phase = Phase::Failing;
                }
            }
            Some(Phase::Ready) => self.drop_preloader(id, DropReason::Unused, now),
            Some(Phase::Leaving) => self.kill_preloader(id, DropReason::StopTimedOut),
            Some(Phase::Failing | Phase::Killed) | None => {}
        }
    }

    fn drop_preloader(&mut self, id: WorkerId, why: DropReason, now: Time) {
        let Some(preloader) = self.preloaders.get_mut(id).filter(|preloader| preloader.is_of_use()) else { return };
        (preloader.phase, preloader.why) = (Phase::Leaving, Some(why));
        self.time_leaving(id, now);
        self.effect(Effect::DropPreloader { preloader: id, why });
    }

    fn time_leaving(&mut self, id: WorkerId, now: Time) {
        let app = self.preloaders.get(id).and_then(|preloader| self.apps.get(&preloader.app));
        let ending = self.phase != pool::Phase::Running;
        let time = app.filter(|_| !ending).map_or(LAST_STOP, |app| app.settings.stop_timeout);
        self.timers.set(Timer::Preloader(id), now + time);
    }

    fn kill_preloader(&mut self, id: WorkerId, why: DropReason) {
        let Some(preloader) = self.preloaders.get_mut(id) else { return };
        preloader.phase = Phase::Killed;
        let why = *preloader.why.get_or_insert(why);
        self.timers.clear(Timer::Preloader(id));
        self.effect(Effect::KillPreloader { preloader: id, why });
    }

    /// Sends those of an app away from which nobody will be forked any more.
    pub(crate) fn prune_preloaders(&mut self, id: AppId, now: Time) {
        let useless: Vec<_> = {
            let Some(app) = self.apps.get(&id) else { return };
            let of_use = self.preloaders.of_app(id).filter(|(_, preloader)| preloader.is_of_use());
            of_use.filter_map(|(preloader, known)| Some((preloader, is_over(app, known)?))).collect()
        };
        for (preloader, why) in useless {
            self.drop_preloader(preloader, why, now);
        }
    }

    /// The limits are others now.
    pub(crate) fn reconsider_preloaders(&mut self, now: Time) {
        let of_use: Vec<WorkerId> =
            self.preloaders.all().filter(|(_, preloader)| preloader.is_of_use()).map(|(id, _)| id).collect();
        let surplus = of_use.len().saturating_sub(self.settings.max_preloaders as usize);
        for _ in 0..surplus {
            if let Some((_, preloader)) = self.preloaders.least_used() {
                self.drop_preloader(preloader, DropReason::Evicted, now);
            }
        }
        for preloader in of_use {
            self.await_disuse(preloader);
        }
    }

    /// The pool ends: nothing is started any more.
    pub(crate) fn end_preloaders(&mut self, now: Time) {
        let all: Vec<WorkerId> = self.preloaders.all().map(|(id, _)| id).collect();
        for id in all {
            self.drop_preloader(id, DropReason::PoolEnding, now);
            if self.preloaders.get(id).is_some_and(|preloader| preloader.phase == Phase::Leaving) {
                self.timers.set_no_later(Timer::Preloader(id), now + LAST_STOP);
            }
        }
    }
}

/// Why no worker will be forked from this preloader any more.
pub(crate) fn is_over(app: &App, preloader: &Preloader) -> Option<DropReason> {
    let begun = app.roll.as_ref().is_some_and(|roll| roll.generation == preloader.generation);
    if preloader.generation != app.generation && !begun {
        return Some(DropReason::OldGeneration);
    }
    let closed = app.stopped || app.origin == Origin::Removed || app.breaker.open().is_some();
    closed.then_some(DropReason::AppStopped)
}
