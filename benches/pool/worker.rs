//! The worker of the measurements: the plainest server there can be. `BENCH_WORKER` is what an answer costs, in µs.

use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

pub(crate) const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// As a folder with a manifest.
pub(crate) fn app(cost: Duration) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let exe = std::env::current_exe().unwrap();
    let manifest = format!("command = [{exe:?}]\n[env]\nBENCH_WORKER = \"{}\"\n", cost.as_micros());
    std::fs::write(folder.path().join("hatchery.toml"), manifest).unwrap();
    folder
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
            if stream.write_all(ANSWER).is_err() {
                break;
            }
        }
    }
}
