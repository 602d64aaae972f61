//! From the touch of `tmp/restart.txt` to the first answer of the new version.

use super::worker;
use hatchery_pool_client::{PoolServer, blocking};
use std::io::{Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

const ROUNDS: usize = 20;
/// Nothing takes so long that works.
const TOO_LONG: Duration = Duration::from_secs(30);

pub(crate) fn measure() {
    let app = worker::app(Duration::ZERO);
    std::fs::create_dir(app.path().join("tmp")).unwrap();
    touch(app.path());
    let server = PoolServer::builder().pool_server(env!("CARGO_BIN_EXE_hatchery")).defaults(worker::options());
    let server = server.trust_clients(true).log_file("/dev/null").start().unwrap();
    let client = server.connect_blocking().unwrap();
    let mut serving = ask(&client, app.path());
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            // The watch of a new generation is there a moment after its first answer.
            std::thread::sleep(Duration::from_millis(300));
            let begun = Instant::now();
            touch(app.path());
            loop {
                let pid = ask(&client, app.path());
                let passed = begun.elapsed();
                assert!(passed < TOO_LONG, "the new version doesn't come");
                if pid != serving {
                    serving = pid;
                    return passed;
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        })
        .collect();
    times.sort();
    println!(
        "restart.txt touched, first answer of the new version: median {:.1} ms, worst of {ROUNDS} {:.1} ms   aim 50 ms",
        times[ROUNDS / 2].as_secs_f64() * 1000.0,
        times[ROUNDS - 1].as_secs_f64() * 1000.0,
    );
}

fn touch(root: &Path) {
    std::fs::write(root.join("tmp/restart.txt"), "").unwrap();
}

/// The process that answered.
fn ask(client: &blocking::Client, root: &Path) -> i32 {
    let mut session = client.get(root).unwrap();
    session.write_all(&worker::REQUEST).unwrap();
    session.read_exact(&mut [0; worker::ANSWER.len()]).unwrap();
    let pid = session.pid();
    session.finish().unwrap();
    pid
}
