//! Which apps have another version tried just now, as far as this process has heard.

use crate::swap::{Terms, Trials, presence};
use hatchery_protocol::config::{NotServed, PoolConfig};
use hatchery_protocol::link::AppNumber;
use hatchery_protocol::options::AppOptions;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;

/// Roots of which it is remembered what was said of them beyond the configuration.
const REMEMBERED: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct UnderTrial {
    pool: String,
    /// Tells other pools that this one is there.
    presence: Option<OwnedFd>,
    apps: BTreeSet<AppNumber>,
    /// What the last inspection was told of `update_gap`.
    gaps: BTreeMap<Vec<u8>, bool>,
}

impl UnderTrial {
    pub(crate) fn begin(&mut self, pool: &str) {
        pool.clone_into(&mut self.pool);
        match presence::announce(pool) {
            Ok(presence) => self.presence = Some(presence),
            Err(error) => {
                eprintln!("spawner: other pools that serve the same apps can't see that this one is there: {error}");
            }
        }
    }

    /// What this pool had tried, others may undo.
    pub(crate) fn end(&mut self) {
        self.presence = None;
    }

    /// A core speaks of this app. What an earlier core had tried has lost who judges it.
    pub(crate) fn hear_of(&mut self, app: AppNumber) {
        let core = |app: AppNumber| app.0 >> 32;
        self.apps.retain(|other| core(*other) >= core(app));
    }

    pub(crate) fn contains(&self, app: AppNumber) -> bool {
        self.apps.contains(&app)
    }

    pub(crate) fn insert(&mut self, app: AppNumber) {
        self.apps.insert(app);
    }

    pub(crate) fn remove(&mut self, app: AppNumber) {
        self.apps.remove(&app);
    }

    pub(crate) fn set_gap(&mut self, root: &[u8], gap: bool) {
        if self.gaps.len() < REMEMBERED || self.gaps.contains_key(root) {
            self.gaps.insert(root.to_vec(), gap);
        }
    }

    /// The configuration is another one: what it says holds until the next inspection.
    pub(crate) fn configured(&mut self) {
        self.gaps.clear();
    }

    pub(crate) fn terms(&self, app: AppNumber, root: &[u8], privileged: bool, config: &PoolConfig) -> Terms {
        let said = || settings(config, root, privileged).ok().and_then(|settings| settings.update_gap);
        let gap = self.gaps.get(root).copied().or_else(said).unwrap_or_default();
        Terms { app, trials: Trials { pool: self.pool.clone(), apps: self.apps.clone() }, privileged, gap }
    }
}

/// The settings of an app of which the core says nothing now.
pub(crate) fn settings(config: &PoolConfig, root: &[u8], privileged: bool) -> Result<AppOptions, NotServed> {
    let registered = config.apps.iter().find(|app| app.root == root);
    let asked = registered.map_or_else(AppOptions::default, |app| app.options.clone());
    config.settings_of(root, asked.over(&config.defaults), privileged)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_core_tried_has_lost_its_judge() {
        let mut trials = UnderTrial::default();
        let (old, new) = (AppNumber(1 << 32 | 5), AppNumber(2 << 32 | 1));
        trials.insert(old);
        trials.hear_of(AppNumber(1 << 32 | 6));
        assert!(trials.apps.contains(&old));
        trials.hear_of(new);
        assert!(trials.apps.is_empty());
    }

    #[test]
    fn a_gap_is_what_the_core_said_last_else_what_the_operator_configured() {
        let mut trials = UnderTrial::default();
        let defaults = AppOptions { update_gap: Some(true), ..AppOptions::default() };
        let config = PoolConfig { defaults, ..PoolConfig::default() };
        let gap = |trials: &UnderTrial| trials.terms(AppNumber(1), b"/app", false, &config).gap;
        assert!(gap(&trials));
        trials.set_gap(b"/app", false);
        assert!(!gap(&trials));
        trials.configured();
        assert!(gap(&trials));
    }
}
