//! Preloaders: processes that have an app loaded, for its workers to fork from. They hold no sessions, and are no
//! workers.

use crate::effect::DropReason;
use crate::ids::{AppId, Generation, WorkerId};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug)]
pub(crate) struct Preloader {
    pub(crate) app: AppId,
    pub(crate) generation: Generation,
    pub(crate) phase: Phase,
    /// Why it leaves; the first reason stays.
    pub(crate) why: Option<DropReason>,
    pub(crate) started: Time,
    /// When it was ready, or a worker was last forked from it.
    pub(crate) used: Time,
    /// Workers forked from it so far.
    pub(crate) forks: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Loading,
    Ready,
    /// It took too long to load and was killed; what it has to say is awaited.
    Failing,
    /// Told to leave (TERM), or about to by itself.
    Leaving,
    /// Told again (KILL): only its end is awaited.
    Killed,
}

impl Preloader {
    /// Workers can be forked from it, or soon will.
    pub(crate) fn is_of_use(&self) -> bool {
        matches!(self.phase, Phase::Loading | Phase::Ready)
    }
}

/// Every preloader, whatever its phase.
#[derive(Debug, Default)]
pub(crate) struct Preloaders {
    table: BTreeMap<WorkerId, Preloader>,
    by_app: BTreeMap<AppId, BTreeSet<WorkerId>>,
}

impl Preloaders {
    pub(crate) fn insert(&mut self, id: WorkerId, preloader: Preloader) {
        self.by_app.entry(preloader.app).or_default().insert(id);
        self.table.insert(id, preloader);
    }

    pub(crate) fn remove(&mut self, id: WorkerId) -> Option<Preloader> {
        let preloader = self.table.remove(&id)?;
        if let Some(of_app) = self.by_app.get_mut(&preloader.app) {
            of_app.remove(&id);
            if of_app.is_empty() {
                self.by_app.remove(&preloader.app);
            }
        }
        Some(preloader)
    }

    pub(crate) fn get(&self, id: WorkerId) -> Option<&Preloader> {
        self.table.get(&id)
    }

    pub(crate) fn get_mut(&mut self, id: WorkerId) -> Option<&mut Preloader> {
        self.table.get_mut(&id)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (WorkerId, &Preloader)> {
        self.table.iter().map(|(&id, preloader)| (id, preloader))
    }

    pub(crate) fn of_app(&self, app: AppId) -> impl Iterator<Item = (WorkerId, &Preloader)> {
        self.by_app.get(&app).into_iter().flatten().filter_map(|&id| Some((id, self.table.get(&id)?)))
    }

    /// The one that workers of this generation are forked from.
    pub(crate) fn of(&self, app: AppId, generation: Generation) -> Option<(WorkerId, &Preloader)> {
        self.of_app(app).find(|(_, preloader)| preloader.generation == generation && preloader.is_of_use())
    }

    pub(crate) fn count(&self) -> u32 {
        self.table.len() as u32
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// The ready one that no worker was forked from for the longest time, and since when.
    pub(crate) fn least_used(&self) -> Option<(Time, WorkerId)> {
        let ready = self.table.iter().filter(|(_, preloader)| preloader.phase == Phase::Ready);
        ready.map(|(&id, preloader)| (preloader.used, id)).min()
    }
}
