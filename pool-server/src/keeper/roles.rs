//! Starting core and spawner: the same executable or the one beside it, a clean environment, one link at
//! descriptor 3 and nothing else.

use super::link::{Link, ends};
use super::workers;
use crate::{Roles, Spawner};
use hatchery_protocol::channel::{ReceiveError, SendError};
use hatchery_protocol::codec::Message;
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::mark;
use rustix::event::PollFd;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A role that ends more often than this within `RESTART_WINDOW` is not started again.
pub(super) const RESTARTS: usize = 5;
const RESTART_WINDOW: Duration = Duration::from_secs(60);

/// A running core or spawner.
#[derive(Debug)]
pub(super) struct Role<S, R> {
    pub(super) pid: i32,
    link: Link<S, R>,
    name: &'static str,
    /// It said something it may not, or closed its link: it is killed, and only waits to be reaped.
    failed: bool,
}

impl<S: Message, R: Message> Role<S, R> {
    /// Sends now or as soon as there is room.
    pub(super) fn tell(&mut self, message: &S, descriptors: Vec<OwnedFd>) {
        if self.failed {
            return;
        }
        match self.link.send(message, descriptors) {
            Ok(()) => {}
            Err(SendError::Closed) => self.fail(None),
            Err(error) => self.fail(Some(&error.to_string())),
        }
    }

    /// The next message that is here; what waits for it goes out first.
    pub(super) fn hear(&mut self) -> Option<(R, Vec<OwnedFd>)> {
        if self.failed {
            return None;
        }
        if self.link.flush().is_err() {
            self.fail(None);
            return None;
        }
        self.link.receive().unwrap_or_else(|error| {
            let why = error.to_string();
            self.fail((!matches!(error, ReceiveError::Closed)).then_some(why.as_str()));
            None
        })
    }

    /// Ends it. `None`: its link was closed, so it most likely just left, and its exit status says more.
    pub(super) fn fail(&mut self, why: Option<&str>) {
        self.failed = true;
        if let Some(why) = why {
            eprintln!("pool-server: the {} (pid {}) is killed: {why}", self.name, self.pid);
        }
        // To a process that is leaving this makes no difference any more, nor to its exit status.
        workers::kill_role(self.pid);
    }

    /// Lets it leave by itself: it sees the end of its link.
    pub(super) fn dismiss(&mut self) {
        self.failed = true;
        self.link.close();
    }

    /// What to wait for. The link of a role that is only to be reaped would be ready all the time.
    pub(super) fn poll(&self) -> Option<PollFd<'_>> {
        (!self.failed).then(|| self.link.poll())
    }
}

/// What keeper, core and spawner keep of the environment they were started in. Workers get less.
pub(super) fn clean_environment() -> impl Iterator<Item = (OsString, OsString)> {
    const KEPT: [&str; 13] = [
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "SHELL",
        "LANG",
        "TZ",
        "TMPDIR",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
        "HATCHERY_LOG",
        "RUST_BACKTRACE",
        // A pool inside a worker of another pool ends with that worker.
        mark::WORKER,
    ];
    std::env::vars_os()
        .filter(|(name, _)| KEPT.iter().any(|kept| name == kept) || name.as_encoded_bytes().starts_with(b"LC_"))
}

/// `words`: the program's own name, then its arguments.
pub(super) fn arguments(command: &mut Command, words: &[&str]) {
    if let [name, rest @ ..] = words {
        command.arg0(name).args(rest);
    }
}

pub(super) fn start_core<S: Message, R: Message>(roles: Roles, pool: &str) -> Result<Role<S, R>, String> {
    let mut command = Command::new("/proc/self/exe");
    arguments(&mut command, roles.core);
    start(command, pool, "core")
}

pub(super) fn start_spawner<S: Message, R: Message>(
    roles: Roles,
    config: &PoolConfig,
    pool: &str,
) -> Result<Role<S, R>, String> {
    let command = match (&config.spawner, roles.spawner) {
        (Some(path), _) => {
            let mut command = Command::new(path);
            // The `hatchery` executable can be the spawner too, if it is told so.
            if path.file_name().is_some_and(|name| name == "hatchery") {
                command.arg("spawner");
            }
            command
        }
        (None, Spawner::Own(words)) => {
            let mut command = Command::new("/proc/self/exe");
            arguments(&mut command, words);
            command
        }
        (None, Spawner::Beside) => Command::new(beside()?),
    };
    start(command, pool, "spawner")
}

fn beside() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("the spawner can't be found: {error}"))?;
    Ok(own.with_file_name("spawner"))
}

fn start<S: Message, R: Message>(mut command: Command, pool: &str, name: &'static str) -> Result<Role<S, R>, String> {
    let failed = |error: &dyn std::fmt::Display| format!("the {name} can't be started: {error}");
    let (ours, theirs) = ends().map_err(|error| failed(&error))?;
    let link = Link::new(ours).map_err(|error| failed(&error))?;
    command.env_clear().envs(clean_environment()).env(mark::POOL, pool);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    let raw = theirs.as_raw_fd();
    let to_descriptor_3 = move || {
        // SAFETY: both numbers are open in the child: `theirs` lives until `spawn` returned, and 3 is the door.
        // What std itself opened for its report of a failed exec is above 3 for that reason.
        let result = unsafe { nix::libc::dup2(raw, 3) };
        if result == 3 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure only calls dup2, which is async-signal-safe.
    unsafe { command.pre_exec(to_descriptor_3) };
    let path = command.get_program().to_owned();
    let child = command.spawn().map_err(|error| failed(&format_args!("{}: {error}", path.display())))?;
    // Not waited for through this handle: the keeper's loop reaps all children.
    let pid = i32::try_from(child.id()).map_err(|error| failed(&error))?;
    Ok(Role { pid, link, name, failed: false })
}

/// When a role ended lately.
#[derive(Debug, Default)]
pub(super) struct Deaths(VecDeque<Instant>);

impl Deaths {
    /// Counts one more; true when there were too many.
    pub(super) fn too_many(&mut self) -> bool {
        let now = Instant::now();
        self.0.push_back(now);
        self.0.retain(|death| now.duration_since(*death) < RESTART_WINDOW);
        self.0.len() > RESTARTS
    }
}
