//! The figures that `hatchery status` shows.

use super::connections::Connection;
use super::shell::State;
use super::translate;
use hatchery_pool::{AppSnapshot, AppState, WorkerSnapshot, WorkerState};
use hatchery_protocol::options::{AppOptions, Start};
use hatchery_protocol::status::{AppStatus, Status, WorkerStatus};
use std::fmt::Write;

pub(super) fn status(state: &State) -> Status {
    let now = state.now();
    let snapshot = state.pool.snapshot(now);
    let names = unique_names(&snapshot.apps.iter().map(|app| state.label(app)).collect::<Vec<_>>());
    let apps = snapshot.apps.iter().zip(names).map(|(app, name)| AppStatus {
        root: String::from_utf8_lossy(&app.root).into_owned(),
        name,
        state: app_state(app.state).into(),
        disabled: None,
        limit: app.limit.map(|gate| translate::gate(gate).into()),
        generation: app.generation.0,
        waiting: app.waiting,
        served: app.served,
        workers: app
            .workers
            .iter()
            .map(|worker| WorkerStatus {
                uptime_s: now.since(worker.started).as_secs_f64(),
                ..state.worker_status(worker)
            })
            .collect(),
    });
    Status {
        version: hatchery_protocol::VERSION.into(),
        max: snapshot.max,
        count: snapshot.count,
        active: snapshot.active,
        waiting: snapshot.waiting,
        apps: apps.collect(),
        post_mortems: Vec::new(),
    }
}

impl State {
    fn worker_status(&self, worker: &WorkerSnapshot) -> WorkerStatus {
        let pid = self.workers.get(worker.id).map_or(0, |process| process.pid);
        let sessions = worker.sessions.iter();
        let doing = sessions.filter_map(|session| self.connections.get(&session.connection)).map(Connection::label);
        WorkerStatus {
            id: worker.id.0,
            pid,
            state: worker_state(worker.state).into(),
            generation: worker.generation.0,
            sessions: u32::try_from(worker.sessions.len()).unwrap_or(u32::MAX),
            doing: doing.filter(|label| !label.is_empty()).map(String::from).collect(),
            served: worker.served,
            memory_bytes: resident(pid),
            uptime_s: 0.0,
            idle_s: worker.idle.map(|idle| idle.as_secs_f64()),
        }
    }

    /// What an app is called, from the left part of a path to what is shown of it.
    fn label(&self, app: &AppSnapshot) -> String {
        self.name(&app.root, &self.options(&app.root))
    }

    /// The operator's name for it, else its root.
    pub(super) fn name(&self, root: &[u8], options: &AppOptions) -> String {
        let given = self.config.apps.iter().find(|app| app.root == root).and_then(|app| app.name.clone());
        given.unwrap_or_else(|| match options.start {
            Some(Start::DemoApp) => "demo".into(),
            _ => String::from_utf8_lossy(root).into_owned(),
        })
    }
}

/// The last part of each path, lengthened to the left until no two are alike.
fn unique_names(paths: &[String]) -> Vec<String> {
    let parts: Vec<Vec<&str>> =
        paths.iter().map(|path| path.split('/').filter(|part| !part.is_empty()).collect()).collect();
    let tail = |parts: &[&str], len: usize| parts[parts.len().saturating_sub(len)..].join("/");
    let mut names = Vec::with_capacity(paths.len());
    for (own, path) in parts.iter().zip(paths) {
        let unique = (1..=own.len())
            .map(|len| (len, tail(own, len)))
            .find(|(len, name)| parts.iter().filter(|other| tail(other, *len) == *name).count() == 1);
        names.push(unique.map_or_else(|| path.clone(), |(_, name)| name));
    }
    names
}

fn app_state(state: AppState) -> &'static str {
    match state {
        AppState::Running => "running",
        AppState::Idle => "idle",
        AppState::Starting => "starting",
        AppState::Stopped => "stopped",
        AppState::Disabled => "disabled",
    }
}

fn worker_state(state: WorkerState) -> &'static str {
    match state {
        WorkerState::Starting => "starting",
        WorkerState::Ready => "ready",
        WorkerState::Busy => "busy",
        WorkerState::Draining => "draining",
        WorkerState::Stopping => "stopping",
    }
}

/// The second figure of `statm` is in pages.
fn resident(pid: i32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * u64::try_from(rustix::param::page_size()).ok()?)
}

/// The figures for a person, a line each.
pub(super) fn lines(status: &Status) -> Vec<String> {
    let mut lines = vec![format!(
        "hatchery {}: {} of at most {} workers, {} active, {} waiting",
        status.version, status.count, status.max, status.active, status.waiting
    )];
    for app in &status.apps {
        let mut line = format!("{}  {}  {}  {} served", app.name, app.root, app.state, app.served);
        if app.waiting > 0 {
            let _ = write!(line, "  {} waiting", app.waiting);
        }
        if let Some(limit) = &app.limit {
            let _ = write!(line, "  held by {limit}");
        }
        lines.push(line);
        lines.extend(table(&app.workers));
    }
    lines
}

fn table(workers: &[WorkerStatus]) -> Vec<String> {
    if workers.is_empty() {
        return Vec::new();
    }
    let head = ["worker", "pid", "state", "sessions", "served", "memory", "up", "idle"].map(String::from);
    let rows = workers.iter().map(|worker| {
        [
            worker.id.to_string(),
            worker.pid.to_string(),
            worker.state.clone(),
            worker.sessions.to_string(),
            worker.served.to_string(),
            worker.memory_bytes.map_or_else(|| "-".into(), |bytes| format!("{:.1}M", bytes as f64 / 1048576.0)),
            span(worker.uptime_s),
            worker.idle_s.map_or_else(|| "-".into(), span),
        ]
    });
    let rows: Vec<[String; 8]> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..8).map(width).collect();
    rows.iter()
        .map(|row| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
            format!("  {}", cells.join("  "))
        })
        .collect()
}

fn span(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..=59 => format!("{seconds:.1}s"),
        60..=3599 => format!("{}m{:02}s", whole / 60, whole % 60),
        _ => format!("{}h{:02}m", whole / 3600, whole % 3600 / 60),
    }
}
