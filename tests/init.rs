//! `hatchery serve` as process 1, as in a container: in a process namespace of its own.

mod support;

use nix::sys::signal::Signal;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use support::apps::{self, NOBODY};
use support::front::{self, Front};
use support::{HATCHERY, processes, until_blocking};

/// A container, as far as processes are concerned.
struct Container {
    front: Front,
    /// Process 1, by the number it has outside.
    first: i32,
}

/// Whether there can be one; if not, that is said loudly.
fn can_be(test: &str) -> bool {
    let tools = ["unshare", "nsenter", "setpriv"].iter().all(|tool| support::has(tool, test));
    let made = tools && unshare().arg("true").status().is_ok_and(|status| status.success());
    if tools && !made {
        let root = nix::unistd::geteuid().is_root();
        assert!(!root || std::env::var_os("HATCHERY_CI").is_none(), "no process namespace, and CI demands {test}");
        eprintln!("SKIPPED {test}: a process namespace can be made by root alone, and not everywhere");
    }
    made
}

fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]).stdin(Stdio::null());
    command
}

/// `hatchery`, where every user may execute it.
fn executable() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        if apps::is_open_to_all(Path::new(HATCHERY)) {
            return HATCHERY.into();
        }
        let folder = front::folder().keep();
        assert!(Command::new("cp").arg(HATCHERY).arg(&folder).status().expect("cp").success());
        folder.join("hatchery")
    })
}

impl Container {
    /// Root has to say so to get a pool that can be started again.
    fn of_nobody(root: &Path, arguments: &[&str]) -> Self {
        let mut command = unshare();
        let user = NOBODY.to_string();
        command.args(["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        Self::start(command, root, arguments)
    }

    fn of_root(root: &Path, arguments: &[&str]) -> Self {
        Self::start(unshare(), root, arguments)
    }

    fn start(mut command: Command, root: &Path, arguments: &[&str]) -> Self {
        let folder = front::folder();
        apps::give(folder.path(), NOBODY);
        command.arg(executable()).args(["serve", "-p", "0"]).arg(root).args(arguments);
        command.current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
        let front = Front::start(command, folder);
        let first = processes::children(front.pid()).pop().expect("process 1");
        Self { front, first }
    }

    /// What a shell script in the container leaves behind is process 1's.
    fn leaves(&self, script: &str) {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.first.to_string(), "--pid", "--mount", "sh", "-c", script]);
        assert!(command.stdin(Stdio::null()).status().expect("nsenter").success());
    }

    /// Waits until a worker is busy, as somebody in the container sees it.
    fn is_busy(&self) {
        let target = self.first.to_string();
        let admin = self.front.admin();
        until_blocking("a worker is busy", || {
            let mut command = Command::new("nsenter");
            command.args(["--target", &target, "--pid", "--mount"]).arg(executable()).args(["status", "--json"]);
            let output = command.env("HATCHERY_ADMIN", &admin).stdin(Stdio::null()).output().expect("nsenter");
            let status: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a status");
            (status["active"] == 1).then_some(())
        });
    }

    fn has_no_zombie(&self) {
        until_blocking("no zombie is left", || {
            (!processes::children(self.first).into_iter().any(processes::is_zombie)).then_some(())
        });
    }

    fn signal(&self, signal: Signal) {
        processes::kill(self.first, signal);
    }

    fn logs(&self, sentence: &str) {
        until_blocking(sentence, || self.front.log().contains(sentence).then_some(()));
    }

    /// The living pool's keeper: whoever started it has ended, so that it is process 1's child.
    fn keeper(&self) -> i32 {
        until_blocking("there is a keeper", || {
            let children = processes::children(self.first).into_iter().filter(|child| processes::lives(*child));
            children.into_iter().find(|child| processes::command_line(*child).trim_end().ends_with("keeper"))
        })
    }
}

/// Also when a test fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn orphans_are_reaped_and_a_pool_that_is_started_meanwhile_is_not_disturbed() {
    if !can_be("process 1 reaps") {
        return;
    }
    let app = apps::worker_with("", &[("TEST_THREADS", "1")]);
    let mut container = Container::of_nobody(app.root(), &[]);
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                container.leaves("for n in 1 2 3 4 5; do (sleep 0.01 &); done");
            }
        });
        let _over = Over(&over);
        // One that has left its session and group, with the app's worker its only parent.
        for _ in 0..4 {
            assert_eq!(container.front.get("/daemon").status, 200);
            processes::kill(container.keeper(), Signal::SIGKILL);
            assert_eq!(container.front.get("/pid").status, 200);
        }
    });
    container.has_no_zombie();
    assert!(!container.front.log().contains("no new one could be started"), "{}", container.front.log());
    let pool = processes::pool_id(container.keeper());
    container.signal(Signal::SIGTERM);
    assert!(container.front.ended().success());
    until_blocking("nothing is left", || processes::of_pool(&pool).is_empty().then_some(()));
}

#[test]
fn what_means_the_end_elsewhere_means_it_here_and_quit_too() {
    if !can_be("process 1 ends") {
        return;
    }
    let app = apps::worker();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut container = Container::of_root(app.root(), &[]);
        assert_eq!(container.front.get("/pid").status, 200);
        let pool = container.front.pool();
        container.signal(Signal::SIGHUP);
        container.logs("the configuration was read again");
        container.signal(signal);
        assert_eq!(container.front.ended().code(), Some(0), "{signal}");
        container.front.nothing_is_left(&pool);
    }
}

#[test]
fn the_second_signal_ends_at_once() {
    if !can_be("process 1 ends at once") {
        return;
    }
    let app = apps::worker();
    let mut container = Container::of_root(app.root(), &[]);
    let mut browser = container.front.browser();
    assert_eq!(browser.get("/pid").status, 200);
    browser.ask("GET", "/sleep?600000", "");
    container.is_busy();
    let pool = container.front.pool();
    container.signal(Signal::SIGTERM);
    container.logs("a second signal ends at once");
    container.signal(Signal::SIGTERM);
    assert_eq!(container.front.ended().code(), Some(128 + 15));
    until_blocking("nothing is left", || processes::of_pool(&pool).is_empty().then_some(()));
}

#[test]
fn a_signal_that_comes_early_is_not_lost() {
    if !can_be("process 1 hears an early signal") {
        return;
    }
    for _ in 0..5 {
        let folder = front::folder();
        let mut command = unshare();
        command.arg(executable()).args(["serve", "-p", "0"]);
        command.current_dir(folder.path()).env("XDG_RUNTIME_DIR", folder.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("unshare");
        let first = until_blocking("it begins to listen to signals", || {
            let first = processes::children(child.id().cast_signed()).pop()?;
            // Who makes the namespace holds signals back too, before it executes this.
            let is_ours = processes::command_line(first).starts_with(executable().to_str().expect("text"));
            (is_ours && hears(first, Signal::SIGTERM)).then_some(first)
        });
        processes::kill(first, Signal::SIGTERM);
        let status = until_blocking("it has ended", || child.try_wait().expect("a child"));
        assert!(status.success(), "{status}");
    }
}

/// Whether a process holds a signal back, or has a handler for it.
fn hears(pid: i32, signal: Signal) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let masks = status.lines().filter_map(|line| line.strip_prefix("SigBlk:").or(line.strip_prefix("SigCgt:")));
    let bit = 1u64 << (signal as u32 - 1);
    masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask & bit != 0)
}

#[test]
fn without_the_right_to_start_another_pool_it_ends_and_says_so() {
    if !can_be("process 1 gives up") {
        return;
    }
    let app = apps::worker();
    let mut container = Container::of_root(app.root(), &[]);
    assert_eq!(container.front.get("/daemon").status, 200);
    let pool = container.front.pool();
    processes::kill(container.front.keeper(), Signal::SIGKILL);
    assert_eq!(container.front.ended().code(), Some(1));
    container.logs("has to start hatchery again");
    until_blocking("nothing is left", || processes::of_pool(&pool).is_empty().then_some(()));
}
