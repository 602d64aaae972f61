//! How many files this process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For what is no connection: listeners, channels, logs.
const OWN: u64 = 64;
/// Of one client: its connection, and its session's, perhaps with a parked one for the next.
const PER_CLIENT: u64 = 3;
/// Where there is no limit.
const MANY: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct OpenFiles {
    given: Rlimit,
    raised: Rlimit,
}

impl OpenFiles {
    /// Raises the soft limit as far as the hard one permits.
    pub(crate) fn raise() -> Self {
        let given = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: given.maximum, ..given };
        let raised = if setrlimit(Resource::Nofile, raised).is_ok() { raised } else { given };
        Self { given, raised }
    }

    /// Clients that may be connected at once.
    pub(crate) fn connections(&self) -> usize {
        let files = self.raised.current.unwrap_or(MANY).min(MANY);
        usize::try_from(files.saturating_sub(OWN) / PER_CLIENT).unwrap_or(usize::MAX).max(1)
    }

    /// Does `work` under the limit this process was given, which a child inherits.
    pub(crate) fn as_given<T>(&self, work: impl FnOnce() -> T) -> T {
        let _ = setrlimit(Resource::Nofile, self.given);
        let done = work();
        let _ = setrlimit(Resource::Nofile, self.raised);
        done
    }
}
