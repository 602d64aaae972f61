//! The workers, and the orders in which they are looked for.

use crate::effect::StopReason;
use crate::health::Health;
use crate::ids::{AppId, ClientId, ConnectionId, Generation, ReportId, SessionId, WorkerId};
use crate::queue::Ticket;
use crate::recycling::Weight;
use crate::settings::{Concurrency, Parking};
use crate::time::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) app: AppId,
    pub(crate) generation: Generation,
    pub(crate) concurrency: Concurrency,
    /// Sessions, leases and pings that it may hold.
    pub(crate) slots: u32,
    pub(crate) parking: Parking,
    pub(crate) phase: Phase,
    /// Why it leaves; the first reason stays.
    pub(crate) why: Option<StopReason>,
    /// The waiter it was started for.
    pub(crate) cause: Option<Ticket>,
    /// The preloader that it is to be forked from, as soon as that is ready: it has no process before.
    pub(crate) awaits: Option<WorkerId>,
    /// The preloader that it was forked from.
    pub(crate) from: Option<WorkerId>,
    pub(crate) started: Time,
    /// When it became ready.
    pub(crate) ready: Time,
    /// When it last began or ended a session.
    pub(crate) used: Time,
    /// Open or abandoned: each takes a slot.
    pub(crate) sessions: u32,
    /// Parked: each takes a slot, until somebody else needs it.
    pub(crate) leases: u32,
    pub(crate) connections: BTreeSet<ConnectionId>,
    pub(crate) served: u64,
    /// Its backlog was full and is not tried again before its timer; how long it was given last.
    pub(crate) back_off: Option<Duration>,
    pub(crate) backing_off: bool,
    /// It has done enough and is to be replaced: used only when nobody else has a slot.
    pub(crate) spent: Option<StopReason>,
    /// The spent worker that it is started for.
    pub(crate) replaces: Option<WorkerId>,
    pub(crate) replaced_by: Option<WorkerId>,
    /// It is the first of a new generation, and starts while older workers serve: it replaces one of them.
    pub(crate) beside: bool,
    pub(crate) weight: Weight,
    pub(crate) health: Health,
    /// It is to be killed, and looked at before.
    pub(crate) doomed: bool,
    /// Why it could not be started.
    pub(crate) report: Option<ReportId>,
    /// Sessions it had when it was given up.
    pub(crate) open_at_end: Vec<(SessionId, ClientId, Time)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    /// It took too long to start and was killed; what it has to say is awaited, and no other is started in
    /// its place before.
    Failing,
    Serving,
    Draining,
    /// Told to leave (TERM).
    Stopping,
    /// Told again (KILL): only its end is awaited.
    Killed,
}

impl Worker {
    pub(crate) fn has_free_slot(&self) -> bool {
        let taken = self.sessions + self.leases + u32::from(self.health.pinging);
        self.takes_connections() && taken < self.slots
    }

    /// Whether a new connection to it can be made; there may be no slot for it.
    pub(crate) fn takes_connections(&self) -> bool {
        self.phase == Phase::Serving && !self.backing_off
    }

    fn is_to_come(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Failing)
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    /// A newer generation serves.
    pub(crate) fn is_superseded(&self) -> bool {
        self.spent == Some(StopReason::OldGeneration)
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Serving && self.sessions == 0
    }
}

/// Where a worker stands in the roster's orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    phase: Phase,
    free: Option<Order>,
    idle: Option<Time>,
    active: bool,
    /// To be replaced, and nobody is started for that.
    spent: bool,
    replacing: bool,
}

/// In which order free slots are given: spent workers late, those of an older generation last, then fewest sessions
/// first, then most recently used, so that surplus falls idle.
type Order = (u8, u32, Reverse<Time>);

impl Place {
    fn of(worker: &Worker) -> Self {
        let late = match worker.spent {
            None => 0,
            Some(StopReason::OldGeneration) => 2,
            Some(_) => 1,
        };
        Self {
            phase: worker.phase,
            free: worker.has_free_slot().then_some((late, worker.sessions, Reverse(worker.used))),
            idle: worker.is_idle().then_some(worker.used),
            active: worker.sessions > 0,
            spent: worker.is_serving() && worker.spent.is_some() && worker.replaced_by.is_none(),
            replacing: worker.replaces.is_some() || worker.beside && worker.is_to_come(),
        }
    }
}

/// The workers of one app.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Crew {
    pub(crate) all: BTreeSet<WorkerId>,
    /// Those that may still become ready, as far as is known.
    pub(crate) starting: BTreeSet<WorkerId>,
    pub(crate) serving: u32,
    /// Those of the starting that replace one which still serves.
    replacing: u32,
    spent: u32,
    /// Those with a free slot.
    free: BTreeSet<(Order, WorkerId)>,
    /// Longest idle first.
    idle: BTreeSet<(Time, WorkerId)>,
}

impl Crew {
    pub(crate) fn count(&self) -> u32 {
        self.all.len() as u32
    }

    /// Workers that serve or will; one and its replacement count as one.
    pub(crate) fn live(&self) -> u32 {
        self.starting.len() as u32 + self.serving - self.replacing
    }

    /// Whether one is to be replaced, and nobody is started for that.
    pub(crate) fn any_spent(&self) -> bool {
        self.spent > 0
    }

    pub(crate) fn freest(&self) -> Option<WorkerId> {
        self.free.first().map(|&(_, worker)| worker)
    }

    /// The longest-idle worker, and since when.
    pub(crate) fn longest_idle(&self) -> Option<(Time, WorkerId)> {
        self.idle.first().copied()
    }
}

static NOBODY: Crew = Crew {
    all: BTreeSet::new(),
    starting: BTreeSet::new(),
    serving: 0,
    replacing: 0,
    spent: 0,
    free: BTreeSet::new(),
    idle: BTreeSet::new(),
};

#[derive(Debug, Default)]
pub(crate) struct Roster {
    workers: BTreeMap<WorkerId, Worker>,
    /// Only apps with workers have an entry.
    crews: BTreeMap<AppId, Crew>,
    starting: BTreeSet<WorkerId>,
    /// Longest idle first.
    idle: BTreeSet<(Time, WorkerId)>,
    /// To be replaced, in order of age.
    spent: BTreeSet<WorkerId>,
    replacing: u32,
    draining: u32,
    leaving: u32,
    active: u32,
    last_id: u64,
}

impl Roster {
    /// A number that no process had before.
    pub(crate) fn next_id(&mut self) -> WorkerId {
        self.last_id += 1;
        WorkerId(self.last_id)
    }

    pub(crate) fn hire(&mut self, worker: Worker) -> WorkerId {
        let id = self.next_id();
        self.crews.entry(worker.app).or_default().all.insert(id);
        self.place(id, worker.app, Place::of(&worker));
        self.workers.insert(id, worker);
        id
    }

    pub(crate) fn dismiss(&mut self, id: WorkerId) -> Option<Worker> {
        let worker = self.workers.remove(&id)?;
        self.unplace(id, worker.app, Place::of(&worker));
        if let Some(crew) = self.crews.get_mut(&worker.app) {
            crew.all.remove(&id);
            if crew.all.is_empty() {
                self.crews.remove(&worker.app);
            }
        }
        Some(worker)
    }

    /// The one way to change a worker: its places follow.
    pub(crate) fn update(&mut self, id: WorkerId, change: impl FnOnce(&mut Worker)) {
        let worker = self.workers.get_mut(&id).expect("only workers on the roster are changed");
        let app = worker.app;
        let before = Place::of(worker);
        change(worker);
        let after = Place::of(worker);
        if before != after {
            self.unplace(id, app, before);
            self.place(id, app, after);
        }
    }

    fn place(&mut self, id: WorkerId, app: AppId, place: Place) {
        let crew = self.crews.get_mut(&app).expect("a worker is in a crew");
        if let Some(order) = place.free {
            crew.free.insert((order, id));
        }
        if place.spent {
            self.spent.insert(id);
            crew.spent += 1;
        }
        crew.replacing += u32::from(place.replacing);
        // One that failed counts among those that leave.
        self.replacing += u32::from(place.replacing && place.phase == Phase::Starting);
        if let Some(since) = place.idle {
            crew.idle.insert((since, id));
            self.idle.insert((since, id));
        }
        self.active += u32::from(place.active);
        match place.phase {
            Phase::Starting => {
                crew.starting.insert(id);
                self.starting.insert(id);
            }
            Phase::Failing => {
                crew.starting.insert(id);
                self.leaving += 1;
            }
            Phase::Serving => crew.serving += 1,
            Phase::Draining => self.draining += 1,
            Phase::Stopping | Phase::Killed => self.leaving += 1,
        }
    }

    fn unplace(&mut self, id: WorkerId, app: AppId, place: Place) {
        let crew = self.crews.get_mut(&app).expect("a worker is in a crew");
        if let Some(order) = place.free {
            crew.free.remove(&(order, id));
        }
        if place.spent {
            self.spent.remove(&id);
            crew.spent -= 1;
        }
        crew.replacing -= u32::from(place.replacing);
        self.replacing -= u32::from(place.replacing && place.phase == Phase::Starting);
        if let Some(since) = place.idle {
            crew.idle.remove(&(since, id));
            self.idle.remove(&(since, id));
        }
        self.active -= u32::from(place.active);
        match place.phase {
            Phase::Starting => {
                crew.starting.remove(&id);
                self.starting.remove(&id);
            }
            Phase::Failing => {
                crew.starting.remove(&id);
                self.leaving -= 1;
            }
            Phase::Serving => crew.serving -= 1,
            Phase::Draining => self.draining -= 1,
            Phase::Stopping | Phase::Killed => self.leaving -= 1,
        }
    }

    pub(crate) fn get(&self, id: WorkerId) -> Option<&Worker> {
        self.workers.get(&id)
    }

    /// The workers of an app; an empty crew if it has none.
    pub(crate) fn crew(&self, app: AppId) -> &Crew {
        self.crews.get(&app).unwrap_or(&NOBODY)
    }

    /// Of an app's live workers, those that stay: one that failed to start is as good as gone.
    pub(crate) fn staying(&self, crew: &Crew) -> u32 {
        let failed = |worker: &&Worker| worker.phase == Phase::Failing && worker.replaces.is_none() && !worker.beside;
        crew.live() - crew.starting.iter().filter_map(|id| self.workers.get(id)).filter(failed).count() as u32
    }

    pub(crate) fn crews(&self) -> impl Iterator<Item = (AppId, &Crew)> {
        self.crews.iter().map(|(&app, crew)| (app, crew))
    }

    pub(crate) fn workers(&self) -> impl Iterator<Item = (WorkerId, &Worker)> {
        self.workers.iter().map(|(&id, worker)| (id, worker))
    }

    /// Every process, whatever its phase.
    pub(crate) fn count(&self) -> u32 {
        self.workers.len() as u32
    }

    /// Workers that serve or will; one and its replacement count as one.
    pub(crate) fn live(&self) -> u32 {
        self.count() - self.draining - self.leaving - self.replacing
    }

    /// Workers to be replaced, in order of age.
    pub(crate) fn spent(&self) -> impl Iterator<Item = WorkerId> {
        self.spent.iter().copied()
    }

    /// Workers with at least one session.
    pub(crate) fn active(&self) -> u32 {
        self.active
    }

    /// Workers told to leave, whose place is free in a moment.
    pub(crate) fn leaving(&self) -> u32 {
        self.leaving
    }

    /// Starting workers, oldest first.
    pub(crate) fn starting(&self) -> &BTreeSet<WorkerId> {
        &self.starting
    }

    /// Idle workers, longest idle first.
    pub(crate) fn idle(&self) -> impl Iterator<Item = WorkerId> {
        self.idle.iter().map(|&(_, worker)| worker)
    }

    /// Slots that will be there once every starting worker of the app but `except` is ready.
    pub(crate) fn starting_slots(&self, app: AppId, except: Option<WorkerId>) -> u32 {
        let others = self.crew(app).starting.iter().filter(|&&id| Some(id) != except);
        others.fold(0, |sum, id| sum.saturating_add(self.workers[id].slots))
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let mut again = Self::default();
        for (&id, worker) in &self.workers {
            again.crews.entry(worker.app).or_default().all.insert(id);
            again.place(id, worker.app, Place::of(worker));
            let other = worker.replaces.or(worker.replaced_by);
            let paired =
                other.and_then(|other| self.workers.get(&other)).map(|other| (other.replaced_by, other.replaces));
            if other.is_some() && paired != Some((worker.replaces.map(|_| id), worker.replaced_by.map(|_| id))) {
                return Err(format!("{id} and its replacement do not know each other"));
            }
            if worker.replaces.is_some() && !worker.is_to_come() {
                return Err(format!("{id} replaces somebody still"));
            }
            if worker.sessions + worker.leases != worker.connections.len() as u32 {
                return Err(format!("{id} has other connections than sessions and leases"));
            }
        }
        let same = (&again.crews, &again.starting, &again.idle) == (&self.crews, &self.starting, &self.idle)
            && (&again.spent, again.replacing) == (&self.spent, self.replacing)
            && (again.draining, again.leaving, again.active) == (self.draining, self.leaving, self.active);
        if same { Ok(()) } else { Err("the roster's orders do not agree with its workers".into()) }
    }
}
