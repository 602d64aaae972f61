//! A process of an app as the core sees it, from `Spawn` to `Exited`: a worker, or a preloader, which is started, told
//! to leave and missed in the same way.

mod ends;
mod loading;
mod looks;
mod memory;
pub(super) mod records;
mod reports;
mod starting;
mod words;

pub(super) use memory::resident;

use super::address::Address;
use super::events::News;
use super::output::Output;
use super::ready::{self, NotifySocket};
use super::shell::{Shell, State};
use hatchery_pool::{AppId, Event, Generation, SessionId, WorkerId};
use hatchery_protocol::events::EventName;
use hatchery_protocol::link::{Findings, LaunchPlan, Listen, Place, ReadyBy, StartAs, ToKeeper, WorkerNumber};
use hatchery_protocol::report::{SpawnReport, SpawnStep};
use reports::Cause;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, open};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

/// How long a report waits for the last output of a worker that has exited.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// Ended sessions of a worker of which it is remembered what front ends said of them.
const SAID: usize = 32;

pub(super) struct Workers {
    table: BTreeMap<WorkerId, Worker>,
    /// Where listeners are bound for a moment.
    sockets: OwnedFd,
    /// Where notify sockets are.
    notify: PathBuf,
    /// `POOL.CORE`
    mark: String,
}

/// Why the core can't make its folders.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {error}")]
pub(super) struct WorkersError {
    path: PathBuf,
    error: rustix::io::Errno,
}

/// What a process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Worker,
    /// It has the app loaded, and workers are forked from it. It has no listener, and nobody asks whether it is ready.
    Preloader,
}

pub(super) struct Worker {
    /// 0 until it has one.
    pub(super) pid: i32,
    pub(super) app: AppId,
    pub(super) generation: Generation,
    start_as: StartAs,
    pub(super) plan: Rc<LaunchPlan>,
    /// `None` until the listener that it makes itself was found.
    pub(super) address: Option<Address>,
    output: Rc<Output>,
    notify: Option<NotifySocket>,
    readiness: Option<AbortHandle>,
    stage: Stage,
    /// Where the spawner said that it will listen.
    place: Option<Place>,
    /// What it was told; sent again should its process only appear now.
    order: Option<Order>,
    /// What its loader said of why the app can't be started.
    cause: Option<Cause>,
    /// What its loader said of why nothing can be forked from it.
    unfit: Option<String>,
    /// Its loader said something.
    heard: Rc<Notify>,
    ping: Option<AbortHandle>,
    /// What an examination found last.
    findings: Findings,
    /// In bytes, as last measured.
    memory: Option<u64>,
    /// The kernel killed it for want of memory.
    out_of_memory: bool,
    /// What front ends said of sessions that the pool ended.
    said: VecDeque<(SessionId, String)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Starting,
    Ready,
    /// The pool knows that it can't become ready.
    Failed,
}

/// That a process shall leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// KILL; else TERM.
    pub(super) kill: bool,
    /// It took too long to start: that is the failure of its start, and not the pool's wish.
    pub(super) start_timed_out: bool,
}

impl Workers {
    pub(super) fn new(folder: &[u8], mark: String) -> Result<Self, WorkersError> {
        let folder = Path::new(OsStr::from_bytes(folder));
        let make = |name: &str, mode| {
            let path = folder.join(name);
            match mkdirat(CWD, &path, Mode::from_raw_mode(mode)) {
                Ok(()) => Ok(path),
                Err(error) => Err(WorkersError { path, error }),
            }
        };
        let sockets = make("core", 0o700)?;
        let notify = make("notify", 0o711)?;
        let opened = open(&sockets, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let sockets = opened.map_err(|error| WorkersError { path: sockets, error })?;
        Ok(Self { table: BTreeMap::new(), sockets, notify, mark })
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Worker> {
        self.table.get(&worker)
    }

    /// Whether an app has processes, preloaders too, or will have.
    pub(super) fn any_of(&self, app: AppId) -> bool {
        self.table.values().any(|worker| worker.app == app)
    }

    /// The one with this process.
    pub(super) fn with_pid(&self, pid: i32) -> Option<WorkerId> {
        self.table.iter().find(|(_, worker)| pid != 0 && worker.pid == pid).map(|(id, _)| *id)
    }

    /// Notes that a process was told to leave. True: there is one that can be told now.
    pub(super) fn order(&mut self, worker: WorkerId, order: Order) -> bool {
        let Some(worker) = self.table.get_mut(&worker) else { return false };
        worker.order = Some(order);
        worker.pid != 0
    }

    /// Remembers what a front end said of a session that ends at the pool's word, or with its worker.
    pub(super) fn remember(&mut self, worker: WorkerId, session: SessionId, said: &str) {
        let Some(worker) = self.table.get_mut(&worker).filter(|_| !said.is_empty()) else { return };
        if worker.said.len() == SAID {
            worker.said.pop_front();
        }
        worker.said.push_back((session, said.to_owned()));
    }
}

impl Worker {
    pub(super) fn role(&self) -> Role {
        match self.start_as {
            StartAs::Preloader => Role::Preloader,
            StartAs::Worker | StartAs::ForkOf(_) => Role::Worker,
        }
    }

    /// What a front end said of a session that the pool ended.
    pub(super) fn said_of(&self, session: SessionId) -> Option<&str> {
        let said = self.said.iter().rev().find(|(other, _)| *other == session);
        said.map(|(_, said)| said.as_str())
    }

    fn started(&self) -> News {
        match self.start_as {
            StartAs::Worker => News::of(EventName::WorkerStarted, "started"),
            StartAs::ForkOf(preloader) => {
                let own = preloader.0 & u64::from(u32::MAX);
                News::of(EventName::WorkerStarted, format!("forked from preloader {own}"))
            }
            StartAs::Preloader => News::of(EventName::PreloaderStarted, "started, to load the application"),
        }
    }

    /// Whether it was told to leave in peace.
    pub(super) fn is_asked_to_leave(&self) -> bool {
        self.order.is_some_and(|order| !order.kill)
    }
}

impl State {
    fn worker_mut(&mut self, number: WorkerNumber) -> Option<(WorkerId, &mut Worker)> {
        let id = WorkerId(number.0 & u64::from(u32::MAX));
        self.workers.table.get_mut(&id).map(|worker| (id, worker))
    }
}

impl Shell {
    pub(super) fn worker_started(&self, number: WorkerNumber, pid: i32, place: Option<Place>, missed: Vec<String>) {
        let mut state = self.state();
        let Some((id, worker)) = state.worker_mut(number) else { return };
        worker.pid = pid;
        worker.place = place;
        worker.output.read_from(pid);
        let message = match (worker.order, worker.plan.ready, worker.plan.listen) {
            (Some(Order { kill: true, .. }), ..) => Some(ToKeeper::Kill { worker: number }),
            (Some(Order { kill: false, .. }), ..) => Some(ToKeeper::Terminate { worker: number }),
            _ if worker.role() == Role::Preloader => None,
            (None, ReadyBy::Notify, _) => None,
            (None, ReadyBy::Probe, Listen::Port | Listen::Socket) => Some(ToKeeper::Find { worker: number }),
            (None, ReadyBy::Probe, Listen::Fd | Listen::Stdin) => {
                worker.probe(self, id);
                None
            }
        };
        let (app, news) = (worker.app, worker.started().worker(id));
        state.happened(news);
        if let Some(message) = message {
            state.tell_keeper(&message, &[]);
        }
        state.say_missed(app, missed);
    }

    /// It said `READY=1`.
    pub(super) fn worker_notified(&self, id: WorkerId) {
        let listen = {
            let mut state = self.state();
            let number = WorkerNumber(state.number(id.0));
            let Some((_, worker)) = state.worker_mut(number) else { return };
            worker.notify = None;
            let listen = worker.plan.listen;
            if matches!(listen, Listen::Port | Listen::Socket) {
                state.tell_keeper(&ToKeeper::Find { worker: number }, &[]);
            }
            listen
        };
        if matches!(listen, Listen::Fd | Listen::Stdin) {
            self.worker_ready(id);
        }
    }

    pub(super) fn listener_found(&self, number: WorkerNumber, place: &Place, socket: Option<OwnedFd>) {
        let ready = {
            let mut state = self.state();
            let Some((id, worker)) = state.worker_mut(number) else { return };
            worker.address = match (place, socket) {
                (Place::Port(port), _) => Some(Address::Tcp(*port)),
                (Place::Path(_), Some(socket)) => Some(Address::Unix(socket)),
                (Place::Path(_), None) => None,
            };
            // That a port accepts connections is its answer.
            let answered = worker.plan.ready == ReadyBy::Notify || matches!(place, Place::Port(_));
            if !answered {
                worker.probe(self, id);
            }
            answered.then_some(id)
        };
        if let Some(id) = ready {
            self.worker_ready(id);
        }
    }

    pub(super) fn worker_ready(&self, id: WorkerId) {
        {
            let mut state = self.state();
            let Some(worker) = state.workers.table.get_mut(&id) else { return };
            worker.stage = Stage::Ready;
            worker.readiness = None;
        }
        self.tell(Event::Ready { worker: id });
    }

    /// It runs, but can't become ready.
    pub(super) fn worker_useless(&self, number: WorkerNumber, report: SpawnReport) {
        let failed = {
            let mut state = self.state();
            let Some((id, worker)) = state.worker_mut(number) else { return };
            worker.stage = Stage::Failed;
            let report = worker.completed(report);
            (id, state.keep_report(report))
        };
        self.tell(Event::SpawnFailed { worker: failed.0, report: failed.1, gone: false });
    }

    /// It answers the readiness question with something else than its protocol.
    pub(super) fn worker_answers_nonsense(&self, id: WorkerId, problem: String, remedy: &str) {
        let (number, report) = {
            let state = self.state();
            let Some(worker) = state.workers.get(id) else { return };
            (WorkerNumber(state.number(id.0)), worker.report(SpawnStep::Ready, Cause::new(problem, remedy)))
        };
        self.worker_useless(number, report);
    }
}

impl Worker {
    fn probe(&mut self, shell: &Shell, id: WorkerId) {
        let probing = tokio::task::spawn_local(ready::probe(shell.clone(), id, self.plan.protocol));
        self.readiness = Some(probing.abort_handle());
    }

    fn stop_readiness(&mut self) {
        if let Some(readiness) = self.readiness.take() {
            readiness.abort();
        }
    }
}

impl State {
    fn remove_worker(&mut self, id: WorkerId) {
        if let Some(mut worker) = self.workers.table.remove(&id) {
            worker.stop_readiness();
            worker.end_ping();
        }
    }
}
