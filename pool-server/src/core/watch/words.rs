//! What the core and the thread that watches folders say to each other.

use super::ignore::Ignored;
use hatchery_pool::AppId;
use std::path::PathBuf;

/// What the core wants.
#[derive(Debug)]
pub(super) enum Order {
    /// Watch an app's folders from now on, as they lie there now.
    Follow {
        app: AppId,
        root: PathBuf,
        /// What is not watched below the root; `None`: nothing below it is, but for `tmp/restart.txt`.
        files: Option<Box<Ignored>>,
        /// What is seen later is told with this number.
        round: u64,
    },
    Leave {
        app: AppId,
    },
}

/// What was seen of an app.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Seen {
    pub(super) app: AppId,
    pub(super) round: u64,
    pub(super) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// As many folders are watched from now on, as they were wanted.
    Watched(usize),
    /// Something is not watched: one sentence.
    Missed(Reason, String),
    /// Files below its root are not what they were.
    Files,
    /// Its root is another folder than before.
    Replaced,
    /// Something that only a look at it can tell more about.
    Stirred,
}

/// What is said of an app once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reason {
    /// The system's limits.
    NoWatches,
    NoInstances,
    TooManyFolders,
    Unreadable,
    Other,
    /// A pattern of what is ignored is none.
    Pattern,
    /// Not even a look tells anything.
    Unseen,
}
