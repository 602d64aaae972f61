//! Starts: of programs, from the plan until they are executing; and what is said of every start in the end.

use super::{LAUNCHES, ServeError, Server};
use crate::launch::{self, Executed, Failed, Given, LaunchError, Outcome, Story};
use crate::preloaders::Stage;
use crate::reports;
use hatchery_protocol::link::{FromSpawner, LaunchPlan, Place, WorkerNumber};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

impl Server {
    /// Executes a program: the worker's, or that of a preloader.
    pub(super) fn execute(
        &mut self,
        worker: WorkerNumber,
        plan: &LaunchPlan,
        given: Given,
        preload: bool,
    ) -> Result<(), Box<Failed>> {
        let failed = |error| Box::new(Failed { error, story: Story::of(plan) });
        if self.launches.len() >= LAUNCHES {
            return Err(failed(LaunchError::TooMany));
        }
        let executed = self.executed(plan, preload).map_err(failed)?;
        let place = match executed {
            Executed::Preloader(_) => None,
            Executed::App | Executed::Loader(_) => self
                .places
                .reserve(worker, plan.listen, &self.folder, plan.identity.as_ref())
                .map_err(|error| failed(LaunchError::Place(error)))?,
        };
        let applied = self.cgroups.make(worker, &plan.limits);
        if let Some((said, why)) = applied.refusal(&plan.limits.required).cloned() {
            return Err(failed(LaunchError::Limit { said, why }));
        }
        let start = (executed, given);
        self.launches.push(launch::begin(&self.basis, &self.inherited, worker, plan, start, place, applied)?);
        Ok(())
    }

    pub(super) fn hear_launch(&mut self, worker: WorkerNumber) -> Result<(), ServeError> {
        let Some(index) = self.launches.iter().position(|launch| launch.worker == worker) else { return Ok(()) };
        match self.launches[index].hear() {
            Some(outcome) => self.conclude(index, outcome),
            None => Ok(()),
        }
    }

    pub(super) fn conclude(&mut self, index: usize, outcome: Outcome) -> Result<(), ServeError> {
        let launch = self.launches.swap_remove(index);
        match outcome {
            Ok(pid) => {
                let (worker, place, group, missed) = (launch.worker, launch.place, launch.group, launch.missed);
                if let Some(control) = launch.control {
                    let stage = if launch.preloads { Stage::Loading } else { Stage::Worker };
                    self.channels.push(worker, stage, launch.story, control);
                }
                self.started(worker, pid, place, group, missed)
            }
            Err(error) => {
                self.spawn_failed(launch.worker, &error, &launch.story)?;
                launch.give_up();
                Ok(())
            }
        }
    }

    pub(super) fn started(
        &mut self,
        worker: WorkerNumber,
        pid: i32,
        place: Option<Place>,
        group: Option<PathBuf>,
        missed: Vec<String>,
    ) -> Result<(), ServeError> {
        if let Some(own) = self.workers.get_mut(&worker) {
            own.pid = Some(pid);
        }
        let cgroup = group.map(|group| group.into_os_string().into_vec());
        if cgroup.is_none() {
            // One that could not be joined.
            self.cgroups.forget(worker);
        }
        let started = FromSpawner::Started { worker, pid, place, cgroup, missed };
        Ok(self.outbox.push(&started, None)?)
    }

    pub(super) fn spawn_failed(
        &mut self,
        worker: WorkerNumber,
        error: &LaunchError,
        story: &Story,
    ) -> Result<(), ServeError> {
        self.release(worker);
        let report = reports::launch(error, story);
        let preloader_lost = matches!(error, LaunchError::Fork(error) if error.is_preloaders());
        Ok(self.outbox.push(&FromSpawner::SpawnFailed { worker, report, preloader_lost }, None)?)
    }
}
