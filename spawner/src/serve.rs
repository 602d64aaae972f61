//! The loop, and what each message does.

mod loading;
mod sent;
mod starting;

use crate::cgroup::Cgroups;
use crate::environment;
use crate::errand::{Answer, Purpose};
use crate::errands::{Detail, Errands};
use crate::forks::{Fork, ForkError};
use crate::identity::Rules;
use crate::launch::{Given, Launch, LaunchError};
use crate::loaders::Texts;
use crate::outbox::Outbox;
use crate::phase::{FOREIGN_MARK, NO_FOLDER, OutOfTurn, Phase, SECOND_SPAWN};
use crate::place::{self, Places};
use crate::preloaders::Channels;
use crate::reports;
use crate::startup::{Basis, Spawner};
use crate::sweep;
use crate::trials::UnderTrial;
use hatchery_protocol::channel::{Channel, ReceiveError, SendError};
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::link::{FromSpawner, StartAs, ToSpawner, WorkerNumber};
use hatchery_protocol::memfd::{self, PayloadError};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

/// Starts at once that have not come to executing their program.
const LAUNCHES: usize = 64;

/// Why the link ended with the keeper still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("{0}; the link ends")]
    OutOfTurn(#[from] OutOfTurn),
    #[error("from the pool-server: {0}; the link ends")]
    Receive(ReceiveError),
    #[error("to the pool-server: {0}; the link ends")]
    Send(SendError),
    #[error("the configuration from the pool-server: {0}; the link ends")]
    Configuration(#[from] PayloadError),
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
    config: PoolConfig,
    rules: Rc<Rules>,
    trials: UnderTrial,
    /// Started by this process, and not gone.
    workers: BTreeMap<WorkerNumber, Own>,
    cgroups: Cgroups,
    places: Places,
    launches: Vec<Launch>,
    forks: Vec<Fork>,
    channels: Channels,
    texts: Texts,
    errands: Errands,
}

/// What this process knows of a worker, or of a preloader.
#[derive(Debug)]
struct Own {
    /// Whom it runs as.
    user: u32,
    /// `None`: it is being started.
    pid: Option<i32>,
}

/// Serves until the keeper is gone, which is the regular end.
pub(crate) fn serve(spawner: Spawner) -> Result<(), ServeError> {
    spawner.link.set_nonblocking(true).map_err(ServeError::Poll)?;
    let config = PoolConfig::default();
    let mut server = Server {
        link: spawner.link,
        outbox: Outbox::default(),
        children: spawner.children,
        phase: Phase::Expectant,
        inherited: environment::inherited(std::env::vars_os()),
        rules: Rc::new(rules(&config, spawner.basis.privileged, Vec::new())),
        config,
        basis: spawner.basis,
        pool: String::new(),
        folder: PathBuf::new(),
        workers: BTreeMap::new(),
        cgroups: Cgroups::none(),
        places: Places::default(),
        trials: UnderTrial::default(),
        launches: Vec::new(),
        forks: Vec::new(),
        channels: Channels::default(),
        texts: Texts::default(),
        errands: Errands::default(),
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
        error => {
            // The keeper learns of no process whose start is not answered.
            server.launches.drain(..).for_each(Launch::give_up);
            Err(error)
        }
    }
}

fn rules(config: &PoolConfig, privileged: bool, reserved: Vec<u32>) -> Rules {
    Rules { privileged, lowest_user: config.lowest_user.clone(), min_uid: config.min_uid, reserved }
}

/// What became ready while waiting.
struct Ready {
    link: bool,
    children: bool,
    launches: Vec<WorkerNumber>,
    forks: Vec<WorkerNumber>,
    channels: Vec<WorkerNumber>,
    errands: Vec<i32>,
}

impl Server {
    fn turn(&mut self) -> Result<(), ServeError> {
        for (purpose, error) in self.errands.start() {
            self.errand_failed(purpose, &error)?;
        }
        self.outbox.flush(&self.link)?;
        let ready = self.wait()?;
        if ready.children {
            self.reap();
        }
        for worker in ready.launches {
            self.hear_launch(worker)?;
        }
        for worker in ready.forks {
            self.hear_fork(worker)?;
        }
        for worker in ready.channels {
            self.hear_loader(worker)?;
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
        fds.extend(self.forks.iter().map(|fork| PollFd::new(fork, PollFlags::IN)));
        fds.extend(self.channels.iter().map(|channel| PollFd::new(channel, PollFlags::IN)));
        fds.extend(self.errands.under_way().map(|errand| PollFd::new(errand, PollFlags::IN)));
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
            forks: self.forks.iter().zip(&mut ready).filter(|(_, ready)| *ready).map(|(f, _)| f.worker).collect(),
            channels: self.channels.iter().zip(&mut ready).filter(|(_, ready)| *ready).map(|(c, _)| c.worker).collect(),
            errands: self.errands.under_way().zip(&mut ready).filter(|(_, ready)| *ready).map(|(e, _)| e.pid).collect(),
        })
    }

    fn deadline(&self) -> Option<Instant> {
        let launches = self.launches.iter().map(|launch| launch.deadline);
        let forks = self.forks.iter().map(|fork| fork.deadline);
        launches.chain(forks).chain(self.errands.deadline()).chain(self.cgroups.deadline()).min()
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
            ToSpawner::Begin { pool, folder, reserved, pool_user } => {
                if let Some(config) = descriptors.first() {
                    self.config = memfd::read(config)?;
                }
                self.rules = Rc::new(rules(&self.config, self.basis.privileged, reserved));
                self.begin(pool, OsString::from_vec(folder).into(), pool_user)?;
            }
            ToSpawner::Inspect { app, generation, root, options } => {
                let purpose = Purpose::Inspect { app, generation, root };
                self.inspect(purpose, *options)?;
            }
            ToSpawner::Configure => {
                if let Some(config) = descriptors.first() {
                    self.config = memfd::read(config)?;
                }
                self.trials.configured();
                let reserved = self.rules.reserved.clone();
                self.rules = Rc::new(rules(&self.config, self.basis.privileged, reserved));
            }
            ToSpawner::Look { app, root } => self.look(app, root)?,
            ToSpawner::Swap { app, root, step } => self.swap(app, root, step)?,
            ToSpawner::Examine { worker, pid, mark } => self.examine(worker, pid, mark)?,
            ToSpawner::Spawn { worker, mark, plan, start_as, notify, .. } => {
                let user = plan.identity.as_ref().map_or_else(own_user, |identity| identity.uid);
                if self.workers.insert(worker, Own { user, pid: None }).is_some() {
                    return Err(SECOND_SPAWN.into());
                }
                if !mark.strip_prefix(&self.pool).is_some_and(|rest| rest.starts_with('.')) {
                    return Err(FOREIGN_MARK.into());
                }
                // As many as the message says came along: the codec has counted them.
                let mut descriptors = descriptors.into_iter();
                if let (Some(stdout), Some(stderr)) = (descriptors.next(), descriptors.next()) {
                    let given = Given { mark, notify, stdout, stderr, listener: descriptors.next() };
                    let outcome = match start_as {
                        StartAs::Worker => self.execute(worker, &plan, given, false),
                        StartAs::Preloader => self.execute(worker, &plan, given, true),
                        StartAs::ForkOf(preloader) => self.fork(worker, preloader, &plan, given),
                    };
                    if let Err(failed) = outcome {
                        self.spawn_failed(worker, &failed.error, &failed.story)?;
                    }
                }
            }
            ToSpawner::Find { worker, pid, place } => {
                self.places.learn(worker, &place);
                self.errands.stop_finding(worker);
                let owner = self.workers.get(&worker).map(|own| own.user);
                self.errands.push(Purpose::Find { worker, pid, place, owner }, Detail::Find);
            }
            ToSpawner::Gone { worker } => self.forget(worker)?,
        }
        Ok(())
    }

    fn begin(&mut self, pool: String, folder: PathBuf, pool_user: Option<u32>) -> Result<(), ServeError> {
        // It is removed in the end, with all that is in it.
        if !folder.is_absolute() || folder.file_name().is_none() || pool.is_empty() {
            return Err(NO_FOLDER.into());
        }
        self.cgroups = Cgroups::begin(self.config.cgroup.as_deref(), &pool, pool_user);
        if let (Some(_), Some(why)) = (&self.config.cgroup, self.cgroups.refusal()) {
            eprintln!("spawner: workers get no control groups: {why}");
        }
        self.pool = pool;
        self.folder = folder;
        self.phase = Phase::Serving;
        Ok(())
    }

    /// The worker is gone, or is to be.
    fn forget(&mut self, worker: WorkerNumber) -> Result<(), ServeError> {
        if let Some(index) = self.launches.iter().position(|launch| launch.worker == worker) {
            return self.conclude(index, Err(LaunchError::GivenUp));
        }
        if let Some(index) = self.forks.iter().position(|fork| fork.worker == worker) {
            return self.fork_failed(index, LaunchError::GivenUp);
        }
        self.channels.remove(worker);
        while let Some(index) = self.forks.iter().position(|fork| fork.preloader == worker) {
            self.fork_failed(index, ForkError::Ended.into())?;
        }
        self.errands.stop_finding(worker);
        self.release(worker);
        Ok(())
    }

    fn release(&mut self, worker: WorkerNumber) {
        self.workers.remove(&worker);
        self.places.release(worker);
        self.cgroups.forget(worker);
        // A worker of this process's predecessor may have one too.
        let folder = place::folder(worker, &self.folder);
        if folder.symlink_metadata().is_ok() {
            self.errands.push(Purpose::Remove, Detail::Remove(folder));
        }
    }

    fn expire(&mut self, now: Instant) -> Result<(), ServeError> {
        while let Some(index) = self.launches.iter().position(|launch| launch.deadline <= now) {
            let limit = self.launches[index].limit;
            self.conclude(index, Err(LaunchError::TookTooLong(limit)))?;
        }
        while let Some(index) = self.forks.iter().position(|fork| fork.deadline <= now) {
            let limit = self.forks[index].limit;
            self.fork_failed(index, ForkError::Silent(limit).into())?;
        }
        for purpose in self.errands.expire(now) {
            let answer = match &purpose {
                Purpose::Inspect { root, .. } => Answer::Failed(reports::inspection_took_too_long(root)),
                Purpose::Examine { .. } => Answer::Findings(Box::default()),
                Purpose::Look { .. } => Answer::Sight(None),
                Purpose::Swap { root, .. } => Answer::Failed(reports::update_took_too_long(root)),
                Purpose::Find { .. } | Purpose::Remove | Purpose::Clear => continue,
            };
            self.answer(purpose, answer, None)?;
        }
        self.cgroups.retry(now);
        Ok(())
    }

    /// Takes in the children that have ended. Workers are not among them.
    fn reap(&mut self) {
        let mut bytes = [0; 64];
        while matches!(self.children.read(&mut bytes), Ok(1..)) {}
        while let Ok(Some((pid, _))) = rustix::process::wait(rustix::process::WaitOptions::NOHANG) {
            self.errands.reaped(pid.as_raw_nonzero().get());
        }
    }

    /// The keeper is gone: so is the pool.
    fn leave(&mut self) {
        self.forks.clear();
        self.channels.clear();
        self.launches.drain(..).for_each(Launch::give_up);
        self.errands.kill();
        self.trials.end();
        if self.phase == Phase::Serving {
            sweep::sweep(&self.pool, &self.folder, &self.cgroups);
        }
    }
}

fn own_user() -> u32 {
    rustix::process::geteuid().as_raw()
}
