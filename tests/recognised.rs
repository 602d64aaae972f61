//! What a request is recognised by: its line in the pool's status, and its trace in the application and in the log.

mod support;

use std::path::Path;
use support::folders;
use support::front::Front;
use support::http::Browser;
use support::{apps, has, until_blocking};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

fn context() -> String {
    format!("traceparent: 00-{TRACE}-b7ad6b7169203331-01\r\ntracestate: a=1,b=2\r\nbaggage: user=7;x=1\r\n")
}

/// The three headers as the app at `path` has got them.
fn is_told(front: &Front, path: impl Fn(&str) -> String) {
    for (name, value) in [
        ("traceparent", format!("00-{TRACE}-b7ad6b7169203331-01")),
        ("tracestate", "a=1,b=2".to_owned()),
        ("baggage", "user=7;x=1".to_owned()),
    ] {
        let mut browser = front.browser();
        browser.ask("GET", &path(name), &context());
        assert_eq!(browser.answer().ok().trim_end(), value, "{name}");
    }
}

#[test]
fn a_trace_reaches_an_app_that_speaks_http() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "1"]);
    is_told(&front, |name| format!("/header?{name}"));
    assert!(front.end().success());
}

#[test]
fn a_trace_reaches_an_app_that_speaks_session() {
    if !has("python3", "a WSGI application") {
        return;
    }
    let app = folders::empty();
    app.write(
        "app.py",
        "def application(environ, start):\n    start('200 OK', [('Content-Type', 'text/plain')])\n    \
         return [environ.get('HTTP_' + environ['QUERY_STRING'].upper(), '').encode()]\n",
    );
    app.write("hatchery.toml", "type = \"wsgi\"\nentry = \"app:application\"\n");
    let front = Front::of(app.root(), &["--max", "1"]);
    is_told(&front, |name| format!("/?{name}"));
    assert!(front.end().success());
}

#[test]
fn a_trace_reaches_an_app_that_speaks_fastcgi() {
    if !has("php-cgi", "PHP through FastCGI") {
        return;
    }
    let app = folders::empty();
    app.write("index.php", "<?php echo $_SERVER['HTTP_' . strtoupper($_SERVER['QUERY_STRING'])];");
    app.write("hatchery.toml", "type = \"php\"\nentry = \"index.php\"\n");
    let front = Front::of(app.root(), &["--max", "1"]);
    is_told(&front, |name| format!("/?{name}"));
    assert!(front.end().success());
}

#[test]
fn a_failed_request_is_logged_with_its_trace() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "1", "--log-format", "json"]);
    let fail = |headers: &str| {
        let mut browser = front.browser();
        browser.ask("GET", "/nonsense", headers);
        assert_eq!(browser.answer().status, 502);
    };
    fail("traceparent: 00-nonsense-01\r\n");
    fail(&context());
    let lines = until_blocking("both are logged", || {
        let lines =
            front.log().lines().filter(|line| line.contains("no answer from")).map(str::to_owned).collect::<Vec<_>>();
        (lines.len() == 2).then_some(lines)
    });
    let lines: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!((&lines[0]["trace_id"], &lines[1]["trace_id"]), (&serde_json::Value::Null, &TRACE.into()));
    assert!(front.say(&["stop", &app.root().display().to_string()]).status.success());
    let mut browser = front.browser();
    browser.ask("GET", "/", &context());
    assert_eq!(browser.answer().status, 503);
    until_blocking("the refusal is logged", || {
        let log = front.log();
        log.lines().any(|line| line.contains("is stopped") && line.contains(TRACE)).then_some(())
    });
    assert!(front.end().success());
}

fn doing(front: &Front) -> String {
    let doing = front.status()["apps"][0]["workers"][0]["doing"][0].clone();
    doing.as_str().unwrap_or_default().to_owned()
}

/// Begins a request that lasts until the gate is opened.
fn begin(front: &Front, gate: &Path, headers: &str) -> Browser {
    let mut browser = front.browser();
    browser.ask("GET", &format!("/until?{}", gate.display()), headers);
    front.until("active", 1);
    browser
}

#[test]
fn the_pool_is_told_what_each_session_is_for() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "1"]);
    let gate = app.root().join("gate");
    let mut browser = begin(&front, &gate, "");
    assert_eq!(doing(&front), format!("GET /until?{} from 127.0.0.1", gate.display()));
    std::fs::write(&gate, "").expect("a test's own file");
    assert_eq!(browser.answer().status, 200);
    // A proxy on this machine says for whom it asks.
    let other = app.root().join("other");
    let mut browser = begin(&front, &other, "X-Forwarded-For: 192.0.2.7\r\n");
    assert!(doing(&front).ends_with(" from 192.0.2.7"), "{}", doing(&front));
    std::fs::write(&other, "").expect("a test's own file");
    assert_eq!(browser.answer().status, 200);
    assert!(front.end().success());
}
