//! What runs, where, and how busy it is.

use super::table::{Line, Look, Side, Style, Table};
use super::{memory, span};
use hatchery_protocol::post_mortem::PostMortem;
use hatchery_protocol::status::{
    AppStatus, DisabledStatus, PreloaderStatus, RestartStatus, Status, TenantStatus, WorkerStatus,
};
use std::time::SystemTime;

/// Records of workers that a person is shown.
const SHOWN: usize = 5;
/// Seconds after which a session is shown for itself.
const LONG_SESSION: f64 = 10.0;
const ROLLING: &str = "rolling";

/// A line for the pool, some for each app, one for each tenant, and the last of what went wrong.
#[must_use]
pub fn status(status: &Status, look: Look) -> Vec<String> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let mut lines = vec![head(status)];
    for (app, line) in status.apps.iter().zip(heads(&status.apps, now)) {
        lines.push(line);
        lines.extend(workers(&app.workers));
        lines.extend(app.preloaders.iter().map(preloader));
        lines.extend(long_sessions(&app.workers));
    }
    lines.extend(tenants(&status.tenants));
    lines.extend(ends(&status.post_mortems, now));
    lines.iter().map(|line| line.draw(look)).collect()
}

fn head(status: &Status) -> Line {
    let Status { version, max, count, active, waiting, .. } = status;
    let line = Line::default().then(Style::Head, &format!("hatchery {version}"));
    let line = line.then(Style::Plain, &format!(": {count} of at most {max} workers, {active} active, "));
    line.then(if *waiting > 0 { Style::Warning } else { Style::Plain }, &format!("{waiting} waiting"))
}

/// The lines of the apps themselves: aligned with each other, and behind the columns what else is to be said.
fn heads(apps: &[AppStatus], now: f64) -> Vec<Line> {
    use Side::{Left, Right};
    let mut table = Table::new("", [Left, Left, Left, Right, Right]);
    for app in apps {
        table.row([
            (Style::Head, app.name.clone()),
            (Style::Plain, app.root.clone()),
            (of_app(&app.state), app.state.clone()),
            (Style::Plain, format!("{} served", app.served)),
            (Style::Plain, memory((app.memory_bytes > 0).then_some(app.memory_bytes))),
        ]);
    }
    table.lines().zip(apps).map(|(line, app)| notes(line, app, now)).collect()
}

fn notes(mut line: Line, app: &AppStatus, now: f64) -> Line {
    if let Some(tenant) = &app.tenant {
        line = line.then(Style::Faint, &format!("  tenant {tenant}"));
    }
    if app.waiting > 0 {
        let longest = app.oldest_wait_s.map(|wait| format!(" for {}", span(wait))).unwrap_or_default();
        line = line.then(Style::Warning, &format!("  {} waiting{longest}", app.waiting));
    }
    if let Some(limit) = &app.limit {
        line = line.then(Style::Warning, &format!("  held by {limit}"));
    }
    if let Some(DisabledStatus { why, retry_in_s }) = &app.disabled {
        let retry = retry_in_s.map(|retry| format!("; the next try in {}", span(retry)));
        let retry = retry.unwrap_or_else(|| "; until it is enabled".into());
        line = line.then(Style::Bad, &format!("  disabled: {why}{retry}"));
    }
    if let Some(RestartStatus { state, generation, report }) = &app.restart {
        line = match report {
            None if state == ROLLING => line.then(Style::Busy, &format!("  rolling to generation {generation}")),
            None => line.then(Style::Bad, "  restart failed: its report is no longer kept"),
            Some(report) => line.then(Style::Bad, &format!("  restart failed: {}", problem(report, &app.root))),
        };
    }
    if let Some(failure) = &app.failure {
        let ago = span((now - failure.at).max(0.0));
        line = line.then(Style::Bad, &format!("  the last start failed {ago} ago: {}", failure.problem));
    }
    line
}

/// A report's first line, without the app it is about.
fn problem<'a>(report: &'a str, root: &str) -> &'a str {
    let first = report.lines().next().unwrap_or_default();
    first.strip_prefix(root).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(first)
}

pub(super) fn of_app(state: &str) -> Style {
    match state {
        "running" => Style::Good,
        "starting" => Style::Busy,
        "stopped" => Style::Warning,
        "disabled" => Style::Bad,
        _ => Style::Faint,
    }
}

fn of_worker(state: &str) -> Style {
    match state {
        "ready" => Style::Good,
        "busy" => Style::Busy,
        "starting" | "draining" | "stopping" => Style::Warning,
        _ => Style::Plain,
    }
}

fn workers(workers: &[WorkerStatus]) -> Vec<Line> {
    let columns = ["worker", "pid", "state", "generation", "sessions", "served", "memory", "cpu", "up", "idle"]
        .map(|name| (name, Side::Right));
    if workers.is_empty() {
        return Vec::new();
    }
    let mut table = Table::headed("  ", &columns);
    for worker in workers {
        let plain = |text: String| (Style::Plain, text);
        table.row([
            plain(worker.id.to_string()),
            plain(worker.pid.to_string()),
            (of_worker(&worker.state), worker.state.clone()),
            plain(worker.generation.to_string()),
            plain(worker.sessions.to_string()),
            plain(worker.served.to_string()),
            plain(memory(worker.memory_bytes)),
            plain(worker.cpu_s.map_or_else(|| "-".into(), span)),
            plain(span(worker.uptime_s)),
            plain(worker.idle_s.map_or_else(|| "-".into(), span)),
        ]);
    }
    table.lines().collect()
}

fn preloader(preloader: &PreloaderStatus) -> Line {
    let PreloaderStatus { id, pid, state, forks, memory_bytes, uptime_s, .. } = preloader;
    let (memory, up) = (memory(*memory_bytes), span(*uptime_s));
    Line::of(&format!("  preloader {id}  pid {pid}  {state}  {forks} forked  memory {memory}  up {up}"))
}

/// Sessions that have been open for a while, with the number by which `end` ends them.
fn long_sessions(workers: &[WorkerStatus]) -> impl Iterator<Item = Line> {
    let open = workers.iter().flat_map(|worker| worker.open.iter().map(move |session| (worker.id, session)));
    open.filter(|(_, session)| session.age_s >= LONG_SESSION).map(|(worker, session)| {
        let line = Line::of(&format!("  session {}  at worker {worker}  ", session.id));
        let line = line.then(Style::Warning, &format!("for {}", span(session.age_s)));
        match &session.doing {
            Some(doing) => line.then(Style::Plain, &format!("  {doing}")),
            None => line,
        }
    })
}

fn tenants(tenants: &[TenantStatus]) -> Vec<Line> {
    if tenants.is_empty() {
        return Vec::new();
    }
    use Side::{Left, Right};
    let columns = [
        ("tenant", Left),
        ("apps", Right),
        ("workers", Right),
        ("at most", Right),
        ("active", Right),
        ("waiting", Right),
        ("served", Right),
        ("memory", Right),
        ("at most", Right),
    ];
    let mut table = Table::headed("", &columns);
    let limit = |limit: Option<String>| (Style::Faint, limit.unwrap_or_else(|| "-".into()));
    for tenant in tenants {
        let figure = |figure: u32| (Style::Plain, figure.to_string());
        table.row([
            (Style::Head, tenant.name.clone()),
            figure(tenant.apps),
            figure(tenant.count),
            limit(tenant.max.map(|max| max.to_string())),
            figure(tenant.active),
            (if tenant.waiting > 0 { Style::Warning } else { Style::Plain }, tenant.waiting.to_string()),
            (Style::Plain, tenant.served.to_string()),
            (Style::Plain, memory(Some(tenant.memory_bytes))),
            limit(tenant.max_memory.map(|max| memory(Some(max)))),
        ]);
    }
    table.lines().collect()
}

/// The latest records, a line each.
fn ends(records: &[PostMortem], now: f64) -> Vec<Line> {
    if records.is_empty() {
        return Vec::new();
    }
    let head = Line::of(&format!(
        "{} of {} workers that did not leave in peace (status --json has all, with output and sessions):",
        records.len().min(SHOWN),
        records.len()
    ));
    let lines = records.iter().take(SHOWN).map(|record| {
        let ago = span((now - record.at).max(0.0));
        let PostMortem { app, worker, pid, why, .. } = record;
        Line::of(&format!("  {app}  worker {worker}  pid {pid}  {ago} ago  ")).then(Style::Bad, why)
    });
    std::iter::once(head).chain(lines).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two apps: one busy, one disabled.
    fn some() -> Status {
        let app = |name: &str, state: &str| {
            serde_json::json!({
                "root": format!("/srv/{name}"), "name": name, "tenant": null, "state": state, "limit": null,
                "disabled": null, "generation": 1, "restart": null, "waiting": 0, "oldest_wait_s": null, "served": 7,
                "memory_bytes": 0, "cpu_s": 0.0, "failure": null, "workers": [], "preloaders": [],
            })
        };
        let mut apps = [app("shop", "running"), app("blogs", "disabled")];
        apps[0]["waiting"] = 2.into();
        apps[0]["limit"] = "pool_full".into();
        apps[0]["workers"] = serde_json::json!([{
            "id": 3, "pid": 4821, "state": "busy", "generation": 1, "sessions": 1, "doing": ["GET /report"],
            "open": [{ "id": 17, "age_s": 75.0, "doing": "GET /report\u{1b}[2J" }], "served": 7,
            "memory_bytes": 20 << 20, "cpu_s": 1.5, "uptime_s": 80.0, "idle_s": null,
        }]);
        apps[1]["disabled"] = serde_json::json!({ "why": "5 failures", "retry_in_s": 4.0 });
        let status = serde_json::json!({
            "version": "1.0.0", "max": 6, "count": 1, "active": 1, "waiting": 2, "uptime_s": 90.0, "apps": apps,
            "post_mortems": [], "tenants": [{
                "name": "acme", "max": 4, "max_memory": null, "apps": 2, "count": 1, "active": 1, "waiting": 2,
                "memory_bytes": 20 << 20, "served": 14,
            }],
        });
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn a_status_is_aligned_and_says_what_is_wrong() {
        assert_eq!(
            super::super::lines(&some()),
            [
                "hatchery 1.0.0: 1 of at most 6 workers, 1 active, 2 waiting",
                "shop   /srv/shop   running   7 served  -  2 waiting  held by pool_full",
                "  worker   pid  state  generation  sessions  served  memory   cpu     up  idle",
                "       3  4821   busy           1         1       7   20.0M  1.5s  1m20s     -",
                "  session 17  at worker 3  for 1m15s  GET /report\\u{1b}[2J",
                "blogs  /srv/blogs  disabled  7 served  -  disabled: 5 failures; the next try in 4.0s",
                "tenant  apps  workers  at most  active  waiting  served  memory  at most",
                "acme       2        1        4       1        2      14   20.0M        -",
            ]
        );
    }

    #[test]
    fn colours_change_no_word() {
        let plain = super::super::lines(&some());
        let coloured = status(&some(), Look { colours: true, width: None });
        for (plain, coloured) in plain.iter().zip(&coloured) {
            let mut words = String::new();
            for (place, piece) in coloured.split('\u{1b}').enumerate() {
                words += if place == 0 { piece } else { piece.split_once('m').map_or("", |(_, rest)| rest) };
            }
            assert_eq!(words.trim_end(), plain);
        }
        assert!(coloured.iter().any(|line| line.contains('\u{1b}')));
    }
}
