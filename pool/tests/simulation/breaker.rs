//! What is known of the failures of an app, from what is said alone (invariant 16 of `docs/architecture.md`).

use super::{Books, Checked, Use};
use hatchery_pool::{AppId, Close, ConnectFailure, Disabling, Effect, Event, Exit, Notice, Refusal, Request, Time};
use std::time::Duration;

/// The first pause, which doubles up to the last.
const PAUSES: [u64; 7] = [5, 10, 20, 40, 80, 160, 300];

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

/// One app's failures since it last proved that it works.
#[derive(Default)]
pub(super) struct Broken {
    state: State,
    /// Those that may count, and those that surely do.
    possible: Vec<Time>,
    sure: Vec<Time>,
    opened: usize,
    /// In this step: it may have failed, it surely has, it has proved that it works.
    may_have_failed: bool,
    has_failed: bool,
    proved: bool,
    /// Whose question has made it the next try.
    tried_by: Option<(Request, Time)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open(Time),
    Trying,
}

impl Broken {
    fn fail(&mut self, sure: bool, now: Time) {
        self.possible.push(now);
        self.may_have_failed = true;
        if sure {
            self.sure.push(now);
            self.has_failed = true;
        }
    }
}

impl Books {
    /// Before anything else is noted of it.
    pub(super) fn told_of_failures(&mut self, event: &Event, now: Time) {
        self.may_restart = matches!(
            event,
            Event::Restart { .. } | Event::FilesChanged { .. } | Event::SwapDone { .. } | Event::Clear { .. }
        );
        match event {
            Event::Asked { request, root, .. } => {
                if let Some(broken) = self.broken.get_mut(root)
                    && let State::Open(until) = broken.state
                    && until <= now
                    && !self.open.contains_key(request)
                {
                    broken.state = State::Trying;
                    broken.tried_by = Some((*request, until));
                }
            }
            Event::InspectFailed { app, .. } => {
                if let Some(root) = self.apps.get(app).cloned() {
                    self.broken.entry(root).or_default().fail(false, now);
                }
            }
            Event::SpawnFailed { worker, .. } => {
                let Some(worker) = self.workers.get(worker).filter(|worker| worker.is_starting()) else { return };
                // One that was to replace another says nothing about the others, nor does the first of a new
                // generation about those that serve.
                let first = self.is_first(worker.app, worker.generation);
                let sure = !first && !self.live(worker.app).any(|worker| worker.is_spent());
                self.broken.entry(worker.root.clone()).or_default().fail(sure, now);
            }
            Event::Exited { worker, exit } => {
                let Some(worker) = self.workers.get(worker) else { return };
                if !worker.was_told_to_leave() && !is_from_outside(*exit) {
                    let sure = worker.is_serving();
                    self.broken.entry(worker.root.clone()).or_default().fail(sure, now);
                }
            }
            Event::ConnectFailed { session, why: ConnectFailure::Refused } => {
                let Some(id) = self.session(*session) else { return };
                let root = self.workers[&self.connections[&id].worker].root.clone();
                self.broken.entry(root).or_default().fail(true, now);
            }
            Event::Closed { client, session, how: Close::Kept | Close::Finished } => {
                let Some(connection) = self.session(*session).map(|id| &self.connections[&id]) else { return };
                if connection.client == *client && connection.state == Use::Open {
                    let root = &self.workers[&connection.worker].root;
                    self.prove(&root.clone());
                }
            }
            Event::Enable { root, .. } => self.prove(root),
            // What is removed is as if it had never been.
            Event::Removed { root, .. } => _ = self.broken.remove(root),
            _ => {}
        }
    }

    /// An app could not be loaded.
    pub(super) fn preload_failed(&mut self, app: AppId, now: Time) {
        if let Some(root) = self.apps.get(&app).cloned() {
            self.broken.entry(root).or_default().fail(false, now);
        }
    }

    fn prove(&mut self, root: &[u8]) {
        if let Some(broken) = self.broken.get_mut(root) {
            let closes = broken.state != State::Closed;
            *broken = Broken { proved: closes, ..Broken::default() };
        }
    }

    /// Whatever went wrong, it went wrong with other code.
    pub(super) fn is_restarted_for_failures(&mut self, root: &[u8]) {
        self.broken.remove(root);
    }

    pub(super) fn ordered_for_failures(&mut self, effect: &Effect, now: Time) -> Checked {
        match effect {
            Effect::Notice(Notice::BreakerOpened { app, until, .. }) => {
                let root = self.apps.get(app).cloned().unwrap_or_default();
                let limits = self.limits(&root);
                let broken = self.broken.entry(root).or_default();
                let within = broken.possible.iter().filter(|&&at| at + limits.breaker_window > now).count();
                let often = limits.breaker_failures.is_some_and(|most| within >= most.get() as usize);
                let opens = match broken.state {
                    State::Closed => often,
                    State::Trying => broken.may_have_failed,
                    State::Open(_) => false,
                };
                ensure!(opens, "{app} is disabled after {within} failures, {:?} (invariant 16)", broken.state);
                let pause = Duration::from_secs(PAUSES[broken.opened.min(PAUSES.len() - 1)]);
                ensure!(*until == now + pause, "{app} is disabled until {until}, not for {pause:?} (invariant 16)");
                (broken.state, broken.has_failed, broken.tried_by) = (State::Open(*until), false, None);
                broken.opened += 1;
            }
            Effect::Notice(Notice::BreakerClosed { app }) => {
                let broken = self.broken.get_mut(self.apps.get(app).map_or(&[][..], Vec::as_slice));
                let proved = self.may_restart || broken.is_some_and(|broken| std::mem::take(&mut broken.proved));
                ensure!(proved, "{app} is enabled and has not proved that it works (invariant 16)");
            }
            Effect::Refuse { request, refusal } => self.refused_for_failures(*request, refusal, now)?,
            Effect::Spawn { app, .. } => {
                let root = self.apps.get(app).cloned().unwrap_or_default();
                let starting = self.live(*app).any(super::Worker::is_starting);
                match self.broken.get(&root).map(|broken| broken.state) {
                    Some(State::Open(until)) => return Err(format!("{app} starts, disabled until {until}")),
                    Some(State::Trying) => ensure!(!starting, "{app} is tried twice at a time (invariant 16)"),
                    Some(State::Closed) | None => {}
                }
            }
            Effect::Grant { request, worker, .. } => {
                let root = self.workers.get(worker).map(|worker| worker.root.as_slice()).unwrap_or_default();
                let open = matches!(self.broken.get(root), Some(Broken { state: State::Open(_), .. }));
                let again = self.reconnects.contains_key(request);
                ensure!(again || !open, "{request} is served by a disabled app (invariant 16)");
            }
            _ => {}
        }
        Ok(())
    }

    fn refused_for_failures(&mut self, request: Request, refusal: &Refusal, now: Time) -> Checked {
        // Who wasn't let in is no try.
        if !matches!(refusal, Refusal::QueueFull { .. } | Refusal::TimedOut { .. } | Refusal::SpawnFailed(_)) {
            for broken in self.broken.values_mut() {
                if let Some((by, until)) = broken.tried_by
                    && by == request
                {
                    (broken.state, broken.tried_by) = (State::Open(until), None);
                }
            }
        }
        let Refusal::Disabled { until, why: Disabling::Failures { .. } } = refusal else { return Ok(()) };
        let open = self.open.get(&request).and_then(|open| self.broken.get(&open.root));
        let state = open.map(|broken| broken.state);
        let disabled = matches!(state, Some(State::Open(by)) if Some(by) == *until && now < by);
        ensure!(disabled, "{request} is refused until {until:?} by an app that is {state:?} (invariant 16)");
        Ok(())
    }

    pub(super) fn check_failures(&mut self, now: Time) -> Checked {
        for (root, broken) in &mut self.broken {
            let app = String::from_utf8_lossy(root);
            let limits = self.roots[root].settings(&self.settings.defaults);
            broken.possible.retain(|&at| at + limits.breaker_window > now);
            broken.sure.retain(|&at| at + limits.breaker_window > now);
            ensure!(!broken.proved, "{app} works and stays disabled (invariant 16)");
            let failed = std::mem::take(&mut broken.has_failed);
            (broken.may_have_failed, broken.tried_by) = (false, None);
            let often = limits.breaker_failures.is_some_and(|most| broken.sure.len() >= most.get() as usize);
            let open = match broken.state {
                State::Closed => often && failed,
                State::Trying => failed,
                State::Open(_) => false,
            };
            ensure!(!open, "{app} failed once too often and is not disabled (invariant 16)");
            let disabled = matches!(broken.state, State::Open(until) if now < until);
            let waits = disabled && self.open.values().any(|open| open.root == *root);
            ensure!(!waits, "somebody waits for {app}, which is disabled (invariant 16)");
        }
        Ok(())
    }
}

/// What a program does not get for what it did itself.
fn is_from_outside(exit: Exit) -> bool {
    matches!(exit, Exit::Signal(1 | 2 | 9 | 15))
}
