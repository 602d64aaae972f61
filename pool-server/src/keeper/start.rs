//! From an executed program to a keeper with an open door.

use super::access;
use super::folders::{self, Purpose};
use super::roles::{self, clean_environment};
use super::serve::{Given, Keeper};
use super::users::{self, Wish};
use crate::Roles;
use crate::place::{self, AdminSocket, Audience, PlaceError, RuntimeFolder};
use crate::privileges::{self, Ids};
use hatchery_protocol::channel::Channel;
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::door::{FromDoor, ToDoor};
use hatchery_protocol::link::Access;
use hatchery_protocol::{mark, memfd, packet, root};
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};
use rustix::io::{FdFlags, fcntl_setfd};
use std::fs::OpenOptions;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

type Door = Channel<FromDoor, ToDoor>;

/// What the front end executes: starts the keeper with a clean environment and a mark, and is gone, so that the
/// front end has nothing to reap.
pub(crate) fn start(roles: Roles) -> ExitCode {
    if let Err(sentence) = check_door() {
        eprintln!("pool-server: {sentence}");
        return ExitCode::from(2);
    }
    let mut command = Command::new("/proc/self/exe");
    roles::arguments(&mut command, roles.keeper);
    // The base folder depends on it; the keeper's children don't need it.
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(|dir| ("XDG_RUNTIME_DIR", dir));
    command.env_clear().envs(clean_environment()).envs(runtime).env(mark::POOL, random_id());
    match command.stdin(Stdio::inherit()).stdout(Stdio::null()).spawn() {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pool-server: can't execute itself: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The keeper itself.
pub(crate) fn main(roles: Roles) -> ExitCode {
    let (mut door, pool) = match (become_keeper(), std::env::var(mark::POOL)) {
        (Ok(door), Ok(pool)) => (Door::new(door), pool),
        (Err(sentence), _) => return fail(&sentence),
        (_, Err(_)) => return fail("is started by `pool-server`, not by hand"),
    };
    let opened = receive_config(&mut door).and_then(|(config, memfd)| open(roles, config, memfd, pool, &door));
    match opened {
        Ok(keeper) => keeper.serve(),
        Err(sentence) => {
            // The front end prints it; if it is gone already, there is nobody to tell.
            let _ = door.send(&FromDoor::Failed(sentence));
            ExitCode::FAILURE
        }
    }
}

fn fail(sentence: &str) -> ExitCode {
    eprintln!("pool-server keeper: {sentence}");
    ExitCode::FAILURE
}

fn check_door() -> Result<(), String> {
    let kind = rustix::net::sockopt::socket_type(std::io::stdin());
    if kind == Ok(rustix::net::SocketType::SEQPACKET) {
        Ok(())
    } else {
        Err("standard input is no door; this program is started by one that embeds hatchery-pool-client, \
             such as `hatchery serve`"
            .into())
    }
}

/// Leaves behind all that was inherited but the door, which moves to descriptor 3.
fn become_keeper() -> Result<OwnedFd, String> {
    check_door()?;
    let said = |what: &'static str| move |errno: rustix::io::Errno| format!("{what}: {errno}");
    let door = rustix::io::fcntl_dupfd_cloexec(std::io::stdin(), 3).map_err(said("the door can't be kept"))?;
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty())
        .map_err(said("/dev/null"))?;
    rustix::stdio::dup2_stdin(&null).map_err(said("standard input"))?;
    drop(null);
    close_inherited(&door);
    fcntl_setfd(&door, FdFlags::CLOEXEC).map_err(said("the door"))?;
    rustix::process::setsid().map_err(said("setsid"))?;
    rustix::process::chdir("/").map_err(said("chdir"))?;
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| format!("subreaper: {errno}"))?;
    set_signals().map_err(|errno| format!("signals: {errno}"))?;
    if privileges::privileged() {
        privileges::forbid_tracing().map_err(|errno| format!("dumpable: {errno}"))?;
    }
    Ok(door)
}

/// Closes every descriptor above standard error but the door: a threaded host may have leaked some.
fn close_inherited(door: &OwnedFd) {
    use std::os::fd::AsRawFd;
    let keep = door.as_raw_fd();
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let numbers: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for number in numbers.into_iter().filter(|number| *number > 2 && *number != keep) {
        // The listing's own descriptor is closed by now; closing it again is EBADF and harmless here, since
        // nothing was opened since.
        let _ = nix::unistd::close(number);
    }
}

/// A terminal's and a service manager's signals hit whole groups: only TERM and CHLD mean the keeper, and the
/// loop handles those.
fn set_signals() -> nix::Result<()> {
    for ignored in [Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE] {
        // SAFETY: SIG_IGN is no handler that could run.
        unsafe { signal(ignored, SigHandler::SigIgn) }?;
    }
    for default in [Signal::SIGCHLD, Signal::SIGTERM] {
        // SAFETY: SIG_DFL is no handler that could run; whoever started us may have left these ignored.
        unsafe { signal(default, SigHandler::SigDfl) }?;
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

fn receive_config(door: &mut Door) -> Result<(PoolConfig, OwnedFd), String> {
    let (message, mut descriptors) = door.receive().map_err(|error| format!("the configuration: {error}"))?;
    match (message, descriptors.pop()) {
        (ToDoor::Configure, Some(memfd)) => {
            let config: PoolConfig =
                memfd::read(memfd.as_fd()).map_err(|error| format!("the configuration: {error}"))?;
            Ok((config, memfd))
        }
        _ => Err("the first packet on the door must be the configuration".into()),
    }
}

fn open(roles: Roles, config: PoolConfig, memfd: OwnedFd, pool: String, door: &Door) -> Result<Keeper, String> {
    check(&config)?;
    if let Some(path) = &config.log.file {
        let opened = OpenOptions::new().append(true).create(true).open(path);
        opened.map_err(|error| format!("the log file {}: {error}", path.display()))?;
    }
    let base = place::base().map_err(sentence)?;
    let (folder, user) = settle(&base, &config, &pool)?;
    if let Some(output) = &config.output.folder {
        folders::prepare(Purpose::Output, output, user)?;
    }
    if let Some(state) = &config.state_dir {
        folders::prepare(Purpose::State, state, user)?;
    }
    let access = access::resolve(&config.admin_access)?;
    let admin = open_admin(&base, &config, &access)?;
    let (words, theirs) = packet::pair().map_err(|errno| format!("a socket for the front end: {errno}"))?;
    let opened = FromDoor::Opened {
        pool: pool.clone(),
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        admin: admin.as_ref().map(|admin| admin.path.clone()),
        pool_user: user.map(|user| (user.uid, user.gid)),
    };
    let reserved = reserved(user, door)?;
    let copy = door.as_fd().try_clone_to_owned().map_err(|error| format!("the door: {error}"))?;
    let given = Given { roles, config, memfd, door: copy, words, pool, folder, admin, access, user, reserved };
    let keeper = Keeper::new(given)?;
    door.send_with(&opened, &[theirs.as_fd()]).map_err(|error| format!("the front end: {error}"))?;
    Ok(keeper)
}

/// The admin socket, and a warning if some can't get at it who should.
fn open_admin(base: &Path, config: &PoolConfig, access: &Access) -> Result<Option<AdminSocket>, String> {
    let audience = Audience::of(access, &config.admin_access);
    let admin = AdminSocket::open(base, &config.admin, &audience).map_err(sentence)?;
    if let Some(admin) = &admin
        && let Some(folder) = admin.shut_off(&audience)
    {
        let keys = [
            ("admin_group", access.group.is_some()),
            ("admin_readers", access.readers.is_some()),
            ("admin_owners", access.owners),
        ];
        let keys: Vec<&str> = keys.into_iter().filter(|(_, said)| *said).map(|(key, _)| key).collect();
        let (keys, folder, path) = (keys.join(" and "), folder.display(), admin.path.display());
        eprintln!(
            "pool-server: {keys}: not all of those can enter {folder}, and so they can't connect to the admin socket \
             {path}: let them enter it (chmod 711), or name another place with `admin`"
        );
    }
    Ok(admin)
}

fn sentence(error: PlaceError) -> String {
    error.to_string()
}

/// Whether a pool can run with it.
///
/// # Errors
/// One sentence.
pub(super) fn check(config: &PoolConfig) -> Result<(), String> {
    if config.max == 0 {
        return Err("max is 0: a pool needs at least 1 worker process".into());
    }
    config.defaults.check()?;
    for app in &config.apps {
        let named = |why: String| format!("{}: {why}", String::from_utf8_lossy(&app.root));
        root::check(&app.root).map_err(|why| named(why.into()))?;
        app.options.check().map_err(named)?;
    }
    Ok(())
}

/// The runtime folder, and whose it is.
fn settle(base: &Path, config: &PoolConfig, pool: &str) -> Result<(RuntimeFolder, Option<Ids>), String> {
    let base = place::runtime_base(base).map_err(sentence)?;
    // Until the folder tells other pools which user is taken.
    let held = place::hold(&base).map_err(sentence)?;
    let written = [config.state_dir.as_deref(), config.output.folder.as_deref()];
    let user = users::choose(&Wish { named: config.pool_user.as_deref(), pool, taken: &held.owners(), written })?;
    let folder = RuntimeFolder::create(&held, pool, user).map_err(sentence)?;
    Ok((folder, user))
}

/// Users that no app of a privileged pool may have. Who made the door is the front end.
fn reserved(user: Option<Ids>, door: &Door) -> Result<Vec<u32>, String> {
    let Some(user) = user else { return Ok(Vec::new()) };
    let front_end = rustix::net::sockopt::socket_peercred(door).map_err(|errno| format!("the door: {errno}"))?;
    let front_end = Some(front_end.uid.as_raw()).filter(|uid| *uid != 0);
    Ok([user.uid].into_iter().chain(front_end).collect())
}

fn random_id() -> String {
    let mut bytes = [0_u8; 8];
    // Cannot fail on the kernels this runs on; zeros would only make two pools share a name, which the folder refuses.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
