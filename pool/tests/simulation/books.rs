//! Books of our own, kept from what is said alone: what the pool was told and what it ordered. They know
//! nothing of how it decides, only what may never happen.

mod breaker;
mod counts;
mod judge;
mod life;
mod preloaders;
mod records;
mod rolls;
mod swaps;
mod tenants;

use breaker::Broken;

use crate::knobs::{AppKnobs, Knobs};
use hatchery_pool::{
    AppId, AppSettings, ClientId, Close, ConnectFailure, ConnectionId, Event, Generation, Request, SessionId, Settings,
    SwapStep, Time, WorkerId,
};
use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

pub(crate) type Checked = Result<(), String>;

pub(crate) struct Worker {
    pub(crate) app: AppId,
    generation: u64,
    root: Vec<u8>,
    pub(crate) phase: Phase,
    started: Time,
    ready: Time,
    slots: u32,
    unlimited: bool,
    /// When its drain time is up.
    drain_by: Option<Time>,
    /// Its backlog was full; it may be left alone until then.
    full_until: Time,
    /// When it became ready, or its last session ended.
    idle_since: Time,
    life: life::Life,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Serving,
    Draining,
    Leaving,
}

pub(crate) struct Connection {
    pub(crate) client: ClientId,
    pub(crate) worker: WorkerId,
    pub(crate) session: SessionId,
    pub(crate) state: Use,
    made_for: Option<(Request, Open)>,
    /// When the session on it began.
    began: Time,
    /// When it has had its time.
    until: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Open,
    Parked,
    /// Abandoned, and the order to linger has not been seen.
    Abandoned,
    Lingering,
    /// It has to be ended within the step.
    Over,
}

/// A question nobody has answered.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    pub(crate) root: Vec<u8>,
    arrival: u64,
}

pub(crate) struct Books {
    settings: Settings,
    roots: BTreeMap<Vec<u8>, AppKnobs>,
    max_per_app: Option<NonZeroU32>,
    max_idle: Option<Duration>,
    pub(crate) apps: BTreeMap<AppId, Vec<u8>>,
    pub(crate) workers: BTreeMap<WorkerId, Worker>,
    preloaders: BTreeMap<WorkerId, preloaders::Preloader>,
    /// Workers without a process, which wait for a preloader.
    waiting: BTreeMap<WorkerId, AppId>,
    /// In this step those may get one.
    may_be_forked: bool,
    /// The app whose worker was not forked in this step: another takes its place.
    lost_fork: Option<AppId>,
    /// Workers at the end of the last step, with those that wait for a preloader.
    all: usize,
    pub(crate) connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) open: BTreeMap<Request, Open>,
    /// With when their session began.
    reconnects: BTreeMap<Request, (SessionId, Open, Time)>,
    /// Questions with a number that was open already.
    doubled: BTreeSet<Request>,
    /// Orders that wait for their answer.
    orders: BTreeMap<Request, Event>,
    /// Those of clients that are gone.
    gone: BTreeSet<Request>,
    inspections: BTreeSet<(AppId, Generation)>,
    /// Workers that have to leave by somebody's order.
    sent_away: BTreeSet<WorkerId>,
    arrivals: u64,
    last: (WorkerId, ConnectionId, SessionId),
    ending: bool,
    pub(crate) ended: bool,
    /// A worker that has become ready in this step, and replaced nobody yet.
    succeeds: Option<WorkerId>,
    /// What has to be recorded in this step.
    to_record: Option<records::Expected>,
    broken: BTreeMap<Vec<u8>, Broken>,
    deploys: BTreeMap<AppId, rolls::Deploy>,
    /// Apps that the operator has disabled.
    disabled: BTreeSet<Vec<u8>>,
    /// Whose the apps are that belong to a tenant.
    tenants: BTreeMap<Vec<u8>, String>,
    counted: BTreeMap<AppId, counts::Counted>,
    /// Apps that the operator has registered.
    registered: BTreeSet<Vec<u8>>,
    /// An update that was asked for in this step: by whom, and how it begins.
    staged: Option<(AppId, Option<Request>, SwapStep)>,
    /// In this step an app may restart, and begin anew.
    may_restart: bool,
}

impl Books {
    pub(crate) fn new(knobs: &Knobs) -> Self {
        Self {
            settings: knobs.settings.clone(),
            roots: knobs.apps.iter().map(|app| (app.root.clone(), app.clone())).collect(),
            max_per_app: knobs.settings.defaults.max_per_app,
            max_idle: knobs.settings.defaults.max_idle,
            apps: BTreeMap::new(),
            workers: BTreeMap::new(),
            preloaders: BTreeMap::new(),
            waiting: BTreeMap::new(),
            may_be_forked: false,
            lost_fork: None,
            all: 0,
            connections: BTreeMap::new(),
            open: BTreeMap::new(),
            reconnects: BTreeMap::new(),
            doubled: BTreeSet::new(),
            orders: BTreeMap::new(),
            gone: BTreeSet::new(),
            inspections: BTreeSet::new(),
            sent_away: BTreeSet::new(),
            arrivals: 0,
            last: (WorkerId(0), ConnectionId(0), SessionId(0)),
            ending: false,
            ended: false,
            succeeds: None,
            to_record: None,
            broken: BTreeMap::new(),
            deploys: BTreeMap::new(),
            disabled: BTreeSet::new(),
            tenants: BTreeMap::new(),
            counted: BTreeMap::new(),
            registered: BTreeSet::new(),
            staged: None,
            may_restart: false,
        }
    }

    /// The limits of an app that no order changes.
    fn limits(&self, root: &[u8]) -> AppSettings {
        self.roots[root].settings(&self.settings.defaults)
    }

    /// How many workers an app may have.
    pub(crate) fn limit_of(&self, root: &[u8]) -> Option<u32> {
        self.roots[root].wanted.max_per_app.or(self.max_per_app).map(NonZeroU32::get)
    }

    /// Whether an app has a worker that serves.
    pub(crate) fn serves(&self, root: &[u8]) -> bool {
        self.workers.values().any(|worker| worker.root == root && worker.phase == Phase::Serving)
    }

    pub(crate) fn told(&mut self, event: &Event, now: Time) {
        self.told_of_failures(event, now);
        self.told_of_swaps(event);
        self.told_of_rolls(event);
        self.told_of_life(event, now);
        self.told_of_preloaders(event, now);
        self.told_of_counts(event);
        match event {
            Event::Asked { request, root, .. } => {
                self.arrivals += 1;
                let open = Open { root: root.clone(), arrival: self.arrivals };
                if self.open.contains_key(request) {
                    self.doubled.insert(*request);
                } else {
                    self.open.insert(*request, open);
                }
            }
            Event::Cancelled { request } => {
                self.open.remove(request);
            }
            Event::Closed { client, session, how } => self.closed(*client, *session, *how, now),
            Event::Reconnected { request, session } => {
                self.arrivals += 1;
                let (root, began) = self.session(*session).map_or((Vec::new(), now), |id| {
                    let connection = &self.connections[&id];
                    (self.workers[&connection.worker].root.clone(), connection.began)
                });
                self.reconnects.insert(*request, (*session, Open { root, arrival: self.arrivals }, began));
            }
            Event::ClientGone { client } => self.client_gone(*client),
            Event::Inspected { app, generation, .. } | Event::InspectFailed { app, generation, .. } => {
                self.inspections.remove(&(*app, *generation));
            }
            Event::Ready { worker } => {
                let starting = |worker: &&mut Worker| worker.phase == Phase::Starting && !worker.life.is_doomed();
                if let Some(found) = self.workers.get_mut(worker).filter(starting) {
                    (found.phase, found.idle_since, found.ready) = (Phase::Serving, now, now);
                    self.succeeds = Some(*worker);
                }
            }
            Event::SpawnFailed { worker, gone: true, .. } => {
                self.workers.remove(worker);
            }
            Event::ConnectFailed { session, why } => self.connect_failed(*session, *why, now),
            Event::Lingered { connection } => {
                if let Some(connection) = self.connections.get_mut(connection)
                    && connection.state == Use::Lingering
                {
                    connection.state = Use::Over;
                    self.workers.entry(connection.worker).and_modify(|worker| worker.idle_since = now);
                }
            }
            Event::Exited { worker, .. } => {
                self.count_exit(*worker);
                self.workers.remove(worker);
                self.end_where(|connection| connection.worker == *worker);
            }
            Event::Clear { .. } => self.sent_away.extend(self.workers.keys()),
            Event::StopApp { root, .. } | Event::Removed { root, .. } => {
                let of_app = self.workers.iter().filter(|(_, worker)| worker.root == *root);
                self.sent_away.extend(of_app.map(|(&id, _)| id));
            }
            Event::Retire { worker, .. } => _ = self.sent_away.insert(*worker),
            Event::Reloaded { settings } => {
                self.settings = (**settings).clone();
                (self.max_per_app, self.max_idle) = (settings.defaults.max_per_app, settings.defaults.max_idle);
            }
            Event::Ending { .. } => self.ending = true,
            _ => {}
        }
        match order(event) {
            Some(request) => {
                self.orders.insert(request, event.clone());
            }
            None => self.obeyed(event),
        }
    }

    /// Limits hold from the answer to their order on; it may be a refusal.
    fn obeyed(&mut self, order: &Event) {
        match order {
            Event::SetMax { max, .. } => self.settings.max = *max,
            Event::SetMaxPerApp { max_per_app, .. } => self.max_per_app = *max_per_app,
            Event::SetMaxIdleTime { max_idle, .. } => self.max_idle = *max_idle,
            _ => self.tenant_said(order),
        }
    }

    fn session(&self, session: SessionId) -> Option<ConnectionId> {
        let mut all = self.connections.iter();
        all.find(|(_, connection)| connection.session == session).map(|(&id, _)| id)
    }

    fn end_where(&mut self, over: impl Fn(&Connection) -> bool) {
        for connection in self.connections.values_mut().filter(|connection| over(connection)) {
            connection.state = Use::Over;
        }
    }

    fn closed(&mut self, client: ClientId, session: SessionId, how: Close, now: Time) {
        let Some(id) = self.session(session) else { return };
        let connection = self.connections.get_mut(&id).expect("it was just found");
        if connection.client != client {
            return;
        }
        if connection.state == Use::Open && how != Close::Abandoned {
            self.workers.entry(connection.worker).and_modify(|worker| worker.idle_since = now);
        }
        connection.state = match (connection.state, how) {
            (Use::Open, Close::Kept) => Use::Parked,
            (Use::Open, Close::Abandoned) => Use::Abandoned,
            (Use::Open | Use::Parked, Close::Finished) | (Use::Parked, Close::Abandoned) => Use::Over,
            (unchanged, _) => unchanged,
        };
    }

    fn client_gone(&mut self, client: ClientId) {
        self.open.retain(|request, _| request.client != client);
        let gone = self.orders.keys().copied().filter(|request| request.client == client);
        self.gone.extend(gone);
        self.orders.retain(|request, _| request.client != client);
        for connection in self.connections.values_mut().filter(|connection| connection.client == client) {
            connection.state = match connection.state {
                Use::Open => Use::Abandoned,
                Use::Parked => Use::Over,
                unchanged => unchanged,
            };
        }
    }

    fn connect_failed(&mut self, session: SessionId, why: ConnectFailure, now: Time) {
        let Some(id) = self.session(session) else { return };
        let connection = self.connections.remove(&id).expect("it was just found");
        let (request, open) = connection.made_for.expect("only fresh connections fail");
        self.open.insert(request, open);
        if why == ConnectFailure::BacklogFull
            && let Some(worker) = self.workers.get_mut(&connection.worker)
        {
            worker.full_until = now + Duration::from_millis(200);
        }
    }

    pub(crate) fn active(&self) -> u32 {
        let with_session = self.connections.values().filter(|connection| connection.state != Use::Parked);
        with_session.map(|connection| connection.worker).collect::<BTreeSet<_>>().len() as u32
    }
}

/// The number of an order that is to be answered.
fn order(event: &Event) -> Option<Request> {
    match event {
        Event::Clear { request }
        | Event::SetMax { request, .. }
        | Event::SetMaxPerApp { request, .. }
        | Event::SetMaxIdleTime { request, .. }
        | Event::Added { request, .. }
        | Event::Removed { request, .. }
        | Event::StopApp { request, .. }
        | Event::StartApp { request, .. }
        | Event::Disable { request, .. }
        | Event::Enable { request, .. }
        | Event::Retire { request, .. }
        | Event::Restart { request, .. }
        | Event::Staged { request, .. }
        | Event::RolledBack { request, .. }
        | Event::EndSession { request, .. } => *request,
        _ => None,
    }
}
