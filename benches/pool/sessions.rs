//! get and close, by blocking clients in processes of their own.

use super::{floors, in_turn, load, row, worker};
use hatchery_pool_client::{PoolServer, blocking};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// The field's old benchmark: so many sessions in all.
const SESSIONS: usize = 20_000;

pub(crate) fn compare() {
    let app = worker::app(Duration::ZERO);
    let server = PoolServer::builder()
        .pool_server(env!("CARGO_BIN_EXE_hatchery"))
        .trust_clients(true)
        .max(6)
        .defaults(worker::options());
    let server = server.log_file("/dev/null").start().unwrap();
    let fresh = |clients| sessions(&server, app.path(), clients, false);
    for clients in [1, 4, 24] {
        let (ours, floor) = in_turn(|| fresh(clients), || floors::checkout(clients.min(6), SESSIONS / clients.min(6)));
        let aim = if clients == 1 { "1.25" } else { "-" };
        row(&format!("get, 200 bytes each way, close; {clients} clients"), ours, floor, aim);
    }
    for clients in [1, 4] {
        let kept = || sessions(&server, app.path(), clients, true);
        let (ours, floor) = in_turn(kept, || floors::ping_pong(SESSIONS));
        let aim = if clients == 1 { "1.25" } else { "-" };
        row(&format!("get+close with a lease, {clients} clients"), ours, floor, aim);
    }
}

fn sessions(server: &PoolServer, root: &Path, clients: usize, keep: bool) -> f64 {
    // The pool has them all, idle, before anything is measured.
    load::rate(clients, SESSIONS / clients, |_| {
        let client: blocking::Client = server.connect_blocking().unwrap();
        move || {
            let mut session = client.get(root).unwrap();
            if keep {
                return session.keep().unwrap();
            }
            session.write_all(&worker::REQUEST).unwrap();
            session.read_exact(&mut [0; worker::ANSWER.len()]).unwrap();
            session.finish().unwrap();
        }
    })
}
