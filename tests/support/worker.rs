//! The worker of most tests: this very test executable, started again. One connection after another, as a simple
//! server does, with HTTP/1.1 and connections kept; `TEST_THREADS=1` gives each connection a thread, `TEST_GATE=1`
//! makes it wait for a word before it serves (the file `ready-PID` or `fail-PID`), `TEST_STUBBORN=1` ignore TERM.

use super::odd::{self, Then};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::Ordering;
use std::time::Duration;

#[test]
#[ignore = "is not a test but the worker of the others, which they start"]
fn worker() {
    if std::env::var_os("TEST_WORKER").is_some() {
        serve();
    }
}

pub trait Stream: Read + Write + Send {}
impl<T: Read + Write + Send> Stream for T {}

pub fn serve() {
    let version = std::fs::read_to_string("version").unwrap_or_default();
    if version.trim() == "broken" {
        eprintln!("this version is broken");
        std::process::exit(1);
    }
    let _ = odd::VERSION.set(version.trim().to_owned());
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if let Some(line) = std::env::var_os("TEST_PRINT") {
        eprintln!("{}", line.display());
    }
    std::thread::sleep(Duration::from_millis(number("TEST_START_MS").unwrap_or(0)));
    if number("TEST_STUBBORN").is_some() {
        // SAFETY: SIG_IGN is no handler that could run.
        let _ = unsafe { nix::sys::signal::signal(nix::sys::signal::SIGTERM, nix::sys::signal::SigHandler::SigIgn) };
    }
    if number("TEST_GATE").is_some() {
        let own = std::process::id();
        if word_of(&[&format!("ready-{own}"), &format!("fail-{own}")]) != 0 {
            std::process::exit(1);
        }
    }
    let mut accept = acceptor();
    let threads = number("TEST_THREADS").is_some();
    loop {
        let stream = accept();
        odd::CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        if threads {
            std::thread::spawn(move || talk(stream));
        } else {
            talk(stream);
        }
    }
}

/// Waits until one of these files is in the app's root, where tests leave a word for its workers, and says which.
fn word_of(names: &[&str]) -> usize {
    loop {
        if let Some(said) = names.iter().position(|name| std::path::Path::new(name).exists()) {
            return said;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn acceptor() -> Box<dyn FnMut() -> Box<dyn Stream>> {
    if let Some(port) = std::env::var("PORT").ok().and_then(|port| port.parse::<u16>().ok()) {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("PORT");
        return Box::new(move || Box::new(listener.accept().expect("accept").0));
    }
    let listener = match std::env::var_os("TEST_SOCKET") {
        Some(path) => UnixListener::bind(path).expect("TEST_SOCKET"),
        None => {
            assert_eq!(std::env::var("LISTEN_FDS").as_deref(), Ok("1"));
            assert_eq!(std::env::var("LISTEN_PID"), Ok(std::process::id().to_string()));
            // SAFETY: LISTEN_FDS and LISTEN_PID say that descriptor 3 was given to this process.
            unsafe { OwnedFd::from_raw_fd(3) }.into()
        }
    };
    Box::new(move || Box::new(listener.accept().expect("accept").0))
}

fn talk(mut stream: Box<dyn Stream>) {
    while let Some(request) = Request::read(&mut stream) {
        let body = match odd::answer(&request, &mut stream) {
            Then::Plain => answer(&request),
            Then::Text(text) => text,
            Then::Keep => continue,
            Then::Close => return,
        };
        let close = if request.close { "Connection: close\r\n" } else { "" };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}\r\n", body.len());
        let body: &[u8] = if request.method == "HEAD" { b"" } else { body.as_bytes() };
        if stream.write_all(&[head.as_bytes(), body].concat()).is_err() || request.close {
            return;
        }
    }
}

pub struct Request {
    method: String,
    pub path: String,
    pub query: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    close: bool,
}

impl Request {
    fn read(stream: &mut Box<dyn Stream>) -> Option<Self> {
        // A byte at a time through no further buffer: what follows belongs to the next request.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) => head.push(byte[0]),
                _ => return None,
            }
        }
        let mut lines = BufReader::new(&head[..]).lines().map_while(Result::ok);
        let first = lines.next()?;
        let mut words = first.split(' ');
        let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
        let headers: BTreeMap<String, String> = lines
            .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())))
            .collect();
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let close = headers.get("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let body = String::from_utf8_lossy(&body).into_owned();
        Some(Self { method, path: path.into(), query: query.into(), headers, body, close })
    }
}

fn answer(request: &Request) -> String {
    match request.path.as_str() {
        "/pid" => std::process::id().to_string(),
        "/echo" => request.body.clone(),
        "/env" => std::env::var(&request.query).unwrap_or_default(),
        "/environment" => std::env::vars().map(|(name, value)| format!("{name}={value}\n")).collect(),
        "/cwd" => std::env::current_dir().map(|path| path.display().to_string()).unwrap_or_default(),
        "/proc" => std::fs::read_to_string("/proc/self/status").unwrap_or_default(),
        "/parent" => std::os::unix::process::parent_id().to_string(),
        "/fds" => super::processes::descriptors(std::process::id().cast_signed()).join(" "),
        "/header" => request.headers.get(&request.query).cloned().unwrap_or_default(),
        "/sleep" => {
            std::thread::sleep(Duration::from_millis(request.query.parse().unwrap_or(0)));
            "slept".into()
        }
        "/print" => {
            println!("{}", request.query);
            "printed".into()
        }
        // A daemon: another session, its parent gone, its output elsewhere.
        "/daemon" => {
            let daemon = "setsid sh -c 'sleep 600 >/dev/null 2>&1 & echo $!' </dev/null";
            let output = std::process::Command::new("sh").args(["-c", daemon]).output().expect("sh");
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        "/exit" => std::process::exit(request.query.parse().unwrap_or(0)),
        _ => format!("{} {}", request.method, request.path),
    }
}
