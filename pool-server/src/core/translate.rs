//! The pool's words from and to the protocol's. The two crates do not know each other; only this file knows both.

use hatchery_pool as pool;
use hatchery_pool::{Beyond, Concurrency, Disabling, DropReason, Failure, Invalid, Parking, StopReason, Time, Wanted};
use hatchery_protocol::client::{Ended, How, RestartMode, SessionProtocol};
use hatchery_protocol::config::{PoolConfig, TenantOptions};
use hatchery_protocol::keys::Who;
use hatchery_protocol::link::{LaunchPlan, Program, ReadyBy, SwapStep};
use hatchery_protocol::options::AppOptions;
use hatchery_protocol::refusal::{Refusal, Scope};
use hatchery_protocol::report::{Exit, SpawnReport};
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// Servers that aren't ours close idle connections when they like; the shortest usual time is 2 s.
const FOREIGN_PARKING: Duration = Duration::from_millis(1500);
/// When a client of a full queue should come back.
const QUEUE_RETRY: Duration = Duration::from_secs(5);

pub(super) fn settings(config: &PoolConfig, privileged: bool) -> pool::Settings {
    let cores = std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
    pool::Settings {
        max: NonZeroU32::new(config.max).unwrap_or(NonZeroU32::MIN),
        surge: config.surge,
        max_queue_total: config.max_queue_total,
        max_starting: NonZeroU32::new(config.max_starting.unwrap_or(cores)).unwrap_or(NonZeroU32::MIN),
        max_preloaders: config.max_preloaders.unwrap_or(config.max),
        max_preloader_idle: zero_is_never(config.max_preloader_idle),
        defaults: app_settings(&config.defaults),
        bounded: privileged && !config.trust_clients,
        apps_under: config.apps_under.clone(),
        tenants: config.tenants.iter().map(|tenant| (tenant.name.clone(), tenant_settings(&tenant.options))).collect(),
        fair_wait: config.fair_wait,
        evict_timeout: config.evict_timeout,
        max_sessions: NonZeroU32::new(config.max_sessions).unwrap_or(NonZeroU32::MIN),
    }
}

/// The operator's word on an app.
pub(super) fn app_settings(options: &AppOptions) -> pool::AppSettings {
    let default = pool::AppSettings::default();
    pool::AppSettings {
        prestart: options.prestart.unwrap_or(default.prestart),
        ping_interval: options.ping_interval.map_or(default.ping_interval, zero_is_never),
        ping_timeout: options.ping_timeout.unwrap_or(default.ping_timeout),
        ping_failures: options.ping_failures.and_then(NonZeroU32::new).unwrap_or(default.ping_failures),
        breaker_failures: options.breaker_failures.map_or(default.breaker_failures, NonZeroU32::new),
        breaker_window: options.breaker_window.unwrap_or(default.breaker_window),
        dump: options.dump_signal.is_some(),
        tenant: options.tenant.clone(),
        ..wanted(options).applied_to(&default)
    }
}

fn tenant_settings(options: &TenantOptions) -> pool::TenantSettings {
    pool::TenantSettings {
        max: options.max.and_then(NonZeroU32::new),
        max_memory: options.max_memory.and_then(NonZeroU64::new),
    }
}

/// A client's wishes.
pub(super) fn wanted(options: &AppOptions) -> Wanted {
    Wanted {
        max_per_app: options.max_per_app.and_then(NonZeroU32::new),
        min: options.min,
        concurrency: options.concurrency.map(concurrency),
        max_idle: options.max_idle.map(zero_is_never),
        max_queue: options.max_queue,
        max_queue_wait: options.max_queue_wait.map(zero_is_never),
        start_timeout: options.start_timeout,
        drain_timeout: options.drain_timeout,
        stop_timeout: options.stop_timeout,
        linger: options.linger,
        max_requests: options.max_requests.map(NonZeroU64::new),
        max_lifetime: options.max_lifetime.map(zero_is_never),
        max_memory: options.max_memory.map(NonZeroU64::new),
        max_request_time: options.max_request_time.map(zero_is_never),
        operators: operators(options),
    }
}

/// The first setting that is the operator's alone.
fn operators(options: &AppOptions) -> Option<&'static str> {
    let keys = AppOptions::KEYS.iter().filter(|key| key.who == Who::Operator || key.name.starts_with("limit_"));
    let cgroup = ["memory_max", "cpu_max", "pids_max"].into_iter();
    let mut named = keys.map(|key| key.name).chain(cgroup).filter(|name| options.sets(name));
    let start = options.start.is_some().then_some("start");
    start.or((!options.env.is_empty()).then_some("env")).or_else(|| named.next())
}

pub(super) fn zero_is_never(duration: Duration) -> Option<Duration> {
    (!duration.is_zero()).then_some(duration)
}

fn concurrency(sessions: u32) -> Concurrency {
    NonZeroU32::new(sessions).map_or(Concurrency::Unlimited, Concurrency::Limited)
}

pub(super) fn plan(plan: &LaunchPlan) -> pool::Plan {
    let parking = match plan.protocol {
        SessionProtocol::Session => Parking::Unlimited,
        _ => Parking::For(FOREIGN_PARKING),
    };
    // A fork has no way to be told where to say that it is ready.
    let preloads = matches!(&plan.program, Program::Loader(loading) if loading.preload) && plan.ready == ReadyBy::Probe;
    pool::Plan { concurrency: concurrency(plan.concurrency), parking, preloads }
}

pub(super) fn close(how: How) -> pool::Close {
    match how {
        How::Kept => pool::Close::Kept,
        How::Finished => pool::Close::Finished,
        How::Abandoned => pool::Close::Abandoned,
    }
}

pub(super) fn exit(exit: Exit) -> pool::Exit {
    match exit {
        Exit::Status(status) => pool::Exit::Status(status),
        Exit::Signal(signal) => pool::Exit::Signal(signal),
    }
}

/// As the process table had it.
pub(super) fn exit_back(exit: pool::Exit) -> Exit {
    const KILL: i32 = 9;
    match exit {
        pool::Exit::Status(status) => Exit::Status(status),
        pool::Exit::Signal(signal) => Exit::Signal(signal),
        pool::Exit::OutOfMemory => Exit::Signal(KILL),
    }
}

/// Why a worker did not leave in peace.
pub(super) fn passing(passing: &pool::Passing, report: Option<&SpawnReport>) -> String {
    let open = match passing.sessions.len() {
        0 => "while nobody used it".to_owned(),
        1 => "while it served 1 session".to_owned(),
        open => format!("while it served {open} sessions"),
    };
    match (passing.why, passing.exit) {
        _ if report.is_some() || passing.report.is_some() => {
            format!("could not be started: {}", report.map_or("its report is no longer kept", |report| &report.problem))
        }
        (why, Some(pool::Exit::OutOfMemory)) => {
            let leaving = why.map_or(String::new(), |why| format!("; it was to leave: {}", stop_reason(why)));
            format!("the kernel killed it for want of memory {open}{leaving}")
        }
        (Some(why), _) if passing.killed => killing(why, is_told_first(why)),
        (Some(why), Some(exit)) => format!("was told to leave: {}; ended with {}", stop_reason(why), exit_text(exit)),
        (Some(why), None) => format!("was told to leave: {}", stop_reason(why)),
        (None, Some(exit)) => format!("died with {} {open}", exit_text(exit)),
        (None, None) => format!("ended {open}"),
    }
}

/// Whether a worker that leaves for this gets TERM before KILL.
fn is_told_first(why: StopReason) -> bool {
    !matches!(why, StopReason::StartTimedOut | StopReason::SpawnFailed | StopReason::StopTimedOut)
}

/// Why a worker is killed. `told`: it got TERM before, for this reason.
pub(super) fn killing(why: StopReason, told: bool) -> String {
    match (told, why) {
        (true, StopReason::Evicted | StopReason::StartUnneeded) => {
            format!("killed: it did not leave within evict_timeout after TERM; it was to leave: {}", stop_reason(why))
        }
        (true, why) if why != StopReason::StopTimedOut => {
            format!("killed: {}; it was to leave: {}", stop_reason(StopReason::StopTimedOut), stop_reason(why))
        }
        (_, why) => format!("killed: {}", stop_reason(why)),
    }
}

pub(super) fn exit_text(exit: pool::Exit) -> String {
    match exit {
        pool::Exit::Status(status) => format!("exit status {status}"),
        pool::Exit::Signal(signal) => format!("signal {signal}"),
        pool::Exit::OutOfMemory => "a kill by the kernel for want of memory".into(),
    }
}

/// `None`: the client is not told, since it is gone or knows.
pub(super) fn ended(why: pool::EndReason) -> Option<Ended> {
    use pool::EndReason as Why;
    Some(match why {
        Why::ClientGone | Why::LingerTimedOut | Why::Cancelled => return None,
        Why::WorkerGone(_) => Ended::WorkerGone,
        Why::LeaseEnded => Ended::LeaseEnded,
        Why::DrainTimedOut => Ended::DrainTimedOut,
        Why::RequestTimedOut => Ended::RequestTimedOut,
        Why::Restarted => Ended::Restarted,
        Why::Operator => Ended::Operator,
        Why::PoolEnding => Ended::PoolEnding,
    })
}

pub(super) fn refusal(refusal: &pool::Refusal, now: Time) -> Refusal {
    match refusal {
        pool::Refusal::SpawnFailed(_) => Refusal::SpawnFailed,
        pool::Refusal::QueueFull { limit, scope } => {
            let scope = match scope {
                pool::Scope::App => Scope::App,
                pool::Scope::Pool => Scope::Pool,
            };
            Refusal::QueueFull { limit: *limit, scope, retry_after: QUEUE_RETRY }
        }
        pool::Refusal::Disabled { until, why } => {
            Refusal::Disabled { retry_after: until.map(|until| until.since(now)), why: disabling(why) }
        }
        pool::Refusal::Stopped => Refusal::Stopped,
        pool::Refusal::Overloaded => Refusal::Overloaded,
        pool::Refusal::ShuttingDown => Refusal::ShuttingDown,
        pool::Refusal::TimedOut { waited } => Refusal::TimedOut { waited: *waited },
        pool::Refusal::NotAllowed(beyond) => Refusal::NotAllowed(not_allowed(*beyond)),
        pool::Refusal::Invalid(invalid) => Refusal::Invalid(
            match invalid {
                Invalid::Removed => "the application was removed",
                Invalid::DuplicateRequest => "a question with this number is open already",
                Invalid::Unknown => "no such application, worker or session",
                Invalid::NotYours => "this session belongs to another client",
                Invalid::UpdateUnderWay => "another update of the application is not over; wait for its verdict",
            }
            .into(),
        ),
    }
}

pub(super) fn disabling(why: &Disabling) -> String {
    match why {
        Disabling::Operator(why) => why.clone(),
        Disabling::Failures { count, last } => {
            let last = match last {
                Failure::Start(_) => "it could not be started".to_owned(),
                Failure::Crash(exit) => format!("a worker died with {}", exit_text(*exit)),
                Failure::Refused => "a worker did not answer at its socket".to_owned(),
            };
            format!("it failed {count} times without one answer in between; the last time {last}")
        }
    }
}

fn not_allowed(beyond: Beyond) -> String {
    match beyond {
        Beyond::Root => "this privileged pool does not serve that root: register it, start the pool with an \
                         `apps_under` that holds it, or with `trust_clients`"
            .into(),
        Beyond::Operators(name) => {
            format!("{name} is the operator's to say: register the application, or start the pool with `trust_clients`")
        }
        Beyond::Limit(name) => format!("{name} is larger than the operator allows; leave it out or lower it"),
    }
}

pub(super) fn restart_mode(mode: RestartMode) -> pool::RestartMode {
    match mode {
        RestartMode::Graceful => pool::RestartMode::Graceful,
        RestartMode::Kill => pool::RestartMode::Kill,
    }
}

pub(super) fn swap_step(step: pool::SwapStep) -> SwapStep {
    match step {
        pool::SwapStep::Take => SwapStep::Take,
        pool::SwapStep::Back => SwapStep::Back,
        pool::SwapStep::Keep => SwapStep::Keep,
        pool::SwapStep::Undo => SwapStep::Undo,
    }
}

pub(super) fn stop_reason(why: StopReason) -> &'static str {
    match why {
        StopReason::Idle => "idle for max_idle",
        StopReason::Evicted => "idle, and another application needs its place",
        StopReason::Fairness => "another application has waited longer than is fair",
        StopReason::Surplus => "a limit was lowered",
        StopReason::Cleared => "the pool was cleared",
        StopReason::StartUnneeded => "nobody waits for it any more, and another application needs its place",
        StopReason::StartTimedOut => "not ready within start_timeout",
        StopReason::SpawnFailed => "it could not start",
        StopReason::ConnectRefused => "it does not answer at its socket",
        StopReason::LingerTimedOut => "a client left and it did not finish within linger",
        StopReason::StopTimedOut => "it did not leave within stop_timeout after TERM",
        StopReason::MaxRequests => "it has served max_requests sessions",
        StopReason::MaxLifetime => "it has reached max_lifetime",
        StopReason::MaxMemory => "it uses more than max_memory",
        StopReason::TenantMemory => "the workers of its tenant use more than its max_memory",
        StopReason::RequestTimedOut => "a session took longer than max_request_time",
        StopReason::SessionEnded => "the operator ended a session that it may still work on",
        StopReason::PingFailed => "it left ping_failures pings in a row unanswered",
        StopReason::BreakerOpened => "the application was disabled while it started (breaker_failures)",
        StopReason::OldGeneration => "a newer generation serves",
        StopReason::Retired => "retired by the operator",
        StopReason::AppStopped => "the application was stopped",
        StopReason::AppRemoved => "the application was removed",
        StopReason::PoolEnding => "the pool ends",
    }
}

/// Why the pool ended a session.
pub(super) fn end_reason(why: pool::EndReason) -> String {
    use pool::EndReason as Why;
    match why {
        Why::WorkerGone(exit) => return format!("its worker is gone, with {}", exit_text(exit)),
        Why::ClientGone => "its client is gone",
        Why::LeaseEnded => "its slot was needed, or it was parked long enough",
        Why::DrainTimedOut => "its worker had to leave, and the session its drain_timeout",
        Why::LingerTimedOut => "its client had left, and the worker did not finish within linger",
        Why::RequestTimedOut => "it had its max_request_time",
        Why::Restarted => "a restart that kills",
        Why::Operator => "the operator ended it",
        Why::Cancelled => "its client did not want it any more",
        Why::PoolEnding => "the pool ends",
    }
    .into()
}

/// Why a preloader leaves.
pub(super) fn drop_reason(why: DropReason) -> &'static str {
    match why {
        DropReason::Unused => "no worker was forked from it for max_preloader_idle",
        DropReason::Evicted => "another application's preloader needs its place (max_preloaders)",
        DropReason::OldGeneration => "its application is another generation now",
        DropReason::StartTimedOut => "it did not load its application within start_timeout",
        DropReason::Unfit => "its application must not be forked",
        DropReason::Useless => "no worker could be forked from it",
        DropReason::AppStopped => "its application was stopped, removed or disabled",
        DropReason::StopTimedOut => "it did not leave within stop_timeout after TERM",
        DropReason::PoolEnding => "the pool ends",
    }
}

/// Why a preloader is killed. `told`: it got TERM before, for this reason.
pub(super) fn killing_preloader(why: DropReason, told: bool) -> String {
    let late = drop_reason(DropReason::StopTimedOut);
    match (told, why) {
        (true, why) if why != DropReason::StopTimedOut => {
            format!("killed: {late}; it was to leave: {}", drop_reason(why))
        }
        (_, why) => format!("killed: {}", drop_reason(why)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hatchery_pool::{AppId, ClientId, Generation, Passing, SessionId, WorkerId};

    fn left(why: Option<StopReason>, killed: bool, exit: pool::Exit) -> Passing {
        Passing {
            app: AppId(1),
            worker: WorkerId(1),
            generation: Generation(1),
            why,
            killed,
            exit: Some(exit),
            report: None,
            age: Duration::ZERO,
            served: 0,
            sessions: vec![(SessionId(1), ClientId(1), Duration::ZERO)],
        }
    }

    #[test]
    fn an_end_is_one_sentence_that_names_the_setting() {
        let kill = pool::Exit::Signal(9);
        for (passing, sentence) in [
            (left(None, false, pool::Exit::Signal(11)), "died with signal 11 while it served 1 session"),
            (
                left(Some(StopReason::Idle), true, kill),
                "killed: it did not leave within stop_timeout after TERM; it was to leave: idle for max_idle",
            ),
            (
                left(Some(StopReason::Evicted), true, kill),
                "killed: it did not leave within evict_timeout after TERM; it was to leave: idle, and another \
                 application needs its place",
            ),
            (left(Some(StopReason::StartTimedOut), true, kill), "killed: not ready within start_timeout"),
            (
                left(Some(StopReason::MaxMemory), false, pool::Exit::Status(0)),
                "was told to leave: it uses more than max_memory; ended with exit status 0",
            ),
            (
                left(Some(StopReason::MaxMemory), false, pool::Exit::OutOfMemory),
                "the kernel killed it for want of memory while it served 1 session; it was to leave: it uses more \
                 than max_memory",
            ),
            (
                Passing { sessions: Vec::new(), ..left(None, false, pool::Exit::Status(1)) },
                "died with exit status 1 while nobody used it",
            ),
        ] {
            assert_eq!(super::passing(&passing, None), sentence);
        }
    }
}
