//! Front end, keeper, core and spawner are killed, idle and under load: within two seconds nothing is left that
//! should not be. What is left is looked for by its mark and by the runtime folder, not by remembered numbers.

mod support;

use hatchery_pool_client::{Client, PoolServer};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::apps::{self, App};
use support::{ask, builder, processes, until};

/// What the design promises.
const SETTLED: Duration = Duration::from_secs(2);
/// Shared machines are slow at times; what takes longer than this is not slowness.
const ALLOWED: Duration = Duration::from_secs(15);

struct Pool {
    server: PoolServer,
    id: String,
    apps: Vec<App>,
}

impl Pool {
    /// With a worker of each of two apps, and a daemon of one of them, which has left its session and group.
    async fn start() -> (Self, Client) {
        let server = builder().max(4).start().unwrap();
        let id = processes::pool_id(server.pid());
        let client = server.connect().await.unwrap();
        let apps = vec![apps::worker_with("", &[("TEST_THREADS", "1")]), apps::worker()];
        for app in &apps {
            ask(&client, app.root(), "/pid").await;
        }
        ask(&client, apps[0].root(), "/daemon").await;
        (Self { server, id, apps }, client)
    }

    fn processes(&self) -> BTreeSet<i32> {
        processes::of_pool(&self.id).into_iter().collect()
    }

    fn workers(&self) -> BTreeSet<i32> {
        processes::marked("HATCHERY_WORKER", &self.id).into_iter().collect()
    }

    fn role(&self, role: &str) -> i32 {
        support::until_blocking(role, || processes::role(self.server.pid(), role))
    }
}

/// Waits until none of these is left, and says how long it took if that was longer than promised.
async fn gone(what: &str, left: impl Fn() -> BTreeSet<i32>) {
    let began = Instant::now();
    while !left().is_empty() {
        let named: Vec<String> = left().into_iter().map(processes::command_line).collect();
        assert!(began.elapsed() < ALLOWED, "{what}: still there: {named:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    if began.elapsed() > SETTLED {
        eprintln!("{what}: took {:?}, on a machine that is slow now", began.elapsed());
    }
}

/// Sessions one after another from several tasks, through whatever happens.
struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn on(client: &Client, apps: &[App]) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let roots: Vec<PathBuf> = apps.iter().map(|app| app.root().to_owned()).collect();
        let tasks = (0..4).map(|number: usize| {
            let (client, stop, served) = (client.clone(), Arc::clone(&stop), Arc::clone(&served));
            let root = roots[number % roots.len()].clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let Ok(mut session) = client.get(&root).await else { continue };
                    if support::exchange(&mut session, "/sleep?2").await.is_ok_and(|answer| answer == "slept") {
                        served.fetch_add(1, Ordering::Relaxed);
                        let _ = session.finish().await;
                    }
                }
            })
        });
        let tasks = tasks.collect();
        Self { stop, served, tasks }
    }

    /// It goes on after what happened.
    async fn goes_on(&self) {
        let before = self.served.load(Ordering::Relaxed);
        until("the load goes on", async || (self.served.load(Ordering::Relaxed) > before + 8).then_some(())).await;
    }

    /// No waiter is stuck: every task ends.
    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            tokio::time::timeout(support::PATIENCE, task).await.expect("a waiter is stuck").unwrap();
        }
    }
}

// B120
#[tokio::test]
async fn a_killed_core_comes_back_and_every_client_with_it() {
    let (pool, client) = Pool::start().await;
    let other = pool.server.connect().await.unwrap();
    for _ in 0..3 {
        let (old, core) = (pool.workers(), pool.role("core"));
        processes::kill(core, Signal::SIGKILL);
        for _ in 0..10 {
            ask(&client, pool.apps[0].root(), "/pid").await;
            ask(&other, pool.apps[1].root(), "/pid").await;
        }
        gone("the dead core's workers and their daemons", || &pool.workers() & &old).await;
        assert_ne!(pool.role("core"), core);
        ask(&client, pool.apps[0].root(), "/daemon").await;
    }
}

// B75
#[tokio::test]
async fn a_killed_spawner_comes_back_and_workers_notice_nothing() {
    let (pool, client) = Pool::start().await;
    let before = pool.workers();
    let first = client.spawner_pid().await.unwrap();
    assert_eq!(first, pool.role("spawner"));
    processes::kill(first, Signal::SIGKILL);
    until("there is another", async || {
        let now = client.spawner_pid().await.unwrap();
        (now != first && now == pool.role("spawner")).then_some(())
    })
    .await;
    assert_eq!(pool.workers(), before, "workers are not its children");
    let app = apps::worker();
    ask(&client, app.root(), "/pid").await;
}

#[tokio::test]
async fn a_killed_keeper_takes_everything_with_it() {
    for under_load in [false, true] {
        let (pool, client) = Pool::start().await;
        let load = under_load.then(|| Load::on(&client, &pool.apps));
        if let Some(load) = &load {
            load.goes_on().await;
        }
        processes::kill(pool.server.pid(), Signal::SIGKILL);
        gone("what the keeper parented", || pool.processes()).await;
        assert!(client.get(pool.apps[0].root()).await.is_err(), "a get after it fails at once");
        if let Some(load) = load {
            load.end().await;
        }
        no_folder(&pool.id).await;
    }
}

#[tokio::test]
async fn a_pool_can_be_started_anew_after_its_keeper_died() {
    let (mut pool, _client) = Pool::start().await;
    processes::kill(pool.server.pid(), Signal::SIGKILL);
    pool.server.gone().await;
    pool.server.restart().unwrap();
    let client = pool.server.connect().await.unwrap();
    ask(&client, pool.apps[0].root(), "/pid").await;
}

#[tokio::test]
async fn a_killed_front_end_takes_everything_with_it() {
    for under_load in [false, true] {
        let app = apps::worker();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut front = serve(&app, port);
        let url = format!("127.0.0.1:{port}");
        let answers = |path: &str| get(&url, path).filter(|body| !body.is_empty());
        support::until_blocking("it serves", || answers("/pid"));
        let daemon: i32 = answers("/daemon").unwrap().parse().unwrap();
        let pool = hatchery_protocol::mark::of(daemon, "HATCHERY_WORKER").unwrap();
        let pool = pool.split('.').next().unwrap().to_owned();
        let loads: Vec<_> = (0..if under_load { 3 } else { 0 })
            .map(|_| {
                let url = url.clone();
                std::thread::spawn(move || while get(&url, "/sleep?5").is_some() {})
            })
            .collect();
        std::thread::sleep(Duration::from_millis(if under_load { 100 } else { 0 }));
        front.kill().unwrap();
        front.wait().unwrap();
        gone("what the front end started", || processes::of_pool(&pool).into_iter().collect()).await;
        loads.into_iter().for_each(|load| load.join().unwrap());
        no_folder(&pool).await;
    }
}

// At random moments, several times, under load.
#[tokio::test]
async fn core_and_spawner_killed_at_any_moment_leave_nothing_and_stop_nobody() {
    let (pool, client) = Pool::start().await;
    let load = Load::on(&client, &pool.apps);
    // Core and spawner may each end five times within a minute.
    for round in 0..4_u64 {
        load.goes_on().await;
        // A moment that differs from round to round, not one that anything waits for.
        tokio::time::sleep(Duration::from_micros(round * 1_700 % 5_000)).await;
        let workers = pool.workers();
        processes::kill(pool.role("core"), Signal::SIGKILL);
        gone("the dead core's workers", || &pool.workers() & &workers).await;
        load.goes_on().await;
        processes::kill(pool.role("spawner"), Signal::SIGKILL);
        client.clear().await.unwrap();
    }
    load.goes_on().await;
    load.end().await;
    let count = client.count().await.unwrap();
    assert!(count <= 4, "{count} workers");
    let (id, keeper) = (pool.id.clone(), pool.server.pid());
    drop((client, pool));
    gone("the pool after its last handle", || processes::of_pool(&id).into_iter().collect()).await;
    assert!(!processes::lives(keeper));
    no_folder(&id).await;
}

#[tokio::test]
async fn a_core_that_ends_again_and_again_ends_the_pool_with_a_reason() {
    let (pool, client) = Pool::start().await;
    for _ in 0..6 {
        let Some(core) = processes::role(pool.server.pid(), "core") else { break };
        processes::kill(core, Signal::SIGKILL);
        until("it is gone", async || (!processes::lives(core)).then_some(())).await;
        until("there is another, or no keeper", async || {
            let other = processes::role(pool.server.pid(), "core").is_some_and(|other| other != core);
            (other || !processes::lives(pool.server.pid())).then_some(())
        })
        .await;
    }
    gone("the pool", || pool.processes()).await;
    let error = tokio::time::timeout(support::PATIENCE, client.count()).await.expect("an answer").unwrap_err();
    assert!(!error.to_string().is_empty());
}

// B103, for any program: it ends with whoever started it.
#[tokio::test]
async fn a_worker_that_ignores_term_is_killed_in_the_end() {
    let app = apps::script("trap '' TERM; while :; do sleep 1; done");
    let server = builder().start().unwrap();
    let id = processes::pool_id(server.pid());
    let client = server.connect().await.unwrap();
    let root = app.root().to_owned();
    let stuck = tokio::spawn(async move { client.get(root).await });
    until("it runs", async || (!processes::marked("HATCHERY_WORKER", &id).is_empty()).then_some(())).await;
    stuck.abort();
    let _ = stuck.await;
    drop(server);
    gone("the pool", || processes::of_pool(&id).into_iter().collect()).await;
}

async fn no_folder(pool: &str) {
    until("its runtime folder is gone", async || (!support::runtime_folder(pool).exists()).then_some(())).await;
}

fn serve(app: &App, port: u16) -> Child {
    Command::new(support::HATCHERY)
        .args(["serve", "--admin", "none", "-p", &port.to_string()])
        .arg(app.root())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// The body of an answer with status 200.
fn get(address: &str, path: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(support::PATIENCE)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    answer.starts_with("HTTP/1.1 200").then(|| support::body(&answer).to_owned())
}
