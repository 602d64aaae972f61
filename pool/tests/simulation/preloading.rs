//! Processes that load an app for others to be forked from, and how that goes wrong.

use crate::world::World;
use hatchery_pool::{AppId, DropReason, Event, Exit, Generation, ReportId, WorkerId};
use std::time::Duration;

impl World {
    pub(crate) fn preload(&mut self, app: AppId, preloader: WorkerId, generation: Generation) {
        let knobs = self.knobs_of(self.books.apps.get(&app).cloned());
        let broken = self.faults && self.broken.get(&(app, generation)) == Some(&false);
        let sound = self.is_sound(&knobs);
        let unless_sound = |chance: u32| if sound { 0 } else { chance };
        let hangs = self.random.percent(unless_sound(knobs.hangs));
        let failed = broken || self.random.percent(unless_sound(knobs.fails));
        let fit = !self.random.percent(knobs.unfit);
        let enough = self.knobs.settings.defaults.start_timeout / 2;
        let after = self.random.millis(0..=knobs.slowest_start);
        let after = if self.faults { after } else { after.min(enough) };
        self.preloaders.insert(preloader, knobs);
        if hangs {
            return;
        }
        if failed {
            let (report, gone) = (ReportId(self.steps), self.random.percent(80));
            self.arrange(after, Event::SpawnFailed { worker: preloader, report, gone });
        } else {
            self.arrange(after, Event::Preloaded { preloader, fit });
        }
    }

    /// Whether a fork of this preloader comes to nothing.
    pub(crate) fn fork_is_lost(&mut self, preloader: WorkerId) -> bool {
        let Some(knobs) = self.preloaders.get(&preloader) else { return true };
        let (sound, chance) = (self.is_sound(knobs), knobs.lost_forks);
        !sound && self.random.percent(chance)
    }

    /// What has loaded its app leaves by itself if that is unfit, and may not live long.
    pub(crate) fn outlive_loading(&mut self, event: &Event) {
        let Event::Preloaded { preloader, fit } = event else { return };
        let Some(knobs) = self.preloaders.get(preloader) else { return };
        let dies = !self.is_sound(knobs) && { self.random.percent(self.preloaders[preloader].preloader_dies) };
        if !*fit || dies {
            let (after, exit) = (self.random.millis(0..=2000), self.exit());
            self.arrange(after, Event::Exited { worker: *preloader, exit });
        }
    }

    pub(crate) fn drop_preloader(&mut self, preloader: WorkerId) {
        let Some(knobs) = self.preloaders.get(&preloader) else { return };
        let (sound, chance) = (self.is_sound(knobs), knobs.ignores_term);
        if sound || !self.random.percent(chance) {
            let after = self.random.millis(0..=300);
            self.arrange(after, Event::Exited { worker: preloader, exit: Exit::Status(0) });
        }
    }

    pub(crate) fn kill_preloader(&mut self, preloader: WorkerId, why: DropReason) {
        let after = self.random.millis(0..=20);
        if why == DropReason::StartTimedOut {
            let report = ReportId(self.steps);
            return self.arrange(after, Event::SpawnFailed { worker: preloader, report, gone: true });
        }
        self.arrange(after, Event::Exited { worker: preloader, exit: Exit::Signal(9) });
    }

    /// One that has loaded nothing yet has a report of its end.
    pub(crate) fn end_preloader(&mut self, preloader: WorkerId, after: Duration, exit: Exit) {
        if self.books.is_loading(preloader) && self.random.percent(80) {
            let report = ReportId(self.steps);
            return self.arrange(after, Event::SpawnFailed { worker: preloader, report, gone: true });
        }
        self.arrange(after, Event::Exited { worker: preloader, exit });
    }
}
