//! The workers, and the orders in which they are looked for.

use crate::effect::StopReason;
use crate::ids::{AppId, ConnectionId, Generation, WorkerId};
use crate::queue::Ticket;
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
    pub(crate) parking: Parking,
    pub(crate) phase: Phase,
    /// Why it leaves; the first reason stays.
    pub(crate) why: Option<StopReason>,
    /// The waiter it was started for.
    pub(crate) cause: Option<Ticket>,
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
        self.takes_connections() && self.concurrency.allows(self.sessions + self.leases + 1)
    }

    /// Whether a new connection to it can be made; there may be no slot for it.
    pub(crate) fn takes_connections(&self) -> bool {
        self.phase == Phase::Serving && !self.backing_off
    }

    pub(crate) fn is_serving(&self) -> bool {
        self.phase == Phase::Serving
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Serving && self.sessions == 0
    }
}

/// Where a worker stands in the roster's orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    phase: Phase,
    free: Option<(u32, Reverse<Time>)>,
    idle: Option<Time>,
    active: bool,
}

impl Place {
    fn of(worker: &Worker) -> Self {
        Self {
            phase: worker.phase,
            free: worker.has_free_slot().then_some((worker.sessions, Reverse(worker.used))),
            idle: worker.is_idle().then_some(worker.used),
            active: worker.sessions > 0,
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
    /// Those with a free slot: fewest sessions first, then most recently used, so that surplus falls idle.
    free: BTreeSet<(u32, Reverse<Time>, WorkerId)>,
    /// Longest idle first.
    idle: BTreeSet<(Time, WorkerId)>,
}

impl Crew {
    pub(crate) fn count(&self) -> u32 {
        self.all.len() as u32
    }

    /// Workers that serve or will.
    pub(crate) fn live(&self) -> u32 {
        self.starting.len() as u32 + self.serving
    }

    pub(crate) fn freest(&self) -> Option<WorkerId> {
        self.free.first().map(|&(.., worker)| worker)
    }

    /// The longest-idle worker, and since when.
    pub(crate) fn longest_idle(&self) -> Option<(Time, WorkerId)> {
        self.idle.first().copied()
    }
}

static NOBODY: Crew =
    Crew { all: BTreeSet::new(), starting: BTreeSet::new(), serving: 0, free: BTreeSet::new(), idle: BTreeSet::new() };

#[derive(Debug, Default)]
pub(crate) struct Roster {
    workers: BTreeMap<WorkerId, Worker>,
    /// Only apps with workers have an entry.
    crews: BTreeMap<AppId, Crew>,
    starting: BTreeSet<WorkerId>,
    /// Longest idle first.
    idle: BTreeSet<(Time, WorkerId)>,
    draining: u32,
    leaving: u32,
    active: u32,
    last_id: u64,
}

impl Roster {
    pub(crate) fn hire(&mut self, worker: Worker) -> WorkerId {
        self.last_id += 1;
        let id = WorkerId(self.last_id);
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
        if let Some((sessions, used)) = place.free {
            crew.free.insert((sessions, used, id));
        }
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
        if let Some((sessions, used)) = place.free {
            crew.free.remove(&(sessions, used, id));
        }
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

    /// Workers that serve or will.
    pub(crate) fn live(&self) -> u32 {
        self.count() - self.draining - self.leaving
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
        others.fold(0, |sum, id| sum.saturating_add(self.workers[id].concurrency.slots()))
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        let mut again = Self::default();
        for (&id, worker) in &self.workers {
            again.crews.entry(worker.app).or_default().all.insert(id);
            again.place(id, worker.app, Place::of(worker));
            if worker.sessions + worker.leases != worker.connections.len() as u32 {
                return Err(format!("{id} has other connections than sessions and leases"));
            }
        }
        let same = (&again.crews, &again.starting, &again.idle) == (&self.crews, &self.starting, &self.idle)
            && (again.draining, again.leaving, again.active) == (self.draining, self.leaving, self.active);
        if same { Ok(()) } else { Err("the roster's orders do not agree with its workers".into()) }
    }
}
