//! The core: one thread that owns the [`Pool`](hatchery_pool::Pool), tells it what happens, and carries out what
//! it decides. No policy is in here.
//!
//! | file | holds |
//! | --- | --- |
//! | `shell.rs` | the pool and all it knows by number; events in, effects out; the timer |
//! | `effects.rs` | carrying out one effect |
//! | `clients.rs` | a task per client channel, and the door |
//! | `connections.rs` | the duplicate of every connection handed out |
//! | `workers.rs` | a worker process as the core sees it: from `Spawn` to `Exited` |
//! | `address.rs` | where a worker listens, and connecting there |
//! | `ready.rs` | whether it is ready: the harmless question, `READY=1` |
//! | `output.rs` | what it prints |
//! | `keeper.rs` | the link to the keeper |
//! | `apps.rs` | which apps there are, and what is said of them |
//! | `memory.rs` | what outlasts the pool of that, if the operator wants |
//! | `reload.rs` | another configuration from the keeper |
//! | `outgoing.rs` | messages that wait for their receiver to have room |
//! | `translate.rs` | the pool's words from and to the protocol's |
//! | `words.rs` | the pool's reasons as single words |
//! | `events.rs`, `metrics.rs` | what happened, and what was counted |
//! | `status.rs`, `admin/` | the figures, and the line protocol of the operator |
//! | `watch/` | what about an app's files asks for a restart |
//! | `log.rs` | the log, which never holds up the core |

mod address;
mod admin;
mod apps;
mod clients;
mod connections;
mod effects;
mod events;
mod keeper;
mod log;
mod memory;
mod metrics;
mod outgoing;
mod output;
#[cfg(test)]
mod played;
mod ready;
mod reload;
mod shell;
mod status;
mod translate;
mod watch;
mod words;
mod workers;

use crate::privileges::{self, Ids};
use hatchery_protocol::channel::{self, ReceiveError};
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::link::{Access, FromKeeper};
use hatchery_protocol::memfd;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use tokio::task::LocalSet;

/// What the core is told at its start.
struct Beginning {
    pool: String,
    core: u32,
    folder: Vec<u8>,
    spawner_pid: i32,
    /// Whom this process becomes; `None`: the pool is not privileged.
    pool_user: Option<Ids>,
    access: Access,
    config: PoolConfig,
    door: OwnedFd,
    admin: Option<UnixListener>,
}

pub(crate) fn main() -> ExitCode {
    let link = match inherited_link() {
        Ok(link) => link,
        Err(sentence) => {
            eprintln!("pool-server core: {sentence}");
            return ExitCode::from(2);
        }
    };
    if privileges::privileged()
        && let Err(errno) = privileges::forbid_tracing()
    {
        eprintln!("pool-server core: dumpable: {errno}");
        return ExitCode::FAILURE;
    }
    raise_descriptor_limit();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pool-server core: {error}");
            return ExitCode::FAILURE;
        }
    };
    let local = LocalSet::new();
    match runtime.block_on(local.run_until(run(link))) {
        // Not by returning: the keeper is to see the end of the process, not of the link before it.
        Ok(log) => {
            drop(log);
            std::process::exit(0)
        }
        Err(sentence) => {
            eprintln!("pool-server core: {sentence}");
            ExitCode::FAILURE
        }
    }
}

/// The link is inherited at descriptor 3.
fn inherited_link() -> Result<OwnedFd, String> {
    for ignored in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: SIG_IGN is no handler that could run.
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
    let _ = rustix::process::setsid();
    // SAFETY: nothing in this process owns descriptor 3 yet, so that this is its only owner; if it isn't open,
    // the check below says so and it is given up.
    let link = unsafe { OwnedFd::from_raw_fd(3) };
    if rustix::net::sockopt::socket_type(&link) != Ok(rustix::net::SocketType::SEQPACKET) {
        std::mem::forget(link);
        return Err("descriptor 3 is no link; this program is started by the keeper, not by hand".into());
    }
    rustix::io::fcntl_setfd(&link, rustix::io::FdFlags::CLOEXEC).map_err(|errno| format!("the link: {errno}"))?;
    Ok(link)
}

/// A session costs a descriptor here; workers get the original limit, since they descend from the spawner.
fn raise_descriptor_limit() {
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

async fn run(link: OwnedFd) -> Result<log::Guard, String> {
    let (sender, mut receiver) = channel::split(link).map_err(|error| format!("the link: {error}"))?;
    let said = |error: ReceiveError| format!("the keeper: {error}");
    sender.try_send_hello().map_err(|error| format!("the keeper: {error}"))?;
    receiver.receive_hello().await.map_err(said)?;
    let (message, descriptors) = receiver.receive().await.map_err(said)?;
    let beginning = begin(message, descriptors)?;
    let sink = log::open(&beginning.config.log)?;
    if let Some(user) = beginning.pool_user {
        // Before there is a second thread, and before anything is made that this user should own.
        privileges::become_user(user).map_err(|error| error.to_string())?;
    }
    let guard = log::start(sink, beginning.config.log.format);
    if let Some(Ids { uid, gid }) = beginning.pool_user {
        tracing::info!("runs as user {uid} and group {gid} from now on");
    }
    let Beginning { door, admin, .. } = &beginning;
    let door = door.try_clone().map_err(|error| format!("the door: {error}"))?;
    let admin = admin.as_ref().map(UnixListener::try_clone).transpose().map_err(|error| format!("admin: {error}"))?;
    let shell = shell::Shell::new(beginning, sender)?;
    shell.begun();
    shell.register_apps();
    shell.recall();
    tokio::task::spawn_local(shell.clone().keep_time());
    tokio::task::spawn_local(shell.clone().keep_watch());
    tokio::task::spawn_local(keeper::listen(shell.clone(), receiver));
    tokio::task::spawn_local(clients::open_door(shell.clone(), door));
    if let Some(listener) = admin {
        let listener = admin::listener(listener).map_err(|error| format!("the admin socket: {error}"))?;
        tokio::task::spawn_local(admin::serve(shell.clone(), listener));
    }
    shell.ended().await;
    Ok(guard)
}

fn begin(message: FromKeeper, descriptors: Vec<OwnedFd>) -> Result<Beginning, String> {
    let FromKeeper::Begin { pool, core, admin: _, access, folder, spawner_pid, pool_user } = message else {
        return Err("the keeper must begin".into());
    };
    let mut descriptors = descriptors.into_iter();
    let (Some(door), Some(config)) = (descriptors.next(), descriptors.next()) else {
        return Err("the keeper gave no door or no configuration".into());
    };
    let config = memfd::read(config.as_fd()).map_err(|error| format!("the configuration: {error}"))?;
    let admin = descriptors.next().map(UnixListener::from);
    let pool_user = pool_user.map(|(uid, gid)| Ids { uid, gid });
    Ok(Beginning { pool, core, folder, spawner_pid, pool_user, access, config, door, admin })
}
