//! What always holds, as far as one state shows it. The simulation and the scenarios look after every step.
//!
//! Among it are the conditions that the field's oldest pool asserts while it runs: who waits could be served
//! by no worker; an app with room, without workers and without a start under way has no waiters; every count
//! is the length of its list; idle workers are in order.

use crate::app::{App, Inspection};
use crate::book::Use;
use crate::ids::{AppId, WorkerId};
use crate::pool::{self, Pool};
use crate::preloader::{self, Preloader};
use crate::preloading::is_over;
use crate::roll::Stage;
use crate::room;
use crate::roster::{Phase, Worker};
use crate::routing;
use crate::settings::{Concurrency, LEASES_WITHOUT_LIMIT, Parking};
use crate::time::Time;
use crate::timers::Timer;

type Checked = Result<(), String>;

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl Pool {
    /// Whether everything holds that can be seen between two steps; `now` is the time of the last one.
    ///
    /// # Errors
    ///
    /// A sentence that names what is wrong.
    pub fn check(&self, now: Time) -> Result<(), String> {
        self.queue.check()?;
        self.roster.check()?;
        self.book.check()?;
        self.roster.workers().try_for_each(|(id, worker)| self.check_worker(id, worker))?;
        self.preloaders.all().try_for_each(|(id, preloader)| self.check_preloader(id, preloader))?;
        self.check_connections()?;
        self.apps.iter().try_for_each(|(&id, app)| self.check_app(id, app))?;
        self.check_timers()?;
        let left = room::next_move(self, now);
        ensure(left.is_none(), || format!("somebody waits though {left:?} is possible"))
    }

    fn check_worker(&self, id: WorkerId, worker: &Worker) -> Checked {
        let taken = worker.sessions + worker.leases;
        let pings = u32::from(worker.health.pinging);
        ensure(taken + pings <= worker.slots, || format!("{id} has {taken} sessions and leases, {pings} ping"))?;
        let unlimited = worker.concurrency == Concurrency::Unlimited;
        ensure(!unlimited || worker.leases <= LEASES_WITHOUT_LIMIT, || format!("{id} has too many leases"))?;
        ensure(self.apps.contains_key(&worker.app), || format!("{id} works for an unknown app"))?;
        let holds = match worker.phase {
            Phase::Starting => taken == 0 && worker.why.is_none(),
            Phase::Serving => worker.why.is_none(),
            Phase::Draining => worker.sessions > 0 && worker.leases == 0 && worker.why.is_some(),
            Phase::Stopping => taken == 0 && worker.why.is_some(),
            Phase::Failing => taken == 0 && worker.why.is_some(),
            Phase::Killed => worker.leases == 0 && worker.why.is_some(),
        };
        ensure(holds, || format!("{id} is {:?} with {taken} sessions and leases", worker.phase))?;
        let timed = match worker.phase {
            Phase::Starting => worker.awaits.is_none(),
            Phase::Draining | Phase::Stopping => true,
            Phase::Serving => worker.backing_off,
            Phase::Failing | Phase::Killed => worker.doomed,
        };
        ensure(timed == self.timers.time(Timer::Worker(id)).is_some(), || format!("{id} has the wrong timer"))
    }

    fn check_preloader(&self, id: WorkerId, preloader: &Preloader) -> Checked {
        let Preloader { app, generation, phase, .. } = *preloader;
        ensure(self.apps.contains_key(&app), || format!("{id} has an unknown app loaded"))?;
        ensure(preloader.why.is_none() == preloader.is_of_use(), || format!("{id} is {phase:?} for no reason"))?;
        let only = !preloader.is_of_use() || self.preloaders.of(app, generation).is_some_and(|(first, _)| first == id);
        ensure(only, || format!("{id} is the second preloader of one generation of {app}"))?;
        let over = preloader.is_of_use() && self.apps.get(&app).is_some_and(|app| is_over(app, preloader).is_some());
        ensure(!over, || format!("{id} is of no use any more, and stays"))?;
        let awaited = self.roster.workers().any(|(_, worker)| worker.awaits == Some(id));
        let loads = matches!(phase, preloader::Phase::Loading | preloader::Phase::Failing);
        ensure(!awaited || loads, || format!("{id} is waited for, and is {phase:?}"))?;
        let timed = match phase {
            preloader::Phase::Loading | preloader::Phase::Leaving => true,
            preloader::Phase::Ready => self.settings.max_preloader_idle.is_some(),
            preloader::Phase::Failing | preloader::Phase::Killed => false,
        };
        ensure(timed == self.timers.time(Timer::Preloader(id)).is_some(), || format!("{id} has the wrong timer"))
    }

    fn check_connections(&self) -> Checked {
        for (id, connection) in self.book.connections() {
            let worker = self.roster.get(connection.worker).filter(|worker| worker.connections.contains(&id));
            let Some(worker) = worker else { return Err(format!("{id} is at no worker")) };
            let timed = match connection.state {
                // Its time may have been set, or taken away, since it began.
                Use::Open => continue,
                Use::Parked => matches!(worker.parking, Parking::For(_)),
                Use::Lingering => true,
            };
            ensure(timed == self.timers.time(Timer::Connection(id)).is_some(), || format!("{id} has the wrong timer"))?;
        }
        Ok(())
    }

    fn check_app(&self, id: AppId, app: &App) -> Checked {
        self.check_counters(id, app)?;
        ensure(self.app(&app.root) == Some(id), || format!("{id} is not found by its root"))?;
        let crew = self.roster.crew(id);
        if let Some(oldest) = self.queue.first(id) {
            let slot = routing::choose(self, id, oldest.request.client);
            ensure(slot.is_none(), || format!("{} waits though there is {slot:?}", oldest.request))?;
            let timed = self.timers.time(Timer::Wait(id)).is_some();
            ensure(timed || app.settings.max_queue_wait.is_none(), || format!("the waiters of {id} have no timer"))?;
        }
        let kept = !self.is_forgettable(id) || self.remembered.time(id).is_some();
        let deploys = app.roll.is_some() || app.update.is_some();
        let loaded = self.preloaders.of_app(id).next().is_some();
        let used =
            loaded || !crew.all.is_empty() || self.queue.first(id).is_some() || app.inspection == Inspection::Looking;
        ensure(kept || used || deploys || self.short.contains(&id), || format!("{id} should be forgotten"))?;
        self.check_roll(id, app)?;
        let unstaffed = room::unstaffed_since(self, id) == self.unstaffed.time(id);
        ensure(unstaffed, || format!("{id} is not where apps without a worker wait"))?;
        let over = app.max_idle().is_some() && crew.serving > app.min() && crew.longest_idle().is_some();
        ensure(!over || self.timers.time(Timer::Idle(id)).is_some(), || format!("{id} has no idle timer"))
    }

    /// Each session is waited for once, and open or over.
    fn check_counters(&self, id: AppId, app: &App) -> Checked {
        let counters = &app.counters;
        let connections = self.book.connections();
        let open = connections.filter(|(_, connection)| connection.app == id && connection.state == Use::Open);
        let (open, over) = (open.count() as u64, counters.sessions_ended.values().sum::<u64>());
        let holds = counters.sessions == open + over
            && counters.wait.count() == counters.sessions
            && counters.session.count() == over;
        ensure(holds, || format!("{id} has {open} open sessions and has counted {counters:?}"))
    }

    /// A restart is where its workers are.
    fn check_roll(&self, id: AppId, app: &App) -> Checked {
        let stage = app.roll.as_ref().map(|roll| roll.stage);
        let known = matches!(stage, Some(Stage::Known(_)));
        ensure(known == self.rolling.contains(&id), || format!("{id} is not where restarts wait for room"))?;
        ensure(app.generation <= app.newest, || format!("{id} has a generation that was never begun"))?;
        let mut of_app = self.roster.crew(id).all.iter().copied();
        let mut stray = of_app.find(|&worker| {
            let told = self.roster.get(worker).is_some_and(|worker| worker.why.is_some());
            !told && self.is_first_of_roll(worker)
        });
        let Some(roll) = &app.roll else {
            ensure(stray.is_none(), || format!("{stray:?} is of a generation that isn't begun"))?;
            let untried = self.phase == pool::Phase::Running && self.is_trying_update(id);
            return ensure(!untried, || format!("nobody tries the update of {id}"));
        };
        let beside = app.generation < roll.generation;
        let holds = match roll.stage {
            Stage::Looking | Stage::Known(_) => beside,
            Stage::Starting(_, first) => {
                stray = stray.filter(|&worker| worker != first);
                let worker = self.roster.get(first);
                beside && worker.is_some_and(|first| (first.app, first.generation) == (id, roll.generation))
            }
            Stage::Fresh => app.generation == roll.generation && app.is_kept_up(),
            Stage::Serving => app.generation == roll.generation && app.plan().is_some(),
        };
        ensure(stray.is_none(), || format!("{stray:?} is of a generation that isn't begun"))?;
        ensure(holds, || format!("{id} restarts, {:?}, and its generation is {:?}", roll.stage, app.generation))
    }

    fn check_timers(&self) -> Checked {
        for (_, timer) in self.timers.iter() {
            let known = match timer {
                Timer::Worker(worker) => self.roster.get(worker).is_some(),
                Timer::Preloader(preloader) => self.preloaders.get(preloader).is_some(),
                Timer::Connection(connection) => self.book.get(connection).is_some(),
                Timer::Life(worker) | Timer::Sample(worker) | Timer::Ping(worker) => {
                    self.roster.get(worker).is_some_and(|worker| worker.is_serving())
                }
                Timer::Idle(app) | Timer::Wait(app) | Timer::Retry(app) | Timer::Memory(app) => {
                    self.apps.contains_key(&app)
                }
                Timer::Room => self.queue.total() > 0,
            };
            ensure(known, || format!("{timer:?} is set for nothing"))?;
        }
        Ok(())
    }
}
