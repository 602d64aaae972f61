//! What may never be ordered, and never be so after a step. The numbers are those of the invariants in
//! `docs/architecture.md`.

use super::life::Life;
use super::{Books, Checked, Connection, Phase, Use, Worker};
use hatchery_pool::{
    Answer, AppId, Concurrency, ConnectionId, Effect, Event, Notice, Path, Refusal, Request, SessionId, StopReason,
    Time, WorkerId,
};
use std::collections::{BTreeMap, BTreeSet};

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

impl Books {
    pub(crate) fn ordered(&mut self, effect: &Effect, now: Time) -> Checked {
        let harmless = matches!(
            effect,
            Effect::Refuse { .. }
                | Effect::Answer { .. }
                | Effect::Notice(_)
                | Effect::Forget { .. }
                | Effect::ForgetPlan { .. }
        );
        ensure!(!self.ended || harmless, "{effect:?} after the end");
        self.ordered_for_counts(effect);
        self.ordered_for_life(effect, now)?;
        self.ordered_for_failures(effect, now)?;
        self.ordered_for_swaps(effect)?;
        self.ordered_for_rolls(effect, now)?;
        self.ordered_for_preloaders(effect, now)?;
        match effect {
            Effect::Inspect { app, generation } => {
                ensure!(self.inspections.insert((*app, *generation)), "{app} is inspected twice at a time");
            }
            Effect::Spawn { app, worker, generation, from: _ } => self.spawned(*app, *worker, generation.0, now)?,
            Effect::Grant { request, session, worker, connection, path } => {
                self.granted(*request, *session, *worker, *connection, *path, now)?;
            }
            Effect::Refuse { request, refusal } => self.refused(*request, refusal)?,
            Effect::Answer { request, answer } => self.answered(*request, answer)?,
            Effect::Revoke { connection, client, session, .. } => {
                let Some(ended) = self.take(*connection, now) else {
                    return Err(format!("{connection} is revoked and does not exist"));
                };
                let same = (ended.client, ended.session) == (*client, *session);
                ensure!(same, "{connection} is revoked as somebody else's (invariant 6)");
            }
            Effect::Release { connection } => {
                let ended = self.take(*connection, now);
                // A reconnected session drops its dead connection without having ended.
                let over = ended.is_some_and(|ended| match ended.state {
                    Use::Over => true,
                    Use::Open => self.reconnects.values().any(|&(session, ..)| session == ended.session),
                    // A kind of connection that never stays.
                    Use::Parked => true,
                    Use::Abandoned | Use::Lingering => false,
                });
                ensure!(over, "{connection} is released and is not over (invariant 6)");
            }
            Effect::Linger { connection } => {
                let state = self.connections.get_mut(connection).map(|connection| &mut connection.state);
                let Some(state) = state.filter(|state| **state == Use::Abandoned) else {
                    return Err(format!("{connection} lingers and was not abandoned"));
                };
                *state = Use::Lingering;
            }
            Effect::Drain { worker, .. } => {
                let by = now + self.settings.defaults.drain_timeout;
                let Some(worker) = self.workers.get_mut(worker).filter(|worker| worker.phase == Phase::Serving) else {
                    return Err(format!("{worker} is drained and does not serve"));
                };
                (worker.phase, worker.drain_by) = (Phase::Draining, Some(by));
            }
            Effect::Stop { worker, why } => self.stopped(*worker, *why, now)?,
            Effect::Forget { app, .. } => self.forgotten(*app)?,
            Effect::Notice(Notice::RecyclingPaused { app, .. } | Notice::MinPaused { app }) => {
                ensure!(self.apps.contains_key(app), "{app} pauses and is not known");
            }
            Effect::Ended => {
                ensure!(self.ending && self.workers.is_empty(), "ended with workers");
                self.ended = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn answered(&mut self, request: Request, answer: &Answer) -> Checked {
        let Some(order) = self.orders.remove(&request) else {
            // Whoever is gone is answered all the same, once.
            ensure!(self.gone.remove(&request), "{request} is answered and was not asked (invariant 5)");
            return Ok(());
        };
        match &order {
            Event::Restart { root, .. } => self.answered_restart(root, answer)?,
            Event::Staged { root, .. } | Event::RolledBack { root, .. } => {
                self.answered_update(root, request, answer)?;
            }
            _ if *answer == Answer::Done => self.obeyed(&order),
            _ => {}
        }
        Ok(())
    }

    fn take(&mut self, id: ConnectionId, now: Time) -> Option<Connection> {
        let connection = self.connections.remove(&id)?;
        if matches!(connection.state, Use::Open | Use::Abandoned | Use::Lingering) {
            self.workers.entry(connection.worker).and_modify(|worker| worker.idle_since = now);
        }
        Some(connection)
    }

    /// The pool names apps by id; the shell asks it for their roots.
    pub(crate) fn noticed(&mut self, notice: &Notice, root: Option<&[u8]>) -> Checked {
        if let Notice::Registered { app } = notice {
            let Some(root) = root else { return Err(format!("{app} has no root")) };
            self.apps.insert(*app, root.to_vec());
            self.tenant_of_new(root);
        }
        Ok(())
    }

    pub(super) fn live(&self, app: AppId) -> impl Iterator<Item = &Worker> {
        let of_app = self.workers.values().filter(move |worker| worker.app == app);
        of_app.filter(|worker| matches!(worker.phase, Phase::Starting | Phase::Serving))
    }

    fn spawned(&mut self, app: AppId, id: WorkerId, generation: u64, now: Time) -> Checked {
        let Some(root) = self.apps.get(&app).cloned() else { return Err(format!("{app} starts and is not known")) };
        // It may have had its place since it began to wait for its preloader.
        let kept = self.takes_waiting_place(app);
        let knobs = &self.roots[&root];
        let (max, surge) = (self.settings.max.get() as usize, self.settings.surge as usize);
        let limit = knobs.wanted.max_per_app.or(self.max_per_app).map_or(usize::MAX, |limit| limit.get() as usize);
        let of_app = self.workers.values().filter(|worker| worker.app == app).count();
        // Only who is to be replaced makes room that isn't there, and a new generation.
        let first = self.is_first(app, generation);
        let extra = !first && !kept && (self.workers.len() >= max || of_app >= limit);
        let surge = if first || self.may_replace(app) { surge } else { 0 };
        let within = kept || self.workers.len() < max + surge && of_app < limit.saturating_add(surge);
        ensure!(
            within,
            "{id} is started above max {max} or its app's limit {limit}, surge {surge} (invariants 1 and 10)"
        );
        self.spawned_of_tenant(&root, id, surge as u32, kept)?;
        let staffed = self.live(app).next().is_some();
        let mut starts = 0;
        for worker in self.workers.values().filter(|worker| worker.is_starting() && !worker.was_told_to_leave()) {
            starts += u32::from(staffed || worker.started + self.settings.fair_wait > now);
        }
        ensure!(kept || starts < self.settings.max_starting.get(), "{id} is one start too many at a time");
        ensure!(id > self.last.0 && !self.ending, "{id} is used again, or started at the end");
        self.last.0 = id;
        let (slots, unlimited) = match knobs.concurrency() {
            Concurrency::Limited(limit) => (limit.get(), false),
            Concurrency::Unlimited => (self.settings.max_sessions.get(), true),
        };
        let life = Life::new(now + self.settings.defaults.start_timeout, extra);
        let phase = Phase::Starting;
        let worker = Worker {
            app,
            generation,
            root,
            phase,
            started: now,
            slots,
            unlimited,
            drain_by: None,
            full_until: Time::ZERO,
            ready: now,
            idle_since: now,
            life,
        };
        self.workers.insert(id, worker);
        Ok(())
    }

    fn granted(
        &mut self,
        request: Request,
        session: SessionId,
        to: WorkerId,
        id: ConnectionId,
        path: Path,
        now: Time,
    ) -> Checked {
        let client = request.client;
        let (open, again, began) = match (self.open.remove(&request), self.reconnects.remove(&request)) {
            (Some(open), None) => (open, None, now),
            (None, Some((session, open, began))) => (open, Some(session), began),
            _ => return Err(format!("{request} is granted and not open (invariant 5)")),
        };
        let Some(worker) = self.workers.get(&to) else { return Err(format!("a session at {to}, which is gone")) };
        ensure!(worker.root == open.root, "{request} gets another app (invariant 6)");
        if let Some(again) = again {
            ensure!(again == session && path == Path::Fresh, "{request} gets another session than its own");
        } else {
            ensure!(
                worker.phase == Phase::Serving,
                "{session} begins at {to}, which is {:?} (invariant 7)",
                worker.phase
            );
            ensure!(session > self.last.2, "{session} is used again");
            let mut others = self.open.values().filter(|other| other.root == open.root);
            ensure!(
                others.all(|other| other.arrival > open.arrival),
                "{request} is served before its turn (invariant 4)"
            );
            self.last.2 = session;
        }
        let until = self.limits(&open.root).max_request_time.map(|time| began + time);
        match path {
            Path::Fresh => {
                ensure!(id > self.last.1, "{id} is used again");
                self.last.1 = id;
                let made_for = Some((request, open));
                self.connections
                    .insert(id, Connection { client, worker: to, session, state: Use::Open, made_for, began, until });
            }
            Path::Parked => {
                let parked = self.connections.get_mut(&id);
                let parked =
                    parked.filter(|parked| (parked.client, parked.worker, parked.state) == (client, to, Use::Parked));
                let Some(parked) = parked else { return Err(format!("{id} is not parked by {client} at {to}")) };
                (parked.session, parked.state, parked.made_for) = (session, Use::Open, None);
                (parked.began, parked.until) = (began, until);
            }
        }
        Ok(())
    }

    fn refused(&mut self, request: Request, refusal: &Refusal) -> Checked {
        let doubled = *refusal == Refusal::Invalid(hatchery_pool::Invalid::DuplicateRequest);
        let open = if doubled {
            self.doubled.remove(&request)
        } else {
            self.open.remove(&request).is_some() || self.reconnects.remove(&request).is_some()
        };
        ensure!(open, "{request} is refused and not open (invariant 5)");
        Ok(())
    }

    fn stopped(&mut self, id: WorkerId, why: StopReason, now: Time) -> Checked {
        ensure!(
            self.connections.values().all(|connection| connection.worker != id),
            "{id} is stopped with connections"
        );
        let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.phase != Phase::Leaving) else {
            return Err(format!("{id} is stopped twice or does not exist"));
        };
        worker.phase = Phase::Leaving;
        let by = match why {
            StopReason::Evicted | StopReason::StartUnneeded => self.settings.evict_timeout,
            _ => self.settings.defaults.stop_timeout,
        };
        worker.life.kill_by(now + by);
        let idle = self.roots[&worker.root].wanted.max_idle.unwrap_or(self.max_idle);
        let enough = idle.is_some_and(|idle| !idle.is_zero() && worker.idle_since + idle <= now);
        ensure!(why != StopReason::Idle || enough, "{id} is stopped as idle since {}", worker.idle_since);
        Ok(())
    }

    fn forgotten(&mut self, app: AppId) -> Checked {
        ensure!(self.workers.values().all(|worker| worker.app != app), "{app} is forgotten with workers");
        let Some(root) = self.apps.remove(&app) else { return Err(format!("{app} is forgotten twice")) };
        self.broken.remove(&root);
        self.tenants.remove(&root);
        self.registered.remove(&root);
        ensure!(self.open.values().all(|open| open.root != root), "{app} is forgotten with waiters");
        Ok(())
    }

    /// What holds after each step.
    pub(crate) fn check(&mut self, now: Time, ticked: bool) -> Checked {
        self.succeeds = None;
        self.check_lives(now, ticked)?;
        self.check_failures(now)?;
        self.check_rolls()?;
        self.check_preloaders(now, ticked)?;
        let mut taken: BTreeMap<WorkerId, (u32, u32)> = BTreeMap::new();
        for (id, connection) in &self.connections {
            let worker = self.workers.contains_key(&connection.worker);
            ensure!(worker, "{id} outlives its worker (invariant 8)");
            let overdue = connection.state == Use::Open && connection.until.is_some_and(|until| until <= now);
            ensure!(!(ticked && overdue), "{} lasts longer than it may (invariant 12)", connection.session);
            let at = taken.entry(connection.worker).or_default();
            match connection.state {
                Use::Open | Use::Lingering => at.0 += 1,
                Use::Parked => at.1 += 1,
                Use::Abandoned | Use::Over => {
                    return Err(format!("{id} is {:?} and nothing follows", connection.state));
                }
            }
        }
        let waited_for: BTreeSet<&[u8]> = self.open.values().map(|open| open.root.as_slice()).collect();
        for (id, worker) in &self.workers {
            let (sessions, leases) = taken.get(id).copied().unwrap_or_default();
            let (slots, pinged) = (worker.slots, u32::from(worker.life.is_pinged()));
            ensure!(
                sessions + leases + pinged <= slots,
                "{id} has {sessions} sessions, {leases} leases, {pinged} ping of {slots} slots (invariant 2)"
            );
            let stays = matches!(worker.phase, Phase::Starting | Phase::Serving) && !worker.was_told_to_leave();
            ensure!(!stays || !self.sent_away.contains(id), "{id} was sent away and is {:?}", worker.phase);
            ensure!(!worker.unlimited || leases <= 64, "{id} has {leases} leases (invariant 2)");
            ensure!(worker.phase != Phase::Draining || sessions > 0, "{id} drains with no session (invariant 7)");
            let overdue = worker.phase == Phase::Draining && worker.drain_by.is_some_and(|by| by <= now);
            ensure!(!(ticked && overdue), "{id} has drained for too long (invariant 7)");
            let usable = worker.phase == Phase::Serving && worker.full_until <= now && sessions + pinged < slots;
            ensure!(
                !(usable && waited_for.contains(worker.root.as_slice())),
                "a slot at {id} is free, {:?} (invariant 3)",
                self.open
            );
        }
        ensure!(self.reconnects.is_empty() && self.doubled.is_empty(), "a question has no answer");
        ensure!(!self.ending || self.open.is_empty(), "somebody waits for a pool that is ending");
        Ok(())
    }
}
