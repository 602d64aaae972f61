//! Node applications as people write them, through `hatchery serve`: Express and Fastify from npm, modules, start
//! scripts, clusters.

mod support;

use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use support::folders::{self, Folder};
use support::front::Front;
use support::http::{Answer, Browser};
use support::{processes, runtimes, until_blocking, websocket};

/// All that the applications here depend on.
const PACKAGES: [&str; 4] = ["express@5", "ws@8", "fastify@5", "@fastify/websocket@11"];

/// A copy of an app of `node_apps/`, if there is a Node for it.
fn plain(name: &str) -> Option<Folder> {
    support::has("node", "Node applications").then(|| folders::copy(&format!("node_apps/{name}")))
}

/// The same, with `node_modules`.
fn with_packages(name: &str) -> Option<Folder> {
    let installed = runtimes::node(&format!("the Node application {name}"), &PACKAGES)?;
    let app = folders::copy(&format!("node_apps/{name}"));
    std::os::unix::fs::symlink(installed.join("node_modules"), app.root().join("node_modules")).expect("a link");
    Some(app)
}

fn post(browser: &mut Browser, path: &str, kind: &str, body: &str) -> Answer {
    browser.ask("POST", path, &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()));
    browser.send(body);
    browser.answer()
}

fn json(answer: Answer) -> serde_json::Value {
    serde_json::from_str(&answer.ok()).expect("JSON")
}

/// 5 MB, in two ways.
fn takes_uploads_as_they_come(browser: &mut Browser) {
    let body: String = (0..500_000).map(|line| format!("{line:09}\n")).collect();
    let expected = serde_json::json!({"size": 5_000_000, "md5": "498b82256bd9d3ee1565dfca3e7afb26", "streamed": true});
    assert_eq!(json(post(browser, "/upload", "application/octet-stream", &body)), expected);
    browser.ask("POST", "/upload", "Content-Type: application/octet-stream\r\nTransfer-Encoding: chunked\r\n");
    for piece in body.as_bytes().chunks(70_000) {
        browser.send(format!("{:x}\r\n", piece.len()));
        browser.send(piece);
        browser.send("\r\n");
    }
    browser.send("0\r\n\r\n");
    assert_eq!(json(browser.answer()), expected);
}

fn streams(browser: &mut Browser, app: &Folder) {
    browser.ask("GET", &format!("/stream?until={}", app.word("go-on").display()), "");
    assert_eq!(browser.answer_head().status, 200);
    assert_eq!(browser.chunk().as_deref(), Some("begun"), "it is sent before the rest is there");
    app.say("go-on");
    assert_eq!(browser.chunk().as_deref(), Some(" done"));
    assert_eq!(browser.chunk(), None);
}

fn speaks_websocket(front: &Front) {
    let mut sockets = [websocket::open(front, "/socket"), websocket::open(front, "/socket")];
    for text in ["Hello", "wörld", ""] {
        for socket in &mut sockets {
            websocket::say(socket, text);
            assert_eq!(websocket::hear(socket), text);
        }
    }
    sockets.into_iter().for_each(websocket::close);
    front.until("active", 0);
}

fn is_logged(front: &Front, text: &str) {
    until_blocking(text, || front.log().contains(text).then_some(()));
}

#[test]
fn express_answers_forms_json_uploads_and_streams() {
    let Some(app) = with_packages("express") else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    assert!(front.first.contains("(Node, server.js, node)"), "{}", front.first);
    let mut browser = front.browser();
    assert_eq!(browser.get("/").ok(), "Hello from Express");
    is_logged(&front, "listens at 3000");
    assert_eq!(browser.head("/").header("content-length"), "18");
    let etag = browser.get("/").header("etag").to_owned();
    browser.ask("GET", "/", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!(browser.answer().status, 304);
    assert_eq!(json(browser.get("/products/a%20b")), serde_json::json!({"id": "a b"}));
    assert_eq!(browser.get("/style.css").ok(), "p { color: red }\n");
    assert_eq!(json(post(&mut browser, "/json", "application/json", "{\"number\": 21}"))["twice"], 42);
    assert_eq!(post(&mut browser, "/json", "application/json", "{\"number\": ").status, 400);
    let thanks = post(&mut browser, "/form", "application/x-www-form-urlencoded", "name=you");
    assert_eq!((thanks.status, thanks.header("location")), (303, "/thanks?name=you"));
    takes_uploads_as_they_come(&mut browser);
    streams(&mut browser, &app);
    let pid = browser.get("/pid").ok();
    for path in ["/raise", "/raise-later"] {
        assert_eq!(browser.get(path).status, 500, "{path}");
    }
    is_logged(&front, "this went wrong later");
    assert_eq!(browser.get("/pid").ok(), pid);
    assert!(front.end().success());
}

#[test]
fn express_speaks_websocket() {
    let Some(app) = with_packages("express") else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    speaks_websocket(&front);
    assert_eq!(front.get("/").ok(), "Hello from Express");
    assert!(front.end().success());
}

#[test]
fn fastify_checks_json_takes_uploads_and_streams() {
    let Some(app) = with_packages("fastify") else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    assert!(front.first.contains("(Node, app.js, node)"), "{}", front.first);
    let mut browser = front.browser();
    assert_eq!(browser.get("/").ok(), "Hello from Fastify");
    is_logged(&front, "it was told http://");
    assert_eq!(json(browser.get("/products/a%20b")), serde_json::json!({"id": "a b"}));
    assert_eq!(json(post(&mut browser, "/json", "application/json", "{\"number\": 21}"))["twice"], 42);
    let refused = post(&mut browser, "/json", "application/json", "{\"number\": \"many\"}");
    assert_eq!(refused.status, 400, "{refused:?}");
    takes_uploads_as_they_come(&mut browser);
    streams(&mut browser, &app);
    assert_eq!(browser.get("/raise").status, 500);
    is_logged(&front, "this went wrong");
    speaks_websocket(&front);
    let pid = browser.get("/pid").ok();
    assert!(front.end().success());
    assert!(app.root().join(format!("closed-{pid}")).exists(), "it closed in good order");
}

#[test]
fn many_clients_share_one_worker() {
    let Some(app) = with_packages("express") else { return };
    let front = Front::of(app.root(), &["--max", "4"]);
    let word = app.word("go-on");
    let mut browsers: Vec<Browser> = (0..20).map(|_| front.browser()).collect();
    for browser in &mut browsers {
        browser.ask("GET", &format!("/stream?until={}", word.display()), "");
    }
    for browser in &mut browsers {
        assert_eq!(browser.answer_head().status, 200);
    }
    assert_eq!(front.status()["count"], 1);
    app.say("go-on");
    for mut browser in browsers {
        assert_eq!(std::iter::from_fn(|| browser.chunk()).collect::<String>(), "begun done");
    }
    assert!(front.end().success());
}

#[test]
fn an_app_of_modules_may_wait_before_it_listens() {
    let Some(app) = with_packages("module") else { return };
    let front = Front::of(app.root(), &[]);
    assert!(front.first.contains("(Node, main.js, node)"), "{}", front.first);
    assert_eq!(front.get("/").ok(), "Hello from a module");
    assert!(front.end().success());
}

#[test]
fn a_start_script_that_is_more_than_node_is_run_by_npm() {
    let Some(app) = plain("npm_start") else { return };
    if !support::has("npm", "a start script that npm runs") {
        return;
    }
    let front = Front::of(app.root(), &["--max", "1"]);
    assert_eq!(front.get("/path").ok(), "--fast built /path");
    assert!(front.end().success());
}

#[test]
fn the_processes_of_a_cluster_share_the_socket_and_end_with_it() {
    let Some(app) = plain("cluster") else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut pids = BTreeSet::new();
    let mut parents = BTreeSet::new();
    let ask = |pids: &mut BTreeSet<i32>, parents: &mut BTreeSet<i32>| {
        let said = front.get("/").ok();
        let (parent, pid) = said.split_once(' ').expect("two pids");
        pids.insert(pid.parse().expect("a pid"));
        parents.insert(parent.parse().expect("a pid"));
    };
    until_blocking("both have answered", || {
        ask(&mut pids, &mut parents);
        (pids.len() == 2).then_some(())
    });
    let parents: Vec<i32> = parents.into_iter().collect();
    assert_eq!(front.status()["apps"][0]["workers"][0]["pid"], parents[0]);
    // One that dies is followed by another, which is the app's own matter. A connection that Node hands to one which is
    // dead already gets no answer: until the other is there nothing is asked.
    let dead = *pids.first().expect("one");
    processes::kill(dead, Signal::SIGKILL);
    until_blocking("another one is there", || {
        processes::children(parents[0]).iter().any(|pid| !pids.contains(pid)).then_some(())
    });
    let mut after = BTreeSet::new();
    until_blocking("another one answers", || {
        ask(&mut after, &mut BTreeSet::new());
        after.iter().any(|pid| !pids.contains(pid)).then_some(())
    });
    assert!(front.end().success());
}

#[test]
fn what_an_app_tells_a_process_manager_is_taken_by_nobody() {
    let Some(app) = plain("send") else { return };
    let front = Front::of(app.root(), &[]);
    assert_eq!(front.get("/").ok(), "ready");
    assert!(front.end().success());
}

#[test]
fn a_package_that_is_missing_is_named() {
    let Some(app) = plain("express") else { return };
    let front = Front::of(app.root(), &[]);
    let mut browser = front.browser();
    browser.ask("GET", "/", "Accept: application/json\r\n");
    let answer = browser.answer();
    assert_eq!(answer.status, 502);
    let report: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
    let problem = report["problem"].as_str().expect("a sentence");
    assert!(problem.contains("the package express is missing") && problem.contains("server.js"), "{problem}");
    let remedy = report["remedy"].as_str().expect("a sentence");
    assert!(remedy.contains("npm install") && remedy.contains(app.root().to_str().unwrap()), "{remedy}");
    assert!(front.end().success());
}
