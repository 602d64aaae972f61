//! Applications made for one test. As root they belong to `nobody`, so that this is whom their workers run as.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Debian's and most others' `nobody`.
pub const NOBODY: u32 = 65534;

/// A folder with a `hatchery.toml`; gone with the test.
pub struct App {
    folder: TempDir,
}

/// Lets everybody in.
pub fn open_to_all(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).expect("a test's own folder");
}

/// As root, gives a path to this user.
pub fn give(path: &Path, uid: u32) {
    if nix::unistd::geteuid().is_root() {
        chown(path, Some(uid), Some(uid)).expect("root gives away what it likes");
    }
}

/// Whether every user gets there.
pub fn is_open_to_all(path: &Path) -> bool {
    let enterable = |folder: &Path| folder.metadata().is_ok_and(|folder| folder.mode() & 0o001 != 0);
    path.ancestors().skip(1).all(enterable)
}

/// This test, for workers to be: where `nobody` can't get at it, a copy.
fn own_executable() -> &'static Path {
    static OWN: OnceLock<PathBuf> = OnceLock::new();
    OWN.get_or_init(|| {
        let exe = std::env::current_exe().expect("this test");
        if !nix::unistd::geteuid().is_root() || is_open_to_all(&exe) {
            return exe;
        }
        let folder = tempfile::Builder::new().prefix("test-").tempdir().expect("a temporary folder").keep();
        open_to_all(&folder);
        let copy = folder.join("test");
        // By another process: see `App::executable`.
        assert!(std::process::Command::new("cp").arg(&exe).arg(&copy).status().expect("cp").success());
        copy
    })
}

impl App {
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.root().join(name);
        std::fs::write(&path, content).expect("a test's own file");
        give(&path, NOBODY);
        path
    }

    /// As root, gives all of it to another user.
    pub fn give_to(&self, uid: u32) {
        give(self.root(), uid);
        for entry in std::fs::read_dir(self.root()).expect("a test's own folder").flatten() {
            give(&entry.path(), uid);
        }
    }

    /// The same, executable. Another process writes it: a file that this one had open for writing while another
    /// thread forked could not be executed for a moment (ETXTBSY).
    pub fn executable(&self, name: &str, content: &str) -> PathBuf {
        let path = self.root().join(name);
        let write = "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"";
        let status = std::process::Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(content).status();
        assert!(status.expect("sh").success());
        give(&path, NOBODY);
        path
    }
}

/// An application with this manifest.
pub fn with_manifest(manifest: &str) -> App {
    let folder = tempfile::Builder::new().prefix("app-").tempdir().expect("a temporary folder");
    open_to_all(folder.path());
    give(folder.path(), NOBODY);
    let app = App { folder };
    app.write("hatchery.toml", manifest);
    app
}

/// An application whose worker is [`super::worker`], with further lines of its manifest (top level, then `[env]`).
pub fn worker_with(lines: &str, env: &[(&str, &str)]) -> App {
    let exe = own_executable().to_str().expect("a path of text");
    let mut manifest = format!(
        "command = [{exe:?}, \"--exact\", \"support::worker::worker\", \"--ignored\", \"--nocapture\"]\n{lines}\n[env]\nTEST_WORKER = \"1\"\n"
    );
    for (name, value) in env {
        manifest += &format!("{name} = {value:?}\n");
    }
    with_manifest(&manifest)
}

/// The same, as it is by default: one session at a time.
pub fn worker() -> App {
    worker_with("", &[])
}

/// An application that runs this shell script.
pub fn script(script: &str) -> App {
    let app = with_manifest("command = [\"sh\", \"start.sh\"]\n");
    app.write("start.sh", script);
    app
}
