//! New versions under load, through `hatchery serve`: no request fails, and once a switch is reported nobody sees an
//! older version.

mod support;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::apps::{self, App, NOBODY};
use support::front::Front;
use support::http::Browser;
use support::until_blocking;

const CLIENTS: usize = 16;
const LONG: Duration = Duration::from_secs(30);

/// What clients may expect, and saw.
#[derive(Default)]
struct Seen {
    ends: AtomicBool,
    answered: AtomicU64,
    /// The version whose switch was reported: nobody who asks from now on gets an older one.
    reported: AtomicU64,
    /// The highest version that was answered.
    highest: AtomicU64,
}

impl Seen {
    /// One client, over one connection as long as it lasts. What it did not like.
    fn ask(&self, front: &Front, number: usize) -> Vec<String> {
        let (mut browser, mut wrong) = (front.browser(), Vec::new());
        let mut count = 0;
        while !self.ends.load(Ordering::SeqCst) {
            count += 1;
            let body = format!("{number}-{count}-{}", "x".repeat(count % 5000));
            let expected = self.reported.load(Ordering::SeqCst);
            let answer = browser.post("/version", &body);
            let (version, echoed) = answer.body.split_once(' ').unwrap_or_default();
            let version = version.parse().unwrap_or(0);
            if answer.status != 200 || echoed != body {
                wrong.push(format!("{}: {:.300}", answer.status, answer.body));
            } else if version < expected {
                wrong.push(format!("version {version} after {expected} was reported"));
            }
            self.highest.fetch_max(version, Ordering::SeqCst);
            self.answered.fetch_add(1, Ordering::SeqCst);
            if answer.header("connection") == "close" {
                browser = front.browser();
            }
            std::thread::sleep(Duration::from_millis(3));
        }
        wrong
    }
}

struct Ends<'a>(&'a Seen);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.ends.store(true, Ordering::SeqCst);
    }
}

/// Does `work` over and over while clients ask, and fails if one of them has anything to complain of.
fn under_load(front: &Front, mut work: impl FnMut(&Seen)) -> Seen {
    let seen = Seen::default();
    let wrong: Vec<String> = std::thread::scope(|scope| {
        // However this ends, the clients must not go on.
        let _ends = Ends(&seen);
        let asking: Vec<_> = (0..CLIENTS)
            .map(|number| {
                scope.spawn({
                    let seen = &seen;
                    move || seen.ask(front, number)
                })
            })
            .collect();
        let until = Instant::now() + LONG;
        while Instant::now() < until {
            work(&seen);
        }
        seen.ends.store(true, Ordering::SeqCst);
        asking.into_iter().flat_map(|client| client.join().expect("a client")).collect()
    });
    let answered = seen.answered.load(Ordering::SeqCst);
    assert!(wrong.is_empty(), "{} of {answered}: {:#?}", wrong.len(), &wrong[..wrong.len().min(5)]);
    println!("{answered} requests, up to version {}", seen.highest.load(Ordering::SeqCst));
    seen
}

/// An app whose version is a file of it, below a folder of its own that its owner may write.
struct Versioned {
    app: App,
    root: PathBuf,
}

impl Versioned {
    fn new() -> Self {
        let app = apps::worker_with("concurrency = 2", &[("TEST_THREADS", "1")]);
        let root = app.root().join("shop");
        std::fs::create_dir(&root).expect("a folder");
        apps::open_to_all(&root);
        let manifest = app.root().join("hatchery.toml");
        std::fs::rename(&manifest, root.join("hatchery.toml")).expect("a rename");
        apps::give(&root, NOBODY);
        let versioned = Self { app, root };
        versioned.set(1);
        versioned
    }

    fn set(&self, version: u64) {
        write(&self.root.join("version"), &version.to_string());
    }

    /// The next version, staged beside the app.
    fn stage(&self, version: &str) {
        let staging = self.app.root().join("staging");
        std::fs::create_dir(&staging).expect("a folder");
        std::fs::copy(self.root.join("hatchery.toml"), staging.join("hatchery.toml")).expect("a copy");
        apps::give(&staging.join("hatchery.toml"), NOBODY);
        write(&staging.join("version"), version);
        write(&staging.join(".complete"), "");
        apps::open_to_all(&staging);
        apps::give(&staging, NOBODY);
        std::fs::rename(staging, self.app.root().join("shop.update")).expect("a rename");
    }
}

fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).expect("a test's own file");
    apps::give(&new, NOBODY);
    std::fs::rename(new, path).expect("a rename");
}

fn generation(front: &Front) -> u64 {
    front.status()["apps"][0]["generation"].as_u64().expect("a generation")
}

/// Waits until a generation after `before` is the only one, and its version was answered. A worker of the one before
/// that started meanwhile may have read the new version too.
fn serves_alone(front: &Front, seen: &Seen, before: u64, version: u64) {
    until_blocking("the new version serves alone", || {
        // Of one moment: between two looks a restart could begin, and be half over.
        let app = &front.status()["apps"][0];
        let alone = app["restart"].is_null() && app["generation"].as_u64().expect("a generation") > before;
        (alone && seen.highest.load(Ordering::SeqCst) == version).then_some(())
    });
}

fn serve(versioned: &Versioned, options: &[&str]) -> Front {
    Front::of(&versioned.root, &[&["--max", "4", "-e", "production"][..], options].concat())
}

#[test]
fn a_graceful_restart_every_two_seconds_fails_no_request() {
    let versioned = Versioned::new();
    let front = serve(&versioned, &[]);
    let mut version = 1;
    let seen = under_load(&front, |seen| {
        let next = Instant::now() + Duration::from_secs(2);
        version += 1;
        versioned.set(version);
        let said = front.say(&["restart", "shop"]);
        assert!(said.status.success(), "{said:?}");
        seen.reported.store(version, Ordering::SeqCst);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    });
    assert!(seen.highest.into_inner() >= 8);
}

#[test]
fn a_staged_update_every_five_seconds_fails_no_request_and_every_second_one_is_broken() {
    let versioned = Versioned::new();
    let front = serve(&versioned, &["--quiet-period", "300ms"]);
    let mut version = 1;
    let seen = under_load(&front, |seen| {
        let next = Instant::now() + Duration::from_secs(5);
        version += 1;
        let broken = version % 2 == 1;
        versioned.stage(&if broken { "broken".into() } else { version.to_string() });
        let (kept, put_away) = if broken { ("shop.failed", "broken") } else { ("shop", &*version.to_string()) };
        until_blocking("the update has its verdict", || {
            let found = std::fs::read_to_string(versioned.app.root().join(kept).join("version")).ok()?;
            let over = !versioned.app.root().join("shop.deploying").exists();
            (found.trim() == put_away && over && front.status()["apps"][0]["restart"]["state"] != "rolling")
                .then_some(())
        });
        if !broken {
            seen.reported.store(version, Ordering::SeqCst);
        }
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
        let _ = std::fs::remove_dir_all(versioned.app.root().join("shop.failed"));
    });
    assert!(seen.highest.into_inner() >= 4);
}

#[test]
fn touching_restart_txt_restarts_and_fails_no_request() {
    let versioned = Versioned::new();
    let tmp = versioned.root.join("tmp");
    std::fs::create_dir(&tmp).expect("a folder");
    apps::open_to_all(&tmp);
    apps::give(&tmp, NOBODY);
    write(&tmp.join("restart.txt"), "");
    let front = serve(&versioned, &[]);
    // What is touched before the first start asks for nothing.
    front.get("/version").ok();
    let mut version = 1;
    under_load(&front, |seen| {
        let before = generation(&front);
        version += 1;
        versioned.set(version);
        write(&tmp.join("restart.txt"), "");
        serves_alone(&front, seen, before, version);
        seen.reported.store(version, Ordering::SeqCst);
        assert!(tmp.join("restart.txt").exists(), "it is never deleted");
    });
    assert!(version > 3, "{version}");
}

#[test]
fn files_edited_in_bursts_restart_once_a_burst_and_fail_no_request() {
    let versioned = Versioned::new();
    let front = serve(&versioned, &["--watch=true", "--quiet-period", "500ms"]);
    Browser::to(front.address()).get("/version").ok();
    let mut version = 1;
    under_load(&front, |seen| {
        let before = generation(&front);
        version += 1;
        for edit in 0..20 {
            write(&versioned.root.join(format!("page-{}.html", edit % 3)), &edit.to_string());
            std::thread::sleep(Duration::from_millis(20));
        }
        versioned.set(version);
        serves_alone(&front, seen, before, version);
        seen.reported.store(version, Ordering::SeqCst);
        assert_eq!(generation(&front), before + 1, "one restart for the burst");
    });
    assert!(version > 3, "{version}");
}

#[test]
fn a_kill_restart_ends_old_sessions_at_once() {
    let versioned = Versioned::new();
    let front = serve(&versioned, &[]);
    front.get("/version").ok();
    let mut browser = front.browser();
    // Not repeated: whoever sent it must hear of its end.
    browser.ask("POST", "/sleep?60000", "Content-Length: 0\r\n");
    front.until("active", 1);
    versioned.set(2);
    let begun = Instant::now();
    assert!(front.say(&["restart", "shop", "--kill"]).status.success());
    let answer = browser.answer();
    assert!(matches!(answer.status, 502 | 503), "{answer:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(front.get("/version").ok().trim(), "2");
}

#[test]
fn a_version_that_does_not_start_leaves_the_old_one_serving_and_whoever_asked_is_told() {
    let versioned = Versioned::new();
    let front = serve(&versioned, &[]);
    front.get("/version").ok();
    write(&versioned.root.join("version"), "broken");
    let said = front.say(&["restart", "shop"]);
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(String::from_utf8_lossy(&said.stderr).contains("this version is broken"), "{said:?}");
    assert_eq!(front.get("/version").ok().trim(), "1");
    let restart = front.status()["apps"][0]["restart"].clone();
    assert_eq!(restart["state"], "failed", "{restart}");
    assert!(restart["report"].as_str().expect("a report").contains("this version is broken"), "{restart}");
    versioned.set(3);
    assert!(front.say(&["restart", "shop"]).status.success());
    assert_eq!(front.get("/version").ok().trim(), "3");
    assert!(front.status()["apps"][0]["restart"].is_null());
}
