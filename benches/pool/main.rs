//! What a session costs, beside what the system calls under it cost: all in one run, as ratios.
//!
//! `cargo bench` prints the table of `docs/performance.md`. Floors are straight loops over the same system calls.
//! Each row is measured `ROUNDS` times, ours and its floor in turn, and the best of each is compared: the machine's
//! other work only ever slows.

mod floors;
mod load;
mod many;
mod rest;
mod restart;
mod rivals;
mod sessions;
mod starts;
#[path = "../../tests/support/mod.rs"]
mod support;
mod through_serve;
mod worker;

/// Rounds per row.
const ROUNDS: usize = 5;

fn main() {
    if std::env::var_os("BENCH_WORKER").is_some() {
        worker::serve();
    }
    // `cargo test --all-targets` runs this too; a measurement is nothing to be run by the way.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let wanted = std::env::args().skip(1).find(|argument| !argument.starts_with("--"));
    let wanted = |name: &str| wanted.as_ref().is_none_or(|wanted| name.contains(wanted.as_str()));
    if wanted("sessions") {
        sessions::compare();
    }
    if wanted("serve") {
        through_serve::compare();
    }
    if wanted("rest") {
        rest::measure();
    }
    if wanted("many") {
        many::measure();
    }
    if wanted("restart") {
        restart::measure();
    }
    if wanted("starts") {
        starts::compare();
    }
    if wanted("rivals") {
        rivals::compare();
    }
}

/// The best of several rounds of two measurements, taken in turn.
fn in_turn(mut ours: impl FnMut() -> f64, mut floor: impl FnMut() -> f64) -> (f64, f64) {
    (0..ROUNDS).fold((0.0, 0.0), |best, _| (f64::max(best.0, ours()), f64::max(best.1, floor())))
}

fn row(name: &str, ours: f64, floor: f64, aim: &str) {
    println!(
        "{name:<44} {ours:>9.0}/s  floor {floor:>9.0}/s  {:>5.2} times the floor's time   aim {aim}",
        floor / ours
    );
}
