//! `hatchery top`, in a terminal, with a live pool.

mod support;

use nix::sys::signal::Signal;
use support::front::{self, Front};
use support::terminal::Terminal;
use support::{apps, processes, until_blocking};

fn top(front: &Front) -> Terminal {
    let mut command = front::hatchery(front.path(), ["top", "--delay", "0.2"]);
    command.env("HATCHERY_ADMIN", front.admin()).env_remove("NO_COLOR");
    Terminal::of(command, 80, 24)
}

fn left_as_it_was(terminal: &Terminal) {
    assert!(!terminal.screen.alternate && !terminal.screen.cursor_hidden, "{:?}", terminal.screen);
    assert!(terminal.is_a_shells(), "what is typed is shown again, and a line is a line");
}

#[test]
fn an_app_is_watched_and_restarted_by_a_key() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    let name = app.root().file_name().unwrap().to_str().unwrap().to_owned();
    let old = front.get("/pid").ok();
    let mut terminal = top(&front);
    terminal.until(&format!("pid {old}"));
    assert!(terminal.screen.alternate && terminal.screen.coloured && !terminal.is_a_shells());
    let row = terminal.until_line("the app's row", |line| line.starts_with(&name));
    assert!(row.contains("running"), "{row}");
    terminal.until("q quit");

    terminal.press("r");
    terminal.until(&format!("restart of {name}: done in"));
    terminal.until("generation 2");
    assert_ne!(front.get("/pid").ok(), old);
    assert_eq!(front.status()["apps"][0]["generation"], 2);

    // What refuses requests is asked first.
    terminal.press("x");
    terminal.until(&format!("stop {name}?"));
    terminal.press("n");
    terminal.until(&format!("stop of {name}: not done"));
    assert_eq!(front.status()["apps"][0]["state"], "running");

    terminal.resize(110, 32);
    terminal.until("q quit");
    let shown = terminal.screen.text();
    assert!(shown[31].ends_with("q quit"), "{shown:#?}");
    terminal.until_line("a wide row", |line| line.starts_with(&name) && line.chars().count() > 80);

    terminal.press("q");
    let (status, said) = terminal.ended();
    assert!(status.success() && said.is_empty(), "{status} {said}");
    left_as_it_was(&terminal);
}

#[test]
fn a_stuck_request_is_found_and_ended() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    let mut open = front.browser();
    open.ask("GET", &format!("/until?{}", app.root().join("never").display()), "");
    front.until("active", 1);
    let mut terminal = top(&front);
    let session = terminal.until("  session ");
    assert!(session.contains("GET /until?"), "{session}");
    terminal.press("e");
    terminal.until("end session ");
    terminal.press("y");
    terminal.until("end of session");
    terminal.until(": done in");
    assert_eq!(open.answer().status, 503);
    // As one leaves what hangs.
    terminal.press("\u{3}");
    assert!(terminal.ended().0.success());
    left_as_it_was(&terminal);
}

#[test]
fn a_pool_that_goes_is_told_and_found_again() {
    let mut front = Front::demo();
    let mut terminal = top(&front);
    terminal.until("q quit");
    terminal.until("idle");
    let pool = front.pool();
    front.signal(Signal::SIGTERM);
    front.ended();
    front.nothing_is_left(&pool);
    terminal.until("POOL LOST");
    let again = Front::start(front::hatchery(front.path(), ["serve", "-p", "0"]), front::folder());
    terminal.until_line("the pool's figures", |line| line.starts_with("hatchery ") && line.contains(" workers "));
    again.get("/hello").ok();
    terminal.until_line("a worker", |line| line.starts_with("demo") && line.contains("running"));
    processes::kill(terminal.pid(), Signal::SIGTERM);
    assert!(terminal.ended().0.success());
    left_as_it_was(&terminal);
}

#[test]
fn without_a_terminal_or_a_pool_it_says_so_and_draws_nothing() {
    let front = Front::demo();
    let output = front.say(&["top"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("needs a terminal") && said.lines().count() == 1 && output.stdout.is_empty(), "{said}");

    let folder = front::folder();
    let command = front::hatchery(folder.path(), ["top", "--admin", "nothing.sock"]);
    let mut terminal = Terminal::of(command, 80, 24);
    let (status, said) = terminal.ended();
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("no pool is running"), "{said}");
    left_as_it_was(&terminal);
    until_blocking("nothing was drawn", || terminal.screen.text().iter().all(String::is_empty).then_some(()));
}
