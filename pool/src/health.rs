//! Pings: sessions of the pool's own, that ask each worker from time to time whether it lives.

use crate::effect::{Effect, Notice, StopReason};
use crate::ids::WorkerId;
use crate::pool::Pool;
use crate::recycling::spread_time;
use crate::time::Time;
use crate::timers::Timer;

/// What is known about a worker's answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Health {
    /// One is asked at this moment; it takes a slot.
    pub(crate) pinging: bool,
    /// Unanswered ones in a row.
    missed: u32,
}

impl Pool {
    /// The first ping of a worker, or the next.
    pub(crate) fn expect_ping(&mut self, id: WorkerId, now: Time) {
        if let Some(interval) = self.settings_of(id).and_then(|settings| settings.ping_interval) {
            self.timers.set(Timer::Ping(id), now + spread_time(id, interval));
        }
    }

    /// Time for a ping, or its answer is too late. One that finds no free slot is skipped: who is busy lives.
    pub(crate) fn ping_due(&mut self, id: WorkerId, now: Time) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.is_serving()) else { return };
        let Some(settings) = self.settings_of(id) else { return };
        if worker.health.pinging {
            self.effect(Effect::EndPing { worker: id });
            self.pinged(id, false, now);
        } else if worker.has_free_slot() && settings.ping_interval.is_some() {
            let until = now + settings.ping_timeout;
            self.roster.update(id, |worker| worker.health.pinging = true);
            self.timers.set(Timer::Ping(id), until);
            self.effect(Effect::Ping { worker: id });
        } else {
            self.expect_ping(id, now);
        }
    }

    pub(crate) fn pinged(&mut self, id: WorkerId, alive: bool, now: Time) {
        let Some(worker) = self.roster.get(id).filter(|worker| worker.health.pinging) else { return };
        let (app, missed) = (worker.app, if alive { 0 } else { worker.health.missed + 1 });
        let failures = self.settings_of(id).map(|settings| settings.ping_failures.get());
        self.roster.update(id, |worker| worker.health = Health { pinging: false, missed });
        self.touch(app);
        self.timers.clear(Timer::Ping(id));
        self.expect_ping(id, now);
        if !alive {
            self.notice(Notice::PingMissed { worker: id, in_a_row: missed });
            if failures.is_some_and(|failures| missed >= failures) {
                self.spend(id, StopReason::PingFailed);
            }
        }
    }

    pub(crate) fn stop_pinging(&mut self, id: WorkerId) {
        self.timers.clear(Timer::Ping(id));
        if self.roster.get(id).is_some_and(|worker| worker.health.pinging) {
            self.roster.update(id, |worker| worker.health.pinging = false);
            self.effect(Effect::EndPing { worker: id });
        }
    }
}
