//! Requests through `hatchery serve`, beside the same load sent straight to such a worker.

use super::{in_turn, load, worker};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const REQUESTS: usize = 5_000;

pub(crate) fn compare() {
    for (cost, clients) in [(100, 1), (100, 2), (100, 8), (1000, 2)] {
        let cost = Duration::from_micros(cost);
        let served = Served::start(cost);
        let direct = Direct::start(cost, clients);
        let requests = REQUESTS.min(5_000_000 / cost.as_micros() as usize / 2);
        let (ours, straight) =
            in_turn(|| load::rate(clients, requests / clients, |_| over_tcp(served.port)), || direct.rate(requests));
        println!(
            "{:<44} {ours:>9.0}/s  direct {straight:>8.0}/s  {:>5.2} of its rate   aim 0.80",
            format!("requests, a worker of {cost:?}, {clients} clients"),
            ours / straight
        );
    }
}

fn exchange(stream: &mut (impl Read + Write)) {
    stream.write_all(&worker::REQUEST).unwrap();
    let mut answer = Vec::with_capacity(512);
    while !answer.ends_with(b"ok") {
        let mut buffer = [0; 512];
        let len = stream.read(&mut buffer).unwrap();
        assert!(len > 0, "the connection was closed");
        answer.extend_from_slice(&buffer[..len]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
}

fn over_tcp(port: u16) -> impl FnMut() {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    move || exchange(&mut stream)
}

struct Served {
    child: Child,
    port: u16,
    _app: tempfile::TempDir,
}

impl Served {
    fn start(cost: Duration) -> Self {
        let app = worker::app(cost);
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(env!("CARGO_BIN_EXE_hatchery"))
            .args([
                "serve",
                "--lower-privilege=false",
                "--admin",
                "none",
                "--log-file",
                "/dev/null",
                "-p",
                &port.to_string(),
            ])
            .arg(app.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(5));
        }
        Self { child, port, _app: app }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

/// A worker per client, as many as a pool of six has at most, each with its own socket.
struct Direct {
    folder: tempfile::TempDir,
    workers: Vec<load::Process>,
    clients: usize,
}

impl Direct {
    fn start(cost: Duration, clients: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let workers = (0..clients)
            .map(|number| {
                let listener = UnixListener::bind(folder.path().join(number.to_string())).unwrap();
                load::fork(|| worker::serve_on(&listener, cost))
            })
            .collect();
        Self { folder, workers, clients }
    }

    fn rate(&self, requests: usize) -> f64 {
        load::rate(self.clients, requests / self.clients, |client| {
            let mut stream = UnixStream::connect(self.folder.path().join(client.to_string())).unwrap();
            move || exchange(&mut stream)
        })
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        self.workers.drain(..).for_each(load::Process::end);
    }
}
