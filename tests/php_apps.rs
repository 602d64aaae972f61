//! A PHP application as people write them, through `hatchery serve`: a front controller with routes, classes found by
//! composer's loader, scripts and files beside it.

mod support;

use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use support::folders::{self, Folder};
use support::front::Front;
use support::http::{Answer, Browser};
use support::{processes, until_blocking};

fn shop() -> Option<Folder> {
    support::has("php-cgi", "PHP applications").then(|| folders::copy("php_apps/shop"))
}

fn post(browser: &mut Browser, path: &str, kind: &str, body: &str) -> Answer {
    browser.ask("POST", path, &format!("Content-Type: {kind}\r\nContent-Length: {}\r\n", body.len()));
    browser.send(body);
    browser.answer()
}

#[test]
fn routes_scripts_and_files_have_their_addresses() {
    let Some(app) = shop() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    assert!(front.first.contains("(PHP, public/index.php, php-cgi)"), "{}", front.first);
    let mut browser = front.browser();
    assert_eq!(browser.get("/").ok(), "Hello from PHP");
    assert_eq!(browser.get("/products/7?colour=red").ok(), "product 7");
    let missing = browser.get("/products/seven");
    assert_eq!((missing.status, missing.body.as_str()), (404, "nothing here"));
    assert_eq!(browser.get("/index.php").status, 404, "it has no route of that name, but it is the one asked");

    let style = browser.get("/style.css");
    assert_eq!((style.header("content-type"), style.body.as_str()), ("text/css", "p { color: red }\n"));
    assert_eq!(browser.get("/logo.png").header("content-type"), "image/png");
    let tool: serde_json::Value = serde_json::from_str(&browser.get("/tool.php/a/b%20c?x=1").ok()).expect("JSON");
    for (name, value) in [("SCRIPT_NAME", "/tool.php"), ("PATH_INFO", "/a/b c"), ("QUERY_STRING", "x=1")] {
        assert_eq!(tool[name], value, "{name}: {tool}");
    }
    for path in
        ["/../composer.json", "/..%2fcomposer.json", "/composer.json", "/src/Router.php", "/vendor/autoload.php"]
    {
        let answer = browser.get(path);
        assert_eq!(answer.status, 404, "{path}: {answer:?}");
    }
    assert!(front.end().success());
}

#[test]
fn forms_json_and_uploads_arrive() {
    let Some(app) = shop() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    let thanks =
        post(&mut browser, "/form", "application/x-www-form-urlencoded", "name=a%20b&colours[]=red&colours[]=blue");
    let expected = "/thanks?name=a+b&colours%5B0%5D=red&colours%5B1%5D=blue";
    assert_eq!((thanks.status, thanks.header("location")), (303, expected));
    let twice = post(&mut browser, "/json", "application/json", "{\"number\": 21}");
    assert_eq!(twice.ok(), "{\"twice\":42}");
    // Debian's php.ini takes 2 MB at most.
    let content: String = (0..150_000).map(|line| format!("{line:09}\n")).collect();
    let body = format!(
        "--cut\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nfor you\r\n\
         --cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a b.txt\"\r\n\
         Content-Type: text/plain\r\n\r\n{content}\r\n--cut--\r\n"
    );
    let said = post(&mut browser, "/upload", "multipart/form-data; boundary=cut", &body).ok();
    assert_eq!(said, "a b.txt 1500000 0 28628fe55d87bf35956c662cce76ccb0 for you");
    assert!(front.end().success());
}

#[test]
fn a_session_is_kept_over_workers() {
    let Some(app) = shop() else { return };
    let front = Front::of(app.root(), &["--max", "2"]);
    let mut cookie = String::new();
    for count in 1..=3 {
        let mut browser = front.browser();
        browser.ask("GET", "/count", &format!("Cookie: {cookie}\r\n"));
        let answer = browser.answer();
        if let Some((given, _)) = answer.header("set-cookie").split_once(';') {
            given.clone_into(&mut cookie);
        }
        assert_eq!(answer.ok(), count.to_string());
    }
    assert!(front.end().success());
}

#[test]
fn a_worker_answers_more_requests_than_php_cgi_would_by_itself() {
    let Some(app) = shop() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    let pid = browser.get("/pid").ok();
    // By itself it leaves after 500.
    for _ in 0..1200 {
        assert_eq!(browser.get("/pid").ok(), pid);
    }
    assert_eq!(front.status()["apps"][0]["generation"], 1);
    assert!(front.end().success());
}

#[test]
fn as_many_requests_as_workers_are_answered_at_once_and_the_rest_wait() {
    let Some(app) = shop() else { return };
    let front = Front::of(app.root(), &["--max", "3"]);
    let path = format!("/slow?until={}", app.word("go-on").display());
    let mut browsers: Vec<Browser> = (0..5).map(|_| front.browser()).collect();
    for browser in &mut browsers {
        browser.ask("GET", &path, "");
    }
    front.until("active", 3);
    front.until("waiting", 2);
    assert_eq!(front.status()["count"], 3);
    app.say("go-on");
    let pids: BTreeSet<String> = browsers.iter_mut().map(|browser| browser.answer().ok()).collect();
    assert_eq!(pids.len(), 3, "{pids:?}");
    assert!(front.end().success());
}

#[test]
fn a_worker_that_is_killed_in_the_middle_breaks_its_answer_off_and_is_replaced() {
    let Some(app) = shop() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    browser.ask("GET", &format!("/stream?until={}", app.word("never").display()), "");
    assert_eq!(browser.answer_head().status, 200);
    let pid = browser.chunk().expect("its pid").parse().expect("a pid");
    processes::kill(pid, Signal::SIGKILL);
    assert_eq!(browser.rest(), "", "no end that looks like one");
    until_blocking("it is logged", || front.log().contains(&format!("{pid}")).then_some(()));
    let other = front.get("/pid").ok();
    assert_ne!(other, pid.to_string());

    // Nothing was answered yet: what may be repeated is.
    let word = app.word("go-on");
    let mut browser = front.browser();
    browser.ask("GET", &format!("/slow?until={}", word.display()), "");
    front.until("active", 1);
    processes::kill(other.parse().expect("a pid"), Signal::SIGKILL);
    app.say("go-on");
    assert_ne!(browser.answer().ok(), other);
    assert!(front.end().success());
}

#[test]
fn an_exception_is_an_answer_and_a_line_and_the_worker_lives() {
    let Some(app) = shop() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    let pid = browser.get("/pid").ok();
    for _ in 0..3 {
        assert_eq!(browser.get("/raise").status, 500);
    }
    until_blocking("it is logged", || front.log().contains("this went wrong").then_some(()));
    assert_eq!(browser.get("/pid").ok(), pid);
    assert!(front.end().success());
}

#[test]
fn a_changed_script_is_answered_at_once() {
    let Some(app) = shop() else { return };
    let front = Front::of(app.root(), &["--max", "1", "--watch=false"]);
    let mut browser = front.browser();
    let pid = browser.get("/pid").ok();
    app.write("public/new.php", "<?php echo 'new ', getmypid();");
    assert_eq!(browser.get("/new.php").ok(), format!("new {pid}"));
    assert!(front.end().success());
}
