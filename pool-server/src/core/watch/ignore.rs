//! What below an app's root is not watched: patterns in the manner of `.gitignore`.

use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::path::Path;

/// Version control, dependencies, caches, logs and temporary files: nothing that is written by hand, and what a
/// running app writes by itself. An app that restarted for these would restart for ever.
const DEFAULTS: &[&str] = &[
    ".git",
    ".hg",
    ".svn",
    "node_modules",
    "__pycache__",
    "*.py[co]",
    ".venv",
    "venv",
    "vendor/bundle",
    "/tmp",
    "/log",
    "/logs",
    "target",
    "coverage",
    ".cache",
    ".pytest_cache",
    ".mypy_cache",
    ".ruff_cache",
    "*.log",
    "*.pid",
    "*.sock",
    "*.sw[a-z]",
    "*~",
    "*.tmp",
    "4913",
    ".#*",
    "\\#*#",
    ".DS_Store",
    "*.sqlite",
    "*.sqlite3",
    "*.db",
    "*-journal",
    "*-wal",
    "*-shm",
    // Of the pool's own, while it exchanges versions.
    "/.hatchery-*",
    "/.complete",
];

/// The patterns of one app.
#[derive(Clone, Debug)]
pub(super) struct Ignored(Gitignore);

impl Ignored {
    /// The defaults, and what the operator says, which wins: `!log` has `log` watched all the same. With a sentence
    /// for each pattern that is none.
    pub(super) fn new(patterns: &[String]) -> (Self, Vec<String>) {
        // All paths are relative to the app's root.
        let mut builder = GitignoreBuilder::new("");
        let mut wrong = Vec::new();
        for pattern in DEFAULTS.iter().copied().chain(patterns.iter().map(String::as_str)) {
            if let Err(error) = builder.add_line(None, pattern) {
                wrong.push(format!("watch_ignore: {pattern:?} is no pattern as in .gitignore: {error}"));
            }
        }
        match builder.build() {
            Ok(built) => (Self(built), wrong),
            Err(error) => {
                wrong.push(format!("watch_ignore: the patterns are too much together: {error}"));
                (Self(Gitignore::empty()), wrong)
            }
        }
    }

    /// Whether a path below the root, or a folder it lies in, is ignored.
    pub(super) fn has(&self, relative: &Path, is_folder: bool) -> bool {
        self.0.matched_path_or_any_parents(relative, is_folder).is_ignore()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(patterns: &[&str]) -> Ignored {
        let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
        let (ignored, wrong) = Ignored::new(&patterns);
        assert_eq!(wrong, Vec::<String>::new());
        ignored
    }

    #[test]
    fn what_is_not_written_by_hand_is_ignored_by_default() {
        let ignored = ignored(&[]);
        for path in [
            ".git/index",
            "lib/__pycache__/shop.cpython-313.pyc",
            "node_modules/express/index.js",
            "frontend/node_modules/a/b.js",
            "vendor/bundle/ruby/gem.rb",
            "tmp/cache",
            "log/development.log",
            "logs/x",
            "errors.log",
            "lib/.server.py.swp",
            "server.py~",
            "lib/4913",
            ".#server.py",
            "#server.py#",
            "data/shop.sqlite3",
            "data/shop.sqlite3-wal",
            "app.pid",
            ".hatchery-deploy",
            ".hatchery-deploy.new",
        ] {
            assert!(ignored.has(Path::new(path), false), "{path}");
        }
        for path in [
            "server.py",
            "lib/shop.py",
            "dist/app.js",
            "lib/log/writer.py",
            "config/logs.toml",
            "vendor/gem.rb",
            "tmpl/a",
        ] {
            assert!(!ignored.has(Path::new(path), false), "{path}");
        }
    }

    #[test]
    fn the_operators_patterns_work_as_in_gitignore_and_win() {
        let ignored =
            ignored(&["data/", "/secret.txt", "*.css", "!important.css", "# no pattern", "!tmp", "docs/**/*.md"]);
        for path in ["data/x", "a/data/x", "secret.txt", "a/b.css", "docs/a/b.md"] {
            assert!(ignored.has(Path::new(path), false), "{path}");
        }
        for path in ["data", "a/secret.txt", "important.css", "tmp/x", "docs/a/b.txt"] {
            assert!(!ignored.has(Path::new(path), false), "{path}");
        }
        assert!(ignored.has(Path::new("data"), true));
    }

    #[test]
    fn what_is_no_pattern_is_named_and_the_others_hold() {
        let (ignored, wrong) = Ignored::new(&["a{b".into(), "*.css".into()]);
        assert!(matches!(wrong.as_slice(), [sentence] if sentence.contains("\"a{b\"")), "{wrong:?}");
        assert!(ignored.has(Path::new("x.css"), false));
    }
}
