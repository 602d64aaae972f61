//! Plays every scenario against the machine alone.

#[path = "scenarios/player.rs"]
mod player;

use hatchery_pool::scenario::Scenario;
use player::Player;
use std::collections::BTreeSet;

#[test]
fn every_scenario_goes_as_it_is_told() {
    let mut wrong = Vec::new();
    for scenario in Scenario::all() {
        println!("{}", scenario.name);
        let mut player = Player::new(scenario);
        for (line, step) in scenario.steps() {
            if let Err(what) = player.play(&step) {
                wrong.push(format!("{}:\n    “{line}”, but {what}", scenario.name));
                break;
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_promise_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = Scenario::all().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), Scenario::all().count());
}

/// The numbered behaviours that are decisions and built; the rest need real processes, or are for later.
#[test]
fn every_behaviour_that_is_a_decision_has_a_scenario() {
    let shown: BTreeSet<u16> = Scenario::all().flat_map(|scenario| scenario.behaviours).copied().collect();
    let decided = (1..=38).chain([40, 41, 52, 53, 54, 57, 58, 59, 60, 62, 63, 64, 65, 125, 129]);
    let missing: Vec<u16> = decided.filter(|number| !shown.contains(number)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
