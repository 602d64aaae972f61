//! In a privileged pool nothing that comes through the core gives an application more than the configuration does,
//! and nothing says whom it runs as: keeper and spawner take that from the configuration themselves. What was set
//! smaller can be set back.

use super::holds::{Holds, holds};
use crate::core::shell::State;
use crate::core::translate;
use hatchery_pool::{AppSettings, Settings};
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::keys::Key;
use hatchery_protocol::options::AppOptions;

const REMEDY: &str = "change it in the configuration, then `reload`";

impl State {
    pub(in crate::core::admin) fn is_bounded(&self) -> bool {
        self.privileged && !self.config.trust_clients
    }

    /// Whether an app can have these options: its tenant is known, and in a privileged pool nothing is said that
    /// would be said in vain.
    ///
    /// # Errors
    /// One sentence.
    pub(in crate::core::admin) fn check_said(&self, root: &[u8], options: &AppOptions) -> Result<(), String> {
        self.check_tenant(options)?;
        if !self.is_bounded() {
            return Ok(());
        }
        let configured = self.configured(root);
        let vain = |key: &&Key| {
            let said = options.words(key.name);
            said.is_some() && said != configured.words(key.name) && holds(key.name) == Some(Holds::NextGeneration)
        };
        AppOptions::KEYS.iter().find(vain).map_or(Ok(()), |key| Err(of_the_configuration(key)))
    }

    /// # Errors
    /// One sentence that names the known ones.
    pub(super) fn check_tenant(&self, options: &AppOptions) -> Result<(), String> {
        let unknown = |name: &&String| self.config.tenants.iter().all(|tenant| tenant.name != **name);
        if let Some(name) = options.tenant.as_ref().filter(unknown) {
            let known: Vec<&str> = self.config.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
            let known = match known.as_slice() {
                [] => "the configuration has no [[tenant]]".to_owned(),
                known => format!("there are {}", known.join(", ")),
            };
            return Err(format!("tenant: there is no tenant {name:?}; {known}"));
        }
        Ok(())
    }

    /// What the configuration says of an app itself.
    pub(super) fn configured(&self, root: &[u8]) -> AppOptions {
        self.given.apps.iter().find(|app| app.root == root).map(|app| app.options.clone()).unwrap_or_default()
    }

    /// Whether an app may have these options, of which this key is another one.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn holds_to_the_configuration(
        &self,
        root: &[u8],
        key: &Key,
        options: &AppOptions,
    ) -> Result<(), String> {
        let given = self.configured(root).over(&self.given.defaults);
        self.narrows(key, &options.clone().over(&self.config.defaults), &given)
    }

    /// The same for what holds where an app says nothing.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn defaults_hold_to_the_configuration(&self, key: &Key, defaults: &AppOptions) -> Result<(), String> {
        self.narrows(key, defaults, &self.given.defaults)
    }

    fn narrows(&self, key: &Key, options: &AppOptions, given: &AppOptions) -> Result<(), String> {
        if !self.is_bounded() {
            return Ok(());
        }
        if holds(key.name) == Some(Holds::NextGeneration) {
            return Err(of_the_configuration(key));
        }
        let settings = |options: &AppOptions| -> AppSettings { translate::app_settings(options) };
        wide(settings(options).wider_than(&settings(given)))
    }

    /// Whether the pool may be like this.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn pool_holds_to_the_configuration(&self, config: &PoolConfig) -> Result<(), String> {
        if !self.is_bounded() {
            return Ok(());
        }
        let settings = |config: &PoolConfig| translate::settings(config, self.privileged);
        wide(wider(&settings(config), &settings(&self.given)))
    }
}

fn of_the_configuration(key: &Key) -> String {
    format!("this pool is privileged, and takes {} from its configuration alone: {REMEDY}", key.name)
}

fn wide(name: Option<&str>) -> Result<(), String> {
    match name {
        Some(name) => {
            Err(format!("this pool is privileged, and {name} would be larger than its configuration says: {REMEDY}"))
        }
        None => Ok(()),
    }
}

/// The first limit of the pool that is larger than what was given.
fn wider(new: &Settings, given: &Settings) -> Option<&'static str> {
    // Never is the longest.
    let idle = |settings: &Settings| (settings.max_preloader_idle.is_none(), settings.max_preloader_idle);
    let wider = [
        ("max", new.max > given.max),
        ("surge", new.surge > given.surge),
        ("max_queue_total", new.max_queue_total > given.max_queue_total),
        ("max_starting", new.max_starting > given.max_starting),
        ("max_preloaders", new.max_preloaders > given.max_preloaders),
        ("max_preloader_idle", idle(new) > idle(given)),
        ("evict_timeout", new.evict_timeout > given.evict_timeout),
        ("max_sessions", new.max_sessions > given.max_sessions),
    ];
    wider.into_iter().find(|(_, wider)| *wider).map(|(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_larger_than_was_given_is_found_by_its_name() {
        let given = Settings::default();
        assert_eq!(wider(&given, &given), None);
        assert_eq!(wider(&Settings { surge: 2, ..given.clone() }, &given), Some("surge"));
        assert_eq!(wider(&Settings { max_preloader_idle: None, ..given.clone() }, &given), Some("max_preloader_idle"));
        let smaller =
            Settings { max_preloader_idle: Some(Duration::from_secs(1)), max_queue_total: 3, ..given.clone() };
        assert_eq!(wider(&smaller, &given), None);
        let refused = wide(Some("max")).unwrap_err();
        assert!(refused.contains("max would be larger") && refused.contains("reload"), "{refused}");
    }
}
