//! What an operator types into the admin socket to change what runs.

mod support;

use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use support::apps;
use support::front::Front;
use support::{PATIENCE, processes, until_blocking};

/// The answer to one line: its last line.
fn typed(front: &Front, text: &str) -> String {
    let mut stream = UnixStream::connect(front.admin()).expect("the admin socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(format!("{text}\n").as_bytes()).expect("it is read");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("a line"));
    lines.find(|line| !line.starts_with("  ")).expect("a last line")
}

fn json(front: &Front, text: &str) -> Value {
    serde_json::from_str(&typed(front, text)).expect("one line of JSON")
}

#[test]
fn a_disabled_app_refuses_with_the_reason_until_it_is_enabled_and_keeps_its_workers() {
    let app = apps::worker();
    let front = Front::of(app.root(), &[]);
    let name = app.root().file_name().unwrap().to_str().unwrap();
    let pid = front.get("/pid").ok();
    assert_eq!(typed(&front, &format!("disable {name} moves to  another disk")), "ok");
    let refused = front.get("/pid");
    assert_eq!(refused.status, 503);
    let status = front.status();
    let shown = &status["apps"][0];
    assert_eq!((&shown["state"], &shown["disabled"]["why"]), (&"disabled".into(), &"moves to another disk".into()));
    assert_eq!((&shown["disabled"]["retry_in_s"], &status["count"]), (&Value::Null, &1.into()));
    let table = String::from_utf8(front.say(&["status"]).stdout).unwrap();
    assert!(table.contains("  disabled: moves to another disk; until it is enabled"), "{table}");

    // The root names it as well.
    assert_eq!(json(&front, &format!("json enable {}", app.root().display())), serde_json::json!({ "ok": true }));
    assert_eq!(front.get("/pid").ok(), pid);
    assert_eq!(front.status()["apps"][0]["disabled"], Value::Null);
}

#[test]
fn a_retired_worker_finishes_what_it_does_and_another_takes_its_place() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "2"]);
    let gate = app.root().join("gate");
    let mut open = front.browser();
    open.ask("GET", &format!("/until?{}", gate.display()), "");
    front.until("active", 1);
    let worker = &front.status()["apps"][0]["workers"][0];
    let (id, pid) = (worker["id"].as_u64().unwrap(), i32::try_from(worker["pid"].as_i64().unwrap()).unwrap());
    assert_eq!(typed(&front, &format!("retire {pid}")), "ok");
    assert_eq!(front.status()["apps"][0]["workers"][0]["state"], "draining");
    let other: i32 = front.get("/pid").ok().parse().unwrap();
    assert_ne!(other, pid);
    std::fs::write(gate, "").unwrap();
    assert_eq!(open.answer().ok(), "waited");
    until_blocking("it is gone", || (!processes::lives(pid)).then_some(()));
    // By its number, too; and what is gone is unknown.
    until_blocking("it is unknown", || {
        typed(&front, &format!("retire {id}")).starts_with("error: no worker").then_some(())
    });
    let other = front.status()["apps"][0]["workers"][0]["id"].as_u64().unwrap();
    assert_eq!(typed(&front, &format!("retire w{other}")), "ok");
}

#[test]
fn what_is_not_understood_is_refused_with_a_sentence_and_changes_nothing() {
    let front = Front::demo();
    front.get("/hello").ok();
    for (line, sentence) in [
        ("disable", "error: needs one application"),
        ("enable a b", "error: needs one application"),
        ("retire", "error: needs one worker"),
        ("retire 1 2", "error: needs one worker"),
        ("disable nothing", "error: no application 'nothing'; status lists them"),
        ("enable ../x", "error: no application '../x'"),
        ("retire 99", "error: no worker '99'; status lists them"),
        ("retire demo", "error: no worker 'demo'"),
        ("retire 18446744073709551616", "error: no worker"),
        ("retire -1", "error: no worker"),
    ] {
        let answer = typed(&front, line);
        assert!(answer.starts_with(sentence), "{line}: {answer}");
        let json = json(&front, &format!("json {line}"));
        assert_eq!((&json["ok"], &json["error"]), (&false.into(), &answer["error: ".len()..].into()), "{line}");
    }
    assert_eq!(front.status()["apps"][0]["state"], "running");
    assert_eq!(typed(&front, "disable demo"), "ok");
    assert_eq!(front.status()["apps"][0]["disabled"]["why"], "the operator disabled it");
    assert_eq!(typed(&front, "enable demo"), "ok");
    assert!(front.get("/hello").ok().starts_with("Hello"));
}

#[test]
fn several_apps_with_one_last_part_must_be_told_apart() {
    let folder = support::front::folder();
    let roots = ["a", "b"].map(|parent| {
        let root = folder.path().join(parent).join("shop");
        std::fs::create_dir_all(&root).unwrap();
        std::fs::write(root.join("hatchery.toml"), "command = [\"true\"]\n").unwrap();
        root
    });
    let app = |root: &std::path::Path, host: &str| ["--app".to_owned(), format!("{host}={}", root.display())];
    let front = Front::serve([app(&roots[0], "a.localhost"), app(&roots[1], "b.localhost")].concat());
    let several = typed(&front, "disable shop");
    assert!(roots.iter().all(|root| several.contains(root.to_str().unwrap())), "{several}");
    assert_eq!(typed(&front, "disable a/shop"), "ok");
    let states: Vec<Value> =
        front.status()["apps"].as_array().unwrap().iter().map(|app| app["state"].clone()).collect();
    assert_eq!(states.iter().filter(|state| **state == "disabled").count(), 1, "{states:?}");
}

/// The lines of the answer to one line, the last one among them.
fn lines(front: &Front, text: &str) -> Vec<String> {
    let mut stream = UnixStream::connect(front.admin()).expect("the admin socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    stream.write_all(format!("{text}\nquit\n").as_bytes()).expect("it is read");
    let mut lines: Vec<String> = BufReader::new(stream).lines().map(|line| line.expect("a line")).collect();
    assert_eq!(lines.pop().as_deref(), Some("ok"), "of quit");
    lines
}

fn app(front: &Front) -> Value {
    front.status()["apps"][0].clone()
}

#[test]
fn a_restart_is_answered_when_the_new_workers_serve_and_kill_ends_the_old_ones() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    let root = app.root().display();
    let mut pid = front.get("/pid").ok();
    for (number, mode) in [(2, ""), (3, " graceful"), (4, " kind"), (5, " kill")] {
        assert_eq!(typed(&front, &format!("restart {root}{mode}")), "ok");
        let shown = self::app(&front);
        assert_eq!((&shown["generation"], &shown["restart"]), (&number.into(), &Value::Null), "{mode}");
        let now = front.get("/pid").ok();
        assert_ne!(now, pid);
        pid = now;
    }
    assert!(typed(&front, &format!("restart {root} soon")).starts_with("error: no mode 'soon'"));
    assert!(typed(&front, &format!("restart {root} kill now")).contains("too"));
}

#[test]
fn a_restart_that_fails_is_answered_with_the_report() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    let pid = front.get("/pid").ok();
    app.write("hatchery.toml", "command = [\"sh\", \"-c\", \"echo it broke; exit 3\"]\n");
    let root = app.root().display();
    let answer = lines(&front, &format!("restart {root}"));
    let (last, details) = answer.split_last().unwrap();
    assert!(last.starts_with("error: the application could not be started: "), "{answer:?}");
    assert!(details.iter().all(|line| line.starts_with("  ")), "{answer:?}");
    assert!(details.iter().any(|line| line.contains("it broke")), "{answer:?}");
    let failed = json(&front, &format!("json restart {root}"));
    assert_eq!(failed["ok"], false);
    assert!(failed["report"]["output"].as_str().unwrap().contains("it broke"), "{failed}");
    assert_eq!(front.get("/pid").ok(), pid);
    let table = String::from_utf8(front.say(&["status"]).stdout).unwrap();
    assert!(table.contains("  restart failed: "), "{table}");
}

#[test]
fn a_stopped_app_refuses_and_stays_registered_until_it_is_started() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    front.get("/pid").ok();
    let root = app.root().display();
    assert_eq!(typed(&front, &format!("stop {root}")), "ok");
    assert_eq!(front.get("/pid").status, 503);
    front.until("count", 0);
    assert_eq!(self::app(&front)["state"], "stopped");
    assert_eq!(typed(&front, &format!("restart {root}")), "error: the application is stopped");
    assert_eq!(typed(&front, &format!("start {root}")), "ok");
    front.get("/pid").ok();
}

#[test]
fn apps_are_added_listed_and_removed_on_a_live_pool() {
    let (first, second) = (apps::worker(), apps::worker());
    // Else a pool of root would serve what it was started with, and no more.
    let front = Front::of(first.root(), &["--watch=false", "--trust-clients"]);
    let root = second.root().display();
    assert_eq!(typed(&front, &format!("add {root} max_per_app=1 max_idle=10m")), "ok");
    let listed = lines(&front, "list");
    assert!(listed.iter().any(|line| line.contains(&format!("{root}  idle  registered"))), "{listed:?}");
    let listed = json(&front, "json list");
    let found = listed["apps"].as_array().unwrap().iter().find(|app| app["root"] == *root.to_string());
    assert_eq!(found.unwrap()["registered"], true, "{listed}");
    assert_eq!(typed(&front, &format!("remove {root}")), "ok");
    assert!(typed(&front, &format!("stop {root}")).starts_with("error: no application"));
    for (line, sentence) in [
        ("add", "error: needs an application's root"),
        ("add relative", "error: relative: an application's root must be an absolute path"),
        ("add /srv/x max_idle", "error: 'max_idle' is no setting"),
        ("add /srv/x nonsense=1", "error: nonsense: there is no key nonsense"),
        ("add /srv/x max_idle=soon", "error: max_idle: `soon` is no length of time"),
        ("add /srv/x max_queue=0", "error: /srv/x: max_queue is 0"),
        ("remove", "error: needs one application"),
    ] {
        let answer = typed(&front, line);
        assert!(answer.starts_with(sentence), "{line}: {answer}");
    }
}

#[test]
fn a_session_is_ended_by_its_number() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    let mut open = front.browser();
    open.ask("GET", &format!("/until?{}", app.root().join("gate").display()), "");
    front.until("active", 1);
    assert!(typed(&front, "end last").starts_with("error: no session 'last'"));
    assert!(typed(&front, "end 99999").starts_with("error: no session '99999' is open: only 1 is"));
    // Sessions count from 1.
    let session = front.status()["apps"][0]["workers"][0]["open"][0].clone();
    assert!(session["age_s"].as_f64() >= Some(0.0), "{session}");
    assert_eq!(typed(&front, &format!("end {}", session["id"])), "ok");
    assert!(open.answer().status >= 500);
}

#[test]
fn whoever_waits_behind_a_stuck_request_is_served_once_that_is_ended() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false", "--max", "1"]);
    let stuck: i32 = front.get("/pid").ok().parse().unwrap();
    let mut open = front.browser();
    open.ask("GET", &format!("/until?{}", app.root().join("never").display()), "");
    front.until("active", 1);
    let mut waiting = front.browser();
    waiting.ask("GET", "/pid", "");
    front.until("waiting", 1);
    let session = json(&front, "json sessions")["sessions"][0].clone();
    assert_eq!(typed(&front, &format!("end {}", session["id"])), "ok");
    assert_eq!(open.answer().status, 503);
    assert_ne!(waiting.answer().ok().parse::<i32>().unwrap(), stuck);
    let record = front.status()["post_mortems"][0].clone();
    assert_eq!(record["pid"], stuck, "{record}");
    assert!(record["why"].as_str().is_some_and(|why| why.contains("the operator ended a session")), "{record}");
}

#[test]
fn clear_replaces_every_worker_and_what_is_not_there_is_refused() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    let pid = front.get("/pid").ok();
    assert_eq!(typed(&front, "clear"), "ok");
    assert_ne!(front.get("/pid").ok(), pid);
    let root = app.root().display();
    for verb in ["deploy", "rollback"] {
        let answer = typed(&front, &format!("{verb} {root}"));
        assert!(answer.starts_with("error: "), "{verb}: {answer}");
    }
    front.get("/pid").ok();
}

#[test]
fn what_was_done_to_apps_outlasts_the_pool_where_a_folder_is_named() {
    let (first, second) = (apps::worker(), apps::worker());
    let folder = support::front::folder();
    let state = folder.path().join("state");
    let options = ["--watch=false", "--trust-clients", "--state-dir", state.to_str().unwrap()];
    let (shop, blog) = (first.root().display().to_string(), second.root().display().to_string());
    let front = Front::of(first.root(), &options);
    assert_eq!(typed(&front, &format!("add {blog} max_idle=7m")), "ok");
    assert_eq!(typed(&front, &format!("disable {blog} moves house")), "ok");
    assert_eq!(typed(&front, &format!("stop {shop}")), "ok");
    let text = std::fs::read_to_string(state.join("state.json")).expect("it is written");
    assert!(text.contains("moves house") && text.contains("\"secs\": 420"), "{text}");
    front.end();

    let front = Front::of(first.root(), &options);
    let status = front.status();
    let of = |root: &str| status["apps"].as_array().unwrap().iter().find(|app| app["root"] == root).cloned().unwrap();
    assert_eq!((&of(&shop)["state"], &of(&blog)["disabled"]["why"]), (&"stopped".into(), &"moves house".into()));
    assert_eq!(typed(&front, &format!("start {shop}")), "ok");
    assert_eq!(typed(&front, &format!("remove {blog}")), "ok");
    front.end();

    // What is as configured is not in it; and what is broken is kept aside.
    let text = std::fs::read_to_string(state.join("state.json")).expect("it is written");
    assert!(!text.contains("root"), "{text}");
    std::fs::write(state.join("state.json"), "{").unwrap();
    let front = Front::of(first.root(), &options);
    front.get("/pid").ok();
    let broken = state.join("state.json");
    until_blocking("it is said", || front.log().contains(&*broken.to_string_lossy()).then_some(()));
    assert_eq!(std::fs::read_to_string(state.join("state.json.broken")).unwrap(), "{");
}
