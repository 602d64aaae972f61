//! Who may start a worker, and whose worker makes room for it. Everything here only looks.

use crate::app::{App, Inspection};
use crate::effect::{Gate, StopReason};
use crate::ids::{AppId, WorkerId};
use crate::pool::{Phase, Pool};
use crate::time::Time;

/// One step towards as many workers as are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    Inspect(AppId),
    Start(AppId),
    /// An idle or unneeded worker leaves.
    Evict(WorkerId, StopReason),
    /// A busy worker leaves for an app that has waited longer than is fair.
    Drain(WorkerId, StopReason),
}

/// The next step: first what waiters can have at once, then what `min` asks for, then what is only fair.
pub(crate) fn next_move(pool: &Pool, now: Time) -> Option<Move> {
    if pool.phase != Phase::Running {
        return None;
    }
    for_waiters(pool, now).or_else(|| for_min(pool)).or_else(|| for_fairness(pool, now))
}

/// What an app could use more of.
#[derive(Clone, Copy, Debug)]
struct Want {
    app: AppId,
    /// It has a worker that serves or will.
    staffed: bool,
    starting: u32,
    /// When its oldest waiter came.
    oldest: Time,
    /// Waiters no starting slot is meant for.
    unmet: u32,
    /// Workers its own limit leaves it.
    places: u32,
    slots: u32,
}

impl Want {
    fn of(pool: &Pool, id: AppId, now: Time) -> Option<Self> {
        let (app, oldest) = (pool.apps.get(&id)?, pool.queue.first(id)?.arrived);
        if own_gate(pool, id, app).is_some() {
            return None;
        }
        let concurrency = app.settings.concurrency.or(app.plan().map(|plan| plan.concurrency))?;
        let crew = pool.roster.crew(id);
        let staffed = crew.live() > 0;
        Some(Self {
            app: id,
            staffed,
            starting: crew.starting.len() as u32,
            oldest,
            unmet: pool.queue.len(id).saturating_sub(pool.roster.starting_slots(id, None)),
            places: app.limit().saturating_sub(crew.count()),
            slots: concurrency.slots(),
        })
    }

    /// Apps without a worker first, then those with fewer starts under way, then who has waited longest.
    fn rank(&self) -> (bool, u32, Time, AppId) {
        (self.staffed, self.starting, self.oldest, self.app)
    }

    fn take_place(&mut self) {
        self.staffed = true;
        self.starting += 1;
        self.unmet = self.unmet.saturating_sub(self.slots);
        self.places -= 1;
    }
}

/// The gate of an app that has nothing to do with others, while somebody waits for it.
fn own_gate(pool: &Pool, id: AppId, app: &App) -> Option<Gate> {
    let crew = pool.roster.crew(id);
    if app.stopped {
        Some(Gate::Stopped)
    } else if app.disabled.is_some() {
        Some(Gate::Disabled)
    } else if app.inspection == Inspection::Looking {
        Some(Gate::Inspecting)
    } else if pool.roster.starting_slots(id, None) >= pool.queue.len(id) {
        Some(Gate::EnoughStarting)
    } else if crew.count() >= app.limit() {
        Some(Gate::AppFull)
    } else {
        None
    }
}
