//! Orders of the operator, and of clients with the right to give them.

use crate::app::{App, Origin, Upkeep};
use crate::book::Use;
use crate::bounds::{self, longest, longest_idle};
use crate::effect::{Answer, Beyond, Disabling, EndReason, Invalid, Notice, Refusal, StopReason};
use crate::ids::{AppId, Request, SessionId, WorkerId};
use crate::pool::{Phase, Pool};
use crate::roster;
use crate::settings::{AppSettings, Concurrency, Settings, Wanted};
use crate::time::Time;
use crate::timers::Timer;
use std::num::NonZeroU32;
use std::time::Duration;

/// How long a worker has after TERM when nobody is left to read an answer.
const LAST_STOP: Duration = Duration::from_secs(1);

impl Pool {
    pub(crate) fn clear(&mut self, request: Option<Request>, now: Time) {
        let apps: Vec<AppId> = self.apps.keys().copied().collect();
        for app in apps {
            self.dissolve(app, StopReason::Cleared, now);
        }
        self.done(request);
    }

    /// All workers of an app leave; whoever waits is served by fresh ones, of the next generation.
    fn dissolve(&mut self, id: AppId, why: StopReason, now: Time) {
        let askers = self.drop_roll(id);
        let closed = self.apps.get(&id).and_then(|app| app.closed(now));
        let answer = match &closed {
            Some(refusal) if why != StopReason::Cleared => Answer::Refused(refusal.clone()),
            _ => Answer::Done,
        };
        self.answer_all(askers, &answer);
        if let Some(app) = self.apps.get_mut(&id) {
            app.owed = 0;
        }
        self.leave_all(id, why, now);
        self.begin_generation(id);
        // A version that is being tried is tried with the next worker; if there is to be none, nobody says any more
        // whether it starts.
        if why == StopReason::Cleared && self.is_trying_update(id) {
            self.begin_next(id, Vec::new(), true, now);
        } else {
            self.undo_update(id, closed.unwrap_or(Refusal::Stopped), now);
        }
        self.touch(id);
    }

    /// Whether an order has to keep within what the operator gave at start. The pool's own shell, which reads
    /// the operator's configuration, asks no question.
    fn is_bounded(&self, request: Option<Request>) -> bool {
        self.given.bounded && request.is_some()
    }

    pub(crate) fn set_max(&mut self, request: Option<Request>, max: NonZeroU32) {
        if self.is_bounded(request) && max > self.given.max {
            return self.not_allowed(request, Beyond::Limit("max"));
        }
        self.settings.max = max;
        self.touch_all();
        self.warn_of_min();
        self.done(request);
    }

    pub(crate) fn set_max_per_app(&mut self, request: Option<Request>, max: Option<NonZeroU32>) {
        if self.is_bounded(request) && longest(max) > longest(self.given.defaults.max_per_app) {
            return self.not_allowed(request, Beyond::Limit("max_per_app"));
        }
        let before = self.settings.defaults.max_per_app;
        for app in
            self.apps.values_mut().filter(|app| app.wanted.max_per_app.is_none() && app.settings.max_per_app == before)
        {
            app.settings.max_per_app = max;
        }
        self.settings.defaults.max_per_app = max;
        self.touch_all();
        self.done(request);
    }

    pub(crate) fn set_max_idle(&mut self, request: Option<Request>, idle: Option<Duration>) {
        if self.is_bounded(request) && longest_idle(idle) > longest_idle(self.given.defaults.max_idle) {
            return self.not_allowed(request, Beyond::Limit("max_idle"));
        }
        let before = self.settings.defaults.max_idle;
        for app in self.apps.values_mut().filter(|app| app.wanted.max_idle.is_none() && app.settings.max_idle == before)
        {
            app.settings.max_idle = idle;
        }
        self.settings.defaults.max_idle = idle;
        self.touch_all();
        self.done(request);
    }

    pub(crate) fn added(&mut self, request: Option<Request>, root: Vec<u8>, settings: AppSettings, now: Time) {
        let known = self.app(&root).and_then(|id| self.apps.get(&id));
        let own = known.filter(|app| app.origin == Origin::Operator).map(|app| &app.settings);
        if self.is_bounded(request)
            && let Some(beyond) = bounds::beyond_app(&self.given, own, &root, &settings)
        {
            return self.not_allowed(request, beyond);
        }
        let id = match self.app(&root) {
            Some(id) => {
                let app = self.apps.get_mut(&id).expect("every root has its app");
                let moved = (app.settings.tenant != settings.tenant).then(|| settings.tenant.clone());
                (app.settings, app.wanted, app.origin) = (settings, Wanted::default(), Origin::Operator);
                app.options_ignored = false;
                if app.settings.prestart && app.upkeep == Upkeep::NotYet {
                    app.upkeep = Upkeep::Kept;
                }
                if let Some(tenant) = moved {
                    // What both tenants have in common is another sum now.
                    self.touch_all();
                    self.notice(Notice::TenantChanged { app: id, tenant });
                }
                self.warn_of_min();
                id
            }
            None => self.make_known(App::new(root, settings, Wanted::default(), Origin::Operator)),
        };
        self.notice(Notice::Added { app: id });
        self.weigh_all(id, now);
        self.touch(id);
        self.done(request);
    }

    pub(crate) fn removed(&mut self, request: Option<Request>, root: &[u8], now: Time) {
        let Some(id) = self.app(root) else { return self.unknown(request) };
        if let Some(app) = self.apps.get_mut(&id) {
            *app = App {
                generation: app.generation,
                inspection: app.inspection,
                newest: app.newest,
                roll: app.roll.take(),
                update: app.update.take(),
                counters: std::mem::take(&mut app.counters),
                unforked: app.unforked,
                lost_forks: app.lost_forks,
                ..App::new(
                    std::mem::take(&mut app.root),
                    self.settings.defaults.clone(),
                    Wanted::default(),
                    Origin::Removed,
                )
            };
        }
        self.refuse_waiters(id, &Refusal::Invalid(Invalid::Removed));
        self.notice(Notice::Removed { app: id });
        self.dissolve(id, StopReason::AppRemoved, now);
        self.done(request);
    }

    pub(crate) fn stop_app(&mut self, request: Option<Request>, root: &[u8], now: Time) {
        let Some(id) = self.app(root) else { return self.unknown(request) };
        if let Some(app) = self.apps.get_mut(&id) {
            app.stopped = true;
        }
        self.refuse_waiters(id, &Refusal::Stopped);
        self.notice(Notice::Stopped { app: id });
        self.dissolve(id, StopReason::AppStopped, now);
        self.done(request);
    }

    pub(crate) fn start_app(&mut self, request: Option<Request>, root: &[u8]) {
        let Some(id) = self.app(root) else { return self.unknown(request) };
        if let Some(app) = self.apps.get_mut(&id) {
            app.stopped = false;
        }
        self.notice(Notice::Started { app: id });
        self.touch(id);
        self.done(request);
    }

    pub(crate) fn disable(&mut self, request: Option<Request>, root: &[u8], why: &str, now: Time) {
        let Some(id) = self.app(root) else { return self.unknown(request) };
        if let Some(app) = self.apps.get_mut(&id) {
            app.disabled = Some(why.to_owned());
        }
        self.notice(Notice::Disabled { app: id, why: why.to_owned() });
        let refusal = Refusal::Disabled { until: None, why: Disabling::Operator(why.to_owned()) };
        self.refuse_waiters(id, &refusal);
        self.end_fresh_roll(id, &refusal, now);
        self.done(request);
    }

    pub(crate) fn enable(&mut self, request: Option<Request>, root: &[u8]) {
        let Some(id) = self.app(root) else { return self.unknown(request) };
        if let Some(app) = self.apps.get_mut(&id) {
            app.disabled = None;
            if app.breaker.reset() {
                self.notice(Notice::BreakerClosed { app: id });
            }
        }
        self.notice(Notice::Enabled { app: id });
        self.touch(id);
        self.done(request);
    }

    pub(crate) fn retire(&mut self, request: Option<Request>, worker: WorkerId, now: Time) {
        if self.roster.get(worker).is_none() {
            return self.unknown(request);
        }
        self.leave(worker, StopReason::Retired, now);
        self.done(request);
    }

    pub(crate) fn end_session(&mut self, request: Option<Request>, session: SessionId, now: Time) {
        let open = self.book.of_session(session).filter(|(_, connection)| connection.state != Use::Parked);
        let Some((id, worker)) = open.map(|(id, connection)| (id, connection.worker)) else {
            return self.unknown(request);
        };
        // It is not over for a worker that never looks up: whoever came next would wait behind it. One without a limit
        // has others to serve, and sees that nobody listens any more.
        let limited = |worker: &roster::Worker| matches!(worker.concurrency, Concurrency::Limited(_));
        let leaves = self.roster.get(worker).is_some_and(limited);
        if leaves {
            self.note_open_sessions(worker);
        }
        self.revoke(id, EndReason::Operator, now);
        if leaves {
            self.leave(worker, StopReason::SessionEnded, now);
        }
        self.stop_if_drained(worker, now);
        self.done(request);
    }

    /// The operator changed the configuration. What it says of single apps comes as `Added` and `Removed`; what it says
    /// of all holds for those that only a `get` made known, too.
    pub(crate) fn reloaded(&mut self, settings: Settings, now: Time) {
        for app in self.apps.values_mut().filter(|app| app.origin == Origin::Client) {
            app.settings = app.wanted.applied_to(&settings.defaults);
        }
        self.given = settings.clone();
        self.settings = settings;
        self.reconsider_preloaders(now);
        let apps: Vec<AppId> = self.apps.keys().copied().collect();
        apps.into_iter().for_each(|app| self.weigh_all(app, now));
        self.touch_all();
        self.warn_of_min();
    }

    /// The operator's configuration is complete, and judged as a whole.
    pub(crate) fn configured(&mut self) {
        self.configured = true;
        let max = self.settings.max.get();
        if self.apps.len() > max as usize {
            let apps = self.apps.keys().copied().collect();
            self.notice(Notice::MoreAppsThanMax { apps, max });
        }
        self.warn_of_min();
    }

    /// Workers that are always kept leave no room for apps that have none. Said once, until it is true no longer.
    pub(crate) fn warn_of_min(&mut self) {
        let with_min = || self.apps.iter().filter(|(_, app)| app.settings.min > 0);
        let min_total = with_min().fold(0u32, |sum, (_, app)| sum.saturating_add(app.settings.min));
        let max = self.settings.max.get();
        let crowded = min_total >= max;
        if crowded && self.configured && !self.min_warned {
            self.min_warned = true;
            let apps = with_min().map(|(&id, _)| id).collect();
            self.notice(Notice::MinAboveMax { apps, min_total, max });
        }
        self.min_warned &= crowded;
    }

    /// No new sessions; what is left has `grace`, and without any, nobody is left to read an answer.
    pub(crate) fn end(&mut self, grace: Duration, now: Time) {
        let until = match self.phase {
            Phase::Running => now + grace,
            Phase::Ending { until } => until.min(now + grace),
            Phase::Ended => return,
        };
        self.phase = Phase::Ending { until };
        let waiting: Vec<AppId> = self.queue.apps().collect();
        for app in waiting {
            self.refuse_waiters(app, &Refusal::ShuttingDown);
        }
        let apps: Vec<AppId> = self.apps.keys().copied().collect();
        for app in apps {
            self.refuse_roll(app, &Refusal::ShuttingDown, now);
            self.refuse_update(app, &Refusal::ShuttingDown);
        }
        self.touch_all();
        self.end_preloaders(now);
        let workers: Vec<WorkerId> = self.roster.workers().map(|(id, _)| id).collect();
        for id in workers {
            self.leave(id, StopReason::PoolEnding, now);
            self.execute(id);
            if until <= now {
                self.revoke_all(id, None, EndReason::PoolEnding, now);
                self.stop_if_drained(id, now);
            }
            match self.roster.get(id).map(|worker| worker.phase) {
                Some(roster::Phase::Draining) => self.timers.set_no_later(Timer::Worker(id), until),
                Some(roster::Phase::Stopping) if until <= now => {
                    self.timers.set_no_later(Timer::Worker(id), now + LAST_STOP)
                }
                _ => {}
            }
        }
    }
}
