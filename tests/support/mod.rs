//! What the tests through real processes share: pools, applications, and looking at processes.
#![allow(dead_code, unreachable_pub, reason = "each test file is a crate of its own and uses a part of it")]

pub mod admin;
pub mod apps;
pub mod folders;
pub mod front;
pub mod http;
pub mod live_page;
pub mod odd;
pub mod processes;
pub mod runtimes;
pub mod terminal;
pub mod websocket;
pub mod worker;

use hatchery_pool_client::{Builder, Client, PoolServer, Session};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long anything may take before a test fails. Generous: machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The executable under test.
pub const HATCHERY: &str = env!("CARGO_BIN_EXE_hatchery");

/// A pool of the executable under test. As root, the tests' own folders are not the operator's.
pub fn builder() -> Builder {
    PoolServer::builder().pool_server(HATCHERY).trust_clients(true)
}

/// Sends a request and reads the whole answer, whose connection is not used again.
pub async fn fetch(session: &mut Session, path: &str) -> String {
    exchange(session, path).await.unwrap_or_else(|error| panic!("{path}: {error}"))
}

pub async fn exchange(session: &mut Session, path: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    session.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    session.read_to_string(&mut answer).await?;
    Ok(body(&answer).to_owned())
}

pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

/// Gets a session, asks for `path`, finishes, and returns the body.
pub async fn ask(client: &Client, root: &std::path::Path, path: &str) -> String {
    let mut session = client.get(root).await.unwrap_or_else(|error| panic!("{}: {error}", root.display()));
    let answer = fetch(&mut session, path).await;
    session.finish().await.expect("finish");
    answer
}

/// Waits until `condition` gives something.
pub async fn until<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let by = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < by, "waited {PATIENCE:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The same without a runtime.
pub fn until_blocking<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let by = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < by, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a program is there; if not, says loudly that a test is skipped, and fails where all must run.
pub fn has(program: &str, test: &str) -> bool {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).is_file()));
    if !found {
        assert!(std::env::var_os("HATCHERY_CI").is_none(), "{program} is missing, and CI demands {test}");
        eprintln!("SKIPPED {test}: {program} is not installed");
    }
    found
}

/// Where a pool keeps its sockets while it lives.
pub fn runtime_folder(pool: &str) -> std::path::PathBuf {
    let uid = nix::unistd::geteuid();
    let base = match std::env::var("XDG_RUNTIME_DIR") {
        Ok(folder) if std::path::Path::new(&folder).is_dir() => format!("{folder}/hatchery"),
        _ if uid.is_root() => "/run/hatchery".into(),
        _ => format!("/tmp/hatchery-{uid}"),
    };
    std::path::PathBuf::from(base).join(format!("hatchery-{pool}"))
}
