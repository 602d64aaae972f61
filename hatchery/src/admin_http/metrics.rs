//! Metrics in Prometheus' text format: what the pool counts, and what the web server does.

use super::operator::Operator;
use crate::cut;
use crate::serve::forward::Front;
use crate::serve::tally::{BOUNDS, Figures};
use hatchery_protocol::metrics::{AppMetrics, Histogram, Metrics};
use prometheus::TextEncoder;
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

pub(super) const KIND: &str = prometheus::TEXT_FORMAT;

const STATES: [&str; 5] = ["running", "idle", "starting", "stopped", "disabled"];

/// The names of apps by their roots, as the pool last told them: it may be away for a moment.
pub(super) type Names = HashMap<String, String>;

/// What the pool has counted.
///
/// # Errors
/// One sentence: it does not say.
pub(super) async fn of_pool(operator: &Operator, front: &Front) -> Result<Metrics, String> {
    let line = operator.ask(&front.pool, "metrics").await?;
    serde_json::from_str(&line).map_err(|error| format!("the pool's metrics can't be read: {error}: {}", start(&line)))
}

fn start(line: &str) -> &str {
    cut::beginning(line, 200).trim_end()
}

/// What the web server has counted, by the name of the app; no name: of none.
pub(super) fn of_front(front: &Front, names: &Names) -> BTreeMap<String, Figures> {
    let routes = front.routes.now();
    let mut named = BTreeMap::<String, Figures>::new();
    for (root, figures) in front.tally.figures(|root| routes.serves(root)) {
        let name = root.map_or_else(String::new, |root| name_of(&root, names));
        // Two roots that are no text may be the same text.
        named.entry(name).or_default().add(&figures);
    }
    named
}

/// An app that the pool does not know goes by its root, which is no other's name.
pub(super) fn name_of(root: &Path, names: &Names) -> String {
    let text = String::from_utf8_lossy(root.as_os_str().as_bytes());
    names.get(text.as_ref()).cloned().unwrap_or_else(|| text.into_owned())
}

/// All of it. `None`: the pool is away, and its figures with it.
///
/// # Errors
/// One sentence.
pub(super) fn text(pool: Option<&Metrics>, front: &BTreeMap<String, Figures>) -> Result<String, String> {
    let mut families = Families::default();
    families.gauge(
        "build_info",
        "Always 1; the label says which version this is.",
        [(labels([("version", env!("CARGO_PKG_VERSION"))]), 1.0)],
    );
    families.gauge("pool_up", "Whether the pool answers.", [(vec![], f64::from(u8::from(pool.is_some())))]);
    if let Some(pool) = pool {
        whole(&mut families, pool);
        apps(&mut families, pool);
        times(&mut families, pool);
        tenants(&mut families, pool);
    }
    processes(&mut families, pool);
    requests(&mut families, front);
    TextEncoder::new().encode_to_string(&families.0).map_err(|error| format!("metrics can't be written: {error}"))
}

fn whole(families: &mut Families, pool: &Metrics) {
    families.gauge(
        "pool_max_workers",
        "Worker processes of all apps together, at most.",
        [(vec![], f64::from(pool.max))],
    );
    families.gauge(
        "pool_started_timestamp_seconds",
        "When the pool's core began; its counters begin with it.",
        [(vec![], pool.started_at)],
    );
}

fn apps(families: &mut Families, pool: &Metrics) {
    let each = |value: fn(&AppMetrics) -> f64| pool.apps.iter().map(move |app| (of_app(app), value(app)));
    let by = |label: &'static str, values: fn(&AppMetrics) -> &BTreeMap<String, u64>| {
        pool.apps.iter().flat_map(move |app| {
            values(app).iter().map(move |(word, count)| (labels([("app", &app.name), (label, word)]), *count as f64))
        })
    };
    let workers = pool.apps.iter().flat_map(|app| {
        let by_state = app.workers.iter();
        by_state.map(|(state, count)| (labels([("app", &app.name), ("state", state)]), f64::from(*count)))
    });
    families.gauge("workers", "Worker processes by state.", workers);
    families.gauge("active_workers", "Workers with at least one session.", each(|app| f64::from(app.active)));
    families.gauge("waiting_requests", "Requests that no worker can serve yet.", each(|app| f64::from(app.waiting)));
    families.gauge("open_sessions", "Sessions at workers.", each(|app| f64::from(app.sessions_open)));
    families.gauge(
        "app_memory_bytes",
        "Resident memory of workers and preloaders.",
        each(|app| app.memory_bytes as f64),
    );
    let states = pool.apps.iter().flat_map(|app| {
        STATES.map(|state| (labels([("app", &app.name), ("state", state)]), f64::from(u8::from(app.state == state))))
    });
    families.gauge("app_state", "1 for the state that the app is in.", states);
    families.counter("sessions_total", "Sessions granted.", each(|app| app.sessions as f64));
    families.counter("sessions_ended_total", "Sessions that ended, by how.", by("reason", |app| &app.sessions_ended));
    let nowhere = pool.refused.iter().map(|(why, count)| (labels([("app", ""), ("reason", why)]), *count as f64));
    families.counter(
        "refusals_total",
        "Requests refused by the pool.",
        by("reason", |app| &app.refused).chain(nowhere),
    );
    families.counter(
        "cancelled_requests_total",
        "Requests taken back before they had a worker.",
        each(|app| app.cancelled as f64),
    );
    families.counter("spawns_total", "Processes ordered: workers and preloaders.", each(|app| app.spawns as f64));
    families.counter("spawn_failures_total", "Starts that failed.", each(|app| app.spawn_failures as f64));
    families.counter("worker_exits_total", "Worker processes that are gone, by why.", by("reason", |app| &app.exits));
    families.counter("restarts_total", "Restarts that came to an end, by how.", by("result", |app| &app.restarts));
    families.counter(
        "breaker_opened_total",
        "How often an app was disabled for its failures.",
        each(|app| app.breaker_opened as f64),
    );
    families.counter("app_cpu_seconds_total", "Processor time of workers and preloaders.", each(|app| app.cpu_s));
}

fn times(families: &mut Families, pool: &Metrics) {
    let mut add = |name, help, histogram: fn(&AppMetrics) -> &Histogram| {
        let observed = pool.apps.iter().map(|app| (of_app(app), histogram(app)));
        let observed = observed.filter(|(_, histogram)| !histogram.counts.is_empty());
        families.histogram(
            name,
            help,
            observed.map(|(labels, seen)| (labels, buckets(&pool.bounds_s, &seen.counts, seen.sum_s))),
        );
    };
    add("wait_seconds", "From a request for a session to that session.", |app| &app.wait);
    add("session_seconds", "From the beginning of a session to its end.", |app| &app.session);
    add("spawn_seconds", "From the order of a worker to its readiness.", |app| &app.spawn);
}

fn tenants(families: &mut Families, pool: &Metrics) {
    use hatchery_protocol::metrics::TenantMetrics;
    let of = |tenant: &TenantMetrics| labels([("tenant", &*tenant.name)]);
    let each = |value: fn(&TenantMetrics) -> f64| pool.tenants.iter().map(move |tenant| (of(tenant), value(tenant)));
    families.gauge("tenant_workers", "Worker processes of a tenant.", each(|tenant| f64::from(tenant.workers)));
    families.gauge("tenant_active_workers", "Its workers with a session.", each(|tenant| f64::from(tenant.active)));
    families.gauge("tenant_waiting_requests", "Its requests that wait.", each(|tenant| f64::from(tenant.waiting)));
    families.gauge("tenant_memory_bytes", "Resident memory of its workers.", each(|tenant| tenant.memory_bytes as f64));
    families.gauge("tenant_apps", "Apps that belong to it.", each(|tenant| f64::from(tenant.apps)));
    let limited = pool.tenants.iter().filter_map(|tenant| Some((of(tenant), f64::from(tenant.max?))));
    families.gauge("tenant_max_workers", "Its worker processes, at most.", limited);
    families.counter("tenant_sessions_total", "Sessions granted to its apps.", each(|tenant| tenant.sessions as f64));
    families.counter("tenant_cpu_seconds_total", "Processor time of its workers.", each(|tenant| tenant.cpu_s));
    families.counter(
        "tenant_refusals_total",
        "Its requests refused by the pool.",
        each(|tenant| tenant.refused as f64),
    );
}

fn processes(families: &mut Families, pool: Option<&Metrics>) {
    let (memory, cpu) = (own_memory(), own_cpu());
    let roles = pool.iter().flat_map(|pool| &pool.processes);
    let roles: Vec<_> = roles.map(|process| (process.role.as_str(), process.memory_bytes, process.cpu_s)).collect();
    let all = || roles.iter().copied().chain([("web_server", memory, cpu)]);
    families.gauge(
        "process_resident_memory_bytes",
        "Resident memory of Hatchery's own processes.",
        all().filter_map(|(role, memory, _)| Some((labels([("process", role)]), memory? as f64))),
    );
    families.counter(
        "process_cpu_seconds_total",
        "Processor time of Hatchery's own processes.",
        all().filter_map(|(role, _, cpu)| Some((labels([("process", role)]), cpu?))),
    );
}

fn own_memory() -> Option<u64> {
    let figures = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = figures.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

fn own_cpu() -> Option<f64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let used = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Some(seconds(used.user_time()) + seconds(used.system_time()))
}

fn requests(families: &mut Families, front: &BTreeMap<String, Figures>) {
    let statuses = front.iter().flat_map(|(app, figures)| {
        let known = figures.statuses.iter().map(|(status, count)| (status.to_string(), *count));
        let other = (figures.other > 0).then(|| ("other".to_owned(), figures.other));
        let all = known.chain(other);
        all.map(|(status, count)| (labels([("app", app), ("status", &status)]), count as f64)).collect::<Vec<_>>()
    });
    families.counter("http_requests_total", "Answered requests; app is empty where there was none.", statuses);
    let taken = front.iter().filter(|(_, figures)| figures.requests() > 0).map(|(app, figures)| {
        let seen = &figures.times;
        (labels([("app", &**app)]), buckets(&BOUNDS, &seen.counts, seen.sum.as_secs_f64()))
    });
    families.histogram("http_request_seconds", "From a request's head to the end of its answer.", taken);
    let open = front.iter().map(|(app, figures)| (labels([("app", &**app)]), figures.open as f64));
    families.gauge("http_requests_open", "Requests that are being answered.", open);
}

fn of_app(app: &AppMetrics) -> Vec<LabelPair> {
    labels([("app", &*app.name)])
}

fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Vec<LabelPair> {
    let pair = |(name, value): (&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    };
    pairs.map(pair).into()
}

/// `counts`: in each bucket alone, with one more for all beyond.
fn buckets(bounds: &[f64], counts: &[u64], sum: f64) -> proto::Histogram {
    let mut below = 0;
    let bucket = |(bound, count): (&f64, &u64)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_cumulative_count(below);
        bucket.set_upper_bound(*bound);
        bucket
    };
    let buckets = bounds.iter().zip(counts).map(bucket).collect();
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets);
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum);
    histogram
}

type Labels = Vec<LabelPair>;

/// All names begin with `hatchery_`. One without a figure is left out.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

impl Families {
    fn gauge(&mut self, name: &str, help: &str, figures: impl IntoIterator<Item = (Labels, f64)>) {
        self.add(name, help, MetricType::GAUGE, figures, |metric, figure| {
            let mut gauge = proto::Gauge::default();
            gauge.set_value(figure);
            metric.set_gauge(gauge);
        });
    }

    fn counter(&mut self, name: &str, help: &str, figures: impl IntoIterator<Item = (Labels, f64)>) {
        self.add(name, help, MetricType::COUNTER, figures, |metric, figure| {
            let mut counter = proto::Counter::default();
            counter.set_value(figure);
            metric.set_counter(counter);
        });
    }

    fn histogram(&mut self, name: &str, help: &str, figures: impl IntoIterator<Item = (Labels, proto::Histogram)>) {
        self.add(name, help, MetricType::HISTOGRAM, figures, Metric::set_histogram);
    }

    fn add<T>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        figures: impl IntoIterator<Item = (Labels, T)>,
        set: impl Fn(&mut Metric, T),
    ) {
        let figures = figures.into_iter().map(|(labels, figure)| {
            let mut metric = Metric::from_label(labels);
            set(&mut metric, figure);
            metric
        });
        let figures: Vec<Metric> = figures.collect();
        if !figures.is_empty() {
            let mut family = MetricFamily::default();
            family.set_name(format!("hatchery_{name}"));
            family.set_help(help.to_owned());
            family.set_field_type(kind);
            family.set_metric(figures);
            self.0.push(family);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool() -> Metrics {
        let app = AppMetrics {
            root: "/srv/shop".into(),
            name: "shop \"x\"\n\\".into(),
            state: "running".into(),
            workers: BTreeMap::from([("ready".into(), 2)]),
            sessions: 7,
            refused: BTreeMap::from([("queue_full".into(), 3)]),
            wait: Histogram { counts: vec![1, 2, 3], sum_s: 1.5 },
            ..AppMetrics::default()
        };
        let refused = BTreeMap::from([("not_allowed".into(), 1)]);
        Metrics { bounds_s: vec![0.1, 1.0], max: 6, apps: vec![app], refused, ..Metrics::default() }
    }

    #[test]
    fn values_of_labels_are_escaped_and_buckets_add_up() {
        let text = text(Some(&pool()), &BTreeMap::new()).unwrap();
        let app = r#"app="shop \"x\"\n\\""#;
        for line in [
            format!("hatchery_sessions_total{{{app}}} 7"),
            format!("hatchery_workers{{{app},state=\"ready\"}} 2"),
            format!("hatchery_app_state{{{app},state=\"running\"}} 1"),
            format!("hatchery_app_state{{{app},state=\"idle\"}} 0"),
            format!("hatchery_refusals_total{{{app},reason=\"queue_full\"}} 3"),
            "hatchery_refusals_total{app=\"\",reason=\"not_allowed\"} 1".to_owned(),
            format!("hatchery_wait_seconds_bucket{{{app},le=\"0.1\"}} 1"),
            format!("hatchery_wait_seconds_bucket{{{app},le=\"1\"}} 3"),
            format!("hatchery_wait_seconds_bucket{{{app},le=\"+Inf\"}} 6"),
            format!("hatchery_wait_seconds_sum{{{app}}} 1.5"),
            format!("hatchery_wait_seconds_count{{{app}}} 6"),
            "hatchery_pool_up 1".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(!text.contains("hatchery_spawn_seconds"), "nothing was observed");
    }

    #[test]
    fn without_a_pool_the_web_server_still_tells_its_own() {
        let mut figures = Figures::default();
        figures.statuses.insert(503, 2);
        let text = text(None, &BTreeMap::from([("shop".to_owned(), figures)])).unwrap();
        assert!(text.contains("hatchery_pool_up 0\n"), "{text}");
        assert!(text.contains("hatchery_http_requests_total{app=\"shop\",status=\"503\"} 2\n"), "{text}");
        assert!(text.contains("hatchery_process_cpu_seconds_total{process=\"web_server\"} "), "{text}");
    }

    #[test]
    fn an_app_that_the_pool_does_not_know_goes_by_its_root() {
        let names = Names::from([("/srv/shop".to_owned(), "shop".to_owned())]);
        assert_eq!(name_of(Path::new("/srv/shop"), &names), "shop");
        assert_eq!(name_of(Path::new("/srv/blog"), &names), "/srv/blog");
    }
}
