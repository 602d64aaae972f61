//! What is said of an app's last failed start: until a session of it has ended in peace since, or somebody has put it
//! right.

use crate::core::shell::State;
use hatchery_pool::{AppId, Notice, ReportId, SessionEnd};
use hatchery_protocol::report::SpawnReport;
use hatchery_protocol::status::FailureStatus;
use std::rc::Rc;
use std::time::SystemTime;

pub(crate) struct Failed {
    at: SystemTime,
    report: Rc<SpawnReport>,
    /// Sessions that had ended in peace by then.
    done: u64,
}

impl State {
    pub(crate) fn note_failure(&mut self, notice: &Notice) {
        match *notice {
            Notice::SpawnFailed { app, report, .. } => self.keep_failure(app, report),
            Notice::Enabled { app } | Notice::Restarted { app, .. } | Notice::BreakerClosed { app } => {
                if let Some(known) = self.apps.get_mut(&app) {
                    known.failed = None;
                }
            }
            _ => {}
        }
    }

    fn keep_failure(&mut self, app: AppId, report: ReportId) {
        let (done, report) = (self.done(app), self.report(report));
        let failed = report.map(|report| Failed { at: SystemTime::now(), report, done });
        if let Some(known) = self.known(app) {
            known.failed = failed;
        }
    }

    pub(super) fn failure(&self, app: AppId) -> Option<FailureStatus> {
        let failed = self.apps.get(&app)?.failed.as_ref().filter(|failed| failed.done == self.done(app))?;
        let SpawnReport { problem, remedy, .. } = &*failed.report;
        Some(FailureStatus {
            at: failed.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            problem: problem.clone(),
            remedy: remedy.clone(),
            report: failed.report.to_string(),
        })
    }

    fn done(&self, app: AppId) -> u64 {
        let counters = self.pool.counters(app);
        counters.and_then(|counters| counters.sessions_ended.get(&SessionEnd::Done).copied()).unwrap_or(0)
    }
}
