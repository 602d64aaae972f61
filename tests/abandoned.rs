//! Sessions that end without a word: the worker still computes for nobody, and nobody gets its half answer.

mod support;

use hatchery_pool_client::AppOptions;
use std::time::Duration;
use support::{apps, ask, builder, fetch, processes, until};
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn the_slot_of_an_abandoned_session_is_free_when_its_worker_is_done() {
    let app = apps::worker();
    let server = builder().max(1).start().unwrap();
    let client = server.connect().await.unwrap();
    let mut session = client.get(app.root()).await.unwrap();
    let pid = session.pid();
    session.write_all(b"GET /sleep?300 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    drop(session);
    assert_eq!(client.active().await.unwrap(), 1, "the worker still works on it");
    assert_eq!(ask(&client, app.root(), "/pid").await, pid.to_string(), "the next get waits for that worker");
    assert_eq!(client.active().await.unwrap(), 0);
}

#[tokio::test]
async fn a_worker_that_never_finishes_an_abandoned_session_is_replaced_after_linger() {
    let app = apps::worker();
    let server = builder().max(1).start().unwrap();
    let client = server.connect().await.unwrap();
    let options = AppOptions {
        linger: Some(Duration::from_millis(100)),
        drain_timeout: Some(Duration::from_millis(100)),
        ..AppOptions::default()
    };
    let mut session = client.get_with(app.root(), &options).await.unwrap();
    let stuck = session.pid();
    session.write_all(b"GET /sleep?600000 HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    drop(session);
    assert_ne!(ask(&client, app.root(), "/pid").await, stuck.to_string());
    until("the stuck worker is gone", async || (!processes::lives(stuck)).then_some(())).await;
}

#[tokio::test]
async fn all_sessions_of_a_client_that_is_gone_are_over() {
    let app = apps::worker();
    let server = builder().max(3).start().unwrap();
    let watcher = server.connect().await.unwrap();
    let client = server.connect().await.unwrap();
    let mut sessions = Vec::new();
    for _ in 0..3 {
        sessions.push(client.get(app.root()).await.unwrap());
    }
    assert_eq!(watcher.active().await.unwrap(), 3);
    drop((sessions, client));
    until("nothing is active", async || (watcher.active().await.unwrap() == 0).then_some(())).await;
    assert_eq!(watcher.count().await.unwrap(), 3, "their workers stay");
    ask(&watcher, app.root(), "/pid").await;
}

#[tokio::test]
async fn what_a_session_is_doing_is_shown_while_it_does_it() {
    let app = apps::worker();
    let server = builder().start().unwrap();
    let client = server.connect().await.unwrap();
    let mut session = client.get(app.root()).await.unwrap();
    session.label("GET /reports/yearly");
    let doing = client.status().await.unwrap().apps.remove(0).workers.remove(0).doing;
    assert_eq!(doing, ["GET /reports/yearly"]);
    fetch(&mut session, "/pid").await;
    session.finish().await.unwrap();
    let doing = client.status().await.unwrap().apps.remove(0).workers.remove(0).doing;
    assert!(doing.is_empty(), "{doing:?}");
}
