//! What a seed decides about its world before anything happens.

use crate::random::Random;
use hatchery_pool::{AppSettings, Concurrency, Parking, Plan, Settings, TenantSettings, Wanted};
use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

pub(crate) struct Knobs {
    pub(crate) settings: Settings,
    pub(crate) apps: Vec<AppKnobs>,
    pub(crate) clients: u64,
    /// Acts of clients, operators and fate while faults are on.
    pub(crate) acts: u32,
    /// Longest time between two acts.
    pub(crate) gap: u64,
    /// How often a client closes rather than asks.
    pub(crate) closing: u32,
    pub(crate) abandoning: u32,
    pub(crate) operating: u32,
    /// How often an app is restarted, updated, or the configuration read again.
    pub(crate) deploying: u32,
    /// How often a measurement is never answered.
    pub(crate) lost: u32,
    /// Whether the operator registers the apps, before anybody asks.
    pub(crate) registered: bool,
}

/// One app and its ways to go wrong; chances in percent.
#[derive(Clone)]
pub(crate) struct AppKnobs {
    pub(crate) root: Vec<u8>,
    pub(crate) plan: Plan,
    pub(crate) wanted: Wanted,
    pub(crate) slowest_start: u64,
    pub(crate) hangs: u32,
    pub(crate) fails: u32,
    /// Once loaded it must not be forked.
    pub(crate) unfit: u32,
    /// A fork comes to nothing.
    pub(crate) lost_forks: u32,
    /// A preloader ends by itself.
    pub(crate) preloader_dies: u32,
    pub(crate) uninspectable: u32,
    pub(crate) unreachable: u32,
    pub(crate) ignores_term: u32,
    pub(crate) never_lingers: u32,
    /// Starts that fail while another worker serves.
    pub(crate) fails_beside: u32,
    /// Workers that end by themselves, or by somebody else's hand, after they were ready.
    pub(crate) crashes: u32,
    /// When nothing goes wrong with it any more, in seconds; faults end before the others'.
    pub(crate) sound_from: u64,
    pub(crate) prestart: bool,
    /// Whose it is, where the operator says so.
    pub(crate) tenant: Option<String>,
    /// Generations whose code is broken, and steps of an exchange that fail.
    pub(crate) broken: u32,
    pub(crate) unswappable: u32,
    pub(crate) memory: Memory,
    /// Pings that nobody answers, that are answered late, and that are answered badly.
    pub(crate) silent: u32,
    pub(crate) slow: u32,
    pub(crate) deaf: u32,
}

/// What a worker uses, of the 1,000 that it may.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) at_first: u64,
    /// From one look to the next, at most.
    pub(crate) growth: u64,
    /// How much more seems to be resident.
    pub(crate) shared: u64,
    pub(crate) readable: u32,
}

/// What a worker may use where it may not use everything.
const ENOUGH: u64 = 1000;

impl AppKnobs {
    /// The limits it has, but for those that orders change.
    pub(crate) fn settings(&self, defaults: &AppSettings) -> AppSettings {
        AppSettings { prestart: self.prestart, tenant: self.tenant.clone(), ..self.wanted.applied_to(defaults) }
    }

    pub(crate) fn concurrency(&self) -> Concurrency {
        self.wanted.concurrency.unwrap_or(self.plan.concurrency)
    }
}

/// A chance that is often none at all, so that some worlds are quiet.
fn chance(random: &mut Random, most: u32) -> u32 {
    if random.percent(50) { 0 } else { random.count(1..=most) }
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number.max(1)).expect("it is at least one")
}

fn at_least(number: u64) -> NonZeroU64 {
    NonZeroU64::new(number.max(1)).expect("it is at least one")
}

impl Knobs {
    pub(crate) fn draw(random: &mut Random) -> Self {
        let apps = random.number(1..=5);
        Self {
            settings: settings(random),
            apps: (0..apps).map(|number| app(random, number)).collect(),
            clients: random.number(1..=5),
            acts: random.count(60..=260),
            gap: [5, 50, 400, 1500][random.number(0..=3) as usize],
            closing: random.count(20..=60),
            abandoning: chance(random, 40),
            operating: chance(random, 12),
            deploying: chance(random, 25),
            lost: chance(random, 40),
            registered: random.percent(30),
        }
    }
}

fn settings(random: &mut Random) -> Settings {
    Settings {
        max_preloaders: random.count(0..=3),
        max_preloader_idle: sometimes(random, |random| random.millis(200..=20_000)),
        max: at_least_one(random.count(1..=6)),
        max_queue_total: random.count(4..=40),
        max_starting: at_least_one(random.count(1..=3)),
        surge: random.count(0..=2),
        fair_wait: random.millis(0..=1000),
        evict_timeout: random.millis(0..=2000),
        max_sessions: at_least_one(random.count(2..=8)),
        defaults: AppSettings {
            // Other numbers than those an app may have of its own, so that it is plain which one it has.
            max_per_app: random.percent(30).then(|| at_least_one(random.count(4..=5))),
            min: 0,
            prestart: false,
            concurrency: None,
            max_idle: [None, Some(Duration::ZERO), Some(Duration::from_secs(1)), Some(Duration::from_secs(20))]
                [random.number(0..=3) as usize],
            max_queue: random.count(1..=12),
            max_queue_wait: random.percent(60).then(|| random.millis(200..=10_000)),
            start_timeout: random.millis(500..=5000),
            drain_timeout: random.millis(0..=5000),
            stop_timeout: random.millis(0..=3000),
            linger: random.millis(0..=3000),
            max_requests: sometimes(random, |random| at_least(random.number(1..=20))),
            max_lifetime: sometimes(random, |random| random.millis(1000..=20_000)),
            max_memory: sometimes(random, |_| at_least(ENOUGH)),
            max_request_time: sometimes(random, |random| random.millis(200..=5000)),
            ping_interval: sometimes(random, |random| random.millis(200..=4000)),
            ping_timeout: random.millis(20..=1000),
            ping_failures: at_least_one(random.count(1..=3)),
            breaker_failures: NonZeroU32::new([0, 1, 3, 5][random.number(0..=3) as usize]),
            breaker_window: random.millis(2000..=60_000),
            dump: random.percent(40),
            tenant: sometimes(random, tenant),
        },
        bounded: random.percent(20),
        apps_under: vec![b"/apps".to_vec()],
        tenants: if random.percent(40) { tenants(random) } else { BTreeMap::new() },
    }
}

/// Those that are known. The third is not: it has no limits.
fn tenants(random: &mut Random) -> BTreeMap<String, TenantSettings> {
    let known = TENANTS[..2].iter().map(|name| ((*name).to_owned(), tenant_settings(random)));
    known.collect()
}

pub(crate) fn tenant_settings(random: &mut Random) -> TenantSettings {
    TenantSettings {
        max: random.percent(70).then(|| at_least_one(random.count(1..=4))),
        max_memory: random.percent(30).then(|| at_least(random.number(800..=4000))),
    }
}

const TENANTS: [&str; 3] = ["acme", "blue", "cobalt"];

pub(crate) fn tenant(random: &mut Random) -> String {
    TENANTS[random.number(0..=2) as usize].to_owned()
}

/// What is switched off in most worlds, so that each is seen alone too.
fn sometimes<T>(random: &mut Random, draw: impl FnOnce(&mut Random) -> T) -> Option<T> {
    random.percent(35).then(|| draw(random))
}

fn app(random: &mut Random, number: u64) -> AppKnobs {
    let limited = |random: &mut Random| Concurrency::Limited(at_least_one(random.count(1..=3)));
    let concurrency = if random.percent(85) { limited(random) } else { Concurrency::Unlimited };
    let parking = match random.number(0..=3) {
        0 => Parking::Never,
        1 => Parking::Unlimited,
        _ => Parking::For(random.millis(10..=2000)),
    };
    let wanted = Wanted {
        max_per_app: random.percent(25).then(|| at_least_one(random.count(1..=3))),
        min: random.percent(20).then(|| random.count(1..=2)),
        concurrency: random.percent(10).then(|| limited(random)),
        // Never the same as the pool's, which such an app would follow.
        max_idle: random.percent(20).then(|| Some(random.millis(100..=3000) + Duration::from_micros(500))),
        max_requests: random.percent(15).then(|| Some(at_least(random.number(1..=20)))),
        max_request_time: random.percent(10).then(|| Some(random.millis(100..=2000))),
        ..Wanted::default()
    };
    AppKnobs {
        root: format!("/apps/{number}").into_bytes(),
        plan: Plan { concurrency, parking, preloads: random.percent(50) },
        wanted,
        slowest_start: [0, 100, 800, 4000][random.number(0..=3) as usize],
        hangs: chance(random, 30),
        fails: chance(random, 40),
        uninspectable: chance(random, 30),
        unreachable: chance(random, 25),
        ignores_term: chance(random, 60),
        never_lingers: chance(random, 60),
        fails_beside: chance(random, 80),
        crashes: chance(random, 90),
        unfit: chance(random, 40),
        lost_forks: chance(random, 60),
        preloader_dies: chance(random, 60),
        sound_from: [10, 60, 10_000][random.number(0..=2) as usize],
        prestart: random.percent(40),
        tenant: random.percent(60).then(|| tenant(random)),
        broken: chance(random, 80),
        unswappable: chance(random, 50),
        memory: Memory {
            at_first: random.number(100..=1100),
            growth: [0, 100, 600][random.number(0..=2) as usize],
            shared: random.number(0..=500),
            readable: [100, 100, 50, 0][random.number(0..=3) as usize],
        },
        silent: chance(random, 90),
        slow: chance(random, 60),
        deaf: chance(random, 30),
    }
}
