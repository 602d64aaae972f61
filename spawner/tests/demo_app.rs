//! The demo app is started by descriptor: whatever became of its executable's path, and whoever may see it.
//!
//! This program is keeper, spawner and demo app in turn, as the `hatchery` executable is.

use hatchery_protocol::channel::Channel;
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::link::{AppNumber, FromSpawner, LaunchPlan, StartAs, ToSpawner, WorkerNumber};
use hatchery_protocol::options::{AppOptions, Start};
use hatchery_protocol::{mark, memfd, packet};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("spawner") => hatchery_spawner::main_with_demo_app(),
        Some("demo-app") => {
            let user = rustix::process::getuid();
            println!("{} {} in {} as {user}", arguments[0], arguments[1], std::env::current_dir().unwrap().display());
            ExitCode::SUCCESS
        }
        // A test runner that lists or filters tests.
        Some("--list") => ExitCode::SUCCESS,
        _ => {
            the_demo_app_starts_though_its_executable_is_gone();
            println!("test the_demo_app_starts_though_its_executable_is_gone ... ok");
            ExitCode::SUCCESS
        }
    }
}

fn the_demo_app_starts_though_its_executable_is_gone() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let base = tempfile::tempdir().unwrap();
    let executable = base.path().join("hatchery");
    std::fs::copy(std::env::current_exe().unwrap(), &executable).unwrap();
    let (ours, theirs) = packet::pair().unwrap();
    let mut spawner = Command::new("sh")
        .args(["-c", "exec \"$0\" spawner 3<&0 0</dev/null"])
        .arg(&executable)
        .stdin(theirs)
        .spawn()
        .unwrap();
    let mut link: Channel<ToSpawner, FromSpawner> = Channel::new(ours);
    link.send_hello().unwrap();
    link.receive_hello().unwrap();
    std::fs::remove_file(&executable).unwrap();
    // As a home is. The demo app's user has no way to its executable.
    std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o700)).unwrap();

    let pool = format!("demo{}", std::process::id());
    let folder = base.path().join("runtime").as_os_str().as_bytes().to_vec();
    let begin = ToSpawner::Begin { pool: pool.clone(), folder, reserved: Vec::new(), pool_user: None };
    let config = memfd::write(&PoolConfig { trust_clients: true, ..PoolConfig::default() }).unwrap();
    link.send_with(&begin, &[config.as_fd()]).unwrap();
    let plan = inspected(&mut link);
    let output = output_of(&mut link, &base, &pool, plan);
    // With privileges it is nobody's.
    let own = nix::unistd::geteuid();
    let user = if own.is_root() { nix::unistd::User::from_name("nobody").unwrap().unwrap().uid } else { own };
    assert_eq!(output, format!("hatchery demo-app in / as {user}\n"));

    drop(link);
    assert!(spawner.wait().unwrap().success());
}

fn inspected(link: &mut Channel<ToSpawner, FromSpawner>) -> Box<LaunchPlan> {
    let options = Box::new(AppOptions { start: Some(Start::DemoApp), ..AppOptions::default() });
    link.send(&ToSpawner::Inspect { app: AppNumber(1), generation: 1, root: b"/demo".to_vec(), options }).unwrap();
    match receive(link) {
        FromSpawner::Inspected { plan, .. } => plan,
        other => panic!("{other:?}"),
    }
}

fn output_of(
    link: &mut Channel<ToSpawner, FromSpawner>,
    base: &tempfile::TempDir,
    pool: &str,
    plan: Box<LaunchPlan>,
) -> String {
    let worker = WorkerNumber(1);
    let (mut stdout, theirs) = std::io::pipe().unwrap();
    let listener = UnixListener::bind(base.path().join("listener")).unwrap();
    let mark = mark::worker(pool, 1, 1);
    let spawn = ToSpawner::Spawn { worker, mark, plan, start_as: StartAs::Worker, notify: None, listener: true };
    link.send_with(&spawn, &[theirs.as_fd(), theirs.as_fd(), listener.as_fd()]).unwrap();
    drop(theirs);
    match receive(link) {
        FromSpawner::Started { pid, .. } => {
            let mut output = String::new();
            stdout.read_to_string(&mut output).unwrap();
            rustix::process::waitpid(rustix::process::Pid::from_raw(pid), rustix::process::WaitOptions::empty())
                .unwrap();
            output
        }
        other => panic!("{other:?}"),
    }
}

fn receive(link: &mut Channel<ToSpawner, FromSpawner>) -> FromSpawner {
    let patience = Timespec { tv_sec: 30, tv_nsec: 0 };
    let ready = rustix::event::poll(&mut [PollFd::new(&*link, PollFlags::IN)], Some(&patience)).unwrap();
    assert_eq!(ready, 1, "the spawner says nothing");
    link.receive().unwrap().0
}
