//! Any program that serves: how it is told where to listen, and what is said of one that listens elsewhere.

mod support;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::net::{Shutdown, TcpStream};
use support::folders::{self, Folder};
use support::front::Front;
use support::{processes, runtimes, until_blocking};

/// Serves HTTP where its first arguments say, and tells what it was started with. `PORT` alone is `env`.
const SERVER: &str = r#"
import http.server, os, socket, socketserver, sys, time

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = f"{self.path} {sys.argv[1:]} {os.environ.get('GREETING')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_OPTIONS = do_GET

    def log_message(self, *ignored):
        pass

    def address_string(self):
        return "somebody"

class AtPath(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

class AtPort(http.server.ThreadingHTTPServer):
    daemon_threads = True

where = sys.argv[1] if len(sys.argv) > 1 else "env"
if where.startswith("/"):
    server = AtPath(where, Handler)
elif where == "env":
    server = AtPort(("127.0.0.1", int(os.environ["PORT"])), Handler)
else:
    address, port = where.rsplit(":", 1)
    server = AtPort((address, int(port)), Handler)
print("listens", flush=True)
server.serve_forever()
"#;

/// A folder with that program, for a Python that every user has.
fn with_server() -> Option<Folder> {
    runtimes::plain_python("programs that serve").map(|python| {
        let app = folders::empty();
        app.program("serve.py", &format!("#!{}{SERVER}", python.display()));
        app
    })
}

fn manifest(app: &Folder, text: &str) {
    app.write("hatchery.toml", text);
}

fn answers(front: &Front, expected: &str) {
    let mut browser = front.browser();
    for path in ["/a", "/b?c"] {
        let answer = browser.get(path).ok();
        assert!(answer.starts_with(path) && answer.contains(expected), "{answer}");
    }
    assert_eq!(front.status()["count"], 1);
}

/// What a tool is told of an app that can't be started.
fn report(front: &Front) -> serde_json::Value {
    let mut browser = front.browser();
    browser.ask("GET", "/", "Accept: application/json\r\n");
    let answer = browser.answer();
    assert_eq!(answer.status, 502, "{answer:?}");
    serde_json::from_str(&answer.body).expect("JSON")
}

fn says(report: &serde_json::Value, problem: &[&str], remedy: &str) {
    let said = report["problem"].as_str().expect("a sentence");
    for part in problem {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    let said = report["remedy"].as_str().expect("a sentence");
    assert!(said.contains(remedy), "{remedy} is not in {said}");
}

#[test]
fn a_procfile_is_served_by_its_web_line() {
    let Some(app) = with_server() else { return };
    app.write(
        "Procfile",
        "# what runs here\nworker: sleep 600\nweb: GREETING='hello you' ./serve.py 127.0.0.1:$PORT\n",
    );
    let front = Front::of(app.root(), &["--max", "1"]);
    assert!(front.first.contains("./serve.py"), "{}", front.first);
    answers(&front, "hello you");
    assert!(front.end().success());

    // What needs a shell gets one.
    app.write("Procfile", "web: export GREETING=$(echo from a shell) && exec ./serve.py \"0.0.0.0:${PORT:-5000}\"\n");
    let front = Front::of(app.root(), &["--max", "1"]);
    answers(&front, "from a shell");
    assert!(front.end().success());
}

#[test]
fn a_port_is_filled_in_or_found_in_the_environment() {
    let Some(app) = with_server() else { return };
    for (command, listen) in [
        ("[\"./serve.py\", \"127.0.0.1:{port}\"]", ""),
        ("\"./serve.py '0.0.0.0:{port}'\"", ""),
        ("[\"./serve.py\"]", "listen = \"port\"\n"),
        ("\"./serve.py env\"", "listen = \"port\"\n"),
    ] {
        manifest(&app, &format!("command = {command}\n{listen}[env]\nGREETING = \"hello you\"\n"));
        let front = Front::of(app.root(), &["--max", "1"]);
        answers(&front, "hello you");
        assert!(front.end().success(), "{command}");
    }
}

#[test]
fn two_workers_have_two_ports() {
    let Some(app) = with_server() else { return };
    manifest(&app, "command = [\"./serve.py\", \"127.0.0.1:{port}\"]\n");
    let front = Front::of(app.root(), &["--max", "3", "--min", "2", "--prestart"]);
    front.until("count", 2);
    let workers = || {
        let status = front.status();
        let workers = status["apps"][0]["workers"].as_array()?.clone();
        workers.iter().all(|worker| worker["state"] == "ready").then_some(workers)
    };
    let workers = until_blocking("both are ready", workers);
    let ports: Vec<String> = workers
        .iter()
        .map(|worker| processes::command_line(i32::try_from(worker["pid"].as_i64().unwrap()).unwrap()))
        .collect();
    assert_ne!(ports[0], ports[1]);
    assert!(front.end().success());
}

#[test]
fn a_socket_is_filled_in_and_nothing_of_it_is_left() {
    let Some(app) = with_server() else { return };
    manifest(&app, "command = [\"./serve.py\", \"{socket}\"]\n");
    let front = Front::of(app.root(), &["--max", "1"]);
    answers(&front, "/");
    let said = front.get("/").ok();
    let path = said.split('\'').nth(1).expect("its path");
    assert!(path.starts_with('/') && !std::path::Path::new(path).exists(), "{path} is removed once it is known");
    assert!(front.end().success());
}

#[test]
fn a_program_is_recognised_and_given_a_port() {
    let Some(app) = with_server() else { return };
    let front = Front::of(app.root(), &["--max", "1"]);
    assert!(front.first.contains("./serve.py"), "{}", front.first);
    answers(&front, "[]");
    assert!(front.end().success());
}

#[test]
fn a_shell_script_may_stay_or_execute_its_server() {
    let Some(app) = with_server() else { return };
    for how in ["exec ./serve.py \"127.0.0.1:$PORT\"", "./serve.py \"127.0.0.1:$PORT\"\necho over"] {
        app.program("start", &format!("#!/bin/sh\nset -e\nexport GREETING=hello\n{how}\n"));
        let front = Front::of(app.root(), &["--max", "1"]);
        assert!(front.first.contains("./start"), "{}", front.first);
        answers(&front, "hello");
        assert!(front.end().success());
    }
}

#[test]
fn a_program_that_listens_elsewhere_is_told_where_it_was_found() {
    let Some(app) = with_server() else { return };
    // A port that is free, for a moment.
    let other = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    manifest(&app, &format!("command = [\"./serve.py\", \"127.0.0.1:{other}\"]\nlisten = \"port\"\n"));
    let front = Front::of(app.root(), &["--max", "1"]);
    let said = report(&front);
    says(&said, &[&format!("127.0.0.1:{other}"), "instead of PORT="], "PORT");
    assert!(said["output"].as_str().expect("its output").contains("listens"), "{said}");
    assert!(front.log().contains(&format!("127.0.0.1:{other}")), "{}", front.log());
    assert!(front.end().success());

    manifest(&app, "command = [\"./serve.py\", \"127.0.0.2:{port}\"]\n");
    let front = Front::of(app.root(), &["--max", "1"]);
    says(&report(&front), &["127.0.0.2:", "127.0.0.1:"], "127.0.0.1");
    assert!(front.end().success());

    manifest(&app, "command = [\"./serve.py\", \"{socket}.2\"]\n");
    let front = Front::of(app.root(), &["--max", "1"]);
    says(&report(&front), &[".2 instead of "], "{socket}");
    assert!(front.end().success());
}

/// Says its port and then does nothing.
const SILENT: &str = "command = [\"sh\", \"-c\", \"echo {port} >WORD.new; mv WORD.new WORD; exec sleep 600\"]\n";

#[test]
fn whoever_has_taken_its_port_is_named() {
    let app = folders::empty();
    let word = app.word("port");
    manifest(&app, &SILENT.replace("WORD", word.to_str().expect("a path of text")));
    let front = Front::of(app.root(), &["--max", "1"]);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| report(&front));
        let port: u16 = until_blocking("it has a port", || {
            std::fs::read_to_string(&word).ok().map(|port| port.trim().parse().expect("a port"))
        });
        let _taken = TcpListener::bind(("127.0.0.1", port)).expect("it is free");
        let own = std::process::id().to_string();
        let expected = [&format!("port {port} is taken by"), own.as_str(), &format!("127.0.0.1:{port}")];
        says(&asking.join().expect("an answer"), &expected, "another port");
    });
    assert!(front.end().success());
}

#[test]
fn a_program_that_ends_since_its_own_port_is_taken_is_told_to_take_the_given_one() {
    let Some(app) = with_server() else { return };
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("its address").port();
    manifest(&app, &format!("command = [\"./serve.py\", \"127.0.0.1:{port}\"]\nlisten = \"port\"\n"));
    let front = Front::of(app.root(), &["--max", "1"]);
    let said = report(&front);
    says(&said, &["taken", "Address already in use"], "PORT");
    assert_eq!(said["exit"]["status"], 1, "{said}");
    assert!(front.end().success());
}

/// Refuses what it is asked for before it has read it, and reads no more.
const HASTY: &str = "
import socket
listener = socket.socket(fileno=3)
while True:
    connection, _ = listener.accept()
    head = b''
    while b'\\r\\n\\r\\n' not in head:
        some = connection.recv(64)
        if not some:
            break
        head += some
    else:
        connection.sendall(b'HTTP/1.1 413 Too much\\r\\nConnection: close\\r\\nContent-Length: 8\\r\\n\\r\\ntoo much')
    connection.close()
";

#[test]
fn an_answer_that_comes_before_its_request_is_read_is_passed_on() {
    let Some(python) = runtimes::plain_python("answers that come early") else { return };
    let app = folders::empty();
    app.program("server", &format!("#!{}{HASTY}", python.display()));
    manifest(&app, "command = \"./server\"\n");
    let front = Front::of(app.root(), &[]);
    let request =
        format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3000000\r\n\r\n{}", "y".repeat(3_000_000));
    for _ in 0..20 {
        let mut client = TcpStream::connect(front.address()).expect("a connection");
        let mut sending = client.try_clone().expect("a descriptor");
        let request = request.clone();
        // Whether all of it is taken is not the question.
        let sender = std::thread::spawn(move || sending.write_all(request.as_bytes()));
        let mut answer = [0; 12];
        client.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 413", "{}", front.log());
        drop(client.shutdown(Shutdown::Both));
        drop(sender.join());
    }
    assert!(front.end().success());
}
