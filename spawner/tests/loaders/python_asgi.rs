//! ASGI apps, which speak HTTP on the listener: through our own server, and through the user's.

use nix::sys::signal::Signal;
use std::process::Command;

use crate::harness::{App, Worker, interpreter};
use crate::python::launch;
use crate::session::Session;

const PAGES: &str = include_str!("python_asgi_pages.py");

fn get(target: &str, more: &str) -> Vec<u8> {
    format!("GET {target} HTTP/1.1\r\nHost: app.example\r\n{more}\r\n").into_bytes()
}

fn post(target: &str, more: &str, body: &str) -> Vec<u8> {
    format!("POST {target} HTTP/1.1\r\nHost: app.example\r\n{more}\r\n{body}").into_bytes()
}

/// What packages the machine's Python has is not looked at, so that our own server is used.
pub(crate) fn own(test: &str, app: &App) -> Option<Worker> {
    let mut launch = launch(test, "asgi", app, "pages.py", 0)?;
    launch.arguments.insert(0, "-S".into());
    Some(launch.direct())
}

fn pages(test: &str) -> Option<(App, Worker)> {
    let app = App::new(&[("pages.py", PAGES)]);
    let worker = own(test, &app)?;
    Some((app, worker))
}

#[test]
fn an_asgi_app_answers_over_http_on_a_kept_connection() {
    let Some((_app, worker)) = pages("asgi") else { return };
    let mut session = Session::new(&worker);
    for _ in 0..3 {
        session.send(&get("/hello", ""));
        let answer = session.answer("GET");
        assert_eq!((answer.status, answer.text().as_str(), answer.header("content-length")), (200, "hello", Some("5")));
        session.send(&post("/echo", "Content-Length: 6\r\n", "a body"));
        assert_eq!(session.answer("POST").text(), "a body");
        session.send(&post(
            "/echo",
            "Transfer-Encoding: chunked\r\n",
            "5;x\r\nhello\r\nA\r\n, and more\r\n0\r\nT: x\r\n\r\n",
        ));
        assert_eq!(session.answer("POST").text(), "hello, and more");
    }
    assert_eq!(worker.channel.receive(), None, "control is closed once it serves");
    let both = [get("/hello", ""), get("/scope", "")].concat();
    for byte in &both {
        session.send(&[*byte]);
    }
    assert_eq!(session.answer("GET").text(), "hello");
    assert!(session.answer("GET").text().contains("state='at startup'"));
    session.send(&get("/hello", "Connection: close\r\n"));
    assert_eq!(session.answer("GET").header("connection"), Some("close"));
    assert!(session.is_closed());
}

#[test]
fn what_the_front_end_tells_is_in_the_scope() {
    let Some((_app, worker)) = pages("forwarding") else { return };
    check_scope(&worker);
}

fn check_scope(worker: &Worker) {
    let forwarded = "X-Forwarded-For: 10.1.1.1, 192.0.2.7\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Prefix: /shop\r\n";
    let mut session = Session::new(worker);
    session.send(&get("/shop/scope?a=%20b", forwarded));
    let answer = session.answer("GET");
    let expected = "type='http'\nhttp_version='1.1'\nmethod='GET'\nscheme='https'\npath='/shop/scope'\n\
        query_string=b'a=%20b'\nroot_path='/shop'\nclient=('192.0.2.7', 0)\nhost=b'app.example'\n\
        state='at startup'\nstarted here=True";
    assert_eq!(answer.text(), expected, "{}", worker.process.error.so_far());
    assert_eq!(answer.header("x-kept"), Some("yes"));
    session.send(b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert_eq!(session.answer("OPTIONS").status, 204, "the pool's question is not the app's");
    assert!(session.is_closed());
}

#[test]
fn answers_are_framed_by_method_status_length_and_protocol() {
    let Some((_app, worker)) = pages("framing") else { return };
    for (method, target, protocol, framed, body, kept) in [
        ("GET", "/hello", "1.1", Some("content-length"), "hello", true),
        ("GET", "/hello", "1.0", Some("content-length"), "hello", false),
        ("GET", "/length", "1.1", Some("content-length"), "hello", true),
        ("HEAD", "/length", "1.1", Some("content-length"), "", true),
        ("HEAD", "/hello", "1.1", None, "", true),
        ("GET", "/stream", "1.1", Some("transfer-encoding"), "", true),
        ("GET", "/stream", "1.0", None, "", false),
        ("GET", "/status?204", "1.1", None, "", true),
        ("GET", "/status?304", "1.1", None, "", true),
        ("GET", "/status?599", "1.1", Some("content-length"), "body", true),
    ] {
        let mut session = Session::new(&worker);
        session.send(format!("{method} {target} HTTP/{protocol}\r\nHost: x\r\n\r\n").as_bytes());
        let answer = session.answer(method);
        let case = format!("{method} {target} {protocol}: {answer:?}");
        let frames = ["content-length", "transfer-encoding"];
        assert_eq!(frames.into_iter().find(|name| answer.header(name).is_some()), framed, "{case}");
        assert!(answer.complete && answer.text() == body, "{case}");
        if kept {
            session.send(&get("/hello", ""));
            assert_eq!(session.answer("GET").text(), "hello", "{case}");
        } else {
            assert!(session.is_closed(), "{case}");
        }
    }
}

#[test]
fn a_body_streams_both_ways_and_what_is_left_of_it_is_discarded() {
    let Some((_app, worker)) = pages("asgi bodies") else { return };
    let mut session = Session::new(&worker);
    session.send(&post("/stream", "Content-Length: 6\r\n", "one"));
    while session.line().is_some_and(|line| !line.is_empty()) {}
    assert_eq!((session.line().as_deref(), session.line().as_deref()), (Some("3"), Some("one")));
    session.send(b"two");
    assert_eq!((session.line().as_deref(), session.line().as_deref()), (Some("3"), Some("two")));
    assert_eq!((session.line().as_deref(), session.line().as_deref()), (Some("0"), Some("")));
    session.send(&post("/hello", "Content-Length: 60000\r\n", &"x".repeat(60_000)));
    assert_eq!(session.answer("POST").text(), "hello");
    session.send(&post("/echo", "Content-Length: 3000000\r\n", &"x".repeat(3_000_000)));
    assert!(session.answer("POST").body.len() == 3_000_000);
    session.send(&post("/hello", "Content-Length: 70000\r\n", ""));
    assert_eq!(session.answer("POST").header("connection"), Some("close"));
    assert!(session.is_closed());
}

#[test]
fn what_is_no_http_request_is_refused() {
    let Some((_app, worker)) = pages("bad http") else { return };
    for bad in [
        "hello\r\n\r\n",
        "GET / HTTP/2\r\n\r\n",
        "GET /echo HTTP/1.1\r\n folded: x\r\n\r\n",
        "GET /echo HTTP/1.1\r\nname : x\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "POST /echo HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    ] {
        let mut session = Session::new(&worker);
        session.send(bad.as_bytes());
        assert_eq!(session.answer("GET").status, 400, "{bad:?}");
        assert!(session.is_closed());
    }
    let mut session = Session::new(&worker);
    session.send(&get("/hello", ""));
    assert_eq!(session.answer("GET").status, 200);
}

#[test]
fn exceptions_of_an_asgi_app_are_told_in_the_log_and_the_worker_lives() {
    let Some((_app, worker)) = pages("asgi exceptions") else { return };
    let mut session = Session::new(&worker);
    for target in ["/raise", "/control"] {
        session.send(&get(target, ""));
        assert_eq!(session.answer("GET").status, 500, "{target}");
    }
    let log = worker.process.error.until("ValueError: no such luck");
    assert!(!log.contains("/proc/self/fd"), "the loader's own lines are nobody's business: {log}");
    for target in ["/raise_late", "/unfinished"] {
        let mut session = Session::new(&worker);
        session.send(&get(target, ""));
        assert!(!session.answer("GET").complete, "{target}");
        assert!(session.is_closed());
    }
    session.send(&get("/hello", ""));
    assert_eq!(session.answer("GET").status, 200);
}

#[test]
fn an_asgi_app_learns_that_its_client_has_left_and_is_slowed_by_a_slow_one() {
    let Some((_app, worker)) = pages("disconnects") else { return };
    let mut session = Session::new(&worker);
    session.send(&get("/wait", ""));
    worker.process.output.until("waiting");
    drop(session);
    worker.process.output.until("http.disconnect");
    let mut session = Session::new(&worker);
    session.send(&get("/hello", ""));
    session.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(session.answer("GET").text(), "hello", "half-closed is not gone");

    let mut slow = Session::new(&worker);
    slow.send(&get("/flood", ""));
    worker.process.output.until("sent");
    let mut other = Session::new(&worker);
    for _ in 0..20 {
        other.send(&get("/hello", ""));
        assert_eq!(other.answer("GET").text(), "hello");
    }
    let sent = worker.process.output.so_far().matches("sent").count();
    assert!(sent < 100, "the client has read nothing, and {sent} pieces were taken from the app");
    assert_eq!(slow.answer("GET").body.len(), 400 * 65536);
}

#[test]
fn an_asgi_worker_that_is_told_to_leave_finishes_its_requests_and_shuts_down() {
    let Some((app, mut worker)) = pages("asgi leaving") else { return };
    check_leaving(&app, &mut worker);
    assert_eq!(worker.process.error.so_far(), "");
}

fn check_leaving(app: &App, worker: &mut Worker) {
    let mut parked = Session::new(worker);
    parked.send(&get("/hello", ""));
    assert_eq!(parked.answer("GET").status, 200);
    let mut session = Session::new(worker);
    session.send(&get("/slow", ""));
    worker.process.output.until("at work");
    worker.process.signal(Signal::SIGTERM);
    assert!(parked.is_closed());
    app.write("go", "");
    assert_eq!(session.answer("GET").body.len(), 1_000_000);
    assert_eq!(worker.process.wait(), 0, "{}", worker.process.error.so_far());
    assert!(worker.process.output.whole().ends_with("shutdown\n"));
}

#[test]
fn an_asgi_app_whose_startup_fails_is_told_and_one_without_lifespan_is_served() {
    let fails = PAGES.replace(
        r#"await send({"type": "lifespan.startup.complete"})"#,
        r#"await send({"type": "lifespan.startup.failed", "message": "no database\nat all"}); return"#,
    );
    let app = App::new(&[("pages.py", &fails)]);
    let Some(mut worker) = own("failing startups", &app) else { return };
    check_failed_startup(&mut worker);

    let without = PAGES.replace(r#"assert (await receive())["type"] == "lifespan.startup""#, "raise TypeError()");
    let app = App::new(&[("pages.py", &without)]);
    let worker = own("failing startups", &app).unwrap();
    let mut session = Session::new(&worker);
    session.send(&get("/hello", ""));
    assert_eq!(session.answer("GET").text(), "hello");
    assert_eq!(worker.process.error.so_far(), "");
}

fn check_failed_startup(worker: &mut Worker) {
    let failure = worker.channel.failure();
    assert_eq!(failure.code, "exception");
    assert_eq!(failure.problem, "the app's startup (lifespan) failed: at all");
    assert_eq!(worker.process.wait(), 1);
    assert!(worker.process.error.whole().contains("no database"));
}

#[test]
fn asgi_workers_are_forked_before_their_loop_begins() {
    let app = App::new(&[("pages.py", PAGES)]);
    let Some(mut launch) = launch("asgi forks", "asgi", &app, "pages", 0) else { return };
    launch.arguments.insert(0, "-S".into());
    let preloader = launch.preload();
    preloader.ready();
    let workers: Vec<Worker> = (1..4).map(|number| preloader.fork(&format!("test.0.{number}"))).collect();
    for mut worker in workers {
        check_scope(&worker);
        worker.process.signal(Signal::SIGTERM);
        assert_eq!(worker.process.wait(), 0, "{}", worker.process.error.so_far());
    }
}

#[test]
fn the_users_own_server_is_used_where_it_is_installed() {
    for (server, hidden) in [("uvicorn", "hypercorn.py"), ("hypercorn", "uvicorn.py")] {
        let Some(program) = python_with(server) else { continue };
        let hide = (hidden, "raise ImportError('hidden')\n");
        let fails = PAGES
            .replace("lifespan.startup.complete\"", "lifespan.startup.failed\", \"message\": \"no database\\nat all\"");
        for preload in [false, true] {
            let start = |source: &str| {
                let app = App::new(&[("pages.py", source), hide]);
                let mut launch = launch("users' servers", "asgi", &app, "pages.py", 0).unwrap();
                launch.program.clone_from(&program);
                let worker = if preload {
                    let preloader = launch.preload();
                    preloader.ready();
                    preloader.fork("test.0.1")
                } else {
                    launch.direct()
                };
                (app, worker)
            };
            let (app, mut worker) = start(PAGES);
            check_scope(&worker);
            assert_eq!(worker.channel.receive(), None);
            check_leaving(&app, &mut worker);
            let (_app, mut worker) = start(&fails);
            check_failed_startup(&mut worker);
        }
    }
}

/// A Python that has this module: the tests' own, else a virtual environment of it in the build folder.
fn python_with(module: &str) -> Option<std::path::PathBuf> {
    let test = format!("{module} is used where it is installed");
    let python = interpreter("HATCHERY_TEST_PYTHON", &["/usr/bin/python3", "python3"], &test)?;
    let venv = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("python-with-{module}"));
    let own = venv.join("bin/python");
    let runs = |program: &std::path::Path, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
    };
    let import = ["-c", &format!("import {module}")];
    if runs(&python, &import) {
        return Some(python);
    }
    let venv = venv.to_str().expect("a path of text");
    let install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", module];
    if runs(&own, &import) || runs(&python, &["-m", "venv", venv]) && runs(&own, &install) {
        return Some(own);
    }
    assert!(std::env::var_os("HATCHERY_CI").is_none(), "{module} can't be installed, and CI demands: {test}");
    eprintln!("SKIPPED {test}: {} has no {module}, and it can't be installed", python.display());
    None
}
