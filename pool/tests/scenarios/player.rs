//! Turns the steps of a scenario into events, and looks at what came of them.

use hatchery_pool::scenario::{App, Client, EndedBy, Fate, Is, Label, On, Order, Scenario, Starts, Step, Told, Why};
use hatchery_pool::{
    Answer, Beyond, ClientId, ConnectFailure, ConnectionId, Effect, EndReason, Event, Exit, Generation, Invalid, Path,
    Pool, Refusal, ReportId, Request, Scope, SessionId, Time, WorkerId, WorkerSnapshot, WorkerState,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

type Played = Result<(), String>;

pub(crate) struct Player {
    scenario: &'static Scenario,
    pool: Pool,
    now: Time,
    gets: BTreeMap<Label, Get>,
    last_request: u64,
    /// Workers that are held back before they are ready, oldest first.
    starting: VecDeque<(App, WorkerId)>,
    apps: BTreeMap<WorkerId, App>,
    stubborn: BTreeSet<App>,
    uninspectable: BTreeSet<App>,
    unreachable: BTreeMap<App, ConnectFailure>,
    hanging: BTreeSet<WorkerId>,
    memory: BTreeMap<WorkerId, u64>,
    nobody_looks: bool,
    fates: BTreeSet<(WorkerId, Fate)>,
    /// Who asked for a restart or an update, and what they were told.
    askers: BTreeMap<Label, Request>,
    answers: BTreeMap<Request, Answer>,
    /// What follows from what was ordered, and is still to be told.
    following: VecDeque<Event>,
    ended: bool,
}

struct Get {
    request: Request,
    granted: Option<Granted>,
    refused: Option<Why>,
    /// Until when its app is disabled.
    until: Option<Time>,
    ended: Option<EndedBy>,
}

#[derive(Clone, Copy)]
struct Granted {
    session: SessionId,
    worker: WorkerId,
    connection: ConnectionId,
    path: Path,
}

impl Player {
    pub(crate) fn new(scenario: &'static Scenario) -> Self {
        Self {
            scenario,
            pool: Pool::new(scenario.settings()),
            now: Time::ZERO,
            gets: BTreeMap::new(),
            last_request: 0,
            starting: VecDeque::new(),
            apps: BTreeMap::new(),
            stubborn: BTreeSet::new(),
            uninspectable: BTreeSet::new(),
            unreachable: BTreeMap::new(),
            hanging: BTreeSet::new(),
            memory: BTreeMap::new(),
            nobody_looks: false,
            fates: BTreeSet::new(),
            askers: BTreeMap::new(),
            answers: BTreeMap::new(),
            following: VecDeque::new(),
            ended: false,
        }
    }

    pub(crate) fn play(&mut self, step: &Step) -> Played {
        match *step {
            Step::Get { app, session, client, ref wanted } => {
                let request = self.new_request(client);
                self.gets.insert(session, Get { request, granted: None, refused: None, until: None, ended: None });
                self.tell(Event::Asked { request, root: root(app), wanted: (**wanted).clone(), key: None })
            }
            Step::Cancel { session } => self.tell(Event::Cancelled { request: self.get(session)?.request }),
            Step::Close { session, how } => {
                let client = self.get(session)?.request.client;
                self.tell(Event::Closed { client, session: self.granted(session)?.session, how })
            }
            Step::Reconnect { session } => {
                let (client, id) = (self.get(session)?.request.client, self.granted(session)?.session);
                let request = self.new_request(client.0);
                self.gets.get_mut(session).expect("it was just found").request = request;
                self.tell(Event::Reconnected { request, session: id })
            }
            Step::ClientDies { client } => self.tell(Event::ClientGone { client: ClientId(client) }),
            Step::WorkerReady { app } => {
                let worker = self.held_back(app)?;
                self.tell(Event::Ready { worker })
            }
            Step::WorkerFails { app } => {
                let worker = self.held_back(app)?;
                self.tell(Event::SpawnFailed { worker, report: ReportId(1), gone: true })
            }
            Step::KillWorker { session } => {
                let worker = self.granted(session)?.worker;
                self.tell(Event::Exited { worker, exit: Exit::Signal(9) })
            }
            Step::Crash { session } => {
                let worker = self.granted(session)?.worker;
                self.tell(Event::Exited { worker, exit: Exit::Signal(6) })
            }
            Step::Hang { session, on } => {
                let worker = self.granted(session)?.worker;
                if on {
                    self.hanging.insert(worker)
                } else {
                    self.hanging.remove(&worker)
                };
                Ok(())
            }
            Step::Uses { session, bytes } => {
                self.memory.insert(self.granted(session)?.worker, bytes);
                Ok(())
            }
            Step::NobodyLooks => {
                self.nobody_looks = true;
                Ok(())
            }
            Step::Stubborn { app } => {
                self.stubborn.insert(app);
                Ok(())
            }
            Step::Uninspectable { app } => {
                self.uninspectable.insert(app);
                Ok(())
            }
            Step::Unreachable { app, why } => {
                self.unreachable.insert(app, why);
                Ok(())
            }
            Step::Lingered { session } => self.tell(Event::Lingered { connection: self.granted(session)?.connection }),
            Step::SetMax(max) => {
                let request = Some(self.new_request(1));
                self.tell(Event::SetMax { request, max })
            }
            Step::SetMaxPerApp(max_per_app) => {
                let request = Some(self.new_request(1));
                self.tell(Event::SetMaxPerApp { request, max_per_app })
            }
            Step::SetMaxIdle(max_idle) => {
                let request = Some(self.new_request(1));
                self.tell(Event::SetMaxIdleTime { request, max_idle })
            }
            Step::Clear => self.tell(Event::Clear { request: None }),
            Step::Order { order, app } => self.tell(self.order(order, root(app))),
            Step::Restart { app, mode, asker } => {
                let request = self.new_asker(asker);
                self.tell(Event::Restart { request, root: root(app), mode })
            }
            Step::FilesChange { app } => {
                let app = self.pool.app(&root(app)).ok_or("it is not known")?;
                self.tell(Event::FilesChanged { app })
            }
            Step::Update { app, back, asker } => {
                let (request, root) = (self.new_asker(asker), root(app));
                self.tell(if back { Event::RolledBack { request, root } } else { Event::Staged { request, root } })
            }
            Step::Exchanged { app, done } => {
                let app = self.pool.app(&root(app)).ok_or("it is not known")?;
                let report = (!done).then_some(ReportId(1));
                self.tell(Event::SwapDone { app, report })
            }
            Step::Retire { session } => {
                self.tell(Event::Retire { request: None, worker: self.granted(session)?.worker })
            }
            Step::End { session } => {
                self.tell(Event::EndSession { request: None, session: self.granted(session)?.session })
            }
            Step::EndPool { grace } => self.tell(Event::Ending { grace }),
            Step::Pass(time) => self.pass(time),
            _ => self.expect(step),
        }
    }

    fn expect(&self, step: &Step) -> Played {
        let seen = self.pool.snapshot(self.now);
        let all = || seen.apps.iter().flat_map(|app| &app.workers);
        match *step {
            Step::Granted { session, on } => self.expect_grant(session, on),
            Step::Waiting { session } => {
                let get = self.get(session)?;
                expect(&(get.refused, get.granted.is_some()), &(None, false))
            }
            Step::Refused { session, why } => expect(&self.get(session)?.refused, &Some(why)),
            Step::Ended { session, why } => expect(&self.get(session)?.ended, &Some(why)),
            Step::Count { app: None, workers } => expect(&(seen.count, self.pool.count()), &(workers, workers)),
            Step::Count { app: Some(app), workers } => {
                let found = seen.apps.iter().find(|seen| seen.root == root(app));
                expect(&found.map_or(0, |app| app.workers.len()), &(workers as usize))
            }
            Step::Starting { workers } => {
                let starting = all().filter(|worker| worker.state == WorkerState::Starting).count();
                expect(&starting, &(workers as usize))
            }
            Step::Active { workers } => expect(&(seen.active, self.pool.active()), &(workers, workers)),
            Step::WaitingTotal { gets } => expect(&seen.waiting, &gets),
            Step::Worker { session, is } => {
                let id = self.granted(session)?.worker;
                expect(&state(all().find(|worker| worker.id == id)), &Some(is))
            }
            Step::Forgotten { app, so } => expect(&self.pool.app(&root(app)).is_none(), &so),
            Step::DisabledFor { session, time } => {
                let get = self.get(session)?;
                expect(&(get.refused, get.until), &(Some(Why::Disabled), Some(self.now + time)))
            }
            Step::Disabled { app, so } => {
                let found = seen.apps.iter().find(|seen| seen.root == root(app));
                expect(&found.is_some_and(|app| app.disabled.is_some()), &so)
            }
            Step::Was { session, what, so } => {
                expect(&self.fates.contains(&(self.granted(session)?.worker, what)), &so)
            }
            Step::InGeneration { app, generation } => {
                let found = seen.apps.iter().find(|seen| seen.root == root(app));
                expect(&found.map(|app| app.generation), &Some(Generation(generation)))
            }
            Step::Told { asker, what } => {
                let request = self.askers.get(asker).ok_or_else(|| format!("there was no {asker}"))?;
                let told = match self.answers.get(request) {
                    None => Told::Nothing,
                    Some(Answer::Done) => Told::Done,
                    Some(Answer::Refused(refusal)) => Told::Refused(why(refusal)),
                };
                expect(&told, &what)
            }
            Step::PoolEnded => expect(&self.ended, &true),
            _ => Err("that is no expectation".into()),
        }
    }

    fn expect_grant(&self, session: Label, on: On) -> Played {
        let granted = self.granted(session)?;
        match on {
            On::Anything => Ok(()),
            On::WorkerOf(other) => expect(&granted.worker, &self.granted(other)?.worker),
            On::AnotherWorkerThan(other) if granted.worker == self.granted(other)?.worker => {
                Err(format!("it is on the same, {}", granted.worker))
            }
            On::AnotherWorkerThan(_) => Ok(()),
            On::LeaseOf(other) => {
                expect(&(granted.connection, granted.path), &(self.granted(other)?.connection, Path::Parked))
            }
            On::FreshConnection => expect(&granted.path, &Path::Fresh),
        }
    }

    fn get(&self, session: Label) -> Result<&Get, String> {
        self.gets.get(session).ok_or_else(|| format!("there was no {session}"))
    }

    fn granted(&self, session: Label) -> Result<Granted, String> {
        let get = self.get(session)?;
        get.granted.ok_or_else(|| format!("{session} is not granted; refused: {:?}", get.refused))
    }

    fn new_request(&mut self, client: Client) -> Request {
        self.last_request += 1;
        Request { client: ClientId(client), number: self.last_request }
    }

    fn new_asker(&mut self, asker: Label) -> Option<Request> {
        let request = self.new_request(1);
        self.askers.insert(asker, request);
        Some(request)
    }

    fn held_back(&mut self, app: Option<App>) -> Result<WorkerId, String> {
        let found = self.starting.iter().position(|&(of, _)| app.is_none_or(|app| app == of));
        let found = found.and_then(|index| self.starting.remove(index));
        found.map(|(_, worker)| worker).ok_or_else(|| "no worker is starting".into())
    }

    fn order(&self, order: Order, root: Vec<u8>) -> Event {
        let request = None;
        match order {
            Order::Add => Event::Added { request, root, settings: self.pool.settings().defaults.clone() },
            Order::Remove => Event::Removed { request, root },
            Order::Stop => Event::StopApp { request, root },
            Order::Start => Event::StartApp { request, root },
            Order::Disable => Event::Disable { request, root, why: "maintenance".into() },
            Order::Enable => Event::Enable { request, root },
        }
    }

    fn pass(&mut self, time: Duration) -> Played {
        let until = self.now + time;
        while let Some(next) = self.pool.deadline().filter(|&next| next <= until) {
            self.now = self.now.max(next);
            self.tell(Event::Tick)?;
        }
        self.now = until;
        Ok(())
    }

    /// Tells the pool a fact, and everything that follows from what it orders.
    fn tell(&mut self, event: Event) -> Played {
        self.following.push_back(event);
        while let Some(event) = self.following.pop_front() {
            let effects = self.pool.step(self.now, event);
            // A connection that can't be made is told before anything else.
            let before = std::mem::take(&mut self.following);
            let mut failed = VecDeque::new();
            for effect in effects {
                failed.extend(self.follow(effect));
            }
            let after = std::mem::take(&mut self.following);
            self.following.extend(failed.into_iter().chain(before).chain(after));
            self.pool.check(self.now)?;
        }
        Ok(())
    }

    /// Lets an order have its consequences; a failed connection is returned, to be told at once.
    fn follow(&mut self, effect: Effect) -> Option<Event> {
        match effect {
            Effect::Inspect { app, generation } => {
                let failed = self.uninspectable.remove(&self.letter(app));
                self.following.push_back(if failed {
                    Event::InspectFailed { app, generation, report: ReportId(1) }
                } else {
                    Event::Inspected { app, generation, plan: self.scenario.plan }
                });
            }
            Effect::Spawn { app, worker, .. } => {
                self.apps.insert(worker, self.letter(app));
                match self.scenario.starts {
                    Starts::AtOnce => self.following.push_back(Event::Ready { worker }),
                    Starts::ByHand => self.starting.push_back((self.letter(app), worker)),
                }
            }
            Effect::Grant { request, session, worker, connection, path } => {
                let unreachable = self.unreachable.remove(&self.apps[&worker]).filter(|_| path == Path::Fresh);
                if let Some(why) = unreachable {
                    return Some(Event::ConnectFailed { session, why });
                }
                if let Some(get) = self.gets.values_mut().find(|get| get.request == request) {
                    get.granted = Some(Granted { session, worker, connection, path });
                }
            }
            Effect::Refuse { request, refusal } => {
                if let Some(get) = self.gets.values_mut().find(|get| get.request == request) {
                    get.refused = Some(why(&refusal));
                    get.until = if let Refusal::Disabled { until, .. } = refusal { until } else { None };
                }
            }
            Effect::Revoke { session, why, .. } => {
                let of = |get: &&mut Get| get.granted.is_some_and(|granted| granted.session == session);
                if let Some(get) = self.gets.values_mut().find(of) {
                    get.ended = ended_by(why);
                }
            }
            Effect::Stop { worker, .. } if self.is_obedient(worker) => self.leave(worker, Exit::Status(0)),
            Effect::Sample { worker } => {
                let resident_bytes = self.memory_of(worker);
                self.following.push_back(Event::Sampled { worker, resident_bytes });
            }
            Effect::Examine { worker } => {
                self.fates.insert((worker, Fate::Examined));
                if !self.nobody_looks {
                    let memory_bytes = Some(self.memory_of(worker));
                    self.following.push_back(Event::Examined { worker, memory_bytes });
                }
            }
            Effect::Ping { worker } if !self.hanging.contains(&worker) => {
                self.following.push_back(Event::Pinged { worker, alive: true });
            }
            Effect::Dump { worker } => _ = self.fates.insert((worker, Fate::Dumped)),
            Effect::Kill { worker, .. } => {
                self.fates.insert((worker, Fate::Killed));
                self.leave(worker, Exit::Signal(9));
            }
            Effect::Record(passing) => _ = self.fates.insert((passing.worker, Fate::Recorded)),
            Effect::Answer { request, answer } => _ = self.answers.insert(request, answer),
            Effect::Ended => self.ended = true,
            _ => {}
        }
        None
    }

    fn is_obedient(&self, worker: WorkerId) -> bool {
        !self.stubborn.contains(&self.apps[&worker]) && !self.hanging.contains(&worker)
    }

    fn memory_of(&self, worker: WorkerId) -> u64 {
        self.memory.get(&worker).copied().unwrap_or(0)
    }

    /// A worker that leaves before it was ready did not start.
    fn leave(&mut self, worker: WorkerId, exit: Exit) {
        if let Some(index) = self.starting.iter().position(|&(_, starting)| starting == worker) {
            self.starting.remove(index);
            self.following.push_back(Event::SpawnFailed { worker, report: ReportId(1), gone: false });
        }
        self.following.push_back(Event::Exited { worker, exit });
    }

    fn letter(&self, app: hatchery_pool::AppId) -> App {
        let root = self.pool.root(app).expect("an app that is ordered for is known");
        char::from(*root.last().expect("roots are not empty"))
    }
}

fn expect<T: PartialEq + std::fmt::Debug>(found: &T, expected: &T) -> Played {
    if found == expected { Ok(()) } else { Err(format!("it is {found:?} and not {expected:?}")) }
}

fn root(app: App) -> Vec<u8> {
    let folder = if app.is_ascii_uppercase() { "/apps" } else { "/elsewhere" };
    format!("{folder}/{app}").into_bytes()
}

/// `None` for a worker that is still starting.
fn state(worker: Option<&WorkerSnapshot>) -> Option<Is> {
    match worker.map(|worker| worker.state) {
        None => Some(Is::Gone),
        Some(WorkerState::Starting) => None,
        Some(WorkerState::Ready) => Some(Is::Ready),
        Some(WorkerState::Busy) => Some(Is::Busy),
        Some(WorkerState::Draining) => Some(Is::Draining),
        Some(WorkerState::Stopping) => Some(Is::Stopping),
    }
}

fn why(refusal: &Refusal) -> Why {
    match refusal {
        Refusal::SpawnFailed(_) => Why::SpawnFailed,
        Refusal::QueueFull { scope: Scope::App, .. } => Why::QueueFull,
        Refusal::QueueFull { scope: Scope::Pool, .. } => Why::PoolQueueFull,
        Refusal::Disabled { .. } => Why::Disabled,
        Refusal::Stopped => Why::Stopped,
        Refusal::Overloaded => Why::Overloaded,
        Refusal::ShuttingDown => Why::ShuttingDown,
        Refusal::TimedOut { .. } => Why::TimedOut,
        Refusal::NotAllowed(Beyond::Root | Beyond::Operators(_) | Beyond::Limit(_)) => Why::NotAllowed,
        Refusal::Invalid(Invalid::Removed) => Why::Removed,
        Refusal::Invalid(Invalid::Unknown | Invalid::NotYours | Invalid::DuplicateRequest) => Why::Unknown,
        Refusal::Invalid(Invalid::UpdateUnderWay) => Why::UpdateUnderWay,
    }
}

fn ended_by(why: EndReason) -> Option<EndedBy> {
    match why {
        EndReason::WorkerGone(_) => Some(EndedBy::WorkerGone),
        EndReason::LeaseEnded => Some(EndedBy::LeaseEnded),
        EndReason::DrainTimedOut => Some(EndedBy::DrainTimedOut),
        EndReason::LingerTimedOut => Some(EndedBy::LingerTimedOut),
        EndReason::Operator => Some(EndedBy::Operator),
        EndReason::PoolEnding => Some(EndedBy::PoolEnding),
        EndReason::RequestTimedOut => Some(EndedBy::RequestTimedOut),
        EndReason::Restarted => Some(EndedBy::Restarted),
        EndReason::ClientGone | EndReason::Cancelled => None,
    }
}
