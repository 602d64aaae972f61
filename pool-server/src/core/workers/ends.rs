//! The end of a worker's process. The pool is told before the shell forgets it, so that what is known of it can
//! still be recorded.

use super::{LAST_WORDS, Stage, Worker};
use crate::core::shell::Shell;
use crate::core::translate;
use hatchery_pool::{Event, StopReason, WorkerId};
use hatchery_protocol::link::{Listen, ReadyBy, WorkerNumber};
use hatchery_protocol::report::{Exit, SpawnReport, SpawnStep};
use std::rc::Rc;

impl Shell {
    /// No process came of it.
    pub(crate) fn worker_not_started(&self, number: WorkerNumber, report: SpawnReport) {
        let (id, event) = {
            let mut state = self.state();
            let Some((id, worker)) = state.worker_mut(number) else { return };
            let report = SpawnReport { root: String::from_utf8_lossy(&worker.plan.root).into_owned(), ..report };
            let event = if worker.failed_to_start() {
                Event::SpawnFailed { worker: id, report: state.keep_report(report), gone: true }
            } else {
                Event::Exited { worker: id, exit: hatchery_pool::Exit::Status(0) }
            };
            (id, event)
        };
        self.tell_last(id, event);
    }

    pub(crate) fn worker_exited(&self, number: WorkerNumber, exit: Exit, out_of_memory: bool) {
        let id = {
            let mut state = self.state();
            let Some((id, worker)) = state.worker_mut(number) else { return };
            worker.out_of_memory = out_of_memory;
            if worker.failed_to_start() {
                // Its last words are still in the pipe.
                tokio::task::spawn_local(self.clone().report_failed_start(id, exit));
                return worker.stop_readiness();
            }
            id
        };
        let exit = if out_of_memory { hatchery_pool::Exit::OutOfMemory } else { translate::exit(exit) };
        self.tell_last(id, Event::Exited { worker: id, exit });
    }

    async fn report_failed_start(self, id: WorkerId, exit: Exit) {
        let output = self.state().workers.get(id).map(|worker| Rc::clone(&worker.output));
        let Some(output) = output else { return };
        // A process that escaped may hold the pipe for ever.
        let _ = tokio::time::timeout(LAST_WORDS, output.closed()).await;
        let report = {
            let mut state = self.state();
            let Some(worker) = state.workers.get(id) else { return };
            let report = worker.start_report(exit);
            state.keep_report(report)
        };
        self.tell_last(id, Event::SpawnFailed { worker: id, report, gone: true });
    }

    /// Tells the last there is to say of a worker, and forgets it.
    fn tell_last(&self, id: WorkerId, event: Event) {
        self.tell(event);
        self.state().remove_worker(id);
    }
}

impl Worker {
    /// Whether its end is the failure of its start, rather than what the pool ordered for other reasons.
    fn failed_to_start(&self) -> bool {
        let ordered = self.order.is_some_and(|(why, _)| why != StopReason::StartTimedOut);
        self.stage == Stage::Starting && !ordered
    }

    fn start_report(&self, exit: Exit) -> SpawnReport {
        let (problem, remedy) = match self.order {
            Some((StopReason::StartTimedOut, _)) => {
                (format!("it was not ready within {:?} and was killed", self.plan.start_timeout), self.waits_for())
            }
            _ if self.out_of_memory => (
                "the kernel killed it for want of memory before it was ready".into(),
                "raise its memory_max, or make it need less",
            ),
            _ => match exit {
                Exit::Status(0) => (
                    "its start command ended at once, with exit status 0".into(),
                    "a worker must stay in the foreground and serve until it gets TERM: don't let it daemonize",
                ),
                exit => (
                    format!("its start command ended before it was ready, with {exit}"),
                    "its last output should say why",
                ),
            },
        };
        SpawnReport { exit: Some(exit), ..self.report(SpawnStep::Ready, problem, remedy) }
    }

    fn waits_for(&self) -> &'static str {
        match (self.plan.ready, self.plan.listen) {
            (ReadyBy::Notify, _) => "it must send READY=1 to NOTIFY_SOCKET, since its manifest says ready = \"notify\"",
            (_, Listen::Fd) => {
                "it must accept connections on the socket at descriptor 3 (LISTEN_FDS=1) and answer there"
            }
            (_, Listen::Stdin) => {
                "it must accept connections on the socket that is its standard input, and answer there"
            }
            (_, Listen::Port) => "it must listen on 127.0.0.1 at the port in PORT, or {port} in its command",
            (_, Listen::Socket) => "it must listen at the path {socket} in its command",
        }
    }
}
