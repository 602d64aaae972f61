//! The commands that look at a live pool, as people, programs and monitoring run them.

mod support;

use nix::sys::signal::Signal;
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use support::front::{self, Front};
use support::terminal::Terminal;
use support::{apps, processes, until_blocking};

/// A command that goes on. Killed when this is dropped.
struct Going {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Going {
    fn on(front: &Front, arguments: &[&str]) -> Self {
        let mut command = front::hatchery(front.path(), arguments);
        command.env("HATCHERY_ADMIN", front.admin()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("hatchery");
        let output = child.stdout.take().map(BufReader::new);
        Self { child, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().expect("it is read").read_line(&mut line).expect("a line");
        assert!(line.ends_with('\n'), "it ended after {line:?}");
        line.trim_end().to_owned()
    }

    /// Reads until a line has this.
    fn until(&mut self, words: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(words) {
                return line;
            }
        }
    }

    fn nobody_reads(&mut self) {
        self.output = None;
    }

    fn signal(&self, signal: Signal) {
        processes::kill(self.child.id().cast_signed(), signal);
    }

    /// Its exit status, and what it complained of.
    fn ended(mut self) -> (Option<i32>, String) {
        let status = until_blocking("it has ended", || self.child.try_wait().expect("a child"));
        let mut said = String::new();
        let error = self.child.stderr.as_mut().expect("a pipe");
        std::io::Read::read_to_string(error, &mut said).expect("text");
        (status.code(), said)
    }
}

impl Drop for Going {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn json(front: &Front, arguments: &[&str]) -> Value {
    serde_json::from_str(&text(&front.say(arguments))).expect("one value of JSON")
}

fn name(app: &apps::App) -> String {
    app.root().file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_stuck_request_is_listed_with_its_line_and_ended() {
    let (app, other) = (apps::worker(), apps::worker());
    let front = Front::of(app.root(), &["--watch=false", "--app", &format!("/other={}", other.root().display())]);
    assert_eq!(text(&front.say(&["sessions"])), "");
    let mut open = front.browser();
    open.ask("GET", &format!("/until?{}", app.root().join("never").display()), "");
    front.until("active", 1);

    let table = text(&front.say(&["sessions"]));
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[0].trim_start().starts_with("session  app"), "{table}");
    assert!(lines.len() == 2 && lines[1].contains(&name(&app)) && lines[1].contains("GET /until?"), "{table}");
    let listed = json(&front, &["sessions", &name(&app), "--json"]);
    let session = &listed["sessions"][0];
    assert_eq!(session["client_pid"], front.pid(), "{listed}");
    assert_eq!(json(&front, &["sessions", &name(&other), "--json"])["sessions"], serde_json::json!([]));

    assert_eq!(text(&front.say(&["end", &session["id"].to_string()])), "");
    assert_eq!(open.answer().status, 503);
    until_blocking("no session is open", || text(&front.say(&["sessions"])).is_empty().then_some(()));
}

#[test]
fn every_command_that_looks_answers_programs_in_json() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    front.get("/pid").ok();
    let name = name(&app);
    assert_eq!(json(&front, &["list", "--json"])["apps"][0]["name"], name);
    assert_eq!(json(&front, &["status", &name, "--json"])["apps"][0]["name"], name);
    assert_eq!(json(&front, &["metrics", "--json"])["apps"][0]["sessions"], 1);
    assert_eq!(json(&front, &["get", "max", "--json"])["value"], "6");
    assert_eq!(json(&front, &["health", "--json"])["state"], "OK");
    let events = text(&front.say(&["events", "--json"]));
    let events: Vec<Value> = events.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(events.iter().any(|event| event["event"] == "worker_ready" && event["app"] == *name), "{events:?}");
    let last = text(&front.say(&["events", "--json", "-n", "1"]));
    assert_eq!(serde_json::from_str::<Value>(&last).unwrap(), *events.last().unwrap());
    let metrics = text(&front.say(&["metrics"]));
    assert!(metrics.lines().any(|line| line.starts_with(&name) && line.ends_with("  1")), "{metrics}");
}

#[test]
fn settings_are_changed_and_told() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false", "--trust-clients"]);
    let name = name(&app);
    text(&front.say(&["set", &name, "max_idle=7m"]));
    let told = text(&front.say(&["get", &name, "max_idle"]));
    assert!(told.starts_with("max_idle = 7m"), "{told}");
    assert_eq!(json(&front, &["get", &name, "max_idle", "--json"])["from"], "app");
    let wrong = front.say(&["set", &name, "max_ilde=7m"]);
    assert_eq!((wrong.status.code(), wrong.stderr.iter().filter(|byte| **byte == b'\n').count()), (Some(1), 1));
    assert_eq!(front.say(&["set", &name, "max_idle"]).status.code(), Some(1));
}

#[test]
fn what_an_app_prints_is_shown_and_goes_on() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    let name = name(&app);
    front.get("/print?before").ok();
    until_blocking("it is kept", || text(&front.say(&["logs", &name])).contains("before").then_some(()));
    let kept = text(&front.say(&["logs", &name, "--json", "-n", "1"]));
    assert!(serde_json::from_str::<Value>(&kept).unwrap()["line"].is_string(), "{kept}");
    let mut going = Going::on(&front, &["logs", &name, "-f"]);
    going.until("before");
    front.get("/print?after").ok();
    let line = going.until("after");
    let pid = front.get("/pid").ok();
    assert!(line.contains(&format!(" {pid} std")), "{line}");
    // It ends with whoever reads it, though nothing more is printed.
    going.nobody_reads();
    assert_eq!(going.ended(), (Some(0), String::new()));
    let unknown = front.say(&["logs", "nobody"]);
    assert_eq!(unknown.status.code(), Some(1));
}

#[test]
fn events_are_followed_until_the_pool_is_gone() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    let mut people = Going::on(&front, &["events", "-f", "-n", "1000"]);
    let mut programs = Going::on(&front, &["events", "-f", "--json"]);
    people.until("app_added");
    front.get("/pid").ok();
    let ready = people.until("worker_ready");
    assert!(ready.contains(&format!(" info worker_ready app={}", name(&app))), "{ready}");
    let event: Value = serde_json::from_str(&programs.until("worker_ready")).expect("JSON");
    assert_eq!(event["level"], "info");
    programs.nobody_reads();
    assert_eq!(programs.ended(), (Some(0), String::new()));
    assert!(front.end().success());
    people.until("pool_ending");
    let (status, said) = people.ended();
    assert_eq!((status, said.as_str()), (Some(1), "hatchery: the pool is gone\n"));
}

#[test]
fn a_watched_status_outlives_its_pool_and_ends_when_told() {
    let mut front = Front::demo();
    let mut watch = Going::on(&front, &["status", "--watch=0.1"]);
    let mut programs = Going::on(&front, &["status", "--watch=0.1", "--json"]);
    let mut unread = Going::on(&front, &["status", "--watch=1h"]);
    watch.until("hatchery ");
    while !watch.line().is_empty() {}
    assert!(watch.line().starts_with("hatchery "), "reports are separated by a blank line");
    assert_eq!(serde_json::from_str::<Value>(&programs.line()).unwrap()["max"], 6);
    unread.until("demo");
    unread.nobody_reads();
    assert_eq!(unread.ended(), (Some(0), String::new()));

    front.signal(Signal::SIGTERM);
    front.ended();
    watch.until("until it is back");
    assert!(serde_json::from_str::<Value>(&programs.until("error")).unwrap()["gone_s"].is_number());
    let again = Front::start(front::hatchery(front.path(), ["serve", "-p", "0"]), front::folder());
    watch.until("hatchery ");
    again.get("/hello").ok();
    watch.until("running");
    for (going, signal) in [(watch, Signal::SIGINT), (programs, Signal::SIGTERM)] {
        going.signal(signal);
        assert_eq!(going.ended(), (Some(0), String::new()), "{signal}");
    }
    // Without a pool there is nothing to wait for: it may be the wrong place.
    let nowhere = again.path().join("nothing.sock");
    let (status, said) =
        front::run(front::hatchery(again.path(), ["status", "--watch", "--admin", nowhere.to_str().unwrap()]));
    assert!(status == Some(1) && said.contains("no pool is running"), "{said}");
}

#[test]
fn colours_and_widths_are_those_of_the_terminal() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--watch=false"]);
    front.get("/pid").ok();
    let status = |columns, set: &[(&str, &str)], arguments: &[&str]| {
        let mut command = front::hatchery(front.path(), arguments);
        command.env("HATCHERY_ADMIN", front.admin()).env_remove("NO_COLOR").envs(set.iter().copied());
        Terminal::of(command, columns, 24)
    };
    let mut coloured = status(120, &[], &["status"]);
    assert!(coloured.ended().0.success() && coloured.screen.coloured, "{:?}", coloured.screen);
    let mut plain = status(120, &[("NO_COLOR", "1")], &["status"]);
    assert!(plain.ended().0.success() && !plain.screen.coloured);
    let mut narrow = status(40, &[], &["status"]);
    narrow.ended();
    let lines = narrow.screen.text();
    assert!(lines.iter().any(|line| line.ends_with('…')) && lines.iter().all(|line| line.chars().count() <= 40));
    let piped = text(&front.say(&["status"]));
    assert!(!piped.contains('\u{1b}') && !piped.contains('…') && piped.lines().any(|line| line.len() > 60), "{piped}");

    let mut watched = status(100, &[], &["status", "--watch=0.1"]);
    watched.until("running");
    front.get("/pid").ok();
    watched.until("2 served");
    let lines = watched.screen.text();
    assert_eq!(
        lines.iter().filter(|line| line.starts_with("hatchery ")).count(),
        1,
        "it is drawn in place: {lines:#?}"
    );
    watched.press("\u{3}");
    assert!(watched.ended().0.success());
}

/// What monitoring gets: the exit status and the line.
fn health(front: &Front, arguments: &[&str]) -> (Option<i32>, String) {
    let output = front.say(&[&["health"], arguments].concat());
    let line = String::from_utf8(output.stdout).expect("text");
    assert_eq!(line.lines().count(), 1, "{line}");
    (output.status.code(), line)
}

#[test]
fn monitoring_is_told_how_the_pool_is() {
    let (app, broken) = (apps::worker(), apps::script("exit 3"));
    let at = format!("/broken={}", broken.root().display());
    let mut front = Front::of(app.root(), &["--watch=false", "--max=1", "--breaker-failures=1", "--app", &at]);
    let name = name(&app);
    front.get("/pid").ok();
    let (status, line) = health(&front, &[]);
    assert!(status == Some(0) && line.starts_with("HATCHERY OK - 2 applications, 1 of 1 workers, "), "{line}");
    assert!(line.contains(" | workers=1;;1;0;1 active=0;;;0 waiting=0;;;0 "), "{line}");

    text(&front.say(&["disable", &name]));
    let (status, line) = health(&front, &["--app", &name]);
    assert!(status == Some(1) && line.contains("is disabled by the operator"), "{line}");
    text(&front.say(&["enable", &name]));

    let gate = app.root().join("gate");
    let mut open = front.browser();
    open.ask("GET", &format!("/until?{}", gate.display()), "");
    front.until("active", 1);
    let mut waiting = front.browser();
    waiting.ask("GET", "/pid", "");
    front.until("waiting", 1);
    let (status, line) = health(&front, &["--critical-waiting", "2"]);
    assert!(status == Some(1) && line.contains("the pool is full"), "{line}");
    let (status, line) = health(&front, &["--critical-waiting", "1"]);
    assert!(status == Some(2) && line.contains("waiting=1;;1;0"), "{line}");
    std::fs::write(gate, "").unwrap();
    assert_eq!((open.answer().status, waiting.answer().status), (200, 200));
    until_blocking("all is well", || (health(&front, &[]).0 == Some(0)).then_some(()));

    assert_ne!(front.get("/broken/").status, 200);
    let (status, line) = health(&front, &[]);
    assert!(
        status == Some(2) && line.starts_with("HATCHERY CRITICAL - ") && line.contains("by its failures"),
        "{line}"
    );
    assert_eq!(health(&front, &["--app", &name]).0, Some(0), "this one is well");

    for wrong in
        [&["--app", "nobody"][..], &["--warn-waiting", "5", "--critical-waiting", "4"], &["--nonsense"], &["-n"]]
    {
        let (status, line) = health(&front, wrong);
        assert!(status == Some(3) && line.starts_with("HATCHERY UNKNOWN - "), "{wrong:?}: {line}");
    }
    front.signal(Signal::SIGTERM);
    front.ended();
    let (status, line) = health(&front, &[]);
    assert!(status == Some(2) && line.contains("no pool is running"), "{line}");
    assert_eq!(front::run(front::hatchery(front.path(), ["health", "--admin", "none"])).0, Some(3));
}

#[test]
fn a_shutdown_returns_once_the_pool_is_gone() {
    let app = apps::worker();
    let mut front = Front::of(app.root(), &["--watch=false"]);
    let pool = front.pool();
    let gate = app.root().join("gate");
    let mut open = front.browser();
    open.ask("GET", &format!("/until?{}", gate.display()), "");
    front.until("active", 1);
    let shutdown = Going::on(&front, &["shutdown"]);
    until_blocking("nothing new comes in", || std::net::TcpStream::connect(front.address()).is_err().then_some(()));
    std::fs::write(gate, "").unwrap();
    assert_eq!(open.answer().status, 200, "what was open has its time");
    assert_eq!(shutdown.ended(), (Some(0), String::new()));
    assert!(front.ended().success());
    front.nothing_is_left(&pool);
}

#[test]
fn shells_complete_it_and_man_shows_it() {
    let folder = front::folder();
    let run = |arguments: &[&str]| text(&front::hatchery(folder.path(), arguments).output().expect("hatchery"));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(run(&["completions", shell]).contains("restart"), "{shell}");
    }
    let script = folder.path().join("completion");
    std::fs::write(&script, run(&["completions", "bash"])).unwrap();
    if support::has("bash", "shells_complete_it_and_man_shows_it") {
        let asks = "source completion; COMP_WORDS=(hatchery sta); COMP_CWORD=1; _hatchery hatchery sta hatchery; \
                    echo ${COMPREPLY[@]}";
        let mut bash = Command::new("bash");
        let said = bash.args(["--norc", "-c", asks]).current_dir(folder.path()).output().expect("bash");
        assert_eq!(String::from_utf8_lossy(&said.stdout).trim(), "status start", "{said:?}");
    }
    assert!(run(&["man"]).starts_with(".ie"), "{}", run(&["man"]));
    let pages = folder.path().join("share/man/man1");
    assert_eq!(run(&["man", "--dir", pages.to_str().unwrap()]), "");
    assert!(pages.join("hatchery-health.1").exists() && !pages.join("hatchery-demo-app.1").exists());
    let taken = folder.path().join("completion");
    let refused = front::run(front::hatchery(folder.path(), ["man", "--dir", taken.to_str().unwrap()]));
    assert!(refused.0 == Some(1) && refused.1.contains("completion"), "{refused:?}");
}

#[test]
fn an_application_whose_folder_has_a_blank_is_named_like_any_other() {
    let worker = apps::worker();
    let root = worker.root().join("my shop");
    std::fs::create_dir(&root).unwrap();
    apps::open_to_all(&root);
    std::fs::copy(worker.root().join("hatchery.toml"), root.join("hatchery.toml")).unwrap();
    [root.clone(), root.join("hatchery.toml")].iter().for_each(|path| apps::give(path, apps::NOBODY));
    let front = Front::of(&root, &["--watch=false"]);
    let pid = front.get("/pid").ok();
    for words in [
        &["restart", "my shop"][..],
        &["status", "my shop"],
        &["sessions", "my shop"],
        &["logs", "my shop"],
        &["set", "my shop", "max_requests=100"],
        &["get", "my shop", "max_requests"],
        &["disable", "my shop", "it's", "moved"],
        &["enable", "my shop"],
        &["health", "--app", "my shop"],
    ] {
        let said = front.say(words);
        assert!(said.status.success(), "{words:?}: {said:?}");
    }
    assert_ne!(front.get("/pid").ok(), pid);
}
