//! What happens in a pool has one name each: in its log, in the stream of events, and in the docs.

mod support;

use hatchery_protocol::events::{EventName, Level, PoolEvent};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use support::apps::{self, App};
use support::front::Front;
use support::{PATIENCE, processes, until_blocking};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/events.md");

/// The stream of a pool's events, from the first on.
struct Told {
    lines: BufReader<UnixStream>,
    /// Those that were read and not asked for yet.
    unseen: VecDeque<PoolEvent>,
    all: Vec<PoolEvent>,
}

impl Told {
    fn by(front: &Front) -> Self {
        let mut stream = UnixStream::connect(front.admin()).expect("the admin socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        stream.write_all(b"events json 1000\n").expect("it is read");
        Self { lines: BufReader::new(stream), unseen: VecDeque::new(), all: Vec::new() }
    }

    fn read(&mut self) -> Option<PoolEvent> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(error) => panic!("no further event: {error}; so far {:?}", self.names()),
        }
        let event: PoolEvent = serde_json::from_str(line.strip_prefix("  ").expect("a data line")).expect("an event");
        self.all.push(event.clone());
        Some(event)
    }

    /// Waits for the next of this name. What came before it can still be waited for.
    fn until(&mut self, name: EventName) -> PoolEvent {
        self.until_one(name, |_| true)
    }

    /// The same for this reason.
    fn until_for(&mut self, name: EventName, reason: &str) -> PoolEvent {
        self.until_one(name, |event| event.reason.as_deref() == Some(reason))
    }

    fn until_one(&mut self, name: EventName, is_meant: impl Fn(&PoolEvent) -> bool) -> PoolEvent {
        let is_it = |event: &PoolEvent| event.event == name && is_meant(event);
        if let Some(at) = self.unseen.iter().position(is_it) {
            return self.unseen.remove(at).expect("it is there");
        }
        loop {
            let event = self.read().unwrap_or_else(|| panic!("no {} in {:?}", name.name(), self.names()));
            if is_it(&event) {
                return event;
            }
            self.unseen.push_back(event);
        }
    }

    /// Until the pool is gone.
    fn until_its_end(mut self) -> Vec<PoolEvent> {
        while self.read().is_some() {}
        self.all
    }

    fn names(&self) -> Vec<&'static str> {
        self.all.iter().map(|event| event.event.name()).collect()
    }
}

/// Worker, process, generation and reason.
fn whom(event: &PoolEvent) -> Value {
    json!([event.worker, event.pid, event.generation, event.reason])
}

fn name(app: &App) -> &str {
    app.root().file_name().and_then(|name| name.to_str()).expect("a name")
}

fn said(front: &Front, words: &[&str], status: i32) {
    let output = front.say(words);
    assert_eq!(output.status.code(), Some(status), "{words:?}: {output:?}");
}

#[test]
fn what_happens_is_told_alike_in_the_stream_and_in_the_log() {
    let app = apps::worker();
    let arguments = ["--log-format", "json", "--max", "2", "-e", "production"];
    let mut front = Front::of(app.root(), &arguments);
    let (shop, mut told) = (name(&app), Told::by(&front));
    told.until(EventName::PoolStarted);
    let added = told.until(EventName::AppAdded);
    assert_eq!((added.app.as_deref(), added.root.as_deref()), (Some(shop), app.root().to_str()));

    // It starts, serves, is replaced, and the old one leaves.
    let pid: i32 = front.get("/pid").ok().parse().unwrap();
    let (started, ready) = (told.until(EventName::WorkerStarted), told.until(EventName::WorkerReady));
    let first = ready.worker.expect("a worker");
    assert_eq!((whom(&started), whom(&ready)), (json!([first, pid, 1, null]), json!([first, pid, 1, null])));
    said(&front, &["restart", shop], 0);
    let (began, done) = (told.until(EventName::RestartBegan), told.until(EventName::RestartDone));
    assert_eq!((whom(&began), whom(&done)), (json!([null, null, 2, "graceful"]), json!([null, null, 2, null])));
    assert_eq!(whom(&told.until(EventName::WorkerStopping)), json!([first, pid, 1, "old_generation"]));
    assert_eq!(whom(&told.until(EventName::WorkerExited)), json!([first, pid, 1, "old_generation"]));

    // A version that can't be started.
    app.write("version", "broken");
    said(&front, &["restart", shop], 1);
    let failed = told.until(EventName::SpawnFailed);
    assert_eq!((failed.generation, failed.reason.as_deref()), (Some(3), Some("ready")), "{failed:?}");
    assert_eq!(whom(&told.until(EventName::RestartFailed)), json!([null, null, 3, "ready"]));
    app.write("version", "1");

    crashes_and_orders(&app, &front, &mut told);

    front.signal(Signal::SIGTERM);
    told.until(EventName::PoolEnding);
    assert!(front.ended().success());
    let events = told.until_its_end();
    let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, (1..=events.len() as u64).collect::<Vec<_>>(), "none was lost");
    same_in_the_log(&front, &events);
}

fn crashes_and_orders(app: &App, front: &Front, told: &mut Told) {
    let shop = name(app);
    let pid: i32 = front.get("/pid").ok().parse().unwrap();
    processes::kill(pid, Signal::SIGKILL);
    let died = told.until(EventName::WorkerDied);
    assert_eq!((died.pid, died.generation, died.reason.as_deref()), (Some(pid), Some(2), Some("signal")));
    assert_eq!(told.until_for(EventName::PostMortem, "died").pid, Some(pid));

    // A session is ended by hand; what it did is said.
    let mut open = front.browser();
    open.ask("GET", &format!("/hints?{}", app.root().join("gate").display()), "");
    assert_eq!(open.answer_head().status, 103, "its worker has it: it can't be asked again elsewhere");
    let session = until_blocking("there is a session", || {
        let status = front.status();
        let workers = status["apps"][0]["workers"].as_array().expect("workers").clone();
        workers.iter().find_map(|worker| worker["open"][0]["id"].as_u64())
    });
    said(front, &["end", &session.to_string()], 0);
    let ended = told.until(EventName::SessionEnded);
    assert_eq!((ended.session, ended.reason.as_deref()), (Some(session), Some("operator")));
    assert!(ended.app.as_deref() == Some(shop) && ended.worker.is_some() && ended.generation.is_some(), "{ended:?}");
    assert!(ended.text.contains("the operator ended it (GET /hints?"), "{ended:?}");
    assert_eq!(open.answer_head().status, 503);
    app.write("gate", "");

    said(front, &["disable", shop, "moves"], 0);
    assert_eq!(told.until(EventName::AppDisabled).reason.as_deref(), Some("operator"));
    said(front, &["enable", shop], 0);
    assert_eq!(told.until(EventName::AppEnabled).app.as_deref(), Some(shop));

    // Each request ends the worker that serves it, until the breaker opens.
    until_blocking("it is disabled", || {
        let mut browser = front.browser();
        browser.ask("GET", "/abort", "");
        (browser.answer().status == 503).then_some(())
    });
    let opened = told.until(EventName::BreakerOpened);
    assert_eq!((opened.app.as_deref(), opened.reason.as_deref()), (Some(shop), Some("died")));
    said(front, &["enable", shop], 0);
    told.until(EventName::BreakerClosed);
    said(front, &["reload"], 0);
    told.until(EventName::PoolReloaded);
    let pid = front.get("/pid").ok();
    said(front, &["retire", &pid], 0);
    assert_eq!(told.until_for(EventName::WorkerExited, "retired").pid, pid.parse().ok());
}

/// The log has a line for each event that is not of level debug, in their order, with the same members.
fn same_in_the_log(front: &Front, events: &[PoolEvent]) {
    let log = front.log();
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let known = |line: &Value| EventName::ALL.iter().any(|event| line["event"] == event.name());
    let lines: Vec<Value> = lines.filter(known).collect();
    let events: Vec<&PoolEvent> = events.iter().filter(|event| event.level != Level::Debug).collect();
    for (line, event) in lines.iter().zip(&events) {
        let event = serde_json::to_value(event).expect("JSON");
        for member in ["event", "app", "worker", "pid", "generation", "session", "reason"] {
            assert_eq!(line[member], event[member], "{member} of {line} and {event}");
        }
        let level = line["level"].as_str().expect("a level").to_lowercase();
        assert_eq!(event["level"], level, "{line}");
    }
    // What happened after the stream had ended is in the log alone.
    assert!(lines.len() >= events.len(), "{} lines of {} events: {log}", lines.len(), events.len());
}

#[test]
fn the_page_lists_every_event_and_every_reason() {
    let page = std::fs::read_to_string(PAGE).expect("the page");
    let mut table = String::from("| event | level | when |\n| --- | --- | --- |\n");
    for event in EventName::ALL {
        let level = serde_json::to_value(event.level()).expect("JSON");
        let level = level.as_str().expect("a word");
        let _ = writeln!(table, "| `{}` | {level} | {} |", event.name(), event.doc().trim());
    }
    let (begin, end) = ("<!-- events: begin -->\n", "<!-- events: end -->");
    let (before, rest) = page.split_once(begin).expect("a beginning");
    let (_, after) = rest.split_once(end).expect("an end");
    let current = format!("{before}{begin}{table}{end}{after}");
    if std::env::var_os("HATCHERY_WRITE_DOCS").is_some() {
        std::fs::write(PAGE, &current).expect("the page");
    } else {
        assert!(page == current, "{PAGE} is out of date: run this test with HATCHERY_WRITE_DOCS=1");
    }
    let words = include_str!("../pool-server/src/core/words.rs");
    let words = words.lines().filter_map(|line| Some(line.split_once("=> \"")?.1.split_once('"')?.0));
    let missing: Vec<&str> = words.filter(|word| !current.contains(&format!("`{word}`"))).collect();
    assert!(missing.is_empty(), "{PAGE} lacks {missing:?}");
}
