//! What clients of a bounded pool may ask for: nothing beyond what the operator said.

use crate::app::{App, Origin};
use crate::effect::Beyond;
use crate::settings::{AppSettings, Concurrency, Settings, Wanted};
use std::num::NonZeroU32;
use std::time::Duration;

/// The first thing a client asks for that only the operator can give.
pub(crate) fn beyond(settings: &Settings, known: Option<&App>, root: &[u8], wanted: &Wanted) -> Option<Beyond> {
    let registered = known.filter(|app| app.origin == Origin::Operator);
    if registered.is_none() && !settings.apps_under.iter().any(|folder| is_under(root, folder)) {
        Some(Beyond::Root)
    } else if wanted.changes_start {
        Some(Beyond::Start)
    } else {
        wider(wanted, registered.map_or(&settings.defaults, |app| &app.settings)).map(Beyond::Limit)
    }
}

fn is_under(root: &[u8], folder: &[u8]) -> bool {
    let folder = folder.strip_suffix(b"/").unwrap_or(folder);
    root.strip_prefix(folder).is_some_and(|rest| rest.len() > 1 && rest[0] == b'/')
}

/// The name of the first setting that is larger than the operator's.
fn wider(wanted: &Wanted, given: &AppSettings) -> Option<&'static str> {
    let longer = |wanted: Option<Duration>, given: Duration| wanted.is_some_and(|wanted| wanted > given);
    let count = |limit: Option<NonZeroU32>| limit.map_or(u32::MAX, NonZeroU32::get);
    // Zero idle time is never, as none is.
    let idle = |idle: Option<Duration>| idle.filter(|idle| !idle.is_zero()).unwrap_or(Duration::MAX);
    let wait = |wait: Option<Duration>| wait.unwrap_or(Duration::MAX);
    // Without a word from the operator the app's plan decides, and that isn't known here: only one session
    // at a time is surely no more.
    let slots = given.concurrency.map_or(1, Concurrency::slots);
    let wider = [
        ("max_per_app", wanted.max_per_app.is_some_and(|max| max.get() > count(given.max_per_app))),
        ("min", wanted.min.is_some_and(|min| min > given.min)),
        ("concurrency", wanted.concurrency.is_some_and(|concurrency| concurrency.slots() > slots)),
        ("max_idle", wanted.max_idle.is_some_and(|wanted| idle(wanted) > idle(given.max_idle))),
        ("max_queue", wanted.max_queue.is_some_and(|max| max > given.max_queue)),
        ("max_queue_wait", wanted.max_queue_wait.is_some_and(|wanted| wait(wanted) > wait(given.max_queue_wait))),
        ("start_timeout", longer(wanted.start_timeout, given.start_timeout)),
        ("drain_timeout", longer(wanted.drain_timeout, given.drain_timeout)),
        ("stop_timeout", longer(wanted.stop_timeout, given.stop_timeout)),
        ("linger", longer(wanted.linger, given.linger)),
    ];
    wider.into_iter().find(|&(_, wider)| wider).map(|(name, _)| name)
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
        }
    }
}
