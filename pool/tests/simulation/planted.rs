//! The machine under test, and bugs to put into it: a simulation that finds nothing has to show that it could.

use hatchery_pool::{
    Answer, AppSnapshot, Close, Effect, EndReason, Event, Notice, Path, Pool, Refusal, Request, RestartState,
    SessionId, Settings, StopReason, SwapStep, Time, WorkerId, WorkerSnapshot, WorkerState,
};
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
    /// While both generations serve, the old one is preferred.
    OldPreferred,
    /// A restart that fails tells nobody who asked for it.
    ForgottenAsker,
    /// A restart goes on with a worker that another had half-started.
    KeptFirst,
    /// A restart that is to end sessions leaves them.
    SparedSessions,
    /// A version that does not start is kept.
    BlindKeep,
    /// A preloader that hangs is never killed.
    HungPreloader,
    /// One worker more than a tenant may have is thought to be allowed.
    TenantOffByOne,
    /// A failed start that nobody is told of is counted all the same.
    SilentFailure,
}

impl Bug {
    /// What is never said with it.
    fn swallows(self, effect: &Effect) -> bool {
        match effect {
            Effect::Record(end) => self == Self::LostRecord && end.killed && !end.sessions.is_empty(),
            Effect::Answer { answer: Answer::Refused(Refusal::SpawnFailed(_)), .. } => self == Self::ForgottenAsker,
            Effect::Revoke { why: EndReason::Restarted, .. } => self == Self::SparedSessions,
            Effect::KillPreloader { .. } => self == Self::HungPreloader,
            Effect::Notice(Notice::SpawnFailed { .. }) => self == Self::SilentFailure,
            _ => false,
        }
    }
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
        if bug == Some(Bug::TenantOffByOne) {
            raise_tenants(&mut settings);
        }
        Self { pool: Pool::new(settings), bug, granted: BTreeMap::new() }
    }

    pub(crate) fn step(&mut self, now: Time, event: Event) -> Vec<Effect> {
        match self.bug {
            None | Some(Bug::Surge) => self.pool.step(now, event),
            Some(Bug::OffByOne) => self.pool.step(now, raised(event)),
            Some(Bug::TenantOffByOne) => match event {
                Event::Reloaded { mut settings } => {
                    raise_tenants(&mut settings);
                    self.pool.step(now, Event::Reloaded { settings })
                }
                event => self.pool.step(now, event),
            },
            Some(Bug::LostWaiter) => self.step_and_lose(now, event),
            Some(Bug::DoubleClose) => self.step_and_close_again(now, event),
            Some(Bug::HastyRenewal) => self.step_and_hurry(now, event),
            Some(Bug::StuckBreaker) => self.step_and_prove_nothing(now, event),
            Some(Bug::KeptPing) if matches!(event, Event::Pinged { .. }) => Vec::new(),
            Some(Bug::KeptPing) => self.pool.step(now, event),
            Some(Bug::OldPreferred) => self.step_and_look_back(now, event),
            Some(Bug::KeptFirst) => self.step_and_keep_first(now, event),
            Some(Bug::BlindKeep) => {
                let mut effects = self.pool.step(now, event);
                let steps = effects.iter_mut().filter_map(|effect| match effect {
                    Effect::Swap { step, .. } => Some(step),
                    _ => None,
                });
                steps.filter(|step| **step == SwapStep::Undo).for_each(|step| *step = SwapStep::Keep);
                effects
            }
            Some(
                bug @ (Bug::LostRecord
                | Bug::ForgottenAsker
                | Bug::SparedSessions
                | Bug::HungPreloader
                | Bug::SilentFailure),
            ) => {
                let mut effects = self.pool.step(now, event);
                effects.retain(|effect| !bug.swallows(effect));
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

    fn step_and_look_back(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let before = self.pool.snapshot(now);
        let mut effects = self.pool.step(now, event);
        for effect in &mut effects {
            let Effect::Grant { worker, path: Path::Fresh, .. } = effect else { continue };
            let of_app = before.apps.iter().map(|app| &app.workers).find(|all| all.iter().any(|one| one.id == *worker));
            let granted = of_app.and_then(|all| all.iter().find(|one| one.id == *worker));
            let (Some(all), Some(granted)) = (of_app, granted) else { continue };
            let older = |other: &&WorkerSnapshot| {
                other.generation < granted.generation && matches!(other.state, WorkerState::Ready | WorkerState::Busy)
            };
            if let Some(old) = all.iter().find(older) {
                *worker = old.id;
            }
        }
        effects
    }

    fn step_and_keep_first(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let before = self.pool.snapshot(now);
        let mut effects = self.pool.step(now, event);
        let rolling = |app: &AppSnapshot| matches!(app.restart, Some(RestartState::Rolling(_)));
        let workers = before.apps.iter().filter(|app| rolling(app)).flat_map(|app| &app.workers);
        let starting: Vec<WorkerId> =
            workers.filter(|worker| worker.state == WorkerState::Starting).map(|worker| worker.id).collect();
        let restarts = effects.iter().any(|effect| matches!(effect, Effect::Notice(Notice::Restarting { .. })));
        let kept = |effect: &Effect| matches!(effect, Effect::Stop { worker, .. } if starting.contains(worker));
        effects.retain(|effect| !restarts || !kept(effect));
        effects
    }

    /// A session that was abandoned proves nothing.
    fn step_and_prove_nothing(&mut self, now: Time, event: Event) -> Vec<Effect> {
        let Event::Closed { client, session, how: Close::Kept | Close::Finished } = event else {
            return self.pool.step(now, event);
        };
        let apps = self.pool.snapshot(now).apps;
        let mut sessions = apps.iter().flat_map(|app| &app.workers).flat_map(|worker| &worker.sessions);
        let open = sessions.find(|open| (open.id, open.client, open.abandoned) == (session, client, false));
        let Some(connection) = open.map(|open| open.connection) else { return self.pool.step(now, event) };
        let mut effects = self.pool.step(now, Event::Closed { client, session, how: Close::Abandoned });
        effects.retain(|effect| !matches!(effect, Effect::Linger { .. }));
        effects.extend(self.pool.step(now, Event::Lingered { connection }));
        effects
    }
}

fn raised(event: Event) -> Event {
    match event {
        Event::SetMax { request, max } => Event::SetMax { request, max: one_more(max) },
        other => other,
    }
}

fn raise_tenants(settings: &mut Settings) {
    for limits in settings.tenants.values_mut() {
        limits.max = limits.max.map(one_more);
    }
}

fn one_more(max: NonZeroU32) -> NonZeroU32 {
    max.saturating_add(1)
}
