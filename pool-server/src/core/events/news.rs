//! Where everything that happens becomes an event: it gets its names and numbers, goes to the log, and to whoever asks
//! or listens.

use super::logged::{self, Form};
use crate::core::shell::State;
use crate::core::words;
use crate::core::workers::Role;
use hatchery_pool::{AppId, Generation, SessionId, WorkerId};
use hatchery_protocol::events::{EventName, PoolEvent};
use hatchery_protocol::post_mortem::PostMortem;
use hatchery_protocol::report::SpawnReport;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::SystemTime;

/// Sessions of one worker that end in one moment and have a line of the log each; the rest is summed up.
const SESSIONS_LOGGED: u32 = 10;

/// What happened, and to whom, by the pool's numbers.
#[must_use]
#[derive(Debug)]
pub(in crate::core) struct News {
    event: EventName,
    text: String,
    app: Option<AppId>,
    /// A worker, or a preloader.
    worker: Option<WorkerId>,
    generation: Option<Generation>,
    session: Option<SessionId>,
    why: Option<&'static str>,
    form: Form,
}

impl News {
    /// `text`: one sentence for people.
    pub(in crate::core) fn of(event: EventName, text: impl Into<String>) -> Self {
        let (app, worker, generation, session, why) = (None, None, None, None, None);
        Self { event, text: text.into(), app, worker, generation, session, why, form: Form::Sentence }
    }

    pub(in crate::core) fn app(self, app: AppId) -> Self {
        Self { app: Some(app), ..self }
    }

    /// Its app, process and generation are known by it.
    pub(in crate::core) fn worker(self, worker: WorkerId) -> Self {
        Self { worker: Some(worker), ..self }
    }

    pub(in crate::core) fn generation(self, generation: Generation) -> Self {
        Self { generation: Some(generation), ..self }
    }

    pub(in crate::core) fn session(self, session: SessionId) -> Self {
        Self { session: Some(session), ..self }
    }

    /// One stable word.
    pub(in crate::core) fn why(self, why: &'static str) -> Self {
        Self { why: Some(why), ..self }
    }

    /// What failed, and how far it came, is known by its report; if that is still kept.
    pub(in crate::core) fn failed(self, report: Option<&SpawnReport>) -> Self {
        Self { why: report.map(|report| words::step(report.step)).or(self.why), ..self }
    }

    /// The log has the whole report.
    pub(in crate::core) fn with_report(self, report: Option<Rc<SpawnReport>>) -> Self {
        let news = self.failed(report.as_deref());
        Self { form: report.map_or(Form::Sentence, Form::Report), ..news }
    }

    /// The log has the figures of the record. `sessions`: how many it had.
    pub(in crate::core) fn with_record(self, record: &PostMortem, sessions: usize) -> Self {
        Self { form: Form::Record(Box::new(record.clone()), sessions), ..self }
    }

    fn unlogged(self) -> Self {
        Self { form: Form::Unlogged, ..self }
    }
}

/// Sessions that the pool ended in one moment, by worker and reason.
pub(in crate::core) type Endings = BTreeMap<(WorkerId, &'static str), u32>;

impl State {
    /// Says it to everybody who wants to know.
    pub(in crate::core) fn happened(&mut self, news: News) {
        let News { event, text, app, worker, generation, session, why, form } = news;
        let process = worker.and_then(|worker| self.workers.get(worker));
        let is_preloader = process.is_some_and(|process| process.role() == Role::Preloader);
        let app = app.or(process.map(|process| process.app)).or_else(|| self.pool.app_of(worker?));
        let root = app.and_then(|app| self.root_of(app));
        let told = PoolEvent {
            // Given when it is published.
            number: 0,
            at: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
            event,
            level: event.level(),
            app: app.map(|app| self.app_name(app)),
            root: root.map(|root| String::from_utf8_lossy(root).into_owned()),
            tenant: root.and_then(|root| self.tenant_of(root)),
            worker: worker.map(|worker| worker.0),
            pid: process.map(|process| process.pid).filter(|pid| *pid != 0),
            generation: generation.or(process.map(|process| process.generation)).map(|generation| generation.0),
            session: session.map(|session| session.0),
            reason: why.map(str::to_owned),
            text,
        };
        let told = self.events.publish(told);
        logged::log(&told, &form, is_preloader, self.config.log.format);
    }

    /// A session that the pool ended: of many at one worker and moment, the log has the first.
    pub(in crate::core) fn session_ended(&mut self, worker: WorkerId, why: &'static str, news: News) {
        let ended = self.endings.entry((worker, why)).or_default();
        *ended += 1;
        let news = if *ended > SESSIONS_LOGGED { news.unlogged() } else { news };
        self.happened(news);
    }

    /// The moment is over.
    pub(in crate::core) fn sum_up_sessions(&mut self) {
        for ((worker, why), ended) in std::mem::take(&mut self.endings) {
            if ended > SESSIONS_LOGGED {
                let (app, pid) = self.app_and_pid(worker);
                logged::sum_up(app.as_deref(), worker.0, pid, why, ended - SESSIONS_LOGGED);
            }
        }
    }

    fn root_of(&self, app: AppId) -> Option<&[u8]> {
        self.apps.get(&app).map(|app| app.root.as_slice()).or_else(|| self.pool.root(app))
    }

    fn tenant_of(&self, root: &[u8]) -> Option<String> {
        let own = self.options.get(root).and_then(|options| options.tenant.as_ref());
        own.or(self.config.defaults.tenant.as_ref()).cloned()
    }

    /// What is known of a process, for the log.
    pub(in crate::core) fn app_and_pid(&self, worker: WorkerId) -> (Option<String>, i32) {
        (self.workers.get(worker).map(|worker| self.app_name(worker.app)), self.pid(worker))
    }

    /// 0: it has none.
    pub(in crate::core) fn pid(&self, worker: WorkerId) -> i32 {
        self.workers.get(worker).map_or(0, |worker| worker.pid)
    }

    /// What an app is called.
    pub(in crate::core) fn app_name(&self, app: AppId) -> String {
        self.root_of(app).map_or_else(|| app.to_string(), |root| self.options.name(root))
    }
}
