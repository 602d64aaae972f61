//! What clients of a bounded pool may ask for: nothing beyond what the operator said.

use crate::app::{App, Origin};
use crate::effect::Beyond;
use crate::settings::{AppSettings, Concurrency, Settings, Wanted};
use std::time::Duration;

/// The first thing a `get` asks for that only the operator can give. `given` is what the operator said.
pub(crate) fn beyond(given: &Settings, known: Option<&App>, root: &[u8], wanted: &Wanted) -> Option<Beyond> {
    let own = known.filter(|app| app.origin == Origin::Operator).map(|app| &app.settings);
    let limits = own.unwrap_or(&given.defaults);
    if let Some(name) = wanted.operators.filter(|_| own.is_some() || is_served(given, root)) {
        return Some(Beyond::Operators(name));
    }
    beyond_app(given, own, root, &wanted.applied_to(limits))
}

/// The same for settings of an app: `own` are those it was registered with by the operator.
pub(crate) fn beyond_app(
    given: &Settings,
    own: Option<&AppSettings>,
    root: &[u8],
    settings: &AppSettings,
) -> Option<Beyond> {
    if own.is_none() && !is_served(given, root) {
        return Some(Beyond::Root);
    }
    settings.wider_than(own.unwrap_or(&given.defaults)).map(Beyond::Limit)
}

fn is_served(given: &Settings, root: &[u8]) -> bool {
    given.apps_under.iter().any(|folder| is_under(root, folder))
}

fn is_under(root: &[u8], folder: &[u8]) -> bool {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    root.strip_prefix(folder).is_some_and(|rest| rest.len() > 1 && rest[0] == b'/')
}

/// Orders limits where none is the largest.
pub(crate) fn longest<T: Ord>(limit: Option<T>) -> (bool, Option<T>) {
    (limit.is_none(), limit)
}

/// Zero idle time is never, as none is.
pub(crate) fn longest_idle(idle: Option<Duration>) -> (bool, Option<Duration>) {
    longest(idle.filter(|idle| !idle.is_zero()))
}

impl AppSettings {
    /// The name of the first limit that is larger here than what was `given`.
    #[must_use]
    pub fn wider_than(&self, given: &Self) -> Option<&'static str> {
        // Without a word from the operator the app's plan decides, and that isn't known here: only one session
        // at a time is surely no more.
        let slots = |concurrency: Option<Concurrency>| concurrency.map_or(1, |said| said.slots(u32::MAX));
        let unsaid = self.concurrency.is_none() && given.concurrency.is_some();
        let wider = [
            ("max_per_app", longest(self.max_per_app) > longest(given.max_per_app)),
            ("min", self.min > given.min),
            ("concurrency", unsaid || slots(self.concurrency) > slots(given.concurrency)),
            ("max_idle", longest_idle(self.max_idle) > longest_idle(given.max_idle)),
            ("max_queue", self.max_queue > given.max_queue),
            ("max_queue_wait", longest(self.max_queue_wait) > longest(given.max_queue_wait)),
            ("start_timeout", self.start_timeout > given.start_timeout),
            ("drain_timeout", self.drain_timeout > given.drain_timeout),
            ("stop_timeout", self.stop_timeout > given.stop_timeout),
            ("linger", self.linger > given.linger),
            ("max_requests", longest(self.max_requests) > longest(given.max_requests)),
            ("max_lifetime", longest(self.max_lifetime) > longest(given.max_lifetime)),
            ("max_memory", longest(self.max_memory) > longest(given.max_memory)),
            ("max_request_time", longest(self.max_request_time) > longest(given.max_request_time)),
        ];
        wider.into_iter().find(|&(_, wider)| wider).map(|(name, _)| name)
    }
}

impl Wanted {
    /// The settings of an app that is registered with these wishes.
    #[must_use]
    pub fn applied_to(&self, given: &AppSettings) -> AppSettings {
        AppSettings {
            max_per_app: self.max_per_app.or(given.max_per_app),
            min: self.min.unwrap_or(given.min),
            concurrency: self.concurrency.or(given.concurrency),
            max_idle: self.max_idle.unwrap_or(given.max_idle),
            max_queue: self.max_queue.unwrap_or(given.max_queue),
            max_queue_wait: self.max_queue_wait.unwrap_or(given.max_queue_wait),
            start_timeout: self.start_timeout.unwrap_or(given.start_timeout),
            drain_timeout: self.drain_timeout.unwrap_or(given.drain_timeout),
            stop_timeout: self.stop_timeout.unwrap_or(given.stop_timeout),
            linger: self.linger.unwrap_or(given.linger),
            max_requests: self.max_requests.unwrap_or(given.max_requests),
            max_lifetime: self.max_lifetime.unwrap_or(given.max_lifetime),
            max_memory: self.max_memory.unwrap_or(given.max_memory),
            max_request_time: self.max_request_time.unwrap_or(given.max_request_time),
            ..given.clone()
        }
    }
}
