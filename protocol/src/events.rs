//! What happens in a pool, by stable names: the same in the log, in the stream of events, in the docs and in tests.

use serde::{Deserialize, Serialize};

/// Makes [`EventName`] with its table.
macro_rules! events {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal, $level:ident;)*) => {
        /// The names. They stay; others may be added.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum EventName {
            $($(#[doc = $doc])+ #[serde(rename = $name)] $variant,)*
        }

        impl EventName {
            /// All of them, in the order of the docs.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// As it is written everywhere.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// How much it matters.
            #[must_use]
            pub fn level(self) -> Level {
                match self { $(Self::$variant => Level::$level,)* }
            }

            /// When it happens: one sentence.
            #[must_use]
            pub fn doc(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+),)* }
            }
        }
    };
}

events! {
    /// An application became known to the pool
    AppRegistered = "app_registered", Debug;
    /// Nothing is left of an application that only a `get` had made known
    AppForgotten = "app_forgotten", Debug;
    /// The operator registered an application, or said its settings anew
    AppAdded = "app_added", Info;
    /// The operator removed an application
    AppRemoved = "app_removed", Info;
    /// The operator stopped an application: it refuses until it is started
    AppStopped = "app_stopped", Info;
    /// The operator started an application that was stopped
    AppStarted = "app_started", Info;
    /// The operator disabled an application: it refuses, and its workers stay
    AppDisabled = "app_disabled", Warn;
    /// The operator enabled an application, whatever failed before
    AppEnabled = "app_enabled", Info;
    /// An application belongs to another tenant now
    TenantChanged = "tenant_changed", Info;
    /// Options of a `get` differ from those the application was registered with, and are ignored
    OptionsIgnored = "options_ignored", Warn;
    /// A worker has a process
    WorkerStarted = "worker_started", Info;
    /// A worker answers, and takes sessions from now on
    WorkerReady = "worker_ready", Info;
    /// A worker takes no new sessions, and leaves when its open ones have ended
    WorkerDraining = "worker_draining", Info;
    /// A worker was asked to leave (TERM)
    WorkerStopping = "worker_stopping", Info;
    /// A worker is ended by force (KILL)
    WorkerKilled = "worker_killed", Warn;
    /// A worker's process is gone, as it was told to be
    WorkerExited = "worker_exited", Info;
    /// A worker's process is gone, and nobody told it to
    WorkerDied = "worker_died", Warn;
    /// A worker is to be replaced by a fresh one
    WorkerRecycling = "worker_recycling", Info;
    /// A replacement could not be started; the worker it was for goes on
    RecyclingPaused = "recycling_paused", Warn;
    /// A worker did not answer a ping
    PingMissed = "ping_missed", Warn;
    /// A worker, or a preloader, could not be started
    SpawnFailed = "spawn_failed", Error;
    /// A worker could not be started, and `min` is not kept before somebody asks
    MinPaused = "min_paused", Warn;
    /// The workers kept at least are as many as the pool's limit, or more
    MinAboveMax = "min_above_max", Warn;
    /// More applications are registered than can have a worker at the same time
    MoreAppsThanMax = "more_apps_than_max", Warn;
    /// An application failed too often, and is disabled for a while
    BreakerOpened = "breaker_opened", Error;
    /// An application that was disabled for its failures works again
    BreakerClosed = "breaker_closed", Info;
    /// A session was ended by the pool: by hand, for its time, or with its worker
    SessionEnded = "session_ended", Warn;
    /// A restart has begun
    RestartBegan = "restart_began", Info;
    /// No worker of an older generation takes a session any more
    RestartDone = "restart_done", Info;
    /// The new generation could not be started; what served before serves on
    RestartFailed = "restart_failed", Error;
    /// A staged update is not taken; nothing has changed
    UpdateRefused = "update_refused", Error;
    /// A staged update is the application's for good
    UpdateTaken = "update_taken", Info;
    /// A staged update did not start, and the version before is the application's again
    UpdateUndone = "update_undone", Error;
    /// The last step of an exchange of folders failed: somebody has to look at them
    ExchangeFailed = "exchange_failed", Error;
    /// What is known of a worker that did not leave in peace is kept
    PostMortem = "post_mortem", Warn;
    /// A preloader has a process
    PreloaderStarted = "preloader_started", Info;
    /// A preloader has loaded its application
    PreloaderReady = "preloader_ready", Info;
    /// A preloader was asked to leave (TERM)
    PreloaderStopping = "preloader_stopping", Info;
    /// A preloader is ended by force (KILL)
    PreloaderKilled = "preloader_killed", Warn;
    /// A preloader's process is gone, as it was told to be
    PreloaderExited = "preloader_exited", Info;
    /// A preloader's process is gone, and nobody told it to
    PreloaderDied = "preloader_died", Warn;
    /// Workers of a generation are started one by one, though they could be forked
    NotPreloaded = "not_preloaded", Warn;
    /// The pool's core has begun
    PoolStarted = "pool_started", Info;
    /// Another configuration holds
    PoolReloaded = "pool_reloaded", Info;
    /// A configuration was read again and is not used
    ReloadFailed = "reload_failed", Error;
    /// The pool is told to go: no new sessions
    PoolEnding = "pool_ending", Info;
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PoolEvent {
    /// Counts upwards within one core; a gap is what was lost.
    pub number: u64,
    /// Seconds since 1970, UTC.
    pub at: f64,
    pub event: EventName,
    pub level: Level,
    /// The application's name.
    pub app: Option<String>,
    /// Its root, as text.
    pub root: Option<String>,
    pub tenant: Option<String>,
    /// A worker, or a preloader.
    pub worker: Option<u64>,
    pub pid: Option<i32>,
    pub generation: Option<u64>,
    pub session: Option<u64>,
    /// Why: one stable word, such as `idle` or `max_memory`.
    pub reason: Option<String>,
    /// One sentence for people.
    pub text: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_words_of_their_own_and_each_is_documented() {
        let names: BTreeSet<&str> = EventName::ALL.iter().map(|event| event.name()).collect();
        assert_eq!(names.len(), EventName::ALL.len());
        for event in EventName::ALL {
            assert!(event.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", event.name());
            assert!(event.doc().len() > 10 && !event.doc().ends_with('.'), "{}", event.name());
        }
    }
}
