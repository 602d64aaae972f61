//! A keeper for tests: parent and subreaper, with a real spawner at the other end of the link.

use hatchery_protocol::channel::Channel;
use hatchery_protocol::client::SessionProtocol;
use hatchery_protocol::config::PoolConfig;
use hatchery_protocol::link::{
    AppNumber, FromSpawner, LaunchPlan, Limits, Listen, Place, Program, ReadyBy, StartAs, ToSpawner, WorkerNumber,
};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::report::{Setup, SpawnReport};
use hatchery_protocol::{memfd, packet};
use rustix::event::{PollFd, PollFlags, Timespec};
use std::ffi::OsString;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Generous, since nothing waits for it unless something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A user without rights.
const NOBODY: u32 = 65534;

static NEXT: AtomicU64 = AtomicU64::new(1);

pub(crate) fn next() -> u64 {
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) struct Keeper {
    link: Option<Channel<ToSpawner, FromSpawner>>,
    pub(crate) spawner: Child,
    pub(crate) pool: String,
    pub(crate) base: tempfile::TempDir,
    pub(crate) config: PoolConfig,
    pub(crate) reserved: Vec<u32>,
    pub(crate) pool_user: Option<u32>,
}

/// A worker that was started, as far as its keeper knows.
pub(crate) struct Worker {
    pub(crate) number: WorkerNumber,
    pub(crate) pid: i32,
    pub(crate) place: Option<Place>,
    pub(crate) cgroup: Option<PathBuf>,
    pub(crate) missed: Vec<String>,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    pub(crate) listener: UnixListener,
}

impl Keeper {
    /// With a spawner that was told `Begin`.
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    pub(crate) fn start_with(env: &[(&str, &str)]) -> Self {
        let mut keeper = Self::start_silent(env, Stdio::inherit());
        keeper.begin();
        keeper
    }

    /// With a spawner that was told `Begin` with this configuration.
    pub(crate) fn start_configured(config: PoolConfig) -> Self {
        let mut keeper = Self::start_silent(&[], Stdio::inherit());
        keeper.config = config;
        keeper.begin();
        keeper
    }

    pub(crate) fn begin(&mut self) {
        self.begin_in(self.pool.clone(), self.runtime().as_os_str().as_bytes().to_vec());
    }

    pub(crate) fn begin_in(&mut self, pool: String, folder: Vec<u8>) {
        let config = memfd::write(&self.config).unwrap();
        let begin = ToSpawner::Begin { pool, folder, reserved: self.reserved.clone(), pool_user: self.pool_user };
        self.link().send_with(&begin, &[config.as_fd()]).unwrap();
    }

    /// With a spawner that was greeted, and told nothing.
    pub(crate) fn start_silent(env: &[(&str, &str)], stderr: Stdio) -> Self {
        let (ours, theirs) = packet::pair().unwrap();
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        Self::with(ours, start_at_3(theirs, env, stderr))
    }

    /// With a spawner that runs as a user without rights; `None` if this one may not make such a process.
    pub(crate) fn start_as_nobody() -> Option<Self> {
        if !is_root("a process of another user") {
            return None;
        }
        let (ours, theirs) = packet::pair().unwrap();
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let spawner = command_at_3(theirs).uid(NOBODY).gid(NOBODY).spawn().unwrap();
        let mut keeper = Self::with(ours, spawner);
        keeper.begin();
        Some(keeper)
    }

    /// With a spawner that is root and may not look into other users' processes, as in many containers.
    pub(crate) fn start_without_ptrace() -> Option<Self> {
        if !is_root("a process with some of root's capabilities") {
            return None;
        }
        let (ours, theirs) = packet::pair().unwrap();
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_ptrace", "--inh-caps", "-sys_ptrace", "sh"]);
        let spawner = match at_3(command, theirs).spawn() {
            Ok(spawner) => spawner,
            Err(error) => {
                skip(&format!("a spawner without CAP_SYS_PTRACE: setpriv can't be executed: {error}"));
                return None;
            }
        };
        let mut keeper = Self::with(ours, spawner);
        keeper.begin();
        Some(keeper)
    }

    /// With a spawner on whose file systems two files can't change places at once.
    pub(crate) fn start_without_exchange() -> Self {
        let (ours, theirs) = packet::pair().unwrap();
        nix::sys::prctl::set_child_subreaper(true).unwrap();
        let mut command = command_at_3(theirs);
        // SAFETY: it makes system calls only, and allocates nothing.
        unsafe { command.pre_exec(refuse_exchanges) };
        let mut keeper = Self::with(ours, command.spawn().unwrap());
        keeper.begin();
        keeper
    }

    /// Has the spawner read another configuration.
    pub(crate) fn configure(&mut self, config: PoolConfig) {
        let memfd = memfd::write(&config).unwrap();
        self.link().send_with(&ToSpawner::Configure, &[memfd.as_fd()]).unwrap();
        self.config = config;
    }

    fn with(ours: OwnedFd, spawner: Child) -> Self {
        let mut link: Channel<ToSpawner, FromSpawner> = Channel::new(ours);
        link.send_hello().unwrap();
        link.receive_hello().unwrap();
        let base = tempfile::tempdir().unwrap();
        // Workers of other users come by here.
        std::fs::set_permissions(base.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let pool = format!("test{}x{}", std::process::id(), next());
        std::fs::create_dir(base.path().join("runtime")).unwrap();
        // As in a pool without privileges, so that tests say their wishes in one way.
        let config = PoolConfig { trust_clients: true, ..PoolConfig::default() };
        Self { link: Some(link), spawner, pool, base, config, reserved: Vec::new(), pool_user: None }
    }

    pub(crate) fn runtime(&self) -> PathBuf {
        self.base.path().join("runtime")
    }

    /// A folder with these files. Another process writes them: a file that this one had open for writing while
    /// another thread forked could not be executed for a moment (ETXTBSY).
    pub(crate) fn app(&self, files: &[(&str, &str)]) -> PathBuf {
        let folder = self.base.path().join(format!("app{}", next()));
        std::fs::create_dir(&folder).unwrap();
        for (name, text) in files {
            let mut write = std::process::Command::new("sh");
            write.args(["-c", "printf %s \"$2\" >\"$1\"", "sh"]).arg(folder.join(name)).arg(text);
            assert!(write.status().unwrap().success());
        }
        folder
    }

    pub(crate) fn link(&self) -> &Channel<ToSpawner, FromSpawner> {
        self.link.as_ref().unwrap()
    }

    pub(crate) fn send(&mut self, message: &ToSpawner) {
        self.link().send(message).unwrap();
    }

    pub(crate) fn receive(&mut self) -> (FromSpawner, Vec<OwnedFd>) {
        assert!(readable(self.link(), PATIENCE), "the spawner says nothing");
        self.link.as_mut().unwrap().receive().unwrap()
    }

    /// Whether the spawner has ended the link.
    pub(crate) fn is_closed(&mut self) -> bool {
        assert!(readable(self.link(), PATIENCE), "the spawner says nothing");
        self.link.as_mut().unwrap().receive().is_err()
    }

    pub(crate) fn inspect(&mut self, root: &Path, options: AppOptions) -> Result<LaunchPlan, SpawnReport> {
        let app = AppNumber(next());
        let root = root.as_os_str().as_bytes().to_vec();
        self.send(&ToSpawner::Inspect { app, generation: 1, root, options: Box::new(options) });
        match self.receive().0 {
            FromSpawner::Inspected { app: other, plan, .. } if app == other => Ok(*plan),
            FromSpawner::InspectFailed { app: other, report, .. } if app == other => Err(*report),
            other => panic!("{other:?}"),
        }
    }

    /// Asks for a worker, and leaves the answer unread.
    pub(crate) fn ask(&mut self, plan: &LaunchPlan, notify: Option<&[u8]>) -> Worker {
        self.ask_as(plan, notify, WorkerNumber(next()))
    }

    pub(crate) fn ask_as(&mut self, plan: &LaunchPlan, notify: Option<&[u8]>, number: WorkerNumber) -> Worker {
        self.ask_for(plan, StartAs::Worker, notify, number)
    }

    /// Asks for a process of this kind, and leaves the answer unread.
    pub(crate) fn ask_for(
        &mut self,
        plan: &LaunchPlan,
        start_as: StartAs,
        notify: Option<&[u8]>,
        number: WorkerNumber,
    ) -> Worker {
        let (stdout, stdout_theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (stderr, stderr_theirs) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let listener = UnixListener::bind(self.base.path().join(format!("s{}", next()))).unwrap();
        let listens = matches!(plan.listen, Listen::Fd | Listen::Stdin) && start_as != StartAs::Preloader;
        let message = ToSpawner::Spawn {
            worker: number,
            mark: hatchery_protocol::mark::worker(&self.pool, 1, number.0),
            plan: Box::new(plan.clone()),
            start_as,
            notify: notify.map(<[u8]>::to_vec),
            listener: listens,
        };
        let mut descriptors = vec![stdout_theirs.as_fd(), stderr_theirs.as_fd()];
        descriptors.extend(listens.then(|| listener.as_fd()));
        // As the core's are.
        listener.set_nonblocking(true).unwrap();
        self.link().send_with(&message, &descriptors).unwrap();
        Worker { number, pid: 0, place: None, cgroup: None, missed: Vec::new(), stdout, stderr, listener }
    }

    pub(crate) fn spawn(&mut self, plan: &LaunchPlan) -> Worker {
        self.spawn_as(plan, WorkerNumber(next()))
    }

    pub(crate) fn spawn_as(&mut self, plan: &LaunchPlan, number: WorkerNumber) -> Worker {
        let worker = self.ask_as(plan, None, number);
        self.started(worker)
    }

    /// A worker that was asked for, once it is started.
    pub(crate) fn started(&mut self, mut worker: Worker) -> Worker {
        match self.receive().0 {
            FromSpawner::Started { worker: number, pid, place, cgroup, missed } if number == worker.number => {
                worker.pid = pid;
                worker.place = place;
                worker.cgroup = cgroup.map(|path| PathBuf::from(OsString::from_vec(path)));
                worker.missed = missed;
                worker
            }
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn spawn_fails(&mut self, plan: &LaunchPlan) -> SpawnReport {
        let worker = self.ask(plan, None);
        match self.receive().0 {
            FromSpawner::SpawnFailed { worker: number, report, .. } if number == worker.number => *report,
            other => panic!("{other:?}"),
        }
    }

    /// Runs `script` as a worker until it ends, and answers with what it wrote.
    pub(crate) fn output_of(&mut self, script: &str) -> String {
        let plan = self.plan(&["sh", "-c", script]);
        let worker = self.spawn(&plan);
        let output = read_all(&worker.stdout);
        reap(worker.pid);
        output
    }

    /// A plan for this command, in the folder of all that is this keeper's.
    pub(crate) fn plan(&self, command: &[&str]) -> LaunchPlan {
        LaunchPlan {
            documents: None,
            setup: Setup::default(),
            root: b"/apps/test".to_vec(),
            directory: self.base.path().canonicalize().unwrap().as_os_str().as_bytes().to_vec(),
            program: Program::Command(command.iter().map(|word| word.as_bytes().to_vec()).collect()),
            listen: Listen::Fd,
            ready: ReadyBy::Probe,
            protocol: SessionProtocol::Http,
            concurrency: 1,
            environment: "production".into(),
            env: Vec::new(),
            start_timeout: PATIENCE,
            identity: None,
            limits: Limits::default(),
            dump_signal: 0,
            seen: None,
        }
    }

    /// Closes the link, as a keeper's death does, and waits for the spawner to go.
    pub(crate) fn close(&mut self) -> ExitStatus {
        self.link = None;
        wait(&mut self.spawner)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.link = None;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && matches!(self.spawner.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(2));
        }
        let _ = self.spawner.kill();
        let _ = self.spawner.wait();
    }
}

/// The real executable with `link` at descriptor 3, as this process's own child.
pub(crate) fn start_at_3(link: OwnedFd, env: &[(&str, &str)], stderr: Stdio) -> Child {
    command_at_3(link).envs(env.iter().copied()).stderr(stderr).spawn().unwrap()
}

fn command_at_3(link: OwnedFd) -> Command {
    at_3(Command::new("sh"), link)
}

/// `command` is, or executes, a shell.
fn at_3(mut command: Command, link: OwnedFd) -> Command {
    command.args(["-c", "exec \"$0\" 3<&0 0</dev/null", env!("CARGO_BIN_EXE_spawner")]).stdin(link);
    command
}

/// From here on, `renameat2` with RENAME_EXCHANGE answers EINVAL, as it does on file systems that have none.
fn refuse_exchanges() -> std::io::Result<()> {
    const NUMBER: u32 = 0;
    const FLAGS: u32 = 16 + 4 * 8 + if cfg!(target_endian = "big") { 4 } else { 0 };
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |code: u32, k: u32, jt: u8, jf: u8| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut program = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NUMBER),
        jump(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_renameat2 as u32, 0, 2),
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, FLAGS),
        jump(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, libc::RENAME_EXCHANGE, 1, 0),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EINVAL as u32),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel copies the program, which lives until then.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

/// Gives a folder and what is in it to a user.
pub(crate) fn give(path: &Path, user: u32) {
    std::os::unix::fs::lchown(path, Some(user), None).unwrap();
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            give(&entry.unwrap().path(), user);
        }
    }
}

pub(crate) fn user(name: &str) -> nix::unistd::User {
    nix::unistd::User::from_name(name).unwrap().unwrap_or_else(|| panic!("this machine has no user {name}"))
}

/// Whether this process may do what only root can; if not, says loudly what is skipped, and fails where all must
/// run.
pub(crate) fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(&format!("{what}: only root can"));
    }
    root
}

pub(crate) fn skip(why: &str) {
    assert!(std::env::var_os("HATCHERY_CI").is_none(), "CI demands what can't be tested here: {why}");
    eprintln!("SKIPPED {why}");
}

pub(crate) fn wait(child: &mut Child) -> ExitStatus {
    wait_for("the process to end", || child.try_wait().unwrap())
}

/// Polls what has no event to wait for.
pub(crate) fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

pub(crate) fn readable(fd: impl AsFd, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).unwrap();
    rustix::event::poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)).unwrap() == 1
}

/// All that comes through a pipe until its last writer closes it.
pub(crate) fn read_all(pipe: &OwnedFd) -> String {
    let mut file = std::fs::File::from(pipe.try_clone().unwrap());
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        assert!(readable(pipe, PATIENCE), "no end after {:?}", String::from_utf8_lossy(&bytes));
        match file.read(&mut buffer).unwrap() {
            0 => return String::from_utf8(bytes).unwrap(),
            len => bytes.extend_from_slice(&buffer[..len]),
        }
    }
}

/// The first line, without its end.
pub(crate) fn read_line(pipe: &OwnedFd) -> String {
    let mut file = std::fs::File::from(pipe.try_clone().unwrap());
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        assert!(readable(pipe, PATIENCE), "no line after {:?}", String::from_utf8_lossy(&line));
        match file.read(&mut byte).unwrap() {
            0 => panic!("the end after {:?}", String::from_utf8_lossy(&line)),
            _ if byte == *b"\n" => return String::from_utf8(line).unwrap(),
            _ => line.push(byte[0]),
        }
    }
}

/// Takes in a child: a worker is this process's own.
pub(crate) fn reap(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    wait_for("a child to end", || {
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::NOHANG).expect("it is no child of ours")
    });
}

pub(crate) fn kill(pid: i32) {
    let _ = rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL);
}

/// Whether a process runs: one that ended and waits to be reaped does not.
pub(crate) fn runs(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    !after_name.trim_start().starts_with(['Z', 'X'])
}

/// A field of `/proc/PID/status`.
pub(crate) fn status(pid: i32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).unwrap();
    line.trim().to_owned()
}
