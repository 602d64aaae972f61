//! Virtual environments of Python: where tools put them.

use super::Surroundings;
use super::files::{self, Files};
use crate::folder::FolderError;
use sha2::{Digest, Sha256};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The variable that tells of an environment.
pub(super) const VARIABLE: &str = "VIRTUAL_ENV";
/// In every environment.
const CONFIG: &str = "pyvenv.cfg";
const FOLDERS: [&str; 3] = [".venv", "venv", "env"];
/// Where Pipenv keeps them, below the home.
const PIPENV: &str = ".local/share/virtualenvs";
/// Where Poetry does.
const POETRY: &str = ".cache/pypoetry/virtualenvs";
/// The most environments of one tool that are looked at.
const MOST: usize = 2000;

/// A virtual environment of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Venv {
    pub(super) path: PathBuf,
    /// How it was found, completing "the virtual environment …".
    pub(super) why: &'static str,
}

/// The name of the one in the app's folder.
pub(super) fn of_folder(files: &Files) -> Option<&'static str> {
    FOLDERS.into_iter().find(|name| files.has(Path::new(name).join(CONFIG)))
}

/// That of the app, if it has one.
pub(super) fn find(files: &Files, around: &Surroundings) -> Result<Option<Venv>, FolderError> {
    if let Some(path) = &around.virtual_env {
        return Ok(Some(Venv { path: files.path(path), why: "that VIRTUAL_ENV names" }));
    }
    if let Some(name) = of_folder(files) {
        return Ok(Some(Venv { path: files.path(name), why: "in its folder" }));
    }
    if let Some(path) = named_by_file(files, around)? {
        return Ok(Some(Venv { path, why: "that the file .venv names" }));
    }
    if files.has("Pipfile")
        && let Some(path) = of_pipenv(files, around)
    {
        return Ok(Some(Venv { path, why: "of Pipenv" }));
    }
    Ok(of_poetry(files, around)?.map(|path| Venv { path, why: "of Poetry" }))
}

fn is_one(path: &Path) -> bool {
    path.join(CONFIG).is_file()
}

/// `.venv` as a file has the path of one, or the name of one of Pipenv's.
fn named_by_file(files: &Files, around: &Surroundings) -> Result<Option<PathBuf>, FolderError> {
    let Some(file) = files.read(".venv")? else { return Ok(None) };
    let text = file.text.trim();
    if text.is_empty() || text.contains('\0') {
        return Ok(None);
    }
    let path = if text.contains('/') { files.path(text) } else { around.home.join(PIPENV).join(text) };
    Ok(Some(path).filter(|path| is_one(path)))
}

/// Each of them says in `.project` which folder it belongs to.
fn of_pipenv(files: &Files, around: &Surroundings) -> Option<PathBuf> {
    folders(&around.home.join(PIPENV)).into_iter().find(|path| {
        // What can't be read is of another app.
        let Ok(Some(project)) = files::read(&path.join(".project")) else { return false };
        let project = Path::new(project.text.trim());
        let is_ours = project == files.root() || project.canonicalize().is_ok_and(|path| path == files.root());
        is_ours && is_one(path)
    })
}

/// Each of them has the project's name and a digest of its path in its own name.
fn of_poetry(files: &Files, around: &Surroundings) -> Result<Option<PathBuf>, FolderError> {
    let project = files.read("pyproject.toml")?.map(|file| file.text).unwrap_or_default();
    let is_poetrys = files.has("poetry.lock") || project.contains("[tool.poetry");
    let Some(name) = poetry_name(&project).filter(|_| is_poetrys) else { return Ok(None) };
    let prefix = format!("{name}-{}-py", digest(files.root()));
    let mut found: Vec<_> = folders(&around.home.join(POETRY))
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(prefix.as_bytes())))
        .filter(|path| is_one(path))
        .collect();
    // Of several versions of Python the newest.
    found.sort_by_key(|path| version(path, prefix.len()));
    Ok(found.pop())
}

/// The numbers at the end of its name.
fn version(path: &Path, from: usize) -> Vec<u32> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbers = name.get(from..).unwrap_or_default().split('.');
    numbers.filter_map(|number| number.parse().ok()).collect()
}

/// The project's name, as Poetry has it in the names of folders.
fn poetry_name(project: &str) -> Option<String> {
    const LONGEST: usize = 42;
    let table: toml::Table = project.parse().ok()?;
    let name = |table: Option<&toml::Value>| Some(table?.get("name")?.as_str()?.to_lowercase());
    let poetry = table.get("tool").and_then(|tool| tool.get("poetry"));
    let name = name(table.get("project")).or_else(|| name(poetry))?;
    let plain = |c: char| if " $`!*@\"\\\r\n\t/\0".contains(c) { '_' } else { c };
    Some(name.chars().take(LONGEST).map(plain).collect())
}

/// The first eight characters of the SHA-256 of the path in URL-safe base64: six bytes, six bits a character.
pub(super) fn digest(path: &Path) -> String {
    const CHARACTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let digest = Sha256::digest(path.as_os_str().as_bytes());
    let bits = digest.iter().take(6).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    (0..8).rev().map(|place| char::from(CHARACTERS[(bits >> (6 * place)) as usize % 64])).collect()
}

fn folders(of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = of.read_dir() else { return Vec::new() };
    let mut folders: Vec<_> = entries.flatten().take(MOST).map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

/// The environment that this program is in.
pub(super) fn around(program: &Path) -> Option<PathBuf> {
    let folder = program.parent()?;
    let venv = folder.parent().filter(|_| folder.file_name() == Some(OsStr::new("bin")))?;
    is_one(venv).then(|| venv.to_path_buf())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_digest_that_poetry_gives_it() {
        // python3 -c 'import base64, hashlib as h; print(base64.urlsafe_b64encode(h.sha256(b"/srv/shop").digest())[:8])'
        assert_eq!(digest(Path::new("/srv/shop")), "58fqC6Q1");
        assert_eq!(digest(Path::new("/")), "il7asoJj");
    }

    #[test]
    fn a_project_has_the_name_that_poetry_gives_it() {
        assert_eq!(poetry_name("[tool.poetry]\nname = \"My Shop\"").as_deref(), Some("my_shop"));
        assert_eq!(poetry_name("[project]\nname = \"a\"\n[tool.poetry]\nname = \"b\"").as_deref(), Some("a"));
        assert_eq!(poetry_name(&format!("[project]\nname = \"{}\"", "x".repeat(60))).unwrap().len(), 42);
        assert_eq!(poetry_name("[tool.poetry"), None);
    }
}
