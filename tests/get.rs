//! A session, from the first `get` of an app to the worker's answer and back into the pool.

mod support;

use hatchery_pool_client::{AppOptions, GetError, Refusal};
use std::time::Duration;
use support::{HATCHERY, PATIENCE, apps, ask, builder, fetch, processes, until};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

// B2, B3, B4, B5, B71
#[tokio::test]
async fn the_first_get_starts_a_worker_and_the_next_uses_it_again() {
    let app = apps::worker();
    let server = builder().max(6).start().unwrap();
    let client = server.connect().await.unwrap();
    let mut session = client.get(app.root()).await.unwrap();
    let pid = session.pid();
    assert_eq!(client.active().await.unwrap(), 1);
    assert_eq!(fetch(&mut session, "/pid").await, pid.to_string(), "the reported pid is the real one");
    session.finish().await.unwrap();
    assert_eq!((client.active().await.unwrap(), client.count().await.unwrap()), (0, 1));
    assert_eq!(ask(&client, app.root(), "/pid").await, pid.to_string());
    assert_eq!(client.count().await.unwrap(), 1);
}

#[tokio::test]
async fn a_body_goes_both_ways() {
    let app = apps::worker();
    let server = builder().start().unwrap();
    let client = server.connect().await.unwrap();
    let mut session = client.get(app.root()).await.unwrap();
    let body = "x".repeat(300_000);
    let request = format!("POST /echo HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    session.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    session.read_to_string(&mut answer).await.unwrap();
    assert!(support::body(&answer) == body);
    session.finish().await.unwrap();
}

// What a worker is given: descriptors, environment, signals, parent, working directory.
#[tokio::test]
async fn a_worker_gets_what_the_contract_says_and_nothing_else() {
    let app = apps::worker_with("", &[("GREETING", "hello")]);
    let server = builder().environment("staging").start().unwrap();
    let client = server.connect().await.unwrap();
    let root = app.root().to_str().unwrap();
    let fds = ask(&client, app.root(), "/fds").await;
    // The last socket is the connection that asks, and the folder is what lists them.
    assert_eq!(fds, format!("/dev/null /proc/{}/fd pipe pipe socket socket", ask(&client, app.root(), "/pid").await));
    assert_eq!(ask(&client, app.root(), "/cwd").await, root);
    assert_eq!(ask(&client, app.root(), "/parent").await, server.pid().to_string(), "the keeper is its parent");
    let environment = ask(&client, app.root(), "/environment").await;
    let value = |name: &str| environment.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
    assert_eq!(value("GREETING"), Some("hello"));
    for name in ["HATCHERY_ENV", "APP_ENV", "RACK_ENV", "RAILS_ENV", "NODE_ENV"] {
        assert_eq!(value(name), Some("staging"), "{name}");
    }
    assert_eq!(value("HATCHERY_ROOT"), Some(root));
    assert!(value("HATCHERY_WORKER").is_some() && value("PATH").is_some());
    assert_eq!(value("CARGO_MANIFEST_DIR"), None, "the environment is not the front end's: {environment}");
    let status = ask(&client, app.root(), "/proc").await;
    let mask = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(mask("SigBlk:"), "0000000000000000");
    // A Rust program ignores SIGPIPE itself.
    assert_eq!(mask("SigIgn:"), "0000000000001000");
}

// B40
#[tokio::test]
async fn a_worker_that_died_is_replaced_and_the_caller_sees_nothing() {
    let app = apps::worker();
    let server = builder().start().unwrap();
    let client = server.connect().await.unwrap();
    for _ in 0..5 {
        let pid: i32 = ask(&client, app.root(), "/pid").await.parse().unwrap();
        processes::kill(pid, nix::sys::signal::Signal::SIGKILL);
        // At once: the pool may not have heard of it.
        let other = ask_again(&client, app.root(), "/pid").await;
        assert_ne!(other, pid.to_string());
    }
}

/// A worker may die between the connect and the request; whoever embeds the client tries once more.
async fn ask_again(client: &hatchery_pool_client::Client, root: &std::path::Path, path: &str) -> String {
    let mut session = client.get(root).await.unwrap();
    match support::exchange(&mut session, path).await {
        Ok(answer) if !answer.is_empty() => {
            session.finish().await.unwrap();
            answer
        }
        _ => ask(client, root, path).await,
    }
}

// B43
#[tokio::test]
async fn a_session_works_after_clear_and_its_worker_leaves_when_it_ends() {
    let app = apps::worker();
    let server = builder().start().unwrap();
    let client = server.connect().await.unwrap();
    let mut session = client.get(app.root()).await.unwrap();
    let pid = session.pid();
    client.clear().await.unwrap();
    assert_eq!(fetch(&mut session, "/pid").await, pid.to_string());
    assert_ne!(ask(&client, app.root(), "/pid").await, pid.to_string(), "the fresh pool has a fresh worker");
    session.finish().await.unwrap();
    until("the old worker is gone", async || (client.count().await.unwrap() == 1).then_some(())).await;
    assert!(!processes::lives(pid));
}

// B43: and when the client that asked for it is the only thing left.
#[tokio::test]
async fn a_session_works_after_the_server_handle_is_gone() {
    let app = apps::worker();
    let server = builder().start().unwrap();
    let client = server.connect().await.unwrap();
    let mut session = client.get(app.root()).await.unwrap();
    drop(server);
    assert_eq!(fetch(&mut session, "/pid").await, session.pid().to_string());
    session.finish().await.unwrap();
}

// B38
#[tokio::test]
async fn an_idle_worker_leaves_after_max_idle() {
    let app = apps::worker();
    let server = builder().max_idle(Duration::from_millis(200)).start().unwrap();
    let client = server.connect().await.unwrap();
    let pid: i32 = ask(&client, app.root(), "/pid").await.parse().unwrap();
    until("the count is 0", async || (client.count().await.unwrap() == 0).then_some(())).await;
    assert!(!processes::lives(pid));
}

// B72
#[tokio::test]
async fn a_worker_that_is_never_ready_is_killed_at_its_start_timeout() {
    let app = apps::script("echo still thinking; exec sleep 600");
    let server = builder().start().unwrap();
    let client = server.connect().await.unwrap();
    let options = AppOptions { start_timeout: Some(Duration::from_millis(300)), ..AppOptions::default() };
    let report = match client.get_with(app.root(), &options).await {
        Err(GetError::SpawnFailed(report)) => report,
        other => panic!("{other:?}"),
    };
    assert!(report.problem.contains("not ready within 300ms"), "{report}");
    assert!(report.remedy.contains("descriptor 3"), "{report}");
    assert_eq!(report.output, "still thinking");
    until("the count is 0", async || (client.count().await.unwrap() == 0).then_some(())).await;
}

// B78
#[tokio::test]
async fn a_worker_with_notify_is_ready_when_it_says_so_and_not_before() {
    if !support::has("python3", "readiness by NOTIFY_SOCKET") {
        return;
    }
    let app = apps::with_manifest("command = [\"python3\", \"-u\", \"server.py\"]\nready = \"notify\"\n");
    app.write(
        "server.py",
        "import os, socket, time\n\
         s = socket.socket(socket.AF_UNIX, fileno=3)\n\
         time.sleep(0.3)\n\
         open('said', 'w').close()\n\
         n = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n\
         n.sendto(b'STATUS=nearly\\nREADY=1\\n', os.environ['NOTIFY_SOCKET'])\n\
         while True:\n\
         \x20   c, _ = s.accept()\n\
         \x20   c.recv(4096)\n\
         \x20   c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi')\n\
         \x20   c.close()\n",
    );
    let server = builder().start().unwrap();
    let client = server.connect().await.unwrap();
    let mut session = client.get(app.root()).await.unwrap();
    assert!(app.root().join("said").exists(), "it was granted only after READY=1");
    assert_eq!(fetch(&mut session, "/").await, "hi");
    session.finish().await.unwrap();
}

// B78
#[tokio::test]
async fn a_worker_that_leaves_at_once_is_reported_with_its_output() {
    let app = apps::script("echo to stdout; echo 'to <stderr>' >&2; exit 7");
    let server = builder().start().unwrap();
    let client = server.connect().await.unwrap();
    let error = client.get(app.root()).await.unwrap_err();
    assert!(error.is_retryable() || error.http_status() == 502);
    let GetError::SpawnFailed(report) = error else { panic!("{error:?}") };
    assert!(report.problem.contains("exit status 7"), "{report}");
    assert!(report.output.contains("to stdout") && report.output.contains("to <stderr>"), "{report}");
    let page = report.html();
    assert!(page.contains("to &lt;stderr&gt;") && !page.contains("to <stderr>"), "everything is escaped");
    assert_eq!(client.count().await.unwrap(), 0);
}

// A place of every kind, the same answer.
#[tokio::test]
async fn a_worker_may_listen_at_a_port_or_a_path_of_its_own() {
    for (lines, env) in [("listen = \"port\"", ("TEST_X", "1")), ("listen = \"socket\"", ("TEST_X", "1"))] {
        let app = apps::worker_with(lines, &[env]);
        if lines.contains("socket") {
            // The path is filled into the command.
            let exe = std::env::current_exe().unwrap();
            app.write(
                "hatchery.toml",
                &format!(
                    "command = [\"env\", \"TEST_SOCKET={{socket}}\", {exe:?}, \"--exact\", \"support::worker::worker\", \
                     \"--ignored\", \"--nocapture\"]\n[env]\nTEST_WORKER = \"1\"\n"
                ),
            );
        }
        let server = builder().start().unwrap();
        let client = server.connect().await.unwrap();
        let mut session = client.get(app.root()).await.unwrap();
        assert_eq!(fetch(&mut session, "/pid").await, session.pid().to_string(), "{lines}");
        session.finish().await.unwrap();
        let pool = processes::pool_id(server.pid());
        client.clear().await.unwrap();
        until("the worker is gone", async || (client.count().await.unwrap() == 0).then_some(())).await;
        let folder = support::runtime_folder(&pool);
        until("no socket is left", async || sockets(&folder).is_empty().then_some(())).await;
    }
}

fn sockets(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    entries
        .flatten()
        .flat_map(|entry| {
            let path = entry.path();
            if path.is_dir() { sockets(&path) } else { vec![path] }
        })
        .filter(|path| path.file_name().is_some_and(|name| name != "lock"))
        .collect()
}

#[tokio::test]
async fn an_executable_file_is_an_app_of_its_own() {
    let app = apps::with_manifest("command = [\"true\"]\n");
    let file = app.executable("run", &format!("#!/bin/sh\nexec {HATCHERY} demo-app\n"));
    let server = builder().start().unwrap();
    let client = server.connect().await.unwrap();
    assert!(ask(&client, &file, "/hello").await.starts_with("Hello from worker"));
}

// B65
#[tokio::test]
async fn the_queue_is_bounded_and_a_full_one_refuses_at_once() {
    let app = apps::worker();
    let server = builder().max(1).max_queue(2).start().unwrap();
    let client = server.connect().await.unwrap();
    let first = client.get(app.root()).await.unwrap();
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let (client, root) = (client.clone(), app.root().to_owned());
            tokio::spawn(async move { client.get(root).await })
        })
        .collect();
    until("two wait", async || (client.status().await.unwrap().waiting == 2).then_some(())).await;
    match client.get(app.root()).await {
        Err(GetError::Refused(Refusal::QueueFull { limit: 2, .. })) => {}
        other => panic!("{other:?}"),
    }
    first.finish().await.unwrap();
    for get in waiting {
        let session = tokio::time::timeout(PATIENCE, get).await.unwrap().unwrap().unwrap();
        session.finish().await.unwrap();
    }
}

#[tokio::test]
async fn a_dropped_get_is_cancelled_and_takes_no_worker() {
    let app = apps::worker();
    let server = builder().max(1).start().unwrap();
    let client = server.connect().await.unwrap();
    let first = client.get(app.root()).await.unwrap();
    let get = client.get(app.root());
    assert!(tokio::time::timeout(Duration::from_millis(100), get).await.is_err());
    until("nobody waits", async || (client.status().await.unwrap().waiting == 0).then_some(())).await;
    first.finish().await.unwrap();
    assert_eq!(client.active().await.unwrap(), 0);
    client.get(app.root()).await.unwrap().finish().await.unwrap();
}

// A hanging start of one app delays no other app.
#[tokio::test]
async fn a_hanging_start_delays_nobody_else() {
    let (hanging, quick) = (apps::script("exec sleep 600"), apps::worker());
    let server = builder().start().unwrap();
    let client = server.connect().await.unwrap();
    let (other, root) = (client.clone(), hanging.root().to_owned());
    let stuck = tokio::spawn(async move { other.get(root).await });
    until("it is starting", async || (client.count().await.unwrap() == 1).then_some(())).await;
    ask(&client, quick.root(), "/pid").await;
    assert!(!stuck.is_finished());
    stuck.abort();
}
