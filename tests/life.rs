//! How long and how well a worker lives, through `hatchery serve`: what is recycled, killed, replaced, disabled,
//! and that no request notices what it need not notice.

mod support;

use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use support::apps::{self, App};
use support::front::Front;
use support::{processes, until_blocking};

/// Asks for `path` over and over from so many clients until `over`; how many were answered with 200, and what the
/// others were.
fn load(front: &Front, clients: usize, host: &str, path: &str, over: impl FnOnce()) -> (usize, Vec<String>) {
    let (ends, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut failed = Vec::new();
    std::thread::scope(|scope| {
        let ask = || {
            let (mut browser, mut failed) = (front.browser(), Vec::new());
            while !ends.load(Ordering::Relaxed) {
                browser.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
                let answer = browser.answer();
                if answer.status == 200 {
                    answered.fetch_add(1, Ordering::Relaxed);
                } else {
                    failed.push(format!("{answer:?}"));
                }
            }
            failed
        };
        let asking: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        over();
        ends.store(true, Ordering::Relaxed);
        for client in asking {
            failed.extend(client.join().expect("a client"));
        }
    });
    (answered.into_inner(), failed)
}

/// Pids of the workers that serve.
fn serving(front: &Front) -> Vec<i32> {
    let status = front.status();
    let apps = status["apps"].as_array().expect("apps").iter();
    let workers = apps.flat_map(|app| app["workers"].as_array().expect("workers"));
    let serving = workers.filter(|worker| worker["state"] == "ready" || worker["state"] == "busy");
    serving.filter_map(|worker| i32::try_from(worker["pid"].as_i64()?).ok()).collect()
}

/// The latest post-mortem of the worker with this pid.
fn post_mortem(front: &Front, pid: i32) -> serde_json::Value {
    until_blocking("there is a post-mortem", || {
        let status = front.status();
        let kept = status["post_mortems"].as_array().expect("post-mortems").iter();
        kept.into_iter().find(|post_mortem| post_mortem["pid"] == pid).cloned()
    })
}

fn pid(front: &Front) -> i32 {
    front.get("/pid").ok().parse().expect("a pid")
}

/// Waits until another worker than this one answers, without a single failure.
fn replaced(front: &Front, old: i32) -> i32 {
    until_blocking("another worker answers", || Some(pid(front)).filter(|new| *new != old))
}

fn gone(pid: i32) {
    until_blocking("the old worker is gone", || (!processes::lives(pid)).then_some(()));
}

#[test]
fn killing_workers_fails_no_idempotent_request() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "6"]);
    let mut killed = 0;
    let (answered, failed) = load(&front, 16, "localhost", "/sleep?3", || {
        let until = Instant::now() + Duration::from_secs(20);
        let mut chosen = 7_usize;
        while Instant::now() < until {
            std::thread::sleep(Duration::from_millis(500));
            let workers = serving(&front);
            chosen = chosen.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if let Some(pid) = workers.get((chosen >> 33) % workers.len().max(1)) {
                processes::kill(*pid, Signal::SIGKILL);
                killed += 1;
            }
        }
    });
    assert!(failed.is_empty(), "{} of {answered}: {}", failed.len(), failed[0]);
    assert!(killed >= 20 && answered > 1000, "{killed} killed, {answered} answered");
    let status = front.status();
    assert!(status["apps"][0]["disabled"].is_null(), "whoever kills from outside doesn't get it disabled: {status}");
    println!("{killed} workers killed under {answered} requests");
}

#[test]
fn a_worker_that_leaks_is_replaced_and_no_request_fails() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max-memory", "64M", "--max", "2"]);
    let first = pid(&front);
    let (answered, failed) = load(&front, 1, "localhost", "/leak?1", || {
        until_blocking("it is found to use too much", || {
            let new = front.log().contains("max_memory");
            (new && !processes::lives(first)).then_some(())
        });
    });
    assert!(failed.is_empty(), "{} of {answered}: {}", failed.len(), failed[0]);
    let record = post_mortem(&front, first);
    assert!(record["memory_bytes"].as_u64().expect("its memory") >= 64 << 20, "{record}");
    assert!(record["why"].as_str().expect("a reason").contains("max_memory"), "{record}");
}

#[test]
fn a_worker_is_replaced_after_its_requests_and_the_new_one_is_ready_first() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max-requests", "3", "--max", "1", "--max-idle", "1h"]);
    let first = pid(&front);
    assert_eq!([pid(&front), pid(&front)], [first; 2]);
    let second = replaced(&front, first);
    gone(first);
    assert_ne!(first, second);
    let status = front.status();
    assert_eq!(status["post_mortems"].as_array().map(Vec::len), Some(0), "it left in peace: {status}");
}

#[test]
fn daemons_go_with_their_worker() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max-requests", "1", "--max", "1"]);
    let daemon = front.get("/daemon").ok().parse().expect("a pid");
    gone(daemon);
}

#[test]
fn a_worker_that_ignores_term_is_killed_and_that_is_recorded() {
    let app = apps::worker_with("", &[("TEST_STUBBORN", "1"), ("TEST_PRINT", "famous last words")]);
    let front = Front::of(app.root(), &["--max-requests", "1", "--max", "1", "--stop-timeout", "300ms"]);
    let first = pid(&front);
    replaced(&front, first);
    gone(first);
    let record = post_mortem(&front, first);
    assert_eq!(record["exit"]["signal"], 9, "{record}");
    assert!(record["why"].as_str().expect("a reason").contains("stop_timeout"), "{record}");
    assert!(record["output"].as_str().expect("output").contains("famous last words"), "{record}");
    assert!(record["served"].as_u64() >= Some(1) && record["state"].is_string(), "{record}");
}

#[test]
fn a_worker_that_closes_its_socket_and_stays_is_removed_and_its_request_served_by_another() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "1"]);
    let first = pid(&front);
    assert_eq!(front.get("/deaf").ok(), "deaf");
    let second = pid(&front);
    assert_ne!(first, second);
    gone(first);
}

#[test]
fn a_request_past_its_time_gets_504_and_its_worker_leaves() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max-request-time", "400ms", "--max", "1", "--stop-timeout", "200ms"]);
    let first = pid(&front);
    let answer = front.get("/sleep?5000");
    assert_eq!(answer.status, 504, "{answer:?}");
    assert_ne!(pid(&front), first);
    gone(first);
    let record = post_mortem(&front, first);
    assert!(record["why"].as_str().expect("a reason").contains("max_request_time"), "{record}");
    assert_eq!(record["sessions"].as_array().map(Vec::len), Some(1), "{record}");
}

#[test]
fn a_stopped_worker_is_found_by_its_pings_and_replaced() {
    let app = apps::worker();
    let options = ["--ping-interval", "200ms", "--ping-timeout", "400ms", "--ping-failures", "2"];
    let front = Front::of(app.root(), &[&options[..], &["--max", "1", "--stop-timeout", "300ms"]].concat());
    let first = pid(&front);
    processes::kill(first, Signal::SIGSTOP);
    gone(first);
    let record = post_mortem(&front, first);
    assert!(record["state"].as_str().expect("a state").starts_with('T'), "{record}");
    assert!(record["why"].as_str().expect("a reason").contains("ping"), "{record}");
    assert_ne!(pid(&front), first);
}

#[test]
fn a_healthy_worker_answers_its_pings_for_ever() {
    // With slots to spare: none that a parked connection holds is taken for a ping.
    let app = apps::worker_with("concurrency = 0", &[("TEST_THREADS", "1")]);
    let front = Front::of(app.root(), &["--ping-interval", "50ms", "--ping-timeout", "10s", "--ping-failures", "1"]);
    let first = pid(&front);
    // It is asked over a connection of its own each time, so that these count.
    until_blocking("it was asked 20 times", || {
        let connections = front.get("/connections").ok().parse::<u32>().expect("a number");
        (connections > 25).then_some(())
    });
    assert_eq!(pid(&front), first);
}

fn route(host: &str, app: &App) -> [OsString; 2] {
    let mut route = OsString::from(format!("{host}="));
    route.push(app.root());
    ["--app".into(), route]
}

#[test]
fn a_crash_looping_app_is_disabled_and_its_neighbour_notices_nothing() {
    let (broken, healthy) = (apps::worker(), apps::worker());
    let mut arguments = [route("a.localhost", &broken), route("b.localhost", &healthy)].concat();
    arguments.extend(["--max", "4", "-e", "production"].map(OsString::from));
    let front = Front::serve(arguments);
    let ask = |host: &str, path: &str| {
        let mut browser = front.browser();
        browser.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        browser.answer()
    };
    let neighbour = ask("b.localhost", "/pid").ok();
    let mut refused = None;
    let (answered, failed) = load(&front, 2, "b.localhost", "/sleep?1", || {
        // Each request ends the worker that serves it, and the one that is tried in its place.
        refused = Some(until_blocking("it is disabled", || {
            Some(ask("a.localhost", "/abort")).filter(|answer| answer.status == 503)
        }));
    });
    assert!(failed.is_empty(), "{} of {answered}: {}", failed.len(), failed[0]);
    let refused = refused.expect("a refusal");
    assert!(matches!(refused.header("retry-after").parse::<u32>(), Ok(1..=10)), "{refused:?}");
    let status = front.status();
    let states: Vec<_> = (0..2).map(|app| status["apps"][app]["state"].as_str().expect("a state")).collect();
    assert_eq!(states, ["disabled", "running"], "{status}");
    assert!(status["apps"][0]["disabled"]["why"].as_str().expect("why").contains("signal 6"), "{status}");
    let pids: BTreeSet<i32> = serving(&front).into_iter().collect();
    assert!(pids.contains(&neighbour.parse().expect("a pid")), "the neighbour's worker is still there");
    // The next request after the back-off is the next try, and a good answer closes the breaker.
    let healed = until_blocking("it is tried again", || Some(ask("a.localhost", "/pid")).filter(|a| a.status == 200));
    assert!(healed.body.parse::<i32>().is_ok());
    assert!(front.status()["apps"][0]["disabled"].is_null());
}

#[test]
fn an_operator_disables_and_enables_by_hand() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["-e", "production"]);
    pid(&front);
    let name = front.status()["apps"][0]["name"].as_str().expect("a name").to_owned();
    let said = front.say(&["disable", &name, "moving the database"]);
    assert!(said.status.success(), "{said:?}");
    assert_eq!(front.get("/pid").status, 503);
    assert_eq!(front.status()["apps"][0]["disabled"]["why"], "moving the database");
    assert!(front.say(&["enable", &name]).status.success());
    pid(&front);
    let unknown = front.say(&["disable", "nobody-s-app"]);
    assert_eq!(unknown.status.code(), Some(1), "{unknown:?}");
}

#[test]
fn a_retired_worker_is_replaced() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--min", "1"]);
    let first = pid(&front);
    assert!(front.say(&["retire", &first.to_string()]).status.success());
    gone(first);
    front.until("count", 1);
    assert_ne!(pid(&front), first);
}
