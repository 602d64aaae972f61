//! What is said of restarts: of which generation workers are started, who serves whom, and who is told what came of it.
//! The numbers are those of the invariants in `docs/architecture.md`.

use super::swaps::Swap;
use super::{Books, Checked, Phase};
use hatchery_pool::{
    Answer, AppId, ConnectionId, Effect, EndReason, Event, Generation, Notice, Request, RestartMode, StopReason, Time,
    WorkerId,
};
use std::collections::BTreeSet;

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

/// The generations of one app.
pub(super) struct Deploy {
    /// The last that is known to have begun …
    newest: u64,
    /// … and how many may have begun after it without a word.
    silent: u64,
    /// Of which workers are started while no restart is open.
    present: u64,
    roll: Option<Roll>,
    /// No worker of an older one takes a session any more.
    reported: u64,
    /// What was found out, and not forgotten.
    plans: BTreeSet<u64>,
    pub(super) swap: Swap,
    /// Connections that a restart ends in this step.
    to_end: BTreeSet<ConnectionId>,
    /// Somebody ordered in this step what ends a restart.
    called_off: bool,
    /// Whoever asked for a restart is refused in this step, so it is over.
    refused: bool,
}

struct Roll {
    generation: u64,
    /// Workers of the generation before serve on until it does.
    beside: bool,
    /// It serves.
    serving: bool,
    /// An old worker has left to make room for it.
    gave_up: bool,
}

impl Default for Deploy {
    fn default() -> Self {
        Self {
            newest: 1,
            silent: 0,
            present: 1,
            roll: None,
            reported: 0,
            plans: BTreeSet::new(),
            swap: Swap::default(),
            to_end: BTreeSet::new(),
            called_off: false,
            refused: false,
        }
    }
}

impl Deploy {
    fn is_open(&self) -> bool {
        self.roll.as_ref().is_some_and(|roll| !roll.serving)
    }

    /// A restart is over, whatever came of it.
    fn conclude(&mut self) {
        if let Some(roll) = self.roll.take()
            && (roll.serving || !roll.beside)
        {
            self.present = roll.generation;
        }
    }

    /// Whether something of this generation may be looked into or started.
    fn may_use(&mut self, generation: u64) -> Checked {
        ensure!(
            !self.swap.is_in_between(),
            "generation {generation} is used while the files are in between (invariant 22)"
        );
        if let Some(roll) = &self.roll {
            let expected = roll.generation;
            ensure!(generation == expected, "generation {generation} is used while {expected} begins (invariant 18)");
            return Ok(());
        }
        if generation > self.newest && generation <= self.newest + self.silent {
            self.silent -= generation - self.newest;
            (self.newest, self.present) = (generation, generation);
        }
        let present = self.present;
        ensure!(generation == present, "generation {generation} is used, and the app's is {present} (invariant 18)");
        Ok(())
    }
}

impl Books {
    pub(super) fn deploy(&mut self, app: AppId) -> &mut Deploy {
        self.deploys.entry(app).or_default()
    }

    fn deploy_at(&mut self, root: &[u8]) -> Option<&mut Deploy> {
        let app = self.app_at(root)?;
        Some(self.deploy(app))
    }

    pub(super) fn app_at(&self, root: &[u8]) -> Option<AppId> {
        self.apps.iter().find(|(_, other)| *other == root).map(|(&app, _)| app)
    }

    /// What is starting may never be of use: it has to leave within this step.
    pub(super) fn send_starting_away(&mut self, app: AppId) {
        let of_app = self.workers.iter().filter(|(_, worker)| worker.app == app && worker.is_starting());
        let starting: Vec<WorkerId> = of_app.map(|(&id, _)| id).collect();
        self.sent_away.extend(starting);
    }

    /// Before anything else is noted of it.
    pub(super) fn told_of_rolls(&mut self, event: &Event) {
        match event {
            Event::Inspected { app, generation, .. } => _ = self.deploy(*app).plans.insert(generation.0),
            Event::Ready { worker } => self.serves_now(*worker),
            Event::Clear { .. } | Event::Ending { .. } => {
                for deploy in self.deploys.values_mut() {
                    deploy.conclude();
                    deploy.called_off = true;
                }
            }
            Event::StopApp { root, .. } => self.is_called_off(root, true),
            Event::Removed { root, .. } => {
                self.disabled.remove(root);
                self.is_called_off(root, true);
            }
            Event::Disable { root, .. } => {
                let known = self.app_at(root).is_some();
                self.disabled.extend(known.then(|| root.clone()));
                self.is_called_off(root, false);
            }
            Event::Enable { root, .. } => _ = self.disabled.remove(root),
            _ => {}
        }
    }

    /// With `beside` also where older workers serve.
    fn is_called_off(&mut self, root: &[u8], beside: bool) {
        let Some(deploy) = self.deploy_at(root) else { return };
        if beside || deploy.roll.as_ref().is_some_and(|roll| !roll.beside) {
            deploy.conclude();
            deploy.called_off = true;
        }
    }

    /// A worker is ready: perhaps the one that a restart waits for.
    fn serves_now(&mut self, id: WorkerId) {
        let starting = self.workers.get(&id).filter(|worker| worker.is_starting() && !worker.was_told_to_leave());
        let Some((app, generation)) = starting.map(|worker| (worker.app, worker.generation)) else { return };
        let deploy = self.deploy(app);
        deploy.swap.proves(generation);
        let Some(roll) = deploy.roll.as_mut().filter(|roll| roll.generation == generation && !roll.serving) else {
            return;
        };
        roll.serving = true;
        deploy.present = generation;
        let of_app = self.workers.values_mut().filter(|worker| worker.app == app && worker.phase == Phase::Serving);
        of_app.filter(|worker| worker.generation < generation).for_each(super::Worker::is_superseded);
    }

    pub(super) fn ordered_for_rolls(&mut self, effect: &Effect, now: Time) -> Checked {
        match *effect {
            Effect::Inspect { app, generation } => self.deploy(app).may_use(generation.0)?,
            Effect::Spawn { app, generation: Generation(generation), .. } => {
                let deploy = self.deploy(app);
                deploy.may_use(generation)?;
                let known = deploy.plans.contains(&generation);
                ensure!(known, "{app} starts generation {generation}, of which nothing is known (invariant 18)");
            }
            Effect::Grant { request, worker, .. } if self.open.contains_key(&request) => self.prefers(worker, now)?,
            Effect::Drain { worker, why } | Effect::Stop { worker, why } => self.makes_way(worker, why)?,
            Effect::Revoke { connection, why, .. } => {
                let restarted = self.deploys.values_mut().any(|deploy| deploy.to_end.remove(&connection));
                let said = why == EndReason::Restarted;
                ensure!(restarted == said, "{connection} ends for {why:?}, by a restart: {restarted} (invariant 21)");
            }
            Effect::ForgetPlan { app, generation } => {
                let deploy = self.deploy(app);
                deploy.silent += 1;
                deploy.plans.remove(&generation.0);
            }
            Effect::Forget { app, .. } => self.deploy(app).plans.clear(),
            Effect::Notice(Notice::Restarting { app, generation, mode }) => self.restarts(app, generation.0, mode)?,
            Effect::Notice(Notice::Restarted { app, generation: Generation(generation) }) => {
                let deploy = self.deploy(app);
                let serves = deploy.roll.take().is_some_and(|roll| roll.generation == generation && roll.serving);
                ensure!(serves, "{app} is restarted, and generation {generation} does not serve (invariant 20)");
                deploy.reported = generation;
            }
            Effect::Notice(Notice::RestartFailed { app, generation: Generation(generation), .. }) => {
                let deploy = self.deploy(app);
                let begun = deploy.roll.as_ref().is_some_and(|roll| roll.generation == generation && !roll.serving);
                ensure!(begun, "{app} fails to restart with generation {generation}, not begun (invariant 20)");
                deploy.conclude();
            }
            Effect::Notice(Notice::BreakerOpened { app, .. }) => self.deploy(app).conclude(),
            _ => {}
        }
        Ok(())
    }

    fn restarts(&mut self, app: AppId, generation: u64, mode: RestartMode) -> Checked {
        let Some(root) = self.apps.get(&app).cloned() else { return Err(format!("{app} restarts and is not known")) };
        self.is_restarted_for_failures(&root);
        let disabled = self.disabled.contains(&root);
        let of_app = self.workers.iter().filter(|(_, worker)| worker.app == app);
        let workers: Vec<WorkerId> = of_app.map(|(&id, _)| id).collect();
        let serving = workers.iter().any(|id| self.workers[id].phase == Phase::Serving);
        let waiting = self.open.values().any(|open| open.root == root);
        self.send_starting_away(app);
        let mut to_end = BTreeSet::new();
        if mode == RestartMode::Kill {
            self.sent_away.extend(&workers);
            let at_them = self.connections.iter().filter(|(_, connection)| workers.contains(&connection.worker));
            to_end = at_them.map(|(&id, _)| id).collect();
        }
        let to_be_forked = self.waiting.values().any(|of| *of == app);
        let deploy = self.deploy(app);
        deploy.to_end.extend(to_end);
        let next = deploy.newest + 1..=deploy.newest + 1 + deploy.silent;
        ensure!(next.contains(&generation), "{app} restarts with generation {generation}, not {next:?} (invariant 18)");
        (deploy.newest, deploy.silent) = (generation, 0);
        let used = !workers.is_empty() || to_be_forked || waiting || deploy.roll.is_some() || deploy.swap.is_trying();
        // Whoever made room for the restart before made it for this one.
        let gave_up = deploy.roll.as_ref().is_some_and(|roll| roll.gave_up);
        deploy.conclude();
        deploy.swap.is_tried_by(generation);
        let beside = mode == RestartMode::Graceful && serving && !disabled;
        if used && !disabled {
            deploy.roll = Some(Roll { generation, beside, serving: false, gave_up });
        }
        if !beside {
            (deploy.present, deploy.reported) = (generation, generation);
        }
        Ok(())
    }

    /// Sessions are at workers of the newest generation that serves, as far as those have slots.
    fn prefers(&self, to: WorkerId, now: Time) -> Checked {
        let Some(worker) = self.workers.get(&to) else { return Ok(()) };
        let Some(deploy) = self.deploys.get(&worker.app) else { return Ok(()) };
        let (generation, present) = (worker.generation, deploy.present);
        ensure!(
            generation >= deploy.reported,
            "a session at {to}, of generation {generation}, after the switch (invariant 20)"
        );
        let of_app = self.workers.iter().filter(|(_, other)| other.app == worker.app && other.generation == present);
        for (id, other) in of_app.filter(|_| generation < present) {
            let taken = self.connections.values().filter(|connection| connection.worker == *id).count() as u32;
            let free = taken + u32::from(other.life.is_pinged()) < other.slots && other.full_until <= now;
            let usable = other.phase == Phase::Serving && free;
            ensure!(
                !usable,
                "a session at {to}, of generation {generation}, while the newer {id} has a slot (invariant 20)"
            );
        }
        Ok(())
    }

    /// Old workers leave for a new generation when that serves.
    fn makes_way(&mut self, id: WorkerId, why: StopReason) -> Checked {
        let serving = self.workers.get(&id).filter(|worker| worker.phase == Phase::Serving);
        let Some((app, generation)) = serving.map(|worker| (worker.app, worker.generation)) else { return Ok(()) };
        let surge = self.settings.surge;
        if why == StopReason::Surplus {
            return self.is_surplus(id, app);
        }
        let limit = self.limit_of(&self.apps[&app]).unwrap_or(u32::MAX) as usize;
        let of_app = self.workers.values().filter(|worker| worker.app == app).count();
        let alone =
            of_app == self.workers.len() && of_app >= self.settings.max.get() as usize || self.fills_its_tenant(app);
        let deploy = self.deploy(app);
        if why != StopReason::OldGeneration || generation < deploy.present {
            return Ok(());
        }
        let roll = deploy.roll.as_mut().filter(|roll| roll.beside && !roll.serving);
        let Some(roll) = roll else { return Err(format!("{id} leaves as old, and is not (invariant 19)")) };
        // The place of the first may be gone with a limit that was lowered since.
        let first = surge == 0 && (!roll.gave_up || alone || of_app >= limit);
        ensure!(first, "{id} leaves before the new generation serves (invariant 19)");
        roll.gave_up = true;
        Ok(())
    }

    /// The first worker of a new generation is no reason for another to leave.
    fn is_surplus(&self, id: WorkerId, app: AppId) -> Checked {
        let live = |of: &dyn Fn(AppId) -> bool| {
            let live = self.workers.values().filter(|worker| worker.is_starting() || worker.phase == Phase::Serving);
            let live = live.filter(|worker| of(worker.app) && !worker.was_told_to_leave());
            let beside = |worker: &&super::Worker| {
                let serves = self.workers.values().any(|other| other.app == worker.app && other.is_serving());
                // One for which another has made room is in that one's place.
                let roll = self.deploys.get(&worker.app).and_then(|deploy| deploy.roll.as_ref());
                let placed = roll.is_some_and(|roll| roll.gave_up);
                serves && !placed && worker.is_starting() && self.is_first(worker.app, worker.generation)
            };
            // Who waits for a preloader has a place.
            let waiting = self.waiting.values().filter(|&&waits| of(waits));
            live.filter(|worker| !beside(worker)).count() + waiting.count()
        };
        let limit = self.limit_of(&self.apps[&app]).unwrap_or(u32::MAX);
        // It is told already, and counts.
        let shared = |other: AppId| self.is_of_same_tenant(app, other);
        let most = self.tenant_limits(&self.apps[&app]).max.map_or(usize::MAX, |max| max.get() as usize);
        let too_many = live(&|_| true) >= self.settings.max.get() as usize
            || live(&|other| other == app) >= limit as usize
            || live(&shared) >= most;
        ensure!(too_many, "{id} leaves as surplus, and there are no more than there may be (invariant 19)");
        Ok(())
    }

    /// Whether workers of this generation are started beside older ones that serve.
    pub(super) fn is_first(&self, app: AppId, generation: u64) -> bool {
        let roll = self.deploys.get(&app).and_then(|deploy| deploy.roll.as_ref());
        roll.is_some_and(|roll| roll.generation == generation && roll.beside && !roll.serving)
    }

    /// Somebody who asked for a restart is answered.
    pub(super) fn answered_restart(&mut self, root: &[u8], answer: &Answer) -> Checked {
        let Some(deploy) = self.deploy_at(root) else { return Ok(()) };
        if *answer == Answer::Done {
            let done = !deploy.is_open() || deploy.called_off;
            ensure!(done, "a restart is said to be done, and its generation does not serve (invariant 20)");
            deploy.reported = deploy.newest;
        } else {
            deploy.refused |= deploy.is_open();
        }
        Ok(())
    }

    /// Whether this order may be answered later.
    fn may_wait(&self, request: Request, order: &Event) -> bool {
        let root = match order {
            Event::Restart { root, .. } | Event::Staged { root, .. } | Event::RolledBack { root, .. } => root,
            _ => return false,
        };
        let deploy = self.app_at(root).and_then(|app| self.deploys.get(&app));
        deploy.filter(|_| !self.ending).is_some_and(|deploy| match order {
            Event::Restart { .. } => deploy.roll.is_some() || deploy.swap.is_in_between(),
            _ => deploy.swap.is_asked_by(request),
        })
    }

    pub(super) fn check_rolls(&mut self) -> Checked {
        for (request, order) in &self.orders {
            ensure!(self.may_wait(*request, order), "{request} has no answer (invariant 20): {order:?}");
        }
        for (app, deploy) in &mut self.deploys {
            let left = deploy.to_end.first();
            ensure!(left.is_none(), "{left:?} outlives the restart that was to end it (invariant 21)");
            let goes_on = deploy.refused && deploy.is_open();
            ensure!(!goes_on, "{app} restarts on, and whoever asked was refused (invariant 20)");
            (deploy.called_off, deploy.refused) = (false, false);
            let roll = deploy.roll.as_ref();
            let in_use = |plan: &u64| *plan == deploy.present || roll.is_some_and(|roll| roll.generation == *plan);
            let unused = deploy.plans.iter().find(|plan| !in_use(plan) || !self.apps.contains_key(app));
            ensure!(unused.is_none(), "{app} knows of generation {unused:?} still (invariant 18)");
            let of_app = self.workers.values().filter(|worker| worker.app == *app);
            let oldest = of_app.filter(|worker| worker.is_serving()).map(|worker| worker.generation).min();
            let old = |generation: u64| oldest.is_some_and(|oldest| oldest < generation);
            ensure!(!old(deploy.reported), "{oldest:?} of {app} serves after the switch (invariant 20)");
            let unsaid = roll.filter(|roll| roll.serving && !old(roll.generation)).map(|roll| roll.generation);
            ensure!(unsaid.is_none(), "nobody is told that {app} has switched to {unsaid:?} (invariant 20)");
            deploy.swap.check(*app, roll.is_some())?;
        }
        Ok(())
    }

    /// Apps that are being restarted, or whose files are exchanged.
    pub(crate) fn deploying(&self) -> Vec<AppId> {
        let deploying = self.deploys.iter().filter(|(_, deploy)| deploy.roll.is_some() || !deploy.swap.is_over());
        deploying.map(|(&app, _)| app).collect()
    }

    /// Whether an answer is due from whoever exchanges files.
    pub(crate) fn is_swapping(&self, app: AppId) -> bool {
        self.deploys.get(&app).is_some_and(|deploy| deploy.swap.is_asked())
    }

    /// Apps without workers of which something is known still, though none is to be kept.
    pub(crate) fn plans_left(&self) -> Vec<AppId> {
        let kept = |app: &AppId| self.apps.get(app).is_some_and(|root| self.limits(root).min > 0);
        let used =
            |app: &AppId| kept(app) || self.has_loaded(*app) || self.workers.values().any(|worker| worker.app == *app);
        let left = self.deploys.iter().filter(|(app, deploy)| !deploy.plans.is_empty() && !used(app));
        left.map(|(&app, _)| app).collect()
    }
}
