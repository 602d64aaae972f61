//! Handles in forked children.

mod support;

use hatchery_pool_client::{CallError, Client, CloseError, GetError, PoolServer, Session, ShutdownError, blocking};
use hatchery_protocol::client::{How, ToClient, ToPool};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork};
use std::future::Future;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;
use support::FakeCore;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Runs `work` in a forked child, which must end well.
fn in_child(work: impl FnOnce()) {
    // SAFETY: the child runs only what the test gives it, and ends without the harness's exit code. glibc's
    // allocator, which it uses, is made ready for this in the child.
    match unsafe { fork() }.unwrap() {
        ForkResult::Child => {
            let well = catch_unwind(AssertUnwindSafe(work)).is_ok();
            // SAFETY: ends the process; nothing of the parent's is run.
            unsafe { nix::libc::_exit(i32::from(!well)) }
        }
        ForkResult::Parent { child } => assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Exited(child, 0)),
    }
}

/// The result of a future that needs no runtime.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits"),
    }
}

fn connected(server: &PoolServer, pool: &mut support::FakePool) -> (blocking::Client, FakeCore) {
    thread::scope(|scope| {
        let client = scope.spawn(|| server.connect_blocking().unwrap());
        let core = pool.accept();
        (client.join().unwrap(), core)
    })
}

fn session(client: &blocking::Client, core: &mut FakeCore) -> (blocking::Session, UnixStream) {
    thread::scope(|scope| {
        let session = scope.spawn(|| client.get("/srv/shop").unwrap());
        let request = core.expect_get();
        let worker = core.grant(request, 1, 10);
        (session.join().unwrap(), worker)
    })
}

#[test]
fn a_childs_copies_answer_forked_and_leave_the_parents_alone() {
    let (server, mut pool) = support::pool();
    let (client, mut core) = connected(&server, &mut pool);
    let (session, mut worker) = session(&client, &mut core);
    let mut session = Some(session);
    in_child(|| {
        let mut session = session.take().unwrap();
        assert!(matches!(client.get("/srv/shop"), Err(GetError::Forked)));
        assert!(matches!(client.count(), Err(CallError::Forked)));
        assert!(session.write(b"x").is_err());
        assert!(session.read(&mut [0; 1]).is_err());
        assert_eq!(session.ended(), None);
        session.label("x");
        assert!(matches!(session.finish(), Err(CloseError::Forked)));
    });
    in_child(|| drop((session.take(), client.clone())));
    assert!(core.is_silent());
    let mut session = session.unwrap();
    session.write_all(b"hello").unwrap();
    let mut hello = [0; 5];
    worker.read_exact(&mut hello).unwrap();
    session.finish().unwrap();
    core.expect_close(1, How::Finished);
}

// B97
#[test]
fn a_child_connects_for_itself() {
    let (server, mut pool) = support::pool();
    let (client, mut core) = connected(&server, &mut pool);
    let serving = thread::spawn(move || {
        let mut theirs = pool.accept();
        let ToPool::GetCount { request } = theirs.expect() else { panic!("no question") };
        theirs.say(&ToClient::Figure { request, figure: 5 });
        theirs.expect_closed();
        pool
    });
    let mut server = Some(server);
    in_child(|| {
        let server = server.take().unwrap();
        let own = server.connect_blocking().unwrap();
        server.detach();
        assert_eq!(own.count().unwrap(), 5);
        drop(own);
    });
    let pool = serving.join().unwrap();
    // Neither does one that detaches without connecting, or asks for too much, disturb anybody.
    in_child(|| server.take().unwrap().detach());
    in_child(|| {
        let server = server.take().unwrap();
        assert!(matches!(server.shutdown(Duration::ZERO), Err(ShutdownError::Forked)));
    });
    thread::scope(|scope| {
        scope.spawn(|| assert_eq!(client.count().unwrap(), 6));
        let ToPool::GetCount { request } = core.expect() else { panic!("no question") };
        core.say(&ToClient::Figure { request, figure: 6 });
    });
    drop(server);
    assert!(pool.is_closed());
}

#[test]
fn a_childs_copies_of_a_runtimes_handles_leave_the_parents_alone() {
    let (server, mut pool) = support::pool();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let accepting = thread::spawn(move || {
        let mut core = pool.accept();
        let workers = [1, 2].map(|number| {
            let request = core.expect_get();
            core.grant(request, number, number + 10)
        });
        core.expect_close(1, How::Kept);
        (core, pool, workers)
    });
    let (client, kept, session): (Client, Session, Session) = runtime.block_on(async {
        let client = server.connect().await.unwrap();
        let kept = client.get("/srv/shop").await.unwrap();
        let session = client.get("/srv/shop").await.unwrap();
        (client, kept, session)
    });
    runtime.block_on(kept.keep()).unwrap();
    let (mut core, _pool, [mut parked, mut worker]) = accepting.join().unwrap();

    let mut handles = Some((client, session));
    in_child(|| {
        let (client, mut session) = handles.take().unwrap();
        assert!(matches!(at_once(client.get("/srv/shop")), Err(GetError::Forked)));
        assert!(matches!(at_once(client.status()), Err(CallError::Forked)));
        assert!(at_once(session.write_all(b"x")).is_err());
        assert!(at_once(session.shutdown()).is_err());
        assert!(matches!(at_once(session.finish()), Err(CloseError::Forked)));
        drop(client);
    });
    in_child(|| {
        let (client, session) = handles.take().unwrap();
        drop(session.into_split());
        drop(client);
    });
    in_child(|| drop(handles.take()));
    assert!(core.is_silent());

    // The parent's are still registered with its runtime: it is woken when something comes.
    let (client, mut session) = handles.unwrap();
    let answering = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        worker.write_all(b"1").unwrap();
        let request = core.expect_get();
        thread::sleep(Duration::from_millis(20));
        core.grant_parked(request, 3, 11);
        parked.read_exact(&mut [0; 1]).unwrap();
        thread::sleep(Duration::from_millis(20));
        parked.write_all(b"2").unwrap();
        (core, worker, parked)
    });
    runtime.block_on(async {
        let patience = support::PATIENCE;
        let mut byte = [0; 1];
        tokio::time::timeout(patience, session.read_exact(&mut byte)).await.unwrap().unwrap();
        let mut again = tokio::time::timeout(patience, client.get("/srv/shop")).await.unwrap().unwrap();
        again.write_all(b"?").await.unwrap();
        tokio::time::timeout(patience, again.read_exact(&mut byte)).await.unwrap().unwrap();
        assert_eq!(&byte, b"2");
    });
    answering.join().unwrap();
}
