//! The worker of the measurements: the plainest server there can be. `BENCH_WORKER` is what an answer costs, in µs.

use hatchery_pool_client::AppOptions;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

/// 200 bytes each way.
pub(crate) const REQUEST: [u8; 200] = padded(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Filler: ", b"\r\n\r\n");
pub(crate) const ANSWER: [u8; 200] = padded(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Filler: ", b"\r\n\r\nok");

const fn padded(begin: &[u8], end: &[u8]) -> [u8; 200] {
    let mut bytes = [b'x'; 200];
    let mut at = 0;
    while at < begin.len() {
        bytes[at] = begin[at];
        at += 1;
    }
    at = 0;
    while at < end.len() {
        bytes[200 - end.len() + at] = end[at];
        at += 1;
    }
    bytes
}

/// As a folder with a manifest.
pub(crate) fn app(cost: Duration) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let manifest = format!("command = [{exe:?}]\n[env]\nBENCH_WORKER = \"{}\"\n", cost.as_micros());
    std::fs::write(folder.path().join("hatchery.toml"), manifest).unwrap();
    folder
}

/// As root, workers stay root: whoever else there is may not be able to enter these folders.
pub(crate) fn options() -> AppOptions {
    AppOptions { lower_privilege: Some(false), ..AppOptions::default() }
}

pub(crate) fn serve() -> ! {
    let cost = Duration::from_micros(std::env::var("BENCH_WORKER").unwrap().parse().unwrap());
    // SAFETY: a worker is given its listener at descriptor 3, and nothing else owns it here.
    serve_on(&UnixListener::from(unsafe { OwnedFd::from_raw_fd(3) }), cost)
}

/// One connection after another; connections are kept as long as the client likes.
pub(crate) fn serve_on(listener: &UnixListener, cost: Duration) -> ! {
    let mut buffer = [0; 4096];
    loop {
        let (mut stream, _) = listener.accept().unwrap();
        while let Ok(len @ 1..) = stream.read(&mut buffer) {
            assert!(buffer[..len].ends_with(b"\r\n\r\n"), "a request without a body, in one piece");
            let until = Instant::now() + cost;
            while Instant::now() < until {}
            if stream.write_all(&ANSWER).is_err() {
                break;
            }
        }
    }
}
