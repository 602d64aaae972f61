//! WSGI apps through the session protocol.

use nix::sys::signal::Signal;
use std::time::Duration;

use crate::harness::{App, Worker, wait_for};
use crate::python::launch;
use crate::session::{Session, block, request};
use std::os::fd::AsFd;

/// An app with a page for each promise.
const PAGES: &str = include_str!("python_wsgi_pages.py");

fn pages_with(test: &str, threads: u32) -> Option<(App, Worker)> {
    let app = App::new(&[("pages.py", PAGES)]);
    let worker = launch(test, "wsgi", &app, "pages", threads)?.direct();
    Some((app, worker))
}

fn pages(test: &str) -> Option<(App, Worker)> {
    pages_with(test, 1)
}

#[test]
fn a_wsgi_app_answers_one_request_after_another_on_a_kept_connection() {
    let Some((_app, worker)) = pages("kept connections") else { return };
    let mut session = Session::new(&worker);
    for _ in 0..3 {
        let answer = session.get("/hello");
        assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
        assert_eq!((answer.header("content-length"), answer.header("connection")), (Some("5"), None));
        assert_eq!(session.post("/echo", b"a body").text(), "a body");
    }
    assert_eq!(worker.channel.receive(), None, "control is closed once it serves");
}

#[test]
fn a_request_may_come_in_any_pieces() {
    let Some((_app, worker)) = pages("pieces") else { return };
    let mut bytes = request("POST", "/echo", &[("CONTENT_LENGTH", "6")]);
    bytes.extend(b"a body");
    let mut session = Session::new(&worker);
    for byte in &bytes {
        session.send(&[*byte]);
    }
    assert_eq!(session.answer("POST").text(), "a body");
    for cut in (0..bytes.len()).step_by(17) {
        session.send(&bytes[..cut]);
        // Another connection is served meanwhile: half a block is in nobody's way.
        if cut < bytes.len() - 7 {
            assert_eq!(Session::new(&worker).get("/hello").status, 200);
        }
        session.send(&bytes[cut..]);
        assert_eq!(session.answer("POST").text(), "a body");
    }
    session.send(&[bytes.clone(), bytes].concat());
    assert_eq!(session.answer("POST").text() + &session.answer("POST").text(), "a bodya body");
}

#[test]
fn the_pools_question_is_answered_without_the_app() {
    let Some((_app, worker)) = pages("the question") else { return };
    let mut session = Session::new(&worker);
    session.send(b"0:,");
    assert_eq!(session.rest(), b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
    assert_eq!(worker.process.error.so_far(), "");
}

#[test]
fn what_is_no_request_is_refused_and_the_worker_lives() {
    let Some((_app, worker)) = pages("refusals") else { return };
    let too_long = format!("{}:", 1024 * 1024 + 1);
    let bodies = [("CONTENT_LENGTH", "-1"), ("CONTENT_LENGTH", "1e3"), ("CONTENT_LENGTH", "99999999999999999999")];
    let mut bad: Vec<Vec<u8>> =
        ["GET / HTTP/1.1\r\n\r\n", "3:a\0b;", "2:a\0,", "3:a\0b,", "-1:,", " 0:,", "12345678901:"]
            .iter()
            .map(|text| text.as_bytes().to_vec())
            .collect();
    bad.push(too_long.into_bytes());
    bad.extend(bodies.map(|variable| request("POST", "/echo", &[variable])));
    for bytes in bad {
        let mut session = Session::new(&worker);
        session.send(&bytes);
        let answer = session.answer("GET");
        assert_eq!((answer.status, answer.header("connection")), (400, Some("close")), "{bytes:?}");
        assert!(session.is_closed());
    }
    assert_eq!(Session::new(&worker).get("/hello").status, 200);
}

#[test]
fn variables_reach_the_app_raw_and_complete() {
    let Some((_app, worker)) = pages("variables") else { return };
    let mut session = Session::new(&worker);
    session.send(&block(&[
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", "/shop/vari%61bles?a=%20b"),
        ("SCRIPT_NAME", "/shop"),
        ("PATH_INFO", "/variables"),
        ("QUERY_STRING", "a=%20b"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("HTTPS", "on"),
        ("HTTP_X_EMPTY", ""),
        ("HTTP_X_NAME", "é"),
    ]));
    let text = session.answer("GET").text();
    for line in [
        "REQUEST_URI=/shop/vari%61bles?a=%20b",
        "SCRIPT_NAME=/shop",
        "QUERY_STRING=a=%20b",
        "HTTP_X_EMPTY=",
        "HTTP_X_NAME=é",
        "wsgi.url_scheme=https",
        "wsgi.multithread=False",
        "wsgi.multiprocess=True",
        "wsgi.input_terminated=True",
        "wsgi.version=(1, 0)",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is missing in {text}");
    }
}

#[test]
fn a_body_is_bounded_by_its_length_or_its_last_chunk() {
    let Some((_app, worker)) = pages("bodies") else { return };
    let mut session = Session::new(&worker);
    let lines = session.post("/lines", b"a\nbb\nccc\nd").text();
    assert_eq!(lines, r"(b'a\n', [b'bb\n'], [b'ccc\n', b'd'], b'', b'')");
    assert_eq!(session.post("/echo", b"").text(), "");
    let large = vec![b'x'; 3_000_000];
    assert!(session.post("/echo", &large).body == large);
    let chunked = [("HTTP_TRANSFER_ENCODING", "chunked"), ("CONTENT_LENGTH", "2")];
    for ending in ["0\r\n\r\n", "000\r\nTrailer: x\r\nAnother: y\r\n\r\n"] {
        session.send(&request("POST", "/echo", &chunked));
        for piece in ["5;ext=1\r", "\nhello\r\n", "A\r\n, and", " more\r\n", ending] {
            session.send(piece.as_bytes());
        }
        assert_eq!(session.answer("POST").text(), "hello, and more");
    }
    assert_eq!(session.get("/hello").status, 200);
}

#[test]
fn a_body_reaches_the_app_as_it_comes() {
    let Some((_app, worker)) = pages("streamed bodies") else { return };
    let mut session = Session::new(&worker);
    session.send(&request("POST", "/stream", &[("CONTENT_LENGTH", "6")]));
    session.send(b"one");
    assert_eq!(session.line().as_deref(), Some("HTTP/1.1 200 OK"));
    while session.line().is_some_and(|line| !line.is_empty()) {}
    assert_eq!((session.line().as_deref(), session.line().as_deref()), (Some("3"), Some("one")));
    session.send(b"two");
    assert_eq!((session.line().as_deref(), session.line().as_deref()), (Some("3"), Some("two")));
    assert_eq!(session.line().as_deref(), Some("0"));
}

#[test]
fn a_connection_is_kept_by_the_matrix_of_bodies_lengths_and_statuses() {
    let Some((_app, worker)) = pages("keep-alive") else { return };
    const LENGTH: Option<&str> = Some("content-length");
    const CHUNKED: Option<&str> = Some("transfer-encoding");
    // Method, page, protocol; how the body is framed, the body, whether the connection is kept.
    let matrix = [
        ("GET", "/hello", "HTTP/1.1", LENGTH, "hello", true),
        ("GET", "/hello", "HTTP/1.0", LENGTH, "hello", true),
        ("GET", "/empty", "HTTP/1.1", LENGTH, "", true),
        ("GET", "/pieces", "HTTP/1.1", LENGTH, "onetwo", true),
        ("GET", "/generator", "HTTP/1.1", CHUNKED, "onetwo", true),
        ("GET", "/generator", "HTTP/1.0", None, "onetwo", false),
        ("GET", "/write", "HTTP/1.1", CHUNKED, "onetwo", true),
        ("GET", "/length", "HTTP/1.1", LENGTH, "hello", true),
        ("GET", "/hop", "HTTP/1.1", LENGTH, "hello", true),
        ("GET", "/close", "HTTP/1.1", LENGTH, "hello", false),
        ("HEAD", "/hello", "HTTP/1.1", None, "", true),
        ("HEAD", "/generator", "HTTP/1.1", None, "", true),
        ("HEAD", "/length", "HTTP/1.1", LENGTH, "", true),
        ("GET", "/status?200", "HTTP/1.1", LENGTH, "body", true),
        ("GET", "/status?204", "HTTP/1.1", None, "", true),
        ("GET", "/status?304", "HTTP/1.1", LENGTH, "", true),
        ("GET", "/status?404", "HTTP/1.1", LENGTH, "body", true),
        ("GET", "/file_in_memory", "HTTP/1.1", CHUNKED, "", true),
    ];
    for (method, page, protocol, framed, body, kept) in matrix {
        let mut session = Session::new(&worker);
        session.send(&request(method, page, &[("SERVER_PROTOCOL", protocol)]));
        let answer = session.answer(method);
        let case = format!("{method} {page} {protocol}: {answer:?}");
        let frames = ["content-length", "transfer-encoding"];
        assert_eq!(frames.into_iter().find(|name| answer.header(name).is_some()), framed, "{case}");
        assert_eq!(answer.header("connection"), (!kept).then_some("close"), "{case}");
        assert!(answer.complete && (body.is_empty() || answer.text() == body), "{case}");
        if kept {
            assert_eq!(session.get("/hello").text(), "hello", "{case}");
        } else {
            assert!(session.is_closed(), "{case}");
        }
    }
    let mut session = Session::new(&worker);
    let hop = session.get("/hop");
    assert_eq!((hop.header("keep-alive"), hop.header("upgrade"), hop.header("x-kept")), (None, None, Some("yes")));
    session.send(&request("GET", "/hello", &[("HTTP_CONNECTION", "close")]));
    assert_eq!(session.answer("GET").header("connection"), Some("close"));
    assert!(session.is_closed());
}

#[test]
fn what_the_app_leaves_of_a_body_is_discarded_up_to_a_limit() {
    let Some((_app, worker)) = pages("unread bodies") else { return };
    let mut session = Session::new(&worker);
    assert_eq!(session.post("/ignore", &vec![b'x'; 60_000]).text(), "ignored");
    session.send(&request("POST", "/ignore", &[("HTTP_TRANSFER_ENCODING", "chunked")]));
    session.send(b"3\r\nabc\r\n0\r\n\r\n");
    assert_eq!(session.answer("POST").text(), "ignored");
    session.send(&request("POST", "/ignore", &[("CONTENT_LENGTH", "70000")]));
    let answer = session.answer("POST");
    assert_eq!((answer.text().as_str(), answer.header("connection")), ("ignored", Some("close")));
    assert!(session.is_closed());
}

#[test]
fn headers_that_are_none_are_the_apps_mistake() {
    let Some((_app, worker)) = pages("bad headers") else { return };
    for page in ["/control", "/name", "/text", "/twice", "/early", "/status?abc", "/status?100"] {
        let mut session = Session::new(&worker);
        let answer = session.get(page);
        assert_eq!(answer.status, 500, "{page}: {answer:?}");
        assert!(!answer.text().contains("Set-Cookie"));
        assert_eq!(session.get("/hello").status, 200, "nothing was sent, so the connection is good");
    }
}

#[test]
fn exceptions_are_told_in_the_log_and_the_worker_lives() {
    let Some((_app, worker)) = pages("exceptions") else { return };
    let mut session = Session::new(&worker);
    for (page, says) in [("/raise", "ValueError: no such luck"), ("/leave", "SystemExit: 3")] {
        assert_eq!(session.get(page).status, 500);
        let log = worker.process.error.until(says);
        assert!(!log.contains("/proc/self/fd"), "the loader's own lines are nobody's business: {log}");
    }
    let answer = session.get("/excinfo");
    assert_eq!((answer.status, answer.reason.as_str(), answer.text().as_str()), (503, "Later", "sorry"));
    for page in ["/raise_late", "/excinfo_late", "/short"] {
        let mut session = Session::new(&worker);
        let answer = session.get(page);
        assert!(!answer.complete, "{page} must be visibly incomplete: {answer:?}");
        assert!(session.is_closed());
    }
    worker.process.error.until("ValueError: changed its mind too late");
    worker.process.error.until("2 bytes shorter than its Content-Length of 5");
    assert_eq!(session.get("/hello").status, 200);
}

#[test]
fn what_an_app_returns_is_always_closed() {
    let Some((_app, worker)) = pages("closing") else { return };
    let mut session = Session::new(&worker);
    assert_eq!(session.get("/closed").text(), "one");
    worker.process.output.until("closed 1");
    assert!(!session.get("/closed_anyway").complete);
    worker.process.output.until("closed 2");
}

#[test]
fn files_are_sent_whole_from_where_they_stand() {
    let Some((app, worker)) = pages("files") else { return };
    let content: Vec<u8> = (0..2_000_000_u32).map(|number| number.to_le_bytes()[1]).collect();
    std::fs::write(app.path("file.bin"), &content).unwrap();
    let mut session = Session::new(&worker);
    let answer = session.get("/file");
    assert_eq!(answer.header("content-length"), Some("1999997"));
    assert!(answer.body == content[3..]);
    assert_eq!(session.get("/file_in_memory").body, vec![b'x'; 10_000]);
    session.send(&request("HEAD", "/file", &[]));
    assert_eq!(session.answer("HEAD").header("content-length"), None);
    assert_eq!(session.get("/zipped_file").text(), "unzipped");
}

#[test]
fn a_client_that_vanishes_costs_a_line_in_the_log() {
    let Some((_app, worker)) = pages("vanishing clients") else { return };
    let mut session = Session::new(&worker);
    session.send(&request("GET", "/flood", &[]));
    assert_eq!(session.line().as_deref(), Some("HTTP/1.1 200 OK"));
    drop(session);
    worker.process.error.until("a client left: ");
    let mut session = Session::new(&worker);
    session.send(&request("POST", "/echo", &[("CONTENT_LENGTH", "10")]));
    session.send(b"half");
    drop(session);
    worker.process.error.until("the request's body ended too early");
    Session::new(&worker).send(b"1000:REQ");
    worker.process.error.until("in the middle of a request's block");
    let mut session = Session::new(&worker);
    session.send(&request("GET", "/hello", &[]));
    session.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(session.answer("GET").text(), "hello", "half-closed is not gone");
    assert!(session.is_closed());
    let log = worker.process.error.so_far();
    assert!(!log.contains("Traceback") && log.lines().count() <= 3, "{log}");
}

#[test]
fn one_thread_is_one_request_at_a_time_and_more_are_as_many() {
    let Some((_app, worker)) = pages_with("threads", 3) else { return };
    let mut sessions: Vec<Session> = (0..3).map(|_| Session::new(&worker)).collect();
    for round in 0..3 {
        for session in &mut sessions {
            session.send(&request("GET", "/together", &[]));
        }
        for session in &mut sessions {
            assert_eq!(session.answer("GET").text(), "together", "round {round}");
        }
    }
    let variables = sessions[0].get("/variables").text();
    assert!(variables.contains("wsgi.multithread=True"), "{variables}");

    let Some((app, worker)) = pages("one thread") else { return };
    let (mut slow, mut other) = (Session::new(&worker), Session::new(&worker));
    slow.send(&request("GET", "/slow", &[]));
    worker.process.output.until("at work");
    other.send(&request("GET", "/hello", &[]));
    assert!(!wait_for(other.stream.as_fd(), Duration::from_millis(50)));
    app.write("go", "");
    assert_eq!((slow.answer("GET").text(), other.answer("GET").text()), ("done".into(), "hello".into()));
}

#[test]
fn a_worker_that_is_told_to_leave_finishes_its_request() {
    for (threads, signal) in [(1, Signal::SIGTERM), (4, Signal::SIGTERM), (1, Signal::SIGINT)] {
        let Some((app, mut worker)) = pages_with("leaving", threads) else { return };
        let mut parked = Session::new(&worker);
        assert_eq!(parked.get("/hello").status, 200);
        let mut session = Session::new(&worker);
        session.send(&request("GET", "/slow", &[]));
        worker.process.output.until("at work");
        worker.process.signal(signal);
        app.write("go", "");
        let answer = session.answer("GET");
        assert_eq!(answer.text(), "done");
        assert_eq!(worker.process.wait(), 0, "{}", worker.process.error.so_far());
        assert_eq!(worker.process.error.so_far(), "");
        assert!(parked.is_closed());

        let Some((_app, mut idle)) = pages_with("leaving", threads) else { return };
        assert_eq!(Session::new(&idle).get("/hello").status, 200);
        idle.process.signal(signal);
        assert_eq!(idle.process.wait(), 0);
    }
}

#[test]
fn the_validator_of_the_standard_library_finds_nothing() {
    let app = App::new(&[(
        "valid.py",
        r#"
from wsgiref.validate import validator
def app(environ, start_response):
    body = environ["wsgi.input"].read(10) + environ["wsgi.input"].readline() + b"".join(environ["wsgi.input"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"valid ", body] if environ["QUERY_STRING"] == "list" else iter([b"valid ", body])
app = validator(app)
"#,
    )]);
    let Some(launch) = launch("the validator", "wsgi", &app, "valid.py", 1) else { return };
    let worker = launch.direct();
    let mut session = Session::new(&worker);
    for target in ["/a?list", "/b"] {
        let answer = session.post(target, b"a body\nof two lines");
        assert_eq!(answer.text(), "valid a body\nof two lines", "{}", worker.process.error.so_far());
    }
    assert_eq!(worker.process.error.so_far(), "");
}
