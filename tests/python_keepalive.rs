//! Python's own web server serves one connection at a time, and reads from it until that is closed: whoever keeps
//! a connection to it keeps everybody else out. Two clients that both like to keep theirs must not wait for it.

mod support;

use hatchery_pool_client::{Client, Session};
use std::time::{Duration, Instant};
use support::apps::{self, App};
use support::front::Front;
use support::{PATIENCE, builder, has};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ROUNDS: u32 = 20;

/// How long a connection may be parked that nobody asks for. Waiting for the end of that would be no help.
const PARKED: Duration = Duration::from_millis(1500);

fn server() -> App {
    let app = apps::with_manifest("command = [\"python3\", \"server.py\"]\nconcurrency = 1\n");
    app.write(
        "server.py",
        r#"
import os, socket
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connections = 0

    def setup(self):
        Handler.connections += 1
        super().setup()

    def do_GET(self):
        body = f"{os.getpid()} {Handler.connections}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

class Server(HTTPServer):
    def get_request(self):
        return self.socket.accept()[0], ("", 0)

server = Server(("", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.serve_forever()
"#,
    );
    app
}

/// A request over a connection that stays open; who answered, and over which connection of its.
async fn visit(client: &Client, app: &App) -> (bool, String) {
    let mut session = client.get(app.root()).await.expect("a session");
    session.write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await.expect("a request is taken");
    let answer = answer(&mut session).await;
    let reused = session.is_reused();
    session.keep().await.expect("keep");
    (reused, answer)
}

async fn answer(session: &mut Session) -> String {
    let mut read = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
            if body.len() == length.parse::<usize>().expect("a number") {
                return body.to_owned();
            }
        }
        assert_ne!(session.read_buf(&mut read).await.expect("an answer"), 0, "it ended after {text:?}");
    }
}

#[tokio::test]
async fn a_parked_connection_makes_way_for_another_client() {
    if !has("python3", "Python's own keep-alive server") {
        return;
    }
    let app = server();
    let server = builder().max(1).start().unwrap();
    let (a, b) = (server.connect().await.unwrap(), server.connect().await.unwrap());
    let (_, first) = visit(&a, &app).await;
    assert_eq!(visit(&a, &app).await, (true, first.clone()), "alone, a client keeps its connection");
    let began = Instant::now();
    let pid = first.split(' ').next().unwrap();
    for _ in 0..ROUNDS {
        for client in [&b, &a] {
            let (reused, answer) = tokio::time::timeout(PATIENCE, visit(client, &app)).await.expect("nobody hangs");
            assert!(!reused, "the other one has taken it away");
            assert_eq!(answer.split(' ').next(), Some(pid));
        }
    }
    let took = began.elapsed();
    assert!(took < PARKED * ROUNDS, "nobody waits until a connection is given up by itself, but it took {took:?}");
    assert_eq!(server.connect().await.unwrap().count().await.unwrap(), 1);
}

#[tokio::test]
async fn several_clients_at_once_all_get_their_turns() {
    if !has("python3", "Python's own keep-alive server") {
        return;
    }
    let app = std::sync::Arc::new(server());
    let server = builder().max(1).start().unwrap();
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (client, app) = (server.connect().await.unwrap(), app.clone());
        clients.push(tokio::spawn(async move {
            for _ in 0..ROUNDS {
                visit(&client, &app).await;
            }
        }));
    }
    for client in clients {
        tokio::time::timeout(PATIENCE, client).await.expect("nobody hangs").unwrap();
    }
}

// Where the question whether it is ready is answered by an error page, in two writes.
#[test]
fn nothing_on_its_way_to_the_first_answer_is_an_error_in_its_log() {
    if !has("python3", "Python's own keep-alive server") {
        return;
    }
    let app = server();
    for _ in 0..5 {
        let mut front = Front::of(app.root(), &[]);
        front.get("/").ok();
        front.signal(nix::sys::signal::Signal::SIGTERM);
        assert!(front.ended().success());
        assert!(!front.log().contains("Traceback"));
    }
}

#[test]
fn browsers_that_keep_their_connections_do_not_keep_each_other_out() {
    if !has("python3", "Python's own keep-alive server") {
        return;
    }
    let app = server();
    let front = Front::of(app.root(), &["--max", "1"]);
    let (mut a, mut b) = (front.browser(), front.browser());
    let first = a.get("/").ok();
    let began = Instant::now();
    for _ in 0..ROUNDS {
        assert_eq!(b.get("/").ok(), first, "both over the one connection that the web server keeps");
        assert_eq!(a.get("/").ok(), first);
    }
    assert!(began.elapsed() < PARKED * ROUNDS, "{:?}", began.elapsed());
    let many: Vec<_> = [a, b]
        .into_iter()
        .map(|mut browser| std::thread::spawn(move || (0..ROUNDS).for_each(|_| drop(browser.get("/").ok()))))
        .collect();
    many.into_iter().for_each(|browser| browser.join().unwrap());
    assert_eq!(front.status()["count"], 1);
    assert!(front.end().success());
}
