//! The keeper's loop: what comes from the core, the spawner and the kernel.

use super::cgroup::Cgroup;
use super::permitted::Book;
use super::reload::{self, Outcome, Reloads};
use super::roles::{self, Deaths, RESTARTS, Role};
use super::signals::Signals;
use super::workers::{self, Ended, Process, Task};
use crate::Roles;
use crate::place::{AdminSocket, RuntimeFolder};
use crate::privileges::Ids;
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::door::FromDoor;
use hatchery_protocol::link::{Access, FromKeeper, FromSpawner, ToKeeper, ToSpawner};
use hatchery_protocol::report::{SpawnReport, SpawnStep};
use hatchery_protocol::{codec, mark, memfd, packet};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Between two looks for what dead workers left behind.
const SWEEP_AGAIN: Duration = Duration::from_millis(5);
/// Sweeps after a spawner's death: a process it was just making may appear a moment later.
const SWEEPS_AFTER_SPAWNER: u32 = 20;
/// What the core may need beyond its drain time to stop its workers.
const BEYOND_DRAIN: Duration = Duration::from_secs(15);
/// What the spawner has to remove all that it made, once the keeper ends.
const SPAWNER_LEAVES: Duration = Duration::from_secs(1);
/// What everything has to be gone, once the keeper ends.
const ENDING: Duration = Duration::from_secs(5);

/// What stays the same for all the keeper's time, but for the configuration, which may be read again.
pub(super) struct Given {
    pub(super) roles: Roles,
    pub(super) config: PoolConfig,
    /// The same, sealed.
    pub(super) memfd: OwnedFd,
    pub(super) door: OwnedFd,
    /// The front end hears on its other end.
    pub(super) words: OwnedFd,
    pub(super) pool: String,
    pub(super) folder: RuntimeFolder,
    pub(super) admin: Option<AdminSocket>,
    pub(super) access: Access,
    /// Whom the core becomes, if the pool is privileged.
    pub(super) user: Option<Ids>,
    /// Users that no app of a privileged pool may have: the core's, and the front end's.
    pub(super) reserved: Vec<u32>,
}

pub(super) struct Keeper {
    given: Given,
    core: Role<FromKeeper, ToKeeper>,
    spawner: Role<ToSpawner, FromSpawner>,
    core_deaths: Deaths,
    spawner_deaths: Deaths,
    book: Book,
    signals: Signals,
    reloads: Reloads,
    /// Sweeps still to come.
    sweeps: u32,
    /// TERM came; the core has until then.
    leave_by: Option<Instant>,
}

/// Why the loop ends.
enum End {
    /// The core is done.
    Done,
    /// It goes on no longer: one sentence.
    Failed(String),
}

impl Keeper {
    pub(super) fn new(given: Given) -> Result<Self, String> {
        let signals = Signals::new().map_err(|error| format!("signals: {error}"))?;
        let spawner = roles::start_spawner(given.roles, &given.config, &given.pool)?;
        let core = roles::start_core(given.roles, &given.pool)?;
        let mut keeper = Self {
            given,
            core,
            spawner,
            core_deaths: Deaths::default(),
            spawner_deaths: Deaths::default(),
            book: Book::default(),
            signals,
            reloads: Reloads::default(),
            sweeps: 0,
            leave_by: None,
        };
        keeper.begin_spawner();
        keeper.begin_core()?;
        Ok(keeper)
    }

    pub(super) fn serve(mut self) -> ExitCode {
        let end = loop {
            if let Err(end) = self.turn() {
                break end;
            }
        };
        self.end_everything();
        match end {
            End::Done => ExitCode::SUCCESS,
            End::Failed(sentence) => {
                eprintln!("pool-server: {sentence}");
                ExitCode::FAILURE
            }
        }
    }

    fn turn(&mut self) -> Result<(), End> {
        self.wait();
        if self.signals.take() && self.leave_by.is_none() {
            self.leave_by = Some(Instant::now() + self.given.config.drain_timeout + BEYOND_DRAIN);
            self.core.tell(&FromKeeper::Shutdown, Vec::new());
        }
        self.hear_core();
        self.hear_spawner();
        // Before anything that has ended is reaped.
        self.read_configuration();
        self.reap()?;
        if self.sweeps > 0 {
            let found = self.book.workers.sweep(&self.given.pool, &self.known(), false);
            self.sweeps = if found { self.sweeps.max(2) } else { self.sweeps } - 1;
        }
        if self.leave_by.is_some_and(|by| by <= Instant::now()) {
            return Err(End::Failed("the core did not leave in time; everything is ended".into()));
        }
        Ok(())
    }

    fn wait(&mut self) {
        let sweep = (self.sweeps > 0).then_some(SWEEP_AGAIN);
        let leave = self.leave_by.map(|by| by.saturating_duration_since(Instant::now()));
        let read = self.reloads.due().map(|by| by.saturating_duration_since(Instant::now()));
        let timeout =
            sweep.into_iter().chain(leave).chain(read).min().and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut sources = vec![PollFd::new(&self.signals.pipe, PollFlags::IN)];
        sources.extend(self.core.poll());
        sources.extend(self.spawner.poll());
        sources.extend(self.reloads.poll());
        match poll(&mut sources, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Nothing to be done but to try again; a busy loop would be worse than a slow one.
            Err(_) => std::thread::sleep(SWEEP_AGAIN),
        }
    }

    // ── the core ─────────────────────────────────────────────────────────────────────────────────

    fn hear_core(&mut self) {
        while let Some((message, descriptors)) = self.core.hear() {
            match self.book.core_may(&message) {
                Ok(()) => self.obey(message, descriptors),
                Err(why) => self.core.fail(Some(why)),
            }
        }
    }

    fn obey(&mut self, message: ToKeeper, descriptors: Vec<OwnedFd>) {
        match message {
            ToKeeper::Inspect { app, generation, root, options } => {
                self.book.inspecting.insert((app, generation));
                self.spawner.tell(&ToSpawner::Inspect { app, generation, root, options }, Vec::new());
            }
            ToKeeper::Reload => self.reloads.ask(),
            ToKeeper::ShutDown => self.tell_front_end(&FromDoor::ShutDown),
            ToKeeper::Look { app, root } => {
                self.book.looking.insert(app);
                self.spawner.tell(&ToSpawner::Look { app, root }, Vec::new());
            }
            ToKeeper::Swap { app, root, step } => {
                self.book.swapping.insert(app);
                self.spawner.tell(&ToSpawner::Swap { app, root, step }, Vec::new());
            }
            ToKeeper::Forget { app, generation } => {
                self.book.plans.retain(|(of, number), _| *of != app || generation.is_some_and(|only| only != *number));
            }
            ToKeeper::Spawn { worker, app, generation, start_as, notify, listener } => {
                let Some(plan) = self.book.plans.get(&(app, generation)).cloned().map(Box::new) else { return };
                let mark = mark::worker(&self.given.pool, self.book.core, worker.0 & u64::from(u32::MAX));
                let task = Task { mark: mark.clone(), dump_signal: plan.dump_signal, app, generation, start_as };
                self.book.workers.insert(worker, task);
                self.book.last = Some(worker);
                self.spawner.tell(&ToSpawner::Spawn { worker, mark, plan, start_as, notify, listener }, descriptors);
            }
            ToKeeper::Find { worker } => {
                if let Some(Process::Runs { pid, place: Some(place), finding, .. }) = self.book.workers.get_mut(worker)
                {
                    *finding = true;
                    let find = ToSpawner::Find { worker, pid: *pid, place: place.clone() };
                    self.spawner.tell(&find, Vec::new());
                }
            }
            ToKeeper::Examine { worker } => {
                if let (Some(pid), Some(mark)) = (self.book.workers.pid(worker), self.book.workers.mark(worker)) {
                    let examine = ToSpawner::Examine { worker, pid, mark: mark.to_owned() };
                    self.spawner.tell(&examine, Vec::new());
                }
            }
            ToKeeper::Dump { worker } => self.book.workers.dump(worker),
            ToKeeper::Terminate { worker } => {
                if let Some(pid) = self.book.workers.pid(worker) {
                    workers::terminate_group(pid);
                }
            }
            ToKeeper::Kill { worker } => self.book.workers.kill(worker),
        }
    }

    fn begin_core(&mut self) -> Result<(), String> {
        self.given.folder.empty().map_err(|error| error.to_string())?;
        self.book.core += 1;
        let admin = self.given.admin.as_ref().map(|admin| admin.listener.as_fd());
        let descriptors: std::io::Result<Vec<OwnedFd>> = [self.given.door.as_fd(), self.given.memfd.as_fd()]
            .into_iter()
            .chain(admin)
            .map(|descriptor| descriptor.try_clone_to_owned())
            .collect();
        let begin = FromKeeper::Begin {
            pool: self.given.pool.clone(),
            core: self.book.core,
            admin: self.given.admin.is_some(),
            access: self.given.access.clone(),
            folder: self.given.folder.path().as_os_str().as_bytes().to_vec(),
            spawner_pid: self.spawner.pid,
            pool_user: self.given.user.map(|user| (user.uid, user.gid)),
        };
        self.core.tell(&begin, descriptors.map_err(|error| format!("descriptors for the core: {error}"))?);
        Ok(())
    }

    // ── the configuration ────────────────────────────────────────────────────────────────────────

    /// Passes on what was read again, to the spawner first: the core acts upon it.
    fn read_configuration(&mut self) {
        let begin = |given: &Given| reload::begin(given.config.source.as_ref(), &given.pool);
        while let Some(Outcome { answers, config }) = self.reloads.turn(|| begin(&self.given)) {
            let taken = config.and_then(|config| self.take_over(config));
            for _ in 0..answers {
                let (problem, kept, memfd) = match &taken {
                    Ok(kept) => match self.given.memfd.try_clone() {
                        Ok(memfd) => (None, kept.clone(), vec![memfd]),
                        Err(error) => (Some(format!("descriptors for the core: {error}")), Vec::new(), Vec::new()),
                    },
                    Err(problem) => (Some(problem.clone()), Vec::new(), Vec::new()),
                };
                self.core.tell(&FromKeeper::Reloaded { problem, kept }, memfd);
            }
        }
    }

    /// What holds from now on. Returns the keys that stay as they were.
    fn take_over(&mut self, config: PoolConfig) -> Result<Vec<String>, String> {
        let (config, kept) = reload::merge(config, &self.given.config)?;
        let memfd = memfd::write(&config).map_err(|error| error.to_string())?;
        let copy = memfd.try_clone().map_err(|error| format!("descriptors for the spawner: {error}"))?;
        self.given.config = config;
        self.given.memfd = memfd;
        self.spawner.tell(&ToSpawner::Configure, vec![copy]);
        Ok(kept)
    }

    // ── the spawner ──────────────────────────────────────────────────────────────────────────────

    fn hear_spawner(&mut self) {
        while let Some((message, descriptors)) = self.spawner.hear() {
            match self.book.spawner_may(&message) {
                Ok(()) => self.remember(message, descriptors),
                Err(why) => self.spawner.fail(Some(why)),
            }
        }
    }

    fn remember(&mut self, message: FromSpawner, descriptors: Vec<OwnedFd>) {
        let number = match &message {
            FromSpawner::Inspected { app, generation, plan } => {
                self.book.inspecting.remove(&(*app, *generation));
                if self.book.is_current(app.0) {
                    self.book.plans.insert((*app, *generation), (**plan).clone());
                }
                app.0
            }
            FromSpawner::InspectFailed { app, generation, .. } => {
                self.book.inspecting.remove(&(*app, *generation));
                app.0
            }
            FromSpawner::Looked { app, .. } => {
                self.book.looking.remove(app);
                app.0
            }
            FromSpawner::Swapped { app, .. } => {
                self.book.swapping.remove(app);
                app.0
            }
            // The application's own process says which one it is: not one that is somebody else already.
            FromSpawner::Started { worker, pid, .. } if self.book.workers.is_taken(*pid) => {
                let worker = *worker;
                self.spawner.tell(&ToSpawner::Gone { worker }, Vec::new());
                self.book.workers.remove(worker);
                let problem = "a forked worker announced another worker's process as its own";
                let report = report(SpawnStep::Fork, problem, "see what the application does when it is forked");
                let failed = FromSpawner::SpawnFailed { worker, report, preloader_lost: true };
                return self.answer(worker.0, failed, Vec::new());
            }
            FromSpawner::Started { worker, pid, place, cgroup, .. } => {
                if let Some(process) = self.book.workers.get_mut(*worker) {
                    let cgroup = cgroup.clone().map(Cgroup::at);
                    *process = Process::Runs { pid: *pid, place: place.clone(), cgroup, finding: false };
                }
                if !self.book.is_current(worker.0) {
                    self.book.workers.kill(*worker);
                }
                worker.0
            }
            FromSpawner::SpawnFailed { worker, .. } => {
                self.book.workers.remove(*worker);
                worker.0
            }
            FromSpawner::Examined { worker, .. }
            | FromSpawner::Preloaded { worker, .. }
            | FromSpawner::LoadFailed { worker, .. } => worker.0,
            FromSpawner::Found { worker, .. } | FromSpawner::FindFailed { worker, .. } => {
                if let Some(Process::Runs { finding, .. }) = self.book.workers.get_mut(*worker) {
                    *finding = false;
                }
                worker.0
            }
        };
        self.answer(number, message, descriptors);
        // It may have ended before this told its name.
        self.signals.child = true;
    }

    fn begin_spawner(&mut self) {
        let folder = self.given.folder.path().as_os_str().as_bytes().to_vec();
        let begin = ToSpawner::Begin {
            pool: self.given.pool.clone(),
            folder,
            reserved: self.given.reserved.clone(),
            pool_user: self.given.user.map(|user| user.uid),
        };
        match self.given.memfd.try_clone() {
            Ok(memfd) => self.spawner.tell(&begin, vec![memfd]),
            Err(error) => self.spawner.fail(Some(&format!("descriptors for it: {error}"))),
        }
    }

    /// Answers for a spawner that died what it had not answered.
    fn answer_for_spawner(&mut self) {
        let report = |step| report(step, "the spawner died while it worked on this", "try again: it was started anew");
        for (app, generation) in std::mem::take(&mut self.book.inspecting) {
            let failed = FromSpawner::InspectFailed { app, generation, report: report(SpawnStep::Inspect) };
            self.answer(app.0, failed, Vec::new());
        }
        for app in std::mem::take(&mut self.book.looking) {
            self.answer(app.0, FromSpawner::Looked { app, sight: None }, Vec::new());
        }
        for app in std::mem::take(&mut self.book.swapping) {
            let failed = FromSpawner::Swapped { app, report: Some(report(SpawnStep::Inspect)) };
            self.answer(app.0, failed, Vec::new());
        }
        for worker in self.book.workers.numbers() {
            match self.book.workers.get(worker) {
                Some(Process::Asked) => {
                    self.book.workers.remove(worker);
                    let (report, preloader_lost) = (report(SpawnStep::Prepare), false);
                    let failed = FromSpawner::SpawnFailed { worker, report, preloader_lost };
                    self.answer(worker.0, failed, Vec::new());
                }
                Some(Process::Runs { pid, place: Some(place), finding: true, .. }) => {
                    let find = ToSpawner::Find { worker, pid: *pid, place: place.clone() };
                    self.spawner.tell(&find, Vec::new());
                }
                _ => {}
            }
        }
    }

    /// Passes on what concerns the present core.
    fn answer(&mut self, number: u64, message: FromSpawner, descriptors: Vec<OwnedFd>) {
        if self.book.is_current(number) {
            self.core.tell(&FromKeeper::Spawner(message), descriptors);
        }
    }

    /// A front end that does not listen is told nothing, and waited for by nobody.
    fn tell_front_end(&self, message: &FromDoor) {
        if let Ok(packet) = codec::encode(message) {
            let _ = packet::send(&self.given.words, &packet, &[], SendFlags::DONTWAIT);
        }
    }

    // ── the kernel ───────────────────────────────────────────────────────────────────────────────

    fn reap(&mut self) -> Result<(), End> {
        if !std::mem::take(&mut self.signals.child) {
            return Ok(());
        }
        for Ended { worker, exit, out_of_memory, cpu } in self.book.workers.reap() {
            self.spawner.tell(&ToSpawner::Gone { worker }, Vec::new());
            if self.book.is_current(worker.0) {
                self.core.tell(&FromKeeper::Exited { worker, exit, out_of_memory, cpu }, Vec::new());
            }
            self.sweeps = self.sweeps.max(1);
        }
        if workers::has_ended(self.spawner.pid) {
            self.restart_spawner()?;
        }
        if workers::has_ended(self.core.pid) {
            self.core_ended()?;
        }
        self.reap_unknown();
        Ok(())
    }

    fn reap_unknown(&mut self) {
        // Else one of them may be a worker whose name is still to come, or have read a configuration.
        if !self.book.workers.any_asked() && self.reloads.pid().is_none() {
            self.signals.child |= !workers::reap_unknown(|pid| self.is_known(pid));
        }
    }

    fn is_known(&self, pid: i32) -> bool {
        self.book.workers.is_taken(pid) || self.known().contains(&pid)
    }

    fn restart_spawner(&mut self) -> Result<(), End> {
        let exit = workers::reap(self.spawner.pid);
        if self.spawner_deaths.too_many() {
            return Err(End::Failed(format!(
                "the spawner ended more than {RESTARTS} times within a minute, last with {exit}"
            )));
        }
        eprintln!("pool-server: the spawner ended with {exit}; it is started anew");
        self.end_unborn();
        self.spawner =
            roles::start_spawner(self.given.roles, &self.given.config, &self.given.pool).map_err(End::Failed)?;
        self.begin_spawner();
        self.sweeps = SWEEPS_AFTER_SPAWNER;
        self.core.tell(&FromKeeper::SpawnerRestarted { pid: self.spawner.pid }, Vec::new());
        self.answer_for_spawner();
        Ok(())
    }

    /// What a dead spawner was just making has not executed anything yet, and would look like the next one's. What
    /// executes all the same carries a mark then, by which later sweeps find it.
    fn end_unborn(&self) {
        let known = self.known();
        for _ in 0..SWEEPS_AFTER_SPAWNER {
            if !self.book.workers.sweep(&self.given.pool, &known, true) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
            if self.reloads.pid().is_none() {
                workers::reap_unknown(|pid| self.is_known(pid));
            }
        }
    }

    /// Children that are no workers.
    fn known(&self) -> Vec<i32> {
        [self.core.pid, self.spawner.pid].into_iter().chain(self.reloads.pid()).collect()
    }

    fn core_ended(&mut self) -> Result<(), End> {
        let exit = workers::reap(self.core.pid);
        if exit == hatchery_protocol::report::Exit::Status(0) {
            return Err(End::Done);
        }
        if self.leave_by.is_some() || self.core_deaths.too_many() {
            return Err(End::Failed(format!("the core ended with {exit}")));
        }
        eprintln!("pool-server: the core ended with {exit}; it is started anew, and its workers are killed");
        // Nobody holds the connections to them any more.
        self.book.workers.kill_all();
        self.book.plans.clear();
        self.reloads.cancel();
        self.core = roles::start_core(self.given.roles, &self.given.pool).map_err(End::Failed)?;
        self.begin_core().map_err(End::Failed)
    }

    /// Leaves no process behind: trees, then whatever came to the keeper as its last parent.
    fn end_everything(&mut self) {
        self.book.workers.kill_all();
        // It removes what it made: control groups, folders of workers.
        self.spawner.dismiss();
        let began = Instant::now();
        while began.elapsed() < ENDING {
            // Whoever it was: nobody is left who would be told.
            workers::reap_unknown(|_| false);
            let mut left = workers::children();
            if left.is_empty() {
                break;
            }
            left.retain(|pid| *pid != self.spawner.pid || began.elapsed() > SPAWNER_LEAVES);
            left.into_iter().for_each(workers::kill_group);
            std::thread::sleep(Duration::from_millis(1));
        }
        self.book.workers.remove_groups();
    }
}

/// What the keeper has to say of a start itself.
fn report(step: SpawnStep, problem: &str, remedy: &str) -> Box<SpawnReport> {
    Box::new(SpawnReport {
        root: String::new(),
        step,
        problem: problem.into(),
        remedy: remedy.into(),
        output: String::new(),
        exit: None,
        setup: None,
    })
}
