//! The loop, and what each message does.

use crate::environment;
use crate::errand::{Answer, Errand, ErrandError, Purpose};
use crate::find;
use crate::inspect;
use crate::launch::{self, Given, Launch, LaunchError, Outcome, Story};
use crate::outbox::Outbox;
use crate::phase::{OutOfTurn, Phase, SECOND_SPAWN};
use crate::place::{self, Places};
use crate::reports;
use crate::startup::{Basis, Spawner};
use crate::sweep;
use hatchery_protocol::channel::{Channel, ReceiveError, SendError};
use hatchery_protocol::link::{FromSpawner, LaunchPlan, Place, ToSpawner, WorkerNumber};
use hatchery_protocol::options::AppOptions;
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

/// Errands that wait for others to end.
const QUEUE: usize = 1024;

/// Why the link ended with the keeper still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("{0}; the link ends")]
    OutOfTurn(#[from] OutOfTurn),
    #[error("from the pool-server: {0}; the link ends")]
    Receive(ReceiveError),
    #[error("to the pool-server: {0}; the link ends")]
    Send(SendError),
    #[error("waiting failed: {0}")]
    Poll(io::Error),
    /// No error: the keeper is gone.
    #[error("the pool-server is gone")]
    Closed,
}

impl From<ReceiveError> for ServeError {
    fn from(error: ReceiveError) -> Self {
        if matches!(error, ReceiveError::Closed) { Self::Closed } else { Self::Receive(error) }
    }
}

impl From<SendError> for ServeError {
    fn from(error: SendError) -> Self {
        if matches!(error, SendError::Closed) { Self::Closed } else { Self::Send(error) }
    }
}

/// What an errand needs to know beyond its purpose.
#[derive(Debug)]
struct Request {
    purpose: Purpose,
    detail: Detail,
}

#[derive(Debug)]
enum Detail {
    Inspect(Box<AppOptions>),
    Find,
    Remove(PathBuf),
}

#[derive(Debug)]
struct Server {
    link: Channel<FromSpawner, ToSpawner>,
    outbox: Outbox,
    children: UnixStream,
    phase: Phase,
    basis: Basis,
    inherited: BTreeMap<Vec<u8>, Vec<u8>>,
    pool: String,
    folder: PathBuf,
    /// Started by this process, and not gone.
    workers: BTreeSet<WorkerNumber>,
    places: Places,
    launches: Vec<Launch>,
    errands: Vec<Errand>,
    queue: VecDeque<Request>,
    /// Errands that have answered or were killed, and are not reaped.
    leaving: BTreeMap<i32, Purpose>,
    /// Those of them that took too long: what hangs in the kernel stays here.
    late: BTreeSet<i32>,
}

/// Serves until the keeper is gone, which is the regular end.
pub(crate) fn serve(spawner: Spawner) -> Result<(), ServeError> {
    spawner.link.set_nonblocking(true).map_err(ServeError::Poll)?;
    let mut server = Server {
        link: spawner.link,
        outbox: Outbox::default(),
        children: spawner.children,
        phase: Phase::Expectant,
        inherited: environment::inherited(std::env::vars_os()),
        basis: spawner.basis,
        pool: String::new(),
        folder: PathBuf::new(),
        workers: BTreeSet::new(),
        places: Places::default(),
        launches: Vec::new(),
        errands: Vec::new(),
        queue: VecDeque::new(),
        leaving: BTreeMap::new(),
        late: BTreeSet::new(),
    };
    let why = loop {
        if let Err(error) = server.turn() {
            break error;
        }
    };
    match why {
        ServeError::Closed => {
            server.leave();
            Ok(())
        }
        error => Err(error),
    }
}

/// What became ready while waiting.
struct Ready {
    link: bool,
    children: bool,
    launches: Vec<WorkerNumber>,
    errands: Vec<i32>,
}

impl Server {
    fn turn(&mut self) -> Result<(), ServeError> {
        self.start_errands()?;
        self.outbox.flush(&self.link)?;
        let ready = self.wait()?;
        if ready.children {
            self.reap();
        }
        for worker in ready.launches {
            self.hear_launch(worker)?;
        }
        for pid in ready.errands {
            self.hear_errand(pid)?;
        }
        self.expire(Instant::now())?;
        if ready.link {
            self.read_link()?;
        }
        Ok(())
    }

    /// The only place where this process waits.
    fn wait(&self) -> Result<Ready, ServeError> {
        let mut interest = PollFlags::empty();
        if !self.outbox.is_full() {
            interest |= PollFlags::IN;
        }
        if !self.outbox.is_empty() {
            interest |= PollFlags::OUT;
        }
        let mut fds = vec![PollFd::new(&self.link, interest), PollFd::new(&self.children, PollFlags::IN)];
        fds.extend(self.launches.iter().map(|launch| PollFd::new(launch, PollFlags::IN)));
        fds.extend(self.errands.iter().map(|errand| PollFd::new(errand, PollFlags::IN)));
        let timeout = self.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(ServeError::Poll(error.into())),
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(Ready {
            link: ready.next().unwrap_or(false),
            children: ready.next().unwrap_or(false),
            launches: self.launches.iter().zip(&mut ready).filter(|(_, ready)| *ready).map(|(l, _)| l.worker).collect(),
            errands: self.errands.iter().zip(&mut ready).filter(|(_, ready)| *ready).map(|(e, _)| e.pid).collect(),
        })
    }

    fn deadline(&self) -> Option<Instant> {
        let launches = self.launches.iter().map(|launch| launch.deadline);
        launches.chain(self.errands.iter().filter_map(|errand| errand.deadline)).min()
    }

    /// Reads what the keeper sent, a few messages at a time, so that all else has its turn.
    fn read_link(&mut self) -> Result<(), ServeError> {
        const AT_ONCE: u32 = 16;
        for _ in 0..AT_ONCE {
            if self.outbox.is_full() {
                break;
            }
            match self.link.receive() {
                Ok((message, descriptors)) => self.obey(message, descriptors)?,
                Err(error) if error.would_block() => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn obey(&mut self, message: ToSpawner, descriptors: Vec<OwnedFd>) -> Result<(), ServeError> {
        self.phase.permits(&message)?;
        match message {
            ToSpawner::Begin { pool, folder } => {
                self.pool = pool;
                self.folder = OsString::from_vec(folder).into();
                self.phase = Phase::Serving;
            }
            ToSpawner::Inspect { app, root, options } => {
                let purpose = Purpose::Inspect { app, root };
                self.enqueue(Request { purpose, detail: Detail::Inspect(options) })?;
            }
            ToSpawner::Spawn { worker, mark, plan, notify, .. } => {
                if !self.workers.insert(worker) {
                    return Err(SECOND_SPAWN.into());
                }
                // As many as the message says came along: the codec has counted them.
                let mut descriptors = descriptors.into_iter();
                if let (Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next()) {
                    let given = Given { mark, notify, stdout, stderr, listener: descriptors.next() };
                    self.spawn(worker, &plan, given)?;
                }
            }
            ToSpawner::Find { worker, pid, place } => {
                self.places.learn(worker, &place);
                self.stop_finding(worker);
                self.enqueue(Request { purpose: Purpose::Find { worker, pid, place }, detail: Detail::Find })?;
            }
            ToSpawner::Gone { worker } => self.forget(worker)?,
        }
        Ok(())
    }

    fn spawn(&mut self, worker: WorkerNumber, plan: &LaunchPlan, given: Given) -> Result<(), ServeError> {
        let place = match self.places.reserve(worker, plan.listen, &self.folder) {
            Ok(place) => place,
            Err(error) => return self.spawn_failed(worker, &LaunchError::Place(error), &Story::of(plan)),
        };
        match launch::begin(&self.basis, &self.inherited, worker, plan, given, place) {
            Ok(launch) => {
                self.launches.push(launch);
                Ok(())
            }
            Err((error, story)) => self.spawn_failed(worker, &error, &story),
        }
    }

    fn hear_launch(&mut self, worker: WorkerNumber) -> Result<(), ServeError> {
        let Some(index) = self.launches.iter().position(|launch| launch.worker == worker) else { return Ok(()) };
        match self.launches[index].hear() {
            Some(outcome) => self.conclude(index, outcome),
            None => Ok(()),
        }
    }

    fn conclude(&mut self, index: usize, outcome: Outcome) -> Result<(), ServeError> {
        let launch = self.launches.swap_remove(index);
        match outcome {
            Ok(pid) => {
                let place = launch.place;
                self.outbox.push(&FromSpawner::Started { worker: launch.worker, pid, place }, None)?;
                Ok(())
            }
            Err(error) => {
                launch.kill();
                self.spawn_failed(launch.worker, &error, &launch.story)
            }
        }
    }

    fn spawn_failed(&mut self, worker: WorkerNumber, error: &LaunchError, story: &Story) -> Result<(), ServeError> {
        self.release(worker)?;
        let report = reports::launch(error, story);
        Ok(self.outbox.push(&FromSpawner::SpawnFailed { worker, report }, None)?)
    }

    /// The worker is gone, or is to be.
    fn forget(&mut self, worker: WorkerNumber) -> Result<(), ServeError> {
        if let Some(index) = self.launches.iter().position(|launch| launch.worker == worker) {
            return self.conclude(index, Err(LaunchError::GivenUp));
        }
        self.stop_finding(worker);
        self.release(worker)
    }

    fn release(&mut self, worker: WorkerNumber) -> Result<(), ServeError> {
        self.workers.remove(&worker);
        self.places.release(worker);
        // A worker of this process's predecessor may have one too.
        let folder = place::folder(worker, &self.folder);
        if folder.symlink_metadata().is_ok() {
            self.enqueue(Request { purpose: Purpose::Remove, detail: Detail::Remove(folder) })?;
        }
        Ok(())
    }

    fn stop_finding(&mut self, worker: WorkerNumber) {
        let finds = |purpose: &Purpose| matches!(purpose, Purpose::Find { worker: other, .. } if *other == worker);
        self.queue.retain(|request| !finds(&request.purpose));
        while let Some(index) = self.errands.iter().position(|errand| finds(&errand.purpose)) {
            self.end_errand(index);
        }
    }

    fn enqueue(&mut self, request: Request) -> Result<(), ServeError> {
        let Purpose::Inspect { root, .. } = &request.purpose else {
            self.queue.push_back(request);
            return Ok(());
        };
        let hangs = |purpose: &Purpose| matches!(purpose, Purpose::Inspect { root: other, .. } if other == root);
        if self.late.iter().filter_map(|pid| self.leaving.get(pid)).any(hangs) {
            let report = reports::inspection_hangs(root);
            return self.answer(request.purpose, Answer::Failed(report), None);
        }
        if self.queue.len() >= QUEUE {
            let report = reports::too_busy(root);
            return self.answer(request.purpose, Answer::Failed(report), None);
        }
        self.queue.push_back(request);
        Ok(())
    }

    fn start_errands(&mut self) -> Result<(), ServeError> {
        let mut index = 0;
        while let Some(request) = self.queue.get(index) {
            if !self.has_room_for(&request.purpose) {
                index += 1;
                continue;
            }
            let Some(Request { purpose, detail }) = self.queue.remove(index) else { break };
            match Errand::start(purpose.clone(), |purpose| run(purpose, detail)) {
                Ok(errand) => self.errands.push(errand),
                Err(error) => self.errand_failed(purpose, &error.into())?,
            }
        }
        Ok(())
    }

    fn has_room_for(&self, purpose: &Purpose) -> bool {
        let same = |other: &&Purpose| std::mem::discriminant(*other) == std::mem::discriminant(purpose);
        let under_way = self.errands.iter().map(|errand| &errand.purpose).chain(self.leaving.values());
        under_way.filter(same).count() < purpose.limit()
    }

    fn hear_errand(&mut self, pid: i32) -> Result<(), ServeError> {
        let Some(index) = self.errands.iter().position(|errand| errand.pid == pid) else { return Ok(()) };
        let Some(heard) = self.errands[index].hear() else { return Ok(()) };
        let purpose = self.end_errand(index);
        match heard {
            Ok((answer, descriptor)) => self.answer(purpose, answer, descriptor),
            Err(error) => self.errand_failed(purpose, &error),
        }
    }

    /// Takes an errand off the list; it is reaped when it has ended.
    fn end_errand(&mut self, index: usize) -> Purpose {
        let errand = self.errands.swap_remove(index);
        if !errand.reaped {
            errand.kill();
            self.leaving.insert(errand.pid, errand.purpose.clone());
        }
        errand.purpose
    }

    fn errand_failed(&mut self, purpose: Purpose, error: &ErrandError) -> Result<(), ServeError> {
        let report = reports::errand(&purpose, error);
        self.answer(purpose, Answer::Failed(report), None)
    }

    /// Passes on what an errand brought back.
    fn answer(&mut self, purpose: Purpose, answer: Answer, descriptor: Option<OwnedFd>) -> Result<(), ServeError> {
        let message = match (purpose, answer) {
            (Purpose::Inspect { app, .. }, Answer::Plan(plan)) => FromSpawner::Inspected { app, plan },
            (Purpose::Inspect { app, .. }, Answer::Failed(report)) => FromSpawner::InspectFailed { app, report },
            (Purpose::Find { worker, place: place @ Place::Port(_), .. }, Answer::Port)
            | (Purpose::Find { worker, place: place @ Place::Path(_), .. }, Answer::Socket) => {
                FromSpawner::Found { worker, place }
            }
            (Purpose::Find { worker, .. }, Answer::Failed(report)) => FromSpawner::FindFailed { worker, report },
            (Purpose::Remove, _) => return Ok(()),
            (purpose, _) => {
                let report = reports::wrong_answer(&purpose);
                return self.answer(purpose, Answer::Failed(report), None);
            }
        };
        Ok(self.outbox.push(&message, descriptor)?)
    }

    fn expire(&mut self, now: Instant) -> Result<(), ServeError> {
        while let Some(index) = self.launches.iter().position(|launch| launch.deadline <= now) {
            let limit = self.launches[index].limit;
            self.conclude(index, Err(LaunchError::TookTooLong(limit)))?;
        }
        let late = |errand: &Errand| errand.deadline.is_some_and(|deadline| deadline <= now);
        while let Some(index) = self.errands.iter().position(late) {
            let pid = self.errands[index].pid;
            let purpose = self.end_errand(index);
            if self.leaving.contains_key(&pid) {
                self.late.insert(pid);
            }
            if let Purpose::Inspect { root, .. } = &purpose {
                let report = reports::inspection_took_too_long(root);
                self.answer(purpose, Answer::Failed(report), None)?;
            }
        }
        Ok(())
    }

    /// Takes in the children that have ended. Workers are not among them.
    fn reap(&mut self) {
        let mut bytes = [0; 64];
        while matches!(self.children.read(&mut bytes), Ok(1..)) {}
        while let Ok(Some((pid, _))) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            let pid = pid.as_raw_nonzero().get();
            self.leaving.remove(&pid);
            self.late.remove(&pid);
            // Its answer may still be unread: `hear` finds that, or the end. Only its pid is no longer its own.
            if let Some(errand) = self.errands.iter_mut().find(|errand| errand.pid == pid) {
                errand.reaped = true;
            }
        }
    }

    /// The keeper is gone: so is the pool.
    fn leave(&mut self) {
        for launch in &self.launches {
            launch.kill();
        }
        for errand in &self.errands {
            errand.kill();
        }
        if self.phase == Phase::Serving {
            sweep::sweep(&self.pool, &self.folder);
        }
    }
}

/// In the child.
fn run(purpose: &Purpose, detail: Detail) -> (Answer, Option<OwnedFd>) {
    match (purpose, detail) {
        (Purpose::Inspect { root, .. }, Detail::Inspect(options)) => (inspect::inspect(root, *options), None),
        (Purpose::Find { worker: _, pid, place }, Detail::Find) => find::find(*pid, place),
        (_, Detail::Remove(folder)) => {
            let _ = std::fs::remove_dir_all(folder);
            (Answer::Removed, None)
        }
        (purpose, _) => (Answer::Failed(reports::wrong_answer(purpose)), None),
    }
}
