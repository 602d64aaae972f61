//! Starts an interpreter with a loader the way the spawner does, and plays the spawner's side of what they say.

use hatchery_protocol::packet;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use crate::output::{Text, pipe};

/// How long anything may take before a test fails. Generous: other tests may keep every core busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The first interpreter of `candidates` (paths, or names on the `PATH`) that is there; if none is, says loudly
/// that a test is skipped, and fails where all must run. The environment variable `choice` names another one.
pub(crate) fn interpreter(choice: &str, candidates: &[&str], test: &str) -> Option<PathBuf> {
    if let Some(chosen) = std::env::var_os(choice) {
        return Some(chosen.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = candidates.iter().flat_map(|name| {
        let folders: Vec<PathBuf> = std::env::split_paths(&path).map(|folder| folder.join(name)).collect();
        if name.contains('/') { vec![PathBuf::from(name)] } else { folders }
    });
    let found = found.find(|program| program.is_file());
    if found.is_none() {
        let name = candidates.join(" or ");
        assert!(std::env::var_os("HATCHERY_CI").is_none(), "{name} is missing, and CI demands {test}");
        eprintln!("SKIPPED {test}: {name} is not installed");
    }
    found
}

/// The source files of a loader as one text, as the spawner embeds them. Paths are relative to `spawner/loaders`.
pub(crate) fn text(files: &[&str]) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("loaders");
    files.iter().flat_map(|file| std::fs::read(folder.join(file)).unwrap()).collect()
}

/// A folder with an app inside, removed with this value.
pub(crate) struct App {
    folder: tempfile::TempDir,
}

impl App {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        play_keeper();
        let app = Self { folder: tempfile::Builder::new().prefix("loader-app").tempdir().unwrap() };
        for (name, content) in files {
            app.write(name, content);
        }
        app
    }

    pub(crate) fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

/// What is to be started, and with what.
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    /// All after the program, without `--preload`.
    pub(crate) arguments: Vec<String>,
    /// The loader's text, for descriptor 4.
    pub(crate) text: Vec<u8>,
    /// Beside `PATH`, `HOME`, `LANG` and what every worker gets.
    pub(crate) environment: Vec<(String, String)>,
    pub(crate) root: PathBuf,
}

impl Launch {
    /// A worker that is started by itself.
    pub(crate) fn direct(self) -> Worker {
        let socket = Socket::new();
        let (process, channel) = self.start(Some(&socket.listener));
        Worker { process, channel, socket: socket.given_away() }
    }

    /// A preloader, which has not said yet that it is ready.
    pub(crate) fn preload(mut self) -> Preloader {
        self.arguments.push("--preload".into());
        let (process, channel) = self.start(None);
        Preloader { process, channel }
    }

    fn start(self, listener: Option<&UnixListener>) -> (Process, Channel) {
        play_keeper();
        let (ours, theirs) = packet::pair().unwrap();
        let text = memfd(&self.text);
        let ((output_end, output), (error_end, error)) = (pipe(), pipe());

        let mut command = Command::new("/bin/sh");
        // Only the process itself knows its number before it is the program.
        let listens = if listener.is_some() { "export LISTEN_FDS=1 LISTEN_PID=$$; " } else { "" };
        command.arg("-c").arg(format!("{listens}exec \"$@\"")).arg("sh").arg(&self.program).args(&self.arguments);
        command.env_clear().current_dir(&self.root);
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", &self.root);
        command.env("LANG", "C.UTF-8").env("HATCHERY_ROOT", &self.root).env("HATCHERY_ENV", "production");
        command.env("HATCHERY_WORKER", "test.0.0").envs(self.environment);
        command.stdin(Stdio::null()).stdout(output_end).stderr(error_end);
        let placed = [listener.map(AsRawFd::as_raw_fd), Some(text.as_raw_fd()), Some(theirs.as_raw_fd())];
        // SAFETY: `place` makes only system calls.
        unsafe { command.pre_exec(move || place(placed)) };
        let child = command.spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        // Reaped by number like a worker that a preloader forked: this value knows nothing that the number doesn't.
        drop(child);
        (Process { pid, output, error, ended: None }, Channel(ours))
    }
}

/// A worker that was started by itself or forked from a preloader.
pub(crate) struct Worker {
    pub(crate) process: Process,
    /// Control, or of a forked worker announce.
    pub(crate) channel: Channel,
    pub(crate) socket: Place,
}

impl Worker {
    /// A connection; the loader need not be ready for it.
    pub(crate) fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.socket.path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }
}

pub(crate) struct Preloader {
    pub(crate) process: Process,
    pub(crate) channel: Channel,
}

impl Preloader {
    /// Waits until it has imported the app.
    pub(crate) fn ready(&self) {
        assert_eq!(self.channel.receive(), Some(vec!["ready".into()]), "{}", self.process.error.so_far());
    }

    /// Orders a worker, and lets it go on once it has said who it is.
    pub(crate) fn fork(&self, mark: &str) -> Worker {
        let worker = self.order(mark);
        worker.channel.send(&["go"], &[]);
        worker
    }

    /// Orders a worker, which waits for `go`.
    pub(crate) fn order(&self, mark: &str) -> Worker {
        let (announce, socket, output, error) = self.send_order(mark);
        let (words, pid) = announce.receive_with_pid();
        assert_eq!(words, Some(vec!["here".into()]), "{}", self.process.error.so_far());
        let process = Process { pid: pid.expect("credentials"), output, error, ended: None };
        Worker { process, channel: announce, socket }
    }

    /// Orders a worker that does not come to be: where the reason is told.
    pub(crate) fn order_in_vain(&self, mark: &str) -> Channel {
        self.send_order(mark).0
    }

    fn send_order(&self, mark: &str) -> (Channel, Place, Text, Text) {
        let socket = Socket::new();
        let (announce, theirs) = packet::pair().unwrap();
        rustix::net::sockopt::set_socket_passcred(&announce, true).unwrap();
        let ((output_end, output), (error_end, error)) = (pipe(), pipe());
        let given = [socket.listener.as_fd(), output_end.as_fd(), error_end.as_fd(), theirs.as_fd()];
        self.channel.send(&["fork", mark], &given);
        (Channel(announce), socket.given_away(), output, error)
    }
}

/// A process that this one is or becomes the parent of; ended with this value.
pub(crate) struct Process {
    pub(crate) pid: Pid,
    pub(crate) output: Text,
    pub(crate) error: Text,
    ended: Option<WaitStatus>,
}

impl Process {
    pub(crate) fn signal(&self, signal: Signal) {
        assert_eq!(self.ended, None, "{} has ended", self.pid);
        kill(self.pid, signal).unwrap();
    }

    /// Waits for its end: the exit status, or the signal that ended it as a negative number.
    pub(crate) fn wait(&mut self) -> i32 {
        let status = self.ended.unwrap_or_else(|| {
            let pid = rustix::process::Pid::from_raw(self.pid.as_raw()).unwrap();
            let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
            assert!(wait_for(pidfd.as_fd(), PATIENCE), "{} does not end; it said: {}", self.pid, self.error.so_far());
            waitpid(self.pid, None).unwrap()
        });
        self.ended = Some(status);
        match status {
            WaitStatus::Exited(_, code) => code,
            WaitStatus::Signaled(_, signal, _) => -(signal as i32),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            self.ended = match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)).unwrap() {
                WaitStatus::StillAlive => None,
                ended => Some(ended),
            };
        }
        self.ended.is_none()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // What it started itself is in its group if it leads one. Both fail only for what is gone already.
            let _ = killpg(self.pid, Signal::SIGKILL);
            let _ = kill(self.pid, Signal::SIGKILL);
            let _ = waitpid(self.pid, None);
        }
    }
}

/// A socket that a worker is to listen on.
struct Socket {
    listener: UnixListener,
    place: Place,
}

/// Where a worker's socket is.
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    _folder: tempfile::TempDir,
}

impl Socket {
    fn new() -> Self {
        play_keeper();
        let folder = tempfile::Builder::new().prefix("loader").tempdir().unwrap();
        let path = folder.path().join("socket");
        Self { listener: UnixListener::bind(&path).unwrap(), place: Place { path, _folder: folder } }
    }

    /// Only the worker has the listener from now on: with it, the socket goes.
    fn given_away(self) -> Place {
        self.place
    }
}

/// The spawner's end of control, or of an announcement.
pub(crate) struct Channel(OwnedFd);

impl Channel {
    pub(crate) fn send(&self, words: &[&str], descriptors: &[BorrowedFd<'_>]) {
        self.try_send(words, descriptors).unwrap();
    }

    /// The same to a process that may have gone.
    pub(crate) fn try_send(&self, words: &[&str], descriptors: &[BorrowedFd<'_>]) -> rustix::io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(descriptors.is_empty() || control.push(SendAncillaryMessage::ScmRights(descriptors)));
        let text = words.join("\0");
        let bytes = [IoSlice::new(text.as_bytes())];
        rustix::net::sendmsg(&self.0, &bytes, &mut control, SendFlags::NOSIGNAL).map(|_| ())
    }

    /// The next packet's words; nothing at the end of the channel.
    pub(crate) fn receive(&self) -> Option<Vec<String>> {
        self.receive_with_pid().0
    }

    /// The next packet as `failed` with its code, problem and remedy.
    pub(crate) fn failure(&self) -> Failure {
        let words = self.receive().expect("it says why it failed");
        let [kind, code, problem, remedy] = words.try_into().expect("four fields");
        assert_eq!(kind, "failed");
        Failure { code, problem, remedy }
    }

    fn receive_with_pid(&self) -> (Option<Vec<String>>, Option<Pid>) {
        assert!(wait_for(self.0.as_fd(), PATIENCE), "waited {PATIENCE:?} in vain for a packet");
        let mut buffer = vec![0; 32 * 1024];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let received =
            rustix::net::recvmsg(&self.0, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC);
        let received = match received {
            // It went with something unread, an order for example.
            Err(rustix::io::Errno::CONNRESET) => return (None, None),
            other => other.unwrap(),
        };
        let pid = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(who) => Some(Pid::from_raw(who.pid.as_raw_nonzero().get())),
            _ => None,
        });
        if received.bytes == 0 {
            return (None, None);
        }
        let words = String::from_utf8(buffer[..received.bytes].to_vec()).expect("UTF-8");
        (Some(words.split('\0').map(String::from).collect()), pid)
    }
}

/// Why an app can't be started, as a loader tells it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) problem: String,
    pub(crate) remedy: String,
}

/// Whether something can be read there within `patience`.
pub(crate) fn wait_for(fd: BorrowedFd<'_>, patience: Duration) -> bool {
    let timeout = Timespec::try_from(patience).unwrap();
    poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout)).unwrap() > 0
}

fn memfd(bytes: &[u8]) -> File {
    let flags = rustix::fs::MemfdFlags::CLOEXEC;
    let mut file = File::from(rustix::fs::memfd_create("loader", flags).unwrap());
    file.write_all(bytes).unwrap();
    rustix::fs::seek(&file, rustix::fs::SeekFrom::Start(0)).unwrap();
    file
}

/// Before this process opens anything: makes it the parent of what preloaders fork, and keeps 3, 4 and 5 taken, so that nothing that has
/// to be placed there, nor the pipe by which `spawn` is told of an error, is there already.
fn play_keeper() {
    static TAKEN: OnceLock<Vec<File>> = OnceLock::new();
    TAKEN.get_or_init(|| {
        rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
        let mut taken = Vec::new();
        while taken.last().is_none_or(|file: &File| file.as_raw_fd() <= 5) {
            taken.push(File::open("/dev/null").unwrap());
        }
        taken
    });
}

/// Between fork and exec: the descriptors are put where the contract says, and nothing else is left.
fn place(descriptors: [Option<RawFd>; 3]) -> std::io::Result<()> {
    for (at, from) in (3..).zip(descriptors) {
        let result = match from {
            // SAFETY: plain system calls; the numbers are this process's own, and all above 5.
            Some(from) => unsafe { libc::dup2(from, at) },
            // SAFETY: what is there is `play_keeper`'s; this process is not the one that has to keep it.
            None => unsafe { libc::close(at) },
        };
        if result < 0 {
            return Err(std::io::Error::last_os_error());
        }
    }
    // SAFETY: closes nothing now: `spawn` still needs its pipe.
    if unsafe { libc::close_range(6, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    for signal in 1..32 {
        // SAFETY: plain system call; the spawner does so too, whatever whoever started it ignores. KILL and STOP refuse.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    // SAFETY: plain system call; a group of its own is what a worker has.
    if unsafe { libc::setsid() } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(())
}
