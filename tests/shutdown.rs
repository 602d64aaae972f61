//! `shutdown`, said to the pool: the web server serves what is open to its end, and all of it goes.

mod support;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use support::front::Front;
use support::live_page::LivePage;
use support::{apps, until_blocking};

/// A line, typed into the admin socket; the last line of its answer.
fn typed(front: &Front, line: &str) -> String {
    let mut socket = UnixStream::connect(front.admin()).expect("the admin socket");
    socket.write_all(format!("{line}\n").as_bytes()).expect("it reads");
    let lines = BufReader::new(socket).lines().map(|line| line.expect("a line"));
    lines.into_iter().find(|line| !line.starts_with("  ")).expect("an answer")
}

#[test]
fn an_open_request_is_served_to_its_end_and_nothing_new_begins() {
    let app = apps::worker();
    let mut front = Front::of(app.root(), &["--max", "1", "--admin-http", "0"]);
    let page = LivePage::of(&mut front);
    let gate = app.root().join("gate");
    let mut browser = front.browser();
    browser.ask("GET", &format!("/until?{}", gate.display()), "");
    front.until("active", 1);
    assert_eq!((page.get("/healthz").status, page.get("/readyz").status), (200, 200));
    let pool = front.pool();
    assert_eq!(typed(&front, "shutdown"), "ok");
    let ready =
        until_blocking("it says that it ends", || Some(page.get("/readyz")).filter(|answer| answer.status == 503));
    assert!(ready.body.contains("shutting down"), "{ready:?}");
    assert_eq!(page.get("/healthz").status, 200, "it lives");
    until_blocking("nobody can connect", || std::net::TcpStream::connect(front.address()).is_err().then_some(()));
    std::fs::write(&gate, "").expect("a test's own file");
    let answer = browser.answer();
    assert_eq!((answer.status, answer.body.as_str()), (200, "waited"));
    assert_eq!(front.ended().code(), Some(0));
    front.nothing_is_left(&pool);
    assert!(!front.log().contains("a new one is running"), "{}", front.log());
}

#[test]
fn with_nothing_to_serve_it_ends_at_once() {
    let mut front = Front::demo();
    let pool = front.pool();
    assert_eq!(front.get("/").status, 200);
    assert_eq!(typed(&front, "json shutdown"), "{\"ok\":true}");
    assert_eq!(front.ended().code(), Some(0));
    front.nothing_is_left(&pool);
    assert!(!front.log().contains("a new one is running"), "{}", front.log());
}
