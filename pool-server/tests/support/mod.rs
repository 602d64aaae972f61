//! A front end that is played by the test itself, and a spawner that only notes what it is told.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use hatchery_protocol::channel::{self, Channel};
use hatchery_protocol::client::{RequestId, ToClient, ToPool};
use hatchery_protocol::config::{Admin, PoolConfig};
use hatchery_protocol::door::{FromDoor, ToDoor};
use hatchery_protocol::link::{FromSpawner, ToSpawner};
use hatchery_protocol::{memfd, packet};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything may take. Generous: machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Debian's and most others' `nobody`.
pub const NOBODY: u32 = 65534;

pub fn is_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: only root has privileges to drop");
    }
    root
}

/// Waits until `condition` gives something.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let by = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < by, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder that every user may enter.
pub fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("a test's own folder");
    folder
}

/// The executable, where every user can get at it.
fn executable() -> &'static Path {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    COPY.get_or_init(|| {
        let own = Path::new(env!("CARGO_BIN_EXE_pool-server"));
        let enterable = |folder: &Path| fs::metadata(folder).is_ok_and(|found| found.permissions().mode() & 0o001 != 0);
        if own.ancestors().skip(1).all(enterable) {
            return own.to_owned();
        }
        let folder = folder().keep();
        // Another process writes it: a file that this one had open for writing while another thread forked could not
        // be executed for a moment (ETXTBSY).
        let copy = folder.join("pool-server");
        assert!(Command::new("cp").arg(own).arg(&copy).status().expect("cp").success());
        copy
    })
}

/// The whole answer to one line.
pub fn says(admin: &Path, line: &str) -> String {
    let mut stream = UnixStream::connect(admin).expect("the admin socket");
    stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
    stream.write_all(line.as_bytes()).expect("it is read");
    let mut answer = String::new();
    let mut read = BufReader::new(stream);
    while !answer.lines().last().is_some_and(|line| line == "ok" || line.starts_with("error") || line.starts_with('{'))
    {
        assert!(read.read_line(&mut answer).expect("an answer") > 0, "{answer}");
    }
    answer
}

/// What is started: as the test is, or as somebody else.
pub struct Start {
    pub folder: TempDir,
    pub config: PoolConfig,
    command: Command,
}

impl Start {
    pub fn new() -> Self {
        let folder = folder();
        let mut command = Command::new(executable());
        command.env("XDG_RUNTIME_DIR", folder.path()).stdout(Stdio::null());
        let spawner = spawner(folder.path(), "support::play_spawner");
        let config = PoolConfig { admin: Admin::DefaultPlace, spawner: Some(spawner), ..PoolConfig::default() };
        Self { folder, config, command }
    }

    /// With another spawner: this ignored test.
    pub fn spawner(mut self, test: &str) -> Self {
        self.config.spawner = Some(spawner(self.folder.path(), test));
        self
    }

    pub fn pool_user(mut self, user: &str) -> Self {
        self.config.pool_user = Some(user.into());
        self
    }

    pub fn output(mut self, folder: &Path) -> Self {
        self.config.output.folder = Some(folder.to_owned());
        self
    }

    pub fn log(mut self, file: &Path) -> Self {
        self.config.log.file = Some(file.to_owned());
        self
    }

    /// As this user, who gets the folder for it.
    pub fn user(mut self, uid: u32) -> Self {
        std::os::unix::fs::chown(self.folder.path(), Some(uid), Some(uid)).expect("root gives away what it likes");
        self.command.uid(uid).gid(uid);
        self
    }

    /// Without these capabilities, by number.
    pub fn without(mut self, capabilities: &'static [u64]) -> Self {
        without(&mut self.command, capabilities);
        self
    }

    fn start(self) -> Result<Pool, (String, TempDir)> {
        let Self { folder, config, mut command } = self;
        let (ours, theirs) = packet::pair().expect("a door");
        set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE)).expect("a limit");
        let mut first = command.stdin(theirs).spawn().expect("a pool-server");
        drop(command);
        let mut door = Channel::<ToDoor, FromDoor>::new(ours);
        let memfd = memfd::write(&config).expect("a configuration");
        door.send_with(&ToDoor::Configure, &[memfd.as_fd()]).expect("it listens");
        let answer = door.receive().expect("an answer").0;
        assert!(first.wait().expect("a child").success());
        match answer {
            FromDoor::Opened { pool, pid, admin, pool_user } => {
                Ok(Pool { door: Some(door), id: pool, keeper: pid, admin: admin.expect("a socket"), pool_user, folder })
            }
            FromDoor::Failed(why) => Err((why, folder)),
            FromDoor::ShutDown => panic!("it was told to end"),
        }
    }

    /// A pool that started.
    pub fn must(self) -> Pool {
        self.start().unwrap_or_else(|(why, _)| panic!("{why}"))
    }

    /// The sentence of one that did not, and has left nothing.
    pub fn refused(self) -> String {
        let Err((why, folder)) = self.start() else { panic!("it starts") };
        let left: Vec<_> = fs::read_dir(folder.path().join("hatchery")).into_iter().flatten().flatten().collect();
        assert!(left.is_empty(), "{left:?}");
        assert!(!why.contains('\n'), "one sentence: {why}");
        why
    }
}

/// What it executes has none of these capabilities, by number.
pub fn without(command: &mut Command, capabilities: &'static [u64]) {
    let drop = move || {
        for capability in capabilities {
            // SAFETY: takes two numbers.
            if unsafe { nix::libc::prctl(nix::libc::PR_CAPBSET_DROP, *capability, 0, 0, 0) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
        }
        Ok(())
    };
    // SAFETY: prctl is async-signal-safe.
    unsafe { command.pre_exec(drop) };
}

pub struct Pool {
    door: Option<Channel<ToDoor, FromDoor>>,
    pub id: String,
    pub keeper: i32,
    pub admin: PathBuf,
    pub pool_user: Option<(u32, u32)>,
    pub folder: TempDir,
}

impl Pool {
    /// A client that was greeted: the core has begun.
    pub fn connect(&self) -> Channel<ToPool, ToClient> {
        let (mut ours, theirs) = channel::pair::<ToPool, ToClient>().expect("a channel");
        set_socket_timeout(&ours, Timeout::Recv, Some(PATIENCE)).expect("a limit");
        let door = self.door.as_ref().expect("an open door");
        door.send_with(&ToDoor::Connect, &[theirs.as_fd()]).expect("an open door");
        drop(theirs);
        ours.send_hello().expect("a core");
        ours.receive_hello().expect("a core");
        ours
    }

    /// The core answers.
    pub fn serves(&self) {
        let mut client = self.connect();
        client.send(&ToPool::GetCount { request: RequestId(1) }).expect("a core");
        let (answer, _) = client.receive().expect("an answer");
        assert_eq!(answer, ToClient::Figure { request: RequestId(1), figure: 0 });
    }

    pub fn core(&self) -> i32 {
        until("there is a core", || {
            let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.keeper)).ok()?;
            let mut children = children.split_whitespace().filter_map(|pid| pid.parse().ok());
            children.find(|pid| command_line(*pid).trim_end().ends_with("core"))
        })
    }

    pub fn base(&self) -> PathBuf {
        self.folder.path().join("hatchery")
    }

    pub fn runtime_folder(&self) -> PathBuf {
        self.base().join(format!("hatchery-{}", self.id))
    }

    /// What the spawner was told at its start: reserved users, and the core's.
    pub fn told(&self) -> String {
        until("the spawner was told", || fs::read_to_string(self.folder.path().join("told")).ok())
    }

    /// Closes the door and waits until the pool is gone; what was its folder.
    pub fn end(mut self) -> TempDir {
        self.door = None;
        self.gone();
        assert!(!self.admin.exists(), "the admin socket is removed");
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::mem::replace(&mut self.folder, folder)
    }

    fn gone(&self) {
        until("the keeper is gone", || (!lives(self.keeper)).then_some(()));
        let left = hatchery_protocol::mark::processes("HATCHERY_POOL", &self.id, false);
        assert!(left.is_empty(), "still there: {left:?}");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.door = None;
        if std::thread::panicking() {
            let _ = kill(Pid::from_raw(self.keeper), Signal::SIGTERM);
        } else {
            self.gone();
        }
    }
}

pub fn command_line(pid: i32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

fn lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with('Z'))
}

/// A line of a process's `status`, without its name, blanks made one.
pub fn status(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a living process");
    let line = status.lines().find_map(|line| line.strip_prefix(&format!("{name}:"))).expect("such a line");
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// An executable that is this test file again, as one of its ignored tests.
fn spawner(folder: &Path, test: &str) -> PathBuf {
    let path = folder.join("spawner");
    let own = std::env::current_exe().expect("this test");
    let exec =
        format!("TEST_TOLD={}/told exec {} --exact {test} --ignored --nocapture", folder.display(), own.display());
    let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod 755 \"$1\"";
    let status = Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(exec).status();
    assert!(status.expect("sh").success());
    path
}

#[test]
#[ignore = "is not a test but the spawner of the others, which their pools start"]
fn play_spawner() {
    let Some(told) = std::env::var_os("TEST_TOLD") else { return };
    // SAFETY: descriptor 3 was inherited as the link, and nothing else in this process owns it.
    let link = unsafe { OwnedFd::from_raw_fd(3) };
    let mut keeper = Channel::<FromSpawner, ToSpawner>::new(link);
    keeper.send_hello().expect("a keeper");
    keeper.receive_hello().expect("a keeper");
    while let Ok((message, _)) = keeper.receive() {
        if let ToSpawner::Begin { reserved, pool_user, .. } = message {
            let text = format!("{reserved:?} {pool_user:?}");
            // As a whole or not at all.
            let path = PathBuf::from(&told);
            fs::write(path.with_extension("part"), text).expect("the test's folder");
            fs::rename(path.with_extension("part"), path).expect("the test's folder");
        }
    }
    std::process::exit(0);
}
