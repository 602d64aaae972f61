//! Sessions in a program without a runtime, with a pool that is played by the test.

mod support;

use hatchery_pool_client::blocking::{Client, Session};
use hatchery_pool_client::{
    AppOptions, CallError, Ended, GetError, PoolServer, Refusal, RestartMode, SessionId, SpawnReport, SpawnStep,
};
use hatchery_protocol::client::{How, ToClient, ToPool};
use hatchery_protocol::memfd;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;
use support::{FakeCore, FakePool};

struct Bench {
    server: PoolServer,
    pool: FakePool,
    core: FakeCore,
    client: Client,
}

fn bench() -> Bench {
    let (server, mut pool) = support::pool();
    let (client, core) = thread::scope(|scope| {
        let client = scope.spawn(|| server.connect_blocking().unwrap());
        let core = pool.accept();
        (client.join().unwrap(), core)
    });
    Bench { server, pool, core, client }
}

impl Bench {
    fn fresh(&mut self, number: u64, lease: u64) -> (Session, UnixStream) {
        thread::scope(|scope| {
            let session = scope.spawn(|| self.client.get("/srv/shop").unwrap());
            let request = self.core.expect_get();
            let worker = self.core.grant(request, number, lease);
            (session.join().unwrap(), worker)
        })
    }
}

#[test]
fn bytes_go_both_ways_and_keep_parks_the_connection() {
    let mut bench = bench();
    let (mut session, mut worker) = bench.fresh(1, 10);
    assert_eq!((session.id(), session.pid(), session.is_reused()), (SessionId(1), 4711, false));
    // The answer comes later: reading waits.
    let echoing = thread::spawn(move || {
        let mut question = [0; 8];
        worker.read_exact(&mut question).unwrap();
        thread::sleep(Duration::from_millis(20));
        worker.write_all(&question).unwrap();
        worker
    });
    session.write_all(b"question").unwrap();
    let mut answer = [0; 8];
    session.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"question");
    let worker = echoing.join().unwrap();
    session.keep().unwrap();
    bench.core.expect_close(1, How::Kept);

    let session = thread::scope(|scope| {
        let session = scope.spawn(|| bench.client.get("/srv/shop").unwrap());
        let request = bench.core.expect_get();
        bench.core.grant_parked(request, 2, 10);
        session.join().unwrap()
    });
    assert!(session.is_reused());
    session.finish().unwrap();
    bench.core.expect_close(2, How::Finished);
    assert_eq!(support::rest(&worker), b"");
}

#[test]
fn a_dead_parked_connection_is_replaced() {
    let mut bench = bench();
    let (session, worker) = bench.fresh(1, 10);
    session.keep().unwrap();
    bench.core.expect_close(1, How::Kept);
    drop(worker);
    thread::scope(|scope| {
        let session = scope.spawn(|| bench.client.get("/srv/shop").unwrap());
        let request = bench.core.expect_get();
        bench.core.grant_parked(request, 2, 10);
        let ToPool::Reconnect { request, session: SessionId(2) } = bench.core.expect() else { panic!("no reconnect") };
        let _worker = bench.core.grant(request, 2, 11);
        assert!(!session.join().unwrap().is_reused());
    });
    bench.core.expect_close(2, How::Abandoned);
}

#[test]
fn an_ended_session_says_why() {
    let mut bench = bench();
    let (session, mut worker) = bench.fresh(1, 10);
    worker.write_all(b"the last words").unwrap();
    bench.core.end_session(1, 10, Ended::Operator);
    drop(worker);
    let mut words = String::new();
    (&session).read_to_string(&mut words).unwrap();
    assert_eq!(words, "the last words");
    assert_eq!(session.ended(), Some(Ended::Operator));
    session.keep().unwrap();
    assert!(bench.core.is_silent());
}

#[test]
fn answers_reach_their_threads_in_any_order() {
    let Bench { server: _server, pool: _pool, mut core, client } = bench();
    let threads: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.get("/srv/shop").map(|session| session.id()))
        })
        .collect();
    let requests: Vec<_> = (0..8).map(|_| core.expect_get()).collect();
    // The first to ask reads the channel; it is answered in the middle, and another goes on.
    for nth in [5, 3, 0, 7, 1, 2, 6, 4] {
        core.say(&ToClient::Refused { request: requests[nth], refusal: Refusal::Stopped });
        thread::sleep(Duration::from_millis(2));
    }
    for thread in threads {
        assert!(matches!(thread.join().unwrap(), Err(GetError::Refused(Refusal::Stopped))));
    }
}

#[test]
fn many_threads_share_one_channel() {
    let Bench { server: _server, pool: _pool, mut core, client } = bench();
    let playing = thread::spawn(move || {
        let (mut next, mut leases, mut parked) = (1, BTreeMap::new(), Vec::new());
        while let Ok((message, _)) = core.channel.receive() {
            match message {
                ToPool::Get { request, .. } => {
                    let session = next;
                    next += 1;
                    if let Some(lease) = parked.pop() {
                        leases.insert(SessionId(session), lease);
                        core.grant_parked(request, session, lease);
                    } else {
                        leases.insert(SessionId(session), session);
                        let mut worker = core.grant(request, session, session);
                        thread::spawn(move || std::io::copy(&mut worker.try_clone().unwrap(), &mut worker));
                    }
                }
                ToPool::Close { session, how } => {
                    let lease = leases.remove(&session).expect("a session");
                    if how == How::Kept {
                        parked.push(lease);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    });
    thread::scope(|scope| {
        for thread in 0..16_u32 {
            let client = client.clone();
            scope.spawn(move || {
                for round in 0..100_u32 {
                    let mut session = client.get("/srv/shop").unwrap();
                    let question = format!("{thread}-{round}");
                    session.write_all(question.as_bytes()).unwrap();
                    let mut echo = vec![0; question.len()];
                    session.read_exact(&mut echo).unwrap();
                    assert_eq!(echo, question.as_bytes());
                    if round % 3 == 0 { session.finish() } else { session.keep() }.unwrap();
                }
            });
        }
    });
    drop(client);
    playing.join().unwrap();
}

// B120
#[test]
fn after_the_core_died_waiting_threads_are_served_by_the_next() {
    let Bench { server: _server, mut pool, mut core, client } = bench();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.get("/srv/shop").unwrap().finish().unwrap())
        })
        .collect();
    for _ in 0..4 {
        core.expect_get();
    }
    drop(core);
    let mut core = pool.accept();
    for number in 1..=4 {
        let request = core.expect_get();
        core.grant(request, number, number);
    }
    for thread in waiting {
        thread.join().unwrap();
    }
    // Idle at the time of death.
    drop(core);
    let later = thread::spawn(move || client.get("/srv/shop").unwrap().finish().unwrap());
    let mut core = pool.accept();
    let request = core.expect_get();
    core.grant(request, 1, 1);
    later.join().unwrap();
}

#[test]
fn when_the_pool_is_gone_waiting_threads_hear_of_it() {
    let Bench { server: _server, mut pool, mut core, client } = bench();
    let waiting: Vec<_> = (0..4)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.get("/srv/shop").map(|session| session.id()))
        })
        .collect();
    for _ in 0..4 {
        core.expect_get();
    }
    pool.end();
    drop((pool, core));
    for thread in waiting {
        assert!(matches!(thread.join().unwrap(), Err(GetError::PoolGone(_))));
    }
}

#[test]
fn a_pool_that_does_not_read_is_waited_for() {
    let Bench { server: _server, pool: _pool, mut core, client } = bench();
    let clears: Vec<_> = (0..500)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || client.clear())
        })
        .collect();
    thread::sleep(Duration::from_millis(50));
    for _ in 0..500 {
        let ToPool::Clear { request } = core.expect() else { panic!("no clear") };
        core.say(&ToClient::Done { request });
    }
    for clear in clears {
        clear.join().unwrap().unwrap();
    }
}

#[test]
fn a_socket_taken_out_blocks_and_is_kept_by_its_ticket() {
    let mut bench = bench();
    let (session, mut worker) = bench.fresh(1, 10);
    let (socket, ticket) = session.into_parts();
    let mut stream = UnixStream::from(socket);
    let answering = thread::spawn(move || {
        thread::sleep(Duration::from_millis(20));
        worker.write_all(b"late").unwrap();
        worker
    });
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).unwrap();
    let worker = answering.join().unwrap();
    ticket.keep(stream.into()).unwrap();
    bench.core.expect_close(1, How::Kept);
    assert!(!support::ready(worker.as_fd(), Duration::from_millis(20)));
}

#[test]
fn verbs_go_through_and_a_failed_restart_comes_with_its_report() {
    let Bench { server: _server, pool: _pool, mut core, client } = bench();
    let calling = thread::spawn(move || {
        client.add("/srv/shop", &AppOptions::default()).unwrap();
        client.stop("/srv/shop").unwrap();
        client.start("/srv/shop").unwrap();
        client.retire(1).unwrap();
        client.reload().unwrap();
        client.remove("/srv/shop").unwrap();
        client.restart("/srv/shop", RestartMode::Kill)
    });
    for _ in 0..6 {
        let (ToPool::Add { request, .. }
        | ToPool::Stop { request, .. }
        | ToPool::Start { request, .. }
        | ToPool::Retire { request, .. }
        | ToPool::Reload { request }
        | ToPool::Remove { request, .. }) = core.expect()
        else {
            panic!("another question")
        };
        core.say(&ToClient::Done { request });
    }
    let ToPool::Restart { request, mode: RestartMode::Kill, .. } = core.expect() else { panic!("no restart") };
    let report = SpawnReport {
        root: "/srv/shop".into(),
        step: SpawnStep::Execute,
        problem: "it does not start".into(),
        remedy: String::new(),
        output: String::new(),
        exit: None,
        setup: None,
    };
    let payload = memfd::write(&report).unwrap();
    let refused = ToClient::Refused { request, refusal: Refusal::SpawnFailed };
    core.channel.send_with(&refused, &[payload.as_fd()]).unwrap();
    let restarted = calling.join().unwrap();
    assert!(matches!(restarted, Err(CallError::SpawnFailed(got)) if *got == report));
}
