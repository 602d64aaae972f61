//! Looking at workers that run: how much memory they use, whether they answer, where they wait.

use super::memory::resident_tree;
use super::{Role, Worker};
use crate::core::ready::ping;
use crate::core::shell::{Shell, State};
use hatchery_pool::{AppId, Event, WorkerId};
use hatchery_protocol::link::{Findings, ToKeeper, WorkerNumber};

impl State {
    /// What can't be read is not told.
    pub(crate) fn sample(&mut self, id: WorkerId) -> Option<Event> {
        let worker = self.workers.table.get_mut(&id).filter(|worker| worker.pid != 0)?;
        let resident_bytes = resident_tree(worker.pid)?;
        worker.memory = Some(resident_bytes);
        Some(Event::Sampled { worker: id, resident_bytes })
    }

    pub(crate) fn examine(&mut self, id: WorkerId) {
        let worker = WorkerNumber(self.number(id.0));
        if let Some(known) = self.workers.table.get_mut(&id) {
            // What was found before is no answer to what is asked now.
            known.findings = Findings::default();
        }
        self.tell_keeper(&ToKeeper::Examine { worker }, &[]);
    }

    /// The signal comes from the plan, which the keeper has.
    pub(crate) fn dump(&mut self, id: WorkerId) {
        let worker = WorkerNumber(self.number(id.0));
        self.tell_keeper(&ToKeeper::Dump { worker }, &[]);
    }

    pub(crate) fn ping(&mut self, shell: &Shell, id: WorkerId) {
        let Some(worker) = self.workers.get(id) else { return };
        let path = self.options(&worker.plan.root).ping_path;
        let question = ping::question(worker.plan.protocol, path);
        let asking = tokio::task::spawn_local(ping::ping(shell.clone(), id, question));
        if let Some(worker) = self.workers.table.get_mut(&id) {
            worker.end_ping();
            worker.ping = Some(asking.abort_handle());
        }
    }

    /// Its connection goes with its task.
    pub(crate) fn end_ping(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.table.get_mut(&id) {
            worker.end_ping();
        }
    }

    /// Preloaders have numbers and processes too, but come and go at the pool's word alone.
    ///
    /// # Errors
    /// One sentence: it is one.
    pub(crate) fn only_a_worker(&self, id: WorkerId) -> Result<WorkerId, String> {
        match self.workers.get(id).filter(|process| process.role() == Role::Preloader) {
            None => Ok(id),
            Some(preloader) => Err(format!(
                "{id} (process {}) is the preloader of {}, and no worker: it leaves when it is of no use any more, and \
                 `restart` begins with another one",
                preloader.pid,
                self.app_name(preloader.app)
            )),
        }
    }

    /// Limits that could not be applied and need not be: each is said once of an app.
    pub(super) fn say_missed(&mut self, app: AppId, missed: Vec<String>) {
        let name = self.app_name(app);
        for sentence in missed {
            if !self.missed.contains(&(app, sentence.clone())) {
                tracing::warn!(app = name, "a limit is not applied: {sentence}");
                self.missed.insert((app, sentence));
            }
        }
    }
}

impl Worker {
    pub(super) fn end_ping(&mut self) {
        if let Some(ping) = self.ping.take() {
            ping.abort();
        }
    }
}

impl Shell {
    pub(crate) fn worker_examined(&self, number: WorkerNumber, findings: Findings) {
        let event = {
            let mut state = self.state();
            let Some((worker, known)) = state.worker_mut(number) else { return };
            let memory_bytes = findings.memory_bytes;
            known.memory = memory_bytes.or(known.memory);
            known.findings = findings;
            Event::Examined { worker, memory_bytes }
        };
        self.tell(event);
    }
}
