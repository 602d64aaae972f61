//! Who may start a worker, and whose worker makes room for it. Everything here only looks.

use crate::app::{App, Inspection};
use crate::effect::{Gate, StopReason};
use crate::ids::{AppId, WorkerId};
use crate::pool::{Phase, Pool};
use crate::recycling;
use crate::roll;
use crate::roster;
use crate::tenant;
use crate::time::Time;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// One step towards as many workers as are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    Start(AppId),
    /// A worker that has done enough gets its replacement.
    Replace(WorkerId),
    /// The first worker of an app's new generation.
    Roll(AppId),
    /// An old worker of an app makes room for that.
    GiveUp(AppId, WorkerId),
    /// A worker makes room: an idle or unneeded one, or a busy one whose app has had more than is fair.
    Leave(WorkerId, StopReason),
}

/// The next step: first what waiters can have at once, then what `min` asks for, then what is only fair.
pub(crate) fn next_move(pool: &Pool, now: Time) -> Option<Move> {
    if pool.phase != Phase::Running {
        return None;
    }
    for_memory(pool)
        .or_else(|| for_waiters(pool, now))
        .or_else(|| for_verdicts(pool))
        .or_else(|| for_min(pool, now))
        .or_else(|| for_rolls(pool, now))
        .or_else(|| for_recycling(pool, now))
        .or_else(|| for_fairness(pool, now))
}

/// What an app could use more of. Apps without a worker come first, then those with fewer starts under way,
/// then who has waited longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Want {
    /// It has a worker that serves or will.
    staffed: bool,
    starting: u32,
    /// When its oldest waiter came.
    oldest: Time,
    app: AppId,
    /// Waiters no starting slot is meant for.
    unmet: u32,
    /// Workers its own limit leaves it.
    places: u32,
    slots: u32,
}

impl Want {
    fn of(pool: &Pool, id: AppId) -> Option<Self> {
        let (app, oldest) = (pool.apps.get(&id)?, pool.queue.first(id)?.arrived);
        if own_gate(pool, id, app).is_some() {
            return None;
        }
        let plan = roll::alone(pool, id, app).or_else(|| app.plan());
        let concurrency = app.settings.concurrency.or(plan.map(|plan| plan.concurrency))?;
        let crew = pool.roster.crew(id);
        let staffed = crew.live() > 0;
        Some(Self {
            app: id,
            staffed,
            starting: crew.starting.len() as u32,
            oldest,
            unmet: pool.queue.len(id).saturating_sub(pool.roster.starting_slots(id, None)),
            // A broken app is tried with one worker.
            places: if app.breaker.is_trying() { 1 } else { app.limit().saturating_sub(crew.count()) },
            slots: concurrency.slots(pool.settings.max_sessions.get()),
        })
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
    } else if app.is_in_between() {
        Some(Gate::Swapping)
    } else if app.is_rolling() && roll::alone(pool, id, app).is_none() {
        Some(Gate::Rolling)
    } else if app.inspection == Inspection::Looking {
        Some(Gate::Inspecting)
    } else if app.breaker.is_trying() && !crew.starting.is_empty() {
        Some(Gate::Trying)
    } else if pool.roster.starting_slots(id, None) >= pool.queue.len(id) {
        Some(Gate::EnoughStarting)
    } else if crew.count() >= app.limit() {
        Some(Gate::AppFull)
    } else {
        None
    }
}

/// What keeps each app that somebody waits for from growing. An app that nothing keeps is not in it.
pub(crate) fn gates(pool: &Pool, now: Time) -> BTreeMap<AppId, Gate> {
    let shared = survey(pool, now).err().unwrap_or_default();
    let own = pool.queue.apps().filter_map(|id| Some((id, own_gate(pool, id, pool.apps.get(&id)?)?)));
    shared.into_iter().chain(own).collect()
}

fn for_waiters(pool: &Pool, now: Time) -> Option<Move> {
    // Most steps of a pool under load end here, before anybody is compared with anybody.
    let room = pool.roster.count() < pool.settings.max.get() || is_anything_evictable(pool);
    let may_start = young_starts(pool, now) < pool.settings.max_starting.get();
    if pool.queue.total() > 0 && room && may_start { survey(pool, now).ok() } else { None }
}

/// Hands out room to the apps that somebody waits for, as if it were there already, until one can really
/// have some; if none can, says why. A worker that was told to leave is room for one start, so that nobody
/// evicts twice for one waiter.
fn survey(pool: &Pool, now: Time) -> Result<Move, Vec<(AppId, Gate)>> {
    let wants = pool.queue.apps().filter_map(|app| Want::of(pool, app));
    let mut line: BTreeSet<Want> = wants.collect();
    let (max, max_starting) = (pool.settings.max.get(), pool.settings.max_starting.get());
    let (count, leaving) = (pool.roster.count(), pool.roster.leaving());
    let supply = max.saturating_sub(count - leaving);
    let mut claimed = 0;
    let mut tenants = tenant::usage(pool);
    let mut blocked = Vec::new();
    while let Some(mut want) = line.pop_first() {
        let of_tenant = tenant::of(pool, want.app).and_then(|name| tenants.get_mut(name));
        let tenants_gate = of_tenant.as_ref().and_then(|usage| usage.gate(0));
        let gate = if starts_that_count(pool, &want, now) + claimed >= max_starting {
            Gate::TooManyStarting
        } else if let (Some(gate), Some(usage)) = (tenants_gate, of_tenant) {
            if gate == Gate::TenantFull && usage.has_unclaimed_place() {
                usage.claimed += 1;
                claimed += u32::from(count >= max && claimed < supply);
                want.take_place();
                if want.unmet > 0 && want.places > 0 {
                    line.insert(want);
                    continue;
                }
            } else if gate == Gate::TenantFull
                && let Some((worker, why)) = evictable_of_tenant(pool, want.app)
            {
                return Ok(Move::Leave(worker, why));
            }
            gate
        } else if count < max {
            return Ok(Move::Start(want.app));
        } else if claimed < supply {
            claimed += 1;
            want.take_place();
            if want.unmet > 0 && want.places > 0 {
                line.insert(want);
                continue;
            }
            Gate::PoolFull
        } else if let Some((worker, why)) = evictable(pool, want.app) {
            return Ok(Move::Leave(worker, why));
        } else if claimed > 0 {
            Gate::Reserved
        } else {
            Gate::PoolFull
        };
        blocked.push((want.app, gate));
    }
    Err(blocked)
}

/// Starts under way that keep this app from starting one more. A start that takes longer than is fair is
/// no reason for an app without any worker to wait: one app's hanging start delays no other for long.
fn starts_that_count(pool: &Pool, want: &Want, now: Time) -> u32 {
    if want.staffed { pool.roster.starting().len() as u32 } else { young_starts(pool, now) }
}

fn young_starts(pool: &Pool, now: Time) -> u32 {
    let starting = pool.roster.starting().iter().filter_map(|&id| pool.roster.get(id));
    starting.filter(|worker| worker.started + pool.settings.fair_wait > now).count() as u32
}

fn is_anything_evictable(pool: &Pool) -> bool {
    pool.roster.idle().any(|id| is_dispensable(pool, id))
        || pool.roster.starting().iter().any(|&id| is_unneeded(pool, id))
}

/// A worker of another app that leaves for a waiter: one that starts for nobody, else the longest idle.
pub(crate) fn evictable(pool: &Pool, for_app: AppId) -> Option<(WorkerId, StopReason)> {
    evictable_but(pool, for_app, |_| false)
}

/// The same, but for those that are `spared`.
pub(crate) fn evictable_but(
    pool: &Pool,
    for_app: AppId,
    spared: impl Fn(WorkerId) -> bool,
) -> Option<(WorkerId, StopReason)> {
    let other = |id: &WorkerId| pool.app_of(*id) != Some(for_app) && !spared(*id);
    if let Some(worker) = pool.roster.starting().iter().rev().copied().filter(other).find(|&id| is_unneeded(pool, id)) {
        return Some((worker, StopReason::StartUnneeded));
    }
    let idle = pool.roster.idle().filter(other).find(|&id| is_dispensable(pool, id));
    idle.map(|worker| (worker, StopReason::Evicted))
}

/// Whether a starting worker is one more than its app's waiters have a use for.
fn is_unneeded(pool: &Pool, id: WorkerId) -> bool {
    let starting = pool.roster.get(id).filter(|worker| worker.phase == roster::Phase::Starting);
    let starting = starting.filter(|worker| worker.replaces.is_none() && !pool.is_first_of_roll(id));
    starting.is_some_and(|worker| pool.roster.starting_slots(worker.app, Some(id)) >= pool.queue.len(worker.app))
}

/// The same among the workers of its tenant.
fn evictable_of_tenant(pool: &Pool, for_app: AppId) -> Option<(WorkerId, StopReason)> {
    evictable_but(pool, for_app, |worker| !pool.app_of(worker).is_some_and(|app| tenant::is_shared(pool, for_app, app)))
}

/// An idle worker that somebody waits for is in a back-off, and not to spare.
fn is_dispensable(pool: &Pool, id: WorkerId) -> bool {
    pool.app_of(id).is_some_and(|app| pool.queue.first(app).is_none())
}

fn for_min(pool: &Pool, now: Time) -> Option<Move> {
    let room = pool.roster.count() < pool.settings.max.get();
    let may_start = room && (pool.roster.starting().len() as u32) < pool.settings.max_starting.get();
    let ready = |id: &&AppId| {
        pool.apps.get(id).is_some_and(|app| app.plan().is_some() && app.restore_from <= now)
            && tenant::gate(pool, **id, 0).is_none()
    };
    if may_start { pool.short.iter().find(ready).map(|&app| Move::Start(app)) } else { None }
}

/// Whether an app may start a worker that goes beyond the limits by `surge`.
pub(crate) fn fits(pool: &Pool, id: AppId, surge: u32) -> bool {
    let limit = pool.apps.get(&id).map_or(0, App::limit);
    let (count, of_app) = (pool.roster.count(), pool.roster.crew(id).count());
    count < pool.settings.max.get().saturating_add(surge)
        && of_app < limit.saturating_add(surge)
        && tenant::gate(pool, id, if owes_tenant_room(pool, id) { 0 } else { surge }).is_none()
}

fn for_memory(pool: &Pool) -> Option<Move> {
    tenant::heaviest(pool).map(|(worker, why)| Move::Leave(worker, why))
}

fn for_verdicts(pool: &Pool) -> Option<Move> {
    let may_start = (pool.roster.starting().len() as u32) < pool.settings.max_starting.get();
    if may_start { roll::verdict(pool) } else { None }
}

/// The first worker of a new generation, which may go beyond the limits by `surge`.
fn for_rolls(pool: &Pool, now: Time) -> Option<Move> {
    if pool.rolling.is_empty() || pool.roster.starting().len() as u32 >= pool.settings.max_starting.get() {
        return None;
    }
    roll::next(pool, if is_room_owed(pool, now) { 0 } else { pool.settings.surge })
}

/// A replacement may go beyond the limits by `surge`. Without that, and without room, the old one leaves first:
/// one at a time, so that the app goes on serving as far as it can.
fn for_recycling(pool: &Pool, now: Time) -> Option<Move> {
    let settings = &pool.settings;
    if pool.roster.starting().len() as u32 >= settings.max_starting.get() {
        return None;
    }
    // Most pools have nobody to replace at most times.
    pool.roster.spent().next()?;
    let surge = if is_room_owed(pool, now) { 0 } else { settings.surge };
    if let Some(old) = recycling::next(pool, now, |app| fits(pool, app, surge)) {
        return Some(Move::Replace(old));
    }
    let first = |app| settings.surge == 0 && recycling::is_settled(pool, app);
    let old = recycling::next(pool, now, first)?;
    Some(Move::Leave(old, pool.roster.get(old)?.spent?))
}

/// Whether room that is free once everybody has left who leaves is meant for waiters, or for somebody's `min`. If
/// replacements went beyond the limit all the time, it would never come.
fn is_room_owed(pool: &Pool, now: Time) -> bool {
    let open = |id: &AppId| tenant::gate(pool, *id, 0).is_none();
    let wanted = || pool.queue.apps().any(|app| Want::of(pool, app).is_some() && open(&app));
    let short = || pool.short.iter().any(|id| pool.apps.get(id).is_some_and(|app| app.restore_from <= now) && open(id));
    pool.roster.live() < pool.settings.max.get() && (wanted() || short())
}

/// The same of the room of an app's tenant, which others of the tenant want.
fn owes_tenant_room(pool: &Pool, id: AppId) -> bool {
    let Some(usage) = tenant::usage_of(pool, id) else { return false };
    let other = |app: AppId| app != id && tenant::is_shared(pool, id, app);
    let wanted = || pool.queue.apps().any(|app| other(app) && Want::of(pool, app).is_some());
    let short = || pool.short.iter().any(|&app| other(app));
    usage.coming() > 0 && (wanted() || short())
}

/// Since when the oldest waiter of an app waits that has no worker which serves or will, though it might
/// start one.
pub(crate) fn unstaffed_since(pool: &Pool, id: AppId) -> Option<Time> {
    if pool.phase != Phase::Running {
        None
    } else {
        Want::of(pool, id).filter(|want| !want.staffed).map(|want| want.oldest)
    }
}

/// An app that has waited without any worker that serves or will, and without room on its way.
#[derive(Clone, Copy, Debug)]
struct LeftOut<'a> {
    since: Time,
    app: AppId,
    /// The room that is lacking is this tenant's.
    tenant: Option<&'a str>,
}

/// Who has waited longest for the pool's room, and for each tenant's. If nobody makes room for that one, then for no
/// other: whoever came later has fewer victims.
fn left_out(pool: &Pool) -> Vec<LeftOut<'_>> {
    let mut all: Vec<LeftOut<'_>> = Vec::new();
    if pool.unstaffed.len() == 0 {
        return all;
    }
    let dispensable = || pool.roster.idle().filter(|&id| is_dispensable(pool, id));
    let mut coming = pool.settings.max.get().saturating_sub(pool.roster.live()) as usize + dispensable().count();
    let mut of_tenants: BTreeMap<&str, usize> =
        tenant::usage(pool).into_iter().map(|(name, usage)| (name, usage.coming() as usize)).collect();
    for app in dispensable().filter_map(|id| pool.app_of(id)) {
        if let Some(coming) = tenant::of(pool, app).and_then(|name| of_tenants.get_mut(name)) {
            *coming += 1;
        }
    }
    for (since, app) in pool.unstaffed.iter() {
        // Nobody's room helps where memory is lacking, and who uses that leaves anyway.
        if tenant::gate(pool, app, 0) == Some(Gate::TenantMemory) {
            continue;
        }
        let lacking = tenant::of(pool, app).filter(|name| of_tenants.get(name) == Some(&0));
        if lacking.is_none() && coming > 0 {
            coming -= 1;
            if let Some(coming) = tenant::of(pool, app).and_then(|name| of_tenants.get_mut(name)) {
                *coming -= 1;
            }
        } else if all.iter().all(|other| other.tenant != lacking) {
            all.push(LeftOut { since, app, tenant: lacking });
        }
        if of_tenants.is_empty() && !all.is_empty() {
            break;
        }
    }
    all
}

fn for_fairness(pool: &Pool, now: Time) -> Option<Move> {
    let long = left_out(pool).into_iter().filter(|left_out| left_out.since + pool.settings.fair_wait <= now);
    let mut victims = long.filter_map(|left_out| victims(pool, left_out).filter(|victim| victim.from <= now).max());
    victims.next().map(|victim| Move::Leave(victim.worker, StopReason::Fairness))
}

/// A worker that may be drained for an app that waits. Greater is likelier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Victim {
    /// Serving workers of its app.
    crew: u32,
    ready: Reverse<Time>,
    worker: WorkerId,
    /// When it has served long enough.
    from: Time,
}

/// The workers of apps whose own waiters, if any, came later.
fn victims<'a>(pool: &'a Pool, left_out: LeftOut<'a>) -> impl Iterator<Item = Victim> + 'a {
    let LeftOut { since, app: for_app, tenant: within } = left_out;
    let later = move |&(id, _): &(AppId, _)| {
        id != for_app
            && pool.queue.first(id).is_none_or(|waiter| waiter.arrived > since)
            && within.is_none_or(|name| tenant::of(pool, id) == Some(name))
    };
    pool.roster.crews().filter(later).flat_map(move |(id, crew)| {
        let dwell = pool.apps.get(&id).map(App::dwell).unwrap_or_default();
        let serving = crew
            .all
            .iter()
            .filter_map(|&id| Some((id, pool.roster.get(id)?)))
            .filter(|(_, worker)| worker.is_serving());
        serving.map(move |(id, worker)| Victim {
            crew: crew.serving,
            ready: Reverse(worker.ready),
            worker: id,
            from: worker.ready + dwell,
        })
    })
}

/// When the next move may become possible though nothing happens.
pub(crate) fn opens_by_itself(pool: &Pool, now: Time) -> Option<Time> {
    if pool.phase != Phase::Running || pool.unstaffed.len() == 0 {
        return None;
    }
    let fair_wait = pool.settings.fair_wait;
    let drains = left_out(pool).into_iter().filter_map(|left_out| match left_out.since + fair_wait {
        fair if fair > now => Some(fair),
        _ => victims(pool, left_out).map(|victim| victim.from).filter(|&from| from > now).min(),
    });
    // Starts that have taken longer than is fair don't count against apps without a worker.
    let starts = pool.roster.starting().iter().filter_map(|&id| Some(pool.roster.get(id)?.started + fair_wait));
    drains.chain(starts.filter(|&at| at > now)).min()
}

/// A worker that goes because a limit was lowered: of this app, or of any if it is the pool's.
pub(crate) fn surplus(pool: &Pool, id: AppId) -> Option<WorkerId> {
    let crew = pool.roster.crew(id);
    if pool.apps.get(&id).is_some_and(|app| pool.roster.staying(crew) > app.limit()) {
        let unneeded = crew.starting.iter().rev().copied().find(|&id| is_unneeded(pool, id));
        return unneeded.or_else(|| crew.longest_idle().map(|(_, worker)| worker));
    }
    if tenant::usage_of(pool, id).is_some_and(|usage| usage.has_surplus()) {
        let of_tenant = |other: &WorkerId| pool.app_of(*other).is_some_and(|app| tenant::is_shared(pool, id, app));
        let starting = pool.roster.starting().iter().rev().copied();
        let unneeded = starting.filter(of_tenant).find(|&id| is_unneeded(pool, id));
        return unneeded.or_else(|| pool.roster.idle().find(of_tenant));
    }
    if pool.roster.live() > pool.settings.max.get() {
        let unneeded = pool.roster.starting().iter().rev().copied().find(|&id| is_unneeded(pool, id));
        return unneeded.or_else(|| pool.roster.idle().next());
    }
    None
}
