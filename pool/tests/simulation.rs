//! Random histories of a whole pool, each drawn from one seed. `HATCHERY_SEED=n` replays one and tells it, `HATCHERY_SEEDS=n`
//! runs that many.

#[path = "simulation/acts.rs"]
mod acts;
#[path = "simulation/books.rs"]
mod books;
#[path = "simulation/deploys.rs"]
mod deploys;
#[path = "simulation/history.rs"]
mod history;
#[path = "simulation/kinds.rs"]
mod kinds;
#[path = "simulation/knobs.rs"]
mod knobs;
#[path = "simulation/planted.rs"]
mod planted;
#[path = "simulation/preloading.rs"]
mod preloading;
#[path = "simulation/random.rs"]
mod random;
#[path = "simulation/world.rs"]
mod world;

use kinds::Tally;
use planted::Bug;
use std::panic::catch_unwind;

const SEEDS: u64 = 1000;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[test]
fn nothing_goes_wrong_in_any_history_and_everything_occurs() {
    if let Some(seed) = number("HATCHERY_SEED") {
        println!("seed {seed}");
        let shown = history::run_aloud(seed).unwrap_or_else(|wrong| panic!("{wrong}"));
        return shown.tally.print();
    }
    let (mut all, mut steps) = (Tally::default(), 0);
    let seeds = number("HATCHERY_SEEDS").unwrap_or(SEEDS);
    for seed in 0..seeds {
        println!("HATCHERY_SEED={seed}");
        let shown = history::run(seed, None).unwrap_or_else(|wrong| panic!("{wrong}"));
        all.merge(shown.tally);
        steps += shown.steps;
    }
    all.print();
    println!("{seeds} seeds, {steps} steps");
    let wrong = all.wrong();
    assert!(seeds < SEEDS || wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_seed_means_the_same_history_every_time() {
    for seed in 0..20 {
        let steps = || history::run(seed, None).map(|shown| shown.steps);
        assert_eq!(steps(), steps(), "seed {seed}");
    }
}

/// How many seeds it takes to find a bug, and as what.
fn seeds_to_find(bug: Bug) -> u64 {
    let wrong = |seed: u64| match catch_unwind(|| history::run(seed, Some(bug))) {
        Ok(shown) => shown.err().map(|wrong| (seed, wrong)),
        Err(_) => Some((seed, "a panic".into())),
    };
    let found = (0..SEEDS).find_map(wrong);
    let (found, wrong) = found.unwrap_or_else(|| panic!("{bug:?} is not found by {SEEDS} seeds"));
    println!("{bug:?} is found by seed {found}: {wrong}");
    found
}

#[test]
fn one_worker_too_many_is_found() {
    seeds_to_find(Bug::OffByOne);
}

#[test]
fn a_lost_waiter_is_found() {
    seeds_to_find(Bug::LostWaiter);
}

#[test]
fn a_slot_freed_twice_is_found() {
    seeds_to_find(Bug::DoubleClose);
}

#[test]
fn a_replacement_that_ignores_the_surge_is_found() {
    seeds_to_find(Bug::Surge);
}

#[test]
fn a_worker_that_leaves_before_its_replacement_is_ready_is_found() {
    seeds_to_find(Bug::HastyRenewal);
}

#[test]
fn a_breaker_that_never_resets_is_found() {
    seeds_to_find(Bug::StuckBreaker);
}

#[test]
fn a_ping_that_keeps_its_slot_is_found() {
    seeds_to_find(Bug::KeptPing);
}

#[test]
fn a_lost_record_is_found() {
    seeds_to_find(Bug::LostRecord);
}

#[test]
fn an_old_worker_that_is_preferred_is_found() {
    seeds_to_find(Bug::OldPreferred);
}

#[test]
fn a_failed_restart_that_tells_nobody_is_found() {
    seeds_to_find(Bug::ForgottenAsker);
}

#[test]
fn a_half_started_worker_of_an_older_restart_is_found() {
    seeds_to_find(Bug::KeptFirst);
}

#[test]
fn sessions_that_outlive_their_restart_are_found() {
    seeds_to_find(Bug::SparedSessions);
}

#[test]
fn a_version_that_is_kept_though_it_does_not_start_is_found() {
    seeds_to_find(Bug::BlindKeep);
}

#[test]
fn a_preloader_that_hangs_for_ever_is_found() {
    seeds_to_find(Bug::HungPreloader);
}

#[test]
fn a_tenant_that_has_too_many_is_found() {
    seeds_to_find(Bug::TenantOffByOne);
}

#[test]
fn what_is_counted_and_did_not_happen_is_found() {
    seeds_to_find(Bug::SilentFailure);
}
