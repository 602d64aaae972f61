//! Who holds which session at which worker, and for how long.

use crate::core::connections::Connection;
use crate::core::shell::State;
use hatchery_pool::AppId;
use hatchery_protocol::status::SessionStatus;

/// Every open session, or those of one app; the longest first.
pub(crate) fn sessions(state: &State, wanted: Option<AppId>) -> Vec<SessionStatus> {
    let now = state.now();
    let snapshot = state.pool.snapshot(now);
    let mut sessions = Vec::new();
    for app in snapshot.apps.iter().filter(|app| wanted.is_none_or(|wanted| app.id == wanted)) {
        if app.workers.iter().all(|worker| worker.sessions.is_empty()) {
            continue;
        }
        let (name, root) = (state.options.name(&app.root), String::from_utf8_lossy(&app.root));
        for worker in &app.workers {
            let pid = state.workers.get(worker.id).map_or(0, |process| process.pid);
            sessions.extend(worker.sessions.iter().map(|session| SessionStatus {
                id: session.id.0,
                app: name.clone(),
                root: root.clone().into_owned(),
                worker: worker.id.0,
                pid,
                client: session.client.0,
                client_pid: state.client_pids.get(&session.client).copied(),
                age_s: now.since(session.since).as_secs_f64(),
                abandoned: session.abandoned,
                doing: state.doing(session.connection),
            }));
        }
    }
    sessions.sort_by(|one, other| other.age_s.total_cmp(&one.age_s).then(one.id.cmp(&other.id)));
    sessions
}

impl State {
    /// What a front end said of the session on a connection.
    pub(super) fn doing(&self, connection: hatchery_pool::ConnectionId) -> Option<String> {
        let label = self.connections.get(&connection).map(Connection::label);
        label.filter(|label| !label.is_empty()).map(str::to_owned)
    }
}
