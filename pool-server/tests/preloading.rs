//! What the core makes of preloaders, and of what loaders say: with real processes, and a spawner that plays what the
//! folder of an app is called.

mod support;

use hatchery_protocol::channel::Channel;
use hatchery_protocol::client::{How, RequestId, SessionId, SessionProtocol, ToClient, ToPool};
use hatchery_protocol::link::{
    FromSpawner, LaunchPlan, Limits, Listen, Loader, Loading, Program, ReadyBy, StartAs, ToSpawner, WorkerNumber,
};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::refusal::Refusal;
use hatchery_protocol::report::{Exit, Setup, SpawnReport, SpawnStep};
use hatchery_protocol::{mark, memfd};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use support::{Pool, Start, says, until};

/// A pool with an app whose folder has this name, and a client of it.
struct Played {
    /// Goes first: a pool stays while it has a client.
    client: Channel<ToPool, ToClient>,
    pool: Pool,
    root: PathBuf,
    log: PathBuf,
    asked: u64,
}

impl Played {
    fn of(name: &str) -> Self {
        Self::with(name, |_| ())
    }

    fn with(name: &str, change: impl FnOnce(&mut Start)) -> Self {
        let mut start = Start::new().spawner("play_loading_spawner");
        let root = start.folder.path().join(name);
        fs::create_dir(&root).expect("a test's own folder");
        let log = start.folder.path().join("pool.log");
        start.config.trust_clients = true;
        change(&mut start);
        let pool = start.log(&log).must();
        let client = pool.connect();
        Self { client, pool, root, log, asked: 0 }
    }

    /// Asks for a session; what the pool answers.
    fn get(&mut self, options: AppOptions) -> Result<(SessionId, i32), SpawnReport> {
        self.get_socket(options).map(|(session, pid, _)| (session, pid))
    }

    /// With its socket.
    fn get_socket(&mut self, options: AppOptions) -> Result<(SessionId, i32, OwnedFd), SpawnReport> {
        use std::os::unix::ffi::OsStrExt;
        self.asked += 1;
        let app_root = self.root.as_os_str().as_bytes().to_vec();
        let (request, options) = (RequestId(self.asked), Box::new(options));
        let get = ToPool::Get { request, app_root, options, key: None, label: None };
        self.client.send(&get).expect("a core");
        loop {
            let (answer, mut descriptors) = self.client.receive().expect("an answer");
            return match answer {
                ToClient::Session { session, pid, .. } => Ok((session, pid, descriptors.remove(0))),
                ToClient::Refused { refusal: Refusal::SpawnFailed, .. } => {
                    Err(memfd::read(descriptors[0].as_fd()).expect("a report"))
                }
                ToClient::Ended { .. } => continue,
                other => panic!("{other:?}"),
            };
        }
    }

    fn must_get(&mut self) -> (SessionId, i32) {
        self.get(AppOptions::default()).unwrap_or_else(|report| panic!("{report}"))
    }

    fn report(&mut self) -> SpawnReport {
        self.get(AppOptions::default()).expect_err("it can't be started")
    }

    fn close(&mut self, session: SessionId) {
        self.client.send(&ToPool::Close { session, how: How::Finished }).expect("a core");
    }

    fn app(&self) -> Value {
        let status: Value = serde_json::from_str(&says(&self.pool.admin, "json status\n")).expect("JSON");
        status["apps"][0].clone()
    }

    fn preloaders(&self) -> Vec<Value> {
        self.app()["preloaders"].as_array().expect("a list").clone()
    }

    /// The pool has no process of the app any more.
    fn nothing_is_left(&self) {
        until("nothing is left", || {
            let app = self.app();
            let none = |what: &str| app[what].as_array().is_none_or(Vec::is_empty);
            (none("workers") && none("preloaders")).then_some(())
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("a log")
    }

    fn logs(&self, words: &str) -> String {
        until(words, || self.log().lines().find(|line| line.contains(words)).map(str::to_owned))
    }

    /// How the processes that were asked for were to be started, in order.
    fn started(&self) -> Vec<String> {
        let started = fs::read_to_string(self.root.join("started")).unwrap_or_default();
        started.lines().map(str::to_owned).collect()
    }
}

#[test]
fn workers_are_forked_from_one_preloader_which_status_shows_and_does_not_count() {
    let mut played = Played::of("good");
    let (_, first) = played.must_get();
    let (_, second) = played.must_get();
    assert_ne!(first, second);
    assert_eq!(played.started(), ["preloader", "fork", "fork"]);

    let preloaders = played.preloaders();
    let [preloader] = preloaders.as_slice() else { panic!("{preloaders:?}") };
    let pid = preloader["pid"].as_i64().expect("a process");
    assert_eq!((&preloader["state"], &preloader["forks"]), (&"ready".into(), &2.into()));
    assert!(preloader["memory_bytes"].as_u64() > Some(100_000) && preloader["uptime_s"].as_f64() > Some(0.0));
    let status = says(&played.pool.admin, "status\n");
    assert!(
        status.contains("2 of at most 6 workers") && status.contains(&format!("  pid {pid}  ready  2 forked  ")),
        "{status}"
    );

    let refused = says(&played.pool.admin, &format!("retire {pid}\n"));
    assert!(refused.starts_with("error") && refused.contains("is the preloader of"), "{refused}");
    played.client.send(&ToPool::Retire { request: RequestId(99), pid: i32::try_from(pid).unwrap() }).expect("a core");
    let (answer, _) = played.client.receive().expect("an answer");
    let ToClient::Refused { refusal: Refusal::Invalid(why), .. } = &answer else { panic!("{answer:?}") };
    assert!(why.contains("is the preloader of"), "{why}");

    assert!(played.logs("loaded after").contains(&format!("pid={pid}")));
    let line = played.logs("it loads");
    assert!(line.contains("process=\"preloader\"") && line.contains(&format!("pid={pid}")), "{line}");
}

#[test]
fn a_preloader_that_dies_is_told_and_the_next_worker_has_another() {
    let mut played = Played::of("good");
    played.must_get();
    let pid = |played: &Played| played.preloaders().first().and_then(|preloader| preloader["pid"].as_i64());
    let first = pid(&played).expect("a preloader");
    kill(Pid::from_raw(i32::try_from(first).unwrap()), Signal::SIGKILL).unwrap();
    let line = played.logs("the preloader died with signal 9");
    assert!(line.contains("WARN") && line.contains(&format!("pid={first}")), "{line}");
    played.must_get();
    assert_ne!(pid(&played), Some(first));
    assert_eq!(played.started(), ["preloader", "fork", "preloader", "fork"]);
}

#[test]
fn an_app_that_can_not_be_forked_is_started_by_its_program_and_that_is_said_once() {
    let mut played = Played::of("unfit");
    played.must_get();
    played.must_get();
    assert_eq!(played.started(), ["preloader", "worker", "worker"]);
    let line = played.logs("it can't be preloaded: it runs 2 threads; its workers are started one by one");
    assert!(line.contains("unfit"), "{line}");
    assert_eq!(played.log().matches("can't be preloaded").count(), 1);
    until("the preloader is gone", || played.preloaders().is_empty().then_some(()));
}

#[test]
fn forks_that_come_to_nothing_cost_nobody_a_request() {
    let mut played = Played::of("barren");
    played.must_get();
    assert_eq!(played.started(), ["preloader", "fork", "preloader", "fork", "worker"]);
    played.logs("no worker could be forked, of two preloaders; its workers are started one by one");
    assert!(!played.log().contains("ERROR"), "{}", played.log());
}

#[test]
fn what_a_loader_says_is_the_report_with_the_output_and_the_setup() {
    let mut played = Played::of("broken");
    let report = played.report();
    assert_eq!(report.problem, "there is no module flask");
    assert_eq!((report.remedy.as_str(), report.step), ("Install it.", SpawnStep::Load));
    assert_eq!(report.exit, Some(Exit::Status(1)));
    assert!(report.output.ends_with("a traceback"), "{}", report.output);
    assert_eq!(report.setup.expect("a setup").user, "whoever");
    assert_eq!(report.root, played.root.to_str().unwrap());
    assert_eq!(played.started(), ["preloader"]);
    played.nothing_is_left();
}

#[test]
fn a_process_that_stays_after_its_loader_gave_up_is_killed() {
    let mut played = Played::of("stays");
    let report = played.report();
    assert_eq!((report.problem.as_str(), report.step), ("there is no module flask", SpawnStep::Load));
    assert_eq!(report.exit, None);
    played.nothing_is_left();
}

#[test]
fn without_a_word_of_the_loader_the_last_output_tells() {
    let mut played = Played::of("mute");
    let report = played.report();
    assert_eq!((report.problem.as_str(), report.step), ("Python has no module shop", SpawnStep::Load));
    assert_eq!(report.exit, Some(Exit::Status(3)));
}

#[test]
fn a_preloader_that_takes_too_long_is_killed_and_reported() {
    let mut played = Played::of("slow");
    let options = AppOptions { start_timeout: Some(Duration::from_millis(300)), ..AppOptions::default() };
    let report = played.get(options).expect_err("it can't be started");
    assert!(report.problem.starts_with("it had not loaded the application within "), "{report}");
    assert_eq!((report.step, report.output.as_str()), (SpawnStep::Load, "it loads"));
    played.nothing_is_left();
}

#[test]
fn an_unused_preloader_is_asked_to_leave() {
    let mut played = Played::with("good", |start| start.config.max_preloader_idle = Duration::from_millis(200));
    let (session, _) = played.must_get();
    let line = played.logs("the preloader leaves: no worker was forked from it for max_preloader_idle");
    assert!(line.contains("INFO"), "{line}");
    played.logs("the preloader is gone with signal 15: no worker was forked from it");
    assert!(played.preloaders().is_empty());
    // What was forked from it lives on.
    assert_eq!(played.app()["workers"].as_array().map(Vec::len), Some(1));
    played.close(session);
}

#[test]
fn a_connection_that_is_parked_without_limit_ends_at_once_when_its_worker_leaves() {
    let mut played = Played::of("good");
    let (session, pid, socket) = played.get_socket(AppOptions::default()).unwrap_or_else(|report| panic!("{report}"));
    played.client.send(&ToPool::Close { session, how: How::Kept }).expect("a core");
    // Once its slot is known to be free.
    until("it is parked", || (played.app()["workers"][0]["sessions"] == 0).then_some(()));
    let asked = Instant::now();
    assert_eq!(says(&played.pool.admin, &format!("retire {pid}\n")), "ok\n");
    let mut connection = UnixStream::from(socket);
    connection.set_read_timeout(Some(support::PATIENCE)).unwrap();
    assert_eq!(connection.read(&mut [0; 1]).expect("its end"), 0);
    until("its worker is gone", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
    assert!(asked.elapsed() < Duration::from_secs(8), "not by stop_timeout: {:?}", asked.elapsed());
}

#[test]
fn in_a_log_for_machines_a_failed_start_has_its_parts() {
    let json = hatchery_protocol::config::LogFormat::Json;
    let mut played = Played::with("broken", |start| start.config.log.format = json);
    played.report();
    let line = played.logs(r#""event":"spawn_failed""#);
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["problem"], &line["remedy"]), (&"there is no module flask".into(), &"Install it.".into()));
    assert_eq!((&line["step"], &line["exit"]), (&"load".into(), &"exit status 1".into()));
    assert_eq!(line["root"], played.root.to_str().unwrap());
    assert!(line["message"].as_str().is_some_and(|text| text.contains("a traceback")), "{line}");
}

// ── the spawner, and what it starts ─────────────────────────────────────────────────────────────────

#[test]
#[ignore = "is not a test but the spawner of the others, which their pools start"]
fn play_loading_spawner() {
    if std::env::var_os("TEST_TOLD").is_none() {
        return;
    }
    // SAFETY: descriptor 3 was inherited as the link, and nothing else in this process owns it.
    let link = unsafe { OwnedFd::from_raw_fd(3) };
    let mut keeper = Channel::<FromSpawner, ToSpawner>::new(link);
    keeper.send_hello().expect("a keeper");
    keeper.receive_hello().expect("a keeper");
    while let Ok((message, descriptors)) = keeper.receive() {
        match message {
            ToSpawner::Inspect { app, generation, root, options } => {
                let plan = Box::new(plan(root, &options));
                keeper.send(&FromSpawner::Inspected { app, generation, plan }).expect("a keeper");
            }
            ToSpawner::Spawn { worker, mark, plan, start_as, .. } => {
                start(&mut keeper, worker, &mark, &plan, start_as, descriptors);
            }
            ToSpawner::Look { app, .. } => {
                keeper.send(&FromSpawner::Looked { app, sight: None }).expect("a keeper");
            }
            _ => {}
        }
    }
    std::process::exit(0);
}

fn plan(root: Vec<u8>, options: &AppOptions) -> LaunchPlan {
    let (interpreter, entry) = (vec![b"python3".to_vec()], b"app.py".to_vec());
    LaunchPlan {
        directory: root.clone(),
        root,
        program: Program::Loader(Loading { loader: Loader::Wsgi, interpreter, entry, preload: true }),
        listen: Listen::Fd,
        ready: ReadyBy::Probe,
        protocol: SessionProtocol::Session,
        concurrency: 1,
        environment: "production".into(),
        env: Vec::new(),
        documents: None,
        start_timeout: options.start_timeout.unwrap_or(Duration::from_secs(30)),
        identity: None,
        limits: Limits::default(),
        dump_signal: 0,
        seen: None,
        setup: Setup { user: "whoever".into(), ..Setup::default() },
    }
}

const STAYS: &str = "exec sleep 1000";

fn start(
    keeper: &mut Channel<FromSpawner, ToSpawner>,
    worker: WorkerNumber,
    mark: &str,
    plan: &LaunchPlan,
    start_as: StartAs,
    descriptors: Vec<OwnedFd>,
) {
    let root = PathBuf::from(String::from_utf8(plan.root.clone()).expect("a test's own folder"));
    let name = root.file_name().and_then(|name| name.to_str()).expect("a test's own folder").to_owned();
    let mut descriptors = descriptors.into_iter();
    let (output, _) = (descriptors.next().expect("stdout"), descriptors.next().expect("stderr"));
    note(&root, start_as);
    let keeper = std::cell::RefCell::new(keeper);
    let say = |message: &FromSpawner| keeper.borrow_mut().send(message).expect("a keeper");
    let say_started = |pid| say(&FromSpawner::Started { worker, pid, place: None, cgroup: None, missed: Vec::new() });
    let begin = |script: &str| {
        // It must not end while the shell that started it would be the one to notice.
        let (read, until_this_closes) = std::io::pipe().expect("a pipe");
        let script = format!("read line; echo 'it loads'; {script}");
        say_started(orphan(&["sh", "-c", &script], mark, read.into(), output.try_clone().expect("a descriptor")));
        drop(until_this_closes);
    };
    let load_failed = || {
        let report = Box::new(report("there is no module flask", "Install it."));
        FromSpawner::LoadFailed { worker, report }
    };
    match (start_as, name.as_str()) {
        (StartAs::Preloader, "unfit") => {
            begin("exit 0");
            say(&FromSpawner::Preloaded { worker, unfit: Some("it runs 2 threads".into()) });
        }
        (StartAs::Preloader, "broken") => {
            begin("echo 'a traceback'; exit 1");
            say(&load_failed());
        }
        (StartAs::Preloader, "stays") => {
            begin(STAYS);
            say(&load_failed());
        }
        (StartAs::Preloader, "mute") => begin("echo \"ModuleNotFoundError: No module named 'shop'\"; exit 3"),
        (StartAs::Preloader, "slow") => begin(STAYS),
        (StartAs::Preloader, _) => {
            begin(STAYS);
            say(&FromSpawner::Preloaded { worker, unfit: None });
        }
        (StartAs::ForkOf(_), "barren") => {
            let report = Box::new(report("it did not fork", "Look at it."));
            say(&FromSpawner::SpawnFailed { worker, report, preloader_lost: true });
        }
        (StartAs::ForkOf(_) | StartAs::Worker, _) => {
            let listener = descriptors.next().expect("a listener");
            let own = std::env::current_exe().expect("this test");
            let own = own.to_str().expect("a test's own path");
            let program = [own, "--exact", "play_worker", "--ignored", "--nocapture"];
            say_started(orphan(&program, mark, listener.into(), output));
        }
    }
}

fn note(root: &Path, start_as: StartAs) {
    let what = match start_as {
        StartAs::Worker => "worker",
        StartAs::Preloader => "preloader",
        StartAs::ForkOf(_) => "fork",
    };
    let file = fs::OpenOptions::new().create(true).append(true).open(root.join("started"));
    writeln!(file.expect("the test's folder"), "{what}").expect("the test's folder");
}

fn report(problem: &str, remedy: &str) -> SpawnReport {
    SpawnReport {
        root: String::new(),
        step: SpawnStep::Load,
        problem: problem.into(),
        remedy: remedy.into(),
        output: String::new(),
        exit: None,
        setup: None,
    }
}

/// Starts a program whose parent is gone: it comes to the keeper.
fn orphan(program: &[&str], mark: &str, stdin: Stdio, output: OwnedFd) -> i32 {
    let mut parent = Command::new("sh");
    parent.args(["-c", "exec 3<&0; \"$@\" <&3 3<&- >&2 & echo $!", "sh"]).args(program);
    parent.env(mark::WORKER, mark).env_remove(mark::POOL).env("TEST_WORKER", "yes");
    let said = parent.stdin(stdin).stderr(output).output().expect("sh");
    String::from_utf8_lossy(&said.stdout).trim().parse().expect("a process id")
}

#[test]
#[ignore = "is not a test but the workers of the others"]
fn play_worker() {
    if std::env::var_os("TEST_WORKER").is_none() {
        return;
    }
    // SAFETY: descriptor 0 was inherited as the listener, and nothing else in this process uses it.
    let listener = UnixListener::from(unsafe { OwnedFd::from_raw_fd(0) });
    for connection in listener.incoming() {
        let mut connection = connection.expect("a connection");
        let mut question = [0; 3];
        if connection.read_exact(&mut question).is_ok() && &question == b"0:," {
            let _ = connection.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
        }
    }
}
