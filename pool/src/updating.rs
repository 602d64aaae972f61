//! Staged updates: another version of an app's files takes the place of the present one, is tried by a restart, and is
//! kept if it starts; else the exchange is undone.

use crate::effect::{Answer, Disabling, Effect, Invalid, Notice, Refusal, SwapStep};
use crate::ids::{AppId, ReportId, Request};
use crate::pool::{Phase, Pool};
use crate::time::Time;

/// An update under way.
#[derive(Debug)]
pub(crate) struct Update {
    pub(crate) stage: Stage,
    asker: Option<Request>,
    /// A restart came while the folder was in between: it begins when that is over. With who asked.
    restart: Option<Vec<Request>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The versions change places.
    Exchanging,
    /// The new one is tried.
    Trying,
    /// It is the app's; what is left of the exchange is put away.
    Keeping,
    /// They change back, for this reason.
    Undoing(Refusal),
}

impl Update {
    /// The app's folder is in between: nothing is looked into or started.
    pub(crate) fn is_in_between(&self) -> bool {
        matches!(self.stage, Stage::Exchanging | Stage::Undoing(_))
    }
}

impl Pool {
    /// A new version lies beside the app, complete; or the one before is wanted back.
    pub(crate) fn update(&mut self, request: Option<Request>, root: &[u8], step: SwapStep, now: Time) {
        let Some(id) = self.app(root) else { return self.unknown(request) };
        if let Some(refusal) = self.unrestartable(id) {
            return self.answer(request, Answer::Refused(refusal));
        }
        let Some(app) = self.apps.get_mut(&id) else { return };
        // Nothing of it would be started, so nobody could say whether the new version works.
        if let Some(why) = app.disabled.clone() {
            let refusal = Refusal::Disabled { until: None, why: Disabling::Operator(why) };
            return self.answer(request, Answer::Refused(refusal));
        }
        if app.update.is_some() {
            return self.answer(request, Answer::Refused(Refusal::Invalid(Invalid::UpdateUnderWay)));
        }
        app.update = Some(Update { stage: Stage::Exchanging, asker: request, restart: None });
        // What is half-started would have files of both.
        self.leave_starting(id, now);
        self.effect(Effect::Swap { app: id, step });
        self.touch(id);
    }

    pub(crate) fn swap_done(&mut self, id: AppId, report: Option<ReportId>, now: Time) {
        let ended = self.phase == Phase::Ended;
        let Some(app) = self.apps.get_mut(&id) else { return };
        if ended {
            // What is left of the exchange is put right at the next start.
            app.update = None;
            return self.touch(id);
        }
        let Some(update) = app.update.as_mut() else { return };
        let (stage, asker) = (update.stage.clone(), update.asker);
        let restart = update.restart.take();
        match (stage, report) {
            (Stage::Exchanging, None) => {
                update.stage = Stage::Trying;
                self.begin_next(id, restart.unwrap_or_default(), true, now);
            }
            (Stage::Exchanging, Some(report)) => {
                app.update = None;
                self.notice(Notice::UpdateRefused { app: id, report });
                self.answer(asker, Answer::Refused(Refusal::SpawnFailed(report)));
                self.restart_at_last(id, restart, now);
            }
            (Stage::Keeping, report) => {
                app.update = None;
                if let Some(report) = report {
                    self.notice(Notice::SwapFailed { app: id, report });
                }
                self.notice(Notice::Updated { app: id });
                self.answer(asker, Answer::Done);
            }
            (Stage::Undoing(why), report) => {
                app.update = None;
                if let Some(report) = report {
                    self.notice(Notice::SwapFailed { app: id, report });
                }
                self.notice(Notice::UpdateUndone { app: id });
                self.answer(asker, Answer::Refused(why));
                // What was found out may be of the other version.
                if self.roster.crew(id).live() == 0 {
                    self.begin_generation(id);
                }
                self.restart_at_last(id, restart, now);
            }
            // Nobody asked.
            (Stage::Trying, _) => {}
        }
        self.touch(id);
    }

    fn restart_at_last(&mut self, id: AppId, restart: Option<Vec<Request>>, now: Time) {
        if let Some(askers) = restart {
            self.begin_next(id, askers, false, now);
        }
    }

    /// Puts a restart off while the app's folder is in between. True: it was.
    pub(crate) fn put_off_restart(&mut self, id: AppId, askers: &[Request]) -> bool {
        let update = self.apps.get_mut(&id).and_then(|app| app.update.as_mut());
        let Some(update) = update.filter(|update| update.is_in_between()) else { return false };
        update.restart.get_or_insert_default().extend(askers);
        true
    }

    pub(crate) fn is_trying_update(&self, id: AppId) -> bool {
        let update = self.apps.get(&id).and_then(|app| app.update.as_ref());
        update.is_some_and(|update| update.stage == Stage::Trying)
    }

    /// The new version has a worker that is ready: it stays.
    pub(crate) fn keep_update(&mut self, id: AppId, now: Time) {
        self.conclude_update(id, Stage::Keeping, SwapStep::Keep, now);
    }

    /// The new version can't be started, or shall not be.
    pub(crate) fn undo_update(&mut self, id: AppId, why: Refusal, now: Time) {
        self.conclude_update(id, Stage::Undoing(why), SwapStep::Undo, now);
    }

    /// The pool is ending: whoever asked is told at once, whatever comes of it.
    pub(crate) fn refuse_update(&mut self, id: AppId, refusal: &Refusal) {
        let Some(update) = self.apps.get_mut(&id).and_then(|app| app.update.as_mut()) else { return };
        let asker = update.asker.take();
        let restart = update.restart.take().unwrap_or_default();
        self.answer_all(asker.into_iter().chain(restart).collect(), &Answer::Refused(refusal.clone()));
    }

    fn conclude_update(&mut self, id: AppId, stage: Stage, step: SwapStep, now: Time) {
        let update = self.apps.get_mut(&id).and_then(|app| app.update.as_mut());
        if let Some(update) = update.filter(|update| update.stage == Stage::Trying) {
            update.stage = stage;
            if step == SwapStep::Undo {
                self.leave_starting(id, now);
            }
            self.effect(Effect::Swap { app: id, step });
            self.touch(id);
        }
    }
}
