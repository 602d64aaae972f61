//! What the pool has to say to people: a sentence each, with the settings that have to do with it.

use crate::core::events::News;
use crate::core::shell::State;
use crate::core::translate;
use crate::core::words;
use crate::show::printable;
use hatchery_pool::{AppId, EndReason, NotPreloaded, Notice, ReportId, RestartMode, SessionId, Time, WorkerId};
use hatchery_protocol::events::EventName as Name;
use hatchery_protocol::report::SpawnReport;
use std::rc::Rc;
use std::time::Duration;

/// Apps that one sentence names.
const LISTED: usize = 20;

impl State {
    pub(super) fn note(&mut self, now: Time, notice: &Notice) {
        let news = match notice {
            // With its root, by the effect that comes with it.
            Notice::Forgotten { .. } => None,
            Notice::SessionEnded { app, worker, session, why } => {
                let news = self.of_session(*app, *worker, *session, *why);
                return self.session_ended(*worker, words::end_reason(*why), news);
            }
            Notice::Registered { .. }
            | Notice::Added { .. }
            | Notice::Removed { .. }
            | Notice::Stopped { .. }
            | Notice::Started { .. }
            | Notice::Disabled { .. }
            | Notice::Enabled { .. }
            | Notice::TenantChanged { .. }
            | Notice::OptionsIgnored { .. } => of_app(notice),
            Notice::WorkerReady { .. }
            | Notice::WorkerGone { .. }
            | Notice::Recycling { .. }
            | Notice::PingMissed { .. } => of_worker(notice),
            Notice::SpawnFailed { .. }
            | Notice::MinPaused { .. }
            | Notice::RecyclingPaused { .. }
            | Notice::BreakerOpened { .. }
            | Notice::BreakerClosed { .. } => self.of_failure(now, notice),
            Notice::Restarting { .. }
            | Notice::Restarted { .. }
            | Notice::RestartFailed { .. }
            | Notice::UpdateRefused { .. }
            | Notice::Updated { .. }
            | Notice::UpdateUndone { .. }
            | Notice::SwapFailed { .. } => self.of_version(notice),
            Notice::PreloaderReady { .. } | Notice::PreloaderGone { .. } | Notice::NotPreloaded { .. } => {
                self.of_preloading(notice)
            }
            Notice::MinAboveMax { .. } | Notice::MoreAppsThanMax { .. } => self.of_room(notice),
        };
        if let Some(news) = news {
            self.happened(news);
        }
    }

    fn of_session(&self, app: AppId, worker: WorkerId, session: SessionId, why: EndReason) -> News {
        let doing = self.workers.get(worker).and_then(|worker| worker.said_of(session));
        let doing = doing.map(|doing| format!(" ({})", printable(doing))).unwrap_or_default();
        let text = format!("the session is ended: {}{doing}", translate::end_reason(why));
        News::of(Name::SessionEnded, text).app(app).worker(worker).session(session).why(words::end_reason(why))
    }

    fn of_failure(&self, now: Time, notice: &Notice) -> Option<News> {
        Some(match notice {
            Notice::SpawnFailed { app, worker, report } => {
                let text = match self.problem(*report) {
                    None => "a worker could not be started".to_owned(),
                    Some(problem) => format!("a worker could not be started: {problem}"),
                };
                let news = News::of(Name::SpawnFailed, text).app(*app).with_report(self.report(*report));
                match worker {
                    Some(worker) => news.worker(*worker),
                    None => news,
                }
            }
            Notice::MinPaused { app } => {
                let text = "a worker could not be started; its min is kept again from the next get on";
                News::of(Name::MinPaused, text).app(*app)
            }
            Notice::RecyclingPaused { app, until } => {
                let text = format!(
                    "a worker that was to replace another could not be started; the other goes on serving, and the \
                     next try is in {}",
                    seconds(*until, now)
                );
                News::of(Name::RecyclingPaused, text).app(*app)
            }
            Notice::BreakerOpened { app, until, why } => {
                let text = format!(
                    "disabled: {}; the next get in {} or later tries again, and `hatchery enable` at once \
                     (breaker_failures, breaker_window)",
                    translate::disabling(why),
                    seconds(*until, now)
                );
                News::of(Name::BreakerOpened, text).app(*app).why(words::disabling(why))
            }
            Notice::BreakerClosed { app } => {
                News::of(Name::BreakerClosed, "not disabled any more: its failures are forgotten").app(*app)
            }
            _ => return None,
        })
    }

    fn of_version(&self, notice: &Notice) -> Option<News> {
        let failed = |name, text: &str, report: &ReportId| {
            let text = format!("{text}: {}", self.problem(*report).unwrap_or_default());
            News::of(name, text).failed(self.report(*report).as_deref())
        };
        Some(match notice {
            Notice::Restarting { app, generation, mode } => {
                let how = match mode {
                    RestartMode::Graceful => "new workers first, then the old ones drain",
                    RestartMode::Kill => "old workers and their sessions end at once",
                };
                let news = News::of(Name::RestartBegan, format!("restarting: {how}")).why(words::restart_mode(*mode));
                news.app(*app).generation(*generation)
            }
            Notice::Restarted { app, generation } => {
                let text = "restarted: no older worker takes a request";
                News::of(Name::RestartDone, text).app(*app).generation(*generation)
            }
            Notice::RestartFailed { app, generation, report } => {
                let text = "the restart failed, and what served before serves on";
                failed(Name::RestartFailed, text, report).app(*app).generation(*generation)
            }
            Notice::UpdateRefused { app, report } => {
                failed(Name::UpdateRefused, "the staged update is not taken", report).app(*app)
            }
            Notice::Updated { app } => {
                News::of(Name::UpdateTaken, "updated; the version before is kept as its backup").app(*app)
            }
            Notice::UpdateUndone { app } => {
                let text = "the update is undone: the version before is back, and the one that did not start is kept \
                            as failed";
                News::of(Name::UpdateUndone, text).app(*app)
            }
            Notice::SwapFailed { app, report } => {
                failed(Name::ExchangeFailed, "an exchange of folders did not end well", report).app(*app)
            }
            _ => return None,
        })
    }

    fn of_preloading(&self, notice: &Notice) -> Option<News> {
        Some(match notice {
            Notice::PreloaderReady { preloader, after } => {
                let text = format!("loaded after {}: workers are forked from it", millis(*after));
                News::of(Name::PreloaderReady, text).worker(*preloader)
            }
            Notice::PreloaderGone { preloader, exit, why: Some(why) } => {
                let (exit, because) = (translate::exit_text(*exit), translate::drop_reason(*why));
                let text = format!("the preloader is gone with {exit}: {because}");
                News::of(Name::PreloaderExited, text).worker(*preloader).why(words::drop_reason(*why))
            }
            Notice::PreloaderGone { preloader, exit, why: None } => {
                let text = format!(
                    "the preloader died with {}; its workers live on, and another is started when one is needed",
                    translate::exit_text(*exit)
                );
                News::of(Name::PreloaderDied, text).worker(*preloader).why(words::exit(*exit))
            }
            Notice::NotPreloaded { app, generation, why } => {
                let because = match why {
                    NotPreloaded::Unfit => match self.unfit(*app) {
                        Some(why) => format!("it can't be preloaded: {why}"),
                        None => "its loader says that it can't be preloaded".to_owned(),
                    },
                    NotPreloaded::ForksFail => "no worker could be forked, of two preloaders".to_owned(),
                };
                let text = format!("{because}; its workers are started one by one");
                let news = News::of(Name::NotPreloaded, text).why(words::not_preloaded(*why));
                news.app(*app).generation(*generation)
            }
            _ => return None,
        })
    }

    fn of_room(&self, notice: &Notice) -> Option<News> {
        Some(match notice {
            Notice::MinAboveMax { apps, min_total, max } => {
                let text = format!(
                    "the workers kept at least are {min_total} ({}), and the pool's max is {max}: raise max or lower \
                     min",
                    self.listed(apps)
                );
                News::of(Name::MinAboveMax, text)
            }
            Notice::MoreAppsThanMax { apps, max } => {
                let text = format!(
                    "{} applications are registered ({}), and the pool's max is {max}: not all can have a worker at \
                     the same time, and they evict one another; raise max",
                    apps.len(),
                    self.listed(apps)
                );
                News::of(Name::MoreAppsThanMax, text)
            }
            _ => return None,
        })
    }

    /// What a report says in one sentence, and what to do; if it is still kept.
    fn problem(&self, report: ReportId) -> Option<String> {
        let report: Rc<SpawnReport> = self.report(report)?;
        Some(format!("{} ({})", report.problem, report.remedy))
    }

    fn listed(&self, apps: &[AppId]) -> String {
        let mut names: Vec<String> = apps.iter().take(LISTED).map(|app| self.app_name(*app)).collect();
        if apps.len() > LISTED {
            names.push(format!("and {} more", apps.len() - LISTED));
        }
        names.join(", ")
    }
}

fn of_app(notice: &Notice) -> Option<News> {
    Some(match notice {
        Notice::Registered { app } => News::of(Name::AppRegistered, "registered").app(*app),
        Notice::Added { app } => News::of(Name::AppAdded, "added by the operator").app(*app),
        Notice::Removed { app } => News::of(Name::AppRemoved, "removed by the operator").app(*app),
        Notice::Stopped { app } => News::of(Name::AppStopped, "stopped by the operator").app(*app),
        Notice::Started { app } => News::of(Name::AppStarted, "started by the operator").app(*app),
        Notice::Disabled { app, why } => {
            let text = format!("disabled by the operator: {}", printable(why));
            News::of(Name::AppDisabled, text).app(*app).why("operator")
        }
        Notice::Enabled { app } => News::of(Name::AppEnabled, "enabled by the operator").app(*app),
        Notice::TenantChanged { app, tenant } => {
            let text = match tenant {
                Some(tenant) => format!("it belongs to the tenant {tenant} now"),
                None => "it belongs to no tenant any more".to_owned(),
            };
            News::of(Name::TenantChanged, text).app(*app)
        }
        Notice::OptionsIgnored { app } => {
            let text = "options that differ from those it was registered with are ignored until it is added anew";
            News::of(Name::OptionsIgnored, text).app(*app)
        }
        _ => return None,
    })
}

fn of_worker(notice: &Notice) -> Option<News> {
    Some(match notice {
        Notice::WorkerReady { worker, after } => {
            News::of(Name::WorkerReady, format!("ready after {}", millis(*after))).worker(*worker)
        }
        Notice::WorkerGone { worker, exit, why: Some(why) } => {
            let text = format!("gone with {}: {}", translate::exit_text(*exit), translate::stop_reason(*why));
            News::of(Name::WorkerExited, text).worker(*worker).why(words::stop_reason(*why))
        }
        Notice::WorkerGone { worker, exit, why: None } => {
            let text = format!("died with {}", translate::exit_text(*exit));
            News::of(Name::WorkerDied, text).worker(*worker).why(words::exit(*exit))
        }
        Notice::Recycling { worker, why } => {
            let text = format!("to be replaced: {}", translate::stop_reason(*why));
            News::of(Name::WorkerRecycling, text).worker(*worker).why(words::stop_reason(*why))
        }
        Notice::PingMissed { worker, in_a_row } => {
            let text = format!(
                "it did not answer a ping within ping_timeout, or not well: {in_a_row} in a row, and at ping_failures \
                 it is replaced"
            );
            News::of(Name::PingMissed, text).worker(*worker)
        }
        _ => return None,
    })
}

fn seconds(until: Time, now: Time) -> String {
    format!("{:.0} s", until.since(now).as_secs_f64().ceil())
}

fn millis(after: Duration) -> String {
    format!("{:.0} ms", after.as_secs_f64() * 1000.0)
}
