//! What a seed decides about its world before anything happens.

use crate::random::Random;
use hatchery_pool::{AppSettings, Concurrency, Parking, Plan, Settings, Wanted};
use std::num::NonZeroU32;
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
    pub(crate) uninspectable: u32,
    pub(crate) unreachable: u32,
    pub(crate) ignores_term: u32,
    pub(crate) never_lingers: u32,
}

impl AppKnobs {
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
        }
    }
}

fn settings(random: &mut Random) -> Settings {
    Settings {
        max: at_least_one(random.count(1..=6)),
        max_queue_total: random.count(4..=40),
        max_starting: at_least_one(random.count(1..=3)),
        surge: 1,
        fair_wait: random.millis(0..=1000),
        evict_timeout: random.millis(0..=2000),
        defaults: AppSettings {
            // Other numbers than those an app may have of its own, so that it is plain which one it has.
            max_per_app: random.percent(30).then(|| at_least_one(random.count(4..=5))),
            min: 0,
            concurrency: None,
            max_idle: [None, Some(Duration::ZERO), Some(Duration::from_secs(1)), Some(Duration::from_secs(20))]
                [random.number(0..=3) as usize],
            max_queue: random.count(1..=12),
            max_queue_wait: random.percent(60).then(|| random.millis(200..=10_000)),
            start_timeout: random.millis(500..=5000),
            drain_timeout: random.millis(0..=5000),
            stop_timeout: random.millis(0..=3000),
            linger: random.millis(0..=3000),
        },
        bounded: random.percent(20),
        apps_under: vec![b"/apps".to_vec()],
    }
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
        ..Wanted::default()
    };
    AppKnobs {
        root: format!("/apps/{number}").into_bytes(),
        plan: Plan { concurrency, parking },
        wanted,
        slowest_start: [0, 100, 800, 4000][random.number(0..=3) as usize],
        hangs: chance(random, 30),
        fails: chance(random, 40),
        uninspectable: chance(random, 30),
        unreachable: chance(random, 25),
        ignores_term: chance(random, 60),
        never_lingers: chance(random, 60),
    }
}
