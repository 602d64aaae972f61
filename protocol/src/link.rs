//! Core ↔ keeper ↔ spawner. Apps and workers are named by number; a process id only informs.
//!
//! The core speaks to the keeper alone. The keeper remembers what an inspection found, so that the core can ask
//! for workers of an app but never says what is executed.

use crate::client::SessionProtocol;
use crate::codec::Message;
use crate::options::AppOptions;
use crate::report::{Exit, SpawnReport};
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
    pub start_timeout: Duration,
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Program {
    /// The program, looked for on the worker's `PATH` if it has no slash, and its arguments, with `{port}` and
    /// `{socket}` not yet filled in.
    Command(Vec<Vec<u8>>),
    /// The demo app of our own executable, started by descriptor.
    DemoApp,
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
    Inspect { app: AppNumber, root: Vec<u8>, options: Box<AppOptions> },
    /// The app is forgotten.
    Forget { app: AppNumber },
    /// Start a worker of an inspected app. Answered by `Started` or `SpawnFailed`. With its standard output,
    /// its standard error, and its listener if `listener`.
    Spawn { worker: WorkerNumber, app: AppNumber, notify: Option<Vec<u8>>, listener: bool },
    /// Look for the listener that the worker makes itself. Answered by `Found` or `FindFailed`, or never if the
    /// worker exits.
    Find { worker: WorkerNumber },
    /// TERM to the worker's process group.
    Terminate { worker: WorkerNumber },
    /// KILL to the worker's whole tree.
    Kill { worker: WorkerNumber },
}

impl Message for ToKeeper {
    fn descriptors(&self) -> usize {
        match self {
            Self::Spawn { listener, .. } => 2 + usize::from(*listener),
            _ => 0,
        }
    }
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
        /// The runtime folder.
        folder: Vec<u8>,
        spawner_pid: i32,
    },
    /// What the spawner says.
    Spawner(FromSpawner),
    /// A worker is gone and reaped. The last word on every worker that was `Started`.
    Exited { worker: WorkerNumber, exit: Exit },
    /// The spawner was restarted.
    SpawnerRestarted { pid: i32 },
    /// Drain and go.
    Shutdown,
}

impl Message for FromKeeper {
    fn descriptors(&self) -> usize {
        match self {
            Self::Begin { admin, .. } => 2 + usize::from(*admin),
            Self::Spawner(message) => message.descriptors(),
            _ => 0,
        }
    }
}

/// Keeper → spawner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToSpawner {
    /// First: whose spawner this is.
    Begin {
        pool: String,
        folder: Vec<u8>,
    },
    Inspect {
        app: AppNumber,
        root: Vec<u8>,
        options: Box<AppOptions>,
    },
    /// With standard output, standard error, and the listener if `listener`.
    Spawn {
        worker: WorkerNumber,
        /// The worker's mark, `POOL.CORE.N`.
        mark: String,
        plan: Box<LaunchPlan>,
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
        plan: Box<LaunchPlan>,
    },
    InspectFailed {
        app: AppNumber,
        report: Box<SpawnReport>,
    },
    /// The program is executing, with the keeper as its parent. `place`: where it will listen, if it makes its
    /// listener itself.
    Started {
        worker: WorkerNumber,
        pid: i32,
        place: Option<Place>,
    },
    /// No process is left of it.
    SpawnFailed {
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
