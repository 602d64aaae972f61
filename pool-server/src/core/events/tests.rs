//! What is said of everything that happens: to whom it happened, and why.

use crate::core::played::{Played, own_pid};
use hatchery_pool::{Event, RestartMode, WorkerId};
use hatchery_protocol::config::{LogConfig, LogFormat, PoolConfig, TenantConfig, TenantOptions};
use hatchery_protocol::events::{EventName, Level, PoolEvent};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::report::Exit;
use serde_json::{Value, json};
use std::cell::RefCell;
use std::io::Write;
use tokio::task::LocalSet;

const SHOP: &str = "/srv/shop";

/// App, worker, process, generation and reason.
fn whom(event: &PoolEvent) -> Value {
    json!([event.app, event.worker, event.pid, event.generation, event.reason])
}

#[tokio::test]
async fn a_worker_is_followed_from_its_start_to_its_end() {
    LocalSet::new()
        .run_until(async {
            let mut played = Played::begin(PoolConfig::default());
            let mut listener = played.shell.state().events.subscribe();
            played.get(SHOP);
            played.inspected(SHOP, 1);
            let worker = played.serves(SHOP);
            played.shell.tell(Event::Retire { request: None, worker });
            played.shell.tell(Event::ClientGone { client: hatchery_pool::ClientId(7) });
            played.exits(worker, Exit::Signal(15));
            let names = played.names();
            for name in ["app_registered", "worker_started", "worker_ready", "worker_draining", "worker_exited"] {
                assert!(names.contains(&name), "{name} in {names:?}");
            }
            let started = played.event(EventName::WorkerStarted);
            assert_eq!(whom(&started), json!(["shop", worker.0, own_pid(), 1, null]));
            assert_eq!((started.root.as_deref(), started.session), (Some(SHOP), None));
            let draining = played.event(EventName::WorkerDraining);
            assert_eq!(
                (draining.reason.as_deref(), &*draining.text),
                (Some("retired"), "draining: retired by the operator")
            );
            let exited = played.event(EventName::WorkerExited);
            assert_eq!(whom(&exited), json!(["shop", worker.0, own_pid(), 1, "retired"]));
            assert!(exited.text.starts_with("gone with signal 15: "), "{}", exited.text);
            let numbers: Vec<u64> = played.events().iter().map(|event| event.number).collect();
            assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
            // Who listens is told the same.
            for event in played.events() {
                assert_eq!(*listener.recv().await.unwrap(), event);
            }
        })
        .await;
}

#[tokio::test]
async fn failures_are_told_with_their_step_and_kept_until_they_are_put_right() {
    LocalSet::new()
        .run_until(async {
            let defaults = AppOptions { breaker_failures: Some(2), ..AppOptions::default() };
            let mut played = Played::begin(PoolConfig { defaults, ..PoolConfig::default() });
            let app = played.register(SHOP);
            for _ in 0..2 {
                played.get(SHOP);
                played.inspected(SHOP, 1);
                played.fails(SHOP);
            }
            let failed = played.event(EventName::SpawnFailed);
            assert_eq!((failed.app.as_deref(), failed.reason.as_deref()), (Some("shop"), Some("execute")));
            assert_eq!(failed.text, "a worker could not be started: there is no program node (Install it.)");
            assert!(failed.worker.is_some() && failed.generation.is_some(), "{failed:?}");
            let opened = played.event(EventName::BreakerOpened);
            assert_eq!((opened.app.as_deref(), opened.reason.as_deref()), (Some("shop"), Some("spawn_failed")));
            assert_eq!(played.event(EventName::PostMortem).reason.as_deref(), Some("spawn_failed"));
            let failure =
                crate::core::status::status(&played.shell.state()).apps[0].failure.clone().expect("a failure");
            assert_eq!((&*failure.problem, &*failure.remedy), ("there is no program node", "Install it."));
            assert!(failure.report.contains("its last words") && failure.at > 1e9);

            played.shell.tell(Event::Enable { request: None, root: SHOP.into() });
            assert_eq!(played.event(EventName::AppEnabled).app.as_deref(), Some("shop"));
            assert_eq!(played.event(EventName::BreakerClosed).app.as_deref(), Some("shop"));
            let status = crate::core::status::status(&played.shell.state());
            assert_eq!(status.apps[0].failure, None);
            let metrics = crate::core::metrics::metrics(&played.shell.state());
            assert_eq!((metrics.apps[0].spawn_failures, metrics.apps[0].breaker_opened), (2, 1));
            assert_eq!(metrics.apps[0].refused["spawn_failed"], 2);
            assert_eq!(played.app(SHOP), app);
        })
        .await;
}

#[tokio::test]
async fn orders_and_restarts_are_told_with_their_generation_and_reason() {
    LocalSet::new()
        .run_until(async {
            let tenant = TenantConfig { name: "ada".into(), options: TenantOptions::default() };
            let played = &mut Played::begin(PoolConfig { tenants: vec![tenant], ..PoolConfig::default() });
            played.register(SHOP);
            let of_ada = AppOptions { tenant: Some("ada".into()), ..AppOptions::default() };
            played.shell.register(SHOP.as_bytes(), of_ada);
            let moved = played.event(EventName::TenantChanged);
            assert_eq!((moved.tenant.as_deref(), &*moved.text), (Some("ada"), "it belongs to the tenant ada now"));
            played.get(SHOP);
            played.inspected(SHOP, 1);
            let old = played.serves(SHOP);
            played.shell.tell(Event::Restart { request: None, root: SHOP.into(), mode: RestartMode::Graceful });
            let began = played.event(EventName::RestartBegan);
            assert_eq!(whom(&began), json!(["shop", null, null, 2, "graceful"]));
            played.inspected(SHOP, 1);
            played.fails(SHOP);
            let failed = played.event(EventName::RestartFailed);
            assert_eq!(whom(&failed), json!(["shop", null, null, 2, "execute"]));
            played.shell.tell(Event::Restart { request: None, root: SHOP.into(), mode: RestartMode::Kill });
            assert_eq!(played.event(EventName::RestartBegan).reason.as_deref(), Some("kill"));
            assert_eq!(played.event(EventName::SessionEnded).reason.as_deref(), Some("restarted"));
            let killed_or_stopped = [EventName::WorkerStopping, EventName::WorkerDraining].map(EventName::name);
            assert!(played.names().iter().any(|name| killed_or_stopped.contains(name)), "{:?}", played.names());
            played.exits(old, Exit::Status(0));

            let root = || SHOP.as_bytes().to_vec();
            played.shell.tell(Event::Disable { request: None, root: root(), why: "moves \x1b[31m".into() });
            let disabled = played.event(EventName::AppDisabled);
            assert_eq!(disabled.text, "disabled by the operator: moves \\u{1b}[31m");
            assert_eq!((disabled.reason.as_deref(), disabled.tenant.as_deref()), (Some("operator"), Some("ada")));
            for (event, name) in [
                (Event::Enable { request: None, root: root() }, EventName::AppEnabled),
                (Event::StopApp { request: None, root: root() }, EventName::AppStopped),
                (Event::StartApp { request: None, root: root() }, EventName::AppStarted),
                (Event::Removed { request: None, root: root() }, EventName::AppRemoved),
            ] {
                played.shell.tell(event);
                let told = played.event(name);
                assert_eq!((told.app.as_deref(), told.root.as_deref()), (Some("shop"), Some(SHOP)), "{}", name.name());
            }
        })
        .await;
}

#[tokio::test]
async fn a_forgotten_app_is_told_by_its_name_and_root() {
    LocalSet::new()
        .run_until(async {
            let mut played = Played::begin(PoolConfig::default());
            played.get(SHOP);
            played.shell.tell(Event::Cancelled {
                request: hatchery_pool::Request { client: hatchery_pool::ClientId(7), number: 1 },
            });
            played.inspected(SHOP, 1);
            let forgotten = played.event(EventName::AppForgotten);
            assert_eq!((forgotten.app.as_deref(), forgotten.root.as_deref()), (Some("shop"), Some(SHOP)));
            assert!(played.shell.state().apps.is_empty());
        })
        .await;
}

thread_local! {
    /// What this thread has logged.
    static LOGGED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

struct Logged;

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LOGGED.with_borrow_mut(|logged| logged.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Logs as JSON from now on. One log for all threads: with one of its own each, tests that log nothing would switch
/// off lines of others.
fn log_in_memory() {
    let log = tracing_subscriber::fmt().with_target(false).with_writer(|| Logged).json().flatten_event(true).finish();
    // It may be there already.
    let _ = tracing::subscriber::set_global_default(log);
    LOGGED.take();
}

/// A pool in which a worker with 30 sessions dies, and what its log says.
async fn thirty_sessions_end(format: LogFormat) -> (Vec<PoolEvent>, WorkerId, String) {
    log_in_memory();
    let log = LogConfig { format, ..LogConfig::default() };
    let mut played = Played::begin(PoolConfig { log, ..PoolConfig::default() });
    for _ in 0..30 {
        played.get(SHOP);
    }
    played.inspected(SHOP, 0);
    let worker = played.serves(SHOP);
    played.exits(worker, Exit::Signal(9));
    (played.events(), worker, String::from_utf8(LOGGED.take()).expect("text"))
}

#[tokio::test]
async fn of_many_sessions_that_end_together_the_log_has_ten_and_a_sum_and_listeners_have_all() {
    LocalSet::new()
        .run_until(async {
            let (events, worker, log) = thirty_sessions_end(LogFormat::Text).await;
            let ended: Vec<&PoolEvent> = events.iter().filter(|event| event.event == EventName::SessionEnded).collect();
            assert_eq!(ended.len(), 30);
            assert!(ended.iter().all(|event| event.session.is_some() && event.worker == Some(worker.0)));
            assert_eq!(ended[0].reason.as_deref(), Some("worker_gone"));
            assert_eq!(log.matches("the session is ended: its worker is gone, with signal 9").count(), 10, "{log}");
            assert!(log.contains("20 more sessions of it are ended"), "{log}");
        })
        .await;
}

#[tokio::test]
async fn a_log_for_machines_has_the_members_of_the_event() {
    LocalSet::new()
        .run_until(async {
            let (events, _, log) = thirty_sessions_end(LogFormat::Json).await;
            let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
            for event in &events {
                let name = event.event.name();
                // Debug lines are not written; those of many sessions are summed up.
                if event.level == Level::Debug || name == "session_ended" {
                    continue;
                }
                let line = lines.iter().find(|line| line["event"] == name).unwrap_or_else(|| panic!("{name} in {log}"));
                let told = serde_json::to_value(event).unwrap();
                for member in ["app", "worker", "pid", "generation", "session", "reason"] {
                    assert_eq!(line[member], told[member], "{member} of {line}");
                }
                if name != "post_mortem" {
                    assert_eq!((&line["message"], &line["root"]), (&told["text"], &told["root"]), "{line}");
                }
            }
            assert_eq!(lines.iter().filter(|line| line["event"] == "session_ended").count(), 11);
        })
        .await;
}
