//! What is kept of workers that did not leave in peace.

use super::{LAST_WORDS, Worker};
use crate::core::events::News;
use crate::core::output::{Output, last_of};
use crate::core::shell::{Shell, State};
use crate::core::translate;
use crate::core::words;
use hatchery_pool::{Passing, SessionId};
use hatchery_protocol::events::EventName;
use hatchery_protocol::post_mortem::{OpenSession, PostMortem};
use hatchery_protocol::report::SpawnReport;
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::SystemTime;

/// Records that are kept.
const RECORDS: usize = 100;
/// What is kept of a worker's output …
const LINES: usize = 20;
/// … and of its kernel stack, in bytes.
const TEXT: usize = 4 * 1024;
/// Open sessions that are listed.
const SESSIONS: usize = 32;

/// The latest first.
#[derive(Debug, Default)]
pub(crate) struct Records(VecDeque<PostMortem>);

impl Records {
    fn add(&mut self, record: PostMortem) {
        self.0.truncate(RECORDS - 1);
        self.0.push_front(record);
    }

    pub(crate) fn all(&self) -> Vec<PostMortem> {
        self.0.iter().cloned().collect()
    }

    /// What it printed last was read after it was gone.
    fn complete(&mut self, worker: u64, output: String) {
        if let Some(record) = self.0.iter_mut().find(|record| record.worker == worker) {
            record.output = output;
        }
    }
}

impl State {
    /// Keeps and logs what is known; the last of its output may follow.
    pub(crate) fn record(&mut self, shell: &Shell, passing: &Passing) {
        let report = passing.report.and_then(|report| self.report(report));
        let worker = self.workers.get(passing.worker);
        let record = self.post_mortem(passing, worker, report.as_deref());
        let why = if passing.report.is_some() { "spawn_failed" } else { words::gone(passing.why) };
        let news = News::of(EventName::PostMortem, format!("a worker did not leave in peace: {}", record.why));
        let news = news.app(passing.app).worker(passing.worker).generation(passing.generation).why(why);
        self.happened(news.with_record(&record, passing.sessions.len()));
        let worker = self.workers.get(passing.worker);
        if let Some(worker) = worker
            && report.is_none()
        {
            let output = Rc::clone(&worker.output);
            tokio::task::spawn_local(complete(shell.clone(), passing.worker.0, output));
        }
        self.records.add(record);
    }

    fn post_mortem(&self, passing: &Passing, worker: Option<&Worker>, report: Option<&SpawnReport>) -> PostMortem {
        let root = match (worker, report) {
            (Some(worker), _) => worker.plan.root.clone(),
            (None, Some(report)) => report.root.clone().into_bytes(),
            (None, None) => self.pool.root(passing.app).unwrap_or_default().to_vec(),
        };
        // Who was not killed was looked at for its memory, long before its end.
        let findings = worker.filter(|_| passing.killed).map(|worker| worker.findings.clone()).unwrap_or_default();
        let exit = passing.exit.map(translate::exit_back).or(report.and_then(|report| report.exit));
        let output = match report {
            Some(report) => report.output.clone(),
            None => worker.map(|worker| worker.output.last()).unwrap_or_default(),
        };
        PostMortem {
            app: self.options.name(&root),
            root: String::from_utf8_lossy(&root).into_owned(),
            worker: passing.worker.0,
            pid: worker.map_or(0, |worker| worker.pid),
            generation: passing.generation.0,
            at: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            why: translate::passing(passing, report),
            exit,
            out_of_memory: worker.is_some_and(|worker| worker.out_of_memory),
            age_s: passing.age.as_secs_f64(),
            served: passing.served,
            memory_bytes: worker.and_then(|worker| worker.memory),
            sessions: self.open_sessions(passing, worker),
            state: findings.state,
            kernel_stack: findings.kernel_stack.map(|stack| stack.chars().take(TEXT).collect()),
            output: last_of(&output, LINES, TEXT).to_owned(),
        }
    }

    fn open_sessions(&self, passing: &Passing, worker: Option<&Worker>) -> Vec<OpenSession> {
        let doing = |session: SessionId| worker?.said_of(session).map(str::to_owned);
        let open = passing.sessions.iter().take(SESSIONS);
        open.map(|(session, _, age)| OpenSession { id: session.0, age_s: age.as_secs_f64(), doing: doing(*session) })
            .collect()
    }
}

/// What it printed last may still be in its pipes.
async fn complete(shell: Shell, worker: u64, output: Rc<Output>) {
    // A process that escaped may hold them for ever.
    let _ = tokio::time::timeout(LAST_WORDS, output.closed()).await;
    let last = output.last();
    shell.state().records.complete(worker, last_of(&last, LINES, TEXT).to_owned());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(worker: u64) -> PostMortem {
        PostMortem {
            root: "/srv/shop".into(),
            app: "shop".into(),
            worker,
            pid: 1,
            generation: 1,
            at: 0.0,
            why: "died with signal 11 while it served 1 session".into(),
            exit: None,
            out_of_memory: false,
            age_s: 1.0,
            served: 1,
            memory_bytes: None,
            sessions: Vec::new(),
            state: None,
            kernel_stack: None,
            output: String::new(),
        }
    }

    #[test]
    fn the_latest_records_are_kept_and_completed() {
        let mut records = Records::default();
        for worker in 0..250 {
            records.add(record(worker));
        }
        records.complete(200, "last words".into());
        records.complete(3, "too late".into());
        let all = records.all();
        assert_eq!((all.len(), all[0].worker, all[99].worker), (100, 249, 150));
        assert_eq!(all[49].output, "last words");
        assert!(all.iter().all(|record| record.worker == 200 || record.output.is_empty()));
    }
}
