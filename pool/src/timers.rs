//! Everything the pool waits for, in one ordered set: the pool's deadline is the only timer.

use crate::ids::{AppId, ConnectionId, WorkerId};
use crate::time::Time;
use std::collections::{BTreeMap, BTreeSet};

/// What is due. Each has at most one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// What its phase says: start, drain or stop time-out, or the end of a back-off.
    Worker(WorkerId),
    /// Parked long enough, or lingered long enough.
    Connection(ConnectionId),
    /// The longest-idle worker of an app has had its idle time.
    Idle(AppId),
    /// The oldest waiter of an app has waited long enough.
    Wait(AppId),
    /// Time alone opens a way to more room: a waiter has waited longer than is fair, or a victim served long enough.
    Room,
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeMap<Timer, Time>,
    order: BTreeSet<(Time, Timer)>,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        match self.due.insert(timer, at) {
            Some(before) if before == at => return,
            Some(before) => _ = self.order.remove(&(before, timer)),
            None => {}
        }
        self.order.insert((at, timer));
    }

    /// Never moves a timer back: who fires early looks again. It keeps a session's begin and end off the
    /// timers of its app.
    pub(crate) fn set_no_later(&mut self, timer: Timer, at: Time) {
        if self.due(timer).is_none_or(|due| due > at) {
            self.set(timer, at);
        }
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        if let Some(before) = self.due.remove(&timer) {
            self.order.remove(&(before, timer));
        }
    }

    pub(crate) fn due(&self, timer: Timer) -> Option<Time> {
        self.due.get(&timer).copied()
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.order.first().map(|&(at, _)| at)
    }

    /// Takes the first timer that is due at `now`.
    pub(crate) fn pop(&mut self, now: Time) -> Option<Timer> {
        let &(at, timer) = self.order.first().filter(|&&(at, _)| at <= now)?;
        self.order.remove(&(at, timer));
        self.due.remove(&timer);
        Some(timer)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (Timer, Time)> {
        self.due.iter().map(|(&timer, &at)| (timer, at))
    }
}
