//! The machine under test, and bugs to put into it: a simulation that finds nothing has to show that it could.

use hatchery_pool::{Close, Effect, EndReason, Event, Notice, Pool, Request, SessionId, Settings, StopReason, Time};
use std::collections::BTreeMap;
use std::num::NonZeroU32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// One worker more than `max` is thought to be allowed.
    OffByOne,
    /// A waiter whose connection failed is not put back into the queue.
    LostWaiter,
    /// The end of a session frees a second slot at its worker.
    DoubleClose,
    /// Replacements go further above the limits than the surge allows.
    Surge,
    /// A worker that has done enough leaves without waiting for its replacement.
    HastyRenewal,
    /// Whatever a session proves, the failures before it still count.
    StuckBreaker,
    /// The answer to a ping does not give its slot back.
    KeptPing,
    /// Whoever was killed with open sessions leaves no record.
    LostRecord,
}

/// A pool, with at most one bug. Without one it only passes on.
pub(crate) struct Machine {
    pub(crate) pool: Pool,
    bug: Option<Bug>,
    granted: BTreeMap<SessionId, Request>,
}

impl Machine {
    pub(crate) fn new(mut settings: Settings, bug: Option<Bug>) -> Self {
        if bug == Some(Bug::OffByOne) {
            settings.max = one_more(settings.max);
        }
        if bug == Some(Bug::Surge) {
            settings.surge += 1;
        }
        Self { pool: Pool::new(settings), bug, granted: BTreeMap::new() }
    }

    pub(crate) fn step(&mut self, now: Time, event: Event) -> Vec<Effect> {
        match self.bug {
            None | Some(Bug::Surge) => self.pool.step(now, event),
            Some(Bug::OffByOne) => self.pool.step(now, raised(event)),
            Some(Bug::LostWaiter) => self.step_and_lose(now, event),
            Some(Bug::DoubleClose) => self.step_and_close_again(now, event),
            Some(Bug::HastyRenewal) => self.step_and_hurry(now, event),
            Some(Bug::StuckBreaker) => self.step_and_prove_nothing(now, event),
            Some(Bug::KeptPing) if matches!(event, Event::Pinged { .. }) => Vec::new(),
            Some(Bug::KeptPing) => self.pool.step(now, event),
            Some(Bug::LostRecord) => {
                let mut effects = self.pool.step(now, event);
                effects
                    .retain(|effect| !matches!(effect, Effect::Record(end) if end.killed && !end.sessions.is_empty()));
                effects
            }
        }
    }

    fn step_and_lose(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let lost = match event {
            Event::ConnectFailed { session, .. } => self.granted.get(&session).copied(),
            _ => None,
        };
        let mut effects = self.pool.step(now, event);
        if let Some(request) = lost {
            effects.extend(self.pool.step(now, Event::Cancelled { request }));
        }
        for effect in &effects {
            if let &Effect::Grant { request, session, .. } = effect {
                self.granted.insert(session, request);
            }
        }
        effects
    }

    fn step_and_close_again(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let closed = match event {
            Event::Closed { session, how: Close::Finished, .. } => Some(session),
            _ => None,
        };
        let apps = self.pool.snapshot(now).apps;
        let mut workers = apps.into_iter().flat_map(|app| app.workers);
        let at = workers.find(|worker| worker.sessions.iter().any(|session| Some(session.id) == closed));
        let mut effects = self.pool.step(now, event);
        let other = at.and_then(|worker| worker.sessions.into_iter().find(|session| Some(session.id) != closed));
        if let Some(other) = other {
            let again = Event::Closed { client: other.client, session: other.id, how: Close::Finished };
            let twice = self.pool.step(now, again);
            effects.extend(twice.into_iter().filter(|effect| !matches!(effect, Effect::Release { .. })));
        }
        effects
    }
}

impl Machine {
    fn step_and_hurry(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let mut effects = self.pool.step(now, event);
        let spent = effects.iter().find_map(|effect| match *effect {
            Effect::Notice(Notice::Recycling { worker, why }) => Some((worker, why)),
            _ => None,
        });
        if let Some((worker, why)) = spent {
            let mut early = self.pool.step(now, Event::Retire { request: None, worker });
            for effect in &mut early {
                if let Effect::Drain { why: reason, .. } | Effect::Stop { why: reason, .. } = effect
                    && *reason == StopReason::Retired
                {
                    *reason = why;
                }
            }
            effects.extend(early);
        }
        effects
    }

    /// A session that the operator ends proves nothing.
    fn step_and_prove_nothing(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let Event::Closed { client, session, how: Close::Kept | Close::Finished } = event else {
            return self.pool.step(now, event);
        };
        let apps = self.pool.snapshot(now).apps;
        let mut sessions = apps.iter().flat_map(|app| &app.workers).flat_map(|worker| &worker.sessions);
        let open = sessions.any(|open| (open.id, open.client, open.abandoned) == (session, client, false));
        if !open {
            return self.pool.step(now, event);
        }
        let mut effects = self.pool.step(now, Event::EndSession { request: None, session });
        for effect in &mut effects {
            if let Effect::Revoke { connection, why: EndReason::Operator, .. } = *effect {
                *effect = Effect::Release { connection };
            }
        }
        effects
    }
}

fn raised(event: Event) -> Event {
    match event {
        Event::SetMax { request, max } => Event::SetMax { request, max: one_more(max) },
        other => other,
    }
}

fn one_more(max: NonZeroU32) -> NonZeroU32 {
    max.saturating_add(1)
}
