//! The last minutes of each app that did anything in them: a sample every few seconds.

use super::metrics::{self, Names};
use super::operator::Operator;
use crate::serve::forward::Front;
use crate::serve::tally::{Figures, Times};
use hatchery_protocol::metrics::Metrics;
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

const STEP: Duration = Duration::from_secs(5);
/// Five minutes of them.
const SAMPLES: usize = 60;

#[derive(Debug, Default)]
pub(super) struct History(Mutex<Recorded>);

#[derive(Debug, Default)]
struct Recorded {
    /// By the app's name. One that did nothing for all the time has none.
    apps: BTreeMap<String, VecDeque<Sample>>,
    /// Of the last sample.
    before: BTreeMap<String, (u64, Times)>,
    at: Option<Instant>,
    names: Names,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Sample {
    requests_per_s: f64,
    /// Within so many seconds half of them, and 95 of 100, were answered.
    p50_s: Option<f64>,
    p95_s: Option<f64>,
    waiting: u32,
    active: u32,
}

impl History {
    /// Samples for ever.
    pub(super) async fn keep(&self, front: &Front, operator: &Operator) {
        let mut ticks = interval(STEP);
        // After a time in which nothing ran, what was missed is not made up for.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let pool = match metrics::of_pool(operator, front).await {
                Ok(pool) => Some(pool),
                Err(why) => {
                    tracing::debug!("no sample of the pool: {why}");
                    None
                }
            };
            let names = self.names(pool.as_ref());
            self.take(Instant::now(), metrics::of_front(front, &names), pool.as_ref());
        }
    }

    /// The names of apps by their roots, from what the pool says now or has said last.
    pub(super) fn names(&self, pool: Option<&Metrics>) -> Names {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = pool {
            recorded.names = pool.apps.iter().map(|app| (app.root.clone(), app.name.clone())).collect();
        }
        recorded.names.clone()
    }

    fn take(&self, now: Instant, front: BTreeMap<String, Figures>, pool: Option<&Metrics>) {
        let mut recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recorded = &mut *recorded;
        let passed = recorded.at.replace(now).map(|before| now.duration_since(before).as_secs_f64());
        let mut samples = BTreeMap::<String, Sample>::new();
        for (name, figures) in front {
            let (requests, times) = (figures.requests(), figures.times);
            let before = recorded.before.insert(name.clone(), (requests, times.clone()));
            let (before, earlier) = before.unwrap_or_default();
            // Counters of an app that was away and came back begin anew.
            let new = requests.saturating_sub(before);
            if let Some(passed) = passed.filter(|passed| new > 0 && *passed > 0.0) {
                let sample = samples.entry(name).or_default();
                sample.requests_per_s = new as f64 / passed;
                sample.p50_s = times.quantile_since(&earlier, 0.5);
                sample.p95_s = times.quantile_since(&earlier, 0.95);
            }
        }
        for app in pool.iter().flat_map(|pool| &pool.apps).filter(|app| app.waiting > 0 || app.active > 0) {
            let sample = samples.entry(app.name.clone()).or_default();
            (sample.waiting, sample.active) = (app.waiting, app.active);
        }
        for name in samples.keys().filter(|name| !recorded.apps.contains_key(*name)).cloned().collect::<Vec<_>>() {
            recorded.apps.insert(name, VecDeque::new());
        }
        recorded.apps.retain(|name, series| {
            series.push_back(samples.remove(name).unwrap_or_default());
            series.drain(..series.len().saturating_sub(SAMPLES));
            series.iter().any(|sample| *sample != Sample::default())
        });
    }

    /// For the page: each app's series, whose last value is the latest.
    pub(super) fn json(&self) -> Value {
        let recorded = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let apps = recorded.apps.iter().map(|(name, series)| {
            let figures = |of: fn(&Sample) -> Value| series.iter().map(of).collect::<Value>();
            json!({
                "name": name,
                "requests_per_s": figures(|sample| round(sample.requests_per_s).into()),
                "p50_s": figures(|sample| sample.p50_s.map(round).into()),
                "p95_s": figures(|sample| sample.p95_s.map(round).into()),
                "waiting": figures(|sample| sample.waiting.into()),
                "active": figures(|sample| sample.active.into()),
            })
        });
        let apps: Vec<Value> = apps.collect();
        json!({ "ok": true, "step_s": STEP.as_secs(), "samples": SAMPLES, "apps": apps })
    }
}

/// To four digits behind the point.
fn round(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_protocol::metrics::AppMetrics;

    fn figures(requests: u64) -> BTreeMap<String, Figures> {
        let mut figures = Figures::default();
        figures.statuses.insert(200, requests);
        BTreeMap::from([("shop".to_owned(), figures)])
    }

    #[test]
    fn a_rate_is_of_the_time_between_two_samples_and_the_first_has_none() {
        let (history, begin) = (History::default(), Instant::now());
        history.take(begin, figures(1000), None);
        assert_eq!(history.json()["apps"], json!([]));
        history.take(begin + STEP, figures(1050), None);
        assert_eq!(history.json()["apps"][0]["requests_per_s"], json!([10.0]));
    }

    #[test]
    fn an_app_that_does_nothing_for_five_minutes_is_forgotten() {
        let (history, mut now) = (History::default(), Instant::now());
        let app = AppMetrics { name: "shop".into(), waiting: 3, ..AppMetrics::default() };
        let idle = AppMetrics { name: "idle".into(), ..AppMetrics::default() };
        let pool = Metrics { apps: vec![app, idle], ..Metrics::default() };
        history.take(now, BTreeMap::new(), Some(&pool));
        assert_eq!(history.json()["apps"].as_array().unwrap().len(), 1);
        for left in (0..SAMPLES).rev() {
            now += STEP;
            history.take(now, BTreeMap::new(), None);
            assert_eq!(history.json()["apps"].as_array().unwrap().len(), usize::from(left > 0));
        }
    }
}
