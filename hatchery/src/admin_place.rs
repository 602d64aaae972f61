//! Where the admin socket of a live pool is.

use crate::cli::AdminAt;
use std::fmt;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// No socket to talk to.
#[derive(Debug)]
pub(crate) enum NoAdmin {
    NoneRuns {
        looked_in: Vec<PathBuf>,
    },
    Silent {
        path: PathBuf,
        error: io::Error,
    },
    Several(Vec<PathBuf>),
    /// `--admin none`.
    Unnamed,
}

impl fmt::Display for NoAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |paths: &[PathBuf]| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ");
        match self {
            Self::NoneRuns { looked_in } => {
                write!(f, "no pool is running here (looked in {}); start one with `hatchery serve`", list(looked_in))
            }
            Self::Silent { path, error } => {
                let path = path.display();
                match error.kind() {
                    io::ErrorKind::NotFound => write!(f, "no pool is running at {path}: there is no such socket"),
                    io::ErrorKind::ConnectionRefused => write!(f, "no pool is running at {path}: nobody answers"),
                    _ => write!(f, "the pool at {path} can't be reached: {error}"),
                }
            }
            Self::Several(paths) => write!(f, "several pools are running; name one with --admin: {}", list(paths)),
            Self::Unnamed => f.write_str("--admin none names no pool; give its path"),
        }
    }
}

/// A connection to the pool that was named, or to the only one that runs.
///
/// # Errors
/// None runs, several do, or it can't be reached.
pub(crate) fn connect(at: Option<AdminAt>) -> Result<UnixStream, NoAdmin> {
    match at {
        Some(AdminAt::None) => Err(NoAdmin::Unnamed),
        Some(AdminAt::Path(path)) => {
            UnixStream::connect(&path).map_err(|error| NoAdmin::Silent { path: path.clone(), error })
        }
        None => only_one_of(folders()),
    }
}

fn only_one_of(folders: Vec<PathBuf>) -> Result<UnixStream, NoAdmin> {
    let mut found = Vec::new();
    let mut forbidden = None;
    for path in folders.iter().flat_map(|folder| sockets_in(folder)) {
        match UnixStream::connect(&path) {
            Ok(stream) => found.push((path, stream)),
            // What a killed pool left behind.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {}
            Err(error) => forbidden = Some(NoAdmin::Silent { path, error }),
        }
    }
    match (found.len(), forbidden) {
        (0, Some(forbidden)) => Err(forbidden),
        (0, None) => Err(NoAdmin::NoneRuns { looked_in: folders }),
        (1, _) => Ok(found.swap_remove(0).1),
        _ => Err(NoAdmin::Several(found.into_iter().map(|(path, _)| path).collect())),
    }
}

/// The folders a pool of this user may have put its socket into.
pub(crate) fn folders() -> Vec<PathBuf> {
    let uid = rustix::process::geteuid().as_raw();
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|folder| !folder.is_empty());
    let given = given.map(|folder| Path::new(&folder).join("hatchery"));
    let usual = if uid == 0 { PathBuf::from("/run/hatchery") } else { PathBuf::from(format!("/tmp/hatchery-{uid}")) };
    given.into_iter().chain([usual]).collect()
}

/// `admin.sock` and `admin-PID.sock`, in a folder that is ours: in somebody else's, anybody might answer.
fn sockets_in(folder: &Path) -> Vec<PathBuf> {
    let ours = std::fs::symlink_metadata(folder)
        .is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw());
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries
        .flatten()
        .filter(|_| ours)
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name == "admin.sock" || (name.starts_with("admin-") && name.ends_with(".sock"))
        })
        .map(|entry| entry.path())
        .collect();
    paths.sort();
    paths
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn stale_sockets_are_passed_over_and_several_live_ones_listed() {
        let folder = tempfile::tempdir().unwrap();
        let folders = || vec![folder.path().to_owned()];
        assert!(matches!(only_one_of(folders()), Err(NoAdmin::NoneRuns { .. })));
        drop(UnixListener::bind(folder.path().join("admin.sock")).unwrap());
        assert!(matches!(only_one_of(folders()), Err(NoAdmin::NoneRuns { .. })));
        let _one = UnixListener::bind(folder.path().join("admin-17.sock")).unwrap();
        let _other_file = UnixListener::bind(folder.path().join("another.sock")).unwrap();
        assert!(only_one_of(folders()).is_ok());
        let _two = UnixListener::bind(folder.path().join("admin-18.sock")).unwrap();
        let Err(NoAdmin::Several(paths)) = only_one_of(folders()) else { panic!("two are live") };
        assert_eq!(paths.len(), 2);
    }
}
