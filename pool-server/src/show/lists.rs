//! Tables of one kind of thing.

use super::status::of_app;
use super::table::{Look, Side, Style, Table};
use super::{memory, span};
use hatchery_protocol::metrics::{Histogram, Metrics};
use hatchery_protocol::status::SessionStatus;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Seconds after which a session stands out.
const LONG_SESSION: f64 = 10.0;

/// An app, as `list` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listed {
    pub name: String,
    pub root: String,
    pub state: String,
    /// It stays when nobody uses it.
    pub registered: bool,
}

/// The apps, a line each.
#[must_use]
pub fn list(apps: &[Listed], look: Look) -> Vec<String> {
    let mut table = Table::new("", [Side::Left; 4]);
    for app in apps {
        let kept = if app.registered { "registered" } else { "asked for" };
        table.row([
            (Style::Head, app.name.clone()),
            (Style::Plain, app.root.clone()),
            (of_app(&app.state), app.state.clone()),
            (Style::Plain, kept.into()),
        ]);
    }
    table.draw(look)
}

/// Open sessions, a line each below their head.
#[must_use]
pub fn sessions(sessions: &[SessionStatus], look: Look) -> Vec<String> {
    use Side::{Left, Right};
    if sessions.is_empty() {
        return Vec::new();
    }
    let columns = [
        ("session", Right),
        ("app", Left),
        ("worker", Right),
        ("pid", Right),
        ("client", Right),
        ("age", Right),
        ("doing", Left),
    ];
    let mut table = Table::headed("", &columns);
    for session in sessions {
        let plain = |text: String| (Style::Plain, text);
        // The process says more than the channel's number, as long as it is there.
        let client = session.client_pid.map_or_else(|| format!("#{}", session.client), |pid| pid.to_string());
        let age = if session.age_s >= LONG_SESSION { Style::Warning } else { Style::Plain };
        let doing = session.doing.as_deref().unwrap_or("-");
        let doing = if session.abandoned { format!("(abandoned) {doing}") } else { doing.to_owned() };
        table.row([
            plain(session.id.to_string()),
            (Style::Head, session.app.clone()),
            plain(session.worker.to_string()),
            plain(session.pid.to_string()),
            plain(client),
            (age, span(session.age_s)),
            plain(doing),
        ]);
    }
    table.draw(look)
}

/// Every figure, a line each: what it is of, its name, and itself.
#[must_use]
pub fn metrics(metrics: &Metrics, look: Look) -> Vec<String> {
    let mut table = Table::new("", [Side::Left, Side::Left, Side::Left]);
    let mut say = |of: &str, name: &str, figure: String| {
        table.row([(Style::Head, of.to_owned()), (Style::Plain, name.to_owned()), (Style::Plain, figure)]);
    };
    say("pool", "version", metrics.version.clone());
    say("pool", "started_at", super::moment(metrics.started_at));
    say("pool", "max", metrics.max.to_string());
    for_each(&metrics.refused, |why, count| say("pool", &format!("refused {why}"), count.to_string()));
    for process in &metrics.processes {
        let of = format!("{} {}", process.role, process.pid);
        say(&of, "memory", memory(process.memory_bytes));
        say(&of, "cpu_s", process.cpu_s.map_or_else(|| "-".into(), |cpu| format!("{cpu:.2}")));
    }
    for app in &metrics.apps {
        let of = &app.name;
        say(of, "state", app.state.clone());
        for_each(&app.workers, |state, count| say(of, &format!("workers {state}"), count.to_string()));
        for (name, figure) in [
            ("active", u64::from(app.active)),
            ("sessions_open", app.sessions_open.into()),
            ("waiting", app.waiting.into()),
            ("sessions", app.sessions),
            ("cancelled", app.cancelled),
            ("spawns", app.spawns),
            ("spawn_failures", app.spawn_failures),
            ("breaker_opened", app.breaker_opened),
        ] {
            say(of, name, figure.to_string());
        }
        say(of, "memory", memory(Some(app.memory_bytes)));
        say(of, "cpu_s", format!("{:.2}", app.cpu_s));
        let counted = [
            ("sessions_ended", &app.sessions_ended),
            ("refused", &app.refused),
            ("exits", &app.exits),
            ("restarts", &app.restarts),
        ];
        for (name, counts) in counted {
            for_each(counts, |why, count| say(of, &format!("{name} {why}"), count.to_string()));
        }
        for (name, histogram) in [("wait", &app.wait), ("session", &app.session), ("spawn", &app.spawn)] {
            say(of, name, times(histogram));
        }
    }
    for tenant in &metrics.tenants {
        let of = format!("tenant {}", tenant.name);
        for (name, figure) in [
            ("apps", u64::from(tenant.apps)),
            ("workers", tenant.workers.into()),
            ("active", tenant.active.into()),
            ("waiting", tenant.waiting.into()),
            ("sessions", tenant.sessions),
            ("refused", tenant.refused),
        ] {
            say(&of, name, figure.to_string());
        }
        say(&of, "memory", memory(Some(tenant.memory_bytes)));
        say(&of, "cpu_s", format!("{:.2}", tenant.cpu_s));
    }
    table.draw(look)
}

fn for_each<T: Copy>(counts: &BTreeMap<String, T>, mut say: impl FnMut(&str, T)) {
    for (name, count) in counts {
        say(name, *count);
    }
}

/// How many, and how long they took on the average.
fn times(histogram: &Histogram) -> String {
    match histogram.counts.iter().sum::<u64>() {
        0 => "0".to_owned(),
        count => format!("{count}, {:.3} s each", histogram.sum_s / count as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_protocol::metrics::AppMetrics;

    #[test]
    fn apps_are_listed_in_columns() {
        let app = |name: &str, registered| Listed {
            name: name.into(),
            root: format!("/srv/{name}"),
            state: "idle".into(),
            registered,
        };
        assert_eq!(
            list(&[app("shop", true), app("blogs", false)], Look::PLAIN),
            ["shop   /srv/shop   idle  registered", "blogs  /srv/blogs  idle  asked for",]
        );
    }

    #[test]
    fn who_holds_which_session_for_how_long_is_a_table() {
        let session = |id, client_pid, doing: Option<&str>| SessionStatus {
            id,
            app: "shop".into(),
            root: "/srv/shop".into(),
            worker: 3,
            pid: 4821,
            client: 2,
            client_pid,
            age_s: 7265.0,
            abandoned: client_pid.is_none(),
            doing: doing.map(str::to_owned),
        };
        let shown = sessions(&[session(9, Some(311), Some("GET /a\nb")), session(10, None, None)], Look::PLAIN);
        assert_eq!(
            shown,
            [
                "session  app   worker   pid  client    age  doing",
                "      9  shop       3  4821     311  2h01m  GET /a\\nb",
                "     10  shop       3  4821      #2  2h01m  (abandoned) -",
            ]
        );
        assert!(sessions(&[], Look::PLAIN).is_empty());
    }

    #[test]
    fn every_figure_has_a_line() {
        let app = AppMetrics {
            name: "shop".into(),
            sessions: 12,
            wait: Histogram { counts: vec![3, 1], sum_s: 2.0 },
            exits: BTreeMap::from([("died".into(), 2)]),
            ..AppMetrics::default()
        };
        let lines = metrics(&Metrics { apps: vec![app], ..Metrics::default() }, Look::PLAIN);
        for wanted in ["shop  sessions        12", "shop  wait            4, 0.500 s each", "shop  exits died      2"] {
            assert!(lines.iter().any(|line| line == wanted), "{wanted} is not in {lines:#?}");
        }
    }
}
