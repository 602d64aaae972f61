//! Workers that have done enough: their replacement is started first, and when it is ready, they leave.

use crate::effect::{Effect, Notice, StopReason};
use crate::ids::{AppId, WorkerId};
use crate::pool::Pool;
use crate::roster::Phase;
use crate::tenant;
use crate::time::Time;
use crate::timers::Timer;
use std::num::NonZeroU64;
use std::time::Duration;

/// Between two looks at how much memory a worker uses …
const SAMPLE_EVERY: Duration = Duration::from_secs(5);
/// … and while it uses too much.
const SAMPLE_AGAIN: Duration = Duration::from_secs(1);
/// So many measurements in a row must agree: a peak is no leak.
pub(crate) const AGREEING: u32 = 3;
/// After a replacement could not be started the next is tried no sooner than this; doubles each time …
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// … up to this.
const LAST_PAUSE: Duration = Duration::from_secs(300);

/// What is known about the memory of a worker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weight {
    /// Of its whole tree, as far as is known; 0 before it was measured.
    pub(crate) bytes: u64,
    /// As last sampled.
    resident: u64,
    /// What an examination found, and what was resident then: what has come since counts in full.
    found: Option<(u64, u64)>,
    /// Measurements in a row that were too much.
    too_much: u32,
    /// Those in a row at which its tenant's workers used too much in common.
    pub(crate) crowds: u32,
    examining: bool,
}

impl Weight {
    fn sampled(self, resident: u64) -> Self {
        let bytes = match self.found {
            Some((found, resident_then)) => found.saturating_add(resident).saturating_sub(resident_then),
            None => resident,
        };
        Self { bytes, resident, ..self }
    }

    /// `None`: it could not be read.
    fn examined(self, found: Option<u64>) -> Self {
        let found = found.map(|found| (found, self.resident)).or(self.found);
        Self { found, examining: false, ..self }.sampled(self.resident)
    }
}

/// Workers of one age shall not leave together: each limit is lowered by up to a tenth, by a fixed amount for
/// each worker.
pub(crate) fn spread(worker: WorkerId, limit: u64) -> u64 {
    // The finaliser of splitmix64: neighbouring numbers come out far apart.
    let mut mixed = worker.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    limit - mixed % (limit / 10 + 1)
}

pub(crate) fn spread_time(worker: WorkerId, limit: Duration) -> Duration {
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(spread(worker, millis))
}

impl Pool {
    /// A worker is ready: its time begins.
    pub(crate) fn watch(&mut self, id: WorkerId, now: Time) {
        let Some(settings) = self.settings_of(id) else { return };
        let lifetime = settings.max_lifetime.map(|lifetime| spread_time(id, lifetime));
        if let Some(lifetime) = lifetime {
            self.timers.set(Timer::Life(id), now + lifetime);
        }
        self.weigh(id, now);
        self.expect_ping(id, now);
    }

    /// Measures a worker from now on, if what it uses is limited and that is not done already.
    fn weigh(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.is_serving()) else { return };
        if tenant::is_weighed(self, worker.app) && self.timers.time(Timer::Sample(id)).is_none() {
            self.timers.set(Timer::Sample(id), now + spread_time(id, SAMPLE_EVERY));
        }
    }

    /// Limits of this app, or of its tenant, may be others now.
    pub(crate) fn weigh_all(&mut self, app: AppId, now: Time) {
        let workers: Vec<WorkerId> = self.roster.crew(app).all.iter().copied().collect();
        workers.into_iter().for_each(|id| self.weigh(id, now));
    }

    /// A worker leaves: nothing is asked about it any more.
    pub(crate) fn unwatch(&mut self, id: WorkerId) {
        self.timers.clear(Timer::Life(id));
        self.timers.clear(Timer::Sample(id));
        self.stop_pinging(id);
        self.unpair(id);
    }

    /// A worker has done enough. It goes on until its replacement is ready.
    pub(crate) fn spend(&mut self, id: WorkerId, why: StopReason) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.is_serving() && worker.spent.is_none()) else {
            return;
        };
        let app = worker.app;
        self.roster.update(id, |worker| worker.spent = Some(why));
        self.notice(Notice::Recycling { worker: id, why });
        self.touch(app);
    }

    /// A session began at a worker.
    pub(crate) fn count_request(&mut self, id: WorkerId, app: AppId) {
        let limit = self.apps.get(&app).and_then(|app| app.settings.max_requests).map(NonZeroU64::get);
        if let Some(limit) = limit
            && self.roster.get(id).is_some_and(|worker| worker.served >= spread(id, limit))
        {
            self.spend(id, StopReason::MaxRequests);
        }
    }

    pub(crate) fn life_due(&mut self, id: WorkerId) {
        if self.settings_of(id).is_some_and(|settings| settings.max_lifetime.is_some()) {
            self.spend(id, StopReason::MaxLifetime);
        }
    }

    pub(crate) fn sample_due(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.is_serving()) else { return };
        if !tenant::is_weighed(self, worker.app) {
            return;
        }
        let pause = if worker.weight.too_much + worker.weight.crowds > 0 { SAMPLE_AGAIN } else { SAMPLE_EVERY };
        self.timers.set(Timer::Sample(id), now + pause);
        // An examination that was not answered until now won't be.
        self.roster.update(id, |worker| worker.weight.examining = false);
        self.effect(Effect::Sample { worker: id });
    }

    /// What is resident counts shared pages in full, so it is never less than the worker's own part: only where
    /// it is too much is that worth finding out.
    pub(crate) fn sampled(&mut self, id: WorkerId, resident: u64) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.is_serving()) else { return };
        let (app, mut weight) = (worker.app, worker.weight.sampled(resident));
        if !tenant::is_weighed(self, app) {
            return;
        }
        self.roster.update(id, |worker| worker.weight = weight);
        let too_much = self.max_memory(id).is_some_and(|limit| resident >= limit);
        let crowded = tenant::is_over_memory(self, app);
        if !too_much {
            weight.too_much = 0;
        }
        if !crowded {
            weight.crowds = 0;
        }
        if (too_much || crowded) && !weight.examining {
            weight.examining = true;
            self.effect(Effect::Examine { worker: id });
        }
        self.roster.update(id, |worker| worker.weight = weight);
    }

    pub(crate) fn weighed(&mut self, id: WorkerId, bytes: Option<u64>, now: Time) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.is_serving() && worker.weight.examining) else {
            return;
        };
        let (app, before) = (worker.app, worker.weight);
        let found = bytes.unwrap_or(before.resident);
        let one_more = |is_one: bool, before: u32| if is_one { before + 1 } else { 0 };
        let heavy = self.max_memory(id).is_some_and(|limit| found >= limit);
        let mut weight = before.examined(bytes);
        weight.too_much = one_more(heavy, before.too_much);
        self.roster.update(id, |worker| worker.weight = weight);
        weight.crowds = one_more(tenant::is_over_memory(self, app), before.crowds);
        self.roster.update(id, |worker| worker.weight = weight);
        if weight.too_much >= AGREEING {
            self.spend(id, StopReason::MaxMemory);
        }
        if weight.too_much + weight.crowds > 0 {
            self.timers.set_no_later(Timer::Sample(id), now + SAMPLE_AGAIN);
        }
    }

    fn max_memory(&self, id: WorkerId) -> Option<u64> {
        self.settings_of(id)?.max_memory.map(NonZeroU64::get)
    }

    /// A replacement is ready: whom it replaces leaves.
    pub(crate) fn succeed(&mut self, id: WorkerId, now: Time) {
        let Some(old) = self.roster.get(id).and_then(|worker| worker.replaces) else { return };
        let why = self.roster.get(old).and_then(|old| old.spent);
        // It takes over how long the other was idle: an app that nobody uses shall not live on by being renewed.
        if let Some(idle_since) = self.roster.get(old).filter(|old| old.is_idle()).map(|old| old.used) {
            self.roster.update(id, |worker| worker.used = idle_since);
        }
        self.unpair(id);
        if let Some(why) = why {
            self.leave(old, why, now);
        }
    }

    /// A replacement could not be started: whom it was to replace goes on, and the next try waits. True: it was one.
    pub(crate) fn fail_to_replace(&mut self, id: WorkerId, now: Time) -> bool {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.replaces.is_some()) else { return false };
        let id_of_app = worker.app;
        self.unpair(id);
        let Some(app) = self.apps.get_mut(&id_of_app) else { return true };
        let pause = FIRST_PAUSE.saturating_mul(1 << app.failed_replacements.min(16)).min(LAST_PAUSE);
        app.failed_replacements += 1;
        app.replace_from = now + pause;
        let until = app.replace_from;
        self.timers.set(Timer::Retry(id_of_app), until);
        self.notice(Notice::RecyclingPaused { app: id_of_app, until });
        true
    }

    /// A worker and its replacement, whichever is named, have nothing to do with each other any more.
    pub(crate) fn unpair(&mut self, id: WorkerId) {
        let Some(worker) = self.roster.get(id) else { return };
        let (replaces, replaced_by) = (worker.replaces, worker.replaced_by);
        if let Some(old) = replaces {
            self.roster.update(id, |worker| worker.replaces = None);
            self.roster.update(old, |worker| worker.replaced_by = None);
        }
        if let Some(new) = replaced_by {
            self.roster.update(id, |worker| worker.replaced_by = None);
            self.roster.update(new, |worker| worker.replaces = None);
        }
    }

    /// Starts the replacement of a worker.
    pub(crate) fn replace(&mut self, old: WorkerId, now: Time) {
        let Some(app) = self.app_of(old) else { return };
        if let Some(new) = self.hire(app, None, now) {
            self.roster.update(new, |worker| worker.replaces = Some(old));
            self.roster.update(old, |worker| worker.replaced_by = Some(new));
        }
    }
}

/// The next worker that may be replaced now: those over their memory first, the largest of them before the
/// others, then in order of age.
pub(crate) fn next(pool: &Pool, now: Time, may: impl Fn(AppId) -> bool) -> Option<WorkerId> {
    let candidates = pool.roster.spent().filter_map(|id| Some((id, pool.roster.get(id)?)));
    let permitted = candidates.filter(|(_, worker)| {
        let app = pool.apps.get(&worker.app);
        app.is_some_and(|app| app.plan().is_some() && !app.is_held() && app.replace_from <= now && app.is_kept_up())
            && may(worker.app)
    });
    permitted
        .min_by_key(|(id, worker)| {
            let heavy = worker.spent == Some(StopReason::MaxMemory);
            (std::cmp::Reverse(if heavy { worker.weight.bytes.max(1) } else { 0 }), *id)
        })
        .map(|(id, _)| id)
}

/// Whether all processes of an app serve: none starts, none leaves.
pub(crate) fn is_settled(pool: &Pool, app: AppId) -> bool {
    let crew = pool.roster.crew(app);
    crew.all.iter().all(|&id| pool.roster.get(id).is_some_and(|worker| worker.phase == Phase::Serving))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_spread_over_the_last_tenth_and_small_ones_stay() {
        let spread_out: std::collections::BTreeSet<u64> = (1..100).map(|id| spread(WorkerId(id), 1000)).collect();
        assert!(spread_out.iter().all(|limit| (900..=1000).contains(limit)));
        assert!(spread_out.len() > 50);
        assert!((1..100).all(|id| spread(WorkerId(id), 3) == 3));
    }
}
