//! Which scenarios real processes can play, and what their pool is started with.

use crate::support::apps::{self, App};
use hatchery_pool::scenario::{EndedBy, Label, Order, Scenario, Starts, Step};
use hatchery_pool::{AppSettings, Close, Concurrency, Parking, Settings, Wanted};
use hatchery_pool_client::{AppOptions, PoolConfig};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long connections to workers that aren't our own loaders stay parked.
const PARKING: Parking = Parking::For(Duration::from_millis(1500));

/// The configuration of its pool, or why no client can play it.
pub(crate) fn config(scenario: &Scenario) -> Result<PoolConfig, String> {
    if !scenario.real {
        return Err("it is for the machine alone".into());
    }
    if scenario.plan.parking != PARKING {
        return Err("workers of that kind are not built yet".into());
    }
    let mut kept = BTreeSet::new();
    for (line, step) in scenario.steps() {
        sayable(&step, &mut kept).map_err(|why| format!("“{line}”: {why}"))?;
    }
    let mut config = translate(&scenario.settings())?;
    let ending = scenario.steps().find_map(|(_, step)| match step {
        Step::EndPool { grace } => Some(grace),
        _ => None,
    });
    config.drain_timeout = ending.unwrap_or(config.drain_timeout);
    Ok(config)
}

fn sayable(step: &Step, kept: &mut BTreeSet<Label>) -> Result<(), &'static str> {
    match *step {
        Step::Get { ref wanted, .. } if **wanted != Wanted::default() => Err("this driver says no wishes"),
        Step::Close { session, how: Close::Kept } => {
            kept.insert(session);
            Ok(())
        }
        Step::Close { session, .. } if kept.contains(session) => {
            Err("a client drops a parked connection only with itself")
        }
        Step::Reconnect { .. } => Err("a client reconnects by itself, before it hands the session out"),
        Step::Uninspectable { .. } | Step::Unreachable { .. } => Err("the world is not that obedient"),
        Step::Order { order: Order::Add | Order::Remove | Order::Stop | Order::Start, .. }
        | Step::Order { order: Order::Disable | Order::Enable, .. }
        | Step::Retire { .. }
        | Step::End { .. } => Err("a channel has no word for that yet"),
        Step::Ended { why: EndedBy::LingerTimedOut, .. } => Err("its client is not told"),
        _ => Ok(()),
    }
}

fn translate(settings: &Settings) -> Result<PoolConfig, String> {
    let Settings { max, max_queue_total, max_starting, surge, fair_wait, evict_timeout, ref defaults, bounded, .. } =
        *settings;
    let fixed = Settings::default();
    for (name, as_always) in [
        ("surge", surge == fixed.surge),
        ("fair_wait", fair_wait == fixed.fair_wait),
        ("evict_timeout", evict_timeout == fixed.evict_timeout),
        ("concurrency", defaults.concurrency.is_none()),
        ("bounded", !bounded),
    ] {
        if !as_always {
            return Err(format!("a pool's {name} can't be set at its start"));
        }
    }
    Ok(PoolConfig {
        max: max.get(),
        max_queue_total,
        max_starting: Some(max_starting.get()),
        defaults: options(defaults),
        trust_clients: true,
        ..PoolConfig::default()
    })
}

fn options(settings: &AppSettings) -> AppOptions {
    AppOptions {
        max_per_app: settings.max_per_app.map(std::num::NonZero::get),
        min: Some(settings.min),
        // Zero is never, and for ever.
        max_idle: Some(settings.max_idle.unwrap_or_default()),
        max_queue: Some(settings.max_queue),
        max_queue_wait: Some(settings.max_queue_wait.unwrap_or_default()),
        start_timeout: Some(settings.start_timeout),
        drain_timeout: Some(settings.drain_timeout),
        stop_timeout: Some(settings.stop_timeout),
        linger: Some(settings.linger),
        ..AppOptions::default()
    }
}

/// An app whose workers do as this scenario says.
pub(crate) fn app(scenario: &Scenario, stubborn: bool) -> App {
    let slots = match scenario.plan.concurrency {
        Concurrency::Limited(slots) => slots.get(),
        Concurrency::Unlimited => 0,
    };
    let mut env = Vec::new();
    if slots != 1 {
        env.push(("TEST_THREADS", "1"));
    }
    if scenario.starts == Starts::ByHand {
        env.push(("TEST_GATE", "1"));
    }
    if stubborn {
        env.push(("TEST_STUBBORN", "1"));
    }
    apps::worker_with(&format!("concurrency = {slots}"), &env)
}
