//! HUP to `hatchery serve`: what the operator wrote holds from then on, or, with mistakes in it, nothing changes.

mod support;

use nix::sys::signal::Signal;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::apps::{self, App};
use support::front::{self, Front};
use support::http::Answer;
use support::{HATCHERY, processes, until_blocking};

/// Who starts the web server.
#[derive(Clone, Copy, Debug, PartialEq)]
enum By {
    /// Whoever runs the tests.
    Own,
    /// As root, somebody without privileges.
    Nobody,
}

impl By {
    fn all() -> &'static [Self] {
        if is_root() { &[Self::Own, Self::Nobody] } else { &[Self::Own] }
    }
}

fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Only root can try this.
fn needs_root(test: &str) -> bool {
    if !is_root() {
        assert!(std::env::var_os("HATCHERY_CI").is_none(), "CI demands {test}, which needs root");
        eprintln!("SKIPPED {test}: only root has privileges to give up");
    }
    is_root()
}

struct Served {
    front: Front,
    file: PathBuf,
}

impl Served {
    /// `hatchery serve` with this file.
    fn new(by: By, text: &str) -> Self {
        let folder = front::folder();
        let file = folder.path().join("pool.toml");
        fs::write(&file, text).expect("a test's own file");
        let arguments = ["serve", "-p", "0", "--config", "pool.toml"];
        let mut command = front::hatchery(folder.path(), arguments);
        if by == By::Nobody {
            let own = folder.path().join("hatchery-of-nobody");
            // In a process of its own: what a fork of this one has open for writing can't be executed.
            assert!(Command::new("cp").arg(HATCHERY).arg(&own).status().expect("cp").success());
            command = Command::new(own);
            command.args(arguments).current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
            command.uid(apps::NOBODY).gid(apps::NOBODY);
            apps::give(folder.path(), apps::NOBODY);
            apps::give(&file, apps::NOBODY);
        }
        Self { front: Front::start(command, folder), file }
    }

    /// The file says this now, and the server is told so.
    fn say(&self, text: &str) {
        fs::write(&self.file, text).expect("a test's own file");
        self.front.signal(Signal::SIGHUP);
    }

    fn until_logged(&self, text: &str, times: usize) {
        until_blocking(text, || (self.front.log().matches(text).count() >= times).then_some(()));
    }

    fn ask(&self, host: &str, path: &str) -> Answer {
        let mut browser = self.front.browser();
        browser.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
        browser.answer()
    }

    /// The socket is named, since root does not look for it in the folder of somebody else.
    fn status(&self) -> serde_json::Value {
        let admin = self.front.admin();
        let output = self.front.say(&["--admin", admin.to_str().expect("a path of text"), "status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    fn pid(&self, host: &str) -> i32 {
        self.ask(host, "/pid").ok().parse().expect("a process id")
    }
}

const TAKEN_OVER: &str = "the configuration was read again; serving";

/// An `[[app]]` with further lines.
fn app(host: &str, app: &App, lines: &str) -> String {
    format!("[[app]]\nhost = {host:?}\nroot = {:?}\n{lines}\n", app.root())
}

fn has_worker(served: &Served, root: &Path) -> bool {
    let status = served.status();
    let apps = status["apps"].as_array().expect("apps").clone();
    let of_root = apps.into_iter().filter(|app| app["root"] == *root.to_string_lossy());
    of_root.into_iter().any(|app| app["workers"].as_array().is_some_and(|workers| !workers.is_empty()))
}

#[test]
fn new_apps_are_served_removed_ones_leave_and_limits_hold() {
    for by in By::all() {
        let (one, two, three) = (apps::worker(), apps::worker(), apps::worker());
        let before = format!("[pool]\nmax = 5\n{}{}", app("one", &one, ""), app("two", &two, ""));
        let served = Served::new(*by, &before);
        let (first, second) = (served.pid("one"), served.pid("two"));
        assert_eq!(served.ask("three", "/pid").status, 404);
        let lines = "[app.env]\nGREETING = \"hello\"";
        let after = format!(
            "[pool]\nmax = 4\n[defaults]\nmax_idle = \"400ms\"\n{}{}",
            app("one", &one, ""),
            app("three", &three, lines)
        );
        served.say(&after);
        served.until_logged(TAKEN_OVER, 1);
        assert_eq!(served.ask("three", "/env?GREETING").ok(), "hello");
        assert_eq!(served.ask("two", "/pid").status, 404);
        assert_eq!(served.status()["max"], 4);
        until_blocking("the removed app's worker leaves", || (!processes::lives(second)).then_some(()));
        assert!(!has_worker(&served, two.root()));
        // It began under five minutes.
        until_blocking("an idle worker leaves", || (!processes::lives(first)).then_some(()));
        assert_ne!(served.pid("one"), first);
        assert!(served.front.end().success());
    }
}

#[test]
fn mistakes_are_told_line_by_line_and_change_nothing() {
    for by in By::all() {
        let one = apps::worker();
        let good = format!("[pool]\nmax = 5\n{}", app("one", &one, ""));
        let served = Served::new(*by, &good);
        let worker = served.pid("one");
        served.say(&format!("{}\n[pool]\nmax = 0\nmax_ilde = 3\n", app("other", &one, "")));
        served.until_logged("stays as it was", 1);
        let log = served.front.log();
        assert!(log.contains("unknown key `max_ilde`") && log.contains("max is 0"), "{log}");
        assert_eq!((served.pid("one"), &served.status()["max"]), (worker, &5.into()));
        assert_eq!(served.ask("other", "/pid").status, 404);
        served.say(&format!("[pool]\nmax = 3\n{}", app("other", &one, "")));
        served.until_logged(TAKEN_OVER, 1);
        assert_eq!((served.pid("other"), &served.status()["max"]), (worker, &3.into()));
        assert_eq!(served.ask("one", "/pid").status, 404);
    }
}

#[test]
fn what_needs_a_new_start_is_named_and_stays() {
    let one = apps::worker();
    let served = Served::new(By::Own, &format!("[pool]\nlog_format = \"text\"\n{}", app("one", &one, "")));
    let address = served.front.address().to_owned();
    served.say(&format!(
        "[pool]\nlog_format = \"json\"\noutput_files = 9\nlisten = [\"127.0.0.1:1\"]\n{}",
        app("uno", &one, "")
    ));
    served.until_logged(TAKEN_OVER, 1);
    // The option -p wins over the file's `listen`, so that this is as it was.
    assert!(!served.front.log().contains("listen is"), "{}", served.front.log());
    served.until_logged("log_format, output_files", 1);
    assert_eq!((served.front.address(), served.ask("uno", "/pid").status), (&*address, 200));
}

#[test]
fn another_place_to_listen_is_told_to_need_a_new_start() {
    let one = apps::worker();
    let folder = front::folder();
    let file = folder.path().join("pool.toml");
    let said = |place: &str, host: &str| {
        fs::write(&file, format!("[pool]\nlisten = {place:?}\n{}", app(host, &one, ""))).expect("a test's own file");
    };
    said("127.0.0.1:0", "one");
    let command = front::hatchery(folder.path(), ["serve", "--config", "pool.toml"]);
    let served = Served { front: Front::start(command, folder), file: file.clone() };
    said("127.0.0.1:1", "uno");
    served.front.signal(Signal::SIGHUP);
    served.until_logged(TAKEN_OVER, 1);
    let log = served.front.log();
    assert!(log.contains("listen is 127.0.0.1:1 now, which needs a new start"), "{log}");
    assert_eq!(served.ask("uno", "/pid").status, 200);
}

#[test]
fn a_core_and_a_pool_that_come_later_have_the_new_configuration() {
    // A keeper can be started again only by who has not given up the right to.
    let by = if is_root() { By::Nobody } else { By::Own };
    let one = apps::worker();
    let served = Served::new(by, &format!("[pool]\nmax = 5\n{}", app("one", &one, "")));
    served.pid("one");
    served.say(&format!("[pool]\nmax = 3\n{}", app("uno", &one, "")));
    served.until_logged(TAKEN_OVER, 1);
    let keeper = served.front.keeper();
    for role in ["core", "spawner"] {
        let pid = processes::role(keeper, role).expect("a role");
        processes::kill(pid, Signal::SIGKILL);
        until_blocking("another one runs", || processes::role(keeper, role).filter(|other| *other != pid));
        assert_eq!(served.ask("uno", "/env?HATCHERY_ROOT").ok(), one.root().to_string_lossy());
        assert_eq!(served.status()["max"], 3);
    }
    processes::kill(keeper, Signal::SIGKILL);
    until_blocking("another pool runs", || served.front.log().contains("a new one is running").then_some(()));
    served.pid("uno");
    assert_eq!(served.status()["max"], 3);
}

#[test]
fn with_privileges_a_file_that_others_could_write_is_not_read_again() {
    if !needs_root("with_privileges_a_file_that_others_could_write_is_not_read_again") {
        return;
    }
    let one = apps::worker();
    let text = |max: u32| format!("[pool]\nmax = {max}\n{}", app("one", &one, ""));
    let served = Served::new(By::Own, &text(5));
    let worker = served.pid("one");
    fs::set_permissions(&served.file, Permissions::from_mode(0o666)).unwrap();
    served.say(&text(3));
    served.until_logged("stays as it was", 1);
    let log = served.front.log();
    assert!(log.contains("pool.toml is not read again") && log.contains("mode 0666"), "{log}");
    fs::set_permissions(&served.file, Permissions::from_mode(0o644)).unwrap();
    apps::give(&served.file, apps::NOBODY);
    served.front.signal(Signal::SIGHUP);
    served.until_logged("pool.toml belongs to user 65534", 1);
    assert_eq!((&served.status()["max"], served.pid("one")), (&5.into(), worker));
    apps::give(&served.file, 0);
    served.front.signal(Signal::SIGHUP);
    served.until_logged(TAKEN_OVER, 1);
    assert_eq!(served.status()["max"], 3);
}

#[test]
fn a_file_that_only_root_may_read_is_read_again_by_the_pool_alone() {
    if !needs_root("a_file_that_only_root_may_read_is_read_again_by_the_pool_alone") {
        return;
    }
    let one = apps::worker();
    let served = Served::new(By::Own, &format!("[pool]\nmax = 5\n{}", app("one", &one, "")));
    served.pid("one");
    fs::set_permissions(&served.file, Permissions::from_mode(0o600)).unwrap();
    served.say(&format!("[pool]\nmax = 3\n{}{}", app("one", &one, ""), app("two", &one, "")));
    until_blocking("the pool has read it", || (served.status()["max"] == 3).then_some(()));
    let log = served.front.log();
    assert_eq!(log.matches("may not read its configuration").count(), 1, "{log}");
    assert_eq!((served.ask("one", "/pid").status, served.ask("two", "/pid").status), (200, 404));
}

/// Starts its arguments in a terminal of their own, which is gone once they have said something; then says how they
/// ended.
const TERMINAL: &str = "
import os, pty, sys
pid, terminal = pty.fork()
if pid == 0:
    os.execv(sys.argv[1], sys.argv[1:])
said = b''
while b'stops it' not in said:
    said += os.read(terminal, 4096)
os.close(terminal)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
";

#[test]
fn a_server_whose_terminal_is_gone_ends() {
    if !support::has("python3", "a_server_whose_terminal_is_gone_ends") {
        return;
    }
    let folder = front::folder();
    let mut command = Command::new("python3");
    command.args(["-c", TERMINAL, HATCHERY, "serve", "-p", "0"]).current_dir(folder.path());
    command.env("XDG_RUNTIME_DIR", folder.path());
    let output = command.output().expect("python3");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n", "{}", String::from_utf8_lossy(&output.stderr));
}
