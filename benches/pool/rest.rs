//! What a pool costs that does nothing: CPU time and switches over ten seconds, and memory.

use hatchery_pool_client::PoolServer;
use std::time::Duration;

pub(crate) fn measure() {
    let server =
        PoolServer::builder().pool_server(env!("CARGO_BIN_EXE_hatchery")).log_file("/dev/null").start().unwrap();
    // Until its own start is over.
    std::thread::sleep(Duration::from_secs(1));
    let processes = hatchery_protocol::mark::processes(
        hatchery_protocol::mark::POOL,
        &hatchery_protocol::mark::of(server.pid(), hatchery_protocol::mark::POOL).unwrap(),
        false,
    );
    let before: Vec<_> = processes.iter().map(|pid| used(*pid)).collect();
    std::thread::sleep(Duration::from_secs(10));
    let after: Vec<_> = processes.iter().map(|pid| used(*pid)).collect();
    println!(
        "at rest for 10 s: CPU time and voluntary switches {}",
        if before == after { "unchanged" } else { "CHANGED" }
    );
    let pss: Vec<u64> = processes.iter().map(|pid| pss(*pid)).collect();
    println!(
        "PSS of {} processes (keeper, spawner, core): {pss:?} kB, together {} kB   aim 12288",
        pss.len(),
        pss.iter().sum::<u64>()
    );
}

/// CPU time in clock ticks and voluntary context switches of all threads.
fn used(pid: i32) -> (u64, u64, u64) {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let switches = threads
        .map(|thread| {
            figure(&std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap(), "voluntary_ctxt_switches:")
        })
        .sum();
    (fields[11].parse().unwrap(), fields[12].parse().unwrap(), switches)
}

pub(crate) fn pss(pid: i32) -> u64 {
    figure(&std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap(), "Pss:")
}

pub(crate) fn figure(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
