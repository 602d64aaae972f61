//! No descriptor is left behind: not after ten thousand sessions, not in any of the processes.

mod support;

use hatchery_pool_client::{Client, PoolServer};
use std::collections::BTreeMap;
use std::sync::Mutex;
use support::{apps, builder, fetch, processes, until};

/// Both tests count the descriptors of this very process, so they take turns, each with a runtime of its own.
fn in_turn(test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

type Descriptors = BTreeMap<&'static str, Vec<String>>;

/// Of client, keeper, core, spawner and, while there is one, the worker.
fn descriptors(server: &PoolServer, pool: &str) -> Descriptors {
    let keeper = server.pid();
    let role = |role| processes::role(keeper, role).unwrap_or_else(|| panic!("no {role}"));
    let mut all = BTreeMap::from([
        ("client", processes::descriptors(std::process::id().cast_signed())),
        ("keeper", processes::descriptors(keeper)),
        ("core", processes::descriptors(role("core"))),
        ("spawner", processes::descriptors(role("spawner"))),
    ]);
    if let [worker] = processes::marked("HATCHERY_WORKER", pool)[..] {
        all.insert("worker", processes::descriptors(worker));
    }
    all
}

/// Waits until the counts are `wanted`: a descriptor in flight is closed a moment later.
async fn settle(server: &PoolServer, pool: &str, wanted: &Descriptors, when: &str) {
    let by = std::time::Instant::now() + support::PATIENCE;
    loop {
        let now = descriptors(server, pool);
        if now == *wanted {
            return;
        }
        assert!(std::time::Instant::now() < by, "{when}:\n{now:#?}\ninstead of\n{wanted:#?}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

async fn sessions(client: &Client, app: &apps::App, number: usize) {
    for number in 0..number {
        let mut session = client.get(app.root()).await.unwrap();
        match number % 10 {
            // Dropped without a word, before and after an exchange.
            0 => drop(session),
            1 => {
                fetch(&mut session, "/pid").await;
                drop(session);
            }
            2 => {
                fetch(&mut session, "/pid").await;
                session.keep().await.unwrap();
            }
            3 => {
                let (socket, ticket) = session.into_parts().unwrap();
                drop(socket);
                drop(ticket);
            }
            _ => {
                fetch(&mut session, "/pid").await;
                session.finish().await.unwrap();
            }
        }
    }
}

#[test]
fn session_100_and_session_10_100_leave_the_same_behind() {
    in_turn(sessions_leave_the_same());
}

async fn sessions_leave_the_same() {
    let app = apps::worker();
    let server = builder().max(1).start().unwrap();
    let pool = processes::pool_id(server.pid());
    let client = server.connect().await.unwrap();
    // Once around, so that what is made at first use exists.
    sessions(&client, &app, 10).await;
    client.clear().await.unwrap();
    until("the pool is empty", async || (client.count().await.unwrap() == 0).then_some(())).await;
    let empty = descriptors(&server, &pool);
    sessions(&client, &app, 100).await;
    until("all sessions are over", async || (client.active().await.unwrap() == 0).then_some(())).await;
    let hundred = descriptors(&server, &pool);
    sessions(&client, &app, 10_000).await;
    until("all sessions are over", async || (client.active().await.unwrap() == 0).then_some(())).await;
    settle(&server, &pool, &hundred, "after session 10,100").await;
    client.clear().await.unwrap();
    until("the pool is empty", async || (client.count().await.unwrap() == 0).then_some(())).await;
    settle(&server, &pool, &empty, "after clear").await;
}

// B98
#[test]
fn pools_and_clients_that_came_and_went_leave_nothing_in_their_process() {
    in_turn(pools_leave_nothing());
}

async fn pools_leave_nothing() {
    let app = apps::worker();
    let before = processes::descriptors(std::process::id().cast_signed());
    for _ in 0..5 {
        let server = builder().start().unwrap();
        for _ in 0..3 {
            let client = server.connect().await.unwrap();
            support::ask(&client, app.root(), "/pid").await;
        }
        let blocking = server.connect_blocking().unwrap();
        blocking.get(app.root()).unwrap().finish().unwrap();
        drop(blocking);
        drop(server);
    }
    let after = || processes::descriptors(std::process::id().cast_signed());
    let by = std::time::Instant::now() + support::PATIENCE;
    while after() != before {
        assert!(std::time::Instant::now() < by, "{:#?}\ninstead of\n{before:#?}", after());
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
