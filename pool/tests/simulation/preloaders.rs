//! What is known of preloaders, from what is said alone (invariant 23 of `docs/architecture.md`).

use super::records::Expected;
use super::{Books, Checked};
use hatchery_pool::{AppId, DropReason, Effect, Event, Generation, Snapshot, Time, WorkerId, WorkerState};

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

pub(super) struct Preloader {
    app: AppId,
    generation: Generation,
    phase: Phase,
    started: Time,
    /// When it was ready, or a worker was last forked from it.
    used: Time,
    kill_by: Option<Time>,
    /// It was killed because it took too long to load.
    timed_out: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Loading,
    Ready,
    Leaving,
    Killed,
}

impl Books {
    pub(super) fn told_of_preloaders(&mut self, event: &Event, now: Time) {
        let stop = now + self.settings.defaults.stop_timeout;
        self.lost_fork = None;
        self.may_be_forked = match event {
            Event::Preloaded { .. } | Event::ForkFailed { .. } => true,
            Event::SpawnFailed { worker, .. } | Event::Exited { worker, .. } => self.preloaders.contains_key(worker),
            _ => false,
        };
        match event {
            Event::Preloaded { preloader, fit } => {
                let loading = self.preloaders.get_mut(preloader).filter(|known| known.phase == Phase::Loading);
                if let Some(known) = loading {
                    known.phase = if *fit { Phase::Ready } else { Phase::Leaving };
                    (known.used, known.kill_by) = (now, (!fit).then_some(stop));
                }
            }
            // What waited for it may count as a failure of the app.
            Event::SpawnFailed { worker, gone, report } => {
                if let Some(known) = self.preloaders.get(worker) {
                    let (app, started, timed_out) = (known.app, known.started, known.timed_out);
                    if known.is_of_use() || timed_out {
                        self.to_record = Some(Expected::of_preloader(*worker, *report, started, timed_out));
                    }
                    self.preload_failed(app, now);
                    if *gone {
                        self.preloaders.remove(worker);
                    }
                }
            }
            Event::Exited { worker, .. } => _ = self.preloaders.remove(worker),
            Event::ForkFailed { worker } => self.lost_fork = self.workers.remove(worker).map(|lost| lost.app),
            _ => {}
        }
    }

    pub(super) fn ordered_for_preloaders(&mut self, effect: &Effect, now: Time) -> Checked {
        match effect {
            Effect::Preload { app, preloader, generation } => {
                let max = self.settings.max_preloaders as usize;
                ensure!(self.preloaders.len() < max, "{preloader} is one preloader above {max} (invariant 23)");
                let mut of_use = self.preloaders.values().filter(|known| known.is_of_use());
                let second = of_use.any(|known| (known.app, known.generation) == (*app, *generation));
                ensure!(!second, "{preloader} is the second of its generation (invariant 23)");
                ensure!(*preloader > self.last.0 && !self.ending, "{preloader} is used again, or started at the end");
                let root = self.apps.get(app).map_or(&[][..], Vec::as_slice);
                ensure!(self.roots[root].plan.preloads, "{app} can't be preloaded");
                self.last.0 = *preloader;
                let (app, generation, phase) = (*app, *generation, Phase::Loading);
                let kill_by = Some(now + self.settings.defaults.start_timeout);
                let known = Preloader { app, generation, phase, started: now, used: now, kill_by, timed_out: false };
                self.preloaders.insert(*preloader, known);
            }
            Effect::Spawn { app, worker, generation, from: Some(preloader) } => {
                let Some(known) = self.preloaders.get_mut(preloader).filter(|known| known.phase == Phase::Ready) else {
                    return Err(format!("{worker} is forked from {preloader}, which is not ready (invariant 23)"));
                };
                let same = (known.app, known.generation) == (*app, *generation);
                ensure!(same, "{worker} is forked from {preloader}, which has other code loaded (invariant 23)");
                known.used = now;
            }
            Effect::DropPreloader { preloader, .. } => {
                let stop = if self.ending { now + LAST_STOP } else { now + self.settings.defaults.stop_timeout };
                let Some(known) = self.preloaders.get_mut(preloader).filter(|known| known.is_of_use()) else {
                    return Err(format!("{preloader} is dropped twice or does not exist (invariant 23)"));
                };
                (known.phase, known.kill_by) = (Phase::Leaving, Some(stop));
            }
            Effect::KillPreloader { preloader, why } => {
                let Some(known) = self.preloaders.get_mut(preloader).filter(|known| known.phase != Phase::Killed)
                else {
                    return Err(format!("{preloader} is killed twice or does not exist (invariant 23)"));
                };
                known.timed_out = *why == DropReason::StartTimedOut;
                (known.phase, known.kill_by) = (Phase::Killed, None);
            }
            Effect::Forget { app, .. } => {
                let left = self.preloaders.values().any(|known| known.app == *app);
                ensure!(!left, "{app} is forgotten with a preloader (invariant 23)");
            }
            Effect::Ended => ensure!(self.preloaders.is_empty(), "ended with preloaders (invariant 23)"),
            _ => {}
        }
        Ok(())
    }

    pub(super) fn check_preloaders(&self, now: Time, ticked: bool) -> Checked {
        let most = self.settings.max_preloader_idle;
        for (id, known) in &self.preloaders {
            let overdue = known.kill_by.is_some_and(|by| by <= now);
            ensure!(!(ticked && overdue), "{id} is {:?} for too long (invariant 23)", known.phase);
            let unused = known.phase == Phase::Ready && most.is_some_and(|most| known.used + most <= now);
            ensure!(!(ticked && unused), "{id} is of no use since {} (invariant 23)", known.used);
            ensure!(known.started <= now, "{id} is not started yet");
        }
        Ok(())
    }

    /// Whether it has not yet said what became of loading the app.
    pub(crate) fn is_loading(&self, id: WorkerId) -> bool {
        self.preloaders.get(&id).is_some_and(|known| known.phase == Phase::Loading)
    }

    pub(super) fn any_loading(&self) -> bool {
        self.preloaders.values().any(|known| known.phase == Phase::Loading)
    }

    pub(super) fn has_loaded(&self, app: AppId) -> bool {
        self.preloaders.values().any(|known| known.app == app)
    }

    pub(super) fn takes_waiting_place(&mut self, app: AppId) -> bool {
        if self.lost_fork == Some(app) {
            self.lost_fork = None;
            return true;
        }
        let waiting = self.waiting.iter().find(|(_, of)| **of == app).map(|(&id, _)| id);
        waiting.filter(|_| self.may_be_forked).is_some_and(|id| self.waiting.remove(&id).is_some())
    }

    /// Workers without a process: each waits for a preloader that is there, and had room when it began to.
    pub(crate) fn note_waiting(&mut self, seen: &Snapshot) -> Result<u32, String> {
        let all = seen.apps.iter().flat_map(|app| app.workers.iter().map(move |worker| (app.id, worker)));
        let waiting: Vec<_> = all.filter_map(|(app, worker)| Some((app, worker, worker.awaits?))).collect();
        for (_, worker, preloader) in &waiting {
            let known = self.preloaders.contains_key(preloader) && worker.state == WorkerState::Starting;
            ensure!(known, "{} waits for {preloader}, which is not there (invariant 23)", worker.id);
        }
        let most = (self.settings.max.get() + self.settings.surge) as usize;
        let all = self.workers.len() + waiting.len();
        // One may take the place of another, whose fork was lost, though the limit is a lower one by now.
        let more = !waiting.is_empty() && all > self.all;
        ensure!(!more || all <= most, "{all} workers, of which some wait for a preloader (invariant 1)");
        self.all = all;
        self.waiting = waiting.iter().map(|(app, worker, _)| (worker.id, *app)).collect();
        Ok(waiting.len() as u32)
    }
}

/// How long one has at the end.
const LAST_STOP: std::time::Duration = std::time::Duration::from_secs(1);

impl Preloader {
    fn is_of_use(&self) -> bool {
        matches!(self.phase, Phase::Loading | Phase::Ready)
    }
}
