//! Every limit the pool keeps, with its default.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// The limits of the whole pool. All are the operator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Worker processes of all apps together, whatever their state.
    pub max: NonZeroU32,
    /// Waiters of all apps together.
    pub max_queue_total: u32,
    /// Workers starting at the same time.
    pub max_starting: NonZeroU32,
    /// Preloaders of all apps together, whatever their state; 0: workers are started by their programs.
    pub max_preloaders: u32,
    /// A preloader that no worker was forked from for this long leaves; `None`: never.
    pub max_preloader_idle: Option<Duration>,
    /// How far above `max`, and above an app's own limit, a replacement may go.
    pub surge: u32,
    /// How old a waiter of an app without a serving worker must be before a busy worker of another app is drained for it.
    pub fair_wait: Duration,
    /// How long an evicted (idle) worker has after TERM before KILL.
    pub evict_timeout: Duration,
    /// Sessions at once in one worker without a limit of its own.
    pub max_sessions: NonZeroU32,
    /// What an app gets that says nothing else.
    pub defaults: AppSettings,
    /// Whether clients may only narrow what the operator said, and only ask for registered roots and those
    /// under `apps_under`. True for a privileged pool without `trust_clients`.
    pub bounded: bool,
    /// Folders (absolute, normalised) whose apps a bounded pool serves besides the registered ones.
    pub apps_under: Vec<Vec<u8>>,
    /// Limits that apps have in common, by the name of their tenant.
    pub tenants: BTreeMap<String, TenantSettings>,
}

/// The limits of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantSettings {
    /// Worker processes of all its apps together; `None`: only the pool's `max`.
    pub max: Option<NonZeroU32>,
    /// Memory of all its workers together, in bytes.
    pub max_memory: Option<NonZeroU64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max: NonZeroU32::new(6).expect("6 is not zero"),
            max_queue_total: 1000,
            max_starting: NonZeroU32::new(2).expect("2 is not zero"),
            max_preloaders: 6,
            max_preloader_idle: Some(Duration::from_secs(300)),
            surge: 1,
            fair_wait: Duration::from_secs(1),
            evict_timeout: Duration::from_secs(2),
            max_sessions: NonZeroU32::new(1000).expect("1,000 is not zero"),
            defaults: AppSettings::default(),
            bounded: false,
            apps_under: Vec::new(),
            tenants: BTreeMap::new(),
        }
    }
}

/// The limits of one app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSettings {
    /// Worker processes of this app; `None`: only the pool's `max`.
    pub max_per_app: Option<NonZeroU32>,
    /// Workers kept alive once the app was asked for.
    pub min: u32,
    /// Keep `min` workers from the start.
    pub prestart: bool,
    /// Sessions at once in one worker; `None`: what the app's plan says.
    pub concurrency: Option<Concurrency>,
    /// An idle worker leaves after this; `None`: never.
    pub max_idle: Option<Duration>,
    /// Waiters of this app.
    pub max_queue: u32,
    /// How long one may wait, counted from its arrival; `None`: for ever.
    pub max_queue_wait: Option<Duration>,
    /// How long a worker may take to become ready.
    pub start_timeout: Duration,
    /// How long a draining worker has for its open sessions, counted from the start of draining.
    pub drain_timeout: Duration,
    /// How long a worker has after TERM before KILL.
    pub stop_timeout: Duration,
    /// How long an abandoned session may keep its slot while the worker finishes computing for nobody.
    pub linger: Duration,
    /// A worker is replaced after this many sessions.
    pub max_requests: Option<NonZeroU64>,
    /// A worker is replaced at this age.
    pub max_lifetime: Option<Duration>,
    /// A worker is replaced when its process tree uses this much memory, in bytes.
    pub max_memory: Option<NonZeroU64>,
    /// A session is ended after this, and its worker leaves.
    pub max_request_time: Option<Duration>,
    /// How often each worker is asked whether it lives.
    pub ping_interval: Option<Duration>,
    /// How long it may take to answer.
    pub ping_timeout: Duration,
    /// A worker is replaced after this many unanswered pings in a row.
    pub ping_failures: NonZeroU32,
    /// Failures after which the app is disabled for a while.
    pub breaker_failures: Option<NonZeroU32>,
    /// The time within which they count.
    pub breaker_window: Duration,
    /// Whether a worker is asked for its stacks before it is killed.
    pub dump: bool,
    /// Whose app it is. A tenant that [`Settings::tenants`] doesn't know has no limits.
    pub tenant: Option<String>,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self {
            max_per_app: None,
            min: 0,
            prestart: false,
            concurrency: None,
            max_idle: Some(Duration::from_secs(300)),
            max_queue: 100,
            max_queue_wait: Some(Duration::from_secs(30)),
            start_timeout: Duration::from_secs(90),
            drain_timeout: Duration::from_secs(60),
            stop_timeout: Duration::from_secs(10),
            linger: Duration::from_secs(60),
            max_requests: None,
            max_lifetime: None,
            max_memory: None,
            max_request_time: None,
            ping_interval: None,
            ping_timeout: Duration::from_secs(5),
            ping_failures: NonZeroU32::new(3).expect("3 is not zero"),
            breaker_failures: NonZeroU32::new(5),
            breaker_window: Duration::from_secs(300),
            dump: false,
            tenant: None,
        }
    }
}

/// How many sessions one worker takes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Concurrency {
    /// Sessions and leases together never exceed this.
    Limited(NonZeroU32),
    /// No limit but the pool's `max_sessions`; leases are bounded by [`LEASES_WITHOUT_LIMIT`].
    Unlimited,
}

impl Concurrency {
    /// Sessions and leases that a worker may hold; `most` where there is no limit.
    pub(crate) fn slots(self, most: u32) -> u32 {
        match self {
            Self::Limited(limit) => limit.get(),
            Self::Unlimited => most,
        }
    }
}

/// Parked connections at a worker without a session limit.
pub const LEASES_WITHOUT_LIMIT: u32 = 64;

/// What a client asks for in place of the app's settings. `None` leaves a setting as it is.
/// In a bounded pool each may only make the app smaller.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    pub max_per_app: Option<NonZeroU32>,
    pub min: Option<u32>,
    pub concurrency: Option<Concurrency>,
    /// `Some(None)`: never.
    pub max_idle: Option<Option<Duration>>,
    pub max_queue: Option<u32>,
    /// `Some(None)`: for ever.
    pub max_queue_wait: Option<Option<Duration>>,
    pub start_timeout: Option<Duration>,
    pub drain_timeout: Option<Duration>,
    pub stop_timeout: Option<Duration>,
    pub linger: Option<Duration>,
    pub max_requests: Option<Option<NonZeroU64>>,
    pub max_lifetime: Option<Option<Duration>>,
    pub max_memory: Option<Option<NonZeroU64>>,
    pub max_request_time: Option<Option<Duration>>,
    /// The client also wants to say what is the operator's alone: how the app is started (environment, start
    /// command), as whom, under which limits of the system, how it is watched. A bounded pool never allows that
    /// to a client. The name of the first such setting.
    pub operators: Option<&'static str>,
}

/// What an inspection of the app root found, as far as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    pub concurrency: Concurrency,
    /// How long a connection to such a worker may stay parked.
    pub parking: Parking,
    /// Its workers can be forked from a process that has loaded it.
    pub preloads: bool,
}

/// How long a connection may stay parked between two sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parking {
    /// The worker's protocol ends a connection with each session.
    Never,
    /// Servers that aren't ours close idle connections when they like: stay below their usual time.
    For(Duration),
    /// Our own loaders wait for ever.
    Unlimited,
}
