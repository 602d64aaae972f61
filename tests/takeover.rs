//! A web server takes over from another, or ends, while browsers use it: none is refused or loses a request.

mod support;

use nix::sys::signal::Signal;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;
use support::apps;
use support::front::{self, Front};
use support::{HATCHERY, PATIENCE, processes, until_blocking};

const BROWSERS: usize = 16;

/// `hatchery serve` that is handed this socket, as a service manager does.
fn serve(socket: &TcpListener, arguments: &[&str]) -> Front {
    let folder = front::folder();
    let mut command = Command::new("sh");
    let script = "exec 3<&0 </dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    command.args(["-c", script, "sh", HATCHERY, "serve"]).args(arguments);
    command.stdin(Stdio::from(OwnedFd::from(socket.try_clone().expect("a descriptor"))));
    command.current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
    Front::start(command, folder)
}

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}

/// How one exchange went.
#[derive(Debug)]
enum Went {
    /// Answered; whether the connection can be used again.
    Well {
        kept: bool,
    },
    /// The connection was closed before the request was sent.
    Closed,
    Wrong(String),
}

/// One request with a body, and its answer.
fn exchange(stream: &mut TcpStream, body: &str) -> Went {
    stream.set_nonblocking(true).expect("a socket");
    let ended = stream.peek(&mut [0]).is_ok() || stream.take_error().is_ok_and(|error| error.is_some());
    stream.set_nonblocking(false).expect("a socket");
    if ended {
        return Went::Closed;
    }
    let length = body.len();
    let request = format!("POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n{body}");
    let mut answer = Vec::new();
    let mut exchanged = || -> std::io::Result<()> {
        stream.write_all(request.as_bytes())?;
        let mut some = [0; 4096];
        while !is_whole(&answer) {
            match stream.read(&mut some)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => answer.extend(&some[..read]),
            }
        }
        Ok(())
    };
    if let Err(error) = exchanged() {
        return Went::Wrong(format!("{error} after {:?}", String::from_utf8_lossy(&answer)));
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    if !answer.starts_with("HTTP/1.1 200 ") || !answer.ends_with(body) {
        return Went::Wrong(answer);
    }
    Went::Well { kept: !answer.to_ascii_lowercase().contains("\r\nconnection: close\r\n") }
}

fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer).to_ascii_lowercase();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    length.is_some_and(|length| length.parse() == Ok(body.len()))
}

/// What became of all that browsers asked.
#[derive(Default)]
struct Load {
    over: AtomicBool,
    answered: AtomicUsize,
}

impl Load {
    /// Asks until it is over, or until nobody listens any more if that is how it ends. What went wrong.
    fn browse(&self, address: SocketAddr, until_refused: bool) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut kept: Option<TcpStream> = None;
        let mut number = 0;
        while !self.over.load(Ordering::Relaxed) && wrong.len() < 3 {
            let fresh = kept.is_none();
            let stream = kept.take().map_or_else(|| TcpStream::connect(address), Ok);
            let mut stream = match stream {
                Ok(stream) => stream,
                Err(_) if until_refused => break,
                Err(error) => {
                    wrong.push(format!("no connection: {error}"));
                    continue;
                }
            };
            stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
            number += 1;
            match exchange(&mut stream, &format!("request {number} {}", "x".repeat(number % 3000))) {
                Went::Well { kept: again } => {
                    self.answered.fetch_add(1, Ordering::Relaxed);
                    kept = again.then_some(stream);
                }
                Went::Closed if !fresh => {}
                // The kernel took it for a server that was just closing: as good as refused.
                Went::Closed | Went::Wrong(_) if fresh && until_refused => break,
                Went::Closed => wrong.push("closed before a request".into()),
                Went::Wrong(what) => wrong.push(what),
            }
        }
        wrong
    }

    fn until_answered(&self, further: usize) {
        let wanted = self.answered.load(Ordering::Relaxed) + further;
        until_blocking("requests are answered", || (self.answered.load(Ordering::Relaxed) >= wanted).then_some(()));
    }
}

/// Runs `events` under load, and returns what went wrong.
fn under_load(address: SocketAddr, until_refused: bool, events: impl FnOnce(&Load)) -> Vec<String> {
    let load = Load::default();
    thread::scope(|scope| {
        let browsers: Vec<_> = (0..BROWSERS).map(|_| scope.spawn(|| load.browse(address, until_refused))).collect();
        load.until_answered(BROWSERS * 2);
        events(&load);
        if !until_refused {
            load.over.store(true, Ordering::Relaxed);
        }
        browsers.into_iter().flat_map(|browser| browser.join().expect("a browser")).collect()
    })
}

fn app() -> apps::App {
    apps::worker_with("concurrency = 0", &[("TEST_THREADS", "1")])
}

fn path(root: &Path) -> &str {
    root.to_str().expect("a path of text")
}

#[test]
fn a_new_server_takes_over_the_socket_and_no_browser_is_refused_or_loses_a_request() {
    let app = app();
    let (socket, address) = listener();
    let mut serving = serve(&socket, &[path(app.root())]);
    assert!(serving.first.contains(&address.to_string()), "{}", serving.first);
    let wrong = under_load(address, false, |load| {
        for _ in 0..3 {
            let next = serve(&socket, &[path(app.root())]);
            load.until_answered(BROWSERS * 4);
            let mut before = std::mem::replace(&mut serving, next);
            let pool = before.pool();
            before.signal(Signal::SIGTERM);
            assert!(before.ended().success());
            before.nothing_is_left(&pool);
            load.until_answered(BROWSERS * 4);
        }
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    serving.end();
}

#[test]
fn a_server_that_is_told_to_end_answers_all_that_it_accepted() {
    let app = app();
    let mut serving = Front::of(app.root(), &[]);
    let (pool, address) = (serving.pool(), serving.address().parse().expect("an address"));
    let wrong = under_load(address, true, |load| {
        load.until_answered(BROWSERS * 4);
        serving.signal(Signal::SIGTERM);
    });
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(serving.ended().success());
    serving.nothing_is_left(&pool);
}

#[test]
fn a_handed_socket_is_used_for_its_address_and_one_that_nobody_named_is_served_too() {
    let app = app();
    let (socket, address) = listener();
    for (option, value, urls) in [("--listen", address.to_string(), 1), ("-p", "0".to_owned(), 2)] {
        let serving = serve(&socket, &[path(app.root()), option, &value]);
        assert_eq!(serving.first.matches("http://").count(), urls, "{}", serving.first);
        let mut stream = TcpStream::connect(address).unwrap();
        assert!(matches!(exchange(&mut stream, "body"), Went::Well { kept: true }), "{address}");
        serving.end();
    }
}

#[test]
fn nothing_but_the_server_holds_a_handed_socket() {
    let app = app();
    let (socket, address) = listener();
    let mut serving = serve(&socket, &[path(app.root())]);
    drop(socket);
    let mut stream = TcpStream::connect(address).unwrap();
    assert!(matches!(exchange(&mut stream, "body"), Went::Well { kept: true }));
    let inode = |pid: i32| {
        let held = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").flatten();
        held.filter_map(|entry| std::fs::read_link(entry.path()).ok()).collect::<Vec<_>>()
    };
    let listening = listening_inode(address);
    assert!(inode(serving.pid()).contains(&listening));
    let pool = serving.pool();
    for process in processes::of_pool(&pool) {
        assert!(!inode(process).contains(&listening), "{}", processes::command_line(process));
    }
    drop(stream);
    serving.signal(Signal::SIGTERM);
    assert!(serving.ended().success());
    serving.nothing_is_left(&pool);
}

/// As a link in `/proc/PID/fd` has it.
fn listening_inode(address: SocketAddr) -> PathBuf {
    let port = format!(":{:04X} ", address.port());
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    let listens = |line: &&str| line.contains(&port) && line.split_ascii_whitespace().nth(3) == Some("0A");
    let line = table.lines().find(listens).expect("a listener");
    PathBuf::from(format!("socket:[{}]", line.split_ascii_whitespace().nth(9).expect("an inode")))
}

#[test]
fn what_is_handed_over_but_no_listening_socket_is_one_sentence() {
    let folder = front::folder();
    let mut command = Command::new("sh");
    let script = "exec 3</dev/null; LISTEN_FDS=1 LISTEN_PID=$$ exec \"$@\"";
    command.args(["-c", script, "sh", HATCHERY, "serve"]).current_dir(folder.path()).stdin(Stdio::null());
    let (status, said) = front::run(command);
    assert_eq!((status, said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("descriptor 3") && said.contains("no listening socket"), "{said}");
}

#[test]
fn a_kept_connection_that_is_idle_does_not_hold_up_the_end() {
    let app = app();
    let mut serving = Front::of(app.root(), &[]);
    let (pool, mut browser) = (serving.pool(), serving.browser());
    browser.post("/echo", "body").ok();
    let began = std::time::Instant::now();
    serving.signal(Signal::SIGTERM);
    assert!(serving.ended().success());
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_eq!(browser.rest(), "");
    serving.nothing_is_left(&pool);
}
