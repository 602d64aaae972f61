//! Web servers with a pool inside, as processes: `hatchery serve`, and what is served like it.

use super::http::{Answer, Browser};
use super::{HATCHERY, processes, until_blocking};
use nix::sys::signal::Signal;
use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use tempfile::TempDir;

/// A running server. Killed when this is dropped.
pub struct Front {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Its first line.
    pub first: String,
    /// Runtime folder, log, and what a test puts there.
    folder: TempDir,
}

/// A folder for the runtime files of one server.
pub fn folder() -> TempDir {
    let folder = tempfile::Builder::new().prefix("front-").tempdir().expect("a temporary folder");
    // As root, core and workers run as others.
    super::apps::open_to_all(folder.path());
    folder
}

/// `hatchery` with these arguments, in a surrounding of its own: nothing of this machine's pools is seen.
pub fn hatchery(folder: &Path, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(HATCHERY);
    command.args(arguments).current_dir(folder).env("XDG_RUNTIME_DIR", folder).stdin(Stdio::null());
    for name in ["HATCHERY_ADMIN", "HATCHERY_LOG", "HATCHERY_LISTEN", "HATCHERY_PORT"] {
        command.env_remove(name);
    }
    command
}

impl Front {
    /// `hatchery serve` without an app.
    pub fn demo() -> Self {
        Self::serve([""; 0])
    }

    /// `hatchery serve` at a free port of this machine.
    pub fn serve(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let folder = folder();
        let mut command = hatchery(folder.path(), ["serve", "-p", "0"]);
        command.args(arguments);
        Self::start(command, folder)
    }

    /// The same with one app.
    pub fn of(root: &Path, arguments: &[&str]) -> Self {
        Self::serve([root.as_os_str()].into_iter().chain(arguments.iter().map(OsStr::new)))
    }

    /// Whatever says where it serves in its first line.
    pub fn start(mut command: Command, folder: TempDir) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).expect("a log");
        let mut child = command.stdout(Stdio::piped()).stderr(log).spawn().expect("a server");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut front = Self { child, output, first: String::new(), folder };
        front.first = front.line();
        front
    }

    /// The next line of its output.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        assert!(!line.is_empty(), "it ended without a further line");
        line.trim_end().to_owned()
    }

    pub fn address(&self) -> &str {
        let (_, rest) = self.first.split_once("http://").expect("a URL in the first line");
        rest.split([' ', '\n']).next().expect("a word")
    }

    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub fn browser(&self) -> Browser {
        Browser::to(self.address())
    }

    /// One request over a connection of its own.
    pub fn get(&self, path: &str) -> Answer {
        self.browser().get(path)
    }

    /// The pool's random id.
    pub fn pool(&self) -> String {
        until_blocking("there is a pool", || self.runtime_folders().into_iter().next())
    }

    fn runtime_folders(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.folder.path().join("hatchery")) else { return Vec::new() };
        let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_prefix("hatchery-").map(str::to_owned)).collect()
    }

    pub fn admin(&self) -> PathBuf {
        self.folder.path().join("hatchery/admin.sock")
    }

    /// A verb of the command, said to this pool.
    pub fn say(&self, arguments: &[&str]) -> Output {
        // This one, whatever other pools the machine has.
        hatchery(self.folder.path(), arguments).env("HATCHERY_ADMIN", self.admin()).output().expect("hatchery")
    }

    pub fn status(&self) -> serde_json::Value {
        let output = self.say(&["status", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// Waits until a figure of the status is this.
    pub fn until(&self, figure: &str, wanted: u64) {
        until_blocking(figure, || (self.status()[figure] == wanted).then_some(()));
    }

    /// The keeper; the parent of all workers.
    pub fn keeper(&self) -> i32 {
        let pool = self.pool();
        until_blocking("there is a keeper", || {
            let found = processes::marked("HATCHERY_POOL", &pool).into_iter();
            found.into_iter().find(|pid| processes::command_line(*pid).trim_end().ends_with("keeper"))
        })
    }

    pub fn signal(&self, signal: Signal) {
        processes::kill(self.pid(), signal);
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        until_blocking("it has ended", || self.child.try_wait().expect("a child"))
    }

    /// Tells it to end, and waits until nothing of it is left.
    pub fn end(mut self) -> ExitStatus {
        let pool = self.pool();
        self.signal(Signal::SIGTERM);
        let status = self.ended();
        self.nothing_is_left(&pool);
        status
    }

    pub fn nothing_is_left(&self, pool: &str) {
        until_blocking("no process is left", || processes::of_pool(pool).is_empty().then_some(()));
        until_blocking("no folder is left", || self.runtime_folders().is_empty().then_some(()));
        assert!(!self.admin().exists(), "the admin socket is removed");
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}---", self.first, self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An example of a kind of application serves, says who it is, and ends in peace.
pub fn greets(app: &super::folders::Folder, greeting: &str) {
    let front = Front::of(app.root(), &["--max", "1"]);
    let mut browser = front.browser();
    for path in ["/", "/a?b=c"] {
        let answer = browser.get(path).ok();
        assert!(answer.starts_with(&format!("Hello from {greeting}, process ")), "{answer}");
        assert!(answer.trim_end().ends_with(&format!(", at {path}")), "{answer}");
    }
    assert_eq!(browser.head("/").status, 200);
    assert_eq!(front.status()["count"], 1);
    assert!(!front.log().contains("Traceback"), "{}", front.log());
    assert!(front.end().success());
}

/// A server of another user's.
pub fn as_user(mut command: Command, uid: u32) -> Command {
    command.uid(uid).gid(uid).env_remove("XDG_RUNTIME_DIR");
    command
}

/// Runs to its end; its status, and what it said on standard error.
pub fn run(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().expect("hatchery");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}
