//! What errands are sent for, and what becomes of their answers.

use super::{ServeError, Server};
use crate::errand::{Answer, ErrandError, Purpose};
use crate::errands::Detail;
use crate::reports;
use crate::swap::Terms;
use crate::trials;
use hatchery_protocol::link::{AppNumber, Findings, FromSpawner, Place, SwapStep, WorkerNumber};
use hatchery_protocol::options::AppOptions;
use std::os::fd::OwnedFd;
use std::rc::Rc;

impl Server {
    pub(super) fn inspect(&mut self, purpose: Purpose, asked: AppOptions) -> Result<(), ServeError> {
        let Purpose::Inspect { app, root, .. } = &purpose else { return Ok(()) };
        self.trials.hear_of(*app);
        let settings = self.config.settings_of(root, asked, self.basis.privileged);
        let settings = match (settings, self.errands.refusal(root)) {
            (Ok(settings), None) => Ok(Box::new(settings)),
            (Ok(_), Some(report)) => Err(report),
            (Err(why), _) => Err(reports::not_served(root, why)),
        };
        match settings {
            Ok(settings) => {
                self.trials.set_gap(root, settings.update_gap.unwrap_or_default());
                self.errands.push(purpose, Detail::Inspect(settings, Rc::clone(&self.rules)));
            }
            Err(report) => self.answer(purpose, Answer::Failed(report), None)?,
        }
        Ok(())
    }

    pub(super) fn look(&mut self, app: AppNumber, root: Vec<u8>) -> Result<(), ServeError> {
        let busy = self.errands.looks_at(app) || self.errands.refusal(&root).is_some();
        let settings = trials::settings(&self.config, &root, self.basis.privileged);
        let purpose = Purpose::Look { app, root };
        match settings {
            Ok(settings) if !busy => {
                self.errands.push(purpose, Detail::Look(Box::new(settings), Rc::clone(&self.rules)));
                Ok(())
            }
            Ok(_) | Err(_) => self.answer(purpose, Answer::Sight(None), None),
        }
    }

    pub(super) fn swap(&mut self, app: AppNumber, root: Vec<u8>, step: SwapStep) -> Result<(), ServeError> {
        self.trials.hear_of(app);
        // What was begun is concluded, though the app be no more of those that are served.
        let begun = self.trials.contains(app) && matches!(step, SwapStep::Keep | SwapStep::Undo);
        let refusal = match trials::settings(&self.config, &root, self.basis.privileged) {
            Err(why) if !begun => Some(reports::not_served(&root, why)),
            Ok(_) | Err(_) => self.errands.refusal(&root),
        };
        let gap = self.trials.gap(&root, self.basis.privileged, &self.config);
        let purpose = Purpose::Swap { app, root, step };
        if let Some(report) = refusal {
            return self.answer(purpose, Answer::Failed(report), None);
        }
        let id = match step {
            SwapStep::Take | SwapStep::Back => self.trials.announce(app),
            SwapStep::Keep | SwapStep::Undo => None,
        };
        let terms = Terms { pool: self.pool.clone(), app, id, privileged: self.basis.privileged, gap };
        self.errands.push(purpose, Detail::Swap(terms));
        Ok(())
    }

    pub(super) fn examine(&mut self, worker: WorkerNumber, pid: i32, mark: String) -> Result<(), ServeError> {
        let purpose = Purpose::Examine { worker, pid };
        if self.errands.is_overrun() {
            return self.answer(purpose, Answer::Findings(Box::default()), None);
        }
        let group = self.cgroups.path(worker);
        let others = self.workers.iter().filter(|(number, _)| **number != worker);
        let others = others.filter_map(|(_, own)| own.pid).collect();
        self.errands.push(purpose, Detail::Examine(mark, group, others));
        Ok(())
    }

    pub(super) fn hear_errand(&mut self, pid: i32) -> Result<(), ServeError> {
        match self.errands.hear(pid) {
            None => Ok(()),
            Some((purpose, Ok((answer, descriptor)))) => self.answer(purpose, answer, descriptor),
            Some((purpose, Err(error))) => self.errand_failed(purpose, &error),
        }
    }

    pub(super) fn errand_failed(&mut self, purpose: Purpose, error: &ErrandError) -> Result<(), ServeError> {
        let report = reports::errand(&purpose, error);
        self.answer(purpose, Answer::Failed(report), None)
    }

    /// Passes on what an errand brought back.
    pub(super) fn answer(
        &mut self,
        purpose: Purpose,
        answer: Answer,
        descriptor: Option<OwnedFd>,
    ) -> Result<(), ServeError> {
        let message = match (purpose, answer) {
            (Purpose::Inspect { app, generation, .. }, Answer::Plan(plan)) => {
                FromSpawner::Inspected { app, generation, plan }
            }
            (Purpose::Inspect { app, generation, .. }, Answer::Failed(report)) => {
                FromSpawner::InspectFailed { app, generation, report }
            }
            (Purpose::Find { worker, place: place @ Place::Port(_), .. }, Answer::Port)
            | (Purpose::Find { worker, place: place @ Place::Path(_), .. }, Answer::Socket) => {
                FromSpawner::Found { worker, place }
            }
            (Purpose::Find { worker, .. }, Answer::Failed(report)) => FromSpawner::FindFailed { worker, report },
            (Purpose::Examine { worker, .. }, Answer::Findings(findings)) => FromSpawner::Examined { worker, findings },
            (Purpose::Examine { worker, .. }, _) => {
                FromSpawner::Examined { worker, findings: Box::new(Findings::default()) }
            }
            (Purpose::Look { app, .. }, Answer::Sight(sight)) => FromSpawner::Looked { app, sight },
            (Purpose::Look { app, .. }, _) => FromSpawner::Looked { app, sight: None },
            (Purpose::Swap { app, root, step }, Answer::Swapped) => {
                match step {
                    SwapStep::Take | SwapStep::Back => {}
                    SwapStep::Keep | SwapStep::Undo => {
                        self.trials.remove(app);
                        self.errands.push(Purpose::Clear, Detail::Clear(root, self.basis.privileged));
                    }
                }
                FromSpawner::Swapped { app, report: None }
            }
            (Purpose::Swap { app, .. }, Answer::Failed(report)) => {
                // Whatever there is of it is finished or undone at the next inspection.
                self.trials.remove(app);
                FromSpawner::Swapped { app, report: Some(report) }
            }
            (Purpose::Remove | Purpose::Clear, _) => return Ok(()),
            (purpose, _) => {
                let report = reports::wrong_answer(&purpose);
                return self.answer(purpose, Answer::Failed(report), None);
            }
        };
        Ok(self.outbox.push(&message, descriptor)?)
    }
}
