//! What has been counted of an app since it became known. Counters only grow.

use crate::effect::{EndReason, Refusal, StopReason};
use std::collections::BTreeMap;
use std::time::Duration;

/// Upper ends of the buckets of every histogram; one more bucket is for all beyond.
pub const BOUNDS: [Duration; 17] = [
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Sessions granted.
    pub sessions: u64,
    pub sessions_ended: BTreeMap<SessionEnd, u64>,
    pub refused: BTreeMap<RefusalKind, u64>,
    /// Questions that were taken back before they were answered.
    pub cancelled: u64,
    /// Processes ordered: workers and preloaders.
    pub spawns: u64,
    pub spawn_failures: u64,
    /// Worker processes that are gone, by what they were told to leave for; `None`: nothing.
    pub exits: BTreeMap<Option<StopReason>, u64>,
    /// Restarts after which no older worker takes sessions.
    pub restarts_done: u64,
    pub restarts_failed: u64,
    pub breaker_opened: u64,
    /// From a question to its session.
    pub wait: Histogram,
    /// From the beginning of a session to its end.
    pub session: Histogram,
    /// From the order to a worker that is ready.
    pub spawn: Histogram,
}

/// Times that were observed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many were in each bucket alone.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    pub(crate) fn observe(&mut self, time: Duration) {
        self.counts[bucket(time)] += 1;
        self.sum += time;
    }

    /// As if it had not been observed.
    pub(crate) fn take_back(&mut self, time: Duration) {
        self.counts[bucket(time)] -= 1;
        self.sum -= time;
    }

    /// How many were in each bucket alone, in the order of [`BOUNDS`], and beyond.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    #[must_use]
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The first whose upper end is not below it.
fn bucket(time: Duration) -> usize {
    BOUNDS.partition_point(|&bound| bound < time)
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SessionEnd {
    /// Its client was done.
    Done,
    /// Its client gave it up, or is gone.
    Abandoned,
    WorkerGone,
    DrainTimedOut,
    RequestTimedOut,
    Restarted,
    Operator,
    PoolEnding,
}

impl SessionEnd {
    /// `None`: what ended was no open session.
    pub(crate) fn of(why: EndReason) -> Option<Self> {
        match why {
            EndReason::WorkerGone(_) => Some(Self::WorkerGone),
            EndReason::ClientGone | EndReason::Cancelled => Some(Self::Abandoned),
            EndReason::DrainTimedOut => Some(Self::DrainTimedOut),
            EndReason::RequestTimedOut => Some(Self::RequestTimedOut),
            EndReason::Restarted => Some(Self::Restarted),
            EndReason::Operator => Some(Self::Operator),
            EndReason::PoolEnding => Some(Self::PoolEnding),
            EndReason::LeaseEnded | EndReason::LingerTimedOut => None,
        }
    }
}

/// Why a question was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RefusalKind {
    SpawnFailed,
    QueueFull,
    Disabled,
    Stopped,
    Overloaded,
    ShuttingDown,
    TimedOut,
    NotAllowed,
    Invalid,
}

impl RefusalKind {
    pub(crate) fn of(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::SpawnFailed(_) => Self::SpawnFailed,
            Refusal::QueueFull { .. } => Self::QueueFull,
            Refusal::Disabled { .. } => Self::Disabled,
            Refusal::Stopped => Self::Stopped,
            Refusal::Overloaded => Self::Overloaded,
            Refusal::ShuttingDown => Self::ShuttingDown,
            Refusal::TimedOut { .. } => Self::TimedOut,
            Refusal::NotAllowed(_) => Self::NotAllowed,
            Refusal::Invalid(_) => Self::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_the_first_bucket_whose_end_is_not_below_it() {
        let mut histogram = Histogram::default();
        for (millis, at) in [(0, 0), (1, 1), (2, 2), (5, 3), (6, 4), (300_000, 16), (300_001, 17)] {
            let time = Duration::from_millis(millis);
            histogram.observe(time);
            assert_eq!(histogram.counts()[at], 1, "{millis}");
        }
        assert_eq!((histogram.count(), histogram.sum()), (7, Duration::from_millis(600_015)));
        histogram.take_back(Duration::from_millis(5));
        assert_eq!((histogram.count(), histogram.sum()), (6, Duration::from_millis(600_010)));
    }
}
