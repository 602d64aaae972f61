//! Restarts: the next generation of an app's code takes the place of the present one, and if it can't be started, it
//! does not.
//!
//! While old workers serve, the new generation is looked into and its first worker started beside them; until that
//! is ready nothing changes, and nothing of the old generation is started. Then the new generation is the app's:
//! old workers get a session only when no new one has a slot, idle ones leave, and busy ones are replaced one by one.
//! Without an old worker that serves there is nothing to keep: the new generation is the app's at once.

use crate::app::{App, Inspection, Origin};
use crate::book::Use;
use crate::effect::{Answer, Effect, EndReason, Notice, Refusal, StopReason};
use crate::event::RestartMode;
use crate::ids::{AppId, Generation, ReportId, Request, WorkerId};
use crate::pool::{Phase as PoolPhase, Pool};
use crate::roll::{Roll, Stage};
use crate::roster::Phase;
use crate::settings::Plan;
use crate::time::Time;

impl Pool {
    pub(crate) fn restart(&mut self, request: Option<Request>, root: &[u8], mode: RestartMode, now: Time) {
        let Some(id) = self.app(root) else { return self.unknown(request) };
        if let Some(refusal) = self.unrestartable(id) {
            return self.answer(request, Answer::Refused(refusal));
        }
        self.begin_roll(id, mode, request.into_iter().collect(), false, now);
    }

    pub(crate) fn unrestartable(&self, id: AppId) -> Option<Refusal> {
        let app = self.apps.get(&id)?;
        if self.phase != PoolPhase::Running {
            Some(Refusal::ShuttingDown)
        } else if app.stopped || app.origin == Origin::Removed {
            app.closed(Time::ZERO)
        } else {
            None
        }
    }

    /// The code of an app has changed.
    pub(crate) fn files_changed(&mut self, id: AppId, now: Time) {
        if self.apps.contains_key(&id) && self.unrestartable(id).is_none() {
            self.begin_roll(id, RestartMode::Graceful, Vec::new(), false, now);
        }
    }

    /// The next generation begins once an exchange allows it; with `tried` whether or not anybody uses the app.
    pub(crate) fn begin_next(&mut self, id: AppId, askers: Vec<Request>, tried: bool, now: Time) {
        match self.unrestartable(id) {
            Some(refusal) => {
                self.answer_all(askers, &Answer::Refused(refusal.clone()));
                self.undo_update(id, refusal, now);
            }
            None => self.begin_roll(id, RestartMode::Graceful, askers, tried, now),
        }
    }

    /// Begins the next generation; one that was begun and isn't the app's yet is dropped.
    /// With `tried` a worker is started though nobody uses the app.
    fn begin_roll(&mut self, id: AppId, mode: RestartMode, mut askers: Vec<Request>, tried: bool, now: Time) {
        if self.put_off_restart(id, &askers) {
            return;
        }
        let before = self.take_roll(id);
        // Whoever waits for a verdict, gets one.
        let tried = tried || before.is_some() || self.is_trying_update(id);
        let given_up = before.as_ref().map_or(0, |roll| roll.given_up);
        askers.extend(before.into_iter().flat_map(|roll| roll.askers));
        // Whatever went wrong, it went wrong with other code.
        self.prove(id);
        let crew = self.roster.crew(id);
        let (serving, used) = (crew.serving > 0, tried || !crew.all.is_empty() || self.queue.len(id) > 0);
        let Some(app) = self.apps.get_mut(&id) else { return };
        app.newest = Generation(app.newest.0 + 1);
        app.failed_roll = None;
        let (generation, kept_up, closed) = (app.newest, app.is_kept_up(), app.closed(now));
        self.notice(Notice::Restarting { app: id, generation, mode });
        if mode == RestartMode::Kill {
            self.end_old(id, now);
        }
        self.leave_starting(id, now);
        if mode == RestartMode::Graceful && serving && kept_up {
            self.set_roll(id, Roll { generation, stage: Stage::Looking, askers, given_up });
            self.effect(Effect::Inspect { app: id, generation });
        } else {
            self.adopt(id, generation, Inspection::Unknown);
            if used && kept_up {
                self.set_roll(id, Roll { generation, stage: Stage::Fresh, askers, given_up });
            } else {
                // Nobody is served, and nothing started: the next start is of the new generation.
                self.leave_all(id, StopReason::OldGeneration, now);
                self.answer_all(askers, &Answer::Done);
                self.undo_update(id, closed.unwrap_or(Refusal::Stopped), now);
            }
        }
        self.touch(id);
    }

    /// A generation is the app's: whatever is started from now on is of it.
    pub(crate) fn adopt(&mut self, id: AppId, generation: Generation, inspection: Inspection) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let before = (app.generation, app.inspection);
        (app.generation, app.inspection) = (generation, inspection);
        if before.1 != Inspection::Unknown {
            self.effect(Effect::ForgetPlan { app: id, generation: before.0 });
        }
    }

    fn set_roll(&mut self, id: AppId, roll: Roll) {
        let known = matches!(roll.stage, Stage::Known(_));
        if let Some(app) = self.apps.get_mut(&id) {
            app.roll = Some(roll);
        }
        self.note_roll(id, known);
    }

    fn note_roll(&mut self, id: AppId, known: bool) {
        if known {
            self.rolling.insert(id);
        } else {
            self.rolling.remove(&id);
        }
    }

    fn set_stage(&mut self, id: AppId, stage: Stage) {
        if let Some(roll) = self.apps.get_mut(&id).and_then(|app| app.roll.as_mut()) {
            roll.stage = stage;
        }
        self.note_roll(id, matches!(stage, Stage::Known(_)));
    }

    /// Ends a restart that is under way; who waits for it is returned. Its first worker is the caller's to send away.
    pub(crate) fn drop_roll(&mut self, id: AppId) -> Vec<Request> {
        self.take_roll(id).map_or_else(Vec::new, |roll| roll.askers)
    }

    fn take_roll(&mut self, id: AppId) -> Option<Roll> {
        self.note_roll(id, false);
        let roll = self.apps.get_mut(&id).and_then(|app| app.roll.take())?;
        if matches!(roll.stage, Stage::Known(_) | Stage::Starting(..)) {
            self.effect(Effect::ForgetPlan { app: id, generation: roll.generation });
        }
        Some(roll)
    }

    pub(crate) fn answer_all(&mut self, askers: Vec<Request>, answer: &Answer) {
        for request in askers {
            self.answer(Some(request), answer.clone());
        }
    }

    /// A restart comes to nothing, for another reason than that its code is broken.
    pub(crate) fn refuse_roll(&mut self, id: AppId, refusal: &Refusal, now: Time) {
        let askers = self.drop_roll(id);
        self.answer_all(askers, &Answer::Refused(refusal.clone()));
        self.undo_update(id, refusal.clone(), now);
        if let Some(app) = self.apps.get_mut(&id) {
            app.owed = 0;
        }
    }

    /// An app is disabled: where no worker serves nothing is started any more, and a restart has nothing to wait for.
    pub(crate) fn end_fresh_roll(&mut self, id: AppId, refusal: &Refusal, now: Time) {
        if self.apps.get(&id).and_then(|app| app.roll.as_ref()).is_some_and(|roll| roll.stage == Stage::Fresh) {
            let askers = self.drop_roll(id);
            self.answer_all(askers, &Answer::Done);
            self.undo_update(id, refusal.clone(), now);
        }
    }

    /// What was half-started is never put to use. Whoever has failed goes without being told.
    pub(crate) fn leave_starting(&mut self, id: AppId, now: Time) {
        let starting = self.roster.crew(id).starting.iter().copied();
        let hopeful = |id: &WorkerId| self.roster.get(*id).is_some_and(|worker| worker.report.is_none());
        let starting: Vec<WorkerId> = starting.filter(hopeful).collect();
        for worker in starting {
            self.leave(worker, StopReason::OldGeneration, now);
        }
    }

    pub(crate) fn leave_all(&mut self, id: AppId, why: StopReason, now: Time) {
        let workers: Vec<WorkerId> = self.roster.crew(id).all.iter().copied().collect();
        for worker in workers {
            self.leave(worker, why, now);
        }
    }

    /// Old workers and their sessions end at once.
    fn end_old(&mut self, id: AppId, now: Time) {
        let workers: Vec<WorkerId> = self.roster.crew(id).all.iter().copied().collect();
        for worker in workers {
            self.revoke_all(worker, None, EndReason::Restarted, now);
            self.leave(worker, StopReason::OldGeneration, now);
            self.stop_if_drained(worker, now);
        }
    }

    /// Workers of older generations are used only when nobody else has a slot, and replaced. Whoever parked a
    /// connection at one gets the new generation next.
    fn supersede(&mut self, id: AppId, now: Time) {
        let Some(generation) = self.apps.get(&id).map(|app| app.generation) else { return };
        let all = self.roster.crew(id).all.iter().copied();
        let older: Vec<WorkerId> = all.filter(|id| self.is_older(*id, generation)).collect();
        for worker in older {
            if self.roster.get(worker).is_some_and(|worker| worker.phase == Phase::Serving) {
                self.roster.update(worker, |worker| worker.spent = Some(StopReason::OldGeneration));
                self.revoke_all(worker, Some(Use::Parked), EndReason::LeaseEnded, now);
            }
        }
        self.touch(id);
    }

    fn is_older(&self, id: WorkerId, generation: Generation) -> bool {
        self.roster.get(id).is_some_and(|worker| worker.generation < generation)
    }

    /// True: a restart was waiting for it.
    pub(crate) fn roll_inspected(&mut self, id: AppId, generation: Generation, plan: Plan) -> bool {
        let awaited = self.stage_of(id, generation) == Some(Stage::Looking);
        if awaited {
            self.set_stage(id, Stage::Known(plan));
            self.touch(id);
        }
        awaited
    }

    /// A generation could not be looked into: if a restart to it is at this stage, it has failed.
    pub(crate) fn roll_inspect_failed(
        &mut self,
        id: AppId,
        generation: Generation,
        stage: Stage,
        report: ReportId,
        now: Time,
    ) {
        if self.stage_of(id, generation) == Some(stage) {
            self.fail_roll(id, report, now);
        }
    }

    /// How far a restart to this generation is, if there is one under way.
    fn stage_of(&self, id: AppId, generation: Generation) -> Option<Stage> {
        let roll = self.apps.get(&id)?.roll.as_ref()?;
        (roll.generation == generation).then_some(roll.stage)
    }

    /// Starts the first worker of the new generation.
    pub(crate) fn start_roll(&mut self, id: AppId, now: Time) {
        let roll = self.apps.get(&id).and_then(|app| app.roll.as_ref());
        let known = roll.map(|roll| (roll.generation, roll.stage, roll.given_up));
        let Some((generation, Stage::Known(plan), given_up)) = known else { return };
        // The place that was given up for it may be gone, with a limit that was lowered since.
        let limit = self.apps.get(&id).map_or(0, App::limit);
        let crew = self.roster.crew(id);
        let place = given_up > 0 && self.roster.live() < self.settings.max.get() && crew.live() < limit;
        let beside = !place && crew.serving > 0;
        if let Some(worker) = self.hire_of(id, None, generation, plan, now) {
            self.roster.update(worker, |worker| worker.beside = beside);
            self.set_stage(id, Stage::Starting(plan, worker));
        }
    }

    /// An old worker leaves to make room for the first of the new generation.
    pub(crate) fn give_up(&mut self, id: AppId, worker: WorkerId, now: Time) {
        if let Some(roll) = self.apps.get_mut(&id).and_then(|app| app.roll.as_mut()) {
            roll.given_up += 1;
        }
        self.leave(worker, StopReason::OldGeneration, now);
    }

    /// When no old worker is left, the first of the new generation is one like any other.
    pub(crate) fn note_alone(&mut self, id: AppId) {
        let stage = self.apps.get(&id).and_then(|app| app.roll.as_ref()).map(|roll| roll.stage);
        if let Some(Stage::Starting(_, first)) = stage
            && self.roster.crew(id).serving == 0
            && self.roster.get(first).is_some_and(|worker| worker.beside)
        {
            self.roster.update(first, |worker| worker.beside = false);
        }
    }

    /// A worker is ready: perhaps the one that a restart waits for.
    pub(crate) fn take_over(&mut self, worker: WorkerId, now: Time) {
        let Some((id, generation)) = self.roster.get(worker).map(|worker| (worker.app, worker.generation)) else {
            return;
        };
        match self.stage_of(id, generation) {
            Some(Stage::Starting(plan, first)) if first == worker => {
                self.adopt(id, generation, Inspection::Known(plan));
            }
            Some(Stage::Fresh) => {}
            _ => return,
        }
        self.set_stage(id, Stage::Serving);
        // What was given up is made up for.
        if let Some(roll) = self.apps.get_mut(&id).and_then(|app| app.roll.as_mut()) {
            roll.given_up = 0;
        }
        self.supersede(id, now);
        // It has gone beyond the limits in place of another, which nobody else shall have to make up for.
        if self.roster.get(worker).is_some_and(|worker| worker.beside) {
            self.roster.update(worker, |worker| worker.beside = false);
            if let Some(old) = self.who_makes_room(id, generation) {
                self.leave(old, StopReason::OldGeneration, now);
            }
        }
        self.keep_update(id, now);
    }

    /// A worker of the new generation could not be started. True: others go on serving, and this says nothing about them.
    pub(crate) fn roll_start_failed(
        &mut self,
        id: AppId,
        worker: WorkerId,
        generation: Generation,
        report: ReportId,
        now: Time,
    ) -> bool {
        match self.stage_of(id, generation) {
            Some(Stage::Starting(_, first)) if first == worker => {
                self.fail_roll(id, report, now);
                true
            }
            Some(Stage::Fresh) => {
                self.fail_roll(id, report, now);
                false
            }
            _ => false,
        }
    }

    /// The first worker of the new generation is gone without a word: another is tried.
    pub(crate) fn roll_start_lost(&mut self, id: AppId, worker: WorkerId) {
        let stage = self.apps.get(&id).and_then(|app| app.roll.as_ref()).map(|roll| roll.stage);
        if let Some(Stage::Starting(plan, first)) = stage
            && first == worker
        {
            self.set_stage(id, Stage::Known(plan));
            self.touch(id);
        }
    }

    /// Another worker takes the place of the first of the new generation.
    pub(crate) fn roll_start_instead(&mut self, id: AppId, lost: WorkerId, heir: WorkerId) {
        let stage = self.apps.get(&id).and_then(|app| app.roll.as_ref()).map(|roll| roll.stage);
        if let Some(Stage::Starting(plan, first)) = stage
            && first == lost
        {
            self.set_stage(id, Stage::Starting(plan, heir));
        }
    }

    /// The new generation can't be started: the old one serves on.
    fn fail_roll(&mut self, id: AppId, report: ReportId, now: Time) {
        let Some(app) = self.apps.get_mut(&id) else { return };
        let Some((generation, given_up)) = app.roll.as_ref().map(|roll| (roll.generation, roll.given_up)) else {
            return;
        };
        app.failed_roll = Some((generation, report));
        // Where a worker left to make room for it, that place is filled again.
        app.owed = given_up;
        let askers = self.drop_roll(id);
        self.answer_all(askers, &Answer::Refused(Refusal::SpawnFailed(report)));
        self.notice(Notice::RestartFailed { app: id, generation, report });
        self.undo_update(id, Refusal::SpawnFailed(report), now);
        self.touch(id);
    }

    /// Idle workers of older generations leave once nobody waits who might need them.
    pub(crate) fn leave_old(&mut self, id: AppId, now: Time) {
        if self.queue.first(id).is_some() || !self.apps.get(&id).is_some_and(App::is_settling) {
            return;
        }
        let old: Vec<WorkerId> = self.roster.crew(id).all.iter().copied().filter(|id| self.is_old_idle(*id)).collect();
        for worker in old {
            self.leave(worker, StopReason::OldGeneration, now);
        }
    }

    fn is_old_idle(&self, id: WorkerId) -> bool {
        let worker = self.roster.get(id);
        worker.is_some_and(|worker| worker.is_idle() && worker.spent == Some(StopReason::OldGeneration))
    }

    /// Reports a switch once no old worker takes a session any more.
    pub(crate) fn finish_roll(&mut self, id: AppId) {
        let Some(app) = self.apps.get(&id).filter(|app| app.is_settling()) else { return };
        let generation = app.generation;
        let crew = self.roster.crew(id);
        let old = |id: &WorkerId| {
            let worker = self.roster.get(*id);
            worker.is_some_and(|worker| worker.is_serving() && worker.generation < generation)
        };
        if !crew.all.iter().any(old) {
            let askers = self.drop_roll(id);
            self.answer_all(askers, &Answer::Done);
            self.notice(Notice::Restarted { app: id, generation });
        }
    }

    /// A worker that makes room for the first of a new generation: an idle one, else the one with the fewest sessions.
    pub(crate) fn who_makes_room(&self, id: AppId, generation: Generation) -> Option<WorkerId> {
        let crew = self.roster.crew(id);
        let serving = crew.all.iter().filter_map(|id| Some((*id, self.roster.get(*id)?)));
        serving
            .filter(|(_, worker)| worker.is_serving() && worker.generation < generation)
            .min_by_key(|(id, worker)| (worker.sessions, *id))
            .map(|(id, _)| id)
    }

    /// Whether a worker is the first of a generation that isn't the app's yet.
    pub(crate) fn is_first_of_roll(&self, id: WorkerId) -> bool {
        let worker = self.roster.get(id);
        worker.is_some_and(|worker| self.apps.get(&worker.app).is_some_and(|app| worker.generation > app.generation))
    }

    /// Whether an app needs a worker though nobody waits and `min` is kept: a restart wants a verdict, or took one away.
    pub(crate) fn owes_a_worker(&self, id: AppId) -> bool {
        let Some(app) = self.apps.get(&id) else { return false };
        let fresh = app.roll.as_ref().is_some_and(|roll| roll.stage == Stage::Fresh);
        let lacking = fresh && self.roster.crew(id).live() == 0;
        app.is_kept_up() && (lacking || app.owed > 0)
    }
}
