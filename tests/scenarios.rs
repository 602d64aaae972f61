//! Plays every scenario that real processes can play: the pool-server's executable, its workers, and two clients
//! or more. `pool/tests/scenarios.rs` plays the same against the machine alone.

#[path = "scenarios/clients.rs"]
mod clients;
#[path = "scenarios/player.rs"]
mod player;
#[path = "scenarios/runnable.rs"]
mod runnable;
mod support;

use hatchery_pool::scenario::{Scenario, Step};
use hatchery_pool_client::PoolConfig;
use player::Player;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// They wait for most of their time.
const AT_ONCE: usize = 6;
/// So many can be played; fewer would be a driver that skips what it should play.
const AT_LEAST: usize = 130;

// B99
#[test]
fn every_scenario_goes_through_real_processes_as_it_is_told() {
    let only = std::env::var("SCENARIO").ok();
    let mut runnable = Vec::new();
    for scenario in Scenario::all().filter(|scenario| only.as_ref().is_none_or(|only| scenario.name.contains(only))) {
        match runnable::config(scenario) {
            Ok(config) => runnable.push((scenario, config)),
            Err(why) => println!("skipped: {}\n         {why}", scenario.name),
        }
    }
    let count = runnable.len();
    assert!(only.is_some() || count >= AT_LEAST, "only {count} can be played");
    // The longest first, so that none is left to be waited for alone.
    runnable.sort_by_key(|(scenario, _)| length(scenario));
    let (runnable, wrong) = (Mutex::new(runnable), Mutex::new(Vec::new()));
    std::thread::scope(|threads| {
        for _ in 0..AT_ONCE {
            threads.spawn(|| {
                while let Some((scenario, config)) = next(&runnable) {
                    let began = Instant::now();
                    let played = play(scenario, config);
                    let word = if played.is_ok() { "played" } else { "WRONG" };
                    println!("{word} in {:.1} s: {}", began.elapsed().as_secs_f64(), scenario.name);
                    if let Err(what) = played {
                        wrong.lock().expect("nobody panics while holding it").push(what);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("nobody panics while holding it");
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    println!("{count} scenarios");
}

fn next<T>(queue: &Mutex<Vec<T>>) -> Option<T> {
    queue.lock().expect("nobody panics while holding it").pop()
}

fn length(scenario: &Scenario) -> Duration {
    let passed = scenario.steps().map(|(_, step)| match step {
        Step::Pass(time) => time,
        _ => Duration::ZERO,
    });
    passed.sum()
}

fn play(scenario: &'static Scenario, config: PoolConfig) -> Result<(), String> {
    let log = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
    let told = |line: &str, what: String| {
        let log = std::fs::read_to_string(log.path()).unwrap_or_default();
        format!("{}:\n    “{line}”, but {what}\n{log}", scenario.name)
    };
    let mut player = Player::new(scenario, config, log.path()).map_err(|what| told("the pool starts", what))?;
    for (line, step) in scenario.steps() {
        player.play(&step).map_err(|what| told(line, what))?;
    }
    player.end().map_err(|what| told("the pool goes, and leaves nothing", what))
}
