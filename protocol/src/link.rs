//! Core ↔ keeper ↔ spawner. Apps and workers are named by number; a process id only informs.
//!
//! The core speaks to the keeper alone. The keeper remembers what an inspection found, so that the core can ask
//! for workers of an app but never says what is executed.

use crate::client::{Documents, SessionProtocol};
use crate::codec::Message;
use crate::options::AppOptions;
use crate::report::{Exit, Setup, SpawnReport};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// An app, as the core numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AppNumber(pub u64);

/// A worker, as the core numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkerNumber(pub u64);

/// How an app is started: what an inspection found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchPlan {
    pub root: Vec<u8>,
    /// The working directory: what the root resolved to.
    pub directory: Vec<u8>,
    pub program: Program,
    pub listen: Listen,
    pub ready: ReadyBy,
    pub protocol: SessionProtocol,
    /// Sessions at once in one worker; 0: no limit.
    pub concurrency: u32,
    pub environment: String,
    /// Further environment variables, the last of a name wins.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// What the front end must know to ask a FastCGI worker for a file.
    pub documents: Option<Documents>,
    pub start_timeout: Duration,
    /// Whom it runs as; `None`: as the pool.
    pub identity: Option<Identity>,
    pub limits: Limits,
    /// Sent before it is killed; 0: nothing is.
    pub dump_signal: i32,
    /// What its root looked like before anything else was read from it, without a staged update: what is another way
    /// later has changed since. `None`: it has no files, or can't be looked at.
    pub seen: Option<Sight>,
    /// The same for people, as reports show it.
    pub setup: Setup,
}

/// A user, as the user database had it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
    pub name: String,
    pub home: Vec<u8>,
    pub shell: Vec<u8>,
}

/// What a worker may use. `None`: as the pool may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// `RLIMIT_…` by its number, with the value for soft and hard limit.
    pub rlimits: Vec<(u32, u64)>,
    pub nice: Option<i32>,
    pub oom_score_adj: Option<i32>,
    pub umask: Option<u32>,
    pub no_new_privs: bool,
    /// Bytes.
    pub memory_max: Option<u64>,
    /// Thousandths of a processor.
    pub cpu_max: Option<u32>,
    pub pids_max: Option<u64>,
    /// Names of limits without which it is not started.
    pub required: Vec<String>,
}

/// What was found out about a running worker. `None`: it could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Of its whole process tree: what its control group says, else the sum of the processes' proportional
    /// set sizes.
    pub memory_bytes: Option<u64>,
    /// Processes of its tree.
    pub processes: u32,
    /// The state of its main process, as `/proc/PID/status` words it, such as `D (disk sleep)`.
    pub state: Option<String>,
    /// Where its main process waits in the kernel.
    pub kernel_stack: Option<String>,
    /// Kills for want of memory in its control group so far.
    pub out_of_memory_kills: u64,
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// The program, looked for on the worker's `PATH` if it has no slash, and its arguments, with `{port}` and
    /// `{socket}` not yet filled in.
    Command(Vec<Vec<u8>>),
    /// The demo app of our own executable, started by descriptor.
    DemoApp,
    /// One of our loaders, run by the app's interpreter.
    Loader(Loading),
}

/// How one of our loaders is started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loading {
    pub loader: Loader,
    /// The interpreter, looked for on the worker's `PATH` if it has no slash, and arguments for it.
    pub interpreter: Vec<Vec<u8>>,
    /// What of the app is loaded, such as `shop.wsgi:application`, `config.ru` or `server.js`.
    pub entry: Vec<u8>,
    /// Workers may be forked from a process that has loaded the app once.
    pub preload: bool,
}

/// Our loaders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Loader {
    Wsgi,
    Asgi,
    Rack,
    Node,
}

impl Loader {
    /// Its name, as the manifest's `type` and the loader's own argument have it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Wsgi => "wsgi",
            Self::Asgi => "asgi",
            Self::Rack => "rack",
            Self::Node => "node",
        }
    }
}

/// As what a process of an app is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartAs {
    /// A worker, by its program.
    Worker,
    /// A process that loads the app once, for workers to fork from. It has no listener.
    Preloader,
    /// A worker, by a fork of this preloader, which is of the same app and generation.
    ForkOf(WorkerNumber),
}

/// What about an app's root can ask for a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// What the root resolves to.
    pub target: Vec<u8>,
    /// When `tmp/restart.txt` was modified: seconds and nanoseconds.
    pub restart_txt: Option<(i64, u32)>,
    /// What lies beside the root as its staged update.
    pub update: Option<Staged>,
}

/// A staged update, as it lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Changes with every file in it that is added, removed or written.
    pub print: u64,
    /// It says itself that it is complete.
    pub complete: bool,
}

/// A step of an exchange of an app's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwapStep {
    /// `NAME.update` and `NAME` change places.
    Take,
    /// `NAME.backup` and `NAME` do.
    Back,
    /// What was exchanged stays.
    Keep,
    /// It changes back, and what was tried is `NAME.failed`.
    Undo,
}

/// Where a worker listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Listen {
    /// An inherited Unix socket at descriptor 3.
    Fd,
    /// An inherited Unix socket at descriptor 0.
    Stdin,
    /// A TCP port on loopback that it binds itself: `PORT` and `{port}`.
    Port,
    /// A Unix socket that it makes itself at the path `{socket}`.
    Socket,
}

/// How a worker says that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReadyBy {
    /// It answers its protocol's harmless question.
    Probe,
    /// It sends `READY=1` to `NOTIFY_SOCKET`.
    Notify,
}

/// A listener that the worker makes itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// On 127.0.0.1.
    Port(u16),
    Path(Vec<u8>),
}

/// Core → keeper.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToKeeper {
    /// Look into an app's root. Answered by `Inspected` or `InspectFailed`.
    Inspect { app: AppNumber, generation: u64, root: Vec<u8>, options: Box<AppOptions> },
    /// What an inspection found is not needed any more; `None`: of any generation, the app is forgotten.
    Forget { app: AppNumber, generation: Option<u64> },
    /// Start a worker of an inspected generation. Answered by `Started` or `SpawnFailed`. With its standard output,
    /// its standard error, and its listener if `listener`. A preloader has a number like a worker's, and is known by
    /// it to all that is said of workers.
    Spawn {
        worker: WorkerNumber,
        app: AppNumber,
        generation: u64,
        start_as: StartAs,
        notify: Option<Vec<u8>>,
        listener: bool,
    },
    /// See whether anything about an app's root asks for a restart. Answered by `Looked`.
    Look { app: AppNumber, root: Vec<u8> },
    /// A step of an exchange of an app's files. Answered by `Swapped`.
    Swap { app: AppNumber, root: Vec<u8>, step: SwapStep },
    /// Look for the listener that the worker makes itself. Answered by `Found` or `FindFailed`, or never if the
    /// worker exits.
    Find { worker: WorkerNumber },
    /// TERM to the worker's process group.
    Terminate { worker: WorkerNumber },
    /// KILL to the worker's whole tree.
    Kill { worker: WorkerNumber },
    /// Find out about a running worker. Answered by `Examined`, or never if the worker exits.
    Examine { worker: WorkerNumber },
    /// The plan's `dump_signal` to the worker's own process.
    Dump { worker: WorkerNumber },
    /// Tell the front end that the operator wants all of this to end.
    ShutDown,
    /// Read the configuration again where it came from. Answered by `Reloaded`.
    Reload,
}

impl Message for ToKeeper {
    fn descriptors(&self) -> usize {
        match self {
            Self::Spawn { listener, .. } => 2 + usize::from(*listener),
            _ => 0,
        }
    }
}

/// Who may say what on the admin socket. Root, the user who started the pool and the pool's own user may say everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Access {
    /// The user who started the pool.
    pub operator: u32,
    /// Who is in this group may say everything.
    pub group: Option<u32>,
    /// Who is in this group may look.
    pub readers: Option<u32>,
    /// Whom an app runs as may look at it, restart it and read what it prints.
    pub owners: bool,
}

/// Keeper → core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromKeeper {
    /// First: who this core is. With the door, the sealed memfd of the configuration, and the listening admin
    /// socket if `admin`.
    Begin {
        pool: String,
        /// The how-manieth core of this pool, from 1. The upper half of the numbers that it gives to apps and
        /// workers, so that nothing said to an earlier core is mistaken for its own.
        core: u32,
        admin: bool,
        /// Who may say what on the admin socket.
        access: Access,
        /// The runtime folder.
        folder: Vec<u8>,
        spawner_pid: i32,
        /// The user and group that the core drops to once it has begun.
        pool_user: Option<(u32, u32)>,
    },
    /// What the spawner says.
    Spawner(FromSpawner),
    /// A worker is gone and reaped. The last word on every worker that was `Started`. `out_of_memory`: the kernel
    /// killed it for want of memory, as its control group tells.
    /// `cpu`: processor time of it and of what it had waited for.
    Exited { worker: WorkerNumber, exit: Exit, out_of_memory: bool, cpu: Duration },
    /// The spawner was restarted.
    SpawnerRestarted { pid: i32 },
    /// With the sealed memfd of the new configuration, unless there is a problem with it, which is one or more lines.
    /// `kept`: keys with another value now, which needs a new start; in the memfd they are as they were. Also said
    /// without a `Reload` of this core's.
    Reloaded { problem: Option<String>, kept: Vec<String> },
    /// Drain and go.
    Shutdown,
}

impl Message for FromKeeper {
    fn descriptors(&self) -> usize {
        match self {
            Self::Begin { admin, .. } => 2 + usize::from(*admin),
            Self::Spawner(message) => message.descriptors(),
            Self::Reloaded { problem, .. } => usize::from(problem.is_none()),
            _ => 0,
        }
    }
}

/// Keeper → spawner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSpawner {
    /// First: whose spawner this is. With the sealed memfd of the configuration.
    Begin {
        pool: String,
        folder: Vec<u8>,
        /// Users that no app may have: those of the core and of the front end.
        reserved: Vec<u32>,
        /// The core's user.
        pool_user: Option<u32>,
    },
    /// The configuration is another one from now on. With its sealed memfd.
    Configure,
    /// `options` are what the core says of it; the spawner holds them against the configuration.
    Inspect {
        app: AppNumber,
        generation: u64,
        root: Vec<u8>,
        options: Box<AppOptions>,
    },
    /// Answered by `Looked`.
    Look {
        app: AppNumber,
        root: Vec<u8>,
    },
    /// Answered by `Swapped`.
    Swap {
        app: AppNumber,
        root: Vec<u8>,
        step: SwapStep,
    },
    /// Answered by `Examined`.
    Examine {
        worker: WorkerNumber,
        pid: i32,
        mark: String,
    },
    /// With standard output, standard error, and the listener if `listener`.
    Spawn {
        worker: WorkerNumber,
        /// The worker's mark, `POOL.CORE.N`.
        mark: String,
        plan: Box<LaunchPlan>,
        start_as: StartAs,
        notify: Option<Vec<u8>>,
        listener: bool,
    },
    Find {
        worker: WorkerNumber,
        pid: i32,
        place: Place,
    },
    /// The worker is gone: stop looking for its listener, remove its folder.
    Gone {
        worker: WorkerNumber,
    },
}

impl Message for ToSpawner {
    fn descriptors(&self) -> usize {
        match self {
            Self::Begin { .. } | Self::Configure => 1,
            Self::Spawn { listener, .. } => 2 + usize::from(*listener),
            _ => 0,
        }
    }
}

/// Spawner → keeper, and from there → core.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromSpawner {
    Inspected {
        app: AppNumber,
        generation: u64,
        plan: Box<LaunchPlan>,
    },
    InspectFailed {
        app: AppNumber,
        generation: u64,
        report: Box<SpawnReport>,
    },
    /// `None`: it could not be looked at.
    Looked {
        app: AppNumber,
        sight: Option<Box<Sight>>,
    },
    /// `None`: the step is done.
    Swapped {
        app: AppNumber,
        report: Option<Box<SpawnReport>>,
    },
    /// The program is executing, with the keeper as its parent. `place`: where it will listen, if it makes its
    /// listener itself.
    Started {
        worker: WorkerNumber,
        pid: i32,
        place: Option<Place>,
        /// The control group it is alone in: a path in the file system.
        cgroup: Option<Vec<u8>>,
        /// One sentence for each limit that could not be applied, and need not be.
        missed: Vec<String>,
    },
    Examined {
        worker: WorkerNumber,
        findings: Box<Findings>,
    },
    /// No process is left of it. `preloader_lost`: nothing is said about the app, it was to be a fork of a preloader
    /// that is gone, or does not do what it should.
    SpawnFailed {
        worker: WorkerNumber,
        report: Box<SpawnReport>,
        preloader_lost: bool,
    },
    /// A preloader has loaded its app: workers can be forked from it. `unfit`: none can, for this reason, which
    /// completes the sentence "it can't be preloaded"; it leaves.
    Preloaded {
        worker: WorkerNumber,
        unfit: Option<String>,
    },
    /// A loader says why its app can't be started; its process ends. What a report has beside problem and remedy is
    /// empty.
    LoadFailed {
        worker: WorkerNumber,
        report: Box<SpawnReport>,
    },
    /// The worker's listener is there. With an `O_PATH` descriptor of its socket if it is at a path.
    Found {
        worker: WorkerNumber,
        place: Place,
    },
    /// There is something wrong with it.
    FindFailed {
        worker: WorkerNumber,
        report: Box<SpawnReport>,
    },
}

impl Message for FromSpawner {
    fn descriptors(&self) -> usize {
        usize::from(matches!(self, Self::Found { place: Place::Path(_), .. }))
    }
}
