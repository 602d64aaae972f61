//! When something is done about what was seen: values that are told the time.

use hatchery_pool::Time;
use hatchery_protocol::link::Staged;
use std::time::Duration;

/// How often an app is looked at though nothing was heard: what can't be watched is found then.
pub(super) const NET: Duration = Duration::from_secs(10);
/// Between two looks at one app, so that its owner can't keep the spawner busy.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// While an update is staged it is looked at in shares of its quiet period, but no more often than that.
const LEAST_SHARE: Duration = Duration::from_millis(250);
const SHARES: u32 = 4;

/// Changes, one soon after the other: acted upon once they are over.
#[derive(Debug, Default)]
pub(super) struct Burst {
    due: Option<Time>,
}

impl Burst {
    pub(super) fn changed(&mut self, now: Time, quiet: Duration) {
        self.due = Some(now + quiet);
    }

    pub(super) fn due(&self) -> Option<Time> {
        self.due
    }

    /// True once for each burst, when it is over.
    pub(super) fn is_over(&mut self, now: Time) -> bool {
        self.due.take_if(|due| *due <= now).is_some()
    }

    /// What was changed so far needs nothing any more.
    pub(super) fn forget(&mut self) {
        self.due = None;
    }
}

/// When an app is looked at. At most one look is open at a time; that is kept elsewhere, since it outlives this.
#[derive(Debug)]
pub(super) struct Looks {
    due: Time,
    /// When the last was asked for.
    last: Option<Time>,
}

impl Looks {
    pub(super) fn new(now: Time) -> Self {
        Self { due: now, last: None }
    }

    pub(super) fn due(&self) -> Time {
        self.due
    }

    /// Something was heard that only a look can tell more about.
    pub(super) fn hasten(&mut self, now: Time) {
        let earliest = self.last.map_or(now, |last| last + LEAST_PAUSE);
        self.due = self.due.min(earliest.max(now));
    }

    pub(super) fn asked(&mut self, now: Time) {
        self.last = Some(now);
        self.due = now + NET;
    }

    /// The next one while an update waits for its quiet period to be over.
    pub(super) fn expect_update(&mut self, now: Time, quiet: Duration) {
        self.due = self.due.min(now + (quiet / SHARES).max(LEAST_SHARE).min(NET));
    }
}

/// A staged update, from its first sight until it is taken.
#[derive(Debug, Default)]
pub(super) struct Staging {
    /// As it lies there, since when.
    seen: Option<(u64, Time)>,
    /// The one that was taken, or tried in vain: not again as long as it stays the same.
    taken: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Nothing,
    /// It is there, and may still be copied.
    Wait,
    Take,
}

impl Staging {
    pub(super) fn seen(&mut self, update: Option<Staged>, now: Time, quiet: Duration) -> Verdict {
        let Some(Staged { print, complete }) = update else {
            *self = Self::default();
            return Verdict::Nothing;
        };
        if self.taken == Some(print) {
            return Verdict::Nothing;
        }
        let since = match self.seen {
            Some((same, since)) if same == print => since,
            _ => now,
        };
        self.seen = Some((print, since));
        if complete || now.since(since) >= quiet {
            self.taken = Some(print);
            Verdict::Take
        } else {
            Verdict::Wait
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Time {
        Time::from_start(Duration::from_millis(milliseconds))
    }

    const QUIET: Duration = Duration::from_millis(300);

    #[test]
    fn a_burst_is_over_once_after_its_last_change() {
        let mut burst = Burst::default();
        assert!(!burst.is_over(at(1_000)));
        for change in [1_000, 1_200, 1_450] {
            burst.changed(at(change), QUIET);
            assert!(!burst.is_over(at(change + 299)));
        }
        assert_eq!(burst.due(), Some(at(1_750)));
        assert!(burst.is_over(at(1_750)));
        assert!(!burst.is_over(at(9_000)));
        burst.changed(at(9_000), QUIET);
        burst.forget();
        assert!(!burst.is_over(at(10_000)));
    }

    #[test]
    fn a_look_is_due_at_once_when_something_was_heard_but_no_two_are_close() {
        let mut looks = Looks::new(at(0));
        assert_eq!(looks.due(), at(0));
        looks.asked(at(0));
        assert_eq!(looks.due(), at(10_000));
        looks.hasten(at(5_000));
        assert_eq!(looks.due(), at(5_000));
        looks.asked(at(5_000));
        looks.hasten(at(5_010));
        looks.hasten(at(5_020));
        assert_eq!(looks.due(), at(5_100));
    }

    #[test]
    fn a_staged_update_is_looked_at_in_shares_of_its_quiet_period() {
        for (quiet, next) in [(10_000, 2_500), (1_000, 250), (100, 250), (3_600_000, 10_000)] {
            let mut looks = Looks::new(at(0));
            looks.asked(at(0));
            looks.expect_update(at(0), Duration::from_millis(quiet));
            assert_eq!(looks.due(), at(next), "{quiet}");
        }
    }

    fn lies(print: u64) -> Option<Staged> {
        Some(Staged { print, complete: false })
    }

    #[test]
    fn an_update_is_taken_when_it_stays_the_same_and_not_while_it_is_copied() {
        let mut staging = Staging::default();
        assert_eq!(staging.seen(None, at(0), QUIET), Verdict::Nothing);
        for (print, time) in [(1, 0), (2, 250), (3, 500), (3, 750)] {
            assert_eq!(staging.seen(lies(print), at(time), QUIET), Verdict::Wait, "{time}");
        }
        assert_eq!(staging.seen(lies(3), at(800), QUIET), Verdict::Take);
    }

    #[test]
    fn an_update_that_says_so_is_taken_at_once() {
        let mut staging = Staging::default();
        let complete = Some(Staged { print: 1, complete: true });
        assert_eq!(staging.seen(complete, at(0), Duration::from_secs(3600)), Verdict::Take);
    }

    #[test]
    fn what_was_refused_is_not_taken_again_until_it_changes_or_was_away() {
        let mut staging = Staging::default();
        let complete = |print| Some(Staged { print, complete: true });
        assert_eq!(staging.seen(complete(1), at(0), QUIET), Verdict::Take);
        assert_eq!(staging.seen(complete(1), at(60_000), QUIET), Verdict::Nothing);
        assert_eq!(staging.seen(complete(2), at(61_000), QUIET), Verdict::Take);
        assert_eq!(staging.seen(None, at(62_000), QUIET), Verdict::Nothing);
        assert_eq!(staging.seen(complete(2), at(63_000), QUIET), Verdict::Take);
    }
}
