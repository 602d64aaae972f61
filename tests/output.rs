//! What workers print: tagged, bounded, in files that are begun anew, and never in anybody's way.

mod support;

use hatchery_pool_client::PoolServer;
use hatchery_protocol::config::{OutputConfig, PoolConfig};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use support::apps::{self, App};
use support::{ask, builder, front, processes, until};
use tempfile::TempDir;

/// A pool that writes the output of apps to files.
struct Pool {
    server: PoolServer,
    folder: TempDir,
}

impl Pool {
    fn start(max_size: u64, files: u32) -> Self {
        let folder = front::folder();
        let output = OutputConfig { folder: Some(folder.path().join("output")), max_size, files };
        let drain_timeout = Duration::from_millis(200);
        let config = PoolConfig { output, drain_timeout, trust_clients: true, ..PoolConfig::default() };
        let server = builder().config(config).log_file(folder.path().join("log")).start().expect("a pool");
        Self { server, folder }
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    /// The file of an app, or one before it.
    fn file(&self, app: &App, number: &str) -> PathBuf {
        let name = app.root().file_name().expect("a name").to_str().expect("text");
        self.output().join(format!("{name}.log{number}"))
    }

    fn log(&self) -> String {
        read(&self.folder.path().join("log"))
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// `TIME PID out|err TEXT`
fn parts(line: &str) -> (&str, i32, &str, &str) {
    let mut words = line.splitn(4, ' ');
    let mut word = || words.next().unwrap_or_else(|| panic!("{line:?}"));
    (word(), word().parse().unwrap_or_else(|_| panic!("{line:?}")), word(), word())
}

#[tokio::test]
async fn a_line_says_when_who_and_where_and_is_in_the_apps_own_file() {
    let (first, second) = (apps::worker_with("", &[("TEST_PRINT", "begins")]), apps::worker());
    let pool = Pool::start(1 << 20, 2);
    let client = pool.server.connect().await.unwrap();
    let pid: i32 = ask(&client, first.root(), "/pid").await.parse().unwrap();
    ask(&client, first.root(), "/print?one").await;
    ask(&client, second.root(), "/print?two").await;
    let text = until("both are written", async || {
        let text = read(&pool.file(&first, ""));
        (text.contains("one") && read(&pool.file(&second, "")).contains("two")).then_some(text)
    })
    .await;
    let found: Vec<_> = text.lines().map(parts).collect();
    assert!(found.iter().any(|(_, from, stream, line)| (*from, *stream, *line) == (pid, "err", "begins")), "{text}");
    let printed = found.iter().find(|(.., line)| *line == "one").unwrap();
    assert_eq!((printed.1, printed.2), (pid, "out"));
    let time = printed.0;
    assert!(time.len() == 24 && time.ends_with('Z') && &time[10..11] == "T" && &time[19..20] == ".", "{time}");
    assert!(!text.contains("two") && !pool.log().contains("begins"), "{text}");
}

#[tokio::test]
async fn a_file_is_begun_anew_at_its_size_and_so_many_are_kept() {
    let app = apps::worker();
    let pool = Pool::start(1000, 3);
    let client = pool.server.connect().await.unwrap();
    for number in 0..100 {
        ask(&client, app.root(), &format!("/print?number-{number}")).await;
    }
    until("the last is written", async || read(&pool.file(&app, "")).contains("number-99").then_some(())).await;
    let mut kept = Vec::new();
    for number in [".2", ".1", ""] {
        let text = read(&pool.file(&app, number));
        assert!((1..=1000).contains(&text.len()), "{number}: {}", text.len());
        kept.extend(text.lines().map(|line| parts(line).3.to_owned()).filter(|line| line.starts_with("number-")));
    }
    let last: Vec<String> = (100 - kept.len()..100).map(|number| format!("number-{number}")).collect();
    assert_eq!(kept, last, "nothing is missing between the files");
    let name = pool.file(&app, "").file_name().unwrap().to_str().unwrap().to_owned();
    let others: Vec<_> = std::fs::read_dir(pool.output()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(others.len(), 3, "{others:?} besides {name}");
}

// B69
#[tokio::test]
async fn what_a_worker_printed_before_its_end_is_there_to_the_last_line() {
    let app = apps::script("i=0; while [ $i -lt 3000 ]; do echo line-$i; i=$((i+1)); done; exit 3");
    let pool = Pool::start(0, 1);
    let client = pool.server.connect().await.unwrap();
    client.get(app.root()).await.unwrap_err();
    let text = until("the last is written", async || {
        Some(read(&pool.file(&app, ""))).filter(|text| text.ends_with("line-2999\n"))
    })
    .await;
    let found: Vec<&str> = text.lines().map(|line| parts(line).3).collect();
    assert_eq!(found, (0..3000).map(|number| format!("line-{number}")).collect::<Vec<_>>());
}

// B69
#[tokio::test]
async fn the_end_of_the_pool_loses_nothing_that_was_printed() {
    let app =
        apps::script("trap 'i=0; while [ $i -lt 500 ]; do echo bye-$i; i=$((i+1)); done; exit' TERM; sleep 60 & wait");
    let pool = Pool::start(0, 1);
    let client = pool.server.connect().await.unwrap();
    let starting = {
        let root = app.root().to_owned();
        tokio::spawn(async move { client.get(&root).await.map(drop) })
    };
    until("it runs", async || {
        let client = pool.server.connect().await.unwrap();
        client
            .status()
            .await
            .unwrap()
            .apps
            .iter()
            .any(|app| app.workers.iter().any(|worker| worker.pid > 0))
            .then_some(())
    })
    .await;
    let Pool { server, folder } = pool;
    drop(server);
    starting.await.unwrap().unwrap_err();
    let pool = folder.path().join("output").join(app.root().file_name().unwrap()).with_extension("log");
    until("all is written", async || read(&pool).ends_with("bye-499\n").then_some(())).await;
}

// B80
#[tokio::test]
async fn a_planted_link_is_not_followed_and_the_log_says_so() {
    let app = apps::worker();
    let pool = Pool::start(1 << 20, 2);
    let target = pool.folder.path().join("target");
    std::fs::write(&target, "before").unwrap();
    std::os::unix::fs::symlink(&target, pool.file(&app, "")).unwrap();
    let client = pool.server.connect().await.unwrap();
    for word in ["one", "two", "three"] {
        ask(&client, app.root(), &format!("/print?{word}-word")).await;
    }
    let log = until("the log has it", async || Some(pool.log()).filter(|log| log.contains("three-word"))).await;
    assert!(["one", "two", "three"].iter().all(|word| log.contains(&format!("{word}-word"))), "{log}");
    let said = format!("{}: it is a symbolic link, which is not followed", pool.file(&app, "").display());
    assert_eq!(log.matches(&said).count(), 1, "{log}");
    assert_eq!(read(&target), "before");
}

/// In `/proc/PID/status`, in bytes.
fn most_resident(pid: i32) -> u64 {
    let status = read(Path::new(&format!("/proc/{pid}/status")));
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a process");
    line.trim().strip_suffix(" kB").expect("kibibytes").parse::<u64>().expect("a figure") * 1024
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_slows_its_author_and_nobody_else_and_nothing_of_it_is_lost() {
    const FLOOD: u64 = 200_000_000;
    let line = "x".repeat(199);
    let loud = apps::script(&format!("yes {line} | head -c {FLOOD}; exit 3"));
    let quiet = apps::worker();
    let pool = Pool::start(0, 1);
    let client = pool.server.connect().await.unwrap();
    ask(&client, quiet.root(), "/pid").await;
    let core = processes::role(pool.server.pid(), "core").expect("a core");
    let before = most_resident(core);
    let flood = {
        let (client, root) = (pool.server.connect().await.unwrap(), loud.root().to_owned());
        tokio::spawn(async move { client.get(&root).await.map(drop) })
    };
    let (mut answers, mut slowest) = (0, Duration::ZERO);
    until("the flood has begun", async || (read_start(&pool.file(&loud, ""), 64).len() == 64).then_some(())).await;
    let by = Instant::now() + Duration::from_secs(150);
    while !flood.is_finished() {
        assert!(Instant::now() < by, "the flood takes too long");
        let asked = Instant::now();
        ask(&client, quiet.root(), "/pid").await;
        slowest = slowest.max(asked.elapsed());
        answers += 1;
    }
    flood.await.unwrap().unwrap_err();
    assert!(answers > 20, "{answers} answers");
    assert!(slowest < Duration::from_secs(2), "one answer took {slowest:?}");
    // Its buffers are bounded: the flood waited in its author, not in the pool.
    let grown = most_resident(core) - before;
    assert!(grown < 16 << 20, "the core grew by {grown} bytes");
    let lines = FLOOD / 200;
    let file = pool.file(&loud, "");
    let head = read_start(&file, 64);
    let head = head.iter().position(|byte| *byte == b'x').expect("time, process and stream") as u64;
    until("all is written", async || {
        file.metadata().is_ok_and(|file| file.len() == FLOOD + lines * head).then_some(())
    })
    .await;
    let text = std::fs::read(&file).expect("a file");
    let whole = text.split(|byte| *byte == b'\n').filter(|found| found.ends_with(line.as_bytes())).count();
    assert_eq!(whole as u64, lines);
}

fn read_start(path: &Path, bytes: u64) -> Vec<u8> {
    use std::io::Read;
    let mut start = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        file.take(bytes).read_to_end(&mut start).expect("a file");
    }
    start
}
