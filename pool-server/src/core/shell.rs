//! The pool, and everything it knows only by number.

use super::Beginning;
use super::admin::Bounds;
use super::connections::Connection;
use super::events::{Endings, Events, News};
use super::memory::{self, Memory};
use super::outgoing::Outgoing;
use super::output::{Outputs, Printed};
use super::status::{Failed, Said};
use super::translate;
use super::watch::Watching;
use super::workers::records::Records;
use super::workers::{Workers, WorkersError};
use hatchery_pool::{Answer, AppId, ClientId, ConnectionId, Event, Generation, Pool, ReportId, Request, Time};
use hatchery_protocol::channel::Sender;
use hatchery_protocol::client::ToClient;
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::events::EventName;
use hatchery_protocol::link::{Access, AppNumber, LaunchPlan, ToKeeper};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::refusal::Refusal;
use hatchery_protocol::report::SpawnReport;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// Reports that are kept for refusals that are still to come.
const REPORTS: usize = 100;
/// How long the end waits for what is still in the pipes of workers that are gone.
const LAST_OUTPUT: Duration = Duration::from_millis(500);
/// How long the front end has to close the door, once it was told to end.
const FRONT_END: Duration = Duration::from_secs(5);
/// Who asks through the admin socket. Clients are counted from 1.
pub(super) const OPERATOR: ClientId = ClientId(0);

/// A handle on the one shell; every task has one.
#[derive(Clone)]
pub(super) struct Shell(Rc<Inner>);

struct Inner {
    state: RefCell<State>,
    /// The pool's deadline moved to an earlier moment than `armed`.
    earlier: Notify,
    armed: Cell<Option<Time>>,
    ended: Notify,
    has_ended: Cell<bool>,
}

pub(super) struct State {
    pub(super) pool: Pool,
    epoch: Instant,
    /// The upper half of the numbers given to keeper and spawner.
    pub(super) core: u32,
    /// As it holds: what was read, with what was set since.
    pub(super) config: PoolConfig,
    /// As it was read.
    pub(super) given: PoolConfig,
    /// Core and apps are users of their own.
    pub(super) privileged: bool,
    /// Who may say what on the admin socket.
    pub(super) access: Access,
    /// What connections to the admin socket take.
    pub(super) bounds: Bounds,
    pub(super) keeper: Outgoing<ToKeeper>,
    pub(super) spawner_pid: i32,
    pub(super) clients: HashMap<ClientId, Outgoing<ToClient>>,
    /// The processes that opened those channels.
    pub(super) client_pids: HashMap<ClientId, i32>,
    last_client: u64,
    pub(super) connections: HashMap<ConnectionId, Connection>,
    /// What sessions that are asked for will be doing.
    pub(super) labels: HashMap<Request, String>,
    pub(super) workers: Workers,
    pub(super) watching: Watching,
    pub(super) apps: HashMap<AppId, App>,
    /// What was said of each root, without what the defaults say.
    pub(super) options: Said,
    /// An app that is being added, and what was said of it before.
    pub(super) adding: Option<(Request, Vec<u8>, Option<AppOptions>)>,
    /// What is remembered of apps; `None`: nothing is, or not yet.
    pub(super) memory: Option<Memory>,
    reports: VecDeque<(ReportId, Rc<SpawnReport>)>,
    last_report: u64,
    /// Workers that did not leave in peace.
    pub(super) records: Records,
    pub(super) outputs: Outputs,
    /// What happened.
    pub(super) events: Events,
    /// Sessions that were ended in this moment.
    pub(super) endings: Endings,
    /// It was said that the pool ends.
    ending: bool,
    /// Limits that could not be applied, as said already.
    pub(super) missed: HashSet<(AppId, String)>,
    /// Who waits for an answer to what was asked through the admin socket.
    asked: HashMap<u64, oneshot::Sender<Result<(), Refused>>>,
    last_asked: u64,
    /// Who waits for the configuration to be read again, in order.
    pub(super) reloads: VecDeque<oneshot::Sender<Result<(), String>>>,
    /// The front end closed the door: no new clients.
    door_closed: bool,
}

/// Why the operator's question is not granted.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// Of what could not be started.
    pub(super) report: Option<Rc<SpawnReport>>,
}

/// What the shell knows of an app.
pub(super) struct App {
    pub(super) root: Vec<u8>,
    /// How workers of a generation are started.
    pub(super) plans: BTreeMap<Generation, Rc<LaunchPlan>>,
    /// Processor time of its processes that are gone.
    pub(super) cpu_of_gone: Duration,
    /// What they printed last.
    pub(super) printed: Rc<Printed>,
    /// Its last failed start.
    pub(super) failed: Option<Failed>,
}

impl Shell {
    pub(super) fn new(beginning: Beginning, keeper: Sender<ToKeeper>) -> Result<Self, String> {
        let Beginning { pool, core, folder, spawner_pid, config, pool_user, access, .. } = beginning;
        // By now this process itself is not.
        let privileged = pool_user.is_some();
        let workers =
            Workers::new(&folder, format!("{pool}.{core}")).map_err(|error: WorkersError| error.to_string())?;
        let outputs = Outputs::new(&config.output);
        let mut options = Said::default();
        options.follow(&config);
        let state = State {
            pool: Pool::new(translate::settings(&config, privileged)),
            epoch: Instant::now(),
            core,
            given: config.clone(),
            config,
            privileged,
            access,
            bounds: Bounds::default(),
            keeper: Outgoing::new(keeper),
            spawner_pid,
            clients: HashMap::new(),
            client_pids: HashMap::new(),
            last_client: 0,
            connections: HashMap::new(),
            labels: HashMap::new(),
            workers,
            watching: Watching::new(),
            apps: HashMap::new(),
            options,
            adding: None,
            memory: None,
            reports: VecDeque::new(),
            last_report: 0,
            records: Records::default(),
            outputs,
            events: Events::new(),
            endings: Endings::new(),
            ending: false,
            missed: HashSet::new(),
            asked: HashMap::new(),
            last_asked: 0,
            reloads: VecDeque::new(),
            door_closed: false,
        };
        Ok(Self(Rc::new(Inner {
            state: RefCell::new(state),
            earlier: Notify::new(),
            armed: Cell::new(None),
            ended: Notify::new(),
            has_ended: Cell::new(false),
        })))
    }

    /// Says that there is a pool.
    pub(super) fn begun(&self) {
        let mut state = self.state();
        let (core, max) = (state.core, state.config.max);
        let again = if core > 1 { format!("; its core {core}, since the one before ended") } else { String::new() };
        let text = format!("the pool has begun, with at most {max} workers{again}");
        state.happened(News::of(EventName::PoolStarted, text));
    }

    /// Tells the pool a fact and carries out what it decides. Never waits.
    pub(super) fn tell(&self, event: Event) {
        let mut state = self.0.state.borrow_mut();
        let lasts = memory::may_outlast(&event);
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let now = state.now();
            for effect in state.pool.step(now, event) {
                // What fails at once is told before anything later.
                events.extend(state.carry_out(self, now, effect));
            }
        }
        state.sum_up_sessions();
        if lasts {
            state.remember();
        }
        let deadline = state.pool.deadline();
        drop(state);
        if deadline.is_some_and(|deadline| self.0.armed.get().is_none_or(|armed| deadline < armed)) {
            self.0.earlier.notify_one();
        }
    }

    /// What tasks may look at and change between two events. Never held across an await.
    pub(super) fn state(&self) -> std::cell::RefMut<'_, State> {
        self.0.state.borrow_mut()
    }

    /// Tells the pool when its deadline has come.
    pub(super) async fn keep_time(self) {
        loop {
            let (deadline, epoch) = {
                let state = self.state();
                (state.pool.deadline(), state.epoch)
            };
            self.0.armed.set(deadline);
            match deadline {
                None => self.0.earlier.notified().await,
                Some(deadline) => {
                    let at = tokio::time::Instant::from_std(epoch + deadline.since_start());
                    tokio::select! {
                        () = tokio::time::sleep_until(at) => self.tell(Event::Tick),
                        () = self.0.earlier.notified() => {}
                    }
                }
            }
        }
    }

    /// Has a question of the operator's told to the pool, and waits for its answer.
    pub(super) async fn order(&self, order: impl FnOnce(Request)) -> Result<(), Refused> {
        let (request, answer) = self.state().question();
        order(request);
        // Every question is answered, unless the core ends first.
        answer.await.unwrap_or(Err(Refused { refusal: Refusal::ShuttingDown, report: None }))
    }

    pub(super) fn inspected(&self, app: AppNumber, generation: u64, plan: LaunchPlan) {
        let inspected = self.state().keep_plan(app, generation, plan);
        if let Some(event) = inspected {
            self.tell(event);
        }
    }

    pub(super) fn inspect_failed(&self, app: AppNumber, generation: u64, report: SpawnReport) {
        let app = AppId(app.0 & u64::from(u32::MAX));
        let report = self.state().keep_report(report);
        self.tell(Event::InspectFailed { app, generation: Generation(generation), report });
    }

    pub(super) fn swapped(&self, app: AppNumber, report: Option<SpawnReport>) {
        let app = AppId(app.0 & u64::from(u32::MAX));
        let report = report.map(|report| self.state().keep_report(report));
        self.state().watch_swapped(app);
        self.tell(Event::SwapDone { app, report });
    }

    pub(super) fn set_spawner_pid(&self, pid: i32) {
        self.state().spawner_pid = pid;
    }

    /// The operator wants all of this to end: the front end, which serves what is open and closes the door; and if it
    /// does not hear, the pool by itself.
    pub(super) fn told_to_shut_down(&self) {
        self.state().tell_keeper(&ToKeeper::ShutDown, &[]);
        let shell = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(FRONT_END).await;
            if !shell.state().door_closed {
                tracing::warn!("the front end has not closed the door within {FRONT_END:?}; the pool ends by itself");
                shell.shut_down();
            }
        });
    }

    pub(super) fn shut_down(&self) {
        let grace = {
            let mut state = self.state();
            let grace = state.config.drain_timeout;
            state.say_ending("told", format!("told to go; open sessions have {grace:?}"));
            grace
        };
        self.tell(Event::Ending { grace });
    }

    /// The keeper is gone, and with it all workers: whoever still holds a connection sees its end now.
    pub(super) fn abandon_everything(&self) {
        for (_, connection) in self.state().connections.drain() {
            connection.end();
        }
        self.end();
    }

    pub(super) fn end(&self) {
        self.0.has_ended.set(true);
        self.0.ended.notify_one();
    }

    pub(super) async fn ended(&self) {
        while !self.0.has_ended.get() {
            self.0.ended.notified().await;
        }
        let output = self.state().outputs.finish(LAST_OUTPUT);
        output.await;
        self.written().await;
    }

    // ── clients come and go ──────────────────────────────────────────────────────────────────────

    /// `pid`: the process that opened the channel, where that is known.
    pub(super) fn add_client(&self, outgoing: Outgoing<ToClient>, pid: Option<i32>) -> ClientId {
        let mut state = self.state();
        state.last_client += 1;
        let client = ClientId(state.last_client);
        state.clients.insert(client, outgoing);
        state.client_pids.extend(pid.map(|pid| (client, pid)));
        client
    }

    pub(super) fn remove_client(&self, client: ClientId) {
        {
            let mut state = self.state();
            state.clients.remove(&client);
            state.client_pids.remove(&client);
            state.labels.retain(|request, _| request.client != client);
        }
        self.tell(Event::ClientGone { client });
        self.leave_if_alone();
    }

    /// No new clients can come; those that are there have the drain time.
    pub(super) fn door_closed(&self) {
        let grace = {
            let mut state = self.state();
            state.door_closed = true;
            state.config.drain_timeout
        };
        self.leave_if_alone();
        let shell = self.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(grace).await;
            shell.state().say_ending("door_closed", format!("the door has been closed for {grace:?}; the pool ends"));
            shell.tell(Event::Ending { grace: Duration::ZERO });
        });
    }

    /// With the door closed and every client gone nobody is left to read an answer.
    fn leave_if_alone(&self) {
        let alone = {
            let state = self.state();
            state.door_closed && state.clients.is_empty()
        };
        if alone {
            self.state().say_ending("nobody_left", "the door is closed and every client gone; the pool ends".into());
            self.tell(Event::Ending { grace: Duration::ZERO });
        }
    }
}

impl State {
    pub(super) fn now(&self) -> Time {
        Time::from_start(self.epoch.elapsed())
    }

    /// The first reason is the event.
    fn say_ending(&mut self, why: &'static str, text: String) {
        if std::mem::replace(&mut self.ending, true) {
            tracing::info!("{text}");
        } else {
            self.happened(News::of(EventName::PoolEnding, text).why(why));
        }
    }

    /// The number by which keeper and spawner know one of ours.
    pub(super) fn number(&self, own: u64) -> u64 {
        (u64::from(self.core) << 32) | own
    }

    /// What is known of an app, from the moment at which the pool knows it.
    pub(super) fn known(&mut self, app: AppId) -> Option<&mut App> {
        let root = self.pool.root(app)?;
        let new = || App {
            root: root.to_vec(),
            plans: BTreeMap::new(),
            cpu_of_gone: Duration::ZERO,
            printed: Rc::default(),
            failed: None,
        };
        Some(self.apps.entry(app).or_insert_with(new))
    }

    pub(super) fn forget(&mut self, app: AppId, root: &[u8]) {
        self.apps.remove(&app);
        self.options.remove(root);
        self.missed.retain(|(other, _)| *other != app);
    }

    /// A question, and where its answer comes.
    pub(super) fn question(&mut self) -> (Request, oneshot::Receiver<Result<(), Refused>>) {
        self.last_asked += 1;
        let (sender, answer) = oneshot::channel();
        self.asked.insert(self.last_asked, sender);
        (Request { client: OPERATOR, number: self.last_asked }, answer)
    }

    pub(super) fn answer_operator(&mut self, now: Time, number: u64, answer: Answer) {
        let Some(asked) = self.asked.remove(&number) else { return };
        let answer = match answer {
            Answer::Done => Ok(()),
            Answer::Refused(refusal) => {
                let report = match &refusal {
                    hatchery_pool::Refusal::SpawnFailed(report) => self.report(*report),
                    _ => None,
                };
                Err(Refused { refusal: translate::refusal(&refusal, now), report })
            }
        };
        // Whoever asked may be gone.
        let _ = asked.send(answer);
    }

    pub(super) fn keep_report(&mut self, report: SpawnReport) -> ReportId {
        self.last_report += 1;
        let id = ReportId(self.last_report);
        if self.reports.len() == REPORTS {
            self.reports.pop_front();
        }
        self.reports.push_back((id, Rc::new(report)));
        id
    }

    pub(super) fn report(&self, wanted: ReportId) -> Option<Rc<SpawnReport>> {
        self.reports.iter().find(|(id, _)| *id == wanted).map(|(_, report)| Rc::clone(report))
    }
}
