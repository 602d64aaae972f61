//! What a person is shown of a pool: the core's admin socket and the `hatchery` command draw with the same hand.

mod text;

pub(crate) use text::push_printable;
pub use text::{memory, printable, span};

use hatchery_protocol::post_mortem::PostMortem;
use hatchery_protocol::status::{PreloaderStatus, RestartStatus, Status, WorkerStatus};
use std::fmt::Write;
use std::time::SystemTime;

/// Records of workers that a person is shown.
const SHOWN: usize = 5;
/// Seconds after which a session is shown for itself.
const LONG_SESSION: f64 = 10.0;
const ROLLING: &str = "rolling";

/// The figures for a person, a line each, with the last of what went wrong.
#[must_use]
pub fn lines(status: &Status) -> Vec<String> {
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
        if let Some(disabled) = &app.disabled {
            let retry = disabled.retry_in_s.map(|retry| format!("; the next try in {}", span(retry)));
            let retry = retry.unwrap_or_else(|| "; until it is enabled".into());
            let _ = write!(line, "  disabled: {}{retry}", printable(&disabled.why));
        }
        if let Some(restart) = &app.restart {
            line += &restart_text(restart, &app.root);
        }
        lines.push(line);
        lines.extend(table(&app.workers));
        lines.extend(app.preloaders.iter().map(preloader_line));
        lines.extend(long_sessions(&app.workers));
    }
    lines.extend(ends(&status.post_mortems));
    lines
}

/// Sessions that have been open for a while, with the number by which `end` ends them.
fn long_sessions(workers: &[WorkerStatus]) -> impl Iterator<Item = String> {
    let open = workers.iter().flat_map(|worker| worker.open.iter().map(move |session| (worker.id, session)));
    open.filter(|(_, session)| session.age_s >= LONG_SESSION).map(|(worker, session)| {
        let doing = session.doing.as_deref().map(printable).unwrap_or_default();
        format!("  session {}  at worker {worker}  for {}  {doing}", session.id, span(session.age_s))
            .trim_end()
            .to_owned()
    })
}

fn restart_text(restart: &RestartStatus, root: &str) -> String {
    let RestartStatus { generation, report, .. } = restart;
    match report {
        None if restart.state == ROLLING => format!("  rolling to generation {generation}"),
        None => "  restart failed: its report is no longer kept".to_owned(),
        Some(report) => {
            let first = report.lines().next().unwrap_or_default();
            let problem = first.strip_prefix(root).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(first);
            format!("  restart failed: {}", printable(problem))
        }
    }
}

/// The latest records, a line each.
fn ends(records: &[PostMortem]) -> Vec<String> {
    if records.is_empty() {
        return Vec::new();
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let head = format!(
        "{} of {} workers that did not leave in peace (status --json has all, with output and sessions):",
        records.len().min(SHOWN),
        records.len()
    );
    let lines = records.iter().take(SHOWN).map(|record| {
        let ago = span((now - record.at).max(0.0));
        let PostMortem { app, worker, pid, why, .. } = record;
        format!("  {app}  worker {worker}  pid {pid}  {ago} ago  {}", printable(why))
    });
    std::iter::once(head).chain(lines).collect()
}

fn preloader_line(preloader: &PreloaderStatus) -> String {
    let PreloaderStatus { id, pid, state, forks, memory_bytes, uptime_s, .. } = preloader;
    let (memory, up) = (memory(*memory_bytes), span(*uptime_s));
    format!("  preloader {id}  pid {pid}  {state}  {forks} forked  memory {memory}  up {up}")
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
            memory(worker.memory_bytes),
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
