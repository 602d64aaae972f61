//! The end of a worker's process. The pool is told before the shell forgets it, so that what is known of it can
//! still be recorded.

use super::{LAST_WORDS, Stage, Worker};
use crate::core::shell::Shell;
use crate::core::translate;
use hatchery_pool::{Event, WorkerId};
use hatchery_protocol::link::WorkerNumber;
use hatchery_protocol::report::{Exit, SpawnReport};
use std::rc::Rc;
use std::time::Duration;

/// How long a report waits for what a loader says: it comes another way than the end of its process, and may be
/// overtaken by that.
const LOADERS_WORD: Duration = Duration::from_millis(250);

impl Shell {
    /// No process came of it. `preloader_lost`: what it was to be forked from is of no use, and nothing is said about
    /// the app.
    pub(crate) fn worker_not_started(&self, number: WorkerNumber, report: SpawnReport, preloader_lost: bool) {
        let (id, event) = {
            let mut state = self.state();
            let Some((id, worker)) = state.worker_mut(number) else { return };
            let event = if preloader_lost {
                tracing::debug!(worker = id.0, "it could not be forked: {}", report.problem);
                Event::ForkFailed { worker: id }
            } else if worker.failed_to_start() {
                let report = worker.completed(report);
                Event::SpawnFailed { worker: id, report: state.keep_report(report), gone: true }
            } else {
                Event::Exited { worker: id, exit: hatchery_pool::Exit::Status(0) }
            };
            (id, event)
        };
        self.tell_last(id, event);
    }

    pub(crate) fn worker_exited(&self, number: WorkerNumber, exit: Exit, out_of_memory: bool, cpu: Duration) {
        let id = {
            let mut state = self.state();
            let Some(app) = state.worker_mut(number).map(|(_, worker)| worker.app) else { return };
            if let Some(known) = state.apps.get_mut(&app) {
                known.cpu_of_gone += cpu;
            }
            let Some((id, worker)) = state.worker_mut(number) else { return };
            worker.out_of_memory = out_of_memory;
            if worker.failed_to_start() {
                // Its last words are still on their way.
                tokio::task::spawn_local(self.clone().report_failed_start(id, exit));
                return worker.stop_readiness();
            }
            id
        };
        self.tell_last(id, exited(id, exit, out_of_memory));
    }

    async fn report_failed_start(self, id: WorkerId, exit: Exit) {
        let (output, heard) = {
            let state = self.state();
            let Some(worker) = state.workers.get(id) else { return };
            // One that was killed has said what it had to say.
            let left = matches!(exit, Exit::Status(_)) && worker.order.is_none();
            let speaks = left && worker.has_loader() && worker.cause.is_none();
            (Rc::clone(&worker.output), speaks.then(|| Rc::clone(&worker.heard)))
        };
        // A process that escaped may hold the pipe for ever.
        let printed = tokio::time::timeout(LAST_WORDS, output.closed());
        let said = async {
            if let Some(heard) = heard {
                // One that is broken itself says nothing.
                let _ = tokio::time::timeout(LOADERS_WORD, heard.notified()).await;
            }
        };
        let _ = tokio::join!(printed, said);
        let event = {
            let mut state = self.state();
            let Some(worker) = state.workers.get(id) else { return };
            if worker.failed_to_start() {
                let report = worker.start_report(exit);
                Event::SpawnFailed { worker: id, report: state.keep_report(report), gone: true }
            } else {
                // What was heard meanwhile is that it did what it should.
                exited(id, exit, worker.out_of_memory)
            }
        };
        self.tell_last(id, event);
    }

    /// Tells the last there is to say of a worker, and forgets it.
    fn tell_last(&self, id: WorkerId, event: Event) {
        self.tell(event);
        self.state().remove_worker(id);
    }
}

impl Worker {
    /// Whether its end is the failure of its start, rather than what the pool ordered for other reasons.
    pub(super) fn failed_to_start(&self) -> bool {
        let ordered = self.order.is_some_and(|order| !order.start_timed_out);
        self.stage == Stage::Starting && !ordered
    }
}

fn exited(worker: WorkerId, exit: Exit, out_of_memory: bool) -> Event {
    let exit = if out_of_memory { hatchery_pool::Exit::OutOfMemory } else { translate::exit(exit) };
    Event::Exited { worker, exit }
}
