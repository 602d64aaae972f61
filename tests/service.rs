//! What a service manager hears of `hatchery serve`: through a real socket, as systemd has one.

mod support;

use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::time::{Duration, Instant};
use support::apps::{self, App};
use support::front::{self, Front};
use support::{PATIENCE, processes, until_blocking};

/// Long enough for a machine that is busy, and short enough to wait for.
const WATCHDOG: Duration = Duration::from_secs(4);

struct Manager {
    socket: UnixDatagram,
    /// As `NOTIFY_SOCKET` has it.
    place: String,
    _folder: Option<tempfile::TempDir>,
}

impl Manager {
    fn new() -> Self {
        let folder = front::folder();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        // As root, the server is another user by the time it says more.
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("own file");
        Self::at(socket, path.to_str().expect("text").to_owned(), Some(folder))
    }

    fn abstract_one() -> Self {
        let name = format!("hatchery-test-{}-{:?}", std::process::id(), std::thread::current().id());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        Self::at(UnixDatagram::bind_addr(&address).expect("a socket"), format!("@{name}"), None)
    }

    fn at(socket: UnixDatagram, place: String, folder: Option<tempfile::TempDir>) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        Self { socket, place, _folder: folder }
    }

    fn serve(&self, arguments: &[&OsStr], watchdog: Option<Duration>) -> Front {
        let folder = front::folder();
        let mut command = front::hatchery(folder.path(), ["serve", "-p", "0"]);
        command.args(arguments).env("NOTIFY_SOCKET", &self.place).env_remove("WATCHDOG_PID");
        match watchdog {
            Some(time) => command.env("WATCHDOG_USEC", time.as_micros().to_string()),
            None => command.env_remove("WATCHDOG_USEC"),
        };
        Front::start(command, folder)
    }

    /// The next message that is no ping, in its lines.
    fn next(&self) -> Vec<String> {
        loop {
            let message = self.receive().expect("a message");
            if message != ["WATCHDOG=1"] {
                return message;
            }
        }
    }

    fn receive(&self) -> std::io::Result<Vec<String>> {
        let mut bytes = [0; 4096];
        let length = self.socket.recv(&mut bytes)?;
        let text = std::str::from_utf8(&bytes[..length]).expect("text");
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Waits for a ping that is sent from now on.
    fn hears_a_ping(&self) {
        self.forget();
        until_blocking("a ping comes", || (self.receive().expect("a message") == ["WATCHDOG=1"]).then_some(()));
    }

    /// What was sent and not read is as good as read.
    fn forget(&self) {
        self.socket.set_nonblocking(true).expect("a socket");
        while self.receive().is_ok() {}
        self.socket.set_nonblocking(false).expect("a socket");
    }

    /// Whether `time` passes without a ping.
    fn is_left_alone_for(&self, time: Duration) -> bool {
        self.socket.set_read_timeout(Some(time)).expect("a time limit");
        let heard = self.receive();
        self.socket.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        heard.is_err()
    }
}

fn value<'a>(message: &'a [String], name: &str) -> &'a str {
    let line = message.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("{name} in {message:?}"))
}

/// A configuration that serves this app.
fn config(folder: &Path, app: &App, max: &str) -> std::path::PathBuf {
    let path = folder.join("pool.toml");
    std::fs::write(&path, format!("[pool]\nmax = {max}\n[[app]]\nroot = {:?}\n", app.root())).expect("own file");
    path
}

#[test]
fn it_is_ready_once_requests_are_answered_and_says_what_is_served() {
    for manager in [Manager::new(), Manager::abstract_one()] {
        let front = manager.serve(&[], None);
        let ready = manager.next();
        assert_eq!(front.get("/").status, 200);
        assert_eq!(ready[0], "READY=1");
        assert!(value(&ready, "STATUS").starts_with("serving the demo app"), "{ready:?}");
        assert!(front.end().success());
        assert_eq!(manager.next()[0], "STOPPING=1");
    }
}

#[test]
fn what_can_not_be_served_is_never_ready() {
    let manager = Manager::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let folder = front::folder();
    let listen = taken.local_addr().expect("an address").to_string();
    let mut command = front::hatchery(folder.path(), ["serve", "--listen", &listen]);
    command.env("NOTIFY_SOCKET", &manager.place);
    assert_eq!(front::run(command).0, Some(1));
    manager.socket.set_nonblocking(true).expect("a socket");
    assert!(manager.receive().is_err());
}

#[test]
fn a_manager_that_is_not_there_is_named() {
    let folder = front::folder();
    let mut command = front::hatchery(folder.path(), ["serve", "-p", "0"]);
    command.env("NOTIFY_SOCKET", "/nowhere/notify");
    let (status, said) = front::run(command);
    assert_eq!(status, Some(1));
    assert!(said.contains("/nowhere/notify") && said.contains("NOTIFY_SOCKET"), "{said}");
}

#[test]
fn a_reload_is_told_and_its_end_whatever_came_of_it() {
    let (manager, folder, app) = (Manager::new(), front::folder(), apps::worker());
    let file = config(folder.path(), &app, "2");
    let front = manager.serve(&["--config".as_ref(), file.as_os_str()], None);
    assert_eq!(manager.next()[0], "READY=1");
    for (max, holds) in [("3", true), ("many", false), ("4", true)] {
        config(folder.path(), &app, max);
        front.signal(Signal::SIGHUP);
        let reloading = manager.next();
        assert_eq!(reloading[0], "RELOADING=1");
        assert!(value(&reloading, "MONOTONIC_USEC").parse::<u64>().is_ok_and(|time| time > 0), "{reloading:?}");
        let ready = manager.next();
        assert_eq!(ready[0], "READY=1");
        assert_eq!(!value(&ready, "STATUS").contains("the reload failed"), holds, "{ready:?}");
        assert!(value(&ready, "STATUS").starts_with("serving "), "{ready:?}");
    }
    assert_eq!(front.status()["max"], 4);
    assert!(front.end().success());
}

#[test]
fn the_end_is_told_with_the_time_it_may_take() {
    let manager = Manager::new();
    let mut front = manager.serve(&["--drain-timeout=7200".as_ref()], None);
    assert_eq!(manager.next()[0], "READY=1");
    front.signal(Signal::SIGTERM);
    let stopping = manager.next();
    assert_eq!(stopping[0], "STOPPING=1");
    let time: u64 = value(&stopping, "EXTEND_TIMEOUT_USEC").parse().expect("a number");
    assert!(time > 7_200_000_000, "{time}");
    assert!(front.ended().success());
}

#[test]
fn pings_come_while_all_is_well_and_stop_when_the_pool_hangs() {
    let manager = Manager::new();
    let front = manager.serve(&[], Some(WATCHDOG));
    for _ in 0..3 {
        manager.hears_a_ping();
    }
    assert_eq!(front.get("/").status, 200);
    let core = until_blocking("there is a core", || processes::role(front.keeper(), "core"));
    processes::kill(core, Signal::SIGSTOP);
    // One may be on its way still.
    until_blocking("pings end", || manager.is_left_alone_for(WATCHDOG).then_some(()));
    processes::kill(core, Signal::SIGCONT);
    manager.hears_a_ping();
    assert!(front.end().success());
}

#[test]
fn a_pool_that_is_started_again_is_no_reason_to_stop() {
    let manager = Manager::new();
    let front = manager.serve(&[], Some(WATCHDOG));
    manager.hears_a_ping();
    let core = until_blocking("there is a core", || processes::role(front.keeper(), "core"));
    let last = Instant::now();
    processes::kill(core, Signal::SIGKILL);
    manager.hears_a_ping();
    assert!(last.elapsed() < WATCHDOG, "{:?}", last.elapsed());
    assert_eq!(front.get("/").status, 200);
    assert!(front.end().success());
}

#[test]
fn a_busy_pool_is_well() {
    let (manager, app) = (Manager::new(), apps::worker());
    let front =
        manager.serve(&[app.root().as_os_str(), "--max=1".as_ref(), "--max-queue=500".as_ref()], Some(WATCHDOG));
    // More than it can do.
    let mut browsers: Vec<_> = (0..50).map(|_| front.browser()).collect();
    for browser in &mut browsers {
        browser.ask("GET", "/sleep?60", "");
    }
    for _ in 0..2 {
        let last = Instant::now();
        manager.hears_a_ping();
        assert!(last.elapsed() < WATCHDOG, "{:?}", last.elapsed());
    }
    for mut browser in browsers {
        browser.answer().ok();
    }
    assert!(front.end().success());
}

#[test]
fn nobody_else_can_speak_to_the_manager() {
    let (manager, app) = (Manager::new(), apps::worker());
    let front = manager.serve(&[app.root().as_os_str()], Some(PATIENCE));
    assert_eq!(front.get("/pid").status, 200);
    let pool = front.pool();
    let of_pool = processes::of_pool(&pool);
    assert!(of_pool.len() >= 4, "keeper, core, spawner, worker: {of_pool:?}");
    for pid in of_pool {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment);
        assert!(!environment.contains(&manager.place), "{}", processes::command_line(pid));
        assert!(!environment.contains("WATCHDOG_"), "{}", processes::command_line(pid));
    }
    assert!(front.end().success());
}
