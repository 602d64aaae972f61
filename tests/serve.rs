//! `hatchery serve`, through the real executable: what a browser sees, whatever the application and the pool do.

mod support;

use nix::sys::signal::Signal;
use std::ffi::OsString;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use support::apps::{self, App};
use support::front::{self, Front};
use support::http::{Answer, Browser};
use support::{HATCHERY, processes, until_blocking};

/// A file that a worker waits for.
struct Gate(PathBuf);

impl Gate {
    fn of(app: &App) -> Self {
        Self(app.root().join("gate"))
    }

    fn path(&self) -> String {
        format!("/until?{}", self.0.display())
    }

    fn open(&self) {
        std::fs::write(&self.0, "").expect("a test's own file");
    }
}

/// Sends a GET from a thread, which returns the answer.
fn get(front: &Front, path: &str) -> std::thread::JoinHandle<Answer> {
    let mut browser = front.browser();
    browser.ask("GET", path, "");
    std::thread::spawn(move || browser.answer())
}

/// The executable under another name. In a process of its own: what a fork of this one has open for writing can't
/// be executed.
fn copy(to: &Path) {
    assert!(Command::new("cp").arg(HATCHERY).arg(to).status().expect("cp").success());
}

/// A copy of the executable, started by somebody without privileges: as root, by `nobody`, whose folder it is.
fn unprivileged(folder: &Path, arguments: &[&str]) -> Command {
    let own = folder.join("hatchery-of-today");
    copy(&own);
    let mut command = Command::new(&own);
    command.args(arguments).current_dir(folder).stdin(Stdio::null()).env("XDG_RUNTIME_DIR", folder);
    if nix::unistd::geteuid().is_root() {
        apps::give(folder, apps::NOBODY);
        command.uid(apps::NOBODY).gid(apps::NOBODY);
    }
    command
}

fn named(name: &str) -> App {
    apps::worker_with("", &[("TEST_NAME", name)])
}

fn route(place: &str, app: &App) -> [OsString; 2] {
    let mut route = OsString::from(format!("{place}="));
    route.push(app.root());
    ["--app".into(), route]
}

#[test]
fn without_an_app_the_demo_is_served() {
    let front = Front::demo();
    assert!(front.first.contains("the demo app") && front.first.contains("Ctrl-C"), "{}", front.first);
    let page = front.get("/");
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    assert!(page.ok().contains("Hatchery works"));
    assert!(front.get("/hello").ok().starts_with("Hello from worker "));
    assert_eq!(front.status()["apps"][0]["name"], "demo");
    assert!(front.end().success());
}

#[test]
fn the_current_folder_is_served_if_it_has_a_manifest() {
    let app = named("here");
    let folder = front::folder();
    let mut command = front::hatchery(folder.path(), ["serve", "-p", "0"]);
    command.current_dir(app.root());
    let front = Front::start(command, folder);
    assert!(front.first.contains(&*app.root().to_string_lossy()), "{}", front.first);
    assert!(front.get("/name").ok().starts_with("here got /name"));
}

#[test]
fn the_longest_match_of_host_and_path_gets_the_request_and_nobody_else_starts_anything() {
    let (host, shop, admin) = (named("host"), named("shop"), named("admin"));
    let routes = [route("a.localhost", &host), route("/shop", &shop), route("/shop/admin", &admin)];
    let front = Front::serve(routes.concat());
    let ask = |host: &str, path: &str| {
        let mut browser = front.browser();
        browser.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        browser.answer()
    };
    for (host, path) in [("localhost", "/"), ("localhost", "/shopping/name"), ("b.localhost", "/name")] {
        assert_eq!(ask(host, path).status, 404, "{host}{path}");
    }
    assert_eq!(front.status()["count"], 0, "nobody was asked");
    for (host, path, answer) in [
        ("a.localhost", "/name", "host got /name with prefix \"\""),
        ("A.localhost:80", "/shop/name", "host got /shop/name with prefix \"\""),
        ("localhost", "/shop/name", "shop got /shop/name with prefix \"/shop\""),
        ("localhost", "/shop/administrators/name", "shop got /shop/administrators/name with prefix \"/shop\""),
        ("localhost", "/shop/admin/name", "admin got /shop/admin/name with prefix \"/shop/admin\""),
    ] {
        assert_eq!(ask(host, path).ok(), answer, "{host}{path}");
    }
    assert_eq!(front.status()["count"], 3);
}

#[test]
fn an_application_is_told_who_asked_for_what() {
    let front = Front::demo();
    let echo = |headers: &str| {
        let mut browser = front.browser();
        browser.ask("GET", "/echo?a=b", headers);
        browser.answer().ok()
    };
    let plain = echo("");
    assert!(plain.starts_with("GET /echo?a=b HTTP/1.1\n"), "{plain}");
    for line in
        ["host: localhost", "x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", "x-forwarded-host: localhost"]
    {
        assert!(plain.lines().any(|other| other == line), "no {line} in {plain}");
    }
    let proxied =
        echo("X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX_Forwarded_Proto: x\r\nProxy: x\r\n");
    for line in ["x-forwarded-for: 192.0.2.7, 127.0.0.1", "x-forwarded-proto: https"] {
        assert!(proxied.lines().any(|other| other == line), "no {line} in {proxied}");
    }
    assert!(!proxied.contains("x_forwarded_proto") && !proxied.contains("proxy: "), "{proxied}");
}

#[test]
fn bodies_stream_both_ways_while_both_are_still_open() {
    let front = Front::demo();
    let mut browser = front.browser();
    browser.ask("POST", "/echo", "Transfer-Encoding: chunked\r\n");
    let answer = browser.answer_head();
    assert_eq!((answer.status, answer.header("transfer-encoding")), (200, "chunked"));
    for number in 0..50 {
        let piece = format!("piece {number};");
        browser.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        let mut seen = String::new();
        while !seen.ends_with(&piece) {
            seen += &browser.chunk().expect("not the end");
        }
    }
    browser.send("0\r\n\r\n");
    assert_eq!(browser.chunk(), None);
    assert!(browser.get("/hello").ok().starts_with("Hello"), "and the connection goes on");
    let streamed = browser.get("/stream?chunks=3&ms=1");
    assert_eq!(streamed.header("transfer-encoding"), "chunked");
    assert_eq!(streamed.ok(), "chunk 1 of 3\nchunk 2 of 3\nchunk 3 of 3\n");
}

#[test]
fn bodies_of_any_length_arrive_whole() {
    let app = apps::worker();
    let front = Front::of(app.root(), &[]);
    let mut browser = front.browser();
    for length in [0, 1, 64 * 1024, 64 * 1024 + 1, 5_000_000] {
        let body = "x".repeat(length);
        assert!(browser.post("/echo", &body).ok() == body, "{length} bytes");
    }
    assert_eq!(browser.get("/to-the-end").ok(), "to the end", "an answer without a length");
    assert_eq!(browser.get("/pid").status, 200);
}

#[test]
fn an_answer_without_a_body_has_none() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    let pid = browser.get("/pid").ok();
    for _ in 0..2 {
        let head = browser.head("/pid");
        assert_eq!((head.status, head.header("content-length")), (200, &*pid.len().to_string()));
        for status in [204, 304] {
            let answer = browser.get(&format!("/status?{status}"));
            assert_eq!((answer.status, answer.header("etag")), (status, "\"a\""));
        }
        // What follows on this connection is an answer's first line, and no body's rest.
        assert_eq!(browser.get("/pid").ok(), pid);
    }
}

#[test]
fn connections_are_kept_on_both_sides() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    let first = browser.get("/connections").ok();
    for _ in 0..5 {
        assert_eq!(browser.get("/connections").ok(), first, "the worker's connection is used again");
    }
    assert_eq!(front.get("/connections").ok(), first, "by another browser too");
    browser.send("GET /pid HTTP/1.1\r\nHost: a\r\n\r\nGET /connections HTTP/1.1\r\nHost: a\r\n\r\n");
    browser.answer().ok();
    assert_eq!(browser.answer().ok(), first, "requests may come one behind the other");
    browser.ask("GET", "/pid", "Connection: close\r\n");
    assert_eq!(browser.answer().header("connection"), "close");
    assert_eq!(browser.rest(), "");
}

#[test]
fn a_body_is_asked_for_when_its_client_waits_to_be_asked() {
    let app = apps::worker();
    let front = Front::of(app.root(), &[]);
    let mut browser = front.browser();
    for length in [5, 200_000] {
        browser.ask("POST", "/echo", &format!("Expect: 100-continue\r\nContent-Length: {length}\r\n"));
        assert_eq!(browser.answer_head().status, 100);
        let body = "x".repeat(length);
        browser.send(&body);
        assert!(browser.answer().ok() == body);
    }
}

#[test]
fn a_changed_protocol_passes_through_and_each_direction_ends_alone() {
    let app = apps::worker();
    let front = Front::of(app.root(), &["--max", "1"]);
    for _ in 0..2 {
        let mut browser = front.browser();
        browser.ask("GET", "/switch", "Connection: Upgrade\r\nUpgrade: echo\r\n");
        let answer = browser.answer_head();
        assert_eq!((answer.status, answer.header("upgrade")), (101, "echo"));
        assert_eq!(browser.read_exact(6), "early ");
        for text in ["hello", "\0\r\n\r\n"] {
            browser.send(text);
            assert_eq!(browser.read_exact(text.len()), text);
        }
        browser.half_close();
        assert_eq!(browser.rest(), "bye", "the worker has read the end and answered it");
    }
    front.until("active", 0);
    assert_eq!(front.get("/pid").status, 200, "and its slot is free");
}

// B65, through a browser.
#[test]
fn who_cannot_be_served_in_time_is_told_so() {
    let app = apps::worker();
    let gate = Gate::of(&app);
    let front = Front::of(app.root(), &["--max", "1", "--max-queue", "1"]);
    let open = get(&front, &gate.path());
    front.until("active", 1);
    let waiting = get(&front, "/pid");
    front.until("waiting", 1);
    let mut browser = front.browser();
    browser.ask("GET", "/pid", "Accept: text/html\r\n");
    let refused = browser.answer();
    assert_eq!(refused.status, 503, "{refused:?}");
    assert!(refused.header("retry-after").parse::<u32>().is_ok_and(|seconds| seconds >= 1), "{refused:?}");
    assert!(refused.body.contains("Try again") && refused.header("cache-control") == "no-store", "{refused:?}");
    gate.open();
    assert_eq!(open.join().unwrap().ok(), "waited");
    assert_eq!(waiting.join().unwrap().status, 200);
    assert_eq!(browser.get("/pid").status, 200, "its connection is as good as before");
}

#[test]
fn who_waits_too_long_is_told_so() {
    let app = apps::worker();
    let gate = Gate::of(&app);
    let front = Front::of(app.root(), &["--max", "1", "--max-queue-wait", "100ms"]);
    // So that nobody waits for the start any more.
    while front.get("/pid").status == 504 {}
    front.until("active", 0);
    let open = get(&front, &gate.path());
    front.until("active", 1);
    let refused = front.get("/pid");
    assert_eq!(refused.status, 504, "{refused:?}");
    gate.open();
    assert_eq!(open.join().unwrap().ok(), "waited");
}

// B127
#[test]
fn why_an_app_does_not_start_is_shown_in_development_only() {
    let app = apps::script("echo the secret reason >&2; exit 7");
    for (environment, open) in [("development", true), ("production", false)] {
        let front = Front::of(app.root(), &["-e", environment]);
        let mut browser = front.browser();
        browser.ask("GET", "/", "Accept: text/html\r\n");
        let answer = browser.answer();
        assert_eq!((answer.status, answer.header("content-type")), (502, "text/html; charset=utf-8"));
        assert_eq!(answer.body.contains("the secret reason"), open, "{answer:?}");
        assert_eq!(answer.body.contains("exit status 7"), open, "{answer:?}");
        assert_eq!(answer.body.contains(&*app.root().to_string_lossy()), open, "{answer:?}");
        let plain = browser.get("/");
        assert_eq!((plain.status, plain.header("content-type")), (502, "text/plain; charset=utf-8"));
        assert_eq!(plain.body.contains("the secret reason"), open, "{plain:?}");
        until_blocking("the log tells it in any case", || front.log().contains("the secret reason").then_some(()));
        assert!(front.end().success());
    }
}

// B131
#[test]
fn an_app_that_crashes_takes_nobody_with_it() {
    let (bad, good) = (apps::worker(), named("good"));
    let routes = [route("/good", &good), route("", &bad)];
    let front = Front::serve(routes.concat());
    let mut browser = front.browser();
    for path in ["/exit?3", "/nonsense"] {
        let pid: i32 = browser.get("/pid").ok().parse().unwrap();
        let answer = browser.get(path);
        assert_eq!(answer.status, 502, "{answer:?}");
        assert!(browser.get("/good/name").ok().starts_with("good got"));
        assert!(path == "/nonsense" || !processes::lives(pid));
    }
    let mut half = front.browser();
    let gate = Gate::of(&bad);
    half.ask("GET", &format!("/half?{}", gate.0.display()), "");
    assert_eq!(half.answer_head().header("content-length"), "100");
    assert_eq!(half.read_exact(10), "half of it");
    gate.open();
    assert_eq!(half.rest(), "", "a broken answer is seen as one: its length is not reached");
    let pid: i32 = browser.get("/pid").ok().parse().unwrap();
    processes::kill(pid, Signal::SIGKILL);
    assert_ne!(browser.get("/pid").ok(), pid.to_string(), "the next request gets another worker");
    assert!(browser.get("/good/name").ok().starts_with("good got"));
    assert!(front.end().success());
}

#[test]
fn a_request_whose_worker_died_is_sent_again_only_if_that_does_no_harm() {
    let app = apps::worker();
    let front = Front::of(app.root(), &[]);
    let pids = |name: &str| std::fs::read_to_string(app.root().join(name)).unwrap().lines().count();
    let path = |name: &str| format!("/die-first?{}", app.root().join(name).display());
    let mut browser = front.browser();
    assert_eq!(browser.get(&path("get")).ok(), "survived");
    assert_eq!(pids("get"), 2, "once more, and no more");
    let answer = browser.post(&path("post"), "pay");
    assert_eq!((answer.status, pids("post")), (502, 1), "{answer:?}");
    // Else the next request may meet that one while it dies.
    front.until("count", 0);
    let put = path("put");
    browser.ask("PUT", &put, "Content-Length: 3\r\n");
    browser.send("abc");
    assert_eq!(browser.answer().ok(), "survived");
    assert_eq!(pids("put"), 2);
}

#[test]
fn a_browser_that_left_keeps_its_worker_only_until_that_has_finished() {
    let app = apps::worker();
    let gate = Gate::of(&app);
    let front = Front::of(app.root(), &["--max", "1"]);
    let pid = front.get("/pid").ok();
    front.until("active", 0);
    let mut leaving = front.browser();
    leaving.ask("GET", &gate.path().replace("/until", "/hints"), "");
    assert_eq!(leaving.answer_head().status, 103, "the worker has begun: one that has not does not compute");
    drop(leaving);
    let next = get(&front, "/pid");
    front.until("waiting", 1);
    assert_eq!(front.status()["active"], 1, "it still computes");
    gate.open();
    assert_eq!(next.join().unwrap().ok(), pid, "the same worker, which was not killed for it");
}

#[test]
fn a_browser_that_left_in_the_middle_of_an_answer_gives_its_worker_back() {
    let front = Front::serve(["--max", "1"]);
    let mut leaving = front.browser();
    leaving.ask("GET", "/stream?chunks=1000000&ms=1", "");
    assert_eq!(leaving.answer_head().status, 200);
    leaving.chunk().unwrap();
    drop(leaving);
    assert!(front.get("/hello").ok().starts_with("Hello"));
}

#[test]
fn an_interim_answer_reaches_the_browser_before_the_final_one_exists() {
    let app = apps::worker();
    let gate = Gate::of(&app);
    let front = Front::of(app.root(), &[]);
    let mut browser = front.browser();
    for _ in 0..2 {
        browser.ask("GET", &gate.path().replace("/until", "/hints"), "");
        let hints = browser.answer_head();
        assert_eq!(hints.status, 103);
        assert_eq!(hints.headers.get("link").map(String::as_str), Some("</style.css>"), "{:?}", hints.headers);
        assert!(!hints.headers.contains_key("connection"), "{:?}", hints.headers);
        gate.open();
        assert_eq!(browser.answer().ok(), "waited");
    }
    // Nor does it disturb who can't know of such answers.
    assert_eq!(front.get("/pid").status, 200);
}

// B120
#[test]
fn a_killed_core_costs_no_request() {
    let front = Front::demo();
    let keeper = front.keeper();
    let mut browser = front.browser();
    for _ in 0..3 {
        browser.get("/hello").ok();
        let core = until_blocking("there is a core", || processes::role(keeper, "core"));
        processes::kill(core, Signal::SIGKILL);
        for _ in 0..10 {
            assert!(browser.get("/hello").ok().starts_with("Hello"));
        }
        until_blocking("there is another", || processes::role(keeper, "core").filter(|other| *other != core));
    }
    assert!(front.end().success());
}

#[test]
fn a_killed_keeper_costs_no_request_that_comes_after_it() {
    // Whoever gave up privileges can't start another pool: see the tests of the operator's file.
    let folder = front::folder();
    let front = Front::start(unprivileged(folder.path(), &["serve", "-p", "0"]), folder);
    front.get("/hello").ok();
    let (keeper, pool) = (front.keeper(), front.pool());
    processes::kill(keeper, Signal::SIGKILL);
    until_blocking("it is gone", || (!processes::lives(keeper)).then_some(()));
    for _ in 0..10 {
        assert!(front.get("/hello").ok().starts_with("Hello"));
    }
    until_blocking("nothing of the old one is left", || processes::of_pool(&pool).is_empty().then_some(()));
    assert!(front.end().success());
}

#[test]
fn a_pool_is_started_anew_even_if_the_executable_was_replaced() {
    let folder = front::folder();
    let front = Front::start(unprivileged(folder.path(), &["serve", "-p", "0"]), folder);
    let own = front.path().join("hatchery-of-today");
    front.get("/hello").ok();
    std::fs::remove_file(&own).unwrap();
    std::fs::write(&own, "something else").unwrap();
    let keeper = front.keeper();
    processes::kill(keeper, Signal::SIGKILL);
    until_blocking("it is gone", || (!processes::lives(keeper)).then_some(()));
    assert!(front.get("/hello").ok().starts_with("Hello"));
    assert!(front.end().success());
}

#[test]
fn term_lets_open_requests_finish_and_takes_no_new_ones() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let app = apps::worker();
        let gate = Gate::of(&app);
        let mut front = Front::of(app.root(), &[]);
        let (pool, address) = (front.pool(), front.address().to_owned());
        let open = get(&front, &gate.path());
        front.until("active", 1);
        front.signal(signal);
        until_blocking("nothing listens", || TcpStream::connect(&address).is_err().then_some(()));
        assert!(!open.is_finished());
        gate.open();
        let answer = open.join().unwrap();
        assert_eq!(answer.header("connection"), "close");
        assert_eq!(answer.ok(), "waited");
        assert!(front.ended().success());
        front.nothing_is_left(&pool);
    }
}

#[test]
fn open_requests_are_cut_off_when_their_time_is_up() {
    let app = apps::worker();
    let mut front = Front::of(app.root(), &["--drain-timeout", "200ms"]);
    let pool = front.pool();
    let mut browser = front.browser();
    browser.ask("GET", "/until?/never", "");
    front.until("active", 1);
    front.signal(Signal::SIGTERM);
    assert_eq!(browser.rest(), "");
    assert!(front.ended().success());
    front.nothing_is_left(&pool);
}

#[test]
fn a_second_signal_ends_at_once() {
    for (first, second, status) in [
        (Signal::SIGINT, Signal::SIGINT, 130),
        (Signal::SIGTERM, Signal::SIGINT, 130),
        (Signal::SIGINT, Signal::SIGTERM, 143),
    ] {
        let app = apps::worker();
        let mut front = Front::of(app.root(), &[]);
        let pool = front.pool();
        let mut browser = front.browser();
        browser.ask("GET", "/until?/never", "");
        front.until("active", 1);
        front.signal(first);
        until_blocking("it says what it waits for", || front.log().contains("a second signal").then_some(()));
        front.signal(second);
        assert_eq!(front.ended().code(), Some(status));
        front.nothing_is_left(&pool);
    }
}

#[test]
fn a_unix_socket_is_replaced_when_stale_and_removed_at_the_end() {
    let folder = front::folder();
    let path = folder.path().join("web.sock");
    drop(UnixListener::bind(&path).unwrap());
    apps::give(&path, apps::NOBODY);
    let place = format!("unix:{}", path.display());
    let front = Front::start(unprivileged(folder.path(), &["serve", "--listen", &place]), folder);
    assert!(front.first.contains(&place), "{}", front.first);
    let mut browser = Browser::at(&path);
    let echo = browser.get("/echo").ok();
    assert!(echo.contains("x-forwarded-proto: http") && !echo.contains("x-forwarded-for"), "{echo}");
    let (status, problem) = front::run(front::hatchery(front.path(), ["serve", "--listen", &place]));
    assert_eq!(status, Some(1));
    assert!(problem.contains("taken by another program"), "{problem}");
    assert!(path.exists(), "a live socket is nobody else's to remove");
    drop(browser);
    let mut front = front;
    front.signal(Signal::SIGTERM);
    assert!(front.ended().success());
    assert!(!path.exists());
}

#[test]
fn what_cannot_be_served_is_one_sentence() {
    let folder = front::folder();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = listener.local_addr().unwrap().port().to_string();
    for (arguments, sentence) in [
        (vec!["serve", "-p", &taken], "is taken by another program"),
        (vec!["serve", "/nowhere/at/all"], "/nowhere/at/all does not exist"),
        (vec!["serve", "--app", "/shop=/nowhere"], "/nowhere does not exist"),
        (vec!["serve", "--listen", "nonsense:x"], "is no place to listen"),
        (vec!["serve", "-p", "0", "--log-file", "/nowhere/log"], "/nowhere/log can't be written"),
    ] {
        let (status, problem) = front::run(front::hatchery(folder.path(), &arguments));
        assert_eq!(status, Some(1), "{arguments:?}: {problem}");
        assert!(problem.contains(sentence), "{problem}");
        assert_eq!(problem.lines().count(), 1, "{problem}");
        assert!(problem.starts_with("hatchery: "), "{problem}");
    }
    for arguments in [vec!["serve", "--nonsense"], vec!["nonsense"], vec!["serve", "--max", "0"], vec![]] {
        let (status, problem) = front::run(front::hatchery(folder.path(), &arguments));
        assert_eq!(status, Some(2), "{arguments:?}: {problem}");
    }
    let left: Vec<_> = std::fs::read_dir(folder.path().join("hatchery")).into_iter().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn without_an_admin_socket_it_serves_and_nobody_can_ask() {
    let front = Front::serve(["--admin", "none"]);
    assert!(front.get("/hello").ok().starts_with("Hello"));
    assert!(!front.admin().exists());
    assert_eq!(front.say(&["status"]).status.code(), Some(1));
    assert!(front.end().success());
}

#[test]
fn it_serves_without_any_privilege() {
    const NOBODY: u32 = 65534;
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED it_serves_without_any_privilege: every other test here has none");
        return;
    }
    let folder = front::folder();
    let own = folder.path().join("hatchery-copy");
    copy(&own);
    for path in [folder.path(), &own] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(&own);
    command.args(["serve", "-p", "0"]).current_dir("/").stdin(Stdio::null());
    let mut front = Front::start(front::as_user(command, NOBODY), folder);
    let hello = front.get("/hello").ok();
    let worker: i32 = hello.trim().rsplit(' ').next().unwrap().parse().unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(format!("/proc/{worker}")).unwrap());
    assert_eq!(owner, NOBODY);
    let mark = hatchery_protocol::mark::of(worker, "HATCHERY_WORKER").unwrap();
    let pool = mark.split('.').next().unwrap();
    let runtime = Path::new("/tmp/hatchery-65534").join(format!("hatchery-{pool}"));
    assert!(runtime.exists());
    front.signal(Signal::SIGTERM);
    assert!(front.ended().success());
    until_blocking("no process is left", || processes::of_pool(pool).is_empty().then_some(()));
    until_blocking("no folder is left", || (!runtime.exists()).then_some(()));
}
