//! What a status means for whoever is to be woken.

use super::Level;
use hatchery_pool_server::show::span;
use hatchery_protocol::status::{AppStatus, Status};
use std::fmt;

/// Seconds after which somebody who waits for an app without a worker won't be served by what is under way: eviction
/// of an idle worker takes two, and a fair share of a full pool is given after one.
const STUCK: f64 = 5.0;
/// What keeps an app from growing for a moment: what is under way will let it.
const UNDER_WAY: [&str; 6] = ["inspecting", "enough_starting", "too_many_starting", "trying", "swapping", "rolling"];
/// How many reasons are told; the rest is counted.
const TOLD: usize = 3;

/// Of waiting requests: so many, or more.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Thresholds {
    pub(super) warning: Option<u32>,
    pub(super) critical: Option<u32>,
}

#[derive(Debug)]
pub(super) struct Judgement {
    pub(super) level: Level,
    pub(super) said: String,
    pub(super) figures: Vec<Figure>,
}

/// `label=value;warn;crit;min;max`.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) value: u64,
    unit: &'static str,
    warning: Option<u64>,
    critical: Option<u64>,
    max: Option<u64>,
}

impl Figure {
    fn of(name: &'static str, value: impl Into<u64>) -> Self {
        Self { name, value: value.into(), unit: "", warning: None, critical: None, max: None }
    }

    fn limited(self, warning: Option<u64>, critical: Option<u64>, max: Option<u64>) -> Self {
        Self { warning, critical, max, ..self }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limit = |limit: Option<u64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
        let Self { name, value, unit, .. } = self;
        let text = format!("{name}={value}{unit};{};{};0", limit(self.warning), limit(self.critical));
        match self.max {
            Some(max) => write!(f, "{text};{max}"),
            None => f.write_str(&text),
        }
    }
}

impl Judgement {
    /// Without figures: there is nothing to measure.
    pub(super) fn of(level: Level, said: String) -> Self {
        Self { level, said, figures: Vec::new() }
    }
}

/// Of the pool; or of `one` app, which is then the only one of the status.
pub(super) fn judge(status: &Status, one: bool, thresholds: Thresholds) -> Judgement {
    let sum = |figure: fn(&AppStatus) -> u32| status.apps.iter().map(figure).sum::<u32>();
    let busy = |app: &AppStatus| u32::try_from(app.workers.iter().filter(|worker| worker.sessions > 0).count());
    let (workers, active, waiting) = if one {
        let workers = sum(|app| u32::try_from(app.workers.len()).unwrap_or(u32::MAX));
        (workers, status.apps.iter().filter_map(|app| busy(app).ok()).sum(), sum(|app| app.waiting))
    } else {
        (status.count, status.active, status.waiting)
    };
    let mut reasons = of_waiting(waiting, thresholds);
    if status.count >= status.max && waiting > 0 {
        reasons.push((Level::Warning, format!("the pool is full, with {} workers", status.count)));
    }
    reasons.extend(status.apps.iter().flat_map(of_app));
    // The worst first, and else as they came.
    reasons.sort_by_key(|(level, _)| std::cmp::Reverse(*level));
    let apps = match status.apps.as_slice() {
        [app] => app.name.clone(),
        apps => format!("{} applications", apps.len()),
    };
    let figures = format!("{apps}, {workers} of {} workers, {active} active, {waiting} waiting", status.max);
    let max = Some(u64::from(status.max));
    let memory: u64 = status.apps.iter().map(|app| app.memory_bytes).sum();
    Judgement {
        level: reasons.first().map(|(level, _)| *level).unwrap_or_default(),
        said: with_reasons(&reasons, figures),
        figures: vec![
            Figure::of("workers", workers).limited(None, max, max),
            Figure::of("active", active),
            Figure::of("waiting", waiting).limited(
                thresholds.warning.map(Into::into),
                thresholds.critical.map(Into::into),
                None,
            ),
            Figure { unit: "B", ..Figure::of("memory", memory) },
            Figure { unit: "c", ..Figure::of("served", status.apps.iter().map(|app| app.served).sum::<u64>()) },
        ],
    }
}

fn with_reasons(reasons: &[(Level, String)], figures: String) -> String {
    if reasons.is_empty() {
        return figures;
    }
    let mut told: Vec<String> = reasons.iter().take(TOLD).map(|(_, why)| why.clone()).collect();
    if reasons.len() > TOLD {
        told.push(format!("and {} more", reasons.len() - TOLD));
    }
    format!("{}; {figures}", told.join("; "))
}

fn of_waiting(waiting: u32, thresholds: Thresholds) -> Vec<(Level, String)> {
    let reached = |threshold: Option<u32>| threshold.is_some_and(|threshold| waiting >= threshold);
    match (reached(thresholds.critical), reached(thresholds.warning)) {
        (true, _) => vec![(Level::Critical, format!("{waiting} requests wait"))],
        (_, true) => vec![(Level::Warning, format!("{waiting} requests wait"))],
        _ => vec![],
    }
}

fn of_app(app: &AppStatus) -> Vec<(Level, String)> {
    let name = &app.name;
    let mut reasons = Vec::new();
    if let Some(disabled) = &app.disabled {
        // Failures are tried again by themselves; what the operator has said, holds until it is taken back.
        let (level, by) = match disabled.retry_in_s {
            Some(_) => (Level::Critical, "by its failures"),
            None => (Level::Warning, "by the operator"),
        };
        reasons.push((level, format!("{name} is disabled {by}: {}", disabled.why)));
    }
    if app.state == "stopped" {
        reasons.push((Level::Warning, format!("{name} is stopped")));
    }
    reasons.extend(of_waiters(app));
    if app.restart.as_ref().is_some_and(|restart| restart.state == "failed") {
        reasons.push((Level::Warning, format!("a restart of {name} failed, and the version before serves")));
    }
    if let Some(failure) = app.failure.as_ref().filter(|_| app.disabled.is_none() && app.restart.is_none()) {
        reasons.push((Level::Warning, format!("{name} could not be started: {}", failure.problem)));
    }
    reasons
}

/// Somebody waits, and no worker is there that could serve them, or will be.
fn of_waiters(app: &AppStatus) -> Option<(Level, String)> {
    let AppStatus { name, waiting, limit: Some(limit), .. } = app else { return None };
    let serves = app.workers.iter().any(|worker| matches!(&*worker.state, "starting" | "ready" | "busy"));
    if *waiting == 0 || serves {
        return None;
    }
    let waited = app.oldest_wait_s.unwrap_or_default();
    let level = match (UNDER_WAY.contains(&limit.as_str()), waited >= STUCK) {
        (false, true) => Level::Critical,
        (false, false) | (true, true) => Level::Warning,
        (true, false) => return None,
    };
    let waited = span(waited);
    Some((level, format!("{name} has {waiting} waiting for {waited}, no worker, and can't start one ({limit})")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn app(name: &str, with: Value) -> Value {
        let mut app = json!({
            "root": format!("/srv/{name}"), "name": name, "tenant": null, "state": "running", "limit": null,
            "disabled": null, "generation": 1, "restart": null, "waiting": 0, "oldest_wait_s": null, "served": 7,
            "memory_bytes": 1024, "cpu_s": 0.0, "failure": null, "workers": [worker("busy", 1)], "preloaders": [],
        });
        for (key, value) in with.as_object().unwrap() {
            app[key] = value.clone();
        }
        app
    }

    fn worker(state: &str, sessions: u32) -> Value {
        json!({
            "id": 1, "pid": 42, "state": state, "generation": 1, "sessions": sessions, "doing": [], "open": [],
            "served": 7, "memory_bytes": 1024, "cpu_s": 1.5, "uptime_s": 80.0, "idle_s": null,
        })
    }

    fn judged(count: u32, apps: &[Value], thresholds: (Option<u32>, Option<u32>)) -> Judgement {
        let waiting: u64 = apps.iter().map(|app| app["waiting"].as_u64().unwrap()).sum();
        let status = json!({
            "version": "1", "max": 6, "count": count, "active": 1, "waiting": waiting, "uptime_s": 90.0, "apps": apps,
            "post_mortems": [], "tenants": [],
        });
        let status = serde_json::from_value(status).unwrap();
        judge(&status, false, Thresholds { warning: thresholds.0, critical: thresholds.1 })
    }

    #[test]
    fn what_is_well_is_a_line_with_its_figures() {
        let judgement = judged(5, &[app("shop", json!({})), app("blog", json!({ "state": "idle" }))], (Some(5), None));
        assert_eq!(judgement.level, Level::Ok);
        assert_eq!(judgement.said, "2 applications, 5 of 6 workers, 1 active, 0 waiting");
        let figures: Vec<String> = judgement.figures.iter().map(ToString::to_string).collect();
        let all = "workers=5;;6;0;6 active=1;;;0 waiting=0;5;;0 memory=2048B;;;0 served=14c;;;0";
        assert_eq!(figures.join(" "), all);
    }

    #[test]
    fn each_case_has_its_level() {
        let failure = json!({ "at": 1.0, "problem": "it ended", "remedy": "", "report": "" });
        let disabled = |retry: Value| json!({ "state": "disabled", "disabled": { "why": "x", "retry_in_s": retry } });
        let failed = json!({ "restart": { "state": "failed", "generation": 2, "report": null } });
        let rolling = json!({ "restart": { "state": "rolling", "generation": 2, "report": null } });
        let stuck = |workers: Value, wait: f64, limit: Value| json!({ "waiting": 2, "oldest_wait_s": wait, "limit": limit, "workers": workers });
        for (count, with, level, word) in [
            (1, json!({}), Level::Ok, "shop"),
            (1, disabled(json!(4.0)), Level::Critical, "by its failures"),
            (1, disabled(Value::Null), Level::Warning, "by the operator"),
            (1, json!({ "state": "stopped" }), Level::Warning, "stopped"),
            (1, failed, Level::Warning, "a restart of shop failed"),
            (1, rolling, Level::Ok, "shop"),
            (1, json!({ "failure": failure }), Level::Warning, "it ended"),
            (6, json!({ "waiting": 0 }), Level::Ok, "6 of 6"),
            (6, json!({ "waiting": 1 }), Level::Warning, "the pool is full"),
            (1, json!({ "waiting": 1 }), Level::Ok, "1 waiting"),
            (1, stuck(json!([]), 9.0, json!("app_full")), Level::Critical, "can't start one (app_full)"),
            (1, stuck(json!([worker("draining", 1)]), 9.0, json!("app_full")), Level::Critical, "can't start one"),
            // A moment is none.
            (1, stuck(json!([]), 0.5, json!("app_full")), Level::Warning, "can't start one"),
            (1, stuck(json!([]), 0.5, json!("inspecting")), Level::Ok, "2 waiting"),
            (1, stuck(json!([]), 9.0, json!("inspecting")), Level::Warning, "can't start one (inspecting)"),
            // It is being started, or the one there is serves them in turn.
            (1, stuck(json!([]), 9.0, Value::Null), Level::Ok, "2 waiting"),
            (1, stuck(json!([worker("busy", 1)]), 9.0, json!("app_full")), Level::Ok, "2 waiting"),
        ] {
            let judgement = judged(count, &[app("shop", with.clone())], (None, None));
            assert_eq!(judgement.level, level, "{with}: {}", judgement.said);
            assert!(judgement.said.contains(word), "{with}: {}", judgement.said);
        }
    }

    #[test]
    fn thresholds_are_of_so_many_or_more_and_the_worst_reason_stands_first() {
        let waiting = |waiting: u32| [app("shop", json!({ "waiting": waiting }))];
        for (count, level) in [(4, Level::Ok), (5, Level::Warning), (9, Level::Warning), (10, Level::Critical)] {
            assert_eq!(judged(1, &waiting(count), (Some(5), Some(10))).level, level, "{count}");
        }
        let stopped = |name| app(name, json!({ "state": "stopped" }));
        let broken = app("e", json!({ "disabled": { "why": "x", "retry_in_s": 1.0 } }));
        let judgement = judged(1, &[stopped("a"), stopped("b"), stopped("c"), broken], (None, None));
        assert_eq!(judgement.level, Level::Critical);
        let all = "e is disabled by its failures: x; a is stopped; b is stopped; and 1 more; 4 applications, ";
        assert!(judgement.said.starts_with(all), "{}", judgement.said);
    }
}
