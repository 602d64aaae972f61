//! Rapid-fail protection: an app that fails again and again is disabled for a while, longer each time.
//!
//! What counts are failed starts, and crashes since the last session that ended in peace; any such end proves
//! that the app works and forgets them all.

use crate::effect::{Disabling, Failure};
use crate::time::Time;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

/// How long an app is disabled at first; doubles each time …
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// … up to this.
const LAST_PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: State,
    /// When it failed, within the window.
    failures: VecDeque<Time>,
    last: Option<Failure>,
    /// How often it opened without a session that ended in peace since.
    opened: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// Nobody is served; the first who asks after that time is the next try.
    Open { until: Time },
    /// One start at a time, and the next failure opens it again.
    Trying,
}

impl Breaker {
    /// Counts a failure. True: the app is disabled from now on.
    pub(crate) fn fail(&mut self, failure: Failure, limit: Option<NonZeroU32>, window: Duration, now: Time) -> bool {
        let Some(limit) = limit else { return false };
        self.last = Some(failure);
        self.failures.push_back(now);
        // Bounded by the limit: what is beyond it says no more.
        while self.failures.len() > limit.get() as usize || self.failures.front().is_some_and(|&at| at + window <= now)
        {
            self.failures.pop_front();
        }
        let opens = match self.state {
            State::Closed => self.failures.len() >= limit.get() as usize,
            State::Trying => true,
            // What was under way when it opened.
            State::Open { .. } => false,
        };
        if opens {
            let pause = FIRST_PAUSE.saturating_mul(1 << self.opened.min(16)).min(LAST_PAUSE);
            self.opened += 1;
            self.state = State::Open { until: now + pause };
        }
        opens
    }

    /// A session ended in peace, or the operator says so. True: the app was disabled or being tried.
    pub(crate) fn reset(&mut self) -> bool {
        let was_open = self.state != State::Closed;
        if !self.is_clean() {
            *self = Self::default();
        }
        was_open
    }

    /// Somebody is let in, and is the next try if it is time for one.
    pub(crate) fn admit(&mut self, now: Time) {
        if self.refusal(now).is_none()
            && let State::Open { .. } = self.state
        {
            self.state = State::Trying;
        }
    }

    /// Why nobody is let in, and until when.
    pub(crate) fn refusal(&self, now: Time) -> Option<(Disabling, Time)> {
        match self.state {
            State::Open { until } if now < until => Some((self.why()?, until)),
            _ => None,
        }
    }

    /// Why it is open, and until when: that may be over if nobody has asked since.
    pub(crate) fn open(&self) -> Option<(Disabling, Time)> {
        match self.state {
            State::Open { until } => Some((self.why()?, until)),
            State::Closed | State::Trying => None,
        }
    }

    fn why(&self) -> Option<Disabling> {
        Some(Disabling::Failures { count: self.failures.len() as u32, last: self.last? })
    }

    /// Workers are started without being asked for.
    pub(crate) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub(crate) fn is_trying(&self) -> bool {
        self.state == State::Trying
    }

    /// Nothing to remember.
    pub(crate) fn is_clean(&self) -> bool {
        self.state == State::Closed && self.failures.is_empty()
    }

    /// When what is remembered of an app that nobody uses can be forgotten; `None`: there is nothing.
    pub(crate) fn remembered_until(&self, window: Duration) -> Option<Time> {
        let open = match self.state {
            State::Open { until } => Some(until + window),
            State::Closed | State::Trying => None,
        };
        open.max(self.failures.back().map(|&at| at + window))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Exit;

    const WINDOW: Duration = Duration::from_secs(300);
    const CRASH: Failure = Failure::Crash(Exit::Signal(11));

    fn at(seconds: u64) -> Time {
        Time::from_start(Duration::from_secs(seconds))
    }

    fn fail(breaker: &mut Breaker, seconds: u64) -> bool {
        breaker.fail(CRASH, NonZeroU32::new(3), WINDOW, at(seconds))
    }

    #[test]
    fn it_opens_at_so_many_failures_within_the_window_only() {
        let mut breaker = Breaker::default();
        assert!(!fail(&mut breaker, 0) && !fail(&mut breaker, 10));
        assert!(!fail(&mut breaker, 300), "the first is forgotten by then");
        assert!(fail(&mut breaker, 301));
    }

    #[test]
    fn the_pause_doubles_up_to_five_minutes_and_a_peaceful_end_resets_it() {
        let mut breaker = Breaker::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        while pauses.len() < 9 {
            if fail(&mut breaker, now) {
                let (_, until) = breaker.open().unwrap();
                pauses.push(until.since(at(now)).as_secs());
                breaker.admit(at(now));
                assert!(breaker.refusal(at(now)).is_some() && !breaker.is_trying());
                now = until.since_start().as_secs();
                breaker.admit(at(now));
                assert!(breaker.is_trying());
            }
        }
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(breaker.reset() && breaker.is_clean() && !breaker.reset());
    }
}
