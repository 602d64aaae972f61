//! What an operator types into the admin socket to change what runs: disable, enable, retire.

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
