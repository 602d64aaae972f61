//! Starting a pool, and its end.

mod support;

use hatchery_pool_client::{ConnectError, PoolServer, ShutdownError, StartError};
use hatchery_protocol::WIRE;
use hatchery_protocol::door::FromDoor;
use rustix::process::Uid;
use std::thread;
use std::time::{Duration, Instant};
use support::PATIENCE;

// B96
#[test]
fn starting_and_dropping_neither_fails_nor_blocks() {
    let (server, pool) = support::pool();
    assert!(server.pid() > 0);
    assert_eq!(server.admin(), None);
    let began = Instant::now();
    drop(server);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert!(pool.is_closed());
}

#[test]
fn the_pool_gets_what_was_built() {
    let (_server, pool) = support::pool();
    assert_eq!(pool.config.max, 3);
}

#[test]
fn what_is_started_leaves_no_child() {
    let (_server, _pool) = support::pool();
    let own = std::process::id().to_string();
    let children = std::fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        let command = std::fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
        assert!(!command.contains("pool-server"), "{command}");
    }
}

#[test]
fn the_pools_own_sentence_is_passed_on() {
    let (server, _pool) = support::answering(|_| FromDoor::Failed("the log can't be written".into()));
    let error = server.unwrap_err();
    assert!(matches!(&error, StartError::Failed(_)));
    assert_eq!(error.to_string(), "the pool could not start: the log can't be written");
}

#[test]
fn a_program_that_ends_is_reported_with_its_status() {
    let folder = tempfile::tempdir().unwrap();
    let program = support::script(folder.path(), "exit 7\n");
    let error = PoolServer::builder().pool_server(&program).start().unwrap_err();
    let text = error.to_string();
    assert!(text.contains("exit status: 7") && text.contains("pool-server"), "{text}");
}

#[test]
fn what_is_not_there_is_named() {
    let error = PoolServer::builder().pool_server("/nonexistent/pool-server").start().unwrap_err();
    assert!(error.to_string().contains("/nonexistent/pool-server"), "{error}");
    let error = PoolServer::builder().pool_server("/dev/null").start().unwrap_err();
    assert!(error.to_string().contains("/dev/null"), "{error}");
}

#[test]
fn two_versions_are_both_named() {
    let (server, mut pool) = support::pool();
    let pool = thread::spawn(move || {
        let mut client = pool.accept_silently();
        client.channel.receive_hello().unwrap();
        let mut hello = b"Hy".to_vec();
        hello.extend((WIRE + 1).to_le_bytes());
        hello.extend(b"\x0099.0.0\0/opt/new/hatchery");
        client.channel.send_packet(&hello, &[]).unwrap();
        pool
    });
    let error = server.connect_blocking().unwrap_err();
    let text = error.to_string();
    for word in ["99.0.0", "/opt/new/hatchery", env!("CARGO_PKG_VERSION"), "starting-"] {
        assert!(text.contains(word), "{text}");
    }
    pool.join().unwrap();
}

#[tokio::test]
async fn the_keepers_end_is_noticed() {
    let (server, mut pool) = support::pool();
    let gone = server.gone();
    tokio::pin!(gone);
    assert!(tokio::time::timeout(Duration::from_millis(50), &mut gone).await.is_err());
    pool.end();
    tokio::time::timeout(PATIENCE, gone).await.unwrap();
    drop(pool);
    assert!(matches!(server.connect().await, Err(ConnectError::PoolGone(_))));
    assert!(matches!(server.connect_blocking(), Err(ConnectError::PoolGone(_))));
}

// B102
#[test]
fn a_killed_pool_is_an_error_and_works_after_a_restart() {
    let (mut server, mut pool) = support::pool();
    for _ in 0..3 {
        pool.end();
        pool = thread::scope(|scope| {
            let first = server.pid();
            let restarted = scope.spawn(|| pool.restarted());
            server.restart().unwrap();
            assert_ne!(server.pid(), first);
            restarted.join().unwrap()
        });
        assert_eq!(pool.config.max, 3);
        let serving = thread::spawn(move || (pool.accept(), pool));
        server.connect_blocking().unwrap();
        pool = serving.join().unwrap().1;
    }
}

#[test]
fn who_dropped_its_privileges_is_told_that_it_can_start_no_new_pool() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("SKIPPED: only root has privileges to drop");
    }
    let (mut server, _pool) = support::pool();
    let first = server.pid();
    // Of this thread alone, which is all that is asked here; the others run further tests.
    let become_user = |uid| {
        let uid = Uid::from_raw(uid);
        rustix::thread::set_thread_res_uid(None::<Uid>, uid, None::<Uid>).unwrap();
    };
    become_user(65534);
    let error = server.restart().unwrap_err();
    become_user(0);
    assert!(matches!(error, StartError::PrivilegesDropped { started_as: 0, now: 65534 }), "{error}");
    assert!(error.to_string().contains("let the service manager start it again"), "{error}");
    assert!(!error.is_retryable());
    assert_eq!(server.pid(), first, "the old door is still there");
}

#[test]
fn shutting_down_waits_for_the_end() {
    let (server, _pool) = support::pool();
    let pid = server.pid();
    // The played keeper takes TERM as the system does.
    server.shutdown(PATIENCE).unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{pid}/fd/1")).exists());
}

#[test]
fn what_does_not_go_is_killed() {
    let (server, _pool) = support::pool();
    let pid = nix::unistd::Pid::from_raw(server.pid());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    while !is_stopped(server.pid()) {
        thread::yield_now();
    }
    let error = server.shutdown(Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, ShutdownError::Killed { .. }), "{error}");
}

#[test]
fn a_client_is_let_in_as_soon_as_the_core_is_back() {
    let (server, mut pool) = support::pool();
    let pool = thread::spawn(move || {
        // A core that dies with a client it has just taken.
        drop(pool.accept_silently());
        (pool.accept(), pool)
    });
    server.connect_blocking().unwrap();
    pool.join().unwrap();
}

/// Whether all threads of a process are.
fn is_stopped(pid: i32) -> bool {
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|thread| {
        let stat = std::fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    })
}
