//! A world around one pool: clients, processes and fate, all drawn from one seed.

use crate::books::{Books, Checked, Phase, Use};
use crate::kinds::Tally;
use crate::knobs::{AppKnobs, Knobs};
use crate::planted::{Bug, Machine};
use crate::random::Random;
use hatchery_pool::{
    AppId, ClientId, ConnectFailure, ConnectionId, Effect, Event, Exit, Generation, Notice, Path, ReportId, Request,
    SessionId, Time, WorkerId,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

pub(crate) struct World {
    pub(crate) random: Random,
    pub(crate) knobs: Knobs,
    pub(crate) machine: Machine,
    pub(crate) books: Books,
    pub(crate) tally: Tally,
    pub(crate) now: Time,
    pub(crate) clients: Vec<ClientId>,
    pub(crate) faults: bool,
    /// What happens when, in the order it was arranged.
    agenda: BTreeMap<(Time, u64), Event>,
    arranged: u64,
    /// What has to be told before anything else.
    at_once: VecDeque<Event>,
    processes: BTreeMap<WorkerId, Process>,
    pub(crate) preloaders: BTreeMap<WorkerId, AppKnobs>,
    /// Forks that come to nothing.
    pub(crate) unborn: BTreeSet<WorkerId>,
    /// Generations whose code is broken, and whether that is seen by looking at it.
    pub(crate) broken: BTreeMap<(AppId, Generation), bool>,
    last_client: u64,
    last_request: u64,
    pub(crate) steps: u64,
    /// Tells what happens while it does.
    pub(crate) aloud: bool,
}

struct Process {
    ignores_term: bool,
    unreachable: u32,
    never_lingers: u32,
    memory: u64,
    knobs: AppKnobs,
}

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut random = Random::new(seed);
        let knobs = Knobs::draw(&mut random);
        let mut world = Self {
            machine: Machine::new(knobs.settings.clone(), bug),
            books: Books::new(&knobs),
            random,
            knobs,
            tally: Tally::default(),
            now: Time::ZERO,
            clients: Vec::new(),
            faults: true,
            agenda: BTreeMap::new(),
            arranged: 0,
            at_once: VecDeque::new(),
            processes: BTreeMap::new(),
            preloaders: BTreeMap::new(),
            unborn: BTreeSet::new(),
            broken: BTreeMap::new(),
            last_client: 0,
            last_request: 0,
            steps: 0,
            aloud: false,
        };
        for _ in 0..world.knobs.clients {
            world.connect_client();
        }
        world
    }

    pub(crate) fn connect_client(&mut self) {
        self.last_client += 1;
        self.clients.push(ClientId(self.last_client));
    }

    pub(crate) fn new_request(&mut self, client: ClientId) -> Request {
        self.last_request += 1;
        Request { client, number: self.last_request }
    }

    pub(crate) fn arrange(&mut self, after: Duration, event: Event) {
        self.arranged += 1;
        self.agenda.insert((self.now + after, self.arranged), event);
    }

    /// Tells the pool, checks what it says, and lets that have its consequences.
    pub(crate) fn tell(&mut self, event: Event) -> Checked {
        self.tell_one(event)?;
        while let Some(event) = self.at_once.pop_front() {
            self.tell_one(event)?;
        }
        Ok(())
    }

    fn tell_one(&mut self, event: Event) -> Checked {
        self.steps += 1;
        self.tally.event(&event);
        self.books.told(&event, self.now);
        let ticked = event == Event::Tick;
        if self.aloud {
            println!("{} {event:?}", self.now);
        }
        let effects = self.machine.step(self.now, event);
        for effect in effects {
            self.tally.effect(&effect);
            if self.aloud {
                println!("    {effect:?}");
            }
            if let Effect::Notice(notice @ Notice::Registered { app }) = &effect {
                self.books.noticed(notice, self.machine.pool.root(*app))?;
            }
            self.books.ordered(&effect, self.now)?;
            self.follow(&effect);
        }
        let unconfirmed = !self.at_once.is_empty();
        self.machine.pool.check(self.now)?;
        self.books.check(self.now, ticked && !unconfirmed)?;
        if ticked && self.machine.pool.deadline().is_some_and(|deadline| deadline <= self.now) {
            return Err("the deadline is not later than its tick".into());
        }
        self.compare()
    }

    /// The pool's own figures and ours are the same.
    fn compare(&mut self) -> Checked {
        let pool = &self.machine.pool;
        // Those that wait for their preloader have a place, and no process yet.
        let waiting = self.books.note_waiting(&pool.snapshot(self.now))?;
        let ours = (self.books.workers.len() as u32 + waiting, self.books.active());
        if (pool.count(), pool.active()) != ours {
            return Err(format!("count, active: {:?}, and should be {ours:?}", (pool.count(), pool.active())));
        }
        if self.steps.is_multiple_of(8) {
            let seen = pool.snapshot(self.now);
            for app in &seen.apps {
                let counters = pool.counters(app.id).ok_or("an app that counts nothing")?;
                self.books.check_counts(app.id, counters)?;
            }
            let sessions: usize =
                seen.apps.iter().flat_map(|app| &app.workers).map(|worker| worker.sessions.len()).sum();
            let leases: u32 = seen.apps.iter().flat_map(|app| &app.workers).map(|worker| worker.leases).sum();
            if seen.waiting as usize != self.books.open.len()
                || sessions + leases as usize != self.books.connections.len()
            {
                return Err(format!("the snapshot differs from what happened: {seen:?}"));
            }
            seen.apps.iter().filter_map(|app| app.limit).for_each(|gate| self.tally.gate(&gate));
        }
        Ok(())
    }

    fn follow(&mut self, effect: &Effect) {
        match effect {
            Effect::Inspect { app, generation } => {
                let knobs = self.knobs_of(self.books.apps.get(app).cloned());
                let sound = self.is_sound(&knobs);
                let after = self.random.millis(0..=50);
                let (app, generation, plan) = (*app, *generation, knobs.plan);
                let broken = self.faults && self.broken.get(&(app, generation)) == Some(&true);
                let failed = broken || !sound && self.random.percent(knobs.uninspectable);
                let report = ReportId(self.steps);
                self.arrange(
                    after,
                    if failed {
                        Event::InspectFailed { app, generation, report }
                    } else {
                        Event::Inspected { app, generation, plan }
                    },
                );
            }
            Effect::Spawn { worker, from: Some(preloader), .. } if self.fork_is_lost(*preloader) => {
                self.unborn.insert(*worker);
                let after = self.random.millis(0..=20);
                self.arrange(after, Event::ForkFailed { worker: *worker });
            }
            Effect::Spawn { app, worker, generation, .. } => {
                let broken = self.faults && self.broken.get(&(*app, *generation)) == Some(&false);
                self.launch(*worker, self.books.apps.get(app).cloned(), broken);
            }
            Effect::Preload { app, preloader, generation } => self.preload(*app, *preloader, *generation),
            Effect::DropPreloader { preloader, .. } => self.drop_preloader(*preloader),
            Effect::KillPreloader { preloader, why } => self.kill_preloader(*preloader, *why),
            Effect::Swap { app, .. } => self.swap(*app),
            Effect::Notice(Notice::Restarting { app, generation, .. }) => self.begin(*app, *generation),
            Effect::Grant { session, worker, path: Path::Fresh, .. } => self.reach(*session, *worker),
            Effect::Grant { request, session, path: Path::Parked, .. } if self.random.percent(10) => {
                let request = self.new_request(request.client);
                self.arrange(Duration::from_millis(1), Event::Reconnected { request, session: *session });
            }
            Effect::Linger { connection } => self.linger(*connection),
            Effect::Stop { worker, .. } if self.processes.get(worker).is_some_and(|process| !process.ignores_term) => {
                let after = self.random.millis(0..=300);
                self.end_process(*worker, after, Exit::Status(0));
            }
            Effect::Sample { worker } => self.measure(*worker),
            Effect::Examine { worker } => self.examine(*worker),
            Effect::Ping { worker } => self.ping(*worker),
            // Its connection is dropped: no answer comes of it any more.
            Effect::EndPing { worker } => {
                let of_it = |event: &Event| matches!(event, Event::Pinged { worker: of, .. } if of == worker);
                self.agenda.retain(|_, event| !of_it(event));
            }
            Effect::Kill { worker, .. } => {
                let after = self.random.millis(0..=20);
                self.end_process(*worker, after, Exit::Signal(9));
            }
            _ => {}
        }
    }

    pub(crate) fn knobs_of(&self, root: Option<Vec<u8>>) -> AppKnobs {
        let mut knobs = self.knobs.apps.iter();
        knobs.find(|app| Some(&app.root) == root.as_ref()).expect("only known roots are started").clone()
    }

    pub(crate) fn is_sound(&self, app: &AppKnobs) -> bool {
        !self.faults || self.now.since_start().as_secs() >= app.sound_from
    }

    fn launch(&mut self, worker: WorkerId, root: Option<Vec<u8>>, broken: bool) {
        let app = self.knobs_of(root);
        let sound = self.is_sound(&app);
        let unless_sound = |chance: u32| if sound { 0 } else { chance };
        // Sooner or later every start is fast enough.
        let enough = self.knobs.settings.defaults.start_timeout / 2;
        let after = self.random.millis(0..=app.slowest_start);
        let after = if self.faults { after } else { after.min(enough) };
        let fails = if self.books.serves(&app.root) { app.fails.max(app.fails_beside) } else { app.fails };
        let hangs = self.random.percent(unless_sound(app.hangs));
        let failed = broken || self.random.percent(unless_sound(fails));
        let process = Process {
            ignores_term: self.random.percent(unless_sound(app.ignores_term)),
            unreachable: unless_sound(app.unreachable),
            never_lingers: unless_sound(app.never_lingers),
            memory: app.memory.at_first,
            knobs: app,
        };
        self.processes.insert(worker, process);
        if hangs {
            return;
        }
        let (report, gone) = (ReportId(self.steps), self.random.percent(50));
        self.arrange(after, if failed { Event::SpawnFailed { worker, report, gone } } else { Event::Ready { worker } });
    }

    /// A look at its memory, which answers late, twice, or not at all.
    fn measure(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get_mut(&worker) else { return };
        let memory = process.knobs.memory;
        process.memory += self.random.number(0..=memory.growth);
        let resident_bytes = process.memory + memory.shared;
        self.answer_twice_or_never(Event::Sampled { worker, resident_bytes }, 200);
    }

    fn examine(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get(&worker) else { return };
        let (memory, readable) = (process.memory, process.knobs.memory.readable);
        let memory_bytes = self.random.percent(readable).then_some(memory);
        self.answer_twice_or_never(Event::Examined { worker, memory_bytes }, 800);
    }

    fn answer_twice_or_never(&mut self, event: Event, latest: u64) {
        let times = match self.random.number(0..=99) {
            number if self.faults && number < u64::from(self.knobs.lost) => 0,
            95.. => 2,
            _ => 1,
        };
        for _ in 0..times {
            let after = self.random.millis(0..=latest);
            self.arrange(after, event.clone());
        }
    }

    fn ping(&mut self, worker: WorkerId) {
        let Some(process) = self.processes.get(&worker) else { return };
        let app = process.knobs.clone();
        let sound = self.is_sound(&app);
        let timeout = self.knobs.settings.defaults.ping_timeout.as_millis() as u64;
        if !sound && self.random.percent(app.silent) {
            return;
        }
        let slow = !sound && self.random.percent(app.slow);
        let after = self.random.millis(0..=if slow { timeout * 2 } else { timeout / 2 });
        let alive = sound || !self.random.percent(app.deaf);
        self.arrange(after, Event::Pinged { worker, alive });
    }

    fn reach(&mut self, session: SessionId, worker: WorkerId) {
        let unreachable = self.processes.get(&worker).map_or(0, |process| process.unreachable);
        if self.faults && self.random.percent(unreachable) {
            let why = match self.random.number(0..=9) {
                0..=2 => ConnectFailure::Refused,
                3 => ConnectFailure::Exhausted,
                _ => ConnectFailure::BacklogFull,
            };
            self.at_once.push_back(Event::ConnectFailed { session, why });
        }
    }

    fn linger(&mut self, connection: ConnectionId) {
        let worker = self.books.connections.get(&connection).map(|connection| connection.worker);
        let never = worker.and_then(|worker| self.processes.get(&worker)).map_or(0, |process| process.never_lingers);
        if !self.random.percent(never) {
            let after = self.random.millis(0..=1000);
            self.arrange(after, Event::Lingered { connection });
        }
    }

    /// A process that ends before it was ready is told of in either way.
    pub(crate) fn end_process(&mut self, worker: WorkerId, after: Duration, exit: Exit) {
        if self.preloaders.contains_key(&worker) {
            return self.end_preloader(worker, after, exit);
        }
        let served = self.books.workers.get(&worker).is_some_and(|worker| worker.phase == Phase::Serving);
        if !served && self.random.percent(50) {
            let report = ReportId(self.steps);
            let gone = self.random.percent(50);
            let held = self.books.connections.values().any(|connection| connection.worker == worker);
            if !held {
                self.arrange(after, Event::SpawnFailed { worker, report, gone });
            }
        }
        self.arrange(after, Event::Exited { worker, exit });
    }

    /// Lets the next thing happen: what was arranged, or the pool's deadline. Whether there was anything
    /// before `until`.
    pub(crate) fn advance(&mut self, until: Time) -> Result<bool, String> {
        let arranged = self.agenda.first_key_value().map(|(&(at, _), _)| at);
        let deadline = self.machine.pool.deadline();
        let Some(next) = arranged.into_iter().chain(deadline).min().filter(|&next| next <= until) else {
            self.now = self.now.max(until);
            return Ok(false);
        };
        self.now = self.now.max(next);
        if deadline == Some(next) && (arranged != Some(next) || self.random.percent(50)) {
            // A shell is late at times.
            if self.random.percent(20) {
                self.now = self.now + self.random.millis(0..=5);
            }
            self.tell(Event::Tick)?;
            return Ok(true);
        }
        if let Some(((at, _), event)) = self.agenda.pop_first() {
            self.now = self.now.max(at);
            self.happen(event)?;
        }
        Ok(true)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.agenda.is_empty() && self.machine.pool.deadline().is_none()
    }

    /// Tells what was arranged, if it still makes sense outside of the pool.
    fn happen(&mut self, event: Event) -> Checked {
        let sensible = match &event {
            Event::Ready { worker } => self.processes.contains_key(worker),
            Event::Preloaded { preloader, .. } => self.preloaders.contains_key(preloader),
            Event::ForkFailed { worker } => self.unborn.remove(worker),
            Event::Exited { worker, .. } | Event::SpawnFailed { worker, gone: true, .. } => {
                self.processes.remove(worker).is_some() || self.preloaders.remove(worker).is_some()
            }
            Event::SpawnFailed { worker, gone: false, .. } => {
                self.processes.contains_key(worker) || self.preloaders.contains_key(worker)
            }
            Event::Reconnected { request, .. } => self.clients.contains(&request.client),
            _ => true,
        };
        if !sensible {
            return Ok(());
        }
        self.outlive_loading(&event);
        let ready = if let Event::Ready { worker } = event { Some(worker) } else { None };
        self.tell(event)?;
        self.outlive(ready);
        Ok(())
    }

    /// A worker that is ready may not live long.
    fn outlive(&mut self, worker: Option<WorkerId>) {
        let Some((worker, process)) = worker.and_then(|worker| Some((worker, self.processes.get(&worker)?))) else {
            return;
        };
        let app = process.knobs.clone();
        if !self.is_sound(&app) && self.random.percent(app.crashes) {
            let (after, exit) = (self.random.millis(0..=2000), self.exit());
            self.end_process(worker, after, exit);
        }
    }

    /// Sessions their clients hold, with their client and connection.
    pub(crate) fn sessions(&self, state: Use) -> Vec<(ClientId, SessionId)> {
        let all = self.books.connections.values().filter(|connection| connection.state == state);
        all.map(|connection| (connection.client, connection.session)).collect()
    }

    pub(crate) fn running(&self) -> Vec<WorkerId> {
        self.processes.keys().chain(self.preloaders.keys()).copied().collect()
    }
}
