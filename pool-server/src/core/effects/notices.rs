//! What the pool has to say to people: a sentence each in the log, with the settings that have to do with it.

use crate::core::shell::State;
use crate::core::translate;
use hatchery_pool::{AppId, Exit, NotPreloaded, Notice, ReportId, RestartMode, StopReason, Time, WorkerId};
use hatchery_protocol::config::LogFormat;
use hatchery_protocol::report::SpawnReport;

impl State {
    /// What a report says in one sentence, and what to do.
    fn problem(&self, report: ReportId) -> String {
        self.report(report).map_or_else(String::new, |report| format!("{} ({})", report.problem, report.remedy))
    }

    pub(super) fn note(&self, now: Time, notice: &Notice) {
        let name = |app: &AppId| self.app_name(*app);
        match notice {
            Notice::PreloaderReady { .. } | Notice::PreloaderGone { .. } | Notice::NotPreloaded { .. } => {
                self.note_preloading(notice);
            }
            Notice::Registered { app } => tracing::debug!(app = name(app), "registered"),
            Notice::Forgotten { app } => tracing::debug!(app = name(app), "forgotten"),
            Notice::Added { app } => tracing::info!(app = name(app), "added by the operator"),
            Notice::Removed { app } => tracing::info!(app = name(app), "removed by the operator"),
            Notice::Stopped { app } => tracing::info!(app = name(app), "stopped by the operator"),
            Notice::Started { app } => tracing::info!(app = name(app), "started by the operator"),
            Notice::Disabled { app, why } => tracing::warn!(app = name(app), "disabled by the operator: {why}"),
            Notice::Enabled { app } => tracing::info!(app = name(app), "enabled by the operator"),
            Notice::TenantChanged { app, tenant } => {
                tracing::info!(app = name(app), tenant, "it belongs to another tenant now");
            }
            Notice::SessionEnded { app, worker, session, why } => {
                let (app, worker, session) = (name(app), worker.0, session.0);
                tracing::warn!(app, worker, session, "the session is ended: {why:?}");
            }
            Notice::OptionsIgnored { app } => tracing::warn!(
                app = name(app),
                "options that differ from those it was registered with are ignored until it is added anew"
            ),
            Notice::WorkerReady { worker, after } => {
                let (pid, after) = (self.pid(*worker), after.as_secs_f64() * 1000.0);
                tracing::info!(worker = worker.0, pid, "ready after {after:.0} ms");
            }
            Notice::WorkerGone { worker, exit, why } => gone(*worker, *exit, *why),
            Notice::SpawnFailed { app, worker: _, report } => self.note_failed_start(*app, *report),
            Notice::MinAboveMax { apps, min_total, max } => tracing::warn!(
                "the workers kept at least are {min_total} ({}), and the pool's max is {max}: raise max or lower min",
                self.listed(apps)
            ),
            Notice::MoreAppsThanMax { apps, max } => tracing::warn!(
                "{} applications are registered ({}), and the pool's max is {max}: not all can have a worker at the \
                 same time, and they evict one another; raise max",
                apps.len(),
                self.listed(apps)
            ),
            Notice::MinPaused { app } => tracing::warn!(
                app = name(app),
                "a worker could not be started; its min is kept again from the next get on"
            ),
            Notice::BreakerOpened { app, until, why } => tracing::error!(
                app = name(app),
                "disabled: {}; the next get in {} or later tries again, and `hatchery enable` at once (breaker_failures, \
                 breaker_window)",
                translate::disabling(why),
                seconds(*until, now)
            ),
            Notice::BreakerClosed { app } => {
                tracing::info!(app = name(app), "not disabled any more: its failures are forgotten");
            }
            Notice::Restarting { app, generation, mode } => {
                let how = match mode {
                    RestartMode::Graceful => "new workers first, then the old ones drain",
                    RestartMode::Kill => "old workers and their sessions end at once",
                };
                tracing::info!(app = name(app), generation = generation.0, "restarting: {how}");
            }
            Notice::Restarted { app, generation } => {
                tracing::info!(
                    app = name(app),
                    generation = generation.0,
                    "restarted: no older worker takes a request"
                );
            }
            Notice::RestartFailed { app, generation, report } => tracing::error!(
                app = name(app),
                generation = generation.0,
                "the restart failed, and what served before serves on: {}",
                self.problem(*report)
            ),
            Notice::UpdateRefused { app, report } => {
                tracing::error!(app = name(app), "the staged update is not taken: {}", self.problem(*report));
            }
            Notice::Updated { app } => {
                tracing::info!(app = name(app), "updated; the version before is kept as its backup");
            }
            Notice::UpdateUndone { app } => tracing::error!(
                app = name(app),
                "the update is undone: the version before is back, and the one that did not start is kept as failed"
            ),
            Notice::SwapFailed { app, report } => {
                tracing::error!(app = name(app), "an exchange of folders did not end well: {}", self.problem(*report));
            }
            Notice::Recycling { worker, why } => {
                let (app, pid) = (self.app_of(*worker), self.pid(*worker));
                tracing::info!(app, worker = worker.0, pid, "to be replaced: {}", translate::stop_reason(*why));
            }
            Notice::RecyclingPaused { app, until } => tracing::warn!(
                app = name(app),
                "a worker that was to replace another could not be started; the other goes on serving, and the next \
                 try is in {}",
                seconds(*until, now)
            ),
            Notice::PingMissed { worker, in_a_row } => {
                let (app, pid) = (self.app_of(*worker), self.pid(*worker));
                tracing::warn!(
                    app,
                    worker = worker.0,
                    pid,
                    "it did not answer a ping within ping_timeout, or not well: {in_a_row} in a row, and at \
                     ping_failures it is replaced"
                );
            }
        }
    }

    /// The report as text; where the log is for machines, by its parts too.
    fn note_failed_start(&self, app: AppId, report: ReportId) {
        let app = self.app_name(app);
        let Some(report) = self.report(report) else { return tracing::error!(app, "a worker could not be started") };
        if self.config.log.format == LogFormat::Text {
            return tracing::error!(app, "{report}");
        }
        let SpawnReport { root, problem, remedy, .. } = &*report;
        // As it is named in JSON elsewhere.
        let step = serde_json::to_value(report.step).unwrap_or_default();
        let (step, exit) = (step.as_str(), report.exit.map(|exit| exit.to_string()));
        tracing::error!(event = "spawn_failed", app, root, step, problem, remedy, exit, "{report}");
    }

    fn note_preloading(&self, notice: &Notice) {
        match notice {
            Notice::PreloaderReady { preloader, after } => {
                let ((app, pid), after) = (self.app_and_pid(*preloader), after.as_secs_f64() * 1000.0);
                tracing::info!(
                    app,
                    preloader = preloader.0,
                    pid,
                    "loaded after {after:.0} ms: workers are forked from it"
                );
            }
            Notice::PreloaderGone { preloader, exit, why } => {
                let ((app, pid), exit) = (self.app_and_pid(*preloader), translate::exit_text(*exit));
                match why {
                    Some(why) => {
                        let why = translate::drop_reason(*why);
                        tracing::info!(app, preloader = preloader.0, pid, "the preloader is gone with {exit}: {why}");
                    }
                    None => tracing::warn!(
                        app,
                        preloader = preloader.0,
                        pid,
                        "the preloader died with {exit}; its workers live on, and another is started when one is needed"
                    ),
                }
            }
            Notice::NotPreloaded { app, generation, why } => {
                let because = match why {
                    NotPreloaded::Unfit => match self.unfit(*app) {
                        Some(why) => format!("it can't be preloaded: {why}"),
                        None => "its loader says that it can't be preloaded".to_owned(),
                    },
                    NotPreloaded::ForksFail => "no worker could be forked, of two preloaders".to_owned(),
                };
                let app = self.app_name(*app);
                tracing::warn!(app, generation = generation.0, "{because}; its workers are started one by one");
            }
            _ => {}
        }
    }

    /// What is known of a process, for the log.
    pub(in crate::core) fn app_and_pid(&self, worker: WorkerId) -> (Option<String>, i32) {
        (self.app_of(worker), self.pid(worker))
    }

    pub(in crate::core) fn pid(&self, worker: WorkerId) -> i32 {
        self.workers.get(worker).map_or(0, |worker| worker.pid)
    }

    fn app_of(&self, worker: WorkerId) -> Option<String> {
        self.workers.get(worker).map(|worker| self.app_name(worker.app))
    }

    /// What an app is called.
    pub(in crate::core) fn app_name(&self, app: AppId) -> String {
        let root = self.apps.get(&app).map(|app| app.root.as_slice()).or_else(|| self.pool.root(app));
        root.map_or_else(|| app.to_string(), |root| self.options.name(root))
    }

    fn listed(&self, apps: &[AppId]) -> String {
        apps.iter().map(|app| self.app_name(*app)).collect::<Vec<_>>().join(", ")
    }
}

fn seconds(until: Time, now: Time) -> String {
    format!("{:.0} s", until.since(now).as_secs_f64().ceil())
}

fn gone(worker: WorkerId, exit: Exit, why: Option<StopReason>) {
    let exit = translate::exit_text(exit);
    match why {
        Some(why) => tracing::info!(worker = worker.0, "gone with {exit}: {}", translate::stop_reason(why)),
        None => tracing::warn!(worker = worker.0, "died with {exit}"),
    }
}
