//! Workers that are forked from a process that has their app loaded, through `hatchery serve`.

mod support;

#[path = "preloading/killed.rs"]
mod killed;
#[path = "preloading/scene.rs"]
mod scene;

use nix::sys::signal::Signal;
use scene::{fill, gone, noted, notes, preloaders, replace, under_load, workers};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::apps::NOBODY;
use support::front::Front;
use support::{processes, until_blocking};

#[test]
fn workers_are_forked_from_a_process_that_imported_the_app_once() {
    let Some(app) = scene::app("preloading", "") else { return };
    let front = scene::serve(&app, &["--max", "3"]);
    // All places are workers': the preloader takes none.
    let workers = fill(&front, 3);
    let preloader = noted(&app, "import");
    assert_eq!(preloader.len(), 1, "{preloader:?}");
    assert_eq!(preloaders(&front), preloader);
    assert!(!workers.contains(&preloader[0]));

    let keeper = front.keeper();
    for pid in workers.iter().chain(&preloader) {
        assert_eq!(processes::parent(*pid), Some(keeper));
        if nix::unistd::geteuid().is_root() {
            for name in ["Uid", "Gid"] {
                assert_eq!(scene::words(*pid, name), vec![NOBODY.to_string(); 4], "{name} of {pid}");
            }
            assert!(scene::words(*pid, "Groups").iter().all(|group| *group == NOBODY.to_string()), "none of root's");
            assert_eq!(scene::words(*pid, "CapEff"), ["0000000000000000"]);
        }
        assert_eq!(scene::words(*pid, "SigBlk"), ["0000000000000000"]);
    }
    let status = front.status();
    assert_eq!((&status["count"], &status["max"]), (&3.into(), &3.into()), "{status}");
    assert_eq!(status["apps"][0]["preloaders"][0]["forks"], 3, "{status}");
    let told = String::from_utf8_lossy(&front.say(&["status"]).stdout).into_owned();
    assert!(told.contains("preloader") && told.contains("3 forked"), "{told}");

    assert_eq!(noted(&app, "before"), vec![preloader[0]; 3], "before each fork, where it is made");
    let started: BTreeSet<_> = noted(&app, "start").into_iter().collect();
    assert_eq!(started, workers);
    assert!(notes(&app, "start").iter().all(|words| words[2] == "True"), "they are told that they are forked");
    let marks = front.get("/marks").ok();
    let marks: Vec<_> = marks.split(' ').collect();
    assert!(marks[0].starts_with(&format!("{}.", front.pool())) && marks[1] == "1", "{marks:?}");
    assert!(workers.contains(&marks[2].parse().expect("a pid")), "{marks:?}");

    assert!(front.end().success());
    let stopped: BTreeSet<_> = noted(&app, "stop").into_iter().collect();
    assert_eq!(stopped, workers);
}

// B73
#[test]
fn a_preloader_that_dies_is_replaced_and_nobody_notices() {
    let Some(app) = scene::app("preloaders that die", "") else { return };
    let front = scene::serve(&app, &["--max", "3"]);
    // As many as there may be: nothing is just being forked.
    fill(&front, 3);
    let first = preloaders(&front)[0];
    let (second, failed) = under_load(&front, 8, "/sleep?0.01", || {
        processes::kill(first, Signal::SIGKILL);
        gone([first]);
        // The next worker needs it.
        let old = retired(&front);
        until_blocking("another preloader is ready", || {
            preloaders(&front).into_iter().find(|pid| *pid != first).filter(|_| workers(&front).is_disjoint(&old))
        })
    });
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(noted(&app, "import"), [first, second]);
    assert!(front.log().contains("the preloader died with signal 9"), "{}", front.log());
    assert!(front.end().success());
}

/// Sends all workers away, and says which.
fn retired(front: &Front) -> BTreeSet<i32> {
    let old = workers(front);
    for pid in &old {
        let said = front.say(&["retire", &pid.to_string()]);
        assert!(said.status.success(), "{said:?}");
    }
    old
}

// B73, B74
#[test]
fn an_app_that_crashes_where_it_is_preloaded_is_an_error_with_its_output() {
    let crash = "import os\nif os.path.exists('crash'):\n    os.write(2, b'the kettle fell')\n    os.abort()\n";
    let Some(app) = scene::app("preloaders that crash", crash) else { return };
    app.write("crash", "");
    let front = scene::serve(&app, &[]);
    let answer = front.get("/");
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("the kettle fell") && answer.body.contains("aborted itself"), "{}", answer.body);
    assert!(answer.body.contains("HATCHERY_ENV=development"), "{}", answer.body);
    std::fs::remove_file(app.root().join("crash")).expect("a test's own file");
    let pid: i32 = front.get("/").ok().parse().expect("a pid");
    assert_eq!(processes::parent(pid), Some(front.keeper()));
    assert_eq!(preloaders(&front).len(), 1);
    assert!(front.end().success());
}

// B74
#[test]
fn an_app_that_takes_too_long_where_it_is_preloaded_is_an_error_with_its_output() {
    let slow = "import time\nprint('the kettle is slow')\ntime.sleep(600)\n";
    let Some(app) = scene::app("preloaders that take too long", slow) else { return };
    let front = scene::serve(&app, &["--start-timeout", "1s"]);
    let answer = front.get("/");
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("the kettle is slow"), "{}", answer.body);
    assert!(answer.body.contains("it had not loaded the application within 1s"), "{}", answer.body);
    assert!(front.end().success());
}

#[test]
fn an_app_that_can_not_be_forked_is_started_by_its_program_and_that_is_said_once() {
    let thread = "import threading, time\nthreading.Thread(target=time.sleep, args=(3600,), name='ticker', daemon=True).start()\n";
    let Some(app) = scene::app("apps that can't be preloaded", thread) else { return };
    let front = scene::serve(&app, &["--max", "3"]);
    let workers = fill(&front, 3);
    until_blocking("the preloader is gone", || preloaders(&front).is_empty().then_some(()));
    let imported = noted(&app, "import");
    assert_eq!(imported.len(), 4, "one that was of no use, and each worker: {imported:?}");
    assert!(workers.iter().all(|pid| imported.contains(pid)), "{imported:?}");
    assert!(notes(&app, "start").iter().all(|words| words[2] == "False"));
    let log = front.log();
    let said: Vec<_> = log.lines().filter(|line| line.contains("can't be preloaded")).collect();
    assert_eq!(said.len(), 1, "{log}");
    assert!(said[0].contains("threads") && said[0].contains("ticker"), "{said:?}");
    assert!(front.end().success());
}

#[test]
fn a_preloader_that_is_not_needed_leaves_and_its_workers_stay() {
    let Some(app) = scene::app("unused preloaders", "") else { return };
    let front = scene::serve(&app, &["--max", "2", "--max-preloader-idle", "500ms"]);
    let worker = front.get("/").ok();
    let preloader = noted(&app, "import")[0];
    gone([preloader]);
    let log = front.log();
    assert!(log.contains("no worker was forked from it for max_preloader_idle"), "{log}");
    assert_eq!(front.get("/").ok(), worker);
    fill(&front, 2);
    assert_eq!(noted(&app, "import").len(), 2, "and comes back for the next worker");
    assert!(front.end().success());
}

#[test]
fn without_preloaders_each_worker_imports_the_app() {
    let Some(app) = scene::app("max_preloaders = 0", "") else { return };
    let front = scene::serve(&app, &["--max", "2", "--max-preloaders", "0"]);
    let workers = fill(&front, 2);
    let imported: BTreeSet<_> = noted(&app, "import").into_iter().collect();
    assert_eq!(imported, workers);
    assert!(notes(&app, "start").iter().all(|words| words[2] == "False"));
    assert!(noted(&app, "before").is_empty());
    assert!(front.end().success());
}

#[test]
fn a_hook_that_fails_is_an_error_that_names_it() {
    let hook = "import hatchery, os\n@hatchery.on_start\ndef connect(forked):\n    os.stat('there')\n";
    let Some(app) = scene::app("hooks that fail", hook) else { return };
    let front = scene::serve(&app, &[]);
    let answer = front.get("/");
    assert_eq!(answer.status, 502);
    assert!(answer.body.contains("the hook on_start `connect` failed: FileNotFoundError"), "{}", answer.body);
    app.write("there", "");
    front.get("/").ok();
    assert_eq!(noted(&app, "import").len(), 1, "the preloader is still good: {}", front.log());
    assert!(front.end().success());
}

fn generation(front: &Front) -> u64 {
    front.status()["apps"][0]["generation"].as_u64().expect("a generation")
}

#[test]
fn a_restart_never_serves_old_code() {
    const CLIENTS: usize = 8;
    let Some(app) = scene::app("restarts of what is preloaded", "") else { return };
    std::fs::create_dir(app.root().join("tmp")).expect("a folder");
    support::apps::give(&app.root().join("tmp"), NOBODY);
    app.write("tmp/restart.txt", "");
    let front = scene::serve(&app, &["--max", "4", "-e", "production"]);
    fill(&front, 4);
    let (over, reported, highest) = (AtomicBool::new(false), AtomicU64::new(1), AtomicU64::new(0));
    let client = || {
        let (mut browser, mut wrong) = (front.browser(), Vec::new());
        while !over.load(Ordering::SeqCst) {
            let expected = reported.load(Ordering::SeqCst);
            let answer = browser.get("/version");
            let version: u64 = answer.body.parse().unwrap_or(0);
            if answer.status != 200 || version < expected {
                wrong.push(format!("{version} after {expected} was reported: {answer:?}"));
            }
            highest.fetch_max(version, Ordering::SeqCst);
            if answer.header("connection") == "close" {
                browser = front.browser();
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        wrong
    };
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let asking: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let until = Instant::now() + Duration::from_secs(10);
            let mut version = 1;
            while Instant::now() < until {
                let before = generation(&front);
                version += 1;
                // Of one length, and more than one a second: what Python takes for the same file.
                replace(&app, "stock.py", &format!("VERSION = {version}\n"));
                if version % 2 == 0 {
                    let said = front.say(&["restart", app.root().to_str().expect("a path of text")]);
                    assert!(said.status.success(), "{said:?}");
                } else {
                    replace(&app, "tmp/restart.txt", &version.to_string());
                    until_blocking("the new version serves alone", || {
                        let alone = front.status()["apps"][0]["restart"].is_null() && generation(&front) > before;
                        (alone && highest.load(Ordering::SeqCst) == version).then_some(())
                    });
                }
                reported.store(version, Ordering::SeqCst);
            }
        }));
        over.store(true, Ordering::SeqCst);
        let wrong = asking.into_iter().flat_map(|client| client.join().expect("a client")).collect();
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        wrong
    });
    assert!(wrong.is_empty(), "{}: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    let highest = highest.into_inner();
    assert!(highest > 4, "{highest}");
    let imported = noted(&app, "import").len() as u64;
    assert!(imported >= highest, "each version is imported anew: {imported} of {highest}");
    assert!(front.end().success());
}

#[test]
fn what_was_not_edited_just_now_is_compiled_once() {
    let Some(app) = scene::app("cached modules", "") else { return };
    let stock = std::fs::File::options().write(true).open(app.root().join("stock.py")).expect("a test's own file");
    stock.set_modified(std::time::SystemTime::now() - Duration::from_secs(60)).expect("a time of its own");
    app.write("shelf.py", "");
    replace(&app, "shop.py", &format!("import shelf\n{}", include_str!("preloading/app.py")));
    // What would be an edit of the future is as doubtful as one of just now.
    let shelf = std::fs::File::options().write(true).open(app.root().join("shelf.py")).expect("a test's own file");
    shelf.set_modified(std::time::SystemTime::now() + Duration::from_secs(60)).expect("a time of its own");
    let front = scene::serve(&app, &[]);
    front.get("/").ok();
    let cached = std::fs::read_dir(app.root().join("__pycache__")).expect("compiled modules").flatten();
    let cached: Vec<_> = cached.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    assert!(cached.len() == 1 && cached[0].starts_with("stock."), "{cached:?}");
    assert!(front.end().success());
}
