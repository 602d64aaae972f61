//! Shows what a pool does while a small load works: how many workers there are, and how many of them are busy.
//!
//! ```text
//! cargo run --example stats [-- ROOT]
//! ```

mod common;

use hatchery_pool_client::{Client, GetError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::signal::unix::{SignalKind, signal};

/// Requests at once.
const LOAD: usize = 3;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (builder, root) = common::pool_with(std::env::args().nth(1))?;
    let pool = builder.max(4).concurrency(1).max_idle(Duration::from_secs(5)).start()?;
    let client = pool.connect().await?;
    for _ in 0..LOAD {
        tokio::spawn(visit_for_ever(client.clone(), root.clone()));
    }
    let mut term = signal(SignalKind::terminate())?;
    let mut line = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = line.tick() => {
                let status = client.status().await?;
                let served: u64 = status.apps.iter().map(|app| app.served).sum();
                println!("active {}, count {}, served {served}", client.active().await?, client.count().await?);
            }
            _ = term.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    // In a thread that may wait: the pool ends its workers first.
    tokio::task::spawn_blocking(|| pool.shutdown(Duration::from_secs(10))).await??;
    Ok(())
}

async fn visit_for_ever(client: Client, root: PathBuf) {
    loop {
        if let Err(error) = visit(&client, &root).await {
            eprintln!("{error}");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One request; what happens to its connection does not interest here.
async fn visit(client: &Client, root: &Path) -> Result<(), GetError> {
    let mut session = client.get(root).await?;
    let request = b"GET /sleep?ms=100 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    if session.write_all(request).await.is_ok() && session.read_to_end(&mut answer).await.is_ok() {
        let _ = session.finish().await;
    }
    Ok(())
}
