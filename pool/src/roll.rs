//! A restart under way, and what may be done for it next. Everything here only looks.

use crate::app::App;
use crate::effect::Gate;
use crate::ids::{AppId, Generation, Request, WorkerId};
use crate::pool::Pool;
use crate::recycling;
use crate::room::{self, Move};
use crate::settings::Plan;
use crate::tenant;
use crate::updating::Update;

/// A restart under way.
#[derive(Debug)]
pub(crate) struct Roll {
    pub(crate) generation: Generation,
    pub(crate) stage: Stage,
    /// Who wants to know what becomes of it, or of a newer one.
    pub(crate) askers: Vec<Request>,
    /// Old workers that have left to make room for its first.
    pub(crate) given_up: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The new code is looked into, while the old one serves.
    Looking,
    /// Its first worker is to be started, as soon as there is room.
    Known(Plan),
    Starting(Plan, WorkerId),
    /// There was no old worker to keep: the app's next worker decides.
    Fresh,
    /// It is the app's generation; old workers leave.
    Serving,
}

impl Stage {
    /// The present generation is another one, and may stay it.
    pub(crate) fn is_open(self) -> bool {
        matches!(self, Self::Looking | Self::Known(_) | Self::Starting(..))
    }
}

impl App {
    /// A new generation serves, and old workers leave.
    pub(crate) fn is_settling(&self) -> bool {
        self.roll.as_ref().is_some_and(|roll| roll.stage == Stage::Serving)
    }

    /// Its files are in between: nothing is looked into or started.
    pub(crate) fn is_in_between(&self) -> bool {
        self.update.as_ref().is_some_and(Update::is_in_between)
    }

    /// Nothing of the present generation is started.
    pub(crate) fn is_held(&self) -> bool {
        self.is_rolling() || self.is_in_between()
    }

    /// The present generation may be over soon: nothing of it is started.
    pub(crate) fn is_rolling(&self) -> bool {
        self.roll.as_ref().is_some_and(|roll| roll.stage.is_open())
    }
}

impl Roll {
    /// What is known of the new generation, while its first worker is not started.
    pub(crate) fn known(&self) -> Option<Plan> {
        match self.stage {
            Stage::Known(plan) => Some(plan),
            Stage::Looking | Stage::Starting(..) | Stage::Fresh | Stage::Serving => None,
        }
    }
}

/// The plan of a new generation whose first worker is the only one that can serve anybody: no old one is left.
pub(crate) fn alone(pool: &Pool, id: AppId, app: &App) -> Option<Plan> {
    app.roll.as_ref()?.known().filter(|_| pool.roster.crew(id).live() == 0)
}

/// The first worker of a restart whose app has none: it comes before what is only kept, and an idle worker of another
/// app makes room for it, or nobody would ever hear what became of the restart.
pub(crate) fn verdict(pool: &Pool) -> Option<Move> {
    let known = pool.rolling.iter().filter_map(|&id| Some((id, pool.apps.get(&id)?)));
    let bare = known
        .filter(|(id, app)| alone(pool, *id, app).is_some() || app.roll.as_ref().is_some_and(|roll| roll.given_up > 0));
    let short = pool.short.iter().filter_map(|&id| Some((id, pool.apps.get(&id)?)));
    let fresh =
        short.filter(|(id, app)| is_fresh(pool, *id) && app.plan().is_some() && pool.roster.crew(*id).live() == 0);
    let memory = |id| tenant::gate(pool, id, 0) == Some(Gate::TenantMemory);
    let mut all = bare
        .chain(fresh)
        .filter(|(id, app)| !app.is_in_between() && pool.roster.crew(*id).count() < app.limit() && !memory(*id));
    let (id, _) = all.next()?;
    if room::fits(pool, id, 0) {
        return Some(Move::Start(id));
    }
    let crowded = tenant::gate(pool, id, 0).is_some();
    let nobody_leaves = match tenant::usage_of(pool, id).filter(|_| crowded) {
        Some(usage) => usage.has_nobody_leaving(),
        None => pool.roster.leaving() == 0,
    };
    // Or two that wait for their verdicts would send each other's workers away for ever.
    let decides =
        |worker| pool.app_of(worker).is_some_and(|app| is_fresh(pool, app) && pool.roster.crew(app).serving == 0);
    // Where the tenant has no room, only a worker of its own makes some.
    let elsewhere = |worker| crowded && !pool.app_of(worker).is_some_and(|other| tenant::is_shared(pool, id, other));
    let evictable = room::evictable_but(pool, id, |worker| decides(worker) || elsewhere(worker));
    let evictable = evictable.filter(|_| nobody_leaves);
    evictable.map(|(worker, why)| Move::Leave(worker, why))
}

/// Whether an app has all the room that there is for it.
fn fills_its_room(pool: &Pool, id: AppId) -> bool {
    let (own, all) = (pool.roster.crew(id).count(), pool.roster.count());
    let of_tenant = tenant::usage_of(pool, id);
    own >= pool.apps.get(&id).map_or(0, App::limit)
        || own == all && all >= pool.settings.max.get()
        || of_tenant.is_some_and(|usage| usage.is_filled_by(own))
}

/// The app's next worker decides what becomes of its restart.
fn is_fresh(pool: &Pool, id: AppId) -> bool {
    let roll = pool.apps.get(&id).and_then(|app| app.roll.as_ref());
    roll.is_some_and(|roll| roll.stage == Stage::Fresh)
}

/// The next restart whose first worker may be started now, or may have an old one make room for it.
pub(crate) fn next(pool: &Pool, surge: u32) -> Option<Move> {
    let known = pool.rolling.iter().filter_map(|&id| Some((id, pool.apps.get(&id)?)));
    let mut known = known.filter(|(_, app)| !app.is_in_between());
    // One that stands in nobody's place goes beyond no limit: somebody else would have to leave for it.
    let beyond = |id, app| if alone(pool, id, app).is_some() { 0 } else { surge };
    if let Some((id, _)) = known.clone().find(|(id, app)| room::fits(pool, *id, beyond(*id, app))) {
        return Some(Move::Roll(id));
    }
    // One old worker, once: whoever else takes its place, the others serve on. But a place that went with a limit which
    // was lowered since comes back from nobody else.
    known.find_map(|(id, app)| {
        let roll = app.roll.as_ref().filter(|roll| roll.given_up == 0 || fills_its_room(pool, id))?;
        let settled = pool.settings.surge == 0 && recycling::is_settled(pool, id);
        let worker = pool.who_makes_room(id, roll.generation).filter(|_| settled)?;
        Some(Move::GiveUp(id, worker))
    })
}
