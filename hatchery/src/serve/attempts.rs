//! How often one request is tried, where trying again does no harm.

use hatchery_pool_client::{Exit, GetError};
use std::time::Duration;

/// Further workers that one request may meet, after those that died with it; and further starts, where workers were
/// killed before they could serve.
const FURTHER: u32 = 2;
/// How often it may meet a worker again that failed it, and how long the pool has each time to hear of that one's
/// death. This is no further attempt.
const MEETINGS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(10);
const KILL: i32 = 9;

/// Those of one request that failed so far.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    /// The worker of the last.
    worker: Option<i32>,
    failed: u32,
    meetings: u32,
    starts: u32,
}

impl Attempts {
    /// When to try again after this worker failed; `None`: not any more.
    pub(crate) fn after_failure_of(&mut self, pid: i32) -> Option<Duration> {
        if self.worker.replace(pid) == Some(pid) {
            self.meetings += 1;
            return (self.meetings <= MEETINGS).then_some(PAUSE);
        }
        self.failed += 1;
        (self.failed <= FURTHER).then_some(Duration::ZERO)
    }

    /// Whether a start that failed says nothing about the next one: somebody killed the worker.
    pub(crate) fn may_start_another(&mut self, error: &GetError) -> bool {
        let killed = matches!(error, GetError::SpawnFailed(report) if report.exit == Some(Exit::Signal(KILL)));
        self.starts += u32::from(killed);
        killed && self.starts <= FURTHER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_pool_client::{SpawnReport, SpawnStep};

    #[test]
    fn two_more_workers_are_tried_and_one_that_is_met_again_is_no_other() {
        let mut attempts = Attempts::default();
        assert_eq!(attempts.after_failure_of(1), Some(Duration::ZERO));
        for _ in 0..MEETINGS {
            assert_eq!(attempts.after_failure_of(1), Some(PAUSE));
        }
        assert_eq!(attempts.after_failure_of(2), Some(Duration::ZERO));
        assert_eq!(attempts.after_failure_of(3), None);
        assert_eq!(Attempts { meetings: MEETINGS, worker: Some(1), ..Attempts::default() }.after_failure_of(1), None);
    }

    #[test]
    fn a_start_is_tried_again_only_if_the_worker_was_killed() {
        let failed = |exit| {
            GetError::SpawnFailed(Box::new(SpawnReport {
                root: "/srv/shop".into(),
                step: SpawnStep::Ready,
                problem: String::new(),
                remedy: String::new(),
                output: String::new(),
                exit,
                setup: None,
            }))
        };
        let mut attempts = Attempts::default();
        assert!(!attempts.may_start_another(&failed(Some(Exit::Status(1)))));
        assert!(!attempts.may_start_another(&failed(None)));
        for again in [true, true, false] {
            assert_eq!(attempts.may_start_another(&failed(Some(Exit::Signal(KILL)))), again);
        }
    }
}
