//! The way of a question to a slot or into the queue.

use crate::app::{App, Origin, Upkeep};
use crate::bounds;
use crate::effect::{Invalid, Notice, Refusal, Scope};
use crate::ids::{AppId, Request};
use crate::pool::{Phase, Pool};
use crate::queue::Waiter;
use crate::routing;
use crate::settings::{AppSettings, Wanted};
use crate::time::Time;

impl Pool {
    pub(crate) fn asked(&mut self, request: Request, root: Vec<u8>, wanted: Wanted, now: Time) {
        let app = match self.admit(request, root, wanted, now) {
            Ok(app) => app,
            Err((app, refusal)) => return self.refuse(app, request, refusal),
        };
        self.touch(app);
        let waiter = self.queue.arrive(request, app, now);
        if self.queue.first(app).is_none()
            && let Some(slot) = routing::choose(self, app, request.client)
        {
            return self.grant(waiter, slot, now);
        }
        let limit = self.apps.get(&app).and_then(|known| self.queue_limit(&known.settings, self.queue.len(app)));
        match limit {
            Some(full) => self.refuse(Some(app), request, full),
            None => self.queue.insert(waiter),
        }
    }

    /// Whether a question may be asked at all; its app is known afterwards.
    /// Else why not, and of which app, if that is known.
    fn admit(
        &mut self,
        request: Request,
        root: Vec<u8>,
        wanted: Wanted,
        now: Time,
    ) -> Result<AppId, (Option<AppId>, Refusal)> {
        let known = self.app(&root);
        if self.phase != Phase::Running {
            return Err((known, Refusal::ShuttingDown));
        }
        if self.queue.contains(request) {
            return Err((known, Refusal::Invalid(Invalid::DuplicateRequest)));
        }
        if self.settings.bounded
            && let Some(beyond) = bounds::beyond(&self.given, known.and_then(|id| self.apps.get(&id)), &root, &wanted)
        {
            return Err((known, Refusal::NotAllowed(beyond)));
        }
        let id = self.register(root, wanted).map_err(|refusal| (known, refusal))?;
        let app = self.apps.get_mut(&id).expect("it was just registered");
        if let Some(refusal) = app.closed(now) {
            return Err((Some(id), refusal));
        }
        app.breaker.admit(now);
        app.upkeep = Upkeep::Kept;
        Ok(id)
    }

    /// A question that was answered too early is open again, at its place in the order of arrival.
    pub(crate) fn put_back(&mut self, waiter: Waiter, now: Time) {
        let closed = match self.phase {
            Phase::Running => self.apps.get(&waiter.app).and_then(|app| app.closed(now)),
            Phase::Ending { .. } | Phase::Ended => Some(Refusal::ShuttingDown),
        };
        match closed {
            Some(refusal) => self.refuse(Some(waiter.app), waiter.request, refusal),
            None => self.queue.insert(waiter),
        }
        self.touch(waiter.app);
    }

    /// The app at a root, made known with these options if it is not known yet.
    fn register(&mut self, root: Vec<u8>, wanted: Wanted) -> Result<AppId, Refusal> {
        let Some(id) = self.app(&root) else {
            let settings = wanted.applied_to(&self.settings.defaults);
            // Who can't even wait leaves nothing behind.
            return match self.queue_limit(&settings, 0) {
                Some(full) => Err(full),
                None => Ok(self.make_known(App::new(root, settings, wanted, Origin::Client))),
            };
        };
        let app = self.apps.get_mut(&id).expect("every root has its app");
        if app.origin == Origin::Removed {
            app.settings = wanted.applied_to(&self.settings.defaults);
            (app.wanted, app.origin, app.options_ignored) = (wanted, Origin::Client, false);
            self.notice(Notice::Registered { app: id });
        } else if wanted != Wanted::default() && app.wanted != wanted && !app.options_ignored {
            app.options_ignored = true;
            self.notice(Notice::OptionsIgnored { app: id });
        }
        Ok(id)
    }

    pub(crate) fn make_known(&mut self, app: App) -> AppId {
        self.last_app += 1;
        let id = AppId(self.last_app);
        let min = app.settings.min;
        self.roots.insert(app.root.clone(), id);
        self.apps.insert(id, app);
        self.notice(Notice::Registered { app: id });
        if min > 0 {
            self.warn_of_min();
        }
        self.touch(id);
        id
    }

    /// What keeps one more waiter out of an app's queue.
    fn queue_limit(&self, of_app: &AppSettings, waiting: u32) -> Option<Refusal> {
        let total = self.settings.max_queue_total;
        if waiting >= of_app.max_queue {
            Some(Refusal::QueueFull { limit: of_app.max_queue, scope: Scope::App })
        } else if self.queue.total() >= total {
            Some(Refusal::QueueFull { limit: total, scope: Scope::Pool })
        } else {
            None
        }
    }

    /// A question that was answered already is not found: the answer crossed its `Cancel`, and the client
    /// closes what it gets.
    pub(crate) fn cancelled(&mut self, request: Request) {
        if let Some(waiter) = self.queue.remove(request) {
            if let Some(app) = self.apps.get_mut(&waiter.app) {
                app.counters.cancelled += 1;
            }
            self.touch(waiter.app);
        }
    }

    /// The oldest waiter of an app has waited long enough.
    pub(crate) fn wait_due(&mut self, id: AppId, now: Time) {
        let Some(wait) = self.apps.get(&id).and_then(|app| app.settings.max_queue_wait) else { return };
        while let Some(&waiter) = self.queue.first(id).filter(|waiter| waiter.arrived + wait <= now) {
            self.queue.remove(waiter.request);
            self.refuse(Some(id), waiter.request, Refusal::TimedOut { waited: now.since(waiter.arrived) });
        }
        self.touch(id);
    }
}
