//! The pool's reasons as stable single words: in events, metrics and status. The sentences are in `translate.rs`.

use hatchery_pool::{
    Disabling, DropReason, EndReason, Exit, Failure, Gate, NotPreloaded, RefusalKind, RestartMode, SessionEnd,
    StopReason,
};
use hatchery_protocol::report::SpawnStep;

/// What a worker is said to have ended of that nobody told to leave.
pub(super) const DIED: &str = "died";

pub(super) fn stop_reason(why: StopReason) -> &'static str {
    match why {
        StopReason::Idle => "idle",
        StopReason::Evicted => "evicted",
        StopReason::Fairness => "fairness",
        StopReason::Surplus => "surplus",
        StopReason::Cleared => "cleared",
        StopReason::StartUnneeded => "start_unneeded",
        StopReason::StartTimedOut => "start_timed_out",
        StopReason::SpawnFailed => "spawn_failed",
        StopReason::ConnectRefused => "connect_refused",
        StopReason::LingerTimedOut => "linger_timed_out",
        StopReason::StopTimedOut => "stop_timed_out",
        StopReason::MaxRequests => "max_requests",
        StopReason::MaxLifetime => "max_lifetime",
        StopReason::MaxMemory => "max_memory",
        StopReason::TenantMemory => "tenant_memory",
        StopReason::RequestTimedOut => "request_timed_out",
        StopReason::SessionEnded => "session_ended",
        StopReason::PingFailed => "ping_failed",
        StopReason::BreakerOpened => "breaker_opened",
        StopReason::OldGeneration => "old_generation",
        StopReason::Retired => "retired",
        StopReason::AppStopped => "app_stopped",
        StopReason::AppRemoved => "app_removed",
        StopReason::PoolEnding => "pool_ending",
    }
}

/// What a worker is gone for; `None`: nobody told it to leave.
pub(super) fn gone(why: Option<StopReason>) -> &'static str {
    why.map_or(DIED, stop_reason)
}

pub(super) fn drop_reason(why: DropReason) -> &'static str {
    match why {
        DropReason::Unused => "unused",
        DropReason::Evicted => "evicted",
        DropReason::OldGeneration => "old_generation",
        DropReason::StartTimedOut => "start_timed_out",
        DropReason::Unfit => "unfit",
        DropReason::Useless => "useless",
        DropReason::AppStopped => "app_stopped",
        DropReason::StopTimedOut => "stop_timed_out",
        DropReason::PoolEnding => "pool_ending",
    }
}

/// How a process ended that nobody told to.
pub(super) fn exit(exit: Exit) -> &'static str {
    match exit {
        Exit::Status(_) => "exit_status",
        Exit::Signal(_) => "signal",
        Exit::OutOfMemory => "out_of_memory",
    }
}

/// Why the pool ended a session.
pub(super) fn end_reason(why: EndReason) -> &'static str {
    match why {
        EndReason::WorkerGone(_) => "worker_gone",
        EndReason::ClientGone => "client_gone",
        EndReason::LeaseEnded => "lease_ended",
        EndReason::DrainTimedOut => "drain_timed_out",
        EndReason::LingerTimedOut => "linger_timed_out",
        EndReason::RequestTimedOut => "request_timed_out",
        EndReason::Restarted => "restarted",
        EndReason::Operator => "operator",
        EndReason::Cancelled => "cancelled",
        EndReason::PoolEnding => "pool_ending",
    }
}

/// How a session ended, whoever ended it.
pub(super) fn session_end(end: SessionEnd) -> &'static str {
    match end {
        SessionEnd::Done => "done",
        SessionEnd::Abandoned => "abandoned",
        SessionEnd::WorkerGone => "worker_gone",
        SessionEnd::DrainTimedOut => "drain_timed_out",
        SessionEnd::RequestTimedOut => "request_timed_out",
        SessionEnd::Restarted => "restarted",
        SessionEnd::Operator => "operator",
        SessionEnd::PoolEnding => "pool_ending",
    }
}

pub(super) fn refusal(kind: RefusalKind) -> &'static str {
    match kind {
        RefusalKind::SpawnFailed => "spawn_failed",
        RefusalKind::QueueFull => "queue_full",
        RefusalKind::Disabled => "disabled",
        RefusalKind::Stopped => "stopped",
        RefusalKind::Overloaded => "overloaded",
        RefusalKind::ShuttingDown => "shutting_down",
        RefusalKind::TimedOut => "timed_out",
        RefusalKind::NotAllowed => "not_allowed",
        RefusalKind::Invalid => "invalid",
    }
}

/// What keeps an app from growing.
pub(super) fn gate(gate: Gate) -> &'static str {
    match gate {
        Gate::PoolFull => "pool_full",
        Gate::AppFull => "app_full",
        Gate::TenantFull => "tenant_full",
        Gate::TenantMemory => "tenant_memory",
        Gate::TooManyStarting => "too_many_starting",
        Gate::Inspecting => "inspecting",
        Gate::EnoughStarting => "enough_starting",
        Gate::Reserved => "reserved",
        Gate::Disabled => "disabled",
        Gate::Trying => "trying",
        Gate::Stopped => "stopped",
        Gate::Swapping => "swapping",
        Gate::Rolling => "rolling",
        Gate::Ending => "ending",
    }
}

/// Why an app is disabled.
pub(super) fn disabling(why: &Disabling) -> &'static str {
    match why {
        Disabling::Operator(_) => "operator",
        Disabling::Failures { last: Failure::Start(_), .. } => "spawn_failed",
        Disabling::Failures { last: Failure::Crash(_), .. } => DIED,
        Disabling::Failures { last: Failure::Refused, .. } => "connect_refused",
    }
}

pub(super) fn not_preloaded(why: NotPreloaded) -> &'static str {
    match why {
        NotPreloaded::Unfit => "unfit",
        NotPreloaded::ForksFail => "forks_fail",
    }
}

pub(super) fn restart_mode(mode: RestartMode) -> &'static str {
    match mode {
        RestartMode::Graceful => "graceful",
        RestartMode::Kill => "kill",
    }
}

/// How far a start came that failed. As in the report itself.
pub(super) fn step(step: SpawnStep) -> &'static str {
    match step {
        SpawnStep::Inspect => "inspect",
        SpawnStep::Prepare => "prepare",
        SpawnStep::Execute => "execute",
        SpawnStep::Load => "load",
        SpawnStep::Fork => "fork",
        SpawnStep::Ready => "ready",
        SpawnStep::Update => "update",
    }
}
