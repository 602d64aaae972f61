//! What is known of workers that did not leave in peace: why, what they did last, and what they said.

mod support;

use hatchery_pool_client::{PoolServer, Session};
use hatchery_protocol::config::{Admin, PoolConfig};
use hatchery_protocol::options::AppOptions;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::apps::{self, App};
use support::{ask, builder, front, processes, until};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;

/// A pool with an admin socket, and a log that can be read.
struct Pool {
    server: PoolServer,
    folder: TempDir,
}

impl Pool {
    fn start(defaults: AppOptions) -> Self {
        let folder = front::folder();
        let admin = Admin::At(folder.path().join("admin.sock"));
        let config = PoolConfig { defaults, admin, trust_clients: true, ..PoolConfig::default() };
        let server = builder().config(config).log_file(folder.path().join("log")).start().expect("a pool");
        Self { server, folder }
    }

    fn admin(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("a log")
    }

    /// What `hatchery` says to a verb.
    fn say(&self, arguments: &[&str]) -> String {
        let mut command = front::hatchery(self.folder.path(), arguments);
        let output = command.arg("--admin").arg(self.admin()).output().expect("hatchery");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn records(&self) -> Vec<Value> {
        let status: Value = serde_json::from_str(&self.say(&["status", "--json"])).expect("JSON");
        status["post_mortems"].as_array().expect("records").clone()
    }

    /// The first record, once it is as wanted.
    async fn record(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(what, async || self.records().into_iter().next().filter(&wanted)).await
    }
}

/// The answer of the admin socket to one line.
fn typed(place: &Path, line: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::os::unix::net::UnixStream::connect(place).expect("the admin socket");
    stream.set_read_timeout(Some(support::PATIENCE)).expect("a time limit");
    stream.write_all(format!("{line}\nquit\n").as_bytes()).expect("it is read");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

async fn pid(pool: &Pool, app: &App) -> i32 {
    let client = pool.server.connect().await.expect("a client");
    ask(&client, app.root(), "/pid").await.parse().expect("a pid")
}

async fn begin(session: &mut Session, path: &str) {
    session.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).await.expect("it is sent");
}

#[tokio::test]
async fn a_worker_killed_from_outside_is_recorded_with_what_it_was_doing() {
    let app = apps::worker();
    let pool = Pool::start(AppOptions::default());
    let worker = pid(&pool, &app).await;
    assert_eq!(pool.records(), [] as [Value; 0]);
    let client = pool.server.connect().await.unwrap();
    let mut session = client.get(app.root()).await.unwrap();
    assert_eq!(session.pid(), worker);
    session.label("GET /report of ann");
    begin(&mut session, "/until?never").await;
    until("the label is there", async || pool.say(&["status", "--json"]).contains("of ann").then_some(())).await;
    processes::kill(worker, Signal::SIGKILL);
    let record = pool.record("it is recorded", |_| true).await;
    assert_eq!((&record["pid"], &record["worker"]), (&worker.into(), &1.into()));
    assert_eq!(record["why"], "died with signal 9 while it served 1 session");
    assert_eq!((&record["exit"], &record["out_of_memory"]), (&serde_json::json!({ "signal": 9 }), &false.into()));
    assert_eq!((&record["served"], &record["generation"]), (&2.into(), &1.into()));
    assert_eq!(record["root"], app.root().to_str().unwrap());
    assert_eq!(record["app"], app.root().file_name().unwrap().to_str().unwrap());
    let open = &record["sessions"][0];
    assert_eq!(open["doing"], "GET /report of ann", "{record:#}");
    assert!(open["age_s"].as_f64() <= record["age_s"].as_f64(), "{record:#}");

    // For a person, a line; in the log, another, with its fields.
    let table = pool.say(&["status"]);
    let line = table.lines().find(|line| line.contains("died with signal 9")).unwrap_or_else(|| panic!("{table}"));
    assert!(line.contains(&format!("pid {worker}  ")) && table.contains("status --json has all"), "{table}");
    let log = pool.log();
    let line = log.lines().find(|line| line.contains("did not leave in peace")).unwrap_or_else(|| panic!("{log}"));
    for field in [format!("pid={worker}"), "sessions=1".into(), "exit=\"signal 9\"".into(), "served=2".into()] {
        assert!(line.contains(&field) && line.contains("WARN"), "{field} is not in {line}");
    }
}

#[tokio::test]
async fn a_crash_is_recorded_with_the_last_words() {
    let app = apps::worker();
    let pool = Pool::start(AppOptions::default());
    let client = pool.server.connect().await.unwrap();
    for number in 0..30 {
        ask(&client, app.root(), &format!("/print?line-{number}")).await;
    }
    let mut session = client.get(app.root()).await.unwrap();
    begin(&mut session, "/abort").await;
    let record = pool.record("it is complete", |record| record["output"].as_str() != Some("")).await;
    assert_eq!(record["exit"], serde_json::json!({ "signal": 6 }));
    let output = record["output"].as_str().unwrap();
    let lines: Vec<&str> = output.lines().collect();
    assert!(lines.contains(&"line-29") && !lines.contains(&"line-9"), "{output}");
    assert!(lines.len() <= 20, "{output}");
}

#[tokio::test]
async fn a_failed_start_is_recorded_with_its_report() {
    let app = apps::script("echo to stdout; echo 'no database' >&2; exit 7");
    let pool = Pool::start(AppOptions::default());
    let client = pool.server.connect().await.unwrap();
    client.get(app.root()).await.unwrap_err();
    let record = pool.record("it is recorded", |_| true).await;
    assert_eq!(record["why"], "could not be started: its start command ended before it was ready, with exit status 7");
    assert_eq!((&record["exit"], &record["served"]), (&serde_json::json!({ "status": 7 }), &0.into()));
    let output = record["output"].as_str().unwrap();
    assert!(output.contains("no database") && output.contains("to stdout"), "{output}");
    assert!(record["pid"].as_i64() > Some(0) && record["sessions"].as_array().unwrap().is_empty());
}

/// Serves, ignores TERM, and prints its stacks when it gets USR1.
const STUBBORN: &str = "
import faulthandler, os, signal, socket
signal.signal(signal.SIGTERM, signal.SIG_IGN)
faulthandler.register(signal.SIGUSR1)

def where_it_hangs(connection):
    connection.recv(4096)
    connection.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\nConnection: close\\r\\n\\r\\nhi')
    connection.close()

listener = socket.socket(fileno=3)
while True:
    where_it_hangs(listener.accept()[0])
";

#[tokio::test]
async fn one_that_ignores_term_is_asked_for_its_stacks_before_it_is_killed() {
    if !support::has("python3", "stacks before KILL") {
        return;
    }
    let app = apps::with_manifest("command = [\"python3\", \"-u\", \"server.py\"]\n");
    app.write("server.py", STUBBORN);
    let usr1 = Signal::SIGUSR1 as i32;
    let pool = Pool::start(AppOptions {
        dump_signal: Some(usr1),
        stop_timeout: Some(Duration::from_millis(200)),
        ..AppOptions::default()
    });
    let client = pool.server.connect().await.unwrap();
    let session = client.get(app.root()).await.unwrap();
    let worker = session.pid();
    drop(session);
    assert_eq!(typed(&pool.admin(), &format!("retire {worker}")), "ok\nok\n");
    let record = pool.record("it is recorded with its stacks", |record| record["output"].as_str() != Some("")).await;
    let why = record["why"].as_str().unwrap();
    assert!(why.starts_with("killed: it did not leave within stop_timeout after TERM; it was to leave: "), "{why}");
    assert!(why.ends_with("retired by the operator"), "{why}");
    assert_eq!(record["exit"], serde_json::json!({ "signal": 9 }));
    let output = record["output"].as_str().unwrap();
    assert!(output.contains("most recent call first") && output.contains("server.py\", line"), "{output}");
    let state = record["state"].as_str().unwrap_or_else(|| panic!("{record:#}"));
    assert!(state.starts_with('S') || state.starts_with('R'), "{state}");
    assert!(record["memory_bytes"].as_u64() > Some(1_000_000), "{record:#}");
    assert!(!processes::lives(worker));
}

#[tokio::test]
async fn who_leaves_in_peace_leaves_no_record() {
    let app = apps::worker();
    let pool = Pool::start(AppOptions::default());
    let worker = pid(&pool, &app).await;
    assert_eq!(typed(&pool.admin(), "retire 1"), "ok\nok\n");
    until("it is gone", async || (!processes::lives(worker)).then_some(())).await;
    assert_ne!(pid(&pool, &app).await, worker);
    assert_eq!(pool.records(), [] as [Value; 0]);
}
