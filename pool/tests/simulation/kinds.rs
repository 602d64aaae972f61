//! How often everything that can be said was said. Each list is closed: a new variant doesn't compile
//! before it is named here, and what is built and never occurs fails the run.

use hatchery_pool::{
    Answer, Beyond, Close, ConnectFailure, Disabling, DropReason, Effect, EndReason, Event, Exit, Failure, Gate,
    Invalid, NotPreloaded, Notice, Refusal, RestartMode, StopReason, SwapStep,
};
use std::collections::BTreeMap;

/// `later` marks what the pool doesn't order yet. Its events are told all the same: they change nothing.
macro_rules! kinds {
    ($name:ident: $type:ty { $($label:literal $($later:ident)?: $pattern:pat,)* }) => {
        pub(crate) mod $name {
            #[allow(clippy::wildcard_imports)]
            use super::*;
            pub(crate) const BUILT: &[(&str, bool)] = &[$(($label, built!($($later)?)),)*];
            pub(crate) fn name(value: &$type) -> &'static str {
                match value { $($pattern => $label,)* }
            }
        }
    };
}

macro_rules! built {
    () => {
        true
    };
    (later) => {
        false
    };
}

kinds!(event: Event {
    "Asked": Event::Asked { .. },
    "Cancelled": Event::Cancelled { .. },
    "Closed Kept": Event::Closed { how: Close::Kept, .. },
    "Closed Finished": Event::Closed { how: Close::Finished, .. },
    "Closed Abandoned": Event::Closed { how: Close::Abandoned, .. },
    "Reconnected": Event::Reconnected { .. },
    "ClientGone": Event::ClientGone { .. },
    "Inspected": Event::Inspected { .. },
    "InspectFailed": Event::InspectFailed { .. },
    "Preloaded fit": Event::Preloaded { fit: true, .. },
    "Preloaded unfit": Event::Preloaded { fit: false, .. },
    "ForkFailed": Event::ForkFailed { .. },
    "Ready": Event::Ready { .. },
    "SpawnFailed gone": Event::SpawnFailed { gone: true, .. },
    "SpawnFailed there": Event::SpawnFailed { gone: false, .. },
    "ConnectFailed Refused": Event::ConnectFailed { why: ConnectFailure::Refused, .. },
    "ConnectFailed BacklogFull": Event::ConnectFailed { why: ConnectFailure::BacklogFull, .. },
    "ConnectFailed Exhausted": Event::ConnectFailed { why: ConnectFailure::Exhausted, .. },
    "Lingered": Event::Lingered { .. },
    "Exited Status": Event::Exited { exit: Exit::Status(_), .. },
    "Exited Signal": Event::Exited { exit: Exit::Signal(_), .. },
    "Exited OutOfMemory": Event::Exited { exit: Exit::OutOfMemory, .. },
    "Sampled": Event::Sampled { .. },
    "Examined found": Event::Examined { memory_bytes: Some(_), .. },
    "Examined unreadable": Event::Examined { memory_bytes: None, .. },
    "Pinged alive": Event::Pinged { alive: true, .. },
    "Pinged dead": Event::Pinged { alive: false, .. },
    "FilesChanged": Event::FilesChanged { .. },
    "Staged": Event::Staged { .. },
    "RolledBack": Event::RolledBack { .. },
    "SwapDone": Event::SwapDone { report: None, .. },
    "SwapDone failed": Event::SwapDone { report: Some(_), .. },
    "Clear": Event::Clear { .. },
    "SetMax": Event::SetMax { .. },
    "SetMaxPerApp": Event::SetMaxPerApp { .. },
    "SetMaxIdleTime": Event::SetMaxIdleTime { .. },
    "Added": Event::Added { .. },
    "Removed": Event::Removed { .. },
    "Restart Graceful": Event::Restart { mode: RestartMode::Graceful, .. },
    "Restart Kill": Event::Restart { mode: RestartMode::Kill, .. },
    "StopApp": Event::StopApp { .. },
    "StartApp": Event::StartApp { .. },
    "Disable": Event::Disable { .. },
    "Enable": Event::Enable { .. },
    "Retire": Event::Retire { .. },
    "EndSession": Event::EndSession { .. },
    "Reloaded": Event::Reloaded { .. },
    "Configured": Event::Configured,
    "Ending": Event::Ending { .. },
    "Tick": Event::Tick,
});

kinds!(effect: Effect {
    "Inspect": Effect::Inspect { .. },
    "Spawn by its program": Effect::Spawn { from: None, .. },
    "Spawn forked": Effect::Spawn { from: Some(_), .. },
    "Grant Fresh": Effect::Grant { path: hatchery_pool::Path::Fresh, .. },
    "Grant Parked": Effect::Grant { path: hatchery_pool::Path::Parked, .. },
    "Refuse": Effect::Refuse { .. },
    "Answer": Effect::Answer { .. },
    "Revoke": Effect::Revoke { .. },
    "Release": Effect::Release { .. },
    "Linger": Effect::Linger { .. },
    "Drain": Effect::Drain { .. },
    "Stop": Effect::Stop { .. },
    "Kill": Effect::Kill { .. },
    "Dump": Effect::Dump { .. },
    "Ping": Effect::Ping { .. },
    "EndPing": Effect::EndPing { .. },
    "Sample": Effect::Sample { .. },
    "Examine": Effect::Examine { .. },
    "Record": Effect::Record(_),
    "Preload": Effect::Preload { .. },
    "DropPreloader": Effect::DropPreloader { .. },
    "KillPreloader": Effect::KillPreloader { .. },
    "Swap Take": Effect::Swap { step: SwapStep::Take, .. },
    "Swap Back": Effect::Swap { step: SwapStep::Back, .. },
    "Swap Keep": Effect::Swap { step: SwapStep::Keep, .. },
    "Swap Undo": Effect::Swap { step: SwapStep::Undo, .. },
    "Forget": Effect::Forget { .. },
    "ForgetPlan": Effect::ForgetPlan { .. },
    "Notice": Effect::Notice(_),
    "Ended": Effect::Ended,
});

kinds!(refusal: Refusal {
    "SpawnFailed": Refusal::SpawnFailed(_),
    "QueueFull App": Refusal::QueueFull { scope: hatchery_pool::Scope::App, .. },
    "QueueFull Pool": Refusal::QueueFull { scope: hatchery_pool::Scope::Pool, .. },
    "Disabled by the operator": Refusal::Disabled { why: Disabling::Operator(_), .. },
    "Disabled by the breaker": Refusal::Disabled { why: Disabling::Failures { .. }, .. },
    "Stopped": Refusal::Stopped,
    "Overloaded": Refusal::Overloaded,
    "ShuttingDown": Refusal::ShuttingDown,
    "TimedOut": Refusal::TimedOut { .. },
    "NotAllowed Root": Refusal::NotAllowed(Beyond::Root),
    "NotAllowed Operators": Refusal::NotAllowed(Beyond::Operators(_)),
    "NotAllowed Limit": Refusal::NotAllowed(Beyond::Limit(_)),
    "Invalid Removed": Refusal::Invalid(Invalid::Removed),
    "Invalid DuplicateRequest": Refusal::Invalid(Invalid::DuplicateRequest),
    "Invalid Unknown": Refusal::Invalid(Invalid::Unknown),
    "Invalid NotYours": Refusal::Invalid(Invalid::NotYours),
    "Invalid UpdateUnderWay": Refusal::Invalid(Invalid::UpdateUnderWay),
});

kinds!(end: EndReason {
    "WorkerGone": EndReason::WorkerGone(_),
    // A dead client's sessions linger, and a grant that crosses its cancel is its client's to close.
    "ClientGone" later: EndReason::ClientGone,
    "LeaseEnded": EndReason::LeaseEnded,
    "DrainTimedOut": EndReason::DrainTimedOut,
    "LingerTimedOut": EndReason::LingerTimedOut,
    "RequestTimedOut": EndReason::RequestTimedOut,
    "Restarted": EndReason::Restarted,
    "Operator": EndReason::Operator,
    "Cancelled" later: EndReason::Cancelled,
    "PoolEnding": EndReason::PoolEnding,
});

kinds!(stop: StopReason {
    "Idle": StopReason::Idle,
    "Evicted": StopReason::Evicted,
    "Fairness": StopReason::Fairness,
    "Surplus": StopReason::Surplus,
    "Cleared": StopReason::Cleared,
    "StartUnneeded": StopReason::StartUnneeded,
    "StartTimedOut": StopReason::StartTimedOut,
    "SpawnFailed": StopReason::SpawnFailed,
    "ConnectRefused": StopReason::ConnectRefused,
    "LingerTimedOut": StopReason::LingerTimedOut,
    // Who is killed for that has a reason to leave already.
    "StopTimedOut" later: StopReason::StopTimedOut,
    "MaxRequests": StopReason::MaxRequests,
    "MaxLifetime": StopReason::MaxLifetime,
    "MaxMemory": StopReason::MaxMemory,
    "TenantMemory": StopReason::TenantMemory,
    "RequestTimedOut": StopReason::RequestTimedOut,
    "SessionEnded": StopReason::SessionEnded,
    "PingFailed": StopReason::PingFailed,
    "BreakerOpened": StopReason::BreakerOpened,
    "OldGeneration": StopReason::OldGeneration,
    "Retired": StopReason::Retired,
    "AppStopped": StopReason::AppStopped,
    "AppRemoved": StopReason::AppRemoved,
    "PoolEnding": StopReason::PoolEnding,
});

kinds!(drop: DropReason {
    "Unused": DropReason::Unused,
    "Evicted": DropReason::Evicted,
    "OldGeneration": DropReason::OldGeneration,
    "StartTimedOut": DropReason::StartTimedOut,
    "Unfit": DropReason::Unfit,
    "Useless": DropReason::Useless,
    "AppStopped": DropReason::AppStopped,
    // Told first, and the first reason stays.
    "StopTimedOut" later: DropReason::StopTimedOut,
    "PoolEnding": DropReason::PoolEnding,
});

kinds!(gate: Gate {
    "PoolFull": Gate::PoolFull,
    "AppFull": Gate::AppFull,
    "TenantFull": Gate::TenantFull,
    "TenantMemory": Gate::TenantMemory,
    "TooManyStarting": Gate::TooManyStarting,
    "Inspecting": Gate::Inspecting,
    "EnoughStarting": Gate::EnoughStarting,
    "Reserved": Gate::Reserved,
    "Trying": Gate::Trying,
    // Nobody waits for such an app, and nobody waits in such a pool: they are refused at once.
    "Disabled" later: Gate::Disabled,
    "Stopped" later: Gate::Stopped,
    "Rolling": Gate::Rolling,
    "Swapping": Gate::Swapping,
    "Ending" later: Gate::Ending,
});

kinds!(notice: Notice {
    "PreloaderReady": Notice::PreloaderReady { .. },
    "PreloaderGone": Notice::PreloaderGone { .. },
    "NotPreloaded Unfit": Notice::NotPreloaded { why: NotPreloaded::Unfit, .. },
    "NotPreloaded ForksFail": Notice::NotPreloaded { why: NotPreloaded::ForksFail, .. },
    "Registered": Notice::Registered { .. },
    "Forgotten": Notice::Forgotten { .. },
    "Added": Notice::Added { .. },
    "Removed": Notice::Removed { .. },
    "Stopped": Notice::Stopped { .. },
    "Started": Notice::Started { .. },
    "Disabled": Notice::Disabled { .. },
    "Enabled": Notice::Enabled { .. },
    "TenantChanged": Notice::TenantChanged { .. },
    "SessionEnded": Notice::SessionEnded { .. },
    "OptionsIgnored": Notice::OptionsIgnored { .. },
    "WorkerReady": Notice::WorkerReady { .. },
    "WorkerGone": Notice::WorkerGone { .. },
    "SpawnFailed": Notice::SpawnFailed { .. },
    "MinAboveMax": Notice::MinAboveMax { .. },
    "MoreAppsThanMax": Notice::MoreAppsThanMax { .. },
    "BreakerOpened": Notice::BreakerOpened { .. },
    "BreakerClosed": Notice::BreakerClosed { .. },
    "Restarting": Notice::Restarting { .. },
    "Restarted": Notice::Restarted { .. },
    "RestartFailed": Notice::RestartFailed { .. },
    "UpdateRefused": Notice::UpdateRefused { .. },
    "Updated": Notice::Updated { .. },
    "UpdateUndone": Notice::UpdateUndone { .. },
    "SwapFailed": Notice::SwapFailed { .. },
    "Recycling": Notice::Recycling { .. },
    "RecyclingPaused": Notice::RecyclingPaused { .. },
    "PingMissed": Notice::PingMissed { .. },
    "MinPaused": Notice::MinPaused { .. },
});

kinds!(failure: Failure {
    "Start": Failure::Start(_),
    "Crash": Failure::Crash(_),
    "Refused": Failure::Refused,
});

const LISTS: &[(&str, &[(&str, bool)])] = &[
    ("event", event::BUILT),
    ("effect", effect::BUILT),
    ("refusal", refusal::BUILT),
    ("end of a connection", end::BUILT),
    ("stop", stop::BUILT),
    ("end of a preloader", drop::BUILT),
    ("gate", gate::BUILT),
    ("notice", notice::BUILT),
    ("last failure of a disabled app", failure::BUILT),
];

/// How often each kind occurred.
#[derive(Default)]
pub(crate) struct Tally(BTreeMap<(&'static str, &'static str), u64>);

impl Tally {
    pub(crate) fn event(&mut self, event: &Event) {
        self.add("event", event::name(event));
    }

    pub(crate) fn effect(&mut self, effect: &Effect) {
        self.add("effect", effect::name(effect));
        match effect {
            Effect::Refuse { refusal, .. } | Effect::Answer { answer: Answer::Refused(refusal), .. } => {
                self.add("refusal", refusal::name(refusal));
                if let Refusal::Disabled { why: Disabling::Failures { last, .. }, .. } = refusal {
                    self.add("last failure of a disabled app", failure::name(last));
                }
            }
            Effect::Revoke { why, .. } => self.add("end of a connection", end::name(why)),
            Effect::Drain { why, .. } | Effect::Stop { why, .. } | Effect::Kill { why, .. } => {
                self.add("stop", stop::name(why));
            }
            Effect::DropPreloader { why, .. } | Effect::KillPreloader { why, .. } => {
                self.add("end of a preloader", drop::name(why));
            }
            Effect::Notice(notice) => self.add("notice", notice::name(notice)),
            _ => {}
        }
    }

    pub(crate) fn gate(&mut self, gate: &Gate) {
        self.add("gate", gate::name(gate));
    }

    fn add(&mut self, list: &'static str, kind: &'static str) {
        *self.0.entry((list, kind)).or_default() += 1;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (kind, times) in other.0 {
            *self.0.entry(kind).or_default() += times;
        }
    }

    pub(crate) fn print(&self) {
        for &(list, kinds) in LISTS {
            for &(kind, _) in kinds {
                println!("{:>10} × {list}: {kind}", self.0.get(&(list, kind)).copied().unwrap_or(0));
            }
        }
    }

    /// What is built and never occurred, and what occurred and is said to be for later.
    pub(crate) fn wrong(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for &(list, kinds) in LISTS {
            for &(kind, built) in kinds {
                if built != self.0.contains_key(&(list, kind)) {
                    wrong.push(format!("{list} {kind}: {}", if built { "never occurred" } else { "is not for later" }));
                }
            }
        }
        wrong
    }
}
