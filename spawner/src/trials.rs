//! Which apps have another version tried just now, as far as this process has heard.

use crate::swap::presence;
use hatchery_protocol::config::{NotServed, PoolConfig};
use hatchery_protocol::link::AppNumber;
use hatchery_protocol::options::AppOptions;
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

/// Roots of which it is remembered what was said of them beyond the configuration.
const REMEMBERED: usize = 1024;

#[derive(Debug, Default)]
pub(crate) struct UnderTrial {
    /// Each with what tells that it is under way.
    apps: BTreeMap<AppNumber, OwnedFd>,
    /// What the last inspection was told of `update_gap`.
    gaps: BTreeMap<Vec<u8>, bool>,
}

impl UnderTrial {
    /// This pool ends: what it had tried, others may undo.
    pub(crate) fn end(&mut self) {
        self.apps.clear();
    }

    /// A core speaks of this app. What an earlier core had tried has lost who judges it.
    pub(crate) fn hear_of(&mut self, app: AppNumber) {
        let core = |app: AppNumber| app.0 >> 32;
        self.apps.retain(|other, _| core(*other) >= core(app));
    }

    pub(crate) fn contains(&self, app: AppNumber) -> bool {
        self.apps.contains_key(&app)
    }

    /// Another version of this app is about to be tried. With the id of its trial, unless that could not be announced.
    /// Who asks for another one tries none: one that was under way has lost who judges it.
    pub(crate) fn announce(&mut self, app: AppNumber) -> Option<String> {
        self.apps.remove(&app);
        let announced = presence::fresh_id().and_then(|id| Ok((presence::announce(&id)?, id)));
        match announced {
            Ok((presence, id)) => {
                self.apps.insert(app, presence);
                Some(id)
            }
            Err(error) => {
                eprintln!("spawner: that another version of an app is tried can't be announced: {error}");
                None
            }
        }
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

    /// Whether the app may be missing for a moment.
    pub(crate) fn gap(&self, root: &[u8], privileged: bool, config: &PoolConfig) -> bool {
        let said = || settings(config, root, privileged).ok().and_then(|settings| settings.update_gap);
        self.gaps.get(root).copied().or_else(said).unwrap_or_default()
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
        trials.announce(old).unwrap();
        trials.hear_of(AppNumber(1 << 32 | 6));
        assert!(trials.contains(old));
        trials.hear_of(new);
        assert!(trials.apps.is_empty());
    }

    #[test]
    fn a_gap_is_what_the_core_said_last_else_what_the_operator_configured() {
        let mut trials = UnderTrial::default();
        let defaults = AppOptions { update_gap: Some(true), ..AppOptions::default() };
        let config = PoolConfig { defaults, ..PoolConfig::default() };
        let gap = |trials: &UnderTrial| trials.gap(b"/app", false, &config);
        assert!(gap(&trials));
        trials.set_gap(b"/app", false);
        assert!(!gap(&trials));
        trials.configured();
        assert!(gap(&trials));
    }
}
