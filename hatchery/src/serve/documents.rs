//! Which file of an application answers an address, where the application is a folder of scripts (PHP).
//!
//! All of this looks at disks, and belongs where waiting for one holds nobody up.

use hatchery_pool_client::Documents;
use rustix::fs::{CWD, FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The one name with a dot that is meant for everybody.
const WELL_KNOWN: &[u8] = b".well-known";
const SCRIPT: &[u8] = b".php";
const INDEX: &[u8] = b"index.php";

/// What answers.
#[derive(Debug)]
pub(crate) enum Found {
    Script(Script),
    File(Plain),
    /// The folder of this address, whose script wants to be asked with a slash at the end; not behind a prefix.
    Folder(String),
    /// A file that the web server may not read.
    Unreadable,
    Nothing,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// As the worker finds it.
    pub(crate) file: Vec<u8>,
    /// The part of the address that names it.
    pub(crate) name: Vec<u8>,
    /// The rest of the address.
    pub(crate) path_info: Vec<u8>,
}

/// A file that is sent as it is.
#[derive(Debug)]
pub(crate) struct Plain {
    pub(crate) file: File,
    pub(crate) name: PathBuf,
}

/// What can't be an address of a file: above the root, or hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoAddress;

/// An address below a folder, decoded and without `.`, `..` and empty names.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    names: Vec<&'a [u8]>,
    /// It ends in a slash.
    folder: bool,
}

impl<'a> Address<'a> {
    fn of(path: &'a [u8]) -> Result<Self, NoAddress> {
        if path.contains(&0) {
            return Err(NoAddress);
        }
        let mut names = Vec::new();
        let mut folder = false;
        for name in path.split(|byte| *byte == b'/') {
            folder = matches!(name, b"" | b"." | b"..");
            match name {
                b"" | b"." => {}
                b".." => drop(names.pop().ok_or(NoAddress)?),
                name => names.push(name),
            }
        }
        let hidden = |(at, name): (usize, &&[u8])| name.starts_with(b".") && (at > 0 || **name != *WELL_KNOWN);
        if names.iter().enumerate().any(hidden) {
            return Err(NoAddress);
        }
        Ok(Self { names, folder: folder && !path.is_empty() })
    }

    /// The first names, with a slash before each.
    fn up_to(&self, end: usize) -> Vec<u8> {
        self.names[..end].iter().flat_map(|name| [&b"/"[..], name]).flatten().copied().collect()
    }

    /// The others, with a slash at the end if the address has one.
    fn from(&self, begin: usize) -> Vec<u8> {
        let mut rest: Vec<u8> =
            self.names[begin..].iter().flat_map(|name| [&b"/"[..], name]).flatten().copied().collect();
        rest.extend(self.folder.then_some(b'/'));
        rest
    }

    /// `names[..=at]` name a script.
    fn script(&self, documents: &Documents, at: usize) -> Script {
        let name = self.up_to(at + 1);
        Script { file: below(documents, &name), name, path_info: self.from(at + 1) }
    }

    /// The script for all that is no file.
    fn front_controller(&self, documents: &Documents) -> Script {
        let mut name = b"/".to_vec();
        name.extend_from_slice(documents.index.as_deref().unwrap_or_default());
        Script { file: below(documents, &name), name, path_info: self.from(0) }
    }

    /// What the names alone tell.
    fn guess(&self, documents: &Documents) -> Script {
        match self.names.iter().position(|name| name.ends_with(SCRIPT)) {
            Some(at) => self.script(documents, at),
            None => self.front_controller(documents),
        }
    }
}

fn below(documents: &Documents, name: &[u8]) -> Vec<u8> {
    let mut file = documents.root.clone();
    while file.ends_with(b"/") {
        file.pop();
    }
    file.extend_from_slice(name);
    file
}

/// The file of an address, seen from the worker, where nothing is looked at.
///
/// # Errors
/// [`NoAddress`]
pub(crate) fn unseen(documents: &Documents, path: &[u8]) -> Result<Vec<u8>, NoAddress> {
    Ok(below(documents, &Address::of(path)?.from(0)))
}

/// What answers `path`: an address without the route's prefix, decoded.
pub(crate) fn find(documents: &Documents, path: &[u8]) -> Found {
    let Ok(address) = Address::of(path) else { return Found::Nothing };
    match look(documents, &address) {
        Ok(found) => found,
        // The names alone can't make php-cgi execute what is no script: it is told not to search for one.
        Err(Unseen) => Found::Script(address.guess(documents)),
    }
}

/// This process may not look.
struct Unseen;

fn look(documents: &Documents, address: &Address<'_>) -> Result<Found, Unseen> {
    let root = Root::open(Path::new(OsStr::from_bytes(&documents.root)))?;
    for (at, name) in address.names.iter().enumerate() {
        if name.ends_with(SCRIPT) && root.look(&address.up_to(at + 1))?.is_some_and(|seen| seen.is_file()) {
            return Ok(Found::Script(address.script(documents, at)));
        }
    }
    let whole = address.from(0);
    match root.look(&whole)? {
        Some(seen) if seen.is_file() && !address.folder && !is_program(&whole) => Ok(seen.open(&whole)),
        Some(seen) if seen.is_folder() => {
            let mut name = whole.clone();
            if !name.ends_with(b"/") {
                name.push(b'/');
            }
            let folder = name.clone();
            name.extend_from_slice(INDEX);
            if !root.look(&name)?.is_some_and(|seen| seen.is_file()) {
                return Ok(Found::Script(address.front_controller(documents)));
            }
            if address.folder {
                Ok(Found::Script(Script { file: below(documents, &name), name, path_info: Vec::new() }))
            } else {
                Ok(Found::Folder(encoded(&folder)))
            }
        }
        _ => Ok(Found::Script(address.front_controller(documents))),
    }
}

/// What no web server shows the text of.
fn is_program(path: &[u8]) -> bool {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_ascii_lowercase();
    let kind = name.rsplit(|byte| *byte == b'.').next().unwrap_or_default();
    kind.starts_with(b"php") || matches!(kind, b"phtml" | b"pht" | b"phar")
}

/// The folder of the files.
struct Root {
    folder: OwnedFd,
    /// Where it really is.
    place: PathBuf,
}

/// Something below the root. It is held, so it stays what it is.
struct Seen {
    handle: OwnedFd,
    stat: Stat,
}

impl Root {
    fn open(path: &Path) -> Result<Self, Unseen> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(CWD, path, flags, Mode::empty()).map_err(|_| Unseen)?;
        let place = place(&folder).ok_or(Unseen)?;
        Ok(Self { folder, place })
    }

    /// `None`: there is nothing, or a link that leads out of the root.
    fn look(&self, path: &[u8]) -> Result<Option<Seen>, Unseen> {
        let relative = path.strip_prefix(b"/").unwrap_or(path);
        let relative = if relative.is_empty() { &b"."[..] } else { relative };
        let handle = match openat(&self.folder, relative, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) {
            Ok(handle) => handle,
            Err(Errno::ACCESS | Errno::MFILE | Errno::NFILE | Errno::NOMEM) => return Err(Unseen),
            Err(_) => return Ok(None),
        };
        let inside = place(&handle).ok_or(Unseen)?.starts_with(&self.place);
        let stat = fstat(&handle).map_err(|_| Unseen)?;
        Ok(inside.then_some(Seen { handle, stat }))
    }
}

impl Seen {
    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    fn is_file(&self) -> bool {
        self.kind() == FileType::RegularFile
    }

    fn is_folder(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// This very file, to be read.
    fn open(&self, path: &[u8]) -> Found {
        match File::open(own(&self.handle)) {
            Ok(file) => Found::File(Plain { file, name: PathBuf::from(OsStr::from_bytes(path)) }),
            Err(_) => Found::Unreadable,
        }
    }
}

fn own(handle: &impl AsFd) -> String {
    format!("/proc/self/fd/{}", handle.as_fd().as_raw_fd())
}

/// Where a file is, with all links followed.
fn place(handle: &impl AsFd) -> Option<PathBuf> {
    let place = rustix::fs::readlink(own(handle), Vec::new()).ok()?;
    Some(PathBuf::from(std::ffi::OsString::from_vec(place.into_bytes())))
}

/// For a `Location`.
fn encoded(path: &[u8]) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(*byte))
            }
            byte => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    struct Folder(tempfile::TempDir, Documents);

    fn folder(files: &[&str]) -> Folder {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("public");
        for file in files {
            let path = root.join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        let documents = Documents { root: root.into_os_string().into_vec(), index: Some(b"index.php".to_vec()) };
        Folder(folder, documents)
    }

    impl Folder {
        /// Kind, what is named, and the rest.
        fn find(&self, path: &str) -> String {
            match find(&self.1, path.as_bytes()) {
                Found::Script(script) => {
                    assert_eq!(script.file, below(&self.1, &script.name));
                    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                    format!("{} + {}", text(&script.name), text(&script.path_info))
                }
                Found::File(plain) => format!("file {}", plain.name.display()),
                Found::Folder(place) => format!("see {place}"),
                Found::Unreadable => "unreadable".into(),
                Found::Nothing => "nothing".into(),
            }
        }
    }

    #[test]
    fn scripts_files_folders_and_all_the_rest() {
        let folder = folder(&["index.php", "admin/index.php", "a b/index.php", "css/style.css", "tool.php", "A.PHP"]);
        for (path, found) in [
            ("/", "/index.php + "),
            ("", "see /"),
            ("/index.php", "/index.php + "),
            ("/index.php/", "/index.php + /"),
            ("/index.php/foo/bar", "/index.php + /foo/bar"),
            ("/foo/bar/", "/index.php + /foo/bar/"),
            ("/tool.php/x", "/tool.php + /x"),
            ("/gone.php/x", "/index.php + /gone.php/x"),
            ("/admin", "see /admin/"),
            ("/a b", "see /a%20b/"),
            ("/admin/", "/admin/index.php + "),
            ("//admin//", "/admin/index.php + "),
            ("/admin/.", "/admin/index.php + "),
            ("/css/", "/index.php + /css/"),
            ("/css/style.css", "file /css/style.css"),
            ("/css/../css/./style.css", "file /css/style.css"),
            ("/css/style.css/", "/index.php + /css/style.css/"),
            ("/css/style.css/x.php", "/index.php + /css/style.css/x.php"),
            ("/A.PHP", "/index.php + /A.PHP"),
        ] {
            assert_eq!(folder.find(path), found, "{path}");
        }
    }

    #[test]
    fn nothing_is_found_above_the_root_or_behind_a_dot() {
        let folder = folder(&["index.php", ".env", ".git/config", ".well-known/token", "a/.well-known/b"]);
        for path in
            ["/..", "/../x", "/a/../../x", "/.env", "/.git/config", "/a/.well-known/b", "/x/.y/z.php", "/a\0.php"]
        {
            assert_eq!(folder.find(path), "nothing", "{path:?}");
        }
        assert_eq!(folder.find("/.well-known/token"), "file /.well-known/token");
    }

    #[test]
    fn a_link_out_of_the_root_is_none() {
        let folder = folder(&["index.php", "inside.txt"]);
        let root = folder.0.path().join("public");
        for (name, content) in [("secret.txt", "s"), ("secret.php", "<?php")] {
            std::fs::write(folder.0.path().join(name), content).unwrap();
            symlink(folder.0.path().join(name), root.join(name)).unwrap();
        }
        symlink(root.join("inside.txt"), root.join("linked.txt")).unwrap();
        assert_eq!(folder.find("/secret.txt"), "/index.php + /secret.txt");
        assert_eq!(folder.find("/secret.php"), "/index.php + /secret.php");
        assert_eq!(folder.find("/linked.txt"), "file /linked.txt");
    }

    #[test]
    fn a_program_that_answers_all_gets_the_address_as_a_file() {
        let documents = Documents { root: b"/srv/app/".to_vec(), index: None };
        assert_eq!(unseen(&documents, b"/a/../b/c.cgi").unwrap(), b"/srv/app/b/c.cgi");
        assert_eq!(unseen(&documents, b"/../etc/passwd"), Err(NoAddress));
    }

    #[test]
    fn where_nothing_can_be_seen_the_names_tell() {
        let Folder(_there, mut documents) = folder(&[]);
        documents.root = b"/nowhere/at/all".to_vec();
        let folder = Folder(tempfile::tempdir().unwrap(), documents);
        assert_eq!(folder.find("/style.css"), "/index.php + /style.css");
        assert_eq!(folder.find("/a/b.php/c"), "/a/b.php + /c");
        assert_eq!(folder.find("/.env"), "nothing");
        assert_eq!(folder.find("/../etc/passwd"), "nothing");
    }
}
