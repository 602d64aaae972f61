//! Why a version can't be staged.

use std::io;
use std::path::{Path, PathBuf};

/// Each names the path that it is about, and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unstaged {
    #[error("{} has no folder beside which a version of it could lie, so it can't be deployed", .root.display())]
    NoPlace { root: PathBuf },
    #[error(
        "{root} is a symbolic link: deploy it by putting a link to the new version in its place \
         (ln -s VERSION {root}.new && mv -T {root}.new {root}); the pool follows it at once",
        root = .root.display()
    )]
    Link { root: PathBuf },
    #[error("{} is neither a folder nor a file", .root.display())]
    OddRoot { root: PathBuf },
    #[error("{} is not a folder, as the application {} is; name the folder of the new version", .version.display(), .root.display())]
    NotAFolder { version: PathBuf, root: PathBuf },
    #[error("{} is not a file, as the application {} is; name the new executable", .version.display(), .root.display())]
    NotAFile { version: PathBuf, root: PathBuf },
    #[error("{} is the application itself; name a copy with its changes", .version.display())]
    Same { version: PathBuf },
    #[error("{} contains the application {}; name a folder that is a version of it", .version.display(), .root.display())]
    Contains { version: PathBuf, root: PathBuf },
    #[error("{} is there already: another version waits for its turn; remove it, or wait until it was taken", .update.display())]
    Waiting { update: PathBuf },
    #[error("{} is in use: another deploy of this application is under way; wait for its end", .staging.display())]
    UnderWay { staging: PathBuf },
    #[error("{} is not this user's, so nothing is copied there; remove it, or deploy as its owner", .staging.display())]
    Foreign { staging: PathBuf },
    #[error("{} is neither file, folder nor link, and can't be part of a version; remove it", .path.display())]
    Odd { path: PathBuf },
    #[error("{} can't be {done}: {error}", .path.display())]
    Io { done: Done, path: PathBuf, error: io::Error },
}

/// What could not be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Read,
    Written,
    Copied,
    GivenAway,
    Renamed,
    Removed,
    Saved,
}

impl std::fmt::Display for Done {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Written => "written to",
            Self::Copied => "copied",
            Self::GivenAway => "given to the application's owner",
            Self::Renamed => "renamed",
            Self::Removed => "removed",
            Self::Saved => "saved to its disk",
        })
    }
}

impl Done {
    /// For `map_err`.
    pub(crate) fn not<E: Into<io::Error>>(self, path: &Path) -> impl FnOnce(E) -> Unstaged {
        move |error| Unstaged::Io { done: self, path: path.to_owned(), error: error.into() }
    }
}
