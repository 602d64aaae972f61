//! A front end that forks: what is made before belongs to the parent, what is made after to who made it.
//!
//! Forking a process that has threads leaves only one of them, so these cases run one after the other in the main
//! thread, without the usual harness.

mod support;

use hatchery_pool_client::blocking::{Client, Session};
use hatchery_pool_client::{CallError, CloseError, GetError, PoolServer, ShutdownError, StartError};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use std::io::{Read, Write};
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;
use support::apps::{self, App};
use support::{builder, processes, until_blocking};

const CASES: [(&str, fn()); 11] = [
    ("connect_and_drop", connect_and_drop),
    ("a_child_connects_detaches_and_drops", a_child_connects_detaches_and_drops),
    ("a_child_detaches_without_having_connected", a_child_detaches_without_having_connected),
    ("sessions_survive_the_detach", sessions_survive_the_detach),
    ("a_detached_parent_goes_on_and_the_pool_goes_with_its_last_client", a_detached_parent_goes_on),
    ("inherited_handles_answer_forked_and_their_drop_disturbs_nobody", inherited_handles_do_nothing),
    ("an_inherited_session_that_is_dropped_is_still_the_parents", an_inherited_session_is_the_parents),
    ("the_death_of_a_child_ends_its_sessions_alone", the_death_of_a_child_ends_its_sessions_alone),
    ("children_of_children_connect_too", children_of_children_connect_too),
    ("children_come_back_to_a_pool_whose_core_was_killed", children_come_back_after_the_core),
    ("many_children_at_once_share_the_pool", many_children_share_the_pool),
];

fn main() -> ExitCode {
    if std::env::var_os("TEST_WORKER").is_some() {
        support::worker::serve();
    }
    // As the usual harness does: a word chooses the cases whose names contain it.
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.iter().any(|argument| argument == "--list") {
        CASES.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let mut failed = false;
    for (name, case) in CASES {
        if wanted.is_empty() || wanted.iter().any(|word| name.contains(word.as_str())) {
            let passed = std::panic::catch_unwind(case).is_ok();
            println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
            failed |= !passed;
        }
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// A forked child that does its work and exits with 0, or with 1 if an assertion failed.
struct Forked(Pid);

impl Forked {
    fn to(work: impl FnOnce()) -> Self {
        assert_eq!(processes_threads(), 1, "only the main thread may fork");
        // SAFETY: this process has no other thread.
        match unsafe { fork() }.expect("fork") {
            ForkResult::Parent { child } => Self(child),
            ForkResult::Child => {
                let done = std::panic::catch_unwind(AssertUnwindSafe(work));
                std::process::exit(i32::from(done.is_err()));
            }
        }
    }

    fn succeeds(self) {
        let status = until_blocking("the child has ended", || {
            let status = waitpid(self.0, Some(nix::sys::wait::WaitPidFlag::WNOHANG)).expect("a child");
            (status != WaitStatus::StillAlive).then_some(status)
        });
        assert_eq!(status, WaitStatus::Exited(self.0, 0));
    }
}

fn processes_threads() -> usize {
    std::fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn exchange(session: &mut Session, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    session.write_all(request.as_bytes()).expect("a request is taken");
    let mut answer = String::new();
    session.read_to_string(&mut answer).expect("an answer");
    support::body(&answer).to_owned()
}

fn ask(client: &Client, app: &App) -> i32 {
    let mut session = client.get(app.root()).expect("a session");
    let pid = session.pid();
    assert_eq!(exchange(&mut session, "/pid"), pid.to_string());
    session.finish().expect("finish");
    pid
}

/// A pool with an app, a worker of which is there.
fn start() -> (PoolServer, Client, App) {
    let app = apps::worker();
    let server = builder().max(8).start().expect("a pool");
    let client = server.connect_blocking().expect("a client");
    ask(&client, &app);
    (server, client, app)
}

fn gone(pool: &str) {
    until_blocking("the pool is gone", || processes::of_pool(pool).is_empty().then_some(()));
    assert!(!support::runtime_folder(pool).exists());
}

// B97
fn connect_and_drop() {
    let server = builder().start().expect("a pool");
    let pool = processes::pool_id(server.pid());
    for _ in 0..3 {
        drop(server.connect_blocking().expect("a client"));
    }
    assert_eq!(server.connect_blocking().expect("a client").count().expect("a figure"), 0);
    drop(server);
    gone(&pool);
}

// B97
fn a_child_connects_detaches_and_drops() {
    let (server, client, app) = start();
    let pool = processes::pool_id(server.pid());
    let mut server = Some(server);
    for _ in 0..3 {
        Forked::to(|| {
            let server = server.take().expect("inherited");
            let client = server.connect_blocking().expect("a client in the child");
            server.detach();
            ask(&client, &app);
            drop(client);
        })
        .succeeds();
        ask(&client, &app);
    }
    drop((server, client));
    gone(&pool);
}

// B97
fn a_child_detaches_without_having_connected() {
    let (server, client, app) = start();
    let mut server = Some(server);
    Forked::to(|| server.take().expect("inherited").detach()).succeeds();
    Forked::to(|| drop(server.take())).succeeds();
    ask(&client, &app);
    let server = server.expect("still the parent's");
    ask(&server.connect_blocking().expect("the door is open"), &app);
}

fn sessions_survive_the_detach() {
    let (server, client, app) = start();
    let mut server = Some(server);
    Forked::to(|| {
        let server = server.take().expect("inherited");
        let client = server.connect_blocking().expect("a client in the child");
        let mut session = client.get(app.root()).expect("a session");
        server.detach();
        assert_eq!(exchange(&mut session, "/pid"), session.pid().to_string());
        session.finish().expect("finish");
        ask(&client, &app);
        ask(&client, &app);
    })
    .succeeds();
    ask(&client, &app);
}

fn a_detached_parent_goes_on() {
    let (server, client, app) = start();
    let pool = processes::pool_id(server.pid());
    let mut session = client.get(app.root()).expect("a session");
    server.detach();
    assert_eq!(exchange(&mut session, "/pid"), session.pid().to_string());
    session.finish().expect("finish");
    ask(&client, &app);
    drop(client);
    gone(&pool);
}

fn inherited_handles_do_nothing() {
    let (server, client, app) = start();
    let mut handles = Some((server, client));
    Forked::to(|| {
        let (mut server, client) = handles.take().expect("inherited");
        assert!(matches!(client.get(app.root()), Err(GetError::Forked)));
        assert!(matches!(client.count(), Err(CallError::Forked)));
        assert!(matches!(server.restart(), Err(StartError::Forked)));
        assert!(matches!(server.shutdown(Duration::from_secs(1)), Err(ShutdownError::Forked)));
        drop(client);
    })
    .succeeds();
    let (server, client) = handles.as_ref().expect("still the parent's");
    ask(client, &app);
    assert!(processes::lives(server.pid()));
    ask(&server.connect_blocking().expect("a client"), &app);
}

fn an_inherited_session_is_the_parents() {
    let (_server, client, app) = start();
    // One in use, and one parked.
    let mut parked = client.get(app.root()).expect("a session");
    parked.write_all(b"GET /pid HTTP/1.1\r\nHost: test\r\n\r\n").expect("a request is taken");
    let mut answer = vec![0; 64];
    while !String::from_utf8_lossy(&answer).contains(&parked.pid().to_string()) {
        assert_ne!(parked.read(&mut answer).expect("an answer"), 0);
    }
    let mut session = Some(client.get(app.root()).expect("a session"));
    parked.keep().expect("keep");
    for how in 0..4 {
        Forked::to(|| {
            let mut session = session.take().expect("inherited");
            match how {
                0 => drop(session),
                1 => assert!(matches!(session.finish(), Err(CloseError::Forked))),
                2 => assert!(matches!(session.keep(), Err(CloseError::Forked))),
                _ => {
                    assert!(session.write_all(b"GET /exit HTTP/1.1\r\n\r\n").is_err());
                    assert!(session.read(&mut [0]).is_err());
                }
            }
        })
        .succeeds();
        assert_eq!(session.as_ref().expect("still the parent's").ended(), None);
    }
    let mut session = session.expect("still the parent's");
    assert_eq!(client.active().expect("a figure"), 1);
    assert_eq!(exchange(&mut session, "/pid"), session.pid().to_string());
    session.finish().expect("finish");
}

fn the_death_of_a_child_ends_its_sessions_alone() {
    let (server, client, app) = start();
    let mut own = client.get(app.root()).expect("a session");
    let Forked(child) = Forked::to(|| {
        let client = server.connect_blocking().expect("a client in the child");
        let _session = client.get(app.root()).expect("a session");
        loop {
            std::thread::park();
        }
    });
    until_blocking("both have a session", || (client.active().expect("a figure") == 2).then_some(()));
    processes::kill(child.as_raw(), nix::sys::signal::Signal::SIGKILL);
    until_blocking("one has", || (client.active().expect("a figure") == 1).then_some(()));
    waitpid(child, None).expect("a child");
    assert_eq!(own.ended(), None);
    assert_eq!(exchange(&mut own, "/pid"), own.pid().to_string());
    own.finish().expect("finish");
}

fn children_of_children_connect_too() {
    let (server, client, app) = start();
    Forked::to(|| {
        let own = server.connect_blocking().expect("a client in the child");
        Forked::to(|| {
            assert!(matches!(own.get(app.root()), Err(GetError::Forked)));
            ask(&server.connect_blocking().expect("a client in the grandchild"), &app);
        })
        .succeeds();
        ask(&own, &app);
    })
    .succeeds();
    ask(&client, &app);
}

fn children_come_back_after_the_core() {
    let (server, client, app) = start();
    let keeper = server.pid();
    let mut server = Some(server);
    // With and without having given up the door.
    for detached in [true, false] {
        Forked::to(|| {
            let server = server.take().expect("inherited");
            let own = server.connect_blocking().expect("a client in the child");
            let kept = if detached {
                server.detach();
                None
            } else {
                Some(server)
            };
            let core = until_blocking("there is a core", || processes::role(keeper, "core"));
            processes::kill(core, nix::sys::signal::Signal::SIGKILL);
            ask(&own, &app);
            drop(kept);
        })
        .succeeds();
        ask(&client, &app);
    }
}

fn many_children_share_the_pool() {
    let (server, client, app) = start();
    let pool = processes::pool_id(server.pid());
    let mut server = Some(server);
    let children: Vec<Forked> = (0..8)
        .map(|_| {
            Forked::to(|| {
                let server = server.take().expect("inherited");
                let client = server.connect_blocking().expect("a client in the child");
                server.detach();
                for _ in 0..20 {
                    ask(&client, &app);
                }
            })
        })
        .collect();
    children.into_iter().for_each(Forked::succeeds);
    until_blocking("nobody has a session", || (client.active().expect("a figure") == 0).then_some(()));
    assert!(client.count().expect("a figure") <= 8);
    drop((server, client));
    gone(&pool);
}
