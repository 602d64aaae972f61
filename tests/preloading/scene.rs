//! An app that is preloaded, and what is seen of it from outside.

use crate::support::apps::{self, App};
use crate::support::front::Front;
use crate::support::{processes, runtimes, until_blocking};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// The app of these tests, with this text before its own; `None`: the test is to be skipped.
pub(crate) fn app(test: &str, before: &str) -> Option<App> {
    let python = runtimes::plain_python(test)?;
    let interpreter = python.to_str().expect("a path of text");
    let app = apps::with_manifest(&format!("type = \"wsgi\"\nentry = \"shop.py\"\ninterpreter = {interpreter:?}\n"));
    app.write("shop.py", &format!("{before}{}", include_str!("app.py")));
    app.write("stock.py", "VERSION = 1\n");
    Some(app)
}

/// Serves it. What it writes down, and what tests edit, restarts nothing.
pub(crate) fn serve(app: &App, options: &[&str]) -> Front {
    Front::of(app.root(), &[&["--watch=false"][..], options].concat())
}

/// What it wrote down, each line in words.
pub(crate) fn notes(app: &App, what: &str) -> Vec<Vec<String>> {
    let notes = std::fs::read_to_string(app.root().join("notes")).unwrap_or_default();
    let lines = notes.lines().map(|line| line.split(' ').map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|words| words[0] == what).collect()
}

/// The pids in such lines.
pub(crate) fn noted(app: &App, what: &str) -> Vec<i32> {
    notes(app, what).into_iter().map(|words| words[1].parse().expect("a pid")).collect()
}

/// The first app's workers that serve, by their pids.
pub(crate) fn workers(front: &Front) -> BTreeSet<i32> {
    listed(front, "workers")
        .into_iter()
        .filter(|(_, state)| state == "ready" || state == "busy")
        .map(|(pid, _)| pid)
        .collect()
}

/// Its preloaders that are ready.
pub(crate) fn preloaders(front: &Front) -> Vec<i32> {
    listed(front, "preloaders").into_iter().filter(|(_, state)| state == "ready").map(|(pid, _)| pid).collect()
}

fn listed(front: &Front, what: &str) -> Vec<(i32, String)> {
    let status = front.status();
    let listed = status["apps"][0][what].as_array().cloned().unwrap_or_default().into_iter();
    let pid = |one: &serde_json::Value| i32::try_from(one["pid"].as_i64()?).ok();
    listed.filter_map(|one| Some((pid(&one)?, one["state"].as_str()?.to_owned()))).collect()
}

/// Asks for so much at once that there are so many workers.
pub(crate) fn fill(front: &Front, count: usize) -> BTreeSet<i32> {
    let (filled, failed) = under_load(front, count, "/sleep?0.05", || {
        until_blocking("there are as many workers as are needed", || {
            Some(workers(front)).filter(|workers| workers.len() == count)
        })
    });
    assert!(failed.is_empty(), "{failed:?}");
    filled
}

/// Asks for `path` over and over from so many clients until `work` is done; what was not answered with 200.
pub(crate) fn under_load<T>(front: &Front, clients: usize, path: &str, work: impl FnOnce() -> T) -> (T, Vec<String>) {
    let (answered, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let (answered, over) = (&answered, &over);
        let ask = || {
            let (mut browser, mut failed) = (front.browser(), Vec::new());
            while !over.load(Ordering::SeqCst) {
                let answer = browser.get(path);
                answered.fetch_add(1, Ordering::SeqCst);
                if answer.status != 200 {
                    failed.push(format!("{answer:?}"));
                }
                if answer.header("connection") == "close" {
                    browser = front.browser();
                }
            }
            failed
        };
        let asking: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        let done = {
            // However this ends, the clients must not go on.
            let _ends = Ends(over);
            let done = work();
            let before = answered.load(Ordering::SeqCst);
            until_blocking("it goes on", || (answered.load(Ordering::SeqCst) >= before + clients).then_some(()));
            done
        };
        (done, asking.into_iter().flat_map(|client| client.join().expect("a client")).collect())
    })
}

struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Replaces a file of the app's at once.
pub(crate) fn replace(app: &App, name: &str, text: &str) {
    let new = app.write(&format!("{name}.new"), text);
    std::fs::rename(new, app.root().join(name)).expect("a rename");
}

/// Waits until none of these lives.
pub(crate) fn gone(pids: impl IntoIterator<Item = i32>) {
    let pids: Vec<i32> = pids.into_iter().collect();
    until_blocking("they are gone", || pids.iter().all(|pid| !processes::lives(*pid)).then_some(()));
}

/// A line of `/proc/PID/status`, its words.
pub(crate) fn words(pid: i32, name: &str) -> Vec<String> {
    let status = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("status"));
    let status = status.expect("a process that lives");
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {name} in {status}")).split_whitespace().map(str::to_owned).collect()
}
