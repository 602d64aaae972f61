//! Another configuration, while the pool runs: what the keeper read where the first came from.

use super::events::News;
use super::shell::{Shell, State};
use super::translate;
use hatchery_pool::Event;
use hatchery_protocol::config::{AppConfig, PoolConfig};
use hatchery_protocol::events::EventName;
use hatchery_protocol::link::ToKeeper;
use hatchery_protocol::memfd;
use hatchery_protocol::options::AppOptions;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use tokio::sync::oneshot;

impl Shell {
    /// Lets the keeper read the configuration again.
    ///
    /// # Errors
    /// What is wrong with it, one or more lines. Nothing has changed then.
    pub(super) async fn reload(&self) -> Result<(), String> {
        let answer = {
            let mut state = self.state();
            let (sender, answer) = oneshot::channel();
            state.reloads.push_back(sender);
            state.tell_keeper(&ToKeeper::Reload, &[]);
            answer
        };
        answer.await.unwrap_or_else(|_| Err("the pool is ending".into()))
    }

    /// The keeper's answer. `kept`: keys whose new value needs a new start.
    pub(super) fn reloaded(&self, problem: Option<String>, kept: &[String], descriptors: Vec<OwnedFd>) {
        let outcome = match (problem, descriptors.first()) {
            (Some(problem), _) => Err(problem),
            (None, Some(memfd)) => memfd::read(memfd).map_err(|error| error.to_string()),
            (None, None) => Err("the keeper gave no configuration".into()),
        };
        let outcome = outcome.map(|config| self.configure_anew(config));
        match &outcome {
            Err(problem) => {
                let text = format!("the configuration stays as it was: {problem}");
                self.state().happened(News::of(EventName::ReloadFailed, text));
            }
            Ok(()) if !kept.is_empty() => {
                tracing::warn!("{} can't change while the pool runs: the new value needs a new start", kept.join(", "));
            }
            Ok(()) => {}
        }
        let waiting = self.state().reloads.pop_front();
        if let Some(waiting) = waiting {
            // Whoever asked may be gone.
            let _ = waiting.send(outcome);
        }
    }

    /// Tells the pool what differs, and says so in one line.
    fn configure_anew(&self, config: PoolConfig) {
        let changes = {
            let mut state = self.state();
            state.given = config.clone();
            let before = std::mem::replace(&mut state.config, config);
            state.name_apps_anew();
            Changes::between(&before, &state.config)
        };
        let (settings, added_live) = {
            let state = self.state();
            let settings = translate::settings(&state.config, state.privileged);
            // What their options leave open may be something else now.
            let added_live = if changes.defaults { state.added_live() } else { Vec::new() };
            (settings, added_live)
        };
        if changes.pool || changes.defaults {
            self.tell(Event::Reloaded { settings: Box::new(settings) });
        }
        for root in &changes.gone {
            self.tell(Event::Removed { request: None, root: root.clone() });
        }
        for app in changes.new.iter().chain(&changes.changed) {
            self.register(&app.root, app.options.clone());
        }
        for (root, options) in added_live {
            self.register(&root, options);
        }
        self.tell(Event::Configured);
        let text = format!("the configuration was read again: {}", changes.sentence());
        self.state().happened(News::of(EventName::PoolReloaded, text));
    }

    /// Another configuration by hand: settings of the pool, or what holds where an app says nothing. What was said of
    /// single apps stays.
    pub(super) fn change(&self, config: PoolConfig) {
        let before = std::mem::replace(&mut self.state().config, config);
        let (settings, touched) = {
            let state = self.state();
            (translate::settings(&state.config, state.privileged), state.touched_by_defaults(&before.defaults))
        };
        self.tell(Event::Reloaded { settings: Box::new(settings) });
        for (root, options, registered) in touched {
            if registered {
                self.register(&root, options);
            } else {
                self.state().watch_as_said(&root);
            }
        }
    }
}

impl State {
    /// The configuration as it holds. What clients have set is known to the pool alone.
    pub(super) fn live(&self) -> PoolConfig {
        let mut config = self.config.clone();
        let (settings, said) = (self.pool.settings(), translate::app_settings(&config.defaults));
        config.max = settings.max.get();
        if settings.defaults.max_per_app != said.max_per_app {
            config.defaults.max_per_app = Some(settings.defaults.max_per_app.map_or(0, NonZeroU32::get));
        }
        if settings.defaults.max_idle != said.max_idle {
            config.defaults.max_idle = Some(settings.defaults.max_idle.unwrap_or_default());
        }
        config
    }

    /// Apps for which it makes a difference that these are not the defaults any more: what is said of each itself, and
    /// whether it is registered.
    fn touched_by_defaults(&self, before: &AppOptions) -> Vec<(Vec<u8>, AppOptions, bool)> {
        let known = self.pool.snapshot(self.now()).apps.into_iter().filter_map(|app| {
            let own = self.options.get(&app.root)?.clone();
            Some((app.root, own, app.registered))
        });
        let touched = known.filter(|(_, own, _)| own.clone().over(before) != own.clone().over(&self.config.defaults));
        touched.collect()
    }

    /// Registered apps that the configuration doesn't have.
    fn added_live(&self) -> Vec<(Vec<u8>, AppOptions)> {
        let apps = self.pool.snapshot(self.now()).apps.into_iter();
        let live = apps.filter(|app| app.registered && self.config.apps.iter().all(|other| other.root != app.root));
        live.filter_map(|app| self.options.get(&app.root).cloned().map(|options| (app.root, options))).collect()
    }
}

/// What differs between two configurations.
#[derive(Debug, Default)]
struct Changes {
    /// Something that holds for the whole pool.
    pool: bool,
    defaults: bool,
    new: Vec<AppConfig>,
    changed: Vec<AppConfig>,
    gone: Vec<Vec<u8>>,
}

impl Changes {
    fn between(before: &PoolConfig, now: &PoolConfig) -> Self {
        let defaults = before.defaults != now.defaults;
        let of =
            |config: &PoolConfig| PoolConfig { apps: Vec::new(), defaults: AppOptions::default(), ..config.clone() };
        let mut changes = Self { pool: of(before) != of(now), defaults, ..Self::default() };
        let known: HashMap<&[u8], &AppConfig> = before.apps.iter().map(|app| (app.root.as_slice(), app)).collect();
        for app in &now.apps {
            match known.get(app.root.as_slice()) {
                None => changes.new.push(app.clone()),
                Some(known) => {
                    let same = app.options.clone().over(&now.defaults) == known.options.clone().over(&before.defaults);
                    if !same || known.name != app.name {
                        changes.changed.push(app.clone());
                    }
                }
            }
        }
        let roots: HashSet<&[u8]> = now.apps.iter().map(|app| app.root.as_slice()).collect();
        let gone = before.apps.iter().filter(|app| !roots.contains(app.root.as_slice()));
        changes.gone = gone.map(|app| app.root.clone()).collect();
        changes
    }

    fn sentence(&self) -> String {
        let list = |roots: &mut dyn Iterator<Item = &Vec<u8>>| {
            let roots: Vec<_> = roots.map(|root| String::from_utf8_lossy(root).into_owned()).collect();
            roots.join(", ")
        };
        let mut parts = Vec::new();
        for (what, is) in [("settings of the pool changed", self.pool), ("[defaults] changed", self.defaults)] {
            parts.extend(is.then(|| what.to_owned()));
        }
        if !self.new.is_empty() {
            parts.push(format!("new: {}", list(&mut self.new.iter().map(|app| &app.root))));
        }
        if !self.changed.is_empty() {
            let roots = list(&mut self.changed.iter().map(|app| &app.root));
            parts.push(format!("changed: {roots}, where what concerns a start holds from the next one on"));
        }
        if !self.gone.is_empty() {
            parts.push(format!("removed: {}", list(&mut self.gone.iter())));
        }
        if parts.is_empty() { "nothing has changed".to_owned() } else { parts.join("; ") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app(root: &str, min: u32) -> AppConfig {
        let options = AppOptions { min: Some(min), ..AppOptions::default() };
        AppConfig { root: root.into(), name: None, options }
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = PoolConfig { apps: vec![app("/a", 1), app("/b", 1), app("/c", 1)], ..PoolConfig::default() };
        assert_eq!(Changes::between(&before, &before).sentence(), "nothing has changed");
        let now = PoolConfig { max: 9, apps: vec![app("/b", 2), app("/c", 1), app("/d", 1)], ..before.clone() };
        let changes = Changes::between(&before, &now);
        assert_eq!(
            changes.sentence(),
            "settings of the pool changed; new: /d; changed: /b, where what concerns a start holds from the next one \
             on; removed: /a"
        );
    }

    #[test]
    fn another_default_changes_the_apps_that_leave_it_open_and_no_others() {
        let open = AppConfig { options: AppOptions::default(), ..app("/open", 1) };
        let before = PoolConfig { apps: vec![app("/says", 1), open], ..PoolConfig::default() };
        let defaults = AppOptions { min: Some(3), ..AppOptions::default() };
        let changes = Changes::between(&before, &PoolConfig { defaults, ..before.clone() });
        assert_eq!(changes.changed.iter().map(|app| app.root.as_slice()).collect::<Vec<_>>(), [b"/open"]);
        assert!(changes.defaults && !changes.pool);
    }
}
