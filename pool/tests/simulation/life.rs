//! What is said of the life of a worker: how long, how healthy, how it ends. The numbers are those of the
//! invariants in `docs/architecture.md`.

use super::{Books, Checked, Phase, Worker};
use hatchery_pool::{
    AppId, ClientId, ConnectFailure, Effect, EndReason, Event, Notice, ReportId, SessionId, StopReason, Time, WorkerId,
};
use std::time::Duration;

/// A worker that is to be killed is looked at for so long …
const LOOK: Duration = Duration::from_millis(500);
/// … or has so long to print its stacks.
const DUMP: Duration = Duration::from_secs(1);

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

pub(super) struct Life {
    /// Started beyond a limit, in place of another.
    extra: bool,
    /// Its time to start, or to leave, is over then.
    kill_by: Option<Time>,
    /// It was decided that it is killed, which happens by then at the latest.
    doomed: Option<Time>,
    pub(super) killed: bool,
    dumped: bool,
    pub(super) report: Option<ReportId>,
    /// Why it was told to leave.
    pub(super) why: Option<StopReason>,
    /// It has done enough.
    spent: Option<StopReason>,
    pub(super) served: u64,
    /// Since when it is asked whether it lives.
    ping: Option<Time>,
    /// A ping just ended without an answer.
    unanswered: bool,
    missed: u32,
    resident: u64,
    /// Looks at its memory that nobody answered, and findings in a row that were too much.
    looks: u32,
    agreeing: u32,
    /// Sessions it had when it was given up.
    pub(super) open_at_end: Option<Vec<(SessionId, ClientId, Time)>>,
}

impl Life {
    pub(super) fn new(start_by: Time, extra: bool) -> Self {
        Self {
            extra,
            kill_by: Some(start_by),
            doomed: None,
            killed: false,
            dumped: false,
            report: None,
            why: None,
            spent: None,
            served: 0,
            ping: None,
            unanswered: false,
            missed: 0,
            resident: 0,
            looks: 0,
            agreeing: 0,
            open_at_end: None,
        }
    }

    pub(super) fn is_doomed(&self) -> bool {
        self.doomed.is_some() || self.killed
    }

    pub(super) fn is_pinged(&self) -> bool {
        self.ping.is_some()
    }

    pub(super) fn kill_by(&mut self, by: Time) {
        self.kill_by = Some(by);
    }
}

impl Books {
    pub(super) fn told_of_life(&mut self, event: &Event, now: Time) {
        match *event {
            Event::Ready { worker } => {
                if let Some(worker) = self.workers.get_mut(&worker).filter(|worker| worker.phase == Phase::Starting) {
                    worker.life.kill_by = worker.life.kill_by.filter(|_| worker.life.is_doomed());
                }
            }
            Event::SpawnFailed { worker: id, report, gone } => {
                if let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.phase == Phase::Starting) {
                    worker.life.report = Some(report);
                    if worker.life.is_doomed() {
                        worker.phase = Phase::Leaving;
                    }
                }
                if gone {
                    self.is_gone(id, None);
                }
            }
            Event::Exited { worker, exit } => self.is_gone(worker, Some(exit)),
            Event::ConnectFailed { session, why } => {
                let at = self.session(session).map(|id| self.connections[&id].worker);
                let Some(id) = at else { return };
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.life.served -= 1;
                }
                if why == ConnectFailure::Refused {
                    self.note_open_sessions(id, Some(session));
                    self.is_doomed(id, StopReason::ConnectRefused, now);
                }
            }
            Event::Sampled { worker, resident_bytes } => {
                if let Some(limit) = self.memory_of(worker)
                    && let Some(worker) = self.workers.get_mut(&worker)
                {
                    worker.life.resident = resident_bytes;
                    if resident_bytes < limit {
                        worker.life.agreeing = 0;
                    }
                }
            }
            Event::Examined { worker, memory_bytes } => {
                if let Some(limit) = self.memory_of(worker)
                    && let Some(worker) = self.workers.get_mut(&worker).filter(|worker| worker.life.looks > 0)
                {
                    worker.life.looks -= 1;
                    let found = memory_bytes.unwrap_or(worker.life.resident);
                    worker.life.agreeing = if found >= limit { worker.life.agreeing + 1 } else { 0 };
                }
            }
            Event::Pinged { worker, alive } => {
                if let Some(worker) = self.workers.get_mut(&worker).filter(|worker| worker.life.is_pinged()) {
                    (worker.life.ping, worker.life.unanswered) = (None, !alive);
                    if alive {
                        worker.life.missed = 0;
                    }
                }
            }
            _ => {}
        }
    }

    fn memory_of(&self, worker: WorkerId) -> Option<u64> {
        let worker = self.workers.get(&worker)?;
        self.limits(&worker.root).max_memory.map(std::num::NonZero::get)
    }

    fn tenant_memory_of(&self, worker: WorkerId) -> bool {
        self.workers.get(&worker).is_some_and(|worker| self.tenant_limits(&worker.root).max_memory.is_some())
    }

    /// It is decided that a worker is killed.
    fn is_doomed(&mut self, id: WorkerId, why: StopReason, now: Time) {
        let dump = self.settings.defaults.dump;
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.life.is_doomed()) else { return };
        worker.life.doomed = Some(now + if dump { DUMP } else { LOOK });
        worker.life.why.get_or_insert(why);
        let (app, spent) = (worker.app, worker.is_spent());
        if worker.phase != Phase::Starting {
            worker.phase = Phase::Leaving;
        }
        if spent {
            self.nobody_replaces(app);
        }
    }

    /// Whether one may be started beyond the limits: for each that is to be replaced, one.
    pub(super) fn may_replace(&self, app: AppId) -> bool {
        let spent = self.live(app).filter(|worker| worker.phase == Phase::Serving && worker.life.spent.is_some());
        let extra = self.live(app).filter(|worker| worker.phase == Phase::Starting && worker.life.extra);
        spent.count() > extra.count()
    }

    pub(super) fn ordered_for_life(&mut self, effect: &Effect, now: Time) -> Checked {
        match effect {
            Effect::Drain { worker, why } | Effect::Stop { worker, why } => self.leaves(*worker, *why)?,
            Effect::Kill { worker, why } => self.killed(*worker, *why)?,
            Effect::Examine { worker } => self.examined(*worker, now)?,
            Effect::Dump { worker: id } => {
                ensure!(self.settings.defaults.dump, "{id} is to dump, which nobody wants (invariant 13)");
                let doomed = self.workers.get_mut(id).filter(|worker| worker.life.is_doomed() && !worker.life.dumped);
                let Some(worker) = doomed else { return Err(format!("{id} is to dump and is not killed")) };
                worker.life.dumped = true;
            }
            Effect::Sample { worker: id } => {
                let serving = self.workers.get(id).is_some_and(|worker| worker.phase == Phase::Serving);
                let weighed = self.memory_of(*id).is_some() || self.tenant_memory_of(*id);
                ensure!(serving && weighed, "{id} is measured for nothing");
            }
            Effect::Ping { worker: id } => {
                let serving = self.workers.get_mut(id).filter(|worker| worker.phase == Phase::Serving);
                let Some(worker) = serving else { return Err(format!("{id} is pinged and does not serve")) };
                ensure!(!worker.life.is_pinged(), "{id} is pinged twice at a time (invariant 15)");
                worker.life.ping = Some(now);
            }
            Effect::EndPing { worker: id } => {
                // It may have died of it.
                let Some(worker) = self.workers.get_mut(id) else { return Ok(()) };
                ensure!(worker.life.ping.take().is_some(), "{id} is not pinged (invariant 15)");
                worker.life.unanswered = true;
            }
            Effect::Grant { worker, request, .. } => {
                if self.open.contains_key(request)
                    && let Some(worker) = self.workers.get_mut(worker)
                {
                    worker.life.served += 1;
                }
            }
            Effect::Revoke { connection, why, .. } => {
                let Some(connection) = self.connections.get(connection) else { return Ok(()) };
                let (worker, until) = (connection.worker, connection.until);
                if *why == EndReason::RequestTimedOut {
                    ensure!(until.is_some_and(|until| until <= now), "a session is ended before its time is up");
                    // Its worker takes no further one.
                    self.sent_away.insert(worker);
                }
                // One at a time: it may still compute for what was ended.
                let stuck = *why == EndReason::Operator && self.workers.get(&worker).is_some_and(|at| !at.unlimited);
                if stuck {
                    self.sent_away.insert(worker);
                }
                if stuck
                    || matches!(why, EndReason::RequestTimedOut | EndReason::LingerTimedOut | EndReason::DrainTimedOut)
                {
                    self.note_open_sessions(worker, None);
                }
            }
            Effect::Notice(Notice::Recycling { worker, why }) => self.is_spent(*worker, *why, now)?,
            Effect::Notice(Notice::PingMissed { worker: id, in_a_row }) => {
                let Some(worker) = self.workers.get_mut(id).filter(|worker| worker.life.unanswered) else {
                    return Err(format!("{id} has missed no ping (invariant 15)"));
                };
                worker.life.unanswered = false;
                worker.life.missed += 1;
                ensure!(worker.life.missed == *in_a_row, "{id} has missed {}, not {in_a_row}", worker.life.missed);
            }
            Effect::Record(passing) => {
                let Some(expected) = self.to_record.take() else {
                    return Err(format!("{passing:?} left in peace, or was recorded twice (invariant 14)"));
                };
                expected.compare(passing, now)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// A worker that has done enough stays until another serves in its place.
    fn leaves(&mut self, id: WorkerId, why: StopReason) -> Checked {
        let (max, surge) = (self.settings.max.get() as usize, self.settings.surge);
        // One that drained for that may go when nobody limits it any more.
        if why == StopReason::TenantMemory
            && let Some(worker) = self.workers.get(&id).filter(|worker| worker.life.why.is_none())
        {
            self.left_for_memory(&worker.root, id)?;
        }
        let Some(worker) = self.workers.get_mut(&id) else { return Err(format!("{id} leaves and does not exist")) };
        let first = worker.life.why.is_none();
        ensure!(first || worker.life.why == Some(why), "{id} leaves for {why:?} and not {:?}", worker.life.why);
        worker.life.why = Some(why);
        let (app, spent) = (worker.app, worker.life.spent);
        if why == StopReason::Retired {
            ensure!(self.sent_away.contains(&id), "{id} was retired by nobody");
        }
        if first && spent.is_some() && !is_recycling(why) {
            let new = self.succeeds.filter(|new| self.workers.get(new).is_some_and(|new| new.app == app));
            if let Some(new) = new.filter(|_| why == StopReason::OldGeneration) {
                self.take_over(id, new);
            }
            self.nobody_replaces(app);
        }
        if !first || !is_recycling(why) {
            return Ok(());
        }
        ensure!(spent == Some(why), "{id} leaves for {why:?} without having been found so (invariant 11)");
        let new = self.succeeds.filter(|new| self.workers.get(new).is_some_and(|new| new.app == app));
        if let Some(new) = new {
            self.succeeds = None;
            self.take_over(id, new);
            return Ok(());
        }
        ensure!(surge == 0, "{id} leaves before another serves in its place (invariant 11)");
        let limit = self.roots[&self.apps[&app]].wanted.max_per_app.or(self.max_per_app);
        // Who waits for a preloader has a place.
        let waiting =
            |only: Option<AppId>| self.waiting.values().filter(|of| only.is_none_or(|app| **of == app)).count();
        let of_app = || self.workers.iter().filter(|(_, worker)| worker.app == app);
        let full = self.workers.len() + waiting(None) >= max
            || limit.is_some_and(|limit| of_app().count() + waiting(Some(app)) >= limit.get() as usize)
            || self.tenant_may_be_full(app)
            // Somebody may have begun to wait for one in this very step.
            || self.any_loading();
        ensure!(full, "{id} leaves first though there is room for another (invariant 11)");
        let mut others = of_app().filter(|(other, _)| **other != id);
        let alone = others.all(|(_, other)| other.phase == Phase::Serving);
        ensure!(alone, "{id} leaves while another of its app doesn't serve (invariant 11)");
        Ok(())
    }

    /// How long nobody has used an app doesn't begin anew with its workers.
    fn take_over(&mut self, old: WorkerId, new: WorkerId) {
        let idle_since = self.workers[&old].idle_since;
        if self.open_at(old).is_empty()
            && let Some(new) = self.workers.get_mut(&new)
        {
            new.idle_since = idle_since;
        }
    }

    /// A worker that was to be replaced leaves otherwise: whoever was started for it is one like any other.
    pub(super) fn nobody_replaces(&mut self, app: AppId) {
        let mut of_app = self.workers.values_mut().filter(|worker| worker.app == app && worker.is_starting());
        if let Some(worker) = of_app.find(|worker| worker.life.extra) {
            worker.life.extra = false;
        }
    }

    fn examined(&mut self, id: WorkerId, now: Time) -> Checked {
        let Some(worker) = self.workers.get_mut(&id) else { return Err(format!("{id} is examined, and gone")) };
        worker.life.looks += 1;
        if worker.phase == Phase::Serving || worker.life.doomed.is_some() {
            return Ok(());
        }
        // Anybody else is looked at before being killed.
        let due = worker.life.kill_by.is_some_and(|by| by <= now);
        ensure!(due && !worker.life.killed, "{id} is to be killed before its time (invariant 13)");
        let why = if worker.phase == Phase::Starting { StopReason::StartTimedOut } else { StopReason::StopTimedOut };
        self.note_open_sessions(id, None);
        self.is_doomed(id, why, now);
        Ok(())
    }

    fn killed(&mut self, id: WorkerId, why: StopReason) -> Checked {
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| !worker.life.killed) else {
            return Err(format!("{id} is killed twice or does not exist (invariant 13)"));
        };
        let life = &mut worker.life;
        let allowed = life.doomed.is_some() || life.report.is_some() || self.ending;
        ensure!(allowed, "{id} is killed without a look (invariant 13)");
        let first = *life.why.get_or_insert(why);
        ensure!(first == why, "{id} is killed for {why:?} and was to leave for {first:?}");
        life.killed = true;
        // What one that took too long has to say is awaited still.
        if worker.phase != Phase::Starting || life.report.is_some() {
            worker.phase = Phase::Leaving;
        }
        Ok(())
    }

    fn is_spent(&mut self, id: WorkerId, why: StopReason, now: Time) -> Checked {
        let Some(worker) = self.workers.get(&id).filter(|worker| worker.phase == Phase::Serving) else {
            return Err(format!("{id} is to be replaced and does not serve"));
        };
        let (life, limits) = (&worker.life, self.limits(&worker.root));
        ensure!(life.spent.is_none(), "{id} is to be replaced twice");
        let enough = match why {
            StopReason::MaxRequests => {
                limits.max_requests.is_some_and(|most| life.served * 10 >= most.get() * 9 && life.served <= most.get())
            }
            StopReason::MaxLifetime => limits.max_lifetime.is_some_and(|most| now.since(worker.ready) >= most * 9 / 10),
            StopReason::MaxMemory => limits.max_memory.is_some() && life.agreeing >= 3,
            StopReason::PingFailed => life.missed >= limits.ping_failures.get(),
            _ => false,
        };
        ensure!(enough, "{id} is to be replaced for {why:?}, and has not had enough of that (invariant 11)");
        self.workers.get_mut(&id).expect("it was just found").life.spent = Some(why);
        Ok(())
    }

    pub(super) fn check_lives(&mut self, now: Time, ticked: bool) -> Checked {
        if let Some(expected) = &self.to_record {
            return Err(format!("the end of {} is not recorded (invariant 14)", expected.worker));
        }
        for (id, worker) in &mut self.workers {
            let life = &mut worker.life;
            life.unanswered = false;
            let leaves = worker.phase != Phase::Serving;
            ensure!(!(leaves && life.is_pinged()), "{id} leaves and is pinged (invariant 15)");
            if !ticked {
                continue;
            }
            let to_kill = if life.killed { None } else { life.doomed.or(life.kill_by.filter(|_| leaves)) };
            ensure!(to_kill.is_none_or(|by| by > now), "{id} should have been killed (invariant 13): {to_kill:?}");
            let overdue = life.ping.is_some_and(|since| since + self.settings.defaults.ping_timeout <= now);
            ensure!(!overdue, "a ping of {id} has gone on for too long (invariant 15)");
        }
        let serving = || self.workers.iter().filter(|(_, worker)| worker.phase == Phase::Serving);
        for (id, worker) in serving().filter(|(_, worker)| worker.life.spent.is_none()) {
            let limits = self.limits(&worker.root);
            let served = limits.max_requests.is_some_and(|most| worker.life.served >= most.get());
            ensure!(!served, "{id} has served enough (invariant 11)");
            let old = ticked && limits.max_lifetime.is_some_and(|most| worker.ready + most <= now);
            ensure!(!old, "{id} is old enough (invariant 11)");
        }
        Ok(())
    }

    /// Workers that have done enough and serve still.
    pub(crate) fn spent(&self) -> Vec<WorkerId> {
        let serving = self.workers.iter().filter(|(_, worker)| worker.phase == Phase::Serving);
        serving.filter(|(_, worker)| worker.life.spent.is_some()).map(|(&id, _)| id).collect()
    }
}

/// A worker is replaced for these.
fn is_recycling(why: StopReason) -> bool {
    use StopReason::{MaxLifetime, MaxMemory, MaxRequests, PingFailed};
    matches!(why, MaxRequests | MaxLifetime | MaxMemory | PingFailed)
}

impl Worker {
    pub(super) fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// A newer generation serves.
    pub(super) fn is_superseded(&mut self) {
        self.life.spent = Some(StopReason::OldGeneration);
    }

    pub(super) fn was_told_to_leave(&self) -> bool {
        self.life.why.is_some() || self.life.is_doomed()
    }

    pub(super) fn is_spent(&self) -> bool {
        self.is_serving() && self.life.spent.is_some()
    }

    pub(super) fn is_starting(&self) -> bool {
        self.phase == Phase::Starting
    }
}
