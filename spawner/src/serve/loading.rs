//! Loaders: what they say, and the workers that are forked from them.

use super::{LAUNCHES, ServeError, Server};
use crate::cgroup::Made;
use crate::control;
use crate::forks::{self, Fork, ForkError, Gifts};
use crate::launch::{self, Executed, Failed, Given, LaunchError, Story};
use crate::limits;
use crate::loaders;
use crate::preloaders::{CHANNELS, News, Stage};
use crate::reports;
use hatchery_protocol::link::{FromSpawner, LaunchPlan, Program, WorkerNumber};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

/// A loader says this many things in a turn at most, so that all else has its turn.
const AT_ONCE: u32 = 4;

/// A worker that its preloader was told to fork.
struct Ordered {
    announce: OwnedFd,
    group: Option<Made>,
    group_required: bool,
    missed: Vec<String>,
}

impl Server {
    /// What is executed for this plan.
    pub(super) fn executed(&mut self, plan: &LaunchPlan, preload: bool) -> Result<Executed, LaunchError> {
        let Program::Loader(loading) = &plan.program else {
            return if preload { Err(LaunchError::NotForked) } else { Ok(Executed::App) };
        };
        if preload && !loaders::can_preload(loading) {
            return Err(LaunchError::NotForked);
        }
        // Those of starts that are under way come to them.
        if self.channels.len() + self.launches.len() + self.forks.len() >= CHANNELS {
            return Err(LaunchError::TooMany);
        }
        let text = self.texts.open(loading.loader)?;
        Ok(if preload { Executed::Preloader(text) } else { Executed::Loader(text) })
    }

    /// Hears what the loader of a worker, or of a preloader, says.
    pub(super) fn hear_loader(&mut self, worker: WorkerNumber) -> Result<(), ServeError> {
        for _ in 0..AT_ONCE {
            let Some(channel) = self.channels.get_mut(worker) else { return Ok(()) };
            let message = match channel.hear() {
                None => return Ok(()),
                Some(News::Ready) => FromSpawner::Preloaded { worker, unfit: None },
                Some(News::Unfit(why)) => FromSpawner::Preloaded { worker, unfit: Some(why) },
                Some(News::Failed(trouble)) => {
                    FromSpawner::LoadFailed { worker, report: reports::load(&trouble, &channel.story) }
                }
                Some(News::Over { nonsense }) => {
                    if nonsense {
                        let root = String::from_utf8_lossy(&channel.story.root).into_owned();
                        eprintln!(
                            "spawner: a process of {root} said what no loader says; it is not listened to any more"
                        );
                    }
                    self.channels.remove(worker);
                    return Ok(());
                }
            };
            self.outbox.push(&message, None)?;
        }
        Ok(())
    }

    /// Orders a worker from its preloader.
    pub(super) fn fork(
        &mut self,
        worker: WorkerNumber,
        preloader: WorkerNumber,
        plan: &LaunchPlan,
        given: Given,
    ) -> Result<(), Box<Failed>> {
        let mut story = Story::of(plan);
        let limit = plan.start_timeout.min(launch::LONGEST);
        match self.order(worker, preloader, plan, given, &mut story) {
            Ok(Ordered { announce, group, group_required, missed }) => {
                let deadline = Instant::now() + limit;
                let user = plan.identity.as_ref().map_or_else(super::own_user, |identity| identity.uid);
                self.forks.push(Fork {
                    worker,
                    preloader,
                    deadline,
                    limit,
                    story,
                    group,
                    group_required,
                    missed,
                    user,
                    announce,
                });
                Ok(())
            }
            Err(error) => Err(Box::new(Failed { error, story })),
        }
    }

    fn order(
        &mut self,
        worker: WorkerNumber,
        preloader: WorkerNumber,
        plan: &LaunchPlan,
        given: Given,
        story: &mut Story,
    ) -> Result<Ordered, LaunchError> {
        if self.forks.len() >= LAUNCHES {
            return Err(LaunchError::TooMany);
        }
        if given.notify.is_some() {
            return Err(ForkError::Notify.into());
        }
        let listener = given.listener.ok_or(LaunchError::Listener)?;
        let control = self.channels.preloader(preloader).ok_or(ForkError::NoPreloader)?;
        let applied = self.cgroups.make(worker, &plan.limits);
        if let Some((said, why)) = applied.refusal(&plan.limits.required).cloned() {
            return Err(LaunchError::Limit { said, why });
        }
        if let Some(identity) = &plan.identity {
            launch::give(&given.stdout, identity)?;
            launch::give(&given.stderr, identity)?;
        }
        let (announce, theirs) = forks::announcement().map_err(io::Error::from)?;
        let Given { mark, stdout, stderr, .. } = given;
        let gifts = Gifts { mark, listener, stdout, stderr, announce: theirs };
        gifts.blocking().map_err(io::Error::from)?;
        if let Err(error) = gifts.order(control) {
            // It takes no orders any more, and hears so.
            self.channels.remove(preloader);
            return Err(error.into());
        }
        let missed = applied.missed.iter().map(|(said, why)| said.missed(why)).collect();
        let group_required = applied.kept.iter().any(|said| limits::is_required(&plan.limits.required, said.key));
        story.group_limits = applied.kept;
        Ok(Ordered { announce, group: applied.made, group_required, missed })
    }

    /// Hears what was forked.
    pub(super) fn hear_fork(&mut self, worker: WorkerNumber) -> Result<(), ServeError> {
        let Some(index) = self.forks.iter().position(|fork| fork.worker == worker) else { return Ok(()) };
        let known = |pid| {
            self.workers.values().any(|own| own.pid == Some(pid))
                || self.launches.iter().any(|launch| launch.pid() == Some(pid))
        };
        match self.forks[index].hear(self.basis.keeper, known) {
            None => Ok(()),
            Some(Ok(pid)) => self.let_go(index, pid),
            Some(Err(error)) => self.fork_failed(index, error.into()),
        }
    }

    /// A forked worker is whom it says it is: it goes on.
    fn let_go(&mut self, index: usize, pid: i32) -> Result<(), ServeError> {
        let fork = &mut self.forks[index];
        // To join a group takes milliseconds. What limits it holds before anything of the app's runs in it; else it goes on
        // meanwhile.
        let limited = fork.is_limited();
        let gone = match if limited { fork.confine(pid) } else { Ok(()) } {
            Ok(()) => {
                control::let_go(&fork.announce).map_err(|errno| LaunchError::Fork(ForkError::NotWaiting(errno.into())))
            }
            Err(why) => match fork.story.group_limits.first().cloned() {
                Some(said) => Err(LaunchError::Limit { said, why }),
                None => Ok(()),
            },
        };
        if let Err(error) = gone {
            // The keeper does not reap it before this start is answered, so the pid is still its own.
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
            return self.fork_failed(index, error);
        }
        let mut fork = self.forks.swap_remove(index);
        let (worker, missed) = (fork.worker, std::mem::take(&mut fork.missed));
        let group = fork.group.as_ref().map(|group| group.path.clone());
        self.started(worker, pid, None, group, missed)?;
        if !limited {
            self.outbox.flush(&self.link)?;
            // Without it the worker's processes are found by their process group and mark.
            let _ = fork.confine(pid);
        }
        let Fork { story, announce, .. } = fork;
        self.channels.push(worker, Stage::Worker, story, announce);
        Ok(())
    }

    /// What was forked, if anything, ends at the end of its channel: it was not told to go on.
    pub(super) fn fork_failed(&mut self, index: usize, error: LaunchError) -> Result<(), ServeError> {
        let fork = self.forks.swap_remove(index);
        self.spawn_failed(fork.worker, &error, &fork.story)
    }
}
