//! Everything the pool waits for: its deadline is the only timer.

use crate::agenda::Agenda;
use crate::ids::{AppId, ConnectionId, WorkerId};

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// What its phase says: start, drain or stop time-out, or the end of a back-off.
    Worker(WorkerId),
    /// What a preloader's phase says: load, disuse or stop time-out.
    Preloader(WorkerId),
    /// A worker is old enough.
    Life(WorkerId),
    /// Its memory is looked at.
    Sample(WorkerId),
    /// It is pinged, or was not answered.
    Ping(WorkerId),
    /// Parked long enough, lingered long enough, or the session had its time.
    Connection(ConnectionId),
    /// The longest-idle worker of an app has had its idle time.
    Idle(AppId),
    /// The oldest waiter of an app has waited long enough.
    Wait(AppId),
    /// What of an app's starts was put off is tried again.
    Retry(AppId),
    /// What its breaker remembers of an app that nobody uses is over.
    Memory(AppId),
    /// Time alone opens a way to more room: a waiter has waited longer than is fair, or a victim served long enough.
    Room,
}

pub(crate) type Timers = Agenda<Timer>;
