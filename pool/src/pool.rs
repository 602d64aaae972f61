//! The machine: what it knows, and the one place where events come in.

use crate::agenda::Agenda;
use crate::app::{App, Inspection, Upkeep};
use crate::book::Book;
use crate::counters::{Counters, RefusalKind};
use crate::effect::{Answer, Beyond, Effect, Invalid, Notice, Refusal, SwapStep};
use crate::event::Event;
use crate::ids::{AppId, ClientId, ConnectionId, Request, SessionId, WorkerId};
use crate::preloader::Preloaders;
use crate::queue::{Queue, Waiter};
use crate::room::{self, Move};
use crate::roster::Roster;
use crate::routing;
use crate::settings::Settings;
use crate::time::Time;
use crate::timers::{Timer, Timers};
use std::collections::{BTreeMap, BTreeSet};

/// The decisions of a pool. Events in, effects out; it does nothing by itself.
#[derive(Debug)]
pub struct Pool {
    pub(crate) settings: Settings,
    /// What the operator gave at start: in a bounded pool nobody else goes beyond it.
    pub(crate) given: Settings,
    pub(crate) apps: BTreeMap<AppId, App>,
    pub(crate) roots: BTreeMap<Vec<u8>, AppId>,
    pub(crate) last_app: u64,
    pub(crate) roster: Roster,
    pub(crate) preloaders: Preloaders,
    pub(crate) book: Book,
    pub(crate) queue: Queue,
    pub(crate) timers: Timers,
    pub(crate) phase: Phase,
    /// Apps that somebody waits for, and that have no worker which serves or will though they might start
    /// one: since when their oldest waiter waits.
    pub(crate) unstaffed: Agenda<AppId>,
    /// Apps that want more workers than they have for their `min`.
    pub(crate) short: BTreeSet<AppId>,
    /// Apps whose new generation is to have its first worker.
    pub(crate) rolling: BTreeSet<AppId>,
    /// Broken apps that nobody uses, and until when that is remembered.
    pub(crate) remembered: Agenda<AppId>,
    /// Whether the operator's configuration is complete.
    pub(crate) configured: bool,
    /// Whether somebody was told that all the `min` leave no room.
    pub(crate) min_warned: bool,
    /// Questions refused before their app was known.
    pub(crate) refused: BTreeMap<RefusalKind, u64>,
    /// Apps something happened to in this step.
    touched: BTreeSet<AppId>,
    effects: Vec<Effect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// No new sessions; what is left may go on until then.
    Ending {
        until: Time,
    },
    Ended,
}

impl Pool {
    /// An empty pool. It starts nothing before it is asked for something.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            given: settings.clone(),
            settings,
            apps: BTreeMap::new(),
            roots: BTreeMap::new(),
            last_app: 0,
            roster: Roster::default(),
            preloaders: Preloaders::default(),
            book: Book::default(),
            queue: Queue::default(),
            timers: Timers::default(),
            phase: Phase::Running,
            unstaffed: Agenda::default(),
            short: BTreeSet::new(),
            rolling: BTreeSet::new(),
            remembered: Agenda::default(),
            configured: false,
            min_warned: false,
            refused: BTreeMap::new(),
            touched: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    /// Tells the pool what happened at `now`; it says what to do, in order. Every event is legal at every
    /// time: what is stale is not found and changes nothing.
    #[must_use]
    pub fn step(&mut self, now: Time, event: Event) -> Vec<Effect> {
        match event {
            Event::Asked { request, root, wanted, key: _ } => self.asked(request, root, wanted, now),
            Event::Cancelled { request } => self.cancelled(request),
            Event::Closed { client, session, how } => self.closed(client, session, how, now),
            Event::Reconnected { request, session } => self.reconnected(request, session, now),
            Event::ClientGone { client } => self.client_gone(client, now),

            Event::Inspected { app, generation, plan } => self.inspected(app, generation, plan),
            Event::InspectFailed { app, generation, report } => self.inspect_failed(app, generation, report, now),
            Event::Preloaded { preloader, fit } => self.preloaded(preloader, fit, now),
            Event::ForkFailed { worker } => self.fork_failed(worker, now),
            Event::Ready { worker } => self.ready(worker, now),
            Event::SpawnFailed { worker, report, gone } => self.spawn_failed(worker, report, gone, now),
            Event::ConnectFailed { session, why } => self.connect_failed(session, why, now),
            Event::Lingered { connection } => self.lingered(connection, now),
            Event::Exited { worker, exit } => self.exited(worker, exit, now),
            Event::Sampled { worker, resident_bytes } => self.sampled(worker, resident_bytes),
            Event::Examined { worker, memory_bytes } => self.examined(worker, memory_bytes, now),
            Event::Pinged { worker, alive } => self.pinged(worker, alive, now),

            Event::Clear { request } => self.clear(request, now),
            Event::SetMax { request, max } => self.set_max(request, max),
            Event::SetMaxPerApp { request, max_per_app } => self.set_max_per_app(request, max_per_app),
            Event::SetMaxIdleTime { request, max_idle } => self.set_max_idle(request, max_idle),
            Event::Added { request, root, settings } => self.added(request, root, settings, now),
            Event::Removed { request, root } => self.removed(request, &root, now),
            Event::StopApp { request, root } => self.stop_app(request, &root, now),
            Event::StartApp { request, root } => self.start_app(request, &root),
            Event::Disable { request, root, why } => self.disable(request, &root, &why, now),
            Event::Enable { request, root } => self.enable(request, &root),
            Event::Retire { request, worker } => self.retire(request, worker, now),
            Event::EndSession { request, session } => self.end_session(request, session, now),
            Event::Configured => self.configured(),
            Event::Ending { grace } => self.end(grace, now),

            Event::Tick => self.tick(now),

            Event::Restart { request, root, mode } => self.restart(request, &root, mode, now),
            Event::FilesChanged { app } => self.files_changed(app, now),

            Event::Staged { request, root } => self.update(request, &root, SwapStep::Take, now),
            Event::RolledBack { request, root } => self.update(request, &root, SwapStep::Back, now),
            Event::SwapDone { app, report } => self.swap_done(app, report, now),
            Event::Reloaded { settings } => self.reloaded(*settings, now),
        }
        self.settle(now);
        std::mem::take(&mut self.effects)
    }

    /// When the next [`Event::Tick`] is due. After a `Tick` at `now` it is later than `now`.
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        self.timers.iter().next().map(|(at, _)| at)
    }

    fn tick(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop(now) {
            match timer {
                Timer::Worker(worker) => self.worker_due(worker, now),
                Timer::Preloader(preloader) => self.preloader_due(preloader, now),
                Timer::Life(worker) => self.life_due(worker),
                Timer::Sample(worker) => self.sample_due(worker, now),
                Timer::Ping(worker) => self.ping_due(worker, now),
                Timer::Connection(connection) => self.connection_due(connection, now),
                Timer::Idle(app) => self.idle_due(app, now),
                Timer::Wait(app) => self.wait_due(app, now),
                Timer::Memory(app) => self.forget_failures(app),
                // What opened by itself is found below.
                Timer::Room => {}
                Timer::Retry(app) => self.touch(app),
            }
            self.settle(now);
        }
    }

    /// Draws every conclusion from what has just changed, until there is none left: surplus leaves, waiters
    /// are served, room is made and used, and what is over is forgotten.
    fn settle(&mut self, now: Time) {
        while self.settle_once(now) {}
        match room::opens_by_itself(self, now) {
            Some(at) => self.timers.set(Timer::Room, at),
            None => self.timers.clear(Timer::Room),
        }
        if matches!(self.phase, Phase::Ending { .. }) && self.roster.count() == 0 && self.preloaders.is_empty() {
            self.phase = Phase::Ended;
            // What was put off never comes.
            self.timers = Timers::default();
            self.effect(Effect::Ended);
        }
    }

    /// True: putting things in order has changed something again.
    fn settle_once(&mut self, now: Time) -> bool {
        let mut settled = BTreeSet::new();
        loop {
            while let Some(app) = self.touched.pop_first() {
                self.note_alone(app);
                self.trim(app, now);
                self.serve(app, now);
                self.leave_old(app, now);
                self.look_into(app);
                self.note_shortage(app);
                settled.insert(app);
            }
            match room::next_move(self, now) {
                Some(Move::Start(app)) => self.start(app, now),
                Some(Move::Replace(worker)) => self.replace(worker, now),
                Some(Move::Roll(app)) => self.start_roll(app, now),
                Some(Move::GiveUp(app, worker)) => self.give_up(app, worker, now),
                Some(Move::Leave(worker, why)) => self.leave(worker, why, now),
                None => break,
            }
        }
        for app in settled {
            self.tidy(app, now);
        }
        !self.touched.is_empty()
    }

    /// Serves the waiters of an app, oldest first, as far as there are slots.
    fn serve(&mut self, app: AppId, now: Time) {
        while let Some(&waiter) = self.queue.first(app) {
            let Some(slot) = routing::choose(self, app, waiter.request.client) else { break };
            self.queue.remove(waiter.request);
            self.grant(waiter, slot, now);
        }
    }

    /// Sets the timers of an app, and forgets what nothing needs any more.
    fn tidy(&mut self, id: AppId, now: Time) {
        self.finish_roll(id);
        self.prune_preloaders(id, now);
        let Some(app) = self.apps.get(&id) else { return };
        let crew = self.roster.crew(id);
        if let (Some(idle), Some((since, _))) = (app.max_idle(), crew.longest_idle())
            && crew.serving > app.min()
        {
            self.timers.set_no_later(Timer::Idle(id), since + idle);
        }
        match (app.settings.max_queue_wait, self.queue.first(id)) {
            (Some(wait), Some(oldest)) => self.timers.set_no_later(Timer::Wait(id), oldest.arrived + wait),
            _ => self.timers.clear(Timer::Wait(id)),
        }
        // What is loaded is the present generation, until it leaves.
        let loaded = self.preloaders.of_app(id).next().is_some();
        let over = crew.all.is_empty() && !loaded && self.queue.len(id) == 0 && !self.short.contains(&id);
        if over && app.inspection != Inspection::Looking && app.roll.is_none() && app.update.is_none() {
            self.timers.clear(Timer::Idle(id));
            self.rest(id, now);
        } else {
            self.no_longer_remembered(id);
        }
    }

    /// An app nobody uses: its code may have changed before the next start, and one that only a `get` made
    /// known is forgotten.
    fn rest(&mut self, id: AppId, now: Time) {
        self.begin_generation(id);
        if self.is_forgettable(id) && !self.remembers(id, now) {
            self.timers.clear(Timer::Retry(id));
            let root = self.apps.remove(&id).map(|app| app.root).unwrap_or_default();
            self.roots.remove(&root);
            self.notice(Notice::Forgotten { app: id });
            self.effect(Effect::Forget { app: id, root });
        }
    }

    /// Looks into the root of an app that is to start a worker.
    fn look_into(&mut self, id: AppId) {
        let Some(app) = self.apps.get(&id).filter(|_| self.phase == Phase::Running) else { return };
        let crew = self.roster.crew(id);
        let wanted = self.queue.first(id).is_some()
            || app.min() > crew.live()
            || crew.any_spent() && app.is_kept_up()
            || self.owes_a_worker(id);
        if wanted && app.inspection == Inspection::Unknown && !app.is_held() {
            self.inspect(id);
        }
    }

    /// Notes whether an app lacks workers, for those who look for room.
    fn note_shortage(&mut self, id: AppId) {
        let short = self.phase == Phase::Running
            && self.apps.get(&id).is_some_and(|app| {
                let crew = self.roster.crew(id);
                let lacks = app.min() > crew.live() || self.owes_a_worker(id);
                lacks && app.limit() > crew.count() && !app.is_held()
            });
        if short {
            self.short.insert(id);
        } else {
            self.short.remove(&id);
        }
        match room::unstaffed_since(self, id) {
            Some(since) => self.unstaffed.set(id, since),
            None => self.unstaffed.clear(id),
        }
    }

    pub(crate) fn touch(&mut self, app: AppId) {
        self.touched.insert(app);
    }

    pub(crate) fn touch_all(&mut self) {
        self.touched.extend(self.apps.keys());
    }

    pub(crate) fn effect(&mut self, effect: Effect) {
        self.effects.push(effect);
    }

    pub(crate) fn notice(&mut self, notice: Notice) {
        self.count_notice(&notice);
        self.effects.push(Effect::Notice(notice));
    }

    /// What is noticed is what is counted.
    fn count_notice(&mut self, notice: &Notice) {
        let app = match notice {
            Notice::WorkerReady { worker, .. } | Notice::WorkerGone { worker, .. } => self.app_of(*worker),
            Notice::SpawnFailed { app, .. }
            | Notice::BreakerOpened { app, .. }
            | Notice::Restarted { app, .. }
            | Notice::RestartFailed { app, .. } => Some(*app),
            _ => None,
        };
        let Some(app) = app.and_then(|app| self.apps.get_mut(&app)) else { return };
        let counters = &mut app.counters;
        match notice {
            Notice::WorkerReady { after, .. } => counters.spawn.observe(*after),
            Notice::WorkerGone { why, .. } => *counters.exits.entry(*why).or_default() += 1,
            Notice::SpawnFailed { .. } => counters.spawn_failures += 1,
            Notice::BreakerOpened { .. } => counters.breaker_opened += 1,
            Notice::Restarted { .. } => counters.restarts_done += 1,
            Notice::RestartFailed { .. } => counters.restarts_failed += 1,
            _ => {}
        }
    }

    /// `app`: whose waiter it is, where that is known.
    pub(crate) fn refuse(&mut self, app: Option<AppId>, request: Request, refusal: Refusal) {
        let refused = match app.and_then(|app| self.apps.get_mut(&app)) {
            Some(app) => &mut app.counters.refused,
            None => &mut self.refused,
        };
        *refused.entry(RefusalKind::of(&refusal)).or_default() += 1;
        self.effects.push(Effect::Refuse { request, refusal });
    }

    /// Refuses every waiter of an app.
    pub(crate) fn refuse_waiters(&mut self, app: AppId, refusal: &Refusal) {
        while let Some(&Waiter { request, .. }) = self.queue.first(app) {
            self.queue.remove(request);
            self.refuse(Some(app), request, refusal.clone());
        }
        self.touch(app);
    }

    pub(crate) fn answer(&mut self, request: Option<Request>, answer: Answer) {
        if let Some(request) = request {
            self.effect(Effect::Answer { request, answer });
        }
    }

    pub(crate) fn done(&mut self, request: Option<Request>) {
        self.answer(request, Answer::Done);
    }

    pub(crate) fn not_allowed(&mut self, request: Option<Request>, beyond: Beyond) {
        self.answer(request, Answer::Refused(Refusal::NotAllowed(beyond)));
    }

    pub(crate) fn unknown(&mut self, request: Option<Request>) {
        self.answer(request, Answer::Refused(Refusal::Invalid(Invalid::Unknown)));
    }

    /// A start failed: `min` isn't tried again before somebody asks for the app.
    pub(crate) fn pause_min(&mut self, id: AppId) {
        if let Some(app) = self.apps.get_mut(&id)
            && app.min() > 0
        {
            app.upkeep = Upkeep::Paused;
            self.notice(Notice::MinPaused { app: id });
        }
    }

    /// The limits in force.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The root of an app, as it was first asked for or added.
    #[must_use]
    pub fn root(&self, app: AppId) -> Option<&[u8]> {
        self.apps.get(&app).map(|app| app.root.as_slice())
    }

    /// What was counted of an app.
    #[must_use]
    pub fn counters(&self, app: AppId) -> Option<&Counters> {
        self.apps.get(&app).map(|app| &app.counters)
    }

    /// Questions refused before their app was known.
    #[must_use]
    pub fn refused(&self) -> &BTreeMap<RefusalKind, u64> {
        &self.refused
    }

    /// The app at a root.
    #[must_use]
    pub fn app(&self, root: &[u8]) -> Option<AppId> {
        self.roots.get(root).copied()
    }

    /// The connection that carries a session, or carried it last, and whose it is.
    #[must_use]
    pub fn connection(&self, session: SessionId) -> Option<(ConnectionId, ClientId)> {
        self.book.of_session(session).map(|(id, connection)| (id, connection.client))
    }

    #[must_use]
    pub fn app_of(&self, worker: WorkerId) -> Option<AppId> {
        self.roster.get(worker).map(|worker| worker.app)
    }

    /// Worker processes, whatever their state.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.roster.count()
    }

    /// Workers with at least one session.
    #[must_use]
    pub fn active(&self) -> u32 {
        self.roster.active()
    }
}
