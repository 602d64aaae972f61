//! Applications made for one test.

use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A folder with a `hatchery.toml`; gone with the test.
pub struct App {
    folder: TempDir,
}

impl App {
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.root().join(name);
        std::fs::write(&path, content).expect("a test's own file");
        path
    }

    /// The same, executable. Another process writes it: a file that this one had open for writing while another
    /// thread forked could not be executed for a moment (ETXTBSY).
    pub fn executable(&self, name: &str, content: &str) -> PathBuf {
        let path = self.root().join(name);
        let write = "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"";
        let status = std::process::Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(content).status();
        assert!(status.expect("sh").success());
        path
    }
}

/// An application with this manifest.
pub fn with_manifest(manifest: &str) -> App {
    let folder = tempfile::Builder::new().prefix("app-").tempdir().expect("a temporary folder");
    let app = App { folder };
    app.write("hatchery.toml", manifest);
    app
}

/// An application whose worker is [`super::worker`], with further lines of its manifest (top level, then `[env]`).
pub fn worker_with(lines: &str, env: &[(&str, &str)]) -> App {
    let exe = std::env::current_exe().expect("this test");
    let exe = exe.to_str().expect("a path of text");
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
