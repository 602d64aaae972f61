//! Ruby applications as people write them, through `hatchery serve`: Sinatra, and Rack alone with its own judge.

mod support;

use nix::sys::signal::Signal;
use support::folders::{self, Folder};
use support::front::Front;
use support::{http::Browser, processes, runtimes, until_blocking, websocket};

/// A copy of an app of `ruby_apps/`, if Ruby and what it requires are there; else that is said loudly.
fn app(name: &str, library: &str) -> Option<Folder> {
    let has = runtimes::ruby(&format!("the Ruby application {name}"), library);
    has.then(|| folders::copy(&format!("ruby_apps/{name}")))
}

fn sinatra() -> Option<Folder> {
    app("sinatra", "sinatra")
}

fn rack() -> Option<Folder> {
    app("rack", "rack")
}

fn form(browser: &mut Browser, path: &str, body: &str) -> support::http::Answer {
    let headers = format!("Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n", body.len());
    browser.ask("POST", path, &headers);
    browser.send(body);
    browser.answer()
}

/// What a browser sends of a form with one file.
fn multipart(content: &str) -> (String, String) {
    let body = format!(
        "--cut\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a b.txt\"\r\n\
         Content-Type: text/plain\r\n\r\n{content}\r\n--cut--\r\n"
    );
    (format!("Content-Type: multipart/form-data; boundary=cut\r\nContent-Length: {}\r\n", body.len()), body)
}

/// 5 MB that are not the same anywhere.
fn long() -> String {
    (0..500_000).map(|line| format!("{line:09}\n")).collect()
}

fn md5_of_long() -> &'static str {
    "498b82256bd9d3ee1565dfca3e7afb26"
}

fn begins_and_goes_on(browser: &mut Browser, app: &Folder) {
    browser.ask("GET", &format!("/stream?until={}", app.word("go-on").display()), "");
    assert_eq!(browser.answer_head().status, 200);
    assert_eq!(browser.chunk().as_deref(), Some("begun"), "it is sent before the rest is there");
    app.say("go-on");
    assert_eq!(browser.chunk().as_deref(), Some(" done"));
    assert_eq!(browser.chunk(), None);
}

fn lives_on(front: &Front, browser: &mut Browser) {
    let pid = browser.get("/pid").ok();
    for _ in 0..3 {
        let answer = browser.get("/raise");
        assert_eq!(answer.status, 500, "{answer:?}");
    }
    until_blocking("it is logged", || front.log().contains("this went wrong").then_some(()));
    assert_eq!(browser.get("/pid").ok(), pid);
}

#[test]
fn sinatra_answers_forms_uploads_and_streams() {
    let Some(app) = sinatra() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    assert!(front.first.contains("(Rack, config.ru, ruby)"), "{}", front.first);
    let mut browser = front.browser();
    assert_eq!(browser.get("/").ok(), "Hello from Sinatra");
    assert_eq!(browser.get("/hello/J%C3%BCrgen%20%26%20a%2Bb").ok(), "Hello, Jürgen & a+b");
    assert_eq!(browser.head("/").header("content-length"), "18");
    assert_eq!(form(&mut browser, "/form", "name=a%20b&count=3").ok(), "a b wants 3");
    assert_eq!(browser.get("/style.css").ok(), "p { color: red }\n");
    browser.ask("GET", "/style.css", "Range: bytes=4-8\r\n");
    let part = browser.answer();
    assert_eq!((part.status, part.header("content-range"), part.body.as_str()), (206, "bytes 4-8/17", "color"));
    assert_eq!(browser.get("/teapot").status, 418);
    let away = browser.get("/away");
    assert_eq!((away.status, away.header("location")), (302, "http://localhost/"));
    assert_eq!(browser.get("/nowhere").status, 404);

    let (headers, body) = multipart(&long());
    browser.ask("POST", "/upload", &headers);
    browser.send(body);
    assert_eq!(browser.answer().ok(), format!("a b.txt 5000000 {}", md5_of_long()));
    begins_and_goes_on(&mut browser, &app);
    lives_on(&front, &mut browser);
    assert!(front.end().success());
}

#[test]
fn in_production_an_exception_is_told_to_the_log_alone() {
    for app in [sinatra(), rack()].into_iter().flatten() {
        let front = Front::of(app.root(), &["--max", "1", "-e", "production"]);
        let mut browser = front.browser();
        lives_on(&front, &mut browser);
        let page = browser.get("/raise").body;
        assert!(!page.contains("went wrong") && !page.contains(".rb"), "{page}");
        assert!(front.end().success());
    }
}

#[test]
fn sinatra_keeps_a_session_over_its_workers() {
    let Some(app) = sinatra() else { return };
    let front = Front::of(app.root(), &["--max", "2"]);
    let mut cookie = String::new();
    for count in 1..=3 {
        let mut browser = front.browser();
        browser.ask("GET", "/count", &format!("Cookie: {cookie}\r\n"));
        let answer = browser.answer();
        cookie = answer.header("set-cookie").split(';').next().expect("a cookie").to_owned();
        assert_eq!(answer.ok(), count.to_string());
    }
    assert!(front.end().success());
}

/// What two workers tell of themselves, which are there since neither of two requests is answered before both wait.
fn two_workers(front: &Front, app: &Folder) -> [serde_json::Value; 2] {
    let path = format!("/wait?until={}", app.word("both-wait").display());
    let mut browsers = [front.browser(), front.browser()];
    for browser in &mut browsers {
        browser.ask("GET", &path, "");
    }
    front.until("active", 2);
    app.say("both-wait");
    browsers.map(|mut browser| serde_json::from_str(&browser.answer().ok()).expect("JSON"))
}

fn preloader(front: &Front) -> i32 {
    until_blocking("there is a preloader", || {
        let status = front.status();
        let preloader = &status["apps"][0]["preloaders"][0];
        (preloader["state"] == "ready").then(|| preloader["pid"].as_i64()?.try_into().ok()).flatten()
    })
}

#[test]
fn workers_of_sinatra_are_forked_from_its_preloader_and_their_hooks_are_run() {
    let Some(app) = sinatra() else { return };
    // Until the preloader is up the app may be started directly.
    let front = Front::of(app.root(), &["--max", "2", "--max-idle", "1h"]);
    assert_eq!(front.get("/").ok(), "Hello from Sinatra");
    let preloader = preloader(&front);
    let keeper = front.keeper();
    let lives = two_workers(&front, &app);
    assert_ne!(lives[0]["pid"], lives[1]["pid"]);
    let forked: Vec<_> = lives.iter().filter(|life| life["loaded_by"] == preloader).collect();
    assert!(!forked.is_empty(), "{lives:?}");
    for life in &lives {
        let pid = i32::try_from(life["pid"].as_i64().expect("a pid")).expect("a pid");
        assert_eq!(processes::parent(pid), Some(keeper));
        let by_fork = life["loaded_by"] == preloader;
        assert_eq!(life["starts"], serde_json::json!([by_fork]), "{life}");
        assert_eq!(life["forks"].as_array().is_some_and(|forks| forks.iter().any(|by| *by == preloader)), by_fork);
    }
    let pids: Vec<_> = lives.iter().map(|life| life["pid"].to_string()).collect();
    assert!(front.end().success());
    for pid in pids {
        assert!(app.root().join(format!("stopped-{pid}")).exists(), "the hook of {pid} was run at its end");
    }
}

#[test]
fn a_preloader_that_is_killed_costs_no_request() {
    let Some(app) = sinatra() else { return };
    let front = Front::of(app.root(), &["--max", "2", "--max-idle", "1h"]);
    assert_eq!(front.get("/").ok(), "Hello from Sinatra");
    let first = preloader(&front);
    processes::kill(first, Signal::SIGKILL);
    let lives = two_workers(&front, &app);
    assert_ne!(lives[0]["pid"], lives[1]["pid"]);
    assert!(front.end().success());
}

#[test]
fn rack_answers_forms_bodies_and_streams_and_its_judge_is_content() {
    let Some(app) = rack() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    assert_eq!(browser.get("/").ok(), "Hello from Rack");
    assert_eq!(browser.head("/").status, 200);
    assert_eq!(browser.get("/form?name=x&count=%2b").ok(), "x wants +");
    assert_eq!(form(&mut browser, "/form", "name=a%20b&count=3").ok(), "a b wants 3");
    let long = long();
    assert_eq!(browser.post("/body", &long).ok(), format!("5000000 {}", md5_of_long()));
    browser.ask("POST", "/body", "Transfer-Encoding: chunked\r\n");
    for piece in long.as_bytes().chunks(70_000) {
        browser.send(format!("{:x}\r\n", piece.len()));
        browser.send(piece);
        browser.send("\r\n");
    }
    browser.send("0\r\n\r\n");
    assert_eq!(browser.answer().ok(), format!("5000000 {}", md5_of_long()));
    // Nobody reads that one.
    assert_eq!(browser.post("/pid", &long[..50_000]).status, 200);
    begins_and_goes_on(&mut browser, &app);
    lives_on(&front, &mut browser);
    assert!(!front.log().contains("Rack::Lint"), "{}", front.log());
    assert!(front.end().success());
}

#[test]
fn rack_takes_a_connection_over_for_a_websocket() {
    let Some(app) = rack() else { return };
    let front = Front::of(app.root(), &["--max", "2"]);
    let mut one = websocket::open(&front, "/socket");
    for text in ["Hello", "wörld", ""] {
        websocket::say(&mut one, text);
        assert_eq!(websocket::hear(&mut one), text);
    }
    // It has its worker to itself meanwhile.
    let mut other = websocket::open(&front, "/socket");
    websocket::say(&mut other, "me too");
    assert_eq!(websocket::hear(&mut other), "me too");
    websocket::close(one);
    websocket::close(other);
    front.until("active", 0);
    let long = "x".repeat(50_000);
    let mut browser = front.browser();
    for _ in 0..5 {
        assert!(browser.post("/body", &long).ok().starts_with("50000 "));
    }
    assert!(front.end().success());
}

#[test]
fn ten_clients_of_one_rack_worker_with_threads_get_their_own_answers() {
    let Some(app) = rack() else { return };
    app.write("hatchery.toml", "type = \"rack\"\nconcurrency = 4\n");
    let front = Front::of(app.root(), &["--max", "1"]);
    std::thread::scope(|scope| {
        for client in 0..10 {
            let front = &front;
            scope.spawn(move || {
                let mut browser = front.browser();
                for count in 0..30 {
                    let said = form(&mut browser, "/form", &format!("name=client-{client}&count={count}")).ok();
                    assert_eq!(said, format!("client-{client} wants {count}"));
                }
            });
        }
    });
    assert!(front.end().success());
}
