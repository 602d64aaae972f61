//! What is said of tenants: whose the apps are, and that together they keep within what they may have. The numbers are
//! those of the invariants in `docs/architecture.md`.

use super::{Books, Checked};
use hatchery_pool::{AppId, Event, TenantSettings, WorkerId};

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

impl Books {
    /// An order that was obeyed may say whose an app is.
    pub(super) fn tenant_said(&mut self, order: &Event) {
        match order {
            Event::Added { root, settings, .. } => {
                self.registered.insert(root.clone());
                self.note_tenant(root, settings.tenant.clone());
            }
            Event::Removed { root, .. } => {
                self.registered.remove(root);
                self.tenant_of_new(root);
            }
            _ => {}
        }
    }

    /// An app became known. If the operator did not say whose it is, it is as all are.
    pub(super) fn tenant_of_new(&mut self, root: &[u8]) {
        if !self.registered.contains(root) {
            self.note_tenant(root, self.settings.defaults.tenant.clone());
        }
    }

    fn note_tenant(&mut self, root: &[u8], tenant: Option<String>) {
        match tenant {
            Some(tenant) => self.tenants.insert(root.to_vec(), tenant),
            None => self.tenants.remove(root),
        };
    }

    /// The limits that an app has in common with others.
    pub(crate) fn tenant_limits(&self, root: &[u8]) -> TenantSettings {
        let limits = self.tenants.get(root).and_then(|name| self.settings.tenants.get(name));
        limits.copied().unwrap_or_default()
    }

    pub(super) fn is_of_same_tenant(&self, app: AppId, other: AppId) -> bool {
        let tenant = |app| self.apps.get(&app).and_then(|root| self.tenants.get(root));
        tenant(app).is_some() && tenant(app) == tenant(other)
    }

    /// The workers of an app's tenant; `None`: it belongs to none.
    pub(crate) fn of_tenant(&self, root: &[u8]) -> Option<u32> {
        let name = self.tenants.get(root)?;
        Some(self.workers.values().filter(|worker| self.tenants.get(&worker.root) == Some(name)).count() as u32)
    }

    /// Whether its tenant may have no room for another worker of this app: what its workers use is not known here.
    pub(super) fn tenant_may_be_full(&self, app: AppId) -> bool {
        let limits = self.tenant_limits(&self.apps[&app]);
        let shared = |other: AppId| self.is_of_same_tenant(app, other);
        let count = || {
            let running = self.workers.values().filter(|worker| shared(worker.app)).count();
            running + self.waiting.values().filter(|&&waits| shared(waits)).count()
        };
        limits.max_memory.is_some() || limits.max.is_some_and(|max| count() >= max.get() as usize)
    }

    /// Whether all workers that its tenant may have are this app's.
    pub(super) fn fills_its_tenant(&self, app: AppId) -> bool {
        let own = self.workers.values().filter(|worker| worker.app == app).count();
        let all = self.workers.values().filter(|worker| self.is_of_same_tenant(app, worker.app)).count();
        let max = self.tenant_limits(&self.apps[&app]).max;
        own == all && max.is_some_and(|max| own >= max.get() as usize)
    }

    /// A worker is started of an app with this root, beyond limits by `surge`; `kept`: it has its place already.
    pub(super) fn spawned_of_tenant(&self, root: &[u8], id: WorkerId, surge: u32, kept: bool) -> Checked {
        let (Some(max), Some(count)) = (self.tenant_limits(root).max, self.of_tenant(root)) else { return Ok(()) };
        ensure!(
            kept || count < max.get().saturating_add(surge),
            "{id} is started above its tenant's limit {max}, surge {surge}: it has {count} (invariant 24)"
        );
        Ok(())
    }

    /// A worker leaves because its tenant uses too much memory.
    pub(super) fn left_for_memory(&self, root: &[u8], id: WorkerId) -> Checked {
        let limited = self.tenant_limits(root).max_memory.is_some();
        ensure!(limited, "{id} leaves for the memory of a tenant that may have any (invariant 24)");
        Ok(())
    }
}
