//! Sessions in a tokio program, with a pool that is played by the test.

mod support;

use hatchery_pool_client::{
    AppOptions, CallError, Client, Ended, GetError, PoolServer, Refusal, RestartMode, Session, SessionId, SpawnReport,
    SpawnStep,
};
use hatchery_protocol::client::{How, ToClient, ToPool};
use hatchery_protocol::memfd;
use std::future::Future;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;
use support::{FakeCore, FakePool, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// A connected client, with the pool's side of everything.
struct Bench {
    server: PoolServer,
    pool: FakePool,
    core: FakeCore,
    client: Client,
}

async fn bench() -> Bench {
    let (server, mut pool) = support::pool();
    let accepting = thread::spawn(move || (pool.accept(), pool));
    let client = server.connect().await.unwrap();
    let (core, pool) = accepting.join().unwrap();
    Bench { server, pool, core, client }
}

/// Waits, with patience, and lets the test's own reads happen elsewhere meanwhile.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("waited in vain")
}

impl Bench {
    /// A session over a fresh socket, and the worker's end.
    async fn fresh(&mut self, number: u64, lease: u64) -> (Session, UnixStream) {
        let client = self.client.clone();
        let (session, worker) = soon(with_core(&mut self.core, client.get("/srv/shop"), move |core| {
            let request = core.expect_get();
            core.grant(request, number, lease)
        }))
        .await;
        (session.unwrap(), worker)
    }
}

/// Polls `future` while a thread plays the core.
async fn with_core<T, R: Send + 'static>(
    core: &mut FakeCore,
    future: impl Future<Output = T>,
    play: impl FnOnce(&mut FakeCore) -> R + Send,
) -> (T, R) {
    thread::scope(|scope| {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        scope.spawn(move || sender.send(play(core)).ok());
        // The scope joins the thread when its answer is here.
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let (result, played) = tokio::join!(soon(future), soon(receiver));
                (result, played.expect("the core's side"))
            })
        })
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_go_both_ways_and_finish_ends_the_session() {
    let mut bench = bench().await;
    let (mut session, mut worker) = bench.fresh(1, 10).await;
    assert_eq!((session.id(), session.pid(), session.is_reused()), (SessionId(1), 4711, false));
    session.write_all(b"question").await.unwrap();
    let mut question = [0; 8];
    worker.read_exact(&mut question).unwrap();
    worker.write_all(b"answer").unwrap();
    let mut answer = [0; 6];
    session.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
    session.finish().await.unwrap();
    bench.core.expect_close(1, How::Finished);
    assert_eq!(support::rest(&worker), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_listen_on_a_port() {
    let mut bench = bench().await;
    let (session, mut worker) = with_core(&mut bench.core, bench.client.get("/srv/shop"), |core| {
        let request = core.expect_get();
        core.grant_tcp(request, 1, 10)
    })
    .await;
    let mut session = session.unwrap();
    assert_eq!(session.transport(), hatchery_pool_client::Transport::Tcp);
    let slices = [std::io::IoSlice::new(b"ab"), std::io::IoSlice::new(b"cd")];
    assert_eq!(session.write_vectored(&slices).await.unwrap(), 4);
    let mut got = [0; 4];
    worker.read_exact(&mut got).unwrap();
    worker.write_all(&got).unwrap();
    session.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"abcd");
    let (mut read, write) = session.into_split();
    drop(write);
    assert_eq!(worker.read(&mut got).unwrap(), 0);
    drop(worker);
    assert_eq!(read.read(&mut got).await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_session_is_abandoned() {
    let mut bench = bench().await;
    let (session, _worker) = bench.fresh(1, 10).await;
    drop(session);
    bench.core.expect_close(1, How::Abandoned);
    let (session, _worker) = bench.fresh(2, 11).await;
    session.abandon();
    bench.core.expect_close(2, How::Abandoned);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kept_connection_is_used_again() {
    let mut bench = bench().await;
    let (mut session, mut worker) = bench.fresh(1, 10).await;
    session.write_all(b"1").await.unwrap();
    session.keep().await.unwrap();
    bench.core.expect_close(1, How::Kept);
    let (session, ()) = with_core(&mut bench.core, bench.client.get("/srv/shop"), |core| {
        let request = core.expect_get();
        core.grant_parked(request, 2, 10);
    })
    .await;
    let mut session = session.unwrap();
    assert!(session.is_reused());
    session.write_all(b"2").await.unwrap();
    let mut both = [0; 2];
    worker.read_exact(&mut both).unwrap();
    assert_eq!(&both, b"12");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_connection_that_is_not_silent_is_replaced() {
    let mut bench = bench().await;
    for (number, byte) in [(1, Some(b"!")), (3, None)] {
        let (session, mut worker) = bench.fresh(number, number + 10).await;
        session.keep().await.unwrap();
        bench.core.expect_close(number, How::Kept);
        match byte {
            Some(byte) => worker.write_all(byte).unwrap(),
            None => drop(worker),
        }
        let (session, new) = with_core(&mut bench.core, bench.client.get("/srv/shop"), move |core| {
            let request = core.expect_get();
            core.grant_parked(request, number + 1, number + 10);
            let ToPool::Reconnect { request, session } = core.expect() else { panic!("no reconnect") };
            assert_eq!(session, SessionId(number + 1));
            core.grant(request, number + 1, number + 20)
        })
        .await;
        let session = session.unwrap();
        assert!(!session.is_reused());
        session.finish().await.unwrap();
        bench.core.expect_close(number + 1, How::Finished);
        assert_eq!(support::rest(&new), b"");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_with_a_closed_direction_is_not_parked() {
    let mut bench = bench().await;
    let (mut session, worker) = bench.fresh(1, 10).await;
    session.shutdown().await.unwrap();
    assert_eq!(support::rest(&worker), b"");
    session.keep().await.unwrap();
    bench.core.expect_close(1, How::Finished);

    let (mut session, worker) = bench.fresh(2, 11).await;
    drop(worker);
    session.read_to_end(&mut Vec::new()).await.unwrap();
    session.keep().await.unwrap();
    bench.core.expect_close(2, How::Finished);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_the_pool_ended_can_be_read_to_its_end() {
    let mut bench = bench().await;
    let (mut session, mut worker) = bench.fresh(1, 10).await;
    assert_eq!(session.ended(), None);
    worker.write_all(b"the last words").unwrap();
    bench.core.end_session(1, 10, Ended::DrainTimedOut);
    drop(worker);
    let mut words = String::new();
    soon(session.read_to_string(&mut words)).await.unwrap();
    assert_eq!(words, "the last words");
    assert_eq!(session.ended(), Some(Ended::DrainTimedOut));
    session.finish().await.unwrap();
    assert!(bench.core.is_silent());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_lease_closes_its_connection_at_once() {
    let mut bench = bench().await;
    let (session, worker) = bench.fresh(1, 10).await;
    session.keep().await.unwrap();
    bench.core.expect_close(1, How::Kept);
    bench.core.end_session(1, 10, Ended::LeaseEnded);
    assert!(support::ready(worker.as_fd(), PATIENCE));
    assert_eq!(support::rest(&worker), b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_get_is_cancelled_and_disturbs_nobody() {
    let mut bench = bench().await;
    let get = bench.client.get("/srv/shop");
    assert!(timeout(Duration::from_millis(20), get).await.is_err());
    let request = bench.core.expect_get();
    assert_eq!(bench.core.expect(), ToPool::Cancel { request });
    // The answer crosses.
    let worker = bench.core.grant(request, 1, 10);
    bench.core.expect_close(1, How::Finished);
    assert_eq!(support::rest(&worker), b"");
    bench.fresh(2, 11).await.0.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_get_that_is_left_alone_does_not_hold_up_others() {
    let mut bench = bench().await;
    let client = bench.client.clone();
    let mut first = Box::pin(client.get("/srv/shop"));
    assert!(timeout(Duration::from_millis(20), &mut first).await.is_err());
    let waiting = bench.core.expect_get();
    // `first` is alive and not polled.
    let (second, _worker) = bench.fresh(2, 11).await;
    let _worker = bench.core.grant(waiting, 1, 10);
    assert_eq!(soon(first).await.unwrap().id(), SessionId(1));
    assert_eq!(second.id(), SessionId(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn gets_cancelled_at_any_moment_leave_no_session_behind() {
    let Bench { server: _server, pool: _pool, mut core, client } = bench().await;
    // Every get is granted, at once; each session must be closed exactly once.
    let playing = thread::spawn(move || {
        let (mut open, mut number) = (std::collections::BTreeSet::new(), 0);
        loop {
            match core.channel.receive() {
                Ok((ToPool::Get { request, .. }, _)) => {
                    number += 1;
                    open.insert(SessionId(number));
                    drop(core.grant(request, number, number));
                }
                Ok((ToPool::Close { session, .. }, _)) => assert!(open.remove(&session), "closed twice"),
                Ok((ToPool::Cancel { .. }, _)) => {}
                Ok((ToPool::GetCount { request }, _)) => {
                    core.say(&ToClient::Figure { request, figure: open.len() as u64 });
                }
                Ok((other, _)) => panic!("{other:?}"),
                Err(_) => return number,
            }
        }
    });
    let mut got = 0;
    for round in 0..2000_u32 {
        let limit = Duration::from_micros(u64::from(round % 120));
        tokio::select! {
            biased;
            session = client.get("/srv/shop") => {
                got += 1;
                session.unwrap().finish().await.unwrap();
            }
            () = async { tokio::time::sleep(limit).await } => {}
            () = async { for _ in 0..round % 7 { tokio::task::yield_now().await } }, if round % 2 == 0 => {}
        }
    }
    // What crossed the last Cancel is closed when the next answer was read.
    soon(async { while client.count().await.unwrap() > 0 {} }).await;
    drop(client);
    assert!(playing.join().unwrap() >= got);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_tasks_share_one_channel() {
    let Bench { server: _server, pool: _pool, core, client } = bench().await;
    let playing = thread::spawn(move || play(core));
    let tasks: Vec<_> = (0..64_u32)
        .map(|task| {
            let client = client.clone();
            tokio::spawn(async move {
                for round in 0..30_u32 {
                    let mut session = client.get("/srv/shop").await.unwrap();
                    let question = format!("{task}-{round}");
                    session.write_all(question.as_bytes()).await.unwrap();
                    let mut echo = vec![0; question.len()];
                    session.read_exact(&mut echo).await.unwrap();
                    assert_eq!(echo, question.as_bytes());
                    if round % 3 == 0 { session.finish().await } else { session.keep().await }.unwrap();
                }
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
    drop(client);
    playing.join().unwrap();
}

/// A core whose workers send back what they get, and which grants parked connections first.
fn play(mut core: FakeCore) {
    let (mut next, mut leases, mut parked) = (1, std::collections::BTreeMap::new(), Vec::new());
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
}

// B120
#[tokio::test(flavor = "multi_thread")]
async fn after_the_core_died_the_next_ten_gets_succeed() {
    let mut bench = bench().await;
    let (session, _worker) = bench.fresh(1, 10).await;
    let parked = bench.fresh(2, 11).await;
    parked.0.keep().await.unwrap();
    let Bench { server: _server, mut pool, core, client } = bench;
    drop(core);
    let playing = thread::spawn(move || {
        let mut core = pool.accept();
        let workers: Vec<_> = (1..=10)
            .map(|number| {
                let request = core.expect_get();
                let worker = core.grant(request, number, number);
                core.expect_close(number, How::Finished);
                worker
            })
            .collect();
        assert!(core.is_silent());
        (core, pool, workers)
    });
    for _ in 0..10 {
        soon(client.get("/srv/shop")).await.unwrap().finish().await.unwrap();
    }
    playing.join().unwrap();
    assert_eq!(session.ended(), Some(Ended::WorkerGone));
    // Session 1 of the old core is not that of the new one.
    session.finish().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_asked_when_the_core_died_is_asked_again() {
    let Bench { server: _server, mut pool, mut core, client } = bench().await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.get("/srv/shop").await.map(|session| session.id()) })
        })
        .collect();
    let counting = {
        let client = client.clone();
        tokio::spawn(async move { client.count().await })
    };
    for _ in 0..4 {
        core.expect();
    }
    drop(core);
    let playing = thread::spawn(move || {
        let mut core = pool.accept();
        let mut workers = Vec::new();
        for _ in 0..4 {
            match core.expect() {
                ToPool::Get { request, .. } => workers.push(core.grant(request, request.0, request.0)),
                ToPool::GetCount { request } => core.say(&ToClient::Figure { request, figure: 3 }),
                other => panic!("{other:?}"),
            }
        }
        (core, pool, workers)
    });
    for get in waiting {
        soon(get).await.unwrap().unwrap();
    }
    assert_eq!(soon(counting).await.unwrap().unwrap(), 3);
    playing.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_pool_is_gone_everything_says_so() {
    let Bench { server, mut pool, core, client } = bench().await;
    pool.end();
    drop((pool, core));
    assert!(matches!(soon(client.get("/srv/shop")).await, Err(GetError::PoolGone(_))));
    let error = soon(client.count()).await.unwrap_err();
    assert!(error.to_string().starts_with("the pool is gone"), "{error}");
    drop(server);
    let error = soon(client.get("/srv/shop")).await.unwrap_err();
    assert!(!error.is_retryable());
    assert_eq!(error.http_status(), 503);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_detached_door_still_serves_its_clients() {
    let Bench { server, mut pool, core, client } = bench().await;
    server.detach();
    drop(core);
    let playing = thread::spawn(move || {
        let mut core = pool.accept();
        let request = core.expect_get();
        let worker = core.grant(request, 1, 1);
        (core, pool, worker)
    });
    soon(client.get("/srv/shop")).await.unwrap();
    let (_core, pool, _worker) = playing.join().unwrap();
    drop(client);
    assert!(pool.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_server_closes_the_door_and_leaves_clients_alone() {
    let mut bench = bench().await;
    let (session, _worker) = bench.fresh(1, 10).await;
    let Bench { server, pool, mut core, client } = bench;
    drop(server);
    assert!(pool.is_closed());
    session.finish().await.unwrap();
    core.expect_close(1, How::Finished);
    // The channel ends with the last handle.
    drop(client);
    core.expect_closed();
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_arrive_as_they_are() {
    let mut bench = bench().await;
    let refusal = Refusal::Disabled { retry_after: Some(Duration::from_secs(5)), why: "it crashed 5 times".into() };
    let told = refusal.clone();
    let (answer, ()) = with_core(&mut bench.core, bench.client.get("/srv/shop"), move |core| {
        let request = core.expect_get();
        core.say(&ToClient::Refused { request, refusal: told });
    })
    .await;
    let error = answer.unwrap_err();
    assert_eq!(error.to_string(), refusal.to_string());
    assert_eq!((error.http_status(), error.retry_after()), (503, Some(Duration::from_secs(5))));
    assert!(error.is_retryable());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_comes_with_its_report() {
    let mut bench = bench().await;
    let report = SpawnReport {
        root: "/srv/shop".into(),
        step: SpawnStep::Execute,
        problem: "python3 is not installed".into(),
        remedy: "install it".into(),
        output: "x".repeat(500_000),
        exit: None,
        setup: None,
    };
    let sent = memfd::write(&report).unwrap();
    let (answer, ()) = with_core(&mut bench.core, bench.client.get("/srv/shop"), move |core| {
        let request = core.expect_get();
        let message = ToClient::Refused { request, refusal: Refusal::SpawnFailed };
        core.channel.send_with(&message, &[sent.as_fd()]).unwrap();
    })
    .await;
    let Err(GetError::SpawnFailed(got)) = answer else { panic!("no report") };
    assert_eq!(*got, report);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_lies_loses_its_channel_with_a_reason() {
    let Bench { server: _server, pool: _pool, mut core, client } = bench().await;
    let (answer, ()) = with_core(&mut core, client.get("/srv/shop"), |core| {
        core.expect_get();
        core.say(&ToClient::Done { request: hatchery_protocol::client::RequestId(1_000_000) });
    })
    .await;
    let error = answer.unwrap_err();
    assert!(error.to_string().contains("1000000"), "{error}");
    core.expect_closed();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_is_the_reason() {
    let mut bench = bench().await;
    let Bench { core, client, .. } = &mut bench;
    let (answer, ()) = with_core(core, client.get("/srv/shop"), |core| {
        core.expect_get();
        core.say(&ToClient::Goodbye { why: "it does not keep up".into() });
        core.channel = hatchery_protocol::channel::pair().unwrap().0;
    })
    .await;
    let error = answer.unwrap_err();
    assert!(error.to_string().contains("it does not keep up"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_read_and_write_and_come_together_again() {
    let mut bench = bench().await;
    let (session, mut worker) = bench.fresh(1, 10).await;
    let (mut read, mut write) = session.into_split();
    let writing = tokio::spawn(async move {
        write.write_all(&vec![b'x'; 1 << 20]).await.unwrap();
        write
    });
    let echoing = thread::spawn(move || {
        let mut got = vec![0; 1 << 20];
        worker.read_exact(&mut got).unwrap();
        worker.write_all(&got).unwrap();
        worker
    });
    let mut back = vec![0; 1 << 20];
    soon(read.read_exact(&mut back)).await.unwrap();
    let write = writing.await.unwrap();
    read.reunite(write).unwrap().keep().await.unwrap();
    bench.core.expect_close(1, How::Kept);
    echoing.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_half_is_half_a_close() {
    let mut bench = bench().await;
    let (session, mut worker) = bench.fresh(1, 10).await;
    let (mut read, write) = session.into_split();
    drop(write);
    assert_eq!(support::rest(&worker), b"");
    worker.write_all(b"still").unwrap();
    let mut answer = [0; 5];
    soon(read.read_exact(&mut answer)).await.unwrap();
    assert!(bench.core.is_silent());
    drop(read);
    bench.core.expect_close(1, How::Abandoned);
}

#[tokio::test(flavor = "multi_thread")]
async fn halves_of_two_sessions_do_not_fit() {
    let mut bench = bench().await;
    let (first, _one) = bench.fresh(1, 10).await;
    let (second, _two) = bench.fresh(2, 11).await;
    let (read, _write) = first.into_split();
    let (_read, write) = second.into_split();
    assert!(read.reunite(write).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_taken_out_can_be_kept_by_its_ticket() {
    let mut bench = bench().await;
    let (session, _worker) = bench.fresh(1, 10).await;
    let (socket, ticket) = session.into_parts().unwrap();
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false).unwrap();
    (&stream).write_all(b"1").unwrap();
    ticket.keep(stream.into()).unwrap();
    bench.core.expect_close(1, How::Kept);
    let (session, ()) = with_core(&mut bench.core, bench.client.get("/srv/shop"), |core| {
        let request = core.expect_get();
        core.grant_parked(request, 2, 10);
    })
    .await;
    assert!(session.as_ref().unwrap().is_reused());
    let (_socket, ticket) = session.unwrap().into_parts().unwrap();
    drop(ticket);
    bench.core.expect_close(2, How::Abandoned);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_can_be_kept_after_hyper_used_it() {
    use http_body_util::{BodyExt, Empty};
    use hyper_util::rt::TokioIo;
    let mut bench = bench().await;
    let (session, mut worker) = bench.fresh(1, 10).await;
    let answering = thread::spawn(move || {
        let mut head = [0; 1024];
        let len = worker.read(&mut head).unwrap();
        assert!(head[..len].starts_with(b"GET /x HTTP/1.1"));
        worker.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").unwrap();
        worker
    });
    let (mut sender, mut connection) = hyper::client::conn::http1::handshake(TokioIo::new(session)).await.unwrap();
    let request = hyper::Request::get("/x").header("host", "shop").body(Empty::<hyper::body::Bytes>::new()).unwrap();
    let exchange = async {
        let answer = sender.send_request(request).await.unwrap();
        answer.into_body().collect().await.unwrap().to_bytes()
    };
    let body = tokio::select! {
        body = exchange => body,
        ended = &mut connection => panic!("the connection ended: {ended:?}"),
    };
    assert_eq!(&body[..], b"ok");
    let worker = answering.join().unwrap();
    connection.into_parts().io.into_inner().keep().await.unwrap();
    bench.core.expect_close(1, How::Kept);
    assert!(!support::ready(worker.as_fd(), Duration::from_millis(20)), "the connection is still open");
}

#[tokio::test(flavor = "multi_thread")]
async fn figures_and_settings_go_through() {
    let mut bench = bench().await;
    let Bench { core, client, .. } = &mut bench;
    let calls = async {
        client.set_max(3).await.unwrap();
        client.set_max_per_app(0).await.unwrap();
        client.set_max_idle(Duration::ZERO).await.unwrap();
        client.clear().await.unwrap();
        (client.active().await.unwrap(), client.spawner_pid().await.unwrap(), client.set_max(0).await)
    };
    let ((active, spawner, refused), ()) = with_core(core, calls, |core| {
        loop {
            match core.expect() {
                ToPool::SetMax { request, max: 0 } => {
                    let refusal = Refusal::Invalid("max is 0".into());
                    return core.say(&ToClient::Refused { request, refusal });
                }
                ToPool::SetMax { request, .. }
                | ToPool::SetMaxPerApp { request, .. }
                | ToPool::SetMaxIdleTime { request, .. }
                | ToPool::Clear { request } => core.say(&ToClient::Done { request }),
                ToPool::GetActive { request } => core.say(&ToClient::Figure { request, figure: 2 }),
                ToPool::GetSpawnServerPid { request } => core.say(&ToClient::Figure { request, figure: 99 }),
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert_eq!((active, spawner), (2, 99));
    assert_eq!(refused.unwrap_err().to_string(), "max is 0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_does_not_read_makes_nobody_wait() {
    let mut bench = bench().await;
    let (session, _worker) = bench.fresh(1, 10).await;
    // More than a socket holds.
    let gets: Vec<_> = (0..2000)
        .map(|_| {
            let client = bench.client.clone();
            tokio::spawn(async move { client.get("/srv/shop").await.map(|session| session.id()) })
        })
        .collect();
    soon(session.finish()).await.unwrap();
    let playing = thread::spawn(move || {
        let mut closed = false;
        let mut requests = Vec::new();
        while requests.len() < 2000 || !closed {
            match bench.core.expect() {
                ToPool::Get { request, .. } => requests.push(request),
                ToPool::Close { session: SessionId(1), how: How::Finished } => closed = true,
                other => panic!("{other:?}"),
            }
        }
        for request in requests {
            bench.core.say(&ToClient::Refused { request, refusal: Refusal::Stopped });
        }
        bench
    });
    for get in gets {
        assert!(matches!(soon(get).await.unwrap(), Err(GetError::Refused(Refusal::Stopped))));
    }
    playing.join().unwrap();
}

#[test]
fn a_client_outlives_the_runtime_it_was_made_in() {
    let (server, mut pool) = support::pool();
    let playing = thread::spawn(move || {
        drop(pool.accept());
        let mut core = pool.accept();
        let request = core.expect_get();
        (core.grant(request, 1, 1), core, pool)
    });
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let client = first.block_on(server.connect()).unwrap();
    drop(first);
    runtime().block_on(async { soon(client.get("/srv/shop")).await.unwrap().finish().await.unwrap() });
    playing.join().unwrap();
}

#[test]
fn handles_may_go_from_task_to_task() {
    fn assert_send<T: Send>(_: T) {}
    fn assert_shared<T: Send + Sync + Unpin + 'static>() {}
    assert_shared::<Client>();
    assert_shared::<Session>();
    assert_shared::<PoolServer>();
    assert_shared::<hatchery_pool_client::Ticket>();
    assert_shared::<hatchery_pool_client::blocking::Client>();
    assert_shared::<hatchery_pool_client::blocking::Session>();
    #[allow(dead_code, reason = "is only compiled")]
    fn futures(client: &Client, session: Session, server: &PoolServer) {
        assert_send(client.get(String::new()));
        assert_send(client.status());
        assert_send(session.keep());
        assert_send(server.connect());
        assert_send(server.gone());
    }
}

/// What the pool says to each verb of the operator's: yes, unless it is about `/srv/none`.
fn rule(core: &mut FakeCore, questions: usize) -> Vec<ToPool> {
    let mut seen = Vec::new();
    for _ in 0..questions {
        let question = core.expect();
        let (request, unknown) = match &question {
            ToPool::Restart { request, root, .. }
            | ToPool::Add { request, root, .. }
            | ToPool::Remove { request, root }
            | ToPool::Stop { request, root }
            | ToPool::Start { request, root } => (*request, root == b"/srv/none"),
            ToPool::Retire { request, pid } => (*request, *pid == 0),
            ToPool::Reload { request } => (*request, false),
            other => panic!("{other:?}"),
        };
        let refusal = Refusal::Invalid("no such application, worker or session".into());
        core.say(&if unknown { ToClient::Refused { request, refusal } } else { ToClient::Done { request } });
        seen.push(question);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn verbs_name_an_app_by_its_normalised_root_and_are_done_or_refused() {
    let mut bench = bench().await;
    let Bench { core, client, .. } = &mut bench;
    let options = AppOptions { min: Some(2), ..AppOptions::default() };
    let calls = async {
        client.add("/srv//shop/", &options).await.unwrap();
        client.restart("/srv/./shop", RestartMode::Graceful).await.unwrap();
        client.restart("/srv/shop", RestartMode::Kill).await.unwrap();
        client.stop("/srv/shop").await.unwrap();
        client.start("/srv/shop").await.unwrap();
        client.retire(4711).await.unwrap();
        client.reload().await.unwrap();
        client.remove("/srv/shop").await.unwrap();
        (client.restart("/srv/none", RestartMode::Graceful).await, client.retire(0).await)
    };
    let ((restart, retire), seen) = with_core(core, calls, |core| rule(core, 10)).await;
    for refused in [restart, retire] {
        assert!(matches!(refused, Err(CallError::Refused(Refusal::Invalid(_)))), "{refused:?}");
    }
    let about_shop = |question: &ToPool| match question {
        ToPool::Restart { root, .. }
        | ToPool::Add { root, .. }
        | ToPool::Remove { root, .. }
        | ToPool::Stop { root, .. }
        | ToPool::Start { root, .. } => root == b"/srv/shop",
        _ => true,
    };
    assert!(seen[..8].iter().all(about_shop), "{seen:?}");
    assert!(matches!(&seen[0], ToPool::Add { options: sent, .. } if **sent == options));
    assert!(matches!(&seen[2], ToPool::Restart { mode: RestartMode::Kill, .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_restart_comes_with_its_report() {
    let mut bench = bench().await;
    let report = SpawnReport {
        root: "/srv/shop".into(),
        step: SpawnStep::Ready,
        problem: "the new version exits at once".into(),
        remedy: "read its output".into(),
        output: "SyntaxError".into(),
        exit: None,
        setup: None,
    };
    let sent = report.clone();
    let restart = bench.client.restart("/srv/shop", RestartMode::Graceful);
    let (restarted, ()) = with_core(&mut bench.core, restart, move |core| {
        let ToPool::Restart { request, .. } = core.expect() else { panic!("no restart") };
        let payload = memfd::write(&sent).unwrap();
        let refused = ToClient::Refused { request, refusal: Refusal::SpawnFailed };
        core.channel.send_with(&refused, &[payload.as_fd()]).unwrap();
    })
    .await;
    let error = restarted.unwrap_err();
    assert!(error.to_string().contains("the new version exits at once") && !error.is_retryable(), "{error}");
    assert!(matches!(error, CallError::SpawnFailed(got) if *got == report));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_a_core_left_unanswered_is_asked_of_the_next() {
    let Bench { server: _server, mut pool, mut core, client } = bench().await;
    let restarting = tokio::spawn(async move { client.restart("/srv/shop", RestartMode::Graceful).await });
    let answering = thread::spawn(move || {
        assert!(matches!(core.expect(), ToPool::Restart { .. }));
        drop(core);
        let mut next = pool.accept();
        let ToPool::Restart { request, .. } = next.expect() else { panic!("no restart") };
        next.say(&ToClient::Done { request });
        (pool, next)
    });
    soon(restarting).await.unwrap().unwrap();
    answering.join().unwrap();
}
