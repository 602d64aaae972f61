//! Events as lines of the log. Where it is for people, the sentence says what happened, and fields whom it concerns;
//! where it is for machines, every line has its event's name and all that is known of it.

use hatchery_protocol::config::LogFormat;
use hatchery_protocol::events::{EventName, Level, PoolEvent};
use hatchery_protocol::post_mortem::PostMortem;
use hatchery_protocol::report::SpawnReport;
use std::rc::Rc;

/// How an event is logged.
#[derive(Debug)]
pub(super) enum Form {
    Sentence,
    /// With the whole report of a failed start.
    Report(Rc<SpawnReport>),
    /// With the figures of a worker that did not leave in peace, and how many sessions it had.
    Record(Box<PostMortem>, usize),
    /// Another line speaks for it.
    Unlogged,
}

/// A line's level is a part of its place in the code.
macro_rules! at {
    ($level:expr, $($line:tt)+) => {
        match $level {
            Level::Debug => tracing::debug!($($line)+),
            Level::Info => tracing::info!($($line)+),
            Level::Warn => tracing::warn!($($line)+),
            Level::Error => tracing::error!($($line)+),
        }
    };
}

pub(super) fn log(event: &PoolEvent, form: &Form, is_preloader: bool, format: LogFormat) {
    match (form, format) {
        (Form::Unlogged, _) => {}
        (Form::Record(record, sessions), _) => log_record(event, record, *sessions),
        (Form::Report(report), LogFormat::Text) => for_people(event, is_preloader, &report.to_string()),
        (Form::Sentence, LogFormat::Text) => for_people(event, is_preloader, &event.text),
        (Form::Report(report), LogFormat::Json) => for_machines(event, Some(report)),
        (Form::Sentence, LogFormat::Json) => for_machines(event, None),
    }
}

fn for_people(event: &PoolEvent, is_preloader: bool, text: &str) {
    let PoolEvent { level, pid, session, .. } = *event;
    let app = event.app.as_deref();
    let (worker, preloader) = if is_preloader { (None, event.worker) } else { (event.worker, None) };
    // Of a process it is known by its number.
    let generation = event.generation.filter(|_| event.worker.is_none());
    at!(level, app, worker, preloader, pid, generation, session, "{text}");
}

fn for_machines(event: &PoolEvent, report: Option<&SpawnReport>) {
    let PoolEvent { level, worker, pid, generation, session, .. } = *event;
    let (name, app, root) = (event.event.name(), event.app.as_deref(), event.root.as_deref());
    let (tenant, reason) = (event.tenant.as_deref(), event.reason.as_deref());
    let Some(report) = report else {
        let text = &event.text;
        return at!(level, event = name, app, root, tenant, worker, pid, generation, session, reason, "{text}");
    };
    let SpawnReport { step, problem, remedy, exit, .. } = report;
    let (step, exit) = (crate::core::words::step(*step), exit.map(|exit| exit.to_string()));
    at!(
        level,
        event = name,
        app,
        root,
        tenant,
        worker,
        pid,
        generation,
        reason,
        step,
        problem,
        remedy,
        exit,
        "{report}"
    );
}

fn log_record(event: &PoolEvent, record: &PostMortem, sessions: usize) {
    let PoolEvent { level, worker, pid, generation, .. } = *event;
    at!(
        level,
        event = event.event.name(),
        app = event.app.as_deref(),
        worker,
        pid,
        generation,
        reason = event.reason.as_deref(),
        why = record.why,
        exit = record.exit.map(|exit| exit.to_string()),
        out_of_memory = record.out_of_memory,
        age_s = record.age_s,
        served = record.served,
        memory_bytes = record.memory_bytes,
        sessions,
        "a worker did not leave in peace"
    );
}

/// Of sessions that ended together, what has no line of its own.
pub(super) fn sum_up(app: Option<&str>, worker: u64, pid: i32, reason: &str, more: u32) {
    let event = EventName::SessionEnded.name();
    tracing::warn!(event, app, worker, pid, reason, sessions = more, "{more} more sessions of it are ended");
}
