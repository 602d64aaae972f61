//! By what apps can be sorted.

use super::Row;
use std::cmp::Ordering;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::top) enum Column {
    Name,
    State,
    Workers,
    Active,
    Waiting,
    Rate,
    Memory,
    Cpu,
}

impl Column {
    pub(in crate::top) const ALL: [Self; 8] =
        [Self::Name, Self::State, Self::Workers, Self::Active, Self::Waiting, Self::Rate, Self::Memory, Self::Cpu];

    pub(in crate::top) fn title(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::State => "STATE",
            Self::Workers => "WRK",
            Self::Active => "ACT",
            Self::Waiting => "WAIT",
            Self::Rate => "REQ/S",
            Self::Memory => "MEM",
            Self::Cpu => "CPU%",
        }
    }

    pub(super) fn next(self) -> Self {
        self.at(1)
    }

    pub(super) fn previous(self) -> Self {
        self.at(Self::ALL.len() - 1)
    }

    fn at(self, further: usize) -> Self {
        let place = Self::ALL.iter().position(|column| *column == self).unwrap_or_default();
        Self::ALL[(place + further) % Self::ALL.len()]
    }

    /// Words from the beginning of the alphabet, figures from the largest, states from the worst.
    pub(super) fn compare(self, a: &Row<'_>, b: &Row<'_>) -> Ordering {
        let figure = |figure: fn(&Row<'_>) -> f64| figure(b).total_cmp(&figure(a));
        match self {
            Self::Name => a.app.name.cmp(&b.app.name),
            Self::State => rank(&a.app.state).cmp(&rank(&b.app.state)),
            Self::Workers => b.app.workers.len().cmp(&a.app.workers.len()),
            Self::Active => active(b).cmp(&active(a)),
            Self::Waiting => b.app.waiting.cmp(&a.app.waiting),
            Self::Rate => figure(|row| row.history.map_or(0.0, |history| history.rate())),
            Self::Memory => b.app.memory_bytes.cmp(&a.app.memory_bytes),
            Self::Cpu => figure(|row| row.history.map_or(0.0, |history| history.cpu_percent())),
        }
    }
}

/// Workers with a session.
pub(in crate::top) fn active(row: &Row<'_>) -> usize {
    row.app.workers.iter().filter(|worker| worker.sessions > 0).count()
}

fn rank(state: &str) -> u8 {
    match state {
        "disabled" => 0,
        "stopped" => 1,
        "starting" => 2,
        "running" => 3,
        _ => 4,
    }
}
