//! New versions: restarts, updates, another configuration; and what becomes of them.

use crate::books::Checked;
use crate::knobs::tenant_settings;
use crate::world::World;
use hatchery_pool::{AppId, ClientId, Event, Generation, ReportId, RestartMode, Settings};
use std::num::NonZeroU32;

impl World {
    pub(crate) fn deploy(&mut self) -> Checked {
        let app = self.random.pick(&self.knobs.apps).expect("there is an app");
        let client = self.random.pick(&self.clients).unwrap_or(ClientId(0));
        let request = self.random.percent(75).then(|| self.new_request(client));
        let root = if self.random.percent(3) { b"/unheard-of".to_vec() } else { app.root };
        match self.random.number(0..=19) {
            0..=7 => self.tell(Event::Restart { request, root, mode: RestartMode::Graceful }),
            8..=9 => self.tell(Event::Restart { request, root, mode: RestartMode::Kill }),
            10..=12 => match self.machine.pool.app(&root) {
                Some(app) => self.tell(Event::FilesChanged { app }),
                None => Ok(()),
            },
            13..=16 => self.tell(Event::Staged { request, root }),
            17 => self.tell(Event::RolledBack { request, root }),
            _ => self.reload(),
        }
    }

    /// The configuration is read again. Limits of single apps stay as they are.
    fn reload(&mut self) -> Checked {
        let mut tenants = self.machine.pool.settings().tenants.clone();
        for limits in tenants.values_mut() {
            *limits = tenant_settings(&mut self.random);
        }
        let mut at_least_one = |most| NonZeroU32::new(self.random.count(1..=most)).expect("it is at least one");
        let settings = Settings {
            max: at_least_one(6),
            max_starting: at_least_one(3),
            surge: self.random.count(0..=2),
            fair_wait: self.random.millis(0..=1000),
            tenants,
            ..self.machine.pool.settings().clone()
        };
        self.tell(Event::Reloaded { settings: Box::new(settings) })
    }

    /// A step of an exchange succeeds or does not, sooner or later.
    pub(crate) fn swap(&mut self, app: AppId) {
        let knobs = self.knobs_of(self.books.apps.get(&app).cloned());
        let failed = self.faults && self.random.percent(knobs.unswappable);
        let latest = [20, 2000][self.random.number(0..=1) as usize];
        let after = self.random.millis(0..=latest);
        let report = failed.then_some(ReportId(self.steps));
        self.arrange(after, Event::SwapDone { app, report });
    }

    /// Another generation begins, with code that may be broken.
    pub(crate) fn begin(&mut self, app: AppId, generation: Generation) {
        let knobs = self.knobs_of(self.books.apps.get(&app).cloned());
        if self.faults && self.random.percent(knobs.broken) {
            let seen = self.random.percent(40);
            self.broken.insert((app, generation), seen);
        }
    }
}
