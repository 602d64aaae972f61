//! Which scenarios real processes can play, and what their pool is started with.

use crate::support::apps::{self, App};
use hatchery_pool::scenario::{EndedBy, Fate, Label, Order, Scenario, Starts, Step};
use hatchery_pool::{AppSettings, Close, Concurrency, Parking, Settings, Wanted};
use hatchery_pool_client::{AppOptions, PoolConfig};
use std::collections::BTreeSet;
use std::num::{NonZeroU32, NonZeroU64};
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
        Step::Order { order: Order::Add | Order::Remove | Order::Stop | Order::Start, .. } | Step::End { .. } => {
            Err("an operator has no word for that yet")
        }
        Step::FilesChange { .. } | Step::Update { .. } | Step::Exchanged { .. } => {
            Err("real files change when they do; tests of their own show that")
        }
        Step::Uses { .. } | Step::NobodyLooks => Err("the world is not that obedient"),
        Step::Was { what: Fate::Examined | Fate::Dumped | Fate::Killed, .. } => Err("that is not seen from outside"),
        Step::Ended { why: EndedBy::LingerTimedOut, .. } => Err("its client is not told"),
        _ => Ok(()),
    }
}

fn translate(settings: &Settings) -> Result<PoolConfig, String> {
    let defaults = &settings.defaults;
    for (name, said) in [("concurrency", defaults.concurrency.is_some()), ("bounded", settings.bounded)] {
        if said {
            return Err(format!("a pool's {name} is not set by this driver"));
        }
    }
    if defaults.dump {
        return Err("nobody is asked for stacks by this driver".into());
    }
    Ok(PoolConfig {
        max: settings.max.get(),
        surge: settings.surge,
        max_queue_total: settings.max_queue_total,
        max_starting: Some(settings.max_starting.get()),
        fair_wait: settings.fair_wait,
        evict_timeout: settings.evict_timeout,
        max_sessions: settings.max_sessions.get(),
        defaults: options(defaults),
        trust_clients: true,
        ..PoolConfig::default()
    })
}

/// Where none is the largest, zero says so.
fn options(settings: &AppSettings) -> AppOptions {
    AppOptions {
        max_per_app: settings.max_per_app.map(NonZeroU32::get),
        min: Some(settings.min),
        prestart: Some(settings.prestart),
        max_idle: Some(settings.max_idle.unwrap_or_default()),
        max_queue: Some(settings.max_queue),
        max_queue_wait: Some(settings.max_queue_wait.unwrap_or_default()),
        start_timeout: Some(settings.start_timeout),
        drain_timeout: Some(settings.drain_timeout),
        stop_timeout: Some(settings.stop_timeout),
        linger: Some(settings.linger),
        max_requests: Some(settings.max_requests.map_or(0, NonZeroU64::get)),
        max_lifetime: Some(settings.max_lifetime.unwrap_or_default()),
        max_memory: Some(settings.max_memory.map_or(0, NonZeroU64::get)),
        max_request_time: Some(settings.max_request_time.unwrap_or_default()),
        ping_interval: Some(settings.ping_interval.unwrap_or_default()),
        ping_timeout: Some(settings.ping_timeout),
        ping_failures: Some(settings.ping_failures.get()),
        // Answered, and not only connected to: the kernel accepts connections for who hangs.
        ping_path: settings.ping_interval.map(|_| "/pid".to_owned()),
        breaker_failures: Some(settings.breaker_failures.map_or(0, NonZeroU32::get)),
        breaker_window: Some(settings.breaker_window),
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
