//! One app: its limits, and what is known about its code.

use crate::breaker::Breaker;
use crate::counters::Counters;
use crate::effect::{Disabling, Invalid, Refusal};
use crate::ids::{Generation, ReportId, WorkerId};
use crate::roll::Roll;
use crate::settings::{AppSettings, Plan, Wanted};
use crate::time::Time;
use crate::updating::Update;
use std::num::NonZeroU32;
use std::time::Duration;

/// A victim of fairness has served at least this long, however fast its app starts.
const LEAST_DWELL: Duration = Duration::from_millis(100);
/// … and no app is spared longer, however slow its start.
const MOST_DWELL: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) root: Vec<u8>,
    pub(crate) settings: AppSettings,
    /// What it was registered with by a `get`; nothing wanted if by the operator.
    pub(crate) wanted: Wanted,
    pub(crate) origin: Origin,
    /// Whether somebody was told that later options are ignored.
    pub(crate) options_ignored: bool,
    /// The one of which workers are started.
    pub(crate) generation: Generation,
    pub(crate) inspection: Inspection,
    /// The last that was begun.
    pub(crate) newest: Generation,
    pub(crate) roll: Option<Roll>,
    pub(crate) update: Option<Update>,
    /// The last restart, if it failed, and why.
    pub(crate) failed_roll: Option<(Generation, ReportId)>,
    /// Workers to be started though nobody waits: a restart took them away in vain.
    pub(crate) owed: u32,
    /// Workers of this generation are started by their program, though they could be forked.
    pub(crate) unforked: Option<Generation>,
    /// The last preloader of which a fork came to nothing, and its generation.
    pub(crate) lost_forks: Option<(Generation, WorkerId)>,
    /// What becomes of `min`.
    pub(crate) upkeep: Upkeep,
    pub(crate) stopped: bool,
    pub(crate) disabled: Option<String>,
    pub(crate) breaker: Breaker,
    /// No worker is replaced before.
    pub(crate) replace_from: Time,
    /// Replacements in a row that could not be started.
    pub(crate) failed_replacements: u32,
    /// `min` is not restored before.
    pub(crate) restore_from: Time,
    /// Workers in a row that died at once.
    pub(crate) short_lives: u32,
    pub(crate) counters: Counters,
    /// How long its last successful start took.
    pub(crate) last_start: Duration,
}

/// Who registered an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Operator,
    Client,
    /// Nobody any more: what is left of it leaves.
    Removed,
}

/// What is known of the current generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inspection {
    Unknown,
    Looking,
    Known(Plan),
}

/// Whether `min` workers are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Upkeep {
    /// Nobody asked for the app yet.
    NotYet,
    Kept,
    /// A start failed: the next `get` tries again.
    Paused,
}

impl App {
    pub(crate) fn new(root: Vec<u8>, settings: AppSettings, wanted: Wanted, origin: Origin) -> Self {
        let settings_prestart = settings.prestart;
        Self {
            root,
            settings,
            wanted,
            origin,
            options_ignored: false,
            generation: Generation(1),
            inspection: Inspection::Unknown,
            newest: Generation(1),
            roll: None,
            update: None,
            failed_roll: None,
            owed: 0,
            unforked: None,
            lost_forks: None,
            upkeep: if settings_prestart { Upkeep::Kept } else { Upkeep::NotYet },
            stopped: false,
            disabled: None,
            breaker: Breaker::default(),
            replace_from: Time::ZERO,
            failed_replacements: 0,
            restore_from: Time::ZERO,
            short_lives: 0,
            counters: Counters::default(),
            last_start: Duration::ZERO,
        }
    }

    /// Why nobody is served now, whatever there is room for.
    pub(crate) fn closed(&self, now: Time) -> Option<Refusal> {
        if self.origin == Origin::Removed {
            Some(Refusal::Invalid(Invalid::Removed))
        } else if self.stopped {
            Some(Refusal::Stopped)
        } else if let Some(why) = self.disabled.clone() {
            Some(Refusal::Disabled { until: None, why: Disabling::Operator(why) })
        } else {
            self.breaker.refusal(now).map(|(why, until)| Refusal::Disabled { until: Some(until), why })
        }
    }

    /// Why it is disabled, and until when: by the operator, else by the breaker.
    pub(crate) fn disabled(&self) -> Option<(Disabling, Option<Time>)> {
        let by_operator = self.disabled.clone().map(|why| (Disabling::Operator(why), None));
        by_operator.or_else(|| self.breaker.open().map(|(why, until)| (why, Some(until))))
    }

    /// Whether workers are started that nobody waits for: to keep `min`, to replace others.
    pub(crate) fn is_kept_up(&self) -> bool {
        let open = !self.stopped && self.disabled.is_none() && self.origin != Origin::Removed;
        open && self.breaker.is_closed()
    }

    pub(crate) fn plan(&self) -> Option<Plan> {
        match self.inspection {
            Inspection::Known(plan) => Some(plan),
            Inspection::Unknown | Inspection::Looking => None,
        }
    }

    /// Workers kept alive now.
    pub(crate) fn min(&self) -> u32 {
        if self.upkeep == Upkeep::Kept && self.is_kept_up() { self.settings.min.min(self.limit()) } else { 0 }
    }

    pub(crate) fn limit(&self) -> u32 {
        self.settings.max_per_app.map_or(u32::MAX, NonZeroU32::get)
    }

    /// `None`: never. So does zero say, which is what `max_idle = 0` has always meant.
    pub(crate) fn max_idle(&self) -> Option<Duration> {
        self.settings.max_idle.filter(|idle| !idle.is_zero())
    }

    /// How long a worker serves before it may be drained for another app.
    pub(crate) fn dwell(&self) -> Duration {
        self.last_start.clamp(LEAST_DWELL, MOST_DWELL)
    }
}
