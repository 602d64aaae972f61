//! How workers end, and what is recorded of that (invariant 14 of `docs/architecture.md`).

use super::{Books, Checked, Phase, Use};
use hatchery_pool::{ClientId, Exit, Passing, ReportId, SessionId, StopReason, Time, WorkerId};

macro_rules! ensure {
    ($holds:expr, $($what:tt)*) => {
        if !$holds {
            return Err(format!($($what)*));
        }
    };
}

/// How a worker's end has to be recorded.
pub(super) struct Expected {
    pub(super) worker: WorkerId,
    why: Option<StopReason>,
    killed: bool,
    exit: Option<Exit>,
    report: Option<ReportId>,
    started: Time,
    served: u64,
    sessions: Option<Vec<(SessionId, ClientId, Time)>>,
}

impl Books {
    pub(super) fn open_at(&self, id: WorkerId) -> Vec<(SessionId, ClientId, Time)> {
        let at = self.connections.values().filter(|connection| connection.worker == id);
        let open = at.filter(|connection| !matches!(connection.state, Use::Parked | Use::Over));
        open.map(|open| (open.session, open.client, open.began)).collect()
    }

    /// No process is left of it.
    pub(super) fn is_gone(&mut self, id: WorkerId, exit: Option<Exit>) {
        let Some(worker) = self.workers.get(&id) else { return };
        let life = &worker.life;
        let expected = Expected {
            worker: id,
            why: life.why,
            killed: life.killed,
            exit,
            report: life.report,
            started: worker.started,
            served: life.served,
            sessions: match (life.why, &life.open_at_end) {
                // Some have ended before anybody had reason to note them.
                _ if self.ending => None,
                (_, Some(noted)) => Some(noted.clone()),
                (None, None) => Some(self.open_at(id)),
                (Some(_), None) => None,
            },
        };
        let blameless = life.why.is_some_and(is_peaceful) && !life.is_doomed() && life.report.is_none();
        let crashed = !matches!(exit, None | Some(Exit::Status(_) | Exit::Signal(1 | 2 | 15)));
        let peaceful = blameless && !crashed && worker.phase != Phase::Draining;
        self.to_record = (!peaceful).then_some(expected);
        if worker.is_spent() {
            self.nobody_replaces(worker.app);
        }
    }

    /// It is given up: what it was doing is worth knowing.
    pub(super) fn note_open_sessions(&mut self, id: WorkerId, but: Option<SessionId>) {
        let mut open = self.open_at(id);
        open.retain(|&(session, ..)| Some(session) != but);
        if let Some(worker) = self.workers.get_mut(&id)
            && worker.life.open_at_end.as_ref().is_none_or(Vec::is_empty)
        {
            worker.life.open_at_end = Some(open);
        }
    }
}

impl Expected {
    /// Of a preloader that could not load its app.
    pub(super) fn of_preloader(worker: WorkerId, report: ReportId, started: Time, timed_out: bool) -> Self {
        let why = timed_out.then_some(StopReason::StartTimedOut);
        let (killed, report, sessions) = (timed_out, Some(report), Some(Vec::new()));
        Self { worker, why, killed, exit: None, report, started, served: 0, sessions }
    }

    pub(super) fn compare(self, passing: &Passing, now: Time) -> Checked {
        let found = (passing.worker, passing.why, passing.killed, passing.exit, passing.report);
        let expected = (self.worker, self.why, self.killed, self.exit, self.report);
        ensure!(found == expected, "recorded as {found:?} and not {expected:?} (invariant 14)");
        let found = (passing.age, passing.served);
        let expected = (now.since(self.started), self.served);
        ensure!(found == expected, "age and sessions recorded as {found:?} and not {expected:?} (invariant 14)");
        let Some(sessions) = self.sessions else { return Ok(()) };
        let mut open: Vec<_> = sessions.iter().map(|&(id, client, since)| (id, client, now.since(since))).collect();
        let mut found = passing.sessions.clone();
        open.sort_unstable();
        found.sort_unstable();
        ensure!(found == open, "{}: open were {found:?} and not {open:?} (invariant 14)", self.worker);
        Ok(())
    }
}

/// Who leaves for one of these, by itself, has done nothing wrong.
fn is_peaceful(why: StopReason) -> bool {
    use StopReason::{
        ConnectRefused, LingerTimedOut, MaxMemory, PingFailed, RequestTimedOut, SessionEnded, SpawnFailed,
        StartTimedOut, StopTimedOut,
    };
    !matches!(
        why,
        StartTimedOut
            | SpawnFailed
            | ConnectRefused
            | LingerTimedOut
            | StopTimedOut
            | MaxMemory
            | RequestTimedOut
            | SessionEnded
            | PingFailed
    )
}
