//! What a large pool costs: 1,000 applications registered, 200 of them running. How long a status takes, and a scrape,
//! and how much memory the pool's processes have.

use crate::rest::{figure, pss};
use crate::support::HATCHERY;
use crate::support::front::Front;
use crate::support::http::{Answer, Browser};
use crate::worker;
use hatchery_protocol::mark;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const REGISTERED: usize = 1_000;
const RUNNING: usize = 200;
const LOOKS: usize = 20;

pub(crate) fn measure() {
    let (apps, folder) = (worker::app(Duration::ZERO), tempfile::tempdir().unwrap());
    let mut file = format!("[pool]\nmax = {RUNNING}\nadmin_http = \"unix:{}\"\n", folder.path().join("http").display());
    file += "[defaults]\nlower_privilege = false\nmax_idle = \"never\"\n";
    for number in 0..REGISTERED {
        let root = folder.path().join(format!("app-{number}"));
        std::fs::create_dir(&root).unwrap();
        std::fs::copy(apps.path().join("hatchery.toml"), root.join("hatchery.toml")).unwrap();
        let _ = writeln!(file, "[[app]]\nhost = \"app-{number}.localhost\"\nroot = {root:?}");
    }
    let config = folder.path().join("pool.toml");
    std::fs::write(&config, file).unwrap();
    let front = Front::serve(["--config", config.to_str().unwrap(), "--log-file", "/dev/null"]);
    for number in 0..RUNNING {
        let answer = get(&mut front.browser(), &format!("app-{number}.localhost"), "/");
        assert_eq!(answer.status, 200, "application {number}");
    }
    let mut admin = BufReader::new(UnixStream::connect(front.admin()).unwrap());
    let mut ask = |line: &str| {
        let begun = Instant::now();
        admin.get_mut().write_all(format!("{line}\n").as_bytes()).unwrap();
        let mut answer = String::new();
        admin.read_line(&mut answer).unwrap();
        assert!(answer.starts_with("{\"ok\":true"), "{line}: {answer}");
        (begun.elapsed(), answer.len())
    };
    for line in ["json status", "json metrics", "json sessions"] {
        let mut times: Vec<(Duration, usize)> = (0..LOOKS).map(|_| ask(line)).collect();
        times.sort();
        let ((median, bytes), (worst, _)) = (times[LOOKS / 2], times[LOOKS - 1]);
        println!(
            "{line}: median {median:.1?}, worst of {LOOKS} {worst:.1?}, {} KiB   aim for status 100 ms",
            bytes >> 10
        );
    }
    let command = || {
        let begun = Instant::now();
        let mut hatchery = std::process::Command::new(HATCHERY);
        let out = hatchery.args(["status", "--json", "--admin"]).arg(front.admin()).output().unwrap();
        assert!(out.status.success());
        begun.elapsed()
    };
    let mut times: Vec<Duration> = (0..LOOKS).map(|_| command()).collect();
    times.sort();
    println!("hatchery status --json: median {:.1?}, worst {:.1?}", times[LOOKS / 2], times[LOOKS - 1]);
    let scrape = || {
        let begun = Instant::now();
        let answer = get(&mut Browser::at(&folder.path().join("http")), "localhost", "/metrics");
        assert_eq!(answer.status, 200);
        (begun.elapsed(), answer.body.len())
    };
    let mut times: Vec<(Duration, usize)> = (0..LOOKS).map(|_| scrape()).collect();
    times.sort();
    println!("/metrics: median {:.1?}, worst {:.1?}, {} KiB", times[LOOKS / 2].0, times[LOOKS - 1].0, times[0].1 >> 10);
    let pool = mark::of(front.keeper(), mark::POOL).unwrap();
    let processes = mark::processes(mark::POOL, &pool, false);
    let own: Vec<(u64, u64)> = processes.iter().map(|pid| (pss(*pid), resident(*pid))).collect();
    let sum = own.iter().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    println!(
        "PSS and anonymous memory of {} processes of the pool: {own:?} kB, together {} and {} kB   aim 30720",
        own.len(),
        sum.0,
        sum.1
    );
    println!("the web server beside it: PSS {} kB", pss(front.pid()));
}

fn get(browser: &mut Browser, host: &str, path: &str) -> Answer {
    browser.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    browser.answer()
}

fn resident(pid: i32) -> u64 {
    figure(&std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap(), "RssAnon:")
}
