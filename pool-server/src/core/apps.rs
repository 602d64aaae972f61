//! Which apps there are, and what is said of them. Kept as it was said: what is left open is the defaults' to say,
//! which may change.

use super::shell::{Shell, State};
use super::translate;
use hatchery_pool::{AppSettings, Event, Request};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::root;

/// Whether an app can be at this root, with these options.
///
/// # Errors
/// One sentence.
pub(super) fn check(root: &[u8], options: &AppOptions) -> Result<(), String> {
    let sound = root::check(root).map_err(str::to_owned).and_then(|()| options.check());
    sound.map_err(|why| format!("{}: {why}", String::from_utf8_lossy(root)))
}

impl Shell {
    /// Registers the operator's apps.
    pub(super) fn register_apps(&self) {
        let apps = self.state().config.apps.clone();
        for app in apps {
            self.register(&app.root, app.options);
        }
        self.tell(Event::Configured);
    }

    /// As the operator's configuration says.
    pub(super) fn register(&self, root: &[u8], options: AppOptions) {
        let settings = self.state().say(root, options);
        self.tell(Event::Added { request: None, root: root.to_vec(), settings });
    }

    /// Registers an app for good, or changes the options of one that is; the pool answers. What is said was checked.
    pub(super) fn add(&self, request: Request, root: Vec<u8>, options: AppOptions) {
        let settings = {
            let mut state = self.state();
            let before = state.options.get(&root).cloned();
            state.adding = Some((request, root.clone(), before));
            state.say(&root, options)
        };
        self.tell(Event::Added { request: Some(request), root: root.clone(), settings });
        self.state().adding = None;
        self.unsettle_options(&root);
    }

    /// How the app at `root` is started is what the `get` said that makes it known.
    pub(super) fn settle_options(&self, root: &[u8], options: AppOptions) {
        let mut state = self.state();
        if state.pool.app(root).is_none() {
            state.options.insert(root.to_vec(), options);
        }
    }

    /// If the question was refused before it made the app known, nothing of it is kept.
    pub(super) fn unsettle_options(&self, root: &[u8]) {
        let mut state = self.state();
        if state.pool.app(root).is_none() {
            state.options.remove(root);
        }
    }
}

impl State {
    /// How an app is started.
    pub(super) fn options(&self, root: &[u8]) -> AppOptions {
        match self.options.get(root) {
            Some(own) => own.clone().over(&self.config.defaults),
            None => self.config.defaults.clone(),
        }
    }

    /// What is said of an app is this from now on; its limits, as the pool is to know them, are returned.
    fn say(&mut self, root: &[u8], options: AppOptions) -> AppSettings {
        self.options.insert(root.to_vec(), options);
        self.watch_as_said(root);
        translate::app_settings(&self.options(root))
    }

    /// The pool refused this question. If it was to add an app, what was said of that before still holds.
    pub(super) fn was_not_added(&mut self, request: Request) {
        let Some((_, root, before)) = self.adding.take_if(|(adding, ..)| *adding == request) else { return };
        match before {
            Some(before) => self.options.insert(root.clone(), before),
            None => self.options.remove(&root),
        };
        self.watch_as_said(&root);
    }
}
