//! A core under test: its keeper, and with that all processes, are played by the test.

use super::Beginning;
use super::shell::Shell;
use hatchery_pool::{AppId, ClientId, Event, Request, Wanted, WorkerId};
use hatchery_protocol::channel::{self, Receiver};
use hatchery_protocol::client::SessionProtocol;
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::events::{EventName, PoolEvent};
use hatchery_protocol::link::{
    Access, AppNumber, FromKeeper, LaunchPlan, Limits, Listen, Program, ReadyBy, ToKeeper, WorkerNumber,
};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::packet;
use hatchery_protocol::report::{Exit, Setup, SpawnReport, SpawnStep};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;
use tempfile::TempDir;

pub(super) struct Played {
    pub(super) shell: Shell,
    asked: u64,
    _folder: TempDir,
}

/// What every process of these tests is: it is there, and can be measured.
pub(super) fn own_pid() -> i32 {
    std::process::id().cast_signed()
}

impl Played {
    /// In a `LocalSet`.
    pub(super) fn begin(config: PoolConfig) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (ours, theirs) = packet::pair().expect("a link");
        let (sender, _) = channel::split::<ToKeeper, FromKeeper>(ours).expect("a link");
        let (_, keeper) = channel::split::<FromKeeper, ToKeeper>(theirs).expect("a link");
        tokio::task::spawn_local(hear(keeper));
        let (door, _) = packet::pair().expect("a door");
        let beginning = Beginning {
            pool: "test".into(),
            core: 1,
            folder: folder.path().as_os_str().as_bytes().to_vec(),
            spawner_pid: own_pid(),
            pool_user: None,
            access: Access::default(),
            config,
            door,
            admin: None,
        };
        Self { shell: Shell::new(beginning, sender).expect("a core"), asked: 0, _folder: folder }
    }

    pub(super) fn register(&self, root: &str) -> AppId {
        self.shell.register(root.as_bytes(), AppOptions::default());
        self.app(root)
    }

    pub(super) fn app(&self, root: &str) -> AppId {
        self.shell.state().pool.app(root.as_bytes()).expect("an app")
    }

    /// Somebody wants a session.
    pub(super) fn get(&mut self, root: &str) {
        self.asked += 1;
        let request = Request { client: ClientId(7), number: self.asked };
        let (root, wanted) = (root.as_bytes().to_vec(), Wanted::default());
        self.shell.tell(Event::Asked { request, root, wanted, key: None });
    }

    /// The root was looked into, and so many sessions fit into a worker; 0: any number.
    pub(super) fn inspected(&self, root: &str, concurrency: u32) {
        let (number, generation) = {
            let state = self.shell.state();
            let app = state.pool.app(root.as_bytes()).expect("an app");
            let snapshot = state.pool.snapshot(state.now());
            let known = snapshot.apps.iter().find(|known| known.id == app).expect("an app");
            let restart = known.restart.map(|restart| match restart {
                hatchery_pool::RestartState::Rolling(generation) => generation,
                hatchery_pool::RestartState::Failed(..) => known.generation,
            });
            (AppNumber(state.number(app.0)), restart.unwrap_or(known.generation).0)
        };
        self.shell.inspected(number, generation, plan(root, concurrency));
    }

    /// Its last worker.
    pub(super) fn worker(&self, root: &str) -> WorkerId {
        let state = self.shell.state();
        let snapshot = state.pool.snapshot(state.now());
        let app = snapshot.apps.iter().find(|app| app.root == root.as_bytes()).expect("an app");
        app.workers.last().expect("a worker").id
    }

    pub(super) fn number(&self, worker: WorkerId) -> WorkerNumber {
        WorkerNumber(self.shell.state().number(worker.0))
    }

    /// The last worker of an app is there, and ready.
    pub(super) fn serves(&self, root: &str) -> WorkerId {
        let worker = self.worker(root);
        self.shell.worker_started(self.number(worker), own_pid(), None, Vec::new());
        self.shell.worker_ready(worker);
        worker
    }

    /// The last worker of an app can't be started.
    pub(super) fn fails(&self, root: &str) -> WorkerId {
        let worker = self.worker(root);
        let report = SpawnReport {
            root: root.into(),
            step: SpawnStep::Execute,
            problem: "there is no program node".into(),
            remedy: "Install it.".into(),
            output: "its last words".into(),
            exit: Some(Exit::Status(1)),
            setup: None,
        };
        self.shell.worker_not_started(self.number(worker), report, false);
        worker
    }

    pub(super) fn exits(&self, worker: WorkerId, exit: Exit) {
        self.shell.worker_exited(self.number(worker), exit, false, Duration::from_secs(2));
    }

    pub(super) fn events(&self) -> Vec<PoolEvent> {
        self.shell.state().events.recent(usize::MAX)
    }

    pub(super) fn names(&self) -> Vec<&'static str> {
        self.events().iter().map(|event| event.event.name()).collect()
    }

    /// The last of this name.
    pub(super) fn event(&self, name: EventName) -> PoolEvent {
        let events = self.events();
        let found = events.iter().rev().find(|event| event.event == name);
        found.unwrap_or_else(|| panic!("no {} in {:?}", name.name(), self.names())).clone()
    }
}

/// What was sent along stays open: listeners can be connected to.
async fn hear(mut keeper: Receiver<ToKeeper>) {
    let mut open = Vec::new();
    while let Ok((_, descriptors)) = keeper.receive().await {
        open.extend(descriptors);
    }
}

fn plan(root: &str, concurrency: u32) -> LaunchPlan {
    LaunchPlan {
        root: root.into(),
        directory: root.into(),
        program: Program::Command(vec![b"./run".to_vec()]),
        listen: Listen::Fd,
        // Nobody probes: tests say that a worker is ready.
        ready: ReadyBy::Notify,
        protocol: SessionProtocol::Http,
        concurrency,
        environment: "production".into(),
        env: Vec::new(),
        documents: None,
        start_timeout: Duration::from_secs(90),
        identity: None,
        limits: Limits::default(),
        dump_signal: 0,
        seen: None,
        setup: Setup::default(),
    }
}
