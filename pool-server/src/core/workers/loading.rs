//! What our loaders say: of an app that can't be loaded, and of a preloader that has loaded it.

use super::reports::Cause;
use super::{Order, Role, Stage};
use crate::core::events::News;
use crate::core::output::printable;
use crate::core::shell::{Shell, State};
use crate::core::translate;
use crate::core::words;
use hatchery_pool::{AppId, DropReason, Event, WorkerId};
use hatchery_protocol::events::EventName;
use hatchery_protocol::link::{ToKeeper, WorkerNumber};
use hatchery_protocol::report::{SpawnReport, SpawnStep};
use std::time::Duration;

/// How long a process whose loader said that it can't be started may take to exit, before it is given up.
const EXIT: Duration = Duration::from_secs(1);
/// What of a reason is shown, in characters: it is the app that words it.
const LONGEST_REASON: usize = 500;

impl Shell {
    /// A preloader has loaded its app; `unfit`: for nothing.
    pub(crate) fn preloaded(&self, number: WorkerNumber, unfit: Option<String>) {
        let event = {
            let mut state = self.state();
            let Some((preloader, process)) = state.worker_mut(number) else { return };
            // What comes too late changes nothing.
            if process.role() != Role::Preloader || !process.failed_to_start() || process.order.is_some() {
                return;
            }
            process.stage = Stage::Ready;
            process.unfit = unfit.map(|why| printable(&why).chars().take(LONGEST_REASON).collect());
            process.heard.notify_one();
            Event::Preloaded { preloader, fit: process.unfit.is_none() }
        };
        self.tell(event);
    }

    /// Its process ends after that; what it prints until then belongs to the report.
    pub(crate) fn load_failed(&self, number: WorkerNumber, report: SpawnReport) {
        let id = {
            let mut state = self.state();
            let Some((id, process)) = state.worker_mut(number) else { return };
            let cause = Cause::said_by_the_app(&report);
            if process.stage != Stage::Starting {
                let (app, pid) = (process.app, process.pid);
                let app = state.app_name(app);
                tracing::warn!(app, worker = id.0, pid, "its loader says: {} {}", cause.problem, cause.remedy);
                return;
            }
            process.cause = Some(cause);
            process.heard.notify_one();
            id
        };
        tokio::task::spawn_local(self.clone().give_up_on_one_that_stays(id, number));
    }

    async fn give_up_on_one_that_stays(self, id: WorkerId, number: WorkerNumber) {
        tokio::time::sleep(EXIT).await;
        let report = {
            let state = self.state();
            let process = state.workers.get(id).filter(|process| process.failed_to_start());
            let Some((process, cause)) = process.and_then(|process| Some((process, process.cause.clone()?))) else {
                return;
            };
            process.report(SpawnStep::Load, cause)
        };
        self.worker_useless(number, report);
    }
}

impl State {
    /// Why an app's preloader said that nothing can be forked from it.
    pub(crate) fn unfit(&self, app: AppId) -> Option<&str> {
        let unfit = |process: &super::Worker| process.app == app && process.unfit.is_some();
        self.workers.table.values().rev().find(|process| unfit(process))?.unfit.as_deref()
    }

    /// Asks it to leave.
    pub(crate) fn drop_preloader(&mut self, preloader: WorkerId, why: DropReason) {
        let text = format!("the preloader leaves: {}", translate::drop_reason(why));
        self.happened(News::of(EventName::PreloaderStopping, text).worker(preloader).why(words::drop_reason(why)));
        let worker = WorkerNumber(self.number(preloader.0));
        let order = Order { kill: false, start_timed_out: why == DropReason::StartTimedOut };
        if self.workers.order(preloader, order) {
            self.tell_keeper(&ToKeeper::Terminate { worker }, &[]);
        }
    }

    pub(crate) fn kill_preloader(&mut self, preloader: WorkerId, why: DropReason) {
        let told = self.workers.get(preloader).is_some_and(super::Worker::is_asked_to_leave);
        let text = format!("the preloader is {}", translate::killing_preloader(why, told));
        self.happened(News::of(EventName::PreloaderKilled, text).worker(preloader).why(words::drop_reason(why)));
        let worker = WorkerNumber(self.number(preloader.0));
        let order = Order { kill: true, start_timed_out: why == DropReason::StartTimedOut };
        if self.workers.order(preloader, order) {
            self.tell_keeper(&ToKeeper::Kill { worker }, &[]);
        }
    }
}
