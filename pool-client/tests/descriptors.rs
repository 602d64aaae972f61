//! Descriptors, before and after. Alone in its executable, since other tests open some at the same time.

mod support;

use std::fs;
use std::thread;
use std::time::{Duration, Instant};
use support::FakeCore;

fn open() -> Vec<String> {
    let mut open: Vec<_> = fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            Some(format!("{} -> {}", path.display(), fs::read_link(&path).ok()?.display()))
        })
        .collect();
    open.sort();
    open
}

/// A core that grants everything, until its client is gone.
fn play(mut core: FakeCore) {
    use hatchery_protocol::client::ToPool;
    let mut number = 0;
    while let Ok((message, _)) = core.channel.receive() {
        if let ToPool::Get { request, .. } = message {
            number += 1;
            drop(core.grant(request, number, number));
        }
    }
}

// B98
#[test]
fn afterwards_as_many_descriptors_are_open_as_before() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // What a process opens once and keeps.
    runtime().block_on(async { drop(tokio::net::UnixStream::pair().unwrap()) });
    let before = open();
    for detach in [false, true] {
        let (server, mut pool) = support::pool();
        let playing = thread::spawn(move || {
            play(pool.accept());
            play(pool.accept());
            pool
        });
        {
            let client = server.connect_blocking().unwrap();
            let sessions: Vec<_> = (0..4).map(|_| client.get("/srv/shop").unwrap()).collect();
            for (nth, session) in sessions.into_iter().enumerate() {
                match nth {
                    0 => session.keep().unwrap(),
                    1 => session.finish().unwrap(),
                    2 => drop(session.into_parts()),
                    _ => drop(session),
                }
            }
        }
        runtime().block_on(async {
            let client = server.connect().await.unwrap();
            let mut sessions = Vec::new();
            for _ in 0..5 {
                sessions.push(client.get("/srv/shop").await.unwrap());
            }
            for (nth, session) in sessions.into_iter().enumerate() {
                match nth {
                    0 => session.keep().await.unwrap(),
                    1 => session.finish().await.unwrap(),
                    2 => drop(session.into_parts()),
                    3 => drop(session.into_split()),
                    _ => drop(session),
                }
            }
            assert!(tokio::time::timeout(Duration::from_millis(5), server.gone()).await.is_err());
        });
        if detach {
            server.detach()
        } else {
            drop(server)
        }
        drop(playing.join().unwrap());
    }
    // The harness may be at work beside this.
    let until = Instant::now() + Duration::from_secs(5);
    while open() != before && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(open(), before);
}
