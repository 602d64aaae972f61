//! What an operator is told: `hatchery status`, and the lines that can be typed into the admin socket.

mod support;

use serde_json::Value;
use std::io::Write;
use std::path::Path;
use support::admin::Line;
use support::apps;
use support::front::{self, Front};

fn keys(object: &Value) -> Vec<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// These keys in this order; others may stand between them.
fn has_keys(object: &Value, wanted: &[&str]) {
    let mut found = keys(object).into_iter();
    for key in wanted {
        assert!(found.any(|other| other == *key), "{key} is missing, or elsewhere, in {object:#}");
    }
}

const POOL: [&str; 6] = ["version", "max", "count", "active", "waiting", "apps"];
const APP: [&str; 8] = ["root", "name", "state", "limit", "generation", "waiting", "served", "workers"];
const WORKER: [&str; 9] =
    ["id", "pid", "state", "generation", "sessions", "served", "memory_bytes", "uptime_s", "idle_s"];

#[test]
fn the_status_is_one_json_object_with_the_keys_that_stay() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "1"]);
    let idle = front.status();
    has_keys(&idle, &POOL);
    assert_eq!(idle["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(
        (&idle["max"], &idle["count"], &idle["active"], &idle["waiting"]),
        (&1.into(), &0.into(), &0.into(), &0.into())
    );
    has_keys(&idle["apps"][0], &APP);
    assert_eq!(idle["apps"][0]["root"], app.root().to_str().unwrap());
    assert_eq!(idle["apps"][0]["name"], app.root().file_name().unwrap().to_str().unwrap());
    assert_eq!((&idle["apps"][0]["state"], &idle["apps"][0]["limit"]), (&"idle".into(), &Value::Null));

    let pid: i32 = front.get("/pid").ok().parse().unwrap();
    front.until("active", 0);
    let ready = front.status();
    let worker = &ready["apps"][0]["workers"][0];
    has_keys(worker, &WORKER);
    assert_eq!(worker["pid"], pid);
    assert_eq!((&worker["state"], &worker["sessions"]), (&"ready".into(), &0.into()));
    assert!(worker["memory_bytes"].as_u64() > Some(100_000), "{worker}");
    assert!(worker["uptime_s"].as_f64() >= worker["idle_s"].as_f64(), "{worker}");
    assert_eq!((&ready["apps"][0]["state"], &ready["apps"][0]["served"]), (&"running".into(), &1.into()));

    let gate = app.root().join("gate");
    let mut open = front.browser();
    open.ask("GET", &format!("/until?{}", gate.display()), "");
    front.until("active", 1);
    let mut waiting = front.browser();
    waiting.ask("GET", "/pid", "");
    front.until("waiting", 1);
    let busy = front.status();
    let (app, worker) = (&busy["apps"][0], &busy["apps"][0]["workers"][0]);
    assert_eq!((&worker["state"], &worker["sessions"], &worker["idle_s"]), (&"busy".into(), &1.into(), &Value::Null));
    assert_eq!((&app["waiting"], &app["limit"]), (&1.into(), &"pool_full".into()));
    std::fs::write(gate, "").unwrap();
    open.answer().ok();
    assert_eq!(waiting.answer().ok(), pid.to_string());
}

#[test]
fn the_status_is_a_table_for_a_person() {
    let app = apps::worker();
    let front = Front::of(app.root(), &[]);
    let pid = front.get("/pid").ok();
    let output = front.say(&["status"]);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    let table = String::from_utf8(output.stdout).unwrap();
    let mut lines = table.lines();
    let first = lines.next().unwrap();
    assert!(first.starts_with(&format!("hatchery {}: 1 of at most 6 workers, ", env!("CARGO_PKG_VERSION"))), "{table}");
    assert!(lines.next().unwrap().contains(app.root().to_str().unwrap()), "{table}");
    assert!(lines.next().unwrap().trim_start().starts_with("worker "), "{table}");
    assert!(lines.next().unwrap().split_whitespace().any(|word| word == pid), "{table}");
}

#[test]
fn the_lines_of_the_admin_socket() {
    let front = Front::demo();
    front.get("/hello").ok();
    let mut line = Line::to(&front);
    let (help, last) = line.ask("help");
    assert_eq!(last, "ok");
    for command in ["status", "disable", "enable", "retire", "json", "help", "quit"] {
        assert!(help.iter().any(|line| line.trim_start().starts_with(command)), "{command} is not in {help:?}");
    }
    let (status, last) = line.ask("status");
    assert_eq!(last, "ok");
    assert!(status.len() >= 4 && status[1].starts_with("  demo  "), "{status:?}");
    let json = line.json("json status");
    assert_eq!(json["ok"], true);
    has_keys(&json, &POOL);
    assert_eq!(json["apps"][0]["workers"].as_array().map(Vec::len), Some(1));
    assert_eq!(line.json("json help")["ok"], true);

    let (none, last) = line.ask("frobnicate <now>\u{1b}");
    assert!(none.is_empty() && last.starts_with("error: no command 'frobnicate'"), "{last}");
    assert!(line.ask("status of everything").1.starts_with("error: "));
    let json = line.json("json frobnicate");
    assert_eq!((&json["ok"], json["error"].is_string()), (&false.into(), true));
    assert_eq!(line.json("json")["ok"], false);
    // Nothing is said to nothing, and several lines at once are answered in turn.
    line.say("\n  \r\nhelp\nnonsense\n");
    assert!(line.line().starts_with("  "));
    while line.line() != "ok" {}
    assert!(line.line().starts_with("error: "));

    assert_eq!(line.ask("quit").1, "ok");
    assert!(line.has_ended());
    assert!(front.get("/hello").ok().starts_with("Hello"));
}

#[test]
fn a_line_without_an_end_is_refused_and_its_connection_closed() {
    let front = Front::demo();
    let mut line = Line::to(&front);
    line.say(&"x".repeat(4096));
    assert!(line.line().starts_with("error: a line is longer than 4096 bytes"));
    assert!(line.has_ended());
    let mut line = Line::to(&front);
    // The longest that is taken: with its end, 4096 bytes.
    line.say(&format!("{}\n", " ".repeat(4095)));
    assert_eq!(line.ask("help").1, "ok");
    // The end of the connection is the end of a line.
    line.say("help");
    line.stream.get_ref().shutdown(std::net::Shutdown::Write).unwrap();
    while line.line() != "ok" {}
    assert!(line.has_ended());
}

#[test]
fn nobody_is_kept_waiting_by_connections_that_say_nothing_or_half_of_something() {
    let front = Front::demo();
    let idle: Vec<Line> = (0..200).map(|_| Line::to(&front)).collect();
    let mut half: Vec<Line> = (0..200).map(|_| Line::to(&front)).collect();
    for line in &mut half {
        line.say("stat");
    }
    // These don't read their answers either.
    let mut deaf: Vec<Line> = (0..10).map(|_| Line::to(&front)).collect();
    for line in &mut deaf {
        line.say(&"help\n".repeat(100));
    }
    assert_eq!(Line::to(&front).ask("status").1, "ok");
    assert_eq!(front.status()["count"], 0);
    assert!(front.get("/hello").ok().starts_with("Hello"));
    let last = half.last_mut().unwrap();
    assert_eq!(last.ask("us").1, "ok", "and the other half can still come");
    drop(idle);
    assert!(front.end().success());
}

#[test]
fn somebody_who_never_reads_is_kept_from_saying_more() {
    let front = Front::demo();
    let mut deaf = Line::to(&front);
    deaf.stream.get_ref().set_nonblocking(true).unwrap();
    let flood = "help\n".repeat(1000);
    // Until all buffers on the way are full: the pool keeps none of its own.
    let mut said = 0;
    support::until_blocking("it blocks", || match deaf.stream.get_mut().write(flood.as_bytes()) {
        Ok(length) => {
            said += length;
            assert!(said < 64 << 20, "{said} bytes were taken");
            None
        }
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Line::to(&front).ask("status");
            deaf.stream.get_mut().write(b"help\n").is_err().then_some(())
        }
        Err(error) => panic!("{error}"),
    });
    assert_eq!(Line::to(&front).ask("status").1, "ok");
}

#[test]
fn without_a_pool_there_is_a_sentence() {
    let folder = front::folder();
    let admin = folder.path().join("nothing.sock");
    let stale = folder.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    let named = |path: &Path| path.to_str().unwrap().to_owned();
    for (arguments, sentence) in [
        (vec!["status".to_owned(), "--admin".into(), named(&admin)], "there is no such socket"),
        (vec!["--admin".into(), named(&stale), "status".into(), "--json".into()], "nobody answers"),
        (vec!["status".into(), "--admin".into(), "none".into()], "names no pool"),
    ] {
        let (status, problem) = front::run(front::hatchery(folder.path(), &arguments));
        assert_eq!(status, Some(1), "{problem}");
        assert!(problem.starts_with("hatchery: ") && problem.contains(sentence), "{problem}");
        assert_eq!(problem.lines().count(), 1, "{problem}");
    }
    assert_eq!(front::run(front::hatchery(folder.path(), ["status", "--nonsense"])).0, Some(2));
}

#[test]
fn a_pool_that_has_ended_is_none() {
    let mut front = Front::demo();
    let pool = front.pool();
    front.signal(nix::sys::signal::Signal::SIGTERM);
    front.ended();
    front.nothing_is_left(&pool);
    // Other pools of this user, in the other usual place, are theirs to be asked.
    let place = front.admin();
    let output = front.say(&["status", "--admin", place.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn of_several_pools_one_must_be_named() {
    let first = Front::demo();
    let command = front::hatchery(first.path(), ["serve", "-p", "0"]);
    let second = Front::start(command, front::folder());
    let places: Vec<_> = std::fs::read_dir(first.path().join("hatchery")).unwrap().flatten().collect();
    let sockets: Vec<String> = places
        .iter()
        .map(|place| place.path().to_string_lossy().into_owned())
        .filter(|path| path.ends_with(".sock"))
        .collect();
    assert_eq!(sockets.len(), 2, "a live socket is not stolen: {sockets:?}");
    let ask = || front::run(front::hatchery(first.path(), ["status"]));
    let (status, problem) = ask();
    assert_eq!(status, Some(1));
    assert!(sockets.iter().all(|socket| problem.contains(socket)) && problem.lines().count() == 1, "{problem}");
    for socket in &sockets {
        assert!(first.say(&["status", "--admin", socket]).status.success());
    }
    // The variable names one, too.
    let mut command = front::hatchery(first.path(), ["status"]);
    command.env("HATCHERY_ADMIN", &sockets[0]);
    assert_eq!(front::run(command).0, Some(0));
    drop(second);
    support::until_blocking("one is left", || (ask().0 == Some(0)).then_some(()));
    assert!(first.get("/hello").ok().starts_with("Hello"));
}
