//! Workers that speak `session`: a block of CGI variables in, HTTP out.

mod support;

use std::collections::BTreeMap;
use support::apps::{self, App};
use support::front::Front;
use support::http::Browser;
use support::{has, until_blocking};

/// Written by hand, to the letter of the protocol, one connection at a time.
const WORKER: &str = r#"
import json, os, signal, socket, sys

signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
connections = 0

def block(stream):
    length = b""
    while True:
        byte = stream.read(1)
        if byte == b"":
            return None
        if byte == b":":
            break
        length += byte
    words = stream.read(int(length)).split(b"\0")
    assert words.pop() == b"" and stream.read(1) == b","
    return {words[at].decode("latin-1"): words[at + 1].decode("latin-1") for at in range(0, len(words), 2)}

def body(stream, env):
    if env.get("HTTP_TRANSFER_ENCODING") == "chunked":
        whole = b""
        while size := int(stream.readline(), 16):
            whole += stream.read(size)
            stream.readline()
        stream.readline()
        return whole
    return stream.read(int(env.get("CONTENT_LENGTH", 0)))

def answer(wire, text, head="", status="200 OK"):
    data = text.encode()
    wire.sendall(f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)

def serve(wire):
    stream = wire.makefile("rb")
    while (env := block(stream)) is not None:
        if not env:
            wire.sendall(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
            return
        path = env["PATH_INFO"]
        if path == "/switch":
            wire.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly ")
            while data := wire.recv(1000):
                wire.sendall(data)
            return
        data = body(stream, env)
        if path == "/connections":
            answer(wire, str(connections))
        elif path == "/length":
            answer(wire, f"{len(data)} {sum(data) % 1000003}")
        elif path == "/hints":
            wire.sendall(b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n")
            answer(wire, "hinted")
        elif path == "/chunked":
            wire.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n")
        elif path == "/half":
            wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it")
            return
        elif path == "/close":
            answer(wire, "closed", "Connection: close\r\n")
            return
        elif path == "/nonsense":
            wire.sendall(b"nonsense\r\n\r\n")
            return
        elif env["REQUEST_METHOD"] == "HEAD":
            wire.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        else:
            answer(wire, json.dumps(env))

listener = socket.socket(fileno=3)
while True:
    wire, _ = listener.accept()
    connections += 1
    with wire:
        try:
            serve(wire)
        except OSError as error:
            print(error, file=sys.stderr)
"#;

fn app() -> Option<App> {
    has("python3", "a worker that speaks `session`").then(|| {
        let app = apps::with_manifest("command = [\"python3\", \"worker.py\"]\nprotocol = \"session\"\n");
        app.write("worker.py", WORKER);
        app
    })
}

fn variables(browser: &mut Browser, method: &str, path: &str, headers: &str) -> BTreeMap<String, String> {
    browser.ask(method, path, headers);
    serde_json::from_str(&browser.answer().ok()).expect("variables")
}

#[test]
fn a_request_is_told_in_exactly_these_variables() {
    let Some(app) = app() else { return };
    let front = Front::of(app.root(), &["-e", "production"]);
    let mut browser = front.browser();
    let said = "Accept: a\r\nAccept: b\r\nCookie: x=1\r\nCookie: y=2\r\nX_Forwarded_For: 1\r\nMy_Name: evil\r\n\
                Proxy: http://evil\r\nX-Own: 1\r\nKeep-Alive: 5\r\n";
    let read = variables(&mut browser, "GET", "/a%20b/c%2Fd?x=%20&y", said);
    let host = front.address();
    let port = host.rsplit(':').next().unwrap().to_owned();
    let software = concat!("hatchery/", env!("CARGO_PKG_VERSION"));
    let wanted = [
        ("GATEWAY_INTERFACE", "CGI/1.1"),
        ("SERVER_SOFTWARE", software),
        ("REQUEST_METHOD", "GET"),
        ("REQUEST_URI", "/a%20b/c%2Fd?x=%20&y"),
        ("SCRIPT_NAME", ""),
        ("PATH_INFO", "/a b/c/d"),
        ("QUERY_STRING", "x=%20&y"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SERVER_NAME", "localhost"),
        ("SERVER_PORT", "80"),
        ("REMOTE_ADDR", "127.0.0.1"),
        ("HTTP_HOST", "localhost"),
        ("HTTP_ACCEPT", "a, b"),
        ("HTTP_COOKIE", "x=1; y=2"),
        ("HTTP_X_OWN", "1"),
        ("HTTP_X_FORWARDED_FOR", "127.0.0.1"),
        ("HTTP_X_FORWARDED_PROTO", "http"),
        ("HTTP_X_FORWARDED_HOST", "localhost"),
    ];
    let wanted: BTreeMap<String, String> = wanted.map(|(name, value)| (name.into(), value.into())).into();
    assert_eq!(read, wanted);

    let said = format!("X-Forwarded-Proto: https\r\nX-Forwarded-For: 203.0.113.5\r\nX-Port: {port}\r\n");
    let read = variables(&mut browser, "DELETE", "/", &said);
    for (name, value) in [
        ("HTTPS", "on"),
        ("REMOTE_ADDR", "203.0.113.5"),
        ("SERVER_PORT", "443"),
        ("REQUEST_METHOD", "DELETE"),
        ("HTTP_X_FORWARDED_FOR", "203.0.113.5, 127.0.0.1"),
    ] {
        assert_eq!(read[name], value, "{name}");
    }
    assert!(front.end().success());
}

#[test]
fn a_prefix_is_the_scripts_name() {
    let Some(app) = app() else { return };
    let front = Front::serve(["--app", &format!("/shop={}", app.root().display())]);
    let mut browser = front.browser();
    for (path, info) in [("/shop/cart?a", "/cart"), ("/shop", ""), ("/shop/", "/")] {
        let read = variables(&mut browser, "GET", path, "");
        assert_eq!((read["SCRIPT_NAME"].as_str(), read["PATH_INFO"].as_str()), ("/shop", info));
        assert_eq!(read["REQUEST_URI"], path);
    }
    browser.ask("GET", "/shop/%00HTTP_X", "");
    assert_eq!(browser.answer().status, 400);
    assert!(front.end().success());
}

#[test]
fn bodies_come_with_their_length_or_in_chunks() {
    let Some(app) = app() else { return };
    let front = Front::of(app.root(), &[]);
    let mut browser = front.browser();
    let sum = |text: &str| format!("{} {}", text.len(), text.bytes().map(u64::from).sum::<u64>() % 1_000_003);
    for length in [0, 1, 1000, 100_000, 10_000_000] {
        let body = "abcdefg".repeat(length / 7 + 1)[..length].to_owned();
        assert_eq!(browser.post("/length", &body).ok(), sum(&body));
        browser.ask("POST", "/length", "Transfer-Encoding: chunked\r\n");
        for piece in body.as_bytes().chunks(30_000) {
            browser.send(format!("{:x}\r\n", piece.len()));
            browser.send(piece);
            browser.send("\r\n");
        }
        browser.send("0\r\n\r\n");
        assert_eq!(browser.answer().ok(), sum(&body));
    }
    let read = variables(&mut browser, "POST", "/", "Content-Length: 0\r\n");
    assert_eq!(read["CONTENT_LENGTH"], "0");
    let read = variables(&mut browser, "GET", "/", "Content-Type: a/b\r\n");
    assert_eq!((read.get("CONTENT_LENGTH"), read["CONTENT_TYPE"].as_str()), (None, "a/b"));
    assert!(front.end().success());
}

#[test]
fn many_requests_go_over_one_connection_and_answers_of_all_kinds_are_passed_on() {
    let Some(app) = app() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    let connections = browser.get("/connections").ok();
    for _ in 0..50 {
        assert_eq!(browser.get("/connections").ok(), connections);
        let head = browser.head("/");
        assert_eq!((head.status, head.header("content-length")), (200, "5"));
        assert_eq!(browser.get("/chunked").ok(), "abc");
        assert_eq!(browser.post("/length", "x").ok(), "1 120");
    }
    assert_eq!(browser.get("/connections").ok(), connections, "one connection to the worker");
    assert_eq!(browser.get("/close").ok(), "closed");
    assert_ne!(browser.get("/connections").ok(), connections, "the worker closed that one");
    assert!(front.end().success());
}

#[test]
fn hints_come_before_the_answer_and_a_connection_may_change_hands() {
    let Some(app) = app() else { return };
    let front = Front::of(app.root(), &[]);
    let mut browser = front.browser();
    browser.ask("GET", "/hints", "");
    let hints = browser.answer_head();
    assert_eq!((hints.status, hints.header("link")), (103, "</style.css>"));
    assert_eq!(browser.answer().ok(), "hinted");

    browser.ask("GET", "/switch", "Connection: upgrade\r\nUpgrade: echo\r\n");
    let head = browser.answer_head();
    assert_eq!((head.status, head.header("upgrade")), (101, "echo"));
    assert_eq!(browser.read_exact(6), "early ");
    browser.send("to and fro");
    assert_eq!(browser.read_exact(10), "to and fro");
    browser.half_close();
    assert_eq!(browser.rest(), "");
    assert!(front.end().success());
}

#[test]
fn what_a_connection_that_changes_hands_needs_is_told() {
    let Some(app) = app() else { return };
    let front = Front::of(app.root(), &[]);
    let read = variables(&mut front.browser(), "GET", "/", "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n");
    assert_eq!((read["HTTP_CONNECTION"].as_str(), read["HTTP_UPGRADE"].as_str()), ("upgrade", "websocket"));
    assert!(front.end().success());
}

#[test]
fn an_answer_that_breaks_off_is_seen_to_and_what_is_none_is_told() {
    let Some(app) = app() else { return };
    let front = Front::of(app.root(), &[]);
    let mut browser = front.browser();
    browser.ask("GET", "/half", "");
    let rest = browser.rest();
    // Where the end is seen with the beginning, nothing at all may be left to be sent.
    assert!(rest.is_empty() || rest.contains("content-length: 100") && rest.ends_with("half of it"), "{rest}");
    until_blocking("it is logged", || front.log().contains("answer broke off").then_some(()));
    assert_eq!(front.get("/nonsense").status, 502);
    assert_eq!(front.get("/connections").status, 200);
    assert!(front.end().success());
}
