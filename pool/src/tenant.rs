//! What the apps of one tenant have in common: so many processes, and so much memory. Everything here only looks.
//!
//! A tenant's limit on processes is kept as the pool's own: an idle worker of the tenant's makes room for an app of it
//! that has waiters, and a busy one when that app has waited longer than is fair. Its limit on memory can only be
//! found to be exceeded: nothing is started then, and workers leave until what stays fits.

use crate::effect::{Gate, StopReason};
use crate::ids::{AppId, WorkerId};
use crate::pool::Pool;
use crate::recycling;
use crate::roster::{Phase, Worker};
use crate::settings::TenantSettings;
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};

/// The apps of a tenant.
pub(crate) fn apps<'a>(pool: &'a Pool, name: &'a str) -> impl Iterator<Item = AppId> + 'a {
    pool.apps.iter().filter(move |(_, app)| app.settings.tenant.as_deref() == Some(name)).map(|(&id, _)| id)
}

/// The tenant of an app, if it has limits.
pub(crate) fn of(pool: &Pool, app: AppId) -> Option<&str> {
    let name = pool.apps.get(&app)?.settings.tenant.as_deref()?;
    let limits = pool.settings.tenants.get(name)?;
    (*limits != TenantSettings::default()).then_some(name)
}

/// What the workers of one tenant use at this moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    limits: TenantSettings,
    /// Every process.
    count: u32,
    /// Those whose place is free in a moment.
    leaving: u32,
    /// Those that serve or will; one and its replacement count as one.
    pub(crate) live: u32,
    /// Memory of all.
    memory: u64,
    /// Memory of those that stay.
    staying_memory: u64,
    /// Places of those that leave, which somebody waits for already.
    pub(crate) claimed: u32,
}

impl Usage {
    fn add(&mut self, worker: &Worker) {
        self.count += 1;
        self.leaving += u32::from(matches!(worker.phase, Phase::Stopping | Phase::Failing | Phase::Killed));
        self.memory += worker.weight.bytes;
        self.staying_memory += if worker.is_serving() { worker.weight.bytes } else { 0 };
    }

    fn max(&self) -> u32 {
        self.limits.max.map_or(u32::MAX, NonZeroU32::get)
    }

    fn max_memory(&self) -> u64 {
        self.limits.max_memory.map_or(u64::MAX, NonZeroU64::get)
    }

    /// Why no further worker may be started, beyond the limit on processes by `surge`.
    pub(crate) fn gate(&self, surge: u32) -> Option<Gate> {
        if self.memory >= self.max_memory() {
            Some(Gate::TenantMemory)
        } else if self.count >= self.max().saturating_add(surge) {
            Some(Gate::TenantFull)
        } else {
            None
        }
    }

    /// Whether one of those places is left that are free in a moment.
    pub(crate) fn has_unclaimed_place(&self) -> bool {
        self.claimed < self.max().saturating_sub(self.count - self.leaving.min(self.count))
    }

    /// Apps without a worker for which there is room, or will be once who leaves is gone.
    pub(crate) fn coming(&self) -> u32 {
        self.max().saturating_sub(self.live)
    }

    pub(crate) fn has_nobody_leaving(&self) -> bool {
        self.leaving == 0
    }

    /// Whether an app that has so many workers has all that the tenant may have.
    pub(crate) fn is_filled_by(&self, own: u32) -> bool {
        own == self.count && own >= self.max()
    }

    pub(crate) fn has_surplus(&self) -> bool {
        self.live > self.max()
    }

    pub(crate) fn is_over_memory(&self) -> bool {
        self.staying_memory >= self.max_memory()
    }
}

/// Of each tenant that has limits and workers.
pub(crate) fn usage(pool: &Pool) -> BTreeMap<&str, Usage> {
    usage_where(pool, |_| true)
}

/// Of the tenant of this app, if that has limits.
pub(crate) fn usage_of(pool: &Pool, app: AppId) -> Option<Usage> {
    let name = of(pool, app)?;
    Some(usage_where(pool, |other| other == name).get(name).copied().unwrap_or_default())
}

/// Of those tenants alone that are wanted: most steps of a pool ask for one, or for none.
fn usage_where(pool: &Pool, wanted: impl Fn(&str) -> bool) -> BTreeMap<&str, Usage> {
    let mut all: BTreeMap<&str, Usage> = BTreeMap::new();
    if pool.settings.tenants.is_empty() {
        return all;
    }
    for (app, crew) in pool.roster.crews() {
        let Some(name) = of(pool, app).filter(|name| wanted(name)) else { continue };
        let limits = pool.settings.tenants.get(name).copied().unwrap_or_default();
        let usage = all.entry(name).or_insert(Usage { limits, ..Usage::default() });
        crew.all.iter().filter_map(|&id| pool.roster.get(id)).for_each(|worker| usage.add(worker));
        usage.live += pool.roster.staying(crew);
    }
    all
}

/// What its tenant has against a further worker of this app, beyond the limit on processes by `surge`.
pub(crate) fn gate(pool: &Pool, app: AppId, surge: u32) -> Option<Gate> {
    usage_of(pool, app)?.gate(surge)
}

/// Whether both belong to one tenant that has limits.
pub(crate) fn is_shared(pool: &Pool, app: AppId, other: AppId) -> bool {
    of(pool, app).is_some_and(|name| of(pool, other) == Some(name))
}

/// Whether what its workers use is limited, for itself or with others.
pub(crate) fn is_weighed(pool: &Pool, app: AppId) -> bool {
    let own = pool.apps.get(&app).is_some_and(|app| app.settings.max_memory.is_some());
    own || of(pool, app).is_some_and(|name| pool.settings.tenants[name].max_memory.is_some())
}

/// Whether the workers of its tenant that stay use as much as they may, or more.
pub(crate) fn is_over_memory(pool: &Pool, app: AppId) -> bool {
    usage_of(pool, app).is_some_and(|usage| usage.is_over_memory())
}

/// A worker that leaves because its tenant uses too much memory: the one that is idle longest, else the largest, once
/// it is certain that it was no peak.
pub(crate) fn heaviest(pool: &Pool) -> Option<(WorkerId, StopReason)> {
    let limited = |name: &str| pool.settings.tenants[name].max_memory.is_some();
    if !pool.settings.tenants.keys().any(|name| limited(name)) {
        return None;
    }
    let usage = usage_where(pool, limited);
    let over = usage.iter().filter(|(_, usage)| usage.is_over_memory()).map(|(name, _)| *name);
    let mut leaving = over.filter_map(|name| {
        let of_tenant = |id: &WorkerId| pool.app_of(*id).is_some_and(|app| of(pool, app) == Some(name));
        let weighs = |id: &WorkerId| pool.roster.get(*id).is_some_and(|worker| worker.weight.bytes > 0);
        let waited_for = |id: &WorkerId| pool.app_of(*id).is_some_and(|app| pool.queue.first(app).is_some());
        let idle = pool.roster.idle().find(|id| of_tenant(id) && weighs(id) && !waited_for(id));
        idle.or_else(|| {
            let serving = pool.roster.workers().filter(|(id, worker)| worker.is_serving() && of_tenant(id));
            let certain = serving.filter(|(_, worker)| worker.weight.crowds >= recycling::AGREEING);
            certain.max_by_key(|(id, worker)| (worker.weight.bytes, *id)).map(|(id, _)| id)
        })
    });
    leaving.next().map(|worker| (worker, StopReason::TenantMemory))
}
