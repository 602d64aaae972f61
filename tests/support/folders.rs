//! Whole folders of applications that lie beside the tests, copied so that each test has its own.

use super::apps::{NOBODY, give, open_to_all};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// An application's folder; gone with the test. As root it belongs to `nobody`.
pub struct Folder {
    folder: TempDir,
    /// Where test and app leave a word for each other: in the app's own folder it would be taken for new code.
    words: TempDir,
}

/// A copy of `tests/NAME`.
pub fn copy(name: &str) -> Folder {
    copy_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(name))
}

/// A copy of any folder.
pub fn copy_of(source: &Path) -> Folder {
    let app = empty();
    copy_into(source, app.root());
    app
}

/// A folder with nothing in it.
pub fn empty() -> Folder {
    let [folder, words] = ["app-", "words-"].map(|prefix| {
        let folder = tempfile::Builder::new().prefix(prefix).tempdir().expect("a temporary folder");
        open_to_all(folder.path());
        give(folder.path(), NOBODY);
        folder
    });
    Folder { folder, words }
}

fn copy_into(source: &Path, target: &Path) {
    let entries = std::fs::read_dir(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
    for entry in entries {
        let from = entry.expect("an entry").path();
        let to = target.join(from.file_name().expect("a name"));
        if from.is_dir() {
            std::fs::create_dir(&to).expect("a folder");
            open_to_all(&to);
            copy_into(&from, &to);
        } else {
            copy_file(&from, &to);
        }
        give(&to, NOBODY);
    }
}

/// By another process: a program that this one had open for writing while another thread forked could not be executed
/// for a moment (ETXTBSY).
fn copy_file(from: &Path, to: &Path) {
    assert!(std::process::Command::new("cp").arg(from).arg(to).status().expect("cp").success(), "{}", from.display());
}

impl Folder {
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file, and makes the folders on the way to it.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.root().join(name);
        for folder in path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect::<Vec<_>>().iter().rev() {
            std::fs::create_dir(folder).expect("a folder");
            open_to_all(folder);
            give(folder, NOBODY);
        }
        std::fs::write(&path, content).expect("a test's own file");
        give(&path, NOBODY);
        path
    }

    /// The same, executable.
    pub fn program(&self, name: &str, content: &str) -> PathBuf {
        let path = self.root().join(name);
        let write = "printf %s \"$2\" >\"$1\" && chmod 755 \"$1\"";
        let status = std::process::Command::new("sh").args(["-c", write, "sh"]).arg(&path).arg(content).status();
        assert!(status.expect("sh").success());
        give(&path, NOBODY);
        path
    }

    /// The path of a word, which is said once the file is there.
    pub fn word(&self, name: &str) -> PathBuf {
        self.words.path().join(name)
    }

    /// Says a word to the app.
    pub fn say(&self, name: &str) {
        std::fs::write(self.word(name), "").expect("a test's own file");
    }
}
