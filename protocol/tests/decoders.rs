//! What the fuzz targets run, on their corpus and on generated inputs. `HATCHERY_WRITE_CORPUS=1` writes the
//! valid inputs that the generated ones start from into `fuzz/corpus/`.

use hatchery_protocol::client::{
    Documents, Ended, How, LeaseId, RequestId, RestartMode, SessionId, SessionProtocol, ToClient, ToPool, Transport,
};
use hatchery_protocol::codec::{self, Hello, Message};
use hatchery_protocol::config::{
    Admin, AdminAccess, AppConfig, LogConfig, LogFormat, PoolConfig, TenantConfig, TenantOptions,
};
use hatchery_protocol::door::{FromDoor, ToDoor};
use hatchery_protocol::link::{
    Access, AppNumber, Findings, FromKeeper, FromSpawner, Identity, LaunchPlan, Limits, Listen, Loader, Loading, Place,
    Program, ReadyBy, Sight, Staged, StartAs, SwapStep, ToKeeper, ToSpawner, WorkerNumber,
};
use hatchery_protocol::options::{AppOptions, Start};
use hatchery_protocol::post_mortem::{OpenSession, PostMortem};
use hatchery_protocol::refusal::{Refusal, Scope};
use hatchery_protocol::report::{Exit, Setup, SpawnReport, SpawnStep};
use hatchery_protocol::status::{
    AppStatus, DisabledStatus, FailureStatus, PreloaderStatus, RestartStatus, Status, TenantStatus, WorkerStatus,
};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[path = "../../fuzz/decoders.rs"]
mod decoders;

/// Over all decoders together.
const GENERATED: u64 = 100_000;

#[test]
fn every_decoder_withstands_its_corpus_and_generated_bytes() {
    let each = GENERATED.div_ceil(decoders::ALL.len() as u64);
    for (name, decoder) in decoders::ALL {
        let mut seeds = valid(name);
        let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(name);
        if std::env::var_os("HATCHERY_WRITE_CORPUS").is_some() {
            std::fs::create_dir_all(&corpus).unwrap();
            for (number, seed) in seeds.iter().enumerate() {
                std::fs::write(corpus.join(format!("valid-{number}")), seed).unwrap();
            }
        }
        let before = seeds.len();
        let files = std::fs::read_dir(&corpus).unwrap_or_else(|error| panic!("{}: {error}", corpus.display()));
        seeds.extend(files.map(|file| std::fs::read(file.unwrap().path()).unwrap()));
        assert!(seeds.len() > before, "{} is empty", corpus.display());
        seeds.iter().for_each(|seed| decoder(seed));
        let mut random = Random(0x5eed);
        for number in 0..each {
            let seed = &seeds[random.below(seeds.len())];
            let bytes = random.change(seed);
            let began = Instant::now();
            let outcome = std::panic::catch_unwind(|| decoder(&bytes));
            assert!(outcome.is_ok(), "{name}: generated input {number} panics: {bytes:?}");
            assert!(began.elapsed() < Duration::from_secs(5), "{name}: generated input {number} hangs: {bytes:?}");
        }
    }
}

#[test]
fn a_length_beyond_the_packet_allocates_nothing_and_is_refused() {
    // GetActive's neighbour with a text: a Label whose text claims 2^40 bytes.
    let label = ToPool::Label { session: SessionId(1), text: String::new() };
    let mut bytes = codec::encode(&label).unwrap();
    assert_eq!(bytes.pop(), Some(0), "the text's length comes last");
    bytes.push(253);
    bytes.extend((1_u64 << 40).to_le_bytes());
    let error = codec::decode::<ToPool>(&bytes, Vec::new()).unwrap_err();
    assert!(matches!(error, codec::DecodeError::Malformed(_)), "{error}");
}

#[test]
fn trailing_bytes_are_refused() {
    let mut bytes = codec::encode(&ToPool::Clear { request: RequestId(1) }).unwrap();
    bytes.push(0);
    let error = codec::decode::<ToPool>(&bytes, Vec::new()).unwrap_err();
    assert_eq!(error.to_string(), "a malformed message: 1 bytes too many");
}

#[test]
fn another_wire_version_is_named_and_its_hello_still_read() {
    let mut bytes = Hello::ours().encode();
    bytes[2] = 77;
    let (hello, wire) = Hello::decode(&bytes).unwrap();
    assert_eq!((hello.version.as_str(), wire), (hatchery_protocol::VERSION, 77));
    let mut bytes = codec::encode(&ToPool::Clear { request: RequestId(1) }).unwrap();
    bytes[2] = 77;
    let error = codec::decode::<ToPool>(&bytes, Vec::new()).unwrap_err();
    assert_eq!(error, codec::DecodeError::Version { theirs: 77 });
}

#[test]
fn a_message_over_the_limit_is_refused_by_its_sender() {
    let text = "x".repeat(codec::MAX_PACKET);
    let error = codec::encode(&ToPool::Label { session: SessionId(1), text }).unwrap_err();
    assert!(matches!(error, codec::DecodeError::TooLong { .. }), "{error}");
}

/// splitmix64: the same inputs in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit.max(1) as u64).unwrap()
    }

    /// One to four changes to a valid input; now and then nothing but noise behind its header.
    fn change(&mut self, seed: &[u8]) -> Vec<u8> {
        let mut bytes = seed.to_vec();
        if self.below(20) == 0 {
            bytes.truncate(5);
            for _ in 0..self.below(64) {
                bytes.push(self.next() as u8);
            }
        }
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(6) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.next() as u8),
                2 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                // The markers of bincode's longer lengths.
                3 if !bytes.is_empty() => bytes[at] = 250 + self.below(6) as u8,
                4 => bytes.extend_from_slice(&self.next().to_le_bytes()),
                _ if !bytes.is_empty() => bytes[at] = self.next() as u8,
                _ => {}
            }
        }
        bytes
    }
}

fn valid(name: &str) -> Vec<Vec<u8>> {
    match name {
        "hello" => vec![Hello { version: "0.1.0".into(), executable: "/usr/bin/hatchery".into() }.encode()],
        "to_pool" => packets(to_pool()),
        "to_client" => packets(to_client()),
        "to_door" => packets(vec![ToDoor::Configure, ToDoor::Connect]),
        "from_door" => packets(vec![
            FromDoor::Opened {
                pool: "0f".into(),
                pid: 7,
                admin: Some("/run/admin.sock".into()),
                pool_user: Some((61184, 61184)),
            },
            FromDoor::Failed("max is 0".into()),
        ]),
        "to_keeper" => packets(to_keeper()),
        "from_keeper" => packets(from_keeper()),
        "to_spawner" => packets(vec![
            ToSpawner::Begin {
                pool: "0f".into(),
                folder: b"/run/x".to_vec(),
                reserved: vec![33],
                pool_user: Some(61184),
            },
            ToSpawner::Inspect {
                app: AppNumber(1),
                generation: 1,
                root: b"/srv/shop".to_vec(),
                options: Box::new(options()),
            },
            ToSpawner::Look { app: AppNumber(1), root: b"/srv/shop".to_vec() },
            ToSpawner::Swap { app: AppNumber(1), root: b"/srv/shop".to_vec(), step: SwapStep::Take },
            ToSpawner::Spawn {
                worker: WorkerNumber(1),
                mark: "0f.1.1".into(),
                plan: Box::new(plan()),
                start_as: StartAs::ForkOf(WorkerNumber(2)),
                notify: Some(b"/run/x/n".to_vec()),
                listener: true,
            },
            ToSpawner::Find { worker: WorkerNumber(1), pid: 12, place: Place::Path(b"/run/s".to_vec()) },
            ToSpawner::Configure,
            ToSpawner::Gone { worker: WorkerNumber(1) },
            ToSpawner::Examine { worker: WorkerNumber(1), pid: 12, mark: "0f.1.1".into() },
        ]),
        "from_spawner" => packets(from_spawner()),
        "pool_config" => vec![payload(&config())],
        "spawn_report" => vec![payload(&report())],
        "status" => vec![payload(&status())],
        other => panic!("no valid inputs for {other}"),
    }
}

fn packets<M: Message>(messages: Vec<M>) -> Vec<Vec<u8>> {
    messages.iter().map(|message| codec::encode(message).unwrap()).collect()
}

fn payload<T: Serialize>(value: &T) -> Vec<u8> {
    codec::encode_payload(value).unwrap()
}

fn to_pool() -> Vec<ToPool> {
    let request = RequestId(300);
    vec![
        ToPool::Get {
            request,
            app_root: b"/srv/shop".to_vec(),
            options: Box::new(options()),
            key: Some("k".into()),
            label: Some("GET /".into()),
        },
        ToPool::Cancel { request },
        ToPool::Close { session: SessionId(9), how: How::Kept },
        ToPool::Reconnect { request, session: SessionId(9) },
        ToPool::Label { session: SessionId(9), text: "GET /".into() },
        ToPool::Clear { request },
        ToPool::SetMax { request, max: 4 },
        ToPool::SetMaxPerApp { request, max_per_app: 0 },
        ToPool::SetMaxIdleTime { request, max_idle: Duration::from_millis(5) },
        ToPool::GetActive { request },
        ToPool::GetCount { request },
        ToPool::GetSpawnServerPid { request },
        ToPool::Status { request },
        ToPool::Restart { request, root: b"/srv/shop".to_vec(), mode: RestartMode::Kill },
        ToPool::Add { request, root: b"/srv/shop".to_vec(), options: Box::new(options()) },
        ToPool::Remove { request, root: b"/srv/shop".to_vec() },
        ToPool::Stop { request, root: b"/srv/shop".to_vec() },
        ToPool::Start { request, root: b"/srv/shop".to_vec() },
        ToPool::Retire { request, pid: 12 },
        ToPool::Disable { request, root: b"/srv/shop".to_vec(), why: "it moves".into() },
        ToPool::Enable { request, root: b"/srv/shop".to_vec() },
        ToPool::EndSession { request, session: SessionId(9) },
        ToPool::Reload { request },
        ToPool::Operate { request },
    ]
}

fn to_client() -> Vec<ToClient> {
    let request = RequestId(1);
    let (session, lease) = (SessionId(2), LeaseId(3));
    let protocol = SessionProtocol::Http;
    let refusals = [
        Refusal::SpawnFailed,
        Refusal::QueueFull { limit: 100, scope: Scope::Pool, retry_after: Duration::from_secs(5) },
        Refusal::Disabled { retry_after: None, why: "crashes".into() },
        Refusal::TimedOut { waited: Duration::from_secs(30) },
        Refusal::NotAllowed("user".into()),
    ];
    let refused = refusals.into_iter().map(|refusal| ToClient::Refused { request, refusal });
    let others = [
        ToClient::Session {
            request,
            session,
            lease,
            fresh: true,
            pid: 5,
            protocol,
            transport: Transport::Unix,
            documents: Some(Box::new(documents())),
        },
        ToClient::Done { request },
        ToClient::Figure { request, figure: 6 },
        ToClient::Status { request },
        ToClient::Operator { request },
        ToClient::Ended { session, lease, why: Ended::WorkerGone },
        ToClient::Goodbye { why: "it ends".into() },
    ];
    refused.chain(others).collect()
}

fn to_keeper() -> Vec<ToKeeper> {
    let (worker, app) = (WorkerNumber(1 << 32 | 1), AppNumber(1 << 32 | 1));
    vec![
        ToKeeper::Inspect { app, generation: 1, root: b"/srv/shop".to_vec(), options: Box::new(options()) },
        ToKeeper::Forget { app, generation: Some(1) },
        ToKeeper::Look { app, root: b"/srv/shop".to_vec() },
        ToKeeper::Swap { app, root: b"/srv/shop".to_vec(), step: SwapStep::Undo },
        ToKeeper::Spawn { worker, app, generation: 1, start_as: StartAs::Preloader, notify: None, listener: false },
        ToKeeper::Find { worker },
        ToKeeper::Terminate { worker },
        ToKeeper::Kill { worker },
        ToKeeper::Examine { worker },
        ToKeeper::Dump { worker },
        ToKeeper::Reload,
        ToKeeper::ShutDown,
    ]
}

fn from_keeper() -> Vec<FromKeeper> {
    let begin = FromKeeper::Begin {
        pool: "0f".into(),
        core: 1,
        admin: true,
        access: Access { operator: 0, group: Some(4), readers: None, owners: true },
        folder: b"/run/x".to_vec(),
        spawner_pid: 9,
        pool_user: Some((61184, 61184)),
    };
    let others = [
        begin,
        FromKeeper::Exited {
            worker: WorkerNumber(1),
            exit: Exit::Signal(9),
            out_of_memory: true,
            cpu: Duration::from_millis(5),
        },
        FromKeeper::SpawnerRestarted { pid: 10 },
        FromKeeper::Reloaded { problem: None, kept: vec!["log_file".into()] },
        FromKeeper::Shutdown,
    ];
    from_spawner().into_iter().map(FromKeeper::Spawner).chain(others).collect()
}

fn from_spawner() -> Vec<FromSpawner> {
    let (worker, app) = (WorkerNumber(1), AppNumber(1));
    vec![
        FromSpawner::Inspected { app, generation: 1, plan: Box::new(plan()) },
        FromSpawner::InspectFailed { app, generation: 1, report: Box::new(report()) },
        FromSpawner::Looked { app, sight: Some(Box::new(sight())) },
        FromSpawner::Swapped { app, report: Some(Box::new(report())) },
        FromSpawner::Started {
            worker,
            pid: 12,
            place: Some(Place::Port(4711)),
            cgroup: Some(b"/sys/fs/cgroup/x".to_vec()),
            missed: vec!["nice could not be set".into()],
        },
        FromSpawner::Examined { worker, findings: Box::new(findings()) },
        FromSpawner::SpawnFailed { worker, report: Box::new(report()), preloader_lost: true },
        FromSpawner::Preloaded { worker, unfit: Some("it runs 2 threads".into()) },
        FromSpawner::LoadFailed { worker, report: Box::new(report()) },
        FromSpawner::Found { worker, place: Place::Port(4711) },
        FromSpawner::FindFailed { worker, report: Box::new(report()) },
    ]
}

fn options() -> AppOptions {
    AppOptions {
        max_per_app: Some(2),
        max_idle: Some(Duration::from_secs(300)),
        environment: Some("production".into()),
        env: vec![("GREETING".into(), "hello".into())],
        start: Some(Start::Command(vec!["python3".into(), "server.py".into()])),
        ..AppOptions::default()
    }
}

fn plan() -> LaunchPlan {
    LaunchPlan {
        root: b"/srv/shop".to_vec(),
        directory: b"/srv/shop".to_vec(),
        program: Program::Loader(Loading {
            loader: Loader::Wsgi,
            interpreter: vec![b"python3".to_vec()],
            entry: b"shop.wsgi:application".to_vec(),
            preload: true,
        }),
        listen: Listen::Fd,
        ready: ReadyBy::Probe,
        protocol: SessionProtocol::Http,
        concurrency: 1,
        environment: "production".into(),
        env: vec![(b"GREETING".to_vec(), b"hello".to_vec())],
        documents: Some(documents()),
        start_timeout: Duration::from_secs(90),
        identity: Some(Identity {
            uid: 1000,
            gid: 1000,
            groups: vec![27],
            name: "ann".into(),
            home: b"/home/ann".to_vec(),
            shell: b"/bin/sh".to_vec(),
        }),
        limits: Limits { rlimits: vec![(7, 1024)], nice: Some(5), required: vec!["nice".into()], ..Limits::default() },
        dump_signal: 3,
        seen: Some(sight()),
        setup: setup(),
    }
}

fn documents() -> Documents {
    Documents { root: b"/srv/shop/public".to_vec(), index: Some(b"index.php".to_vec()) }
}

fn setup() -> Setup {
    Setup {
        command: vec!["python3".into()],
        directory: "/srv/shop".into(),
        user: "ann".into(),
        environment: vec![("SECRET_KEY".into(), "(hidden)".into())],
        limits: vec![("nice".into(), "5".into())],
    }
}

fn sight() -> Sight {
    let update = Some(Staged { print: 7, complete: true });
    Sight { target: b"/srv/releases/1".to_vec(), restart_txt: Some((1, 2)), update }
}

fn findings() -> Findings {
    Findings {
        memory_bytes: Some(1 << 20),
        processes: 2,
        state: Some("S (sleeping)".into()),
        kernel_stack: Some("do_epoll_wait".into()),
        out_of_memory_kills: 0,
    }
}

fn report() -> SpawnReport {
    SpawnReport {
        root: "/srv/shop".into(),
        step: SpawnStep::Ready,
        problem: "it left".into(),
        remedy: "see its output".into(),
        output: "Traceback".into(),
        exit: Some(Exit::Status(1)),
        setup: Some(Box::new(setup())),
    }
}

fn config() -> PoolConfig {
    PoolConfig {
        defaults: options(),
        apps: vec![AppConfig { root: b"/srv/shop".to_vec(), name: Some("shop".into()), options: options() }],
        tenants: vec![TenantConfig {
            name: "acme".into(),
            options: TenantOptions { max: Some(4), ..TenantOptions::default() },
        }],
        admin_access: AdminAccess { group: Some("adm".into()), readers: None, owners: false },
        admin: Admin::At("/run/admin.sock".into()),
        log: LogConfig { file: Some("/var/log/pool".into()), format: LogFormat::Json },
        apps_under: vec![b"/srv".to_vec()],
        spawner: Some("/usr/bin/spawner".into()),
        ..PoolConfig::default()
    }
}

fn status() -> Status {
    let worker = WorkerStatus {
        id: 1,
        pid: 12,
        state: "busy".into(),
        generation: 1,
        sessions: 1,
        doing: vec!["GET /".into()],
        open: vec![OpenSession { id: 5, age_s: 6.0, doing: Some("GET /".into()) }],
        served: 7,
        memory_bytes: Some(1 << 20),
        cpu_s: Some(0.5),
        uptime_s: 1.5,
        idle_s: None,
    };
    let preloader = PreloaderStatus {
        id: 2,
        pid: 13,
        state: "ready".into(),
        generation: 1,
        forks: 3,
        memory_bytes: Some(1 << 20),
        uptime_s: 1.5,
    };
    let app = AppStatus {
        root: "/srv/shop".into(),
        name: "shop".into(),
        tenant: Some("acme".into()),
        state: "running".into(),
        limit: Some("pool_full".into()),
        restart: Some(RestartStatus { state: "failed".into(), generation: 2, report: Some("it left".into()) }),
        disabled: Some(DisabledStatus { why: "it crashed".into(), retry_in_s: Some(5.0) }),
        generation: 1,
        waiting: 2,
        oldest_wait_s: Some(0.2),
        served: 7,
        memory_bytes: 1 << 20,
        cpu_s: 0.5,
        failure: Some(FailureStatus {
            at: 1.0,
            problem: "it left".into(),
            remedy: "look".into(),
            report: "it left".into(),
        }),
        workers: vec![worker],
        preloaders: vec![preloader],
    };
    let post_mortem = PostMortem {
        root: "/srv/shop".into(),
        app: "shop".into(),
        worker: 1,
        pid: 12,
        generation: 1,
        at: 1.0,
        why: "it died".into(),
        exit: Some(Exit::Signal(9)),
        out_of_memory: false,
        age_s: 2.0,
        served: 3,
        memory_bytes: Some(4),
        sessions: vec![OpenSession { id: 5, age_s: 6.0, doing: Some("GET /".into()) }],
        state: Some("T (stopped)".into()),
        kernel_stack: Some("do_signal_stop".into()),
        output: "last words".into(),
    };
    let tenant = TenantStatus {
        name: "acme".into(),
        max: Some(4),
        max_memory: None,
        apps: 1,
        count: 1,
        active: 1,
        waiting: 2,
        memory_bytes: 1 << 20,
        served: 7,
    };
    let (version, apps, post_mortems) = ("0.1.0".into(), vec![app], vec![post_mortem]);
    Status {
        version,
        max: 6,
        count: 1,
        active: 1,
        waiting: 2,
        uptime_s: 9.0,
        apps,
        tenants: vec![tenant],
        post_mortems,
    }
}
