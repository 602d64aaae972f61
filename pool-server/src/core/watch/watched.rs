//! One running app, and what was seen of it.

use super::quiet::{Burst, Looks, Staging};
use super::words::Reason;
use hatchery_pool::Time;
use hatchery_protocol::link::Sight;
use hatchery_protocol::options::AppOptions;
use std::collections::HashSet;
use std::time::Duration;

/// The quiet period where nobody says another, by whether the app is being developed.
const QUIET: Duration = Duration::from_secs(10);
const QUIET_IN_DEVELOPMENT: Duration = Duration::from_secs(1);
/// The environment in which changed files restart an app though nobody says so.
const DEVELOPMENT: &str = "development";
pub(super) struct Watched {
    pub(super) root: Vec<u8>,
    pub(super) settings: Settings,
    /// The first is what later ones are held against.
    pub(super) sight: Option<Sight>,
    /// The look that is open began before an exchange.
    pub(super) stale: bool,
    pub(super) looks: Looks,
    pub(super) burst: Burst,
    pub(super) staging: Staging,
    /// Its files are being exchanged.
    pub(super) swapping: bool,
    /// A version is tried, or about to be: another is not taken.
    pub(super) updating: bool,
    /// Its folder is another one, and it is not known yet whether because a link leads elsewhere.
    pub(super) replaced: bool,
    /// The one that began last.
    pub(super) round: u64,
    /// Folders that are watched.
    pub(super) folders: Option<usize>,
    pub(super) said: HashSet<Reason>,
}

/// Why an app is to be restarted at once.
#[derive(Debug)]
pub(super) enum Why {
    /// Its root leads there now.
    Target(String),
    RestartTxt,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Target(target) => write!(f, "its link leads to {target} now"),
            Self::RestartTxt => f.write_str("tmp/restart.txt was touched"),
        }
    }
}

/// What is wanted of an app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) files: bool,
    pub(super) quiet: Duration,
    pub(super) ignore: Vec<String>,
    pub(super) staged: bool,
}

impl Settings {
    pub(super) fn of(options: &AppOptions) -> Self {
        let development = options.environment.as_deref() == Some(DEVELOPMENT);
        Self {
            files: options.watch.unwrap_or(development),
            quiet: options.quiet_period.unwrap_or(if development { QUIET_IN_DEVELOPMENT } else { QUIET }),
            ignore: options.watch_ignore.clone().unwrap_or_default(),
            staged: options.staged_update.unwrap_or(false),
        }
    }
}

impl Watched {
    pub(super) fn new(root: Vec<u8>, settings: Settings, now: Time) -> Self {
        Self {
            root,
            settings,
            sight: None,
            stale: false,
            looks: Looks::new(now),
            burst: Burst::default(),
            staging: Staging::default(),
            swapping: false,
            updating: false,
            replaced: false,
            round: 0,
            folders: None,
            said: HashSet::new(),
        }
    }

    /// Whether this was not said of it yet.
    pub(super) fn is_new(&mut self, reason: Reason) -> bool {
        self.said.insert(reason)
    }

    /// Why the app is to be restarted now.
    pub(super) fn compare(&mut self, sight: Sight, now: Time) -> Option<Why> {
        let replaced = std::mem::take(&mut self.replaced);
        // Removed and made again it is as old as it says.
        let restart_txt = sight.restart_txt.or(self.sight.as_ref().and_then(|before| before.restart_txt));
        let before = self.sight.replace(Sight { restart_txt, ..sight })?;
        let sight = self.sight.as_ref()?;
        if before.target != sight.target {
            return Some(Why::Target(String::from_utf8_lossy(&sight.target).into_owned()));
        }
        if before.restart_txt != sight.restart_txt {
            return Some(Why::RestartTxt);
        }
        if replaced && self.settings.files {
            self.burst.changed(now, self.settings.quiet);
        }
        None
    }
}
