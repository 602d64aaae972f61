//! What core and spawner may say, and when. Whoever says anything else is killed and started anew: it can't be
//! trusted any more.

use super::workers::{Process, Workers};
use hatchery_protocol::link::{AppNumber, FromSpawner, LaunchPlan, StartAs, ToKeeper, WorkerNumber};
use std::collections::{BTreeMap, BTreeSet};

/// What the keeper knows.
#[derive(Debug, Default)]
pub(super) struct Book {
    /// How many cores there were: the upper half of every number that the present one may give.
    pub(super) core: u32,
    /// What inspections found, by app and generation.
    pub(super) plans: BTreeMap<(AppNumber, u64), LaunchPlan>,
    /// Open inspections.
    pub(super) inspecting: BTreeSet<(AppNumber, u64)>,
    /// Apps that are looked at.
    pub(super) looking: BTreeSet<AppNumber>,
    /// Apps whose files are being exchanged.
    pub(super) swapping: BTreeSet<AppNumber>,
    pub(super) workers: Workers,
    /// The highest number a worker ever had.
    pub(super) last: Option<WorkerNumber>,
}

impl Book {
    /// Whether a number was given by the present core.
    pub(super) fn is_current(&self, number: u64) -> bool {
        number >> 32 == u64::from(self.core)
    }

    /// | the core says | when |
    /// | --- | --- |
    /// | `Inspect` | no inspection of that generation is open |
    /// | `Look`, `Swap` | none of that app is open |
    /// | `Forget`, `Reload`, `ShutDown` | always |
    /// | `Spawn` | the generation was inspected, the worker's number is new; a fork's preloader is of that app and
    /// generation, or has just ended |
    /// | `Find`, `Terminate`, `Kill`, `Examine`, `Dump` | always: a worker that isn't known has just ended |
    pub(super) fn core_may(&self, message: &ToKeeper) -> Result<(), &'static str> {
        let (number, permitted, otherwise) = match message {
            ToKeeper::Inspect { app, generation, .. } => {
                (app.0, !self.inspecting.contains(&(*app, *generation)), "a second inspection of one generation")
            }
            ToKeeper::Look { app, .. } => (app.0, !self.looking.contains(app), "a second look at one app"),
            ToKeeper::Swap { app, .. } => (app.0, !self.swapping.contains(app), "a second exchange of one app"),
            ToKeeper::Forget { app, .. } => (app.0, true, ""),
            ToKeeper::Spawn { worker, app, generation, start_as, .. } => {
                let new = self.last.is_none_or(|last| last < *worker);
                let known = self.plans.contains_key(&(*app, *generation));
                let otherwise = "a worker twice, of an app that was not inspected, or from another app's preloader";
                (worker.0, known && new && self.may_fork(*start_as, *app, *generation), otherwise)
            }
            ToKeeper::Find { worker }
            | ToKeeper::Terminate { worker }
            | ToKeeper::Kill { worker }
            | ToKeeper::Examine { worker }
            | ToKeeper::Dump { worker } => (worker.0, true, ""),
            ToKeeper::Reload | ToKeeper::ShutDown => return Ok(()),
        };
        match (permitted, self.is_current(number)) {
            (true, true) => Ok(()),
            (false, _) => Err(otherwise),
            (true, false) => Err("a number that is not this core's"),
        }
    }

    /// Nothing runs as an app that another app has loaded.
    fn may_fork(&self, start_as: StartAs, app: AppNumber, generation: u64) -> bool {
        let StartAs::ForkOf(preloader) = start_as else { return true };
        self.workers
            .task(preloader)
            .is_none_or(|task| task.start_as == StartAs::Preloader && (task.app, task.generation) == (app, generation))
    }

    /// | the spawner says | when |
    /// | --- | --- |
    /// | `Inspected`, `InspectFailed` | an inspection of that generation is open |
    /// | `Looked`, `Swapped` | one of that app is open |
    /// | `Started`, `SpawnFailed` | that worker was asked for |
    /// | `Found`, `FindFailed`, `Examined`, `LoadFailed` | that worker runs, or has just ended |
    /// | `Preloaded` | that preloader runs, or has just ended |
    pub(super) fn spawner_may(&self, message: &FromSpawner) -> Result<(), &'static str> {
        let asked = |worker| matches!(self.workers.get(worker), Some(Process::Asked));
        let permitted = match message {
            FromSpawner::Inspected { app, generation, .. } | FromSpawner::InspectFailed { app, generation, .. } => {
                self.inspecting.contains(&(*app, *generation))
            }
            FromSpawner::Looked { app, .. } => self.looking.contains(app),
            FromSpawner::Swapped { app, .. } => self.swapping.contains(app),
            FromSpawner::Started { worker, .. } | FromSpawner::SpawnFailed { worker, .. } => asked(*worker),
            FromSpawner::Found { worker, .. }
            | FromSpawner::FindFailed { worker, .. }
            | FromSpawner::LoadFailed { worker, .. }
            | FromSpawner::Examined { worker, .. } => !asked(*worker),
            FromSpawner::Preloaded { worker, .. } => {
                !asked(*worker) && self.workers.task(*worker).is_none_or(|task| task.start_as == StartAs::Preloader)
            }
        };
        if permitted { Ok(()) } else { Err("an answer to a question that was not asked") }
    }
}
